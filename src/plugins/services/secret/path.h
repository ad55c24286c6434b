/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef SECRET_PATH_H
#define SECRET_PATH_H

/* A derivation path as BIP-32 writes it: m/74'/0'/0'/0'. An index is decimal, below 2^31, without
 * zeros in front; behind it ' or h makes it hardened. Fuzzed (tests/fuzz/fuzz_secret_path.c). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <alknet/err.h>

#define SECRET_HARDENED 0x80000000u
#define SECRET_PATH_LEVELS 255 /* BIP-32: the depth is one byte */
#define SECRET_PATH_TEXT (SECRET_PATH_LEVELS * 12 + 2)

struct secret_path {
	uint32_t index[SECRET_PATH_LEVELS];
	uint16_t levels;
};

/* 0; -EINVAL with a sentence that names the place, not the text. */
int secret_path_parse(const char *text, size_t len, struct secret_path *path, struct alk_err *err);
bool secret_path_same(const struct secret_path *a, const struct secret_path *b);
/* The one way that we write it, cut to fit. */
void secret_path_format(const struct secret_path *path, char *out, size_t size);

#endif
