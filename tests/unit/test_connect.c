/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The front side of `alknet connect`, with a session and a pump that are played here. */
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

/* ---- the session, played ------------------------------------------------------------------------ */

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

static void channel_refuse(struct alk_channel *channel, enum alk_open_failure why)
{
	channel->ops->refused(channel->user, channel, why, "said so");
	if (channel->ops->close != NULL)
		channel->ops->close(channel->user, channel);
}

/* ---- the harness -------------------------------------------------------------------------------- */

static struct alk_front front;
static char dir[] = "/tmp/alknet-test-connect-XXXXXX";

static int setup(void **state)
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

static int teardown(void **state)
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

static void on_again(void *user)
{
	struct wait *wait = user;

	wait->was = wait->is(wait->user);
	if (wait->was)
		alk_loop_stop(front.loop);
	else
		alk_timer_start(wait->again, 1);
}

static void on_late(void *user)
{
	(void)user;
	alk_loop_stop(front.loop);
}

/* Run the loop until `is` says yes; false when that takes more than `ms`. */
static bool run_until(bool (*is)(void *user), void *user, uint64_t ms)
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

static bool has_channels(void *user)
{
	return n_channels == *(size_t *)user;
}

static void expect_channels(size_t n)
{
	assert_true(run_until(has_channels, &n, 20000));
}

static bool is_waiting(void *user)
{
	return front.waiting == *(unsigned *)user;
}

static void expect_waiting(unsigned n)
{
	assert_true(run_until(is_waiting, &n, 20000));
}

static bool no_conns(void *user)
{
	(void)user;
	return front.conns == NULL;
}

static void expect_no_conns(void)
{
	assert_true(run_until(no_conns, NULL, 20000));
}

struct reading {
	int fd;
	char bytes[1024];
	size_t len, want;
	bool end, reset;
};

static bool has_read(void *user)
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
static void expect_bytes(int fd, const void *bytes, size_t n)
{
	struct reading reading = {.fd = fd, .want = n};

	assert_true(run_until(has_read, &reading, 20000));
	assert_int_equal(reading.len, n);
	assert_memory_equal(reading.bytes, bytes, n);
}

/* These bytes, then the end, and no reset that could have eaten them. */
static void expect_last_bytes(int fd, const void *bytes, size_t n)
{
	struct reading reading = {.fd = fd, .want = sizeof(reading.bytes) - 1};

	assert_true(run_until(has_read, &reading, 20000));
	assert_true(reading.end);
	assert_true(reading.len >= n);
	assert_memory_equal(reading.bytes, bytes, n);
}

/* Where the listener listens, from what it announces. */
static void announced(char *text, size_t size)
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

static int dial(uint16_t port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

static uint16_t proxy_start(void)
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

static void say(int fd, const void *bytes, size_t n)
{
	assert_int_equal(send(fd, bytes, n, MSG_NOSIGNAL), n);
}

#define SAY(fd_, text_) say((fd_), (text_), sizeof(text_) - 1)
#define ASK                                                                                        \
	"\x05\x01\x00\x05\x01\x00\x03\x0b"                                                         \
	"example.org"                                                                              \
	"\x00\x50"
#define REPLY(code_) "\x05\x00\x05" code_ "\x00\x01\x00\x00\x00\x00\x00\x00"

/* ---- the proxy port ----------------------------------------------------------------------------- */

static void test_socks_opens(void **state)
{
	int fd = dial(proxy_start());
	struct sockaddr_in self;
	socklen_t len = sizeof(self);

	(void)state;
	SAY(fd, ASK "early");
	expect_channels(1);
	assert_string_equal(channels[0]->to.host, "example.org");
	assert_int_equal(channels[0]->to.port, 80);
	assert_string_equal(channels[0]->to.originator, "127.0.0.1");
	assert_int_equal(getsockname(fd, (struct sockaddr *)&self, &len), 0);
	assert_int_equal(channels[0]->to.originator_port, ntohs(self.sin_port));
	/* Success is not told before the server told it. */
	expect_bytes(fd, "\x05\x00", 2);
	channels[0]->ops->opened(channels[0]->user, channels[0]);
	expect_bytes(fd, "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00", 10);
	assert_true(pumped.fd >= 0);
	assert_int_equal(pumped.first_len, 5);
	assert_memory_equal(pumped.first, "early", 5);
	assert_false(channels[0]->closed);
	/* An open channel costs nothing here. */
	assert_null(front.conns);
	close(fd);
}

static void test_http_opens(void **state)
{
	int fd = dial(proxy_start());

	(void)state;
	SAY(fd, "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n");
	expect_channels(1);
	assert_string_equal(channels[0]->to.host, "::1");
	assert_int_equal(channels[0]->to.port, 443);
	channels[0]->ops->opened(channels[0]->user, channels[0]);
	expect_bytes(fd, "HTTP/1.1 200 Connection established\r\n\r\n", 39);
	assert_int_equal(pumped.first_len, 0);
	close(fd);
}

static void test_row68_byte_by_byte(void **state)
{
	int fd = dial(proxy_start());
	static const char ask[] = ASK;
	int one = 1;

	(void)state;
	setsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &one, sizeof(one));
	say(fd, ask, 1);
	say(fd, ask + 1, 1);
	say(fd, ask + 2, 1);
	expect_bytes(fd, "\x05\x00", 2);
	for (size_t i = 3; i < sizeof(ask) - 1; i++) {
		assert_int_equal(n_channels, 0);
		say(fd, ask + i, 1);
	}
	expect_channels(1);
	close(fd);
}

