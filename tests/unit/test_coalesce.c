/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "coalesce.h"

#define US UINT64_C(1000)
#define WORK (30 * US) /* of a look that takes one */

static void test_who_comes_alone_is_not_kept_waiting(void **state)
{
	struct alk_coalesce coalesce = {0};

	(void)state;
	/* A new one as soon as the one before is over: that takes a worker longer than it takes
	 * here. */
	for (int i = 0; i < 1000; i++)
		assert_false(alk_coalesce_look(&coalesce, 1, 2 * WORK, WORK));
	assert_false(alk_coalesce_look(&coalesce, 1, 5000000 * US, WORK));
	/* Nor who was gone before he was taken. */
	assert_false(alk_coalesce_look(&coalesce, 0, 0, WORK));
}

static void test_crowds_come_together(void **state)
{
	struct alk_coalesce coalesce = {0};

	(void)state;
	assert_false(alk_coalesce_look(&coalesce, 1, 7000 * US, WORK));
	/* The next one came while the first was dealt with, or soon after. */
	assert_true(alk_coalesce_look(&coalesce, 1, 10 * US, WORK));
	for (int i = 0; i < 100; i++)
		assert_true(alk_coalesce_look(&coalesce, 5, 530 * US, 60 * US));
	/* Several at once are one. */
	memset(&coalesce, 0, sizeof(coalesce));
	assert_true(alk_coalesce_look(&coalesce, 2, 7000 * US, WORK));
}

static void test_a_pause_for_one_is_the_last(void **state)
{
	struct alk_coalesce coalesce = {0};

	(void)state;
	assert_true(alk_coalesce_look(&coalesce, 3, 7000 * US, WORK));
	/* As long as the pause was at least, whatever the turn took. */
	assert_false(alk_coalesce_look(&coalesce, 1, 500 * US, 800 * US));
	assert_false(alk_coalesce_look(&coalesce, 1, 100 * US, WORK));
	assert_true(alk_coalesce_look(&coalesce, 1, 1 * US, WORK));
	assert_false(alk_coalesce_look(&coalesce, 0, 500 * US, WORK));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_comes_alone_is_not_kept_waiting),
		cmocka_unit_test(test_crowds_come_together),
		cmocka_unit_test(test_a_pause_for_one_is_the_last),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
