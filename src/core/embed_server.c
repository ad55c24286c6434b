/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "embed_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "log_private.h"
#include "program.h"
#include "supervisor.h"

/* An operation of a table that may be an older program's, shorter one. */
#define HAS(ops_, member_)                                                                         \
	((ops_) != NULL &&                                                                         \
	 (ops_)->size >=                                                                           \
		 offsetof(struct alk_embed_server_ops, member_) + sizeof((ops_)->member_) &&       \
	 (ops_)->member_ != NULL)

struct alk_embed_server {
	struct alk_embed *embed;
	const struct alk_embed_server_ops *ops;
	void *user;
	struct alk_supervisor *sup;
	struct alk_task ended;
	struct embed_request *requests;
	/* For a reload; `other` are those of one that is under way. */
	char *table;
	struct alk_setting *settings, *other;
	alk_embed_done *reload_done;
	void *reload_user;
	struct alk_embed_server *next, **prev;
};

/* ---- requests ---- */

/* An answer that waits for its turn. */
struct embed_answer {
	char *json;
	struct alk_err err;
	struct embed_answer *next;
};

struct embed_request {
	struct alk_embed_server *server;
	alk_embed_done *done;
	void *user;
	bool is_stream, answered, ended;
	struct embed_answer first; /* has its place: `done` comes when there is no memory, too */
	struct embed_answer *answers, **answers_end;
	struct alk_task task;
	struct embed_request *next, **prev;
};

/* Out of the queue; the caller's copy has the text. */
static struct embed_answer answer_take(struct embed_request *r)
{
	struct embed_answer *answer = r->answers, taken = *answer;

	r->answers = answer->next;
	if (r->answers == NULL)
		r->answers_end = &r->answers;
	if (answer != &r->first)
		free(answer);
	return taken;
}

/* It may have a private key. */
static void json_free(char *json)
{
	if (json != NULL)
		explicit_bzero(json, strlen(json));
	free(json);
}

static void request_free(struct embed_request *r)
{
	alk_task_cancel(r->server->embed->loop, &r->task);
	while (r->answers != NULL)
		json_free(answer_take(r).json);
	*r->prev = r->next;
	if (r->next != NULL)
		r->next->prev = r->prev;
	free(r);
}

static void on_request_task(void *user)
{
	struct embed_request *r = user;
	struct embed_answer answer = answer_take(r);
	alk_embed_done *done = r->done;
	void *done_user = r->user;

	if (r->answers != NULL)
		alk_task_queue(r->server->embed->loop, &r->task);
	else if (r->ended)
		request_free(r);
	done(done_user, answer.json, answer.json != NULL ? NULL : &answer.err);
	json_free(answer.json);
}

static void on_answer(void *user, json_t *result, const char *error)
{
	struct embed_request *r = user;
	struct embed_answer *answer = r->answered ? calloc(1, sizeof(*answer)) : &r->first;

	r->answered = true;
	r->ended = !r->is_stream || error != NULL;
	if (answer == NULL)
		return; /* an event of a stream */
	if (result != NULL)
		answer->json = json_dumps(result, JSON_COMPACT | JSON_ENCODE_ANY);
	if (answer->json == NULL)
		alk_err_set(&answer->err, -EINVAL, "%s", error != NULL ? error : "out of memory");
	*r->answers_end = answer;
	r->answers_end = &answer->next;
	alk_task_queue(r->server->embed->loop, &r->task);
}

int alk_embed_server_request(struct alk_embed_server *server, const char *method,
			     const char *params, alk_embed_done *done, void *user)
{
	struct embed_request *r = calloc(1, sizeof(*r));
	json_t *object = NULL;
	json_error_t bad;
	int rc = 0;

	if (r == NULL)
		return -ENOMEM;
	*r = (struct embed_request){
		.server = server,
		.done = done,
		.user = user,
		.is_stream = alk_supervisor_streams(method),
		.answers_end = &r->answers,
		.task = {.fn = on_request_task, .user = r},
		.next = server->requests,
		.prev = &server->requests,
	};
	if (r->next != NULL)
		r->next->prev = &r->next;
	server->requests = r;
	if (params != NULL)
		object = json_loads(params, JSON_REJECT_DUPLICATES, &bad);
	if (params != NULL && object == NULL)
		on_answer(r, NULL, "the parameters are no JSON object");
	else
		rc = alk_supervisor_request(server->sup, method, object, on_answer, r);
	if (rc < 0)
		request_free(r);
	return rc;
}

