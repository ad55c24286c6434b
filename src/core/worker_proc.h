/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_WORKER_PROC_H
#define ALK_WORKER_PROC_H

/* One worker as the supervisor sees it: a process (or, with workers = 0, an alk_worker on the same
 * loop), its control socket, its board, its watchdog.
 *
 *           start()            ready                 drain()
 *   DEAD ────────────▶ STARTING ─────▶ READY ─────────────────────▶ DRAINING
 *    ▲                    │              │ stop()                      │
 *    │                    └──────────────┴──────▶ STOPPING ◀───────────┘ stop()
 *    └── ended and its last words read ─── from any of them
 *
 * Nothing that a worker says is believed: it may have been taken over. Fields are checked for type
 * and range, links of other workers are not its to end, and what makes no sense is counted, logged
 * once a second and otherwise ignored. */

#include <jansson.h>
#include <sys/types.h>
#include "board.h"
#include "ctl.h"

struct alk_worker_proc;

enum alk_worker_proc_state {
	ALK_WORKER_DEAD,
	ALK_WORKER_STARTING,
	ALK_WORKER_READY,
	ALK_WORKER_DRAINING,
	ALK_WORKER_STOPPING,
};
const char *alk_worker_proc_state_str(enum alk_worker_proc_state state);

/* How a worker ended. */
struct alk_worker_proc_end {
	pid_t pid;
	bool was_ready; /* in this life */
	bool expected;	/* told to leave, and left in peace */
	bool hung;	/* killed by the watchdog */
	int status;	/* of waitpid(); of alk_worker's `done` as an exit status */
	uint64_t lived_ms;
	int failed_status;  /* what it asked for with `failed`; 0 = it did not */
	const char *failed; /* its sentence, or NULL */
};

/* The supervisor's side. `worker` in all of them is the one that speaks. */
struct alk_worker_proc_ops {
	void (*ready)(void *user, struct alk_worker_proc *worker);
	/* The link's session is authenticated. May be NULL. */
	void (*login)(void *user, struct alk_worker_proc *worker, uint64_t link);
	void (*end)(void *user, struct alk_worker_proc *worker, uint64_t link);
	/* Before `end`: the link was given up for this (misdeed.h). May be NULL. */
	void (*misdeed)(void *user, struct alk_worker_proc *worker, uint64_t link,
			const char *what);
	/* `message` is {id, result | error}, id is checked. */
	void (*reply)(void *user, struct alk_worker_proc *worker, uint64_t id, json_t *message);
	void (*event)(void *user, struct alk_worker_proc *worker, json_t *message);
	/* About remote listeners; false when it makes no sense. May be NULL. */
	bool (*remote)(void *user, struct alk_worker_proc *worker, json_t *message);
	/* A plugin's half speaks; false when there is no such half here. */
	bool (*bytes)(void *user, struct alk_worker_proc *worker, const char *name,
		      const uint8_t *bytes, size_t n);
	/* It hangs and is killed after this; `gone` follows. */
	void (*hung)(void *user, struct alk_worker_proc *worker, const struct alk_board_hand *hand);
	/* DEAD now. Its board can still be read. May start it again. */
	void (*gone)(void *user, struct alk_worker_proc *worker,
		     const struct alk_worker_proc_end *end);
};

/* Not started. NULL when out of memory. */
struct alk_worker_proc *alk_worker_proc_new(struct alk_loop *loop, unsigned index, bool in_process,
					    uint64_t watchdog_ms,
					    const struct alk_worker_proc_ops *ops, void *user);
/* Kills what still runs and waits for it. */
void alk_worker_proc_free(struct alk_worker_proc **worker);

/* Start it with the `start` message (takes the reference; the board's fd goes with it). */
int alk_worker_proc_start(struct alk_worker_proc *worker, json_t *start, struct alk_err *err);
/* What every life of it gets before its start (shared.h); borrowed. */
void alk_worker_proc_share(struct alk_worker_proc *worker, int fd);
/* In this process: the program's operations, for every life of it; borrowed. */
struct alk_program;
void alk_worker_proc_set_program(struct alk_worker_proc *worker, const struct alk_program *program);
/* Send a message; takes `message` and, on failure too, *fd. A worker that cannot take it any more
 * is killed. 0 or -errno. */
int alk_worker_proc_send(struct alk_worker_proc *worker, json_t *message, int *fd);
int alk_worker_proc_send_bytes(struct alk_worker_proc *worker, const char *name, const void *bytes,
			       size_t n);
/* Takes link->fd, also on failure. */
int alk_worker_proc_send_link(struct alk_worker_proc *worker, uint64_t number,
			      struct alk_link *link);
/* Hear of the links that ended and were told on the board alone: `end` is called for each. */
void alk_worker_proc_look(struct alk_worker_proc *worker);
void alk_worker_proc_drain(struct alk_worker_proc *worker, uint64_t timeout_ms);
void alk_worker_proc_stop(struct alk_worker_proc *worker);
void alk_worker_proc_kill(struct alk_worker_proc *worker);
/* The watchdog: call every `elapsed_ms`. */
void alk_worker_proc_tick(struct alk_worker_proc *worker, uint64_t elapsed_ms);

unsigned alk_worker_proc_index(const struct alk_worker_proc *worker);
/* NULL is DEAD. */
enum alk_worker_proc_state alk_worker_proc_state(const struct alk_worker_proc *worker);
pid_t alk_worker_proc_pid(const struct alk_worker_proc *worker);
/* NULL before the first start, and in this process: that has its own, alk_board_self. */
const struct alk_board *alk_worker_proc_board(const struct alk_worker_proc *worker);
/* How long it has been busy with one thing, as far as the watchdog saw. */
uint64_t alk_worker_proc_busy_ms(const struct alk_worker_proc *worker);

#endif
