/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The proxy port's state machine. Holds THREATS row 68. */
#include "socks5.h"
#include "proxy_auth.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define BYTES(text_) ((const uint8_t *)(text_)), sizeof(text_) - 1

static const char GREETING_OK[] = "\x05\x00";

/* Feed everything, `step` bytes more at a time (0 = all at once), as a caller does. Returns what
 * was not consumed. Each round has a copy of its exact size, so that reading past it is caught. */
static size_t feed(struct alk_socks5 *socks, const uint8_t *bytes, size_t n, size_t step)
{
	size_t begin = 0, end = 0;

	while (end < n && socks->state < ALK_SOCKS5_ASKED) {
		size_t taken;

		end = step == 0 || n - end < step ? n : end + step;
		do {
			uint8_t *copy = malloc(end - begin + 1);

			assert_non_null(copy);
			memcpy(copy, bytes + begin, end - begin);
			taken = alk_socks5_feed(socks, copy, end - begin);
			assert_true(taken <= end - begin);
			begin += taken;
			free(copy);
		} while (taken > 0 && socks->state < ALK_SOCKS5_ASKED);
	}
	return n - begin;
}

struct talk {
	const char *what;
	const uint8_t *sent;
	size_t sent_len;
	const uint8_t *reply;
	size_t reply_len;
	enum alk_socks5_state state;
	const char *host;
	uint16_t port;
	size_t left;
};

#define HELLO "\x05\x01\x00"
#define REPLY(code_) "\x05" code_ "\x00\x01\x00\x00\x00\x00\x00\x00"
#define FAILS(what_, sent_, reply_)                                                                \
	{                                                                                          \
		(what_), BYTES(sent_), BYTES(reply_), ALK_SOCKS5_FAILED, NULL, 0, 0                \
	}
#define ASKS(what_, sent_, reply_, host_, port_, left_)                                            \
	{                                                                                          \
		(what_), BYTES(sent_), BYTES(reply_), ALK_SOCKS5_ASKED, (host_), (port_), (left_)  \
	}
#define WAITS(what_, sent_, reply_, state_)                                                        \
	{                                                                                          \
		(what_), BYTES(sent_), BYTES(reply_), (state_), NULL, 0, SIZE_MAX                  \
	}

