/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* libssh's randomness as the program gives it: never the same twice, and nothing given out is
 * kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>
#include "../../src/core/padding.c"

#define DRAWS 4096
#define DRAW 16

static int by_bytes(const void *a, const void *b)
{
	return memcmp(a, b, DRAW);
}

static void test_no_draw_comes_twice(void **state)
{
	static uint8_t drawn[DRAWS][DRAW];

	(void)state;
	for (size_t i = 0; i < DRAWS; i++)
		assert_int_equal(alk_padding_random(drawn[i], DRAW, i % 7 == 0), 1);
	qsort(drawn, DRAWS, DRAW, by_bytes);
	for (size_t i = 1; i < DRAWS; i++)
		assert_memory_not_equal(drawn[i - 1], drawn[i], DRAW);
}

static void test_what_was_given_is_wiped(void **state)
{
	static const uint8_t zeros[POOL_SIZE];
	uint8_t draw[POOL_PIECE];

	(void)state;
	for (int i = 0; i < 500; i++) {
		assert_int_equal(alk_padding_random(draw, 1 + i % POOL_PIECE, 0), 1);
		assert_memory_equal(pool.bytes + pool.left, zeros, sizeof(pool.bytes) - pool.left);
	}
}

static void test_every_length_is_filled(void **state)
{
	enum {
		MOST = 3 * POOL_SIZE
	};
	static uint8_t seen[MOST + 1], draw[MOST + 1];

	(void)state;
	/* A byte that stayed as it was in 8 draws out of 8 was not written. */
	for (int len = 0; len <= MOST; len = len < 40 ? len + 1 : len * 2) {
		memset(seen, 0, sizeof(seen));
		for (int i = 0; i < 8; i++) {
			memset(draw, 0, sizeof(draw));
			assert_int_equal(alk_padding_random(draw, len, 0), 1);
			for (int at = 0; at <= MOST; at++)
				seen[at] |= draw[at];
		}
		for (int at = 0; at <= MOST; at++)
			assert_int_equal(seen[at] != 0, at < len);
	}
	assert_int_equal(alk_padding_random(draw, -1, 0), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_draw_comes_twice),
		cmocka_unit_test(test_what_was_given_is_wiped),
		cmocka_unit_test(test_every_length_is_filled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
