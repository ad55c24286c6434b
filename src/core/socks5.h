/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_SOCKS5_H
#define ALK_SOCKS5_H

/* What an application says on the client's proxy port: SOCKS5 (RFC 1928), or HTTP CONNECT (RFC 9110
 * 9.3.6), told apart by the first byte. A pure state machine over bytes: no I/O, no allocation.
 * Fuzzed (tests/fuzz/fuzz_socks5.c).
 *
 *   START ─05─▶ GREETING ─▶ [AUTH] ─▶ REQUEST ─┐
 *     │ └─a letter─▶ HTTP ─────────────────────┴─▶ ASKED (caller opens the channel) ─answer─▶ DONE
 *     └─▶ FAILED ◀─ from each of them
 *
 * SOCKS: CONNECT alone; no authentication, or user and password (RFC 1929) and nothing else where
 * they are asked for: wrong ones get 0x01. BIND and UDP ASSOCIATE get 0x07, an unknown address type
 * 0x08, a name that is empty or has control bytes gets 0x01, and so does port 0 but at a reserved
 * destination; no acceptable method 0xff. SOCKS4 is answered with its own rejection (0x5b); any
 * other first byte with nothing. HTTP: another method gets 405, a bad request 400 (a NUL, a bare LF
 * or CR and a folded line are bad), a head of more than ALK_SOCKS5_HEAD_MAX bytes 431, a missing or
 * wrong Proxy-Authorization (Basic, RFC 7617) 407 where one is asked for. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <alknet/service.h>

enum alk_socks5_state {
	ALK_SOCKS5_START,
	ALK_SOCKS5_GREETING,
	ALK_SOCKS5_AUTH,
	ALK_SOCKS5_REQUEST,
	ALK_SOCKS5_HTTP,
	ALK_SOCKS5_ASKED,
	ALK_SOCKS5_DONE,
	ALK_SOCKS5_FAILED,
};
const char *alk_socks5_state_str(enum alk_socks5_state state);

#define ALK_SOCKS5_HEAD_MAX 8192

struct alk_socks5 {
	enum alk_socks5_state state;
	bool http;
	bool denied;		   /* FAILED because of a wrong user or password, or none */
	const char *auth;	   /* who may use it (proxy_auth.h); NULL = everybody */
	struct alk_destination to; /* valid in ASKED; host as asked for, never resolved */
	uint8_t reply[512];	   /* to be sent to the application now, cleared by the caller */
	size_t reply_len;
	size_t scanned; /* HTTP: bytes of the head that were looked at already */
};

/* Borrows `auth` for life. */
void alk_socks5_init(struct alk_socks5 *socks, const char *auth);
/* Look at the `n` bytes that wait, from the first that was not consumed yet. Returns how many were
 * consumed (0 = need more); call again while bytes are left and it consumes. After it: send `reply`
 * if there is one (set reply_len to 0); ASKED: open `to`, unconsumed bytes are the first data;
 * FAILED: send `reply` and close. A caller whose buffer holds ALK_SOCKS5_HEAD_MAX bytes is never
 * told to read more. */
size_t alk_socks5_feed(struct alk_socks5 *socks, const uint8_t *bytes, size_t n);
/* The answer to ASKED, once the channel opened or failed, into `reply`. RFC 1928 6: prohibited
 * 0x02, unreachable 0x04 (names too), refused 0x05, timeout 0x06, else 0x01. HTTP: 200, or 403 for
 * prohibited, 504 for timeout, 503 when the session is gone, else 502. */
void alk_socks5_answer(struct alk_socks5 *socks, enum alk_open_failure why);

#endif
