/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_ATTEND_H
#define ALK_ATTEND_H

/* Should a loop that waits for an answer sleep, or look again?
 *
 * To wake a thread, and a processor that has gone to sleep, takes longer than many an answer. A
 * loop that is told to attend stays awake in its next waits: each for at most `max`, and only as
 * long as the wait before it was no longer than that, so that who answers slowly costs no more than
 * one such wait. A thread that stays awake is given no precedence by the kernel, though, and one
 * that was asleep is: as soon as another thread turns out to want the processor, the loop sleeps as
 * it always did, for a while. Pure arithmetic, times in monotonic ns; loop.c does it. */

#include <stdbool.h>
#include <stdint.h>

/* Waits a call is for: a question's answer, the next question, and one for what comes between. */
#define ALK_ATTEND_WAITS 3
/* Giving way took longer: another thread ran. */
#define ALK_ATTEND_CROWDED_NS 20000u
/* For so long nobody is got in the way again. */
#define ALK_ATTEND_SHY_NS 200000000u

struct alk_attend {
	unsigned waits;	    /* that may still be awake */
	uint64_t max;	    /* how long each */
	uint64_t may;	    /* how long the next may: 0 or max */
	uint64_t since;	    /* when the wait under way began; 0 = none is counted */
	uint64_t shy_until; /* others want the processor */
};

/* An answer is expected within `max`. */
void alk_attend_ask(struct alk_attend *attend, uint64_t max, uint64_t now);
/* Before the loop would sleep: shall it look again? `woken`: when it last looked; `came`: something
 * was there. */
bool alk_attend_stays(struct alk_attend *attend, bool came, uint64_t woken, uint64_t now);
/* Nothing was there, and it gave way to other threads from `before` to `now`. */
void alk_attend_gave_way(struct alk_attend *attend, uint64_t before, uint64_t now);

#endif
