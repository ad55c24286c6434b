/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "load.h"

static void nodial_describe(void *state, const struct alk_listener *listener, char *text,
			    size_t size)
{
	(void)state;
	alk_tcp_describe(listener, text, size);
}

static const struct alk_transport_ops nodial_ops = {.size = sizeof(nodial_ops),
						    .describe = nodial_describe};

LOAD_RECORD(LOAD_HEAD, .kind = ALK_PLUGIN_TRANSPORT, .name = "nodial", .version = "1",
	    .ops.transport = &nodial_ops);
