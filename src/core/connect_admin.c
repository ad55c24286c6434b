/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "connect_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "admin.h"
#include "board.h"
#include "connect_keep.h"
#include "log_private.h"
#include "metrics.h"

/* More than anybody needs, and few enough for one answer. */
#define FORWARDS_MAX 256

struct alk_client_admin {
	struct alk_loop *loop;
	struct alk_front *front;
	struct alk_keep *keep;
	struct alk_admin *admin;
	uint64_t started;
	void (*on_shutdown)(void *user);
	void *user;
};

/* What is there */

static json_t *forwards_json(const struct alk_front *front)
{
	const struct alk_accept *accept = NULL;
	struct alk_accept_info info;
	json_t *list = json_array();

	while ((accept = alk_accept_next(front, accept, &info)) != NULL) {
		if (info.forward == 0)
			continue;
		json_array_append_new(list, json_pack("{s:I, s:s, s:s, s:s}", "forward",
						      (json_int_t)info.forward, "kind", "local",
						      "from", info.from, "to", info.to));
	}
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

static void admin_status(void *user, struct alk_admin_call *call, json_t *params)
{
	struct alk_client_admin *self = user;
	struct alk_keep_info info;
	uint64_t now = alk_loop_now(self->loop);
	json_t *result;

	(void)params;
	alk_keep_get_info(self->keep, &info);
	result = json_pack("{s:s, s:i, s:s, s:s, s:f, s:f, s:f, s:s}", "version", PACKAGE_VERSION,
			   "pid", (int)getpid(), "state", alk_keep_state_str(info.state), "server",
			   alk_client_server(self->front->client), "uptime",
			   (double)(now - self->started) / 1000, "state_duration", info.since,
			   "next_duration", info.next, "reason", info.reason);
	if (result != NULL) {
		json_object_update_new(result,
				       json_pack("{s:I, s:I, s:i, s:i}", "reconnects",
						 (json_int_t)info.reconnects, "failures",
						 (json_int_t)info.failures, "channels",
						 (int)alk_client_channels(self->front->client),
						 "waiting", (int)self->front->waiting));
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
	struct alk_metrics sum = {0};
	struct alk_keep_info info;

	(void)params;
	alk_keep_get_info(self->keep, &info);
	const struct {
		const char *name;
		enum alk_metric_kind kind;
		const char *help;
		double value;
	} own[] = {
		{"alknet_uptime_seconds", ALK_GAUGE, "Time since the client started.",
		 (double)(alk_loop_now(self->loop) - self->started) / 1000},
		{"alknet_client_up", ALK_GAUGE, "1 while there is a session.",
		 info.state == ALK_KEEP_UP},
		{"alknet_client_reconnects_total", ALK_COUNTER, "Sessions after the first.",
		 (double)info.reconnects},
		{"alknet_client_failures_total", ALK_COUNTER, "Attempts to connect that failed.",
		 (double)info.failures},
		{"alknet_client_waiting", ALK_GAUGE, "Connections that wait for a session.",
		 self->front->waiting},
		{"alknet_client_channels", ALK_GAUGE, "Channels of the session.",
		 alk_client_channels(self->front->client)},
	};
	alk_metrics_add(&sum, alk_board_self, true);
	alk_metrics_write(&out, &sum);
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		alk_metrics_head(&out, own[i].name, own[i].kind, own[i].help);
		alk_metrics_sample(&out, own[i].name, "", own[i].value);
	}
	if (out.failed)
		alk_admin_error(&call, ALK_ADMIN_FAILED, "out of memory");
	else
		alk_admin_result(&call, json_pack("{s:s}", "text", out.text));
	alk_metrics_text_free(&out);
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

static void admin_forward_add(void *user, struct alk_admin_call *call, json_t *params)
{
	struct alk_client_admin *self = user;
	const char *spec = json_string_value(json_object_get(params, "spec"));
	struct alk_err err = {""};
	uint64_t forward;
	int rc;

	if (forwards_count(self->front) >= FORWARDS_MAX) {
		alk_admin_error(&call, ALK_ADMIN_FAILED, "there are %d listeners already",
				FORWARDS_MAX);
		return;
	}
	rc = alk_accept_forward(self->front, spec, &err);
	forward = self->front->last_forward;
	if (rc == 0 && alk_accept_start(self->front) != 0) {
		alk_accept_remove(self->front, forward);
		rc = alk_err_set(&err, -ENOMEM, "out of memory");
	}
	if (rc != 0)
		alk_admin_error(&call, rc == -EINVAL ? ALK_ADMIN_BAD_PARAMS : ALK_ADMIN_FAILED,
				"forward.add: %s", err.text);
	else
		alk_admin_result(&call, json_pack("{s:I, s:o}", "added", (json_int_t)forward,
						  "forwards", forwards_json(self->front)));
}

static void admin_forward_remove(void *user, struct alk_admin_call *call, json_t *params)
{
	struct alk_client_admin *self = user;
	json_int_t forward = json_integer_value(json_object_get(params, "forward"));

	if (alk_accept_remove(self->front, (uint64_t)forward))
		alk_admin_result(&call, json_pack("{s:I}", "removed", forward));
	else
		alk_admin_error(&call, ALK_ADMIN_FAILED, "there is no forward %lld",
				(long long)forward);
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

/* Names, parameters and help are the shared lines; a command of the server that has no handler here does
 * not exist. */
static const struct alk_admin_command lines[] = {
#define ALK_COMMAND(id_, name_, changes_, help_, ...)                                              \
	{.name = (name_),                                                                          \
	 .changes = (changes_),                                                                    \
	 .help = (help_),                                                                          \
	 .params = {__VA_ARGS__ __VA_OPT__(, ){0}}},
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
	self->started = alk_loop_now(front->loop);
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
