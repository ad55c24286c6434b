/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "worker_plugin.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SHOWN_MAX 5 /* sessions that a sentence names */

struct usage {
	unsigned sessions, channels, locals;
	char who[64]; /* "3, 7, 12" */
};

static void usage_of(const struct alk_worker_plugins *p, const char *name, struct usage *usage)
{
	const struct alk_channel_ops *ops = alk_route_ops(p->route, name);
	struct alk_server *v = NULL;
	size_t used = 0;

	*usage = (struct usage){.locals = alk_worker_local_uses(p->locals, name)};
	while ((v = alk_server_next(p->host, v))) {
		bool link;
		unsigned n = alk_server_uses(v, ops, name, &link);

		if (!n && !link)
			continue;
		usage->channels += n;
		if (usage->sessions++ < SHOWN_MAX && used < sizeof(usage->who))
			used += (size_t)snprintf(usage->who + used, sizeof(usage->who) - used,
						 "%s%llu", used ? ", " : "",
						 (unsigned long long)alk_server_number(v));
	}
}

static int load_plugin(const struct alk_worker_plugins *p, const char *name, struct alk_err *err)
{
	struct alk_loaded *loaded = alk_loader_get(p->loader, ALK_PLUGIN_NONE, name, err);
	int rc;

	if (!loaded)
		return -EINVAL;
	if (alk_loaded_plugin(loaded)->kind != ALK_PLUGIN_SERVICE)
		return 0;
	rc = alk_route_add(p->route, loaded, err);
	if (rc < 0)
		alk_loader_unload(p->loader, name);
	return rc;
}

static int prepare_load(struct alk_worker_plugins *p, const char *name, struct alk_err *err)
{
	int rc;

	if (alk_loader_find(p->loader, name))
		return alk_err_set(err, -EEXIST, "plugin %s is loaded", name);
	p->forbidden = alk_loader_forbidden(p->loader, name);
	alk_loader_forbid(p->loader, name, false);
	rc = load_plugin(p, name, err);
	if (rc < 0)
		alk_loader_forbid(p->loader, name, p->forbidden);
	return rc;
}

static void remove_plugin(const struct alk_worker_plugins *p, const char *name)
{
	alk_route_remove(p->route, name);
	alk_loader_unload(p->loader, name);
}

static int prepare_unload(const struct alk_worker_plugins *p, const char *name, struct alk_err *err)
{
	struct usage usage;

	if (alk_route_needs(p->route, name))
		return alk_err_set(err, -EBUSY, "plugin %s is in use: plain destinations go to it",
				   name);
	usage_of(p, name, &usage);
	if (usage.sessions)
		return alk_err_set(err, -EBUSY,
				   "plugin %s is in use: %u %s (%s%s) with %u channels at it", name,
				   usage.sessions, usage.sessions == 1 ? "session" : "sessions",
				   usage.who, usage.sessions > SHOWN_MAX ? ", ..." : "",
				   usage.channels);
	if (usage.locals)
		return alk_err_set(err, -EBUSY, "plugin %s is in use: %u local connections", name,
				   usage.locals);
	alk_route_hold(p->route, name, true);
	return 0;
}

/* The second step is for what was prepared here: a worker that refused has nothing to take back. */
static int change_end(struct alk_worker_plugins *p, const char *name, bool load, bool commit)
{
	if (strcmp(p->prepared, name) != 0)
		return 0;
	p->prepared[0] = '\0';
	if (load == commit) {
		alk_route_hold(p->route, name, false);
		return 0;
	}
	remove_plugin(p, name);
	return alk_loader_forbid(p->loader, name, load ? p->forbidden : true);
}

static int change_begin(struct alk_worker_plugins *p, const char *name, bool load,
			struct alk_err *err)
{
	int rc = load ? prepare_load(p, name, err) : prepare_unload(p, name, err);

	if (rc == 0)
		snprintf(p->prepared, sizeof(p->prepared), "%s", name);
	return rc;
}

json_t *alk_worker_plugin_step(struct alk_worker_plugins *p, const json_t *params,
			       struct alk_err *err)
{
	const char *name = json_string_value(json_object_get(params, "name"));
	const char *step = json_string_value(json_object_get(params, "step"));
	bool load = json_is_true(json_object_get(params, "load")), found;
	int rc;

	if (!name || !step) {
		alk_err_set(err, -EINVAL, "no plugin is named");
		return NULL;
	}
	found = alk_loader_find(p->loader, name) != NULL;
	if (strcmp(step, "prepare") == 0)
		rc = change_begin(p, name, load, err);
	else
		rc = change_end(p, name, load, strcmp(step, "commit") == 0);
	return rc == 0 ? json_pack("{s:b}", "found", found) : NULL;
}

json_t *alk_worker_plugin_list(const struct alk_worker_plugins *p)
{
	json_t *list = alk_loader_list(p->loader), *one;
	struct usage usage;
	size_t i;

	json_array_foreach(list, i, one)
	{
		usage_of(p, json_string_value(json_object_get(one, "name")), &usage);
		json_object_set_new(one, "sessions", json_integer(usage.sessions));
		json_object_set_new(one, "channels", json_integer(usage.channels + usage.locals));
	}
	return list;
}
