/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_WATCHDOG_H
#define ALK_WATCHDOG_H

/* The watchdog of a process that nobody watches (`alknet connect`, `workers = 0`): when the loop
 * has spent `seconds` of processor time on one iteration it will not come back (a server that
 * grants packets of no size makes libssh spin), so the process says so and ends with status 1.
 * Processor time, so that a suspended laptop or a prompt at the terminal is no hang. Costs nothing
 * while the loop runs. */

#include <alknet/loop.h>

/* One a process; uses the loop's wake hook. */
int alk_watchdog_start(struct alk_loop *loop, unsigned seconds, struct alk_err *err);
/* Another limit from now on. Without alk_watchdog_start it means nothing. */
void alk_watchdog_limit(unsigned seconds);

#endif
