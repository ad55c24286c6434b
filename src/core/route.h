/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_ROUTE_H
#define ALK_ROUTE_H

/* Where a channel goes: ask the policy, then hand the channel to a service. Reserved destinations
 * ("alknet-*") are never resolved or connected to, whatever a script says. */

#include "channel.h"
#include "loader.h"
#include "policy.h"

struct alk_route;

/* Who asks; borrowed while the session has channels. */
struct alk_route_session {
	uint64_t id;
	const struct alk_link *link;
	const char *user;
	struct alk_grant *grant;
};

/* Borrows all for life. Loads every service plugin of the loader's directory now; one that does not
 * fit is logged and left out. NULL with `err` when that is one which the configuration speaks of,
 * or `forward`. */
struct alk_route *alk_route_new(struct alk_policy *policy, struct alk_loader *loader,
				const struct alk_options *values, struct alk_err *err);
void alk_route_free(struct alk_route **route);
/* A server in a program: `program` may be NULL, and `proxy` is what its destinations are reached
 * through, since the loop is not its own. Borrows both for life. */
struct alk_program;
struct alk_proxy_url;
void alk_route_set_program(struct alk_route *route, const struct alk_program *program,
			   const struct alk_proxy_url *proxy);
/* One more service, at run time; it gets no channels until alk_route_hold(..., false). -ENOSPC with
 * `err`. */
int alk_route_add(struct alk_route *route, struct alk_loaded *loaded, struct alk_err *err);
/* A service that is held gets no new channels. Nothing happens when there is none of this name. */
void alk_route_hold(struct alk_route *route, const char *name, bool held);
/* No channel may be at it any more. */
void alk_route_remove(struct alk_route *route, const char *name);
/* Can it not do without this service? */
bool alk_route_needs(const struct alk_route *route, const char *name);
/* Who is told of the channels at this service, NULL when there is none of this name. */
const struct alk_channel_ops *alk_route_ops(const struct alk_route *route, const char *name);
/* Hand a connection at the service's local socket to it. False: there is no such service that takes
 * any. */
bool alk_route_local(struct alk_route *route, const char *name, struct alk_local *local);
/* Decide and go on: what the session's grant does not permit is refused, then the policy is asked.
 * Copies `to`. The channel is accepted or refused later, never before this returned. */
void alk_route_open(struct alk_route *route, const struct alk_route_session *from,
		    struct alk_channel *channel, const struct alk_destination *to);

#endif
