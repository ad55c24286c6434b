/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "parts.h"

#include <errno.h>
#include <string.h>

#define HEAD 9
#define PART ((size_t)1 << 20)
/* A message and the identity before it. */
#define WHOLE_MAX (SECRET_MESSAGE_MAX + 4096)

enum part_flags {
	PART_FIRST = 1,
	PART_LAST = 2,
};

int secret_parts_send(struct alk_half *half, uint64_t worker, uint64_t number, const uint8_t *bytes,
		      size_t n)
{
	size_t at = 0;
	int rc = 0;

	do {
		size_t take = n - at < PART ? n - at : PART;
		uint8_t flags = (uint8_t)((at == 0 ? PART_FIRST : 0) |
					  (at + take == n ? PART_LAST : 0));
		struct secret_buf part = {0};

		secret_buf_add(&part, &number, sizeof(number));
		secret_buf_add(&part, &flags, 1);
		secret_buf_add(&part, bytes + at, take);
		rc = part.failed ? -ENOMEM : alk_half_send(half, worker, part.bytes, part.len);
		secret_buf_wipe(&part);
		at += take;
	} while (rc == 0 && at < n);
	return rc;
}

int secret_parts_take(struct secret_parts *parts, const uint8_t *bytes, size_t n)
{
	uint64_t number;
	uint8_t flags;

	if (n < HEAD || bytes[8] > (PART_FIRST | PART_LAST))
		return -EPROTO;
	memcpy(&number, bytes, sizeof(number));
	flags = bytes[8];
	if ((flags & PART_FIRST) != 0) {
		secret_parts_clear(parts);
		parts->begun = true;
		parts->number = number;
	}
	if (!parts->begun || parts->number != number || n - HEAD > WHOLE_MAX - parts->buf.len)
		return -EPROTO;
	secret_buf_add(&parts->buf, bytes + HEAD, n - HEAD);
	if (parts->buf.failed)
		return -ENOMEM;
	if ((flags & PART_LAST) == 0)
		return 0;
	parts->begun = false;
	return 1;
}

void secret_parts_clear(struct secret_parts *parts)
{
	secret_buf_wipe(&parts->buf);
	*parts = (struct secret_parts){0};
}
