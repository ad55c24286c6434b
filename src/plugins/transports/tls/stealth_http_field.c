/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "stealth_http.h"

#include <string.h>
#include <strings.h>

enum field_state {
	START,
	NAME,
	BEFORE_VALUE,
	VALUE,
	AFTER_VALUE,
	LF,
	LAST_LF
};

static bool name_char(uint8_t c)
{
	uint8_t letter = c | 0x20;

	return (letter >= 'a' && letter <= 'z') || (c >= '0' && c <= '9') || c == '-';
}

static enum http_verdict field_end(struct http_field *f, uint8_t c)
{
	f->state = LF;
	return c == '\n' ? HTTP_LINE_DONE : HTTP_MORE;
}

static enum http_verdict field_name(struct http_field *f, uint8_t c, size_t at)
{
	bool ends = c == '\r' || c == '\n';

	if (f->state == START) {
		f->state = NAME;
		f->ignored = false;
		if (ends) {
			f->state = LAST_LF;
			return c == '\n' ? HTTP_FIELDS_DONE : HTTP_MORE;
		}
		if (c == ':')
			return HTTP_BAD;
	}
	if (c == ':' || ends) {
		f->name_end = f->value = f->value_end = (uint16_t)at;
		f->state = BEFORE_VALUE;
		return ends ? field_end(f, c) : HTTP_MORE;
	}
	if (c <= 0x20 || c == 0x7f)
		return HTTP_BAD;
	if (!name_char(c))
		f->ignored = true;
	return HTTP_MORE;
}

static enum http_verdict field_value(struct http_field *f, uint8_t c, size_t at)
{
	if (c == '\0')
		return HTTP_BAD;
	if (f->state == BEFORE_VALUE && c != ' ')
		f->value = (uint16_t)at;
	if (c == ' ' || c == '\r' || c == '\n') {
		if (f->state != AFTER_VALUE)
			f->value_end = (uint16_t)at;
		if (c != ' ')
			return field_end(f, c);
		if (f->state == VALUE)
			f->state = AFTER_VALUE;
	} else {
		f->state = VALUE;
	}
	return HTTP_MORE;
}

enum http_verdict http_field_next(struct http_field *f, const uint8_t *line, size_t at)
{
	uint8_t c = line[at];

	switch ((enum field_state)f->state) {
	case START:
	case NAME:
		return field_name(f, c, at);
	case BEFORE_VALUE:
	case VALUE:
	case AFTER_VALUE:
		return field_value(f, c, at);
	case LF:
		if (c == '\r')
			return HTTP_MORE;
		return c == '\n' ? HTTP_LINE_DONE : HTTP_BAD;
	case LAST_LF:
		break;
	}
	return c == '\n' ? HTTP_FIELDS_DONE : HTTP_BAD;
}

struct text {
	const char *at;
	size_t n;
};

static bool text_is(struct text t, const char *word)
{
	return strlen(word) == t.n && strncasecmp(t.at, word, t.n) == 0;
}

static const char *text_find(struct text t, const char *word)
{
	return memmem(t.at, t.n, word, strlen(word));
}

static const char *text_casefind(struct text t, const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; i + n <= t.n; i++)
		if (strncasecmp(t.at + i, word, n) == 0)
			return t.at + i;
	return NULL;
}

static void keep_connection(struct http_request *r, struct text value)
{
	bool close = text_casefind(value, "close") != NULL;

	if (!close && text_casefind(value, "keep-alive") == NULL)
		return;
	r->close = close;
	r->keep = !close;
}

/* Which browsers get a longer page, and which old one nginx does not keep a connection for. */
static void keep_agent(struct http_request *r, struct text value)
{
	const char *end = value.at + value.n, *msie = text_find(value, "MSIE ");
	bool opera = text_find(value, "Opera") != NULL;

	if (r->agent)
		return;
	r->agent = true;
	if (msie != NULL && end - msie <= 7)
		msie = NULL;
	if (msie != NULL && !opera) {
		r->padded = true;
		if (msie[6] == '.' && (msie[5] == '4' || msie[5] == '5'))
			r->old_msie = true;
		if (msie[6] == '.' && msie[5] == '6')
			r->old_msie = text_find((struct text){msie + 7, (size_t)(end - msie - 7)},
						"SV1") == NULL;
	} else if (!opera && text_find(value, "Gecko/") == NULL) {
		r->padded = text_find(value, "Chrome/") != NULL;
	}
}

