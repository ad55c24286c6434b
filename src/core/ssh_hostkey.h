/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_SSH_HOSTKEY_H
#define ALK_SSH_HOSTKEY_H

/* The client's judgement of the server's host key: a pinned fingerprint, known_hosts, or the person
 * at the terminal. Host certificates: libssh (up to 0.11 at least) takes every certificate
 * algorithm out of what a client offers, whatever it is told, so that a server never shows one. A
 * @cert-authority line can therefore not let a server in; it is named where a plain key is not
 * known. */

#include <stdbool.h>
#include <libssh/libssh.h>
#include <alknet/options.h>

struct alk_hostkey {
	const struct alk_options *values; /* of connect's options; all of it borrowed */
	const char *server;		  /* HOST:PORT, for sentences */
	const char *host;		  /* no brackets */
	const char *known_hosts;	  /* path */
	const char *before; /* fingerprint in the session before this one; "" = the first */
	uint16_t port;
	bool no_terminal; /* nobody is asked */
};

#define ALK_HOSTKEY_ALGORITHMS_SIZE 256
#define ALK_HOSTKEY_SEEN_SIZE 64

/* The host key algorithms to offer: those of the keys that known_hosts has for this server first,
 * as a server that has several then shows one that is known. 0; -errno with `err` when known_hosts
 * cannot be read. */
int alk_hostkey_algorithms(const struct alk_hostkey *h, char *out, size_t size,
			   struct alk_err *err);
/* May this be the server's key? May ask on the terminal (blocks then) and add to known_hosts, but
 * for the first session alone: later a server that known_hosts does not have (any more) must show
 * the key of the session before. 0, 1 when somebody was asked and said yes, or -EACCES and the like
 * with the sentence in `err`; -EINTR when a signal came instead of an answer, which has been
 * delivered by then. Gives the key's fingerprint in `seen`. */
int alk_hostkey_check(const struct alk_hostkey *h, ssh_key key, char seen[ALK_HOSTKEY_SEEN_SIZE],
		      struct alk_err *err);

#endif