static void test_refused_is_told(void **state)
{
	int fd = dial(proxy_start());

	(void)state;
	/* What came early must not turn the answer into a reset. */
	SAY(fd, ASK "early");
	expect_channels(1);
	channel_refuse(channels[0], ALK_OPEN_REFUSED);
	expect_last_bytes(fd, REPLY("\x05"), 12);
	close(fd);
	expect_no_conns();
}

static uint16_t forward_start(const char *spec);

static void test_session_gone_is_told(void **state)
{
	int fd = dial(proxy_start());

	(void)state;
	front.patience_ms = 50;
	SAY(fd, ASK);
	expect_channels(1);
	client.state = ALK_CLIENT_DOWN;
	channel_refuse(channels[0], ALK_OPEN_GONE);
	expect_last_bytes(fd, REPLY("\x01"), 12);
	close(fd);
	expect_no_conns();
}

static void on_wanted(void *user)
{
	++*(unsigned *)user;
}

/* A channel that was not open yet when the session ended is asked for again from the next one, once. */
static void test_carried_over(void **state)
{
	int fd = dial(proxy_start());
	unsigned wanted = 0;

	(void)state;
	front.wanted = on_wanted;
	front.user = &wanted;
	SAY(fd, ASK "early");
	expect_channels(1);
	client.state = ALK_CLIENT_DOWN;
	channel_refuse(channels[0], ALK_OPEN_GONE);
	assert_int_equal(front.waiting, 1);
	assert_int_equal(wanted, 1);
	client.state = ALK_CLIENT_UP;
	alk_conn_open_waiting(&front);
	assert_int_equal(n_channels, 2);
	assert_string_equal(channels[1]->to.host, "example.org");
	client.state = ALK_CLIENT_DOWN;
	channel_refuse(channels[1], ALK_OPEN_GONE);
	assert_int_equal(front.waiting, 0);
	expect_last_bytes(fd, REPLY("\x01"), 12);
	close(fd);
	expect_no_conns();
}

static void test_forward_is_carried_over(void **state)
{
	int fd = dial(forward_start("0:h:25"));

	(void)state;
	SAY(fd, "data");
	expect_channels(1);
	client.state = ALK_CLIENT_DOWN;
	channel_refuse(channels[0], ALK_OPEN_GONE);
	client.state = ALK_CLIENT_UP;
	alk_conn_open_waiting(&front);
	assert_int_equal(n_channels, 2);
	channels[1]->ops->opened(channels[1]->user, channels[1]);
	expect_bytes(pumped.fd, "data", 4);
	close(fd);
}

