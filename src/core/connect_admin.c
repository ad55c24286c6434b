/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "connect_private.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <alknet/transport.h>
#include "admin.h"
#include "connect_keep.h"
#include "json_text.h"
#include "log_private.h"
#include "metrics.h"
#include "remote_forward.h"

/* More than anybody needs, and few enough for one answer. */
#define FORWARDS_MAX 256

struct alk_client_admin {
	struct alk_loop *loop;
	struct alk_front *front;
	struct alk_keep *keep;
	struct alk_admin *admin;
	void (*on_shutdown)(void *user);
	void *user;
};

/* What is there */

/* "L1" and "R1": the two lists have numbers of their own. */
struct forward_name {
	char text[24];
};

static const char *name_of(struct forward_name *name, char kind, uint64_t number)
{
	snprintf(name->text, sizeof(name->text), "%c%" PRIu64, kind, number);
	return name->text;
}

static void add_local(json_t *list, const struct alk_front *front)
{
	const struct alk_accept *accept = NULL;
	struct alk_accept_info info;
	struct forward_name name;

	while ((accept = alk_accept_next(front, accept, &info)) != NULL) {
		if (info.forward == 0)
			continue;
		json_array_append_new(list,
				      json_pack("{s:s, s:s, s:s, s:s, s:s}", "forward",
						name_of(&name, 'L', info.forward), "kind", "local",
						"state", "open", "from", info.from, "to", info.to));
	}
}

static void add_remote(json_t *list, const struct alk_front *front)
{
	struct alk_remote_forward_info info = {.id = 0};
	struct forward_name name;

	while (front->remotes != NULL && alk_remote_forwards_next(front->remotes, info.id, &info)) {
		json_t *row = json_pack("{s:s, s:s, s:s, s:s}", "forward",
					name_of(&name, 'R', info.id), "kind", "remote", "state",
					alk_remote_forward_state_str(info.state), "spec",
					info.spec);

		if (row != NULL && info.port != 0)
			json_object_set_new(row, "port", json_integer(info.port));
		json_array_append_new(list, row);
	}
}

static json_t *forwards_json(const struct alk_front *front)
{
	json_t *list = json_array();

	add_local(list, front);
	add_remote(list, front);
	return list;
}

static void add_proxy(json_t *result, const struct alk_front *front)
{
	const struct alk_accept *accept = NULL;
	struct alk_accept_info info;

	while ((accept = alk_accept_next(front, accept, &info)) != NULL) {
		if (info.forward == 0) {
			json_object_set_new(result, "socks5", json_string(info.from));
			return;
		}
	}
}

static void add_path(json_t *result, const struct alk_client *client)
{
	struct alk_link_path path;

	if (alk_client_path(client, &path))
		json_object_update_new(result,
				       json_pack("{s:s, s:s, s:f}", "path", path.kind, "path_via",
						 path.via, "rtt", (double)path.rtt_us / 1e6));
}

static void admin_status(void *user, struct alk_admin_call *call, json_t *params)
{
	struct alk_client_admin *self = user;
	struct alk_keep_info info;
	uint64_t now = alk_loop_now(self->loop);
	json_t *result;

	(void)params;
	alk_keep_get_info(self->keep, &info);
	result = json_pack("{s:s, s:i, s:s, s:s, s:f, s:f, s:f, s:o}", "version", PACKAGE_VERSION,
			   "pid", (int)getpid(), "state", alk_keep_state_str(info.state), "server",
			   alk_client_server(self->front->client), "uptime",
			   (double)(now - self->front->started) / 1000, "state_duration",
			   info.since, "next_duration", info.next, "reason",
			   alk_json_text(info.reason));
	if (result != NULL) {
		json_object_update_new(result,
				       json_pack("{s:I, s:I, s:i, s:i}", "reconnects",
						 (json_int_t)info.reconnects, "failures",
						 (json_int_t)info.failures, "channels",
						 (int)alk_client_channels(self->front->client),
						 "waiting", (int)self->front->waiting));
		add_path(result, self->front->client);
		add_proxy(result, self->front);
		json_object_set_new(result, "forwards", forwards_json(self->front));
	}
	alk_admin_result(&call, result);
}

