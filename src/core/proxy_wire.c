/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "proxy_wire.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "addr.h"
#include "base64.h"

enum {
	SOCKS_VERSION = 5,
	SOCKS_LOGIN_VERSION = 1,
	SOCKS_NO_LOGIN = 0,
	SOCKS_LOGIN = 2,
	SOCKS_NO_METHOD = 0xff,
	SOCKS_CONNECT = 1,
	SOCKS_V4 = 1,
	SOCKS_NAME = 3,
	SOCKS_V6 = 4,
};

static void ALK_PRINTF(3, 4) wire_fail(struct alk_proxy_wire *wire, int rc, const char *fmt, ...)
{
	va_list ap;

	wire->state = ALK_PROXY_FAILED;
	wire->rc = rc;
	va_start(ap, fmt);
	vsnprintf(wire->err.text, sizeof(wire->err.text), fmt, ap);
	va_end(ap);
}

static void wire_put(struct alk_proxy_wire *wire, const void *bytes, size_t n)
{
	memcpy(wire->out + wire->out_len, bytes, n);
	wire->out_len += n;
}

static void wire_put_byte(struct alk_proxy_wire *wire, uint8_t byte)
{
	wire_put(wire, &byte, 1);
}

/* ---- SOCKS5 ---- */

static void socks_hello(struct alk_proxy_wire *wire)
{
	static const uint8_t plain[] = {SOCKS_VERSION, 1, SOCKS_NO_LOGIN};
	static const uint8_t login[] = {SOCKS_VERSION, 2, SOCKS_NO_LOGIN, SOCKS_LOGIN};

	if (wire->url->has_login)
		wire_put(wire, login, sizeof(login));
	else
		wire_put(wire, plain, sizeof(plain));
	wire->state = ALK_PROXY_METHOD;
}

static void socks_login(struct alk_proxy_wire *wire)
{
	size_t user = strlen(wire->url->user), password = strlen(wire->url->password);

	wire_put_byte(wire, SOCKS_LOGIN_VERSION);
	wire_put_byte(wire, (uint8_t)user);
	wire_put(wire, wire->url->user, user);
	wire_put_byte(wire, (uint8_t)password);
	wire_put(wire, wire->url->password, password);
	wire->state = ALK_PROXY_LOGIN;
}

static void socks_request(struct alk_proxy_wire *wire)
{
	static const uint8_t head[] = {SOCKS_VERSION, SOCKS_CONNECT, 0};
	const uint16_t port = htons(wire->port);
	struct alk_sockaddr to;

	wire_put(wire, head, sizeof(head));
	if (alk_addr_parse(&to, wire->host, wire->port) < 0) {
		wire_put_byte(wire, SOCKS_NAME);
		wire_put_byte(wire, (uint8_t)strlen(wire->host));
		wire_put(wire, wire->host, strlen(wire->host));
	} else if (to.sa.sa_family == AF_INET) {
		wire_put_byte(wire, SOCKS_V4);
		wire_put(wire, &to.in.sin_addr, 4);
	} else {
		wire_put_byte(wire, SOCKS_V6);
		wire_put(wire, &to.in6.sin6_addr, 16);
	}
	wire_put(wire, &port, sizeof(port));
	wire->state = ALK_PROXY_REPLY;
}

static void socks_on_method(struct alk_proxy_wire *wire)
{
	bool login = wire->url->has_login;

	if (wire->in[1] == SOCKS_NO_LOGIN)
		socks_request(wire);
	else if (wire->in[1] == SOCKS_LOGIN && login)
		socks_login(wire);
	else if (wire->in[1] == SOCKS_NO_METHOD)
		wire_fail(
			wire, -EKEYREJECTED,
			login ? "the proxy takes no user name and password"
			      : "the proxy wants a user name and a password, or does not know us");
	else
		wire_fail(wire, -EPROTO, "the proxy chose an authentication that was not offered");
}

/* RFC 1928 6 */
static void socks_refused(struct alk_proxy_wire *wire, uint8_t reply)
{
	static const struct {
		int rc;
		const char *text;
	} replies[] = {
		[1] = {-EIO, "general failure"},
		[2] = {-EACCES, "not allowed by its rules"},
		[3] = {-ENETUNREACH, "network unreachable"},
		[4] = {-EHOSTUNREACH, "host unreachable"},
		[5] = {-ECONNREFUSED, "connection refused"},
		[6] = {-ETIMEDOUT, "time to live expired"},
		[7] = {-EOPNOTSUPP, "command not supported"},
		[8] = {-EAFNOSUPPORT, "address type not supported"},
	};

	if (reply < sizeof(replies) / sizeof(replies[0]))
		wire_fail(wire, replies[reply].rc, "the proxy could not connect: %s (reply %u)",
			  replies[reply].text, reply);
	else
		wire_fail(wire, -EPROTO, "the proxy answered with reply %u, which means nothing",
			  reply);
}

