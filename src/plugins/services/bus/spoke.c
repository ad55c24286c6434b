/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "bus.h"
#include "../common/schema.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPERATIONS_BYTES ((size_t)256 << 10)
/* Of an operation in a list, beside its name and type: {"name":"","op_type":""}, */
#define LISTED_BYTES 25
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"

#define SCOPES                                                                                     \
	"{\"type\":\"array\",\"maxItems\":64,\"items\":{\"type\":\"string\",\"minLength\":1}}"

/* The hub's own operations. */
static const struct own {
	const char *name, *type, *input, *output;
} own[BUS_OWN_COUNT] = {
	{"/services/list", "query",
	 "{\"type\":[\"object\",\"null\"],\"properties\":{\"prefix\":{\"type\":\"string\"}}}",
	 "{\"type\":\"object\",\"required\":[\"operations\"],\"properties\":{\"operations\":{\"type\":\"array\",\"items\":"
	 "{\"type\":\"object\",\"required\":[\"name\",\"op_type\"],\"properties\":{\"name\":{\"type\":\"string\"},"
	 "\"op_type\":{\"enum\":[\"query\",\"mutation\",\"subscription\"]}}}}}}"},
	{"/services/schema", "query",
	 "{\"type\":\"object\",\"required\":[\"name\"],\"properties\":{\"name\":{\"type\":\"string\"}}}",
	 "{\"type\":\"object\",\"required\":[\"name\",\"op_type\",\"input_schema\",\"output_schema\",\"access_control\"]}"},
	{"/hub/services/register", "mutation",
	 "{\"type\":\"object\",\"required\":[\"spoke\",\"operations\"],\"properties\":{\"spoke\":{\"type\":\"string\","
	 "\"minLength\":1,\"maxLength\":64},\"operations\":{\"type\":\"array\",\"minItems\":1,\"maxItems\":256,\"items\":"
	 "{\"type\":\"object\",\"required\":[\"name\"],\"properties\":{\"name\":{\"type\":\"string\"},"
	 "\"op_type\":{\"enum\":[\"query\",\"mutation\",\"subscription\"]},\"input_schema\":{\"type\":"
	 "[\"object\",\"boolean\",\"null\"]},\"output_schema\":{\"type\":[\"object\",\"boolean\",\"null\"]},"
	 "\"access_control\":{\"type\":\"object\",\"properties\":{\"required_scopes\":" SCOPES
	 ",\"required_scopes_any\":" SCOPES "}}}}}}}",
	 "{\"type\":\"object\",\"required\":[\"spoke\"],\"properties\":{\"spoke\":{\"type\":\"string\"}}}"},
};

/* What a spoke may not be called. */
static const char *const reserved[] = {"services", "hub", "secret", "bus", "status"};

void operation_clear(struct operation *o)
{
	free(o->name);
	free(o->type);
	json_decref(o->input);
	json_decref(o->output);
	json_decref(o->access);
}

static void spoke_free(struct spoke **spoke)
{
	struct spoke *s = *spoke;

	*spoke = NULL;
	for (size_t i = 0; i < s->n; i++)
		operation_clear(&s->operations[i]);
	free(s->operations);
	free(s->name);
	free(s->identity);
	free(s);
}

static size_t bucket(const char *name, size_t n)
{
	return wire_hash(name, n) % BUS_SPOKE_BUCKETS;
}

static struct spoke *spoke_of(const struct bus *bus, const char *name, size_t n)
{
	struct spoke *s = LIST_FIRST(&bus->by_name[bucket(name, n)]);

	while (s != NULL && (strlen(s->name) != n || memcmp(s->name, name, n) != 0))
		s = LIST_NEXT(s, by_name);
	return s;
}

static void spoke_link(struct bus *bus, struct spoke *s)
{
	s->next = bus->spokes;
	s->prev = &bus->spokes;
	if (s->next != NULL)
		s->next->prev = &s->next;
	bus->spokes = s;
	LIST_INSERT_HEAD(&bus->by_name[bucket(s->name, strlen(s->name))], s, by_name);
}

static void spoke_unlink(struct spoke *s)
{
	*s->prev = s->next;
	if (s->next != NULL)
		s->next->prev = s->prev;
	LIST_REMOVE(s, by_name);
}

