/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "load.h"

static int halflisten_listen(void *state, const char *address, const struct alk_acceptor *up,
			     struct alk_listener **out, struct alk_err *err)
{
	(void)state;
	(void)up;
	*out = NULL;
	return alk_err_set(err, -EADDRNOTAVAIL, "cannot listen on %s", address);
}

static const struct alk_transport_ops halflisten_ops = {.size = sizeof(halflisten_ops),
							.listen = halflisten_listen};

LOAD_RECORD(LOAD_HEAD, .kind = ALK_PLUGIN_TRANSPORT, .name = "halflisten", .version = "1",
	    .ops.transport = &halflisten_ops);
