/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef SECRET_DERIVE_H
#define SECRET_DERIVE_H

/* From words to keys; pure functions. Each wipes what it made on the way, and its result when it
 * fails.
 *
 *   bip39.c    phrase and passphrase → seed          BIP-39, English
 *   slip10.c   seed and path → Ed25519 key           SLIP-0010, hardened only
 *   bip32.c    seed and path → secp256k1 key         BIP-32
 *   password.c key → password                        ours: docs/SECRET.md */

#include "path.h"

#define SECRET_SEED 64
#define SECRET_PASSPHRASE_MAX 1024 /* bytes, before NFKD */
#define SECRET_PASSWORD_MAX 1024

/* A node of the tree. `key` is the private key. */
struct secret_node {
	uint8_t key[32], chain[32];
};

/* `phrase` is 12, 15, 18, 21 or 24 words with one space or more around each; -EINVAL says which
 * word is wrong by its position. `entropy` gets *n bytes. */
int secret_bip39_entropy(const char *phrase, size_t len, uint8_t entropy[32], size_t *n,
			 struct alk_err *err);
/* The passphrase is UTF-8 and is brought to NFKD. The phrase is checked first. */
int secret_bip39_seed(const char *phrase, size_t len, const char *passphrase, size_t passphrase_len,
		      uint8_t seed[SECRET_SEED], struct alk_err *err);

int secret_slip10(const uint8_t *seed, size_t len, const struct secret_path *path,
		  struct secret_node *node, struct alk_err *err);
int secret_bip32(const uint8_t *seed, size_t len, const struct secret_path *path,
		 struct secret_node *node, struct alk_err *err);
/* Compressed, 33 bytes. */
int secret_bip32_public(const uint8_t key[32], uint8_t out[33], struct alk_err *err);

/* `len` letters, digits, - and _; 1 to SECRET_PASSWORD_MAX. Not NUL-terminated. */
int secret_password(const uint8_t key[32], size_t len, char *out, struct alk_err *err);

#endif
