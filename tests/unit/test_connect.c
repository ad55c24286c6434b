/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The proxy port of `alknet connect`, and who waits for a session. */
#include "connect_play.h"

/* ---- the proxy port -------------------------------------------------------------------------- */

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

/* A channel that was not open yet when the session ended is asked for again from the next one,
 * once. */
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

/* ---- no session ------------------------------------------------------------------------------ */

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
	};
	int failed;

	assert(mkdtemp(dir) != NULL);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(dir);
	return failed;
}