static const struct talk socks_talks[] = {
	ASKS("IPv4", HELLO "\x05\x01\x00\x01\x7f\x00\x00\x01\x1f\x90", "\x05\x00", "127.0.0.1",
	     8080, 0),
	ASKS("IPv6", HELLO "\x05\x01\x00\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x01\xbb",
	     "\x05\x00", "2001:db8::1", 443, 0),
	ASKS("a name",
	     HELLO "\x05\x01\x00\x03\x0b"
		   "example.org"
		   "\x00\x50",
	     "\x05\x00", "example.org", 80, 0),
	ASKS("a name of one byte",
	     HELLO "\x05\x01\x00\x03\x01"
		   "h"
		   "\xff\xff",
	     "\x05\x00", "h", 65535, 0),
	ASKS("several methods", "\x05\x03\x02\x01\x00\x05\x01\x00\x01\x01\x02\x03\x04\x00\x16",
	     "\x05\x00", "1.2.3.4", 22, 0),
	ASKS("data behind the request",
	     HELLO "\x05\x01\x00\x01\x01\x02\x03\x04\x00\x50"
		   "GET /",
	     "\x05\x00", "1.2.3.4", 80, 5),
	ASKS("port 0 of a reserved destination",
	     HELLO "\x05\x01\x00\x03\x0d"
		   "alknet-secret"
		   "\x00\x00",
	     "\x05\x00", "alknet-secret", 0, 0),
	ASKS("a reserved byte that is set", HELLO "\x05\x01\xff\x01\x01\x02\x03\x04\x00\x50",
	     "\x05\x00", "1.2.3.4", 80, 0),
	FAILS("no methods", "\x05\x00", "\x05\xff"),
	FAILS("no acceptable method", "\x05\x02\x01\x02", "\x05\xff"),
	FAILS("BIND", HELLO "\x05\x02\x00\x01\x01\x02\x03\x04\x00\x50", "\x05\x00" REPLY("\x07")),
	FAILS("UDP ASSOCIATE", HELLO "\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00",
	      "\x05\x00" REPLY("\x07")),
	FAILS("command 0", HELLO "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00",
	      "\x05\x00" REPLY("\x07")),
	FAILS("address type 2", HELLO "\x05\x01\x00\x02\x01\x02\x03\x04\x00\x50",
	      "\x05\x00" REPLY("\x08")),
	FAILS("address type 0", HELLO "\x05\x01\x00\x00\x01\x02\x03\x04\x00\x50",
	      "\x05\x00" REPLY("\x08")),
	FAILS("an empty name", HELLO "\x05\x01\x00\x03\x00\x00\x50", "\x05\x00" REPLY("\x01")),
	FAILS("a NUL in the name",
	      HELLO "\x05\x01\x00\x03\x03"
		    "a\0b"
		    "\x00\x50",
	      "\x05\x00" REPLY("\x01")),
	FAILS("a newline in the name",
	      HELLO "\x05\x01\x00\x03\x03"
		    "a\nb"
		    "\x00\x50",
	      "\x05\x00" REPLY("\x01")),
	FAILS("DEL in the name",
	      HELLO "\x05\x01\x00\x03\x03"
		    "a\x7f"
		    "b"
		    "\x00\x50",
	      "\x05\x00" REPLY("\x01")),
	FAILS("port 0", HELLO "\x05\x01\x00\x01\x01\x02\x03\x04\x00\x00", "\x05\x00" REPLY("\x01")),
	FAILS("another version in the request", HELLO "\x04\x01\x00\x01\x01\x02\x03\x04\x00\x50",
	      "\x05\x00" REPLY("\x01")),
	FAILS("SOCKS4", "\x04\x01\x00\x50\x01\x02\x03\x04\x00", "\x00\x5b\x00\x00\x00\x00\x00\x00"),
	FAILS("version 6", "\x06\x01\x00", ""),
	FAILS("version 0", "\x00", ""),
	FAILS("a TLS hello", "\x16\x03\x01\x00\x05hello", ""),
	FAILS("an SSH client behind CR LF", "\r\nSSH-2.0-x\r\n", ""),
	WAITS("half a greeting", "\x05\x02\x00", "", ALK_SOCKS5_GREETING),
	WAITS("half a request",
	      HELLO "\x05\x01\x00\x03\x05"
		    "abcd",
	      "\x05\x00", ALK_SOCKS5_REQUEST),
};

