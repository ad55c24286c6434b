/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_DIAL_PRIVATE_H
#define ALK_DIAL_PRIVATE_H

/* Dialling with all its choices made: dial_to.c makes them, dial.c does it. */

#include <alknet/dial.h>
#include "proxy_url.h"

#define ALK_DIAL_FIRST_MAX 64

struct alk_dial_how {
	const char *bind;		   /* "" = any */
	const struct alk_proxy_url *proxy; /* NULL = straight there; borrowed for the call */
	uint8_t first[ALK_DIAL_FIRST_MAX]; /* what the destination gets before anything else */
	size_t first_len;
};

/* As alk_dial_tcp. */
struct alk_dial *alk_dial_start(struct alk_loop *loop, const char *host, uint16_t port,
				const struct alk_dial_how *how, uint64_t timeout_ms,
				alk_dial_fn *done, void *user, struct alk_err *err);

#endif
