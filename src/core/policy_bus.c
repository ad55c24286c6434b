/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <jansson.h>
#include <alknet/log.h>
#include "../plugins/services/common/topic.h"
#include "bus.h"
#include "channel.h"
#include "policy_private.h"
#include "route.h"

/* The script on the bus. What it wants is noted while its main chunk runs, offered when the worker
 * gives the policy a bus, and taken back with the policy: so a reload brings new operations with
 * the new workers, and the old ones go with theirs. */

#define LOST_LOG_MS 1000

struct policy_call {
	LIST_ENTRY(policy_call) entry;
	struct alk_policy *policy;
	struct alk_operation_call *call;
	struct alk_policy_asked *asked;
	struct alk_ask ask;
	struct alk_grant *grant;
	json_t *input;
};

struct alk_policy_operation {
	LIST_ENTRY(alk_policy_operation) entry;
	struct alk_policy *policy;
	json_t *spec; /* name, op_type, input_schema, output_schema, access_control */
	int function;
	struct alk_operation *offered;
	LIST_HEAD(, policy_call) calls;
};

struct policy_pattern {
	LIST_ENTRY(policy_pattern) entry;
	char *pattern, *group;
};

struct policy_event {
	LIST_ENTRY(policy_event) entry;
	struct alk_policy *policy;
	struct alk_policy_asked *asked;
	struct alk_ask ask;
	json_t *envelope;
	size_t n; /* bytes that it came as */
};

struct alk_policy_declared {
	LIST_HEAD(, alk_policy_operation) operations;
	LIST_HEAD(, policy_pattern) patterns;
	LIST_HEAD(, policy_event) events;
	unsigned n_operations, n_patterns, n_events;
	size_t event_bytes;
	uint64_t lost, lost_logged;
};

struct alk_policy_declared *alk_policy_declared_new(void)
{
	struct alk_policy_declared *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	LIST_INIT(&d->operations);
	LIST_INIT(&d->patterns);
	LIST_INIT(&d->events);
	return d;
}

bool alk_policy_declared_subscribes(const struct alk_policy_declared *declared)
{
	return declared->n_patterns > 0;
}

static void pattern_free(struct policy_pattern *p)
{
	if (!p)
		return;
	free(p->pattern);
	free(p->group);
	free(p);
}

void alk_policy_declared_free(struct alk_policy_declared **declared)
{
	struct alk_policy_declared *d = *declared;

	*declared = NULL;
	if (!d)
		return;
	while (!LIST_EMPTY(&d->operations)) {
		struct alk_policy_operation *o = LIST_FIRST(&d->operations);

		LIST_REMOVE(o, entry);
		json_decref(o->spec);
		free(o);
	}
	while (!LIST_EMPTY(&d->patterns)) {
		struct policy_pattern *p = LIST_FIRST(&d->patterns);

		LIST_REMOVE(p, entry);
		pattern_free(p);
	}
	free(d);
}

const struct alk_policy_operation *alk_policy_operation_find(const struct alk_policy *policy,
							     const char *name)
{
	const struct alk_policy_operation *o;

	if (!policy->declared)
		return NULL;
	LIST_FOREACH(o, &policy->declared->operations, entry)
	{
		if (strcmp(json_string_value(json_object_get(o->spec, "name")), name) == 0)
			return o;
	}
	return NULL;
}

int alk_policy_operation_function(const struct alk_policy_operation *operation)
{
	return operation->function;
}

/* ---- what the script says -------------------------------------------------------------------- */

/* What belongs to the program. */
static bool name_reserved(const char *name)
{
	static const char *const reserved[] = {"/services/", "/hub/",	 "/secret/",
					       "/bus/",	     "/status/", "/alknet"};

	for (size_t i = 0; i < sizeof(reserved) / sizeof(*reserved); i++)
		if (strncmp(name, reserved[i], strlen(reserved[i])) == 0)
			return true;
	return false;
}

static int keys_check(const json_t *object, const char *what, const char *known,
		      struct alk_err *err)
{
	char word[80];
	const char *key;
	json_t *value;

