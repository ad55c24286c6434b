/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_TESTS_LOAD_H
#define ALK_TESTS_LOAD_H

/* What the plugins that the loader is tested with have in common: a record that is right but for
 * what its own file says. ALK_PLUGIN() would not let them be wrong. */

#include <errno.h>
#include <alknet/alknet.h>

#define LOAD_RECORD(...)                                                                           \
	ALK_EXPORT extern const struct alk_plugin alk_plugin;                                      \
	ALK_EXPORT const struct alk_plugin alk_plugin = {__VA_ARGS__}

#define LOAD_ABI .abi_major = ALK_ABI_MAJOR, .abi_minor = ALK_ABI_MINOR
#define LOAD_HEAD .magic = ALK_PLUGIN_MAGIC, LOAD_ABI, .struct_size = sizeof(struct alk_plugin)

static inline int load_open(void *state, struct alk_channel *channel,
			    const struct alk_destination *to, void **user, struct alk_err *err)
{
	(void)state;
	(void)channel;
	(void)to;
	(void)user;
	return alk_err_set(err, -ECONNREFUSED, "this one refuses everything");
}

static const struct alk_service_ops load_service = {.size = sizeof(load_service),
						    .open = load_open};

/* What good.c keeps, for the test to look at. */
struct load_state {
	enum alk_role role;
	struct alk_loop *loop;
	const char *word;
	uint64_t connect_timeout;
	int *deinits; /* counted up by deinit, when the test has set it */
};

#endif
