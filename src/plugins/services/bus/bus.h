/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef BUS_BUS_H
#define BUS_BUS_H

/* The worker's half of the bus: its channels, what they subscribe to, the calls that go through
 * here.
 *
 *   bus.c        the record of the plugin, options, the channels' operations
 *   bus_conn.c   one channel: frames in, the queue of frames out
 *   local.c      the same for a connection at the local socket
 *   event.c      subscribe, unsubscribe, publish; delivery
 *   request.c    calls that a channel asks for, on the way to who serves them
 *   call.c       calls: what is known of each, its answers, its one end
 *   spoke.c      who serves which operations, here and in other workers; /services, /hub
 *   access.c     who may call what, beside an operation's own scopes
 *   inner.c      operations and members of this worker's own: the policy, other plugins (alknet/bus.h)
 *   half.c       what the hub says
 *   hub*.c       the supervisor's half (hub.h): what is one for all workers
 *   wire.c       messages between the halves
 *   ../common    frames, JSON Schema, and topics: patterns, and the store of who wants what
 *
 * An event goes from the channel it came on straight to this worker's subscribers; the hub gets it
 * too while another worker may have some (PEERS). Subscriptions and registrations hold from the
 * moment that the hub has them, which is before they are answered: a worker that does not know an
 * operation hears the hub out (conn_hear_out) before it says so, because it may have been
 * registered in another worker just now.
 *
 * Start here if you add another way in: it makes connections (conn_new) with a struct conn_way and
 * gives them bytes, as local.c does. */

#include <sys/queue.h>
#include <sys/uio.h>
#include <jansson.h>
#include <alknet/alknet.h>
#include "../common/frame.h"
#include "../common/topic.h"
#include "wire.h"

#define BUS_CONN_MAGIC 0x626e6f63u
#define BUS_ANSWERS_MAX ((size_t)256 << 10) /* queued answers past which a channel is not read */
#define BUS_HUB_WINDOW                                                                             \
	((size_t)4 << 20) /* bytes of events and calls on their way to or from the hub */
#define BUS_INPUT ((size_t)64 << 10)
#define BUS_OUTPUT ((size_t)64 << 10) /* bytes that are written at once */
/* Subscriptions, and places on the way to them, that events may look at before others have their
 * turn. */
#define BUS_WORK_MAX 100000
#define BUS_GROUPS_MAX 65536   /* of all workers; an event has a number for each that it served */
#define BUS_OPERATIONS_MAX 256 /* of a spoke */
#define BUS_OWN_COUNT 3	       /* operations of the hub's own */
#define BUS_NAME_MAX 255       /* bytes of an operation's name */
#define BUS_SPOKE_MAX 64       /* of a spoke's */

/* name, help. Each is alknet_bus_NAME_total. */
#define BUS_COUNTERS(X)                                                                            \
	X(published, "Events that were published.")                                                \
	X(delivered, "Events that were put into a subscriber's queue.")                            \
	X(dropped, "Events that a slow subscriber lost.")                                          \
	X(calls, "Calls that were asked for.")                                                     \
	X(calls_failed, "Calls that ended in an error or were aborted.")                           \
	X(late_answers, "Answers to calls that had ended.")                                        \
	X(invalid_frames, "Frames that were not one and cost their channel.")                      \
	X(denied, "Events, subscriptions and calls that were not allowed.")
enum bus_counter {
#define X(name_, help_) BUS_COUNT_##name_,
	BUS_COUNTERS(X)
#undef X
	BUS_COUNTER_COUNT
};

/* A frame with its length, in the queues of many. */
struct packet {
	unsigned refs;
	bool wiped; /* an answer: it may be somebody's secret */
	size_t n;
	uint8_t bytes[];
};

struct queued {
	struct queued *next;
	struct packet *packet;
	bool event; /* may be dropped */
};

/* An event that waits for a subscription's replay, or is of it. */
struct held {
	TAILQ_ENTRY(held) entry, alike;
	struct packet *packet;
	bool in_alike;
};

/* Bytes of one connection on their way to the hub. */
struct flight {
	struct flight *next;
	uint64_t end; /* bus.said after the last of them */
	size_t n;
};

struct conn;
typedef void conn_then(struct conn *c, bool allowed, const char *reason);

