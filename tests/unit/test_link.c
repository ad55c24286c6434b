/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <alknet/dial.h>
#include <alknet/service.h>
#include <alknet/transport.h>

#define CONNECTIONS 200

struct bench {
	struct alk_loop *loop;
	struct alk_listener *listener;
	struct alk_timer *timer;
	int accepted, want;
	bool unlisten, pause;
	struct alk_link link[CONNECTIONS];
	int conn[CONNECTIONS];
};

static void on_accepted(void *user, struct alk_link *link)
{
	struct bench *b = user;

	assert_true(link->fd >= 0);
	b->link[b->accepted++] = *link;
	if (b->unlisten)
		alk_tcp_unlisten(&b->listener);
	if (b->pause)
		alk_tcp_pause(b->listener, true);
	if (b->accepted == b->want)
		alk_loop_stop(b->loop);
}

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	int i;

	assert_non_null(b);
	b->loop = alk_loop_new(NULL);
	assert_non_null(b->loop);
	for (i = 0; i < CONNECTIONS; i++) {
		b->link[i] = ALK_LINK_NONE;
		b->conn[i] = -1;
	}
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;
	int i;

	alk_tcp_unlisten(&b->listener);
	assert_null(b->listener);
	alk_timer_free(&b->timer);
	for (i = 0; i < CONNECTIONS; i++) {
		alk_link_close(&b->link[i]);
		assert_int_equal(b->link[i].fd, -1);
		alk_fd_close(&b->conn[i]);
	}
	alk_loop_free(&b->loop);
	free(b);
	return 0;
}

static int try_listen(struct bench *b, const char *address, struct alk_err *err)
{
	const struct alk_acceptor up = {.accepted = on_accepted, .user = b};

	return alk_tcp_listen(b->loop, "tcp", address, NULL, &up, &b->listener, err);
}

static void do_listen(struct bench *b, const char *address)
{
	struct alk_err err = {""};

	if (try_listen(b, address, &err) < 0)
		fail_msg("%s", err.text);
	assert_non_null(b->listener);
}

/* The n-th address of the listener. */
static uint16_t described(struct bench *b, int n, char *host, size_t size)
{
	char text[512], *at = text;
	uint16_t port;

	alk_tcp_describe(b->listener, text, sizeof(text));
	for (; n > 0; n--) {
		at = strstr(at, ", ");
		assert_non_null(at);
		at += 2;
	}
	at[strcspn(at, ",")] = '\0';
	assert_int_equal(alk_addr_split(at, host, size, &port, false, NULL), 0);
	return port;
}

static int connect_to(const char *host, uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	bool v6 = strchr(host, ':') != NULL;
	int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int rc;

	assert_true(fd >= 0);
	if (v6) {
		assert_int_equal(inet_pton(AF_INET6, host, &in6.sin6_addr), 1);
		rc = connect(fd, (struct sockaddr *)&in6, sizeof(in6));
	} else {
		assert_int_equal(inet_pton(AF_INET, host, &in.sin_addr), 1);
		rc = connect(fd, (struct sockaddr *)&in, sizeof(in));
	}
	if (rc < 0)
		alk_fd_close(&fd);
	return fd;
}

static bool has_ipv6(void)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool yes = fd >= 0 && bind(fd, (struct sockaddr *)&in6, sizeof(in6)) == 0;

	alk_fd_close(&fd);
	return yes;
}

static void run_until(struct bench *b, int accepted)
{
	b->want = accepted;
	if (b->accepted < accepted)
		alk_loop_run(b->loop);
	assert_true(b->accepted >= accepted);
}

static void on_timeout_stop(void *user)
{
	struct bench *b = user;

	alk_loop_stop(b->loop);
}

/* As long as there is something to do at once. */
static void run_while_ready(struct bench *b)
{
	alk_timer_free(&b->timer);
	b->timer = alk_timer_new(b->loop, "stop", on_timeout_stop, b);
	alk_timer_start(b->timer, 1);
	alk_loop_run(b->loop);
}

static int option(int fd, int level, int name)
{
	socklen_t len = sizeof(int);
	int value = -1;

	assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
	return value;
}

/* ---- accepting ---- */

