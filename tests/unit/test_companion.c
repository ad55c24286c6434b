/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Programs beside plugins. This one is its own companion: started as one it says what it found. */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include <alknet/loop.h>
#include "sandbox.h"
#include "../../src/plugins/common/companion.h"

#define ROLE "ALKNET_TEST_COMPANION" /* set for the companion only */
#define WAIT_MS 60000

struct found {
	bool null_in, null_out, own_session, signals, name;
	int type, descriptors;
};

static const struct companion_kind self = {
	.name = "test_companion",
	.needs = "the test needs",
	.type = SOCK_SEQPACKET | SOCK_NONBLOCK,
	.buffer = 100000,
};

static int descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = -3; /* ".", ".." and the directory itself */

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

/* ---- the companion --------------------------------------------------------------------------- */

static bool is_null(int fd)
{
	char path[64], at[64] = "";

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return readlink(path, at, sizeof(at) - 1) > 0 && strcmp(at, "/dev/null") == 0;
}

/* Those that sanitizers have handlers of their own for. */
static bool is_fault(int signo)
{
	return signo == SIGSEGV || signo == SIGBUS || signo == SIGFPE || signo == SIGILL;
}

static bool signals_are_default(void)
{
	struct sigaction action;
	sigset_t blocked;

	sigprocmask(SIG_SETMASK, NULL, &blocked);
	for (int signo = 1; signo < 32; signo++)
		if (sigismember(&blocked, signo) || sigaction(signo, NULL, &action) != 0 ||
		    action.sa_handler == SIG_IGN ||
		    (action.sa_handler != SIG_DFL && !is_fault(signo)))
			return false;
	return true;
}

static int companion_main(const char *role, const char *arg0)
{
	struct found found = {.null_in = is_null(0), .null_out = is_null(1)};
	socklen_t n = sizeof(found.type);
	struct pollfd end = {.fd = COMPANION_FD, .events = POLLIN};

	found.own_session = getsid(0) == getpid();
	found.signals = signals_are_default();
	found.name = strcmp(arg0, self.name) == 0;
	getsockopt(COMPANION_FD, SOL_SOCKET, SO_TYPE, &found.type, &n);
	found.descriptors = descriptors();
	if (write(COMPANION_FD, &found, sizeof(found)) != sizeof(found))
		return 1;
	poll(&end, 1, -1);
	while (strcmp(role, "stubborn") == 0)
		pause();
	return 7;
}

/* ---- the tests ------------------------------------------------------------------------------- */

static void hear(const struct companion *c, struct found *found)
{
	struct pollfd at = {.fd = c->fd, .events = POLLIN};

	assert_int_equal(poll(&at, 1, WAIT_MS), 1);
	assert_int_equal(read(c->fd, found, sizeof(*found)), sizeof(*found));
}

static void start(struct companion *c, const char *role)
{
	struct alk_err err = {""};
	int rc;

	setenv(ROLE, role, 1);
	rc = companion_start(c, &self, &err);
	unsetenv(ROLE);
	if (rc != 0)
		fail_msg("%s", err.text);
	assert_true(c->pid > 0);
	assert_true(c->fd >= 0);
}

/* It gets the socket and what the header says, whatever this process has open, blocks or
 * ignores. */
static void test_starts_clean(void **state)
{
	struct companion c;
	struct found found;
	sigset_t blocked, before;
	int more[2];

	(void)state;
	assert_int_equal(pipe(more), 0); /* without close-on-exec */
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTERM);
	sigprocmask(SIG_BLOCK, &blocked, &before);
	signal(SIGPIPE, SIG_IGN);
	start(&c, "any");
	sigprocmask(SIG_SETMASK, &before, NULL);
	signal(SIGPIPE, SIG_DFL);
	hear(&c, &found);
	assert_true(found.null_in);
	assert_true(found.null_out);
	assert_true(found.own_session);
	assert_true(found.signals);
	assert_true(found.name);
	assert_int_equal(found.type, SOCK_SEQPACKET);
	assert_int_equal(found.descriptors, 4);
	companion_end(&c);
	close(more[0]);
	close(more[1]);
}

