/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "supervisor_private.h"
#include "notify.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base64.h"
#include "log_private.h"
#include "json_text.h"

/* One reload at a time:
 *
 *   read the files ─▶ start a generation of workers, which check keys, plugins and policy as every start
 *   does ─all are ready─▶ open new listeners, set up the log ─▶ switch: the last step, which cannot fail
 *
 * Whatever goes wrong before the switch ends the new workers, and nothing else has happened. */

#define RELOAD_MS 60000	    /* until the new workers are ready */
#define SIGNAL_PAUSE_MS 500 /* between reloads that signals asked for */

struct reload_caller {
	struct alk_admin_call *call;
	struct reload_caller *next;
};

#define RELOAD_MAGIC 0x616f6c72u /* "rloa" */

struct supervisor_reload {
	uint32_t magic;
	struct alk_supervisor *sup;
	alk_supervisor_reread_fn *reread;
	void *reread_user;
	alk_supervisor_amend_fn *amend;
	void *amend_user;
	struct alk_timer *deadline, *pause;
	struct alk_task begin;
	uint64_t ended;
	struct supervisor_reload_counts counts;
	json_t *restart; /* [{"option": NAME}], of what runs */

	/* What waits. */
	bool wanted[SUPERVISOR_RELOAD_COUNT];
	struct reload_caller *waiting[SUPERVISOR_RELOAD_COUNT];

	/* What is under way. */
	enum supervisor_reload_kind kind;
	struct supervisor_setup *setup; /* NULL: nothing is */
	struct alk_limit_conf limits;
	struct reload_caller *callers;
	json_t *new_restart;
};

static struct supervisor_reload *reload_of(void *user)
{
	struct supervisor_reload *r = user;

	assert(r->magic == RELOAD_MAGIC);
	return r;
}

static const char *const kind_names[] = {
#define X(id_, name_) [SUPERVISOR_RELOAD_##id_] = (name_),
	SUPERVISOR_RELOADS(X)
#undef X
};

/* Answers */

static void callers_answer(struct reload_caller **callers, json_t *result, const char *error)
{
	while (*callers != NULL) {
		struct reload_caller *caller = *callers;

		*callers = caller->next;
		if (error != NULL)
			alk_admin_error(&caller->call, ALK_ADMIN_FAILED, "%s", error);
		else
			alk_admin_result(&caller->call, json_incref(result));
		free(caller);
	}
	json_decref(result);
}

static void reload_end(struct supervisor_reload *r)
{
	struct alk_supervisor *sup = r->sup;

	alk_timer_stop(r->deadline);
	if (sup->state <= SUPERVISOR_RUNNING) /* else STOPPING=1 is the last word */
		alk_notify("READY=1");
	for (unsigned i = 0; i < sup->slots; i++)
		if (sup->slot[i].role == SLOT_NEW)
			supervisor_slot_leave(&sup->slot[i], 0);
	supervisor_setup_unref(&r->setup);
	json_decref(r->new_restart);
	r->new_restart = NULL;
	r->ended = alk_loop_now(sup->loop);
	alk_task_queue(sup->loop, &r->begin);
}

static void reload_fail(struct supervisor_reload *r, const char *why)
{
	struct alk_supervisor *sup = r->sup;
	const char *name = kind_names[r->kind];

	if (r->kind != SUPERVISOR_RELOAD_CHECK) {
		r->counts.failed++;
		alk_log(ALK_LOG_ERROR, "reload failed, nothing changed", ALK_STR("command", name),
			ALK_STR("error", why));
		supervisor_event(sup, json_pack("{s:s, s:s, s:o}", "event", "reload.fail",
						"command", name, "error", alk_json_text(why)));
	}
	callers_answer(&r->callers, NULL, why);
	reload_end(r);
}

/* The configuration */

void supervisor_restart_add(json_t *restart, const char *name)
{
	json_t *one;
	size_t i;

	json_array_foreach(restart, i, one)
	{
		if (strcmp(json_string_value(json_object_get(one, "option")), name) == 0)
			return;
	}
	json_array_append_new(restart, json_pack("{s:s}", "option", name));
}

