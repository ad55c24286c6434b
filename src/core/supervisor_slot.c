/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "supervisor_private.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#define SHORT_LIFE_MS 10000
#define BACKOFF_MIN_MS 1000
#define BACKOFF_MAX_MS 30000
#define BUSY_MS 50
#define LEAVE_GRACE_MS 5000 /* past drain_timeout, which workers keep themselves */

/* What a generation runs on */

struct supervisor_setup *supervisor_setup_new(struct alk_supervisor *sup, struct alk_conf **conf,
					      struct alk_err *err)
{
	struct supervisor_setup *setup = calloc(1, sizeof(*setup));

	if (setup == NULL) {
		alk_conf_free(conf);
		alk_err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	setup->refs = 1;
	setup->generation = sup->generation + 1;
	setup->conf = *conf;
	*conf = NULL;
	setup->values = alk_conf_values(setup->conf);
	setup->loader = alk_loader_new(sup->loop, ALK_ROLE_SUPERVISOR,
				       alk_options_str(setup->values, "plugin_dir"), setup->conf,
				       err);
	if (setup->loader != NULL && sup->changed != NULL &&
	    alk_loader_change(setup->loader, sup->changed) < 0) {
		alk_err_set(err, -ENOMEM, "out of memory");
		alk_loader_free(&setup->loader);
	}
	if (setup->loader == NULL)
		supervisor_setup_unref(&setup);
	else
		supervisor_half_carry(sup, setup->loader);
	return setup;
}

struct supervisor_setup *supervisor_setup_ref(struct supervisor_setup *setup)
{
	setup->refs++;
	return setup;
}

void supervisor_setup_unref(struct supervisor_setup **setupp)
{
	struct supervisor_setup *setup = *setupp;

	*setupp = NULL;
	if (setup == NULL)
		return;
	if (--setup->refs == 1 && setup->halves)
		alk_conf_forget_files(setup->conf);
	if (setup->refs > 0)
		return;
	alk_loader_free(&setup->loader);
	alk_conf_free(&setup->conf);
	free(setup);
}

static unsigned cpu_count(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0)
		return (unsigned)CPU_COUNT(&set);
	return 1;
}

unsigned supervisor_want_workers(const struct alk_supervisor *sup,
				 const struct supervisor_setup *setup)
{
	int64_t want = alk_options_int(setup->values, "workers");
	unsigned n = want < 0 ? cpu_count() : (unsigned)want;

	if (sup->in_process || n == 0)
		return 1;
	return n < ALK_WORKERS_MAX ? n : ALK_WORKERS_MAX;
}

/* Workers */

static int slot_start(struct supervisor_slot *slot, struct alk_err *err)
{
	const struct supervisor_setup *setup = slot->setup;
	json_t *conf = alk_conf_encode(setup->conf);
	json_t *start = json_pack("{s:s, s:o, s:i, s:I, s:s, s:O*}", "op", "start", "conf", conf,
				  "index", (int)alk_worker_proc_index(slot->worker), "generation",
				  (json_int_t)setup->generation, "plugin_dir",
				  alk_options_str(setup->values, "plugin_dir"), "plugins",
				  slot->sup->changed);
	int rc;

	if (start == NULL) /* json_pack took conf on failure too */
		return alk_err_set(err, -ENOMEM, "cannot encode the configuration: out of memory");
	rc = alk_worker_proc_start(slot->worker, start, err);
	if (rc == 0)
		supervisor_tell_new(slot);
	return rc;
}

void supervisor_start_later(struct supervisor_slot *slot, uint64_t lived_ms)
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

static void slot_restart(struct supervisor_slot *slot)
{
	struct alk_err err;

	slot->sup->restarts++;
	if (slot_start(slot, &err) == 0)
		return;
	alk_log(ALK_LOG_ERROR, "cannot start worker", ALK_INT("worker", slot - slot->sup->slot),
		ALK_STR("error", err.text));
	supervisor_start_later(slot, 0);
}

static void on_slot_timer(void *user)
{
	struct supervisor_slot *slot = user;

	assert(slot->magic == SUPERVISOR_SLOT_MAGIC);
	if (slot->role == SLOT_SERVES && supervisor_plugin_busy(slot->sup)) {
		alk_timer_start(slot->restart, BUSY_MS);
		return;
	}
	if (slot->role == SLOT_SERVES) {
		slot_restart(slot);
		return;
	}
	alk_log(ALK_LOG_WARN, "worker did not leave in time",
		ALK_INT("worker", slot - slot->sup->slot));
	alk_worker_proc_kill(slot->worker);
}

