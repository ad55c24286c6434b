/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <assert.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <alknet/half.h>
#include <alknet/local.h>
#include <alknet/service.h>
#include <alknet/transport.h>
#include "loader.h"
#include "loader_file.h"
#include "loop_private.h"

#define LOADED_MAGIC 0x616c6c64u
#define NAME_MAX_BYTES 15 /* struct alk_link keeps 16 with the NUL */
/* Where the record of ABI 1.0 ends: what a plugin of any 1.x has at least. */
#define PLUGIN_SIZE_1_0 (offsetof(struct alk_plugin, ops) + sizeof(((struct alk_plugin *)0)->ops))

/* What alk_half_send needs to know. */
struct alk_half {
	const struct alk_loader *loader;
	const char *name;
};

struct alk_loaded {
	uint32_t magic;
	struct alk_half half;
	void *library;
	const struct alk_plugin *plugin;
	struct alk_plugin_env env;
	struct alk_conf *conf; /* that has its options; NULL before it has */
	void *state;
	char *path;
	struct alk_loaded *next;
};

struct alk_loader {
	struct alk_loop *loop;
	enum alk_role role;
	struct alk_conf *conf;
	char *dir;
	json_t *changed; /* {NAME: false = may not be loaded, true = is loaded all the same} */
	struct alk_loaded *loaded; /* the last one first: deinit goes backwards */
	bool halves_only;
	alk_half_send_fn *send;
	alk_half_host_key_fn *host_key;
	alk_half_call_fn *call;
	void *send_user; /* of all three */
	alk_half_listen_fn *listen;
	void *listen_user;
	struct alk_bus *bus;
};

static const char *kind_str(uint32_t kind)
{
	return kind == ALK_PLUGIN_TRANSPORT ? "transport" : "service";
}

/* ---- the record ---- */

static int check_abi(const struct alk_plugin *plugin, size_t symbol_size, struct alk_err *err)
{
	if (symbol_size < offsetof(struct alk_plugin, name))
		return alk_err_set(err, -EINVAL,
				   "its alk_plugin has %zu bytes, which is no plugin record",
				   symbol_size);
	if (plugin->magic != ALK_PLUGIN_MAGIC)
		return alk_err_set(
			err, -EINVAL,
			"its magic number is 0x%08x instead of 0x%08x: it is no alknet plugin",
			(unsigned)plugin->magic, ALK_PLUGIN_MAGIC);
	if (plugin->abi_major != ALK_ABI_MAJOR)
		return alk_err_set(
			err, -EINVAL,
			"it was made for plugin ABI %u.%u, this program has %u.%u: build it again",
			plugin->abi_major, plugin->abi_minor, ALK_ABI_MAJOR, ALK_ABI_MINOR);
	if (plugin->abi_minor > ALK_ABI_MINOR)
		return alk_err_set(
			err, -EINVAL,
			"it needs plugin ABI %u.%u, this program has %u.%u: update alknet",
			plugin->abi_major, plugin->abi_minor, ALK_ABI_MAJOR, ALK_ABI_MINOR);
	if (plugin->struct_size < PLUGIN_SIZE_1_0 || plugin->struct_size > symbol_size)
		return alk_err_set(
			err, -EINVAL,
			"its record says it has %u bytes; it must have %zu or more, and has %zu",
			(unsigned)plugin->struct_size, PLUGIN_SIZE_1_0, symbol_size);
	return 0;
}

static int check_transport(const struct alk_transport_ops *ops, struct alk_err *err)
{
	if (ALK_OP(ops, listen) == NULL && ALK_OP(ops, dial) == NULL)
		return alk_err_set(err, -EINVAL,
				   "it has neither of the operations listen and dial");
	if (ALK_OP(ops, listen) != NULL &&
	    (ALK_OP(ops, unlisten) == NULL || ALK_OP(ops, describe) == NULL))
		return alk_err_set(err, -EINVAL,
				   "it has the operation listen without unlisten and describe");
	if (ALK_OP(ops, admit) != NULL && ALK_OP(ops, admit_cancel) == NULL)
		return alk_err_set(err, -EINVAL, "it has the operation admit without admit_cancel");
	if (ALK_OP(ops, dial) != NULL && ALK_OP(ops, dial_cancel) == NULL)
		return alk_err_set(err, -EINVAL, "it has the operation dial without dial_cancel");
	return 0;
}

