/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_CERT_DIGEST_H
#define ALK_CERT_DIGEST_H

/* SHA-256 (FIPS 180-4) and what OpenSSH makes of it. */

#include <stddef.h>
#include <stdint.h>

#define ALK_SHA256_LEN 32
#define ALK_KEY_FINGERPRINT_SIZE 52 /* "SHA256:", 43 of base64, NUL */

/* 0, or -EIO when the library has none. */
int alk_sha256(const void *bytes, size_t len, uint8_t out[ALK_SHA256_LEN]);
/* "SHA256:..." of a public key in its RFC 4253 6.6 form, as ssh-keygen -l prints it. */
int alk_key_blob_fingerprint(const uint8_t *blob, size_t len, char out[ALK_KEY_FINGERPRINT_SIZE]);

/* The version of OpenSSL that is linked with, "3.0.17". */
const char *alk_cert_library(void);

#endif