/* Places */

static void slot_free(struct supervisor_slot *slot)
{
	supervisor_half_down(slot);
	if (slot->setup != NULL && --slot->setup->slots == 0)
		slot->sup->generations--;
	alk_worker_proc_free(&slot->worker);
	alk_timer_free(&slot->restart);
	supervisor_setup_unref(&slot->setup);
	slot->role = SLOT_FREE;
	slot->magic = 0;
}

static struct supervisor_slot *slot_find_free(struct alk_supervisor *sup)
{
	for (unsigned i = 0; i < sup->slots; i++)
		if (sup->slot[i].role == SLOT_FREE)
			return &sup->slot[i];
	return sup->slots < ALK_SLOTS_MAX ? &sup->slot[sup->slots++] : NULL;
}

static struct supervisor_slot *slot_new(struct alk_supervisor *sup, struct supervisor_setup *setup,
					enum supervisor_slot_role role)
{
	uint64_t watchdog = (uint64_t)alk_options_int(setup->values, "watchdog_timeout");
	struct supervisor_slot *slot = slot_find_free(sup);

	if (slot == NULL)
		return NULL;
	*slot = (struct supervisor_slot){.magic = SUPERVISOR_SLOT_MAGIC, .sup = sup, .role = role};
	slot->setup = supervisor_setup_ref(setup);
	if (setup->slots++ == 0)
		sup->generations++;
	slot->worker = alk_worker_proc_new(sup->loop, (unsigned)(slot - sup->slot), sup->in_process,
					   watchdog, &supervisor_worker_ops, sup);
	slot->restart = alk_timer_new(sup->loop, "worker restart", on_slot_timer, slot);
	if (slot->worker != NULL && slot->restart != NULL) {
		alk_worker_proc_share(slot->worker, alk_shared_fd(sup->shared));
		alk_worker_proc_set_program(slot->worker, &sup->program);
		return slot;
	}
	slot_free(slot);
	return NULL;
}

int supervisor_start_workers(struct alk_supervisor *sup, struct supervisor_setup *setup, unsigned n,
			     enum supervisor_slot_role role, struct alk_err *err)
{
	int rc = 0;

	for (unsigned i = 0; i < n && rc == 0; i++) {
		struct supervisor_slot *slot = slot_new(sup, setup, role);

		rc = slot != NULL ? slot_start(slot, err)
				  : alk_err_set(err, -ENOMEM, "no place for another worker");
	}
	for (unsigned i = 0; i < sup->slots && rc != 0; i++)
		if (sup->slot[i].setup == setup)
			slot_free(&sup->slot[i]);
	return rc;
}

void supervisor_slot_leave(struct supervisor_slot *slot, uint64_t drain_ms)
{
	enum alk_worker_proc_state state = alk_worker_proc_state(slot->worker);

	slot->role = SLOT_LEAVES;
	alk_timer_start(slot->restart, drain_ms + LEAVE_GRACE_MS);
	if (state == ALK_WORKER_DEAD) {
		alk_timer_stop(slot->restart);
		alk_task_queue(slot->sup->loop, &slot->sup->reap);
	} else if (state == ALK_WORKER_STARTING) {
		alk_worker_proc_kill(slot->worker); /* it has nothing to finish */
	} else {
		alk_worker_proc_drain(slot->worker, drain_ms);
	}
}

void supervisor_reap(struct alk_supervisor *sup)
{
	for (unsigned i = 0; i < sup->slots; i++)
		if (sup->slot[i].role == SLOT_LEAVES &&
		    alk_worker_proc_state(sup->slot[i].worker) == ALK_WORKER_DEAD)
			slot_free(&sup->slot[i]);
	while (sup->slots > 0 && sup->slot[sup->slots - 1].role == SLOT_FREE)
		sup->slots--;
}

void supervisor_free_slots(struct alk_supervisor *sup)
{
	for (unsigned i = 0; i < sup->slots; i++)
		if (sup->slot[i].role != SLOT_FREE)
			slot_free(&sup->slot[i]);
	sup->slots = 0;
}
