/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_RESOLVER_H
#define ALK_RESOLVER_H

/* Names to addresses, one family a query, by c-ares on the loop; /etc/hosts and `localhost` too.
 * dial.c is the user. alk_resolver_new and its like are in alknet/dial.h. */

#include <stddef.h>
#include <alknet/dial.h>
#include "addr.h"

/* An answer may hold thousands of addresses; the first of them are enough. */
#define ALK_RESOLVER_ADDRESSES 16

struct alk_resolver_query;

/* `rc` 0: 1..ALK_RESOLVER_ADDRESSES addresses with port 0, borrowed for the call. Else -ENOENT (no
 * such name, or none of this family), -ETIMEDOUT, -EREMOTEIO (the name server failed), -ENOMEM, and
 * `err`. */
typedef void alk_resolver_fn(void *user, int rc, const struct alk_sockaddr *addrs, size_t n,
			     const struct alk_err *err);

/* Ask for `name`, which passed alk_addr_check_name. `family` is AF_INET or AF_INET6. `done` runs
 * exactly once, from the loop, never before this returned; the handle is dead then. NULL when out
 * of memory, or when thousands of queries are under way. */
struct alk_resolver_query *alk_resolver_ask(struct alk_resolver *resolver, const char *name,
					    int family, alk_resolver_fn *done, void *user);
/* Then `done` does not run. Takes and clears the handle. */
void alk_resolver_cancel(struct alk_resolver_query **query);

/* Ask these name servers ("127.0.0.1:5353,[::1]:53") instead of the system's. */
int alk_resolver_set_servers(struct alk_resolver *resolver, const char *servers,
			     struct alk_err *err);

#endif
