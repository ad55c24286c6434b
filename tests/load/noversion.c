/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "load.h"

LOAD_RECORD(LOAD_HEAD, .kind = ALK_PLUGIN_SERVICE, .name = "noversion",
	    .ops.service = &load_service);
