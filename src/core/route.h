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

/* Borrows all for life. Loads every service plugin of the loader's directory now; one that does not fit is logged and
 * left out. -errno with `err` when `forward` is not to be had. */
struct alk_route *alk_route_new(struct alk_policy *policy, struct alk_loader *loader,
				struct alk_err *err);
void alk_route_free(struct alk_route **route);
/* Decide and go on: what the session's grant does not permit is refused, then the policy is asked. Copies `to`. The channel is accepted or refused later, never before this returned. */
void alk_route_open(struct alk_route *route, const struct alk_route_session *from,
		    struct alk_channel *channel, const struct alk_destination *to);

#endif
