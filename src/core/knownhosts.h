/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_KNOWNHOSTS_H
#define ALK_KNOWNHOSTS_H

/* The client's known_hosts: OpenSSH's format (plain, wildcard, negated, [host]:port and hashed
 * names). libssh reads keys and hashed names; patterns are matched here, since libssh lets
 * "*,!host" match host. A name without a port stands for port 22 alone (but "*" is any host at any
 * port). @revoked keys are refused. A @cert-authority line is only told of: host certificates
 * cannot be asked for (ssh_hostkey.h), and the key on it is no host's own. Fuzzed
 * (tests/fuzz/fuzz_knownhosts.c).
 *
 * One matching line decides, the strongest wins whatever their order: revoked, same key, another
 * key of the same type, only keys of other types. The last two are both CHANGED: a server that
 * suddenly shows another type is how a downgrade looks. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <libssh/libssh.h>
#include <alknet/err.h>

enum alk_host_verdict {
	ALK_HOST_UNKNOWN = 0,
	ALK_HOST_OK,
	ALK_HOST_CHANGED, /* another key of this type, or only keys of other types */
	ALK_HOST_REVOKED,
};

#define ALK_KNOWNHOSTS_HOST_MAX 255
#define ALK_KNOWNHOSTS_LOOKUP_SIZE (ALK_KNOWNHOSTS_HOST_MAX + 16)
#define ALK_KNOWNHOSTS_WHERE_SIZE 300

struct alk_host_answer {
	enum alk_host_verdict verdict;
	char seen[64];	/* SHA256:... of the key that the server showed */
	char known[64]; /* of the key that was expected (CHANGED, else "") */
	/* file:line of the entry that decided, "" when UNKNOWN */
	char where[ALK_KNOWNHOSTS_WHERE_SIZE];
	/* The same of the first @cert-authority line for the host, "" when there is none. */
	char authority[ALK_KNOWNHOSTS_WHERE_SIZE];
	char key_type[64];   /* of the key that the server showed */
	char known_type[64]; /* of the key that was expected (CHANGED, else "") */
	unsigned bad_lines;  /* lines that could not be read and were passed over */
	unsigned bad_line;   /* the first of them, 0 when none */
};

/* The types of a host's own keys, as a mask. */
enum alk_hostkey_type {
	ALK_HOSTKEY_ED25519 = 1 << 0,
	ALK_HOSTKEY_P256 = 1 << 1,
	ALK_HOSTKEY_P384 = 1 << 2,
	ALK_HOSTKEY_P521 = 1 << 3,
	ALK_HOSTKEY_RSA = 1 << 4,
};
/* Which types does the file have a key of for this host, revoked keys and authorities not counted?
 * Fails as alk_knownhosts_check() does; *types is 0 then. */
int alk_knownhosts_types(const char *path, const char *host, uint16_t port, unsigned *types,
			 struct alk_err *err);

/* Judge `key` of `host` (a name or address, no brackets) and `port`. The file need not exist. 0;
 * -EINVAL when `host` cannot be a name; -errno when the file exists and cannot be read (-EFBIG
 * above 4 MiB). */
int alk_knownhosts_check(const char *path, const char *host, uint16_t port, ssh_key key,
			 struct alk_host_answer *answer, struct alk_err *err);
/* The same for text that was read already; `name` is for `where`. */
int alk_knownhosts_judge(const char *name, const char *text, size_t len, const char *host,
			 uint16_t port, ssh_key key, struct alk_host_answer *answer,
			 struct alk_err *err);
/* What entries are compared with: "host" for port 22, else "[host]:port", in lower case. `out`
 * holds ALK_KNOWNHOSTS_LOOKUP_SIZE. -EINVAL when `host` cannot be a name. */
int alk_knownhosts_lookup(const char *host, uint16_t port, char *out, struct alk_err *err);
/* Append an entry (the file and its directory are made, 0600/0700; names are hashed when
 * `hash`). One write, O_APPEND. */
int alk_knownhosts_add(const char *path, const char *host, uint16_t port, ssh_key key, bool hash,
		       struct alk_err *err);
/* $XDG_STATE_HOME/alknet/known_hosts or ~/.local/state/alknet/known_hosts. */
int alk_knownhosts_default(char *path, size_t size, struct alk_err *err);
/* "SHA256:..." of a key. 0, -EINVAL, -ENOSPC (64 bytes do). */
int alk_key_fingerprint(ssh_key key, char *text, size_t size);

#endif