/* ---- life ---- */

static void on_ended(void *user)
{
	struct alk_embed_server *server = user;

	if (HAS(server->ops, closed))
		server->ops->closed(server->user, server, alk_supervisor_status(server->sup));
}

static void on_over(void *user)
{
	struct alk_embed_server *server = user;

	alk_task_queue(server->embed->loop, &server->ended);
}

static void on_ready(void *user)
{
	struct alk_embed_server *server = user;

	if (HAS(server->ops, ready))
		server->ops->ready(server->user, server);
}

static const struct alk_setting *settings_now(const struct alk_embed_server *server)
{
	return server->other != NULL ? server->other : server->settings;
}

static struct alk_conf *on_reread(void *user, struct alk_err *err)
{
	const struct alk_embed_server *server = user;

	return embed_conf(ALK_ROLE_SUPERVISOR, server->table, settings_now(server), err);
}

/* Files that a reload of one kind may read again: perhaps they are others now. */
static int on_amend(void *user, struct alk_conf *conf, struct alk_err *err)
{
	static const char *const names[] = {"key", "authorized_keys", "cert_authority",
					    "revoked_keys", "policy"};
	const struct alk_embed_server *server = user;
	int rc = 0;

	for (size_t i = 0; server->other != NULL && i < sizeof(names) / sizeof(*names); i++) {
		bool first = true;

		for (const struct alk_setting *s = server->other; s->name != NULL && rc == 0; s++) {
			if (!embed_setting_is(s, names[i]))
				continue;
			if (first)
				alk_conf_unset(conf, names[i]);
			first = false;
			rc = embed_set(conf, s, err);
		}
	}
	return rc;
}

static void settings_free(struct alk_setting *settings)
{
	for (struct alk_setting *s = settings; s != NULL && s->name != NULL; s++) {
		free((char *)(uintptr_t)s->name);
		if (s->value != NULL)
			explicit_bzero((char *)(uintptr_t)s->value, strlen(s->value));
		free((char *)(uintptr_t)s->value);
	}
	free(settings);
}

static size_t settings_count(const struct alk_setting *settings)
{
	size_t n = 0;

	while (settings != NULL && settings[n].name != NULL)
		n++;
	return n;
}

/* Of the same option? */
static bool setting_replaced(const struct alk_setting *setting, const struct alk_setting *by)
{
	char option[64];
	size_t len;

	for (; by != NULL && by->name != NULL; by++) {
		len = strlen(by->name);
		if (len > 8 && strcmp(by->name + len - 8, "_content") == 0)
			len -= 8;
		snprintf(option, sizeof(option), "%.*s", (int)len, by->name);
		if (embed_setting_is(setting, option))
			return true;
	}
	return false;
}

/* `from`, but for what `other` has, then `other`. NULL when out of memory. */
static struct alk_setting *settings_merge(const struct alk_setting *from,
					  const struct alk_setting *other)
{
	size_t before = settings_count(from), n = before + settings_count(other), used = 0;
	struct alk_setting *merged = calloc(n + 1, sizeof(*merged));

	for (size_t i = 0; merged != NULL && i < n; i++) {
		const struct alk_setting *s = i < before ? &from[i] : &other[i - before];

		if (i < before && setting_replaced(s, other))
			continue;
		merged[used] = (struct alk_setting){strdup(s->name), strdup(s->value)};
		if (merged[used].name == NULL || merged[used].value == NULL) {
			free((char *)(uintptr_t)merged[used].name);
			free((char *)(uintptr_t)merged[used].value);
			merged[used] = (struct alk_setting){0};
			settings_free(merged);
			return NULL;
		}
		used++;
	}
	return merged;
}

