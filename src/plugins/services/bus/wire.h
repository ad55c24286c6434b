/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef BUS_WIRE_H
#define BUS_WIRE_H

/* What the halves say to each other: an operation (one byte) and its fields, in the order written
 * here. Numbers are eight bytes, texts and bytes have a length before them, texts a NUL behind.
 * Both halves are of one build. A worker may have been taken over: every message is read to its
 * exact end or thrown away. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

/* name, fields. To the hub, then from it, then from worker to worker by way of the hub. */
#define WIRE_OPS(X)                                                                                \
	X(SUBSCRIBE)   /* tag, replay, since, pattern, group, whose ("" = it has no limit) */      \
	X(UNSUBSCRIBE) /* pattern, group: of one that was answered, and counts */                  \
	X(STOP)	       /* tag: nobody waits for this history; it is answered all the same */       \
	X(EVENT)       /* retain, connection, topic, frame, n, n numbers of groups served */       \
	X(CREDIT)      /* bytes that were taken; both ways */                                      \
	X(REGISTER)    /* tag, connection, spoke, identity, operations as JSON */                  \
	X(GONE)	       /* connection */                                                            \
	X(TO)	       /* worker, bytes of a message below */                                      \
	X(OFFERS)      /* its own operations as JSON: [{name, op_type}] */                         \
	X(SYNC)	       /* connection; from it: the same, behind all that it had said before */     \
	X(COUNTS)      /* each counter of BUS_COUNTERS */                                          \
	X(HELLO)       /* the worker's number */                                                   \
	X(PEERS)       /* whether events are wanted elsewhere; whether there is a backend */       \
	X(REFUSED)     /* connection, topic, why: an event that the backend did not get */         \
	X(REPLAY)      /* tag, recent, frame */                                                    \
	X(SUBSCRIBED)  /* tag, counts, the group's number (0: it is none), code, message */        \
	X(DELIVER)     /* topic, but not to, frame, plain, n, n numbers of groups to serve */      \
	X(LOST)	       /* events that were not delivered */                                        \
	X(REGISTERED)  /* tag, code, message */                                                    \
	X(SPOKE)       /* worker, connection, spoke, identity, operations as JSON */               \
	X(UNSPOKE)     /* spoke */                                                                 \
	X(WORKER_GONE) /* worker */                                                                \
	X(FROM)	       /* worker, bytes of a message below */                                      \
	X(CALL)	       /* call, connection (0 = the worker's own), many, payload, identity */      \
	X(ANSWER)      /* call, type, payload as JSON */                                           \
	X(REMOTE)      /* call, many, type ("" = it is under way), payload: another server's */    \
	X(DESCRIBE)    /* call, operation, identity: to the hub; REMOTE answers */                 \
	X(ABORT)       /* call */

/* SUBSCRIBED: the code is "" where all is well. What was refused counts where it is to be taken
 * back by UNSUBSCRIBE all the same. */

enum wire_op {
	WIRE_NONE,
#define X(id_) WIRE_##id_,
	WIRE_OPS(X)
#undef X
};

/* What an event does to the topic's retained value. */
#define WIRE_RETAIN_NO 0
#define WIRE_RETAIN_KEEP 1
#define WIRE_RETAIN_FORGET 2

/* What a subscriber wants of the past. */
#define WIRE_REPLAY_NO 0
#define WIRE_REPLAY_LAST 1 /* what is retained */
#define WIRE_REPLAY_PAST 2 /* what the backend has of it, from `since` on */

/* To be said. A lack of memory is remembered in `bad`. */
struct wire_out {
	uint8_t *bytes;
	size_t n, size;
	bool bad;
};
void wire_begin(struct wire_out *out, enum wire_op op);
void wire_number(struct wire_out *out, uint64_t n);
void wire_text(struct wire_out *out, const char *text);
void wire_bytes(struct wire_out *out, const void *bytes, size_t n);
/* What another one holds. */
void wire_append(struct wire_out *out, const struct wire_out *part);
void wire_free(struct wire_out *out);

/* Heard; what is read is borrowed. Past the end everything is 0 or "" and `bad` is set. */
struct wire_in {
	const uint8_t *at, *end;
	bool bad;
};
enum wire_op wire_open(struct wire_in *in, const uint8_t *bytes, size_t n);
uint64_t wire_get_number(struct wire_in *in);
const char *wire_get_text(struct wire_in *in);
const uint8_t *wire_get_bytes(struct wire_in *in, size_t *n);
/* Everything was read and nothing was missing. */
bool wire_done(const struct wire_in *in);

/* Messages that have to wait, in order. */
struct wire_waiting {
	STAILQ_ENTRY(wire_waiting) entry;
	size_t n;
	uint8_t bytes[];
};
STAILQ_HEAD(wire_queue, wire_waiting);
/* Copies. False: out of memory. */
bool wire_wait(struct wire_queue *queue, const uint8_t *bytes, size_t n);
/* Wipe and free the first one, or all. */
void wire_heard(struct wire_queue *queue);
void wire_queue_clear(struct wire_queue *queue);

/* FNV-1a, to find by name what came over it. A peer may choose names that collide: what is found so
 * must not cost more than a walk over all, of which there is a bound. */
static inline uint32_t wire_hash(const void *bytes, size_t n)
{
	const uint8_t *at = bytes;
	uint32_t hash = 2166136261u;

	while (n-- > 0)
		hash = (hash ^ *at++) * 16777619u;
	return hash;
}

#endif
