/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_TRANSPORT_H
#define ALKNET_TRANSPORT_H

/* A transport makes or accepts links. A link is one connected duplex byte stream: a non-blocking,
 * close-on-exec fd with its metadata. SSH runs over the fd and knows nothing else of the transport.
 *
 *   supervisor   listen()  accepts raw connections, hands each up as a link
 *   worker       admit()   finishes the transport's own handshake on it (NULL: nothing to do)
 *   client       dial()    connects and yields a link
 *
 * Every member of the table is optional; what is missing the transport cannot do. It must have
 * `listen` or `dial`; `listen` comes with `unlisten` and `describe`, `admit` with `admit_cancel`,
 * `dial` with `dial_cancel`. */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <alknet/err.h>
#include <alknet/loop.h>
#include <alknet/options.h>

/* Plain data; copied by value. The fd is owned by whoever holds the struct: `alk_link_close`. */
struct alk_link {
	int fd;
	char transport[16]; /* the plugin's name */
	/* An address without port, or an endpoint id; whatever is the same for one peer each time,
	 * in ASCII: links are counted, slowed down and banned by it. A constant makes all peers
	 * one. */
	char remote_addr[64];
	uint16_t remote_port; /* 0 where there is none */
	char local_addr[64];
	uint16_t local_port;
	char sni[256]; /* "" where there is none */
	char alpn[32];
	char peer_id[80]; /* who the transport proved it to be (ASCII), or "": policies have it */
};

#define ALK_LINK_NONE ((struct alk_link){.fd = -1})
/* Close the fd and set it to -1; the rest stays. */
ALK_EXPORT void alk_link_close(struct alk_link *link);
/* Make a link of a connected socket: both addresses are asked of the kernel. Takes *fd (sets it to
 * -1), also on failure. 0, or -errno with `err` when the connection is gone already. */
ALK_EXPORT int alk_link_of_fd(struct alk_link *link, const char *transport, int *fd,
			      struct alk_err *err);

/* By which way a link's bytes go, where that may change while it lives. Borrowed for the call. */
struct alk_link_path {
	uint32_t size;
	const char *kind; /* "direct" or "relay" */
	const char *via;  /* the peer's address, or the relay's URL */
	uint64_t rtt_us;  /* round trip */
};

/* Who listens. `accepted` takes link->fd always and is called from the loop. */
struct alk_acceptor {
	void (*accepted)(void *user, struct alk_link *link);
	void *user;
	/* ABI 1.5. NULL where nobody asks. `take` is `accepted`, and answers the link's number; 0:
	 * it was refused, or its number is not known yet. `path` tells of that number's path, at
	 * most every few seconds; a link that has ended is no error. */
	uint64_t (*take)(void *user, struct alk_link *link);
	void (*path)(void *user, uint64_t number, const struct alk_link_path *path);
};

struct alk_listener; /* the transport's own: it defines this, as it likes */

/* One dial or admit that is under way. `done` runs exactly once, from the loop, never before the
 * call that started it returned. rc 0: `link` is good and `done` takes link->fd. Else rc is -errno,
 * `err` has the sentence, and there is no fd. */
typedef void alk_link_fn(void *user, int rc, struct alk_link *link, const struct alk_err *err);

struct alk_transport_ops {
	uint32_t size;

	/* Bind and listen on `address`: the text of `listen`, as it stands ("ADDR:PORT",
	 * "[v6]:PORT", the transport's own form; the host looks at nothing of it). Borrowed for the
	 * call. Gives one listener in *out, which accepts at once; `up` is copied. 0, or -errno
	 * with `err` saying which address and why. */
	int (*listen)(void *state, const char *address, const struct alk_acceptor *up,
		      struct alk_listener **out, struct alk_err *err);
	/* Takes the listener and sets it to NULL. Also from inside `accepted`. */
	void (*unlisten)(void *state, struct alk_listener **listener);
	/* Stop taking connections for a while (drain, file descriptors short), or go on. */
	void (*pause)(void *state, struct alk_listener *listener, bool paused);
	/* The bound address as text ("127.0.0.1:2222"), for people and for `:0`; several are split
	 * by ", ". */
	void (*describe)(void *state, const struct alk_listener *listener, char *text, size_t size);

	/* Worker half. Takes link->fd, always; copies the rest of `link`, which is good for the
	 * call alone. Gives a handle, and `done` follows, with the link that SSH runs on: the same
	 * fd or another, the text as it was or more. NULL when out of memory: the fd is closed,
	 * `done` does not run. `admit_cancel` takes the handle, sets it to NULL and closes the fd;
	 * `done` does not run then. There is a deadline over it: the host's (handshake_timeout). */
	void *(*admit)(void *state, struct alk_link *link, alk_link_fn *done, void *user);
	void (*admit_cancel)(void *state, void **admission);

	/* Client. `address` is what the user gave as `server`: HOST:PORT (the port is always there)
	 * or a path, which begins with / and comes as it stands; or as `peer`, as it stands, which
	 * a plugin has that has an option of that name. Borrows it for the call alone. Gives a
	 * handle, and `done` follows; NULL with `err` when the address cannot be one or there is no
	 * memory. `dial_cancel` takes the handle and sets it to NULL. */
	void *(*dial)(void *state, const char *address, alk_link_fn *done, void *user,
		      struct alk_err *err);
	void (*dial_cancel)(void *state, void **dialing);

