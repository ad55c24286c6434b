/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "binding.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct server {
	struct belonging belonging;
	atomic_uint refs;
	struct env *env;
	double id;
	atomic_bool accept;
	/* There. */
	struct alk_setting *settings;
	struct alk_embed_server *embed;
	struct request *requests;
	bool over;
};

struct request {
	struct server *server;
	double number;
	char *method, *params;
	struct alk_setting *settings;
	bool watch;
	struct request *next, **prev; /* of those under way; prev NULL = not yet */
};

static struct server *server_ref(struct server *server)
{
	atomic_fetch_add(&server->refs, 1);
	return server;
}

void server_unref(struct server **serverp)
{
	struct server *server = *serverp;

	*serverp = NULL;
	if (server == NULL || atomic_fetch_sub(&server->refs, 1) != 1)
		return;
	env_unref(&server->env);
	settings_free(&server->settings);
	free(server);
}

/* ---- there ---- */

static void request_free(struct request *request)
{
	if (request->prev != NULL) {
		*request->prev = request->next;
		if (request->next != NULL)
			request->next->prev = request->prev;
	}
	settings_free(&request->settings);
	server_unref(&request->server);
	free(request->method);
	free(request->params);
	free(request);
}

static void request_answer(struct request *request, const char *json, const char *error)
{
	const struct server *server = request->server;

	if (request->watch && error == NULL) {
		env_tell(server->env, event_text(EV_WATCHED, server->id, request->number, json));
		return;
	}
	env_tell(server->env, event_text(error == NULL ? EV_ANSWER : EV_FAILED, server->id,
					 request->number, error == NULL ? json : error));
	request_free(request);
}

static void on_done(void *user, const char *json, const struct alk_err *err)
{
	request_answer(user, json, json != NULL ? NULL : err->text);
}

static void on_request(void *user)
{
	struct request *request = user;
	struct server *server = request->server;
	int rc;

	if (server->over || server->embed == NULL) {
		request_answer(request, NULL, "the server is closed");
		return;
	}
	request->next = server->requests;
	request->prev = &server->requests;
	if (request->next != NULL)
		request->next->prev = &request->next;
	server->requests = request;
	if (request->settings != NULL)
		rc = alk_embed_server_reload(server->embed, request->method, request->settings,
					     on_done, request);
	else
		rc = alk_embed_server_request(server->embed, request->method, request->params,
					      on_done, request);
	if (rc < 0)
		request_answer(request, NULL,
			       rc == -EBUSY ? "another reload is under way" : strerror(-rc));
}

static void server_end(struct server *server)
{
	if (server->over)
		return;
	server->over = true;
	env_disown(&server->belonging);
	alk_embed_server_free(&server->embed);
	while (server->requests != NULL) {
		server->requests->watch = false;
		request_answer(server->requests, NULL, "the server is closed");
	}
	settings_free(&server->settings);
	server_unref(&server);
}

static void on_drop(struct belonging *belonging)
{
	server_end((struct server *)belonging); /* the first member */
}

static void on_end_posted(void *user)
{
	struct server *server = user;

	server_end(server);
	server_unref(&server);
}

static void on_closed(void *user, struct alk_embed_server *embed, int status)
{
	struct server *server = user;
	const char *why = alk_embed_server_failed(embed);

	env_tell(server->env, event_text(EV_CLOSED, server->id,
					 status == 0 ? ALK_EMBED_NOT : FAILED_CONFIG, why));
	if (home_post(on_end_posted, server_ref(server)) < 0)
		server_unref(&(struct server *){server});
}

static void on_ready(void *user, struct alk_embed_server *embed)
{
	struct server *server = user;
	const char *address;
	char text[4096];
	size_t n = 0;

	/* TRANSPORT ADDRESS, a line each */
	for (unsigned i = 0; (address = alk_embed_server_address(embed, i)) != NULL; i++)
		if (n < sizeof(text))
			n += (size_t)snprintf(text + n, sizeof(text) - n, "%s %s\n",
					      alk_embed_server_transport(embed, i), address);
	text[n < sizeof(text) ? n : sizeof(text) - 1] = '\0';
	env_tell(server->env, event_text(EV_READY, server->id, 0, text));
}

static char **scopes_copy(const char *const *scopes)
{
	size_t n = 0;
	char **copy;

	while (scopes != NULL && scopes[n] != NULL)
		n++;
	copy = calloc(n + 1, sizeof(*copy));
	for (size_t i = 0; copy != NULL && i < n; i++)
		copy[i] = strdup(scopes[i]);
	return copy;
}