/* How many bytes the answer has that begins with what is there. */
static size_t socks_want(const struct alk_proxy_wire *wire)
{
	if (wire->state != ALK_PROXY_REPLY)
		return 2;
	if (wire->in_len < 5)
		return 5;
	switch (wire->in[3]) {
	case SOCKS_V4:
		return 4 + 4 + 2;
	case SOCKS_V6:
		return 4 + 16 + 2;
	default: /* a name; no other type gets so far */
		return 4 + 1 + wire->in[4] + 2;
	}
}

/* Wrong from its first bytes on: do not wait for more. False when it has failed. */
static bool socks_plausible(struct alk_proxy_wire *wire)
{
	uint8_t version = wire->state == ALK_PROXY_LOGIN ? SOCKS_LOGIN_VERSION : SOCKS_VERSION;
	uint8_t type;

	if (wire->in_len > 0 && wire->in[0] != version)
		wire_fail(wire, -EPROTO, "what answers is not a SOCKS5 proxy");
	else if (wire->state == ALK_PROXY_REPLY && wire->in_len >= 2 && wire->in[1] != 0)
		socks_refused(wire, wire->in[1]);
	else if (wire->state == ALK_PROXY_REPLY && wire->in_len >= 4) {
		type = wire->in[3];
		if (type != SOCKS_V4 && type != SOCKS_V6 && type != SOCKS_NAME)
			wire_fail(wire, -EPROTO, "the proxy answered with an unknown address type");
	}
	return wire->state != ALK_PROXY_FAILED;
}

static void socks_answered(struct alk_proxy_wire *wire)
{
	if (wire->state == ALK_PROXY_METHOD)
		socks_on_method(wire);
	else if (wire->state == ALK_PROXY_REPLY)
		wire->state = ALK_PROXY_OPEN;
	else if (wire->in[1] == 0)
		socks_request(wire);
	else
		wire_fail(wire, -EKEYREJECTED, "the proxy refused the user name or the password");
	wire->in_len = 0;
}

static size_t socks_feed(struct alk_proxy_wire *wire, const uint8_t *bytes, size_t n)
{
	size_t used = 0;

	while (used < n && wire->out_len == 0 && wire->state < ALK_PROXY_HEAD) {
		wire->in[wire->in_len++] = bytes[used++];
		if (socks_plausible(wire) && wire->in_len == socks_want(wire))
			socks_answered(wire);
	}
	return used;
}

/* ---- HTTP ---- */

static void http_request(struct alk_proxy_wire *wire)
{
	bool v6 = strchr(wire->host, ':') != NULL;
	char place[280], login[ALK_PROXY_WORD_MAX * 2 + 2], base64[sizeof(login) * 4 / 3 + 8];
	int n;

	snprintf(place, sizeof(place), v6 ? "[%s]:%u" : "%s:%u", wire->host, (unsigned)wire->port);
	n = snprintf((char *)wire->out, sizeof(wire->out), "CONNECT %s HTTP/1.1\r\nHost: %s\r\n",
		     place, place);
	if (wire->url->has_login) {
		snprintf(login, sizeof(login), "%s:%s", wire->url->user, wire->url->password);
		alk_base64_encode((const uint8_t *)login, strlen(login), base64, sizeof(base64));
		n += snprintf((char *)wire->out + n, sizeof(wire->out) - (size_t)n,
			      "Proxy-Authorization: Basic %s\r\n", base64);
		explicit_bzero(login, sizeof(login));
		explicit_bzero(base64, sizeof(base64));
	}
	n += snprintf((char *)wire->out + n, sizeof(wire->out) - (size_t)n, "\r\n");
	wire->out_len = (size_t)n;
	wire->state = ALK_PROXY_HEAD;
}

