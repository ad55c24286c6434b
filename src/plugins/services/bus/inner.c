/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "bus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Operations and members that are in this worker: the policy's and other plugins' (alknet/bus.h). A
 * member is a connection without a channel: what it subscribes to is a subscription like any other,
 * and what it publishes goes the way of a channel's events. The policy is not asked about it. */

/* Operations */

static void operation_free(struct operation *o)
{
	operation_clear(o);
	free(o);
}

static json_t *schema_of(const char *text)
{
	return text != NULL ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
}

json_t *texts_json(const char *const *list)
{
	json_t *array = json_array();

	for (; list != NULL && *list != NULL; list++)
		json_array_append_new(array, json_string(*list));
	return array;
}

static struct operation *operation_make(struct alk_operation *inner)
{
	const struct alk_operation_spec *spec = alk_operation_spec_of(inner);
	struct operation *o = calloc(1, sizeof(*o));

	if (o == NULL)
		return NULL;
	o->inner = inner;
	o->name = strdup(spec->name);
	o->type = strdup(spec->type);
	o->input = schema_of(spec->input_schema);
	o->output = schema_of(spec->output_schema);
	o->access = json_pack("{s:o, s:o}", "required_scopes", texts_json(spec->scopes),
			      "required_scopes_any", texts_json(spec->scopes_any));
	if (o->name == NULL || o->type == NULL || o->access == NULL ||
	    (spec->input_schema != NULL && o->input == NULL) ||
	    (spec->output_schema != NULL && o->output == NULL)) {
		operation_free(o);
		return NULL;
	}
	return o;
}

static bool room_for_one(struct bus *bus)
{
	size_t size = bus->size_operations > 0 ? bus->size_operations * 2 : 16;
	struct operation **grown;

	if (bus->n_operations < bus->size_operations)
		return true;
	grown = realloc(bus->operations, size * sizeof(struct operation *));
	if (grown == NULL)
		return false;
	bus->operations = grown;
	bus->size_operations = size;
	return true;
}

static void on_offered(void *user, struct alk_operation *inner)
{
	struct bus *bus = user;
	struct operation *o = room_for_one(bus) ? operation_make(inner) : NULL;

	if (o == NULL) {
		alk_log(ALK_LOG_ERROR, "an operation is not on the bus",
			ALK_STR("operation", alk_operation_spec_of(inner)->name),
			ALK_STR("reason", "out of memory"));
		return;
	}
	bus->operations[bus->n_operations++] = o;
	inner_tell(bus);
}

static void on_withdrawn(void *user, struct alk_operation *inner)
{
	struct bus *bus = user;

	for (size_t i = 0; i < bus->n_operations; i++) {
		if (bus->operations[i]->inner != inner)
			continue;
		operation_free(bus->operations[i]);
		bus->operations[i] = bus->operations[--bus->n_operations];
		inner_tell(bus);
		return;
	}
}

const struct operation *inner_find(const struct bus *bus, const char *name)
{
	for (size_t i = 0; i < bus->n_operations; i++)
		if (strcmp(bus->operations[i]->name, name) == 0)
			return bus->operations[i];
	return NULL;
}

bool inner_has_part(const struct bus *bus, const char *part)
{
	size_t n = strlen(part);

	for (size_t i = 0; i < bus->n_operations; i++)
		if (strncmp(bus->operations[i]->name + 1, part, n) == 0 &&
		    bus->operations[i]->name[1 + n] == '/')
			return true;
	return false;
}

void inner_tell(struct bus *bus)
{
	json_t *list = json_array();
	struct wire_out out;
	char *text;

	for (size_t i = 0; i < bus->n_operations; i++)
		json_array_append_new(list,
				      json_pack("{s:s, s:s}", "name", bus->operations[i]->name,
						"op_type", bus->operations[i]->type));
	text = json_dumps(list, JSON_COMPACT);
	json_decref(list);
	wire_begin(&out, WIRE_OFFERS);
	wire_text(&out, text != NULL ? text : "[]");
	free(text);
	bus_say(bus, &out);
}

/* Callers that are elsewhere */

char *identity_json(const struct conn *c)
{
	const struct alk_identity *identity = c->way->identity(c);
	json_t *json = json_pack("{s:s, s:o, s:o}", "id", conn_identity(c), "scopes",
				 texts_json(identity != NULL ? identity->scopes : NULL),
				 "resources",
				 texts_json(identity != NULL ? identity->resources : NULL));
	char *text = json_dumps(json, JSON_COMPACT | JSON_ENSURE_ASCII);

	json_decref(json);
	return text;
}

struct elsewhere {
	struct alk_identity identity;
	json_t *json;
	const char **scopes;
};

struct elsewhere *elsewhere_new(const char *identity)
{
	struct elsewhere *who = calloc(1, sizeof(*who));
	const json_t *list;
	json_t *scope;
	size_t i;

