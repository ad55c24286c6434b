/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "nats_wire.h"

#include <stdint.h>
#include <string.h>

static bool put(char *out, size_t size, size_t *n, const char *bytes, size_t len)
{
	if (*n + len >= size)
		return false;
	memcpy(out + *n, bytes, len);
	*n += len;
	out[*n] = '\0';
	return true;
}

static bool put_token(char *out, size_t size, size_t *n, const char *token, size_t len)
{
	static const char hex[] = "0123456789ABCDEF";

	for (size_t i = 0; i < len; i++) {
		uint8_t c = (uint8_t)token[i];
		char escaped[] = {'%', hex[c >> 4], hex[c & 15]};

		if (c <= ' ' || c == 0x7f || strchr("%*>.$", c) != NULL) {
			if (!put(out, size, n, escaped, sizeof(escaped)))
				return false;
		} else if (!put(out, size, n, token + i, 1)) {
			return false;
		}
	}
	return true;
}

bool nats_subject_add(char *out, size_t size, const char *text, bool pattern)
{
	size_t n = strlen(out);

	for (;;) {
		size_t len = strcspn(text, ".:");
		bool wild = pattern && len == 1 && (*text == '*' || *text == '>');

		if (!put(out, size, &n, ".", 1) ||
		    !(wild ? put(out, size, &n, text, 1) : put_token(out, size, &n, text, len)))
			return false;
		if (text[len] != '.')
			return true; /* the id is in the envelope */
		text += len + 1;
	}
}

bool nats_subject_path(char *out, size_t size, const char *path)
{
	size_t n = strlen(out);

	while (*path == '/') {
		size_t len = strcspn(++path, "/");

		if (!put(out, size, &n, ".", 1) || !put_token(out, size, &n, path, len))
			return false;
		path += len;
	}
	return true;
}

bool nats_subject_token(char *out, size_t size, const char *text)
{
	size_t n = strlen(out);

	return put(out, size, &n, ".", 1) && put_token(out, size, &n, text, strlen(text));
}
