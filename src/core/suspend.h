/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_SUSPEND_H
#define ALK_SUSPEND_H

/* Time that this process missed: the machine slept, or the process was stopped.
 *
 * Timers run on CLOCK_MONOTONIC, which stands still while a machine sleeps, so none of them
 * notices. CLOCK_BOOTTIME goes on: what it gained on the other is how long the machine slept. A
 * process that was stopped sees both go on and finds that its last look was longer ago than it
 * wanted. The wall clock plays no part: it may be set at any time (it only wakes us, because the
 * kernel tells of a resume as it tells of a clock that was set).
 *
 * connect_keep.c is the user. */

#include <alknet/loop.h>

/* What two looks at the clocks say. Plain memory, for the unit test. */
struct alk_suspend_clocks {
	uint64_t monotonic_ns, boot_ns; /* of the last look; 0 = none yet */
};
/* Milliseconds missed since the last look, which was meant to be no more than `every_ms` ago; in
 * *slept_ms those of them in which CLOCK_MONOTONIC stood still. */
uint64_t alk_suspend_judge(struct alk_suspend_clocks *last, uint64_t monotonic_ns, uint64_t boot_ns,
			   uint64_t every_ms, uint64_t *slept_ms);

struct alk_suspend;
/* Look every five seconds, and when the machine wakes. `missed` runs from the loop when it was
 * ALK_SUSPEND_MIN_MS or more. Gives it to the caller; NULL with `err`. */
struct alk_suspend *alk_suspend_new(struct alk_loop *loop,
				    void (*missed)(void *user, uint64_t ms, uint64_t slept_ms),
				    void *user, struct alk_err *err);
void alk_suspend_free(struct alk_suspend **suspend);
#define ALK_SUSPEND_MIN_MS 1000

#endif