static int check_ops(const struct alk_plugin *plugin, struct alk_err *err)
{
	if (plugin->kind != ALK_PLUGIN_TRANSPORT && plugin->kind != ALK_PLUGIN_SERVICE)
		return alk_err_set(err, -EINVAL,
				   "it is of kind %u, which this program does not know",
				   (unsigned)plugin->kind);
	if (plugin->kind == ALK_PLUGIN_TRANSPORT)
		return check_transport(plugin->ops.transport, err);
	if (ALK_OP(plugin->ops.service, open) == NULL)
		return alk_err_set(err, -EINVAL, "it lacks the operation open");
	return 0;
}

/* The file's name without directory and .so; -EINVAL when it has no .so. */
static int path_stem(const char *path, char *stem, size_t size, struct alk_err *err)
{
	const char *base = strrchr(path, '/');
	size_t len;

	base = base != NULL ? base + 1 : path;
	len = strlen(base);
	if (len <= 3 || strcmp(base + len - 3, ".so") != 0 || len - 3 >= size)
		return alk_err_set(err, -EINVAL, "%s is not called NAME.so", path);
	memcpy(stem, base, len - 3);
	stem[len - 3] = '\0';
	return 0;
}

static int check_record(const struct alk_plugin *plugin, size_t symbol_size, const char *stem,
			struct alk_err *err)
{
	int rc = check_abi(plugin, symbol_size, err);

	if (rc < 0)
		return rc;
	if (plugin->name == NULL || strcmp(plugin->name, stem) != 0)
		return alk_err_set(err, -EINVAL,
				   "it calls itself \"%.32s\": a plugin has the name of its file",
				   plugin->name != NULL ? plugin->name : "");
	if (plugin->version == NULL)
		return alk_err_set(err, -EINVAL, "it has no version");
	return check_ops(plugin, err);
}

/* The record, if it is the library's own and not that of something it is linked with. */
static const struct alk_plugin *library_find(void *library, size_t *size)
{
	const ElfW(Sym) *symbol = NULL;
	const void *found = dlsym(library, "alk_plugin");
	struct link_map *map;
	Dl_info info;

	if (found == NULL || dlinfo(library, RTLD_DI_LINKMAP, &map) != 0 ||
	    dladdr1(found, &info, (void **)&symbol, RTLD_DL_SYMENT) == 0 || symbol == NULL ||
	    info.dli_saddr != found || strcmp(info.dli_fname, map->l_name) != 0)
		return NULL;
	*size = symbol->st_size;
	return found;
}

/* Open and check. 0 gives the library and its record. */
/* A program may hold an OpenSSL of its own, as node does, whose functions a plugin would find
 * before those of the libraries that it was linked with. The sanitizers do not go together with
 * it. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define DEEP 0
#else
#define DEEP RTLD_DEEPBIND
#endif

static int library_open(const char *path, int deep, void **library,
			const struct alk_plugin **plugin, struct alk_err *err)
{
	char stem[NAME_MAX_BYTES + 1];
	size_t size;
	int rc;

	rc = path_stem(path, stem, sizeof(stem), err);
	if (rc == 0)
		rc = alk_loader_file_check(path, err);
	if (rc == 0)
		rc = alk_loader_file_try(path, err);
	if (rc < 0)
		return rc;
	*library = dlopen(path, RTLD_NOW | RTLD_LOCAL | deep);
	if (*library == NULL)
		return alk_err_set(err, -ENOEXEC, "%s", dlerror());
	*plugin = library_find(*library, &size);
	if (*plugin == NULL)
		rc = alk_err_set(err, -EINVAL,
				 "%s has no symbol alk_plugin: it is no alknet plugin", path);
	else if ((rc = check_record(*plugin, size, stem, err)) < 0)
		alk_err_prefix(err, rc, "%s", path);
	if (rc < 0)
		dlclose(*library);
	return rc;
}

int alk_loader_check_file(const char *path, struct alk_err *err)
{
	const struct alk_plugin *plugin;
	void *library;
	int rc = library_open(path, 0, &library, &plugin, err);

	if (rc == 0)
		dlclose(library);
	return rc;
}

/* ---- what is loaded ---- */

