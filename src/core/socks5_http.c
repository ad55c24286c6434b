/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* HTTP CONNECT on the proxy port (RFC 9110 9.3.6). */
#include "socks5_private.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "proxy_auth.h"

static void reply_http(struct alk_socks5 *socks, const char *status, const char *header,
		       const char *body)
{
	char text[sizeof(socks->reply)];
	int n = snprintf(text, sizeof(text),
			 "HTTP/1.1 %s\r\n%sContent-Type: text/plain\r\nContent-Length: %zu\r\n"
			 "Connection: close\r\n\r\n%s",
			 status, header, strlen(body), body);

	if (n > 0)
		alk_socks5_reply(socks, text,
				 (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

static size_t fail_bad_request(struct alk_socks5 *socks, size_t n)
{
	reply_http(socks, "400 Bad Request", "", "The proxy does not understand this request.\n");
	return alk_socks5_fail(socks, n);
}

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

/* tchar of RFC 9110 5.6.2. */
static bool is_token(uint8_t c)
{
	return alk_socks5_is_letter(c) || is_digit(c) ||
	       (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* A span of the head. */
struct span {
	const uint8_t *at;
	size_t len;
};

/* What stands before the next `mark`; `rest` becomes what stands behind it. */
static bool span_cut(struct span *rest, uint8_t mark, struct span *out)
{
	const uint8_t *end = memchr(rest->at, mark, rest->len);

	if (end == NULL)
		return false;
	*out = (struct span){rest->at, (size_t)(end - rest->at)};
	rest->len -= out->len + 1;
	rest->at = end + 1;
	return true;
}

static bool span_is(const struct span *span, const char *text)
{
	return span->len == strlen(text) && memcmp(span->at, text, span->len) == 0;
}

static bool span_is_token(const struct span *span)
{
	for (size_t i = 0; i < span->len; i++) {
		if (!is_token(span->at[i]))
			return false;
	}
	return span->len > 0;
}

static bool port_parse(const struct span *text, uint16_t *port)
{
	uint32_t value = 0;

	if (text->len == 0 || text->len > 5)
		return false;
	for (size_t i = 0; i < text->len; i++) {
		if (!is_digit(text->at[i]))
			return false;
		value = value * 10 + (uint32_t)(text->at[i] - '0');
	}
	if (value > UINT16_MAX)
		return false;
	*port = (uint16_t)value;
	return true;
}

/* host ":" port, where an IPv6 address stands in brackets (RFC 3986 3.2). */
static bool authority_parse(struct span text, struct alk_destination *to)
{
	struct span host;
	struct in6_addr v6;

	if (text.len > 0 && text.at[0] == '[') {
		text = (struct span){text.at + 1, text.len - 1};
		if (!span_cut(&text, ']', &host) || text.len == 0 || text.at[0] != ':')
			return false;
		text = (struct span){text.at + 1, text.len - 1};
		return port_parse(&text, &to->port) && alk_socks5_name_set(to, host.at, host.len) &&
		       alk_socks5_port_ok(to) && inet_pton(AF_INET6, to->host, &v6) == 1;
	}
	if (!span_cut(&text, ':', &host))
		return false;
	for (size_t i = 0; i < host.len; i++) {
		if (host.at[i] >= 0x80 || strchr(" /\\?#@[]", host.at[i]) != NULL)
			return false;
	}
	return port_parse(&text, &to->port) && alk_socks5_name_set(to, host.at, host.len) &&
	       alk_socks5_port_ok(to);
}

static bool version_parse(const struct span *text)
{
	return text->len == 8 && memcmp(text->at, "HTTP/1.", 7) == 0 && is_digit(text->at[7]);
}

static bool span_is_field(const struct span *span, const char *name)
{
	return span->len == strlen(name) &&
	       strncasecmp((const char *)span->at, name, span->len) == 0;
}

/* `value` is what stands behind the colon. */
static bool auth_matches(const char *auth, struct span value)
{
	while (value.len > 0 && (*value.at == ' ' || *value.at == '\t'))
		value = (struct span){value.at + 1, value.len - 1};
	return alk_proxy_auth_match_basic(auth, value.at, value.len);
}

static size_t fail_unauthorized(struct alk_socks5 *socks, size_t n)
{
	socks->denied = true;
	reply_http(socks, "407 Proxy Authentication Required",
		   "Proxy-Authenticate: Basic realm=\"alknet\"\r\n",
		   "This proxy asks for a user and a password.\n");
	return alk_socks5_fail(socks, n);
}

/* `head`: lines that end with CR LF each, without the empty one. */
static size_t http_judge(struct alk_socks5 *socks, struct span head, size_t consumed, size_t n)
{
	struct span line, method, target, name;
	bool known = socks->auth == NULL;

	if (!span_cut(&head, '\r', &line) || !span_cut(&line, ' ', &method) ||
	    !span_is_token(&method) || !span_cut(&line, ' ', &target) || target.len == 0)
		return fail_bad_request(socks, n);
	if (!span_is(&method, "CONNECT")) {
		reply_http(
			socks, "405 Method Not Allowed", "Allow: CONNECT\r\n",
			"This proxy takes CONNECT only; use it for https, or as a SOCKS5 proxy.\n");
		return alk_socks5_fail(socks, n);
	}
	if (!version_parse(&line) || !authority_parse(target, &socks->to))
		return fail_bad_request(socks, n);
	/* head is "\n", or "\nNAME: VALUE\r\n..." now; each round skips the LF. */
	while (head.len > 1) {
		head = (struct span){head.at + 1, head.len - 1};
		if (!span_cut(&head, '\r', &line) || !span_cut(&line, ':', &name) ||
		    !span_is_token(&name))
			return fail_bad_request(socks, n);
		if (!known && span_is_field(&name, "Proxy-Authorization"))
			known = auth_matches(socks->auth, line);
	}
	if (!known)
		return fail_unauthorized(socks, n);
	socks->state = ALK_SOCKS5_ASKED;
	return consumed;
}

/* A byte of the head and the one before it: may they stand there? */
static bool http_byte_ok(uint8_t before, uint8_t c)
{
	if ((c == '\n') != (before == '\r'))
		return false;
	return c == '\r' || c == '\n' || c == '\t' || !alk_socks5_is_control(c);
}

size_t alk_socks5_feed_http(struct alk_socks5 *socks, const uint8_t *bytes, size_t n)
{
	size_t limit = n < ALK_SOCKS5_HEAD_MAX ? n : ALK_SOCKS5_HEAD_MAX;

	for (size_t i = socks->scanned; i < limit; i++) {
		if (!http_byte_ok(i > 0 ? bytes[i - 1] : 0, bytes[i]))
			return fail_bad_request(socks, n);
		if (i >= 3 && bytes[i] == '\n' && bytes[i - 2] == '\n')
			return http_judge(socks, (struct span){bytes, i - 1}, i + 1, n);
	}
	socks->scanned = limit;
	if (limit < ALK_SOCKS5_HEAD_MAX)
		return 0;
	reply_http(socks, "431 Request Header Fields Too Large", "",
		   "The head of this request is too long.\n");
	return alk_socks5_fail(socks, n);
}

static const char *http_sentence(enum alk_open_failure why)
{
	switch (why) {
	case ALK_OPEN_REFUSED:
		return "The destination refused the connection.\n";
	case ALK_OPEN_UNREACHABLE:
		return "The destination cannot be reached.\n";
	case ALK_OPEN_NAME:
		return "The destination's name does not exist.\n";
	case ALK_OPEN_RESOURCE_SHORTAGE:
		return "Too many connections are open.\n";
	default:
		return "The connection to the destination failed.\n";
	}
}

void alk_socks5_answer_http(struct alk_socks5 *socks, enum alk_open_failure why)
{
	static const char established[] = "HTTP/1.1 200 Connection established\r\n\r\n";

	if (why == ALK_OPEN_OK)
		alk_socks5_reply(socks, established, sizeof(established) - 1);
	else if (why == ALK_OPEN_PROHIBITED)
		reply_http(socks, "403 Forbidden", "",
			   "The server does not allow this destination.\n");
	else if (why == ALK_OPEN_TIMEOUT)
		reply_http(socks, "504 Gateway Timeout", "",
			   "The destination did not answer in time.\n");
	else if (why == ALK_OPEN_GONE)
		reply_http(socks, "503 Service Unavailable", "", "The tunnel is not up.\n");
	else
		reply_http(socks, "502 Bad Gateway", "", http_sentence(why));
}
