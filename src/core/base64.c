/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "base64.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+')
		return 62;
	return c == '/' ? 63 : -1;
}

ssize_t alk_base64_decode(const char *text, size_t len, uint8_t *out, size_t size)
{
	size_t pad = 0, n = 0;
	uint32_t bits = 0;

	if (len % 4 != 0)
		return -EINVAL;
	while (pad < 2 && pad < len && text[len - 1 - pad] == '=')
		pad++;
	if (out && len / 4 * 3 - pad > size)
		return -ENOSPC;
	for (size_t i = 0; i < len; i++) {
		int v = i < len - pad ? base64_value(text[i]) : 0;

		if (v < 0)
			return -EINVAL;
		bits = bits << 6 | (uint32_t)v;
		if (i % 4 != 3)
			continue;
		size_t take = i + 1 == len ? 3 - pad : 3;

		if (bits & ((1U << (8 * (3 - take))) - 1))
			return -EINVAL;
		for (size_t k = 0; k < take; k++, n++)
			if (out)
				out[n] = (uint8_t)(bits >> (16 - 8 * k));
		bits = 0;
	}
	return (ssize_t)n;
}

ssize_t alk_base64_encode(const uint8_t *bytes, size_t len, char *out, size_t size)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t n = 0;

	if (size == 0 || (size - 1) / 4 < len / 3 + (len % 3 != 0))
		return -ENOSPC;
	for (size_t i = 0; i < len; i += 3) {
		size_t left = len - i;
		uint32_t bits = (uint32_t)bytes[i] << 16;

		if (left > 1)
			bits |= (uint32_t)bytes[i + 1] << 8;
		if (left > 2)
			bits |= bytes[i + 2];
		out[n++] = digits[bits >> 18];
		out[n++] = digits[bits >> 12 & 63];
		out[n++] = left > 1 ? digits[bits >> 6 & 63] : '=';
		out[n++] = left > 2 ? digits[bits & 63] : '=';
	}
	out[n] = '\0';
	return (ssize_t)n;
}

char *alk_base64_text(const uint8_t *bytes, size_t len)
{
	size_t size = (len + 2) / 3 * 4 + 1;
	char *text = malloc(size);

	if (text)
		alk_base64_encode(bytes, len, text, size);
	return text;
}

uint8_t *alk_base64_bytes(const char *text, size_t *len)
{
	size_t size = strlen(text) / 4 * 3 + 1;
	uint8_t *bytes = malloc(size);
	ssize_t n = bytes ? alk_base64_decode(text, strlen(text), bytes, size) : -ENOMEM;

	if (n <= 0) {
		free(bytes);
		return NULL;
	}
	*len = (size_t)n;
	return bytes;
}