static void test_proxy_asks_for_a_login(void **state)
{
	int fd, plain;
	uint16_t port;

	(void)state;
	front.auth = "u:p";
	port = proxy_start();
	plain = dial(port);
	SAY(plain, "\x05\x01\x00");
	expect_last_bytes(plain, "\x05\xff", 2);
	close(plain);
	plain = dial(port);
	SAY(plain, "CONNECT h:1 HTTP/1.1\r\n\r\n");
	expect_last_bytes(plain, "HTTP/1.1 407 ", 13);
	close(plain);
	fd = dial(port);
	SAY(fd, "\x05\x01\x02\x01\x01u\x01p\x05\x01\x00\x01\x01\x02\x03\x04\x00\x50"
		"early");
	expect_channels(1);
	expect_bytes(fd, "\x05\x02\x01\x00", 4);
	channels[0]->ops->opened(channels[0]->user, channels[0]);
	assert_int_equal(pumped.first_len, 5);
	close(fd);
}

static void test_removed_forward(void **state)
{
	struct alk_err err = {""};
	struct alk_accept_info info;
	const struct alk_accept *accept;
	struct sockaddr_in to = {.sin_family = AF_INET};
	uint16_t port = forward_start("0:h:25");
	uint64_t first = front.last_forward;
	int fd = dial(port), late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	expect_channels(1);
	assert_int_equal(alk_accept_forward(&front, "0:g:26", &err), 0);
	assert_false(alk_accept_remove(&front, 0));
	assert_false(alk_accept_remove(&front, 77));
	assert_true(alk_accept_remove(&front, first));
	assert_false(alk_accept_remove(&front, first));
	to.sin_port = htons(port);
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(late, (struct sockaddr *)&to, sizeof(to)), -1);
	assert_int_equal(errno, ECONNREFUSED);
	/* What came through it goes on. */
	channels[0]->ops->opened(channels[0]->user, channels[0]);
	assert_true(pumped.fd >= 0);
	accept = alk_accept_next(&front, NULL, &info);
	assert_non_null(accept);
	assert_string_equal(info.to, "g:26");
	assert_null(alk_accept_next(&front, accept, &info));
	close(fd);
	close(late);
}

static void test_too_many_channels_is_told(void **state)
{
	int fd = dial(proxy_start());

	(void)state;
	client.full = true;
	SAY(fd, "CONNECT h:1 HTTP/1.1\r\n\r\n");
	expect_last_bytes(fd, "HTTP/1.1 502 Bad Gateway\r\n", 26);
	close(fd);
	expect_no_conns();
}

static void test_bad_request_is_told(void **state)
{
	static char big[16384];
	int fd = dial(proxy_start());

	(void)state;
	memset(big, 'a', sizeof(big));
	SAY(fd, "CONNECT ");
	say(fd, big, sizeof(big));
	expect_last_bytes(fd, "HTTP/1.1 431 ", 13);
	assert_int_equal(n_channels, 0);
	close(fd);
	expect_no_conns();
}

static void test_longest_head(void **state)
{
	static char head[8192];
	int fd = dial(proxy_start());

	(void)state;
	memset(head, 'a', sizeof(head));
	memcpy(head, "CONNECT h:1 HTTP/1.1\r\nA: ", 25);
	memcpy(head + sizeof(head) - 4, "\r\n\r\n", 4);
	say(fd, head, sizeof(head));
	SAY(fd, "early");
	expect_channels(1);
	close(fd);
}

static void test_client_closes_while_pending(void **state)
{
	int fd = dial(proxy_start());

	(void)state;
	SAY(fd, ASK);
	expect_channels(1);
	close(fd);
	expect_no_conns();
	assert_true(channels[0]->closed);
	/* What the session says about it later reaches nobody. */
	assert_null(channels[0]->ops->refused);
}

static void test_client_resets_while_pending(void **state)
{
	struct linger reset = {.l_onoff = 1};
	int fd = dial(proxy_start());

	(void)state;
	SAY(fd, ASK "early");
	expect_channels(1);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
	channels[0]->ops->opened(channels[0]->user, channels[0]);
	assert_null(front.conns);
}

static void test_client_closes_early(void **state)
{
	uint16_t port = proxy_start();
	int fd = dial(port), other = dial(port);

	(void)state;
	SAY(fd, "\x05\x01");
	close(fd);
	close(other);
	fd = dial(port);
	SAY(fd, ASK);
	expect_channels(1);
	close(fd);
	expect_no_conns();
	assert_int_equal(n_channels, 1);
}