static const char *const http_bad[] = {
	"CONNECT\r\n\r\n",
	"CONNECT \r\n\r\n",
	"CONNECT h:1\r\n\r\n",
	"CONNECT  HTTP/1.1\r\n\r\n",
	"CONNECT h:1 HTTP/2.0\r\n\r\n",
	"CONNECT h:1 HTTP/1.1 \r\n\r\n",
	"CONNECT h:1 HTTP/1.\r\n\r\n",
	"CONNECT h:1 http/1.1\r\n\r\n",
	"CONNECT  h:1 HTTP/1.1\r\n\r\n",
	"CONNECT h HTTP/1.1\r\n\r\n",
	"CONNECT h: HTTP/1.1\r\n\r\n",
	"CONNECT :1 HTTP/1.1\r\n\r\n",
	"CONNECT h:0 HTTP/1.1\r\n\r\n",
	"CONNECT h:65536 HTTP/1.1\r\n\r\n",
	"CONNECT h:000001 HTTP/1.1\r\n\r\n",
	"CONNECT h:+1 HTTP/1.1\r\n\r\n",
	"CONNECT h:1x HTTP/1.1\r\n\r\n",
	"CONNECT a:b:1 HTTP/1.1\r\n\r\n",
	"CONNECT ::1:443 HTTP/1.1\r\n\r\n",
	"CONNECT [::1] HTTP/1.1\r\n\r\n",
	"CONNECT [::1]443 HTTP/1.1\r\n\r\n",
	"CONNECT [::1:443 HTTP/1.1\r\n\r\n",
	"CONNECT [h]:443 HTTP/1.1\r\n\r\n",
	"CONNECT [1.2.3.4]:443 HTTP/1.1\r\n\r\n",
	"CONNECT []:443 HTTP/1.1\r\n\r\n",
	"CONNECT user@h:1 HTTP/1.1\r\n\r\n",
	"CONNECT http://h:1 HTTP/1.1\r\n\r\n",
	"CONNECT h:1/ HTTP/1.1\r\n\r\n",
	"CONNECT h\xc3\xa9:1 HTTP/1.1\r\n\r\n",
	"CONNECT h:1 HTTP/1.1\r\nno colon\r\n\r\n",
	"CONNECT h:1 HTTP/1.1\r\n: empty\r\n\r\n",
	"CONNECT h:1 HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
	"CONNECT h:1 HTTP/1.1\r\nA : b\r\n\r\n",
	"CONNECT h:1 HTTP/1.1\n\n",
	"CONNECT h:1 HTTP/1.1\r\nA: b\n\r\n",
	"CONNECT h:1 HTTP/1.1\r\rA: b\r\n\r\n",
	"CONNECT h:1 HTTP/1.1\r\nA: \x01\r\n\r\n",
	"CON(NECT h:1 HTTP/1.1\r\n\r\n",
	"CONNECT\th:1\tHTTP/1.1\r\n\r\n",
};

static const struct talk http_good[] = {
	ASKS("a name", "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n", "",
	     "example.org", 443, 0),
	ASKS("port 0 of a reserved destination", "CONNECT alknet-secret:0 HTTP/1.1\r\n\r\n", "",
	     "alknet-secret", 0, 0),
	ASKS("no header", "CONNECT example.org:80 HTTP/1.0\r\n\r\n", "", "example.org", 80, 0),
	ASKS("IPv4", "CONNECT 127.0.0.1:8080 HTTP/1.1\r\n\r\n", "", "127.0.0.1", 8080, 0),
	ASKS("IPv6", "CONNECT [2001:db8::1]:443 HTTP/1.1\r\n\r\n", "", "2001:db8::1", 443, 0),
	ASKS("data behind the head", "CONNECT h:1 HTTP/1.1\r\nA: b\r\nC:\r\n\r\n\x16\x03\r\n\r\n",
	     "", "h", 1, 6),
	ASKS("a tab and a high byte in a header", "CONNECT h:1 HTTP/1.1\r\nA:\tb\xe9\r\n\r\n", "",
	     "h", 1, 0),
	WAITS("half a head", "CONNECT h:1 HTTP/1.1\r\n\r", "", ALK_SOCKS5_HTTP),
};

static void check_talk(const struct talk *talk, size_t step, const char *auth)
{
	struct alk_socks5 socks;
	size_t left;

	alk_socks5_init(&socks, auth);
	left = feed(&socks, talk->sent, talk->sent_len, step);
	if (socks.state != talk->state || socks.reply_len != talk->reply_len ||
	    memcmp(socks.reply, talk->reply, talk->reply_len) != 0)
		fail_msg("%s, %zu bytes at a time: %s, reply of %zu bytes", talk->what, step,
			 alk_socks5_state_str(socks.state), socks.reply_len);
	if (talk->state != ALK_SOCKS5_ASKED)
		return;
	assert_string_equal(socks.to.host, talk->host);
	assert_int_equal(socks.to.port, talk->port);
	assert_string_equal(socks.to.path, "");
	/* What stands behind the request is kept, whatever it was sent in. */
	if (step == 0)
		assert_int_equal(left, talk->left);
}

static void test_row68_socks(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(socks_talks) / sizeof(socks_talks[0]); i++) {
		for (size_t step = 0; step < 8; step++)
			check_talk(&socks_talks[i], step, NULL);
	}
}

