/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_IROH_PACKET_H
#define ALKNET_IROH_PACKET_H

/* What alknet-iroh says: a JSON object a packet, of one member, whose name is what it is
 * (crate/src/packet.rs). The helper speaks with the whole world and may have been taken over: what
 * is not exactly that is refused. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <alknet/err.h>
#include "iroh_id.h"

#define IROH_PACKET_MAX ((size_t)64 * 1024)

enum iroh_packet_kind {
	IROH_PACKET_NONE,
	IROH_PACKET_READY,  /* peer (its own id), text (where it is bound) */
	IROH_PACKET_FAILED, /* text */
	IROH_PACKET_LINK,   /* link, dial (0: it was accepted), peer; a descriptor comes with it */
	IROH_PACKET_LOST,   /* dial, text */
	IROH_PACKET_PATH,   /* link, relayed, text (an address, or the relay's URL), rtt_us */
	IROH_PACKET_GONE,   /* link */
	IROH_PACKET_ONLINE, /* text (the relay's URL, "" = none), error */
};

struct iroh_packet {
	enum iroh_packet_kind kind;
	uint64_t link, dial, rtt_us;
	bool relayed;
	uint8_t peer[IROH_ID_BYTES];
	char text[256];
	char error[256];
};

/* 0; -EINVAL: it is no packet. */
int iroh_packet_parse(const uint8_t *bytes, size_t n, struct iroh_packet *packet);

#endif
