/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "supervisor_private.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "admin_socket.h"
#include "log_private.h"
#include "options_private.h"
#include "upgrade.h"

/* Events */

#define WATCHER_MAGIC 0x68637477u /* "wtch" */

struct supervisor_watcher {
	uint32_t magic;
	struct alk_supervisor *sup;
	struct alk_admin_call *call;
	struct supervisor_watcher *next;
};

bool supervisor_watched(const struct alk_supervisor *sup)
{
	return sup->watchers != NULL;
}

void supervisor_event(struct alk_supervisor *sup, json_t *event)
{
	struct timespec now;

	if (event != NULL && sup->watchers != NULL) {
		clock_gettime(CLOCK_REALTIME, &now);
		json_object_set_new(event, "time",
				    json_real((double)(now.tv_sec * 1000 + now.tv_nsec / 1000000) /
					      1000));
		for (struct supervisor_watcher *watcher = sup->watchers; watcher != NULL;
		     watcher = watcher->next)
			alk_admin_event(watcher->call, json_incref(event));
	}
	json_decref(event);
}

static void tell_watched(struct alk_supervisor *sup, bool on)
{
	supervisor_broadcast(sup, json_pack("{s:s, s:b}", "op", "watch", "on", on));
}

static void on_watch_closed(void *user, struct alk_admin_call *call)
{
	struct supervisor_watcher *watcher = user, **at = &watcher->sup->watchers;
	struct alk_supervisor *sup = watcher->sup;

	(void)call;
	assert(watcher->magic == WATCHER_MAGIC);
	while (*at != watcher)
		at = &(*at)->next;
	*at = watcher->next;
	watcher->magic = 0;
	free(watcher);
	if (sup->watchers == NULL)
		tell_watched(sup, false);
}

static void admin_watch(void *user, struct alk_admin_call *call, json_t *params)
{
	struct alk_supervisor *sup = supervisor_of(user);
	struct supervisor_watcher *watcher = calloc(1, sizeof(*watcher));

	(void)params;
	if (watcher == NULL) {
		alk_admin_error(&call, ALK_ADMIN_FAILED, "out of memory");
		return;
	}
	if (sup->watchers == NULL)
		tell_watched(sup, true);
	*watcher = (struct supervisor_watcher){.magic = WATCHER_MAGIC,
					       .sup = sup,
					       .call = call,
					       .next = sup->watchers};
	sup->watchers = watcher;
	alk_admin_stream(call, on_watch_closed, watcher);
}

/* What is there */

static json_t *worker_list(const struct alk_supervisor *sup)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < sup->slots; i++) {
		const struct supervisor_slot *slot = &sup->slot[i];
		struct alk_metrics of = {0};

		if (slot->role == SLOT_FREE)
			continue;
		if (sup->in_process && slot->role == SLOT_SERVES)
			alk_metrics_add(&of, alk_board_self, true); /* of all in the process */
		else if (alk_worker_proc_state(slot->worker) != ALK_WORKER_DEAD)
			alk_metrics_add(&of, alk_worker_proc_board(slot->worker), true);
		json_array_append_new(list,
				      json_pack("{s:i, s:i, s:s, s:I, s:i, s:I, s:I}", "worker",
						(int)i, "pid",
						(int)alk_worker_proc_pid(slot->worker), "state",
						alk_worker_proc_state_str(
							alk_worker_proc_state(slot->worker)),
						"generation", (json_int_t)slot->setup->generation,
						"links", (int)slot->links, "sessions",
						(json_int_t)of.total[ALK_M_SESSIONS], "channels",
						(json_int_t)of.total[ALK_M_CHANNELS]));
	}
	return list;
}

static json_t *listener_list(const struct alk_supervisor *sup)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < sup->listeners; i++) {
		const struct supervisor_listener *listener = &sup->listener[i];
		const char *state;

		if (listener->setup == NULL)
			continue;
		state = listener->listener == NULL ? "closed"
			: listener->paused	   ? "paused"
						   : "open";

		json_array_append_new(list, json_pack("{s:i, s:s, s:s, s:s, s:I}", "listener",
						      (int)i, "transport", listener->transport,
						      "address", listener->address, "state", state,
						      "accepted", (json_int_t)listener->accepted));
	}
	return list;
}

static uint64_t refused_total(const struct alk_supervisor *sup)
{
	uint64_t n = 0;

	for (int why = 1; why < ALK_REFUSAL_COUNT; why++)
		n += sup->refused[why].total;
	return n;
}

