/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_SOCKS5_H
#define ALK_SOCKS5_H

/* What an application says on the client's proxy port: SOCKS5 (RFC 1928), or HTTP CONNECT (RFC 9110
 * 9.3.6), told apart by the first byte. A pure state machine over bytes: no I/O, no allocation. Fuzzed
 * (tests/fuzz/fuzz_socks5.c).
 *
 *   GREETING ─▶ REQUEST ─▶ ASKED (caller opens the channel) ─▶ DONE
 *   HTTP head ────────────▶ ASKED                          ─▶ DONE
 */

#include <stddef.h>
#include <stdint.h>
#include <alknet/service.h>

enum alk_socks5_state {
	ALK_SOCKS5_START,
	ALK_SOCKS5_GREETING,
	ALK_SOCKS5_REQUEST,
	ALK_SOCKS5_HTTP,
	ALK_SOCKS5_ASKED,
	ALK_SOCKS5_FAILED,
};

#define ALK_SOCKS5_HEAD_MAX 8192

struct alk_socks5 {
	enum alk_socks5_state state;
	bool http;
	struct alk_destination to; /* valid in ASKED; host as asked for, never resolved */
	uint8_t reply[512];	   /* to be sent to the application now, cleared by the caller */
	size_t reply_len;
	size_t scanned;
};

void alk_socks5_init(struct alk_socks5 *socks);
/* Look at the `n` bytes that wait. Returns how many were consumed (0 = need more). After it: send
 * `reply` if there is one; ASKED: open `to`, unconsumed bytes are the first data; FAILED: send `reply`
 * and close. */
size_t alk_socks5_feed(struct alk_socks5 *socks, const uint8_t *bytes, size_t n);
/* The answer once the channel opened or failed, into `reply`. RFC 1928 6: prohibited 0x02, unreachable
 * 0x04 (names too), refused 0x05, else 0x01; timeout 0x06 is TTL expired and is sent for timeouts.
 * HTTP: 200, or 403, 502, 504. */
void alk_socks5_answer(struct alk_socks5 *socks, enum alk_open_failure why);

#endif
