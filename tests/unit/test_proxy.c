/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <alknet/dial.h>
#include <alknet/service.h>
#include "proxy.h"
#include "proxy_wire.h"

#define TIMEOUT_MS 20000
#define SHORT_MS 300

/* ---- URLs ---- */

static void test_urls(void **state)
{
	static const struct {
		const char *text;
		enum alk_proxy_kind kind;
		const char *host;
		uint16_t port;
		const char *user, *password; /* NULL: none */
	} good[] = {
		{"none", ALK_PROXY_NONE, "", 0, NULL, NULL},
		{"socks5://127.0.0.1:1080", ALK_PROXY_SOCKS5, "127.0.0.1", 1080, NULL, NULL},
		{"SOCKS5H://proxy.example:1/", ALK_PROXY_SOCKS5, "proxy.example", 1, NULL, NULL},
		{"http://[::1]:65535", ALK_PROXY_HTTP, "::1", 65535, NULL, NULL},
		{"http://anna:secret@h:3128", ALK_PROXY_HTTP, "h", 3128, "anna", "secret"},
		{"socks5://a%40b:p%3a%25@h:1", ALK_PROXY_SOCKS5, "h", 1, "a@b", "p:%"},
		{"http://u:p@ss:w@h:2", ALK_PROXY_HTTP, "h", 2, "u", "p@ss:w"},
		{"http://u@h:2", ALK_PROXY_HTTP, "h", 2, "u", ""},
	};
	struct alk_proxy_url url;
	struct alk_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		if (alk_proxy_url_parse(good[i].text, &url, &err) != 0)
			fail_msg("%s: %s", good[i].text, err.text);
		assert_int_equal(url.kind, good[i].kind);
		assert_string_equal(url.host, good[i].host);
		assert_int_equal(url.port, good[i].port);
		assert_int_equal(url.has_login, good[i].user != NULL);
		assert_string_equal(url.user, good[i].user != NULL ? good[i].user : "");
		assert_string_equal(url.password, good[i].user != NULL ? good[i].password : "");
	}
}

static void test_bad_urls(void **state)
{
	static const char *const bad[][2] = {
		{"", "must be socks5://"},
		{"127.0.0.1:1080", "must be socks5://"},
		{"https://h:1", "must be socks5://"},
		{"socks4://h:1", "must be socks5://"},
		{"socks5://", "HOST:PORT"},
		{"socks5://h", "HOST:PORT"},
		{"socks5://h:0", "HOST:PORT"},
		{"socks5://h:70000", "HOST:PORT"},
		{"socks5://:1080", "HOST:PORT"},
		{"http://h:1/path", "HOST:PORT"},
		{"http://a b:1", "neither a name"},
		{"http://h\r\nX:1", ""},
		{"http://:p@h:1", "user name is empty"},
		{"socks5://u@h:1", "password is missing"},
		{"socks5://u:@h:1", "password is missing"},
		{"http://u%3ax:p@h:1", "colon"},
		{"http://u:%@h:1", "%"},
		{"http://u:%4@h:1", "%"},
		{"http://u:%zz@h:1", "%"},
		{"http://u:a%0d%0ab@h:1", "control character"},
		{"http://u:%00@h:1", "control character"},
	};
	struct alk_proxy_url url;
	char text[700];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct alk_err err = {""};

		if (alk_proxy_url_parse(bad[i][0], &url, &err) == 0)
			fail_msg("%s is taken", bad[i][0]);
		if (strstr(err.text, bad[i][1]) == NULL)
			fail_msg("%s: \"%s\" does not say %s", bad[i][0], err.text, bad[i][1]);
	}
	for (int over = 0; over <= 1; over++) {
		struct alk_err err = {""};

		snprintf(text, sizeof(text), "socks5://u:%0*d@h:1", ALK_PROXY_WORD_MAX + over, 7);
		assert_int_equal(alk_proxy_url_parse(text, &url, &err), over ? -EINVAL : 0);
	}
}

