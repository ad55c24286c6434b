/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_KEYS_H
#define ALK_KEYS_H

/* OpenSSH's public key files: authorized_keys with its options, and the lists of keys that may sign
 * certificates. No libssh, no file access here: text in, entries out. A line that is not wholly
 * understood is refused (logged with file:line), never half obeyed. Fuzzed
 * (tests/fuzz/fuzz_keys.c). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <alknet/err.h>
#include "key_options.h"

#define ALK_KEY_BLOB_MAX 8192
#define ALK_KEY_RSA_BITS_MIN 3072
#define ALK_KEY_LINE_MAX 65536
/* What may sign certificates; OpenSSH's CASignatureAlgorithms less its FIDO keys. */
#define ALK_KEY_TYPES_AUTHORITY                                                                    \
	"ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,ssh-rsa"

struct alk_key_entry {
	char *type;    /* "ssh-ed25519" */
	uint8_t *blob; /* RFC 4253 6.6 wire form */
	size_t blob_len;
	char *comment; /* "" when none; bytes outside printable ASCII are kept: escape when shown */
	unsigned line;
	struct alk_key_options options;
};

struct alk_keys {
	struct alk_key_entry *entry;
	size_t count;
};

/* Called for each line that is refused. `why` lives until the call returns; it quotes nothing of
 * the line but an option's name in letters and digits, so it may be logged as it is. */
typedef void alk_keys_bad(void *user, const char *name, unsigned line, const char *why);

/* Parse authorized_keys; bad lines are told to `bad` and left out, the rest stands. Key types other
 * than those in `types` (comma separated, "ssh-rsa" for RSA) are bad lines, but a cert-authority
 * may be of each type of ALK_KEY_TYPES_AUTHORITY; so are RSA keys below 3072 bits. Never fails for
 * what the text says; NULL only when out of memory. */
struct alk_keys *alk_keys_parse(const char *name, const char *text, size_t len, const char *types,
				alk_keys_bad *bad, void *user);
/* The same for a list of keys that may sign certificates: it has no options. */
struct alk_keys *alk_keys_parse_authorities(const char *name, const char *text, size_t len,
					    alk_keys_bad *bad, void *user);
void alk_keys_free(struct alk_keys **keys);
/* NULL, or why this is no public key (RFC 4253 6.6) of a type in `types`. The sentence is
 * static. */
const char *alk_key_blob_check(const uint8_t *blob, size_t len, const char *types);
/* The entry with this blob, or NULL. Looks at every entry, compares in constant time. */
const struct alk_key_entry *alk_keys_find(const struct alk_keys *keys, const uint8_t *blob,
					  size_t len);

/* In a time that does not tell where they differ. */
bool alk_equal_ct(const void *a, const void *b, size_t n);

#endif