static int keep_one(const struct alk_supervisor *sup, struct alk_conf *conf, const char *name,
		    json_t *restart, struct alk_err *err)
{
	if (alk_conf_same(conf, sup->conf, name))
		return 0;
	supervisor_restart_add(restart, name);
	return alk_conf_keep(conf, sup->conf, name, err);
}

/* What a running server cannot change stays as it runs, and is told. */
static int keep_running(const struct alk_supervisor *sup, struct alk_conf *conf, json_t *restart,
			struct alk_err *err)
{
	bool in_process = alk_options_int(alk_conf_values(conf), "workers") == 0;
	int rc = 0;

	for (const struct alk_option *o = alk_conf_options; o->type != ALK_OPT_END && rc == 0; o++)
		if ((o->flags & ALK_OPT_RESTART) && (o->flags & ALK_OPT_SERVE))
			rc = keep_one(sup, conf, o->name, restart, err);
	/* From the one process to several or back. */
	if (rc == 0 && in_process != sup->in_process)
		rc = keep_one(sup, conf, "workers", restart, err);
	/* The one process has become this user for good. */
	if (rc == 0 && sup->in_process)
		rc = keep_one(sup, conf, "user", restart, err);
	return rc;
}

/* What it names has to be there, also where a restart is needed to have it: that would fail. */
static int services_check(struct alk_conf *conf, struct alk_err *err)
{
	struct alk_loader *loader = alk_loader_new(NULL, ALK_ROLE_CHECK,
						   alk_options_str(alk_conf_values(conf),
								   "plugin_dir"),
						   conf, err);
	int rc = loader != NULL ? alk_loader_check_services(loader, err) : -EINVAL;

	alk_loader_free(&loader);
	return rc;
}

static int keys_read_again(struct alk_conf *conf, struct alk_err *err)
{
	int rc = alk_conf_lend(conf, "key", NULL, NULL, 0, err);

	return rc == 0 ? alk_conf_read_again(conf, "key", true, err) : rc;
}

static struct alk_conf *conf_read(struct supervisor_reload *r, struct alk_err *err)
{
	struct alk_conf *conf;
	int rc = 0;

	if (r->kind == SUPERVISOR_RELOAD_ALL || r->kind == SUPERVISOR_RELOAD_CHECK) {
		if (r->reread == NULL) {
			alk_err_set(err, -EOPNOTSUPP,
				    "this server has no configuration that could be read again");
			return NULL;
		}
		conf = r->reread(r->reread_user, err);
	} else {
		conf = alk_conf_copy(r->sup->conf, err);
	}
	if (conf == NULL)
		return NULL;
	if (r->amend != NULL &&
	    (r->kind == SUPERVISOR_RELOAD_POLICY || r->kind == SUPERVISOR_RELOAD_KEYS))
		rc = r->amend(r->amend_user, conf, err);
	if (rc < 0)
		; /* as it is */
	else if (r->kind == SUPERVISOR_RELOAD_POLICY)
		rc = alk_conf_read_again(conf, "policy", false, err);
	else if (r->kind == SUPERVISOR_RELOAD_KEYS)
		rc = keys_read_again(conf, err);
	else if ((rc = services_check(conf, err)) == 0)
		rc = keep_running(r->sup, conf, r->new_restart, err);
	if (rc == 0)
		rc = supervisor_half_lend(r->sup, conf, err);
	if (rc < 0)
		alk_conf_free(&conf);
	return conf;
}

/* The beginning */

static int room_check(const struct alk_supervisor *sup, unsigned more, struct alk_err *err)
{
	unsigned used = 0;

	for (unsigned i = 0; i < sup->slots; i++)
		used += sup->slot[i].role != SLOT_FREE;
	if (sup->generations < ALK_GENERATIONS_MAX && used + more <= ALK_SLOTS_MAX)
		return 0;
	return alk_err_set(
		err, -EBUSY,
		"%u generations of workers (%u workers) are alive because sessions of earlier reloads go on, and there may be %d (%d): end sessions, wait for them, or lower drain_timeout",
		sup->generations, used, ALK_GENERATIONS_MAX, ALK_SLOTS_MAX);
}

