/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_EMBED_H
#define ALKNET_EMBED_H

/* A server or clients inside another program. docs/EMBEDDING.md is the guide, examples/serve.c,
 * examples/fetch.c and examples/loopback.c are programs. Include alknet/alknet.h, or this alone.
 *
 *   alk_embed          the loop that everything runs on: the program's own libev loop, or one in a thread of
 *                      the library's. One in a process at a time.
 *   alk_embed_server   what `alknet serve` is with workers = 0. Any number.
 *   alk_embed_client   what `alknet connect` is without its listeners: a session that is begun again when it
 *                      ends. Any number.
 *   alk_channel        a stream (alknet/service.h): to any host and port, to a unix socket, to `alknet-*`.
 *
 * Threads: there is one rule. Everything here is called on the loop's thread, that is from one of
 * the library's callbacks, from a function given to alk_embed_post(), or, where the loop is the
 * program's, from any code of the thread that runs it. Exceptions: alk_embed_new(),
 * alk_embed_post(), alk_embed_enter(), alk_embed_free(), where each says so. Callbacks run on the
 * loop's thread, never inside the call that caused them (but for `data`, which may come inside
 * alk_channel_resume()'s turn, later), and must not block. A thread that visits (alk_embed_enter())
 * is the loop's thread for so long.
 *
 * The process: the library takes no signal and forks nothing here. SIGPIPE is set to be ignored if
 * it would end the process: libssh writes to sockets that their peers have closed. Log lines go
 * where log_target says (stderr), from log_level up; both are the process's, the last server or
 * client that was made sets them. */

#include <stdbool.h>
#include <stdint.h>
#include <alknet/err.h>
#include <alknet/service.h>

struct ev_loop; /* <ev.h>, which need not be included */
struct alk_embed;
struct alk_embed_server;
struct alk_embed_client;
struct alk_link;

/* ---- the loop -------------------------------------------------------------------------------- */

/* `loop` is the program's, borrowed until alk_embed_free(), and is called for on its thread; NULL:
 * a thread is started, with every signal blocked, and runs a loop of the library's. Any thread.
 * NULL with `err`: there is one already, or no memory, descriptor or thread. */
ALK_EXPORT struct alk_embed *alk_embed_new(struct ev_loop *loop, struct alk_err *err);
/* Run `fn` once on the loop's thread, soon, in the order of the calls. Any thread, also in a
 * callback. What was posted before alk_embed_free() is run by it at the latest. 0; -ENOMEM. */
ALK_EXPORT int alk_embed_post(struct alk_embed *embed, void (*fn)(void *user), void *user);
/* Be the loop's thread until alk_embed_leave(), without waking the library's: what was posted runs
 * first. Only while that one sleeps: false when it is at work, or the loop is the program's; with
 * `wait` it is waited for. Any thread but the library's; not twice, and nobody calls
 * alk_embed_free() meanwhile. Callbacks may run in either call. */
ALK_EXPORT bool alk_embed_enter(struct alk_embed *embed, bool wait);
ALK_EXPORT void alk_embed_leave(struct alk_embed *embed);
/* In a visit: what came on connections that were lent to `epoll` (alk_embed_client_lend()); their
 * callbacks run. */
ALK_EXPORT void alk_embed_serve(struct alk_embed *embed, int epoll);
/* A short answer to what was just written is expected soon: while such answers keep coming within
 * 250 us the library's thread looks for them without sleeping, and uses its processor for that long
 * at most once they do not. On the loop's thread, for each such write. Does nothing where the loop
 * is the program's, or there is one processor. */
ALK_EXPORT void alk_embed_attend(struct alk_embed *embed);
/* Frees what is left of servers and clients (their `closed` does not run), ends the thread and
 * waits for it. With the program's loop: on its thread, outside of any callback of the library.
 * Else: on any other thread than the library's. Nobody may post any more. Takes; accepts NULL. */
ALK_EXPORT void alk_embed_free(struct alk_embed **embed);

/* ---- configuration --------------------------------------------------------------------------- */

/* An option that is a file may be given by its content instead: NAME_content, text without a NUL.
 * Then no file is read, at a reload neither, and sentences call it "(NAME)".
 *
 * Of the environment ALKNET_PLUGIN_DIR is read, and for a client SSH_AUTH_SOCK; nothing else.
 *
 * An option of `alknet serve` or `alknet connect` (with underscores) and its value as a flag has
 * it. An option that may be given several times may stand here several times. The last has name
 * NULL. */
