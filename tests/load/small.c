/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "load.h"

LOAD_RECORD(.magic = ALK_PLUGIN_MAGIC, LOAD_ABI, .struct_size = offsetof(struct alk_plugin, ops),
	    .kind = ALK_PLUGIN_SERVICE, .name = "small", .version = "1",
	    .ops.service = &load_service);
