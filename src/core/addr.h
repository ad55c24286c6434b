/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_ADDR_H
#define ALK_ADDR_H

/* Socket addresses and what may be one. alk_addr_split and alk_addr_format are in alknet/dial.h. */

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <alknet/err.h>

struct alk_sockaddr {
	socklen_t len;
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	};
};

/* Numeric IPv4 or IPv6 (a zone behind % too; v4-mapped becomes IPv4). 0, or -EINVAL when `host` is
 * not numeric. */
int alk_addr_parse(struct alk_sockaddr *addr, const char *host, uint16_t port);
/* Can `name` be a host name? At most 253 bytes of letters, digits, - and _, in labels of 1 to 63;
 * the last label is no number, because that would be an address to some and a name to others
 * (0x7f.1). 0, or -EINVAL with `err`. */
int alk_addr_check_name(const char *name, struct alk_err *err);

/* "localhost" and what ends in ".localhost": this machine, never asked of a name server (RFC 6761
 * 6.3). */
bool alk_addr_is_localhost(const char *name);

/* Tell a TCP socket that its peer is on this machine, if `peer` says so. A congestion control that
 * paces (bbr, where the system has it as its default) paces on loopback too, at the price of a
 * timer for each burst: measured, twice the processor time a byte. Nothing can be lost there, so
 * reno does. Returns whether it is there. */
bool alk_addr_tune_local(int fd, const struct sockaddr *peer);

#endif