static void test_password_is_hidden(void **state)
{
	char shown[64];

	(void)state;
	alk_proxy_url_show("http://u:p@ss@h:1", shown, sizeof(shown));
	assert_string_equal(shown, "http://u:***@h:1");
	alk_proxy_url_show("u:secret@h:1", shown, sizeof(shown)); /* no good URL, still a secret */
	assert_string_equal(shown, "u:***@h:1");
	alk_proxy_url_show("http://u@h:1", shown, sizeof(shown));
	assert_string_equal(shown, "http://u@h:1");
	assert_true(alk_proxy_url_has_password("http://u:p@h:1"));
	assert_false(alk_proxy_url_has_password("http://u@h:1"));
	assert_false(alk_proxy_url_has_password("http://h:1"));
}

/* ---- a proxy that says what a test wants ---- */

struct step {
	const char *expect; /* bytes that must come, from the dial */
	size_t expect_len;
	const char *say;
	size_t say_len;
};
#define STEP(expect_, say_)                                                                        \
	{                                                                                          \
		(expect_), sizeof(expect_) - 1, (say_), sizeof(say_) - 1                           \
	}

struct bench {
	struct alk_loop *loop;
	int listener, peer;
	uint16_t port;
	struct alk_io *accept, *io;
	const struct step *step; /* the one that waits for its bytes; ends with expect NULL */
	char in[4096];
	size_t len;
	bool close; /* after the last step */
	/* what `done` said */
	int calls, rc, fd;
	struct alk_err err;
};

static void peer_say(struct bench *b)
{
	if (b->step->say_len > 0)
		assert_int_equal(send(b->peer, b->step->say, b->step->say_len, MSG_NOSIGNAL),
				 (ssize_t)b->step->say_len);
	b->step++;
	b->len = 0;
	if (b->step->expect == NULL && b->close) {
		alk_io_set(b->io, 0);
		shutdown(b->peer, SHUT_RDWR);
	}
}

static void on_peer(void *user, int revents)
{
	struct bench *b = user;
	ssize_t n = recv(b->peer, b->in + b->len, sizeof(b->in) - b->len, MSG_DONTWAIT);

	(void)revents;
	if (n <= 0) {
		alk_io_set(b->io, 0);
		return;
	}
	b->len += (size_t)n;
	if (b->step->expect == NULL || b->len < b->step->expect_len)
		return;
	assert_int_equal(b->len, b->step->expect_len);
	assert_memory_equal(b->in, b->step->expect, b->len);
	peer_say(b);
}

static void on_accept(void *user, int revents)
{
	struct bench *b = user;

	(void)revents;
	alk_io_free(&b->io);
	alk_fd_close(&b->peer);
	b->peer = accept4(b->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	assert_true(b->peer >= 0);
	b->len = 0;
	b->io = alk_io_new(b->loop, b->peer, "test proxy", on_peer, b);
	alk_io_set(b->io, ALK_IO_READ);
}

static void on_done(void *user, int rc, int fd, const struct alk_err *err)
{
	struct bench *b = user;

	b->calls++;
	b->rc = rc;
	b->fd = fd;
	b->err = *err;
	assert_true((rc == 0) == (fd >= 0));
	assert_true((rc == 0) == (err->text[0] == '\0'));
	alk_loop_stop(b->loop);
}

static int setup(void **state)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sa);
	struct bench *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	b->loop = alk_loop_new(NULL);
	b->peer = b->fd = -1;
	b->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(b->listener, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(b->listener, 8), 0);
	assert_int_equal(getsockname(b->listener, (struct sockaddr *)&sa, &len), 0);
	b->port = ntohs(sa.sin_port);
	b->accept = alk_io_new(b->loop, b->listener, "test listener", on_accept, b);
	alk_io_set(b->accept, ALK_IO_READ);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	alk_io_free(&b->accept);
	alk_io_free(&b->io);
	alk_fd_close(&b->peer);
	alk_fd_close(&b->fd);
	alk_fd_close(&b->listener);
	alk_loop_free(&b->loop);
	free(b);
	return 0;
}