/* Also where the socket would get the numbers that the program's own are to have. */
static void test_low_descriptors(void **state)
{
	struct companion c;
	struct found found;
	int saved[2] = {dup(0), dup(1)};

	(void)state;
	fflush(stdout);
	close(0);
	close(1);
	start(&c, "any");
	hear(&c, &found);
	companion_end(&c);
	dup2(saved[0], 0);
	dup2(saved[1], 1);
	close(saved[0]);
	close(saved[1]);
	assert_true(found.null_in);
	assert_true(found.null_out);
	assert_int_equal(found.descriptors, 4);
}

/* One that obeys ends with its socket. */
static void test_lives_with_socket(void **state)
{
	struct companion c;
	struct found found;
	int status;

	(void)state;
	start(&c, "obeys");
	hear(&c, &found);
	alk_fd_close(&c.fd);
	assert_int_equal(waitpid(c.pid, &status, 0), c.pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 7);
}

/* One that does not is killed, and waited for. */
static void test_end(void **state)
{
	struct companion c;
	struct found found;
	pid_t pid;
	int before = descriptors();

	(void)state;
	start(&c, "stubborn");
	hear(&c, &found);
	pid = c.pid;
	companion_end(&c);
	assert_int_equal(c.pid, 0);
	assert_int_equal(c.fd, -1);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	companion_end(&c); /* nothing is left to be ended */
	assert_int_equal(descriptors(), before);
}

/* The sentence says what is needed and where it was looked for; nothing is left open or running. */
static void test_not_there(void **state)
{
	struct companion_kind kind = self;
	struct companion c = {.pid = 1};
	struct alk_err err = {""};
	int before = descriptors();

	(void)state;
	kind.name = "not-there";
	assert_int_equal(companion_start(&c, &kind, &err), -ENOENT);
	assert_int_equal(strncmp(err.text, "the test needs ", 15), 0);
	assert_non_null(strstr(err.text, "/not-there: "));
	assert_int_equal(c.pid, 0);
	assert_int_equal(c.fd, -1);
	assert_int_equal(descriptors(), before);
}

/* It is there and may be executed, but is no program. Valgrind makes a fork of the call, which
 * cannot say so. */
static void test_no_program(void **state)
{
	struct companion_kind kind = self;
	struct companion c = {.pid = 1};
	struct alk_err err = {""};
	char path[COMPANION_PATH_MAX], file[COMPANION_PATH_MAX];
	int before = descriptors(), rc;
	FILE *made;

	(void)state;
	if (alk_sandbox_valgrind())
		skip();
	assert_int_equal(companion_find(&self, path, &err), 0);
	kind.name = "test_companion.empty";
	assert_true(snprintf(file, sizeof(file), "%s.empty", path) < (int)sizeof(file));
	made = fopen(file, "w");
	assert_non_null(made);
	fputs("\177ELF", made);
	fclose(made);
	chmod(file, 0700);
	rc = companion_start(&c, &kind, &err);
	unlink(file);
	assert_int_equal(rc, -ENOEXEC);
	assert_non_null(strstr(err.text, "test_companion.empty cannot be started: "));
	assert_int_equal(c.pid, 0);
	assert_int_equal(c.fd, -1);
	assert_int_equal(descriptors(), before);
}

/* Descriptors are out: for the socket, and for what is made of it. */
static void test_no_descriptors(void **state)
{
	struct companion c = {.pid = 1};
	struct alk_err err = {""};
	int before = descriptors(), highest = dup(0), rc;
	struct rlimit limit, less;

	(void)state;
	close(highest);
	getrlimit(RLIMIT_NOFILE, &limit);
	for (int more = 0; more < 3; more++) {
		less = limit;
		less.rlim_cur = (rlim_t)(highest + more);
		setrlimit(RLIMIT_NOFILE, &less);
		rc = companion_start(&c, &self, &err);
		setrlimit(RLIMIT_NOFILE, &limit);
		assert_true(rc < 0); /* EMFILE, or what valgrind says for it */
		assert_int_equal(c.pid, 0);
		assert_int_equal(c.fd, -1);
		assert_int_equal(descriptors(), before);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_starts_clean),	  cmocka_unit_test(test_low_descriptors),
		cmocka_unit_test(test_lives_with_socket), cmocka_unit_test(test_end),
		cmocka_unit_test(test_not_there),	  cmocka_unit_test(test_no_program),
		cmocka_unit_test(test_no_descriptors),
	};
	const char *role = getenv(ROLE);

	if (role != NULL && argc > 0)
		return companion_main(role, argv[0]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
