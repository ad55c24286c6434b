/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "stealth_http.h"

#include <string.h>

enum line_state {
	START,
	METHOD,
	BEFORE_URI,
	SCHEME,
	SCHEME_SLASH,
	SCHEME_SLASHES,
	HOST_FIRST,
	HOST,
	HOST_LITERAL,
	HOST_END,
	PORT,
	URI,
	BEFORE_PROTOCOL,
	PROTOCOL,
	MAJOR_FIRST,
	MAJOR,
	MINOR_FIRST,
	MINOR,
	TRAIL,
	LF,
};

static bool char_is_letter(uint8_t c)
{
	c |= 0x20;
	return c >= 'a' && c <= 'z';
}

static bool char_is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

static bool char_is_in(uint8_t c, const char *set)
{
	return c != '\0' && strchr(set, c) != NULL;
}

static uint8_t method_of(const uint8_t *line, size_t n)
{
	static const struct {
		const char *name;
		uint8_t method;
	} methods[] = {{"GET", HTTP_GET},
		       {"HEAD", HTTP_HEAD},
		       {"POST", HTTP_POST},
		       {"TRACE", HTTP_TRACE},
		       {"CONNECT", HTTP_CONNECT}};

	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		if (strlen(methods[i].name) == n && memcmp(methods[i].name, line, n) == 0)
			return methods[i].method;
	return HTTP_OTHER;
}

static enum http_verdict line_method(struct http_line *l, const uint8_t *line, size_t at)
{
	uint8_t c = line[at];

	if (l->state == METHOD && c == ' ') {
		l->method = method_of(line, at);
		l->state = BEFORE_URI;
		return HTTP_MORE;
	}
	l->state = METHOD;
	return (c >= 'A' && c <= 'Z') || c == '_' || c == '-' ? HTTP_MORE : HTTP_BAD;
}

static enum http_verdict line_scheme(struct http_line *l, uint8_t c, size_t at)
{
	switch (l->state) {
	case BEFORE_URI:
		if (c == ' ')
			return HTTP_MORE;
		l->uri = (uint16_t)at;
		l->state = c == '/' ? URI : SCHEME;
		return c == '/' || char_is_letter(c) ? HTTP_MORE : HTTP_BAD;
	case SCHEME:
		if (c == ':')
			l->state = SCHEME_SLASH;
		return char_is_letter(c) || char_is_digit(c) || char_is_in(c, "+-.:") ? HTTP_MORE
										      : HTTP_BAD;
	default:
		l->state++;
		return c == '/' ? HTTP_MORE : HTTP_BAD;
	}
}

/* Behind the host or the port: the path, the query, or nothing. */
static enum http_verdict line_authority_end(struct http_line *l, uint8_t c, size_t at)
{
	l->uri = (uint16_t)at;
	l->uri_end = (uint16_t)at;
	if (c == '/' || c == '?')
		l->state = URI;
	else if (c == ' ')
		l->state = BEFORE_PROTOCOL;
	else
		return HTTP_BAD;
	return HTTP_MORE;
}

static enum http_verdict line_authority(struct http_line *l, uint8_t c, size_t at)
{
	switch (l->state) {
	case HOST_FIRST:
		l->has_host = true;
		l->host = (uint16_t)at;
		l->state = HOST;
		if (c == '[') {
			l->state = HOST_LITERAL;
			return HTTP_MORE;
		}
		/* fall through */
	case HOST:
		if (char_is_letter(c) || char_is_digit(c) || c == '.' || c == '-')
			return HTTP_MORE;
		/* fall through */
	case HOST_END:
		l->host_end = (uint16_t)at;
		if (c != ':')
			return line_authority_end(l, c, at);
		l->state = PORT;
		return HTTP_MORE;
	case HOST_LITERAL:
		if (c == ']')
			l->state = HOST_END;
		return char_is_letter(c) || char_is_digit(c) || char_is_in(c, ":]-._~!$&'()*+,;=")
			       ? HTTP_MORE
			       : HTTP_BAD;
	default:
		return char_is_digit(c) ? HTTP_MORE : line_authority_end(l, c, at);
	}
}

static enum http_verdict line_end_09(struct http_line *l, uint8_t c)
{
	l->minor = 9;
	l->state = LF;
	return c == '\n' ? HTTP_LINE_DONE : HTTP_MORE;
}

static enum http_verdict line_uri(struct http_line *l, uint8_t c, size_t at)
{
	if (l->state == URI) {
		if (c != ' ' && c != '\r' && c != '\n')
			return c < 0x20 || c == 0x7f ? HTTP_BAD : HTTP_MORE;
		l->uri_end = (uint16_t)at;
		l->state = BEFORE_PROTOCOL;
	}
	if (c == '\r' || c == '\n')
		return line_end_09(l, c);
	if (c == 'H') {
		l->state = PROTOCOL;
		l->matched = 1;
		return HTTP_MORE;
	}
	return c == ' ' ? HTTP_MORE : HTTP_BAD;
}

