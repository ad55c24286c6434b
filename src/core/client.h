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
struct alk_link;

enum alk_client_state {
	ALK_CLIENT_DOWN,
	ALK_CLIENT_DIALING,
	ALK_CLIENT_HANDSHAKE,
	ALK_CLIENT_AUTH,
	ALK_CLIENT_UP,
};
const char *alk_client_state_str(enum alk_client_state state);

/* Which step of a session failed, for who has to tell them apart. */
enum alk_client_failure {
	ALK_CLIENT_FAILED_NOT,
	ALK_CLIENT_FAILED_DIAL, /* the link, or the SSH handshake */
	ALK_CLIENT_FAILED_HOSTKEY,
	ALK_CLIENT_FAILED_AUTH,
	ALK_CLIENT_FAILED_TIMEOUT, /* any of them took too long */
	ALK_CLIENT_FAILED_ENDED,   /* a session that was up is over */
};

struct alk_client_ops {
	void (*up)(void *user);
	/* The session failed or ended; every channel has been told. rc: -EACCES authentication or
	 * host key, else the transport's. Called once a start; from the loop, so that it may start
	 * again. */
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
/* The same without a word to the server, which is not believed to be there: `down` follows, from
 * the loop, with -ETIMEDOUT and `why`. */
void alk_client_cut(struct alk_client *client, const char *why);
/* The machine slept for `ms` (suspend.h), or did not: a moment to look whether the server is there. */
void alk_client_missed(struct alk_client *client, uint64_t ms);
/* Would alk_client_open work? Not while the session ends, although it is still up. */
bool alk_client_ready(const struct alk_client *client);
unsigned alk_client_channels(const struct alk_client *client);
enum alk_client_state alk_client_get_state(const struct alk_client *client);
/* Have the session's connection watched by an epoll instance of somebody else's (alk_io_lend()). 0;
 * -ENOTSUP also when no session is up; -errno. */
int alk_client_lend(struct alk_client *client, int epoll);
void alk_client_recall(struct alk_client *client);
bool alk_client_lent(const struct alk_client *client);
/* By which path the session's link goes, where the transport knows; valid until the loop goes
 * on. */
struct alk_link_path;
bool alk_client_path(const struct alk_client *client, struct alk_link_path *path);
const char *alk_client_server(const struct alk_client *client); /* "HOST:PORT" */
/* In `down` and after: what failed. */
enum alk_client_failure alk_client_failure(const struct alk_client *client);
/* The link of the session, or of the last one; fd is -1. */
const struct alk_link *alk_client_link(const struct alk_client *client);
/* "SHA256:..." of the host key that was good last, or "". */
const char *alk_client_host_key(const struct alk_client *client);

/* Ask for a channel; `opened` or `refused` follows, from the loop, never before this returned, then
 * `close` last. NULL with `err` when the session is not up or has too many channels. */
struct alk_channel *alk_client_open(struct alk_client *client, const struct alk_destination *to,
				    const struct alk_channel_ops *ops, void *user,
				    struct alk_err *err);

/* Who wants connections from the server's side (remote_forward.h). */
struct alk_client_forward_ops {
	void (*up)(void *user, struct alk_client *client);
	void (*down)(void *user);
	/* The server opened a channel for a connection at `to`, where it listens for us; originator
	 * is set. Answer now or later: alk_channel_accept, _refuse or _attach. */
	void (*opened)(void *user, struct alk_channel *channel, const struct alk_destination *to);
};
/* Tell these of every session, also of the one that is up; all borrowed for the client's life.
 * Without them what a server opens is refused. */
void alk_client_set_forwards(struct alk_client *client, const struct alk_client_forward_ops *ops,
			     void *user);

/* Ask the server to listen on host:port and to open channels for what connects there. `host` is
 * written as RFC 4254 7.1 has it: "" is every address. `done` runs once, from the loop, unless
 * cancelled: rc 0 and the port (0: the server did not say which), -EACCES refused, -ENOTCONN the
 * session ended first. NULL when the session is not up or memory is out. */
struct alk_ssh_listen; /* a question under way */
typedef void alk_client_listened(void *user, int rc, uint16_t port);
struct alk_ssh_listen *alk_client_listen(struct alk_client *client, const char *host, uint16_t port,
					 alk_client_listened *done, void *user);
/* `done` does not run; what was asked for is not taken back. */
void alk_client_listen_cancel(struct alk_ssh_listen **listen);
/* Tell the server to stop; what is connected stays. */
void alk_client_unlisten(struct alk_client *client, const char *host, uint16_t port);

/* Read the identity, for `alknet check --connect`: without asking for a passphrase and without an
 * agent, so of a private key that is encrypted only the public half. 0 (also when there is none),
 * or -errno with `err`. */
int alk_client_check_identity(const struct alk_conf *conf, struct alk_err *err);

#endif
