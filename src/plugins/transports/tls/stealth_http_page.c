/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "stealth_http.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SERVER "nginx/1.22.1"
#define PADDING_LINES 6

static const char padding[] =
	"<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n";

struct page {
	const char *status, *title, *heading, *reason; /* NULL: as the one before; no reason */
};

static const struct page pages[] = {
	[HTTP_PAGE_BAD] = {"400 Bad Request", NULL, NULL, NULL},
	[HTTP_PAGE_PLAIN] = {"400 Bad Request", "400 The plain HTTP request was sent to HTTPS port",
			     "400 Bad Request", "The plain HTTP request was sent to HTTPS port"},
	[HTTP_PAGE_FIELDS] = {"400 Bad Request", "400 Request Header Or Cookie Too Large",
			      "400 Bad Request", "Request Header Or Cookie Too Large"},
	[HTTP_PAGE_MISSING] = {"404 Not Found", NULL, NULL, NULL},
	[HTTP_PAGE_METHOD] = {"405 Not Allowed", NULL, NULL, NULL},
	[HTTP_PAGE_BODY] = {"413 Request Entity Too Large", NULL, NULL, NULL},
	[HTTP_PAGE_URI] = {"414 Request-URI Too Large", NULL, NULL, NULL},
	[HTTP_PAGE_CODING] = {"501 Not Implemented", NULL, NULL, NULL},
	[HTTP_PAGE_VERSION] = {"505 HTTP Version Not Supported", NULL, NULL, NULL},
};

/* What zlib makes of the page of 404 (level 1), without and with padding: one chunk. */
static const uint8_t gzip_short[] = {
	0x37, 0x32, 0x0d, 0x0a, 0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x03, 0xb3,
	0xc9, 0x28, 0xc9, 0xcd, 0xb1, 0xe3, 0xe5, 0xb2, 0xc9, 0x48, 0x4d, 0x4c, 0xb1, 0xb3, 0x29,
	0xc9, 0x2c, 0xc9, 0x49, 0xb5, 0x33, 0x31, 0x30, 0x51, 0xf0, 0xcb, 0x2f, 0x51, 0x70, 0xcb,
	0x2f, 0xcd, 0x4b, 0xb1, 0xd1, 0x87, 0x08, 0xda, 0xe8, 0x83, 0x95, 0x00, 0x95, 0x26, 0xe5,
	0xa7, 0x54, 0x82, 0xb4, 0x24, 0xa7, 0xe6, 0x95, 0xa4, 0x16, 0xd9, 0xd9, 0x64, 0x18, 0xa2,
	0xeb, 0x00, 0x8a, 0xd8, 0xe8, 0x43, 0xa5, 0x41, 0x66, 0x03, 0x15, 0x41, 0x79, 0x79, 0xe9,
	0x99, 0x79, 0x15, 0xfa, 0x86, 0x7a, 0x46, 0x46, 0x7a, 0x86, 0xc8, 0x4a, 0xf4, 0x61, 0x86,
	0xea, 0x43, 0x1d, 0x04, 0x00, 0x97, 0x8d, 0x7f, 0xbd, 0x99, 0x00, 0x00, 0x00,
};
static const uint8_t gzip_padded[] = {
	0x62, 0x30, 0x0d, 0x0a, 0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x03, 0xed,
	0x90, 0xc1, 0x0a, 0xc2, 0x30, 0x10, 0x44, 0xef, 0x82, 0xff, 0xb0, 0x7e, 0x40, 0x1a, 0x5b,
	0x7a, 0x5c, 0x72, 0x11, 0x05, 0x0f, 0x7a, 0xf1, 0x0b, 0x52, 0x77, 0x6d, 0x02, 0x69, 0x22,
	0x31, 0x82, 0xfd, 0x7b, 0x13, 0x6d, 0x41, 0x3c, 0x7b, 0xf4, 0xb8, 0xb3, 0x6f, 0x86, 0x61,
	0xd0, 0xa4, 0xc1, 0xa9, 0xe5, 0x02, 0x0d, 0x6b, 0x52, 0x98, 0x6c, 0x72, 0xac, 0xda, 0x75,
	0x0b, 0xc7, 0x90, 0x60, 0x17, 0xee, 0x9e, 0x50, 0xbe, 0x45, 0x94, 0x2f, 0x24, 0xa3, 0x5d,
	0xa0, 0xb1, 0x58, 0xce, 0xec, 0x13, 0x47, 0x85, 0xa6, 0xfe, 0x76, 0x64, 0x05, 0xe5, 0xf4,
	0x2e, 0xd9, 0x19, 0x9a, 0x2e, 0xdf, 0x5b, 0xff, 0x90, 0x75, 0xd5, 0x34, 0x55, 0xfd, 0x89,
	0xc8, 0x39, 0x54, 0xce, 0x85, 0x56, 0x42, 0x80, 0x86, 0xab, 0x26, 0xb2, 0xbe, 0x87, 0x14,
	0x80, 0xec, 0x4d, 0x77, 0x8e, 0xe1, 0x70, 0xda, 0x6f, 0x41, 0x7b, 0x82, 0x8d, 0x89, 0x61,
	0x60, 0xb8, 0x44, 0xcb, 0x9e, 0xdc, 0x08, 0x1c, 0x63, 0x88, 0xd9, 0xd1, 0x33, 0x08, 0x51,
	0x0a, 0xfe, 0x23, 0x7e, 0xb9, 0xc5, 0x13, 0xe2, 0x75, 0x26, 0x80, 0x2b, 0x02, 0x00, 0x00,
};

