/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <alknet/loop.h>
#include "loop_private.h"

/* What one test's callbacks share. */
struct bench {
	struct alk_loop *loop;
	struct alk_io *io;
	struct alk_timer *timer, *other;
	struct alk_signal *sig;
	struct alk_task task, second;
	int fd[2];
	int count, limit, seen;
	uint64_t at;
};

static uint64_t mono_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void spin_us(uint64_t us)
{
	uint64_t end = mono_us() + us;

	while (mono_us() < end)
		;
}

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	b->loop = alk_loop_new(NULL);
	assert_non_null(b->loop);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, b->fd),
			 0);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	alk_io_free(&b->io);
	alk_timer_free(&b->timer);
	alk_timer_free(&b->other);
	alk_signal_free(&b->sig);
	alk_loop_free(&b->loop);
	assert_null(b->loop);
	alk_fd_close(&b->fd[0]);
	alk_fd_close(&b->fd[1]);
	free(b);
	return 0;
}

static void on_stop(void *user)
{
	struct bench *b = user;

	b->seen++;
	alk_loop_stop(b->loop);
}

/* Run the loop until everything that was ready has been handled. */
static void run_once(struct bench *b)
{
	struct alk_timer *stop = alk_timer_new(b->loop, "stop", on_stop, b);

	alk_timer_start(stop, 1);
	alk_loop_run(b->loop);
	alk_timer_free(&stop);
}

/* ---- fds ---- */

static void on_ready_read(void *user, int revents)
{
	struct bench *b = user;
	char c[8];

	assert_int_equal(revents, ALK_IO_READ);
	b->count += (int)read(b->fd[0], c, sizeof(c));
	alk_loop_stop(b->loop);
}

static void test_io_reads(void **state)
{
	struct bench *b = *state;

	b->io = alk_io_new(b->loop, b->fd[0], "io", on_ready_read, b);
	assert_int_equal(alk_io_events(b->io), 0);
	assert_int_equal(write(b->fd[1], "abc", 3), 3);
	run_once(b); /* watches for nothing yet */
	assert_int_equal(b->count, 0);
	alk_io_set(b->io, ALK_IO_READ);
	assert_int_equal(alk_io_events(b->io), ALK_IO_READ);
	alk_loop_run(b->loop);
	assert_int_equal(b->count, 3);
}

static void test_io_pause_and_resume(void **state)
{
	struct bench *b = *state;
	int i;

	b->io = alk_io_new(b->loop, b->fd[0], "io", on_ready_read, b);
	for (i = 1; i <= 3; i++) {
		alk_io_set(b->io, ALK_IO_READ);
		alk_io_set(b->io, 0);
		assert_int_equal(write(b->fd[1], "x", 1), 1);
		run_once(b);
		assert_int_equal(b->count, i - 1);
		alk_io_set(b->io, ALK_IO_READ);
		alk_loop_run(b->loop);
		assert_int_equal(b->count, i);
	}
}

static void on_ready_both(void *user, int revents)
{
	struct bench *b = user;

	b->seen |= revents;
	b->count++;
	alk_loop_stop(b->loop);
}

static void test_io_read_and_write(void **state)
{
	struct bench *b = *state;

	b->io = alk_io_new(b->loop, b->fd[0], "io", on_ready_both, b);
	assert_int_equal(write(b->fd[1], "x", 1), 1);
	alk_io_set(b->io, ALK_IO_READ | ALK_IO_WRITE);
	alk_loop_run(b->loop);
	assert_int_equal(b->seen, ALK_IO_READ | ALK_IO_WRITE);
	b->seen = 0;
	alk_io_set(b->io, ALK_IO_WRITE);
	alk_loop_run(b->loop);
	assert_int_equal(b->seen, ALK_IO_WRITE);
}