struct alk_setting {
	const char *name, *value;
};

/* ---- a server -------------------------------------------------------------------------------- */

/* All optional, and NULL may stand for a table without any; so it is with the client's. */
struct alk_embed_server_ops {
	uint32_t size; /* sizeof(struct alk_embed_server_ops) */
	/* It listens and takes connections. Once. */
	void (*ready)(void *user, struct alk_embed_server *server);
	/* A session asks for a destination that begins with `alknet-` and is none of the services',
	 * or the policy answered `service, "program"`. True: it is the program's, which has called
	 * alk_channel_set_ops() and answers now or later with alk_channel_accept() or
	 * alk_channel_refuse(). alk_channel_identity() says who asks. False: refused. `to` is
	 * borrowed for the call. */
	bool (*open)(void *user, struct alk_channel *channel, const struct alk_destination *to);
	/* It has ended: stopped (status 0), or a failure of its start that came late
	 * (alk_embed_server_failed() says which). Free it later, not in here. Once, the last. */
	void (*closed)(void *user, struct alk_embed_server *server, int status);
};

/* `table` is the text of a configuration file ("return { key = ... }") or NULL; `settings`, which
 * may be NULL too, go before it. Both are copied: a `reload` reads the files that they name anew.
 * workers is 0; `user` is refused; admin_socket is none unless it is given. Binds its addresses
 * now. NULL with `err`, which names the option. */
ALK_EXPORT struct alk_embed_server *alk_embed_server_new(struct alk_embed *embed, const char *table,
							 const struct alk_setting *settings,
							 const struct alk_embed_server_ops *ops,
							 void *user, struct alk_err *err);
/* "HOST:PORT" of the n-th listener, with the port that the system chose; NULL past the last. Valid
 * for the server's life. */
ALK_EXPORT const char *alk_embed_server_address(const struct alk_embed_server *server, unsigned n);
/* The transport of the n-th listener; NULL past the last. */
ALK_EXPORT const char *alk_embed_server_transport(const struct alk_embed_server *server,
						  unsigned n);
/* In `closed` and after: why the start failed. "" when it did not. */
ALK_EXPORT const char *alk_embed_server_failed(const struct alk_embed_server *server);
/* A command of the admin socket (docs/ADMIN_API.md), with its parameters as a JSON object or NULL:
 * "session.list", "session.kill" {"id":1}, "reload", "keys.reload", "drain", "status". `done` runs
 * once with the result as JSON text, or with NULL and why not ("out of memory" may be why); not
 * before this returned. `watch` and `bus.tail` call it for each event besides, until the server is
 * freed; an event that finds no memory is lost. `json` is borrowed for the call. 0; -ENOMEM, then `done` does
 * not run. */
typedef void alk_embed_done(void *user, const char *json, const struct alk_err *err);
ALK_EXPORT int alk_embed_server_request(struct alk_embed_server *server, const char *method,
					const char *params, alk_embed_done *done, void *user);
/* "reload", "keys.reload" or "policy.reload" with other settings: each takes the place of all that
 * were given of its name (or of its NAME_content). When the reload fails all is as it was. One at a
 * time: -EBUSY. `settings` is copied; `done` as above. 0; -EBUSY, -EINVAL or -ENOMEM, then `done`
 * does not run. */
ALK_EXPORT int alk_embed_server_reload(struct alk_embed_server *server, const char *method,
				       const struct alk_setting *settings, alk_embed_done *done,
				       void *user);
/* Take no more connections, end the sessions (at most 3 s); `closed` follows, from the loop. */
ALK_EXPORT void alk_embed_server_stop(struct alk_embed_server *server);
/* At once; `closed` does not run, nor `done` of requests that wait. Not inside a callback of this
 * server or of its channels: post it. Takes; accepts NULL. */
ALK_EXPORT void alk_embed_server_free(struct alk_embed_server **server);

/* ---- a client -------------------------------------------------------------------------------- */