static void admin_forward_list(void *user, struct alk_admin_call *call, json_t *params)
{
	const struct alk_client_admin *self = user;

	(void)params;
	alk_admin_result(&call, json_pack("{s:o}", "forwards", forwards_json(self->front)));
}

static void admin_metrics(void *user, struct alk_admin_call *call, json_t *params)
{
	const struct alk_client_admin *self = user;
	struct alk_metrics_text out = {0};

	(void)params;
	alk_front_metrics(self->front, self->keep, &out);
	if (out.failed)
		alk_admin_error(&call, ALK_ADMIN_FAILED, "out of memory");
	else
		alk_admin_result(&call, json_pack("{s:s}", "text", out.text));
	alk_metrics_text_deinit(&out);
}

static void admin_health(void *user, struct alk_admin_call *call, json_t *params)
{
	const struct alk_client_admin *self = user;
	const char *why = alk_front_unready(self->front, self->keep);
	struct alk_keep_info info;

	(void)params;
	alk_keep_get_info(self->keep, &info);
	alk_admin_result(&call, json_pack("{s:b, s:s, s:s}", "ready", why == NULL, "state",
					  alk_keep_state_str(info.state), "reason",
					  why != NULL ? why : ""));
}

/* What it does */

static unsigned forwards_count(const struct alk_front *front)
{
	const struct alk_accept *accept = NULL;
	struct alk_accept_info info;
	unsigned n = 0;

	while ((accept = alk_accept_next(front, accept, &info)) != NULL)
		n++;
	return n;
}

static int add_here(struct alk_front *front, const char *spec, struct forward_name *name,
		    struct alk_err *err)
{
	int rc;

	if (forwards_count(front) >= FORWARDS_MAX)
		return alk_err_set(err, -ENOSPC, "there are %d listeners already", FORWARDS_MAX);
	rc = alk_accept_forward(front, spec, err);
	if (rc != 0)
		return rc;
	name_of(name, 'L', front->last_forward);
	if (alk_accept_start(front) == 0)
		return 0;
	alk_accept_remove(front, front->last_forward);
	return alk_err_set(err, -ENOMEM, "out of memory");
}

static int add_there(struct alk_front *front, const char *spec, struct forward_name *name,
		     struct alk_err *err)
{
	unsigned id = 0;
	int rc = alk_remote_forwards_add(front->remotes, spec, &id, err);

	name_of(name, 'R', id);
	return rc;
}

static void admin_forward_add(void *user, struct alk_admin_call *call, json_t *params)
{
	struct alk_client_admin *self = user;
	const char *spec = json_string_value(json_object_get(params, "spec"));
	struct alk_err err = {""};
	struct forward_name name;
	int rc;

	if (json_is_true(json_object_get(params, "remote")))
		rc = add_there(self->front, spec, &name, &err);
	else
		rc = add_here(self->front, spec, &name, &err);
	if (rc != 0)
		alk_admin_error(&call, rc == -EINVAL ? ALK_ADMIN_BAD_PARAMS : ALK_ADMIN_FAILED,
				"forward.add: %s", err.text);
	else
		alk_admin_result(&call, json_pack("{s:s, s:o}", "added", name.text, "forwards",
						  forwards_json(self->front)));
}

/* The number in "L1" or "R1"; 0 = it is no such name. */
static unsigned number_in(const char *name)
{
	unsigned long n;
	char *end;

	if ((name[0] != 'L' && name[0] != 'R') || name[1] < '1' || name[1] > '9')
		return 0;
	errno = 0;
	n = strtoul(name + 1, &end, 10);
	return errno == 0 && *end == '\0' && n <= UINT_MAX ? (unsigned)n : 0;
}

