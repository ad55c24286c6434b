/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef BUS_HUB_H
#define BUS_HUB_H

/* The supervisor's half of the bus: which workers want what, retained values, the names of spokes.
 * It reads no frame: what a peer sent is bytes here, and goes on as it came. (JSON is read of
 * operations, of calls from and to other servers and for the administrator's tail, as a worker or
 * alknet-nats has written it anew.) One worker at a time is spoken for by its messages alone;
 * events to a worker that does not take them are dropped and counted, never kept.
 *
 *   hub.c         workers, subscriptions, events
 *   hub_share.c   what an identity has of what is everybody's
 *   hub_keep.c    retained values
 *   hub_spoke.c   spokes and calls between workers
 *   hub_operation.c   the operations that are here
 *   hub_local.c   the local socket
 *   hub_call.c    calls that come from outside of the workers
 *   hub_admin.c   commands and metrics */

#include <stdio.h>
#include <sys/queue.h>
#include "bus.h"

#define HUB_WORKERS_MAX 1024
#define HUB_SPOKES_MAX 4096    /* names, of which some are remembered for who had them */
#define HUB_IDENTITY_SPOKES 64 /* of one identity */
/* Bytes of operations: each worker is told of all of them, also at its start, when nothing was read
 * yet. */
#define HUB_SPOKES_BYTES ((size_t)16 << 20)
#define HUB_IDENTITY_BYTES ((size_t)4 << 20)
#define HUB_CALLS_MAX 4096 /* that come from outside of the workers */
#define HUB_CALL_BUCKETS 1024
#define HUB_IDENTITY_GROUPS 8192
/* Bytes that all patterns of an identity may cost here, and what each costs beside its text. */
#define HUB_IDENTITY_WANTS ((size_t)32 << 20)
#define HUB_WANT_BYTES 256
#define HUB_WANT_TOKEN_BYTES 96
#define HUB_SHARE_BUCKETS 1024
/* Bytes that a worker may owe: past it no event, past it no call either, so that events stand in no
 * call's way. */
#define HUB_OWED_EVENTS (2 * BUS_HUB_WINDOW)
#define HUB_OWED_CALLS (4 * BUS_HUB_WINDOW)
#define HUB_OWED_ANSWERS                                                                           \
	(8 * BUS_HUB_WINDOW) /* past it no answer however short, but what ends a call badly */

struct hub_operation {
	char *name;
	bool many;
};

struct hub_operations {
	size_t n;
	struct hub_operation list[]; /* by name */
};

struct hub_worker {
	uint64_t number;
	size_t owed; /* bytes of events and calls that it has not taken */
	uint64_t lost;
	char *offers;		    /* its own operations as JSON */
	struct hub_operations *has; /* the same, read */
	uint64_t from_it;	    /* bytes of its events and calls that it was not paid for */
	struct wire_queue late;	    /* what it said, and has to wait */
	bool peers, backend;	    /* what it was told */
	/* Of the event at hand: */
	bool plain;
	struct wire_out groups;
	uint64_t n_groups;
	uint64_t except; /* a connection that must not get it */
};

struct hub_member {
	uint64_t worker, count;
};

/* What an identity has of what is everybody's. */
struct hub_share {
	LIST_ENTRY(hub_share) entry;
	size_t wants, groups, bytes; /* of the patterns */
	size_t pasts;		     /* histories that are read for it */
	char identity[];
};

/* Who wants a pattern: workers, or as a group one of them. */
struct hub_want {
	struct topic_sub link; /* first */
	TAILQ_ENTRY(hub_want) entry;
	uint64_t nats;		 /* its subscription there */
	char *pattern, *group;	 /* "" = no group */
	uint64_t number;	 /* of a group: how the halves call it */
	uint64_t served;	 /* the last event that one of it got from its own worker */
	struct hub_share *share; /* of who asked for it first; NULL: it has no limit */
	size_t bytes;		 /* what it takes of that */
	struct hub_member *members;
	size_t n, next;
};

struct hub_kept {
	TAILQ_ENTRY(hub_kept) entry; /* the oldest first */
	uint64_t number;	     /* and that has the least */
	char *topic;
	struct packet *packet;
};

struct hub_spoke {
	TAILQ_ENTRY(hub_spoke) entry;
	char *name, *identity, *operations;
	size_t bytes;		     /* of the operations */
	struct hub_operations *has;  /* the operations, read */
	uint64_t worker, connection; /* worker 0: it has gone, the name is its identity's */
};

/* An administrator's `bus.tail`. */
struct hub_admin_tail {
	TAILQ_ENTRY(hub_admin_tail) entry;
	struct hub *hub;
	struct alk_call *call;
	char *pattern;
};

