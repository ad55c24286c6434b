/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_IROH_HEAD_H
#define ALKNET_IROH_HEAD_H

/* The head of an HTTP request that is made of a proxy: CONNECT HOST:PORT, or another method with
 * http://HOST[:PORT]/... (RFC 9110 9.3.6, RFC 9112 3.2.2). Whoever reaches the port may have sent
 * it. No I/O, no allocation. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IROH_HEAD_MAX 8192

struct iroh_head {
	char host[256];
	uint16_t port;
	bool connect;
	/* Without CONNECT: what goes to the host instead of the head. */
	char forward[IROH_HEAD_MAX + 64];
	size_t forward_len;
};

/* `word` is what must stand in Proxy-Authorization. > 0: so long is the head; 0: there is more to
 * come; -EACCES: without the word; -E2BIG; -EINVAL: it is no such head. */
int iroh_head_parse(const uint8_t *bytes, size_t n, const char *word, struct iroh_head *head);

#endif
