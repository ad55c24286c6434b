/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef SECRET_CRYPT_H
#define SECRET_CRYPT_H

/* What the secret service takes from libcrypto, and nothing else of it. All fail with -ENOMEM or
 * -EIO (libcrypto refused), and leave nothing of their input behind. */

#include <stddef.h>
#include <stdint.h>
#include "buf.h"

#define SECRET_GCM_IV 12
#define SECRET_GCM_TAG 16

int secret_sha256(const void *bytes, size_t n, uint8_t out[32]);
/* HMAC-SHA512 of two parts; the second may be empty. RFC 2104 */
int secret_hmac512(const void *key, size_t key_len, const void *a, size_t a_len, const void *b,
		   size_t b_len, uint8_t out[64]);
/* PBKDF2-HMAC-SHA512, one block. RFC 8018 5.2 */
int secret_pbkdf2(const void *password, size_t password_len, const void *salt, size_t salt_len,
		  unsigned rounds, uint8_t out[64]);
/* HKDF-Expand with SHA-512, at most 16320 bytes. RFC 5869 2.3 */
int secret_expand(const uint8_t key[32], const void *info, size_t info_len, uint8_t *out, size_t n);
/* The public key of an RFC 8032 seed. */
int secret_ed25519_public(const uint8_t seed[32], uint8_t out[32]);
int secret_random(void *out, size_t n);
/* AES-256-GCM. `out` has room for n + SECRET_GCM_TAG, the tag at its end. */
int secret_gcm_seal(const uint8_t key[32], const uint8_t iv[SECRET_GCM_IV], const uint8_t *text,
		    size_t n, uint8_t *out);
/* `n` counts the tag; `out` has room for n - SECRET_GCM_TAG. -EBADMSG: the tag is wrong, `out` is
 * wiped. */
int secret_gcm_open(const uint8_t key[32], const uint8_t iv[SECRET_GCM_IV], const uint8_t *sealed,
		    size_t n, uint8_t *out);
/* base64 (RFC 4648 4) behind what is in `out`. Decoding is strict: padded, no blanks, spare bits
 * zero: -EINVAL. */
void secret_base64_add(struct secret_buf *out, const uint8_t *bytes, size_t n);
int secret_base64_decode(const void *text, size_t len, struct secret_buf *out);
/* What a function left below us on the stack: wipe it. */
void secret_stack_wipe(void);

#endif
