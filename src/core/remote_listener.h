/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_REMOTE_LISTENER_H
#define ALK_REMOTE_LISTENER_H

/* Listeners that sessions asked for with a remote forward (RFC 4254 7.1), all of one worker's, and
 * what is known of other workers'. No SSH here: ssh_remote.c is the user.
 *
 *   (none) ─listen─▶ OPEN ─close, or lost─▶ (none)
 *             └────▶ WAITING ─the other worker let go─▶ OPEN
 *
 * A port of an address belongs to the identity whose session has it. A session of the same identity
 * that asks for it, there or at addresses that contain it, takes it over (after a broken connection the old session may not know yet that it is dead);
 * another identity is refused. Where the holder is in another worker the supervisor tells that one
 * to let go; the answer is yes already then, because nobody else can get the port in between but by
 * asking the same. */

#include <jansson.h>
#include <alknet/transport.h>

struct alk_remote_listener;
struct alk_remote_table;

struct alk_remote_listener_ops {
	/* A connection. Takes link->fd. */
	void (*accepted)(void *user, struct alk_link *link);
	/* The listener is gone: taken over (`rc` is 0), or not to be had after all (-errno: who
	 * asked was told that it is there). Once, unless closed before. May be called while another
	 * session listens. */
	void (*lost)(void *user, int rc, const char *why);
};

/* What the supervisor is told; takes the message (ctl.h: remote, remote_want). */
typedef void alk_remote_tell_fn(void *user, json_t *message);

struct alk_remote_table *alk_remote_table_new(struct alk_loop *loop, alk_remote_tell_fn *tell,
					      void *user);
/* Every listener must be closed. */
void alk_remote_table_free(struct alk_remote_table **table);
/* What the supervisor says: remote, remote_drop. */
void alk_remote_table_hear(struct alk_remote_table *table, const json_t *message);

struct alk_remote_ask {
	uint64_t session;
	const char *identity;
	const char *host; /* "" or "*" every address, "localhost" both loopback ones, or numeric */
	uint16_t port;	  /* 0 = any */
};

/* Listen. 0 and *out; -EADDRINUSE, -EACCES, -EADDRNOTAVAIL, -EINVAL (no address), another -errno.
 * Borrows `ask` for the call and `ops` for life. */
int alk_remote_listen(struct alk_remote_table *table, const struct alk_remote_ask *ask,
		      const struct alk_remote_listener_ops *ops, void *user,
		      struct alk_remote_listener **out);
void alk_remote_listener_close(struct alk_remote_listener **listener);
uint16_t alk_remote_listener_port(const struct alk_remote_listener *listener);
/* "127.0.0.1:8080, [::1]:8080" */
void alk_remote_listener_describe(const struct alk_remote_listener *listener, char *text,
				  size_t size);

#endif