static void use_proxy(struct bench *b, const char *scheme, const char *login)
{
	struct alk_err err = {""};
	char url[128];

	snprintf(url, sizeof(url), "%s://%s127.0.0.1:%u", scheme, login, b->port);
	if (alk_proxy_set(b->loop, url, &err) != 0)
		fail_msg("%s: %s", url, err.text);
}

static void dial(struct bench *b, const char *host, uint16_t port, const struct step *steps,
		 uint64_t ms)
{
	struct alk_err err = {""};

	alk_fd_close(&b->fd);
	b->step = steps;
	b->calls = 0;
	if (alk_dial_tcp(b->loop, host, port, NULL, ms, on_done, b, &err) == NULL)
		fail_msg("%s", err.text);
	alk_loop_run(b->loop);
	assert_int_equal(b->calls, 1);
}

static void assert_failed(struct bench *b, int rc, const char *says)
{
	if (b->rc != rc)
		fail_msg("%d (%s), not %d", b->rc, b->err.text, rc);
	if (strstr(b->err.text, says) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", b->err.text, says);
}

/* What the destination said at once, in the same segment as the proxy's answer, is not lost. */
static void assert_greeted(struct bench *b, const char *greeting)
{
	char text[64] = "";

	if (b->rc != 0)
		fail_msg("%s", b->err.text);
	assert_int_equal(recv(b->fd, text, sizeof(text) - 1, MSG_DONTWAIT),
			 (ssize_t)strlen(greeting));
	assert_string_equal(text, greeting);
}

#define REPLY_V4 "\5\0\0\1\0\0\0\0\0\0"

static void test_socks5(void **state)
{
	static const struct step by_name[] = {
		STEP("\5\1\0", "\5\0"),
		STEP("\5\1\0\3\013example.com\0\120", REPLY_V4 "SSH-2.0-x"),
		{0},
	};
	static const struct step by_v4[] = {
		STEP("\5\1\0", "\5\0"),
		STEP("\5\1\0\1\12\1\2\3\1\273", "\5\0\0\3\4host\0\0hello"),
		{0},
	};
	static const struct step by_v6[] = {
		STEP("\5\1\0", "\5\0"),
		STEP("\5\1\0\4\40\1\15\270\0\0\0\0\0\0\0\0\0\0\0\1\0\26",
		     "\5\0\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0hello"),
		{0},
	};
	struct bench *b = *state;

	use_proxy(b, "socks5", "");
	dial(b, "example.com", 80, by_name, TIMEOUT_MS);
	assert_greeted(b, "SSH-2.0-x");
	dial(b, "10.1.2.3", 443, by_v4, TIMEOUT_MS);
	assert_greeted(b, "hello");
	dial(b, "2001:db8::1", 22, by_v6, TIMEOUT_MS);
	assert_greeted(b, "hello");
}

static void test_socks5_login(void **state)
{
	static const struct step taken[] = {
		STEP("\5\2\0\2", "\5\2"),
		STEP("\1\4anna\6secret", "\1\0"),
		STEP("\5\1\0\3\1h\0\1", REPLY_V4 "x"),
		{0},
	};
	static const struct step refused[] = {
		STEP("\5\2\0\2", "\5\2"),
		STEP("\1\4anna\6secret", "\1\1"),
		{0},
	};
	static const struct step not_wanted[] = {
		STEP("\5\2\0\2", "\5\0"),
		STEP("\5\1\0\3\1h\0\1", REPLY_V4 "x"),
		{0},
	};
	static const struct step none[] = {STEP("\5\2\0\2", "\5\377"), {0}};
	static const struct step wanted[] = {STEP("\5\1\0", "\5\377"), {0}};
	static const struct step other[] = {STEP("\5\1\0", "\5\2"), {0}};
	struct bench *b = *state;

	use_proxy(b, "socks5", "anna:secret@");
	dial(b, "h", 1, taken, TIMEOUT_MS);
	assert_greeted(b, "x");
	dial(b, "h", 1, not_wanted, TIMEOUT_MS);
	assert_greeted(b, "x");
	dial(b, "h", 1, refused, TIMEOUT_MS);
	assert_failed(b, -EKEYREJECTED, "refused the user name or the password");
	dial(b, "h", 1, none, TIMEOUT_MS);
	assert_failed(b, -EKEYREJECTED, "takes no user name");
	use_proxy(b, "socks5", "");
	dial(b, "h", 1, wanted, TIMEOUT_MS);
	assert_failed(b, -EKEYREJECTED, "wants a user name");
	dial(b, "h", 1, other, TIMEOUT_MS);
	assert_failed(b, -EPROTO, "not offered");
}

static void test_socks5_replies(void **state)
{
	static const struct {
		char reply;
		int rc;
		const char *says;
	} replies[] = {
		{1, -EIO, "general failure (reply 1)"},
		{2, -EACCES, "not allowed by its rules (reply 2)"},
		{3, -ENETUNREACH, "network unreachable (reply 3)"},
		{4, -EHOSTUNREACH, "host unreachable (reply 4)"},
		{5, -ECONNREFUSED, "connection refused (reply 5)"},
		{6, -ETIMEDOUT, "time to live expired (reply 6)"},
		{7, -EOPNOTSUPP, "command not supported (reply 7)"},
		{8, -EAFNOSUPPORT, "address type not supported (reply 8)"},
		{9, -EPROTO, "reply 9, which means nothing"},
	};
	char say[] = "\5\1\0\1\0\0\0\0\0\0";
	struct step steps[] = {
		STEP("\5\1\0", "\5\0"),
		STEP("\5\1\0\3\1h\0\1", ""),
		{0},
	};
	struct bench *b = *state;

	use_proxy(b, "socks5", "");
	steps[1].say = say;
	for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
		say[1] = replies[i].reply;
		steps[1].say_len = i % 2 == 0 ? 10 : 2; /* it may close without the address */
		dial(b, "h", 1, steps, TIMEOUT_MS);
		assert_failed(b, replies[i].rc, replies[i].says);
	}
}

