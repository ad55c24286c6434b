/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "embed_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
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
	/* For a reload. */
	char *table;
	struct alk_setting *settings;
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
	bool is_watch, answered, ended;
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

static void request_free(struct embed_request *r)
{
	alk_task_cancel(r->server->embed->loop, &r->task);
	while (r->answers != NULL)
		free(answer_take(r).json);
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
	free(answer.json);
}

static void on_answer(void *user, json_t *result, const char *error)
{
	struct embed_request *r = user;
	struct embed_answer *answer = r->answered ? calloc(1, sizeof(*answer)) : &r->first;

	r->answered = true;
	r->ended = !r->is_watch || error != NULL;
	if (answer == NULL)
		return; /* an event of `watch` */
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
		.is_watch = strcmp(method, "watch") == 0,
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

void embed_server_ended(struct alk_embed_server *server)
{
	alk_task_queue(server->embed->loop, &server->ended);
}

static void on_ready(void *user)
{
	struct alk_embed_server *server = user;

	if (HAS(server->ops, ready))
		server->ops->ready(server->user, server);
}

static struct alk_conf *on_reread(void *user, struct alk_err *err)
{
	const struct alk_embed_server *server = user;

	return embed_conf(ALK_ROLE_SUPERVISOR, server->table, server->settings, err);
}

static void settings_free(struct alk_setting *settings)
{
	for (struct alk_setting *s = settings; s != NULL && s->name != NULL; s++) {
		free((char *)(uintptr_t)s->name);
		free((char *)(uintptr_t)s->value);
	}
	free(settings);
}

static int settings_copy(struct alk_embed_server *server, const char *table,
			 const struct alk_setting *settings)
{
	size_t n = 0;

	while (settings != NULL && settings[n].name != NULL)
		n++;
	server->settings = calloc(n + 1, sizeof(*server->settings));
	server->table = table != NULL ? strdup(table) : NULL;
	if (server->settings == NULL || (table != NULL && server->table == NULL))
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		server->settings[i].name = strdup(settings[i].name);
		server->settings[i].value = strdup(settings[i].value);
		if (server->settings[i].name == NULL || server->settings[i].value == NULL)
			return -ENOMEM;
	}
	return 0;
}

static int server_init(struct alk_embed_server *server, const char *table,
		       const struct alk_setting *settings, struct alk_err *err)
{
	struct alk_loop *loop = server->embed->loop;
	struct alk_conf *conf;

	if (settings_copy(server, table, settings) < 0 ||
	    alk_program_set(loop, HAS(server->ops, open) ? server->ops->open : NULL, server->user) <
		    0)
		return alk_err_set(err, -ENOMEM, "out of memory");
	conf = on_reread(server, err);
	if (conf == NULL)
		return -EINVAL;
	alk_loop_refresh(loop);
	server->sup = alk_supervisor_new(loop, &conf, err);
	if (server->sup == NULL)
		return -EINVAL;
	alk_supervisor_set_reread(server->sup, on_reread, server);
	alk_supervisor_set_ready(server->sup, on_ready, server);
	return 0;
}

struct alk_embed_server *alk_embed_server_new(struct alk_embed *embed, const char *table,
					      const struct alk_setting *settings,
					      const struct alk_embed_server_ops *ops, void *user,
					      struct alk_err *err)
{
	struct alk_embed_server *server;

	if (embed->server != NULL) {
		alk_err_set(err, -EBUSY, "there is a server already");
		return NULL;
	}
	server = calloc(1, sizeof(*server));
	if (server == NULL) {
		alk_err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	server->embed = embed;
	server->ops = ops;
	server->user = user;
	server->ended = (struct alk_task){.fn = on_ended, .user = server};
	embed->server = server;
	if (server_init(server, table, settings, err) < 0)
		alk_embed_server_free(&server);
	return server;
}

const char *alk_embed_server_address(const struct alk_embed_server *server, unsigned n)
{
	return alk_supervisor_address(server->sup, n);
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
	alk_program_set(server->embed->loop, NULL, NULL);
	server->embed->server = NULL;
	free(server->table);
	settings_free(server->settings);
	free(server);
}
