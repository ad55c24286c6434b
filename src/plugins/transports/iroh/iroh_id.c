/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "iroh_id.h"

#include <errno.h>
#include <string.h>

static const char z32[] = "ybndrfg8ejkmcpqxot1uwisza345h769";

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int iroh_id_unhex(const char *text, uint8_t bytes[IROH_ID_BYTES])
{
	if (strlen(text) != IROH_ID_HEX - 1)
		return -EINVAL;
	for (unsigned i = 0; i < IROH_ID_BYTES; i++) {
		int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return -EINVAL;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	return 0;
}

static int unz32(const char *text, uint8_t id[IROH_ID_BYTES])
{
	unsigned bits = 0, held = 0, n = 0;

	for (unsigned i = 0; i < IROH_ID_Z32 - 1; i++) {
		const char *at = strchr(z32, text[i]);

		if (at == NULL)
			return -EINVAL;
		held = held << 5 | (unsigned)(at - z32);
		bits += 5;
		if (bits < 8)
			continue;
		bits -= 8;
		id[n++] = (uint8_t)(held >> bits);
		held &= (1u << bits) - 1;
	}
	/* What stands behind the last byte is nothing. */
	return held == 0 ? 0 : -EINVAL;
}

int iroh_id_parse(const char *text, uint8_t id[IROH_ID_BYTES])
{
	if (strlen(text) == IROH_ID_Z32 - 1)
		return unz32(text, id);
	return iroh_id_unhex(text, id);
}

void iroh_id_z32(const uint8_t id[IROH_ID_BYTES], char text[IROH_ID_Z32])
{
	unsigned bits = 0, held = 0, n = 0;

	for (unsigned i = 0; n < IROH_ID_Z32 - 1; i++) {
		held = held << 8 | (i < IROH_ID_BYTES ? id[i] : 0);
		for (bits += 8; bits >= 5 && n < IROH_ID_Z32 - 1; bits -= 5)
			text[n++] = z32[held >> (bits - 5) & 31];
		held &= (1u << bits) - 1;
	}
	text[n] = '\0';
}

void iroh_id_hex(const uint8_t id[IROH_ID_BYTES], char text[IROH_ID_HEX])
{
	static const char digits[] = "0123456789abcdef";

	for (unsigned i = 0; i < IROH_ID_BYTES; i++) {
		text[2 * i] = digits[id[i] >> 4];
		text[2 * i + 1] = digits[id[i] & 15];
	}
	text[IROH_ID_HEX - 1] = '\0';
}
