/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "supervisor_private.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include "loop_private.h"
#include "notify.h"
#include "proxy.h"
#include "watchdog.h"

#define STOP_MS 3000	    /* how long a worker may take to stop */
#define DRAIN_GRACE_MS 5000 /* past drain_timeout, which workers keep themselves */
#define TICK_MS 1000

const char *supervisor_state_str(enum supervisor_state state)
{
	static const char *const text[] = {
		[SUPERVISOR_STARTING] = "starting", [SUPERVISOR_RUNNING] = "running",
		[SUPERVISOR_DRAINING] = "draining", [SUPERVISOR_STOPPING] = "stopping",
		[SUPERVISOR_STOPPED] = "stopped",
	};

	return text[state];
}

void supervisor_broadcast(struct alk_supervisor *sup, json_t *message)
{
	for (unsigned i = 0; i < sup->slots; i++)
		if (alk_worker_proc_state(sup->slot[i].worker) != ALK_WORKER_DEAD)
			alk_worker_proc_send(sup->slot[i].worker, json_incref(message), NULL);
	json_decref(message);
}

/* The end of all */

void supervisor_finish(struct alk_supervisor *sup)
{
	if (sup->state == SUPERVISOR_STOPPED)
		return;
	sup->state = SUPERVISOR_STOPPED;
	alk_timer_stop(sup->deadline);
	if (sup->over != NULL)
		sup->over(sup->over_user);
	else
		alk_loop_stop(sup->loop);
}

/* Leaving, and no worker is left? */
void supervisor_check_end(struct alk_supervisor *sup)
{
	if (sup->state != SUPERVISOR_DRAINING && sup->state != SUPERVISOR_STOPPING)
		return;
	for (unsigned i = 0; i < sup->slots; i++)
		if (alk_worker_proc_state(sup->slot[i].worker) != ALK_WORKER_DEAD)
			return;
	supervisor_finish(sup);
}

/* What `systemctl status` shows, when it changed; sessions at most once in five seconds. */
void supervisor_tell_manager(struct alk_supervisor *sup)
{
	uint64_t now = alk_loop_now(sup->loop), sessions;

	if (!alk_notify_wanted() || sup->state == SUPERVISOR_STARTING)
		return;
	sessions = supervisor_authenticated(sup);
	if (sup->state == sup->told_state &&
	    (sessions == sup->told_sessions || now - sup->told_at < 5000))
		return;
	if (sup->state == SUPERVISOR_RUNNING)
		alk_notify("%sSTATUS=%llu sessions",
			   sup->told_state == SUPERVISOR_STARTING ? "READY=1\n" : "",
			   (unsigned long long)sessions);
	else
		alk_notify("STOPPING=1\nSTATUS=%s: %llu sessions", supervisor_state_str(sup->state),
			   (unsigned long long)sessions);
	sup->told_state = sup->state;
	sup->told_sessions = sessions;
	sup->told_at = now;
}

static void supervisor_leave(struct alk_supervisor *sup, enum supervisor_state state,
			     uint64_t deadline_ms)
{
	sup->state = state;
	supervisor_tell_manager(sup);
	supervisor_unlisten(sup);
	supervisor_refuse_turns(sup);
	for (unsigned i = 0; i < sup->slots; i++)
		if (sup->slot[i].restart != NULL)
			alk_timer_stop(sup->slot[i].restart);
	alk_timer_start(sup->deadline, deadline_ms);
	supervisor_reload_cancel(sup);
	supervisor_upgrade_cancel(sup);
}

void supervisor_stop(struct alk_supervisor *sup)
{
	if (sup->state >= SUPERVISOR_STOPPING)
		return;
	alk_log(ALK_LOG_INFO, "stopping");
	supervisor_leave(sup, SUPERVISOR_STOPPING, STOP_MS);
	for (unsigned i = 0; i < sup->slots; i++)
		if (sup->slot[i].worker != NULL)
			alk_worker_proc_stop(sup->slot[i].worker);
	supervisor_check_end(sup);
}

static void drain_for(struct alk_supervisor *sup, uint64_t ms)
{
	if (sup->state >= SUPERVISOR_DRAINING)
		return;
	alk_log(ALK_LOG_INFO, "draining", ALK_INT("links", alk_limit_links(sup->limit)));
	supervisor_leave(sup, SUPERVISOR_DRAINING, ms + DRAIN_GRACE_MS);
	for (unsigned i = 0; i < sup->slots; i++)
		if (sup->slot[i].worker != NULL)
			alk_worker_proc_drain(sup->slot[i].worker, ms);
	supervisor_check_end(sup);
}

void supervisor_drain(struct alk_supervisor *sup)
{
	drain_for(sup, sup->drain_timeout);
}

static void on_deadline(void *user)
{
	struct alk_supervisor *sup = supervisor_of(user);

	if (sup->state == SUPERVISOR_DRAINING) {
		supervisor_stop(sup);
		return;
	}
	for (unsigned i = 0; i < sup->slots; i++) {
		if (alk_worker_proc_state(sup->slot[i].worker) == ALK_WORKER_DEAD)
			continue;
		alk_log(ALK_LOG_WARN, "worker did not stop in time", ALK_INT("worker", i));
		alk_worker_proc_kill(sup->slot[i].worker);
	}
	alk_timer_start(sup->deadline, STOP_MS);
}

