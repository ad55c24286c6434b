/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_KNOWNHOSTS_H
#define ALK_KNOWNHOSTS_H

/* The client's known_hosts: OpenSSH's format (plain, wildcard, [host]:port and hashed names), read with
 * libssh's line parser. @cert-authority and @revoked lines are left to a later version: @revoked keys
 * are refused, @cert-authority lines are passed over. */

#include <libssh/libssh.h>
#include <alknet/err.h>

enum alk_host_verdict {
	ALK_HOST_UNKNOWN = 0,
	ALK_HOST_OK,
	ALK_HOST_CHANGED, /* another key of this type, or only keys of other types */
	ALK_HOST_REVOKED,
};

struct alk_host_answer {
	enum alk_host_verdict verdict;
	char seen[64];	/* SHA256:... of the key that the server showed */
	char known[64]; /* of the key that was expected (CHANGED) */
	char where[300]; /* file:line of the entry that decided */
	char key_type[32];
};

/* Judge `key` of `host` (a name or address, no brackets) and `port`. The file need not exist.
 * 0, or -errno with `err` when it exists and cannot be read. */
int alk_knownhosts_check(const char *path, const char *host, uint16_t port, ssh_key key,
			 struct alk_host_answer *answer, struct alk_err *err);
/* Append an entry (the file and its directory are made, 0600/0700; names are hashed when
 * `hash`). One write, O_APPEND. */
int alk_knownhosts_add(const char *path, const char *host, uint16_t port, ssh_key key, bool hash,
		       struct alk_err *err);
/* $XDG_STATE_HOME/alknet/known_hosts or ~/.local/state/alknet/known_hosts. */
int alk_knownhosts_default(char *path, size_t size, struct alk_err *err);
/* "SHA256:..." of a public key. */
int alk_key_fingerprint(ssh_key key, char *text, size_t size);

#endif