struct group {
	struct topic_sub link; /* in bus.groups' place of the store; first, `is_group` */
	bool is_group;
	uint64_t number;     /* the hub's */
	struct sub *members; /* the next one to serve first */
	unsigned n;
};

/* One subscription of one channel. */
struct sub {
	struct topic_sub link;		     /* in the store, unless in a group */
	bool is_group;			     /* false: see struct group */
	struct conn *conn;		     /* NULL: it has gone before the hub answered */
	struct sub *next, **prev;	     /* of the channel */
	struct sub *group_next, *group_last; /* a ring */
	struct group *group;
	uint64_t tag;	       /* while the hub has not answered */
	LIST_ENTRY(sub) asked; /* as long, of its bucket by this */
	bool told;	       /* the hub has it */
	bool past; /* history of the backend's: what comes meanwhile waits, also from the hub */
	/* What is replayed, and behind it the events that came meanwhile. */
	TAILQ_HEAD(helds, held) held;
	struct held *replayed; /* the last one that is; NULL: none */
	struct helds *alike;   /* of history: buckets of what came meanwhile, by its bytes */
	size_t held_bytes;
	uint64_t missed; /* what there was no room for */
	char *pattern, *group_name, *ref;
};

struct operation {
	char *name; /* "/fs/readFile" */
	char *type; /* query, mutation, subscription */
	json_t *input, *output, *access;
	struct alk_operation *inner; /* of this worker: not a spoke's, and its name is whole */
};

/* A client that serves operations. */
struct spoke {
	struct spoke *next, **prev;
	LIST_ENTRY(spoke) by_name;
	uint64_t worker, connection;
	char *name, *identity;
	struct operation *operations;
	size_t n;
};

struct call {
	struct call *next, **prev; /* of its bucket */
	struct call *caller_next, **caller_prev;
	struct call *server_next, **server_prev;
	uint64_t number;
	struct conn *caller; /* NULL: another worker's */
	char *id;	     /* the caller's */
	uint64_t from_worker, from_number;
	struct call *from_next, **from_prev; /* of its bucket by these; without a caller here */
	struct conn *server;		     /* NULL: in another worker */
	uint64_t to_worker;
	struct alk_operation_call *inner; /* served by this worker itself */
	json_t *output;			  /* its schema */
	/* Of a caller that is elsewhere, while `inner` runs. */
	struct elsewhere *who;
	bool many;	 /* a subscription */
	bool limited;	 /* its deadline is the caller's */
	bool remote;	 /* another server serves it, as far as is known */
	char *describes; /* it asks another server what this operation is */
	struct alk_timer *deadline;
	struct bus *bus;
};

enum conn_state {
	CONN_OPEN,
	CONN_CLOSING,
	CONN_CLOSED
};

/* What a connection stands on. */
struct conn_way {
	/* Bytes taken; short: conn_flush() is called when more would be. -errno. */
	ssize_t (*write)(struct conn *c, const struct iovec *parts, int n);
	/* Hand over what conn_data() did not take, soon. */
	void (*resume)(struct conn *c);
	/* End both directions; the connection is freed from the loop. */
	void (*close)(struct conn *c);
	const struct alk_identity *(*identity)(const struct conn *c);
	/* As alk_channel_ask. */
	int (*ask)(struct conn *c, const struct alk_channel_question *question,
		   void (*done)(void *user, bool allowed, const char *reason), void *user,
		   struct alk_channel_ask **ask);
	void (*forget)(struct conn *c); /* the connection is being freed; may be NULL */
};