static void on_signal(void *user, int signo)
{
	struct alk_supervisor *sup = supervisor_of(user);

	if (signo == SIGHUP)
		supervisor_reload_signal(sup);
	if (signo != SIGTERM && signo != SIGINT)
		return;
	if (sup->state >= SUPERVISOR_STOPPING || sup->asked_to_end)
		supervisor_finish(sup); /* the second one: at once */
	else if (sup->shutdown_timeout > 0 && sup->state <= SUPERVISOR_RUNNING)
		drain_for(sup, sup->shutdown_timeout);
	else
		supervisor_stop(sup);
	sup->asked_to_end = true;
}

static void on_tick(void *user)
{
	struct alk_supervisor *sup = supervisor_of(user);
	uint64_t now = alk_loop_now(sup->loop), elapsed = now - sup->ticked_at;

	/* A tick that comes late was late because this process stood still; so did the workers,
	 * maybe. */
	if (elapsed > 2 * sup->tick_ms)
		elapsed = 2 * sup->tick_ms;
	sup->ticked_at = now;
	for (unsigned i = 0; i < sup->slots; i++)
		if (sup->slot[i].worker != NULL)
			alk_worker_proc_tick(sup->slot[i].worker, elapsed);
	supervisor_log_refused(sup);
	supervisor_tell_manager(sup);
	supervisor_upgrade_tick(sup);
	alk_timer_start(sup->tick, sup->tick_ms);
}

/* Out of the callbacks of the workers that are gone. */
static void on_reap(void *user)
{
	supervisor_reap(supervisor_of(user));
}

/* Handshakes may begin again. */
static void on_turn(void *user)
{
	supervisor_take_turns(supervisor_of(user));
}

static void on_pause_end(void *user)
{
	supervisor_accept(supervisor_of(user));
}

/* Beginning */

static int make_parts(struct alk_supervisor *sup, struct alk_err *err)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1};

	sup->limit = alk_limit_new(&sup->limit_conf);
	sup->turns = alk_turns_new();
	sup->penalty = alk_penalty_new();
	sup->bans = alk_bans_new();
	sup->links = alk_linktab_new();
	sup->tick = alk_timer_new(sup->loop, "supervisor tick", on_tick, sup);
	sup->deadline = alk_timer_new(sup->loop, "supervisor deadline", on_deadline, sup);
	sup->turn = alk_timer_new(sup->loop, "supervisor turn", on_turn, sup);
	sup->pause = alk_timer_new(sup->loop, "supervisor pause", on_pause_end, sup);
	if (sup->limit == NULL || sup->turns == NULL || sup->penalty == NULL || sup->bans == NULL ||
	    sup->links == NULL || sup->tick == NULL || sup->deadline == NULL || sup->turn == NULL ||
	    sup->pause == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	sup->shared = alk_shared_new(err);
	if (sup->shared == NULL)
		return -ENOMEM;
	for (size_t i = 0;
	     i < sizeof(signals) / sizeof(signals[0]) && !alk_loop_is_guest(sup->loop); i++) {
		sup->signal[i] = alk_signal_new(sup->loop, signals[i], "supervisor signal",
						on_signal, sup);
		if (sup->signal[i] == NULL)
			return alk_err_set(err, -ENOMEM, "out of memory");
	}
	sup->reap = (struct alk_task){.fn = on_reap, .user = sup};
	return supervisor_reload_init(sup, err);
}

int supervisor_limits(const struct alk_options *values, struct alk_limit_conf *limits,
		      struct alk_err *err)
{
	int64_t rate = alk_options_int(values, "max_handshakes");
	struct alk_max_startups startups = {0};
	int rc;

	limits->handshakes = (unsigned)rate;
	limits->per_address = (unsigned)alk_options_int(values, "max_connections_per_ip");
	limits->sessions = (unsigned)alk_options_int(values, "max_sessions");
	rc = alk_max_startups_parse(alk_options_str(values, "max_startups"), &startups, err);
	limits->start = startups.start;
	limits->rate = startups.rate;
	limits->full = startups.full;
	return rc;
}

void supervisor_adopt(struct alk_supervisor *sup, struct supervisor_setup *setup,
		      const struct alk_limit_conf *limits)
{
	struct supervisor_setup *before = sup->setup;
	uint64_t watchdog = (uint64_t)alk_options_int(setup->values, "watchdog_timeout");

	sup->setup = supervisor_setup_ref(setup);
	sup->generation = setup->generation;
	sup->conf = setup->conf;
	sup->values = setup->values;
	sup->loader = setup->loader;
	sup->limit_conf = *limits;
	if (sup->limit != NULL)
		alk_limit_set(sup->limit, limits);
	sup->drain_timeout = (uint64_t)alk_options_int(sup->values, "drain_timeout");
	sup->shutdown_timeout = (uint64_t)alk_options_int(sup->values, "shutdown_timeout");
	sup->penalty_time = (uint64_t)alk_options_int(sup->values, "penalty_time");
	sup->tick_ms = watchdog / 5 < TICK_MS ? watchdog / 5 : TICK_MS;
	if (sup->in_process)
		alk_watchdog_limit((unsigned)((watchdog + 999) / 1000));
	supervisor_abuse_adopt(sup);
	supervisor_admin_users(sup);
	/* Checked with the rest of the configuration; with workers in the process it is set there,
	 * to the same. */
	alk_proxy_set(sup->loop, alk_options_str(sup->values, "proxy"), NULL);
	supervisor_setup_unref(&before);
}