bool spoke_find(const struct bus *bus, const char *name, struct operation_at *at)
{
	size_t n = *name == '/' ? strcspn(name + 1, "/") : 0;
	const struct spoke *s = n > 0 ? spoke_of(bus, name + 1, n) : NULL;

	for (size_t i = 0; s != NULL && i < s->n; i++)
		if (strcmp(s->operations[i].name, name + 1 + n) == 0) {
			*at = (struct operation_at){s, &s->operations[i]};
			return true;
		}
	return false;
}

static bool has_scope(const struct alk_identity *identity, const json_t *scope)
{
	return identity != NULL && alk_identity_has_scope(identity, json_string_value(scope));
}

bool spoke_may(const struct conn *c, const struct operation *operation)
{
	return operation_allows(operation, c->way->identity(c));
}

bool operation_allows(const struct operation *operation, const struct alk_identity *identity)
{
	const json_t *all = json_object_get(operation->access, "required_scopes");
	const json_t *any = json_object_get(operation->access, "required_scopes_any");
	size_t i;
	json_t *scope;

	json_array_foreach(all, i, scope)
	{
		if (!has_scope(identity, scope))
			return false;
	}
	json_array_foreach(any, i, scope)
	{
		if (has_scope(identity, scope))
			return true;
	}
	return json_array_size(any) == 0;
}

/* Registration */

static bool name_valid(const char *name)
{
	if (name == NULL || *name != '/' || strlen(name) > BUS_NAME_MAX - BUS_SPOKE_MAX - 1)
		return false;
	while (*name == '/') {
		size_t n = strspn(name + 1, LETTERS);

		if (n == 0)
			return false;
		name += 1 + n;
	}
	return *name == '\0';
}

static bool spoke_name_valid(const char *name)
{
	if (name == NULL || *name == '\0' || strlen(name) > BUS_SPOKE_MAX ||
	    strspn(name, LETTERS) != strlen(name) || strncmp(name, "alknet", 6) == 0)
		return false;
	for (size_t i = 0; i < sizeof(reserved) / sizeof(*reserved); i++)
		if (strcmp(name, reserved[i]) == 0)
			return false;
	return true;
}

static bool type_valid(const json_t *type)
{
	const char *text = json_string_value(type);

	return type == NULL ||
	       (text != NULL && (strcmp(text, "query") == 0 || strcmp(text, "mutation") == 0 ||
				 strcmp(text, "subscription") == 0));
}

static bool scopes_valid(const json_t *list)
{
	size_t i;
	json_t *scope;

	if (list != NULL && (!json_is_array(list) || json_array_size(list) > 64))
		return false;
	json_array_foreach(list, i, scope)
	{
		if (!json_is_string(scope) || json_string_length(scope) == 0)
			return false;
	}
	return true;
}

static int schema_valid(const json_t *operation, const char *key, const char *name,
			struct alk_err *err)
{
	const json_t *schema = json_object_get(operation, key);

	if (schema == NULL || json_is_null(schema) || schema_check(schema, err) == 0)
		return 0;
	return alk_err_prefix(err, -EINVAL, "%s: %s", name, key);
}

static int operation_check(const json_t *list, size_t at, struct alk_err *err)
{
	const json_t *operation = json_array_get(list, at);
	const char *name = json_string_value(json_object_get(operation, "name"));
	const json_t *access = json_object_get(operation, "access_control");

	if (!name_valid(name))
		return alk_err_set(err, -EINVAL,
				   "operations[%zu].name: must be a path like /fs/read", at);
	for (size_t i = 0; i < at; i++)
		if (strcmp(json_string_value(json_object_get(json_array_get(list, i), "name")),
			   name) == 0)
			return alk_err_set(err, -EINVAL, "%s: is there twice", name);
	if (!type_valid(json_object_get(operation, "op_type")))
		return alk_err_set(err, -EINVAL,
				   "%s: op_type: must be query, mutation or subscription", name);
	if (access != NULL &&
	    (!json_is_object(access) || !scopes_valid(json_object_get(access, "required_scopes")) ||
	     !scopes_valid(json_object_get(access, "required_scopes_any"))))
		return alk_err_set(err, -EINVAL, "%s: access_control: must have lists of scopes",
				   name);
	if (schema_valid(operation, "input_schema", name, err) < 0)
		return -EINVAL;
	return schema_valid(operation, "output_schema", name, err);
}

