/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_CONNECT_PRIVATE_H
#define ALK_CONNECT_PRIVATE_H

/* The front side of `alknet connect`: what applications talk to.
 *
 *   connect_accept.c  listeners: the proxy port, port forwards, unix sockets
 *   connect_conn.c    one accepted connection until its channel is open; then the pump has it
 *   connect_stdio.c   --stdio: one channel for standard input and output
 *   connect.c         the program: starts these and the session, stops them
 *
 * Listeners outlive the session: a connection that comes while there is none waits for it, so that
 * connect.c alone decides what happens when a session ends. */

#include "client.h"
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
	/* How long an application may take to say what it wants, and how long it waits for a session. */
	uint64_t patience_ms;
};
#define ALK_FRONT_PATIENCE_MS 10000

/* Bind and listen, without accepting yet. `address` is HOST:PORT of the proxy, `spec` a --forward. May
 * warn on stderr (a proxy that others can reach). -errno with `err` naming the option and the address. */
int alk_accept_proxy(struct alk_front *front, const char *address, struct alk_err *err);
int alk_accept_forward(struct alk_front *front, const char *spec, struct alk_err *err);
/* Accept from now on; -ENOMEM. */
int alk_accept_start(struct alk_front *front);
/* One line a listener on stderr, with the real ports. */
void alk_accept_announce(const struct alk_front *front);
/* Close every listener and remove the unix sockets that are still ours. */
void alk_accept_close_all(struct alk_front *front);

/* Take an accepted connection; takes *fd, always. `to` is where a forward goes (borrowed for the call),
 * NULL on the proxy port, where the application says it. */
void alk_conn_new(struct alk_front *front, int *fd, const struct alk_destination *to);
/* The session is up: open what waits. */
void alk_conn_open_waiting(struct alk_front *front);
void alk_conn_close_all(struct alk_front *front);

/* One channel to `address` for the process's standard input and output. */
struct alk_stdio;
/* `done` runs at most once, from the loop: 0 the stream ended, else -errno with `err`. NULL with `err`
 * when the address is not HOST:PORT or a descriptor cannot be prepared. */
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
