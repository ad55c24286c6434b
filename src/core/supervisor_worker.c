/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "supervisor_private.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "log_private.h"
#include "worker_spawn.h"

#define SHORT_LIFE_MS 10000
#define BACKOFF_MIN_MS 1000
#define BACKOFF_MAX_MS 30000
#define TICK_MS 1000

static struct supervisor_slot *slot_of(struct alk_supervisor *sup,
				       const struct alk_worker_proc *worker)
{
	return &sup->slot[alk_worker_proc_index(worker)];
}

/* What workers say */

static void supervisor_log_limit(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0)
		alk_log(ALK_LOG_INFO, "file descriptors",
			ALK_INT("limit", (int64_t)files.rlim_cur));
}

static bool all_ready(const struct alk_supervisor *sup)
{
	for (unsigned i = 0; i < sup->slots; i++)
		if (alk_worker_proc_state(sup->slot[i].worker) != ALK_WORKER_READY)
			return false;
	return true;
}

static void on_worker_ready(void *user, struct alk_worker_proc *worker)
{
	struct alk_supervisor *sup = user;

	alk_log(ALK_LOG_INFO, "worker started", ALK_INT("worker", alk_worker_proc_index(worker)),
		ALK_INT("pid", alk_worker_proc_pid(worker)));
	supervisor_event(sup, json_pack("{s:s, s:i, s:i}", "event", "worker.start", "worker",
					(int)alk_worker_proc_index(worker), "pid",
					(int)alk_worker_proc_pid(worker)));
	if (sup->state == SUPERVISOR_STARTING && all_ready(sup)) {
		sup->state = SUPERVISOR_RUNNING;
		supervisor_log_limit();
		supervisor_log_listening(sup);
	}
	supervisor_accept(sup);
}

static struct alk_linktab_entry *link_of(struct alk_supervisor *sup,
					 const struct alk_worker_proc *worker, uint64_t link)
{
	struct alk_linktab_entry *entry = alk_linktab_find(sup->links, link);

	return entry != NULL && entry->worker == alk_worker_proc_index(worker) ? entry : NULL;
}

static void on_worker_auth(void *user, struct alk_worker_proc *worker, uint64_t link)
{
	struct alk_supervisor *sup = user;
	struct alk_linktab_entry *entry = link_of(sup, worker, link);

	if (entry == NULL || entry->authenticated)
		return;
	entry->authenticated = true;
	alk_limit_auth(sup->limit);
}

static void link_gone(void *user, const struct alk_linktab_entry *entry)
{
	struct alk_supervisor *sup = user;

	alk_limit_end(sup->limit, entry->addr, entry->authenticated);
	sup->slot[entry->worker].links--;
}

void supervisor_release_link(struct alk_supervisor *sup, uint64_t link)
{
	const struct alk_linktab_entry *entry = alk_linktab_find(sup->links, link);

	if (entry == NULL)
		return;
	link_gone(sup, entry);
	alk_linktab_remove(sup->links, link);
}

static void on_worker_end(void *user, struct alk_worker_proc *worker, uint64_t link)
{
	if (link_of(user, worker, link) != NULL)
		supervisor_release_link(user, link);
}

static void on_worker_reply(void *user, struct alk_worker_proc *worker, uint64_t id,
			    json_t *message)
{
	supervisor_query_reply(user, alk_worker_proc_index(worker), id, message);
}

static void on_worker_event(void *user, struct alk_worker_proc *worker, json_t *message)
{
	struct alk_supervisor *sup = user;

	if (!supervisor_watched(sup))
		return;
	json_object_del(message, "op");
	json_object_set_new(message, "worker", json_integer(alk_worker_proc_index(worker)));
	supervisor_event(sup, json_incref(message));
}

/* Penalties */

static json_t *penalty_message(enum alk_penalty_kind kind, const char *name, uint64_t left_ms)
{
	return json_pack("{s:s, s:s, s:I}", "op", "penalty",
			 kind == ALK_PENALTY_IDENTITY ? "identity" : "remote_addr", name, "seconds",
			 (json_int_t)(left_ms + 999) / 1000);
}

static void tell_penalty(void *user, enum alk_penalty_kind kind, const char *name, uint64_t left)
{
	alk_worker_proc_send(user, penalty_message(kind, name, left), NULL);
}

