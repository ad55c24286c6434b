/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_AUTH_H
#define ALK_AUTH_H

/* What a worker knows of who may come in: the authorized keys, the authorities, what was revoked,
 * penalties, and the rules that keep an attacker from learning from answers. The decision itself is
 * made in ssh_auth.c (policy first, then this). No libssh here.
 *
 * A plain key comes in by a line of authorized_keys that has it and allows it from there and then.
 * A certificate comes in by a cert-authority line of authorized_keys, else by a file of
 * cert_authority. As in sshd, the first line that allows it counts. */

#include "cert.h"
#include "conf.h"
#include "keys.h"

struct alk_auth;

/* Bad lines of the files are told to `bad`, too; NULL logs them. Expiry times without a Z are read
 * as local time, so before a process gives up what that needs. -errno with `err`: revoked_keys
 * cannot be read. */
struct alk_auth *alk_auth_new(const struct alk_conf *conf, alk_keys_bad *bad, void *user,
			      struct alk_err *err);
void alk_auth_free(struct alk_auth **auth);
/* How many keys and authorities may let somebody in. */
size_t alk_auth_key_count(const struct alk_auth *auth);
size_t alk_auth_authority_count(const struct alk_auth *auth);
/* "FILE:LINE: why" of the first line that was refused, "" when none was. */
const char *alk_auth_bad_line(const struct alk_auth *auth);
/* What key_types says, as keys have it ("ssh-rsa") and as signatures and the protocol do
 * ("rsa-sha2-512"). With commas. */
const char *alk_auth_key_types(const struct alk_auth *auth);
const char *alk_auth_signature_types(const struct alk_auth *auth);
/* NULL when nothing was revoked. */
const struct alk_krl *alk_auth_revoked(const struct alk_auth *auth);
/* Put another list in its place (a reload while sessions go on); `bytes` NULL: nothing is revoked.
 * On -errno with `err` the old list stays. */
int alk_auth_set_revoked(struct alk_auth *auth, const char *name, const uint8_t *bytes, size_t len,
			 struct alk_err *err);

/* Who asks to come in. All pointers are borrowed for the call. */
struct alk_auth_ask {
	const uint8_t *key; /* the public key alone, RFC 4253 6.6 form */
	size_t key_len;
	struct alk_cert *cert; /* the certificate that the key came with, or NULL */
	const char *user, *remote_addr;
	int64_t now; /* wall clock, seconds since 1970 */
	/* A policy says who may come in. So any key will do that was not revoked, and any
	 * certificate that all but its principals speak for. */
	bool mapped;
};
struct alk_auth_answer {
	bool good;
	/* Of the line that speaks for it, for the life of `auth`; NULL: no line. */
	const struct alk_key_options *options;
	const char *
		principal; /* of a certificate: the one that counted; belongs to it or to the question */
	char why[160]; /* when it is not good; printable ASCII, for the log alone */
};
/* False: refused. Every key is compared to the end, in constant time. */
bool alk_auth_check(const struct alk_auth *auth, const struct alk_auth_ask *ask,
		    struct alk_auth_answer *answer);
/* A user name that may be tried: 1 to 64 bytes of UTF-8 without control characters. */
bool alk_auth_user_valid(const char *user);
/* Milliseconds from the request until a refusal is told: at least 5, and a little more by a secret
 * function of the user's name, so that repeating a question tells nothing about the time it
 * took. */
uint64_t alk_auth_delay(const struct alk_auth *auth, const char *user);
/* Refuse an identity or an address until `until` (loop time). At most 1024 are kept, oldest out. */
void alk_auth_penalise(struct alk_auth *auth, const char *who, uint64_t until);
bool alk_auth_penalised(const struct alk_auth *auth, const char *who, uint64_t now);

#endif
