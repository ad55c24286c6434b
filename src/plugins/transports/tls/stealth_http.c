/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "stealth_http.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void http_timer(struct stealth *s, uint64_t ms)
{
	s->timed = ms > 0;
	s->hooks.timer(s->hooks.user, ms);
}

void http_close(struct stealth *s, enum stealth_close how)
{
	s->state = STEALTH_DONE;
	http_timer(s, 0);
	s->hooks.close(s->hooks.user, how);
}

/* ---- buffers: as many bytes as nginx would hold ---- */

int http_buffer(struct stealth *s)
{
	if (s->buf != NULL)
		return 0;
	s->buf = malloc(HTTP_FIRST_BUFFER);
	if (s->buf == NULL)
		return -ENOMEM;
	s->cap = HTTP_FIRST_BUFFER;
	s->pos = s->last = s->mark = 0;
	return 0;
}

static void http_release(struct stealth *s)
{
	free(s->buf);
	s->buf = NULL;
	s->cap = s->pos = s->last = s->mark = 0;
	s->large = 0;
}

/* Go on in a fresh large buffer, with what stands from `from` on. */
static int http_enlarge(struct stealth *s, size_t from)
{
	uint8_t *buf = malloc(HTTP_LARGE_BUFFER);

	if (buf == NULL)
		return -ENOMEM;
	memcpy(buf, s->buf + from, s->last - from);
	free(s->buf);
	s->buf = buf;
	s->cap = HTTP_LARGE_BUFFER;
	s->pos -= from;
	s->last -= from;
	s->mark = 0;
	s->large++;
	return 0;
}

/* The buffer is full and the line is not whole. False: there is no more room for it, or no
 * memory. */
static bool http_line_grows(struct stealth *s, bool within, enum http_page page)
{
	size_t from = within ? s->mark : s->pos;

	if (s->last - from >= HTTP_LARGE_BUFFER || s->large == HTTP_LARGE_MAX) {
		s->page = page;
		return false;
	}
	if (http_enlarge(s, from) == 0)
		return true;
	http_close(s, STEALTH_CLOSE_QUIET);
	return false;
}

/* ---- answers ---- */

static void http_answer(struct stealth *s)
{
	uint8_t bytes[HTTP_PAGE_MAX];
	size_t n = http_page_write(bytes, s->page, &s->request, s->keepalive,
				   s->hooks.clock(s->hooks.user));

	s->phase = HTTP_ANSWER;
	http_timer(s, s->times.send);
	s->hooks.write(s->hooks.user, bytes, n);
}

/* Take bytes of the body. Returns how many belonged to it, or -EINVAL. */
static ssize_t http_body_take(struct stealth *s, const uint8_t *bytes, size_t n)
{
	size_t taken = n;

	if (!s->chunked) {
		if ((int64_t)n > s->left)
			taken = (size_t)s->left;
		s->left -= (int64_t)taken;
		return (ssize_t)taken;
	}
	switch (http_chunks_next(&s->chunks, bytes, n, &taken)) {
	case HTTP_LINE_DONE:
		s->left = 0;
		return (ssize_t)taken;
	case HTTP_MORE:
		s->left = s->chunks.wanted > HTTP_LARGE_BUFFER ? s->chunks.wanted
							       : HTTP_LARGE_BUFFER;
		return (ssize_t)taken;
	default:
		return -EINVAL;
	}
}

/* Answer with `page`, but look first at what is there of the request's body. */
static void http_finish(struct stealth *s, enum http_page page)
{
	ssize_t taken;

	s->page = page;
	s->left = s->request.length;
	if (s->left > 0 || s->chunked) {
		taken = http_body_take(s, s->buf + s->pos, s->last - s->pos);
		if (taken < 0) {
			s->keepalive = false;
		} else {
			s->pos += (size_t)taken;
			s->skipping = s->left > 0;
			if (s->skipping && s->ready) {
				s->phase = HTTP_BODY;
				return;
			}
		}
	}
	http_answer(s);
}

static void http_refuse(struct stealth *s, enum http_page page)
{
	s->keepalive = false;
	http_finish(s, page);
}

/* ---- a request ---- */

static void http_begin(struct stealth *s)
{
	s->line = (struct http_line){0};
	s->field = (struct http_field){0};
	s->request = (struct http_request){.version = 1000, .length = -1};
	s->chunks = (struct http_chunks){0};
	s->chunked = s->skipping = s->keepalive = s->linger = false;
	s->deadline = 0;
	s->mark = s->pos;
	s->requests++;
	s->phase = HTTP_LINE;
}

/* The header is whole: what is wrong with it, in nginx's order? HTTP_PAGE_MISSING: nothing. */
static enum http_page http_judge(struct stealth *s)
{
	struct http_request *r = &s->request;

