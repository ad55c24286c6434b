/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_WORKER_H
#define ALK_WORKER_H

/* A worker: gets links from the supervisor, runs the transport's handshake, SSH, the policy and the
 * services on them. All state of its sessions is here and dies with it. */

#include <alknet/loop.h>

struct alk_worker;

/* Takes *fd, the control socket. Waits for `start`, then drops privileges unless `in_process`
 * (workers = 0), and says `ready`. When it is done (stop, drained, control socket gone) `done`
 * runs, once, from the loop. */
struct alk_worker *alk_worker_new(struct alk_loop *loop, int *fd, bool in_process,
				  void (*done)(void *user, int status), void *user,
				  struct alk_err *err);
/* In this process alone, before `start`: borrows for life. */
struct alk_program;
void alk_worker_set_program(struct alk_worker *worker, const struct alk_program *program);
void alk_worker_free(struct alk_worker **worker);

#endif
