/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_CERT_PRIVATE_H
#define ALK_CERT_PRIVATE_H

/* What cert*.c and krl*.c share: public keys and signatures in wire form. */

#include "cert.h"
#include "wire.h"

#define ALK_CERT_RSA_BITS_MIN 3072
#define ALK_CERT_RSA_BITS_MAX 16384

struct alk_key_kind {
	const char *name;      /* "ecdsa-sha2-nistp256" */
	const char *cert_name; /* "ecdsa-sha2-nistp256-cert-v01@openssh.com" */
	const char *curve;     /* "nistp256"; NULL when it is no ECDSA key */
	size_t size;	       /* of the point or the Ed25519 key; 0 for RSA */
};

struct alk_key_bytes {
	const uint8_t *p;
	size_t len;
};

/* A public key's numbers, borrowed from the wire. */
struct alk_key_public {
	const struct alk_key_kind *kind;
	struct alk_key_bytes point;    /* Ed25519's 32 bytes, or ECDSA's uncompressed point */
	struct alk_key_bytes exponent; /* RSA, without leading zeros */
	struct alk_key_bytes modulus;  /* RSA, without leading zeros */
};

const struct alk_key_kind *alk_key_kind_find_cert(const uint8_t *name, size_t len);
/* Read what stands behind the type. NULL, or why it is no such key. */
const char *alk_key_read_fields(struct alk_wire *wire, const struct alk_key_kind *kind,
				struct alk_key_public *key);
/* Read a whole key: type, fields, nothing behind. NULL, or why it is none that can sign. */
const char *alk_key_read(const uint8_t *blob, size_t len, struct alk_key_public *key);
/* An mpint (RFC 4251 5) that is not negative, without its leading zeros. */
bool alk_key_read_mpint(struct alk_wire *wire, struct alk_key_bytes *number);
bool alk_key_name_is(const uint8_t *name, size_t len, const char *text);

/* Does `signature` (RFC 4253 6.6: its algorithm and its bytes) by the public key `key` stand under
 * these bytes? ALK_CERT_OK; ALK_CERT_SIGNATURE when it is wrong; ALK_CERT_ALGORITHM when key or
 * algorithm are none that we take (SHA-1, DSA, short RSA keys). `err` says why. */
enum alk_cert_verdict alk_signature_check(struct alk_key_bytes key, struct alk_key_bytes signature,
					  struct alk_key_bytes under, struct alk_err *err);

#endif