struct conn {
	uint32_t magic;
	struct bus *bus;
	struct conn *next, **prev;
	LIST_ENTRY(conn) by_number;
	const struct conn_way *way;
	void *at; /* the way's */
	struct alk_task flush;
	bool blocked; /* the last write was short */
	bool inner;   /* a member of this worker's own (inner.c) */
	uint64_t number;
	enum conn_state state;
	struct frame_reader reader;
	struct alk_timer *timer; /* of a frame that does not arrive */
	struct queued *head, **tail;
	struct queued **oldest; /* nothing that may be dropped stands before it */
	size_t sent;		/* of the head */
	size_t bytes, answers;
	uint64_t dropped, event; /* number of the last event that it got */
	struct sub *subs;
	unsigned n_subs, n_calls;
	struct call *calls, *serves; /* as caller, as server */
	struct spoke *spoke;
	bool registered; /* the hub has a spoke of this channel */
	/* A frame that waits for the policy or the hub; nothing is read meanwhile. */
	struct frame frame;
	struct alk_channel_ask *ask;
	conn_then *then;
	bool waiting, stalled, eof;
	bool heard; /* what the hub had said when the frame came */
	bool in_line, has_turn;
	TAILQ_ENTRY(conn) line;
	double tokens;
	uint64_t tokens_at;
	struct alk_timer *pause;
	struct flight *flights, *last_flight;
	size_t to_hub; /* bytes of all of them */
};

#define BUS_CALL_BUCKETS 1024
#define BUS_CONN_BUCKETS 1024
#define BUS_SPOKE_BUCKETS 1024
#define BUS_TAG_BUCKETS 1024

/* What a local user may be told apart by. */
struct bus_scopes {
	struct bus_scopes *next;
	uid_t uid;
	char **scopes; /* ends with NULL */
};

struct bus {
	struct alk_loop *loop;
	struct bus_scopes *local_scopes;
	uint8_t *input; /* BUS_INPUT bytes that all local connections read into */
	struct alk_half *half;
	/* options */
	size_t frame_max, queue_max;
	unsigned subscriptions_max, calls_max;
	int64_t rate;
	uint64_t call_timeout, frame_timeout;
	bool close_slow;

	uint64_t self; /* this worker's number; 0 = not told yet */
	bool peers, backend;
	struct topics *topics;
	LIST_HEAD(sub_bucket, sub) asked[BUS_TAG_BUCKETS]; /* not answered by the hub */
	struct group **groups;				   /* each at its number - 1 */
	size_t size_groups;
	struct conn *conns;
	LIST_HEAD(conn_bucket, conn) by_number[BUS_CONN_BUCKETS];
	TAILQ_HEAD(, conn) line; /* they wait for a turn */
	struct alk_task turn;
	size_t work;		/* what events looked at since the last turn */
	struct wire_queue late; /* what the hub said, and has to wait because of that */
	struct alk_task hear_late;
	uint64_t last_conn, last_tag, last_call, event;
	struct call *calls[BUS_CALL_BUCKETS];
	struct call *calls_from[BUS_CALL_BUCKETS];
	struct spoke *spokes;
	LIST_HEAD(spoke_bucket, spoke) by_name[BUS_SPOKE_BUCKETS];
	struct operation own[BUS_OWN_COUNT];
	struct access *access;
	struct alk_bus *inner;
	struct operation **operations; /* of this worker */
	size_t n_operations, size_operations;
	uint64_t forbidden, forbidden_at; /* calls since it was logged */
	uint64_t said, taken; /* bytes of events and calls for the hub, in all; of them it took */
	size_t from_hub;      /* bytes that it was not told of yet */
	uint64_t count[BUS_COUNTER_COUNT], told[BUS_COUNTER_COUNT];
	struct alk_timer *tell;
};

/* bus_conn.c */
struct packet *packet_new(const void *bytes, size_t n);
struct packet *packet_ref(struct packet *packet);
void packet_unref(struct packet **packet);
/* A frame of its own making. Takes `payload`. NULL: out of memory. */
struct packet *packet_make(const char *type, const char *id, json_t *payload);
/* Is it a frame that a peer would take: no longer, no deeper? */
bool packet_fits(const struct bus *bus, const struct packet *packet);
/* What was read and not answered yet, as it came. */
struct packet *packet_of(const struct frame_reader *reader);

struct conn *conn_new(struct bus *bus, const struct conn_way *way, void *at);
/* Forget it: ends its subscriptions, its calls, its spoke. */
void conn_free(struct conn **conn);
size_t conn_data(struct conn *c, const uint8_t *bytes, size_t n);
void conn_eof(struct conn *c);
void conn_flush(struct conn *c);
/* Nothing is left that could be said after the peer's EOF? Then it ends. */
void conn_settle(struct conn *c);
/* The frame that it waited with is done; read on. */
void conn_go_on(struct conn *c);
/* Queue a frame; does not take it. Events push out older events; what is not one closes a channel
 * that does not read at all. */