static void penalise(struct alk_supervisor *sup, const char *identity, const char *addr)
{
	uint64_t until = alk_loop_now(sup->loop) + sup->penalty_time;
	json_t *message = NULL;
	char key[64];

	if (sup->penalty_time == 0 || (identity[0] == '\0' && addr[0] == '\0'))
		return;
	/* NULL for a name that is no UTF-8: then it is the address's. */
	if (identity[0] != '\0')
		message = penalty_message(ALK_PENALTY_IDENTITY, identity, sup->penalty_time);
	if (message != NULL) {
		alk_penalty_add(sup->penalty, ALK_PENALTY_IDENTITY, identity, until);
		supervisor_broadcast(sup, message);
	} else {
		alk_limit_key(addr, key, sizeof(key));
		alk_penalty_add(sup->penalty, ALK_PENALTY_ADDRESS, key, until);
		/* For the links of that address that are not logged in yet. */
		supervisor_broadcast(sup,
				     penalty_message(ALK_PENALTY_ADDRESS, addr, sup->penalty_time));
	}
}

/* The board says what the worker had in hand; which address that was is known here better. */
static void on_worker_hung(void *user, struct alk_worker_proc *worker,
			   const struct alk_board_hand *hand)
{
	struct alk_supervisor *sup = user;
	const struct alk_linktab_entry *entry = link_of(sup, worker, hand->link);
	const char *addr = entry != NULL ? entry->addr : "";
	const char *identity = entry != NULL ? hand->identity : "";

	sup->hung++;
	alk_log(ALK_LOG_ERROR, "worker hung", ALK_INT("worker", alk_worker_proc_index(worker)),
		ALK_INT("session", entry != NULL ? (int64_t)hand->link : 0),
		ALK_STR("remote_addr", addr[0] != '\0' ? addr : NULL),
		ALK_STR("identity", identity[0] != '\0' ? identity : NULL),
		ALK_STR("killed_by", "watchdog"));
	supervisor_event(sup, json_pack("{s:s, s:i, s:I}", "event", "worker.hung", "worker",
					(int)alk_worker_proc_index(worker), "session",
					entry != NULL ? (json_int_t)hand->link : 0));
	penalise(sup, identity, addr);
}

/* Life and death */

static int slot_start(struct supervisor_slot *slot, struct alk_err *err)
{
	struct alk_supervisor *sup = slot->sup;
	json_t *conf = alk_conf_encode(sup->conf);
	json_t *start = json_pack("{s:s, s:o, s:i, s:I, s:s}", "op", "start", "conf", conf, "index",
				  (int)alk_worker_proc_index(slot->worker), "generation",
				  (json_int_t)sup->generation, "plugin_dir",
				  alk_options_str(sup->values, "plugin_dir"));
	int rc;

	if (start == NULL) /* json_pack took conf on failure too */
		return alk_err_set(err, -ENOMEM, "cannot encode the configuration: out of memory");
	rc = alk_worker_proc_start(slot->worker, start, err);
	if (rc != 0)
		return rc;
	alk_penalty_each(sup->penalty, alk_loop_now(sup->loop), tell_penalty, slot->worker);
	if (sup->level_changed)
		alk_worker_proc_send(slot->worker,
				     json_pack("{s:s, s:s}", "op", "loglevel", "level",
					       alk_log_level_str(alk_log_get_level())),
				     NULL);
	if (supervisor_watched(sup))
		alk_worker_proc_send(slot->worker, json_pack("{s:s, s:b}", "op", "watch", "on", 1),
				     NULL);
	return 0;
}

static void slot_start_later(struct supervisor_slot *slot, uint64_t lived_ms)
{
	if (lived_ms >= SHORT_LIFE_MS)
		slot->backoff_ms = 0;
	else if (slot->backoff_ms == 0)
		slot->backoff_ms = BACKOFF_MIN_MS;
	else
		slot->backoff_ms = slot->backoff_ms * 2 < BACKOFF_MAX_MS ? slot->backoff_ms * 2
									 : BACKOFF_MAX_MS;
	alk_timer_start(slot->restart, slot->backoff_ms);
}

static void on_restart(void *user)
{
	struct supervisor_slot *slot = user;
	struct alk_err err;

	slot->sup->restarts++;
	if (slot_start(slot, &err) == 0)
		return;
	alk_log(ALK_LOG_ERROR, "cannot start worker", ALK_INT("worker", slot - slot->sup->slot),
		ALK_STR("error", err.text));
	slot_start_later(slot, 0);
}

/* A worker that ends before all were ready once: what is wrong is wrong for all, and is told. */
static void supervisor_fail(struct alk_supervisor *sup, const struct alk_worker_proc_end *end)
{
	if (end->failed != NULL)
		fprintf(stderr, "alknet: %s\n", end->failed);
	else if (WIFSIGNALED(end->status))
		fprintf(stderr,
			"alknet: the worker was ended by signal %d (%s) before it was ready\n",
			WTERMSIG(end->status), strsignal(WTERMSIG(end->status)));
	else if (WEXITSTATUS(end->status) == ALK_WORKER_EXEC_FAILED)
		fprintf(stderr,
			"alknet: cannot execute /proc/self/exe as a worker: is /proc mounted?\n");
	else
		fprintf(stderr, "alknet: the worker left with status %d before it was ready\n",
			WEXITSTATUS(end->status));
	sup->status = end->failed_status != 0 ? end->failed_status : 1;
	supervisor_unlisten(sup);
	supervisor_finish(sup);
}

