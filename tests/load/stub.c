/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <alknet/err.h>

/* Right symbol, no record. */
ALK_EXPORT extern const char alk_plugin[4];
ALK_EXPORT const char alk_plugin[4] = {0x61, 0x6c, 0x6e, 0x6b};
