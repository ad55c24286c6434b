/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_SUPERVISOR_PRIVATE_H
#define ALK_SUPERVISOR_PRIVATE_H

/* The supervisor's parts, each in a file of its own:
 *
 *   supervisor.c         its life: start, signals, drain, stop
 *   supervisor_slot.c    the workers' places and generations: how they begin and end
 *   supervisor_worker.c  what workers say; penalties; their deaths
 *   supervisor_listen.c  listeners
 *   supervisor_take.c    which links are taken, and when
 *   supervisor_relisten.c  the listeners of another configuration
 *   supervisor_reload.c  another configuration, and the generation of workers that serves with it
 *   supervisor_plugin.c  plugins that are loaded and unloaded at run time
 *   supervisor_proxy.c   links that begin with a PROXY header
 *   supervisor_admin.c   the admin commands that it answers itself, events
 *   supervisor_metrics.c metrics, and whether it is ready
 *   supervisor_query.c   the admin commands that workers answer
 *   supervisor_show.c    the configuration and the keys, shown
 *   supervisor_abuse.c   who is turned away: bans, and what sources did wrong
 *   supervisor_remote.c  remote listeners: which session has which port
 *   supervisor_local.c   local sockets of services
 *   supervisor_upgrade.c another program that takes over
 *   supervisor_half.c    plugins that have a half here (alknet/half.h)
 *
 *   STARTING ──all workers ready──▶ RUNNING ──drain()──▶ DRAINING ──▶ STOPPED
 *       └───────────────── stop() ─────┴──────▶ STOPPING ──all workers gone──▶ STOPPED
 *
 * A generation is a configuration and the workers that were started with it. One takes all new links; one
 * more may be starting (a reload), and those before finish their sessions:
 *
 *   slot:  FREE ──reload──▶ NEW ──all are ready──▶ SERVES ──next reload──▶ LEAVES ──its worker ended──▶ FREE
 *                            └── the reload failed ──────────────────────────▶
 */

#include <assert.h>
#include "admin.h"
#include "ban.h"
#include "limit.h"
#include "linktab.h"
#include "loader.h"
#include "metrics.h"
#include "metrics_http.h"
#include "misdeed.h"
#include "penalty.h"
#include "program.h"
#include "shared.h"
#include "supervisor.h"
#include "turns.h"
#include "worker_proc.h"
#include <alknet/log.h>
#include <alknet/transport.h>

#define ALK_WORKERS_MAX 256 /* of a generation */
#define ALK_SLOTS_MAX 1024
#define ALK_GENERATIONS_MAX                                                                        \
	16 /* that are alive at once; a reload that would make one more is refused */
#define ALK_PLACES_MAX                                                                             \
	(2 * ALK_LISTENERS_MAX) /* those of two configurations, while one follows the other */

enum supervisor_state {
	SUPERVISOR_STARTING,
	SUPERVISOR_RUNNING,
	SUPERVISOR_DRAINING,
	SUPERVISOR_STOPPING,
	SUPERVISOR_STOPPED,
};
const char *supervisor_state_str(enum supervisor_state state);

/* What a generation runs on. */
struct supervisor_setup {
	unsigned refs;
	unsigned slots; /* workers that were started with it and are not gone for good */
	bool halves; /* one reference is that of the services' halves, which live as long as the server */
	uint64_t generation;
	struct alk_conf *conf;
	const struct alk_options *values;
	struct alk_loader *loader;
};

#define SUPERVISOR_LISTENER_MAGIC 0x7473696cu /* "list" */

/* A listener's place; it stays where it is because the listener points to it. */
struct supervisor_listener {
	uint32_t magic; /* 0: the place is free */
	struct alk_supervisor *sup;
	unsigned index;
	struct supervisor_setup
		*setup;		 /* whose instance of the plugin it is; NULL: the place is free */
	char *want;		 /* the address as the configuration has it */
	bool keep, fresh;	 /* while two configurations are compared */
	struct alk_loaded *next; /* the new configuration's instance, if `keep` */
	struct alk_loaded *plugin;
	const struct alk_transport_ops *ops;
	struct alk_listener *listener; /* NULL once it does not listen any more */
	bool paused;
	char transport[16];
	char address[128];
	uint64_t accepted;
};