static void test_http(void **state)
{
	static const struct step plain[] = {
		STEP("CONNECT example.com:80 HTTP/1.1\r\nHost: example.com:80\r\n\r\n",
		     "HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\nSSH-2.0-x"),
		{0},
	};
	static const struct step v6[] = {
		STEP("CONNECT [2001:db8::1]:22 HTTP/1.1\r\nHost: [2001:db8::1]:22\r\n\r\n",
		     "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200\n\nhello"),
		{0},
	};
	static const struct step login[] = {
		STEP("CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n"
		     "Proxy-Authorization: Basic YW5uYTpzZWNyZXQ=\r\n\r\n",
		     "HTTP/1.1 200 OK\r\n\r\nx"),
		{0},
	};
	struct bench *b = *state;

	use_proxy(b, "http", "");
	dial(b, "example.com", 80, plain, TIMEOUT_MS);
	assert_greeted(b, "SSH-2.0-x");
	dial(b, "2001:db8::1", 22, v6, TIMEOUT_MS);
	assert_greeted(b, "hello");
	use_proxy(b, "http", "anna:secret@");
	dial(b, "h", 1, login, TIMEOUT_MS);
	assert_greeted(b, "x");
}

static void test_http_refusals(void **state)
{
	static const struct {
		const char *say;
		int rc;
		const char *says;
	} answers[] = {
		{"HTTP/1.1 407 x\r\n\r\n", -EKEYREJECTED, "wants a user name and a password"},
		{"HTTP/1.1 403 x\r\n\r\n", -EACCES, "forbids it (status 403)"},
		{"HTTP/1.1 404 x\r\n\r\n", -ENOENT, "does not find the host (status 404)"},
		{"HTTP/1.1 502 x\r\n\r\n", -EHOSTUNREACH, "could not connect (status 502)"},
		{"HTTP/1.1 503 x\r\n\r\n", -EHOSTUNREACH, "could not connect (status 503)"},
		{"HTTP/1.1 504 x\r\n\r\n", -ETIMEDOUT, "in time (status 504)"},
		{"HTTP/1.1 302 x\r\n\r\n", -EIO, "status 302"},
		{"HTTP/1.1 2x0 x\r\n\r\n", -EPROTO, "not an HTTP proxy"},
		{"HTTP/2 200\r\n\r\n", -EPROTO, "not an HTTP proxy"},
		{"S", -EPROTO, "not an HTTP proxy"}, /* at its first byte */
		{"\r\n\r\n", -EPROTO, "not an HTTP proxy"},
	};
	struct step steps[] = {STEP("CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", ""), {0}};
	struct bench *b = *state;

	use_proxy(b, "http", "");
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		steps[0].say = answers[i].say;
		steps[0].say_len = strlen(answers[i].say);
		dial(b, "h", 1, steps, TIMEOUT_MS);
		assert_failed(b, answers[i].rc, answers[i].says);
	}
}

