/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "supervisor_private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* One change at a time, in two steps, so that all workers make it or none (worker_plugin.h):
 *
 *   prepare ──all could──▶ commit ──▶ answered
 *      └──────one could not──▶ abort ──▶ answered with its sentence
 *
 * While it is under way no worker is started, so that none misses it; later ones are told which
 * plugins were loaded and unloaded. */

#define CHANGE_MAGIC 0x676e6863u /* "chng" */

struct supervisor_plugin_change {
	uint32_t magic;
	struct alk_supervisor *sup;
	struct alk_admin_call *call;
	char name[32];
	bool load, ours, half; /* loaded in this process, too, by this change; its half was */
	struct alk_err failed;
};

bool supervisor_plugin_busy(const struct alk_supervisor *sup)
{
	return sup->change != NULL;
}

/* What later workers are told */

static bool was_unloaded(const struct alk_supervisor *sup, const char *name)
{
	return json_is_false(json_object_get(sup->changed, name));
}

static void changed_set(struct alk_supervisor *sup, const char *name, bool loaded)
{
	if (sup->changed == NULL)
		sup->changed = json_object();
	json_object_set_new(sup->changed, name, json_boolean(loaded));
}

/* What uses it here */

static const struct supervisor_listener *listener_next(const struct alk_supervisor *sup,
						       const char *name, unsigned *at)
{
	for (; *at < sup->listeners; ++*at) {
		const struct supervisor_listener *listener = &sup->listener[*at];

		if (listener->setup != NULL && strcmp(listener->transport, name) == 0)
			return &sup->listener[(*at)++];
	}
	return NULL;
}

json_t *supervisor_plugin_list(const struct alk_supervisor *sup)
{
	json_t *list = alk_loader_list(sup->loader), *one;
	const char *name;
	size_t i;

	json_array_foreach(list, i, one)
	{
		unsigned at = 0;
		int n = 0;

		name = json_string_value(json_object_get(one, "name"));
		while (listener_next(sup, name, &at) != NULL)
			n++;
		json_object_update_new(one, json_pack("{s:i, s:i, s:i}", "listeners", n, "sessions",
						      0, "channels", 0));
	}
	json_object_foreach(sup->changed, name, one)
	{
		if (json_is_false(one))
			json_array_append_new(list, json_pack("{s:s, s:s}", "name", name, "state",
							      "unloaded"));
	}
	return list;
}

/* The end */

static struct supervisor_plugin_change *change_of(void *user)
{
	struct supervisor_plugin_change *change = user;

	assert(change->magic == CHANGE_MAGIC);
	return change;
}

static void change_free(struct supervisor_plugin_change **changep)
{
	struct supervisor_plugin_change *change = *changep;

	*changep = NULL;
	if (change == NULL)
		return;
	change->magic = 0;
	free(change);
}

static void change_end(struct supervisor_plugin_change *change)
{
	struct alk_supervisor *sup = change->sup;

	sup->change = NULL;
	if (change->failed.text[0] != '\0') {
		alk_log(ALK_LOG_WARN, change->load ? "plugin not loaded" : "plugin not unloaded",
			ALK_STR("name", change->name), ALK_STR("error", change->failed.text));
		alk_admin_error(&change->call, ALK_ADMIN_FAILED, "%s", change->failed.text);
	} else {
		alk_log(ALK_LOG_INFO, change->load ? "plugin loaded" : "plugin unloaded",
			ALK_STR("name", change->name));
		alk_admin_result(&change->call,
				 json_pack("{s:s, s:s}", "name", change->name, "state",
					   change->load ? "loaded" : "unloaded"));
	}
	change_free(&change);
	supervisor_reload_next(sup);
}

static void on_ended(void *user, json_t *result)
{
	json_decref(result);
	change_end(change_of(user));
}

static int change_ask(struct supervisor_plugin_change *change, const char *step,
		      supervisor_asked_fn *done)
{
	json_t *params = json_pack("{s:s, s:b, s:s}", "name", change->name, "load", change->load,
				   "step", step);
	int rc = params != NULL ? supervisor_ask(change->sup, "plugin.change", params, done, change)
				: -ENOMEM;

	json_decref(params);
	return rc;
}

/* This process's own instance, and what later workers are told. */
static void change_own(struct supervisor_plugin_change *change, bool made)
{
	struct alk_supervisor *sup = change->sup;

	if (made)
		changed_set(sup, change->name, change->load);
	if (made ? !change->load : change->ours)
		alk_loader_unload(sup->loader, change->name);
	if (!made && change->half)
		supervisor_half_remove(sup, change->name);
	alk_loader_forbid(sup->loader, change->name, was_unloaded(sup, change->name));
}

