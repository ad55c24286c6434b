/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "stealth_http.h"

enum chunk_state {
	START,
	SIZE,
	EXTENSION,
	EXTENSION_LF,
	BYTES,
	BYTES_CR,
	BYTES_LF,
	LAST_EXTENSION,
	LAST_LF,
	TRAILER,
	TRAILER_LF,
	TRAILER_LINE,
	TRAILER_LINE_LF,
	OVER,
};

static int hex_of(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Where a line that ends here goes on; -1: this byte cannot be. */
static int line_next(uint8_t c, int here, int cr, int lf)
{
	if (c == '\r')
		return cr;
	return c == '\n' ? lf : here;
}

static int size_next(struct http_chunks *c, uint8_t byte)
{
	int digit = hex_of(byte);
	bool last;

	if (c->state == SIZE && c->size > INT64_MAX / 16)
		return -1;
	if (digit >= 0) {
		c->size = c->state == START ? digit : c->size * 16 + digit;
		return SIZE;
	}
	last = c->size == 0;
	if (c->state == START)
		return -1;
	if (byte == ';' || byte == ' ' || byte == '\t')
		return last ? LAST_EXTENSION : EXTENSION;
	return line_next(byte, -1, last ? LAST_LF : EXTENSION_LF, last ? TRAILER : BYTES);
}

static int chunk_next(struct http_chunks *c, uint8_t byte)
{
	switch ((enum chunk_state)c->state) {
	case START:
	case SIZE:
		return size_next(c, byte);
	case EXTENSION:
		return line_next(byte, EXTENSION, EXTENSION_LF, BYTES);
	case EXTENSION_LF:
		return line_next(byte, -1, -1, BYTES);
	case BYTES_CR:
		return line_next(byte, -1, BYTES_LF, START);
	case BYTES_LF:
		return line_next(byte, -1, -1, START);
	case LAST_EXTENSION:
		return line_next(byte, LAST_EXTENSION, LAST_LF, TRAILER);
	case LAST_LF:
	case TRAILER_LINE_LF:
		return line_next(byte, -1, -1, TRAILER);
	case TRAILER:
		return line_next(byte, TRAILER_LINE, TRAILER_LF, OVER);
	case TRAILER_LF:
		return line_next(byte, -1, -1, OVER);
	case TRAILER_LINE:
		return line_next(byte, TRAILER_LINE, TRAILER_LINE_LF, TRAILER);
	case BYTES:
	case OVER:
		break;
	}
	return -1;
}

static int64_t chunks_wanted(const struct http_chunks *c)
{
	switch ((enum chunk_state)c->state) {
	case SIZE:
		return c->size > 0 ? c->size + 5 : 2;
	case EXTENSION:
	case EXTENSION_LF:
		return c->size + 5;
	case BYTES:
		return c->size + 4;
	default:
		return 4; /* less than is read at once anyway */
	}
}

enum http_verdict http_chunks_next(struct http_chunks *c, const uint8_t *bytes, size_t n,
				   size_t *taken)
{
	size_t i = 0;

	while (i < n && c->state != OVER) {
		int next;

		if (c->state == BYTES) {
			size_t some = (int64_t)(n - i) < c->size ? n - i : (size_t)c->size;

			i += some;
			c->size -= (int64_t)some;
			if (c->size > 0)
				break;
			c->state = BYTES_CR;
			continue;
		}
		next = chunk_next(c, bytes[i++]);
		if (next < 0 || c->size > INT64_MAX - 5)
			return HTTP_BAD;
		c->state = (uint8_t)next;
	}
	*taken = i;
	if (c->state == OVER)
		return HTTP_LINE_DONE;
	c->wanted = chunks_wanted(c);
	return HTTP_MORE;
}