static void test_bad_proxies(void **state)
{
	static const struct step not_socks[] = {STEP("\5\1\0", "H"), {0}};
	static const struct step bad_type[] = {STEP("\5\1\0", "\5\0"),
					       STEP("\5\1\0\3\1h\0\1", "\5\0\0\2"),
					       {0}};
	static const struct step half[] = {STEP("\5\1\0", "\5\0"),
					   STEP("\5\1\0\3\1h\0\1", "\5\0\0\1\0"),
					   {0}};
	static const struct step silent[] = {STEP("\5\1\0", ""), {0}};
	struct step large[] = {STEP("CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", ""), {0}};
	char *head = malloc(ALK_PROXY_HEAD_MAX + 64);
	struct bench *b = *state;
	int n;

	assert_non_null(head);
	use_proxy(b, "socks5", "");
	dial(b, "h", 1, not_socks, TIMEOUT_MS);
	assert_failed(b, -EPROTO, "not a SOCKS5 proxy");
	dial(b, "h", 1, bad_type, TIMEOUT_MS);
	assert_failed(b, -EPROTO, "unknown address type");
	dial(b, "h", 1, silent, SHORT_MS);
	assert_failed(b, -ETIMEDOUT, "the proxy did not answer in 0.3 s");
	b->close = true;
	dial(b, "h", 1, half, TIMEOUT_MS);
	assert_failed(b, -ECONNABORTED, "without an answer");
	dial(b, "h", 1, silent, TIMEOUT_MS);
	assert_failed(b, -ECONNABORTED, "without an answer");
	b->close = false;
	use_proxy(b, "http", "");
	n = snprintf(head, 64, "HTTP/1.1 200 OK\r\nX: ");
	memset(head + n, 'x', ALK_PROXY_HEAD_MAX);
	large[0].say = head;
	large[0].say_len = (size_t)n + ALK_PROXY_HEAD_MAX;
	dial(b, "h", 1, large, TIMEOUT_MS);
	assert_failed(b, -EPROTO, "longer than 16384 bytes");
	free(head);
}

/* A proxy that is not there is no destination that refuses. */
static void test_unreachable(void **state)
{
	struct bench *b = *state;
	struct alk_err err = {""};

	use_proxy(b, "socks5", "");
	alk_io_free(&b->accept);
	alk_fd_close(&b->listener);
	dial(b, "h", 1, NULL, TIMEOUT_MS);
	assert_failed(b, -EIO, "the proxy cannot be reached: connect failed");
	assert_int_equal(alk_open_failure_of(b->rc), ALK_OPEN_CONNECT_FAILED);
	/* No proxy resolves an address's zone, or a name that is none. */
	assert_null(alk_dial_tcp(b->loop, "a b", 1, NULL, 1, on_done, b, &err));
	assert_null(alk_dial_tcp(b->loop, "x\r\ny", 1, NULL, 1, on_done, b, &err));
}

