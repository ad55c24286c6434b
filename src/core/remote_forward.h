/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_REMOTE_FORWARD_H
#define ALK_REMOTE_FORWARD_H

/* What a client wants forwarded from the server's side to its own (--remote-forward): a list that
 * outlives sessions. Each session that comes up is asked for all of it; what the server opens then
 * is joined with the local target by the pump. RFC 4254 7.
 *
 *   WANTED ─up─▶ ASKING ─yes─▶ HELD          any of them ─down─▶ WANTED
 *                  └─────no──▶ REFUSED       HELD ─remove─▶ the server is told to stop
 *
 * One line on stderr when a forward is held for the first time, when its port changes and when it
 * is refused. */

#include "client.h"

struct alk_remote_forwards;

enum alk_remote_forward_state {
	ALK_REMOTE_WANTED,
	ALK_REMOTE_ASKING,
	ALK_REMOTE_HELD,
	ALK_REMOTE_REFUSED,
};
const char *alk_remote_forward_state_str(enum alk_remote_forward_state state);

struct alk_remote_forward_info {
	unsigned id;	  /* of the forward, from 1 */
	const char *spec; /* as it was written; borrowed */
	enum alk_remote_forward_state state;
	uint16_t port; /* that the server listens on; 0 while it does not, or when it did not say */
};

/* An empty list; NULL when out of memory. A target gets `connect_ms` to answer. */
struct alk_remote_forwards *alk_remote_forwards_new(struct alk_loop *loop, uint64_t connect_ms);
/* Connections that wait for their target are dropped; those that are joined go on. */
void alk_remote_forwards_free(struct alk_remote_forwards **list);

/* Want one more; asked for at once when a session is up. `spec` is [bind:]port:host:hostport or
 * [bind:]port:/unix/path. Gives its number in *id (may be NULL). -EINVAL with `err` naming what is
 * wrong; -ENOMEM. */
int alk_remote_forwards_add(struct alk_remote_forwards *list, const char *spec, unsigned *id,
			    struct alk_err *err);
/* Want it no more; the server is told. Connections that it brought stay. -ENOENT. */
int alk_remote_forwards_remove(struct alk_remote_forwards *list, unsigned id);

/* Ask each session of `client` for all that is wanted, now and later. Borrows the list until the
 * client is freed; the client goes first. */
void alk_remote_forwards_attach(struct alk_remote_forwards *list, struct alk_client *client);

/* The next after number `after` (0 = the first). False at the end. */
bool alk_remote_forwards_next(const struct alk_remote_forwards *list, unsigned after,
			      struct alk_remote_forward_info *info);

#endif
