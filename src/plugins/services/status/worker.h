/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef STATUS_WORKER_H
#define STATUS_WORKER_H

/* A channel's life:
 *
 *   HEAD ──a request──▶ WAITING ──a snapshot──▶ ANSWERED ──all was taken──▶ eof, then the peer's end
 *     │                    └─ for events ─▶ EVENTS: a snapshot each second until the peer goes
 *     └──the page, an error──▶ ANSWERED */

#include "status.h"

enum status_state {
	STATUS_HEAD,
	STATUS_WAITING,
	STATUS_EVENTS,
	STATUS_ANSWERED,
};

struct status_channel {
	uint32_t magic;
	struct status_worker *worker;
	struct status_channel *next, **prev;
	struct alk_channel *channel;
	enum status_state state;
	bool head_only; /* HEAD: no body */
	uint64_t since; /* ms: the deadline's begin */
	size_t in_len, out_len, written;
	char *out; /* what is to be written; NULL: nothing is */
	char in[STATUS_HEAD_MAX];
};

struct status_worker {
	uint32_t magic;
	struct alk_half *half;
	struct alk_loop *loop;
	struct alk_timer *tick;
	struct status_channel *channels;
	unsigned n_channels;
	bool asked; /* a snapshot is under way */
};

/* Ask for a snapshot unless one is awaited. */
void status_worker_ask(struct status_worker *worker);
/* A snapshot for this channel, if it waits for one. */
void status_channel_snapshot(struct status_channel *c, const char *json, size_t n);
/* A second has passed: deadlines. */
void status_channel_tick(struct status_channel *c);

#endif
