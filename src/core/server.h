/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_SERVER_H
#define ALK_SERVER_H

/* One SSH session of a peer, on a worker, from the link to its end.
 *
 *   ADMIT ─transport's handshake, on_link─▶ KEX ─keys exchanged─▶ AUTH ─proved, allowed─▶ OPEN ─▶ (ended)
 *     └──────────── handshake_timeout covers all of it ────────────────┘
 *
 * ssh_server.c. The worker owns the host (what all sessions share) and a list of sessions. */

#include "misdeed.h"
#include <jansson.h>
#include "auth.h"
#include "route.h"

struct alk_server;
struct alk_server_host;

struct alk_server_ops {
	/* It is authenticated. */
	void (*login)(void *user, uint64_t link);
	/* The session that ends next did this before it was logged in. */
	void (*misdeed)(void *user, uint64_t link, enum alk_misdeed misdeed);
	/* The session is gone, and so is `server`. Once for each, from the loop. */
	void (*ended)(void *user, uint64_t link);
	/* The same of a link that never came to SSH, instead of `ended`. May be NULL. */
	void (*visited)(void *user, uint64_t link);
	/* For watch; takes `event`. NULL while nobody watches. */
	void (*event)(void *user, json_t *event);
	/* A remote listener came, went or is wanted (remote_listener.h); takes `message`. */
	void (*remote)(void *user, json_t *message);
};

/* What all sessions of a worker share. Borrows everything for life; reads the host key. */
struct alk_server_host *alk_server_host_new(struct alk_loop *loop, const struct alk_conf *conf,
					    struct alk_auth *auth, struct alk_policy *policy,
					    struct alk_route *route, struct alk_loader *loader,
					    const struct alk_server_ops *ops, void *user,
					    struct alk_err *err);
/* Read the host keys as a worker would, for `alknet check`. Gives how many there are. 0, or -EINVAL
 * with `err`. */
int alk_server_check_keys(const struct alk_conf *conf, size_t *count, struct alk_err *err);
void alk_server_host_free(struct alk_server_host **host);
/* What the supervisor says of other workers' remote listeners. */
void alk_server_host_remote(struct alk_server_host *host, const json_t *message);
void alk_server_host_watch(struct alk_server_host *host, bool on);

/* Takes link->fd, on failure too. */
int alk_server_start(struct alk_server_host *host, uint64_t number, struct alk_link *link,
		     struct alk_err *err);
/* DISCONNECT, what is queued first, at most 2 s. */
void alk_server_finish(struct alk_server *server, const char *why);
struct alk_server *alk_server_find(struct alk_server_host *host, uint64_t number);
/* What the transport tells of the link's path (alknet/transport.h); `rtt` in seconds. NULL is
 * taken. */
void alk_server_set_path(struct alk_server *server, const char *kind, const char *via, double rtt);
uint64_t alk_server_number(const struct alk_server *server);
struct alk_server *alk_server_next(struct alk_server_host *host, struct alk_server *after);
/* About once in five seconds: keepalives. */
void alk_server_host_tick(struct alk_server_host *host);
/* For session.list, session.show (with its remote listeners) and channel.list; new references. */
json_t *alk_server_describe(const struct alk_server *server);
json_t *alk_server_channels(const struct alk_server *server);
/* How many of its channels have these ops (a service's; NULL = none), and whether its link is of
 * this transport: what of a plugin it uses. */
unsigned alk_server_uses(const struct alk_server *server, const struct alk_channel_ops *ops,
			 const char *transport, bool *link);
json_t *alk_server_remotes(const struct alk_server *server);
bool alk_server_close_channel(struct alk_server *server, uint64_t id);

#endif