struct writer {
	uint8_t *out;
	size_t n;
};

static void writer_bytes(struct writer *w, const void *bytes, size_t n)
{
	memcpy(w->out + w->n, bytes, n);
	w->n += n;
}

static void writer_text(struct writer *w, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void writer_text(struct writer *w, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf((char *)w->out + w->n, HTTP_PAGE_MAX - w->n, format, args);
	va_end(args);
	if (n > 0)
		w->n += (size_t)n;
}

/* RFC 9110, 5.6.7. Not by strftime(): that speaks the language of the user. */
static void writer_date(struct writer *w, int64_t now)
{
	static const char days[] = "SunMonTueWedThuFriSat";
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	time_t t = (time_t)now;
	struct tm tm = {.tm_mday = 1};

	gmtime_r(&t, &tm);
	writer_text(w, "Date: %.3s, %02d %.3s %04d %02d:%02d:%02d GMT\r\n", days + 3 * tm.tm_wday,
		    tm.tm_mday, months + 3 * tm.tm_mon, tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
		    tm.tm_sec);
}

static void writer_body(struct writer *w, const struct page *p, bool padded)
{
	const char *title = p->title != NULL ? p->title : p->status;
	const char *heading = p->heading != NULL ? p->heading : title;

	writer_text(w, "<html>\r\n<head><title>%s</title></head>\r\n<body>\r\n", title);
	writer_text(w, "<center><h1>%s</h1></center>\r\n", heading);
	if (p->reason != NULL)
		writer_text(w, "<center>%s</center>\r\n", p->reason);
	writer_text(w, "<hr><center>" SERVER "</center>\r\n</body>\r\n</html>\r\n");
	for (int i = 0; padded && i < PADDING_LINES; i++)
		writer_text(w, "%s", padding);
}

static void writer_head(struct writer *w, const struct page *p, int64_t now, long length,
			const char *coding, bool keepalive)
{
	writer_text(w, "HTTP/1.1 %s\r\nServer: " SERVER "\r\n", p->status);
	writer_date(w, now);
	writer_text(w, "Content-Type: text/html\r\n");
	if (length >= 0)
		writer_text(w, "Content-Length: %ld\r\n", length);
	writer_text(w, "%sConnection: %s\r\n", coding, keepalive ? "keep-alive" : "close");
}

size_t http_page_write(uint8_t *out, enum http_page page, const struct http_request *r,
		       bool keepalive, int64_t now)
{
	const struct page *p = &pages[page];
	bool head = r->method == HTTP_HEAD;
	bool gzip = page == HTTP_PAGE_MISSING && r->version > 1000 && r->gzip && !r->via;
	struct writer w = {.out = out};
	uint8_t body[HTTP_PAGE_MAX];
	struct writer b = {.out = body};

	if (r->version < 1000) {
		writer_body(&w, p, false);
		return w.n;
	}
	if (gzip) {
		writer_head(&w, p, now, -1, head ? "" : "Transfer-Encoding: chunked\r\n",
			    keepalive);
		writer_text(&w, "Content-Encoding: gzip\r\n\r\n");
		if (head)
			return w.n;
		if (r->padded)
			writer_bytes(&w, gzip_padded, sizeof(gzip_padded));
		else
			writer_bytes(&w, gzip_short, sizeof(gzip_short));
		writer_text(&w, "\r\n0\r\n\r\n");
		return w.n;
	}
	writer_body(&b, p, r->padded);
	writer_head(&w, p, now, (long)b.n, "", keepalive);
	writer_text(&w, "\r\n");
	if (!head)
		writer_bytes(&w, b.out, b.n);
	return w.n;
}
