/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef CONNECT_PLAY_H
#define CONNECT_PLAY_H

/* The front side of `alknet connect` with a session and a pump that are played. */

#include "connect_private.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <cmocka.h>
#include "pump.h"

/* ---- the session, played --------------------------------------------------------------------- */

struct alk_client {
	enum alk_client_state state;
	bool full;
};

struct alk_channel {
	struct alk_destination to;
	const struct alk_channel_ops *ops;
	void *user;
	bool closed;
};

static struct alk_client client;
static struct alk_channel *channels[8];
static size_t n_channels;
static struct {
	int fd, fd_out;
	char first[64];
	size_t first_len;
	alk_pump_done *done;
	void *user;
} pumped;

enum alk_client_state alk_client_get_state(const struct alk_client *c)
{
	return c->state;
}

bool alk_client_ready(const struct alk_client *c)
{
	return c->state == ALK_CLIENT_UP;
}

struct alk_channel *alk_client_open(struct alk_client *c, const struct alk_destination *to,
				    const struct alk_channel_ops *ops, void *user,
				    struct alk_err *err)
{
	struct alk_channel *channel;

	if (c->full) {
		alk_err_set(err, -EMFILE, "too many channels");
		return NULL;
	}
	channel = calloc(1, sizeof(*channel));
	assert_non_null(channel);
	assert_true(n_channels < sizeof(channels) / sizeof(channels[0]));
	channel->to = *to;
	channel->ops = ops;
	channel->user = user;
	channels[n_channels++] = channel;
	return channel;
}

void alk_channel_set_ops(struct alk_channel *channel, const struct alk_channel_ops *ops, void *user)
{
	channel->ops = ops;
	channel->user = user;
}

void alk_channel_close(struct alk_channel *channel)
{
	channel->closed = true;
}

int alk_pump_start(struct alk_channel *channel, int *fd, int *fd_out, const void *first,
		   size_t first_len, alk_pump_done *done, void *user)
{
	static const struct alk_channel_ops none;

	alk_channel_set_ops(channel, &none, NULL);
	pumped.fd = *fd;
	*fd = -1;
	if (fd_out != NULL) {
		pumped.fd_out = *fd_out;
		*fd_out = -1;
	}
	assert_true(first_len <= sizeof(pumped.first));
	if (first_len > 0)
		memcpy(pumped.first, first, first_len);
	pumped.first_len = first_len;
	pumped.done = done;
	pumped.user = user;
	return 0;
}

int alk_pump_start_watched(struct alk_channel *channel, int *fd, struct alk_io **io,
			   const void *first, size_t first_len)
{
	alk_io_free(io);
	return alk_pump_start(channel, fd, NULL, first, first_len, NULL, NULL);
}

static inline void channel_refuse(struct alk_channel *channel, enum alk_open_failure why)
{
	channel->ops->refused(channel->user, channel, why, "said so");
	if (channel->ops->close != NULL)
		channel->ops->close(channel->user, channel);
}

/* ---- the harness ----------------------------------------------------------------------------- */

static struct alk_front front;
static char dir[] = "/tmp/alknet-test-connect-XXXXXX";

static inline int setup(void **state)
{
	struct alk_err err;

	(void)state;
	client = (struct alk_client){.state = ALK_CLIENT_UP};
	front = (struct alk_front){.loop = alk_loop_new(&err),
				   .client = &client,
				   .patience_ms = 10000};
	assert_non_null(front.loop);
	n_channels = 0;
	memset(&pumped, 0, sizeof(pumped));
	pumped.fd = pumped.fd_out = -1;
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	alk_conn_close_all(&front);
	alk_accept_close_all(&front);
	assert_null(front.conns);
	assert_int_equal(front.waiting, 0);
	alk_loop_free(&front.loop);
	for (size_t i = 0; i < n_channels; i++)
		free(channels[i]);
	alk_fd_close(&pumped.fd);
	alk_fd_close(&pumped.fd_out);
	return 0;
}

struct wait {
	bool (*is)(void *user);
	void *user;
	bool was;
	struct alk_timer *again, *late;
};

static inline void on_again(void *user)
{
	struct wait *wait = user;

	wait->was = wait->is(wait->user);
	if (wait->was)
		alk_loop_stop(front.loop);
	else
		alk_timer_start(wait->again, 1);
}

static inline void on_late(void *user)
{
	(void)user;
	alk_loop_stop(front.loop);
}