/* ---- no session --------------------------------------------------------------------------------- */

static void test_waits_for_a_session(void **state)
{
	uint16_t port = proxy_start();
	int first = dial(port), second = dial(port);

	(void)state;
	client.state = ALK_CLIENT_DIALING;
	SAY(first, ASK);
	SAY(second, "CONNECT h:1 HTTP/1.1\r\n\r\n");
	expect_waiting(2);
	assert_int_equal(n_channels, 0);
	close(second);
	expect_waiting(1);
	client.state = ALK_CLIENT_UP;
	alk_conn_open_waiting(&front);
	expect_channels(1);
	assert_string_equal(channels[0]->to.host, "example.org");
	assert_int_equal(front.waiting, 0);
	close(first);
}

static void test_waits_no_longer_than_its_patience(void **state)
{
	int fd = dial(proxy_start());

	(void)state;
	front.patience_ms = 50;
	client.state = ALK_CLIENT_DOWN;
	SAY(fd, ASK);
	expect_last_bytes(fd, REPLY("\x01"), 12);
	close(fd);
	expect_no_conns();
}

static void test_row68_silence(void **state)
{
	int fd = dial(proxy_start());
	struct reading reading = {.fd = fd, .want = 1};

	(void)state;
	front.patience_ms = 50;
	SAY(fd, "\x05");
	assert_true(run_until(has_read, &reading, 20000));
	assert_true(reading.end || reading.reset);
	assert_int_equal(reading.len, 0);
	assert_null(front.conns);
	close(fd);
}

static void test_only_so_many_wait(void **state)
{
	enum {
		MANY = 257
	};
	uint16_t port = proxy_start();
	int fds[MANY];

	(void)state;
	client.state = ALK_CLIENT_DOWN;
	for (size_t i = 0; i < MANY - 1; i++) {
		fds[i] = dial(port);
		SAY(fds[i], ASK);
		expect_waiting((unsigned)i + 1);
	}
	fds[MANY - 1] = dial(port);
	SAY(fds[MANY - 1], ASK);
	expect_last_bytes(fds[MANY - 1], REPLY("\x01"), 12);
	assert_int_equal(front.waiting, MANY - 1);
	for (size_t i = 0; i < MANY; i++)
		close(fds[i]);
}

/* ---- forwards ----------------------------------------------------------------------------------- */

static uint16_t forward_start(const char *spec)
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

static void test_forward_opens(void **state)
{
	int fd = dial(forward_start("0:[2001:db8::1]:25"));

	(void)state;
	SAY(fd, "data of the application");
	expect_channels(1);
	assert_string_equal(channels[0]->to.host, "2001:db8::1");
	assert_int_equal(channels[0]->to.port, 25);
	assert_string_equal(channels[0]->to.path, "");
	channels[0]->ops->opened(channels[0]->user, channels[0]);
	assert_true(pumped.fd >= 0);
	/* It is still in the socket. */
	assert_int_equal(pumped.first_len, 0);
	expect_bytes(pumped.fd, "data of the application", 23);
	close(fd);
}

static void test_forward_keeps_a_half_closed_reader(void **state)
{
	int fd = dial(forward_start("0:h:25"));
	size_t n = 2;

	(void)state;
	shutdown(fd, SHUT_WR);
	expect_channels(1);
	assert_false(run_until(has_channels, &n, 50));
	assert_false(channels[0]->closed);
	channels[0]->ops->opened(channels[0]->user, channels[0]);
	assert_true(pumped.fd >= 0);
	close(fd);
}

static void test_forward_refused_closes(void **state)
{
	int fd = dial(forward_start("127.0.0.1:0:h:25"));

	(void)state;
	expect_channels(1);
	channel_refuse(channels[0], ALK_OPEN_REFUSED);
	expect_last_bytes(fd, "", 0);
	assert_null(front.conns);
	close(fd);
}

static void test_forward_to_unix(void **state)
{
	int fd = dial(forward_start("0:/run/there.sock"));

	(void)state;
	expect_channels(1);
	assert_string_equal(channels[0]->to.path, "/run/there.sock");
	assert_string_equal(channels[0]->to.host, "");
	close(fd);
}

