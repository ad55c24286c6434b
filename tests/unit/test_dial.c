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
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "dns_play.h"

#define TIMEOUT_MS 20000 /* longer than any test takes */
#define SHORT_MS 400

struct bench {
	struct alk_loop *loop;
	struct alk_resolver *resolver;
	struct alk_dial *dial;
	/* what `done` said */
	int calls, rc, fd;
	struct alk_err err;
	/* the name server */
	struct dns_play dns;
	struct alk_timer *timer;
	int listener[4];
	int n_listeners;
	int full[8]; /* connections that fill a backlog */
};

static uint64_t mono_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	size_t i;

	assert_non_null(b);
	b->loop = alk_loop_new(NULL);
	assert_non_null(b->loop);
	b->resolver = alk_resolver_of(b->loop, NULL);
	assert_non_null(b->resolver);
	assert_ptr_equal(b->resolver, alk_resolver_of(b->loop, NULL));
	b->fd = -1;
	for (i = 0; i < sizeof(b->full) / sizeof(b->full[0]); i++)
		b->full[i] = -1;
	dns_start(&b->dns, b->loop, b->resolver);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;
	size_t i;

	alk_dial_cancel(&b->dial);
	alk_timer_free(&b->timer);
	dns_stop(&b->dns);
	alk_loop_free(&b->loop);
	alk_fd_close(&b->fd);
	for (i = 0; i < (size_t)b->n_listeners; i++)
		alk_fd_close(&b->listener[i]);
	for (i = 0; i < sizeof(b->full) / sizeof(b->full[0]); i++)
		alk_fd_close(&b->full[i]);
	free(b);
	return 0;
}

/* ---- targets ---- */

static struct sockaddr_storage address(const char *host, uint16_t port)
{
	struct sockaddr_storage ss = {0};
	struct alk_sockaddr addr;

	assert_int_equal(alk_addr_parse(&addr, host, port), 0);
	memcpy(&ss, &addr.sa, addr.len);
	return ss;
}

