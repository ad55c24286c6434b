/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "load.h"

/* The least that a plugin can be. */
LOAD_RECORD(LOAD_HEAD, .kind = ALK_PLUGIN_SERVICE, .name = "plain", .version = "1",
	    .ops.service = &load_service);