static int dial_unix(const char *path)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0)
		alk_fd_close(&fd);
	return fd;
}

static void test_forward_from_unix(void **state)
{
	char path[64], spec[128], text[256], line[256];
	struct alk_err err = {""};
	struct stat st;
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/s", dir);
	snprintf(spec, sizeof(spec), "%s:h:25", path);
	assert_int_equal(alk_accept_forward(&front, spec, &err), 0);
	assert_int_equal(alk_accept_start(&front), 0);
	announced(text, sizeof(text));
	snprintf(line, sizeof(line), "alknet: forwarding %s to h:25\n", path);
	assert_string_equal(text, line);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);

	fd = dial_unix(path);
	assert_true(fd >= 0);
	expect_channels(1);
	assert_string_equal(channels[0]->to.originator, "127.0.0.1");
	assert_int_equal(channels[0]->to.originator_port, 0);
	/* A unix socket does tell a close from a half-close. */
	close(fd);
	expect_no_conns();
	assert_true(channels[0]->closed);

	/* The path is taken while we listen, and free afterwards. */
	assert_int_equal(alk_accept_forward(&front, spec, &err), -EADDRINUSE);
	assert_non_null(strstr(err.text, path));
	assert_non_null(strstr(err.text, "--forward"));
	alk_accept_close_all(&front);
	assert_int_equal(stat(path, &st), -1);
}

static void test_stale_unix_socket_is_replaced(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char spec[128];
	struct alk_err err = {""};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/stale", dir);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
	snprintf(spec, sizeof(spec), "%s:h:25", addr.sun_path);
	assert_int_equal(alk_accept_forward(&front, spec, &err), 0);
	fd = dial_unix(addr.sun_path);
	assert_true(fd >= 0);
	close(fd);
}

static void test_other_files_stay(void **state)
{
	char path[64], spec[128];
	struct alk_err err = {""};
	struct stat st;
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/file", dir);
	snprintf(spec, sizeof(spec), "%s:h:25", path);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(alk_accept_forward(&front, spec, &err), -EEXIST);
	assert_int_equal(stat(path, &st), 0);
	unlink(path);

	/* One that took our path's place is not ours to remove. */
	assert_int_equal(alk_accept_forward(&front, spec, &err), 0);
	unlink(path);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	alk_accept_close_all(&front);
	assert_int_equal(stat(path, &st), 0);
	unlink(path);
}

static void test_ipv6_forward(void **state)
{
	struct alk_err err = {""};
	char text[256];
	unsigned port = 0;

	(void)state;
	if (alk_accept_forward(&front, "[::1]:0:h:25", &err) == -EADDRNOTAVAIL)
		skip();
	announced(text, sizeof(text));
	assert_int_equal(sscanf(text, "alknet: forwarding [::1]:%u to h:25", &port), 1);
	assert_true(port > 0);
}

/* ---- listening ---------------------------------------------------------------------------------- */

static void test_port_in_use(void **state)
{
	struct alk_err err = {""};
	char address[32], spec[64];
	uint16_t port = proxy_start();

	(void)state;
	snprintf(address, sizeof(address), "127.0.0.1:%u", port);
	assert_int_equal(alk_accept_proxy(&front, address, &err), -EADDRINUSE);
	assert_non_null(strstr(err.text, "--socks5"));
	assert_non_null(strstr(err.text, address));
	snprintf(spec, sizeof(spec), "%u:h:25", port);
	assert_int_equal(alk_accept_forward(&front, spec, &err), -EADDRINUSE);
	assert_non_null(strstr(err.text, "--forward"));
	assert_non_null(strstr(err.text, spec));
}

static void test_bad_addresses(void **state)
{
	static const char *const bad[] = {"",
					  "127.0.0.1",
					  "127.0.0.1:x",
					  "127.0.0.1:65536",
					  "no.such.name:1080",
					  "[::1:1080"};
	struct alk_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err.text[0] = '\0';
		assert_true(alk_accept_proxy(&front, bad[i], &err) < 0);
		assert_non_null(strstr(err.text, "--socks5"));
	}
	assert_null(front.accepts);
}

static bool has_second(void *user)
{
	(void)user;
	return n_channels > 0 && strcmp(channels[n_channels - 1]->to.host, "second") == 0;
}

