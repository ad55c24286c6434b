/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The helper as the supervisor sees it: here it is this program, under the other's name, and does
 * what one may that was taken over. */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <cmocka.h>

#include "../../src/plugins/common/companion.h"
#include "../../src/plugins/transports/iroh/iroh.h"
#include "../../src/plugins/transports/iroh/iroh_packet.h"

#define ROLE "ALKNET_TEST_IROH_ENDPOINT" /* set for the helper only */
#define WAIT_MS 60000
#define SLOW_MS 300
#define PORT "127.0.0.1:4711"
#define GONE "{\"gone\":{\"link\":1}}"

static struct alk_loop *loop;
static struct iroh_endpoint *endpoint;
static unsigned heard, started, ended;
static char why_ended[256];

/* ---- the helper ------------------------------------------------------------------------------ */

static void tell(const char *text, unsigned descriptors)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(4 * sizeof(int))];
	} control = {.space = ""};
	struct iovec part = {.iov_base = (char *)(uintptr_t)text, .iov_len = strlen(text)};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	int fds[4] = {0, 0, 0, 0};

	if (descriptors > 0) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(descriptors * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(descriptors * sizeof(int));
		memcpy(CMSG_DATA(&control.align), fds, descriptors * sizeof(int));
	}
	if (sendmsg(COMPANION_FD, &message, 0) < 0)
		_exit(3);
}

static void ready(void)
{
	char text[256];

	snprintf(text, sizeof(text), "{\"ready\":{\"id\":\"%064d\",\"bound\":[\"%s\"]}}", 0, PORT);
	tell(text, 0);
}

static int helper_main(const char *role)
{
	struct pollfd at = {.fd = COMPANION_FD, .events = POLLIN};
	char start[4096] = "";

	if (poll(&at, 1, WAIT_MS) != 1 || recv(COMPANION_FD, start, sizeof(start) - 1, 0) <= 0)
		return 1;
	if (strcmp(role, "slow") == 0)
		usleep(SLOW_MS * 1000);
	if (strcmp(role, "port") == 0 && strstr(start, PORT) != NULL) {
		tell("{\"failed\":\"" PORT ": in use\"}", 0);
		return 1;
	}
	ready();
	if (strcmp(role, "port") == 0) {
		tell(GONE, 0);
		return 0;
	}
	if (strncmp(role, "descriptors ", 12) == 0)
		tell(GONE, (unsigned)atoi(role + 12));
	/* It hears nothing, and sees only that its socket is closed. */
	at.events = 0;
	poll(&at, 1, WAIT_MS);
	return 0;
}

/* ---- the tests ------------------------------------------------------------------------------- */

static int descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

static void on_heard(void *user, const struct iroh_packet *packet, int *fd)
{
	(void)user, (void)packet, (void)fd;
	heard++;
	alk_loop_stop(loop);
}

static void on_started(void *user)
{
	(void)user;
	started++;
	alk_loop_stop(loop);
}

static void on_ended(void *user, const char *why)
{
	(void)user;
	ended++;
	snprintf(why_ended, sizeof(why_ended), "%s", why);
	alk_loop_stop(loop);
}

static void on_late(void *user)
{
	(void)user;
	fail_msg("nothing happens any more");
}

static void run(void)
{
	struct alk_timer *late = alk_timer_new(loop, "late", on_late, NULL);

	alk_timer_start(late, WAIT_MS);
	alk_loop_run(loop);
	alk_timer_free(&late);
}

/* Started and ready, with a helper that does as `role` says. */
static void begin(const char *role, bool again)
{
	static const struct iroh_endpoint_ops ops = {.heard = on_heard,
						     .started = on_started,
						     .ended = on_ended};
	struct alk_err err = {""};

	heard = started = ended = 0;
	setenv(ROLE, role, 1);
	loop = alk_loop_new(&err);
	assert_non_null(loop);
	endpoint = iroh_endpoint_new(loop, json_pack("{s:[]}", "bind"), again, &ops, NULL);
	assert_non_null(endpoint);
	if (iroh_endpoint_start_now(endpoint, &err) < 0)
		fail_msg("%s", err.text);
}

