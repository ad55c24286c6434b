/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The supervisor's side of a worker, against workers of all kinds: this program executed again, as
 * the real one is, that does what the start message says. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <alknet/log.h>
#include "log_private.h"
#include "worker_proc.h"
#include "worker_spawn.h"

#define WATCHDOG_MS 300

/* The worker */

static struct alk_loop *worker_loop;

static void say(struct alk_ctl *ctl, json_t *message)
{
	if (alk_ctl_send(ctl, message, NULL) != 0)
		_exit(90);
}

/* Everything that a worker which was taken over may say. The last one is good. */
static void say_nonsense(struct alk_ctl *ctl)
{
	static const char *const nonsense[] = {
		"{\"op\":\"ready\",\"pid\":1}",
		"{\"op\":\"end\"}",
		"{\"op\":\"end\",\"link\":0}",
		"{\"op\":\"end\",\"link\":-1}",
		"{\"op\":\"end\",\"link\":1.5}",
		"{\"op\":\"end\",\"link\":\"7\"}",
		"{\"op\":\"end\",\"link\":null}",
		"{\"op\":\"end\",\"link\":[7]}",
		"{\"op\":\"reply\"}",
		"{\"op\":\"reply\",\"id\":1}",
		"{\"op\":\"reply\",\"id\":0,\"result\":{}}",
		"{\"op\":\"reply\",\"id\":1,\"result\":{},\"error\":{}}",
		"{\"op\":\"event\"}",
		"{\"op\":\"event\",\"event\":{}}",
		"{\"op\":\"failed\"}",
		"{\"op\":\"failed\",\"error\":7}",
		"{\"op\":\"drained\"}",
		"{\"op\":\"start\",\"conf\":{}}",
		"{\"op\":\"\"}",
		"{\"op\":\"link\",\"link\":1}",
	};
	int fd;

	for (size_t i = 0; i < sizeof(nonsense) / sizeof(nonsense[0]); i++)
		say(ctl, json_loads(nonsense[i], 0, NULL));
	/* More links on the board than there is place for: none is believed. */
	atomic_fetch_add(&alk_board_self->ended.written, 1u << 31);
	say(ctl, json_pack("{s:s}", "op", "ended"));
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	alk_ctl_send(ctl, json_pack("{s:s, s:i}", "op", "end", "link", 7), &fd);
	say(ctl, json_pack("{s:s, s:i, s:{}}", "op", "reply", "id", 5, "result"));
}

/* What was promised of the process: descriptors, signals, standard input. */
static const char *surroundings(void)
{
	struct sigaction action;
	struct stat st, null;
	sigset_t mask;

	for (int fd = 4; fd < 64; fd++) {
		char path[32], link[64] = "";

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		/* But the event loop's own. */
		if (readlink(path, link, sizeof(link) - 1) > 0 &&
		    strncmp(link, "anon_inode:", 11) != 0 && strstr(link, "memfd:") == NULL)
			return "a descriptor was inherited";
	}
	if (fstat(STDIN_FILENO, &st) != 0 || stat("/dev/null", &null) != 0 ||
	    st.st_rdev != null.st_rdev)
		return "stdin is not /dev/null";
	if (sigprocmask(SIG_SETMASK, NULL, &mask) != 0 || sigismember(&mask, SIGUSR2))
		return "a signal is blocked";
	if (sigaction(SIGUSR2, NULL, &action) != 0 || action.sa_handler != SIG_DFL)
		return "a signal has a handler";
	if (sigaction(SIGTERM, NULL, &action) != 0 || action.sa_handler != SIG_IGN)
		return "SIGTERM is not ignored";
	return NULL;
}

