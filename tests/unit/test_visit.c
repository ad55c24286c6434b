/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A loop on its thread, and another thread in its place. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <alknet/loop.h>
#include "loop_private.h"

struct bench {
	struct alk_loop *loop;
	struct alk_io *io;
	struct alk_task task;
	int fd[2];
	int count, seen;
	atomic_int began, may_end;
};

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
	alk_loop_free(&b->loop);
	alk_fd_close(&b->fd[0]);
	alk_fd_close(&b->fd[1]);
	free(b);
	return 0;
}

static void *run_loop(void *user)
{
	alk_loop_run(user);
	return NULL;
}

/* The loop of a bench on a thread; it watches fd[0], and hears on `stop` that it shall end. */
static void share(struct bench *b, pthread_t *thread, int stop[2], alk_io_fn *on_stop_byte)
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, stop),
			 0);
	b->io = alk_io_new(b->loop, stop[0], "stop", on_stop_byte, b);
	alk_io_set(b->io, ALK_IO_READ);
	alk_loop_share(b->loop);
	assert_int_equal(pthread_create(thread, NULL, run_loop, b->loop), 0);
}

static void on_stop_byte(void *user, int revents)
{
	struct bench *b = user;

	(void)revents;
	alk_loop_stop(b->loop);
}

static void end_sharing(pthread_t thread, int stop[2])
{
	assert_int_equal(write(stop[1], "x", 1), 1);
	pthread_join(thread, NULL);
	close(stop[0]);
	close(stop[1]);
}

static void on_lent_read(void *user, int revents)
{
	struct bench *b = user;
	char c[8];

	assert_int_equal(revents, ALK_IO_READ);
	b->count += (int)read(b->fd[0], c, sizeof(c));
}

static void on_count(void *user)
{
	struct bench *b = user;

	b->seen++;
}

static bool is_readable(int fd)
{
	struct pollfd in = {.fd = fd, .events = POLLIN};

	return poll(&in, 1, 0) == 1;
}

static void test_visit(void **state)
{
	struct bench *b = *state;
	struct alk_timer *timer;
	struct alk_io *lent;
	pthread_t thread;
	int stop[2], epoll = epoll_create1(EPOLL_CLOEXEC);

	lent = alk_io_new(b->loop, b->fd[0], "lent", on_lent_read, b);
	alk_io_set(lent, ALK_IO_READ);
	assert_int_equal(alk_io_lend(lent, epoll), -ENOTSUP); /* nobody can visit */
	share(b, &thread, stop, on_stop_byte);
	assert_true(alk_loop_enter(b->loop, true));
	assert_int_equal(alk_io_lend(lent, epoll), 0);
	assert_int_equal(alk_io_lend(lent, epoll), 0);
	assert_true(alk_io_lent(lent));
	assert_false(alk_loop_leave(b->loop)); /* nothing else is waited for */
	/* What comes is the visitor's, in the loop's name; tasks run before the visit ends. */
	assert_int_equal(write(b->fd[1], "abc", 3), 3);
	while (!is_readable(epoll))
		;
	assert_true(alk_loop_enter(b->loop, true));
	b->task = (struct alk_task){.fn = on_count, .user = b};
	alk_task_queue(b->loop, &b->task);
	assert_int_equal(b->count, 0);
	assert_int_equal(alk_loop_serve(epoll), 1);
	assert_int_equal(b->count, 3);
	assert_int_equal(b->seen, 0);
	assert_false(alk_loop_leave(b->loop));
	assert_int_equal(b->seen, 1);
	assert_false(is_readable(epoll));
	/* What changes what the loop waits for has it woken: a timer, other events, and a watcher
	 * that comes back. */
	assert_true(alk_loop_enter(b->loop, true));
	timer = alk_timer_new(b->loop, "timer", on_count, b);
	alk_timer_start(timer, 100000);
	assert_true(alk_loop_leave(b->loop));
	assert_true(alk_loop_enter(b->loop, true));
	alk_timer_start(timer, 200000);
	assert_false(alk_loop_leave(b->loop));
	assert_true(alk_loop_enter(b->loop, true));
	alk_timer_free(&timer);
	alk_io_set(lent, ALK_IO_READ);
	assert_true(alk_io_lent(lent));
	assert_false(alk_loop_leave(b->loop));
	assert_true(alk_loop_enter(b->loop, true));
	alk_io_set(lent, ALK_IO_READ | ALK_IO_WRITE);
	assert_false(alk_io_lent(lent));
	assert_int_equal(alk_io_lend(lent, epoll), -ENOTSUP);
	alk_io_set(lent, ALK_IO_READ);
	assert_int_equal(alk_io_lend(lent, epoll), 0);
	alk_io_recall(lent);
	assert_true(alk_loop_leave(b->loop));
	assert_int_equal(write(b->fd[1], "abc", 3), 3);
	assert_false(is_readable(epoll));
	/* One that ends is no more in the instance. */
	assert_true(alk_loop_enter(b->loop, true));
	assert_int_equal(alk_io_lend(lent, epoll), 0);
	assert_true(is_readable(epoll) || b->count == 6); /* the loop may have been quicker */
	alk_io_free(&lent);
	assert_int_equal(alk_loop_serve(epoll), 0);
	alk_loop_leave(b->loop);
	end_sharing(thread, stop);
	close(epoll);
}

static void on_busy(void *user, int revents)
{
	struct bench *b = user;
	char c;

	(void)revents;
	if (read(b->fd[0], &c, 1) != 1)
		return;
	atomic_store(&b->began, 1);
	while (atomic_load(&b->may_end) == 0)
		;
}

/* While the loop works nobody visits it, and a visitor may wait. */
static void test_visit_waits_for_the_turn(void **state)
{
	struct bench *b = *state;
	struct alk_io *busy;
	pthread_t thread;
	int stop[2];

	busy = alk_io_new(b->loop, b->fd[0], "busy", on_busy, b);
	alk_io_set(busy, ALK_IO_READ);
	share(b, &thread, stop, on_stop_byte);
	assert_int_equal(write(b->fd[1], "x", 1), 1);
	while (atomic_load(&b->began) == 0)
		;
	assert_false(alk_loop_enter(b->loop, false));
	atomic_store(&b->may_end, 1);
	assert_true(alk_loop_enter(b->loop, true));
	alk_io_free(&busy);
	alk_loop_leave(b->loop);
	end_sharing(thread, stop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_visit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_visit_waits_for_the_turn, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
