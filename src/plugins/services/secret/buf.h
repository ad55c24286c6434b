/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef SECRET_BUF_H
#define SECRET_BUF_H

/* Bytes that grow and are wiped: when they move, and when they are freed. No bytes of a secret are
 * left in the heap behind one of these. A failure sticks: check `failed` once, at the end. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct secret_buf {
	uint8_t *bytes;
	size_t len, size;
	bool failed; /* out of memory, or more than SECRET_BUF_MAX */
};

/* Of a message between peers; what carries one has a little room besides. */
#define SECRET_MESSAGE_MAX ((size_t)16 << 20)
#define SECRET_BUF_MAX (SECRET_MESSAGE_MAX * 2)

void secret_buf_add(struct secret_buf *buf, const void *bytes, size_t n);
void secret_buf_add_text(struct secret_buf *buf, const char *text);
/* `n` more bytes to fill in, or NULL. */
uint8_t *secret_buf_more(struct secret_buf *buf, size_t n);
/* Wipe and free; the buffer is empty again. */
void secret_buf_wipe(struct secret_buf *buf);

#endif