static void test_row68_longest_name(void **state)
{
	uint8_t sent[5 + 255 + 2] = {5, 1, 0, 3, 255};
	struct alk_socks5 socks;

	(void)state;
	memset(sent + 5, 'n', 255);
	sent[261] = 22;
	alk_socks5_init(&socks, NULL);
	assert_int_equal(alk_socks5_feed(&socks, BYTES(HELLO)), 3);
	assert_int_equal(alk_socks5_feed(&socks, sent, sizeof(sent) - 1), 0);
	assert_int_equal(alk_socks5_feed(&socks, sent, sizeof(sent)), sizeof(sent));
	assert_int_equal(socks.state, ALK_SOCKS5_ASKED);
	assert_int_equal(strlen(socks.to.host), 255);
	assert_int_equal(socks.to.port, 22);
}

static void test_row68_most_methods(void **state)
{
	uint8_t sent[2 + 255] = {5, 255};
	struct alk_socks5 socks;

	(void)state;
	memset(sent + 2, 2, 254);
	alk_socks5_init(&socks, NULL);
	assert_int_equal(feed(&socks, sent, sizeof(sent), 1), 0);
	assert_int_equal(socks.state, ALK_SOCKS5_REQUEST);
	assert_memory_equal(socks.reply, GREETING_OK, 2);
}

static void test_http_good(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(http_good) / sizeof(http_good[0]); i++) {
		for (size_t step = 0; step < 8; step++)
			check_talk(&http_good[i], step, NULL);
	}
}

static void check_http_failure(const uint8_t *sent, size_t len, size_t step, const char *status)
{
	struct alk_socks5 socks;
	char reply[sizeof(socks.reply) + 1];
	char *body;
	size_t said;

	alk_socks5_init(&socks, NULL);
	feed(&socks, sent, len, step);
	memcpy(reply, socks.reply, socks.reply_len);
	reply[socks.reply_len] = '\0';
	if (socks.state != ALK_SOCKS5_FAILED || strncmp(reply, status, strlen(status)) != 0)
		fail_msg("'%.*s', %zu bytes at a time: %s, '%s'", (int)len, (const char *)sent,
			 step, alk_socks5_state_str(socks.state), reply);
	body = strstr(reply, "\r\n\r\n");
	assert_non_null(body);
	assert_non_null(strstr(reply, "\r\nConnection: close\r\n"));
	assert_int_equal(sscanf(strstr(reply, "Content-Length:"), "Content-Length: %zu", &said), 1);
	assert_int_equal(strlen(body + 4), said);
	assert_true(said > 0);
}

static void test_http_bad(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(http_bad) / sizeof(http_bad[0]); i++) {
		for (size_t step = 0; step < 8; step++)
			check_http_failure((const uint8_t *)http_bad[i], strlen(http_bad[i]), step,
					   "HTTP/1.1 400 Bad Request\r\n");
	}
	check_http_failure(BYTES("CONNECT h\0:1 HTTP/1.1\r\n\r\n"), 0,
			   "HTTP/1.1 400 Bad Request\r\n");
	check_http_failure(BYTES("CONNECT h:1 HTTP/1.1\r\nA: \0\r\n\r\n"), 1,
			   "HTTP/1.1 400 Bad Request\r\n");
}

static void test_http_bad_byte_fails_at_once(void **state)
{
	struct alk_socks5 socks;

	(void)state;
	alk_socks5_init(&socks, NULL);
	assert_int_equal(alk_socks5_feed(&socks, BYTES("CONNECT h\n")), 10);
	assert_int_equal(socks.state, ALK_SOCKS5_FAILED);
}

static void test_http_other_methods(void **state)
{
	static const char *const requests[] = {
		"GET http://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n",
		"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
		"connect h:1 HTTP/1.1\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\n",
		"GET / HTTP/1.0\r\n\r\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		for (size_t step = 0; step < 8; step++)
			check_http_failure((const uint8_t *)requests[i], strlen(requests[i]), step,
					   "HTTP/1.1 405 Method Not Allowed\r\nAllow: CONNECT\r\n");
	}
}

