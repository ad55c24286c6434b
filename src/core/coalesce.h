/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_COALESCE_H
#define ALK_COALESCE_H

/* Should a loop that has taken connections look for the next ones at once, or let a few come
 * together first?
 *
 * To be woken costs as much as to take a connection, here and in the worker that gets it. Where
 * they come in crowds one wake-up may serve many, as network cards do it with packets. Nobody who
 * comes alone is kept waiting for that: there is a pause before the next look only after a look
 * that found several, or one who came so soon after the one before him that the worker cannot have
 * answered that one yet (it has more to do than is done here); and as long as pauses bring several.
 * Pure arithmetic, times in ns; tcp_listen.c uses it. */

#include <stdbool.h>
#include <stdint.h>

/* As long as a worker takes for twenty strangers: the last of a crowd waits for no less anyway.
 * Half of it took 1.2 times the CPU where sixteen came at once. */
#define ALK_COALESCE_PAUSE_NS 1000000u

/* A wait for less than so many times what was done before it is no wait for an answer and the next
 * question. */
#define ALK_COALESCE_SOON 2

struct alk_coalesce {
	bool pauses; /* before the next look */
};

/* A look found `n`; the loop had waited for `waited`, and was at work for `worked` before. Pause
 * before the next? */
bool alk_coalesce_look(struct alk_coalesce *coalesce, unsigned n, uint64_t waited, uint64_t worked);

#endif
