/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_PROXY_HEADER_H
#define ALK_PROXY_HEADER_H

/* The header of the PROXY protocol, version 2 (haproxy's doc/proxy-protocol.txt, 2.2): who really
 * connected, told in binary by a balancer in front of a server.
 *
 *   12 bytes signature, version and command, family and protocol, length (16 bits), addresses, TLVs
 *
 * Strict: another version, command, family or protocol, addresses that are too short, a TLV that
 * does not end where the header does and a wrong CRC32c are refused. No I/O. Fuzzed
 * (tests/fuzz/fuzz_proxy_header.c). */

#include <stdint.h>
#include <sys/types.h>
#include "addr.h"

#define ALK_PROXY_HEADER_FIRST 16 /* bytes that say how long it is */
#define ALK_PROXY_HEADER_MAX 4096 /* bytes of a whole one, TLVs included */
#define ALK_PROXY_HEADER_MADE 52  /* bytes of the longest that is made here */

struct alk_proxy_header {
	/* False: LOCAL (the balancer itself, to see whether we live), or a connection whose
	 * addresses are no IP addresses: those of the socket stand. */
	bool has_addrs;
	struct alk_sockaddr remote, local;
};

/* How many bytes the header has, once `n` is ALK_PROXY_HEADER_FIRST or more; 0 = more are needed to
 * tell. -EPROTO with `err`: as soon as a byte is wrong, also when there are fewer. */
ssize_t alk_proxy_header_size(const uint8_t *bytes, size_t n, struct alk_err *err);
/* A whole header of `n` = alk_proxy_header_size() bytes. 0, or -EPROTO with `err`. */
int alk_proxy_header_parse(const uint8_t *bytes, size_t n, struct alk_proxy_header *out,
			   struct alk_err *err);
/* Make one into ALK_PROXY_HEADER_MADE bytes: for a connection over TCP between these numeric
 * addresses; of unknown family when they are none, or of two families. Returns its length. */
size_t alk_proxy_header_make(uint8_t *out, const char *remote_addr, uint16_t remote_port,
			     const char *local_addr, uint16_t local_port);

#endif