static void loaded_free(struct alk_loaded *loaded)
{
	/* init may have failed: then there is no env, and nothing to take back. */
	if (loaded->env.size != 0 && loaded->plugin->deinit != NULL)
		loaded->plugin->deinit(&loaded->state);
	/* The values' table is in the library. */
	if (loaded->plugin != NULL && loaded->conf != NULL)
		alk_conf_plugin_forget(loaded->conf, loaded->plugin->name);
	if (loaded->library != NULL)
		dlclose(loaded->library);
	loaded->magic = 0;
	free(loaded->path);
	free(loaded);
}

static int loaded_init(struct alk_loaded *loaded, const struct alk_loader *loader,
		       struct alk_err *err)
{
	struct alk_plugin_env env = {.size = sizeof(env),
				     .role = loader->role,
				     .loop = loader->loop};
	int rc;

	env.options = alk_conf_plugin(loader->conf, loaded->plugin, err);
	if (env.options == NULL)
		return -EINVAL;
	loaded->conf = loader->conf;
	if (loader->role == ALK_ROLE_CHECK)
		return 0;
	env.connect_timeout = (uint64_t)alk_options_int(alk_conf_values(loader->conf),
							"connect_timeout");
	if (alk_loaded_half(loaded) != NULL && loader->role != ALK_ROLE_CLIENT) {
		loaded->half = (struct alk_half){loader, loaded->plugin->name};
		env.half = &loaded->half;
	}
	env.bus = loader->bus;
	loaded->env = env;
	if (loaded->plugin->init == NULL)
		return 0;
	rc = loaded->plugin->init(&loaded->env, &loaded->state, err);
	if (rc < 0) {
		loaded->env.size = 0;
		return alk_err_prefix(err, rc, "plugin %s", loaded->plugin->name);
	}
	return 0;
}

/* -EPROTOTYPE when it is of another kind. */
static int loaded_check_kind(const struct alk_loaded *loaded, enum alk_plugin_kind kind,
			     struct alk_err *err)
{
	const struct alk_plugin *plugin = loaded->plugin;

	if (plugin->kind == kind || kind == ALK_PLUGIN_NONE)
		return 0;
	return alk_err_set(err, -EPROTOTYPE, "plugin %s is a %s, not a %s", plugin->name,
			   kind_str(plugin->kind), kind_str(kind));
}

static int loaded_open(struct alk_loaded *loaded, const struct alk_loader *loader,
		       enum alk_plugin_kind kind, const char *name, struct alk_err *err)
{
	int rc;

	if (asprintf(&loaded->path, "%s/%s.so", loader->dir, name) < 0) {
		loaded->path = NULL;
		return alk_err_set(err, -ENOMEM, "plugin %s: out of memory", name);
	}
	/* Again, because a directory's mode may have changed since the program began. */
	rc = alk_loader_dir_check(loader->dir, err);
	if (rc == 0)
		rc = library_open(loaded->path,
				  loader->loop != NULL && alk_loop_is_guest(loader->loop) ? DEEP
											  : 0,
				  &loaded->library, &loaded->plugin, err);
	if (rc < 0) {
		loaded->library = NULL;
		return alk_err_prefix(err, rc, "plugin %s", name);
	}
	rc = loaded_check_kind(loaded, kind, err);
	if (rc == 0 && loader->halves_only && alk_loaded_half(loaded) == NULL)
		rc = alk_err_set(err, -EPROTOTYPE, "plugin %s has no half", name);
	return rc < 0 ? rc : loaded_init(loaded, loader, err);
}

int alk_loader_get_transports(struct alk_loader *loader, struct alk_err *err)
{
	struct alk_conf_listen listen[ALK_LISTENERS_MAX];
	size_t n = alk_conf_listeners(loader->conf, listen, ALK_LISTENERS_MAX);

	for (size_t i = 0; i < n && i < ALK_LISTENERS_MAX; i++)
		if (alk_loader_get(loader, ALK_PLUGIN_TRANSPORT, listen[i].transport, err) == NULL)
			return -EINVAL;
	return 0;
}

int alk_loaded_check(const struct alk_loaded *loaded, enum alk_role role, struct alk_err *err)
{
	const struct alk_plugin *plugin = loaded->plugin;
	const struct alk_options *options;
	int rc;

	if (plugin->struct_size < offsetof(struct alk_plugin, check) + sizeof(plugin->check) ||
	    plugin->check == NULL)
		return 0;
	options = alk_conf_plugin(loaded->conf, plugin, err);
	if (options == NULL)
		return -EINVAL;
	rc = plugin->check(role, options, err);
	return rc < 0 ? alk_err_prefix(err, rc, "plugin %s", plugin->name) : 0;
}