static void worker_start(struct alk_ctl *ctl, const char *mode, int board_fd)
{
	const char *wrong;

	if (strcmp(mode, "leave") == 0)
		_exit(7);
	if (strcmp(mode, "crash") == 0)
		abort();
	if (strcmp(mode, "failed") == 0) {
		say(ctl, json_pack("{s:s, s:s, s:i}", "op", "failed", "error", "key: it is no key",
				   "status", 2));
		return; /* and leave when it has been heard */
	}
	if (strcmp(mode, "garbage") == 0) {
		if (write(ALK_WORKER_FD, "garbage garbage garbage", 23) != 23)
			_exit(91);
		for (;;)
			pause();
	}
	alk_board_use(alk_board_map(board_fd, NULL));
	alk_count(ALK_M_LINKS, 11);
	wrong = strcmp(mode, "surroundings") == 0 ? surroundings() : NULL;
	if (wrong != NULL) {
		say(ctl, json_pack("{s:s, s:s}", "op", "failed", "error", wrong));
		return;
	}
	say(ctl, json_pack("{s:s, s:i}", "op", "ready", "pid", (int)getpid()));
	if (strcmp(mode, "hostile") == 0)
		say_nonsense(ctl);
	if (strcmp(mode, "hang") == 0) {
		alk_board_hand(7, "203.0.113.50", "alice");
		atomic_store(&alk_board_self->busy_since, 1);
		for (;;)
			pause();
	}
	if (strcmp(mode, "deaf") == 0)
		for (;;)
			pause();
}

static void on_worker_message(void *user, struct alk_ctl *ctl, json_t *message, int fd)
{
	const char *op = json_string_value(json_object_get(message, "op"));

	(void)user;
	if (strcmp(op, "start") == 0)
		worker_start(ctl, json_string_value(json_object_get(message, "mode")), fd);
	else if (strcmp(op, "drain") == 0)
		say(ctl, json_pack("{s:s}", "op", "drained"));
	else if (strcmp(op, "stop") == 0)
		_exit(0);
	alk_fd_close(&fd);
}

static void on_worker_closed(void *user, struct alk_ctl *ctl, int rc)
{
	(void)user, (void)ctl, (void)rc;
	alk_loop_stop(worker_loop);
}

static int worker_main(void)
{
	static const struct alk_ctl_ops ops = {.message = on_worker_message,
					       .closed = on_worker_closed};
	struct alk_ctl *ctl;
	int fd = ALK_WORKER_FD;

	alarm(30);
	worker_loop = alk_loop_new(NULL);
	ctl = worker_loop != NULL ? alk_ctl_new(worker_loop, &fd, &ops, NULL, NULL) : NULL;
	if (ctl == NULL)
		return 92;
	alk_loop_run(worker_loop);
	alk_ctl_free(&ctl);
	alk_loop_free(&worker_loop);
	return 1;
}

/* The supervisor */

static bool no_pidfd;

struct bench {
	struct alk_loop *loop;
	struct alk_worker_proc *worker;
	struct alk_timer *tick;
	unsigned ready, ends, replies, events, hung, gone;
	uint64_t link;
	bool stop_when_ready, drain_when_ready, signal_when_ready, signal_is_lost;
	struct alk_board_hand hand;
	struct alk_worker_proc_end end;
	char failed[128];
};

static void on_ready(void *user, struct alk_worker_proc *worker)
{
	struct bench *b = user;

	b->ready++;
	if (b->stop_when_ready)
		alk_worker_proc_stop(worker);
	if (b->drain_when_ready)
		alk_worker_proc_drain(worker, 1000);
	if (b->signal_when_ready) {
		/* What a terminal or a service manager sends to the whole group: nothing to a
		 * worker. */
		kill(alk_worker_proc_pid(worker), SIGTERM);
		kill(alk_worker_proc_pid(worker), SIGINT);
		kill(alk_worker_proc_pid(worker), SIGHUP);
		alk_worker_proc_stop(worker);
	}
}

static void on_end(void *user, struct alk_worker_proc *worker, uint64_t link)
{
	struct bench *b = user;

	(void)worker;
	b->ends++;
	b->link = link;
}

static void on_reply(void *user, struct alk_worker_proc *worker, uint64_t id, json_t *message)
{
	struct bench *b = user;

	assert_int_equal(id, 5);
	assert_non_null(json_object_get(message, "result"));
	b->replies++;
	alk_worker_proc_stop(worker);
}

static void on_event(void *user, struct alk_worker_proc *worker, json_t *message)
{
	(void)worker, (void)message;
	((struct bench *)user)->events++;
}

static void on_hung(void *user, struct alk_worker_proc *worker, const struct alk_board_hand *hand)
{
	struct bench *b = user;

	(void)worker;
	b->hung++;
	b->hand = *hand;
}

static void on_gone(void *user, struct alk_worker_proc *worker,
		    const struct alk_worker_proc_end *end)
{
	struct bench *b = user;

	assert_int_equal(alk_worker_proc_state(worker), ALK_WORKER_DEAD);
	b->gone++;
	b->end = *end;
	if (end->failed != NULL)
		snprintf(b->failed, sizeof(b->failed), "%s", end->failed);
	alk_loop_stop(b->loop);
}

