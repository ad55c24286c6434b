/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef BUS_HUB_NATS_H
#define BUS_HUB_NATS_H

/* The hub on NATS: several servers are one bus. docs/BUS.md says how names map. The program alknet-nats (nats_wire.h) speaks
 * with NATS; this is what the hub says to it and does with what it hears. Without the option `backend` nothing
 * of it is there.
 *
 *   hub_nats.c        what goes over NATS: events, retained values, calls
 *   hub_nats_link.c   the program: start it, write to it, start it again
 *   alknet_nats.c     the program
 *   nats_subject.c    names as subjects */

#include <sys/types.h>
#include "hub.h"
#include "nats_wire.h"

#define NATS_SERVER_ID 16

struct nats_link;
struct nats_link_ops {
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
/* Say and free, at once. */
void nats_link_say(struct nats_link *link, struct wire_out *out);
/* The same for what waits until NATS is there. `origin` is for `refused`; false: refused already told. */
bool nats_link_publish(struct nats_link *link, struct wire_out *out, const char *origin);
void nats_link_connected(struct nats_link *link, bool connected);
size_t nats_link_waiting(const struct nats_link *link);
/* Is there such a program? */
int nats_link_check(struct alk_err *err);

#endif
