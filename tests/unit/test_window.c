/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "window.h"

#define FAR_MS 100
#define SPARE ALK_WINDOWS_SPARE

static void test_near_link_grows_nothing(void **state)
{
	struct alk_window w;

	(void)state;
	alk_window_init(&w, 0);
	for (uint64_t ms = 1; ms < 1000; ms++)
		assert_int_equal(0, alk_window_next(&w, ms * 1000000, ms, ALK_WINDOW_NEAR_MS - 1,
						    SPARE));
	assert_int_equal(ALK_WINDOW_BASE, w.size);
}

/* An owner that takes all of the window in each round trip. */
static void test_grows_to_the_limit(void **state)
{
	struct alk_window w;
	uint64_t taken = 0;
	uint32_t before;
	int rounds = 0;

	(void)state;
	alk_window_init(&w, 0);
	while (w.size < ALK_WINDOW_MAX && rounds < 10) {
		before = w.size;
		taken += w.size;
		assert_int_equal(w.size,
				 alk_window_next(&w, taken, ++rounds * FAR_MS, FAR_MS, SPARE));
		assert_true(w.size > before && w.size <= 2 * before);
	}
	assert_int_equal(ALK_WINDOW_MAX, w.size);
	assert_int_equal(4, rounds);
}

/* 100 Mbit/s: twice what is under way at that speed, whatever bursts it comes in. */
static void test_follows_the_rate(void **state)
{
	const uint64_t a_ms = 12500;
	struct alk_window w;
	uint64_t ms;

	(void)state;
	alk_window_init(&w, 0);
	for (ms = 1; ms < 5000; ms++)
		alk_window_next(&w, ms / 40 * 40 * a_ms, ms, FAR_MS, SPARE);
	assert_in_range(w.size, 2 * FAR_MS * a_ms * 8 / 10, 2 * FAR_MS * a_ms * 14 / 10);
}

static void test_shrinks_when_little_is_taken(void **state)
{
	struct alk_window w;
	uint64_t taken = 0;

	(void)state;
	alk_window_init(&w, 0);
	for (int i = 1; i <= 8; i++)
		alk_window_next(&w, taken += w.size, (uint64_t)i * FAR_MS, FAR_MS, SPARE);
	assert_int_equal(ALK_WINDOW_MAX, w.size);
	/* Nothing for a minute, then a part of it. */
	assert_int_equal(0, alk_window_next(&w, taken + w.size / ALK_WINDOW_PART, 60000, FAR_MS,
					    SPARE));
	assert_int_equal(ALK_WINDOW_BASE, w.size);
}

static void test_session_has_a_bound(void **state)
{
	struct alk_window w;
	uint64_t taken = 0;

	(void)state;
	alk_window_init(&w, 0);
	for (int i = 1; i <= 8; i++)
		alk_window_next(&w, taken += w.size, (uint64_t)i * FAR_MS, FAR_MS, 1000000);
	assert_int_equal(ALK_WINDOW_BASE + 1000000, w.size);
	alk_window_next(&w, taken += w.size, 9 * FAR_MS, FAR_MS, 0);
	assert_int_equal(ALK_WINDOW_BASE, w.size);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_near_link_grows_nothing),
		cmocka_unit_test(test_grows_to_the_limit),
		cmocka_unit_test(test_follows_the_rate),
		cmocka_unit_test(test_shrinks_when_little_is_taken),
		cmocka_unit_test(test_session_has_a_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
