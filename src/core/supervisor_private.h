/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_SUPERVISOR_PRIVATE_H
#define ALK_SUPERVISOR_PRIVATE_H

/* The supervisor's parts, each in a file of its own:
 *
 *   supervisor.c         its life: start, signals, drain, stop
 *   supervisor_worker.c  what workers say; penalties; the workers' deaths and restarts
 *   supervisor_listen.c  listeners, and what happens to a link between accept and its worker
 *   supervisor_admin.c   the admin commands that it answers itself, metrics, events
 *   supervisor_query.c   the admin commands that workers answer
 *
 *   STARTING ──all workers ready──▶ RUNNING ──drain()──▶ DRAINING ──▶ STOPPED
 *       └───────────────── stop() ─────┴──────▶ STOPPING ──all workers gone──▶ STOPPED
 */

#include "admin.h"
#include "limit.h"
#include "linktab.h"
#include "loader.h"
#include "metrics.h"
#include "penalty.h"
#include "supervisor.h"
#include "worker_proc.h"
#include <alknet/log.h>
#include <alknet/transport.h>

#define ALK_WORKERS_MAX 256
#define ALK_LISTENERS_MAX 64

enum supervisor_state {
	SUPERVISOR_STARTING,
	SUPERVISOR_RUNNING,
	SUPERVISOR_DRAINING,
	SUPERVISOR_STOPPING,
	SUPERVISOR_STOPPED,
};
const char *supervisor_state_str(enum supervisor_state state);

struct supervisor_listener {
	struct alk_supervisor *sup;
	unsigned index;
	struct alk_loaded *plugin;
	const struct alk_transport_ops *ops;
	struct alk_listener *listener; /* NULL once it does not listen any more */
	bool paused;
	char transport[16];
	char address[128];
	uint64_t accepted;
};

/* A worker's place: workers come and go in it. */
struct supervisor_slot {
	struct alk_supervisor *sup;
	struct alk_worker_proc *worker;
	struct alk_timer *restart;
	uint64_t backoff_ms;
	unsigned links;
};

/* Refused links of one reason since it was last logged. */
struct supervisor_refused {
	uint64_t total, unlogged, logged_at;
	char addr[64];
};

struct supervisor_query;
struct supervisor_watcher;

struct alk_supervisor {
	struct alk_loop *loop;
	struct alk_conf *conf;
	const struct alk_options *values;
	struct alk_loader *loader;
	enum supervisor_state state;
	int status;
	uint64_t started, generation;
	uint64_t drain_timeout, penalty_time;

	struct supervisor_listener listener[ALK_LISTENERS_MAX];
	unsigned listeners;
	struct supervisor_slot slot[ALK_WORKERS_MAX];
	unsigned slots, next_slot;
	bool in_process, level_changed;

	struct alk_limit_conf limit_conf;
	struct alk_limit *limit;
	struct alk_penalty *penalty;
	struct alk_linktab *links;
	uint64_t last_link;

	struct alk_metrics dead; /* of workers that are gone */
	uint64_t restarts, hung;
	struct supervisor_refused refused[ALK_REFUSAL_COUNT];

	struct alk_timer *tick, *deadline;
	uint64_t tick_ms, ticked_at;
	struct alk_signal *signal[4];

	struct alk_admin *admin;
	struct supervisor_query *queries;
	uint64_t last_query;
	struct supervisor_watcher *watchers;
};

/* supervisor.c */
void supervisor_drain(struct alk_supervisor *sup);
void supervisor_stop(struct alk_supervisor *sup);
/* `message` to all that live. Takes it. */
void supervisor_broadcast(struct alk_supervisor *sup, json_t *message);
/* No worker is left, or none may be waited for: the loop ends. */
void supervisor_finish(struct alk_supervisor *sup);
/* The same, if the server is leaving and no worker is left. */
void supervisor_check_end(struct alk_supervisor *sup);

/* supervisor_worker.c */
int supervisor_make_workers(struct alk_supervisor *sup, struct alk_err *err);
int supervisor_start_workers(struct alk_supervisor *sup, struct alk_err *err);
/* A link is gone: limits and its worker's count forget it. */
void supervisor_release_link(struct alk_supervisor *sup, uint64_t link);

/* supervisor_listen.c */
int supervisor_listen(struct alk_supervisor *sup, struct alk_err *err);
void supervisor_unlisten(struct alk_supervisor *sup);
/* Accept while a worker is ready to take links, and not otherwise. */
void supervisor_accept(struct alk_supervisor *sup);
void supervisor_log_listening(struct alk_supervisor *sup);
/* Log what was refused and not logged yet, once a second a reason. */
void supervisor_log_refused(struct alk_supervisor *sup);

/* supervisor_admin.c */
int supervisor_admin_open(struct alk_supervisor *sup, struct alk_err *err);
void supervisor_admin_close(struct alk_supervisor *sup);
/* Tell those who watch. Takes `event`, which has "event"; adds "time". */
void supervisor_event(struct alk_supervisor *sup, json_t *event);
bool supervisor_watched(const struct alk_supervisor *sup);

/* supervisor_query.c */
/* How the answers of several workers become one. */
enum supervisor_merge {
	SUPERVISOR_MERGE_LIST,	  /* lists under `key` are joined */
	SUPERVISOR_MERGE_PLUGINS, /* the same, from our own on, each name once */
	SUPERVISOR_MERGE_FIRST,	  /* the one result is the answer */
};
/* Ask one worker (`slot` >= 0) or all; answers `call` once. `params` is borrowed. */
void supervisor_query(struct alk_supervisor *sup, struct alk_admin_call *call, int slot,
		      const char *method, json_t *params, enum supervisor_merge merge,
		      const char *key);
void supervisor_query_reply(struct alk_supervisor *sup, unsigned slot, uint64_t id,
			    json_t *message);
/* This worker will not answer any more. */
void supervisor_query_gone(struct alk_supervisor *sup, unsigned slot);
void supervisor_query_free(struct alk_supervisor *sup);

#endif
