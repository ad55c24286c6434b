/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "board.h"
#include "program.h"
#include "proxy.h"
#include "route.h"

#define SERVICES_MAX 32

struct route_service {
	char name[32]; /* "" = the place is free; places do not move, channels point to `ops` */
	bool held;     /* gets no new channels */
	const struct alk_service_ops *table;
	void *state;
	struct alk_channel_ops ops; /* the table's, as channels call them */
};

struct alk_route {
	struct alk_policy *policy;
	struct alk_loader *loader;
	const struct alk_program *program;
	const struct alk_proxy_url *proxy;
	struct route_service service[SERVICES_MAX];
	struct alk_err bad; /* why a plugin that the configuration speaks of does not fit */
};

/* A channel whose way is being decided. */
struct route_asking {
	struct alk_route *route;
	struct alk_channel *channel;
	struct alk_destination to;
	struct alk_policy_asked *asked;
	struct alk_ask ask;
};

static struct route_service *route_find(const struct alk_route *route, const char *name)
{
	for (size_t i = 0; i < SERVICES_MAX; i++)
		if (strcmp(route->service[i].name, name) == 0)
			return (struct route_service *)&route->service[i];
	return NULL;
}

int alk_route_add(struct alk_route *route, struct alk_loaded *loaded, struct alk_err *err)
{
	const struct alk_plugin *plugin = alk_loaded_plugin(loaded);
	struct route_service *s = route_find(route, "");

	if (!s)
		return alk_err_set(err, -ENOSPC, "plugin %s: there may be %d services",
				   plugin->name, SERVICES_MAX);
	s->held = true;
	snprintf(s->name, sizeof(s->name), "%s", plugin->name);
	s->table = plugin->ops.service;
	s->state = alk_loaded_state(loaded);
	s->ops.data = ALK_OP(s->table, data);
	s->ops.drain = ALK_OP(s->table, drain);
	s->ops.eof = ALK_OP(s->table, eof);
	s->ops.close = ALK_OP(s->table, close);
	return 0;
}

void alk_route_hold(struct alk_route *route, const char *name, bool held)
{
	struct route_service *s = route_find(route, name);

	if (s)
		s->held = held;
}

void alk_route_remove(struct alk_route *route, const char *name)
{
	struct route_service *s = route_find(route, name);

	if (s)
		*s = (struct route_service){.name = ""};
}

bool alk_route_needs(const struct alk_route *route, const char *name)
{
	return strcmp(name, ALK_SERVICE_PLAIN) == 0 && route_find(route, name);
}

const struct alk_channel_ops *alk_route_ops(const struct alk_route *route, const char *name)
{
	const struct route_service *s = route_find(route, name);

	return s ? &s->ops : NULL;
}

static void on_bad_plugin(void *user, const char *name, const struct alk_err *why)
{
	struct alk_route *route = user;

	if (alk_loader_configured(route->loader, name) && !*route->bad.text)
		route->bad = *why;
	alk_log(ALK_LOG_WARN, "plugin refused", ALK_STR("name", name),
		ALK_STR("reason", why->text));
}

static void on_loaded(void *user, struct alk_loaded *loaded)
{
	const char *name = alk_loaded_plugin(loaded)->name;
	struct alk_err err;

	if (alk_route_add(user, loaded, &err) < 0)
		on_bad_plugin(user, name, &err);
	else
		alk_route_hold(user, name, false);
}

/* What the option `services` names has to be there. */
static int route_check_wanted(const struct alk_route *route, const struct alk_options *values,
			      struct alk_err *err)
{
	const char *name;

	for (size_t i = 0; (name = alk_options_nth(values, "services", i)) != NULL; i++)
		if (strcmp(name, "none") != 0 && !route_find(route, name))
			return alk_err_set(err, -ENOENT,
					   "services: there is no service %.64s in plugin_dir",
					   name);
	return 0;
}

struct alk_route *alk_route_new(struct alk_policy *policy, struct alk_loader *loader,
				const struct alk_options *values, struct alk_err *err)
{
	struct alk_route *route = calloc(1, sizeof(*route));
	struct alk_loaded *forward;
	int rc;

	if (!route) {
		alk_err_set(err, -ENOMEM, "out of memory for the services");
		return NULL;
	}
	route->policy = policy;
	route->loader = loader;
	forward = alk_loader_get(loader, ALK_PLUGIN_SERVICE, ALK_SERVICE_PLAIN, err);
	if (!forward) {
		alk_route_free(&route);
		return NULL;
	}
	rc = alk_loader_scan(loader, ALK_PLUGIN_SERVICE, on_loaded, on_bad_plugin, route);
	if (rc < 0) {
		alk_err_set(err, rc, "cannot list the plugins: %s", strerror(-rc));
		alk_route_free(&route);
	} else if (*route->bad.text) {
		*err = route->bad;
		alk_route_free(&route);
	} else if (route_check_wanted(route, values, err) < 0) {
		alk_route_free(&route);
	}
	return route;
}

void alk_route_set_program(struct alk_route *route, const struct alk_program *program,
			   const struct alk_proxy_url *proxy)
{
	route->program = program;
	route->proxy = proxy;
}

void alk_route_free(struct alk_route **route)
{
	free(*route);
	*route = NULL;
}

bool alk_route_local(struct alk_route *route, const char *name, struct alk_local *local)
{
	const struct route_service *s = *name != '\0' ? route_find(route, name) : NULL;

	if (!s || s->held || !ALK_OP(s->table, local))
		return false;
	ALK_OP(s->table, local)(s->state, local);
	return true;
}

