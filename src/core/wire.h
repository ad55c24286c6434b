/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_WIRE_H
#define ALK_WIRE_H

/* A piece of SSH's own encoding (RFC 4251 5) that is still to be read: keys, certificates, lists of
 * revoked keys, what an agent says. Borrows the bytes. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct alk_wire {
	const uint8_t *p;
	size_t left;
};
/* False, and nothing taken, when there are not enough bytes left. A string is borrowed from
 * there. */
bool alk_wire_u32(struct alk_wire *wire, uint32_t *value);
bool alk_wire_u64(struct alk_wire *wire, uint64_t *value);
bool alk_wire_string(struct alk_wire *wire, const uint8_t **bytes, size_t *len);

#endif
