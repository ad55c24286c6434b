/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_LOCAL_H
#define ALKNET_LOCAL_H

/* A unix socket of the server's own machine at which a service is reached without SSH (ABI 1.6).
 *
 * The service's half in the supervisor has it opened; the host accepts, counts connections as it
 * does channels (`max_channels` of one user), and hands each one to the worker with the fewest
 * links. There the service gets it by the operation `local` of its table, and owns the descriptor's
 * bytes from then on.
 *
 *   supervisor   alk_half_listen ─────────────── alk_half_unlisten
 *   worker               local ─ alk_local_login ─ alk_local_ask* ─ alk_local_close */

#include <stddef.h>
#include <sys/types.h>
#include <alknet/half.h>
#include <alknet/service.h>

struct alk_local_listener;

/* Listen on `path` with this mode, as a socket of this group ((gid_t)-1: of the process). A stale
 * socket is replaced, a live one or anything else that stands there is an error; the directory is
 * made if it is missing. `option` is what sentences begin with, borrowed for life. Gives the
 * listener; NULL with `err`. */
ALK_EXPORT struct alk_local_listener *alk_half_listen(struct alk_half *half, const char *option,
						      const char *path, mode_t mode, gid_t gid,
						      struct alk_err *err);
/* Who is connected stays. Removes the socket file if it is still ours. Accepts NULL. */
ALK_EXPORT void alk_half_unlisten(struct alk_local_listener **listener);

/* One connection, in a worker. */
/* Who is there, as the kernel says. */
ALK_EXPORT uid_t alk_local_uid(const struct alk_local *local);
/* A connected, non-blocking stream socket; borrowed. It ends (shutdown) when the worker must
 * leave. */
ALK_EXPORT int alk_local_fd(const struct alk_local *local);
/* Say who that is to policies and services; `scopes` ends with NULL. Copies. Once. 0 or -ENOMEM. */
ALK_EXPORT int alk_local_login(struct alk_local *local, const char *id, const char *const *scopes);
/* What login made; valid for the connection's life. */
ALK_EXPORT const struct alk_identity *alk_local_identity(const struct alk_local *local);
/* As alk_channel_ask; cancel with alk_channel_ask_cancel before the connection is closed. */
ALK_EXPORT int alk_local_ask(struct alk_local *local, const struct alk_channel_question *question,
			     void (*done)(void *user, bool allowed, const char *reason), void *user,
			     struct alk_channel_ask **ask);
/* Close the descriptor and forget it. Accepts NULL. */
ALK_EXPORT void alk_local_close(struct alk_local **local);

#endif