struct alk_embed_client_ops {
	uint32_t size; /* sizeof(struct alk_embed_client_ops) */
	/* A session is up; `first`, or again after one ended. */
	void (*ready)(void *user, struct alk_embed_client *client, bool first);
	/* There will be no session any more: rc 0 stopped; else the first one failed, and `err`
	 * says why (-EACCES: the key or the host key). Free it now or later, not in here. Once, the
	 * last. */
	void (*closed)(void *user, struct alk_embed_client *client, int rc,
		       const struct alk_err *err);
	/* A session that was up has ended, or (`was_up` false) another one could not be begun, for
	 * the reason in `err`. True: another will be tried, after 1 s, 2 s ... 30 s, as it is
	 * without this; false: `closed` follows with that reason. */
	bool (*lost)(void *user, struct alk_embed_client *client, bool was_up,
		     const struct alk_err *err);
};

/* What failed, for a program that acts on it. */
enum alk_embed_failure {
	ALK_EMBED_NOT,	   /* nothing did */
	ALK_EMBED_CONNECT, /* the server was not reached, or does not speak SSH as we do */
	ALK_EMBED_HOSTKEY, /* the server's key is not the one that is known, or not known */
	ALK_EMBED_AUTH,	   /* the server refused us */
	ALK_EMBED_TIMEOUT, /* it took too long to come so far */
	ALK_EMBED_ENDED,   /* a session that was up is over */
};

/* Options as above, of `alknet connect`. Nobody is asked at a terminal: a host key must be known,
 * pinned or accepted by option, an identity must have no passphrase or be an agent's. The listeners
 * of `alknet connect` (forward, remote_forward, socks5, stdio, admin_socket) are refused: here a
 * stream is opened instead. Connects now. NULL with `err`. */
ALK_EXPORT struct alk_embed_client *alk_embed_client_new(struct alk_embed *embed, const char *table,
							 const struct alk_setting *settings,
							 const struct alk_embed_client_ops *ops,
							 void *user, struct alk_err *err);
/* Open a stream to host:port as the server sees it, or, with port 0 and a `host` that begins with
 * /, to a unix socket there. ops->opened or ops->refused follows, never before this returned;
 * ops->close is the last, and comes when the session ends too. `ops` is borrowed for life. NULL
 * with `err`: no session is up, the destination cannot be one, too many channels. */
ALK_EXPORT struct alk_channel *alk_embed_client_open(struct alk_embed_client *client,
						     const char *host, uint16_t port,
						     const struct alk_channel_ops *ops, void *user,
						     struct alk_err *err);
/* In `lost`, `closed` and after. */
ALK_EXPORT enum alk_embed_failure alk_embed_client_failure(const struct alk_embed_client *client);
/* The link of the session that is up, or of the last one (alknet/transport.h); its fd is not the
 * caller's. Valid for the client's life. */
ALK_EXPORT const struct alk_link *alk_embed_client_link(const struct alk_embed_client *client);
/* "SHA256:..." of the server's host key, or "" before one was seen and found good. */
ALK_EXPORT const char *alk_embed_client_host_key(const struct alk_embed_client *client);
/* Not the library's thread shall be woken when something comes on the session's connection, but the
 * program's, which waits for more than this: `epoll`, an epoll instance of its own, is readable
 * then, and wants alk_embed_enter(), alk_embed_serve() and alk_embed_leave(). The library watches
 * it again by itself when it has to write and cannot, when the session ends, after 100 ms in which
 * nobody visited, and when something waits for longer than 20 ms. Calling it again does no harm,
 * and is needed. Open `epoll` until the client is freed. 0; -ENOTSUP: no session is up, or its
 * connection is not one socket; -errno. */
ALK_EXPORT int alk_embed_client_lend(struct alk_embed_client *client, int epoll);
/* Take it back. */
ALK_EXPORT void alk_embed_client_recall(struct alk_embed_client *client);
/* Do not wait the whole time for another session: somebody wants one. */
ALK_EXPORT void alk_embed_client_hurry(struct alk_embed_client *client);
/* End for good: disconnect (at most 2 s); `closed` follows, from the loop. */
ALK_EXPORT void alk_embed_client_stop(struct alk_embed_client *client);
/* At once: channels are told `close` within, `closed` does not run. Not inside a callback of this
 * client or its channels: post it. Takes; accepts NULL. */
ALK_EXPORT void alk_embed_client_free(struct alk_embed_client **client);

#endif
