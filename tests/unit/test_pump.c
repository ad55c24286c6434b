/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The pump against a channel of our own making: alk_channel_* below stand in for ssh_channel.c. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
#include "pump.h"

struct alk_channel {
	struct alk_loop *loop;
	const struct alk_channel_ops *ops;
	void *user;
	size_t window;
	uint8_t got[1 << 20]; /* what the pump wrote */
	size_t got_len;
	bool eof, closed, resumed, full;
};

size_t alk_channel_room(struct alk_channel *c)
{
	c->full = c->window == 0;
	return c->window;
}

ssize_t alk_channel_write(struct alk_channel *c, const void *bytes, size_t n)
{
	if (n > c->window) {
		n = c->window;
		c->full = true;
	}
	assert_true(c->got_len + n <= sizeof(c->got));
	memcpy(c->got + c->got_len, bytes, n);
	c->got_len += n;
	c->window -= n;
	return (ssize_t)n;
}

void alk_channel_eof(struct alk_channel *c)
{
	assert_false(c->eof);
	c->eof = true;
}

void alk_channel_close(struct alk_channel *c)
{
	c->closed = true;
}

void alk_channel_resume(struct alk_channel *c)
{
	c->resumed = true;
}

struct alk_loop *alk_channel_loop(const struct alk_channel *c)
{
	return c->loop;
}

void alk_channel_set_ops(struct alk_channel *c, const struct alk_channel_ops *ops, void *user)
{
	c->ops = ops;
	c->user = user;
}

struct rig {
	struct alk_channel c;
	struct alk_timer *deadline;
	struct alk_task check;
	int app; /* the application's end of the fd */
	bool (*until)(struct rig *rig);
	int done, rc, expected;
	bool untold; /* nobody asked to be told of the end */
};

static void on_deadline(void *user)
{
	(void)user;
	fail_msg("%s", "the condition did not come true in 10 s");
}

static void on_sleep(void *user)
{
	struct rig *rig = user;

	if (rig->until && rig->until(rig))
		alk_loop_stop(rig->c.loop);
}

static void run_until(struct rig *rig, bool (*until)(struct rig *rig))
{
	rig->until = until;
	if (!until(rig))
		alk_loop_run(rig->c.loop);
	assert_true(until(rig));
}

static void on_done(void *user, int rc)
{
	((struct rig *)user)->done++;
	((struct rig *)user)->rc = rc;
}

static void rig_start(struct rig *rig, const char *first)
{
	int pair[2], small = 4096;

	assert_int_equal(0,
			 socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	rig->app = pair[1];
	assert_int_equal(0, alk_pump_start(&rig->c, &pair[0], NULL, first,
					   first ? strlen(first) : 0, on_done, rig));
	assert_int_equal(-1, pair[0]);
	assert_true(rig->c.resumed);
}

static int setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	rig->c.loop = alk_loop_new(NULL);
	rig->c.window = sizeof(rig->c.got);
	rig->expected = -ECONNRESET; /* most tests leave the channel before its end */
	rig->deadline = alk_timer_new(rig->c.loop, "deadline", on_deadline, rig);
	alk_timer_start(rig->deadline, 10000);
	alk_loop_set_hooks(rig->c.loop, NULL, on_sleep, rig);
	*state = rig;
	return 0;
}

static int teardown(void **state)
{
	struct rig *rig = *state;

	if (rig->c.ops)
		rig->c.ops->close(rig->c.user, &rig->c);
	assert_int_equal(rig->untold ? 0 : 1, rig->done);
	assert_int_equal(rig->untold ? 0 : rig->expected, rig->rc);
	alk_fd_close(&rig->app);
	alk_timer_free(&rig->deadline);
	alk_loop_free(&rig->c.loop);
	free(rig);
	return 0;
}

static bool got_hello(struct rig *rig)
{
	return rig->c.got_len == 5;
}

static bool got_eof(struct rig *rig)
{
	return rig->c.eof;
}

static bool is_closed(struct rig *rig)
{
	return rig->c.closed;
}

static bool is_full(struct rig *rig)
{
	return rig->c.full;
}

static bool is_resumed(struct rig *rig)
{
	return rig->c.resumed;
}

static void test_fd_to_channel(void **state)
{
	struct rig *rig = *state;

	rig_start(rig, NULL);
	assert_int_equal(5, write(rig->app, "hello", 5));
	run_until(rig, got_hello);
	assert_memory_equal("hello", rig->c.got, 5);
}

/* The end of one direction is told, and the other goes on. */
static void test_half_close(void **state)
{
	struct rig *rig = *state;
	char buf[8];

	rig_start(rig, NULL);
	assert_int_equal(0, shutdown(rig->app, SHUT_WR));
	run_until(rig, got_eof);
	assert_false(rig->c.closed);
	assert_int_equal(4, rig->c.ops->data(rig->c.user, &rig->c, (const uint8_t *)"back", 4));
	assert_int_equal(4, read(rig->app, buf, sizeof(buf)));
	rig->c.ops->eof(rig->c.user, &rig->c);
	assert_true(rig->c.closed);
	rig->expected = 0;
}

static void test_half_close_other_way(void **state)
{
	struct rig *rig = *state;
	char buf[8];

	rig_start(rig, NULL);
	rig->c.ops->eof(rig->c.user, &rig->c);
	assert_int_equal(0, read(rig->app, buf, sizeof(buf)));
	assert_false(rig->c.closed);
	assert_int_equal(5, write(rig->app, "hello", 5));
	run_until(rig, got_hello);
	assert_int_equal(0, shutdown(rig->app, SHUT_WR));
	run_until(rig, is_closed);
	rig->expected = 0;
}