static void http_refused(struct alk_proxy_wire *wire)
{
	static const struct {
		unsigned status;
		int rc;
		const char *text;
	} known[] = {
		{403, -EACCES, "the proxy forbids it"},
		{404, -ENOENT, "the proxy does not find the host"},
		{502, -EHOSTUNREACH, "the proxy could not connect"},
		{503, -EHOSTUNREACH, "the proxy could not connect"},
		{504, -ETIMEDOUT, "the proxy could not connect in time"},
	};

	if (wire->status == 407 || wire->status == 401) { /* tinyproxy says 401 to wrong ones */
		wire_fail(wire, -EKEYREJECTED, "%s (status %u)",
			  wire->url->has_login ? "the proxy refused the user name or the password"
					       : "the proxy wants a user name and a password",
			  wire->status);
		return;
	}
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (known[i].status != wire->status)
			continue;
		wire_fail(wire, known[i].rc, "%s (status %u)", known[i].text, wire->status);
		return;
	}
	wire_fail(wire, -EIO, "the proxy refused with status %u", wire->status);
}

/* "HTTP/1.1 200 ..." */
static void http_status_line(struct alk_proxy_wire *wire)
{
	const uint8_t *in = wire->in;

	if (wire->in_len < 12 || memcmp(in, "HTTP/1.", 7) != 0 || in[8] != ' ' || in[9] < '1' ||
	    in[9] > '5' || in[10] < '0' || in[10] > '9' || in[11] < '0' || in[11] > '9' ||
	    (wire->in_len > 12 && in[12] != ' ')) {
		wire_fail(wire, -EPROTO, "what answers is not an HTTP proxy");
		return;
	}
	wire->status = (unsigned)(in[9] - '0') * 100 + (unsigned)(in[10] - '0') * 10 + in[11] - '0';
}

/* A line is whole; the bytes of the status line are in `in`. */
static void http_line(struct alk_proxy_wire *wire)
{
	if (wire->status == 0) {
		http_status_line(wire);
		return;
	}
	if (wire->line > 0)
		return;
	if (wire->status / 100 == 2) {
		wire->state = ALK_PROXY_OPEN;
	} else if (wire->status / 100 == 1) { /* the answer is still to come */
		wire->status = 0;
	} else {
		http_refused(wire);
	}
	wire->in_len = 0;
}

static void http_byte(struct alk_proxy_wire *wire, uint8_t byte)
{
	static const char begin[] = "HTTP/1.";

	if (++wire->head > ALK_PROXY_HEAD_MAX) {
		wire_fail(wire, -EPROTO, "the proxy's answer is longer than %d bytes",
			  ALK_PROXY_HEAD_MAX);
		return;
	}
	if (byte == '\n') {
		http_line(wire);
		wire->line = 0;
		return;
	}
	if (byte == '\r')
		return;
	wire->line++;
	if (wire->status != 0)
		return;
	if (wire->in_len < sizeof(wire->in))
		wire->in[wire->in_len++] = byte;
	if (wire->in_len < sizeof(begin) && byte != (uint8_t)begin[wire->in_len - 1])
		wire_fail(wire, -EPROTO, "what answers is not an HTTP proxy");
}

static size_t http_feed(struct alk_proxy_wire *wire, const uint8_t *bytes, size_t n)
{
	size_t used = 0;

	while (used < n && wire->state == ALK_PROXY_HEAD)
		http_byte(wire, bytes[used++]);
	return used;
}

/* ---- both ---- */

int alk_proxy_wire_init(struct alk_proxy_wire *wire, const struct alk_proxy_url *url,
			const char *host, uint16_t port, struct alk_err *err)
{
	memset(wire, 0, sizeof(*wire));
	wire->url = url;
	wire->port = port;
	if (strchr(host, '%') != NULL)
		return alk_err_set(err, -EINVAL, "an address with a zone means nothing to a proxy");
	if (host[0] == '\0' || strlen(host) >= sizeof(wire->host))
		return alk_err_set(err, -EINVAL, "the host has 1 to 255 bytes");
	snprintf(wire->host, sizeof(wire->host), "%s", host);
	if (url->kind == ALK_PROXY_SOCKS5)
		socks_hello(wire);
	else
		http_request(wire);
	return 0;
}

size_t alk_proxy_wire_feed(struct alk_proxy_wire *wire, const uint8_t *bytes, size_t n)
{
	if (wire->state == ALK_PROXY_HEAD)
		return http_feed(wire, bytes, n);
	return socks_feed(wire, bytes, n);
}

void alk_proxy_wire_eof(struct alk_proxy_wire *wire)
{
	if (wire->state < ALK_PROXY_OPEN)
		wire_fail(wire, -ECONNABORTED, "the proxy closed the connection without an answer");
}
