/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_PROGRAM_H
#define ALK_PROGRAM_H

/* The program that has this server in itself, as a service: it is offered channels to reserved destinations
 * that no other service has, and those that the policy gives to the service "program". One a loop. */

#include <alknet/service.h>

/* True: taken, and the channel's ops are set. */
typedef bool alk_program_open_fn(void *user, struct alk_channel *channel,
				 const struct alk_destination *to);
/* NULL takes it back. -ENOMEM. */
int alk_program_set(struct alk_loop *loop, alk_program_open_fn *open, void *user);
/* False when there is no program, or it does not want the channel. */
bool alk_program_offer(struct alk_loop *loop, struct alk_channel *channel,
		       const struct alk_destination *to);

#endif