static void text_set(char *to, size_t size, const char *from)
{
	snprintf(to, size, "%s", from != NULL ? from : "");
}

static struct info *channel_info(const struct alk_channel *channel,
				 const struct alk_destination *to)
{
	const struct alk_identity *identity = alk_channel_identity(channel);
	const struct alk_link *link = alk_channel_link(channel);
	struct info *info = calloc(1, sizeof(*info));

	if (info == NULL)
		return NULL;
	text_set(info->host, sizeof(info->host), to->path[0] != '\0' ? to->path : to->host);
	info->port = to->port;
	info->session = (double)alk_channel_session(channel);
	if (link != NULL) {
		memcpy(info->remote_addr, link->remote_addr, sizeof(link->remote_addr));
		memcpy(info->transport, link->transport, sizeof(link->transport));
		memcpy(info->peer_id, link->peer_id, sizeof(link->peer_id));
		info->remote_port = link->remote_port;
	}
	if (identity != NULL) {
		text_set(info->id, sizeof(info->id), identity->id);
		text_set(info->user, sizeof(info->user), identity->user);
		text_set(info->fingerprint, sizeof(info->fingerprint), identity->key_fingerprint);
		info->scopes = scopes_copy(identity->scopes);
	}
	return info;
}

static bool on_open(void *user, struct alk_channel *channel, const struct alk_destination *to)
{
	struct server *server = user;
	struct event *event;
	struct info *info;
	struct stream *stream;

	if (!atomic_load(&server->accept))
		return false;
	event = event_new(EV_CHANNEL, server->id);
	info = channel_info(channel, to);
	stream = event != NULL && info != NULL ? stream_take_channel(server->env, channel) : NULL;
	if (stream == NULL) {
		info_free(info);
		free(event);
		return false;
	}
	event->info = info;
	event->stream = stream;
	event->number = stream_id(stream);
	env_tell(server->env, event);
	return true;
}

static void on_begin(void *user)
{
	static const struct alk_embed_server_ops ops = {.size = sizeof(ops),
							.ready = on_ready,
							.open = on_open,
							.closed = on_closed};
	struct server *server = user;
	struct alk_embed *embed = home_embed();
	struct alk_err err = {"the process exits"};

	if (server->over) {
		server_unref(&server);
		return;
	}
	env_own(server->env, &server->belonging);
	if (embed != NULL)
		server->embed = alk_embed_server_new(embed, NULL, server->settings, &ops, server,
						     &err);
	settings_free(&server->settings);
	if (server->embed == NULL) {
		env_tell(server->env, event_text(EV_CLOSED, server->id, FAILED_CONFIG, err.text));
		server_end(server);
	}
	server_unref(&server);
}

static void on_stop(void *user)
{
	struct server *server = user;

	if (server->embed != NULL)
		alk_embed_server_stop(server->embed);
	server_unref(&server);
}

/* ---- here ---- */

struct server *server_new(struct env *env, double id, struct alk_setting *settings)
{
	struct server *server = calloc(1, sizeof(*server));

	if (server == NULL) {
		settings_free(&settings);
		return NULL;
	}
	server->belonging.drop = on_drop;
	server->refs = 3; /* JavaScript's, the one there, the post's */
	server->env = env_ref(env);
	server->id = id;
	server->settings = settings;
	if (home_post(on_begin, server) == 0)
		return server;
	server->refs = 1;
	server_unref(&server);
	return NULL;
}

void server_accept(struct server *server, bool accept)
{
	atomic_store(&server->accept, accept);
}

bool server_request(struct server *server, double number, const char *method, const char *params,
		    struct alk_setting *settings)
{
	struct request *request = calloc(1, sizeof(*request));

	if (request == NULL) {
		settings_free(&settings);
		return false;
	}
	request->server = server_ref(server);
	request->number = number;
	request->settings = settings;
	request->method = strdup(method);
	request->params = params != NULL ? strdup(params) : NULL;
	request->watch = strcmp(method, "watch") == 0;
	if (request->method != NULL && (params == NULL || request->params != NULL) &&
	    home_post(on_request, request) == 0)
		return true;
	request_free(request);
	return false;
}

bool server_close(struct server *server, bool now)
{
	if (home_post(now ? on_end_posted : on_stop, server_ref(server)) == 0)
		return true;
	server_unref(&(struct server *){server});
	return false;
}
