/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_SSH_SESSION_H
#define ALK_SSH_SESSION_H

/* What a server's and a client's session share: the libssh session on its fd, the turn that drives
 * it, and its channels. ssh_server.c and ssh_client.c own one each and are its users; ssh_channel.c
 * is the channel half. Nothing else includes libssh for sessions.
 *
 * A turn, once an fd is ready or something was written:
 *   1 dispatch   ssh_event_dopoll() until nothing is left or the budget is spent. libssh's callbacks run
 *                in here: they hand bytes to a channel's owner and set flags, they never call libssh.
 *   2 step       the owner's: handshake, messages, answers. May call libssh.
 *   3 channels   what was flagged: rest of data, eof, close, drain.
 *   4 flush      what all that wrote, in one send; wait for EV_WRITE if the kernel is full. Packets that
 *                nobody waits for (alk_ssh_may_wait) go with the next ones, or after 5 ms; 200 before the login is
 *                over.
 * Every call that may dispatch stands between alk_ssh_enter and alk_ssh_leave. Inside, writes are
 * refused as "full" and done in 3. The session dies only in its own task, never inside a turn. */

#include <libssh/callbacks.h>
#include <libssh/libssh.h>
#include "channel.h"
#include "pkey_keep.h"
#include "policy.h"
#include "route.h"

struct alk_ssh;

struct alk_ssh_ops {
	/* 0 to go on, -errno to end the session (say why with alk_ssh_die first for a text). */
	int (*step)(void *user);
	/* The session is over; every channel has been told. Once, from the loop. The owner frees
	 * it. */
	void (*dead)(void *user, int rc, const char *why);
};

struct alk_ssh {
	uint32_t magic;
	int fd; /* libssh closes it, whenever it likes: -1 as soon as we see that */
	struct alk_loop *loop;
	ssh_session ssh;
	ssh_event event; /* NULL before the first step of the key exchange */
	struct alk_io *io;
	struct alk_task task;	  /* something to do after this callback */
	struct alk_task again;	  /* the budget was spent with bytes ahead */
	struct alk_timer *last;	  /* how long a DISCONNECT may wait for the queue */
	struct alk_timer *later;  /* how long packets may wait for others; NULL until some do */
	struct alk_timer *gather; /* how long the kernel may gather; NULL until it does */
	const struct alk_ssh_ops *ops;
	void *user;
	uint64_t link; /* the link's number and address, for the board; borrowed for life */
	const char *remote_addr;
	struct alk_grant *grant;
	struct alk_policy *policy; /* who is asked for services, of a server's session; or NULL */
	const struct alk_route_session *from;
	struct alk_channel *channels, *work;
	unsigned n_channels, max_channels;
	uint64_t next_channel;
	unsigned opens;		    /* channels that this side asked for */
	unsigned ids;		    /* channels that libssh has numbered */
	unsigned asked;		    /* channels that the peer asked for */
	struct alk_reason *reasons; /* ssh_reason.c; NULL until an open fails */
	unsigned n_reasons;
	unsigned depth;
	size_t queued; /* bytes written since libssh's queue was last empty */
	size_t batch;  /* writers are told "full" when so many are queued */
	struct ssh_counter_struct raw, sock;
	uint64_t patient;    /* of the packets in raw, those that may wait */
	uint64_t stepped;    /* packets received when the owner's step last ran */
	uint64_t scanned;    /* the same for the channels' scan */
	bool broken;	     /* it ended because the peer broke the protocol, not because it left */
	uint64_t idle_since; /* loop time of the last sign of life */
	uint64_t asked_at;   /* of the question in a silence; before idle_since: none yet */
	uint64_t handed;     /* bytes given to the kernel, before those in sock.out_bytes */
	uint64_t heard;	     /* sock.in_bytes at the last sign of life */
	uint64_t
		gone; /* of all those, what the peer's kernel had at the last look; 0 = no look yet */
	/* ssh_global.c: */
	struct alk_ssh_listen *listens; /* forwards to ask for, the first one may be under way */
	int slot;			/* whose answer libssh waits for */
	uint64_t global_seen;		/* packets received when the answer was looked for last */
	bool global_due;		/* there is one to send */
	bool sips;	 /* packets are read one by one, so that the port is found in the answer */
	unsigned rekeys; /* key exchanges that the peer began in this minute */
	uint64_t rekeys_since, moved, sent;
	uint32_t windows; /* bytes of the channels' windows beyond what libssh keeps open */
	uint32_t
		rtt_ms; /* the shortest answer to anything said in lockstep or to an open; 0 = not known */
	uint64_t said_at; /* loop time of what has not been answered yet; 0 = nothing */
	int rc;		  /* why it died */
	char why[160];
	bool lockstep; /* keys are exchanged, the login is not over: each side waits for the other */
	bool up;       /* authenticated: set by the owner; a step is needed only for packets */
	bool ahead;  /* the fd is read ahead: there is something to dispatch only if that says so */
	bool direct; /* a transport gives and takes the bytes: of the fd only its end is heard */
	bool serves; /* set by the owner: libssh may ask for keys that are kept (pkey_keep.h) */
	uint64_t bulk;	  /* bytes that came without a pause */
	uint64_t bulk_at; /* loop time when the last of them came */
	bool gathers;	  /* less than much does not wake the session */
	bool starved;	  /* a channel found the queue full: scan again once it is empty */
	bool turning, dying, dead, finishing;
};

