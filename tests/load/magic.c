/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "load.h"

LOAD_RECORD(.magic = 0x12345678, LOAD_ABI, .struct_size = sizeof(struct alk_plugin),
	    .kind = ALK_PLUGIN_SERVICE, .name = "magic", .version = "1",
	    .ops.service = &load_service);