static void on_ready_free(void *user, int revents)
{
	struct bench *b = user;

	(void)revents;
	b->count++;
	alk_io_free(&b->io);
	assert_null(b->io);
	alk_fd_close(&b->fd[0]);
	assert_int_equal(b->fd[0], -1);
}

static void test_io_free_in_its_callback(void **state)
{
	struct bench *b = *state;

	b->io = alk_io_new(b->loop, b->fd[0], "io", on_ready_free, b);
	alk_io_set(b->io, ALK_IO_WRITE);
	run_once(b);
	assert_int_equal(b->count, 1);
}

/* Both are ready in one iteration; whichever runs first frees the other. */
struct pair {
	struct alk_io *io[2];
	int calls;
};

static void on_ready_free_other(void *user, int revents)
{
	struct pair *pair = user;

	(void)revents;
	pair->calls++;
	alk_io_free(&pair->io[0]);
	alk_io_free(&pair->io[1]);
}

static void test_io_freed_while_pending(void **state)
{
	struct bench *b = *state;
	struct pair pair = {0};
	int i;

	for (i = 0; i < 2; i++) {
		pair.io[i] = alk_io_new(b->loop, b->fd[i], "pair", on_ready_free_other, &pair);
		alk_io_set(pair.io[i], ALK_IO_WRITE);
	}
	run_once(b);
	assert_int_equal(pair.calls, 1);
}

/* A new fd with the number of a closed one is watched, though the events are the same. */
static void test_io_fd_number_used_again(void **state)
{
	struct bench *b = *state;
	int old = b->fd[0];
	int fresh[2];

	b->io = alk_io_new(b->loop, b->fd[0], "old", on_ready_read, b);
	alk_io_set(b->io, ALK_IO_READ);
	run_once(b);
	alk_io_free(&b->io);
	alk_fd_close(&b->fd[0]);
	alk_fd_close(&b->fd[1]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fresh),
			 0);
	b->fd[0] = fresh[0];
	b->fd[1] = fresh[1];
	assert_int_equal(b->fd[0], old);
	b->io = alk_io_new(b->loop, b->fd[0], "new", on_ready_read, b);
	alk_io_set(b->io, ALK_IO_READ);
	assert_int_equal(write(b->fd[1], "12", 2), 2);
	alk_loop_run(b->loop);
	assert_int_equal(b->count, 2);
}

/* ---- timers ---- */

static void on_timeout(void *user)
{
	struct bench *b = user;

	assert_false(alk_timer_active(b->timer));
	b->at = mono_us();
	b->count++;
	alk_loop_stop(b->loop);
}

static void test_timer_is_not_early(void **state)
{
	struct bench *b = *state;
	uint64_t begin;
	unsigned ms;

	b->timer = alk_timer_new(b->loop, "timer", on_timeout, b);
	assert_false(alk_timer_active(b->timer));
	for (ms = 0; ms < 40; ms = ms * 2 + 1) {
		begin = mono_us();
		alk_timer_start(b->timer, ms);
		assert_true(alk_timer_active(b->timer));
		alk_loop_run(b->loop);
		assert_true(b->at + 1000 >= begin + ms * 1000);
	}
}

/* libev's own clock is old after a callback that took its time. */
static void on_ready_slow(void *user, int revents)
{
	struct bench *b = user;

	(void)revents;
	alk_io_set(b->io, 0);
	spin_us(30000);
	b->seen = (int)(mono_us() / 1000);
	alk_timer_start(b->timer, 20);
}

static void test_timer_is_not_early_after_a_slow_callback(void **state)
{
	struct bench *b = *state;

	b->timer = alk_timer_new(b->loop, "timer", on_timeout, b);
	b->io = alk_io_new(b->loop, b->fd[0], "io", on_ready_slow, b);
	alk_io_set(b->io, ALK_IO_WRITE);
	alk_loop_run(b->loop);
	assert_true((int)(b->at / 1000) + 1 >= b->seen + 20);
}

/* Longer than this machine may keep the other timer from ringing. */
#define MOVED_MS 1000

