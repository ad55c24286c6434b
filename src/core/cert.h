/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_CERT_H
#define ALK_CERT_H

/* A user's certificate in OpenSSH's form (PROTOCOL.certkeys): a public key, whom it is for, until
 * when, and the signature of an authority (CA) under all of it.
 *
 *   alk_cert_parse   every length is right and no byte is left over. Nothing is trusted yet
 *   alk_cert_check   one verdict for one question: which user, from where, when, signed by a trusted CA?
 *
 * The answers are stock sshd's, except for force-command, which cannot be honoured and so refuses,
 * and for RSA keys below 3072 bits. No libssh, no files, no clock in here: wire bytes in, a verdict
 * out. Fuzzed (tests/fuzz/fuzz_cert.c).
 *
 * Start here if you add a critical option: cert_check.c. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <alknet/err.h>
#include "krl.h"

#define ALK_CERT_MAX (256 * 1024)
#define ALK_CERT_PRINCIPALS_MAX 256

/* The zero value is the safe one; the text is for the log and never told to the peer. */
#define ALK_CERT_VERDICTS(X)                                                                       \
	X(UNTRUSTED, "signed by no trusted authority")                                             \
	X(SIGNATURE, "the authority's signature is wrong")                                         \
	X(ALGORITHM, "the authority's signature is of a refused kind")                             \
	X(REVOKED, "revoked")                                                                      \
	X(NOT_USER, "not a user certificate")                                                      \
	X(NOT_YET, "not yet valid")                                                                \
	X(EXPIRED, "expired")                                                                      \
	X(NO_PRINCIPALS, "lacks principal list")                                                   \
	X(PRINCIPAL, "wrong principal")                                                            \
	X(OPTION, "an option cannot be honoured")                                                  \
	X(ADDRESS, "source address")                                                               \
	X(OK, "good")

enum alk_cert_verdict {
#define X(name_, text_) ALK_CERT_##name_,
	ALK_CERT_VERDICTS(X)
#undef X
};

enum alk_cert_kind {
	ALK_CERT_KIND_USER = 1,
	ALK_CERT_KIND_HOST = 2,
};

/* Read-only outside cert*.c; what it points to belongs to the certificate and goes with it. */
struct alk_cert {
	const char *type;     /* "ssh-ed25519-cert-v01@openssh.com"; static */
	const char *key_type; /* "ssh-ed25519": what `key_types` is asked about; static */
	uint8_t *key; /* the public key alone, RFC 4253 6.6 form, as authorized_keys has it */
	size_t key_len;
	const uint8_t *ca; /* the authority's public key, the same form: what a trusted list has */
	size_t ca_len;
	uint64_t serial;
	enum alk_cert_kind kind;
	char *key_id;	  /* peer-supplied, any bytes but NUL: escape when shown */
	char **principal; /* the same */
	size_t n_principals;
	uint64_t valid_after, valid_before; /* seconds since 1970; before UINT64_MAX is for ever */
	bool port_forwarding;		    /* has permit-port-forwarding */

	uint8_t *blob; /* from here on for cert*.c alone */
	size_t len, signed_len;
	const uint8_t *critical, *extensions, *signature;
	size_t critical_len, extensions_len, signature_len;
	bool signature_good; /* was found good once: it stays so */
};

/* Who asks. All pointers are borrowed for the call alone. A zeroed question is refused. */
struct alk_cert_ask {
	/* The caller has found cert->ca among the keys that may sign: alk_keys_find(authorities,
	 * cert->ca, cert->ca_len) of the trusted file, or the key of the cert-authority line that
	 * is tried. */
	bool trusted;
	/* A certificate that names nobody is for everybody: so it is for a cert-authority line
	 * without principals=, and so it is not for the file of trusted authorities. */
	bool principals_optional;
	int64_t now;	  /* wall clock, seconds since 1970 */
	const char *user; /* must be a principal, unless `principals` is there */
	const char
		*principals; /* a line's principals="a,b" without its quotes: one of them must be a
				  * principal, whoever the user is; an empty name ends the list. Else NULL */
	const char *remote_addr;   /* numeric, as link.remote_addr; NULL or a name is no address */
	const struct alk_krl *krl; /* NULL: nothing is revoked */
};

/* Copies `blob` and gives the certificate; NULL with `err` ("certificate: ..."), in printable
 * ASCII. Refused here: DSA and FIDO certificates, an RSA key below 3072 or above 16384 bits, more
 * than 256 principals, a certificate as the authority's key, a NUL in a text, bytes left over. */
struct alk_cert *alk_cert_parse(const uint8_t *blob, size_t len, struct alk_err *err);
void alk_cert_free(struct alk_cert **cert);

/* Exactly one verdict. Unless it is ALK_CERT_OK, `err` has the reason for the log (printable ASCII,
 * such as "expired" or "unknown critical option `x`"). A good signature is checked once in the life
 * of a certificate, and only when the authority is trusted. */
enum alk_cert_verdict alk_cert_check(struct alk_cert *cert, const struct alk_cert_ask *ask,
				     struct alk_err *err);
/* "EXPIRED" → "expired" and so on. */
const char *alk_cert_verdict_str(enum alk_cert_verdict verdict);

/* "ssh-ed25519" of "ssh-ed25519-cert-v01@openssh.com"; NULL when `type` is no certificate that
 * alk_cert_parse can read. */
const char *alk_cert_key_type(const char *type);

#endif
