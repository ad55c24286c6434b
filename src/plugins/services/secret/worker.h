/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef SECRET_WORKER_H
#define SECRET_WORKER_H

/* The worker's half: which channel waits for which answer, and how many bytes all of them may have.
 *
 *   channel.c   what both ports have in common: bytes in and out, time
 *   port0.c     frames of JSON          port1.c   one binary request
 *   operations.c   the same as port 0 for the bus
 *
 * Requests of more than SECRET_SMALL bytes share a budget: where it is used up a channel is not
 * read until there is room, so that the line to the supervisor never has more than it takes. */

#include "../common/frame.h"
#include "call.h"
#include "secret.h"
#include "parts.h"

#define SECRET_CHANNEL_MAGIC 0x73636861u
#define SECRET_CALLS_MAX 16	/* of one channel that wait */
#define SECRET_TIMEOUT_MS 30000 /* for a request to come, and for an answer to be fetched */
#define SECRET_SMALL 4096	/* bytes of a request that is not counted */

struct secret_channel;

/* A question that went to the supervisor. */
struct secret_ask {
	struct secret_ask *next;
	uint64_t number;
	struct secret_channel *channel;	 /* NULL: it has gone, or there is a call */
	struct alk_operation_call *call; /* of the bus; NULL: it has gone, or there is a channel */
	enum secret_op op;
	size_t bytes; /* of the budget */
	char *id;     /* of a call on port 0; NULL: it was aborted */
};

/* One operation as the bus has it. */
struct secret_operation {
	struct secret_worker *worker;
	enum secret_op op;
	struct alk_operation *offered;
};

struct secret_worker {
	uint32_t magic;
	struct alk_half *half;
	struct alk_loop *loop;
	struct secret_parts parts;
	struct secret_ask *asks;
	struct secret_channel *channels;
	uint64_t last;
	size_t used; /* of the budget */
	struct secret_operation operations[SECRET_OPS];
};

/* operations.c; `bus` may be NULL. */
int secret_operations_offer(struct secret_worker *worker, struct alk_bus *bus, struct alk_err *err);
void secret_operations_withdraw(struct secret_worker *worker);
void secret_operation_answer(struct secret_ask *ask, const uint8_t *bytes, size_t n);
/* Ask the supervisor for a call. -ENOBUFS: the budget is used up; -errno. */
int secret_operation_ask(struct secret_worker *worker, struct alk_operation_call *call,
			 const char *identity, enum secret_op op, const struct secret_buf *request);

/* The two ports. Each is handed bytes and says how many it took, and is told the end and the
 * answers. */
struct secret_port {
	size_t (*data)(struct secret_channel *c, const uint8_t *bytes, size_t n);
	void (*eof)(struct secret_channel *c);
	void (*answer)(struct secret_channel *c, const struct secret_ask *ask, const uint8_t *bytes,
		       size_t n);
};
extern const struct secret_port secret_port0, secret_port1;

struct secret_channel {
	uint32_t magic;
	struct secret_worker *worker;
	struct secret_channel *next, **prev;
	struct alk_channel *channel;
	const struct secret_port *port;
	struct alk_timer *timer;
	struct secret_buf out;
	size_t written;
	unsigned asks;		    /* that wait */
	bool last, ended;	    /* nothing more is answered; all was said */
	bool peer_ended;	    /* it sends no more */
	bool waiting;		    /* for room in the budget */
	struct frame_reader frames; /* port 0 */
	struct secret_buf in;	    /* port 1 */
	size_t reserved;	    /* of the budget */
	bool asked;
};

/* Ask the supervisor; `id` is copied. 0 or -errno. */
int secret_channel_ask(struct secret_channel *c, enum secret_op op, const uint8_t *request,
		       size_t n, const char *id);
/* Queue bytes for the peer; with `last` nothing follows. */
void secret_channel_say(struct secret_channel *c, const void *bytes, size_t n, bool last);
bool secret_channel_may(const struct secret_channel *c, enum secret_op op);
/* Room for a request of `bytes`: false and the channel is resumed later. */
bool secret_channel_reserve(struct secret_channel *c, size_t bytes);

#endif