static enum http_verdict line_major(struct http_line *l, uint8_t c)
{
	if (l->state == MAJOR && c == '.') {
		l->state = MINOR_FIRST;
		return HTTP_MORE;
	}
	if (!char_is_digit(c) || (l->state == MAJOR_FIRST && c == '0'))
		return HTTP_BAD;
	l->major = l->major * 10 + (c - '0');
	l->state = MAJOR;
	return l->major > 1 ? HTTP_BAD_VERSION : HTTP_MORE;
}

static enum http_verdict line_minor(struct http_line *l, uint8_t c)
{
	if (l->state != MINOR_FIRST) {
		if (c == '\n')
			return HTTP_LINE_DONE;
		if (c == '\r' || c == ' ') {
			l->state = c == ' ' ? TRAIL : LF;
			return HTTP_MORE;
		}
	}
	if (l->state == TRAIL || !char_is_digit(c) || l->minor > 99)
		return HTTP_BAD;
	l->minor = l->minor * 10 + (c - '0');
	l->state = MINOR;
	return HTTP_MORE;
}

static enum http_verdict line_protocol(struct http_line *l, uint8_t c)
{
	if (c != (uint8_t) "HTTP/"[l->matched++])
		return HTTP_BAD;
	if (l->matched == 5)
		l->state = MAJOR_FIRST;
	return HTTP_MORE;
}

enum http_verdict http_line_next(struct http_line *l, const uint8_t *line, size_t at)
{
	uint8_t c = line[at];

	switch ((enum line_state)l->state) {
	case START:
	case METHOD:
		return line_method(l, line, at);
	case BEFORE_URI:
	case SCHEME:
	case SCHEME_SLASH:
	case SCHEME_SLASHES:
		return line_scheme(l, c, at);
	case HOST_FIRST:
	case HOST:
	case HOST_LITERAL:
	case HOST_END:
	case PORT:
		return line_authority(l, c, at);
	case URI:
	case BEFORE_PROTOCOL:
		return line_uri(l, c, at);
	case PROTOCOL:
		return line_protocol(l, c);
	case MAJOR_FIRST:
	case MAJOR:
		return line_major(l, c);
	case MINOR_FIRST:
	case MINOR:
	case TRAIL:
		return line_minor(l, c);
	case LF:
		break;
	}
	return c == '\n' ? HTTP_LINE_DONE : HTTP_BAD;
}

unsigned http_line_version(const struct http_line *l)
{
	return l->major * 1000 + l->minor;
}

static int hex_of(uint8_t c)
{
	if (char_is_digit(c))
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Does the path stay below its root, and are its escapes whole? Escapes count as what they stand
 * for, but for `%`, `#` and `?`, which then are nothing but characters. */
static bool path_valid(const uint8_t *p, size_t n)
{
	enum {
		NAME,
		SLASH,
		DOT,
		DOT_DOT
	} state = NAME;
	unsigned depth = 0;

	for (size_t i = 0; i < n; i++) {
		bool literal = false;
		uint8_t c = p[i];

		if (c == '?' || c == '#')
			break;
		if (c == '%') {
			int high = i + 1 < n ? hex_of(p[i + 1]) : -1;
			int low = i + 2 < n ? hex_of(p[i + 2]) : -1;

			if (high < 0 || low < 0 || (high == 0 && low == 0))
				return false;
			c = (uint8_t)(high << 4 | low);
			literal = c == '%' || c == '#' || c == '?';
			i += 2;
		}
		if (literal || (c != '/' && c != '.') || (c == '.' && state == NAME)) {
			state = NAME;
		} else if (c == '.') {
			state = state == SLASH ? DOT : state == DOT ? DOT_DOT : NAME;
		} else {
			if (state == DOT_DOT && --depth == 0)
				return false;
			if (state == NAME)
				depth++;
			state = SLASH;
		}
	}
	return state != DOT_DOT || depth > 1;
}

bool http_line_valid(const struct http_line *l, const uint8_t *line)
{
	if (!path_valid(line + l->uri, (size_t)(l->uri_end - l->uri)))
		return false;
	return !l->has_host || http_host_valid(line + l->host, (size_t)(l->host_end - l->host));
}

bool http_host_valid(const uint8_t *host, size_t n)
{
	enum {
		NAME,
		LITERAL,
		REST
	} state = NAME;
	size_t len = n, dot = n;

	for (size_t i = 0; i < n; i++) {
		uint8_t c = host[i];

		if (c == '.') {
			if (dot + 1 == i)
				return false;
			dot = i;
		} else if (c == ':' && state == NAME) {
			len = i;
			state = REST;
		} else if (c == '[' && i == 0) {
			state = LITERAL;
		} else if (c == ']' && state == LITERAL) {
			len = i + 1;
			state = REST;
		} else if (c == '/' || c <= 0x20 || c == 0x7f) {
			return false;
		}
	}
	if (dot + 1 == len)
		len--;
	return len > 0;
}