static json_t *limits_of(const struct alk_supervisor *sup)
{
	const struct alk_limit_conf *conf = &sup->limit_conf;
	char startups[48];

	snprintf(startups, sizeof(startups), "%u:%u:%u", conf->start, conf->rate, conf->full);
	return json_pack("{s:i, s:s, s:i}", "max_connections_per_ip", (int)conf->per_address,
			 "max_startups", startups, "max_sessions", (int)conf->sessions);
}

static void admin_status(void *user, struct alk_admin_call *call, json_t *params)
{
	const struct alk_supervisor *sup = supervisor_of(user);
	struct alk_metrics sum;
	json_t *result;

	(void)params;
	supervisor_sum_metrics(sup, &sum);
	result = json_pack("{s:s, s:i, s:s, s:b, s:f, s:I}", "version", PACKAGE_VERSION, "pid",
			   (int)getpid(), "state", supervisor_state_str(sup->state), "draining",
			   sup->state >= SUPERVISOR_DRAINING, "uptime",
			   (double)(alk_loop_now(sup->loop) - sup->started) / 1000, "generation",
			   (json_int_t)sup->generation);
	if (result != NULL)
		json_object_update_new(result,
				       json_pack("{s:i, s:i, s:i, s:I, s:I, s:I, s:I, s:i, s:b}",
						 "links", (int)alk_limit_links(sup->limit),
						 "startups", (int)alk_limit_startups(sup->limit),
						 "waiting", (int)alk_turns_count(sup->turns),
						 "sessions", (json_int_t)sum.total[ALK_M_SESSIONS],
						 "channels", (json_int_t)sum.total[ALK_M_CHANNELS],
						 "links_refused", (json_int_t)refused_total(sup),
						 "worker_restarts", (json_int_t)sup->restarts,
						 "penalties", (int)alk_penalty_count(sup->penalty),
						 "in_process", sup->in_process));
	if (result != NULL)
		json_object_update_new(result,
				       json_pack("{s:o, s:o, s:o, s:o}", "restart_needed",
						 supervisor_reload_restart(sup), "limits",
						 limits_of(sup), "workers", worker_list(sup),
						 "listeners", listener_list(sup)));
	alk_admin_result(&call, result);
}

static void admin_listener_list(void *user, struct alk_admin_call *call, json_t *params)
{
	(void)params;
	alk_admin_result(&call,
			 json_pack("{s:o, s:o}", "listeners", listener_list(supervisor_of(user)),
				   "remote", supervisor_remote_list(supervisor_of(user))));
}

static void admin_metrics(void *user, struct alk_admin_call *call, json_t *params)
{
	struct alk_metrics_text out = {0};

	(void)params;
	supervisor_metrics(supervisor_of(user), &out);
	if (out.failed)
		alk_admin_error(&call, ALK_ADMIN_FAILED, "out of memory");
	else
		alk_admin_result(&call, json_pack("{s:s}", "text", out.text));
	alk_metrics_text_deinit(&out);
}

static void admin_health(void *user, struct alk_admin_call *call, json_t *params)
{
	const struct alk_supervisor *sup = supervisor_of(user);
	const char *why = supervisor_unready(sup);

	(void)params;
	alk_admin_result(&call, json_pack("{s:b, s:s, s:s}", "ready", why == NULL, "state",
					  supervisor_state_str(sup->state), "reason",
					  why != NULL ? why : ""));
}

/* What workers answer */

static void admin_session_list(void *user, struct alk_admin_call *call, json_t *params)
{
	supervisor_query(supervisor_of(user), call, -1, "session.list", params,
			 SUPERVISOR_MERGE_LIST, "sessions");
}

static void admin_channel_list(void *user, struct alk_admin_call *call, json_t *params)
{
	supervisor_query(supervisor_of(user), call, -1, "channel.list", params,
			 SUPERVISOR_MERGE_LIST, "channels");
}

/* A session's number is its link's: it tells which worker has it. */
static void query_session(struct alk_supervisor *sup, struct alk_admin_call *call,
			  const char *method, const char *key, json_t *params)
{
	json_int_t id = json_integer_value(json_object_get(params, key));
	const struct alk_linktab_entry *entry = alk_linktab_find(sup->links, (uint64_t)id);

	if (entry == NULL)
		alk_admin_error(&call, ALK_ADMIN_FAILED, "there is no session %lld", (long long)id);
	else
		supervisor_query(sup, call, (int)entry->worker, method, params,
				 SUPERVISOR_MERGE_FIRST, "");
}

static void admin_session_show(void *user, struct alk_admin_call *call, json_t *params)
{
	query_session(supervisor_of(user), call, "session.show", "id", params);
}

static void admin_session_kill(void *user, struct alk_admin_call *call, json_t *params)
{
	query_session(supervisor_of(user), call, "session.kill", "id", params);
}

