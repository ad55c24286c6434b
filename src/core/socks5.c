/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "socks5.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

enum {
	SOCKS_VERSION = 5,
	SOCKS_METHOD_NONE = 0x00,
	SOCKS_METHOD_REFUSED = 0xff,
	SOCKS_CMD_CONNECT = 1,
	SOCKS_ATYP_IPV4 = 1,
	SOCKS_ATYP_NAME = 3,
	SOCKS_ATYP_IPV6 = 4,
	SOCKS_SUCCEEDED = 0x00,
	SOCKS_FAILURE = 0x01,
	SOCKS_DENIED = 0x02,
	SOCKS_UNREACHABLE = 0x04,
	SOCKS_REFUSED = 0x05,
	SOCKS_TIMEOUT = 0x06,
	SOCKS_BAD_COMMAND = 0x07,
	SOCKS_BAD_ADDRESS = 0x08,
	SOCKS4_VERSION = 4,
	SOCKS4_REJECTED = 0x5b,
};

const char *alk_socks5_state_str(enum alk_socks5_state state)
{
	switch (state) {
	case ALK_SOCKS5_START:
		return "start";
	case ALK_SOCKS5_GREETING:
		return "greeting";
	case ALK_SOCKS5_REQUEST:
		return "request";
	case ALK_SOCKS5_HTTP:
		return "http";
	case ALK_SOCKS5_ASKED:
		return "asked";
	case ALK_SOCKS5_DONE:
		return "done";
	case ALK_SOCKS5_FAILED:
		return "failed";
	}
	return "?";
}

void alk_socks5_init(struct alk_socks5 *socks)
{
	memset(socks, 0, sizeof(*socks));
}

/* Behind what waits already: a greeting's answer may still be there. What does not fit is cut; the
 * longest answer and a greeting's fit (the unit test has every answer). */
static void reply_add(struct alk_socks5 *socks, const void *bytes, size_t n)
{
	size_t room = sizeof(socks->reply) - socks->reply_len;

	if (n > room)
		n = room;
	memcpy(socks->reply + socks->reply_len, bytes, n);
	socks->reply_len += n;
}

static void reply_socks(struct alk_socks5 *socks, uint8_t code)
{
	/* BND.ADDR is 0.0.0.0:0: the address that the server connects from is not told to us. */
	const uint8_t reply[] = {SOCKS_VERSION, code, 0, SOCKS_ATYP_IPV4, 0, 0, 0, 0, 0, 0};

	reply_add(socks, reply, sizeof(reply));
}