int alk_loader_check_listen(struct alk_loader *loader, struct alk_err *err)
{
	struct alk_conf_listen listen[ALK_LISTENERS_MAX];
	size_t n = alk_conf_listeners(loader->conf, listen, ALK_LISTENERS_MAX);

	for (size_t i = 0; i < n && i < ALK_LISTENERS_MAX; i++) {
		const struct alk_loaded *loaded = alk_loader_get(loader, ALK_PLUGIN_TRANSPORT,
								 listen[i].transport, err);
		const struct alk_transport_ops *ops;

		if (loaded == NULL || alk_loaded_check(loaded, ALK_ROLE_SUPERVISOR, err) < 0)
			return -EINVAL;
		ops = loaded->plugin->ops.transport;
		if (ALK_OP(ops, check) != NULL && ops->check(listen[i].address, err) < 0)
			return alk_err_prefix(err, -EINVAL, "listen");
	}
	return 0;
}

int alk_loader_check_services(struct alk_loader *loader, struct alk_err *err)
{
	const struct alk_options *values = alk_conf_values(loader->conf);
	struct alk_err why;
	const char *name;

	for (size_t i = 0; (name = alk_options_nth(values, "services", i)) != NULL; i++)
		if (strcmp(name, "none") != 0 &&
		    alk_loader_get(loader, ALK_PLUGIN_SERVICE, name, &why) == NULL)
			return alk_err_set(err, -ENOENT, "services: %s", why.text);
	return 0;
}

struct alk_loaded *alk_loader_find(const struct alk_loader *loader, const char *name)
{
	struct alk_loaded *loaded;

	for (loaded = loader->loaded; loaded != NULL; loaded = loaded->next)
		if (strcmp(loaded->plugin->name, name) == 0)
			return loaded;
	return NULL;
}

static int name_check(const char *name, struct alk_err *err)
{
	size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_");

	if (len == 0 || name[len] != '\0' || len > NAME_MAX_BYTES)
		return alk_err_set(
			err, -EINVAL,
			"\"%.64s\" is no name of a plugin: it has 1 to %d of a-z, 0-9, - and _",
			name, NAME_MAX_BYTES);
	return 0;
}

static int loader_load(struct alk_loader *loader, enum alk_plugin_kind kind, const char *name,
		       struct alk_loaded **out, struct alk_err *err)
{
	struct alk_loaded *loaded;
	int rc = name_check(name, err);

	if (rc < 0)
		return rc;
	*out = loaded = alk_loader_find(loader, name);
	if (loaded != NULL)
		return loaded_check_kind(loaded, kind, err);
	if (alk_loader_forbidden(loader, name))
		return alk_err_set(err, -ECANCELED,
				   "plugin %s was unloaded; plugin.load takes it back", name);
	loaded = calloc(1, sizeof(*loaded));
	if (loaded == NULL)
		return alk_err_set(err, -ENOMEM, "plugin %s: out of memory", name);
	loaded->magic = LOADED_MAGIC;
	rc = loaded_open(loaded, loader, kind, name, err);
	if (rc < 0) {
		loaded_free(loaded);
		return rc;
	}
	loaded->next = loader->loaded;
	*out = loader->loaded = loaded;
	return 0;
}

struct alk_loaded *alk_loader_get(struct alk_loader *loader, enum alk_plugin_kind kind,
				  const char *name, struct alk_err *err)
{
	struct alk_loaded *loaded;

	return loader_load(loader, kind, name, &loaded, err) == 0 ? loaded : NULL;
}

static int is_plugin_file(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);

	return len > 3 && strcmp(entry->d_name + len - 3, ".so") == 0;
}

/* The option `services`: which of them. */
static bool scan_wants(const struct alk_loader *loader, enum alk_plugin_kind kind, const char *name)
{
	const struct alk_options *values = alk_conf_values(loader->conf);
	const char *one;

	if (json_is_true(json_object_get(loader->changed, name)))
		return true;
	if (kind != ALK_PLUGIN_SERVICE || loader->role == ALK_ROLE_CLIENT ||
	    !alk_options_has(values, "services") || strcmp(name, ALK_SERVICE_PLAIN) == 0)
		return true;
	for (size_t i = 0; (one = alk_options_nth(values, "services", i)) != NULL; i++)
		if (strcmp(one, name) == 0)
			return true;
	return false;
}

