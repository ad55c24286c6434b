/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_CHANNEL_H
#define ALK_CHANNEL_H

/* A channel as the core sees it: the stream of alknet/service.h, with who is told. The SSH side is
 * ssh_channel.c; the pump, services and the client's listeners use this and never libssh. */

#include <alknet/service.h>

struct alk_policy;
struct alk_route_session;

const struct alk_channel_ops *alk_channel_get_ops(const struct alk_channel *channel);
/* Change `user` if `ops` are still the ones. */
void alk_channel_set_user(struct alk_channel *channel, const struct alk_channel_ops *ops,
			  void *user);
/* What the loop does next, it does for this channel's session: for the watchdog. */
void alk_channel_hold(const struct alk_channel *channel);
/* Whose session it is and who judges it: NULL on a client. */
struct alk_policy *alk_channel_policy(const struct alk_channel *channel,
				      const struct alk_route_session **from);
uint64_t alk_channel_id(const struct alk_channel *channel);

#endif
