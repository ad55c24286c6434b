/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef BUS_HUB_NATS_H
#define BUS_HUB_NATS_H

/* The hub on NATS: several servers are one bus. docs/BUS.md says how names map. The program
 * alknet-nats (nats_wire.h) speaks with NATS; this is what the hub says to it and does with what it
 * hears. Without the option `backend` nothing of it is there.
 *
 *   hub_nats.c        what goes over NATS: events, retained values; life
 *   hub_nats_sub.c    subscriptions there, those of operations among them
 *   hub_nats_call.c   calls to and from other servers
 *   hub_nats_past.c   history
 *   hub_nats_link.c   the program: start it, write to it, start it again
 *   alknet_nats.h     the program
 *   nats_subject.c    names as subjects */

#include <sys/types.h>
#include "hub.h"
#include "nats_wire.h"

#define NATS_SERVER_ID 16
#define NATS_BUCKETS 4096
#define NATS_CALLS_MAX 16384 /* that go out, all clients' together */
/* Of one identity, so that it leaves the others some: as many that go out, and that come in. */
#define NATS_CALLS_SHARE (NATS_CALLS_MAX / 4)
#define NATS_SERVES_SHARE (HUB_CALLS_MAX / 4)
#define NATS_PASTS_MAX 64 /* histories that are read: each is a thread of the program */
#define NATS_PASTS_SHARE (NATS_PASTS_MAX / 4)

struct nats_link;
struct nats_link_ops {
	/* There is no program, and perhaps none for long. */
	void (*gone)(void *user);
	/* The program is new: nothing is subscribed to. */
	void (*fresh)(void *user);
	void (*message)(void *user, const uint8_t *bytes, size_t n);
	/* An event was thrown away: the buffer is full, or the program died with it. */
	void (*refused)(void *user, const char *origin, const char *why);
};

/* Starts the program from the loop. `limit` bytes of events wait at most. */
struct nats_link *nats_link_new(struct alk_loop *loop, size_t limit,
				const struct nats_link_ops *ops, void *user);
void nats_link_free(struct nats_link **link);
/* Say and free, at once. A program that leaves 64 MiB of it unread is ended, and `fresh`
 * follows. */
void nats_link_say(struct nats_link *link, struct wire_out *out);
/* The same for what waits until NATS is there. `origin` is for `refused`; false: refused already
 * told. */
bool nats_link_publish(struct nats_link *link, struct wire_out *out, const char *origin);
void nats_link_connected(struct nats_link *link, bool connected);
size_t nats_link_waiting(const struct nats_link *link);
/* Bytes that were said and not read yet. */
size_t nats_link_said(const struct nats_link *link);
/* Is there such a program? */
int nats_link_check(struct alk_err *err);

#define NATS_SUBJECT_MAX 1600
#define NATS_DURABLE_MAX 64

enum nats_role {
	NATS_ROLE_WANT,	     /* somebody here subscribed */
	NATS_ROLE_RETAIN,    /* values that other servers retain or forget */
	NATS_ROLE_SYNC,	     /* another server asks for what is retained */
	NATS_ROLE_KEPT,	     /* and that is what it gets */
	NATS_ROLE_INBOX,     /* answers to calls that went out */
	NATS_ROLE_OPERATION, /* calls that come in */
	NATS_ROLE_DESCRIBE,  /* and whoever asks what is called there */
	NATS_ROLE_ABORT,
	NATS_ROLE_ALIVE,
};

struct nats_sub {
	TAILQ_ENTRY(nats_sub) entry;
	LIST_ENTRY(nats_sub) by_id;
	uint64_t id;
	enum nats_role role;
	uint64_t kind;
	char *subject, *queue;
	struct hub_want *want;
	const char *operation;
};

/* The first of the patterns here that a topic matches, as it was at `generation`. */
struct nats_first {
	char *topic;
	uint64_t id, generation;
};
#define NATS_FIRSTS 64

/* A call that a worker of this server asked for, and another server is to answer. */
struct nats_call {
	TAILQ_ENTRY(nats_call) entry;
	LIST_ENTRY(nats_call) by_number, by_worker;
	uint64_t number, worker, worker_number, seen;
	size_t share;			 /* whose it is */
	char server[NATS_SERVER_ID + 1]; /* "" until it said so */
	bool many;
	bool describes; /* it asks what the operation is */
};

/* A call that another server asked for. */
struct nats_serve {
	TAILQ_ENTRY(nats_serve) entry;
	LIST_ENTRY(nats_serve) by_reply;
	struct nats *nats;
	char *reply;
	size_t share;
	char server[NATS_SERVER_ID + 1]; /* "": a program of its own on NATS */
	uint64_t seen;
	struct hub_call *call;
};

/* A subscription that waits for its history. */
struct nats_past {
	TAILQ_ENTRY(nats_past) entry;
	uint64_t tag, worker,
		worker_tag;	 /* worker 0: nobody waits any more, and it is about to end */
	struct hub_share *share; /* NULL: it has no limit */
	char *pattern;
};

