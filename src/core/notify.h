/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_NOTIFY_H
#define ALK_NOTIFY_H

/* What a service manager is told (sd_notify(3)'s protocol: one datagram a message to
 * NOTIFY_SOCKET), and its watchdog (WATCHDOG_USEC): while the loop runs it hears of it twice in
 * that time. Without such a manager nothing is done. Nothing here blocks: what cannot be sent at
 * once is lost, and sent again with the next. */

#include <alknet/loop.h>

/* Take what stands in the environment, which children then do not see. Once, early in main. */
void alk_notify_init(void);
bool alk_notify_wanted(void);
/* What a program that follows this one is to find in its environment, ended by NULL; ours. */
#define ALK_NOTIFY_VARIABLES 2
void alk_notify_environment(char *env[ALK_NOTIFY_VARIABLES + 1]);
/* From now on that one speaks. */
void alk_notify_end(void);
/* In that one: say nothing while the manager listens to the one before. Once it is over the
 * watchdog is fed a second later, when the manager has heard whose word counts. */
void alk_notify_hold(bool hold);
/* "READY=1\nSTATUS=..." */
void alk_notify(const char *fmt, ...) ALK_PRINTF(1, 2);
/* "RELOADING=1" with the time that newer managers want beside it; READY=1 ends it. */
void alk_notify_reloading(void);
/* Feed the watchdog from this loop on; -ENOMEM. alk_notify_unwatch() before the loop is freed. */
int alk_notify_watch(struct alk_loop *loop);
void alk_notify_unwatch(void);

#endif
