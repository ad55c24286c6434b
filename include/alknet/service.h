/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_SERVICE_H
#define ALKNET_SERVICE_H

/* A service handles destinations: it decides what stands at the other end of a channel.
 *
 * A channel is a stream with back-pressure in the return type. Reading: `data` is handed what came and
 * answers how much it took; less than all means "wait", and the service calls alk_channel_resume()
 * when it can take more. Writing: alk_channel_write() answers how much it took; less than all means
 * that `drain` will follow. Each direction ends by itself (`eof`, alk_channel_eof); the channel is
 * gone after `close`, which comes exactly once for every channel whose `open` returned 0 and that was not
 * attached, and is always the last.
 *
 *              open()                accept()
 *     (none) ─────────▶ OPENING ─────────────▶ OPEN ──eof/alk_channel_eof──▶ (half) ──▶ CLOSED
 *                          └──── refuse() ───────────────────────────────────────────▶ close()
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <alknet/err.h>
#include <alknet/loop.h>

struct alk_channel;

/* Why an open failed. The first four are RFC 4254 5.1's reason codes; the others say more where
 * more is known (SOCKS replies, metrics), and go over the wire as CONNECT_FAILED. */
enum alk_open_failure {
	ALK_OPEN_OK = 0,
	ALK_OPEN_PROHIBITED = 1,
	ALK_OPEN_CONNECT_FAILED = 2,
	ALK_OPEN_UNKNOWN_TYPE = 3,
	ALK_OPEN_RESOURCE_SHORTAGE = 4,
	ALK_OPEN_REFUSED = 5,
	ALK_OPEN_UNREACHABLE = 6,
	ALK_OPEN_TIMEOUT = 7,
	ALK_OPEN_NAME = 8, /* no such name */
	ALK_OPEN_GONE = 9, /* the session ended */
};
/* A word or two for people; static. */
ALK_EXPORT const char *alk_open_failure_str(enum alk_open_failure why);
/* From the -errno of a failed connect. */
ALK_EXPORT enum alk_open_failure alk_open_failure_of(int rc);

struct alk_destination {
	char host[256]; /* as asked for; a name is not resolved yet. "" when `path` is set */
	uint16_t port;
	char path[108]; /* unix socket */
	char originator[64];
	uint16_t originator_port;
	char bind[64]; /* local address to connect from, or "" */
	/* Since 1.1. What alk_dial_to (alknet/dial.h) does by itself: */
	char via[256]; /* URL of the proxy to go through, "none" = straight there, "" = the program's */
	bool proxy_protocol;  /* tell the target the addresses below, by a PROXY header */
	char remote_addr[64]; /* the session's link: where it comes from */
	uint16_t remote_port;
	char local_addr[64]; /* and where it was accepted */
	uint16_t local_port;
};

/* Who is behind a session; valid while the session lives. */
struct alk_identity {
	const char *id;
	const char *user;
	const char *key_fingerprint;  /* SHA256:... */
	const char *const *scopes;    /* ends with NULL */
	const char *const *resources; /* since 1.8; ends with NULL, may be NULL */
};
/* `identity` may be NULL: false. Who has "secret:*" has every scope that begins with "secret:". */
ALK_EXPORT bool alk_identity_has_scope(const struct alk_identity *identity, const char *scope);

struct alk_local; /* alknet/local.h */

struct alk_service_ops {
	uint32_t size;

	/* A channel asks for `to` (borrowed for the call). Answer now or later, once, with
	 * alk_channel_accept, alk_channel_refuse or alk_channel_attach. `*user` goes into the
	 * others. Returns 0, or -errno with `err` set: the core refuses the open, and nothing else
	 * is called. */
	int (*open)(void *state, struct alk_channel *channel, const struct alk_destination *to,
		    void **user, struct alk_err *err);
	/* `n` bytes came; returns how many were taken, 0..n. `bytes` is borrowed for the call. Must
	 * not free the channel. NULL: everything is taken and thrown away. */
	size_t (*data)(void *user, struct alk_channel *channel, const uint8_t *bytes, size_t n);
	/* A write that was cut short can go on. */
	void (*drain)(void *user, struct alk_channel *channel);
	/* The peer will send nothing more; everything before it was taken. */
	void (*eof)(void *user, struct alk_channel *channel);
	/* The channel is gone; forget it. Also while an open is still unanswered. */
	void (*close)(void *user, struct alk_channel *channel);
	/* Since 1.6. A connection at the service's local socket (alknet/local.h): it is the
	 * service's from now on, until alk_local_close. */
	void (*local)(void *state, struct alk_local *local);
};

