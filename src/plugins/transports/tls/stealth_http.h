/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_STEALTH_HTTP_H
#define ALKNET_STEALTH_HTTP_H

/* The web server inside of stealth.h: private to stealth*.c.
 *
 *   stealth.c             whose the first bytes are; the calls of stealth.h
 *   stealth_http.c        a connection: what is read next, what is answered, how it ends
 *   stealth_http_line.c   a request line, one byte at a time
 *   stealth_http_field.c  a header line, and what is kept of it
 *   stealth_http_body.c   a body that nobody wants: where it ends
 *   stealth_http_page.c   the bytes of an answer
 *
 * Start in stealth_http_line.c if a request is taken that nginx refuses, in stealth_http_page.c if
 * an answer has other bytes. Every rule here was learned from nginx 1.22.1 and is held against it
 * by tests/integration/test_stealth_diff.py: add the probe there first. */

#include "stealth.h"

#define HTTP_FIRST_BUFFER 1024
#define HTTP_LARGE_BUFFER 8192
#define HTTP_LARGE_MAX 4
#define HTTP_BODY_READ 4096
#define HTTP_BODY_MAX (1024 * 1024)
#define HTTP_REQUESTS_MAX 1000
#define HTTP_CONNECTION_SECONDS 3600
#define HTTP_PAGE_MAX 1536

enum http_verdict {
	HTTP_MORE,
	HTTP_LINE_DONE,
	HTTP_FIELDS_DONE, /* the empty line behind the header lines */
	HTTP_BAD,
	HTTP_BAD_VERSION,
};

enum http_method {
	HTTP_OTHER,
	HTTP_GET,
	HTTP_HEAD,
	HTTP_POST,
	HTTP_TRACE,
	HTTP_CONNECT
};

/* Places are counted from the first byte of the line, which may move to another buffer. */
struct http_line {
	uint8_t state, matched;
	uint8_t method; /* enum http_method */
	bool has_host;
	uint16_t uri, uri_end, host, host_end;
	unsigned major, minor;
};

struct http_field {
	uint8_t state;
	bool ignored; /* its name has characters that nginx does not like */
	uint16_t name_end, value, value_end;
};

/* What is kept of a request. */
struct http_request {
	uint8_t method;
	unsigned version; /* 1001: HTTP/1.1. 9: HTTP/0.9 */
	uint16_t seen;	  /* fields that may come once, by their place in the table */
	bool host, via, gzip, agent, encoding_seen;
	bool close, keep; /* Connection: one of them at most */
	bool padded, old_msie;
	bool length_bad, coding, coding_unknown;
	int64_t length; /* -1: none */
};

struct http_chunks {
	uint8_t state;
	int64_t size;	/* of this chunk, as far as it is to come */
	int64_t wanted; /* at least so many bytes are to come */
};

enum http_page {
	HTTP_PAGE_BAD,
	HTTP_PAGE_PLAIN,
	HTTP_PAGE_FIELDS,
	HTTP_PAGE_MISSING,
	HTTP_PAGE_METHOD,
	HTTP_PAGE_BODY,
	HTTP_PAGE_URI,
	HTTP_PAGE_CODING,
	HTTP_PAGE_VERSION,
};

enum http_phase {
	HTTP_WAIT,   /* for the first byte */
	HTTP_LINE,   /* within a request line */
	HTTP_FIELDS, /* within the header lines */
	HTTP_BODY,   /* what of the body is there is read before the answer */
	HTTP_ANSWER, /* until it is written */
	HTTP_SKIP,   /* the rest of the body, after the answer */
	HTTP_IDLE,   /* between two requests */
};

struct stealth {
	struct stealth_settings settings;
	struct stealth_times times;
	struct stealth_hooks hooks;
	enum stealth_state state;
	bool begun, plain;
	bool refused; /* a first byte is not ours */
	size_t rest;  /* where it begins in buf */

	enum http_phase phase;
	uint8_t *buf; /* NULL while idle */
	size_t cap, pos, last;
	size_t mark; /* where the line that is read begins */
	unsigned large, requests;
	int64_t born;
	bool ready, eof;
	bool timed; /* a timer runs for what is read */

	struct http_line line;
	struct http_field field;
	struct http_request request;
	struct http_chunks chunks;
	int64_t left; /* of the body; -1: there is none */
	bool chunked, skipping, keepalive, linger;
	int64_t deadline; /* of skipping, in seconds; 0: none */
	enum http_page page;
};

/* ---- a connection ---- all set stealth->state to DONE at the end */

/* buf may hold bytes already. */
void http_start(struct stealth *s);
size_t http_room(const struct stealth *s);
void http_input(struct stealth *s, const uint8_t *bytes, size_t n, bool ready);
void http_eof(struct stealth *s, bool broken);
void http_written(struct stealth *s);
void http_timeout(struct stealth *s);
void http_close(struct stealth *s, enum stealth_close how);
/* Room for the first bytes of a request. 0 or -ENOMEM. */
int http_buffer(struct stealth *s);

/* ---- parsers ---- */

/* Look at line[at], the next byte. `line` holds all before it too. */
enum http_verdict http_line_next(struct http_line *l, const uint8_t *line, size_t at);
unsigned http_line_version(const struct http_line *l);
/* The line is whole: does nginx take its path and its host? */
bool http_line_valid(const struct http_line *l, const uint8_t *line);
bool http_host_valid(const uint8_t *host, size_t n);

enum http_verdict http_field_next(struct http_field *f, const uint8_t *line, size_t at);
/* A whole line: keep what matters. False: the request is bad. */
bool http_field_keep(struct http_request *r, const struct http_field *f, const uint8_t *line);

/* Take `n` bytes of chunks; `taken` says how many belonged to them. HTTP_MORE, HTTP_LINE_DONE (the
 * last chunk and the trailers are over) or HTTP_BAD. */
enum http_verdict http_chunks_next(struct http_chunks *c, const uint8_t *bytes, size_t n,
				   size_t *taken);

/* ---- answers ---- */

/* Write the answer into HTTP_PAGE_MAX bytes. `now`: seconds since 1970. Returns its length. */
size_t http_page_write(uint8_t *out, enum http_page page, const struct http_request *r,
		       bool keepalive, int64_t now);

#endif