enum supervisor_slot_role {
	SLOT_FREE,
	SLOT_NEW,
	SLOT_SERVES,
	SLOT_LEAVES,
};

#define SUPERVISOR_SLOT_MAGIC 0x746f6c73u /* "slot" */

/* A worker's place: workers come and go in it. */
struct supervisor_slot {
	uint32_t magic; /* 0: the place is free */
	struct alk_supervisor *sup;
	enum supervisor_slot_role role;
	struct supervisor_setup *setup;
	struct alk_worker_proc *worker; /* NULL: the place is free */
	struct alk_timer *restart; /* SERVES: the next start; LEAVES: the end of our patience */
	uint64_t backoff_ms;
	unsigned links;
	uint64_t
		speaks; /* the worker's number for plugins' halves; 0 while it cannot be spoken to */
};

/* Refused links of one reason since it was last logged. */
struct supervisor_refused {
	uint64_t total, unlogged, logged_at;
	char addr[64];
};

struct supervisor_query;
struct supervisor_watcher;
struct supervisor_proxied;
struct supervisor_reload;
struct supervisor_plugin_change;
struct supervisor_upgrade;
struct supervisor_local;
struct alk_local_listener;

#define SUPERVISOR_MAGIC 0x72707573u /* "supr" */

struct alk_supervisor {
	uint32_t magic;
	struct alk_loop *loop;
	struct supervisor_setup *setup; /* of the generation that serves; the next three are its */
	struct alk_conf *conf;
	const struct alk_options *values;
	struct alk_loader *loader;
	struct alk_loader *halves; /* services that have a half here; on the first configuration */
	struct supervisor_setup *halves_setup;
	uint64_t last_worker;
	enum supervisor_state state;
	int status;
	void (*ready)(void *user);
	void *ready_user;
	void (*over)(void *user); /* instead of stopping the loop, which is a program's */
	void *over_user;
	struct alk_err failed; /* why it could not start */
	uint64_t started, generation;
	uint64_t drain_timeout, shutdown_timeout, penalty_time;
	bool asked_to_end;		  /* by a signal */
	enum supervisor_state told_state; /* to the service manager */
	uint64_t told_sessions, told_at;

	struct supervisor_listener listener[ALK_PLACES_MAX];
	unsigned listeners; /* places that were ever used */
	struct supervisor_slot slot[ALK_SLOTS_MAX];
	unsigned slots,
		next_slot; /* places that were ever used; where to look for the next worker */
	unsigned generations;
	struct alk_task reap;
	bool in_process, level_changed;
	struct alk_program program; /* of the program that has the server in itself */

	struct alk_limit_conf limit_conf;
	struct alk_limit *limit;
	struct alk_turns *turns; /* links that wait for max_handshakes */
	struct alk_penalty *penalty;
	struct alk_bans *bans;
	struct alk_misdeed_conf misdeeds;
	struct alk_cidr exempt[ALK_PENALTY_EXEMPT_MAX]; /* from penalties */
	size_t n_exempt;
	uint64_t misdone[ALK_MISDEED_COUNT];
	struct alk_linktab *links;
	struct alk_shared *shared;	/* of the policies of all generations */
	char *host_key, *host_key_from; /* a plugin's, as an OpenSSH file; NULL: none gave one */
	uint64_t last_link;

	struct alk_metrics dead; /* of workers that are gone */
	uint64_t restarts, hung;
	struct supervisor_refused refused[ALK_REFUSAL_COUNT];

	struct alk_timer *tick, *deadline, *turn, *pause;
	uint64_t tick_ms, ticked_at;
	struct alk_signal *signal[4];