/* The open is answered: the peer may send. */
ALK_EXPORT int alk_channel_accept(struct alk_channel *channel);
/* The open is refused; `text` is told where the protocol allows. `close` follows. */
ALK_EXPORT void alk_channel_refuse(struct alk_channel *channel, enum alk_open_failure why,
				   const char *text);
/* Accept, and let the core's pump carry everything between the channel and `fd` (a connected stream
 * socket), half-close and back-pressure included, until both are done. Takes *fd (sets it to -1),
 * also on failure. The service's own operations are not called any more. 0 or -errno. */
ALK_EXPORT int alk_channel_attach(struct alk_channel *channel, int *fd);

/* Returns bytes taken, 0..n (short: `drain` follows), or -errno (-EPIPE after eof or close). */
ALK_EXPORT ssize_t alk_channel_write(struct alk_channel *channel, const void *bytes, size_t n);
/* How many bytes a write would take now. When 0, `drain` follows. */
ALK_EXPORT size_t alk_channel_room(struct alk_channel *channel);
/* Nothing more will be written. */
ALK_EXPORT void alk_channel_eof(struct alk_channel *channel);
/* After `data` took less than all: hand over the rest, from the loop, soon. */
ALK_EXPORT void alk_channel_resume(struct alk_channel *channel);
/* End both directions now. `close` follows from the loop. */
ALK_EXPORT void alk_channel_close(struct alk_channel *channel);

/* Who is told of a channel that no service has: one that a program asked for, or took. As in struct
 * alk_service_ops; opened and refused are for a channel that this side asked for. It has no size:
 * it never grows; more would be another table. */
struct alk_channel_ops {
	void (*opened)(void *user, struct alk_channel *channel);
	/* `close` follows. */
	void (*refused)(void *user, struct alk_channel *channel, enum alk_open_failure why,
			const char *text);
	size_t (*data)(void *user, struct alk_channel *channel, const uint8_t *bytes, size_t n);
	void (*drain)(void *user, struct alk_channel *channel);
	void (*eof)(void *user, struct alk_channel *channel);
	void (*close)(void *user, struct alk_channel *channel);
};
/* Change who is told; `ops` is borrowed for the channel's life, NULL is nobody. */
ALK_EXPORT void alk_channel_set_ops(struct alk_channel *channel, const struct alk_channel_ops *ops,
				    void *user);

/* What a service may ask the policy about a channel of its own, since 1.3. */
enum alk_channel_may {
	ALK_MAY_PUBLISH,   /* on_publish: name is the type, and id and size of the envelope */
	ALK_MAY_SUBSCRIBE, /* on_subscribe: name is the pattern */
	ALK_MAY_CALL,	   /* on_call: name is the operation */
};
struct alk_channel_question {
	enum alk_channel_may kind;
	const char *name;
	const char *id;
	size_t size;
};
struct alk_channel_ask; /* a question under way */

/* Ask. Copies `question`. `done` runs once, from the loop, never before this returns; `*ask` is
 * gone then. Whoever has the channel cancels in `close`; then `done` does not run.
 *   0        asked
 *   1        the policy has no such question: the service's own default holds, `done` does not run
 *   -ENOMEM  deny */
ALK_EXPORT int alk_channel_ask(struct alk_channel *channel,
			       const struct alk_channel_question *question,
			       void (*done)(void *user, bool allowed, const char *reason),
			       void *user, struct alk_channel_ask **ask);
/* `done` does not run. Clears *ask, which may be NULL. */
ALK_EXPORT void alk_channel_ask_cancel(struct alk_channel_ask **ask);

/* Valid while the session lives. On a client NULL. */
ALK_EXPORT const struct alk_identity *alk_channel_identity(const struct alk_channel *channel);
/* The link of the channel's session (alknet/transport.h; fd is not the caller's), and the session's
 * number in session.list. On a client NULL and 0. */
struct alk_link;
ALK_EXPORT const struct alk_link *alk_channel_link(const struct alk_channel *channel);
ALK_EXPORT uint64_t alk_channel_session(const struct alk_channel *channel);
ALK_EXPORT struct alk_loop *alk_channel_loop(const struct alk_channel *channel);

#endif