static int reload_start(struct supervisor_reload *r, struct alk_err *err)
{
	struct alk_supervisor *sup = r->sup;
	struct alk_conf *conf;
	unsigned n;
	int rc;

	r->new_restart = r->kind == SUPERVISOR_RELOAD_ALL || r->kind == SUPERVISOR_RELOAD_CHECK
				 ? json_array()
				 : json_incref(r->restart);
	conf = conf_read(r, err);
	if (conf == NULL)
		return -EINVAL;
	if (r->kind == SUPERVISOR_RELOAD_POLICY &&
	    !alk_options_has(alk_conf_values(conf), "policy")) {
		alk_conf_free(&conf);
		return alk_err_set(err, -ENOENT, "there is no policy that could be read again");
	}
	r->setup = supervisor_setup_new(sup, &conf, err);
	if (r->setup == NULL)
		return -EINVAL;
	rc = supervisor_limits(r->setup->values, &r->limits, err);
	if (rc != 0)
		return rc;
	n = r->kind == SUPERVISOR_RELOAD_CHECK ? 1 : supervisor_want_workers(sup, r->setup);
	rc = room_check(sup, n, err);
	/* Before its workers start: the transports' halves hear of each worker. */
	if (rc == 0)
		rc = alk_loader_get_transports(r->setup->loader, err);
	return rc == 0 ? supervisor_start_workers(sup, r->setup, n, SLOT_NEW, err) : rc;
}

static void on_begin(void *user)
{
	struct supervisor_reload *r = reload_of(user);
	unsigned kind = 0;
	struct alk_err err = {""};

	while (kind < SUPERVISOR_RELOAD_COUNT && !r->wanted[kind])
		kind++;
	if (r->setup != NULL || kind == SUPERVISOR_RELOAD_COUNT || supervisor_plugin_busy(r->sup) ||
	    r->sup->state != SUPERVISOR_RUNNING)
		return;
	r->kind = (enum supervisor_reload_kind)kind;
	r->wanted[kind] = false;
	r->callers = r->waiting[kind];
	r->waiting[kind] = NULL;
	alk_timer_start(r->deadline, RELOAD_MS);
	alk_notify_reloading();
	if (reload_start(r, &err) != 0)
		reload_fail(r, err.text);
}

/* The end */

static void on_deadline(void *user)
{
	reload_fail(reload_of(user), "the new workers were not ready in time");
}

void supervisor_reload_lost(struct alk_supervisor *sup, const char *why)
{
	if (sup->reload->setup != NULL)
		reload_fail(sup->reload, why);
}

/* Sessions of earlier generations go on with what they were started with, but for what was revoked
 * since: recheck_certificates is to find it. */
static void revoked_tell(struct alk_supervisor *sup)
{
	size_t len = 0;
	const char *bytes = alk_conf_file(sup->conf, "revoked_keys", 0, &len);
	char *text = bytes ? alk_base64_text((const uint8_t *)bytes, len) : NULL;

	if (bytes && !text) {
		alk_log(ALK_LOG_ERROR, "revoked keys not told to earlier workers",
			ALK_STR("reason", "out of memory"));
		return;
	}
	for (unsigned i = 0; i < sup->slots; i++)
		if (sup->slot[i].worker &&
		    (sup->slot[i].role == SLOT_SERVES || sup->slot[i].role == SLOT_LEAVES))
			alk_worker_proc_send(sup->slot[i].worker,
					     json_pack("{s:s, s:s*, s:s*}", "op", "revoked", "name",
						       alk_options_str(sup->values, "revoked_keys"),
						       "content", text),
					     NULL);
	free(text);
}