static void admin_forward_remove(void *user, struct alk_admin_call *call, json_t *params)
{
	struct alk_client_admin *self = user;
	const char *name = json_string_value(json_object_get(params, "forward"));
	unsigned number = number_in(name);
	bool found = false;

	if (number != 0 && name[0] == 'L')
		found = alk_accept_remove(self->front, number);
	else if (number != 0)
		found = alk_remote_forwards_remove(self->front->remotes, number) == 0;
	if (found)
		alk_admin_result(&call, json_pack("{s:s}", "removed", name));
	else
		alk_admin_error(
			&call, ALK_ADMIN_FAILED,
			"forward.remove: there is no such forward; forward.list has their names");
}

static void admin_reconnect(void *user, struct alk_admin_call *call, json_t *params)
{
	struct alk_client_admin *self = user;

	(void)params;
	alk_admin_result(&call, json_pack("{s:b}", "reconnecting", 1));
	alk_keep_again(self->keep);
}

static void admin_shutdown(void *user, struct alk_admin_call *call, json_t *params)
{
	struct alk_client_admin *self = user;

	(void)params;
	alk_admin_result(&call, json_pack("{s:b}", "stopping", 1));
	self->on_shutdown(self->user);
}

static void admin_log_level(void *user, struct alk_admin_call *call, json_t *params)
{
	const char *word = json_string_value(json_object_get(params, "level"));
	enum alk_log_level level;

	(void)user;
	if (word != NULL && alk_log_level_parse(word, &level) != 0) {
		alk_admin_error(&call, ALK_ADMIN_BAD_PARAMS,
				"log.level: level must be error, warn, info or debug, not \"%s\"",
				word);
		return;
	}
	if (word != NULL)
		alk_log_set_level(level);
	alk_admin_result(&call,
			 json_pack("{s:s}", "level", alk_log_level_str(alk_log_get_level())));
}

/* Names, parameters and help are the shared lines; a command of the server that has no handler here
 * does not exist. */
static const struct alk_admin_command lines[] = {
#define ALK_COMMAND ALK_ADMIN_ROW
#include "admin_commands.def"
#include "client_commands.def"
#undef ALK_COMMAND
};

static const struct {
	const char *name;
	void (*run)(void *user, struct alk_admin_call *call, json_t *params);
} handlers[] = {
	{"status", admin_status},	    {"forward.list", admin_forward_list},
	{"forward.add", admin_forward_add}, {"forward.remove", admin_forward_remove},
	{"reconnect", admin_reconnect},	    {"shutdown", admin_shutdown},
	{"log.level", admin_log_level},	    {"metrics", admin_metrics},
	{"health", admin_health},
};

#define HANDLERS (sizeof(handlers) / sizeof(handlers[0]))

static const struct alk_admin_command *commands_table(void)
{
	static struct alk_admin_command table[HANDLERS + 1];

	for (size_t i = 0; i < HANDLERS; i++) {
		for (size_t n = 0; n < sizeof(lines) / sizeof(lines[0]); n++) {
			if (strcmp(lines[n].name, handlers[i].name) == 0)
				table[i] = lines[n];
		}
		table[i].run = handlers[i].run;
	}
	return table;
}

int alk_client_admin_open(struct alk_client_admin **admin, struct alk_front *front,
			  struct alk_keep *keep, const struct alk_options *options,
			  void (*on_shutdown)(void *user), void *user, struct alk_err *err)
{
	const char *path = alk_options_str(options, "admin_socket");
	struct alk_client_admin *self;

	*admin = NULL;
	if (path == NULL || path[0] == '\0' || strcmp(path, "none") == 0)
		return 0;
	self = calloc(1, sizeof(*self));
	if (self == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	self->loop = front->loop;
	self->front = front;
	self->keep = keep;
	self->on_shutdown = on_shutdown;
	self->user = user;
	self->admin = alk_admin_new(front->loop, path, commands_table(), self, err);
	if (self->admin == NULL) {
		free(self);
		return -EINVAL;
	}
	*admin = self;
	return 0;
}

void alk_client_admin_free(struct alk_client_admin **admin)
{
	if (*admin == NULL)
		return;
	alk_admin_free(&(*admin)->admin);
	free(*admin);
	*admin = NULL;
}