static void log_gone(struct alk_supervisor *sup, unsigned worker,
		     const struct alk_worker_proc_end *end, unsigned links)
{
	bool by_signal = WIFSIGNALED(end->status);

	if (end->expected)
		alk_log(ALK_LOG_INFO, "worker stopped", ALK_INT("worker", worker),
			ALK_INT("pid", end->pid));
	else if (by_signal)
		alk_log(ALK_LOG_ERROR, "worker died", ALK_INT("worker", worker),
			ALK_INT("pid", end->pid), ALK_INT("signal", WTERMSIG(end->status)),
			ALK_INT("links", links), ALK_STR("error", end->failed));
	else
		alk_log(ALK_LOG_ERROR, "worker died", ALK_INT("worker", worker),
			ALK_INT("pid", end->pid), ALK_INT("status", WEXITSTATUS(end->status)),
			ALK_INT("links", links), ALK_STR("error", end->failed));
	supervisor_event(sup,
			 json_pack("{s:s, s:i, s:b, s:i, s:i}", "event", "worker.end", "worker",
				   (int)worker, "expected", end->expected,
				   by_signal ? "signal" : "status",
				   by_signal ? WTERMSIG(end->status) : WEXITSTATUS(end->status),
				   "links", (int)links));
}

static void on_worker_gone(void *user, struct alk_worker_proc *worker,
			   const struct alk_worker_proc_end *end)
{
	struct alk_supervisor *sup = user;
	struct supervisor_slot *slot = slot_of(sup, worker);
	unsigned index = alk_worker_proc_index(worker), links = slot->links;

	if (sup->state == SUPERVISOR_STOPPED)
		return; /* it is the end of all */
	alk_metrics_add(&sup->dead, alk_worker_proc_board(worker), false);
	supervisor_query_gone(sup, index);
	alk_linktab_remove_worker(sup->links, index, link_gone, sup);
	if (sup->state == SUPERVISOR_STARTING && !end->expected) {
		supervisor_fail(sup, end);
		return;
	}
	log_gone(sup, index, end, links);
	supervisor_accept(sup);
	if (sup->state == SUPERVISOR_RUNNING || sup->state == SUPERVISOR_STARTING)
		slot_start_later(slot, end->lived_ms);
	else
		supervisor_check_end(sup);
}

static const struct alk_worker_proc_ops worker_ops = {
	.ready = on_worker_ready,
	.auth = on_worker_auth,
	.end = on_worker_end,
	.reply = on_worker_reply,
	.event = on_worker_event,
	.hung = on_worker_hung,
	.gone = on_worker_gone,
};

/* Beginning */

static unsigned cpu_count(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0)
		return (unsigned)CPU_COUNT(&set);
	return 1;
}

int supervisor_make_workers(struct alk_supervisor *sup, struct alk_err *err)
{
	int64_t want = alk_options_int(sup->values, "workers");
	uint64_t watchdog = (uint64_t)alk_options_int(sup->values, "watchdog_timeout");
	unsigned n = want < 0 ? cpu_count() : (unsigned)want;

	sup->in_process = n == 0;
	if (n == 0)
		n = 1;
	if (n > ALK_WORKERS_MAX)
		n = ALK_WORKERS_MAX;
	sup->tick_ms = watchdog / 5 < TICK_MS ? watchdog / 5 : TICK_MS;
	if (sup->tick_ms == 0)
		sup->tick_ms = 1;
	for (unsigned i = 0; i < n; i++) {
		struct supervisor_slot *slot = &sup->slot[i];

		slot->sup = sup;
		slot->worker = alk_worker_proc_new(sup->loop, i, sup->in_process, watchdog,
						   &worker_ops, sup);
		slot->restart = alk_timer_new(sup->loop, "worker restart", on_restart, slot);
		sup->slots = i + 1;
		if (slot->worker == NULL || slot->restart == NULL)
			return alk_err_set(err, -ENOMEM, "out of memory");
	}
	return 0;
}

int supervisor_start_workers(struct alk_supervisor *sup, struct alk_err *err)
{
	for (unsigned i = 0; i < sup->slots; i++) {
		int rc = slot_start(&sup->slot[i], err);

		if (rc != 0)
			return rc;
	}
	return 0;
}