static int register_check(const struct conn *c, const json_t *input, struct alk_err *err)
{
	const json_t *list = json_object_get(input, "operations");

	if (c->spoke != NULL || c->registered)
		return alk_err_set(err, -EINVAL, "this channel is a spoke already");
	if (c->eof)
		return alk_err_set(err, -EINVAL, "this channel has ended and could not answer");
	if (!spoke_name_valid(json_string_value(json_object_get(input, "spoke"))))
		return alk_err_set(
			err, -EINVAL,
			"spoke: must be a name of 1 to 64 letters, digits, _ . -, and not "
			"a reserved one");
	if (inner_has_part(c->bus, json_string_value(json_object_get(input, "spoke"))))
		return alk_err_set(err, -EINVAL, "spoke: this name is the server's own");
	if (!json_is_array(list) || json_array_size(list) == 0 ||
	    json_array_size(list) > BUS_OPERATIONS_MAX)
		return alk_err_set(err, -EINVAL, "operations: must be a list of 1 to %d",
				   BUS_OPERATIONS_MAX);
	for (size_t i = 0; i < json_array_size(list); i++)
		if (operation_check(list, i, err) < 0)
			return -EINVAL;
	return 0;
}

static void hub_register(struct conn *c, const char *id, const json_t *input, conn_then *again)
{
	struct alk_err err = {""};
	struct wire_out out;
	char *text;

	(void)again;
	if (register_check(c, input, &err) < 0) {
		call_fail(c, id, "INVALID_INPUT", err.text);
		return;
	}
	text = json_dumps(json_object_get(input, "operations"), JSON_COMPACT);
	if (text == NULL || strlen(text) > OPERATIONS_BYTES) {
		free(text);
		call_fail(c, id, "OVERLOADED", "the operations take too many bytes");
		return;
	}
	wire_begin(&out, WIRE_REGISTER);
	wire_number(&out, c->number); /* one channel registers one at a time */
	wire_number(&out, c->number);
	wire_text(&out, json_string_value(json_object_get(input, "spoke")));
	wire_text(&out, conn_identity(c));
	wire_text(&out, text);
	free(text);
	c->waiting = true;
	if (bus_say(c->bus, &out))
		return;
	c->waiting = false;
	call_fail(c, id, "UNAVAILABLE", "the hub does not answer");
}

void spoke_registered(struct bus *bus, uint64_t number, const char *code, const char *message)
{
	struct conn *c = conn_find(bus, number);

	if (c == NULL || !c->waiting)
		return;
	if (*code == '\0' && c->spoke == NULL) {
		spoke_forget(c); /* spoke_add() had no memory */
		code = "OVERLOADED";
		message = "out of memory";
	}
	if (*code != '\0')
		call_fail(c, c->frame.id, code, message);
	else
		conn_say(c, "call.responded", c->frame.id,
			 call_output(json_pack("{s:s}", "spoke", c->spoke->name)));
	conn_go_on(c);
}

static char *text_copy(const json_t *text, const char *fallback)
{
	return strdup(json_is_string(text) ? json_string_value(text) : fallback);
}

static json_t *kept(const json_t *operation, const char *key)
{
	json_t *value = json_object_get(operation, key);

	return json_is_null(value) ? NULL : json_incref(value);
}

static int spoke_fill(struct spoke *s, const json_t *list)
{
	size_t i;
	json_t *one;

	if (!json_is_array(list) || json_array_size(list) > BUS_OPERATIONS_MAX)
		return -EINVAL;
	s->operations = calloc(json_array_size(list) + 1, sizeof(*s->operations));
	if (s->operations == NULL)
		return -ENOMEM;
	json_array_foreach(list, i, one)
	{
		struct operation *o = &s->operations[s->n++];

		o->name = text_copy(json_object_get(one, "name"), "");
		o->type = text_copy(json_object_get(one, "op_type"), "query");
		o->input = kept(one, "input_schema");
		o->output = kept(one, "output_schema");
		o->access = kept(one, "access_control");
		if (o->name == NULL || o->type == NULL)
			return -ENOMEM;
	}
	return 0;
}

