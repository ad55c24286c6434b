/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef BUS_ALKNET_NATS_H
#define BUS_ALKNET_NATS_H

/* What the files of the program alknet-nats are to each other. nats_wire.h has what the hub says to it
 * and what it answers; a new word of the hub's is heard by hear() in alknet_nats.c.
 *
 *   alknet_nats.c          the program: the connection, subscriptions, what is published
 *   alknet_nats_stream.c   the stream that keeps the durable topics
 *   alknet_nats_past.c     histories, which are read out of it
 *
 * The hub is heard by one thread, from which everything that takes a `wire_in` is called. All else may
 * be called from any: libnats has its own, and so has each history. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <nats/nats.h>
#include "nats_wire.h"
#include "wire.h"

#define ALKNET_NATS_WAIT_MS 5000 /* for JetStream */
#define ALKNET_NATS_RETRY_MAX_MS 5000

/* ---- alknet_nats.c ---- */

extern struct alknet_nats {
	natsConnection *connection; /* NULL until the hub has said START */
	jsCtx *_Atomic js;	    /* NULL until the first try to connect has ended */
} alknet_nats;

void alknet_nats_begin(struct wire_out *out, enum nats_op op);
/* Say to the hub, and free. */
void alknet_nats_say(struct wire_out *out);
void alknet_nats_say_lost(uint64_t n, const char *text);
/* Topic and frame of a body. `prefix` NULL: its subject may be any. Returns NULL, or what is wrong
 * with it. */
const char *alknet_nats_put_frame(struct wire_out *out, const void *body, size_t n,
				  const char *prefix, const char *subject);

/* ---- alknet_nats_stream.c ---- */

/* STREAM: make it now if NATS is there. */
void alknet_nats_stream_set(struct wire_in *in);
/* NATS is there: until the stream is, or for a while. At once where there are no durable topics. */
void alknet_nats_stream_wait(void);

/* ---- alknet_nats_past.c ---- */

/* PAST, UNPAST */
void alknet_nats_past_start(struct wire_in *in);
void alknet_nats_past_stop(struct wire_in *in);

#endif
