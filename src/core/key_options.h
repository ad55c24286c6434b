/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_KEY_OPTIONS_H
#define ALK_KEY_OPTIONS_H

/* The options that stand before a key in authorized_keys (sshd(8), AUTHORIZED_KEYS FILE FORMAT):
 *
 *   restrict,permitopen="db.example:5432",from="10.0.0.0/8,!10.9.*" ssh-ed25519 AAAA... anna
 *
 * What has to do with a shell (command, environment, pty, X11, agent, tunnel, user-rc) is checked,
 * accepted and means nothing here. Everything else that is not known makes the line invalid. Fuzzed
 * with keys.c (tests/fuzz/fuzz_keys.c).
 *
 * Start here if you add an option: the tables in key_options.c. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct alk_key_options {
	bool cert_authority; /* the key signs certificates and is none that logs in itself */
	bool no_forwarding;
	int64_t expires;    /* first second at which it is too late, less one; 0 = never */
	char *principals;   /* of principals=, without the quotes; NULL = not there, and so below */
	char *from;	    /* of from= */
	char **permit_open; /* of every permitopen=, ends with NULL */
	char **permit_listen; /* of every permitlisten= */
	size_t n_open, n_listen;
};

/* Parse what stands between the begin of the line and the blank before the key's type. `why` (at
 * least 200 bytes) gets a sentence in printable ASCII when it is refused. 0, -EINVAL, -ENOMEM;
 * deinit in any case. */
int alk_key_options_parse(struct alk_key_options *options, const char *text, size_t len, char *why,
			  size_t size);
void alk_key_options_deinit(struct alk_key_options *options);

/* Does a peer's address fit a list of networks and patterns as from= has it ("10.0.0.0/8,!10.1.*")?
 * One that is negated and fits outweighs all others. Names in it fit nothing: addresses are not
 * looked up. */
bool alk_key_options_from(const char *list, const char *remote_addr);

#endif
