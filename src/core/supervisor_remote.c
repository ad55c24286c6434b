/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Which session has which port: the remote listeners of all workers. Each worker knows the others'
 * by what is told from here, so that it can answer its clients at once (remote_listener.h). */
#include "supervisor_private.h"

#include <stdlib.h>
#include <string.h>

#define REMOTES_MAX 65535 /* of a worker */
#define IDENTITY_MAX 1024
#define ADDRESS_MAX 512
#define HOST_MAX 63

struct supervisor_remote {
	struct supervisor_remote *next;
	uint64_t session;
	unsigned worker;
	uint16_t port;
	char *host, *identity, *address; /* host: as the worker listens, one of the keys */
};

static void remote_free(struct supervisor_remote *r)
{
	free(r->host);
	free(r->identity);
	free(r->address);
	free(r);
}

static json_t *remote_message(const struct supervisor_remote *r, bool on)
{
	return json_pack("{s:s, s:I, s:i, s:s, s:s, s:b}", "op", "remote", "session",
			 (json_int_t)r->session, "port", (int)r->port, "host", r->host, "identity",
			 r->identity, "on", on);
}

static void remote_tell_others(struct alk_supervisor *sup, const struct supervisor_remote *r,
			       bool on)
{
	for (unsigned i = 0; i < sup->slots; i++)
		if (i != r->worker && sup->slot[i].worker != NULL &&
		    alk_worker_proc_state(sup->slot[i].worker) != ALK_WORKER_DEAD)
			alk_worker_proc_send(sup->slot[i].worker, remote_message(r, on), NULL);
}

static void remote_remove(struct alk_supervisor *sup, struct supervisor_remote **at)
{
	struct supervisor_remote *r = *at;

	*at = r->next;
	remote_tell_others(sup, r, false);
	remote_free(r);
}

static bool remote_add(struct alk_supervisor *sup, const struct supervisor_remote *of)
{
	struct supervisor_remote *r = malloc(sizeof(*r));
	unsigned n = 0;

	for (const struct supervisor_remote *o = sup->remotes; o != NULL; o = o->next)
		n += o->worker == of->worker;
	if (r == NULL || n >= REMOTES_MAX) {
		free(r);
		return false;
	}
	*r = *of;
	r->host = strdup(of->host);
	r->identity = strdup(of->identity);
	r->address = strdup(of->address);
	if (r->host == NULL || r->identity == NULL || r->address == NULL) {
		remote_free(r);
		return false;
	}
	r->next = sup->remotes;
	sup->remotes = r;
	remote_tell_others(sup, r, true);
	return true;
}

/* Fields of a message, borrowed; false when they make no sense. */
static bool remote_read(const json_t *message, struct supervisor_remote *r)
{
	json_int_t port = json_integer_value(json_object_get(message, "port"));
	json_int_t session = json_integer_value(json_object_get(message, "session"));

	r->host = (char *)json_string_value(json_object_get(message, "host"));
	r->identity = (char *)json_string_value(json_object_get(message, "identity"));
	r->address = (char *)json_string_value(json_object_get(message, "address"));
	r->session = (uint64_t)session;
	r->port = (uint16_t)port;
	return session > 0 && port > 0 && port <= UINT16_MAX && r->host != NULL &&
	       strlen(r->host) <= HOST_MAX && r->identity != NULL &&
	       strlen(r->identity) <= IDENTITY_MAX &&
	       (r->address == NULL || strlen(r->address) <= ADDRESS_MAX);
}

/* Another worker's listener has to go: tell that one. When there is none any more, its end has been
 * told. */
static void remote_want(struct alk_supervisor *sup, const struct supervisor_remote *by)
{
	for (const struct supervisor_remote *r = sup->remotes; r != NULL; r = r->next)
		if (r->port == by->port && r->worker != by->worker &&
		    strcmp(r->host, by->host) == 0 && strcmp(r->identity, by->identity) == 0)
			alk_worker_proc_send(sup->slot[r->worker].worker,
					     json_pack("{s:s, s:I, s:i, s:s}", "op", "remote_drop",
						       "session", (json_int_t)r->session, "port",
						       (int)r->port, "host", r->host),
					     NULL);
}

bool supervisor_remote_hear(struct alk_supervisor *sup, unsigned worker, const json_t *message)
{
	const struct alk_linktab_entry *entry;
	struct supervisor_remote r = {.worker = worker}, **at = &sup->remotes;

	if (!remote_read(message, &r))
		return false;
	entry = alk_linktab_find(sup->links, r.session);
	if (entry == NULL || entry->worker != worker)
		return false;
	if (strcmp(json_string_value(json_object_get(message, "op")), "remote_want") == 0) {
		remote_want(sup, &r);
		return true;
	}
	if (json_is_true(json_object_get(message, "on")))
		return r.address != NULL && remote_add(sup, &r);
	while (*at != NULL && ((*at)->session != r.session || (*at)->worker != worker ||
			       (*at)->port != r.port || strcmp((*at)->host, r.host) != 0))
		at = &(*at)->next;
	if (*at == NULL)
		return false;
	remote_remove(sup, at);
	return true;
}

void supervisor_remote_tell_new(struct alk_supervisor *sup, unsigned worker)
{
	for (const struct supervisor_remote *r = sup->remotes; r != NULL; r = r->next)
		if (r->worker != worker)
			alk_worker_proc_send(sup->slot[worker].worker, remote_message(r, true),
					     NULL);
}

void supervisor_remote_gone(struct alk_supervisor *sup, unsigned worker)
{
	struct supervisor_remote **at = &sup->remotes;

	while (*at != NULL) {
		if ((*at)->worker == worker)
			remote_remove(sup, at);
		else
			at = &(*at)->next;
	}
}

json_t *supervisor_remote_list(const struct alk_supervisor *sup)
{
	json_t *list = json_array();

	for (const struct supervisor_remote *r = sup->remotes; r != NULL; r = r->next)
		json_array_append_new(list, json_pack("{s:s, s:I, s:i, s:s}", "address", r->address,
						      "session", (json_int_t)r->session, "worker",
						      (int)r->worker, "identity", r->identity));
	return list;
}

void supervisor_remote_deinit(struct alk_supervisor *sup)
{
	while (sup->remotes != NULL) {
		struct supervisor_remote *r = sup->remotes;

		sup->remotes = r->next;
		remote_free(r);
	}
}
