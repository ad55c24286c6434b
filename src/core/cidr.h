/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_CIDR_H
#define ALK_CIDR_H

/* Networks of addresses, "10.0.0.0/8", "fd00::/8" or one address, as a policy, a certificate or a
 * line of authorized_keys names them. */

#include <netinet/in.h>
#include <stdbool.h>

/* An IPv4 network is kept as its IPv4-mapped one, so that ::ffff:10.0.0.1 is in 10.0.0.0/8. */
struct alk_cidr {
	struct in6_addr net;
	unsigned bits; /* of the 128 */
	bool v4;       /* written as IPv4 */
};

/* NULL, or why `text` is no network; then `cidr` is not set. */
const char *alk_cidr_parse(struct alk_cidr *cidr, const char *text);
/* One numeric address (a zone behind % is passed over), IPv4 as its mapped one. `v4`: written as
 * IPv4. False when `text` is none. */
bool alk_cidr_address(const char *text, struct in6_addr *addr, bool *v4);
/* Whichever way both were written: ::/0 has every IPv4 address too. */
bool alk_cidr_has(const struct alk_cidr *cidr, const struct in6_addr *addr);

#endif