	/* ABI 1.1. Supervisor, at a reload: `listener` was opened by another instance of this
	 * plugin, which had other options and goes; it is this one's from now on, with this one's
	 * options, and stays open all the time. 0, or -errno: it stays the other's, which then
	 * lives as long as it. */
	int (*adopt)(void *state, struct alk_listener *listener);

	/* ABI 1.5. What it listens on when no address is given. NULL: 0.0.0.0:22 and [::]:22. */
	const char *listens;
	/* ABI 1.5. Client: the path of the link that was dialled last. False: nothing is known.
	 * What it points to is valid until the loop goes on. */
	bool (*path)(void *state, struct alk_link_path *path);

	/* ABI 1.12. Can this be an address of `listen`? It is not bound, nor looked up. NULL: any
	 * text can. */
	int (*check)(const char *address, struct alk_err *err);
};

/* ABI 1.11. A transport whose link is one end of a socketpair, since it has work to do on the bytes
 * (a cipher), may offer to be asked for them: where SSH can take that, nothing goes through the
 * pair from then on, and the transport sees in it SSH's end alone. Until then, and where SSH
 * cannot, all goes through the pair: a transport must be able to do without. All is called from the
 * loop, and none of these may end the transport's side of the link by itself. */
struct alk_direct_ops {
	uint32_t size;
	/* SSH takes the offer. What SSH has written to the pair before comes first: the transport
	 * reads it here. What the transport has written SSH reads first. False: not now, nor later;
	 * the offer has gone. NULL: true. */
	bool (*begin)(void *state);
	/* SSH asks no more, and the offer has gone: the end of the pair is what comes. NULL: the
	 * transport need not know. */
	void (*end)(void *state);
	/* > 0 bytes; 0: nothing will come any more; -EAGAIN; any other -errno ends the session.
	 * Fewer than `n`: there are no more now. */
	ssize_t (*recv)(void *state, void *bytes, size_t n);
	/* How many of them were taken. Fewer than `n`: alk_direct_ready follows, and the same bytes
	 * come again, with others behind them. -errno ends the session. */
	ssize_t (*send)(void *state, const void *bytes, size_t n);
	/* Bytes that were taken and that the peer has not acknowledged. NULL: 0. */
	uint64_t (*unsent)(void *state);
};
struct alk_direct;
/* `fd` is SSH's end, which is in a link soon; `ops` is borrowed for life. NULL: there is no memory,
 * or it cannot be (no recv or send; a socket without SO_COOKIE). The transport's until `begin`
 * fails, `end` or the withdrawal. */
ALK_EXPORT struct alk_direct *alk_direct_offer(int fd, const struct alk_direct_ops *ops,
					       void *state);
/* It is worth a try: ALK_IO_READ, ALK_IO_WRITE. Not from inside recv or send. SSH may call all of
 * them before this returns. */
ALK_EXPORT void alk_direct_ready(struct alk_direct *direct, int events);
/* Takes it and sets it to NULL: SSH sees the end of the stream. `end` is not called. */
ALK_EXPORT void alk_direct_withdraw(struct alk_direct **direct);

/* Help for transports over TCP (tcp, tls): an accept loop with SO_REUSEADDR, TCP_NODELAY,
 * keepalive, several addresses for a name, and a pause of 10 ms to 1 s when file descriptors run
 * out (logged once a pause). Options are read from `options`: backlog, keepalive (see
 * ALK_TCP_OPTIONS); NULL is their defaults. `address` is HOST:PORT, [V6]:PORT or :PORT, which is
 * every address of both families; a name is resolved at once, which may block, and all its
 * addresses are listened on, with the same port. An IPv6 socket takes IPv6 alone. `transport` is
 * borrowed for life. `accepted` may unlisten and pause. */
/* Is it an address that alk_tcp_listen() would read? */
ALK_EXPORT int alk_tcp_check(const char *address, struct alk_err *err);
ALK_EXPORT int alk_tcp_listen(struct alk_loop *loop, const char *transport, const char *address,
			      const struct alk_options *options, const struct alk_acceptor *up,
			      struct alk_listener **out, struct alk_err *err);
/* What the operations of the same names do. */
ALK_EXPORT void alk_tcp_unlisten(struct alk_listener **listener);
ALK_EXPORT void alk_tcp_pause(struct alk_listener *listener, bool paused);
/* The listener takes these options from now on. */
ALK_EXPORT void alk_tcp_adopt(struct alk_listener *listener, const struct alk_options *options);
ALK_EXPORT void alk_tcp_describe(const struct alk_listener *listener, char *text, size_t size);

#define ALK_TCP_OPTIONS                                                                            \
	{.name = "backlog",                                                                        \
	 .type = ALK_OPT_INT,                                                                      \
	 .fallback = "1024",                                                                       \
	 .min = 1,                                                                                 \
	 .max = 65535,                                                                             \
	 .arg = "N",                                                                               \
	 .help = "connections the kernel may hold before they are accepted"},                      \
	{                                                                                          \
		.name = "keepalive", .type = ALK_OPT_DURATION, .fallback = "60", .min = 0,         \
		.max = 86400000, .arg = "SECONDS",                                                 \
		.help = "idle time before TCP keepalive probes; 0 sends none"                      \
	}

/* For transports that dial: alk_plugin_timeout() of alknet/plugin.h reads it. */
#define ALK_DIAL_OPTIONS                                                                           \
	{                                                                                          \
		.name = "connect_timeout", .type = ALK_OPT_DURATION, .min = 100, .max = 3600000,   \
		.arg = "SECONDS",                                                                  \
		.help = "how long the client tries to reach the server; without it the program's " \
			"connect_timeout"                                                          \
	}

#endif
