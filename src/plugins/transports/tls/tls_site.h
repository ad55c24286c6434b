/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_TLS_SITE_H
#define ALKNET_TLS_SITE_H

/* One accepted connection where `stealth` is on: tls_site.c has its life, tls_talk.c carries bytes
 * between it and the state machine of stealth.h. */

#include "tls.h"

/*   FIRST ─TLS─▶ HANDSHAKE ─done─▶ TALK ─one of ours─▶ a pump takes it, freed
 *     ├────────HTTP────────────────▲ ├─stealth_upstream─▶ DIAL ─▶ a pump takes it, freed
 *     └─a CA's check─▶ LINGER ◀─ends─┘
 *                        └─read, or late─▶ freed
 * A peer that goes, or is silent, is freed from any of them. */
enum site_state {
	SITE_FIRST, /* waits for the first byte */
	SITE_HANDSHAKE,
	SITE_TALK, /* bytes go to the state machine and back */
	SITE_DIAL, /* a web server is being connected to */
	SITE_LINGER,
};

struct tls_site {
	uint32_t magic;
	enum site_state state;
	struct tls *tls;
	struct tls_site *next, **prev;
	struct tls_conn conn;
	struct stealth *stealth;
	struct alk_task begin;
	struct alk_timer *timer, *linger_all;
	struct alk_dial *dial;
	struct alk_link link;
	alk_link_fn *done; /* NULL: the core has forgotten it */
	void *user;
	bool plain, ready, wrote, closing;
	bool heard; /* nothing follows the first bytes */
	int available; /* what the kernel still held after a read that filled the room; -1: not known */
	enum stealth_close how;
	uint8_t *out; /* what could not be written yet */
	size_t out_len;
};

/* Make site->stealth. 0 or -ENOMEM. */
int tls_talk_init(struct tls_site *site);
/* As much as there is and fits, both ways. `buffer` is TLS_BUFFER_SIZE. Afterwards look at the
 * machine's state, at `closing` and at `out_len`. */
void tls_talk_turn(struct tls_site *site, uint8_t *buffer);

#endif
