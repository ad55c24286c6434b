/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "supervisor_private.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sandbox.h"

static struct supervisor_listener *listener_of(void *user)
{
	struct supervisor_listener *listener = user;

	assert(listener->magic == SUPERVISOR_LISTENER_MAGIC);
	return listener;
}

static uint64_t on_taken(void *user, struct alk_link *link)
{
	struct supervisor_listener *listener = listener_of(user);

	listener->accepted++;
	if (supervisor_proxy_expects(listener, link))
		return 0;
	return supervisor_take_link(listener->sup, link);
}

static void on_accepted(void *user, struct alk_link *link)
{
	on_taken(user, link);
}

/* Its worker shows it, and who watches is told. */
static void on_path(void *user, uint64_t number, const struct alk_link_path *path)
{
	struct supervisor_listener *listener = listener_of(user);
	struct alk_supervisor *sup = listener->sup;
	const struct alk_linktab_entry *entry = alk_linktab_find(sup->links, number);
	double rtt = (double)path->rtt_us / 1e6;

	if (entry == NULL)
		return;
	alk_worker_proc_send(sup->slot[entry->worker].worker,
			     json_pack("{s:s, s:I, s:s, s:s, s:f}", "op", "path", "link",
				       (json_int_t)number, "path", path->kind, "path_via",
				       path->via, "rtt", rtt),
			     NULL);
	supervisor_event(sup,
			 json_pack("{s:s, s:I, s:s, s:s, s:s, s:f}", "event", "link.path",
				   "session", (json_int_t)number, "transport", listener->transport,
				   "path", path->kind, "path_via", path->via, "rtt", rtt));
}

/* Listeners */

static void tell_listener(const struct supervisor_listener *listener, const char *event)
{
	supervisor_event(listener->sup,
			 json_pack("{s:s, s:s, s:s}", "event", event, "transport",
				   listener->transport, "address", listener->address));
}

/* The sentence names the option and the address, once. */
static int listen_failed(struct alk_err *err, int rc, const char *address)
{
	if (err != NULL && strstr(err->text, address) == NULL)
		alk_err_prefix(err, rc, "%s", address);
	return alk_err_prefix(err, rc, "listen");
}

static struct supervisor_listener *place_find(struct alk_supervisor *sup)
{
	for (unsigned i = 0; i < sup->listeners; i++)
		if (sup->listener[i].setup == NULL)
			return &sup->listener[i];
	return sup->listeners < ALK_PLACES_MAX ? &sup->listener[sup->listeners++] : NULL;
}

static int place_listen(struct supervisor_listener *listener, const struct alk_conf_listen *want,
			struct alk_err *err)
{
	const struct alk_acceptor up = {.accepted = on_accepted,
					.user = listener,
					.take = on_taken,
					.path = on_path};
	int (*op)(void *, const char *, const struct alk_acceptor *, struct alk_listener **,
		  struct alk_err *);
	void (*describe)(void *, const struct alk_listener *, char *, size_t);
	int rc;

	listener->plugin = alk_loader_get(listener->setup->loader, ALK_PLUGIN_TRANSPORT,
					  want->transport, err);
	if (listener->plugin == NULL)
		return -EINVAL;
	listener->ops = alk_loaded_plugin(listener->plugin)->ops.transport;
	op = ALK_OP(listener->ops, listen);
	if (op == NULL)
		return alk_err_set(err, -EOPNOTSUPP, "transport: %s cannot listen",
				   want->transport);
	rc = op(alk_loaded_state(listener->plugin), want->address, &up, &listener->listener, err);
	if (rc != 0)
		return listen_failed(err, rc, want->address);
	snprintf(listener->transport, sizeof(listener->transport), "%s", want->transport);
	snprintf(listener->address, sizeof(listener->address), "%s", want->address);
	describe = ALK_OP(listener->ops, describe);
	if (describe != NULL)
		describe(alk_loaded_state(listener->plugin), listener->listener, listener->address,
			 sizeof(listener->address));
	return 0;
}