int alk_loader_scan(struct alk_loader *loader, enum alk_plugin_kind kind, alk_loaded_fn *on_loaded,
		    alk_loader_refused_fn *on_refused, void *user)
{
	struct dirent **entries;
	struct alk_loaded *loaded;
	struct alk_err err;
	int i, rc, n = scandir(loader->dir, &entries, is_plugin_file, alphasort);

	if (n < 0)
		return -errno;
	for (i = 0; i < n; i++) {
		char *name = entries[i]->d_name;

		name[strlen(name) - 3] = '\0';
		rc = scan_wants(loader, kind, name) ? loader_load(loader, kind, name, &loaded, &err)
						    : -ECANCELED;
		if (rc == 0)
			on_loaded(user, loaded);
		else if (rc != -EPROTOTYPE && rc != -ECANCELED)
			on_refused(user, name, &err);
		free(entries[i]);
	}
	free(entries);
	return 0;
}

void alk_loader_unload(struct alk_loader *loader, const char *name)
{
	struct alk_loaded **at = &loader->loaded, *loaded;

	while (*at != NULL && strcmp((*at)->plugin->name, name) != 0)
		at = &(*at)->next;
	loaded = *at;
	if (loaded == NULL)
		return;
	*at = loaded->next;
	loaded_free(loaded);
}

int alk_loader_forbid(struct alk_loader *loader, const char *name, bool forbidden)
{
	if (!forbidden)
		json_object_del(loader->changed, name);
	else if (json_object_set_new(loader->changed, name, json_false()) < 0)
		return -ENOMEM;
	return 0;
}

int alk_loader_change(struct alk_loader *loader, const json_t *changed)
{
	return json_object_update(loader->changed, (json_t *)(uintptr_t)changed) == 0 ? 0 : -ENOMEM;
}

bool alk_loader_forbidden(const struct alk_loader *loader, const char *name)
{
	return json_is_false(json_object_get(loader->changed, name));
}

bool alk_loader_configured(const struct alk_loader *loader, const char *name)
{
	return alk_conf_has_section(loader->conf, name);
}

const struct alk_plugin *alk_loaded_plugin(const struct alk_loaded *loaded)
{
	assert(loaded->magic == LOADED_MAGIC);
	return loaded->plugin;
}

void *alk_loaded_state(const struct alk_loaded *loaded)
{
	assert(loaded->magic == LOADED_MAGIC);
	return loaded->state;
}

/* ---- halves ---- */

const struct alk_half_ops *alk_loaded_half(const struct alk_loaded *loaded)
{
	const struct alk_plugin *plugin = loaded->plugin;

	return plugin->struct_size >= offsetof(struct alk_plugin, half) + sizeof(plugin->half)
		       ? plugin->half
		       : NULL;
}

void alk_loader_halves_only(struct alk_loader *loader)
{
	loader->halves_only = true;
}

void alk_loader_each(const struct alk_loader *loader, alk_loaded_fn *fn, void *user)
{
	struct alk_loaded *loaded, *next;

	for (loaded = loader->loaded; loaded != NULL; loaded = next) {
		next = loaded->next;
		fn(user, loaded);
	}
}

void alk_loader_set_bus(struct alk_loader *loader, struct alk_bus *bus)
{
	loader->bus = bus;
}

void alk_loader_set_send(struct alk_loader *loader, alk_half_send_fn *send, void *user)
{
	loader->send = send;
	loader->send_user = user;
}

bool alk_loader_hear(const struct alk_loader *loader, const char *name, uint64_t worker,
		     const uint8_t *bytes, size_t n)
{
	const struct alk_loaded *loaded = alk_loader_find(loader, name);
	const struct alk_half_ops *half = loaded != NULL ? alk_loaded_half(loaded) : NULL;

	if (half == NULL)
		return false;
	if (ALK_OP(half, message) != NULL)
		half->message(loaded->state, worker, bytes, n);
	return true;
}

void alk_loader_set_host_key(struct alk_loader *loader, alk_half_host_key_fn *take)
{
	loader->host_key = take;
}

int alk_half_host_key(struct alk_half *half, const char *what, const uint8_t *private,
		      const uint8_t *public)
{
	const struct alk_loader *loader = half->loader;

	return loader->host_key != NULL ? loader->host_key(loader->send_user, what, private, public)
					: -EPIPE;
}

