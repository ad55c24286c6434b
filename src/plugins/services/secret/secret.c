/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The record: which half does what. */
#include "secret.h"

#include <assert.h>

static const struct alk_option options[] = {
	{.name = "key_version",
	 .type = ALK_OPT_INT,
	 .fallback = "1",
	 .min = 1,
	 .max = 2147483648,
	 .arg = "N",
	 .help = "the newest version of the encryption key: reencrypt goes to it"},
	{.name = "host_key",
	 .type = ALK_OPT_STRING,
	 .arg = "PATH",
	 .help = "the server's SSH host key is the Ed25519 key at this path of the seed, from the unlock on; \"key\" may then be missing"},
	{.type = ALK_OPT_END},
};

static int init(const struct alk_plugin_env *env, void **state, struct alk_err *err)
{
	return env->role == ALK_ROLE_SUPERVISOR ? secret_keeper_new(env, state, err)
						: secret_worker_new(env, state, err);
}

/* Which half a state is of stands in its first word. */
static void deinit(void **state)
{
	if (*(const uint32_t *)*state == SECRET_KEEPER_MAGIC)
		secret_keeper_free(state);
	else
		secret_worker_free(state);
}

static void message(void *state, uint64_t worker, const uint8_t *bytes, size_t n)
{
	if (*(const uint32_t *)state == SECRET_KEEPER_MAGIC)
		secret_keeper_message(state, worker, bytes, n);
	else
		secret_worker_message(state, bytes, n);
}

static int check(enum alk_role role, const struct alk_options *values, struct alk_err *err)
{
	const char *path = alk_options_str(values, "host_key");

	(void)role;
	return path != NULL ? secret_keeper_check(path, err) : 0;
}

static struct secret_keeper *keeper_of(void *state)
{
	struct secret_keeper *keeper = state;

	assert(keeper->magic == SECRET_KEEPER_MAGIC);
	return keeper;
}

static void worker_down(void *state, uint64_t worker)
{
	secret_keeper_down(keeper_of(state), worker);
}

static int configure(void *state, const struct alk_options *values, bool apply, struct alk_err *err)
{
	return secret_keeper_configure(keeper_of(state), values, apply, err);
}

static void command(void *state, const char *name, const char *params, struct alk_call *call)
{
	secret_admin_command(keeper_of(state), name, params, call);
}

static char *metrics(void *state)
{
	return secret_keeper_metrics(keeper_of(state));
}

static const struct alk_service_ops service = {
	.size = sizeof(service),
	.open = secret_channel_open,
	.data = secret_channel_data,
	.drain = secret_channel_drain,
	.eof = secret_channel_eof,
	.close = secret_channel_close,
};

static const struct alk_half_ops half = {
	.size = sizeof(half),
	.message = message,
	.worker_down = worker_down,
	.configure = configure,
	.command = command,
	.metrics = metrics,
};

ALK_PLUGIN(.kind = ALK_PLUGIN_SERVICE, .name = "secret", .version = "0.1", .options = options,
	   .init = init, .deinit = deinit, .ops.service = &service, .half = &half, .check = check);
