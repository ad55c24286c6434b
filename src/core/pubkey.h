/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_PUBKEY_H
#define ALK_PUBKEY_H

/* The client's public keys in wire form, and OpenSSH certificates of them, as far as one who logs
 * in has to understand them: which type, can it be used, does this certificate belong to this key.
 * Whether a certificate lets somebody in is the server's to say. Forms: RFC 4253 6.6, RFC 5656 3.1,
 * RFC 8709 4, and OpenSSH's PROTOCOL.certkeys. No libssh, no file access. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <alknet/err.h>

/* Smaller RSA keys are not used. */
#define ALK_RSA_BITS_MIN 3072

/* Ed25519, ECDSA on the three NIST curves, RSA of enough bits, and certificates of those. 0;
 * -EINVAL, the sentence begins with `name` and says what it is instead. */
int alk_pubkey_check(const char *name, const uint8_t *blob, size_t len, struct alk_err *err);
/* The type's name of a blob that was checked ("ssh-ed25519"); static. NULL when it is none that we
 * use. */
const char *alk_pubkey_type(const uint8_t *blob, size_t len);
bool alk_pubkey_is_cert(const uint8_t *blob, size_t len);
/* Is `cert` a certificate of the very key `key`? Both were checked. */
bool alk_pubkey_certifies(const uint8_t *cert, size_t cert_len, const uint8_t *key, size_t key_len);
/* The first line of a .pub file, "TYPE BASE64 COMMENT"; checked. Gives the blob (free it). -EINVAL
 * with a sentence that names the file. */
int alk_pubkey_parse(const char *name, const char *text, size_t len, uint8_t **blob,
		     size_t *blob_len, struct alk_err *err);

#endif