	if (!r->host && r->version > 1000) {
		r->length = -1;
		return HTTP_PAGE_BAD;
	}
	if (r->length_bad)
		return HTTP_PAGE_BAD;
	if (r->coding) {
		if (r->version < 1001)
			return HTTP_PAGE_BAD;
		if (r->coding_unknown)
			return HTTP_PAGE_CODING;
		if (r->length >= 0)
			return HTTP_PAGE_BAD;
		s->chunked = true;
	}
	if (r->method == HTTP_CONNECT || r->method == HTTP_TRACE)
		return HTTP_PAGE_METHOD;
	return s->plain ? HTTP_PAGE_PLAIN : HTTP_PAGE_MISSING;
}

static void http_serve(struct stealth *s)
{
	struct http_request *r = &s->request;
	enum http_page page = http_judge(s);

	if (page != HTTP_PAGE_MISSING) {
		http_refuse(s, page);
		return;
	}
	s->linger = r->length > 0 || s->chunked;
	if (r->length > HTTP_BODY_MAX) {
		http_refuse(s, HTTP_PAGE_BODY);
		return;
	}
	s->keepalive = r->keep || (!r->close && r->version > 1000);
	if (s->requests >= HTTP_REQUESTS_MAX || (r->old_msie && r->method == HTTP_POST) ||
	    s->hooks.clock(s->hooks.user) - s->born > HTTP_CONNECTION_SECONDS)
		s->keepalive = false;
	http_finish(s, page);
}

/* What was refused in the middle of the header has no body. */
static void http_refuse_early(struct stealth *s, enum http_page page)
{
	s->request.length = -1;
	http_refuse(s, page);
}

static void http_line_done(struct stealth *s)
{
	const uint8_t *line = s->buf + s->mark;

	s->request.version = http_line_version(&s->line);
	if (s->request.version < 1000 && s->line.method != HTTP_GET) {
		s->pos =
			s->mark; /* so that bytes are left over, as with each line that is not one */
		http_refuse_early(s, HTTP_PAGE_BAD);
	} else if (!http_line_valid(&s->line, line)) {
		http_refuse_early(s, HTTP_PAGE_BAD);
	} else if (s->request.version < 1000) {
		if (s->plain)
			http_refuse_early(s, HTTP_PAGE_PLAIN);
		else
			http_finish(s, HTTP_PAGE_MISSING);
	} else {
		s->phase = HTTP_FIELDS;
		s->mark = s->pos;
	}
}

static void http_bad_line(struct stealth *s, enum http_page page)
{
	s->request.method = s->line.method;
	s->pos--; /* it is left over */
	http_refuse_early(s, page);
}

/* One byte of the request line. */
static void http_line_byte(struct stealth *s)
{
	uint8_t c = s->buf[s->pos];

	if (s->line.state == 0 && (c == '\r' || c == '\n')) {
		s->mark = ++s->pos;
		return;
	}
	s->pos++;
	switch (http_line_next(&s->line, s->buf + s->mark, s->pos - 1 - s->mark)) {
	case HTTP_MORE:
		break;
	case HTTP_LINE_DONE:
		s->request.method = s->line.method;
		http_line_done(s);
		break;
	case HTTP_BAD_VERSION:
		http_bad_line(s, HTTP_PAGE_VERSION);
		break;
	default:
		http_bad_line(s, HTTP_PAGE_BAD);
		break;
	}
}

static void http_field_byte(struct stealth *s)
{
	const uint8_t *line = s->buf + s->mark;
	size_t at = s->pos++ - s->mark;

	switch (http_field_next(&s->field, line, at)) {
	case HTTP_MORE:
		break;
	case HTTP_LINE_DONE:
		if (!http_field_keep(&s->request, &s->field, line)) {
			http_refuse_early(s, HTTP_PAGE_BAD);
			break;
		}
		s->field = (struct http_field){0};
		s->mark = s->pos;
		break;
	case HTTP_FIELDS_DONE:
		http_serve(s);
		break;
	default:
		s->pos--;
		http_refuse_early(s, HTTP_PAGE_BAD);
		break;
	}
}

/* The buffer is at its end. False: the request was answered, or the connection is over. */
static bool http_full(struct stealth *s)
{
	if (s->phase == HTTP_LINE && s->line.state == 0) {
		s->pos = s->last = s->mark = 0;
		return true;
	}
	if (s->phase == HTTP_LINE) {
		if (http_line_grows(s, true, HTTP_PAGE_URI))
			return true;
	} else {
		if (http_line_grows(s, s->field.state != 0, HTTP_PAGE_FIELDS))
			return true;
		s->linger = true;
	}
	if (s->state == STEALTH_HTTP) {
		s->request.method = s->line.method;
		http_refuse_early(s, s->page);
	}
	return false;
}

/* Go through what is in the buffer. */
static void http_read(struct stealth *s)
{
	while (s->state == STEALTH_HTTP && (s->phase == HTTP_LINE || s->phase == HTTP_FIELDS)) {
		if (s->pos < s->last && s->phase == HTTP_LINE) {
			http_line_byte(s);
		} else if (s->pos < s->last) {
			http_field_byte(s);
		} else {
			if (s->pos == s->cap && !http_full(s))
				return;
			if (!s->timed)
				http_timer(s, s->times.header);
			return;
		}
	}
}

/* ---- between requests, and the end ---- */