static void test_descriptors_run_out(void **state)
{
	uint16_t port = proxy_start();
	int first = dial(port), second = dial(port);
	struct rlimit old, tight;

	(void)state;
	SAY(first, ASK);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	tight = old;
	tight.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	assert_false(run_until(has_second, NULL, 100));
	assert_null(front.conns);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	/* valgrind plays the limit by accepting and closing, so the first may be lost there. */
	SAY(second, "CONNECT second:1 HTTP/1.1\r\n\r\n");
	if (!run_until(has_second, NULL, 2000)) {
		close(second);
		second = dial(port);
		SAY(second, "CONNECT second:1 HTTP/1.1\r\n\r\n");
	}
	assert_true(run_until(has_second, NULL, 20000));
	close(first);
	close(second);
}

/* ---- --stdio ------------------------------------------------------------------------------------ */

static struct {
	int calls, rc;
	char text[512];
} stdio_end;

static void on_stdio_end(void *user, int rc, const struct alk_err *err)
{
	(void)user;
	stdio_end.calls++;
	stdio_end.rc = rc;
	snprintf(stdio_end.text, sizeof(stdio_end.text), "%s", err != NULL ? err->text : "");
}

static bool has_ended(void *user)
{
	(void)user;
	return stdio_end.calls > 0;
}

/* Give the process other standard descriptors for a while. */
static int saved_in, saved_out;

static void stdio_replace(int in, int out)
{
	fflush(stdout);
	saved_in = dup(STDIN_FILENO);
	saved_out = dup(STDOUT_FILENO);
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	memset(&stdio_end, 0, sizeof(stdio_end));
}

static void stdio_restore(void)
{
	dup2(saved_in, STDIN_FILENO);
	dup2(saved_out, STDOUT_FILENO);
	close(saved_in);
	close(saved_out);
}

static void test_stdio_pipes(void **state)
{
	struct alk_err err = {""};
	struct alk_stdio *stdio;
	int in[2], out[2];
	char byte;

	(void)state;
	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	stdio_replace(in[0], out[1]);
	stdio = alk_stdio_new(&front, "[::1]:22", on_stdio_end, NULL, &err);
	stdio_restore();
	assert_non_null(stdio);
	alk_stdio_open(stdio);
	expect_channels(1);
	assert_string_equal(channels[0]->to.host, "::1");
	assert_int_equal(channels[0]->to.port, 22);
	channels[0]->ops->opened(channels[0]->user, channels[0]);
	/* Ours do not block, and whoever shares them does not notice. */
	assert_true(fcntl(pumped.fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(pumped.fd_out, F_GETFL) & O_NONBLOCK);
	assert_false(fcntl(in[0], F_GETFL) & O_NONBLOCK);
	assert_false(fcntl(out[1], F_GETFL) & O_NONBLOCK);
	assert_int_equal(write(pumped.fd_out, "x", 1), 1);
	assert_int_equal(read(out[0], &byte, 1), 1);
	/* Nobody but the pump holds the output: its end is seen. */
	close(out[1]);
	alk_fd_close(&pumped.fd_out);
	assert_int_equal(read(out[0], &byte, 1), 0);
	pumped.done(pumped.user, 0);
	assert_true(run_until(has_ended, NULL, 20000));
	assert_int_equal(stdio_end.calls, 1);
	assert_int_equal(stdio_end.rc, 0);
	alk_stdio_free(&stdio);
	close(in[0]);
	close(in[1]);
	close(out[0]);
}

static void test_stdio_ends_with_the_session(void **state)
{
	struct alk_err err = {""};
	struct alk_stdio *stdio;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)state;
	stdio_replace(null, null);
	stdio = alk_stdio_new(&front, "h:22", on_stdio_end, NULL, &err);
	stdio_restore();
	assert_non_null(stdio);
	alk_stdio_open(stdio);
	channels[0]->ops->opened(channels[0]->user, channels[0]);
	pumped.done(pumped.user, 0);
	client.state = ALK_CLIENT_DOWN;
	/* That is the session's to report. */
	assert_false(run_until(has_ended, NULL, 50));
	alk_stdio_free(&stdio);
	close(null);
}