	if (object == NULL)
		return 0;
	if (!json_is_object(object))
		return alk_err_set(err, -EINVAL, "%s must be a table with names", what);
	json_object_foreach((json_t *)object, key, value)
	{
		snprintf(word, sizeof(word), " %.64s ", key);
		if (!strstr(known, word))
			return alk_err_set(err, -EINVAL, "unknown key in %s: %.64s", what, key);
	}
	return 0;
}

/* A list of texts; an empty table is an empty list. `out` has room for 65. */
static int scopes_read(const json_t *access, const char *key, const char **out, struct alk_err *err)
{
	const json_t *list = json_object_get(access, key);
	json_t *scope;
	size_t i;

	out[0] = NULL;
	if (list == NULL || (json_is_object(list) && json_object_size(list) == 0))
		return 0;
	if (!json_is_array(list) || json_array_size(list) > 64)
		return alk_err_set(err, -EINVAL, "%s must be a list of at most 64 texts", key);
	json_array_foreach((json_t *)list, i, scope)
	{
		out[i] = json_string_value(scope);
		out[i + 1] = NULL;
		if (!out[i] || !*out[i])
			return alk_err_set(err, -EINVAL, "%s must be a list of texts", key);
	}
	return 0;
}

struct spec_text {
	struct alk_operation_spec spec;
	const char *scopes[65], *any[65];
	char *input, *output;
};

static void spec_clear(struct spec_text *t)
{
	free(t->input);
	free(t->output);
}