/* A full channel stops the fd; nothing is read that has no room; drain goes on. */
static void test_full_channel(void **state)
{
	struct rig *rig = *state;

	rig->c.window = 3;
	rig_start(rig, NULL);
	assert_int_equal(5, write(rig->app, "hello", 5));
	run_until(rig, is_full);
	assert_int_equal(3, rig->c.got_len);
	rig->c.window = 100;
	rig->c.ops->drain(rig->c.user, &rig->c);
	run_until(rig, got_hello);
	assert_memory_equal("hello", rig->c.got, 5);
}

/* An fd that takes no more stops the channel, and resumes it when it can. */
static void test_full_fd(void **state)
{
	struct rig *rig = *state;
	uint8_t *big = calloc(1, 1 << 20);
	size_t taken, n = 0;
	ssize_t r;

	rig_start(rig, NULL);
	rig->c.resumed = false;
	taken = rig->c.ops->data(rig->c.user, &rig->c, big, 1 << 20);
	assert_true(taken < 1 << 20);
	assert_int_equal(0, rig->c.ops->data(rig->c.user, &rig->c, big, 1));
	while ((r = read(rig->app, big, 1 << 20)) > 0)
		n += (size_t)r;
	assert_int_equal(taken, n);
	run_until(rig, is_resumed);
	assert_int_equal(1, rig->c.ops->data(rig->c.user, &rig->c, big, 1));
	free(big);
}

static void test_first_bytes(void **state)
{
	struct rig *rig = *state;

	rig->c.window = 2;
	rig_start(rig, "hel");
	assert_int_equal(2, rig->c.got_len);
	assert_int_equal(2, write(rig->app, "lo", 2));
	rig->c.window = 100;
	rig->c.ops->drain(rig->c.user, &rig->c);
	run_until(rig, got_hello);
	assert_memory_equal("hello", rig->c.got, 5);
}

static void on_other(void *user, int revents)
{
	(void)user, (void)revents;
	fail_msg("the watcher is the pump's now");
}

static void test_watched_fd(void **state)
{
	struct rig *rig = *state;
	struct alk_io *io;
	int pair[2];

	assert_int_equal(0,
			 socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
	rig->app = pair[1];
	io = alk_io_new(rig->c.loop, pair[0], "other", on_other, NULL);
	assert_non_null(io);
	alk_io_set(io, ALK_IO_READ);
	assert_int_equal(0, alk_pump_start_watched(&rig->c, &pair[0], &io, "so ", 3));
	assert_null(io);
	assert_int_equal(-1, pair[0]);
	assert_int_equal(3, rig->c.got_len);
	assert_int_equal(2, write(rig->app, "it", 2));
	run_until(rig, got_hello);
	assert_memory_equal("so it", rig->c.got, 5);
	rig->untold = true;
}

/* A target that reads no more does not lose what it wrote before. */
static void test_peer_reads_no_more(void **state)
{
	struct rig *rig = *state;

	rig_start(rig, NULL);
	assert_int_equal(5, write(rig->app, "hello", 5));
	alk_fd_close(&rig->app);
	assert_int_equal(4, rig->c.ops->data(rig->c.user, &rig->c, (const uint8_t *)"lost", 4));
	run_until(rig, got_hello);
	run_until(rig, is_closed);
	rig->expected = -EPIPE;
}

static void test_plain_file(void **state)
{
	struct rig *rig = *state;
	char path[] = "/tmp/alknet-pump-XXXXXX";
	int in = mkstemp(path), out = open("/dev/null", O_WRONLY | O_CLOEXEC);

	assert_true(in >= 0 && out >= 0);
	unlink(path);
	assert_int_equal(5, write(in, "hello", 5));
	assert_int_equal(0, lseek(in, 0, SEEK_SET));
	rig->app = -1;
	assert_int_equal(0, alk_pump_start(&rig->c, &in, &out, NULL, 0, on_done, rig));
	run_until(rig, got_eof);
	assert_memory_equal("hello", rig->c.got, 5);
	assert_int_equal(3, rig->c.ops->data(rig->c.user, &rig->c, (const uint8_t *)"abc", 3));
	rig->c.ops->eof(rig->c.user, &rig->c);
	assert_true(rig->c.closed);
	rig->expected = 0;
}

/* What cannot be written is told, not swallowed. */
static void test_full_disk(void **state)
{
	struct rig *rig = *state;
	int in = open("/dev/null", O_RDONLY | O_CLOEXEC),
	    out = open("/dev/full", O_WRONLY | O_CLOEXEC);

	assert_true(in >= 0 && out >= 0);
	rig->app = -1;
	assert_int_equal(0, alk_pump_start(&rig->c, &in, &out, NULL, 0, on_done, rig));
	assert_int_equal(3, rig->c.ops->data(rig->c.user, &rig->c, (const uint8_t *)"abc", 3));
	assert_true(rig->c.closed);
	rig->expected = -ENOSPC;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_fd_to_channel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_half_close, setup, teardown),
		cmocka_unit_test_setup_teardown(test_half_close_other_way, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_channel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_fd, setup, teardown),
		cmocka_unit_test_setup_teardown(test_first_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_watched_fd, setup, teardown),
		cmocka_unit_test_setup_teardown(test_peer_reads_no_more, setup, teardown),
		cmocka_unit_test_setup_teardown(test_plain_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_disk, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
