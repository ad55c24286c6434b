/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_PROGRAM_H
#define ALK_PROGRAM_H

/* The program that has this server in itself, as a service: it is offered channels to reserved
 * destinations that no other service has, and those that the policy gives to the service "program".
 * One a server; it goes from the supervisor to its workers in this process, and from each to its
 * routes. */

#include <alknet/service.h>

struct alk_program {
	/* True: taken, and the channel's ops are set. NULL: no channel is. */
	bool (*open)(void *user, struct alk_channel *channel, const struct alk_destination *to);
	void *user;
};

#endif