int supervisor_listen_on(struct alk_supervisor *sup, struct supervisor_setup *setup,
			 const struct alk_conf_listen *want, struct supervisor_listener **out,
			 struct alk_err *err)
{
	struct supervisor_listener *listener = place_find(sup);
	int rc;

	if (listener == NULL)
		return alk_err_set(err, -ENOSPC, "listen: no place for another address");
	*listener = (struct supervisor_listener){.magic = SUPERVISOR_LISTENER_MAGIC,
						 .sup = sup,
						 .index = (unsigned)(listener - sup->listener)};
	listener->setup = supervisor_setup_ref(setup);
	listener->want = strdup(want->address);
	rc = listener->want != NULL ? place_listen(listener, want, err)
				    : alk_err_set(err, -ENOMEM, "listen: out of memory");
	if (rc < 0)
		supervisor_unlisten_free(listener);
	else
		*out = listener;
	return rc;
}

int supervisor_listen(struct alk_supervisor *sup, struct alk_err *err)
{
	int rc = supervisor_relisten_open(sup, sup->setup, err);

	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < sup->listeners; i++)
		sup->listener[i].fresh = false; /* there are no others */
	supervisor_accept(sup);
	return 0;
}

/* Close it; the place stays as it is, for people to see. */
static void unlisten_one(struct supervisor_listener *listener)
{
	void (*op)(void *, struct alk_listener **) = ALK_OP(listener->ops, unlisten);

	if (listener->listener == NULL)
		return;
	if (op != NULL)
		op(alk_loaded_state(listener->plugin), &listener->listener);
	listener->listener = NULL;
	if (!listener->fresh)
		tell_listener(listener, "listener.close");
}

void supervisor_unlisten_free(struct supervisor_listener *listener)
{
	unlisten_one(listener);
	free(listener->want);
	listener->want = NULL;
	/* The plugin may go now, and its tables with it. */
	listener->plugin = NULL;
	listener->ops = NULL;
	listener->magic = 0;
	supervisor_setup_unref(&listener->setup);
}

void supervisor_unlisten(struct alk_supervisor *sup)
{
	for (unsigned i = 0; i < sup->listeners; i++)
		unlisten_one(&sup->listener[i]);
}

void supervisor_accept(struct alk_supervisor *sup)
{
	bool ready = sup->state == SUPERVISOR_RUNNING && supervisor_is_served(sup);

	supervisor_local_accept(sup, ready);
	if (alk_timer_active(sup->pause))
		ready = false;
	else if (ready)
		supervisor_take_turns(sup);
	for (unsigned i = 0; i < sup->listeners; i++) {
		struct supervisor_listener *listener = &sup->listener[i];
		void (*op)(void *, struct alk_listener *, bool) = ALK_OP(listener->ops, pause);

		if (op == NULL || listener->listener == NULL || listener->paused == !ready)
			continue;
		listener->paused = !ready;
		op(alk_loaded_state(listener->plugin), listener->listener, listener->paused);
	}
}

static void log_sandbox(bool wanted)
{
	alk_log(wanted && !alk_sandbox_whole() ? ALK_LOG_WARN : ALK_LOG_INFO, "sandbox of workers",
		ALK_STR("kind", wanted ? alk_sandbox_describe() : "none: switched off"));
}

void supervisor_log_listening(struct alk_supervisor *sup)
{
	if (!alk_options_has(sup->values, "key"))
		alk_log(ALK_LOG_WARN,
			"no host key yet, connections are refused until a plugin gives one");
	for (unsigned i = 0; i < sup->listeners; i++)
		if (sup->listener[i].listener != NULL)
			supervisor_tell_listening(&sup->listener[i]);
	if (!sup->in_process)
		log_sandbox(alk_options_bool(sup->values, "sandbox"));
	if (sup->metrics_http != NULL)
		alk_log(ALK_LOG_INFO, "metrics served",
			ALK_STR("address", alk_metrics_http_address(sup->metrics_http)));
}

void supervisor_tell_listening(const struct supervisor_listener *listener)
{
	alk_log(ALK_LOG_INFO, "listening", ALK_STR("transport", listener->transport),
		ALK_STR("address", listener->address));
	tell_listener(listener, "listener.open");
}