/* The hub has one more, perhaps a channel of this worker. */
void spoke_add(struct bus *bus, struct wire_in *in)
{
	struct spoke *s = calloc(1, sizeof(*s));
	json_t *list = NULL;
	struct conn *c;

	if (s == NULL)
		return;
	s->worker = wire_get_number(in);
	s->connection = wire_get_number(in);
	s->name = strdup(wire_get_text(in));
	s->identity = strdup(wire_get_text(in));
	list = json_loads(wire_get_text(in), 0, NULL);
	if (!wire_done(in) || s->name == NULL || s->identity == NULL || spoke_fill(s, list) < 0 ||
	    spoke_of(bus, s->name, strlen(s->name)) != NULL) {
		json_decref(list);
		spoke_free(&s);
		return;
	}
	json_decref(list);
	spoke_link(bus, s);
	c = s->worker == bus->self ? conn_find(bus, s->connection) : NULL;
	if (c != NULL) {
		c->spoke = s;
		c->registered = true;
	}
}

void spoke_remove(struct bus *bus, const char *name)
{
	struct spoke *s = spoke_of(bus, name, strlen(name));
	struct conn *c;

	if (s == NULL)
		return;
	c = s->worker == bus->self ? conn_find(bus, s->connection) : NULL;
	if (c != NULL && c->spoke == s)
		c->spoke = NULL;
	spoke_unlink(s);
	spoke_free(&s);
}

void spoke_forget(struct conn *c)
{
	struct wire_out out;

	/* Also of one that the hub has not answered yet: it knows the channel. */
	if (!c->registered && !c->waiting)
		return;
	wire_begin(&out, WIRE_GONE);
	wire_number(&out, c->number);
	bus_say(c->bus, &out);
	if (c->spoke != NULL)
		spoke_remove(c->bus, c->spoke->name);
	c->registered = false;
}

void spoke_all_end(struct bus *bus)
{
	while (bus->spokes != NULL)
		spoke_remove(bus, bus->spokes->name);
}

/* The hub's own operations */

bool spoke_own_start(struct bus *bus)
{
	for (size_t i = 0; i < BUS_OWN_COUNT; i++) {
		struct operation *o = &bus->own[i];

		o->name = strdup(own[i].name);
		o->type = strdup(own[i].type);
		o->input = json_loads(own[i].input, 0, NULL);
		o->output = json_loads(own[i].output, 0, NULL);
		if (o->name == NULL || o->type == NULL || o->input == NULL || o->output == NULL)
			return false;
	}
	return true;
}

void spoke_own_end(struct bus *bus)
{
	for (size_t i = 0; i < BUS_OWN_COUNT; i++)
		operation_clear(&bus->own[i]);
}

static const struct operation *own_find(const struct bus *bus, const char *name)
{
	for (size_t i = 0; i < BUS_OWN_COUNT; i++)
		if (strcmp(bus->own[i].name, name) == 0)
			return &bus->own[i];
	return NULL;
}

/* Discovery */

struct listing {
	const struct conn *c;
	const char *prefix;
	json_t *list;
	size_t left; /* bytes of a frame */
	bool full;
};

static void list_add(struct listing *l, const char *spoke, const struct operation *o)
{
	char full[BUS_NAME_MAX + BUS_SPOKE_MAX];
	size_t n;

	snprintf(full, sizeof(full), "%s%s%s", *spoke != '\0' ? "/" : "", spoke, o->name);
	if (strncmp(full, l->prefix, strlen(l->prefix)) != 0 || !spoke_may(l->c, o))
		return;
	n = strlen(full) + strlen(o->type) + LISTED_BYTES;
	l->full = n > l->left ||
		  json_array_append_new(l->list, json_pack("{s:s, s:s}", "name", full, "op_type",
							   o->type)) < 0;
	l->left -= l->full ? 0 : n;
}

static void list_fill(struct listing *l)
{
	const struct bus *bus = l->c->bus;

	for (size_t i = 0; i < BUS_OWN_COUNT && !l->full; i++)
		list_add(l, "", &bus->own[i]);
	for (size_t i = 0; i < bus->n_operations && !l->full; i++)
		list_add(l, "", bus->operations[i]);
	for (const struct spoke *s = bus->spokes; s != NULL; s = s->next)
		for (size_t i = 0; i < s->n && !l->full; i++)
			list_add(l, s->name, &s->operations[i]);
}