static int supervisor_init(struct alk_supervisor *sup, struct alk_conf **conf, struct alk_err *err)
{
	struct supervisor_setup *setup = supervisor_setup_new(sup, conf, err);
	struct alk_limit_conf limits;
	int rc;

	if (setup == NULL)
		return -EINVAL;
	rc = supervisor_limits(setup->values, &limits, err);
	if (rc == 0) {
		sup->in_process = alk_options_int(setup->values, "workers") == 0;
		supervisor_adopt(sup, setup, &limits);
		alk_loop_may_pause(sup->loop, !sup->in_process);
	}
	supervisor_setup_unref(&setup);
	if (rc != 0)
		return rc;
	rc = make_parts(sup, err);
	if (rc == 0)
		rc = supervisor_listen(sup, err);
	if (rc == 0)
		rc = supervisor_half_open(sup, err);
	if (rc == 0)
		rc = supervisor_admin_open(sup, err);
	if (rc == 0)
		rc = supervisor_metrics_open(sup, err);
	if (rc == 0)
		rc = supervisor_start_workers(sup, sup->setup,
					      supervisor_want_workers(sup, sup->setup), SLOT_SERVES,
					      err);
	return rc;
}

struct alk_supervisor *alk_supervisor_new(struct alk_loop *loop, struct alk_conf **conf,
					  struct alk_err *err)
{
	struct alk_supervisor *sup = calloc(1, sizeof(*sup));

	if (sup == NULL) {
		alk_conf_free(conf);
		alk_err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	sup->magic = SUPERVISOR_MAGIC;
	sup->loop = loop;
	sup->started = sup->ticked_at = alk_loop_now(loop);
	if (supervisor_init(sup, conf, err) != 0) {
		alk_supervisor_free(&sup);
		return NULL;
	}
	alk_timer_start(sup->tick, sup->tick_ms);
	return sup;
}

void alk_supervisor_free(struct alk_supervisor **supp)
{
	struct alk_supervisor *sup = *supp;

	*supp = NULL;
	if (sup == NULL)
		return;
	supervisor_reload_deinit(sup);
	alk_task_cancel(sup->loop, &sup->reap);
	for (unsigned i = 0; i < sup->listeners; i++)
		supervisor_unlisten_free(&sup->listener[i]);
	supervisor_free_slots(sup);
	supervisor_half_close(sup);
	supervisor_upgrade_deinit(sup);
	supervisor_proxy_deinit(sup);
	supervisor_local_deinit(sup);
	supervisor_query_deinit(sup);
	supervisor_plugin_deinit(sup);
	supervisor_remote_deinit(sup);
	supervisor_admin_close(sup);
	alk_metrics_http_free(&sup->metrics_http);
	for (size_t i = 0; i < sizeof(sup->signal) / sizeof(sup->signal[0]); i++)
		alk_signal_free(&sup->signal[i]);
	alk_timer_free(&sup->tick);
	alk_timer_free(&sup->deadline);
	alk_timer_free(&sup->turn);
	alk_timer_free(&sup->pause);
	alk_linktab_free(&sup->links);
	alk_penalty_free(&sup->penalty);
	alk_bans_free(&sup->bans);
	alk_turns_free(&sup->turns);
	alk_limit_free(&sup->limit);
	alk_shared_free(&sup->shared);
	supervisor_setup_unref(&sup->setup);
	sup->magic = 0;
	free(sup);
}

void alk_supervisor_set_ready(struct alk_supervisor *sup, void (*ready)(void *user), void *user)
{
	sup->ready = ready;
	sup->ready_user = user;
}

void alk_supervisor_set_program(struct alk_supervisor *sup, const struct alk_program *program,
				void (*over)(void *user), void *user)
{
	sup->program = *program;
	sup->over = over;
	sup->over_user = user;
}

const char *alk_supervisor_failed(const struct alk_supervisor *sup)
{
	return sup->failed.text;
}

const char *alk_supervisor_transport(const struct alk_supervisor *sup, unsigned n)
{
	return n < sup->listeners ? sup->listener[n].transport : NULL;
}

void alk_supervisor_stop(struct alk_supervisor *sup)
{
	supervisor_stop(sup);
}

const char *alk_supervisor_address(const struct alk_supervisor *sup, unsigned n)
{
	return n < sup->listeners ? sup->listener[n].address : NULL;
}

int alk_supervisor_status(const struct alk_supervisor *sup)
{
	return sup->status;
}