static void reply_http(struct alk_socks5 *socks, const char *status, const char *header,
		       const char *body)
{
	char text[sizeof(socks->reply)];
	int n = snprintf(text, sizeof(text),
			 "HTTP/1.1 %s\r\n%sContent-Type: text/plain\r\nContent-Length: %zu\r\n"
			 "Connection: close\r\n\r\n%s",
			 status, header, strlen(body), body);

	if (n > 0)
		reply_add(socks, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

/* All that came is consumed: nothing of it will be looked at again. */
static size_t fail(struct alk_socks5 *socks, size_t n)
{
	socks->state = ALK_SOCKS5_FAILED;
	return n;
}

static size_t fail_socks(struct alk_socks5 *socks, uint8_t code, size_t n)
{
	reply_socks(socks, code);
	return fail(socks, n);
}

static size_t fail_bad_request(struct alk_socks5 *socks, size_t n)
{
	reply_http(socks, "400 Bad Request", "", "The proxy does not understand this request.\n");
	return fail(socks, n);
}

static bool is_letter(uint8_t c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

static bool is_control(uint8_t c)
{
	return c < 0x20 || c == 0x7f;
}

/* tchar of RFC 9110 5.6.2. */
static bool is_token(uint8_t c)
{
	return is_letter(c) || is_digit(c) || (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static size_t feed_start(struct alk_socks5 *socks, const uint8_t *bytes, size_t n)
{
	static const uint8_t rejection[8] = {0, SOCKS4_REJECTED};

	if (bytes[0] == SOCKS_VERSION) {
		socks->state = ALK_SOCKS5_GREETING;
		return 0;
	}
	if (is_letter(bytes[0])) {
		socks->state = ALK_SOCKS5_HTTP;
		socks->http = true;
		return 0;
	}
	if (bytes[0] == SOCKS4_VERSION)
		reply_add(socks, rejection, sizeof(rejection));
	return fail(socks, n);
}

/* VER NMETHODS METHODS... (RFC 1928 3) */
static size_t feed_greeting(struct alk_socks5 *socks, const uint8_t *bytes, size_t n)
{
	uint8_t reply[2] = {SOCKS_VERSION, SOCKS_METHOD_NONE};

	if (n < 2 || n < 2 + (size_t)bytes[1])
		return 0;
	if (memchr(bytes + 2, SOCKS_METHOD_NONE, bytes[1]) == NULL) {
		reply[1] = SOCKS_METHOD_REFUSED;
		reply_add(socks, reply, sizeof(reply));
		return fail(socks, n);
	}
	reply_add(socks, reply, sizeof(reply));
	socks->state = ALK_SOCKS5_REQUEST;
	return 2 + (size_t)bytes[1];
}

static bool name_set(struct alk_destination *to, const uint8_t *name, size_t len)
{
	if (len == 0 || len >= sizeof(to->host))
		return false;
	for (size_t i = 0; i < len; i++) {
		if (is_control(name[i]))
			return false;
	}
	memcpy(to->host, name, len);
	to->host[len] = '\0';
	return true;
}

/* Port 0 means something at a reserved destination alone. */
static bool port_ok(const struct alk_destination *to)
{
	return to->port != 0 || strncmp(to->host, "alknet-", 7) == 0;
}

/* Where the address begins and how long it is; bytes[4] is there. */
static bool address_find(const uint8_t *bytes, size_t *at, size_t *len)
{
	*at = 4;
	switch (bytes[3]) {
	case SOCKS_ATYP_IPV4:
		*len = 4;
		return true;
	case SOCKS_ATYP_IPV6:
		*len = 16;
		return true;
	case SOCKS_ATYP_NAME:
		*at = 5;
		*len = bytes[4];
		return true;
	}
	return false;
}

static bool address_set(struct alk_destination *to, uint8_t type, const uint8_t *bytes, size_t len)
{
	if (type == SOCKS_ATYP_NAME)
		return name_set(to, bytes, len);
	return inet_ntop(type == SOCKS_ATYP_IPV4 ? AF_INET : AF_INET6, bytes, to->host,
			 sizeof(to->host)) != NULL;
}

/* VER CMD RSV ATYP DST.ADDR DST.PORT (RFC 1928 4) */
static size_t feed_request(struct alk_socks5 *socks, const uint8_t *bytes, size_t n)
{
	size_t at, len;

	if (bytes[0] != SOCKS_VERSION)
		return fail_socks(socks, SOCKS_FAILURE, n);
	if (n >= 2 && bytes[1] != SOCKS_CMD_CONNECT)
		return fail_socks(socks, SOCKS_BAD_COMMAND, n);
	if (n < 5)
		return 0;
	if (!address_find(bytes, &at, &len))
		return fail_socks(socks, SOCKS_BAD_ADDRESS, n);
	if (n < at + len + 2)
		return 0;
	socks->to.port = (uint16_t)(bytes[at + len] << 8 | bytes[at + len + 1]);
	if (!address_set(&socks->to, bytes[3], bytes + at, len) || !port_ok(&socks->to))
		return fail_socks(socks, SOCKS_FAILURE, n);
	socks->state = ALK_SOCKS5_ASKED;
	return at + len + 2;
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
		return port_parse(&text, &to->port) && name_set(to, host.at, host.len) &&
		       port_ok(to) && inet_pton(AF_INET6, to->host, &v6) == 1;
	}
	if (!span_cut(&text, ':', &host))
		return false;
	for (size_t i = 0; i < host.len; i++) {
		if (host.at[i] >= 0x80 || strchr(" /\\?#@[]", host.at[i]) != NULL)
			return false;
	}
	return port_parse(&text, &to->port) && name_set(to, host.at, host.len) && port_ok(to);
}

static bool version_parse(const struct span *text)
{
	return text->len == 8 && memcmp(text->at, "HTTP/1.", 7) == 0 && is_digit(text->at[7]);
}

/* `head`: lines that end with CR LF each, without the empty one. */
static size_t http_judge(struct alk_socks5 *socks, struct span head, size_t consumed, size_t n)
{
	struct span line, method, target, name;

	if (!span_cut(&head, '\r', &line) || !span_cut(&line, ' ', &method) ||
	    !span_is_token(&method) || !span_cut(&line, ' ', &target) || target.len == 0)
		return fail_bad_request(socks, n);
	if (!span_is(&method, "CONNECT")) {
		reply_http(
			socks, "405 Method Not Allowed", "Allow: CONNECT\r\n",
			"This proxy takes CONNECT only; use it for https, or as a SOCKS5 proxy.\n");
		return fail(socks, n);
	}
	if (!version_parse(&line) || !authority_parse(target, &socks->to))
		return fail_bad_request(socks, n);
	/* head is "\n", or "\nNAME: VALUE\r\n..." now; each round skips the LF. */
	while (head.len > 1) {
		head = (struct span){head.at + 1, head.len - 1};
		if (!span_cut(&head, '\r', &line) || !span_cut(&line, ':', &name) ||
		    !span_is_token(&name))
			return fail_bad_request(socks, n);
	}
	socks->state = ALK_SOCKS5_ASKED;
	return consumed;
}

/* A byte of the head and the one before it: may they stand there? */
static bool http_byte_ok(uint8_t before, uint8_t c)
{
	if ((c == '\n') != (before == '\r'))
		return false;
	return c == '\r' || c == '\n' || c == '\t' || !is_control(c);
}

static size_t feed_http(struct alk_socks5 *socks, const uint8_t *bytes, size_t n)
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
	return fail(socks, n);
}

size_t alk_socks5_feed(struct alk_socks5 *socks, const uint8_t *bytes, size_t n)
{
	if (n == 0)
		return 0;
	if (socks->state == ALK_SOCKS5_START) {
		size_t consumed = feed_start(socks, bytes, n);

		if (consumed > 0)
			return consumed;
	}
	switch (socks->state) {
	case ALK_SOCKS5_GREETING:
		return feed_greeting(socks, bytes, n);
	case ALK_SOCKS5_REQUEST:
		return feed_request(socks, bytes, n);
	case ALK_SOCKS5_HTTP:
		return feed_http(socks, bytes, n);
	case ALK_SOCKS5_START:
	case ALK_SOCKS5_ASKED:
	case ALK_SOCKS5_DONE:
	case ALK_SOCKS5_FAILED:
		break;
	}
	return 0;
}

static uint8_t socks_code(enum alk_open_failure why)
{
	switch (why) {
	case ALK_OPEN_OK:
		return SOCKS_SUCCEEDED;
	case ALK_OPEN_PROHIBITED:
		return SOCKS_DENIED;
	case ALK_OPEN_REFUSED:
		return SOCKS_REFUSED;
	case ALK_OPEN_UNREACHABLE:
	case ALK_OPEN_NAME:
		return SOCKS_UNREACHABLE;
	case ALK_OPEN_TIMEOUT:
		return SOCKS_TIMEOUT;
	case ALK_OPEN_CONNECT_FAILED:
	case ALK_OPEN_UNKNOWN_TYPE:
	case ALK_OPEN_RESOURCE_SHORTAGE:
	case ALK_OPEN_GONE:
		break;
	}
	return SOCKS_FAILURE;
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
	case ALK_OPEN_GONE:
		return "The tunnel is not up.\n";
	default:
		return "The connection to the destination failed.\n";
	}
}

static void answer_http(struct alk_socks5 *socks, enum alk_open_failure why)
{
	static const char established[] = "HTTP/1.1 200 Connection established\r\n\r\n";

	if (why == ALK_OPEN_OK)
		reply_add(socks, established, sizeof(established) - 1);
	else if (why == ALK_OPEN_PROHIBITED)
		reply_http(socks, "403 Forbidden", "",
			   "The server does not allow this destination.\n");
	else if (why == ALK_OPEN_TIMEOUT)
		reply_http(socks, "504 Gateway Timeout", "",
			   "The destination did not answer in time.\n");
	else
		reply_http(socks, "502 Bad Gateway", "", http_sentence(why));
}

void alk_socks5_answer(struct alk_socks5 *socks, enum alk_open_failure why)
{
	if (socks->http)
		answer_http(socks, why);
	else
		reply_socks(socks, socks_code(why));
	socks->state = why == ALK_OPEN_OK ? ALK_SOCKS5_DONE : ALK_SOCKS5_FAILED;
}