	struct supervisor_reload *reload;
	struct supervisor_plugin_change *change;
	struct supervisor_upgrade *upgrade; /* NULL: none is under way */
	json_t *changed; /* plugins: {NAME: true = loaded, false = unloaded}, at run time; NULL: none ever was */
	struct alk_admin *admin;
	struct alk_metrics_http *metrics_http;
	struct supervisor_remote *remotes;
	struct supervisor_query *queries;
	uint64_t last_query;
	struct supervisor_watcher *watchers;
	struct supervisor_proxied *proxied; /* links whose PROXY header is still to come */
	unsigned nproxied;
	struct alk_local_listener *local_listeners;
	struct supervisor_local *locals; /* connections there */
};

static inline struct alk_supervisor *supervisor_of(void *user)
{
	struct alk_supervisor *sup = user;

	assert(sup->magic == SUPERVISOR_MAGIC);
	return sup;
}

/* supervisor.c */
void supervisor_drain(struct alk_supervisor *sup);
/* STATUS and READY of notify.h. */
void supervisor_tell_manager(struct alk_supervisor *sup);
void supervisor_stop(struct alk_supervisor *sup);
/* `message` to all that live. Takes it. */
void supervisor_broadcast(struct alk_supervisor *sup, json_t *message);
/* No worker is left, or none may be waited for: the loop ends. */
void supervisor_finish(struct alk_supervisor *sup);
/* The same, if the server is leaving and no worker is left. */
void supervisor_check_end(struct alk_supervisor *sup);

/* What the supervisor itself takes from the configuration of the generation that serves. */
void supervisor_adopt(struct alk_supervisor *sup, struct supervisor_setup *setup,
		      const struct alk_limit_conf *limits);
int supervisor_limits(const struct alk_options *values, struct alk_limit_conf *limits,
		      struct alk_err *err);

/* supervisor_slot.c */
/* Takes *conf. NULL with `err`. */
struct supervisor_setup *supervisor_setup_new(struct alk_supervisor *sup, struct alk_conf **conf,
					      struct alk_err *err);
struct supervisor_setup *supervisor_setup_ref(struct supervisor_setup *setup);
void supervisor_setup_unref(struct supervisor_setup **setup);
/* How many workers this configuration wants; what is not in the process is a process. */
unsigned supervisor_want_workers(const struct alk_supervisor *sup,
				 const struct supervisor_setup *setup);
/* Start `n` workers in places of their own. On failure none is left. */
int supervisor_start_workers(struct alk_supervisor *sup, struct supervisor_setup *setup, unsigned n,
			     enum supervisor_slot_role role, struct alk_err *err);
/* Its worker ended and is to be replaced. */
void supervisor_start_later(struct supervisor_slot *slot, uint64_t lived_ms);
/* From now on it takes no links and is given up when its sessions have ended, at `drain_ms` at the
 * latest. */
void supervisor_slot_leave(struct supervisor_slot *slot, uint64_t drain_ms);
/* The place is given back, from the loop, if its worker is gone. */
void supervisor_reap(struct alk_supervisor *sup);
void supervisor_free_slots(struct alk_supervisor *sup);

/* supervisor_worker.c */
extern const struct alk_worker_proc_ops supervisor_worker_ops;
/* Does what a new worker must know besides its configuration. */
void supervisor_tell_new(struct supervisor_slot *slot);
/* Workers no longer penalise links of this address (as alk_limit_key() has it). */
void supervisor_forgive(struct alk_supervisor *sup, const char *key);
/* A link is gone: limits and its worker's count forget it. */
void supervisor_release_link(struct alk_supervisor *sup, uint64_t link);

/* supervisor_listen.c */
int supervisor_listen(struct alk_supervisor *sup, struct alk_err *err);
void supervisor_unlisten(struct alk_supervisor *sup);
/* Accept while a worker is ready to take links and not too many are refused, and not otherwise. */
void supervisor_accept(struct alk_supervisor *sup);
void supervisor_log_listening(struct alk_supervisor *sup);
void supervisor_tell_listening(const struct supervisor_listener *listener);
/* One more listener, in a place of its own; gives the place. */
int supervisor_listen_on(struct alk_supervisor *sup, struct supervisor_setup *setup,
			 const struct alk_conf_listen *want, struct supervisor_listener **out,
			 struct alk_err *err);
/* Close it and give the place back. */
void supervisor_unlisten_free(struct supervisor_listener *listener);

