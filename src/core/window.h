/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_WINDOW_H
#define ALK_WINDOW_H

/* How wide a channel's receive window should be (RFC 4254 5.2).
 *
 * libssh keeps 1.28 MB open: what one channel carries in a round trip. On a long link that is
 * little, so the window grows with what the channel proves to drain: twice the bytes that its owner
 * took in one round trip, at most doubled at a time, at most 16 MiB. An owner that takes little
 * gets little, and what may be unread with it. On a near link nothing grows. Pure arithmetic;
 * ssh_channel.c does it. */

#include <stdint.h>

#define ALK_WINDOW_BASE 1280000u /* what libssh keeps open by itself */
#define ALK_WINDOW_MAX (16u << 20)
/* What the windows of one session may have beyond the base, all together. */
#define ALK_WINDOWS_SPARE (32u << 20)
/* Round trips shorter than this need no more than the base for a gigabit a second. */
#define ALK_WINDOW_NEAR_MS 10u

struct alk_window {
	uint32_t size;	/* what is asked for */
	uint64_t asked; /* bytes that the owner had taken when it was */
	uint64_t from;	/* bytes that it had taken when a round trip began to be measured */
	uint64_t since; /* and when: loop time, ms */
};

/* So much of it is used up before it is opened again. */
#define ALK_WINDOW_PART 8

void alk_window_init(struct alk_window *window, uint64_t now);
/* The owner has taken `taken` bytes in all. Gives the size that the window should be opened to now,
 * at most base + spare; 0 when there is nothing to do yet, or when what libssh does by itself is
 * enough. */
uint32_t alk_window_next(struct alk_window *window, uint64_t taken, uint64_t now, uint32_t rtt_ms,
			 uint32_t spare);

#endif
