/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "load.h"

static void noopen_close(void *user, struct alk_channel *channel)
{
	(void)user;
	alk_channel_close(channel);
}

static const struct alk_service_ops noopen_ops = {.size = sizeof(noopen_ops),
						  .close = noopen_close};

LOAD_RECORD(LOAD_HEAD, .kind = ALK_PLUGIN_SERVICE, .name = "noopen", .version = "1",
	    .ops.service = &noopen_ops);