/* A head of exactly `len` bytes. */
static uint8_t *long_head(size_t len)
{
	static const char begin[] = "CONNECT h:1 HTTP/1.1\r\nA: ";
	uint8_t *head = malloc(len);

	assert_non_null(head);
	memset(head, 'a', len);
	memcpy(head, begin, sizeof(begin) - 1);
	memcpy(head + len - 4, "\r\n\r\n", 4);
	return head;
}

static void test_http_longest_head(void **state)
{
	static const size_t steps[] = {0, 1, 1000};
	uint8_t *fits = long_head(ALK_SOCKS5_HEAD_MAX);
	uint8_t *too_long = long_head(ALK_SOCKS5_HEAD_MAX + 1);
	struct alk_socks5 socks;

	(void)state;
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		alk_socks5_init(&socks, NULL);
		assert_int_equal(feed(&socks, fits, ALK_SOCKS5_HEAD_MAX, steps[i]), 0);
		assert_int_equal(socks.state, ALK_SOCKS5_ASKED);
		check_http_failure(too_long, ALK_SOCKS5_HEAD_MAX + 1, steps[i], "HTTP/1.1 431 ");
	}
	free(fits);
	free(too_long);
}

static void test_http_long_host(void **state)
{
	struct alk_socks5 socks;
	char request[512], host[257];
	int n;

	(void)state;
	memset(host, 'h', sizeof(host));
	host[255] = '\0';
	n = snprintf(request, sizeof(request), "CONNECT %s:443 HTTP/1.1\r\n\r\n", host);
	alk_socks5_init(&socks, NULL);
	assert_int_equal(feed(&socks, (const uint8_t *)request, (size_t)n, 0), 0);
	assert_int_equal(socks.state, ALK_SOCKS5_ASKED);
	assert_string_equal(socks.to.host, host);

	host[255] = 'h';
	host[256] = '\0';
	n = snprintf(request, sizeof(request), "CONNECT %s:443 HTTP/1.1\r\n\r\n", host);
	check_http_failure((const uint8_t *)request, (size_t)n, 0, "HTTP/1.1 400 Bad Request\r\n");
}

static void test_nothing_after_the_end(void **state)
{
	struct alk_socks5 socks;

	(void)state;
	alk_socks5_init(&socks, NULL);
	assert_int_equal(alk_socks5_feed(&socks, (const uint8_t *)"", 0), 0);
	assert_int_equal(socks.state, ALK_SOCKS5_START);
	assert_int_equal(alk_socks5_feed(&socks, BYTES("\x06\x01")), 2);
	assert_int_equal(alk_socks5_feed(&socks, BYTES(HELLO)), 0);
	assert_int_equal(socks.reply_len, 0);
}

static void answer(struct alk_socks5 *socks, const uint8_t *request, size_t n,
		   enum alk_open_failure why)
{
	alk_socks5_init(socks, NULL);
	feed(socks, request, n, 0);
	assert_int_equal(socks->state, ALK_SOCKS5_ASKED);
	socks->reply_len = 0;
	alk_socks5_answer(socks, why);
	assert_int_equal(socks->state, why == ALK_OPEN_OK ? ALK_SOCKS5_DONE : ALK_SOCKS5_FAILED);
	assert_true(socks->reply_len < sizeof(socks->reply));
}

