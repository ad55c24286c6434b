/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "wire.h"

bool alk_wire_u32(struct alk_wire *wire, uint32_t *value)
{
	const uint8_t *p = wire->p;

	if (wire->left < 4)
		return false;
	*value = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
	wire->p += 4;
	wire->left -= 4;
	return true;
}

bool alk_wire_u64(struct alk_wire *wire, uint64_t *value)
{
	struct alk_wire rest = *wire;
	uint32_t high, low;

	if (!alk_wire_u32(&rest, &high) || !alk_wire_u32(&rest, &low))
		return false;
	*value = (uint64_t)high << 32 | low;
	*wire = rest;
	return true;
}

bool alk_wire_string(struct alk_wire *wire, const uint8_t **bytes, size_t *len)
{
	struct alk_wire rest = *wire;
	uint32_t n;

	if (!alk_wire_u32(&rest, &n) || n > rest.left)
		return false;
	*bytes = rest.p;
	*len = n;
	wire->p = rest.p + n;
	wire->left = rest.left - n;
	return true;
}