static socklen_t address_len(const struct sockaddr_storage *ss)
{
	return ss->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

static uint16_t port_of(int fd)
{
	struct sockaddr_storage ss = {0};
	socklen_t len = sizeof(ss);
	char host[64];
	uint16_t port;

	assert_int_equal(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
	alk_addr_format((struct sockaddr *)&ss, len, host, sizeof(host), &port);
	return port;
}

/* A listener on `host`; its port. */
static uint16_t target(struct bench *b, const char *host, uint16_t port, int backlog)
{
	struct sockaddr_storage ss = address(host, port);
	const int one = 1;
	int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (ss.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	assert_int_equal(bind(fd, (struct sockaddr *)&ss, address_len(&ss)), 0);
	assert_int_equal(listen(fd, backlog), 0);
	b->listener[b->n_listeners++] = fd;
	return port_of(fd);
}

/* A port that does not answer: its backlog is full. */
static uint16_t target_full(struct bench *b, const char *host, uint16_t port)
{
	struct sockaddr_storage ss;
	size_t i;

	port = target(b, host, port, 0);
	ss = address(host, port);
	for (i = 0; i < 4; i++) {
		b->full[i] = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (connect(b->full[i], (struct sockaddr *)&ss, address_len(&ss)) < 0)
			assert_int_equal(errno, EINPROGRESS);
	}
	return port;
}

/* A port where nobody listens. */
static uint16_t target_none(struct bench *b)
{
	uint16_t port = target(b, "127.0.0.1", 0, 1);

	alk_fd_close(&b->listener[--b->n_listeners]);
	return port;
}

static bool has_ipv6(void)
{
	struct sockaddr_storage ss = address("::1", 0);
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool yes = fd >= 0 && bind(fd, (struct sockaddr *)&ss, sizeof(struct sockaddr_in6)) == 0;

	alk_fd_close(&fd);
	return yes;
}

/* ---- dialing ---- */

static void on_done(void *user, int rc, int fd, const struct alk_err *err)
{
	struct bench *b = user;

	b->dial = NULL;
	b->calls++;
	b->rc = rc;
	b->fd = fd;
	b->err = *err;
	assert_true((rc == 0) == (fd >= 0));
	assert_true((rc == 0) == (err->text[0] == '\0'));
	alk_loop_stop(b->loop);
}

static void dial_from(struct bench *b, const char *host, uint16_t port, const char *bind,
		      uint64_t ms)
{
	struct alk_err err = {""};

	alk_fd_close(&b->fd);
	b->calls = 0;
	b->dial = alk_dial_tcp(b->loop, host, port, bind, ms, on_done, b, &err);
	if (b->dial == NULL)
		fail_msg("%s: %s", host, err.text);
	assert_int_equal(b->calls, 0);
	alk_loop_run(b->loop);
	assert_int_equal(b->calls, 1);
}

static void dial(struct bench *b, const char *host, uint16_t port, uint64_t ms)
{
	dial_from(b, host, port, NULL, ms);
}

static void assert_connected(struct bench *b, const char *host, uint16_t port)
{
	struct sockaddr_storage ss = {0};
	socklen_t len = sizeof(ss);
	int value = 0;
	socklen_t value_len = sizeof(value);
	char text[64];
	uint16_t found;

	if (b->rc != 0)
		fail_msg("%d: %s", b->rc, b->err.text);
	assert_int_equal(getpeername(b->fd, (struct sockaddr *)&ss, &len), 0);
	alk_addr_format((struct sockaddr *)&ss, len, text, sizeof(text), &found);
	assert_string_equal(text, host);
	assert_int_equal(found, port);
	assert_int_equal(getsockopt(b->fd, IPPROTO_TCP, TCP_NODELAY, &value, &value_len), 0);
	assert_int_not_equal(value, 0);
	assert_int_not_equal(fcntl(b->fd, F_GETFL) & O_NONBLOCK, 0);
	assert_int_not_equal(fcntl(b->fd, F_GETFD) & FD_CLOEXEC, 0);
}

static void test_numeric(void **state)
{
	struct bench *b = *state;
	uint16_t port = target(b, "127.0.0.1", 0, 5);

	dial(b, "127.0.0.1", port, TIMEOUT_MS);
	assert_connected(b, "127.0.0.1", port);
	dial(b, "::ffff:127.0.0.1", port, TIMEOUT_MS);
	assert_connected(b, "127.0.0.1", port);
	assert_int_equal(b->dns.asked, 0);
	if (!has_ipv6())
		return;
	port = target(b, "::1", 0, 5);
	dial(b, "::1", port, TIMEOUT_MS);
	assert_connected(b, "::1", port);
	dial(b, "::1%lo", port, TIMEOUT_MS);
	assert_int_equal(b->rc, 0);
	assert_int_equal(b->dns.asked, 0);
}

static void test_refused(void **state)
{
	struct bench *b = *state;

	dial(b, "127.0.0.1", target_none(b), TIMEOUT_MS);
	assert_int_equal(b->rc, -ECONNREFUSED);
	assert_string_equal(b->err.text, "connect failed: Connection refused");
}

/* THREATS 27 */
static void test_timeout(void **state)
{
	struct bench *b = *state;
	uint64_t begin = mono_ms();

	dial(b, "127.0.0.1", target_full(b, "127.0.0.1", 0), SHORT_MS);
	assert_int_equal(b->rc, -ETIMEDOUT);
	assert_string_equal(b->err.text, "connect timed out after 0.4 s");
	assert_true(mono_ms() - begin + 1 >= SHORT_MS);
}

static void test_bind(void **state)
{
	struct bench *b = *state;
	struct sockaddr_in sin;
	socklen_t len = sizeof(sin);
	uint16_t port = target(b, "127.0.0.1", 0, 5);
	struct alk_err err;

	dial_from(b, "both.test", port, "127.0.0.3", TIMEOUT_MS);
	assert_connected(b, "127.0.0.1", port);
	assert_int_equal(b->dns.asked, 1); /* the other family is not asked for */
	assert_int_equal(getsockname(b->fd, (struct sockaddr *)&sin, &len), 0);
	assert_int_equal(ntohl(sin.sin_addr.s_addr), 0x7f000003);
	dial_from(b, "127.0.0.1", port, "192.0.2.1", TIMEOUT_MS);
	assert_int_equal(b->rc, -EADDRNOTAVAIL);
	assert_null(alk_dial_tcp(b->loop, "::1", 1, "127.0.0.1", 1, on_done, b, &err));
	assert_string_equal(err.text, "the local address to connect from is of the other family");
	assert_null(alk_dial_tcp(b->loop, "::1", 1, "localhost", 1, on_done, b, &err));
	assert_string_equal(err.text, "the local address to connect from is not numeric");
}

/* ---- names ---- */

static void test_localhost(void **state)
{
	static const char *const names[] = {"localhost", "LocalHost.", "a.localhost"};
	struct bench *b = *state;
	uint16_t port = target(b, "127.0.0.1", 0, 5);
	size_t i;

	for (i = 0; i < 3; i++) {
		dial(b, names[i], port, TIMEOUT_MS);
		assert_connected(b, "127.0.0.1", port);
	}
	assert_int_equal(b->dns.asked, 0);
	dial(b, "mylocalhost", port, TIMEOUT_MS);
	assert_int_equal(b->rc, -ENOENT);
	dial(b, "localhost.example", port, TIMEOUT_MS);
	assert_int_equal(b->rc, -ENOENT);
	assert_int_not_equal(b->dns.asked, 0);
	if (!has_ipv6())
		return;
	port = target(b, "::1", port, 5);
	dial_from(b, "localhost", port, "127.0.0.9", TIMEOUT_MS);
	assert_connected(b, "127.0.0.1", port);
	dial(b, "localhost", port, TIMEOUT_MS);
	assert_connected(b, "::1", port);
}

/* A name of /etc/hosts, where it has one: the family that it does not have is asked of the name
 * server. */
static void test_hosts_file(void **state)
{
	struct bench *b = *state;
	char line[256], name[128] = "", addr[64];
	FILE *hosts = fopen("/etc/hosts", "re");
	uint16_t port;

	while (hosts != NULL && fgets(line, sizeof(line), hosts) != NULL)
		if (sscanf(line, "%63s %127s", addr, name) == 2 && strcmp(addr, "127.0.0.1") == 0 &&
		    !alk_addr_is_localhost(name) && alk_addr_check_name(name, NULL) == 0)
			break;
		else
			name[0] = '\0';
	if (hosts != NULL)
		fclose(hosts);
	if (name[0] == '\0')
		skip();
	port = target(b, "127.0.0.1", 0, 5);
	dial(b, name, port, TIMEOUT_MS);
	assert_connected(b, "127.0.0.1", port);
}

static void test_names(void **state)
{
	struct bench *b = *state;
	uint16_t port = target(b, "127.0.0.1", 0, 5);

	dial(b, "four.test", port, TIMEOUT_MS);
	assert_connected(b, "127.0.0.1", port);
	if (!has_ipv6())
		return;
	port = target(b, "::1", port, 5);
	dial(b, "six.test", port, TIMEOUT_MS);
	assert_connected(b, "::1", port);
	dial(b, "both.test", port, TIMEOUT_MS); /* IPv6 goes first */
	assert_connected(b, "::1", port);
}

/* The first family refuses: the second is tried at once. */
static void test_next_family_when_refused(void **state)
{
	struct bench *b = *state;
	uint16_t port = target(b, "127.0.0.1", 0, 5);

	dial(b, "both.test", port, TIMEOUT_MS);
	assert_connected(b, "127.0.0.1", port);
}

/* The first family does not answer: the second is tried 250 ms later, and wins. */
static void test_next_family_when_silent(void **state)
{
	struct bench *b = *state;
	uint64_t begin;
	uint16_t port;

	if (!has_ipv6())
		skip();
	port = target_full(b, "::1", 0);
	target(b, "127.0.0.1", port, 5);
	begin = mono_ms();
	dial(b, "both.test", port, TIMEOUT_MS);
	assert_connected(b, "127.0.0.1", port);
	assert_true(mono_ms() - begin + 1 >= 250);
}

/* The next address of the same family, when there is no other. */
static void test_next_address(void **state)
{
	struct bench *b = *state;
	uint16_t port = target_full(b, "127.0.0.1", 0);

	target(b, "127.0.0.2", port, 5);
	dial(b, "two.test", port, TIMEOUT_MS);
	assert_connected(b, "127.0.0.2", port);
}

/* One family's answer is lost: the other's is used 50 ms later. */
static void test_resolution_delay(void **state)
{
	struct bench *b = *state;
	uint64_t begin = mono_ms();
	uint16_t port = target(b, "127.0.0.1", 0, 5);

	dial(b, "slowsix.test", port, TIMEOUT_MS);
	assert_connected(b, "127.0.0.1", port);
	assert_true(mono_ms() - begin + 1 >= 50);
	assert_int_equal(b->dns.asked, 2); /* not asked again: nobody waited for that answer */
	if (!has_ipv6())
		return;
	port = target(b, "::1", 0, 5);
	dial(b, "slowfour.test", port, TIMEOUT_MS);
	assert_connected(b, "::1", port);
	assert_int_equal(b->dns.asked, 4);
}

/* THREATS 28 */
static void test_names_fail(void **state)
{
	struct bench *b = *state;

	dial(b, "nobody.test", 1, TIMEOUT_MS);
	assert_int_equal(b->rc, -ENOENT);
	assert_string_equal(b->err.text, "no such host name");
	dial(b, "nosix.test", 1, TIMEOUT_MS); /* SERVFAIL */
	assert_int_equal(b->rc, -EREMOTEIO);
	dial(b, "silent.test", 1, SHORT_MS);
	assert_int_equal(b->rc, -ETIMEDOUT);
	assert_string_equal(b->err.text, "resolving the host name timed out after 0.4 s");
	/* What failed is told, though the other family is not known yet. */
	dial(b, "unanswered.test", target_none(b), SHORT_MS);
	assert_int_equal(b->rc, -ECONNREFUSED);
}

/* Without a name server that answers, the resolver itself gives up, and says that. */
static void test_no_name_server(void **state)
{
	struct bench *b = *state;
	char servers[32];

	snprintf(servers, sizeof(servers), "127.0.0.1:%u", target_none(b));
	assert_int_equal(alk_resolver_set_servers(b->resolver, servers, NULL), 0);
	dial(b, "four.test", 1, TIMEOUT_MS);
	assert_int_equal(b->rc, -EREMOTEIO);
	assert_int_equal(alk_resolver_set_servers(b->resolver, "not a server", NULL), -EINVAL);
}

static void on_many(void *user, int rc, const struct alk_sockaddr *addrs, size_t n,
		    const struct alk_err *err)
{
	struct bench *b = user;

	(void)err;
	assert_int_equal(rc, 0);
	assert_int_equal(n, ALK_RESOLVER_ADDRESSES);
	assert_int_equal(ntohl(addrs[n - 1].in.sin_addr.s_addr), 0x7f010101 + n - 1);
	b->calls++;
	alk_loop_stop(b->loop);
}

/* THREATS 28: an answer with 4000 addresses; 16 of them are tried. */
static void test_many_addresses(void **state)
{
	struct bench *b = *state;

	dial(b, "many.test", target_none(b), TIMEOUT_MS);
	assert_int_equal(b->rc, -ECONNREFUSED);
	b->calls = 0;
	assert_non_null(alk_resolver_ask(b->resolver, "many.test", AF_INET, on_many, b));
	alk_loop_run(b->loop);
	assert_int_equal(b->calls, 1);
}

static void test_bad_hosts(void **state)
{
	static const struct {
		const char *host, *why;
	} bad[] = {
		{"", "the host is empty"},
		{".", "the host is empty"},
		{"a..b", "the host name has an empty label"},
		{".a", "the host name has an empty label"},
		{"a b", "the host name \"a b\" has a character that no host name has"},
		{"a\nb", "the host name \"a\\x0ab\" has a character that no host name has"},
		{"a/b", "the host name \"a/b\" has a character that no host name has"},
		{"\xc3\xa4.de",
		 "the host name \"\\xc3\\xa4.de\" has a character that no host name has"},
		{"[::1]", "the host name \"[::1]\" has a character that no host name has"},
		{"::1%", "the host name \"::1%\" has a character that no host name has"},
		{"1:2", "the host name \"1:2\" has a character that no host name has"},
		{"root@h", "\"root@h\" is no host name: a host stands without a user"},
		{"127.1", "the host looks like an address, but is none"},
		{"2130706433", "the host looks like an address, but is none"},
		{"0x7f.0.0.0x1", "the host looks like an address, but is none"},
		{"127.0.0.256", "the host looks like an address, but is none"},
		{"1.2.3.4.5", "the host looks like an address, but is none"},
		{"1.2.3.4.", "the host looks like an address, but is none"},
	};
	struct bench *b = *state;
	struct alk_err err;
	char name[300];
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err.text[0] = '\0';
		assert_null(alk_dial_tcp(b->loop, bad[i].host, 1, NULL, 1, on_done, b, &err));
		assert_string_equal(err.text, bad[i].why);
	}
	memset(name, 'a', sizeof(name));
	for (i = 50; i < sizeof(name); i += 50)
		name[i] = '.';
	name[254] = '\0';
	assert_null(alk_dial_tcp(b->loop, name, 1, NULL, 1, on_done, b, &err));
	assert_string_equal(err.text, "the host name is longer than 253 bytes");
	name[253] = '\0';
	assert_int_equal(alk_addr_check_name(name, &err), 0);
	name[253] = '.';
	assert_int_equal(alk_addr_check_name(name, &err), 0);
	memset(name, 'a', 64);
	name[64] = '\0';
	assert_int_equal(alk_addr_check_name(name, &err), -EINVAL);
	assert_string_equal(err.text, "the host name has too long a label");
	name[63] = '\0';
	assert_int_equal(alk_addr_check_name(name, &err), 0);
	assert_int_equal(alk_addr_check_name("_srv.x-y.4u", &err), 0);
	assert_int_equal(alk_addr_check_name("10.in-addr", &err), 0);
}

/* ---- cancelling ---- */

static void on_timer_cancel(void *user)
{
	struct bench *b = user;

	alk_dial_cancel(&b->dial);
	alk_loop_stop(b->loop);
}

static void cancel_after(struct bench *b, const char *host, uint16_t port, uint64_t ms)
{
	b->dial = alk_dial_tcp(b->loop, host, port, NULL, TIMEOUT_MS, on_done, b, NULL);
	assert_non_null(b->dial);
	alk_timer_start(b->timer, ms);
	alk_loop_run(b->loop);
	assert_null(b->dial);
	assert_int_equal(b->calls, 0);
}

static void test_cancel(void **state)
{
	struct bench *b = *state;
	uint16_t full = target_full(b, "127.0.0.1", 0);

	b->timer = alk_timer_new(b->loop, "cancel", on_timer_cancel, b);
	/* before it began */
	b->dial = alk_dial_tcp(b->loop, "127.0.0.1", full, NULL, TIMEOUT_MS, on_done, b, NULL);
	alk_dial_cancel(&b->dial);
	assert_null(b->dial);
	b->dial = alk_dial_tcp(b->loop, "silent.test", full, NULL, TIMEOUT_MS, on_done, b, NULL);
	alk_dial_cancel(&b->dial);
	alk_dial_cancel(&b->dial);
	/* while a name is resolved; while it connects; between two attempts; with an answer still
	 * to come */
	cancel_after(b, "silent.test", full, 5);
	cancel_after(b, "127.0.0.1", full, 5);
	cancel_after(b, "two.test", full, 5);
	cancel_after(b, "slowsix.test", full, 20);
	cancel_after(b, "slowsix.test", full, 80);
}

/* The answer comes when nobody waits for it any more. */
static void cancel_dial(void *user)
{
	struct bench *b = user;

	alk_dial_cancel(&b->dial);
}

static void test_cancel_before_the_answer(void **state)
{
	struct bench *b = *state;

	b->timer = alk_timer_new(b->loop, "cancel", on_timer_cancel, b);
	b->dns.on_asked = cancel_dial;
	b->dns.user = b;
	cancel_after(b, "four.test", 1, 50);
	assert_int_equal(b->dns.asked, 2);
}

static void on_answer_never(void *user, int rc, const struct alk_sockaddr *addrs, size_t n,
			    const struct alk_err *err)
{
	(void)user;
	(void)addrs;
	(void)n;
	fail_msg("answered: %d %s", rc, err->text);
}

/* A name that is answered at once (RFC 7686): the answer is on its way. */
static void test_cancel_an_answer_on_its_way(void **state)
{
	struct bench *b = *state;
	struct alk_resolver_query *query;
	int i;

	for (i = 0; i < 2; i++) {
		query = alk_resolver_ask(b->resolver, "none.onion", AF_INET, on_answer_never, b);
		assert_non_null(query);
		alk_resolver_cancel(&query);
		assert_null(query);
	}
}

/* A query is open when the resolver goes. */
static void test_free_with_open_queries(void **state)
{
	struct bench *b = *state;

	b->timer = alk_timer_new(b->loop, "cancel", on_timer_cancel, b);
	cancel_after(b, "silent.test", 1, 5);
	assert_non_null(alk_resolver_ask(b->resolver, "silent.test", AF_INET, on_answer_never, b));
}

/* ---- out of file descriptors ---- */

/* THREATS 40 */
static void test_no_file_descriptors(void **state)
{
	struct bench *b = *state;
	uint16_t port = target(b, "127.0.0.1", 0, 5);
	struct rlimit old, low;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	low.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	dial(b, "127.0.0.1", port, TIMEOUT_MS);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(b->rc, -EMFILE);
	dial(b, "127.0.0.1", port, TIMEOUT_MS);
	assert_connected(b, "127.0.0.1", port);
}

/* ---- unix sockets ---- */

static int unix_listener(const char *path, int backlog)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	assert_int_equal(listen(fd, backlog), 0);
	return fd;
}

static void dial_unix(struct bench *b, const char *path, uint64_t ms)
{
	alk_fd_close(&b->fd);
	b->calls = 0;
	b->dial = alk_dial_unix(b->loop, path, ms, on_done, b, NULL);
	assert_non_null(b->dial);
	alk_loop_run(b->loop);
	assert_int_equal(b->calls, 1);
}

static void on_timer_accept(void *user)
{
	struct bench *b = user;
	int fd = accept(b->listener[0], NULL, NULL);

	assert_true(fd >= 0);
	close(fd);
}

static void test_unix(void **state)
{
	struct bench *b = *state;
	char dir[] = "/tmp/alk-dial-XXXXXX";
	char path[64], longer[200];
	int waiting;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	dial_unix(b, path, TIMEOUT_MS);
	assert_int_equal(b->rc, -ENOENT);
	b->listener[b->n_listeners++] = unix_listener(path, 0);
	dial_unix(b, path, TIMEOUT_MS);
	assert_int_equal(b->rc, 0);
	assert_int_not_equal(fcntl(b->fd, F_GETFL) & O_NONBLOCK, 0);
	waiting = b->fd;
	b->fd = -1;
	/* The backlog is full: it is tried again until there is room, or no time. */
	dial_unix(b, path, SHORT_MS);
	assert_int_equal(b->rc, -ETIMEDOUT);
	b->timer = alk_timer_new(b->loop, "accept", on_timer_accept, b);
	alk_timer_start(b->timer, 30);
	dial_unix(b, path, TIMEOUT_MS);
	assert_int_equal(b->rc, 0);
	alk_fd_close(&waiting);
	alk_fd_close(&b->listener[--b->n_listeners]);
	dial_unix(b, path, TIMEOUT_MS);
	assert_int_equal(b->rc, -ECONNREFUSED);
	b->dial = alk_dial_unix(b->loop, path, 1, on_done, b, NULL);
	alk_dial_cancel(&b->dial);
	unlink(path);
	rmdir(dir);
	memset(longer, 'x', sizeof(longer));
	longer[108] = '\0';
	assert_null(alk_dial_unix(b->loop, longer, 1, on_done, b, NULL));
	assert_null(alk_dial_unix(b->loop, "", 1, on_done, b, NULL));
}

#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_numeric),
		TEST(test_refused),
		TEST(test_timeout),
		TEST(test_bind),
		TEST(test_localhost),
		TEST(test_hosts_file),
		TEST(test_names),
		TEST(test_next_family_when_refused),
		TEST(test_next_family_when_silent),
		TEST(test_next_address),
		TEST(test_resolution_delay),
		TEST(test_names_fail),
		TEST(test_no_name_server),
		TEST(test_many_addresses),
		TEST(test_bad_hosts),
		TEST(test_cancel),
		TEST(test_cancel_before_the_answer),
		TEST(test_cancel_an_answer_on_its_way),
		TEST(test_free_with_open_queries),
		TEST(test_no_file_descriptors),
		TEST(test_unix),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