static void asking_free(struct route_asking *a)
{
	if (a->asked)
		alk_policy_cancel(&a->asked);
	free(a);
}

/* The session or the peer gave up before the policy answered. */
static void on_given_up(void *user, struct alk_channel *channel)
{
	(void)channel;
	asking_free(user);
}

static const struct alk_channel_ops asking_ops = {.close = on_given_up};

static void route_serve(const struct alk_route *route, struct route_service *s,
			struct alk_channel *channel, const struct alk_destination *to)
{
	struct alk_loop *loop = alk_channel_loop(channel);
	struct alk_err err = {""};
	void *user = NULL;
	int rc;

	alk_channel_set_ops(channel, &s->ops, NULL);
	alk_proxy_lend(loop, route->proxy);
	rc = ALK_OP(s->table, open)(s->state, channel, to, &user, &err);
	alk_proxy_lend(loop, NULL);
	if (rc < 0) {
		alk_channel_set_ops(channel, NULL, NULL);
		alk_channel_refuse(channel, alk_open_failure_of(rc), err.text);
		return;
	}
	/* The service may have handed the channel to the pump already. */
	alk_channel_set_user(channel, &s->ops, user);
}

/* Who a PROXY header names. */
static void route_set_link(struct alk_destination *to, const struct alk_link *link)
{
	memcpy(to->remote_addr, link->remote_addr, sizeof(to->remote_addr));
	memcpy(to->local_addr, link->local_addr, sizeof(to->local_addr));
	to->remote_port = link->remote_port;
	to->local_port = link->local_port;
}

/* For the program that the server is in: what a script says is for it, or, without a script, what
 * is nobody else's. */
static bool is_program(const struct alk_answer *answer, const struct alk_destination *to)
{
	if (answer->verdict == ALK_VERDICT_SERVICE)
		return strcmp(answer->service, "program") == 0 ||
		       strcmp(answer->where, "built-in") == 0;
	return answer->verdict == ALK_VERDICT_DENY && strcmp(answer->where, "built-in") == 0 &&
	       !to->path[0] && alk_destination_reserved(to->host);
}

static void on_answer(void *user, const struct alk_answer *answer)
{
	struct route_asking *a = user;
	struct alk_channel *channel = a->channel;
	const struct alk_program *program = a->route->program;
	struct route_service *s = NULL;
	const char *name = ALK_SERVICE_PLAIN;

	a->asked = NULL;
	alk_channel_hold(channel);
	alk_channel_set_ops(channel, NULL, NULL);
	if (answer->verdict == ALK_VERDICT_SERVICE)
		name = answer->service;
	if (answer->verdict == ALK_VERDICT_FORWARD || answer->verdict == ALK_VERDICT_SERVICE)
		s = route_find(a->route, name);
	if (answer->verdict == ALK_VERDICT_FORWARD) {
		if (answer->path[0]) {
			snprintf(a->to.path, sizeof(a->to.path), "%s", answer->path);
			a->to.host[0] = '\0';
		} else if (answer->host[0]) {
			snprintf(a->to.host, sizeof(a->to.host), "%s", answer->host);
			a->to.path[0] = '\0';
		} else if (a->to.path[0]) {
			/* A unix socket (the admin socket, a container engine's) is never a
			 * default: the script has to name it. */
			s = NULL;
		}
		if (answer->port)
			a->to.port = answer->port;
		snprintf(a->to.bind, sizeof(a->to.bind), "%s", answer->bind);
		snprintf(a->to.via, sizeof(a->to.via), "%s", answer->via);
		a->to.proxy_protocol = answer->proxy_protocol;
		route_set_link(&a->to, a->ask.link);
		if (alk_destination_reserved(a->to.host))
			s = NULL;
	}
	if (s && !s->held)
		route_serve(a->route, s, channel, &a->to);
	else if (is_program(answer, &a->to) && program && program->open &&
		 program->open(program->user, channel, &a->to))
		; /* it has the channel */
	else if (answer->verdict == ALK_VERDICT_SERVICE)
		alk_channel_refuse(channel, ALK_OPEN_PROHIBITED, "open failed: no such service");
	else
		alk_channel_refuse(channel, ALK_OPEN_PROHIBITED, "open failed: denied by policy");
	asking_free(a);
}

void alk_route_open(struct alk_route *route, const struct alk_route_session *from,
		    struct alk_channel *channel, const struct alk_destination *to)
{
	struct route_asking *a;

	if (!alk_grant_may_open(from->grant, to->path[0] ? to->path : to->host, to->port)) {
		alk_channel_refuse(channel, ALK_OPEN_PROHIBITED,
				   "open failed: not permitted with this key");
		return;
	}
	a = calloc(1, sizeof(*a));
	if (!a) {
		alk_channel_refuse(channel, ALK_OPEN_RESOURCE_SHORTAGE,
				   "open failed: out of memory");
		return;
	}
	a->route = route;
	a->channel = channel;
	a->to = *to;
	a->ask = (struct alk_ask){
		.question = ALK_QUESTION_OPEN,
		.session = from->id,
		.link = from->link,
		.user = from->user,
		.grant = from->grant,
		.to = &a->to,
	};
	alk_channel_set_ops(channel, &asking_ops, a);
	a->asked = alk_policy_ask(route->policy, &a->ask, on_answer, a);
	if (!a->asked)
		alk_channel_refuse(channel, ALK_OPEN_RESOURCE_SHORTAGE,
				   "open failed: out of memory");
}
