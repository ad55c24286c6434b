/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "load.h"

/* It says that it has more than there is. */
LOAD_RECORD(.magic = ALK_PLUGIN_MAGIC, LOAD_ABI,
	    .struct_size = sizeof(struct alk_plugin) + sizeof(void *), .kind = ALK_PLUGIN_SERVICE,
	    .name = "big", .version = "1", .ops.service = &load_service);