static void check_accepted(const char *address, const char *want)
{
	void *state;
	struct bench *b;
	struct alk_link *link;
	char host[64], local[64];
	uint16_t port;

	setup(&state);
	b = state;
	do_listen(b, address);
	port = described(b, 0, host, sizeof(host));
	assert_string_equal(host, want);
	assert_int_not_equal(port, 0);
	b->conn[0] = connect_to(want, port);
	assert_true(b->conn[0] >= 0);
	run_until(b, 1);
	link = &b->link[0];
	assert_string_equal(link->transport, "tcp");
	assert_string_equal(link->remote_addr, want);
	assert_string_equal(link->local_addr, want);
	assert_int_equal(link->local_port, port);
	assert_int_not_equal(link->remote_port, 0);
	assert_string_equal(link->sni, "");
	assert_string_equal(link->alpn, "");
	assert_string_equal(link->peer_id, "");
	assert_int_not_equal(fcntl(link->fd, F_GETFL) & O_NONBLOCK, 0);
	assert_int_not_equal(fcntl(link->fd, F_GETFD) & FD_CLOEXEC, 0);
	assert_int_not_equal(option(link->fd, IPPROTO_TCP, TCP_NODELAY), 0);
	assert_int_not_equal(option(link->fd, SOL_SOCKET, SO_KEEPALIVE), 0);
	assert_int_equal(option(link->fd, IPPROTO_TCP, TCP_KEEPIDLE), 60);
	/* The same, asked of the kernel. */
	snprintf(local, sizeof(local), "%s", link->local_addr);
	assert_int_equal(alk_link_of_fd(&b->link[1], "other", &link->fd, NULL), 0);
	assert_int_equal(link->fd, -1);
	assert_string_equal(b->link[1].transport, "other");
	assert_string_equal(b->link[1].local_addr, local);
	assert_int_equal(b->link[1].local_port, port);
	assert_string_equal(b->link[1].remote_addr, want);
	assert_int_equal(b->link[1].remote_port, link->remote_port);
	teardown(&state);
}

static void test_accept_v4(void **state)
{
	(void)state;
	check_accepted("127.0.0.1:0", "127.0.0.1");
}

static void test_accept_v6(void **state)
{
	(void)state;
	if (!has_ipv6())
		skip();
	check_accepted("[::1]:0", "::1");
}

static void test_link_of_a_socket_without_peer(void **state)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct alk_link link;
	struct alk_err err;

	(void)state;
	assert_int_equal(alk_link_of_fd(&link, "tcp", &fd, &err), -ENOTCONN);
	assert_int_equal(fd, -1);
	assert_int_equal(link.fd, -1);
	assert_string_equal(err.text, "the connection broke: Transport endpoint is not connected");
}

static void test_every_address(void **state)
{
	struct bench *b = *state;
	char host[64];
	uint16_t port;

	do_listen(b, ":0");
	port = described(b, 0, host, sizeof(host));
	assert_true((b->conn[0] = connect_to("127.0.0.1", port)) >= 0);
	run_until(b, 1);
	assert_string_equal(b->link[0].remote_addr, "127.0.0.1");
	if (!has_ipv6())
		return;
	assert_int_equal(described(b, 1, host, sizeof(host)), port);
	assert_true((b->conn[1] = connect_to("::1", port)) >= 0);
	run_until(b, 2);
	assert_string_equal(b->link[1].remote_addr, "::1");
}

/* An IPv6 socket does not take the port of IPv4. */
static void test_both_families_on_one_port(void **state)
{
	struct bench *b = *state;
	struct alk_listener *first;
	char host[64], address[64];

	if (!has_ipv6())
		skip();
	do_listen(b, "0.0.0.0:0");
	snprintf(address, sizeof(address), "[::]:%u", described(b, 0, host, sizeof(host)));
	first = b->listener;
	do_listen(b, address);
	alk_tcp_unlisten(&first);
}

static void test_localhost(void **state)
{
	struct bench *b = *state;
	char host[64];
	uint16_t port;

	do_listen(b, "localhost:0");
	port = described(b, 0, host, sizeof(host));
	assert_true((b->conn[0] = connect_to(host, port)) >= 0);
	run_until(b, 1);
}

static void test_many_at_once(void **state)
{
	struct bench *b = *state;
	char host[64];
	uint16_t port;
	int i;

	do_listen(b, "127.0.0.1:0");
	port = described(b, 0, host, sizeof(host));
	for (i = 0; i < CONNECTIONS; i++)
		assert_true((b->conn[i] = connect_to("127.0.0.1", port)) >= 0);
	run_until(b, CONNECTIONS);
}

static void test_pause(void **state)
{
	struct bench *b = *state;
	char host[64];
	uint16_t port;

	do_listen(b, "127.0.0.1:0");
	port = described(b, 0, host, sizeof(host));
	alk_tcp_pause(b->listener, true);
	b->conn[0] = connect_to("127.0.0.1", port);
	run_while_ready(b);
	assert_int_equal(b->accepted, 0);
	alk_tcp_pause(b->listener, false);
	run_until(b, 1);
	/* from `accepted`: the others wait */
	b->pause = true;
	b->conn[1] = connect_to("127.0.0.1", port);
	b->conn[2] = connect_to("127.0.0.1", port);
	run_while_ready(b);
	assert_int_equal(b->accepted, 2);
	b->pause = false;
	alk_tcp_pause(b->listener, false);
	run_until(b, 3);
}