static void test_stdio_sockets_are_restored(void **state)
{
	struct alk_err err = {""};
	struct alk_stdio *stdio;
	int ends[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	stdio_replace(ends[0], ends[0]);
	stdio = alk_stdio_new(&front, "h:22", on_stdio_end, NULL, &err);
	stdio_restore();
	assert_non_null(stdio);
	assert_true(fcntl(ends[0], F_GETFL) & O_NONBLOCK);
	alk_stdio_free(&stdio);
	assert_false(fcntl(ends[0], F_GETFL) & O_NONBLOCK);
	close(ends[0]);
	close(ends[1]);
}

static void test_stdio_files_keep_their_place(void **state)
{
	struct alk_err err = {""};
	struct alk_stdio *stdio;
	char path[64];
	int in = open("/dev/null", O_RDONLY | O_CLOEXEC), out;

	(void)state;
	snprintf(path, sizeof(path), "%s/out", dir);
	out = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	unlink(path);
	assert_int_equal(write(out, "before", 6), 6);
	stdio_replace(in, out);
	stdio = alk_stdio_new(&front, "h:22", on_stdio_end, NULL, &err);
	stdio_restore();
	assert_non_null(stdio);
	alk_stdio_open(stdio);
	channels[0]->ops->opened(channels[0]->user, channels[0]);
	assert_int_equal(write(pumped.fd_out, "after", 5), 5);
	assert_int_equal(lseek(out, 0, SEEK_END), 11);
	alk_stdio_free(&stdio);
	close(in);
	close(out);
}

static void test_stdio_refused(void **state)
{
	struct alk_err err = {""};
	struct alk_stdio *stdio;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)state;
	stdio_replace(null, null);
	stdio = alk_stdio_new(&front, "h:22", on_stdio_end, NULL, &err);
	stdio_restore();
	assert_non_null(stdio);
	alk_stdio_open(stdio);
	channel_refuse(channels[0], ALK_OPEN_REFUSED);
	assert_int_equal(stdio_end.calls, 1);
	assert_true(stdio_end.rc < 0);
	assert_non_null(strstr(stdio_end.text, "h:22"));
	alk_stdio_free(&stdio);
	close(null);
}

static void test_stdio_bad_address(void **state)
{
	static const char *const bad[] = {"",	 "h",	  "h:",	    "h:0",
					  ":22", "h:ssh", "::1:22", "h:65536"};
	struct alk_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err.text[0] = '\0';
		assert_null(alk_stdio_new(&front, bad[i], on_stdio_end, NULL, &err));
		assert_non_null(strstr(err.text, "--stdio"));
	}
}

#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_socks_opens),
		TEST(test_http_opens),
		TEST(test_row68_byte_by_byte),
		TEST(test_refused_is_told),
		TEST(test_session_gone_is_told),
		TEST(test_carried_over),
		TEST(test_forward_is_carried_over),
		TEST(test_proxy_asks_for_a_login),
		TEST(test_removed_forward),
		TEST(test_too_many_channels_is_told),
		TEST(test_bad_request_is_told),
		TEST(test_longest_head),
		TEST(test_client_closes_while_pending),
		TEST(test_client_resets_while_pending),
		TEST(test_client_closes_early),
		TEST(test_waits_for_a_session),
		TEST(test_waits_no_longer_than_its_patience),
		TEST(test_row68_silence),
		TEST(test_only_so_many_wait),
		TEST(test_forward_opens),
		TEST(test_forward_keeps_a_half_closed_reader),
		TEST(test_forward_refused_closes),
		TEST(test_forward_to_unix),
		TEST(test_forward_from_unix),
		TEST(test_stale_unix_socket_is_replaced),
		TEST(test_other_files_stay),
		TEST(test_ipv6_forward),
		TEST(test_port_in_use),
		TEST(test_bad_addresses),
		TEST(test_descriptors_run_out),
		TEST(test_stdio_pipes),
		TEST(test_stdio_ends_with_the_session),
		TEST(test_stdio_sockets_are_restored),
		TEST(test_stdio_files_keep_their_place),
		TEST(test_stdio_refused),
		TEST(test_stdio_bad_address),
	};
	int failed;

	assert(mkdtemp(dir) != NULL);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(dir);
	return failed;
}