	if (who == NULL)
		return NULL;
	who->json = json_loads(identity, 0, NULL);
	list = json_object_get(who->json, "scopes");
	who->scopes = calloc(json_array_size(list) + 1, sizeof(char *));
	who->identity.id = json_string_value(json_object_get(who->json, "id"));
	if (who->scopes == NULL || who->identity.id == NULL) {
		elsewhere_free(&who);
		return NULL;
	}
	json_array_foreach(list, i, scope)
	{
		who->scopes[i] = json_is_string(scope) ? json_string_value(scope) : "";
	}
	who->identity.user = "";
	who->identity.key_fingerprint = "";
	who->identity.scopes = who->scopes;
	return who;
}

void elsewhere_free(struct elsewhere **who)
{
	struct elsewhere *w = *who;

	*who = NULL;
	if (w == NULL)
		return;
	json_decref(w->json);
	free(w->scopes);
	free(w);
}

const struct alk_identity *elsewhere_identity(const struct elsewhere *who)
{
	return who != NULL ? &who->identity : NULL;
}

bool elsewhere_may(const struct bus *bus, const struct elsewhere *who, const char *operation)
{
	return who == NULL || !json_is_true(json_object_get(who->json, "program")) ||
	       access_allows(bus->access, &who->identity, operation);
}

bool inner_serve(struct call *call, const struct operation *operation, const json_t *input)
{
	struct alk_operation_caller caller = {.size = sizeof(caller)};
	char *text = json_dumps(input, JSON_COMPACT | JSON_ENCODE_ANY);

	if (call->caller != NULL) {
		caller.channel = conn_channel(call->caller);
		caller.identity = call->caller->way->identity(call->caller);
	} else {
		caller.identity = elsewhere_identity(call->who);
	}
	call->output = json_incref(operation->output);
	if (text != NULL)
		call->inner = alk_operation_start(operation->inner, &caller, text,
						  call_inner_answered, call);
	if (text != NULL)
		explicit_bzero(text, strlen(text));
	free(text);
	return call->inner != NULL;
}

/* Members */

/* Each part is a whole frame, because all of each is taken. */
static ssize_t member_write(struct conn *c, const struct iovec *parts, int n)
{
	size_t bytes = 0;

	for (int i = 0; i < n; i++) {
		alk_bus_member_event(c->at, (const char *)parts[i].iov_base + 4,
				     parts[i].iov_len - 4);
		bytes += parts[i].iov_len;
	}
	return (ssize_t)bytes;
}

static void member_nothing(struct conn *c)
{
	(void)c;
}

static const struct alk_identity *member_identity(const struct conn *c)
{
	(void)c;
	return NULL;
}

/* Who is in the program is not asked about. */
static int member_ask(struct conn *c, const struct alk_channel_question *question,
		      void (*done)(void *user, bool allowed, const char *reason), void *user,
		      struct alk_channel_ask **ask)
{
	(void)c, (void)question, (void)done, (void)user;
	*ask = NULL;
	return 1;
}

static const struct conn_way member_way = {
	.write = member_write,
	.resume = member_nothing,
	.close = member_nothing,
	.identity = member_identity,
	.ask = member_ask,
};

static int on_joined(void *user, struct alk_bus_member *member, void **cookie)
{
	struct conn *c = conn_new(user, &member_way, member);

	if (c == NULL)
		return -ENOMEM;
	c->inner = true;
	*cookie = c;
	return 0;
}

static void on_left(void *user, void *cookie)
{
	struct conn *c = cookie;

	(void)user;
	conn_free(&c);
}

static int on_subscribe(void *user, void *cookie, const char *pattern, const char *group)
{
	(void)user;
	return event_subscribe_inner(cookie, pattern, group);
}

static int on_publish(void *user, void *cookie, const char *topic, const char *payload,
		      struct alk_err *err)
{
	json_t *json = json_loads(payload, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
	int rc;

	(void)user;
	if (json == NULL)
		return alk_err_set(err, -EINVAL, "the payload is not JSON");
	if (!conn_has_share(cookie))
		rc = alk_err_set(err, -ENOBUFS, "the bus does not keep up");
	else
		rc = event_publish_inner(cookie, topic, json, err);
	json_decref(json);
	return rc;
}

static const struct alk_bus_carrier carrier = {
	.size = sizeof(carrier),
	.offered = on_offered,
	.withdrawn = on_withdrawn,
	.joined = on_joined,
	.left = on_left,
	.subscribe = on_subscribe,
	.publish = on_publish,
};

int inner_start(struct bus *bus, struct alk_bus *inner)
{
	if (inner == NULL)
		return 0;
	bus->inner = inner;
	return alk_bus_carry(inner, &carrier, bus);
}

void inner_stop(struct bus *bus)
{
	if (bus->inner != NULL)
		alk_bus_uncarry(bus->inner);
	bus->inner = NULL;
	while (bus->n_operations > 0)
		operation_free(bus->operations[--bus->n_operations]);
	free(bus->operations);
	bus->operations = NULL;
}
