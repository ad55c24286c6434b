/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "supervisor_private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <alknet/half.h>
#include "ssh_key_text.h"

/* Services' halves are one for the life of the server, and run on the first configuration's loader
 * until a reload configures them; transports' halves are their generation's. */

struct half_reload {
	struct supervisor_setup *setup;
	const struct supervisor_setup *before;
	json_t *restart;
	bool apply;
	int rc;
	struct alk_err *err;
};

struct half_open {
	const struct alk_loader *loader;
	struct alk_err bad;
};

static void on_loaded(void *user, struct alk_loaded *loaded)
{
	(void)user, (void)loaded;
}

/* One that the configuration speaks of has to start. */
static void on_bad_plugin(void *user, const char *name, const struct alk_err *why)
{
	struct half_open *open = user;

	if (alk_loader_configured(open->loader, name) && open->bad.text[0] == '\0')
		open->bad = *why;
	alk_log(ALK_LOG_WARN, "plugin refused", ALK_STR("name", name),
		ALK_STR("reason", why->text));
}

/* What halves in the supervisor say */

static int slot_say(struct supervisor_slot *slot, const char *name, const void *bytes, size_t n)
{
	return slot->speaks != 0 ? alk_worker_proc_send_bytes(slot->worker, name, bytes, n)
				 : -EPIPE;
}

static int half_send(void *user, const char *name, uint64_t worker, const void *bytes, size_t n)
{
	struct alk_supervisor *sup = supervisor_of(user);

	for (unsigned i = 0; i < sup->slots; i++) {
		struct supervisor_slot *slot = &sup->slot[i];

		if (worker == ALK_HALF_EVERY_WORKER)
			slot_say(slot, name, bytes, n);
		else if (slot->speaks == worker)
			return slot_say(slot, name, bytes, n);
	}
	return worker == ALK_HALF_EVERY_WORKER ? 0 : -EPIPE;
}

static void host_key_forget(struct alk_supervisor *sup)
{
	if (sup->host_key != NULL)
		explicit_bzero(sup->host_key, strlen(sup->host_key));
	free(sup->host_key);
	free(sup->host_key_from);
	sup->host_key = sup->host_key_from = NULL;
}

static int half_host_key(void *user, const char *what, const uint8_t *private,
			 const uint8_t *public)
{
	struct alk_supervisor *sup = supervisor_of(user);
	char text[ALK_SSH_KEY_TEXT_MAX + 1], *key, *from;
	struct alk_err err;
	ssize_t n;

	if (private == NULL) {
		host_key_forget(sup);
	} else {
		n = alk_ssh_key_text(private, public, "", text, &err);
		text[n > 0 ? n : 0] = '\0';
		key = n > 0 ? strdup(text) : NULL;
		from = strdup(what);
		explicit_bzero(text, sizeof(text));
		if (key == NULL || from == NULL) {
			free(key);
			free(from);
			return -ENOMEM;
		}
		host_key_forget(sup);
		sup->host_key = key;
		sup->host_key_from = from;
	}
	if (sup->state <= SUPERVISOR_RUNNING)
		supervisor_reload(sup, SUPERVISOR_RELOAD_KEYS, NULL);
	return 0;
}

int supervisor_half_lend(const struct alk_supervisor *sup, struct alk_conf *conf,
			 struct alk_err *err)
{
	return alk_conf_lend(conf, "key", sup->host_key_from, sup->host_key,
			     sup->host_key != NULL ? strlen(sup->host_key) : 0, err);
}