static void on_timeout_move(void *user)
{
	struct bench *b = user;

	if (++b->seen <= 5) {
		alk_timer_start(b->timer, MOVED_MS);
		b->at = mono_us();
		alk_timer_start(b->other, 5);
	}
}

static void on_timeout_moved(void *user)
{
	struct bench *b = user;

	b->count++;
	assert_true(mono_us() + 1000 >= b->at + MOVED_MS * 1000);
	alk_loop_stop(b->loop);
}

/* A timer that is moved away again and again does not ring at its first time. */
static void test_timer_moves_later(void **state)
{
	struct bench *b = *state;

	b->timer = alk_timer_new(b->loop, "moved", on_timeout_moved, b);
	b->other = alk_timer_new(b->loop, "mover", on_timeout_move, b);
	alk_timer_start(b->timer, MOVED_MS);
	alk_timer_start(b->other, 5);
	alk_loop_run(b->loop);
	assert_int_equal(b->count, 1);
	assert_int_equal(b->seen, 6);
}

static void test_timer_moves_earlier(void **state)
{
	struct bench *b = *state;
	uint64_t begin = mono_us();

	b->timer = alk_timer_new(b->loop, "timer", on_timeout, b);
	alk_timer_start(b->timer, 3600000);
	alk_timer_start(b->timer, 10);
	alk_loop_run(b->loop);
	assert_int_equal(b->count, 1);
	assert_true(b->at - begin < 60 * 1000000ULL);
}

static void test_timer_stopped_does_not_ring(void **state)
{
	struct bench *b = *state;

	b->timer = alk_timer_new(b->loop, "timer", on_timeout, b);
	alk_timer_start(b->timer, 0);
	alk_timer_stop(b->timer);
	assert_false(alk_timer_active(b->timer));
	run_once(b);
	assert_int_equal(b->count, 0);
	alk_timer_start(b->timer, UINT64_MAX);
	assert_true(alk_timer_active(b->timer));
	run_once(b);
	assert_int_equal(b->count, 0);
}

static void on_timeout_free(void *user)
{
	struct bench *b = user;

	b->count++;
	alk_timer_free(&b->timer);
	alk_loop_stop(b->loop);
}

static void test_timer_free_in_its_callback(void **state)
{
	struct bench *b = *state;

	b->timer = alk_timer_new(b->loop, "timer", on_timeout_free, b);
	alk_timer_start(b->timer, 0);
	alk_loop_run(b->loop);
	assert_int_equal(b->count, 1);
	assert_null(b->timer);
}

static void on_timeout_now(void *user)
{
	struct bench *b = user;
	uint64_t now = mono_us() / 1000;

	assert_true(alk_loop_now(b->loop) <= now);
	assert_true(alk_loop_now(b->loop) + 5000 > now);
	alk_loop_stop(b->loop);
}

static void test_now_is_monotonic_ms(void **state)
{
	struct bench *b = *state;

	b->timer = alk_timer_new(b->loop, "timer", on_timeout_now, b);
	alk_timer_start(b->timer, 2);
	alk_loop_run(b->loop);
}

/* ---- signals ---- */

static void on_signal(void *user, int signo)
{
	struct bench *b = user;

	b->seen = signo;
	alk_signal_free(&b->sig);
	alk_loop_stop(b->loop);
}

static void test_signal(void **state)
{
	struct bench *b = *state;

	b->sig = alk_signal_new(b->loop, SIGUSR1, "usr1", on_signal, b);
	assert_non_null(b->sig);
	assert_int_equal(raise(SIGUSR1), 0);
	alk_loop_run(b->loop);
	assert_int_equal(b->seen, SIGUSR1);
	assert_null(b->sig);
}

/* ---- tasks ---- */

static void on_task_again(void *user)
{
	struct bench *b = user;

	b->count++;
	if (b->count < b->limit)
		alk_task_queue(b->loop, &b->task);
	else
		alk_loop_stop(b->loop);
}