static void test_unlisten_in_accepted(void **state)
{
	struct bench *b = *state;
	char host[64];
	uint16_t port;
	int fd;

	do_listen(b, "127.0.0.1:0");
	port = described(b, 0, host, sizeof(host));
	b->unlisten = true;
	b->conn[0] = connect_to("127.0.0.1", port);
	b->conn[1] = connect_to("127.0.0.1", port);
	run_until(b, 1);
	run_while_ready(b);
	assert_int_equal(b->accepted, 1);
	assert_null(b->listener);
	fd = connect_to("127.0.0.1", port);
	assert_int_equal(fd, -1);
}

/* THREATS 40: accept pauses while there is no descriptor, and goes on by itself when there is. */
static void test_no_file_descriptors(void **state)
{
	struct bench *b = *state;
	struct rlimit old, low;
	char host[64];
	uint16_t port;
	int i;

	do_listen(b, "127.0.0.1:0");
	port = described(b, 0, host, sizeof(host));
	assert_true((b->conn[0] = connect_to("127.0.0.1", port)) >= 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	low.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	for (i = 0; i < 20; i++) /* some pauses go by */
		run_while_ready(b);
	assert_int_equal(b->accepted, 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	/* valgrind takes the first one and closes it when it plays the limit: there the second one
	 * comes. */
	assert_true((b->conn[1] = connect_to("127.0.0.1", port)) >= 0);
	run_until(b, 1);
}

/* ---- what cannot be listened on ---- */

static void test_bad_addresses(void **state)
{
	static const struct {
		const char *address, *why;
	} bad[] = {
		{"", "cannot listen: \"\" has no :PORT"},
		{"127.0.0.1", "cannot listen: \"127.0.0.1\" has no :PORT"},
		{"::1:22",
		 "cannot listen: \"::1:22\" has more than one colon; an IPv6 address goes in brackets"},
		{"[::1:22", "cannot listen: \"[::1:22\" has no closing bracket"},
		{"[::1]", "cannot listen: \"[::1]\" has no :PORT"},
		{"[]:22", "cannot listen: \"[]:22\" has nothing between its brackets"},
		{"127.0.0.1:", "cannot listen: the port \"\" is not a number"},
		{"127.0.0.1:x", "cannot listen: the port \"x\" is not a number"},
		{"127.0.0.1:-1", "cannot listen: the port \"-1\" is not a number"},
		{"127.0.0.1:65536", "cannot listen: the port 65536 is not between 0 and 65535"},
		{"127.0.0.1:99999999999999999999",
		 "cannot listen: the port 99999999999999999999 is not between 0 and 65535"},
		{"192.0.2.1:0", "cannot listen on 192.0.2.1:0: Cannot assign requested address"},
	};
	struct bench *b = *state;
	struct alk_err err;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_true(try_listen(b, bad[i].address, &err) < 0);
		assert_null(b->listener);
		assert_string_equal(err.text, bad[i].why);
	}
}

static void test_address_in_use(void **state)
{
	struct bench *b = *state;
	struct alk_listener *first;
	char host[64], address[64], why[128];
	struct alk_err err;

	do_listen(b, "127.0.0.1:0");
	snprintf(address, sizeof(address), "127.0.0.1:%u", described(b, 0, host, sizeof(host)));
	first = b->listener;
	assert_int_equal(try_listen(b, address, &err), -EADDRINUSE);
	snprintf(why, sizeof(why), "cannot listen on %s: Address already in use", address);
	assert_string_equal(err.text, why);
	alk_tcp_unlisten(&first);
}

/* ---- words and numbers ---- */

static void test_addr_split(void **state)
{
	char host[16];
	uint16_t port;
	struct alk_err err;

	(void)state;
	assert_int_equal(alk_addr_split("a:1", host, sizeof(host), &port, false, NULL), 0);
	assert_string_equal(host, "a");
	assert_int_equal(port, 1);
	assert_int_equal(alk_addr_split("[fe80::1%eth0]:65535", host, sizeof(host), &port, false,
					NULL),
			 0);
	assert_string_equal(host, "fe80::1%eth0");
	assert_int_equal(port, 65535);
	assert_int_equal(alk_addr_split(":0", host, sizeof(host), &port, true, NULL), 0);
	assert_string_equal(host, "");
	assert_int_equal(alk_addr_split("a:0", host, sizeof(host), &port, false, &err), -EINVAL);
	assert_string_equal(err.text, "the port 0 is not between 1 and 65535");
	assert_int_equal(alk_addr_split("a:00080", host, sizeof(host), &port, false, &err), 0);
	assert_int_equal(port, 80);
	assert_int_equal(alk_addr_split("1234567890123456:1", host, sizeof(host), &port, false,
					&err),
			 -EINVAL);
	assert_string_equal(err.text, "the host of \"1234567890123456:1...\" is too long");
}

static void format(const struct sockaddr_in6 *in6, socklen_t len, const char *want,
		   uint16_t want_port)
{
	char host[64];
	uint16_t port;

	alk_addr_format((const struct sockaddr *)in6, len, host, sizeof(host), &port);
	assert_string_equal(host, want);
	assert_int_equal(port, want_port);
}

static void test_addr_format(void **state)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(22)};
	struct sockaddr un = {.sa_family = AF_UNIX};
	char host[64];
	uint16_t port = 1;

	(void)state;
	inet_pton(AF_INET6, "::ffff:203.0.113.5", &in6.sin6_addr);
	format(&in6, sizeof(in6), "203.0.113.5", 22);
	inet_pton(AF_INET6, "2001:db8::5", &in6.sin6_addr);
	format(&in6, sizeof(in6), "2001:db8::5", 22);
	inet_pton(AF_INET6, "fe80::5", &in6.sin6_addr);
	in6.sin6_scope_id = 1;
	format(&in6, sizeof(in6), "fe80::5%lo", 22);
	in6.sin6_scope_id = 4000000000u;
	format(&in6, sizeof(in6), "fe80::5%4000000000", 22);
	format(&in6, 4, "unknown", 0);
	alk_addr_format(&un, sizeof(un.sa_family), host, sizeof(host), &port);
	assert_string_equal(host, "unix");
	assert_int_equal(port, 0);
}