static void on_half_answer(void *user, json_t *result, const char *error)
{
	char *text = result != NULL ? json_dumps(result, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	if (text == NULL && error == NULL)
		error = "out of memory";
	alk_loader_answer_call(user, text, error);
	if (text != NULL)
		explicit_bzero(text, strlen(text));
	free(text);
}

static int half_call(void *user, const char *method, const char *params, struct alk_half_call *call)
{
	json_t *values = json_loads(params, JSON_REJECT_DUPLICATES, NULL);

	if (alk_supervisor_streams(method) || values == NULL) {
		json_decref(values);
		return alk_supervisor_streams(method) ? -EOPNOTSUPP : -EINVAL;
	}
	return alk_supervisor_request(supervisor_of(user), method, values, on_half_answer, call);
}

void supervisor_half_carry(struct alk_supervisor *sup, struct alk_loader *loader)
{
	alk_loader_set_send(loader, half_send, sup);
	supervisor_local_carry(sup, loader);
}

int supervisor_half_open(struct alk_supervisor *sup, struct alk_err *err)
{
	struct half_open open = {.bad = {""}};
	int rc;

	sup->halves_setup = supervisor_setup_ref(sup->setup);
	sup->halves_setup->halves = true;
	sup->halves = alk_loader_new(sup->loop, ALK_ROLE_SUPERVISOR,
				     alk_options_str(sup->values, "plugin_dir"), sup->conf, err);
	if (sup->halves == NULL)
		return -EINVAL;
	supervisor_half_carry(sup, sup->halves);
	alk_loader_set_host_key(sup->halves, half_host_key);
	alk_loader_set_call(sup->halves, half_call);
	alk_loader_halves_only(sup->halves);
	open.loader = sup->halves;
	rc = alk_loader_scan(sup->halves, ALK_PLUGIN_SERVICE, on_loaded, on_bad_plugin, &open);
	if (rc < 0)
		return alk_err_set(err, rc, "cannot list the plugins: %s", strerror(-rc));
	return open.bad.text[0] != '\0' ? alk_err_set(err, -EINVAL, "%s", open.bad.text) : 0;
}

/* Values are checked against a table that is in the library. */
static void half_forget(void *user, struct alk_loaded *loaded)
{
	alk_conf_plugin_forget(user, alk_loaded_plugin(loaded)->name);
}

void supervisor_half_close(struct alk_supervisor *sup)
{
	if (sup->halves != NULL)
		alk_loader_each(sup->halves, half_forget, sup->conf);
	alk_loader_free(&sup->halves);
	if (sup->halves_setup != NULL)
		sup->halves_setup->halves = false;
	supervisor_setup_unref(&sup->halves_setup);
	host_key_forget(sup);
}

/* Workers */

static void half_up(void *user, struct alk_loaded *loaded)
{
	const struct supervisor_slot *slot = user;
	const struct alk_half_ops *half = alk_loaded_half(loaded);

	if (ALK_OP(half, worker_up) != NULL)
		half->worker_up(alk_loaded_state(loaded), slot->speaks);
}

static void half_down(void *user, struct alk_loaded *loaded)
{
	const struct supervisor_slot *slot = user;
	const struct alk_half_ops *half = alk_loaded_half(loaded);

	if (ALK_OP(half, worker_down) != NULL)
		half->worker_down(alk_loaded_state(loaded), slot->speaks);
}

void supervisor_half_up(struct supervisor_slot *slot)
{
	if (slot->speaks != 0)
		return;
	slot->speaks = ++slot->sup->last_worker;
	alk_loader_each(slot->sup->halves, half_up, slot);
	alk_loader_each(slot->setup->loader, half_up, slot);
}

void supervisor_half_down(struct supervisor_slot *slot)
{
	if (slot->speaks == 0)
		return;
	alk_loader_each(slot->sup->halves, half_down, slot);
	alk_loader_each(slot->setup->loader, half_down, slot);
	slot->speaks = 0;
}

bool supervisor_half_hear(struct supervisor_slot *slot, const char *name, const uint8_t *bytes,
			  size_t n)
{
	/* A worker's half may speak before its worker is ready. */
	supervisor_half_up(slot);
	return alk_loader_hear(slot->sup->halves, name, slot->speaks, bytes, n) ||
	       alk_loader_hear(slot->setup->loader, name, slot->speaks, bytes, n);
}

/* Another configuration */

static void half_configure(void *user, struct alk_loaded *loaded)
{
	struct half_reload *r = user;
	const struct alk_plugin *plugin = alk_loaded_plugin(loaded);
	const struct alk_half_ops *half = alk_loaded_half(loaded);
	const struct alk_options *options;

	if (r->rc != 0)
		return;
	options = alk_conf_plugin(r->setup->conf, plugin, r->err);
	if (options == NULL) {
		r->rc = -EINVAL;
	} else if (ALK_OP(half, configure) != NULL) {
		r->rc = half->configure(alk_loaded_state(loaded), options, r->apply, r->err);
		if (r->rc < 0)
			alk_err_prefix(r->err, r->rc, "plugin %s", plugin->name);
	} else if (r->restart != NULL &&
		   !alk_conf_plugin_same(r->before->conf, r->setup->conf, plugin->name)) {
		supervisor_restart_add(r->restart, plugin->name);
	}
}

int supervisor_half_check(struct alk_supervisor *sup, struct supervisor_setup *setup,
			  json_t *restart, struct alk_err *err)
{
	struct half_reload r = {.setup = setup,
				.before = sup->halves_setup,
				.restart = restart,
				.err = err};

	alk_loader_each(sup->halves, half_configure, &r);
	return r.rc;
}

void supervisor_half_apply(struct alk_supervisor *sup, struct supervisor_setup *setup)
{
	struct alk_err err = {""};
	struct half_reload r = {.setup = setup, .apply = true, .err = &err};

	alk_loader_each(sup->halves, half_configure, &r);
	if (r.rc < 0)
		alk_log(ALK_LOG_ERROR, "plugin did not take its options",
			ALK_STR("error", err.text));
}

/* One more while the server runs: it learns of the workers that are there, and of the options of
 * today. */
int supervisor_half_add(struct alk_supervisor *sup, const char *name, struct alk_err *err)
{
	struct alk_loaded *loaded = alk_loader_get(sup->halves, ALK_PLUGIN_SERVICE, name, err);
	struct half_reload r = {.setup = sup->setup, .apply = true, .err = err};

	if (loaded == NULL)
		return -EINVAL;
	half_configure(&r, loaded);
	if (r.rc < 0) {
		supervisor_half_remove(sup, name);
		return r.rc;
	}
	for (unsigned i = 0; i < sup->slots; i++)
		if (sup->slot[i].speaks != 0)
			half_up(&sup->slot[i], loaded);
	return 0;
}

void supervisor_half_remove(struct alk_supervisor *sup, const char *name)
{
	alk_conf_plugin_forget(sup->conf, name);
	alk_loader_unload(sup->halves, name);
}

/* Admin */

void supervisor_half_command(struct alk_supervisor *sup, struct alk_admin_call *call,
			     const char *method, json_t *params)
{
	const char *dot = strchr(method, '.');
	const struct alk_half_ops *half = NULL;
	struct alk_loaded *loaded = NULL;
	char name[16], *text;

	snprintf(name, sizeof(name), "%.*s", dot != NULL ? (int)(dot - method) : 0, method);
	loaded = alk_loader_find(sup->halves, name);
	if (loaded == NULL)
		loaded = alk_loader_find(sup->loader, name);
	if (loaded != NULL)
		half = alk_loaded_half(loaded);
	if (dot == NULL || ALK_OP(half, command) == NULL) {
		alk_admin_error(&call, ALK_ADMIN_FAILED, "the plugin %s is not loaded", name);
		return;
	}
	text = json_dumps(params, JSON_COMPACT);
	if (text == NULL) {
		alk_admin_error(&call, ALK_ADMIN_FAILED, "out of memory");
		return;
	}
	half->command(alk_loaded_state(loaded), dot + 1, text, (struct alk_call *)(void *)call);
	explicit_bzero(text, strlen(text));
	free(text);
}

static void half_metrics(void *user, struct alk_loaded *loaded)
{
	const struct alk_half_ops *half = alk_loaded_half(loaded);
	char *text = ALK_OP(half, metrics) != NULL ? half->metrics(alk_loaded_state(loaded)) : NULL;

	if (text != NULL)
		alk_metrics_append(user, text);
	free(text);
}

void supervisor_half_metrics(const struct alk_supervisor *sup, struct alk_metrics_text *out)
{
	alk_loader_each(sup->halves, half_metrics, out);
	alk_loader_each(sup->loader, half_metrics, out);
}

/* An alk_call is an admin call that plugins cannot look into. */
static struct alk_admin_call *call_of(struct alk_call *call)
{
	return (struct alk_admin_call *)(void *)call;
}

void alk_call_result(struct alk_call **call, const char *json)
{
	struct alk_admin_call *c = call_of(*call);
	json_t *result = json_loads(json, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);

	*call = NULL;
	if (result != NULL)
		alk_admin_result(&c, result);
	else
		alk_admin_error(&c, ALK_ADMIN_FAILED, "the plugin's answer is no JSON");
}

void alk_call_result_private(struct alk_call **call, const char *json)
{
	struct alk_admin_call *c = call_of(*call);

	*call = NULL;
	alk_admin_result_text(&c, json);
}

void alk_call_fail(struct alk_call **call, const char *fmt, ...)
{
	struct alk_admin_call *c = call_of(*call);
	struct alk_err err;
	va_list ap;

	*call = NULL;
	va_start(ap, fmt);
	vsnprintf(err.text, sizeof(err.text), fmt, ap);
	va_end(ap);
	alk_admin_error(&c, ALK_ADMIN_FAILED, "%s", err.text);
}

void alk_call_stream(struct alk_call *call, void (*closed)(void *user, struct alk_call *call),
		     void *user)
{
	alk_admin_stream(call_of(call), (void (*)(void *, struct alk_admin_call *))(void *)closed,
			 user);
}

void alk_call_event(struct alk_call *call, const char *json)
{
	json_t *event = json_loads(json, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);

	if (event != NULL)
		alk_admin_event(call_of(call), event);
}
