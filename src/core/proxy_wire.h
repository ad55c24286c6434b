/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_PROXY_WIRE_H
#define ALK_PROXY_WIRE_H

/* What is said to an outbound proxy so that it connects to a destination: SOCKS5 (RFC 1928, 1929)
 * or HTTP CONNECT (RFC 9110 9.3.6, RFC 7617). A pure state machine over bytes: no I/O, no
 * allocation. Fuzzed (tests/fuzz/fuzz_proxy.c).
 *
 *   SOCKS5  METHOD ─▶ [LOGIN] ─▶ REPLY ─┐
 *   HTTP    HEAD ───────────────────────┴─▶ OPEN (what comes now is the destination's)
 *                                       └─▶ FAILED
 *
 * Start here if you add a kind of proxy. */

#include <stddef.h>
#include "proxy_url.h"

enum alk_proxy_state {
	ALK_PROXY_METHOD,
	ALK_PROXY_LOGIN,
	ALK_PROXY_REPLY,
	ALK_PROXY_HEAD,
	ALK_PROXY_OPEN,
	ALK_PROXY_FAILED,
};

#define ALK_PROXY_HEAD_MAX 16384 /* bytes of all heads that an HTTP proxy may answer with */

struct alk_proxy_wire {
	enum alk_proxy_state state;
	const struct alk_proxy_url *url; /* borrowed */
	char host[256];			 /* the destination */
	uint16_t port;
	/* To be sent now; cleared by the caller. Holds the credentials: wipe it. */
	uint8_t out[2048];
	size_t out_len;
	/* FAILED: */
	int rc;
	struct alk_err err;
	/* Internal. */
	uint8_t in[264]; /* a SOCKS5 answer, or a line's beginning of an HTTP one */
	size_t in_len;
	size_t head; /* bytes of HTTP heads so far */
	size_t line; /* bytes of this line */
	unsigned status;
};

/* `host` as it goes to the proxy: a name is the proxy's to resolve. Fills `out` with what is said
 * first. 0, or -EINVAL with `err` when the destination cannot be told to a proxy (an address with a
 * zone). */
int alk_proxy_wire_init(struct alk_proxy_wire *wire, const struct alk_proxy_url *url,
			const char *host, uint16_t port, struct alk_err *err);
/* The proxy's bytes. Returns how many were its own, at most `n`; what is behind them is the
 * destination's. Takes all of them unless the state becomes OPEN or FAILED, or `out` has something
 * that the proxy has to get first. */
size_t alk_proxy_wire_feed(struct alk_proxy_wire *wire, const uint8_t *bytes, size_t n);
/* The proxy has closed the connection: FAILED with a sentence. */
void alk_proxy_wire_eof(struct alk_proxy_wire *wire);

#endif