static void admin_channel_close(void *user, struct alk_admin_call *call, json_t *params)
{
	query_session(supervisor_of(user), call, "channel.close", "session", params);
}

static void admin_plugin_list(void *user, struct alk_admin_call *call, json_t *params)
{
	supervisor_query(supervisor_of(user), call, -1, "plugin.list", params,
			 SUPERVISOR_MERGE_PLUGINS, "plugins");
}

/* What it does */

static void admin_reload(void *user, struct alk_admin_call *call, json_t *params)
{
	(void)params;
	supervisor_reload(supervisor_of(user), SUPERVISOR_RELOAD_ALL, call);
}

static void admin_upgrade(void *user, struct alk_admin_call *call, json_t *params)
{
	supervisor_upgrade(supervisor_of(user), call,
			   json_is_true(json_object_get(params, "force")));
}

static void admin_policy_reload(void *user, struct alk_admin_call *call, json_t *params)
{
	(void)params;
	supervisor_reload(supervisor_of(user), SUPERVISOR_RELOAD_POLICY, call);
}

static void admin_keys_reload(void *user, struct alk_admin_call *call, json_t *params)
{
	(void)params;
	supervisor_reload(supervisor_of(user), SUPERVISOR_RELOAD_KEYS, call);
}

static void admin_plugin_load(void *user, struct alk_admin_call *call, json_t *params)
{
	supervisor_plugin_change(supervisor_of(user), call,
				 json_string_value(json_object_get(params, "name")), true);
}

static void admin_plugin_unload(void *user, struct alk_admin_call *call, json_t *params)
{
	supervisor_plugin_change(supervisor_of(user), call,
				 json_string_value(json_object_get(params, "name")), false);
}

static void admin_config_show(void *user, struct alk_admin_call *call, json_t *params)
{
	const char *name = json_string_value(json_object_get(params, "name"));
	json_t *shown = supervisor_show_conf(supervisor_of(user), name);

	if (name != NULL && json_array_size(json_object_get(shown, "options")) == 0) {
		json_decref(shown);
		alk_admin_error(
			&call, ALK_ADMIN_FAILED,
			"config.show: no option \"%s\" is set, and no plugin of that name has any",
			name);
		return;
	}
	alk_admin_result(&call, shown);
}

static void admin_keys_list(void *user, struct alk_admin_call *call, json_t *params)
{
	(void)params;
	alk_admin_result(&call, supervisor_show_keys(supervisor_of(user)));
}

static void admin_policy_eval(void *user, struct alk_admin_call *call, json_t *params)
{
	supervisor_query(supervisor_of(user), call, supervisor_serving_slot(supervisor_of(user)),
			 "policy.eval", params, SUPERVISOR_MERGE_FIRST, "");
}

static void admin_config_check(void *user, struct alk_admin_call *call, json_t *params)
{
	(void)params;
	supervisor_reload(supervisor_of(user), SUPERVISOR_RELOAD_CHECK, call);
}

static void admin_ban_list(void *user, struct alk_admin_call *call, json_t *params)
{
	(void)params;
	supervisor_ban_list(supervisor_of(user), call);
}

static void admin_ban_add(void *user, struct alk_admin_call *call, json_t *params)
{
	supervisor_ban_add(supervisor_of(user), call, params);
}

static void admin_ban_remove(void *user, struct alk_admin_call *call, json_t *params)
{
	supervisor_ban_remove(supervisor_of(user), call, params);
}

static void admin_drain(void *user, struct alk_admin_call *call, json_t *params)
{
	struct alk_supervisor *sup = supervisor_of(user);

	(void)params;
	alk_admin_result(&call, json_pack("{s:b, s:i}", "draining", 1, "links",
					  (int)alk_limit_links(sup->limit)));
	supervisor_drain(sup);
}

static void admin_shutdown(void *user, struct alk_admin_call *call, json_t *params)
{
	(void)params;
	alk_admin_result(&call, json_pack("{s:b}", "stopping", 1));
	supervisor_stop(supervisor_of(user));
}

static void admin_acme_status(void *user, struct alk_admin_call *call, json_t *params)
{
	supervisor_half_command(supervisor_of(user), call, "tls.acme.status", params);
}

static void admin_acme_renew(void *user, struct alk_admin_call *call, json_t *params)
{
	supervisor_half_command(supervisor_of(user), call, "tls.acme.renew", params);
}

