/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "loop_private.h"
#include "supervisor_private.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "log_private.h"
#include "upgrade.h"
#include "worker_spawn.h"

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
		if (sup->slot[i].role == SLOT_SERVES &&
		    alk_worker_proc_state(sup->slot[i].worker) != ALK_WORKER_READY)
			return false;
	return true;
}

static void on_worker_ready(void *user, struct alk_worker_proc *worker)
{
	struct alk_supervisor *sup = supervisor_of(user);

	supervisor_half_up(slot_of(sup, worker));
	alk_log(ALK_LOG_INFO, "worker started", ALK_INT("worker", alk_worker_proc_index(worker)),
		ALK_INT("pid", alk_worker_proc_pid(worker)));
	supervisor_event(sup, json_pack("{s:s, s:i, s:i}", "event", "worker.start", "worker",
					(int)alk_worker_proc_index(worker), "pid",
					(int)alk_worker_proc_pid(worker)));
	if (sup->state == SUPERVISOR_STARTING && all_ready(sup)) {
		sup->state = SUPERVISOR_RUNNING;
		supervisor_log_limit();
		supervisor_log_listening(sup);
		supervisor_tell_manager(sup);
		supervisor_upgrade_ready(sup);
		supervisor_reload_next(sup);
		if (sup->ready != NULL)
			sup->ready(sup->ready_user);
	}
	if (slot_of(sup, worker)->role == SLOT_NEW)
		supervisor_reload_ready(sup);
	supervisor_accept(sup);
}

static struct alk_linktab_entry *link_of(struct alk_supervisor *sup,
					 const struct alk_worker_proc *worker, uint64_t link)
{
	struct alk_linktab_entry *entry = alk_linktab_find(sup->links, link);

	return entry != NULL && entry->worker == alk_worker_proc_index(worker) ? entry : NULL;
}

static void link_gone(void *user, const struct alk_linktab_entry *entry)
{
	struct alk_supervisor *sup = supervisor_of(user);

	if (entry->addr[0] != '\0')
		alk_limit_end(sup->limit, entry->addr, entry->authenticated);
	else
		supervisor_local_gone(sup, entry->id);
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

static void on_worker_login(void *user, struct alk_worker_proc *worker, uint64_t link)
{
	struct alk_supervisor *sup = supervisor_of(user);
	struct alk_linktab_entry *entry = link_of(sup, worker, link);

	if (entry == NULL || entry->authenticated || entry->addr[0] == '\0')
		return;
	entry->authenticated = true;
	alk_limit_login(sup->limit, entry->addr);
}

static void on_worker_end(void *user, struct alk_worker_proc *worker, uint64_t link)
{
	if (link_of(supervisor_of(user), worker, link) != NULL)
		supervisor_release_link(supervisor_of(user), link);
}

static void on_worker_misdeed(void *user, struct alk_worker_proc *worker, uint64_t link,
			      const char *what)
{
	const struct alk_linktab_entry *entry = link_of(supervisor_of(user), worker, link);
	enum alk_misdeed misdeed = alk_misdeed_find(what);

	if (entry != NULL && misdeed != ALK_MISDEED_NONE)
		supervisor_misdeed(supervisor_of(user), entry->addr, misdeed);
}

static void on_worker_reply(void *user, struct alk_worker_proc *worker, uint64_t id,
			    json_t *message)
{
	supervisor_query_reply(supervisor_of(user), alk_worker_proc_index(worker), id, message);
}

static void on_worker_event(void *user, struct alk_worker_proc *worker, json_t *message)
{
	struct alk_supervisor *sup = supervisor_of(user);

	if (!supervisor_watched(sup))
		return;
	json_object_del(message, "op");
	json_object_set_new(message, "worker", json_integer(alk_worker_proc_index(worker)));
	supervisor_event(sup, json_incref(message));
}

static bool on_worker_remote(void *user, struct alk_worker_proc *worker, json_t *message)
{
	return supervisor_remote_hear(supervisor_of(user), alk_worker_proc_index(worker), message);
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
	} else if (!supervisor_abuse_exempt(sup, addr)) {
		alk_limit_key(addr, key, sizeof(key));
		alk_penalty_add(sup->penalty, ALK_PENALTY_ADDRESS, key, until);
		/* For the links of that address that are not logged in yet. */
		supervisor_broadcast(sup,
				     penalty_message(ALK_PENALTY_ADDRESS, key, sup->penalty_time));
	}
}

void supervisor_forgive(struct alk_supervisor *sup, const char *key)
{
	supervisor_broadcast(sup, penalty_message(ALK_PENALTY_ADDRESS, key, 0));
}

/* A session ended its worker, and all others with it. The board says what the worker had in hand;
 * which address that was is known here better. */
static void blame(struct alk_supervisor *sup, struct alk_worker_proc *worker,
		  const struct alk_board_hand *hand, const char *what, const char *event)
{
	const struct alk_linktab_entry *entry = link_of(sup, worker, hand->link);
	const char *addr = entry != NULL ? entry->addr : "";
	const char *identity = entry != NULL ? hand->identity : "";

	alk_log(ALK_LOG_ERROR, what, ALK_INT("worker", alk_worker_proc_index(worker)),
		ALK_INT("session", entry != NULL ? (int64_t)hand->link : 0),
		ALK_STR("remote_addr", addr[0] != '\0' ? addr : NULL),
		ALK_STR("identity", identity[0] != '\0' ? identity : NULL),
		ALK_STR("killed_by", strcmp(event, "worker.hung") == 0 ? "watchdog" : NULL));
	supervisor_event(sup, json_pack("{s:s, s:i, s:I}", "event", event, "worker",
					(int)alk_worker_proc_index(worker), "session",
					entry != NULL ? (json_int_t)hand->link : 0));
	penalise(sup, identity, addr);
}