static void generation_switch(struct supervisor_reload *r)
{
	struct alk_supervisor *sup = r->sup;

	supervisor_half_apply(sup, r->setup);
	supervisor_adopt(sup, r->setup, &r->limits);
	json_decref(r->restart);
	r->restart = json_incref(r->new_restart);
	revoked_tell(sup);
	for (unsigned i = 0; i < sup->slots; i++) {
		struct supervisor_slot *slot = &sup->slot[i];

		if (slot->role == SLOT_SERVES)
			supervisor_slot_leave(slot, sup->drain_timeout);
		else if (slot->role == SLOT_NEW)
			slot->role = SLOT_SERVES;
	}
	if (r->kind == SUPERVISOR_RELOAD_ALL && sup->level_changed) {
		sup->level_changed = false;
		supervisor_broadcast(sup, json_pack("{s:s, s:s}", "op", "loglevel", "level",
						    alk_log_level_str(alk_log_get_level())));
	}
}

/* What can still fail: addresses, and where the log goes. */
static int reload_open(struct supervisor_reload *r, struct alk_err *err)
{
	int rc = supervisor_half_check(r->sup, r->setup, r->new_restart, err);

	if (rc == 0)
		rc = supervisor_relisten_open(r->sup, r->setup, err);

	if (rc == 0 && r->kind == SUPERVISOR_RELOAD_ALL)
		rc = alk_log_setup_options(r->setup->values, err);
	if (rc < 0 || r->kind == SUPERVISOR_RELOAD_CHECK)
		supervisor_relisten_undo(r->sup);
	return rc;
}

static void reload_switch(struct supervisor_reload *r)
{
	struct alk_supervisor *sup = r->sup;
	json_t *opened = json_array(), *closed = json_array(), *result;
	unsigned links = alk_limit_links(sup->limit);

	generation_switch(r);
	supervisor_relisten_commit(sup, r->setup, opened, closed, r->restart);
	supervisor_accept(sup);
	r->counts.done++;
	result = json_pack("{s:I, s:i, s:i, s:o, s:o, s:O}", "generation",
			   (json_int_t)sup->generation, "workers",
			   (int)supervisor_want_workers(sup, r->setup), "links_leaving", (int)links,
			   "listeners_opened", opened, "listeners_closed", closed, "restart_needed",
			   r->restart);
	alk_log(ALK_LOG_INFO, "reloaded", ALK_STR("command", kind_names[r->kind]),
		ALK_INT("generation", (int64_t)sup->generation), ALK_INT("links_leaving", links));
	supervisor_event(sup,
			 json_pack("{s:s, s:s, s:I}", "event", "reload", "command",
				   kind_names[r->kind], "generation", (json_int_t)sup->generation));
	callers_answer(&r->callers, result, NULL);
}

static void restart_log(const struct supervisor_reload *r)
{
	json_t *one;
	size_t i;

	json_array_foreach(r->new_restart, i, one)
	{
		alk_log(ALK_LOG_WARN, "a changed option needs a restart",
			ALK_STR("option", json_string_value(json_object_get(one, "option"))));
	}
}

void supervisor_reload_ready(struct alk_supervisor *sup)
{
	struct supervisor_reload *r = sup->reload;
	struct alk_err err = {""};

	for (unsigned i = 0; i < sup->slots; i++)
		if (sup->slot[i].role == SLOT_NEW &&
		    alk_worker_proc_state(sup->slot[i].worker) != ALK_WORKER_READY)
			return;
	if (r->setup == NULL)
		return;
	if (reload_open(r, &err) < 0) {
		reload_fail(r, err.text);
		return;
	}
	if (r->kind == SUPERVISOR_RELOAD_CHECK) {
		callers_answer(&r->callers,
			       json_pack("{s:b, s:O}", "ok", 1, "restart_needed", r->new_restart),
			       NULL);
	} else {
		reload_switch(r);
		if (r->kind == SUPERVISOR_RELOAD_ALL)
			restart_log(r);
	}
	reload_end(r);
}

/* Who asks */

bool supervisor_reload_busy(const struct alk_supervisor *sup)
{
	return sup->reload->setup != NULL;
}

void supervisor_reload_next(struct alk_supervisor *sup)
{
	alk_task_queue(sup->loop, &sup->reload->begin);
}

