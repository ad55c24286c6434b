/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_WORKER_SPAWN_H
#define ALK_WORKER_SPAWN_H

/* Start a worker process: this program executed again, so that it shares no memory with the
 * supervisor. It gets its control socket as fd 3, /dev/null as stdin, our stdout and stderr, and no
 * other descriptor; its signals are as after a boot, but that it ignores SIGINT, SIGTERM and
 * SIGHUP: a terminal or a service manager sends those to the whole group, and a worker obeys its
 * supervisor alone. */

#include <sys/types.h>
#include <alknet/err.h>

#define ALK_WORKER_FD 3
#define ALK_WORKER_EXEC_FAILED 127 /* exit status when it could not be executed */

/* Gives the process in *pid, a descriptor that is readable once it has ended in *pidfd (-1 when the
 * kernel has none: then SIGCHLD tells), and our end of the control socket in *ctl. */
int alk_worker_spawn(pid_t *pid, int *pidfd, int *ctl, struct alk_err *err);

#endif