/* Is the libssh that runs one that we can work with? */
int alk_ssh_check_library(struct alk_err *err);
/* Gives a session in *s (caller's memory). The libssh session exists then; the caller sets its
 * options. */
int alk_ssh_init(struct alk_ssh *s, struct alk_loop *loop, const struct alk_ssh_ops *ops,
		 void *user, struct alk_err *err);
/* Start turning on fd, which libssh has been given. */
int alk_ssh_start(struct alk_ssh *s, int fd, struct alk_err *err);
/* Attach the event, after the first step of the key exchange. */
int alk_ssh_attach(struct alk_ssh *s);
/* The login is over: channels may come. */
void alk_ssh_up(struct alk_ssh *s);
/* Tell every channel, free everything. Not from inside a turn. */
void alk_ssh_deinit(struct alk_ssh *s);
/* Around each call of libssh that may dispatch. Leaving looks whether the library has closed the
 * fd: its number may be somebody else's in the next moment, so the watcher and the read-ahead go at
 * once. */
static inline void alk_ssh_enter(struct alk_ssh *s)
{
	s->depth++;
	if (s->serves)
		alk_pkey_keep_work(true);
}
void alk_ssh_leave(struct alk_ssh *s);
/* Write on the board that this session is what the loop works on. */
void alk_ssh_hold(const struct alk_ssh *s);
/* From now on fewer than `bytes` bytes do not wake the session; its end does, and so does any byte
 * of a link that is no TCP. 1 is what it begins with. */
void alk_ssh_wake_at(struct alk_ssh *s, int bytes);
/* The peer's answer to something came after so long: the round trip is no longer than that. */
void alk_ssh_took(struct alk_ssh *s, uint64_t ms);
/* End the session soon, from the loop. The first reason stays. */
void alk_ssh_die(struct alk_ssh *s, int rc, const char *fmt, ...) ALK_PRINTF(3, 4);
/* Send DISCONNECT once what is queued has gone and the peer has answered each CLOSE, after at most
 * 2 s, then die with rc 0 and `why`. */
void alk_ssh_finish(struct alk_ssh *s, const char *why);
/* Something was written outside of a turn: flush it soon. */
void alk_ssh_wrote(struct alk_ssh *s);
/* Nobody waits for the last `packets` of what was written. */
void alk_ssh_may_wait(struct alk_ssh *s, uint64_t packets);
/* After `every` ms (not 0) of silence ask for a sign of life; after `limit` ms the peer is dead, if
 * it has had `every` ms to answer (whoever stood still himself has not asked in time).
 * Any byte received is life, and so is an upload that goes on. Returns in how many ms it wants to
 * be called again; later makes it notice later. */
uint64_t alk_ssh_keepalive(struct alk_ssh *s, uint64_t every, uint64_t limit);
/* `ms` went by that no clock of the loop has counted: they are silence, but a question that is
 * on its way has so much longer. */
