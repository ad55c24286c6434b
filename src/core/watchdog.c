/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>
#include "watchdog.h"

/* Written by the loop, read by the handler. */
static volatile sig_atomic_t iterations;
static sig_atomic_t seen, stuck;
static volatile sig_atomic_t limit;

/* Runs each second of processor time; async-signal-safe. */
static void on_second(int signo)
{
	static const char text[] = "alknet: the event loop hangs: ending\n";

	(void)signo;
	if (iterations != seen) {
		seen = iterations;
		stuck = 0;
		return;
	}
	if (++stuck < limit)
		return;
	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		_exit(1);
	_exit(1);
}

static void on_wake(void *user)
{
	(void)user;
	iterations = iterations + 1;
}

void alk_watchdog_limit(unsigned seconds)
{
	limit = (sig_atomic_t)seconds;
}

int alk_watchdog_start(struct alk_loop *loop, unsigned seconds, struct alk_err *err)
{
	struct sigaction action = {.sa_handler = on_second, .sa_flags = SA_RESTART};
	struct itimerval second = {.it_interval = {.tv_sec = 1}, .it_value = {.tv_sec = 1}};

	alk_watchdog_limit(seconds);
	alk_loop_set_hooks(loop, on_wake, NULL, NULL);
	if (sigaction(SIGPROF, &action, NULL) < 0 || setitimer(ITIMER_PROF, &second, NULL) < 0)
		return alk_err_set(err, -errno, "watchdog: %s", strerror(errno));
	return 0;
}
