/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The iroh transport. README.md has its options. */
#include "iroh.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define IROH_MAGIC 0x69726f68u

struct iroh *iroh_of(void *state)
{
	struct iroh *iroh = state;

	assert(iroh->magic == IROH_MAGIC);
	return iroh;
}

static void iroh_deinit(void **state)
{
	struct iroh *iroh = iroh_of(*state);

	iroh_dial_end(iroh);
	iroh->magic = 0;
	free(iroh);
	*state = NULL;
}

static int iroh_init(const struct alk_plugin_env *env, void **state, struct alk_err *err)
{
	struct iroh *iroh;
	int rc = iroh_settings_check(env->options, env->role, err);

	if (rc < 0)
		return rc;
	iroh = calloc(1, sizeof(*iroh));
	if (iroh == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	iroh->magic = IROH_MAGIC;
	iroh->role = env->role;
	iroh->loop = env->loop;
	iroh->options = env->options;
	iroh->timeout_ms = alk_plugin_timeout(env);
	*state = iroh;
	return 0;
}

static const struct alk_option iroh_options[] = {
	{.name = "relay",
	 .type = ALK_OPT_STRING,
	 .flags = ALK_OPT_REPEAT,
	 .arg = "URL",
	 .help = "relay that the two find each other by and that carries what finds no direct way; none is without one; without this option those of n0"},
	{.name = "key",
	 .type = ALK_OPT_PATH,
	 .arg = "FILE",
	 .help = "where the key that the endpoint's id comes of is kept, made if it is not there; without it a server's is /var/lib/alknet/iroh_key, and a client has another each time"},
	{.name = "discovery",
	 .type = ALK_OPT_ENUM,
	 .flags = ALK_OPT_REPEAT,
	 .choices = "n0|mdns|none",
	 .arg = "n0|mdns|none",
	 .help = "where an id is looked up, and a server's published; without this option n0 with n0's relays, and none with others"},
	{.name = "peer",
	 .type = ALK_OPT_STRING,
	 .arg = "ENDPOINT-ID",
	 .help = "connect: the server's endpoint id"},
	{.name = "peer_address",
	 .type = ALK_OPT_STRING,
	 .flags = ALK_OPT_REPEAT,
	 .arg = "IP:PORT",
	 .help = "connect: where the peer may be found besides"},
	{.name = "bind",
	 .type = ALK_OPT_STRING,
	 .fallback = "any",
	 .arg = "ADDR:PORT",
	 .help = "connect: where UDP is bound; any is every address and some port, none is no UDP at all: everything goes through the relay"},
	ALK_DIAL_OPTIONS,
	{.type = ALK_OPT_END},
};

static const struct alk_transport_ops iroh_ops = {
	.size = sizeof(iroh_ops),
	.listen = iroh_listen,
	.unlisten = iroh_unlisten,
	.pause = iroh_pause,
	.describe = iroh_describe,
	.dial = iroh_dial,
	.dial_cancel = iroh_dial_cancel,
	.adopt = iroh_adopt,
	.listens = "any",
	.path = iroh_path,
};

ALK_PLUGIN(.kind = ALK_PLUGIN_TRANSPORT, .name = "iroh", .version = "0.1", .options = iroh_options,
	   .init = iroh_init, .deinit = iroh_deinit, .ops.transport = &iroh_ops, );
