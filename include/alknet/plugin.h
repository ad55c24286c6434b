/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_PLUGIN_H
#define ALKNET_PLUGIN_H

/* A plugin is one .so with one exported symbol, `alk_plugin`, a const record made by ALK_PLUGIN().
 * Start here if you add one; copy src/plugins/skeleton.
 *
 * Life: the loader checks the record (see the ABI below), then calls `init` once in each process
 * that needs the plugin (supervisor: transports listen, services that have a half there; worker:
 * transports admit, services; client: transports dial), and `deinit` once before the process ends
 * or the plugin is unloaded, when nothing uses it any more. All calls come from the one loop
 * thread. */

#include <stdint.h>
#include <alknet/err.h>
#include <alknet/log.h>
#include <alknet/loop.h>
#include <alknet/options.h>

struct alk_transport_ops; /* alknet/transport.h */
struct alk_service_ops;	  /* alknet/service.h */
struct alk_half_ops;	  /* alknet/half.h */
struct alk_half;
struct alk_bus; /* alknet/bus.h */

/* The ABI number. MAJOR: something removed, reordered or retyped: other majors are refused. MINOR:
 * something appended: a plugin made for a newer minor than the host's is refused. 1.0: first. 1.1:
 * the operation `adopt` of transports. A process may have several instances of a plugin at once:
 * `init` is
 *      called again, with other options, before the `deinit` of the one before. struct alk_destination has via,
 *      proxy_protocol and the link's addresses; alk_dial_to.
 * 1.2: a plugin may have a half in the supervisor (alknet/half.h): struct alk_plugin has `half`,
 * the env too. 1.3: alk_channel_ask: a service asks the policy about a channel (alknet/service.h).
 * 1.4: alk_half_host_key (alknet/half.h). 1.5: the path of a link: `take` and `path` of struct
 * alk_acceptor, `path` and `listens` of transports; alk_dial_proxied. 1.6: a service may have a
 * local socket: the operation `local` (alknet/local.h). 1.7: alk_half_call (alknet/half.h). 1.8:
 * alknet/bus.h: a service offers operations on the bus, publishes and subscribes; the env has
 * `bus`. 1.9: alk_channel_link, alk_channel_session (alknet/service.h). 1.10: alk_loop_pair,
 * alk_loop_wrote, alk_loop_unpair (alknet/loop.h). 1.11: alk_direct_offer, alk_direct_ready,
 * alk_direct_withdraw (alknet/transport.h). 1.12: `check` of struct alk_plugin and of
 * struct alk_transport_ops; alk_tcp_check. */
#define ALK_ABI_MAJOR 1
#define ALK_ABI_MINOR 12
#define ALK_PLUGIN_MAGIC 0x6b6e6c61u /* "alnk" */

enum alk_plugin_kind {
	ALK_PLUGIN_NONE,
	ALK_PLUGIN_TRANSPORT,
	ALK_PLUGIN_SERVICE,
};

enum alk_role {
	ALK_ROLE_NONE,
	ALK_ROLE_SUPERVISOR,
	ALK_ROLE_WORKER,
	ALK_ROLE_CLIENT,
	ALK_ROLE_CHECK, /* `alknet check`: options are checked (`check`), init is not called */
};

/* What the host hands to init; borrowed until deinit returned. */
struct alk_plugin_env {
	uint32_t size;
	enum alk_role role;
	struct alk_loop *loop;
	const struct alk_options *options; /* checked values of the plugin's own table */
	uint64_t connect_timeout; /* ms: the program's option, for who connects somewhere */
	struct alk_half
		*half; /* since 1.2: in the supervisor and in a worker, if the record has `half` */
	struct alk_bus *bus; /* since 1.8: in a worker */
};

/* In init, of a plugin that has an option `connect_timeout` (ALK_DIAL_OPTIONS of
 * alknet/transport.h, or its own): how long it may take to connect, in ms; without that option the
 * program's. */
static inline uint64_t alk_plugin_timeout(const struct alk_plugin_env *env)
{
	if (alk_options_has(env->options, "connect_timeout"))
		return (uint64_t)alk_options_int(env->options, "connect_timeout");
	return env->connect_timeout;
}

struct alk_plugin {
	/* These five never move. */
	uint32_t magic;
	uint16_t abi_major, abi_minor;
	uint32_t struct_size;
	uint32_t kind;	  /* enum alk_plugin_kind */
	const char *name; /* equal to the file's stem; 1 to 15 of a-z, 0-9, - and _ */

	const char *version;
	const struct alk_option *options; /* ends with ALK_OPT_END; NULL = none */
	/* Optional. `*state` goes into every operation. Returns 0 or -errno with `err` set; then
	 * deinit is not called. */
	int (*init)(const struct alk_plugin_env *env, void **state, struct alk_err *err);
	void (*deinit)(void **state);
	union {
		const struct alk_transport_ops *transport;
		const struct alk_service_ops *service;
	} ops;
	/* Since 1.2. NULL: the plugin has nothing in the supervisor but its listeners. */
	const struct alk_half_ops *half;
	/* Since 1.12. Would `init` take these values? What one value is with another, and what is
	 * in a file; `role` is SUPERVISOR for a server's, CLIENT for a client's. For `alknet check`
	 * and config.check, without `init`: it starts nothing, asks nobody and keeps nothing. 0, or
	 * -errno with `err` naming the option. NULL: whatever fits the table is taken. */
	int (*check)(enum alk_role role, const struct alk_options *options, struct alk_err *err);
};

#define ALK_PLUGIN(...)                                                                            \
	ALK_EXPORT extern const struct alk_plugin alk_plugin;                                      \
	ALK_EXPORT const struct alk_plugin alk_plugin = {.magic = ALK_PLUGIN_MAGIC,                \
							 .abi_major = ALK_ABI_MAJOR,               \
							 .abi_minor = ALK_ABI_MINOR,               \
							 .struct_size = sizeof(struct alk_plugin), \
							 __VA_ARGS__}

#endif