static void test_open_failure(void **state)
{
	int why;

	(void)state;
	assert_int_equal(alk_open_failure_of(0), ALK_OPEN_OK);
	assert_int_equal(alk_open_failure_of(-ECONNREFUSED), ALK_OPEN_REFUSED);
	assert_int_equal(alk_open_failure_of(-ENETUNREACH), ALK_OPEN_UNREACHABLE);
	assert_int_equal(alk_open_failure_of(-ETIMEDOUT), ALK_OPEN_TIMEOUT);
	assert_int_equal(alk_open_failure_of(-ENOENT), ALK_OPEN_NAME);
	assert_int_equal(alk_open_failure_of(-EMFILE), ALK_OPEN_RESOURCE_SHORTAGE);
	assert_int_equal(alk_open_failure_of(-EIO), ALK_OPEN_CONNECT_FAILED);
	for (why = ALK_OPEN_OK; why <= ALK_OPEN_GONE; why++)
		assert_string_not_equal(alk_open_failure_str((enum alk_open_failure)why),
					"unknown failure");
	assert_string_equal(alk_open_failure_str((enum alk_open_failure)99), "unknown failure");
}

static void test_identity_has_scope(void **state)
{
	static const char *const scopes[] = {"bus", "secret:*", "x:y", NULL};
	const struct alk_identity identity = {.id = "a", .scopes = scopes}, none = {.id = "b"};

	(void)state;
	assert_true(alk_identity_has_scope(&identity, "bus"));
	assert_true(alk_identity_has_scope(&identity, "x:y"));
	assert_true(alk_identity_has_scope(&identity, "secret:Lock"));
	assert_false(alk_identity_has_scope(&identity, "secret"));
	assert_false(alk_identity_has_scope(&identity, "secrets:Lock"));
	assert_false(alk_identity_has_scope(&identity, "x:z"));
	assert_false(alk_identity_has_scope(&identity, "bu"));
	assert_false(alk_identity_has_scope(&identity, ""));
	assert_false(alk_identity_has_scope(&none, "bus"));
	assert_false(alk_identity_has_scope(NULL, "bus"));
}

#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accept_v4),
		cmocka_unit_test(test_accept_v6),
		cmocka_unit_test(test_link_of_a_socket_without_peer),
		TEST(test_every_address),
		TEST(test_both_families_on_one_port),
		TEST(test_localhost),
		TEST(test_many_at_once),
		TEST(test_pause),
		TEST(test_unlisten_in_accepted),
		TEST(test_no_file_descriptors),
		TEST(test_bad_addresses),
		TEST(test_address_in_use),
		cmocka_unit_test(test_addr_split),
		cmocka_unit_test(test_addr_format),
		cmocka_unit_test(test_open_failure),
		cmocka_unit_test(test_identity_has_scope),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