static const struct alk_worker_proc_ops proc_ops = {
	.ready = on_ready,
	.end = on_end,
	.reply = on_reply,
	.event = on_event,
	.hung = on_hung,
	.gone = on_gone,
};

static void on_tick(void *user)
{
	struct bench *b = user;

	alk_worker_proc_tick(b->worker, 50);
	alk_timer_start(b->tick, 50);
}

static bool under_valgrind(void)
{
	const char *preload = getenv("LD_PRELOAD");

	return preload != NULL && strstr(preload, "vgpreload") != NULL;
}

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	b->loop = alk_loop_new(NULL);
	b->worker = alk_worker_proc_new(b->loop, 3, false, WATCHDOG_MS, &proc_ops, b);
	b->tick = alk_timer_new(b->loop, "test tick", on_tick, b);
	assert_non_null(b->worker);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	no_pidfd = false;
	alk_worker_proc_free(&b->worker);
	alk_timer_free(&b->tick);
	alk_loop_free(&b->loop);
	free(b);
	return 0;
}

/* Start a worker of that kind and look on until it is gone. */
static void life(struct bench *b, const char *mode)
{
	struct alk_err err = {""};

	if (under_valgrind())
		skip(); /* /proc/self/exe is valgrind itself there */
	if (alk_worker_proc_start(b->worker, json_pack("{s:s, s:s}", "op", "start", "mode", mode),
				  &err) != 0)
		fail_msg("%s", err.text);
	assert_int_equal(alk_worker_proc_state(b->worker), ALK_WORKER_STARTING);
	if (b->signal_is_lost)
		signal(SIGCHLD, SIG_DFL);
	alk_timer_start(b->tick, 50);
	alk_loop_run(b->loop);
	assert_int_equal(b->gone, 1);
}

static void test_stop(void **state)
{
	struct bench *b = *state;

	b->stop_when_ready = true;
	life(b, "ready");
	assert_int_equal(b->ready, 1);
	assert_true(b->end.expected && b->end.was_ready && !b->end.hung);
	assert_int_equal(b->end.status, 0);
	assert_int_equal(atomic_load(&alk_worker_proc_board(b->worker)->metric[ALK_M_LINKS]), 11);
	/* And a second life in the same place. */
	b->gone = 0;
	life(b, "ready");
	assert_int_equal(b->ready, 2);
}

static void test_drain(void **state)
{
	struct bench *b = *state;

	b->drain_when_ready = true;
	life(b, "ready");
	assert_true(b->end.expected);
}

static void test_signals_of_the_group(void **state)
{
	struct bench *b = *state;

	b->signal_when_ready = true;
	life(b, "ready");
	assert_true(b->end.expected);
	assert_true(WIFEXITED(b->end.status));
}

static void test_surroundings(void **state)
{
	struct bench *b = *state;
	int stray = open("/dev/zero", O_RDONLY); /* not close-on-exec: somebody's mistake */

	b->stop_when_ready = true;
	life(b, "surroundings");
	close(stray);
	assert_string_equal(b->failed, "");
	assert_int_equal(b->ready, 1);
}

static void test_failed(void **state)
{
	struct bench *b = *state;

	life(b, "failed");
	assert_string_equal(b->failed, "key: it is no key");
	assert_int_equal(b->end.failed_status, 2);
	assert_false(b->end.expected || b->end.was_ready);
}

static void test_leave(void **state)
{
	struct bench *b = *state;

	life(b, "leave");
	assert_true(WIFEXITED(b->end.status));
	assert_int_equal(WEXITSTATUS(b->end.status), 7);
	assert_false(b->end.expected || b->end.was_ready);
}

/* What pidfd_open() is called by. */
long syscall(long number, ...)
{
	static long (*real)(long, ...);
	long arg[6];
	va_list ap;

	if (number == SYS_pidfd_open && no_pidfd) {
		errno = EMFILE;
		return -1;
	}
	va_start(ap, number);
	for (size_t i = 0; i < sizeof(arg) / sizeof(arg[0]); i++)
		arg[i] = va_arg(ap, long);
	va_end(ap);
	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "syscall");
	return real(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}

