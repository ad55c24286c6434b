/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_CHANNEL_ASK_H
#define ALK_CHANNEL_ASK_H

/* What a service asks the policy (alknet/service.h), for who is not behind a channel. */

#include <alknet/service.h>
#include "policy.h"
#include "route.h"

/* As alk_channel_ask. `policy` may be NULL; `from` is borrowed until it is answered or
 * cancelled. */
int alk_channel_ask_as(struct alk_policy *policy, const struct alk_route_session *from,
		       const struct alk_channel_question *question,
		       void (*done)(void *user, bool allowed, const char *reason), void *user,
		       struct alk_channel_ask **ask);

#endif
