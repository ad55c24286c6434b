/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "worker.h"

#include <errno.h>
#include <stdlib.h>

void status_worker_ask(struct status_worker *worker)
{
	if (!worker->asked)
		worker->asked = alk_half_send(worker->half, 0, "get", 3) == 0;
}

static void on_tick(void *user)
{
	struct status_worker *worker = user;
	struct status_channel *next;
	bool wanted = false;

	for (struct status_channel *c = worker->channels; c != NULL; c = next) {
		next = c->next;
		wanted |= c->state == STATUS_EVENTS || c->state == STATUS_WAITING;
		status_channel_tick(c);
	}
	/* An answer that was lost, for want of memory, is asked for again. */
	worker->asked = false;
	if (wanted)
		status_worker_ask(worker);
	if (worker->channels != NULL)
		alk_timer_start(worker->tick, STATUS_EVERY_MS);
}

int status_worker_new(const struct alk_plugin_env *env, void **state, struct alk_err *err)
{
	struct status_worker *worker = calloc(1, sizeof(*worker));

	if (worker == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	worker->magic = STATUS_WORKER_MAGIC;
	worker->half = env->half;
	worker->loop = env->loop;
	worker->tick = alk_timer_new(env->loop, "status", on_tick, worker);
	if (worker->tick == NULL) {
		free(worker);
		return alk_err_set(err, -ENOMEM, "out of memory");
	}
	*state = worker;
	return 0;
}

void status_worker_free(void **state)
{
	struct status_worker *worker = *state;

	*state = NULL;
	alk_timer_free(&worker->tick);
	worker->magic = 0;
	free(worker);
}

void status_worker_message(void *state, const uint8_t *bytes, size_t n)
{
	struct status_worker *worker = state;
	struct status_channel *next;

	worker->asked = false;
	for (struct status_channel *c = worker->channels; c != NULL; c = next) {
		next = c->next;
		status_channel_snapshot(c, (const char *)bytes, n);
	}
}
