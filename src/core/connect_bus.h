/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_CONNECT_BUS_H
#define ALK_CONNECT_BUS_H

/* `alknet connect --bus unix:PATH`: the server's alknet-control as a local socket. Each connection
 * is a channel of its own and outlives the session:
 *
 *                 no session                      up, opened
 *   AWAY ◀──────────────────────── UP ◀──────────────────────── AWAY
 *
 * Frames are passed on as they came. What must be known on a new session is remembered
 * (connect_bus_memory.c): subscriptions and the registration, which are made again; calls of both
 * directions that are under way, which end. What is sent while there is no session waits, each
 * frame for `patience` at most, then its answer is UNAVAILABLE.
 *
 *   connect_bus.c         the socket, its connections, what waits
 *   connect_bus_memory.c  what frames mean; no I/O */

#include <alknet/loop.h>
#include "client.h"

struct alk_bus_front;

/* Listen on `address` ("unix:/PATH"). Borrows all. `wanted` runs when something begins to wait for
 * a session. NULL with `err` that names the option. */
struct alk_bus_front *alk_bus_front_new(struct alk_loop *loop, const char *address,
					uint64_t patience_ms, void (*wanted)(void *user),
					void *user, struct alk_err *err);
/* Closes all; removes the socket. */
void alk_bus_front_free(struct alk_bus_front **front);
/* Who makes channels, for life. */
void alk_bus_front_set_client(struct alk_bus_front *front, struct alk_client *client);
/* Accept from now on. -ENOMEM. */
int alk_bus_front_start(struct alk_bus_front *front);
/* A session is up. */
void alk_bus_front_up(struct alk_bus_front *front);
bool alk_bus_front_waits(const struct alk_bus_front *front);
/* For status and the announcement. */
const char *alk_bus_front_path(const struct alk_bus_front *front);

/* ---- connect_bus_memory.c ---- */

/* Bytes that come at one end and go at the other. */
struct bus_bytes {
	uint8_t *bytes;
	size_t off, len, size; /* from off to len */
};
static inline size_t bus_bytes_n(const struct bus_bytes *b)
{
	return b->len - b->off;
}
/* -ENOMEM. */
int bus_bytes_add(struct bus_bytes *b, const void *bytes, size_t n);
void bus_bytes_take(struct bus_bytes *b, size_t n);
void bus_bytes_deinit(struct bus_bytes *b);

struct bus_memory {
	struct bus_memory_sub *subs;	  /* in the order in which they were made */
	struct bus_memory_sub *spoke;	  /* the registration */
	struct bus_memory_call *calls;	  /* asked for by the local program */
	struct bus_memory_call *serves;	  /* that it works on */
	struct bus_memory_call *leaves;	  /* subscriptions that it ends, not answered yet */
	struct bus_memory_op *operations; /* what is known of them: are answers many? */
	size_t bytes;			  /* of what is kept */
	unsigned n_operations;
	uint64_t last_query;
	bool register_later; /* the name was not free yet: say it again soon */
};

enum bus_pass {
	BUS_PASS, /* hand it on */
	BUS_DROP,
};

/* A whole frame of the local program is handed on to the server. What is to be said to the program
 * goes to `back`; what must go to the server before the frame goes to `before`. */
enum bus_pass bus_memory_up(struct bus_memory *m, const uint8_t *frame, size_t n,
			    struct bus_bytes *back, struct bus_bytes *before);
/* Is this frame of a kind that is remembered, and so need not be kept when it did not go? */
bool bus_memory_knows(const uint8_t *frame, size_t n);
/* One of the server's. */
enum bus_pass bus_memory_down(struct bus_memory *m, const uint8_t *frame, size_t n);
/* The session ended: what ends with it is told. */
void bus_memory_lost(struct bus_memory *m, struct bus_bytes *back);
/* What a new session must hear first. -ENOMEM. */
int bus_memory_again(struct bus_memory *m, struct bus_bytes *up);
/* The registration once more, after register_later. */
int bus_memory_register(struct bus_memory *m, struct bus_bytes *up);
/* A frame waited too long: what is its answer? */
void bus_memory_expire(struct bus_memory *m, const uint8_t *frame, size_t n,
		       struct bus_bytes *back);
/* Has everything been made again? */
bool bus_memory_restored(const struct bus_memory *m);
bool bus_memory_listens(const struct bus_memory *m);
void bus_memory_deinit(struct bus_memory *m);
/* {"type": type, "id": id, "payload": {code, message, retryable}} as a frame. */
void bus_say_error(struct bus_bytes *back, const char *type, const char *id, const char *code,
		   const char *message);

#endif
