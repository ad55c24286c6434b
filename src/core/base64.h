/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_BASE64_H
#define ALK_BASE64_H

/* base64 (RFC 4648 4): padding required, no blanks, spare bits zero. Fuzzed
 * (tests/fuzz/fuzz_keys.c). */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Returns the length; -EINVAL; -ENOSPC when `size` is too small. `out` may be NULL to measure. */
ssize_t alk_base64_decode(const char *text, size_t len, uint8_t *out, size_t size);
/* The length without the NUL that is written behind it, or -ENOSPC. */
ssize_t alk_base64_encode(const uint8_t *bytes, size_t len, char *out, size_t size);

/* The same into memory of its own, to be freed. NULL: not base64, nothing in it, no memory. */
char *alk_base64_text(const uint8_t *bytes, size_t len);
uint8_t *alk_base64_bytes(const char *text, size_t *len);

#endif