static void on_worker_hung(void *user, struct alk_worker_proc *worker,
			   const struct alk_board_hand *hand)
{
	struct alk_supervisor *sup = supervisor_of(user);

	sup->hung++;
	blame(sup, worker, hand, "worker hung", "worker.hung");
}

/* Of its own doing, not because somebody or the kernel killed it? */
static bool is_crash(const struct alk_worker_proc_end *end)
{
	static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP};

	for (size_t i = 0;
	     end->was_ready && WIFSIGNALED(end->status) && i < sizeof(signals) / sizeof(signals[0]);
	     i++)
		if (WTERMSIG(end->status) == signals[i])
			return true;
	return false;
}

static void blame_crash(struct alk_supervisor *sup, struct alk_worker_proc *worker)
{
	struct alk_board_hand hand;

	alk_board_get_hand(alk_worker_proc_board(worker), &hand);
	blame(sup, worker, &hand, "worker crashed", "worker.crash");
}

/* Life and death */

void supervisor_tell_new(struct supervisor_slot *slot)
{
	struct alk_supervisor *sup = slot->sup;

	alk_penalty_each(sup->penalty, alk_loop_now(sup->loop), tell_penalty, slot->worker);
	if (sup->level_changed)
		alk_worker_proc_send(slot->worker,
				     json_pack("{s:s, s:s}", "op", "loglevel", "level",
					       alk_log_level_str(alk_log_get_level())),
				     NULL);
	if (supervisor_watched(sup))
		alk_worker_proc_send(slot->worker, json_pack("{s:s, s:b}", "op", "watch", "on", 1),
				     NULL);
	supervisor_remote_tell_new(sup, alk_worker_proc_index(slot->worker));
}

/* Why a worker that never was ready is gone. */
static void end_sentence(const struct alk_worker_proc_end *end, struct alk_err *err)
{
	if (end->failed != NULL)
		alk_err_set(err, 0, "%s", end->failed);
	else if (WIFSIGNALED(end->status))
		alk_err_set(err, 0, "the worker was ended by signal %d (%s) before it was ready",
			    WTERMSIG(end->status), strsignal(WTERMSIG(end->status)));
	else if (WEXITSTATUS(end->status) == ALK_WORKER_EXEC_FAILED)
		alk_err_set(err, 0, "cannot execute /proc/self/exe as a worker: is /proc mounted?");
	else
		alk_err_set(err, 0, "the worker left with status %d before it was ready",
			    WEXITSTATUS(end->status));
}

/* A worker that ends before all were ready once: what is wrong is wrong for all, and is told. */
static void supervisor_fail(struct alk_supervisor *sup, const struct alk_worker_proc_end *end)
{
	end_sentence(end, &sup->failed);
	if (alk_loop_is_guest(sup->loop))
		alk_log(ALK_LOG_INFO, "the server cannot start",
			ALK_STR("error", sup->failed.text)); /* the program is told, too */
	else
		fprintf(stderr, "alknet: %s\n", sup->failed.text);
	alk_upgrade_failed(sup->failed.text);
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

/* It was to serve with another configuration, which cannot be, then. */
static void new_gone(struct supervisor_slot *slot, const struct alk_worker_proc_end *end)
{
	struct alk_err err;

	end_sentence(end, &err);
	slot->role = SLOT_LEAVES;
	supervisor_reload_lost(slot->sup, err.text);
}

static bool on_worker_bytes(void *user, struct alk_worker_proc *worker, const char *name,
			    const uint8_t *bytes, size_t n)
{
	return supervisor_half_hear(slot_of(supervisor_of(user), worker), name, bytes, n);
}

static void on_worker_gone(void *user, struct alk_worker_proc *worker,
			   const struct alk_worker_proc_end *end)
{
	struct alk_supervisor *sup = supervisor_of(user);
	struct supervisor_slot *slot = slot_of(sup, worker);
	unsigned index = alk_worker_proc_index(worker), links = slot->links;

	if (sup->state == SUPERVISOR_STOPPED)
		return; /* it is the end of all */
	supervisor_half_down(slot);
	alk_metrics_add(&sup->dead, alk_worker_proc_board(worker), false);
	supervisor_query_gone(sup, index, !end->expected);
	supervisor_remote_gone(sup, index);
	if (is_crash(end))
		blame_crash(sup, worker);
	alk_linktab_remove_worker(sup->links, index, link_gone, sup);
	if (sup->state == SUPERVISOR_STARTING && !end->expected && slot->role == SLOT_SERVES) {
		supervisor_fail(sup, end);
		return;
	}
	if (slot->role == SLOT_NEW)
		new_gone(slot, end);
	else if (slot->role == SLOT_SERVES || end->was_ready)
		log_gone(sup, index, end, links);
	supervisor_accept(sup);
	if (sup->state > SUPERVISOR_RUNNING)
		supervisor_check_end(sup);
	else if (slot->role == SLOT_SERVES)
		supervisor_start_later(slot, end->lived_ms);
	else
		alk_task_queue(sup->loop, &sup->reap);
}

const struct alk_worker_proc_ops supervisor_worker_ops = {
	.ready = on_worker_ready,
	.login = on_worker_login,
	.end = on_worker_end,
	.misdeed = on_worker_misdeed,
	.reply = on_worker_reply,
	.event = on_worker_event,
	.remote = on_worker_remote,
	.bytes = on_worker_bytes,
	.hung = on_worker_hung,
	.gone = on_worker_gone,
};
