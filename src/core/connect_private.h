/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_CONNECT_PRIVATE_H
#define ALK_CONNECT_PRIVATE_H

/* The front side of `alknet connect`: what applications talk to.
 *
 *   connect_accept.c  listeners: the proxy port, port forwards, unix sockets
 *   connect_conn.c    one accepted connection until its channel is open; then the pump has it
 *   connect_stdio.c   --stdio: one channel for standard input and output
 *   connect_keep.c    the session: begun, and begun again when it ends
 *   connect_admin.c   the client's own admin socket
 *   connect_metrics.c its metrics
 *   connect.c         the program: starts these, stops them
 *
 * Listeners outlive the session: a connection that comes while there is none waits for it, and so
 * does one whose channel was not open yet when the session ended. */

#include "addr.h"
#include "client.h"
#include "metrics.h"
#include "remote_forward.h"

struct alk_accept;
struct alk_conn;

/* What listeners and their connections share. Plain data of connect.c's. */
struct alk_front {
	struct alk_loop *loop;
	struct alk_client *client;	     /* borrowed; NULL while there is none */
	struct alk_remote_forwards *remotes; /* --remote-forward; NULL: none was asked for yet */
	struct alk_accept *accepts;
	struct alk_conn *conns; /* whose channels are not open yet, or that are being closed */
	unsigned waiting;	/* conns that wait for a session */
	/* How long an application may take to say what it wants, and how long it waits for a
	 * session. */
	uint64_t patience_ms;
	const char *auth;	    /* "user:password" that the proxy port asks for; NULL = none */
	uint64_t started;	    /* loop time */
	uint64_t last_forward;	    /* number of the forward that was added last */
	void (*wanted)(void *user); /* a conn begins to wait for a session; may be NULL */
	void *user;
};
#define ALK_FRONT_PATIENCE_MS 10000

/* Bind and listen, without accepting yet. `address` is HOST:PORT of the proxy, `spec` a --forward.
 * May warn on stderr (a proxy that others can reach). -errno with `err` naming the option and the
 * address. */
int alk_accept_proxy(struct alk_front *front, const char *address, struct alk_err *err);
int alk_accept_forward(struct alk_front *front, const char *spec, struct alk_err *err);
/* Accept from now on, on all that do not yet; -ENOMEM. */
int alk_accept_start(struct alk_front *front);
/* Close the listeners of one forward; its connections go on. False: there is no such number. */
bool alk_accept_remove(struct alk_front *front, uint64_t forward);
/* What listens: the first after `after` (NULL = from the beginning), NULL at the end. */
struct alk_accept_info {
	uint64_t forward; /* its number; 0 = the proxy */
	char from[128];	  /* HOST:PORT or the path of a unix socket */
	char to[300];	  /* the same; "" of the proxy */
};
const struct alk_accept *alk_accept_next(const struct alk_front *front,
					 const struct alk_accept *after,
					 struct alk_accept_info *info);
/* One line a listener on stderr, with the real ports. */
void alk_accept_announce(const struct alk_front *front);
/* Close every listener and remove the unix sockets that are still ours. */
void alk_accept_close_all(struct alk_front *front);

/* Take an accepted connection from `peer`; takes *fd, always. `to` is where a forward goes
 * (borrowed for the call), NULL on the proxy port, where the application says it. */
void alk_conn_new(struct alk_front *front, int *fd, const struct alk_sockaddr *peer,
		  const struct alk_destination *to);
/* The session is up: open what waits. */
void alk_conn_open_waiting(struct alk_front *front);
void alk_conn_close_all(struct alk_front *front);

/* The admin socket, if the option admin_socket names one (*admin stays NULL else): status,
 * forwards, reconnect, shutdown (`on_shutdown` runs). Borrows all. 0; -errno with `err`. */
struct alk_client_admin;
struct alk_keep;
int alk_client_admin_open(struct alk_client_admin **admin, struct alk_front *front,
			  struct alk_keep *keep, const struct alk_options *options,
			  void (*on_shutdown)(void *user), void *user, struct alk_err *err);
void alk_client_admin_free(struct alk_client_admin **admin);

/* connect_metrics.c: all of the client's metrics as text; why it is not ready, NULL when it is. */
void alk_front_metrics(const struct alk_front *front, const struct alk_keep *keep,
		       struct alk_metrics_text *out);
const char *alk_front_unready(const struct alk_front *front, const struct alk_keep *keep);

/* One channel to `address` for the process's standard input and output. */
struct alk_stdio;
/* `done` runs at most once, from the loop: 0 the stream ended, else -errno with `err`. NULL with
 * `err` when the address is not HOST:PORT or a descriptor cannot be prepared. */
struct alk_stdio *alk_stdio_new(struct alk_front *front, const char *address,
				void (*done)(void *user, int rc, const struct alk_err *err),
				void *user, struct alk_err *err);
/* The session is up: open the channel. */
void alk_stdio_open(struct alk_stdio *stdio);
/* Leaves the descriptors as they were found. */
void alk_stdio_free(struct alk_stdio **stdio);
/* Make sure that 0, 1 and 2 are open, so that nothing else becomes one of them. 0 or -errno. */
int alk_stdio_fill(void);

#endif
