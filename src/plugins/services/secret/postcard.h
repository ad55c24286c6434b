/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef SECRET_POSTCARD_H
#define SECRET_POSTCARD_H

/* The postcard encoding, as far as it is needed: LEB128 numbers, raw bytes, strings and bytes with
 * their length. What is read must be the shortest form, and nothing is read past the end. A failure
 * sticks. */

#include "buf.h"

struct secret_span {
	const uint8_t *bytes; /* borrowed */
	size_t len;
};

struct secret_reader {
	const uint8_t *at, *end;
	bool failed;
};

uint64_t secret_read_number(struct secret_reader *r, uint64_t max);
struct secret_span secret_read_bytes(struct secret_reader *r);
/* The same, which must be UTF-8. */
struct secret_span secret_read_text(struct secret_reader *r);
/* All was good, and all was read. */
bool secret_read_end(const struct secret_reader *r);

void secret_put_number(struct secret_buf *buf, uint64_t n);
void secret_put_bytes(struct secret_buf *buf, const void *bytes, size_t n);

#define SECRET_NUMBER_BYTES 10
/* The number at the start of a stream: bytes that it has, 0 = more must come, -EINVAL. */
int secret_number_peek(const uint8_t *bytes, size_t n, uint64_t max, uint64_t *out);

#endif