void alk_loader_set_listen(struct alk_loader *loader, alk_half_listen_fn *listen, void *user)
{
	loader->listen = listen;
	loader->listen_user = user;
}

struct alk_local_listener *alk_half_listen(struct alk_half *half, const char *option,
					   const char *path, mode_t mode, gid_t gid,
					   struct alk_err *err)
{
	const struct alk_loader *loader = half->loader;

	if (loader->listen != NULL)
		return loader->listen(loader->listen_user, half->name, option, path, mode, gid,
				      err);
	alk_err_set(err, -EOPNOTSUPP, "%s: not in this process", option);
	return NULL;
}

void alk_loader_set_call(struct alk_loader *loader, alk_half_call_fn *run)
{
	loader->call = run;
}

struct alk_half_call {
	void (*done)(void *user, const char *result, const char *error); /* NULL: cancelled */
	void *user;
	struct alk_half_call **slot; /* the caller's; NULL when cancelled */
};

int alk_half_call(struct alk_half *half, const char *method, const char *params,
		  void (*done)(void *user, const char *result, const char *error), void *user,
		  struct alk_half_call **slot)
{
	const struct alk_loader *loader = half->loader;
	struct alk_half_call *call = calloc(1, sizeof(*call));
	int rc = loader->call != NULL ? -ENOMEM : -EPIPE;

	*slot = NULL;
	if (call == NULL || loader->call == NULL) {
		free(call);
		return rc;
	}
	*call = (struct alk_half_call){done, user, slot};
	*slot = call;
	rc = loader->call(loader->send_user, method, params, call);
	if (rc < 0) {
		*slot = NULL;
		free(call);
	}
	return rc;
}

void alk_loader_answer_call(struct alk_half_call *call, const char *result, const char *error)
{
	if (call->slot != NULL)
		*call->slot = NULL;
	if (call->done != NULL)
		call->done(call->user, result, error);
	free(call);
}

void alk_half_call_cancel(struct alk_half_call **slot)
{
	if (*slot == NULL)
		return;
	(*slot)->done = NULL;
	(*slot)->slot = NULL;
	*slot = NULL;
}

int alk_half_send(struct alk_half *half, uint64_t worker, const void *bytes, size_t n)
{
	const struct alk_loader *loader = half->loader;

	if (n > ALK_HALF_MESSAGE_MAX)
		return -EMSGSIZE;
	return loader->send != NULL ? loader->send(loader->send_user, half->name, worker, bytes, n)
				    : -EPIPE;
}

/* ---- the loader ---- */

struct alk_loader *alk_loader_new(struct alk_loop *loop, enum alk_role role, const char *dir,
				  struct alk_conf *conf, struct alk_err *err)
{
	struct alk_loader *loader;

	if (alk_loader_dir_check(dir, err) < 0)
		return NULL;
	loader = calloc(1, sizeof(*loader));
	if (loader == NULL || (loader->dir = strdup(dir)) == NULL ||
	    (loader->changed = json_object()) == NULL) {
		if (loader != NULL)
			free(loader->dir);
		free(loader);
		alk_err_set(err, -ENOMEM, "cannot load plugins: out of memory");
		return NULL;
	}
	loader->loop = loop;
	loader->role = role;
	loader->conf = conf;
	return loader;
}

void alk_loader_free(struct alk_loader **loader)
{
	struct alk_loader *l = *loader;
	struct alk_loaded *loaded;

	if (l == NULL)
		return;
	while ((loaded = l->loaded) != NULL) {
		l->loaded = loaded->next;
		loaded_free(loaded);
	}
	json_decref(l->changed);
	free(l->dir);
	free(l);
	*loader = NULL;
}

json_t *alk_loader_list(const struct alk_loader *loader)
{
	const struct alk_loaded *loaded;
	json_t *list = json_array();
	char abi[16];

	for (loaded = loader->loaded; loaded != NULL; loaded = loaded->next) {
		snprintf(abi, sizeof(abi), "%u.%u", loaded->plugin->abi_major,
			 loaded->plugin->abi_minor);
		json_array_insert_new(list, 0,
				      json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "name",
						loaded->plugin->name, "kind",
						kind_str(loaded->plugin->kind), "version",
						loaded->plugin->version, "abi", abi, "path",
						loaded->path, "state", "loaded"));
	}
	return list;
}