static void test_answers(void **state)
{
	static const struct {
		enum alk_open_failure why;
		uint8_t socks;
		const char *http;
	} answers[] = {
		{ALK_OPEN_OK, 0, "HTTP/1.1 200 Connection established\r\n\r\n"},
		{ALK_OPEN_PROHIBITED, 2, "HTTP/1.1 403 Forbidden\r\n"},
		{ALK_OPEN_CONNECT_FAILED, 1, "HTTP/1.1 502 Bad Gateway\r\n"},
		{ALK_OPEN_UNKNOWN_TYPE, 1, "HTTP/1.1 502 Bad Gateway\r\n"},
		{ALK_OPEN_RESOURCE_SHORTAGE, 1, "HTTP/1.1 502 Bad Gateway\r\n"},
		{ALK_OPEN_REFUSED, 5, "HTTP/1.1 502 Bad Gateway\r\n"},
		{ALK_OPEN_UNREACHABLE, 4, "HTTP/1.1 502 Bad Gateway\r\n"},
		{ALK_OPEN_TIMEOUT, 6, "HTTP/1.1 504 Gateway Timeout\r\n"},
		{ALK_OPEN_NAME, 4, "HTTP/1.1 502 Bad Gateway\r\n"},
		{ALK_OPEN_GONE, 1, "HTTP/1.1 503 Service Unavailable\r\n"},
	};
	struct alk_socks5 socks;

	(void)state;
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		uint8_t expected[10] = {5, answers[i].socks, 0, 1};

		answer(&socks, BYTES(HELLO "\x05\x01\x00\x01\x01\x02\x03\x04\x00\x50"),
		       answers[i].why);
		assert_int_equal(socks.reply_len, sizeof(expected));
		assert_memory_equal(socks.reply, expected, sizeof(expected));

		answer(&socks, BYTES("CONNECT h:1 HTTP/1.1\r\n\r\n"), answers[i].why);
		assert_memory_equal(socks.reply, answers[i].http, strlen(answers[i].http));
		if (answers[i].why == ALK_OPEN_OK)
			assert_int_equal(socks.reply_len, strlen(answers[i].http));
	}
}

/* ---- user and password ---- */

static const char logins[] = "# who may\r\nanna:secret\n\nbob:with:colons\r\n";
#define LOGIN(user_len_, user_, password_len_, password_)                                          \
	"\x05\x01\x02"                                                                             \
	"\x01" user_len_ user_ password_len_ password_
#define CONNECT_4 "\x05\x01\x00\x01\x7f\x00\x00\x01\x1f\x90"

static void test_row68_logins(void **state)
{
	static const struct talk talks[] = {
		ASKS("a login", LOGIN("\x04", "anna", "\x06", "secret") CONNECT_4 "early",
		     "\x05\x02\x01\x00", "127.0.0.1", 8080, 5),
		ASKS("colons in a password", LOGIN("\x03", "bob", "\x0b", "with:colons") CONNECT_4,
		     "\x05\x02\x01\x00", "127.0.0.1", 8080, 0),
		FAILS("a wrong password", LOGIN("\x04", "anna", "\x06", "Secret") CONNECT_4,
		      "\x05\x02\x01\x01"),
		FAILS("the beginning of a password", LOGIN("\x04", "anna", "\x05", "secre"),
		      "\x05\x02\x01\x01"),
		FAILS("a password twice", LOGIN("\x04", "anna", "\x0c", "secretsecret"),
		      "\x05\x02\x01\x01"),
		FAILS("another's password", LOGIN("\x03", "bob", "\x06", "secret"),
		      "\x05\x02\x01\x01"),
		FAILS("a comment", LOGIN("\x05", "# who", "\x04", " may"), "\x05\x02\x01\x01"),
		FAILS("no user", LOGIN("\x00", "", "\x06", "secret"), "\x05\x02\x01\x01"),
		FAILS("no password", LOGIN("\x04", "anna", "\x00", ""), "\x05\x02\x01\x01"),
		FAILS("another version", "\x05\x01\x02\x05\x04", "\x05\x02\x01\x01"),
		FAILS("without the method", "\x05\x01\x00", "\x05\xff"),
		FAILS("GSSAPI", "\x05\x01\x01", "\x05\xff"),
		FAILS("no method", "\x05\x00", "\x05\xff"),
		ASKS("both methods",
		     "\x05\x02\x00\x02\x01\x04"
		     "anna\x06"
		     "secret" CONNECT_4,
		     "\x05\x02\x01\x00", "127.0.0.1", 8080, 0),
		WAITS("half a login",
		      "\x05\x01\x02\x01\x04"
		      "anna\x06secre",
		      "\x05\x02", ALK_SOCKS5_AUTH),
	};

	(void)state;
	for (size_t i = 0; i < sizeof(talks) / sizeof(talks[0]); i++) {
		for (size_t step = 0; step < 4; step++)
			check_talk(&talks[i], step, logins);
	}
}