void supervisor_reload(struct alk_supervisor *sup, enum supervisor_reload_kind kind,
		       struct alk_admin_call *call)
{
	struct supervisor_reload *r = sup->reload;
	struct reload_caller *caller;

	if (sup->state > SUPERVISOR_RUNNING) {
		if (call != NULL)
			alk_admin_error(&call, ALK_ADMIN_FAILED, "the server is %s",
					supervisor_state_str(sup->state));
		return;
	}
	if (call != NULL) {
		caller = calloc(1, sizeof(*caller));
		if (caller == NULL) {
			alk_admin_error(&call, ALK_ADMIN_FAILED, "out of memory");
			return;
		}
		*caller = (struct reload_caller){.call = call, .next = r->waiting[kind]};
		r->waiting[kind] = caller;
	}
	r->wanted[kind] = true;
	supervisor_reload_next(sup);
}

static void on_pause_over(void *user)
{
	supervisor_reload(supervisor_of(user), SUPERVISOR_RELOAD_ALL, NULL);
}

void supervisor_reload_signal(struct alk_supervisor *sup)
{
	struct supervisor_reload *r = sup->reload;
	uint64_t since = alk_loop_now(sup->loop) - r->ended;

	if (alk_timer_active(r->pause))
		return;
	if (r->ended == 0 || since >= SIGNAL_PAUSE_MS)
		since = SIGNAL_PAUSE_MS;
	alk_timer_start(r->pause, SIGNAL_PAUSE_MS - since);
}

void supervisor_reload_cancel(struct alk_supervisor *sup)
{
	struct supervisor_reload *r = sup->reload;
	static const char why[] = "the server leaves";

	alk_timer_stop(r->pause);
	for (unsigned kind = 0; kind < SUPERVISOR_RELOAD_COUNT; kind++) {
		r->wanted[kind] = false;
		callers_answer(&r->waiting[kind], NULL, why);
	}
	if (r->setup != NULL)
		reload_fail(r, why);
}

struct supervisor_reload_counts supervisor_reload_counts(const struct alk_supervisor *sup)
{
	return sup->reload->counts;
}

json_t *supervisor_reload_restart(const struct alk_supervisor *sup)
{
	return json_incref(sup->reload->restart);
}

void alk_supervisor_set_reread(struct alk_supervisor *sup, alk_supervisor_reread_fn *reread,
			       void *user)
{
	sup->reload->reread = reread;
	sup->reload->reread_user = user;
}

void alk_supervisor_set_amend(struct alk_supervisor *sup, alk_supervisor_amend_fn *amend,
			      void *user)
{
	sup->reload->amend = amend;
	sup->reload->amend_user = user;
}

int supervisor_reload_init(struct alk_supervisor *sup, struct alk_err *err)
{
	struct supervisor_reload *r = calloc(1, sizeof(*r));

	sup->reload = r;
	if (r == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	r->magic = RELOAD_MAGIC;
	r->sup = sup;
	r->restart = json_array();
	r->begin = (struct alk_task){.fn = on_begin, .user = r};
	r->deadline = alk_timer_new(sup->loop, "reload deadline", on_deadline, r);
	r->pause = alk_timer_new(sup->loop, "reload pause", on_pause_over, sup);
	if (r->restart == NULL || r->deadline == NULL || r->pause == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	return 0;
}

void supervisor_reload_deinit(struct alk_supervisor *sup)
{
	struct supervisor_reload *r = sup->reload;

	sup->reload = NULL;
	if (r == NULL)
		return;
	alk_task_cancel(sup->loop, &r->begin);
	for (unsigned kind = 0; kind < SUPERVISOR_RELOAD_COUNT; kind++)
		callers_answer(&r->waiting[kind], NULL, "the server stops");
	callers_answer(&r->callers, NULL, "the server stops");
	alk_timer_free(&r->deadline);
	alk_timer_free(&r->pause);
	supervisor_setup_unref(&r->setup);
	json_decref(r->restart);
	json_decref(r->new_restart);
	r->magic = 0;
	free(r);
}