/* ---- destinations ---- */

static void dial_to(struct bench *b, const struct alk_destination *to, const struct step *steps)
{
	struct alk_err err = {""};

	alk_fd_close(&b->fd);
	b->step = steps;
	b->calls = 0;
	if (alk_dial_to(b->loop, to, TIMEOUT_MS, on_done, b, &err) == NULL)
		fail_msg("%s", err.text);
	alk_loop_run(b->loop);
	assert_int_equal(b->calls, 1);
}

#define V2 "\r\n\r\n\0\r\nQUIT\n"

static void test_destination(void **state)
{
	static const struct step proxied[] = {
		STEP("\5\1\0", "\5\0"),
		STEP("\5\1\0\3\1h\0\1", REPLY_V4 "x"),
		{0},
	};
	static const struct step header[] =
		{STEP(V2 "\x21\x11\0\x0c\xc0\0\2\1\x0a\0\0\1\x30\x39\0\x16", "hello"), {0}};
	struct alk_destination to = {.host = "h", .port = 1};
	struct bench *b = *state;
	struct alk_err err = {""};

	snprintf(to.via, sizeof(to.via), "socks5://127.0.0.1:%u", b->port);
	dial_to(b, &to, proxied);
	assert_greeted(b, "x");
	/* Straight there, whatever the program's proxy is; with a header in front. */
	assert_int_equal(alk_proxy_set(b->loop, "socks5://127.0.0.1:1", &err), 0);
	to = (struct alk_destination){.host = "127.0.0.1",
				      .port = b->port,
				      .via = "none",
				      .proxy_protocol = true,
				      .remote_addr = "192.0.2.1",
				      .remote_port = 12345,
				      .local_addr = "10.0.0.1",
				      .local_port = 22};
	dial_to(b, &to, header);
	assert_int_equal(b->rc, 0);
	while (b->step->expect != NULL) {
		/* The loop turns until the peer has had it. */
		dial_to(b, &to, b->step);
	}
	snprintf(to.via, sizeof(to.via), "gopher://x");
	assert_null(alk_dial_to(b->loop, &to, TIMEOUT_MS, on_done, b, &err));
	assert_non_null(strstr(err.text, "via"));
}

static void test_cancel(void **state)
{
	static const struct step silent[] = {STEP("\5\1\0", ""), {0}};
	struct bench *b = *state;
	struct alk_err err = {""};
	struct alk_dial *dialing;

	use_proxy(b, "socks5", "");
	b->step = silent;
	dialing = alk_dial_tcp(b->loop, "h", 1, NULL, TIMEOUT_MS, on_done, b, &err);
	assert_non_null(dialing);
	/* Nobody accepts; another dial that ends later brings the first one to where it waits. */
	alk_io_set(b->accept, 0);
	dial(b, "h", 1, silent, SHORT_MS);
	assert_failed(b, -ETIMEDOUT, "did not answer");
	alk_dial_cancel(&dialing);
	assert_int_equal(b->calls, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_urls),
		cmocka_unit_test(test_bad_urls),
		cmocka_unit_test(test_password_is_hidden),
		cmocka_unit_test_setup_teardown(test_socks5, setup, teardown),
		cmocka_unit_test_setup_teardown(test_socks5_login, setup, teardown),
		cmocka_unit_test_setup_teardown(test_socks5_replies, setup, teardown),
		cmocka_unit_test_setup_teardown(test_http, setup, teardown),
		cmocka_unit_test_setup_teardown(test_http_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_proxies, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unreachable, setup, teardown),
		cmocka_unit_test_setup_teardown(test_destination, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
