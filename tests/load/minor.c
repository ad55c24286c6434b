/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "load.h"

LOAD_RECORD(.magic = ALK_PLUGIN_MAGIC, .abi_major = ALK_ABI_MAJOR, .abi_minor = ALK_ABI_MINOR + 1,
	    .struct_size = sizeof(struct alk_plugin), .kind = ALK_PLUGIN_SERVICE, .name = "minor",
	    .version = "1", .ops.service = &load_service);
