/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "attend.h"

#define US 1000u
#define MAX (250 * US)

struct sim {
	struct alk_attend attend;
	uint64_t now;
};

/* A wait until something comes after `ns`. How long of it was spent awake; a look takes 2 us. */
static uint64_t wait_for(struct sim *sim, uint64_t ns)
{
	uint64_t begun = sim->now, asleep;
	bool came = true;

	while (alk_attend_stays(&sim->attend, came, sim->now, sim->now)) {
		if (sim->now - begun >= ns)
			return sim->now - begun;
		alk_attend_gave_way(&sim->attend, sim->now, sim->now + 1 * US);
		sim->now += 2 * US;
		came = false;
	}
	asleep = sim->now;
	if (asleep < begun + ns)
		sim->now = begun + ns;
	return asleep - begun;
}

static void ask(struct sim *sim)
{
	alk_attend_ask(&sim->attend, MAX, sim->now);
}

static void test_who_is_not_asked_sleeps(void **state)
{
	struct sim sim = {.now = 1};

	(void)state;
	for (int i = 0; i < 10; i++)
		assert_int_equal(0, wait_for(&sim, 10 * US));
}

static void test_answers_that_come_soon_are_waited_for_awake(void **state)
{
	struct sim sim = {.now = 1};

	(void)state;
	ask(&sim);
	/* Nothing is known of the first. */
	assert_int_equal(0, wait_for(&sim, 100 * US));
	for (int i = 0; i < 100; i++) {
		ask(&sim);
		assert_int_equal(100 * US, wait_for(&sim, 100 * US));
		assert_int_equal(40 * US, wait_for(&sim, 40 * US));
	}
}

static void test_it_ends_with_the_questions(void **state)
{
	struct sim sim = {.now = 1};
	int awake = 0;

	(void)state;
	ask(&sim);
	for (int i = 0; i < 100; i++)
		awake += wait_for(&sim, 100 * US) > 0;
	assert_int_equal(ALK_ATTEND_WAITS - 1, awake);
}

static void test_a_slow_answer_is_not_waited_for_again(void **state)
{
	struct sim sim = {.now = 1};

	(void)state;
	ask(&sim);
	wait_for(&sim, 100 * US);
	ask(&sim);
	/* Once, and no longer than was said. */
	assert_int_equal(MAX, wait_for(&sim, 10000 * US));
	for (int i = 0; i < 100; i++) {
		ask(&sim);
		assert_int_equal(0, wait_for(&sim, 10000 * US));
	}
	/* Until one was fast. */
	ask(&sim);
	wait_for(&sim, 20 * US);
	ask(&sim);
	assert_int_equal(20 * US, wait_for(&sim, 20 * US));
}

static void test_others_want_the_processor(void **state)
{
	struct sim sim = {.now = 1};

	(void)state;
	ask(&sim);
	wait_for(&sim, 100 * US);
	assert_int_equal(100 * US, wait_for(&sim, 100 * US));
	alk_attend_gave_way(&sim.attend, sim.now, sim.now + 3000 * US);
	for (uint64_t end = sim.now + ALK_ATTEND_SHY_NS; sim.now < end;) {
		ask(&sim);
		assert_int_equal(0, wait_for(&sim, 100 * US));
	}
	sim.now += 3000 * US;
	ask(&sim);
	wait_for(&sim, 100 * US);
	assert_int_equal(100 * US, wait_for(&sim, 100 * US));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_is_not_asked_sleeps),
		cmocka_unit_test(test_answers_that_come_soon_are_waited_for_awake),
		cmocka_unit_test(test_it_ends_with_the_questions),
		cmocka_unit_test(test_a_slow_answer_is_not_waited_for_again),
		cmocka_unit_test(test_others_want_the_processor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