/* Run the loop until `is` says yes; false when that takes more than `ms`. */
static inline bool run_until(bool (*is)(void *user), void *user, uint64_t ms)
{
	struct wait wait = {.is = is, .user = user};

	wait.again = alk_timer_new(front.loop, "again", on_again, &wait);
	wait.late = alk_timer_new(front.loop, "late", on_late, &wait);
	alk_timer_start(wait.again, 0);
	alk_timer_start(wait.late, ms);
	alk_loop_run(front.loop);
	alk_timer_free(&wait.again);
	alk_timer_free(&wait.late);
	return wait.was;
}

static inline bool has_channels(void *user)
{
	return n_channels == *(size_t *)user;
}

static inline void expect_channels(size_t n)
{
	assert_true(run_until(has_channels, &n, 20000));
}

static inline bool is_waiting(void *user)
{
	return front.waiting == *(unsigned *)user;
}

static inline void expect_waiting(unsigned n)
{
	assert_true(run_until(is_waiting, &n, 20000));
}

static inline bool no_conns(void *user)
{
	(void)user;
	return front.conns == NULL;
}

static inline void expect_no_conns(void)
{
	assert_true(run_until(no_conns, NULL, 20000));
}

struct reading {
	int fd;
	char bytes[1024];
	size_t len, want;
	bool end, reset;
};

static inline bool has_read(void *user)
{
	struct reading *reading = user;
	ssize_t n = recv(reading->fd, reading->bytes + reading->len,
			 sizeof(reading->bytes) - reading->len - 1, MSG_DONTWAIT);

	if (n > 0)
		reading->len += (size_t)n;
	reading->end = n == 0;
	reading->reset = n < 0 && errno != EAGAIN;
	return reading->end || reading->reset || reading->len >= reading->want;
}

/* Exactly these bytes come. */
static inline void expect_bytes(int fd, const void *bytes, size_t n)
{
	struct reading reading = {.fd = fd, .want = n};

	assert_true(run_until(has_read, &reading, 20000));
	assert_int_equal(reading.len, n);
	assert_memory_equal(reading.bytes, bytes, n);
}

/* These bytes, then the end, and no reset that could have eaten them. */
static inline void expect_last_bytes(int fd, const void *bytes, size_t n)
{
	struct reading reading = {.fd = fd, .want = sizeof(reading.bytes) - 1};

	assert_true(run_until(has_read, &reading, 20000));
	assert_true(reading.end);
	assert_true(reading.len >= n);
	assert_memory_equal(reading.bytes, bytes, n);
}

/* Where the listener listens, from what it announces. */
static inline void announced(char *text, size_t size)
{
	int ends[2], saved = dup(STDERR_FILENO);
	ssize_t n;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	fflush(stderr);
	dup2(ends[1], STDERR_FILENO);
	alk_accept_announce(&front);
	fflush(stderr);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(ends[1]);
	n = read(ends[0], text, size - 1);
	close(ends[0]);
	assert_true(n >= 0);
	text[n] = '\0';
}

static inline int dial(uint16_t port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

static inline uint16_t proxy_start(void)
{
	struct alk_err err = {""};
	char text[256];
	unsigned port = 0;

	assert_int_equal(alk_accept_proxy(&front, "127.0.0.1:0", &err), 0);
	assert_int_equal(alk_accept_start(&front), 0);
	announced(text, sizeof(text));
	assert_int_equal(sscanf(text, "alknet: SOCKS5 and HTTP proxy on 127.0.0.1:%u", &port), 1);
	assert_true(port > 0 && port < 65536);
	return (uint16_t)port;
}

static inline void say(int fd, const void *bytes, size_t n)
{
	assert_int_equal(send(fd, bytes, n, MSG_NOSIGNAL), n);
}

#define SAY(fd_, text_) say((fd_), (text_), sizeof(text_) - 1)
#define ASK                                                                                        \
	"\x05\x01\x00\x05\x01\x00\x03\x0b"                                                         \
	"example.org"                                                                              \
	"\x00\x50"
#define REPLY(code_) "\x05\x00\x05" code_ "\x00\x01\x00\x00\x00\x00\x00\x00"

static inline uint16_t forward_start(const char *spec)
{
	struct alk_err err = {""};
	char text[256];
	unsigned port = 0;

	assert_int_equal(alk_accept_forward(&front, spec, &err), 0);
	assert_int_equal(alk_accept_start(&front), 0);
	announced(text, sizeof(text));
	assert_int_equal(sscanf(text, "alknet: forwarding 127.0.0.1:%u to ", &port), 1);
	return (uint16_t)port;
}

#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)

#endif
