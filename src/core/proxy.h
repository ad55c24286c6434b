/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_PROXY_H
#define ALK_PROXY_H

/* The talk with an outbound proxy over a connected fd, until it has connected to the destination.
 * Used by dial.c alone, which also keeps the deadline: who dials does not know of it. Which proxy
 * is asked is the loop's (alk_proxy_set, from the option `proxy`) or the destination's own
 * (`via`). */

#include <alknet/loop.h>
#include "proxy_url.h"

struct alk_proxy;

/* The proxy of what is dialled on this loop from now on; `url` text, NULL or "none" = none. 0,
 * -EINVAL or -ENOMEM with `err`. */
int alk_proxy_set(struct alk_loop *loop, const char *url, struct alk_err *err);
/* Until it is taken back with NULL, dials go through this one instead of the loop's (kind
 * ALK_PROXY_NONE: straight there): around a call that may dial for somebody who shares the loop
 * with others. Borrows `url`. */
void alk_proxy_lend(struct alk_loop *loop, const struct alk_proxy_url *url);
/* The one lent, or the loop's, or NULL when it has none; valid until the next alk_proxy_set or
 * _lend. */
const struct alk_proxy_url *alk_proxy_get(const struct alk_loop *loop);

/* Runs exactly once, from the loop, never before alk_proxy_start returned. rc 0: takes `fd`, which
 * is the destination now, nothing of what it sent was read. Else fd is -1, rc says why
 * (-EKEYREJECTED: credentials, -EACCES: rules, -ECONNREFUSED, -EHOSTUNREACH, -ENETUNREACH,
 * -ETIMEDOUT, -EPROTO, other -errno) and `err` has the sentence, which does not name the
 * destination. */
typedef void alk_proxy_fn(void *user, int rc, int fd, const struct alk_err *err);

/* Takes *fd, also on failure. Copies `url`. NULL with `err` when out of memory or when the
 * destination cannot be told to a proxy. */
struct alk_proxy *alk_proxy_start(struct alk_loop *loop, int *fd, const struct alk_proxy_url *url,
				  const char *host, uint16_t port, alk_proxy_fn *done, void *user,
				  struct alk_err *err);
/* Closes the fd; `done` does not run. */
void alk_proxy_cancel(struct alk_proxy **proxy);

/* The proxy itself could not be connected to, for the reason `rc` with its sentence: makes them the
 * destination's. Returns the new rc: a proxy that refuses is no destination that does. Logged, at
 * most once in ten seconds, as credentials that the proxy does not take are: who runs this has to
 * do something. */
int alk_proxy_unreachable(struct alk_loop *loop, int rc, struct alk_err *err);
/* It was reached and said nothing in time: the log has it too. */
void alk_proxy_silent(struct alk_loop *loop, const struct alk_err *err);

#endif
