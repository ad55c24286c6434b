/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A program that takes over: this one executed again, which looks whether a signal of the moment
 * before waits for it. */
#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "loop_private.h"
#include "upgrade.h"

static struct alk_loop *loop;

/* ---- the new program ------------------------------------------------------------------------- */

static void on_hangup_again(void *user, int signo)
{
	(void)user, (void)signo;
	alk_upgrade_ready();
	alk_loop_stop(loop);
}

static int take_over(void)
{
	struct alk_signal *hangup;
	sigset_t pending, blocked;

	alarm(30);
	sigpending(&pending);
	sigprocmask(SIG_SETMASK, NULL, &blocked);
	loop = alk_loop_new(NULL);
	if (loop == NULL)
		return 1;
	if (!sigismember(&pending, SIGHUP)) {
		alk_upgrade_failed("SIGHUP is lost");
	} else if (sigismember(&blocked, SIGUSR2)) {
		alk_upgrade_failed("a signal that nobody waited for is blocked");
	} else {
		hangup = alk_signal_new(loop, SIGHUP, "again", on_hangup_again, NULL);
		alk_loop_run(loop);
		alk_signal_free(&hangup);
	}
	alk_loop_free(&loop);
	alk_upgrade_deinit();
	return 0;
}

/* ---- the old one ----------------------------------------------------------------------------- */

static char told[512];
static unsigned hangups;

/* A hangup in each new process, while none of its signals is let through. */
pid_t fork(void)
{
	pid_t (*real)(void);
	pid_t pid;

	*(void **)&real = dlsym(RTLD_NEXT, "fork");
	pid = real();
	if (pid == 0)
		kill(getpid(), SIGHUP);
	return pid;
}

static void on_hangup(void *user, int signo)
{
	(void)user, (void)signo;
	hangups++;
}

static void on_upgrade(void *user, pid_t pid, const char *version, const char *why)
{
	(void)user, (void)pid, (void)version;
	snprintf(told, sizeof(told), "%s", why != NULL ? why : "ready");
	alk_loop_stop(loop);
}

static bool under_valgrind(void)
{
	const char *preload = getenv("LD_PRELOAD");

	return preload != NULL && strstr(preload, "vgpreload") != NULL;
}

static void test_a_signal_in_between(void **state)
{
	struct alk_err err = {""};
	struct alk_signal *hangup;
	struct alk_upgrade *upgrade;
	const int no_fds[1] = {-1};
	const char *const no_names[1] = {NULL};

	(void)state;
	if (under_valgrind())
		skip(); /* /proc/self/exe is valgrind itself there */
	loop = alk_loop_new(NULL);
	hangup = alk_signal_new(loop, SIGHUP, "hangup", on_hangup, NULL);
	upgrade = alk_upgrade_start(loop, no_fds, no_names, 0, on_upgrade, NULL, &err);
	assert_string_equal(err.text, "");
	assert_non_null(upgrade);
	alk_loop_run(loop);
	alk_upgrade_free(&upgrade);
	alk_signal_free(&hangup);
	alk_loop_free(&loop);
	assert_string_equal(told, "ready");
	assert_int_equal(hangups, 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_signal_in_between),
	};
	int rc;

	if (alk_upgrade_init(argc - 1, argv + 1) < 0)
		return 1;
	if (alk_upgrade_pending())
		return take_over();
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	alk_upgrade_deinit();
	return rc;
}