static void hub_list(struct conn *c, const char *id, const json_t *input, conn_then *again)
{
	const char *prefix = json_string_value(json_object_get(input, "prefix"));
	struct listing l = {.c = c, .prefix = prefix != NULL ? prefix : ""};
	struct packet *packet = NULL;

	if (!conn_hear_out(c, again) || !conn_take_turn(c, again))
		return;
	l.left = c->bus->frame_max;
	l.list = json_array();
	list_fill(&l);
	if (l.full)
		json_decref(l.list);
	else
		packet = packet_make("call.responded", id,
				     call_output(json_pack("{s:o}", "operations", l.list)));
	if (packet == NULL || !packet_fits(c->bus, packet))
		call_fail(c, id, "OVERLOADED", "too many for one frame: give a prefix");
	else
		conn_put(c, packet, false);
	packet_unref(&packet);
}

static json_t *shown(json_t *value)
{
	return value != NULL ? json_incref(value) : json_object();
}

static json_t *described(const char *name, const struct operation *o)
{
	return json_pack("{s:s, s:s, s:o, s:o, s:o}", "name", name, "op_type", o->type,
			 "input_schema", shown(o->input), "output_schema", shown(o->output),
			 "access_control", shown(o->access));
}

json_t *spoke_describe(const struct bus *bus, const json_t *input, const struct elsewhere *who)
{
	const char *name = json_string_value(json_object_get(input, "name"));
	struct operation_at at = {NULL, name != NULL ? inner_find(bus, name) : NULL};

	if (name == NULL || (at.operation == NULL && !spoke_find(bus, name, &at)) ||
	    (who != NULL && !operation_allows(at.operation, elsewhere_identity(who))) ||
	    !elsewhere_may(bus, who, name))
		return NULL;
	return described(name, at.operation);
}

static bool is_schema(const json_t *value)
{
	return json_is_object(value) || json_is_boolean(value);
}

json_t *spoke_described(const char *name, const json_t *output)
{
	const char *found = json_string_value(json_object_get(output, "name"));
	const json_t *type = json_object_get(output, "op_type");
	const json_t *access = json_object_get(output, "access_control");
	struct operation o = {
		.type = (char *)(uintptr_t)json_string_value(type),
		.input = json_object_get(output, "input_schema"),
		.output = json_object_get(output, "output_schema"),
		.access = json_object_get(output, "access_control"),
	};

	if (found == NULL || strcmp(found, name) != 0 || type == NULL || !type_valid(type) ||
	    !is_schema(o.input) || !is_schema(o.output) || !json_is_object(access) ||
	    !scopes_valid(json_object_get(access, "required_scopes")) ||
	    !scopes_valid(json_object_get(access, "required_scopes_any")))
		return NULL;
	return described(name, &o);
}

/* Who may not call it does not learn that another server has it. */
static void describe_now(struct conn *c, bool allowed, const char *reason)
{
	const json_t *input = json_object_get(c->frame.payload, "input");
	const char *name = json_string_value(json_object_get(input, "name"));

	(void)reason;
	if (allowed && access_allows(c->bus->access, c->way->identity(c), name))
		request_describe(c, name);
	else
		call_fail(c, c->frame.id, "NOT_FOUND", "no such operation");
}

static void hub_schema(struct conn *c, const char *id, const json_t *input, conn_then *again)
{
	const char *name = json_string_value(json_object_get(input, "name"));
	struct operation_at at = {NULL, own_find(c->bus, name)};

	if (at.operation == NULL)
		at.operation = inner_find(c->bus, name);
	if (at.operation == NULL && !spoke_find(c->bus, name, &at) && !conn_hear_out(c, again))
		return;
	if (at.operation == NULL && c->bus->backend && *name == '/' && strlen(name) <= BUS_NAME_MAX)
		conn_ask(c, &(struct alk_channel_question){.kind = ALK_MAY_CALL, .name = name},
			 describe_now);
	else if (at.operation == NULL || !spoke_may(c, at.operation))
		call_fail(c, id, "NOT_FOUND", "no such operation");
	else
		conn_say(c, "call.responded", id, call_output(described(name, at.operation)));
}

bool spoke_hub_call(struct conn *c, const char *id, const char *operation, json_t *input,
		    conn_then *again)
{
	static void (*const serve[BUS_OWN_COUNT])(struct conn *, const char *, const json_t *,
						  conn_then *) = {hub_list, hub_schema,
								  hub_register};

	const struct operation *o = own_find(c->bus, operation);
	struct alk_err err = {""};

	if (o == NULL)
		return false;
	if (schema_fits(o->input, input != NULL ? input : json_null(), &err) < 0)
		call_fail(c, id, "INVALID_INPUT", err.text);
	else
		serve[o - c->bus->own](c, id, input, again);
	return true;
}