static void end(void)
{
	iroh_endpoint_free(&endpoint);
	alk_loop_free(&loop);
	unsetenv(ROLE);
}

/* One is what a link has. It is closed where it is not taken, and so are those that are too many,
 * with the helper. */
static void test_descriptors(void **state)
{
	char role[32];
	int before;

	(void)state;
	for (unsigned n = 0; n <= 4; n++) {
		snprintf(role, sizeof(role), "descriptors %u", n);
		begin(role, false);
		before = descriptors();
		run();
		assert_int_equal(heard, n <= 1);
		assert_int_equal(ended, n > 1);
		/* Without a helper there is no socket to it. */
		assert_int_equal(descriptors(), before - (n > 1));
		end();
	}
}

static void on_alarm(int signo)
{
	(void)signo;
}

/* A signal while it is waited for is not the end of that. */
static void test_signal_while_starting(void **state)
{
	const struct sigaction quiet = {.sa_handler = on_alarm};
	const struct itimerval often = {.it_interval = {.tv_usec = 20000},
					.it_value = {.tv_usec = 20000}},
			       never = {.it_value = {.tv_sec = 0}};

	(void)state;
	assert_int_equal(sigaction(SIGALRM, &quiet, NULL), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
	begin("slow", false);
	setitimer(ITIMER_REAL, &never, NULL);
	assert_int_equal(iroh_endpoint_id(endpoint)[0], 'y');
	end();
}

/* A port that the system chose is asked for again, and another one where that cannot be had. */
static void test_port_is_taken(void **state)
{
	(void)state;
	begin("port", true);
	while (ended == 0)
		run();
	assert_string_equal(why_ended, "alknet-iroh has ended");
	while (ended == 1)
		run();
	assert_string_equal(why_ended, PORT ": in use");
	assert_int_equal(heard, 1);
	while (heard == 1 && ended == 2)
		run();
	assert_int_equal(heard, 2);
	end();
}

/* One that missed something is not left to go on without: another one is started. */
static void test_helper_does_not_listen(void **state)
{
	int rc = 0;

	(void)state;
	begin("deaf", true);
	for (int i = 0; i < 100000 && rc == 0; i++)
		rc = iroh_endpoint_say(endpoint, json_pack("{s:b}", "pause", 1));
	assert_int_equal(rc, -EAGAIN);
	assert_int_equal(ended, 0); /* not before it returned */
	assert_true(iroh_endpoint_say(endpoint, json_pack("{s:b}", "pause", 0)) < 0);
	run();
	assert_int_equal(ended, 1);
	assert_non_null(strstr(why_ended, "cannot be spoken to"));
	run();
	assert_int_equal(started, 1);
	assert_int_equal(iroh_endpoint_say(endpoint, json_pack("{s:b}", "pause", 0)), 0);
	end();
}

static int program_put(void **state)
{
	static const struct companion_kind self = {.name = "test_iroh_endpoint",
						   .needs = "this is"};
	static char program[COMPANION_PATH_MAX];
	char path[COMPANION_PATH_MAX];
	struct alk_err err = {""};

	if (companion_find(&self, path, &err) != 0)
		return -1;
	strcpy(program, path);
	strcpy(strrchr(program, '/'), "/alknet-iroh");
	unlink(program);
	*state = program;
	return symlink(strrchr(path, '/') + 1, program);
}

static int program_remove(void **state)
{
	return unlink(*state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_signal_while_starting),
		cmocka_unit_test(test_port_is_taken),
		cmocka_unit_test(test_helper_does_not_listen),
	};

	if (getenv(ROLE) != NULL)
		return helper_main(getenv(ROLE));
	return cmocka_run_group_tests(tests, program_put, program_remove);
}