/* The settings are the server's now, or all is as it was. */
static void on_reloaded(void *user, const char *json, const struct alk_err *err)
{
	struct alk_embed_server *server = user;
	struct alk_setting *before = json != NULL ? server->settings : server->other;

	if (json != NULL)
		server->settings = server->other;
	server->other = NULL;
	settings_free(before);
	server->reload_done(server->reload_user, json, err);
}

int alk_embed_server_reload(struct alk_embed_server *server, const char *method,
			    const struct alk_setting *settings, alk_embed_done *done, void *user)
{
	int rc;

	if (server->other != NULL)
		return -EBUSY;
	if (strcmp(method, "reload") != 0 && strcmp(method, "keys.reload") != 0 &&
	    strcmp(method, "policy.reload") != 0)
		return -EINVAL;
	server->other = settings_merge(server->settings, settings);
	if (server->other == NULL)
		return -ENOMEM;
	server->reload_done = done;
	server->reload_user = user;
	rc = alk_embed_server_request(server, method, NULL, on_reloaded, server);
	if (rc < 0) {
		settings_free(server->other);
		server->other = NULL;
	}
	return rc;
}

static int server_init(struct alk_embed_server *server, const char *table,
		       const struct alk_setting *settings, struct alk_err *err)
{
	const struct alk_program program = {HAS(server->ops, open) ? server->ops->open : NULL,
					    server->user};
	struct alk_loop *loop = server->embed->loop;
	struct alk_conf *conf;

	server->settings = settings_merge(NULL, settings);
	server->table = table != NULL ? strdup(table) : NULL;
	if (server->settings == NULL || (table != NULL && server->table == NULL))
		return alk_err_set(err, -ENOMEM, "out of memory");
	conf = on_reread(server, err);
	if (conf == NULL)
		return -EINVAL;
	if (alk_log_setup_options(alk_conf_values(conf), err) < 0) {
		alk_conf_free(&conf);
		return -EINVAL;
	}
	alk_loop_refresh(loop);
	server->sup = alk_supervisor_new(loop, &conf, err);
	if (server->sup == NULL)
		return -EINVAL;
	alk_supervisor_set_reread(server->sup, on_reread, server);
	alk_supervisor_set_amend(server->sup, on_amend, server);
	alk_supervisor_set_program(server->sup, &program, on_over, server);
	alk_supervisor_set_ready(server->sup, on_ready, server);
	return 0;
}

struct alk_embed_server *alk_embed_server_new(struct alk_embed *embed, const char *table,
					      const struct alk_setting *settings,
					      const struct alk_embed_server_ops *ops, void *user,
					      struct alk_err *err)
{
	struct alk_embed_server *server = calloc(1, sizeof(*server));

	if (server == NULL) {
		alk_err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	server->embed = embed;
	server->ops = ops;
	server->user = user;
	server->ended = (struct alk_task){.fn = on_ended, .user = server};
	server->next = embed->servers;
	server->prev = &embed->servers;
	if (server->next != NULL)
		server->next->prev = &server->next;
	embed->servers = server;
	if (server_init(server, table, settings, err) < 0)
		alk_embed_server_free(&server);
	return server;
}

const char *alk_embed_server_address(const struct alk_embed_server *server, unsigned n)
{
	return alk_supervisor_address(server->sup, n);
}

const char *alk_embed_server_transport(const struct alk_embed_server *server, unsigned n)
{
	return alk_supervisor_transport(server->sup, n);
}

const char *alk_embed_server_failed(const struct alk_embed_server *server)
{
	return alk_supervisor_failed(server->sup);
}

void alk_embed_server_stop(struct alk_embed_server *server)
{
	alk_supervisor_stop(server->sup);
}

void alk_embed_server_free(struct alk_embed_server **serverp)
{
	struct alk_embed_server *server = *serverp;

	if (server == NULL)
		return;
	*serverp = NULL;
	alk_supervisor_free(&server->sup); /* answers what waits */
	while (server->requests != NULL)
		request_free(server->requests);
	alk_task_cancel(server->embed->loop, &server->ended);
	*server->prev = server->next;
	if (server->next != NULL)
		server->next->prev = server->prev;
	free(server->table);
	settings_free(server->settings);
	settings_free(server->other);
	free(server);
}