/* supervisor_take.c */
/* The worker that gets the next link; NULL: none takes any. */
struct supervisor_slot *supervisor_pick_worker(struct alk_supervisor *sup);
/* The place of a worker that takes links, or one past all places when there is none. */
int supervisor_serving_slot(const struct alk_supervisor *sup);
/* Is there one? */
bool supervisor_is_served(const struct alk_supervisor *sup);
/* Hear of links that ended and of which the boards alone tell: before links are counted. */
void supervisor_look(const struct alk_supervisor *sup);
/* Apply the limits to a link and hand it to a worker, now or when its turn comes. Takes link->fd.
 * Gives the link's number; 0: it was refused. */
uint64_t supervisor_take_link(struct alk_supervisor *sup, struct alk_link *link);
void supervisor_refuse(struct alk_supervisor *sup, enum alk_refusal why, const char *addr);
/* Hand on those that wait and may begin. */
void supervisor_take_turns(struct alk_supervisor *sup);
/* The server leaves: nobody's turn will come. */
void supervisor_refuse_turns(struct alk_supervisor *sup);
/* Log what was refused and not logged yet, once a second a reason. */
void supervisor_log_refused(struct alk_supervisor *sup);

/* supervisor_relisten.c */
/* Open what the configuration of `setup` has and the running one has not. On failure all is as
 * before. */
int supervisor_relisten_open(struct alk_supervisor *sup, struct supervisor_setup *setup,
			     struct alk_err *err);
/* Close what was opened. */
void supervisor_relisten_undo(struct alk_supervisor *sup);
/* Close what `setup` has no more, hand the others to it. The addresses are added to `opened` and
 * `closed`, the names of plugins whose options need a restart to `restart`. */
void supervisor_relisten_commit(struct alk_supervisor *sup, struct supervisor_setup *setup,
				json_t *opened, json_t *closed, json_t *restart);

/* supervisor_reload.c */
/* What is read again, its admin command, what it means in the log. */
#define SUPERVISOR_RELOADS(X)                                                                      \
	X(ALL, "reload")                                                                           \
	X(POLICY, "policy.reload")                                                                 \
	X(KEYS, "keys.reload")                                                                     \
	X(CHECK, "config.check") /* is read, tried and forgotten */
enum supervisor_reload_kind {
#define X(id_, name_) SUPERVISOR_RELOAD_##id_,
	SUPERVISOR_RELOADS(X)
#undef X
	SUPERVISOR_RELOAD_COUNT
};
int supervisor_reload_init(struct alk_supervisor *sup, struct alk_err *err);
void supervisor_reload_deinit(struct alk_supervisor *sup);
/* Answers `call` (NULL: nobody asked) when it is done or has failed. Several that wait become
 * one. */
void supervisor_reload(struct alk_supervisor *sup, enum supervisor_reload_kind kind,
		       struct alk_admin_call *call);
/* SIGHUP; at most one in SIGNAL_PAUSE_MS. */
void supervisor_reload_signal(struct alk_supervisor *sup);
bool supervisor_reload_busy(const struct alk_supervisor *sup);
/* The next that waits may begin. */
void supervisor_reload_next(struct alk_supervisor *sup);
/* A worker in a place that is NEW is ready, or gone with this sentence. */
void supervisor_reload_ready(struct alk_supervisor *sup);
void supervisor_reload_lost(struct alk_supervisor *sup, const char *why);
/* Give up what is under way and what waits: the server leaves. */
void supervisor_reload_cancel(struct alk_supervisor *sup);
/* For metrics and status. */
struct supervisor_reload_counts {
	uint64_t done, failed;
};
struct supervisor_reload_counts supervisor_reload_counts(const struct alk_supervisor *sup);
/* Add {"option": name}, once. */
void supervisor_restart_add(json_t *restart, const char *name);
/* Names of options that the file says otherwise than the server runs; a new reference. */
json_t *supervisor_reload_restart(const struct alk_supervisor *sup);

/* supervisor_proxy.c */
/* Does a PROXY header come first on this listener's links? Then true: it takes link->fd and hands
 * the link on when the header is there, with the addresses that it says. */