void alk_ssh_missed(struct alk_ssh *s, uint64_t ms);

/* ssh_channel.c */
struct alk_channel *alk_ssh_channel_new(struct alk_ssh *s, const struct alk_channel_ops *ops,
					void *user);
/* Server: a direct-tcpip open, the session's `asked`th, that waits for its answer. Takes
 * `message`. */
struct alk_channel *alk_ssh_channel_asked(struct alk_ssh *s, ssh_message message);
/* Client: ask. 0 or -errno. Borrows `to` for the call. */
int alk_ssh_channel_ask(struct alk_channel *channel, const struct alk_destination *to);
void alk_ssh_channels_work(struct alk_ssh *s);
/* Each channel: an open answered, room again? */
void alk_ssh_channels_scan(struct alk_ssh *s);
void alk_ssh_channels_end(struct alk_ssh *s);
/* Has a CLOSE of ours no answer yet? A peer answers when it has handed on what came before. */
bool alk_ssh_channels_closing(const struct alk_ssh *s);
/* Attach a grant: what alk_channel_identity() gives. Takes a reference. */
void alk_ssh_set_grant(struct alk_ssh *s, struct alk_grant *grant);

/* Ask the other way round: a forwarded-tcpip for a connection at the remote listener that the peer
 * knows as to->host and to->port. 0 or -errno. Borrows `to` for the call. */
int alk_ssh_channel_ask_back(struct alk_channel *channel, const struct alk_destination *to);

/* ssh_global.c: our global requests, one under way at a time. */
struct alk_ssh_listen;
/* rc 0: the peer listens, on `port` (0: it did not say). -EACCES refused; -ENOTCONN the session
 * ended. */
typedef void alk_ssh_listened_fn(void *user, int rc, uint16_t port);
/* Ask the peer to listen (RFC 4254 7.1). `done` runs once, from the session's turn or its end,
 * unless cancelled. Copies `host`. NULL when out of memory. */
struct alk_ssh_listen *alk_ssh_listen(struct alk_ssh *s, const char *host, uint16_t port,
				      alk_ssh_listened_fn *done, void *user);
/* `done` does not run; the request still goes its way. */
void alk_ssh_listen_cancel(struct alk_ssh_listen **listen);
/* Tell the peer to stop. 0 or -ENOMEM. */
int alk_ssh_unlisten(struct alk_ssh *s, const char *host, uint16_t port);
/* Have a keepalive or another question on its way to the peer. */
void alk_ssh_ping(struct alk_ssh *s);
/* For the turn: an answer may have come, the next request may go. Not inside dispatch. */
void alk_ssh_global_step(struct alk_ssh *s);
void alk_ssh_global_end(struct alk_ssh *s);

/* ssh_reason.c: why an open failed, between two alknets. libssh's server can send one reason code
 * and no text, so our server keeps the last reasons of a session by the number of the open (both
 * ends count the opens of the client), and our client asks for one on a channel to the reserved
 * destination `alknet-reason`, port = the number modulo 65536: the answer is the reason as a
 * decimal of enum alk_open_failure, a newline, EOF. */
#define ALK_REASON_HOST "alknet-reason"
void alk_ssh_reason_keep(struct alk_ssh *s, unsigned number, enum alk_open_failure why);
void alk_ssh_reason_answer(struct alk_ssh *s, struct alk_channel *channel, uint16_t port);
struct alk_reason_query;
typedef void alk_reason_fn(struct alk_channel *failed, enum alk_open_failure why);
/* Ask; NULL when that cannot be. `done` runs once, from the session's turn or its end, unless
 * cancelled. */
struct alk_reason_query *alk_ssh_reason_ask(struct alk_ssh *s, unsigned number, alk_reason_fn *done,
					    struct alk_channel *failed);
void alk_ssh_reason_cancel(struct alk_reason_query **query);

struct alk_channel_info {
	uint64_t id;
	bool open, eof_in, eof_out;
	uint64_t bytes_in, bytes_out;
	double age;
};
void alk_channel_get_info(const struct alk_channel *channel, struct alk_channel_info *info);
struct alk_channel *alk_ssh_channel_next(const struct alk_ssh *s, const struct alk_channel *after);

#endif