struct hub_call;
struct nats;

struct hub {
	struct alk_loop *loop;
	struct alk_half *half;
	uint64_t call_timeout;
	size_t frame_max;
	struct nats *nats; /* NULL: no backend */
	struct topics *topics;
	struct hub_worker *workers[HUB_WORKERS_MAX];
	size_t n_workers;
	TAILQ_HEAD(, hub_want) wants;
	void *by_name;		  /* the same, for tfind() */
	struct hub_want **groups; /* those that are groups, each at its number - 1 */
	size_t n_groups, size_groups;
	size_t free_group; /* no place before this one is free */
	LIST_HEAD(hub_shares, hub_share) shares[HUB_SHARE_BUCKETS];
	uint64_t event;
	size_t work;		   /* what events looked at since the last turn, as in a worker */
	struct alk_task hear_late; /* of all workers */
	size_t late_turn;	   /* whose it is */
	TAILQ_HEAD(, hub_kept) kept;
	struct hub_kept **by_topic; /* the same, sorted */
	size_t n_kept, size_kept, kept_bytes, kept_max, kept_bytes_max;
	uint64_t last_kept;
	TAILQ_HEAD(, hub_spoke) spokes;
	size_t n_spokes, spokes_bytes;
	TAILQ_HEAD(, hub_admin_tail) tails;
	TAILQ_HEAD(, hub_call) calls;
	LIST_HEAD(hub_calls, hub_call) calls_by_number[HUB_CALL_BUCKETS];
	uint64_t last_call;
	size_t n_calls;
	uint64_t count[BUS_COUNTER_COUNT];
	struct alk_local_listener *local;
	char local_path[128];
	unsigned local_mode;
	gid_t local_gid;
};

struct hub *hub_new(const struct alk_plugin_env *env, struct alk_err *err);
void hub_free(struct hub **hub);
int hub_configure(struct hub *hub, const struct alk_options *options, bool apply,
		  struct alk_err *err);
void hub_worker_up(struct hub *hub, uint64_t worker);
void hub_worker_down(struct hub *hub, uint64_t worker);
void hub_hear(struct hub *hub, uint64_t worker, const uint8_t *bytes, size_t n);
/* Before anything is heard. */
void hub_hear_init(struct hub *hub);
void hub_command(struct hub *hub, const char *name, const char *params, struct alk_call *call);
char *hub_metrics(struct hub *hub);

/* Say and free. */
bool hub_say(struct hub *hub, uint64_t worker, struct wire_out *out);
/* A message of another worker's, or of the hub's own (0), about a call. */
bool hub_say_from(struct hub *hub, uint64_t from, uint64_t worker, const uint8_t *bytes, size_t n);
/* Is there room for a call or an answer? */
bool hub_has_room(const struct hub *hub, uint64_t worker);
struct hub_worker *hub_worker_of(const struct hub *hub, uint64_t number);
/* To all that want it but `from` (NULL: to all); `served` has the numbers of the groups that have
 * it. */
void hub_event(struct hub *hub, const struct hub_worker *from, const char *topic,
	       const uint8_t *frame, size_t n, const struct wire_in *served, uint64_t n_served);
/* From the backend: to all plain subscribers; to one of a group, but not to this connection. */
void hub_event_plain(struct hub *hub, const char *topic, const uint8_t *frame, size_t n);
void hub_event_group(struct hub *hub, struct hub_want *want, const char *topic,
		     const uint8_t *frame, size_t n, uint64_t except_worker,
		     uint64_t except_connection);
/* Answer a subscription that counts; `group` is a group's number, else 0. */
void hub_subscribed(struct hub *hub, uint64_t worker, uint64_t tag, uint64_t group,
		    const char *code, const char *message);
void hub_replay_one(struct hub *hub, uint64_t worker, uint64_t tag, bool recent,
		    const uint8_t *frame, size_t n);
/* Whoever is told of peers is told again if it changed. */
void hub_tell_peers(struct hub *hub);

/* hub_share.c */
/* Made if there is none. NULL: out of memory. */
struct hub_share *hub_share_of(struct hub *hub, const char *identity);
/* Behind whatever was taken from it: freed if that was the last. */
void hub_share_drop(struct hub_share *share);

/* hub_local.c: the local socket. */
/* Can these be its options? */
int hub_local_read(const struct alk_options *options, struct alk_err *err);
int hub_local_check(const struct hub *hub, const struct alk_options *options, struct alk_err *err);
int hub_local_apply(struct hub *hub, const struct alk_options *options, struct alk_err *err);
void hub_local_deinit(struct hub *hub);