static void on_prepared(void *user, json_t *result)
{
	struct supervisor_plugin_change *change = change_of(user);
	const json_t *errors = json_object_get(result, "errors");
	const char *why = json_string_value(json_array_get(errors, 0));
	bool found = json_is_true(json_object_get(result, "found")) ||
		     alk_loader_find(change->sup->loader, change->name) != NULL;

	if (why != NULL)
		alk_err_set(&change->failed, 0, "%s", why);
	else if (!change->load && !found)
		alk_err_set(&change->failed, 0, "plugin %s is not loaded", change->name);
	json_decref(result);
	change_own(change, change->failed.text[0] == '\0');
	if (change_ask(change, change->failed.text[0] == '\0' ? "commit" : "abort", on_ended) < 0) {
		alk_err_set(&change->failed, 0, "out of memory");
		change_end(change);
	}
}

/* The beginning */

/* Path, ABI and options, in an instance that is thrown away; then, for a transport, one to listen
 * with. */
static int load_own(struct supervisor_plugin_change *change, struct alk_err *err)
{
	struct alk_supervisor *sup = change->sup;
	struct alk_conf *conf = alk_conf_copy(sup->conf, err);
	struct alk_loader *loader = NULL;
	struct alk_loaded *loaded = NULL;
	bool transport = false, half = false;

	if (conf != NULL)
		loader = alk_loader_new(NULL, ALK_ROLE_CHECK,
					alk_options_str(sup->values, "plugin_dir"), conf, err);
	if (loader != NULL)
		loaded = alk_loader_get(loader, ALK_PLUGIN_NONE, change->name, err);
	if (loaded != NULL) {
		transport = alk_loaded_plugin(loaded)->kind == ALK_PLUGIN_TRANSPORT;
		half = !transport && alk_loaded_half(loaded) != NULL;
	}
	alk_loader_free(&loader);
	alk_conf_free(&conf);
	if (loaded == NULL)
		return -EINVAL;
	if (half && alk_loader_find(sup->halves, change->name) == NULL)
		return (change->half = supervisor_half_add(sup, change->name, err) == 0) ? 0
											 : -EINVAL;
	if (!transport || alk_loader_find(sup->loader, change->name) != NULL)
		return 0;
	alk_loader_forbid(sup->loader, change->name, false);
	change->ours = alk_loader_get(sup->loader, ALK_PLUGIN_TRANSPORT, change->name, err) != NULL;
	return change->ours ? 0 : -EINVAL;
}

static int unload_check(const struct supervisor_plugin_change *change, struct alk_err *err)
{
	const struct supervisor_listener *listener;
	unsigned at = 0;

	if (alk_loader_find(change->sup->halves, change->name) != NULL)
		return alk_err_set(
			err, -EBUSY,
			"plugin %s is in use: it keeps what is one for all workers as long as the server runs",
			change->name);
	listener = listener_next(change->sup, change->name, &at);
	if (listener == NULL)
		return 0;
	return alk_err_set(err, -EBUSY, "plugin %s is in use: listener %s", change->name,
			   listener->address);
}

static int change_check(const struct alk_supervisor *sup, struct alk_err *err)
{
	if (sup->state != SUPERVISOR_RUNNING)
		return alk_err_set(err, -ESHUTDOWN, "the server is %s",
				   supervisor_state_str(sup->state));
	if (sup->change != NULL || supervisor_reload_busy(sup))
		return alk_err_set(err, -EBUSY,
				   "a reload or another change is under way: try again");
	for (unsigned i = 0; i < sup->slots; i++)
		if (alk_worker_proc_state(sup->slot[i].worker) == ALK_WORKER_STARTING)
			return alk_err_set(err, -EBUSY, "worker %u is starting: try again", i);
	return 0;
}

void supervisor_plugin_change(struct alk_supervisor *sup, struct alk_admin_call *call,
			      const char *name, bool load)
{
	struct supervisor_plugin_change *change = NULL;
	struct alk_err err = {"out of memory"};
	int rc = change_check(sup, &err);

	if (rc == 0 && strlen(name) >= sizeof(change->name))
		rc = alk_err_set(&err, -EINVAL, "there is no plugin with such a long name");
	if (rc == 0 && (change = calloc(1, sizeof(*change))) == NULL)
		rc = -ENOMEM;
	if (rc == 0) {
		*change = (struct supervisor_plugin_change){.magic = CHANGE_MAGIC,
							    .sup = sup,
							    .call = call,
							    .load = load};
		strcpy(change->name, name);
		rc = load ? load_own(change, &err) : unload_check(change, &err);
	}
	if (rc == 0 && (rc = change_ask(change, "prepare", on_prepared)) < 0)
		change_own(change, false);
	if (rc == 0) {
		sup->change = change;
		return;
	}
	change_free(&change);
	alk_admin_error(&call, ALK_ADMIN_FAILED, "%s", err.text);
}

void supervisor_plugin_deinit(struct alk_supervisor *sup)
{
	struct supervisor_plugin_change *change = sup->change;

	sup->change = NULL;
	if (change != NULL)
		alk_admin_error(&change->call, ALK_ADMIN_FAILED, "the server stops");
	change_free(&change);
	json_decref(sup->changed);
}
