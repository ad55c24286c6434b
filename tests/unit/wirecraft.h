/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef WIRECRAFT_H
#define WIRECRAFT_H

/* Bytes in RFC 4251's forms, of the test's own making or from a .pub file. Included after
 * keygen.h. */

#include "base64.h"

struct craft {
	uint8_t bytes[32768];
	size_t len;
};

static inline void put(struct craft *craft, const void *bytes, size_t n)
{
	assert_true(craft->len + n <= sizeof(craft->bytes));
	if (n > 0)
		memcpy(craft->bytes + craft->len, bytes, n);
	craft->len += n;
}

static inline void put_number(struct craft *craft, uint64_t number, unsigned size)
{
	while (size-- > 0)
		put(craft, (uint8_t[]){(uint8_t)(number >> (8 * size))}, 1);
}

static inline void put_string(struct craft *craft, const void *bytes, size_t n)
{
	put_number(craft, n, 4);
	put(craft, bytes, n);
}

/* The blob of a .pub file that keygen_run() made, for the caller to free. */
static inline uint8_t *blob_of(const char *file, size_t *len)
{
	char *text = keygen_read(file, NULL), *key = strchr(text, ' ') + 1;
	size_t n = strcspn(key, " \n");
	uint8_t *blob = malloc(n);
	ssize_t size = alk_base64_decode(key, n, blob, n);

	assert_true(size > 0);
	free(text);
	*len = (size_t)size;
	return blob;
}

#endif