/* hub_keep.c */
void hub_keep(struct hub *hub, const char *topic, const uint8_t *frame, size_t n);
void hub_forget(struct hub *hub, const char *topic);
/* One of these, or nothing: as WIRE_RETAIN_* says. */
void hub_retain(struct hub *hub, const char *topic, const uint8_t *frame, size_t n,
		uint64_t retain);
bool hub_is_kept(const struct hub *hub, const char *topic);
void hub_trim(struct hub *hub);
void hub_replay(struct hub *hub, struct hub_worker *to, uint64_t tag, const char *pattern);

/* hub_spoke.c */
void hub_register(struct hub *hub, struct hub_worker *from, struct wire_in *in);
void hub_gone(struct hub *hub, const struct hub_worker *from, uint64_t connection);
void hub_spokes_tell(struct hub *hub, uint64_t worker);
void hub_spokes_down(struct hub *hub, uint64_t worker);
void hub_spokes_deinit(struct hub *hub);
void hub_carry(struct hub *hub, const struct hub_worker *from, struct wire_in *in);

/* hub_nats.c (hub_nats.h); without a backend each does nothing, but hub_nats_call and
 * hub_nats_describe, which fail. */
int hub_nats_check(const struct alk_options *options, struct alk_err *err);
void hub_nats_apply(struct hub *hub, const struct alk_options *options);
void hub_nats_deinit(struct hub *hub);
void hub_nats_want(struct hub *hub, struct hub_want *want);
void hub_nats_unwant(struct hub *hub, struct hub_want *want);
/* False: other servers and the groups do not get it; who published it (a worker's connection) was
 * told. */
bool hub_nats_event(struct hub *hub, uint64_t worker, uint64_t connection, const char *topic,
		    const uint8_t *frame, size_t n, uint64_t retain);
/* A spoke, or a worker (""), has these operations from now on, or until now. */
void hub_nats_has(struct hub *hub, const char *spoke, const struct hub_operations *has);
void hub_nats_has_no_more(struct hub *hub, const char *spoke, const struct hub_operations *has);
void hub_nats_call(struct hub *hub, uint64_t worker, struct wire_in *in);
/* What is an operation of another server? Answered like a call. */
void hub_nats_describe(struct hub *hub, uint64_t worker, struct wire_in *in);
void hub_nats_abort(struct hub *hub, uint64_t worker, struct wire_in *in);
void hub_nats_worker_down(struct hub *hub, uint64_t worker);
/* Fetch history; the subscription is answered behind it. `identity` "" has no limit. NULL, or what
 * is wrong: a code, NUL, a message. */
const char *hub_nats_past(struct hub *hub, uint64_t worker, uint64_t tag, const char *pattern,
			  uint64_t since, const char *identity);
/* The subscription has ended; tag 0: all of the worker's. */
void hub_nats_past_stop(struct hub *hub, uint64_t worker, uint64_t tag);
void hub_nats_metrics(const struct hub *hub, FILE *out);

/* hub_operation.c */
/* NULL: out of memory, or it is no list of operations. */
struct hub_operations *hub_operations_read(const char *text);
void hub_operations_free(struct hub_operations **operations);
/* `operations` may be NULL. */
const struct hub_operation *hub_operations_find(const struct hub_operations *operations,
						const char *name);

/* hub_call.c */
struct hub_target {
	uint64_t worker, connection; /* connection 0: the worker's own operation */
	const char *name; /* as the server knows it; borrowed from the name that was looked for */
	bool many;
};
bool hub_target_find(const struct hub *hub, const char *name, struct hub_target *target);
/* `type` and `payload` as the bus has them; `last`: the call is gone. */
typedef void hub_call_answered(void *user, const char *type, const char *payload, bool last);
/* `identity` is JSON, "" for who may everything; `timeout` in ms, 0 = none. NULL, or what is wrong:
 * a code, NUL, a message. `answered` never runs before this returns. */
const char *hub_call_start(struct hub *hub, const struct hub_target *target, const json_t *input,
			   const char *identity, uint64_t timeout, hub_call_answered *answered,
			   void *user, struct hub_call **out);
/* The first answer of a subscription is the answer, and ends it. */
void hub_call_first(struct hub_call *call);
void hub_call_cancel(struct hub_call **call);
/* The output in the payload of a `call.responded`, as JSON text that the caller frees. NULL: there
 * is none. */
char *hub_call_output(const char *payload);
void hub_answered(struct hub *hub, uint64_t worker, const uint8_t *bytes, size_t n);
void hub_calls_down(struct hub *hub, uint64_t worker);
void hub_calls_deinit(struct hub *hub);

/* hub_admin.c */
void hub_tail(struct hub *hub, const char *topic, const uint8_t *frame, size_t n);
void hub_admin_deinit(struct hub *hub);

#endif