static void test_leave_without_pidfd(void **state)
{
	struct bench *b = *state;

	no_pidfd = true;
	life(b, "leave");
	assert_int_equal(WEXITSTATUS(b->end.status), 7);
}

static void test_leave_unheard(void **state)
{
	struct bench *b = *state;

	no_pidfd = b->signal_is_lost = true;
	life(b, "leave");
	assert_int_equal(WEXITSTATUS(b->end.status), 7);
}

static void test_crash(void **state)
{
	struct bench *b = *state;

	life(b, "crash");
	assert_true(WIFSIGNALED(b->end.status));
	assert_int_equal(WTERMSIG(b->end.status), SIGABRT);
}

/* A stream that is not ours: the worker cannot be spoken to any more and is killed. */
static void test_garbage(void **state)
{
	struct bench *b = *state;

	life(b, "garbage");
	assert_true(WIFSIGNALED(b->end.status));
	assert_int_equal(WTERMSIG(b->end.status), SIGKILL);
	assert_false(b->end.was_ready);
}

static void test_hostile(void **state)
{
	struct bench *b = *state;

	life(b, "hostile");
	assert_int_equal(b->ready, 1);
	assert_int_equal(b->ends,
			 1); /* the good one that came with a descriptor, which was closed */
	assert_int_equal(b->link, 7);
	assert_int_equal(b->replies, 1);
	assert_int_equal(b->events, 0);
	assert_true(b->end.expected);
	assert_null(b->end.failed);
}

static void test_hang(void **state)
{
	struct bench *b = *state;

	life(b, "hang");
	assert_int_equal(b->hung, 1);
	assert_true(b->end.hung && b->end.was_ready && !b->end.expected);
	assert_int_equal(b->hand.link, 7);
	assert_string_equal(b->hand.addr, "203.0.113.50");
	assert_string_equal(b->hand.identity, "alice");
	assert_int_equal(WTERMSIG(b->end.status), SIGKILL);
	assert_true(b->end.lived_ms >= WATCHDOG_MS);
}

/* One that reads nothing is not written to without end. */
static void test_deaf(void **state)
{
	struct bench *b = *state;
	char *text = malloc((1 << 20) + 1);
	int rc = 0;

	if (under_valgrind()) {
		free(text);
		skip();
	}
	assert_non_null(text);
	memset(text, 'x', 1 << 20);
	text[1 << 20] = '\0';
	assert_int_equal(alk_worker_proc_start(b->worker,
					       json_pack("{s:s, s:s}", "op", "start", "mode",
							 "deaf"),
					       NULL),
			 0);
	for (int i = 0; i < 100 && rc == 0; i++)
		rc = alk_worker_proc_send(b->worker,
					  json_pack("{s:s, s:s}", "op", "x", "text", text), NULL);
	free(text);
	assert_int_equal(rc, -ENOBUFS);
	alk_loop_run(b->loop);
	assert_int_equal(b->gone, 1);
	assert_int_equal(WTERMSIG(b->end.status), SIGKILL);
}

/* Freed while it runs: killed and waited for. */
static void test_free_while_it_runs(void **state)
{
	struct bench *b = *state;
	pid_t pid;

	if (under_valgrind())
		skip();
	assert_int_equal(alk_worker_proc_start(b->worker,
					       json_pack("{s:s, s:s}", "op", "start", "mode",
							 "deaf"),
					       NULL),
			 0);
	pid = alk_worker_proc_pid(b->worker);
	assert_true(pid > 0);
	alk_worker_proc_free(&b->worker);
	assert_int_equal(kill(pid, 0), -1);
	assert_int_equal(errno, ESRCH);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_stop, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_signals_of_the_group, setup, teardown),
		cmocka_unit_test_setup_teardown(test_surroundings, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_leave, setup, teardown),
		cmocka_unit_test_setup_teardown(test_leave_without_pidfd, setup, teardown),
		cmocka_unit_test_setup_teardown(test_leave_unheard, setup, teardown),
		cmocka_unit_test_setup_teardown(test_crash, setup, teardown),
		cmocka_unit_test_setup_teardown(test_garbage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hang, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deaf, setup, teardown),
		cmocka_unit_test_setup_teardown(test_free_while_it_runs, setup, teardown),
	};

	if (argc > 1 && strcmp(argv[1], "worker") == 0)
		return worker_main();
	alk_log_set_level(ALK_LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
