/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef SECRET_PARTS_H
#define SECRET_PARTS_H

/* What the halves say to each other: messages of up to 16 MiB in parts of at most 1 MiB, one
 * message after the other.
 *
 *   worker → supervisor   identity (postcard text), then a request
 *   supervisor → worker   the answer, postcard(Result)
 *
 * A part: u64 number of the request, u8 1 = the first part | 2 = the last, bytes. */

#include <alknet/half.h>
#include "buf.h"

struct secret_parts {
	uint64_t number;
	struct secret_buf buf;
	bool begun;
};

/* 0, or what alk_half_send says; then the other half hears no end of it. */
int secret_parts_send(struct alk_half *half, uint64_t worker, uint64_t number, const uint8_t *bytes,
		      size_t n);
/* 1: `parts` has the whole message, to be wiped; 0: more follow; -EPROTO; -ENOMEM. */
int secret_parts_take(struct secret_parts *parts, const uint8_t *bytes, size_t n);
void secret_parts_clear(struct secret_parts *parts);

#endif