static void on_sleep(void *user)
{
	struct bench *b = user;

	b->seen++;
}

static void test_task_queued_by_a_task_runs_before_sleep(void **state)
{
	struct bench *b = *state;

	b->task = (struct alk_task){.fn = on_task_again, .user = b};
	b->limit = 900;
	alk_loop_set_hooks(b->loop, NULL, on_sleep, b);
	alk_task_queue(b->loop, &b->task);
	alk_task_queue(b->loop, &b->task); /* queued already: once */
	alk_loop_run(b->loop);
	assert_int_equal(b->count, 900);
	assert_int_equal(b->seen, 1);
}

/* A task that queues itself for ever starves nobody, and does not let the loop sleep. */
static void test_task_rounds_are_bounded(void **state)
{
	struct bench *b = *state;

	b->task = (struct alk_task){.fn = on_task_again, .user = b};
	b->limit = 2500;
	alk_loop_set_hooks(b->loop, NULL, on_sleep, b);
	alk_task_queue(b->loop, &b->task);
	alk_loop_run(b->loop);
	assert_int_equal(b->count, 2500);
	assert_int_equal(b->seen, 3);
}

struct step {
	struct alk_task task;
	struct order *order;
	char name;
};

struct order {
	struct bench *bench;
	struct step step[4];
	char ran[8];
};

static void on_step(void *user)
{
	struct step *step = user;
	struct order *order = step->order;

	order->ran[strlen(order->ran)] = step->name;
	if (step->name == 'a') {
		alk_task_cancel(order->bench->loop, &order->step[3].task);
		alk_task_cancel(order->bench->loop, &order->step[1].task);
		alk_task_queue(order->bench->loop, &order->step[1].task);
	}
	if (step->name == 'b')
		alk_loop_stop(order->bench->loop);
}

static void test_task_order_and_cancel(void **state)
{
	struct order order = {.bench = *state};
	int i;

	for (i = 0; i < 4; i++) {
		order.step[i] = (struct step){.order = &order, .name = (char)('a' + i)};
		order.step[i].task = (struct alk_task){.fn = on_step, .user = &order.step[i]};
		alk_task_queue(order.bench->loop, &order.step[i].task);
	}
	alk_loop_run(order.bench->loop);
	assert_string_equal(order.ran, "acb");
	for (i = 0; i < 4; i++)
		assert_null(order.step[i].task.prev);
	alk_task_cancel(order.bench->loop, &order.step[0].task);
}

/* A task that yields lets the fds that are ready go first, and keeps the loop from sleeping. */
static void on_task_yields(void *user)
{
	struct bench *b = user;

	if (++b->count < 3)
		alk_task_yield(b->loop, &b->task);
	else
		alk_loop_stop(b->loop);
}

static void on_ready_between(void *user, int revents)
{
	struct bench *b = user;

	(void)revents;
	b->seen++;
	assert_true(b->count > 0 && b->count < 3);
}

static void test_task_yields(void **state)
{
	struct bench *b = *state;

	b->task = (struct alk_task){.fn = on_task_yields, .user = b};
	b->io = alk_io_new(b->loop, b->fd[0], "io", on_ready_between, b);
	alk_io_set(b->io, ALK_IO_WRITE);
	alk_task_queue(b->loop, &b->task);
	alk_loop_run(b->loop);
	assert_int_equal(b->count, 3);
	assert_int_equal(b->seen, 2);
	alk_task_yield(b->loop, &b->task);
	alk_task_yield(b->loop, &b->task);
	alk_task_cancel(b->loop, &b->task);
	assert_null(b->task.prev);
}

static void on_ready_queue(void *user, int revents)
{
	struct bench *b = user;

	(void)revents;
	alk_io_set(b->io, 0);
	alk_task_queue(b->loop, &b->task);
	assert_int_equal(b->count, 0); /* not inside of this callback */
}

