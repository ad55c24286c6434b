/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "load.h"

/* One can begin, and not cancel. */
static void *halfdial_dial(void *state, const char *address, alk_link_fn *done, void *user,
			   struct alk_err *err)
{
	(void)state;
	(void)address;
	(void)done;
	(void)user;
	alk_err_set(err, -ENETUNREACH, "there is nowhere to go");
	return NULL;
}

static const struct alk_transport_ops halfdial_ops = {.size = sizeof(halfdial_ops),
						      .dial = halfdial_dial};

LOAD_RECORD(LOAD_HEAD, .kind = ALK_PLUGIN_TRANSPORT, .name = "halfdial", .version = "1",
	    .ops.transport = &halfdial_ops);
