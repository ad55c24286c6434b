/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_UPGRADE_H
#define ALK_UPGRADE_H

/* A program that is followed by another, which may be of another version: `alknet-admin upgrade`.
 * Here is what the two processes have to do with each other; supervisor_upgrade.c has what it means
 * for the server.
 *
 *   before                                             after
 *   alk_upgrade_start: executes the file of the name
 *   that it was itself started from, with the same
 *   arguments; the sockets by LISTEN_FDS (inherited.h),
 *   a socket for one line in ALKNET_UPGRADE_FD ───────▶ alk_upgrade_init
 *                                                      starts as ever, on the same sockets
 *   alk_upgrade_fn  ◀── "ready VERSION", or why not ── alk_upgrade_ready, alk_upgrade_failed
 *
 * A signal that comes in between waits until the new process listens for it; the new process is
 * nobody's child: what is done in its own name (a service manager's supervision) outlives the old
 * one. */

#include <stdbool.h>
#include <sys/types.h>
#include <alknet/loop.h>

struct alk_upgrade;

/* What the new process said: its version, or (NULL) why it is not there. Runs once, from the loop;
 * then the upgrade is over, and alk_upgrade_free() may be called there. */
typedef void alk_upgrade_fn(void *user, pid_t pid, const char *version, const char *why);

/* Remember how the program was started, and whether it follows another. Once, early in main;
 * argv[0] is the subcommand; what is in `argv` is borrowed for life. -ENOMEM. */
int alk_upgrade_init(int argc, char **argv);
void alk_upgrade_deinit(void);
/* May a program be executed that follows this one? -errno with `err`, which names the file. */
int alk_upgrade_check(struct alk_err *err);
/* Execute it with these sockets and names, at most ALK_INHERITED_MAX. NULL with `err`. */
struct alk_upgrade *alk_upgrade_start(struct alk_loop *loop, const int *fds,
				      const char *const *names, size_t n, alk_upgrade_fn *fn,
				      void *user, struct alk_err *err);
/* Before `fn` ran: the new process is ended. */
void alk_upgrade_free(struct alk_upgrade **upgrade);

/* In the new process: the one before still serves, because this one is not ready or has failed. */
bool alk_upgrade_pending(void);
/* It serves: the one before may go. */
void alk_upgrade_ready(void);
/* It will not. Nothing when nobody waits for it. */
void alk_upgrade_failed(const char *why);

#endif