void conn_put(struct conn *c, struct packet *packet, bool event);
/* The same with an envelope. Takes `payload`. */
void conn_say(struct conn *c, const char *type, const char *id, json_t *payload);
void conn_error(struct conn *c, const char *type, const char *id, const char *code,
		const char *message);
void conn_close_slow(struct conn *c);
/* Put the frame to the policy; `then` runs now or later, with c->frame as it is. Nothing is read
 * before. */
void conn_ask(struct conn *c, const struct alk_channel_question *question, conn_then *then);
/* Has this worker heard all that the hub had said when the frame came? False: `then` runs when it
 * has. */
bool conn_hear_out(struct conn *c, conn_then *then);
void conn_heard(struct bus *bus, uint64_t number);
/* May it do what takes long? One connection may in a turn of the loop. False: `then` runs when it
 * may. */
bool conn_take_turn(struct conn *c, conn_then *then);
void conn_turns_init(struct bus *bus);
struct conn *conn_find(const struct bus *bus, uint64_t number);
/* The same for one that is to serve a call: NULL also where no answer can come any more. */
struct conn *conn_server(const struct bus *bus, uint64_t number);
bool code_is_retryable(const char *code);
void bus_count(struct bus *bus, enum bus_counter counter, uint64_t n);
const char *conn_identity(const struct conn *c);
/* NULL: it is none. */
struct alk_channel *conn_channel(const struct conn *c);

/* local.c */
void local_open(struct bus *bus, struct alk_local *local);
/* "USER=SCOPE[,SCOPE]...". -EINVAL with `err`. */
int local_scopes_read(const struct alk_options *options, struct bus_scopes **list,
		      struct alk_err *err);
void local_scopes_free(struct bus_scopes **list);

/* event.c; the frame is c->frame */
void event_subscribe(struct conn *c);
void event_unsubscribe(struct conn *c);
void event_publish(struct conn *c);
/* payload.retain: true keeps the event for those that ask for the last, "forget" forgets what was
 * kept. WIRE_RETAIN_*. */
uint64_t event_retain(const json_t *payload);
/* For inner.c: nobody is asked. */
int event_subscribe_inner(struct conn *c, const char *pattern, const char *group);
int event_publish_inner(struct conn *c, const char *topic, json_t *payload, struct alk_err *err);
/* From the hub: to all plain subscribers if `plain`, and to one of each of `n` groups. */
void event_deliver(struct bus *bus, const char *topic, uint64_t except, struct packet *packet,
		   bool plain, struct wire_in *groups, uint64_t n);
void event_replay(struct bus *bus, uint64_t tag, bool recent, const uint8_t *bytes, size_t n);
void event_refused(struct bus *bus, uint64_t connection, const char *topic, const char *why);
/* `counts`: the hub has it, also if it was refused; `group`: its number, of a group. */
void event_subscribed(struct bus *bus, uint64_t tag, bool counts, uint64_t group, const char *code,
		      const char *message);
void event_lost(struct bus *bus, uint64_t n);
void event_forget(struct conn *c);
/* Those that the hub will not answer any more. */
void event_end(struct bus *bus);

/* request.c */
void request_call(struct conn *c);
/* The channel's `/services/schema` about an operation that this server does not have: ask the
 * others. */
void request_describe(struct conn *c, const char *name);

/* call.c */
/* `caller` NULL: it is elsewhere; `server` NULL: it is elsewhere, or this worker. NULL when out of
 * memory. */
struct call *call_new(struct bus *bus, struct conn *caller, const char *id, struct conn *server);
struct call *call_of_caller(const struct conn *c, const char *id);
/* TIMEOUT after so long. False: out of memory, and the call has ended with that. */
bool call_limit(struct call *call, uint64_t ms);
/* Hand a request to a spoke's channel of this worker; may end the call. Takes `payload`. */
void call_serve(struct call *call, json_t *payload);
/* Tell the caller, and forget the call. Takes `payload`; NULL: there is nobody to tell. */
void call_end(struct call *call, const char *type, json_t *payload);
void call_answered(struct conn *c);
/* From another worker. */
void call_hear(struct bus *bus, uint64_t worker, const uint8_t *bytes, size_t n);
/* Those that it serves; and those that it asked for too. */
void call_forget_served(struct conn *c);
void call_forget(struct conn *c);
void call_worker_gone(struct bus *bus, uint64_t worker);
void call_all_end(struct bus *bus);
void call_fail(struct conn *c, const char *id, const char *code, const char *message);
/* The payload of `call.responded`, which takes `output`; and of `call.error`. */
json_t *call_output(json_t *output);
json_t *call_failure(const char *code, const char *message);