static void on_task_stop(void *user)
{
	struct bench *b = user;

	b->count++;
	alk_loop_stop(b->loop);
}

static void test_task_runs_after_the_callback(void **state)
{
	struct bench *b = *state;

	b->task = (struct alk_task){.fn = on_task_stop, .user = b};
	b->io = alk_io_new(b->loop, b->fd[0], "io", on_ready_queue, b);
	alk_io_set(b->io, ALK_IO_WRITE);
	alk_loop_run(b->loop);
	assert_int_equal(b->count, 1);
}

/* ---- the loop ---- */

static void on_wake(void *user)
{
	struct bench *b = user;

	b->count = 1;
}

static void on_sleep_hook(void *user)
{
	struct bench *b = user;

	b->count = 0;
}

static void on_ready_woken(void *user, int revents)
{
	struct bench *b = user;

	(void)revents;
	b->seen = b->count; /* on_wake ran first */
	alk_io_set(b->io, 0);
	alk_task_queue(b->loop, &b->task);
}

static void on_task_woken(void *user)
{
	struct bench *b = user;

	b->seen += b->count; /* and on_sleep has not run yet */
	alk_loop_stop(b->loop);
}

static void test_hooks_enclose_the_work(void **state)
{
	struct bench *b = *state;

	b->task = (struct alk_task){.fn = on_task_woken, .user = b};
	b->io = alk_io_new(b->loop, b->fd[0], "io", on_ready_woken, b);
	alk_io_set(b->io, ALK_IO_WRITE);
	alk_loop_set_hooks(b->loop, on_wake, on_sleep_hook, b);
	alk_loop_run(b->loop);
	assert_int_equal(b->seen, 2);
	assert_int_equal(b->count, 0);
	alk_loop_set_hooks(b->loop, NULL, NULL, NULL);
}

static void kept_free(void *thing)
{
	++*(int *)thing;
}

static void test_keep_and_leaks(void **state)
{
	struct alk_loop *loop = alk_loop_new(NULL);
	struct bench *b = *state;
	static const char key, other;
	int freed = 0;

	assert_null(alk_loop_kept(loop, &key));
	assert_int_equal(alk_loop_keep(loop, &key, &freed, kept_free), 0);
	assert_ptr_equal(alk_loop_kept(loop, &key), &freed);
	assert_null(alk_loop_kept(loop, &other));
	/* Nobody frees these: the loop does, and says so in the log. */
	alk_io_set(alk_io_new(loop, b->fd[0], "leaked io", on_ready_both, b), ALK_IO_READ);
	alk_timer_start(alk_timer_new(loop, "leaked timer", on_stop, b), 5);
	assert_non_null(alk_signal_new(loop, SIGUSR2, "leaked signal", on_signal, b));
	alk_task_queue(loop, &b->task);
	alk_task_yield(loop, &b->second);
	alk_loop_free(&loop);
	assert_null(loop);
	assert_int_equal(freed, 1);
	assert_null(b->task.prev);
	assert_null(b->second.prev);
	alk_loop_free(&loop);
}

static void test_fd_close_keeps_errno(void **state)
{
	int fd = -1;

	(void)state;
	errno = EAGAIN;
	alk_fd_close(&fd);
	fd = 1000;
	alk_fd_close(&fd);
	assert_int_equal(fd, -1);
	assert_int_equal(errno, EAGAIN);
}

static void test_err(void **state)
{
	struct alk_err err = {""};
	char longer[600];
	size_t i;

	(void)state;
	assert_int_equal(alk_err_set(&err, -EINVAL, "no %s", "way"), -EINVAL);
	assert_string_equal(err.text, "no way");
	assert_int_equal(alk_err_prefix(&err, -ENOENT, "%s:%d", "file", 3), -ENOENT);
	assert_string_equal(err.text, "file:3: no way");
	assert_int_equal(alk_err_set(NULL, -EINVAL, "nobody asks"), -EINVAL);
	assert_int_equal(alk_err_prefix(NULL, -EINVAL, "nobody asks"), -EINVAL);
	for (i = 0; i < sizeof(longer) - 1; i++)
		longer[i] = 'x';
	longer[i] = '\0';
	alk_err_set(&err, -EINVAL, "%s", longer);
	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
	alk_err_prefix(&err, -EINVAL, "%s", longer);
	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
}

