/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "supervisor_private.h"

#include <errno.h>
#include <string.h>

/* The listener that is open already for this: the same transport, and the address in the same
 * words. */
static struct supervisor_listener *listener_find(struct alk_supervisor *sup,
						 const struct alk_conf_listen *want)
{
	for (unsigned i = 0; i < sup->listeners; i++) {
		struct supervisor_listener *listener = &sup->listener[i];

		if (listener->listener != NULL && !listener->keep && !listener->fresh &&
		    strcmp(listener->transport, want->transport) == 0 &&
		    strcmp(listener->want, want->address) == 0)
			return listener;
	}
	return NULL;
}

static int listener_open(struct alk_supervisor *sup, struct supervisor_setup *setup,
			 const struct alk_conf_listen *want, struct alk_err *err)
{
	struct supervisor_listener *listener = listener_find(sup, want);
	int rc;

	if (listener != NULL) {
		listener->keep = true;
		listener->next = alk_loader_get(setup->loader, ALK_PLUGIN_TRANSPORT,
						want->transport, err);
		return listener->next != NULL ? 0 : -EINVAL;
	}
	rc = supervisor_listen_on(sup, setup, want, &listener, err);
	if (rc == 0)
		listener->fresh = true;
	return rc;
}

void supervisor_relisten_undo(struct alk_supervisor *sup)
{
	for (unsigned i = 0; i < sup->listeners; i++) {
		struct supervisor_listener *listener = &sup->listener[i];

		if (listener->fresh)
			supervisor_unlisten_free(listener);
		listener->keep = listener->fresh = false;
		listener->next = NULL;
	}
}

/* Where nothing is said: what the transport listens on then, if that is another place than the
 * core's. */
static size_t listens_set(struct supervisor_setup *setup, struct alk_conf_listen *want, size_t n)
{
	struct alk_loaded *loaded;
	const struct alk_transport_ops *ops;
	const char *listens;

	if (n == 0 || !want[0].fallback)
		return n;
	loaded = alk_loader_get(setup->loader, ALK_PLUGIN_TRANSPORT, want[0].transport, NULL);
	ops = loaded != NULL ? alk_loaded_plugin(loaded)->ops.transport : NULL;
	listens = ALK_OP(ops, listens);
	if (listens == NULL)
		return n;
	want[0].address = listens;
	return 1;
}

int supervisor_relisten_open(struct alk_supervisor *sup, struct supervisor_setup *setup,
			     struct alk_err *err)
{
	struct alk_conf_listen want[ALK_LISTENERS_MAX];
	size_t n = alk_conf_listeners(setup->conf, want, ALK_LISTENERS_MAX);
	int rc = 0;

	n = listens_set(setup, want, n);

	if (n == 0)
		return alk_err_set(err, -EINVAL, "listen: there is no address to listen on");
	if (n > ALK_LISTENERS_MAX)
		return alk_err_set(err, -EINVAL, "listen: %zu addresses are more than %d", n,
				   ALK_LISTENERS_MAX);
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = listener_open(sup, setup, &want[i], err);
	if (rc < 0)
		supervisor_relisten_undo(sup);
	return rc;
}

/* Do both configurations give this plugin the same options? */
static bool options_same(const struct supervisor_listener *listener,
			 const struct supervisor_setup *setup)
{
	const struct alk_plugin *plugin = alk_loaded_plugin(listener->plugin);

	return alk_conf_plugin_same(listener->setup->conf, setup->conf, plugin->name);
}

/* The listener stays open and belongs to the new configuration's instance of the plugin, if that
 * can take it. */
static void listener_hand_over(struct supervisor_listener *listener, struct supervisor_setup *setup,
			       json_t *restart)
{
	int (*adopt)(void *, struct alk_listener *) = ALK_OP(listener->ops, adopt);
	bool one = alk_loaded_plugin(listener->plugin) == alk_loaded_plugin(listener->next);

	if (one && adopt != NULL &&
	    adopt(alk_loaded_state(listener->next), listener->listener) == 0) {
		listener->plugin = listener->next;
		supervisor_setup_unref(&listener->setup);
		listener->setup = supervisor_setup_ref(setup);
	} else if (!options_same(listener, setup)) {
		supervisor_restart_add(restart, listener->transport);
	}
}

static json_t *shown(const struct supervisor_listener *listener)
{
	return json_pack("{s:s, s:s}", "transport", listener->transport, "address",
			 listener->address);
}

void supervisor_relisten_commit(struct alk_supervisor *sup, struct supervisor_setup *setup,
				json_t *opened, json_t *closed, json_t *restart)
{
	for (unsigned i = 0; i < sup->listeners; i++) {
		struct supervisor_listener *listener = &sup->listener[i];

		if (listener->setup == NULL)
			continue;
		if (listener->fresh) {
			json_array_append_new(opened, shown(listener));
			listener->fresh = false;
			supervisor_tell_listening(listener);
		} else if (listener->keep) {
			listener_hand_over(listener, setup, restart);
		} else {
			json_array_append_new(closed, shown(listener));
			alk_log(ALK_LOG_INFO, "listening no more",
				ALK_STR("transport", listener->transport),
				ALK_STR("address", listener->address));
			supervisor_unlisten_free(listener);
		}
		listener->keep = false;
		listener->next = NULL;
	}
}