/* spoke.c */
struct operation_at {
	const struct spoke *spoke;
	const struct operation *operation;
};
/* Is it one of the hub's own? Then it was answered, or waits for the hub; `again` is what calls
 * this. */
bool spoke_hub_call(struct conn *c, const char *id, const char *operation, json_t *input,
		    conn_then *again);
bool spoke_find(const struct bus *bus, const char *name, struct operation_at *at);
/* May the channel's identity call it? */
bool spoke_may(const struct conn *c, const struct operation *operation);
bool operation_allows(const struct operation *operation, const struct alk_identity *identity);
void operation_clear(struct operation *o);
/* The output of `/services/schema` for a caller that is elsewhere; NULL: there is nothing for
 * it. */
json_t *spoke_describe(const struct bus *bus, const json_t *input, const struct elsewhere *who);
/* The same of another server, of which only that remains; NULL: it is none. */
json_t *spoke_described(const char *name, const json_t *output);
void spoke_add(struct bus *bus, struct wire_in *in);
void spoke_remove(struct bus *bus, const char *name);
void spoke_registered(struct bus *bus, uint64_t number, const char *code, const char *message);
void spoke_forget(struct conn *c);
void spoke_all_end(struct bus *bus);
/* The hub's own operations. False: out of memory. */
bool spoke_own_start(struct bus *bus);
void spoke_own_end(struct bus *bus);

/* access.c: the option `access`. */
struct access;
int access_read(const struct alk_options *options, struct access **list, struct alk_err *err);
void access_free(struct access **list);
bool access_allows(const struct access *list, const struct alk_identity *identity,
		   const char *operation);

/* inner.c */
int inner_start(struct bus *bus, struct alk_bus *inner);
void inner_stop(struct bus *bus);
const struct operation *inner_find(const struct bus *bus, const char *name);
/* Has an operation of this worker a name below /PART/? */
bool inner_has_part(const struct bus *bus, const char *part);
/* Hand the request to the operation. False: out of memory. */
bool inner_serve(struct call *call, const struct operation *operation, const json_t *input);
/* Tell the hub of the operations. */
void inner_tell(struct bus *bus);
/* A list that ends with NULL, or none, as an array. */
json_t *texts_json(const char *const *list);
/* Who asks, for a server that does not know the channel. NULL: out of memory. */
char *identity_json(const struct conn *c);
/* A caller of another worker or server. */
struct elsewhere *elsewhere_new(const char *identity);
void elsewhere_free(struct elsewhere **who);
const struct alk_identity *elsewhere_identity(const struct elsewhere *who);
/* What `access` says of a program on NATS; of whom else it was asked where the caller is. */
bool elsewhere_may(const struct bus *bus, const struct elsewhere *who, const char *operation);

/* call.c, for inner.c */
void call_inner_answered(void *user, enum alk_operation_answer kind, const char *code,
			 const char *text);

/* half.c */
void half_start(struct bus *bus);
void half_stop(struct bus *bus);
void bus_hear(struct bus *bus, const uint8_t *bytes, size_t n);
/* Say and free; false: it could not be said. */
bool bus_say(struct bus *bus, struct wire_out *out);
/* The same with an event's or a call's bytes, which are on their way until the hub has taken them;
 * `by` may be NULL. */
bool bus_say_by(struct bus *bus, struct conn *by, struct wire_out *out);
bool bus_say_to(struct bus *bus, struct conn *by, uint64_t worker, struct wire_out *out);
/* May it put more on the way to the hub? As much as is free, so that there is always a share left
 * for one more. */
bool conn_has_share(struct conn *c);
void conn_forget_share(struct conn *c);

#endif