bool supervisor_proxy_expects(struct supervisor_listener *listener, struct alk_link *link);
void supervisor_proxy_deinit(struct alk_supervisor *sup);

/* supervisor_admin.c */
int supervisor_admin_open(struct alk_supervisor *sup, struct alk_err *err);
/* Hear whom `admin_users` names now. */
void supervisor_admin_users(struct alk_supervisor *sup);
void supervisor_admin_close(struct alk_supervisor *sup);
/* Tell those who watch. Takes `event`, which has "event"; adds "time". */
void supervisor_event(struct alk_supervisor *sup, json_t *event);
bool supervisor_watched(const struct alk_supervisor *sup);

/* supervisor_metrics.c */
/* Links whose session is authenticated, as the boards say: what is told in shared memory wakes
 * nobody. */
uint64_t supervisor_authenticated(const struct alk_supervisor *sup);
void supervisor_sum_metrics(const struct alk_supervisor *sup, struct alk_metrics *sum);
/* All of them as text. */
void supervisor_metrics(const struct alk_supervisor *sup, struct alk_metrics_text *out);
/* Why the server takes no links; NULL: it does. */
const char *supervisor_unready(const struct alk_supervisor *sup);
/* metrics_listen, if it is set. */
int supervisor_metrics_open(struct alk_supervisor *sup, struct alk_err *err);

/* supervisor_abuse.c */
/* Take over source_penalties and penalty_exempt. */
void supervisor_abuse_adopt(struct alk_supervisor *sup);
/* Is it in one of the networks that are never penalised? */
bool supervisor_abuse_exempt(const struct alk_supervisor *sup, const char *addr);
/* A link from `addr` ended in this. */
void supervisor_misdeed(struct alk_supervisor *sup, const char *addr, enum alk_misdeed misdeed);
/* NONE, BAN or PENALTY. */
enum alk_refusal supervisor_abuse_judge(struct alk_supervisor *sup, const char *addr);
void supervisor_abuse_metrics(const struct alk_supervisor *sup, struct alk_metrics_text *out);
/* Each answers `call`. */
void supervisor_ban_list(struct alk_supervisor *sup, struct alk_admin_call *call);
void supervisor_ban_add(struct alk_supervisor *sup, struct alk_admin_call *call,
			const json_t *params);
void supervisor_ban_remove(struct alk_supervisor *sup, struct alk_admin_call *call,
			   const json_t *params);

/* supervisor_plugin.c */
/* Load or unload; answers `call` when all workers have done it, or none. */
void supervisor_plugin_change(struct alk_supervisor *sup, struct alk_admin_call *call,
			      const char *name, bool load);
/* A change is under way: no worker may start meanwhile. */
bool supervisor_plugin_busy(const struct alk_supervisor *sup);
void supervisor_plugin_deinit(struct alk_supervisor *sup);
/* For plugin.list: what the supervisor knows; workers add to it. */
json_t *supervisor_plugin_list(const struct alk_supervisor *sup);

/* supervisor_half.c */
/* Give a configuration that is to run the host key that a plugin gave, or take it away. */
int supervisor_half_lend(const struct alk_supervisor *sup, struct alk_conf *conf,
			 struct alk_err *err);
int supervisor_half_open(struct alk_supervisor *sup, struct alk_err *err);
void supervisor_half_close(struct alk_supervisor *sup);
/* plugin.load of a service that has one; and its undoing. */
int supervisor_half_add(struct alk_supervisor *sup, const char *name, struct alk_err *err);
void supervisor_half_remove(struct alk_supervisor *sup, const char *name);
/* Plugins of this loader may speak to workers. */
void supervisor_half_carry(struct alk_supervisor *sup, struct alk_loader *loader);
void supervisor_half_up(struct supervisor_slot *slot);
void supervisor_half_down(struct supervisor_slot *slot);
/* False when there is no such plugin. */
bool supervisor_half_hear(struct supervisor_slot *slot, const char *name, const uint8_t *bytes,
			  size_t n);
