/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_KRL_H
#define ALK_KRL_H

/* `revoked_keys`: what must not come in any more. The file is a list of public keys (the lines of
 * .pub files; the line of a certificate stands for its key) or an OpenSSH key revocation list
 * (PROTOCOL.krl) as `ssh-keygen -k` makes it.
 *
 * It fails closed: a file that is cut short, that has a line or a section which cannot be read or
 * is not known, or a signature that is wrong, is refused as a whole. Fuzzed
 * (tests/fuzz/fuzz_krl.c). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <alknet/err.h>

struct alk_cert;
struct alk_krl;

/* Copies what it needs of `bytes`. NULL with `err`, which begins with `name` and the line of a list
 * or the offset in a KRL. An empty file revokes nothing. */
struct alk_krl *alk_krl_parse(const char *name, const uint8_t *bytes, size_t len,
			      struct alk_err *err);
void alk_krl_free(struct alk_krl **krl);
/* A public key (RFC 4253 6.6 form, no certificate). False for a `krl` of NULL. */
bool alk_krl_has_key(const struct alk_krl *krl, const uint8_t *key, size_t len);
/* A certificate: by its key, its authority's key, its serial (0 is none) or its key id. The same
 * for NULL. alk_cert_check() asks this itself. */
bool alk_krl_has_cert(const struct alk_krl *krl, const struct alk_cert *cert);
/* How many keys, hashes, ids, bitmaps and ranges of serials it has: for `keys.list` and the log. */
size_t alk_krl_count(const struct alk_krl *krl);

#endif