static void test_http_logins(void **state)
{
	static const struct {
		const char *fields;
		bool good;
	} tries[] = {
		{"Proxy-Authorization: Basic YW5uYTpzZWNyZXQ=\r\n", true},
		{"proxy-authorization:basic   YW5uYTpzZWNyZXQ= \r\n", true},
		{"Host: h\r\nProxy-Authorization:\tBasic Ym9iOndpdGg6Y29sb25z\r\nA: b\r\n", true},
		{"", false},
		{"Authorization: Basic YW5uYTpzZWNyZXQ=\r\n", false},
		{"Proxy-Authorization: Bearer YW5uYTpzZWNyZXQ=\r\n", false},
		{"Proxy-Authorization: Basic YW5uYTpTZWNyZXQ=\r\n", false},
		{"Proxy-Authorization: Basic YW5uYQ==\r\n", false},
		{"Proxy-Authorization: Basic !!!!\r\n", false},
		{"Proxy-Authorization: Basic\r\n", false},
		{"Proxy-Authorization: Basic \r\n", false},
	};
	static const char denied[] = "HTTP/1.1 407 Proxy Authentication Required\r\n"
				     "Proxy-Authenticate: Basic realm=\"alknet\"\r\n";

	(void)state;
	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		struct alk_socks5 socks;
		char head[512];
		int n = snprintf(head, sizeof(head), "CONNECT h:1 HTTP/1.1\r\n%s\r\n",
				 tries[i].fields);

		alk_socks5_init(&socks, logins);
		feed(&socks, (const uint8_t *)head, (size_t)n, i % 3);
		assert_int_equal(socks.state, tries[i].good ? ALK_SOCKS5_ASKED : ALK_SOCKS5_FAILED);
		assert_int_equal(socks.denied, !tries[i].good);
		if (!tries[i].good)
			assert_memory_equal(socks.reply, denied, sizeof(denied) - 1);
	}
}

static void test_logins_are_checked(void **state)
{
	static const struct {
		const char *lines, *words; /* NULL: good */
	} files[] = {
		{"a:b", NULL},
		{"a:b\r\n# c\n\nd:e:f\n", NULL},
		{"", "no USER:PASSWORD"},
		{"# only this\n", "no USER:PASSWORD"},
		{"a:b\nsecretword\n", "line 2"},
		{":secretword", "line 1"},
		{"secretword:", "line 1"},
		{"a:b\tc", "line 1"},
	};
	char longest[600];

	(void)state;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		struct alk_err err = {""};

		assert_int_equal(alk_proxy_auth_check(files[i].lines, &err),
				 files[i].words == NULL ? 0 : -EINVAL);
		if (files[i].words != NULL)
			assert_non_null(strstr(err.text, files[i].words));
		assert_null(strstr(err.text, "secretword"));
	}
	memset(longest, 'x', sizeof(longest));
	longest[255] = ':';
	longest[511] = '\0';
	assert_int_equal(alk_proxy_auth_check(longest, NULL), 0);
	longest[511] = 'x';
	longest[512] = '\0';
	assert_int_equal(alk_proxy_auth_check(longest, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_row68_socks),
		cmocka_unit_test(test_row68_longest_name),
		cmocka_unit_test(test_row68_most_methods),
		cmocka_unit_test(test_http_good),
		cmocka_unit_test(test_http_bad),
		cmocka_unit_test(test_http_bad_byte_fails_at_once),
		cmocka_unit_test(test_http_other_methods),
		cmocka_unit_test(test_http_longest_head),
		cmocka_unit_test(test_http_long_host),
		cmocka_unit_test(test_nothing_after_the_end),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_row68_logins),
		cmocka_unit_test(test_http_logins),
		cmocka_unit_test(test_logins_are_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
