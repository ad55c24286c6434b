/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "load.h"

/* The table ends before `open`. */
static const struct alk_service_ops short_ops = {.size = sizeof(uint32_t), .open = load_open};

LOAD_RECORD(LOAD_HEAD, .kind = ALK_PLUGIN_SERVICE, .name = "short", .version = "1",
	    .ops.service = &short_ops);
