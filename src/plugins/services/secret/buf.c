/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "buf.h"

#include <stdlib.h>
#include <string.h>

static bool buf_room(struct secret_buf *buf, size_t n)
{
	size_t size = buf->size > 0 ? buf->size : 128;
	uint8_t *bytes;

	if (buf->failed || n > SECRET_BUF_MAX - buf->len)
		return false;
	if (buf->bytes != NULL && buf->size - buf->len >= n)
		return true;
	while (size - buf->len < n)
		size *= 2;
	bytes = malloc(size);
	if (bytes == NULL)
		return false;
	if (buf->len > 0)
		memcpy(bytes, buf->bytes, buf->len);
	if (buf->bytes != NULL)
		explicit_bzero(buf->bytes, buf->len);
	free(buf->bytes);
	buf->bytes = bytes;
	buf->size = size;
	return true;
}

uint8_t *secret_buf_more(struct secret_buf *buf, size_t n)
{
	uint8_t *at;

	if (!buf_room(buf, n)) {
		buf->failed = true;
		return NULL;
	}
	at = buf->bytes + buf->len;
	buf->len += n;
	return at;
}

void secret_buf_add(struct secret_buf *buf, const void *bytes, size_t n)
{
	uint8_t *at = secret_buf_more(buf, n);

	if (at != NULL && n > 0)
		memcpy(at, bytes, n);
}

void secret_buf_add_text(struct secret_buf *buf, const char *text)
{
	secret_buf_add(buf, text, strlen(text));
}

void secret_buf_wipe(struct secret_buf *buf)
{
	if (buf->bytes != NULL)
		explicit_bzero(buf->bytes, buf->size);
	free(buf->bytes);
	*buf = (struct secret_buf){0};
}