static void http_idle(struct stealth *s)
{
	if (s->pos < s->last) {
		s->timed = false;
		s->large = s->cap == HTTP_LARGE_BUFFER;
		http_begin(s);
		http_read(s);
		return;
	}
	http_release(s);
	s->phase = HTTP_IDLE;
	http_timer(s, s->times.keepalive);
}

/* The answer is out and nothing is left of the body. */
static void http_done(struct stealth *s)
{
	if (s->eof)
		http_close(s, STEALTH_CLOSE_QUIET);
	else if (s->keepalive)
		http_idle(s);
	else if (s->linger || s->pos < s->last || s->ready)
		http_close(s, STEALTH_CLOSE_LINGER);
	else
		http_close(s, STEALTH_CLOSE_NOTIFY);
}

void http_written(struct stealth *s)
{
	if (s->phase != HTTP_ANSWER)
		return;
	if (!s->skipping) {
		http_done(s);
		return;
	}
	s->phase = HTTP_SKIP;
	s->deadline = s->hooks.clock(s->hooks.user) + s->times.linger_all / 1000;
	http_timer(s, s->times.linger_idle);
}

/* ---- the rest of a body ---- */

/* Bytes behind the body that were read with it. */
static int http_keep_rest(struct stealth *s, const uint8_t *bytes, size_t n)
{
	if (n > s->cap - s->last && http_enlarge(s, s->last) < 0)
		return -ENOMEM;
	memcpy(s->buf + s->last, bytes, n);
	s->last += n;
	return 0;
}

/* Returns true when the body is over. */
static bool http_skip(struct stealth *s, const uint8_t *bytes, size_t n, bool *bad)
{
	ssize_t taken = http_body_take(s, bytes, n);

	*bad = taken < 0;
	if (*bad || s->left > 0)
		return false;
	*bad = http_keep_rest(s, bytes + taken, n - (size_t)taken) < 0;
	s->skipping = false;
	s->linger = false;
	return !*bad;
}

static void http_body_input(struct stealth *s, const uint8_t *bytes, size_t n)
{
	bool bad;

	if (!http_skip(s, bytes, n, &bad) && s->ready && !bad)
		return;
	if (bad) {
		s->keepalive = false;
		s->skipping = false;
	}
	http_answer(s);
}

static void http_skip_input(struct stealth *s, const uint8_t *bytes, size_t n)
{
	int64_t seconds = s->deadline - s->hooks.clock(s->hooks.user);
	uint64_t ms = seconds > 0 ? (uint64_t)seconds * 1000 : 0;
	bool bad;

	if (ms == 0) {
		http_close(s, STEALTH_CLOSE_NOTIFY);
		return;
	}
	if (http_skip(s, bytes, n, &bad))
		http_done(s);
	else if (bad)
		http_close(s, STEALTH_CLOSE_QUIET);
	else
		http_timer(s, ms < s->times.linger_idle ? ms : s->times.linger_idle);
}

/* ---- calls ---- */

void http_start(struct stealth *s)
{
	if (s->last == 0)
		return;
	http_begin(s);
	s->mark = s->pos = 0;
	http_read(s);
}

size_t http_room(const struct stealth *s)
{
	switch (s->phase) {
	case HTTP_WAIT:
	case HTTP_IDLE:
		return HTTP_FIRST_BUFFER;
	case HTTP_LINE:
	case HTTP_FIELDS:
		return s->cap - s->last;
	case HTTP_BODY:
	case HTTP_SKIP:
		return s->left < HTTP_BODY_READ ? (size_t)s->left : HTTP_BODY_READ;
	case HTTP_ANSWER:
		break;
	}
	return 0;
}

void http_input(struct stealth *s, const uint8_t *bytes, size_t n, bool ready)
{
	s->ready = ready;
	if (s->phase == HTTP_BODY) {
		http_body_input(s, bytes, n);
		return;
	}
	if (n == 0)
		return;
	if (s->phase == HTTP_SKIP) {
		http_skip_input(s, bytes, n);
		return;
	}
	if (http_buffer(s) < 0) {
		http_close(s, STEALTH_CLOSE_QUIET);
		return;
	}
	memcpy(s->buf + s->last, bytes, n);
	s->last += n;
	if (s->phase == HTTP_WAIT || s->phase == HTTP_IDLE) {
		/* The minute that began with the connection goes on; the keep-alive time is
		 * over. */
		if (s->phase == HTTP_IDLE)
			s->timed = false;
		http_begin(s);
	}
	http_read(s);
}

void http_eof(struct stealth *s, bool broken)
{
	s->eof = true;
	if (broken || (s->phase != HTTP_BODY && s->phase != HTTP_ANSWER)) {
		http_close(s, STEALTH_CLOSE_QUIET);
	} else if (s->phase == HTTP_BODY) {
		s->skipping = false;
		http_answer(s);
	}
}

void http_timeout(struct stealth *s)
{
	bool between = s->phase == HTTP_WAIT || s->phase == HTTP_IDLE;

	http_close(s, between ? STEALTH_CLOSE_NOTIFY : STEALTH_CLOSE_QUIET);
}