static void admin_log_level(void *user, struct alk_admin_call *call, json_t *params)
{
	struct alk_supervisor *sup = supervisor_of(user);
	const char *word = json_string_value(json_object_get(params, "level"));
	enum alk_log_level level;

	if (word != NULL) {
		if (alk_log_level_parse(word, &level) != 0) {
			alk_admin_error(
				&call, ALK_ADMIN_BAD_PARAMS,
				"log.level: level must be error, warn, info or debug, not \"%s\"",
				word);
			return;
		}
		alk_log_set_level(level);
		sup->level_changed = true;
		supervisor_broadcast(sup, json_pack("{s:s, s:s}", "op", "loglevel", "level",
						    alk_log_level_str(level)));
	}
	alk_admin_result(&call,
			 json_pack("{s:s}", "level", alk_log_level_str(alk_log_get_level())));
}

/* Commands of plugins that have a half in the supervisor */
#define PLUGIN_COMMAND(id_, name_)                                                                 \
	static void admin_##id_(void *user, struct alk_admin_call *call, json_t *params)           \
	{                                                                                          \
		supervisor_half_command(supervisor_of(user), call, name_, params);                 \
	}
PLUGIN_COMMAND(secret_status, "secret.status")
PLUGIN_COMMAND(secret_unlock, "secret.unlock")
PLUGIN_COMMAND(secret_lock, "secret.lock")
PLUGIN_COMMAND(secret_derive, "secret.derive")
PLUGIN_COMMAND(secret_reencrypt, "secret.reencrypt")
PLUGIN_COMMAND(bus_topics, "bus.topics")
PLUGIN_COMMAND(bus_subscribers, "bus.subscribers")
PLUGIN_COMMAND(bus_publish, "bus.publish")
PLUGIN_COMMAND(bus_tail, "bus.tail")
PLUGIN_COMMAND(operation_list, "bus.operation.list")
PLUGIN_COMMAND(operation_call, "bus.operation.call")

static const struct alk_admin_command commands[] = {
#define ALK_COMMAND(id_, name_, changes_, help_, ...)                                              \
	{.name = (name_),                                                                          \
	 .changes = (changes_),                                                                    \
	 .help = (help_),                                                                          \
	 .params = {__VA_ARGS__ __VA_OPT__(, ){0}},                                                \
	 .run = admin_##id_},
#include "admin_commands.def"
#undef ALK_COMMAND
	{0},
};

int alk_supervisor_request(struct alk_supervisor *sup, const char *method, json_t *params,
			   alk_admin_local_fn *answer, void *user)
{
	return alk_admin_local(commands, sup, method, params, answer, user);
}

bool alk_supervisor_streams(const char *method)
{
	const char *dot = strrchr(method, '.');

	return strcmp(method, "watch") == 0 || (dot != NULL && strcmp(dot, ".tail") == 0);
}

void supervisor_admin_users(struct alk_supervisor *sup)
{
	uid_t uids[ALK_ADMIN_USERS_MAX];
	struct alk_err err;
	const char *text;
	size_t n = 0;

	if (sup->admin == NULL)
		return;
	for (size_t i = 0; n < ALK_ADMIN_USERS_MAX &&
			   (text = alk_options_nth(sup->values, "admin_users", i)) != NULL;
	     i++)
		n += alk_admin_user_parse(text, &uids[n], &err) == 0;
	alk_admin_set_users(sup->admin, uids, n);
}

/* The place that nobody named is not everybody's: a user has one of its own, or none. */
static const char *admin_path(const struct alk_supervisor *sup, char *own, size_t size)
{
	const char *path = alk_options_str(sup->values, "admin_socket");
	const char *source = alk_options_value(sup->values, "admin_socket")->source;

	if (source == NULL || strcmp(source, "default") != 0 || !alk_admin_socket_is_denied(path))
		return path;
	if (alk_admin_socket_of_user(own, size) && !alk_admin_socket_is_denied(own)) {
		alk_log(ALK_LOG_INFO, "admin socket of the user", ALK_STR("path", own));
		return own;
	}
	alk_log(ALK_LOG_WARN, "no admin socket", ALK_STR("path", path),
		ALK_STR("error", "it may not be made there; name another with --admin-socket"));
	return NULL;
}

int supervisor_admin_open(struct alk_supervisor *sup, struct alk_err *err)
{
	char own[PATH_MAX];
	const char *path = admin_path(sup, own, sizeof(own));

	if (path == NULL || path[0] == '\0' || strcmp(path, "none") == 0)
		return 0;
	sup->admin = alk_admin_new(sup->loop, path, commands, sup, err);
	supervisor_admin_users(sup);
	/* The program before this one is still asked. */
	if (sup->admin != NULL && alk_upgrade_pending())
		alk_admin_pause(sup->admin, true);
	return sup->admin != NULL ? 0 : -EINVAL;
}

void supervisor_admin_close(struct alk_supervisor *sup)
{
	alk_admin_free(&sup->admin);
	while (sup->watchers != NULL)
		alk_admin_local_end(sup->watchers->call);
}