/* Is what stands behind `q=` a number that nginx takes for more than nothing? */
static bool quality_positive(const char *p, const char *end)
{
	unsigned q, digits = 0;

	if (p == end || (*p != '0' && *p != '1'))
		return false;
	q = *p++ == '1' ? 100 : 0;
	if (p == end || *p == ',' || *p == ' ')
		return q > 0;
	if (*p++ != '.')
		return false;
	for (; p < end && *p != ',' && *p != ' '; p++, digits++) {
		if (*p < '0' || *p > '9')
			return false;
		q += (unsigned)(*p - '0');
	}
	return q > 0 && q <= 100 && digits <= 3;
}

static bool accepts_gzip(struct text value)
{
	const char *end = value.at + value.n, *p = value.at;

	for (;;) {
		const char *word = text_casefind((struct text){p, (size_t)(end - p)}, "gzip");

		if (word == NULL)
			return false;
		p = word + 4;
		if (word == value.at || word[-1] == ',' || word[-1] == ' ')
			break;
	}
	while (p < end && *p == ' ')
		p++;
	if (p == end || *p == ',')
		return true;
	if (*p++ != ';')
		return false;
	while (p < end && *p == ' ')
		p++;
	if (p == end)
		return true;
	if ((*p | 0x20) != 'q' || end - p < 3 || p[1] != '=')
		return false;
	return quality_positive(p + 2, end);
}

static void keep_encoding(struct http_request *r, struct text value)
{
	if (!r->encoding_seen)
		r->gzip = accepts_gzip(value);
	r->encoding_seen = true;
}

static void keep_length(struct http_request *r, struct text value)
{
	int64_t length = 0;

	r->length_bad = value.n == 0;
	for (size_t i = 0; i < value.n && !r->length_bad; i++) {
		int digit = value.at[i] - '0';

		r->length_bad = digit < 0 || digit > 9 || length > (INT64_MAX - digit) / 10;
		if (!r->length_bad)
			length = length * 10 + digit;
	}
	r->length = r->length_bad ? -1 : length;
}

static void keep_coding(struct http_request *r, struct text value)
{
	r->coding = true;
	r->coding_unknown = !text_is(value, "chunked");
}

static void keep_via(struct http_request *r, struct text value)
{
	(void)value;
	r->via = true;
}

struct known_field {
	const char *name;
	void (*keep)(struct http_request *r, struct text value);
	bool once;
};

static const struct known_field known_fields[] = {
	{"Content-Length", keep_length, true},
	{"Transfer-Encoding", keep_coding, true},
	{"Expect", NULL, true},
	{"Authorization", NULL, true},
	{"If-Modified-Since", NULL, true},
	{"If-Unmodified-Since", NULL, true},
	{"If-Match", NULL, true},
	{"If-None-Match", NULL, true},
	{"If-Range", NULL, true},
	{"Content-Range", NULL, true},
	{"Connection", keep_connection, false},
	{"User-Agent", keep_agent, false},
	{"Accept-Encoding", keep_encoding, false},
	{"Via", keep_via, false},
};

bool http_field_keep(struct http_request *r, const struct http_field *f, const uint8_t *line)
{
	struct text name = {(const char *)line, f->name_end};
	struct text value = {(const char *)line + f->value, (size_t)(f->value_end - f->value)};

	if (f->ignored)
		return true;
	if (text_is(name, "Host")) {
		bool good = !r->host && http_host_valid((const uint8_t *)value.at, value.n);

		r->host = true;
		return good;
	}
	for (size_t i = 0; i < sizeof(known_fields) / sizeof(known_fields[0]); i++) {
		const struct known_field *known = &known_fields[i];

		if (!text_is(name, known->name))
			continue;
		if (known->once && (r->seen & 1U << i) != 0)
			return false;
		r->seen |= (uint16_t)(1U << i);
		if (known->keep != NULL)
			known->keep(r, value);
	}
	return true;
}
