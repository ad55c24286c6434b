/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_SUPERVISOR_H
#define ALK_SUPERVISOR_H

/* The supervisor: listeners, limits a source, workers and their watchdog, the admin socket,
 * metrics, signals. It never parses a byte that a remote peer sent inside SSH.
 *
 * Workers are this program executed again (/proc/self/exe, argv "alknet worker"), so that each has
 * an address space of its own and nothing of the supervisor's memory; fd 3 is its control socket
 * (ctl.h). A worker that dies is logged, counted and replaced (at once; 1 s, 2 s ... 30 s when it
 * dies within 10 s of its start); its links are gone, the others never notice. */

#include "admin.h"
#include "conf.h"

struct alk_supervisor;

/* Takes conf. Binds listeners, starts workers (workers = 0: one in this process), opens the admin
 * socket. NULL with `err`. Run the loop then. */
struct alk_supervisor *alk_supervisor_new(struct alk_loop *loop, struct alk_conf **conf,
					  struct alk_err *err);
/* Make the configuration anew from where it came (file, flags, environment), for a reload. Gives
 * it, or NULL with `err`. Without such a function (a program that embeds the server) `reload` says
 * that there is none. */
typedef struct alk_conf *alk_supervisor_reread_fn(void *user, struct alk_err *err);
void alk_supervisor_set_reread(struct alk_supervisor *supervisor, alk_supervisor_reread_fn *reread,
			       void *user);
/* Before a reload of one kind reads its files again: change which ones they are, in a copy of the
 * configuration that runs. 0, or -errno with `err`. */
typedef int alk_supervisor_amend_fn(void *user, struct alk_conf *conf, struct alk_err *err);
void alk_supervisor_set_amend(struct alk_supervisor *supervisor, alk_supervisor_amend_fn *amend,
			      void *user);
/* For a program that has the server in itself. `ready` runs once, from the loop, when links are
 * taken. */
void alk_supervisor_set_ready(struct alk_supervisor *supervisor, void (*ready)(void *user),
			      void *user);
/* What is the program's goes to it (program.h, copied), and `over` runs instead of the loop's
 * end. */
struct alk_program;
void alk_supervisor_set_program(struct alk_supervisor *supervisor,
				const struct alk_program *program, void (*over)(void *user),
				void *user);
/* Why it ended before it was ready; "" = it did not. */
const char *alk_supervisor_failed(const struct alk_supervisor *supervisor);
/* Take no more links, end the sessions, stop the loop. */
void alk_supervisor_stop(struct alk_supervisor *supervisor);
/* "HOST:PORT" of the n-th listener, NULL past the last. */
const char *alk_supervisor_address(const struct alk_supervisor *supervisor, unsigned n);
const char *alk_supervisor_transport(const struct alk_supervisor *supervisor, unsigned n);
/* A command of the admin socket without one; alk_admin_local() says how it is answered. */
int alk_supervisor_request(struct alk_supervisor *supervisor, const char *method, json_t *params,
			   alk_admin_local_fn *answer, void *user);
/* Is its answer a stream, so that more than one comes? */
bool alk_supervisor_streams(const char *method);
void alk_supervisor_free(struct alk_supervisor **supervisor);
/* Exit status once the loop has stopped. */
int alk_supervisor_status(const struct alk_supervisor *supervisor);

#endif
