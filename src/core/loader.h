/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_LOADER_H
#define ALK_LOADER_H

/* Finds, checks and opens plugins. A plugin that does not fit is refused with a sentence and the
 * rest runs: missing file or symbol, wrong magic, other ABI major, newer minor, struct too small,
 * name not the file's stem, unknown kind, a required operation missing, a file or directory that
 * others may write, a path that is not absolute. Opened with RTLD_NOW | RTLD_LOCAL. */

#include <stddef.h>
#include <sys/types.h>
#include "conf.h"

/* The service that plain destinations go to: a server is never without it. */
#define ALK_SERVICE_PLAIN "forward"

struct alk_loader;
struct alk_half_call;
struct alk_loaded; /* one plugin in use */

/* `dir` is borrowed for the call; must be absolute. */
struct alk_loader *alk_loader_new(struct alk_loop *loop, enum alk_role role, const char *dir,
				  struct alk_conf *conf, struct alk_err *err);
/* Deinit and close everything. */
void alk_loader_free(struct alk_loader **loader);
/* Load by name (dir/NAME.so; dir/transports and dir/services are the same flat dir) and init it; a
 * second call gives the same one. ALK_PLUGIN_NONE is any kind. NULL with `err`. */
struct alk_loaded *alk_loader_get(struct alk_loader *loader, enum alk_plugin_kind kind,
				  const char *name, struct alk_err *err);
/* The transports of all listeners of the configuration. -EINVAL with `err`. */
int alk_loader_get_transports(struct alk_loader *loader, struct alk_err *err);
/* Load every plugin of `kind` in the directory, in the order of their names: `on_loaded` for each,
 * also for one that was loaded before, and `on_refused` with the sentence for each file NAME.so
 * that does not fit; the others are loaded all the same. Plugins of another kind are left alone.
 * -errno when the directory cannot be read. */
typedef void alk_loaded_fn(void *user, struct alk_loaded *loaded);
typedef void alk_loader_refused_fn(void *user, const char *name, const struct alk_err *why);
int alk_loader_scan(struct alk_loader *loader, enum alk_plugin_kind kind, alk_loaded_fn *on_loaded,
		    alk_loader_refused_fn *on_refused, void *user);
/* The one of this name if it is loaded, or NULL. */
struct alk_loaded *alk_loader_find(const struct alk_loader *loader, const char *name);
/* Deinit and close one; whoever calls knows that nothing uses it. Nothing happens when it is not
 * loaded. */
void alk_loader_unload(struct alk_loader *loader, const char *name);
/* From now on the plugin may not be loaded (a scan passes it over), or may again. -ENOMEM. */
int alk_loader_forbid(struct alk_loader *loader, const char *name, bool forbidden);
/* What was done at run time, before a scan: {NAME: false = was unloaded, true = was loaded, so that
 * the option `services` does not pass it over}. Borrows it. -ENOMEM. */
int alk_loader_change(struct alk_loader *loader, const json_t *changed);
bool alk_loader_forbidden(const struct alk_loader *loader, const char *name);
/* Does the configuration speak of it? */
bool alk_loader_configured(const struct alk_loader *loader, const char *name);
/* Only plugins that have a half (alknet/half.h) are loaded from now on; the others are passed over
 * by a scan. */
void alk_loader_halves_only(struct alk_loader *loader);
void alk_loader_each(const struct alk_loader *loader, alk_loaded_fn *fn, void *user);
/* Who carries what the halves say. `name` is the plugin's. Returns as alk_half_send does. */
typedef int alk_half_send_fn(void *user, const char *name, uint64_t worker, const void *bytes,
			     size_t n);
void alk_loader_set_send(struct alk_loader *loader, alk_half_send_fn *send, void *user);
/* Who takes the host key of a half in the supervisor: alk_half_host_key. */
typedef int alk_half_host_key_fn(void *user, const char *what, const uint8_t *private,
				 const uint8_t *public);
void alk_loader_set_host_key(struct alk_loader *loader, alk_half_host_key_fn *take);
/* Who opens their local sockets (alknet/local.h): gives a struct alk_local_listener. */
typedef void *alk_half_listen_fn(void *user, const char *name, const char *option, const char *path,
				 unsigned mode, gid_t gid, struct alk_err *err);
void alk_loader_set_listen(struct alk_loader *loader, alk_half_listen_fn *listen, void *user);
/* Who runs the admin commands that halves ask for: alk_half_call. */
typedef int alk_half_call_fn(void *user, const char *method, const char *params,
			     struct alk_half_call *call);
void alk_loader_set_call(struct alk_loader *loader, alk_half_call_fn *run);
/* The answer, once for each that was run with success; `call` is gone then. */
void alk_loader_answer_call(struct alk_half_call *call, const char *result, const char *error);
/* What env.bus is; before anything is loaded. */
struct alk_bus;
void alk_loader_set_bus(struct alk_loader *loader, struct alk_bus *bus);
/* The table, NULL when the plugin has none or is older. */
/* Do its options fit together (`check` of the plugin)? Of a loader whose role is CHECK; `role`: of whose
 * configuration. */
int alk_loaded_check(const struct alk_loaded *loaded, enum alk_role role, struct alk_err *err);
/* The same for all transports that a server's configuration listens on, and its addresses. */
int alk_loader_check_listen(struct alk_loader *loader, struct alk_err *err);
/* Each service that the option `services` names has to be there. */
int alk_loader_check_services(struct alk_loader *loader, struct alk_err *err);
const struct alk_half_ops *alk_loaded_half(const struct alk_loaded *loaded);
/* Hand on what the other half said. False when no such plugin is here. */
bool alk_loader_hear(const struct alk_loader *loader, const char *name, uint64_t worker,
		     const uint8_t *bytes, size_t n);
const struct alk_plugin *alk_loaded_plugin(const struct alk_loaded *loaded);
void *alk_loaded_state(const struct alk_loaded *loaded);
/* [{"name","kind","version","abi","path","state"}], new reference; for plugin.list. */
json_t *alk_loader_list(const struct alk_loader *loader);
/* Open and check one file without init. For tests and `alknet check`. */
int alk_loader_check_file(const char *path, struct alk_err *err);

/* An operation of a transport or service table, NULL when the (older, shorter) table lacks it. */
#define ALK_OP(table_, member_)                                                                    \
	((table_) != NULL && (table_)->size >= offsetof(__typeof__(*(table_)), member_) +          \
						       sizeof((table_)->member_)                   \
		 ? (table_)->member_                                                               \
		 : NULL)

#endif
