/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_BACKOFF_H
#define ALK_BACKOFF_H

/* How long to wait before trying again: first_ms, twice as long each time, max_ms at most. Each
 * wait is shortened by up to a quarter at random, so that clients that lost one server do not come
 * back as one. Plain memory, no clock. */

#include <stdint.h>

struct alk_backoff {
	uint64_t first_ms, max_ms;
	uint64_t next_ms; /* of the next wait, before it is shortened; 0 = first_ms */
};

/* The next wait in ms; from three quarters of its length to all of it. */
uint64_t alk_backoff_next(struct alk_backoff *backoff);
/* It worked: begin again. */
void alk_backoff_reset(struct alk_backoff *backoff);
/* `ms` shortened as the waits are. */
uint64_t alk_backoff_jitter(uint64_t ms);

#endif