/* Another server that asked for what is retained. */
struct nats_sync {
	TAILQ_ENTRY(nats_sync) entry;
	uint64_t after; /* it has all up to this one */
	char reply[];
};

/* Another server on this NATS. */
struct nats_peer {
	TAILQ_ENTRY(nats_peer) entry;
	char id[NATS_SERVER_ID + 1];
	uint64_t seen;
};

LIST_HEAD(nats_calls, nats_call);
LIST_HEAD(nats_serves, nats_serve);
LIST_HEAD(nats_operations, nats_operation);

struct nats {
	struct hub *hub;
	TAILQ_HEAD(, nats_peer) peers;
	size_t n_peers;
	TAILQ_HEAD(, nats_sync) syncs;
	size_t n_syncs;
	struct alk_timer *sync;
	uint64_t back_at; /* when the connection was there again */
	bool flows;	  /* events go out */
	struct nats_link *link;
	struct alk_timer *tick;
	char *urls, *credentials, *ca, *prefix;
	char *durable[NATS_DURABLE_MAX];
	size_t n_durable;
	size_t limit;
	char server[NATS_SERVER_ID + 1];
	bool connected;
	uint64_t payload_max; /* bytes that NATS takes of a message */
	TAILQ_HEAD(, nats_sub) subs;
	LIST_HEAD(, nats_sub) subs_by_id[NATS_BUCKETS];
	struct nats_operations operations[NATS_BUCKETS]; /* by name */
	uint64_t last_sub, last_call, last_past;
	uint64_t generation;		       /* of `subs`: another one whenever they are others */
	struct nats_first firsts[NATS_FIRSTS]; /* by topic */
	TAILQ_HEAD(, nats_call) calls;
	struct nats_calls calls_by_number[NATS_BUCKETS], calls_by_worker[NATS_BUCKETS];
	size_t n_calls;
	TAILQ_HEAD(, nats_serve) serves;
	struct nats_serves serves_by_reply[NATS_BUCKETS];
	/* How many there are of an identity, which those in one bucket share; the last one is that
	 * of programs of their own on NATS. */
	uint32_t calls_of[NATS_BUCKETS], serves_of[NATS_BUCKETS + 1];
	TAILQ_HEAD(, nats_past) pasts;
	size_t n_pasts;
	uint64_t reconnects, refused, lost, lost_logged;
};

/* Shared by hub_nats*.c. */
/* "PREFIX.part". */
void nats_name(const struct nats *nats, char out[NATS_SUBJECT_MAX], const char *part);
struct nats_publication {
	const char *subject, *reply, *from, *type, *identity, *origin;
	const void *body;
	size_t n;
	bool durable;
};
/* What is of no use later: thrown away while NATS is not there. */
void nats_publish(struct nats *nats, const struct nats_publication *p);
/* The same, but what is said while NATS is not there is left to the program. */
void nats_publish_now(struct nats *nats, const struct nats_publication *p);
/* "server/worker/connection" of a header: which server, and is it this one? */
bool nats_from(const struct nats *nats, const char *from, char server[NATS_SERVER_ID + 1],
	       uint64_t *worker, uint64_t *connection);

/* The subject of a topic or pattern below `part`. False: too long. */
bool nats_topic(const struct nats *nats, char out[NATS_SUBJECT_MAX], const char *part,
		const char *topic, bool pattern);

/* hub_nats_sub.c */
/* NULL: out of memory. */
struct nats_sub *nats_sub_new(struct nats *nats, enum nats_role role, uint64_t kind,
			      const char *subject, const char *queue);
struct nats_sub *nats_sub_find(const struct nats *nats, uint64_t id);
void nats_sub_end(struct nats *nats, uint64_t id);
/* All of them, to a program that is new. */
void nats_subs_say(struct nats *nats);
void nats_subs_free(struct nats *nats);
/* The subject of an operation below `part`. False: it has none, because a subject has no empty
 * token. */
bool nats_operation_subject(const struct nats *nats, char out[NATS_SUBJECT_MAX], const char *part,
			    const char *name);

/* hub_nats_past.c */
void nats_past_end(struct nats *nats, struct nats_past *past, const char *code,
		   const char *message);
void nats_hear_then(struct nats *nats, struct wire_in *in);
void nats_hear_then_end(struct nats *nats, struct wire_in *in);

/* hub_nats_call.c */
void nats_call_fail(struct nats *nats, struct nats_call *call, const char *code,
		    const char *message);
void nats_serve_free(struct nats_serve *serve);
void nats_hear_answer(struct nats *nats, const char *subject, const char *from, const char *type,
		      const char *status, const char *payload);
void nats_hear_call(struct nats *nats, const struct nats_sub *sub, const char *reply,
		    const char *from, const char *identity, const char *status, const char *body);
/* It came as its subscription ended: whoever waits for an answer gets one. */
void nats_hear_late(struct nats *nats, const char *subject, const char *reply);
/* Whoever was connected anew has forgotten every call: the others are told, before anything
 * else. */
void nats_say_forgotten(struct nats *nats);
void nats_hear_abort(struct nats *nats, const char *from, const char *type, const char *body);

#endif