static int schema_dump(const json_t *spec, const char *key, char **out, struct alk_err *err)
{
	const json_t *schema = json_object_get(spec, key);

	*out = schema ? json_dumps(schema, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	return schema && !*out ? alk_err_set(err, -ENOMEM, "not enough memory") : 0;
}

/* Borrows from the document. Clear it always. */
static int spec_read(const json_t *spec, struct spec_text *t, struct alk_err *err)
{
	const json_t *type = json_object_get(spec, "op_type");
	const json_t *access = json_object_get(spec, "access_control");

	*t = (struct spec_text){.input = NULL};
	if (keys_check(spec, "the operation's table",
		       " name op_type input_schema output_schema access_control ", err) < 0 ||
	    keys_check(access, "access_control", " required_scopes required_scopes_any ", err) <
		    0 ||
	    scopes_read(access, "required_scopes", t->scopes, err) < 0 ||
	    scopes_read(access, "required_scopes_any", t->any, err) < 0 ||
	    schema_dump(spec, "input_schema", &t->input, err) < 0 ||
	    schema_dump(spec, "output_schema", &t->output, err) < 0)
		return -EINVAL;
	if (type && (!json_is_string(type) || strcmp(json_string_value(type), "subscription") == 0))
		return alk_err_set(err, -EINVAL, "op_type must be \"query\" or \"mutation\"");
	t->spec = (struct alk_operation_spec){
		.size = sizeof(t->spec),
		.name = json_string_value(json_object_get(spec, "name")),
		.type = json_string_value(type),
		.input_schema = t->input,
		.output_schema = t->output,
		.scopes = t->scopes,
		.scopes_any = t->any,
	};
	return alk_bus_check(&t->spec, err);
}

/* Takes `spec`, also when it will not do. */
static int operation_declare(struct alk_policy_declared *d, json_t *spec, int function,
			     struct alk_err *err)
{
	struct alk_policy_operation *o = calloc(1, sizeof(*o));
	struct spec_text text;
	int rc = o ? spec_read(spec, &text, err) : alk_err_set(err, -ENOMEM, "not enough memory");

	if (o)
		spec_clear(&text);
	if (rc < 0) {
		json_decref(spec);
		free(o);
		return rc;
	}
	o->spec = spec;
	o->function = function;
	LIST_INIT(&o->calls);
	LIST_INSERT_HEAD(&d->operations, o, entry);
	d->n_operations++;
	return 0;
}

static bool operation_is_there(const struct alk_policy_declared *d, const char *name)
{
	const struct alk_policy_operation *o;

	LIST_FOREACH(o, &d->operations, entry)
	{
		if (strcmp(json_string_value(json_object_get(o->spec, "name")), name) == 0)
			return true;
	}
	return false;
}

static struct alk_policy_declared *check_declares(lua_State *L, const char *name)
{
	struct alk_policy_declared *d = alk_policy_sandbox_of(L)->declared;

	if (!d)
		luaL_error(L, "alknet.%s belongs into the main chunk", name);
	return d;
}

int alk_api_operation(lua_State *L)
{
	struct alk_policy_declared *d = check_declares(L, "operation");
	const char *name = luaL_checkstring(L, 1), *why = "";
	struct alk_err err = {""};
	json_t *spec;
	int function;

	luaL_checktype(L, 2, LUA_TTABLE);
	luaL_checktype(L, 3, LUA_TFUNCTION);
	if (name_reserved(name))
		return luaL_error(L, "%s: this part of the bus is the program's", name);
	if (operation_is_there(d, name))
		return luaL_error(L, "%s: there is such an operation already", name);
	if (d->n_operations >= ALK_POLICY_OPERATIONS_MAX)
		return luaL_error(L, "more than %d operations", ALK_POLICY_OPERATIONS_MAX);
	lua_settop(L, 3);
	function = luaL_ref(L, LUA_REGISTRYINDEX);
	spec = alk_policy_json_take(L, 2, &why);
	if (!spec)
		return luaL_error(L, "%s: %s", name, why);
	/* An empty table may be either; here it has names. */
	if (json_object_get(spec, "name") ||
	    json_object_set_new(spec, "name", json_string(name)) < 0) {
		json_decref(spec);
		return luaL_error(L, "%s: the operation's table must have names, and not `name`",
				  name);
	}
	if (operation_declare(d, spec, function, &err) < 0)
		return luaL_error(L, "%s: %s", name, err.text);
	return 0;
}

int alk_api_subscribe(lua_State *L)
{
	struct alk_policy_declared *d = check_declares(L, "subscribe");
	const char *pattern = luaL_checkstring(L, 1), *group = luaL_optstring(L, 2, "");
	struct alk_err err = {""};
	struct policy_pattern *p;

	if (topic_check_pattern(pattern, &err) < 0)
		return luaL_error(L, "%s", err.text);
	if (strlen(group) > TOPIC_TYPE_MAX)
		return luaL_error(L, "a group's name has at most %d bytes", TOPIC_TYPE_MAX);
	if (d->n_patterns >= ALK_POLICY_SUBSCRIPTIONS_MAX)
		return luaL_error(L, "more than %d subscriptions", ALK_POLICY_SUBSCRIPTIONS_MAX);
	p = calloc(1, sizeof(*p));
	if (p) {
		p->pattern = strdup(pattern);
		p->group = strdup(group);
	}
	if (!p || !p->pattern || !p->group) {
		pattern_free(p);
		return luaL_error(L, "not enough memory");
	}
	LIST_INSERT_HEAD(&d->patterns, p, entry);
	d->n_patterns++;
	return 0;
}

int alk_api_path(lua_State *L)
{
	const char *pattern = luaL_checkstring(L, 1), *name = luaL_checkstring(L, 2);

	luaL_argcheck(L, path_check_pattern(pattern), 1, "not a path like /*/fs/*");
	lua_pushboolean(L, path_match(pattern, name));
	return 1;
}

static int publish_failed(lua_State *L, const char *why)
{
	lua_pushnil(L);
	lua_pushstring(L, why);
	return 2;
}

int alk_api_publish(lua_State *L)
{
	struct alk_policy_sandbox *box = alk_policy_sandbox_of(L);
	const char *topic = luaL_checkstring(L, 1), *why = "";
	struct alk_err err = {""};
	json_t *payload;
	char *text;
	int rc;

	lua_settop(L, 2);
	if (!box->member)
		return publish_failed(L, "there is no bus");
	payload = alk_policy_json_take(L, 2, &why);
	if (!payload)
		return publish_failed(L, why);
	text = json_dumps(payload, JSON_COMPACT | JSON_ENCODE_ANY);
	json_decref(payload);
	if (!text)
		return publish_failed(L, "not enough memory");
	rc = alk_bus_publish(box->member, topic, text, &err);
	free(text);
	if (rc < 0)
		return publish_failed(L, err.text);
	lua_pushboolean(L, 1);
	return 1;
}

/* ---- calls ----------------------------------------------------------------------------------- */

static void policy_call_free(struct policy_call *c)
{
	LIST_REMOVE(c, entry);
	alk_policy_cancel(&c->asked);
	alk_grant_unref(&c->grant);
	json_decref(c->input);
	free(c);
}

static void on_called(void *user, const struct alk_answer *answer)
{
	struct policy_call *c = user;
	struct alk_operation_call *call = c->call;
	char *text = NULL;

	c->asked = NULL;
	policy_call_free(c);
	if (answer->code[0]) {
		alk_operation_fail(&call, answer->code, answer->reason);
		return;
	}
	if (answer->output)
		text = json_dumps(answer->output, JSON_COMPACT | JSON_ENCODE_ANY);
	/* What went wrong in a script is in the log, and not for the peer. */
	if (text)
		alk_operation_respond(&call, text);
	else
		alk_operation_fail(&call, "INTERNAL", "the operation failed");
	free(text);
}

static int call_who(struct policy_call *c, const struct alk_operation_caller *caller)
{
	const struct alk_identity *identity = caller->identity;
	const struct alk_route_session *from = NULL;

	if (caller->channel && alk_channel_policy(caller->channel, &from) && from) {
		c->ask.session = from->id;
		c->ask.link = from->link;
		c->ask.user = from->user;
		c->grant = alk_grant_ref(from->grant);
	} else if (identity) {
		c->grant = alk_grant_new(identity->id, identity->user, identity->key_fingerprint,
					 identity->scopes, NULL);
		if (!c->grant)
			return -ENOMEM;
	}
	c->ask.grant = c->grant;
	return 0;
}

static void on_call(void *user, struct alk_operation_call *call,
		    const struct alk_operation_caller *caller, const char *input)
{
	struct alk_policy_operation *o = user;
	struct policy_call *c;

	if (strlen(input) > ALK_POLICY_INPUT_MAX) {
		alk_operation_fail(&call, "INVALID_INPUT", "the input has more than 64 KiB");
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		alk_operation_fail(&call, "OVERLOADED", "out of memory");
		return;
	}
	c->policy = o->policy;
	c->call = call;
	LIST_INSERT_HEAD(&o->calls, c, entry);
	c->input = json_loads(input, JSON_DECODE_ANY, NULL);
	if (!c->input || !alk_policy_json_fits(c->input)) {
		policy_call_free(c);
		alk_operation_fail(&call, "INVALID_INPUT",
				   "the input has null in a list, or too many values");
		return;
	}
	c->ask.question = ALK_QUESTION_OPERATION;
	c->ask.function = o->function;
	c->ask.name = json_string_value(json_object_get(o->spec, "name"));
	c->ask.value = c->input;
	if (call_who(c, caller) == 0)
		c->asked = alk_policy_ask(c->policy, &c->ask, on_called, c);
	if (!c->asked) {
		policy_call_free(c);
		alk_operation_fail(&call, "OVERLOADED", "out of memory");
	}
}

static void on_abort(void *user, struct alk_operation_call *call)
{
	struct alk_policy_operation *o = user;
	struct policy_call *c;

	LIST_FOREACH(c, &o->calls, entry)
	{
		if (c->call == call) {
			policy_call_free(c);
			return;
		}
	}
}

static int operation_offer(struct alk_policy_operation *o, struct alk_bus *bus, struct alk_err *err)
{
	struct spec_text text;
	int rc = spec_read(o->spec, &text, err);

	text.spec.call = on_call;
	text.spec.abort = on_abort;
	if (rc == 0)
		rc = alk_bus_offer(bus, &text.spec, o, &o->offered, err);
	spec_clear(&text);
	return rc;
}

/* ---- events ---------------------------------------------------------------------------------- */

static void event_free(struct policy_event *e)
{
	LIST_REMOVE(e, entry);
	e->policy->declared->n_events--;
	e->policy->declared->event_bytes -= e->n;
	alk_policy_cancel(&e->asked);
	json_decref(e->envelope);
	free(e);
}

static void on_event_done(void *user, const struct alk_answer *answer)
{
	struct policy_event *e = user;

	(void)answer; /* what failed was logged */
	e->asked = NULL;
	event_free(e);
}

static void event_lost(struct alk_policy *policy, const char *why)
{
	struct alk_policy_declared *d = policy->declared;
	uint64_t now = alk_loop_now(policy->loop);

	d->lost++;
	if (d->lost_logged != 0 && now - d->lost_logged < LOST_LOG_MS)
		return;
	d->lost_logged = now;
	alk_log(ALK_LOG_WARN, "policy did not get events", ALK_STR("reason", why),
		ALK_INT("events", (int64_t)d->lost));
	d->lost = 0;
}

/* All of a burst comes at once, before the script can run: what bounds it is memory. */
static bool events_full(const struct alk_policy_declared *d, size_t n)
{
	return d->n_events >= ALK_POLICY_EVENTS_MAX || d->event_bytes + n > ALK_POLICY_EVENTS_BYTES;
}

static void on_event(void *user, const char *envelope, size_t n)
{
	struct alk_policy *policy = user;
	struct policy_event *e;
	const json_t *payload;
	bool fits;

	if (n > ALK_POLICY_INPUT_MAX || events_full(policy->declared, n)) {
		event_lost(policy, n > ALK_POLICY_INPUT_MAX ? "longer than 64 KiB"
							    : "on_event does not keep up");
		return;
	}
	e = calloc(1, sizeof(*e));
	if (!e) {
		event_lost(policy, "out of memory");
		return;
	}
	e->policy = policy;
	e->n = n;
	LIST_INSERT_HEAD(&policy->declared->events, e, entry);
	policy->declared->n_events++;
	policy->declared->event_bytes += n;
	e->envelope = json_loadb(envelope, n, 0, NULL);
	payload = json_object_get(e->envelope, "payload");
	e->ask = (struct alk_ask){
		.question = ALK_QUESTION_EVENT,
		.name = json_string_value(json_object_get(e->envelope, "type")),
		.id = json_string_value(json_object_get(e->envelope, "id")),
		.size = n,
		.value = payload,
	};
	fits = e->ask.name && e->ask.id && alk_policy_json_fits(payload);
	if (fits)
		e->asked = alk_policy_ask(policy, &e->ask, on_event_done, e);
	if (!e->asked) {
		event_free(e);
		event_lost(policy, fits ? "out of memory" : "null in a list, or too many values");
	}
}

/* ---- coming and going ------------------------------------------------------------------------ */

int alk_policy_set_bus(struct alk_policy *policy, struct alk_bus *bus, struct alk_err *err)
{
	struct alk_policy_operation *o;
	const struct policy_pattern *p;
	int rc = 0;

	if (!policy->declared)
		return 0;
	policy->box.member = alk_bus_join(bus, on_event, policy);
	if (!policy->box.member)
		return alk_err_set(err, -ENOMEM, "not enough memory");
	LIST_FOREACH(o, &policy->declared->operations, entry)
	{
		o->policy = policy;
		if (rc == 0)
			rc = operation_offer(o, bus, err);
	}
	LIST_FOREACH(p, &policy->declared->patterns, entry)
	{
		if (rc == 0)
			rc = alk_bus_subscribe(policy->box.member, p->pattern, p->group, err);
	}
	return rc;
}

void alk_policy_bus_leave(struct alk_policy *policy)
{
	struct alk_policy_operation *o;

	if (!policy->declared)
		return;
	LIST_FOREACH(o, &policy->declared->operations, entry)
	{
		alk_bus_withdraw(&o->offered);
	}
	alk_bus_leave(&policy->box.member);
	while (!LIST_EMPTY(&policy->declared->events))
		event_free(LIST_FIRST(&policy->declared->events));
}