struct ends {
	struct bench *b;
	int sleeps, asked, heard_at, heard;
	bool ended;
	struct alk_task then;
};

static void pair_sleeps(void *user)
{
	((struct ends *)user)->sleeps++;
}

static void pair_hears(void *user, int revents)
{
	struct ends *p = user;
	char byte;

	assert_int_equal(revents, ALK_IO_READ);
	assert_int_equal(read(p->b->fd[0], &byte, 1), 1);
	p->heard_at = p->sleeps;
	p->heard++;
	alk_loop_stop(p->b->loop);
}

static void pair_stops(void *user)
{
	alk_loop_stop(user);
}

static void pair_says(void *user)
{
	struct ends *p = user;

	assert_int_equal(write(p->b->fd[1], "x", 1), 1);
	p->asked = p->sleeps;
	alk_loop_wrote(p->b->loop, p->b->fd[1]);
}

/* Who waits for the other end of a pair hears of a write before the loop sleeps again, once; who
 * does not wait hears nothing, and an fd that is in no pair any more is asked of the kernel as
 * ever. */
static void test_pair(void **state)
{
	struct bench *b = *state;
	struct ends p = {.b = b};

	alk_loop_set_hooks(b->loop, NULL, pair_sleeps, &p);
	b->io = alk_io_new(b->loop, b->fd[0], "test", pair_hears, &p);
	b->timer = alk_timer_new(b->loop, "test", pair_says, &p);
	assert_int_equal(alk_loop_pair(b->loop, b->fd[1], b->fd[0]), 0);
	alk_io_set(b->io, ALK_IO_READ);
	alk_timer_start(b->timer, 1);
	alk_loop_run(b->loop);
	assert_int_equal(p.heard, 1);
	assert_int_equal(p.heard_at, p.asked);
	alk_io_set(b->io, 0);
	pair_says(&p);
	b->other = alk_timer_new(b->loop, "test", pair_stops, b->loop);
	alk_timer_start(b->other, 5);
	alk_loop_run(b->loop);
	assert_int_equal(p.heard, 1);
	alk_io_set(b->io, ALK_IO_READ);
	alk_loop_run(b->loop);
	assert_int_equal(p.heard, 2);
	/* The other end has gone without a word, and its number is in another pair. */
	assert_int_equal(alk_loop_pair(b->loop, b->fd[1], 700), 0);
	alk_loop_unpair(b->loop, b->fd[0]);
	alk_loop_unpair(b->loop, 700);
	alk_loop_unpair(b->loop, 100000);
	alk_loop_wrote(b->loop, 100000);
	alk_loop_wrote(b->loop, -1);
	alk_timer_start(b->timer, 1);
	alk_loop_run(b->loop);
	assert_int_equal(p.heard, 3);
	assert_true(p.heard_at > p.asked);
	alk_loop_set_hooks(b->loop, NULL, NULL, NULL);
}

static void pair_queues(void *user, int revents)
{
	struct ends *p = user;
	char byte;

	(void)revents;
	assert_int_equal(read(p->b->fd[0], &byte, 1), 1);
	p->heard++;
	alk_task_queue(p->b->loop, &p->then);
}

static void pair_ends(void *user)
{
	struct ends *p = user;

	p->ended = true;
	alk_loop_stop(p->b->loop);
}

/* A task writes; who hears of it, behind the turn's tasks, has another: the loop does not sleep
 * on that. */
