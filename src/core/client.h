/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_CLIENT_H
#define ALK_CLIENT_H

/* One client session: dial the transport, SSH handshake, host key, authentication, then channels.
 *
 *   DIALING ─link─▶ HANDSHAKE ─host key good─▶ AUTH ─▶ UP ─▶ DOWN
 *       └────────────────── any failure ──────────────────▶ DOWN
 *
 * The ssh half is ssh_client.c. connect.c (the program's listeners) is its user. */

#include "channel.h"
#include "conf.h"

struct alk_client;

enum alk_client_state {
	ALK_CLIENT_DOWN,
	ALK_CLIENT_DIALING,
	ALK_CLIENT_HANDSHAKE,
	ALK_CLIENT_AUTH,
	ALK_CLIENT_UP,
};
const char *alk_client_state_str(enum alk_client_state state);

struct alk_client_ops {
	void (*up)(void *user);
	/* The session failed or ended; every channel has been told. rc: -EACCES authentication or host
	 * key, else the transport's. Called once a start. */
	void (*down)(void *user, int rc, const struct alk_err *err);
};

/* Borrows loop and conf for life. The identity is read now (passphrase asked here). */
struct alk_client *alk_client_new(struct alk_loop *loop, struct alk_conf *conf,
				  const struct alk_client_ops *ops, void *user,
				  struct alk_err *err);
void alk_client_free(struct alk_client **client);
int alk_client_start(struct alk_client *client, struct alk_err *err);
/* SSH disconnect, flush for at most 2 s, then `down`. */
void alk_client_stop(struct alk_client *client);
enum alk_client_state alk_client_get_state(const struct alk_client *client);
const char *alk_client_server(const struct alk_client *client); /* "HOST:PORT" */

/* Ask for a channel; `opened` or `refused` follows, from the loop, never before this returned, then
 * `close` last. NULL with `err` when the session is not up or has too many channels. */
struct alk_channel *alk_client_open(struct alk_client *client, const struct alk_destination *to,
				    const struct alk_channel_ops *ops, void *user,
				    struct alk_err *err);

#endif
