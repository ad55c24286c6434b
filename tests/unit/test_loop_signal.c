/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Several watchers of signals, and what was set up before they came. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <cmocka.h>

#include <alknet/loop.h>
#include "loop_private.h"

static struct alk_loop *loop;
static struct alk_signal *first, *second, *other;
static int firsts, seconds;

static void on_first(void *user, int signo)
{
	assert_ptr_equal(user, &firsts);
	assert_int_equal(signo, SIGUSR1);
	firsts++;
}

static void on_second(void *user, int signo)
{
	assert_ptr_equal(user, &seconds);
	assert_int_equal(signo, SIGUSR1);
	seconds++;
	alk_signal_free(&second);
	alk_signal_free(&other);
	alk_loop_stop(loop);
}

static void on_other(void *user, int signo)
{
	(void)user, (void)signo;
	fail();
}

/* Each is told once, also where the signal was blocked; and none that another one has freed. */
static void test_several(void **state)
{
	sigset_t set;

	(void)state;
	loop = alk_loop_new(NULL);
	assert_non_null(loop);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	assert_int_equal(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
	other = alk_signal_new(loop, SIGUSR1, "other", on_other, NULL);
	first = alk_signal_new(loop, SIGUSR1, "first", on_first, &firsts);
	second = alk_signal_new(loop, SIGUSR1, "second", on_second, &seconds);
	assert_true(first != NULL && second != NULL && other != NULL);
	assert_int_equal(raise(SIGUSR1), 0);
	alk_loop_run(loop);
	assert_int_equal(seconds, 1);
	assert_int_equal(firsts, 1);
	assert_true(second == NULL && other == NULL);
	/* Who is left hears of the next one. */
	second = alk_signal_new(loop, SIGUSR1, "second", on_second, &seconds);
	assert_non_null(second);
	assert_int_equal(raise(SIGUSR1), 0);
	alk_loop_run(loop);
	assert_int_equal(seconds, 2);
	assert_int_equal(firsts, 2);
	alk_signal_free(&first);
	/* The default again, once nobody waits for it. */
	assert_ptr_equal(signal(SIGUSR1, SIG_DFL), SIG_DFL);
	alk_loop_free(&loop);
}

/* The next loop of a process has them as the first did. */
static void test_another_loop(void **state)
{
	firsts = seconds = 0;
	test_several(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_several),
		cmocka_unit_test(test_another_loop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