/* Will the halves do with this configuration? What needs a restart is added to `restart`. */
int supervisor_half_check(struct alk_supervisor *sup, struct supervisor_setup *setup,
			  json_t *restart, struct alk_err *err);
void supervisor_half_apply(struct alk_supervisor *sup, struct supervisor_setup *setup);
/* "bus.topics" goes to the half of `bus` as `topics`. */
void supervisor_half_command(struct alk_supervisor *sup, struct alk_admin_call *call,
			     const char *method, json_t *params);
void supervisor_half_metrics(const struct alk_supervisor *sup, struct alk_metrics_text *out);

/* supervisor_local.c */
/* Plugins of this loader may have local sockets. */
void supervisor_local_carry(struct alk_supervisor *sup, struct alk_loader *loader);
void supervisor_local_accept(struct alk_supervisor *sup, bool ready);
void supervisor_local_gone(struct alk_supervisor *sup, uint64_t link);
/* Another program has the sockets now. */
void supervisor_local_leave(struct alk_supervisor *sup);
void supervisor_local_deinit(struct alk_supervisor *sup);

/* supervisor_upgrade.c */
/* Answers `call` when another program serves, or will not. */
void supervisor_upgrade(struct alk_supervisor *sup, struct alk_admin_call *call, bool force);
/* It follows, and links that were waiting may have gone. */
void supervisor_upgrade_tick(struct alk_supervisor *sup);
/* The server leaves for another reason. */
void supervisor_upgrade_cancel(struct alk_supervisor *sup);
void supervisor_upgrade_deinit(struct alk_supervisor *sup);
/* This program is the one that follows, and serves. */
void supervisor_upgrade_ready(struct alk_supervisor *sup);

/* supervisor_show.c. New references. */
/* {"options": [{"option", "value", "source"}, ...]} of all, or of one option or plugin. */
json_t *supervisor_show_conf(const struct alk_supervisor *sup, const char *only);
/* {"keys": [{"fingerprint", "type", ...}, ...]} */
json_t *supervisor_show_keys(const struct alk_supervisor *sup);

/* supervisor_query.c */
/* How the answers of several workers become one. */
enum supervisor_merge {
	SUPERVISOR_MERGE_LIST,	  /* lists under `key` are joined */
	SUPERVISOR_MERGE_PLUGINS, /* the same, from our own on, each name once */
	SUPERVISOR_MERGE_FIRST,	  /* the one result is the answer */
	SUPERVISOR_MERGE_ERRORS,  /* {"errors": [sentence], "found": did one say so?} */
};
/* Ask one worker (`slot` >= 0) or all; answers `call` once. `params` is borrowed. */
void supervisor_query(struct alk_supervisor *sup, struct alk_admin_call *call, int slot,
		      const char *method, json_t *params, enum supervisor_merge merge,
		      const char *key);
/* Ask all that answer; `done`, which takes `result` (MERGE_ERRORS), runs once, later, unless the
 * supervisor is freed first. -ENOMEM. */
typedef void supervisor_asked_fn(void *user, json_t *result);
int supervisor_ask(struct alk_supervisor *sup, const char *method, json_t *params,
		   supervisor_asked_fn *done, void *user);
void supervisor_query_reply(struct alk_supervisor *sup, unsigned slot, uint64_t id,
			    json_t *message);
/* This worker will not answer any more; `lost`: what it knew is missing. */
void supervisor_query_gone(struct alk_supervisor *sup, unsigned slot, bool lost);
void supervisor_query_deinit(struct alk_supervisor *sup);

/* supervisor_remote.c */
/* A worker's message about a remote listener; false when it makes no sense. */
bool supervisor_remote_hear(struct alk_supervisor *sup, unsigned worker, const json_t *message);
/* A new worker hears of those that there are; a dead one's are forgotten. */
void supervisor_remote_tell_new(struct alk_supervisor *sup, unsigned worker);
void supervisor_remote_gone(struct alk_supervisor *sup, unsigned worker);
json_t *supervisor_remote_list(const struct alk_supervisor *sup);
void supervisor_remote_deinit(struct alk_supervisor *sup);

#endif
