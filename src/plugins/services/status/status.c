/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The record: which half does what. */
#include "status.h"

static int init(const struct alk_plugin_env *env, void **state, struct alk_err *err)
{
	return env->role == ALK_ROLE_SUPERVISOR ? status_keeper_new(env, state, err)
						: status_worker_new(env, state, err);
}

/* Which half a state is of stands in its first word. */
static bool is_keeper(const void *state)
{
	return *(const uint32_t *)state == STATUS_KEEPER_MAGIC;
}

static void deinit(void **state)
{
	if (is_keeper(*state))
		status_keeper_free(state);
	else
		status_worker_free(state);
}

static void message(void *state, uint64_t worker, const uint8_t *bytes, size_t n)
{
	if (is_keeper(state))
		status_keeper_message(state, worker);
	else
		status_worker_message(state, bytes, n);
}

static const struct alk_service_ops service = {
	.size = sizeof(service),
	.open = status_channel_open,
	.data = status_channel_data,
	.drain = status_channel_drain,
	.eof = status_channel_eof,
	.close = status_channel_close,
};

static const struct alk_half_ops half = {
	.size = sizeof(half),
	.message = message,
	.worker_down = status_keeper_down,
};

ALK_PLUGIN(.kind = ALK_PLUGIN_SERVICE, .name = "status", .version = "0.1", .init = init,
	   .deinit = deinit, .ops.service = &service, .half = &half);
