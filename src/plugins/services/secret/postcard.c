/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "postcard.h"

#include <errno.h>
#include <utf8proc.h>

int secret_number_peek(const uint8_t *bytes, size_t n, uint64_t max, uint64_t *out)
{
	uint64_t value = 0;

	for (size_t i = 0; i < n && i < SECRET_NUMBER_BYTES; i++) {
		uint64_t bits = bytes[i] & 0x7f;

		if (i == SECRET_NUMBER_BYTES - 1 && bits > 1)
			return -EINVAL;
		value |= bits << (7 * i);
		if (value > max)
			return -EINVAL;
		if ((bytes[i] & 0x80) == 0) {
			*out = value;
			return i > 0 && bits == 0 ? -EINVAL : (int)i + 1;
		}
	}
	return n >= SECRET_NUMBER_BYTES ? -EINVAL : 0;
}

uint64_t secret_read_number(struct secret_reader *r, uint64_t max)
{
	uint64_t value = 0;
	int n = r->failed ? -EINVAL
			  : secret_number_peek(r->at, (size_t)(r->end - r->at), max, &value);

	if (n <= 0) {
		r->failed = true;
		return 0;
	}
	r->at += n;
	return value;
}

struct secret_span secret_read_bytes(struct secret_reader *r)
{
	size_t len = (size_t)secret_read_number(r, SIZE_MAX);
	struct secret_span span = {r->at, len};

	if (r->failed || len > (size_t)(r->end - r->at)) {
		r->failed = true;
		return (struct secret_span){0};
	}
	r->at += len;
	return span;
}

struct secret_span secret_read_text(struct secret_reader *r)
{
	struct secret_span span = secret_read_bytes(r);

	for (size_t at = 0; at < span.len;) {
		utf8proc_int32_t point;
		utf8proc_ssize_t n = utf8proc_iterate(span.bytes + at,
						      (utf8proc_ssize_t)(span.len - at), &point);

		if (n <= 0) {
			r->failed = true;
			return (struct secret_span){0};
		}
		at += (size_t)n;
	}
	return span;
}

bool secret_read_end(const struct secret_reader *r)
{
	return !r->failed && r->at == r->end;
}

void secret_put_number(struct secret_buf *buf, uint64_t n)
{
	do {
		uint8_t byte = (uint8_t)((n & 0x7f) | (n > 0x7f ? 0x80 : 0));

		secret_buf_add(buf, &byte, 1);
		n >>= 7;
	} while (n > 0);
}

void secret_put_bytes(struct secret_buf *buf, const void *bytes, size_t n)
{
	secret_put_number(buf, n);
	secret_buf_add(buf, bytes, n);
}