static void test_pair_of_a_task(void **state)
{
	struct bench *b = *state;
	struct ends p = {.b = b};
	struct alk_task says = {.fn = pair_says, .user = &p};

	p.then = (struct alk_task){.fn = pair_ends, .user = &p};
	b->io = alk_io_new(b->loop, b->fd[0], "test", pair_queues, &p);
	b->timer = alk_timer_new(b->loop, "test", pair_stops, b->loop);
	assert_int_equal(alk_loop_pair(b->loop, b->fd[1], b->fd[0]), 0);
	alk_io_set(b->io, ALK_IO_READ);
	alk_timer_start(b->timer, 20000);
	alk_task_queue(b->loop, &says);
	alk_loop_run(b->loop);
	assert_int_equal(p.heard, 1);
	assert_true(p.ended);
	alk_timer_stop(b->timer);
}

/* ---- pauses ---- */

static void on_ready_stop(void *user, int revents)
{
	struct bench *b = user;

	(void)revents;
	b->count++;
	alk_loop_stop(b->loop);
}

static void on_timeout_nothing(void *user)
{
	(void)user;
}

static void test_pause(void **state)
{
	struct bench *b = *state;
	uint64_t begun, worked;

	b->io = alk_io_new(b->loop, b->fd[0], "test", on_ready_stop, b);
	alk_io_set(b->io, ALK_IO_READ);
	assert_int_equal(write(b->fd[1], "x", 1), 1);
	assert_false(alk_loop_pause(b->loop, 20000)); /* nobody said that it may */
	alk_loop_may_pause(b->loop, true);
	assert_true(alk_loop_pause(b->loop, 20000));
	begun = mono_us();
	alk_loop_run(b->loop);
	assert_int_equal(b->count, 1);
	assert_true(mono_us() - begun >= 19000);
	/* What went by before the wait is no part of it. */
	assert_in_range(alk_loop_waited(b->loop, &worked), 1, (mono_us() - begun + 1) * 1000);
	/* A timer is not kept waiting. */
	b->timer = alk_timer_new(b->loop, "test", on_timeout_nothing, b);
	alk_timer_start(b->timer, 5);
	assert_true(alk_loop_pause(b->loop, 3600u * 1000000));
	alk_loop_run(b->loop);
	assert_int_equal(b->count, 2);
	/* It was one wait's. */
	alk_timer_stop(b->timer);
	alk_loop_run(b->loop);
	assert_int_equal(b->count, 3);
	/* A guest does not. */
	alk_loop_set_guest(b->loop, on_timeout_nothing, b);
	alk_loop_may_pause(b->loop, true);
	assert_false(alk_loop_pause(b->loop, 1));
	alk_loop_set_guest(b->loop, NULL, NULL);
}

#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_io_reads),
		TEST(test_io_pause_and_resume),
		TEST(test_io_read_and_write),
		TEST(test_io_free_in_its_callback),
		TEST(test_io_freed_while_pending),
		TEST(test_io_fd_number_used_again),
		TEST(test_timer_is_not_early),
		TEST(test_timer_is_not_early_after_a_slow_callback),
		TEST(test_timer_moves_later),
		TEST(test_timer_moves_earlier),
		TEST(test_timer_stopped_does_not_ring),
		TEST(test_timer_free_in_its_callback),
		TEST(test_now_is_monotonic_ms),
		TEST(test_signal),
		TEST(test_task_queued_by_a_task_runs_before_sleep),
		TEST(test_task_rounds_are_bounded),
		TEST(test_task_order_and_cancel),
		TEST(test_task_yields),
		TEST(test_task_runs_after_the_callback),
		TEST(test_hooks_enclose_the_work),
		TEST(test_keep_and_leaks),
		TEST(test_pair),
		TEST(test_pair_of_a_task),
		TEST(test_pause),
		cmocka_unit_test(test_fd_close_keeps_errno),
		cmocka_unit_test(test_err),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
