/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "load.h"

LOAD_RECORD(LOAD_HEAD, .kind = 99, .name = "kind", .version = "1", .ops.service = &load_service);
