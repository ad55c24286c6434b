/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <jansson.h>
#include "../plugins/services/common/schema.h"
#include "../plugins/services/common/topic.h"
#include "bus.h"
#include "loader.h"

#define CALL_MAGIC 0x6f70636cu
#define NAME_MAX_BYTES 191
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"

enum call_state {
	CALL_QUEUED,  /* the provider has not heard of it */
	CALL_RUNNING, /* it has */
};

struct alk_operation_call {
	uint32_t magic;
	enum call_state state;
	LIST_ENTRY(alk_operation_call) entry;
	struct alk_operation *operation;
	struct alk_operation_caller caller;
	char *input;
	alk_operation_answered_fn *answered;
	void *user;
	struct alk_task task;
};

struct alk_operation {
	LIST_ENTRY(alk_operation) entry;
	struct alk_bus *bus;
	struct alk_operation_spec spec;
	void *user;
	char *name, *type, *input, *output;
	char **scopes, **scopes_any;
	LIST_HEAD(, alk_operation_call) calls;
};

struct bus_wish {
	LIST_ENTRY(bus_wish) entry;
	char *pattern, *group;
};

struct alk_bus_member {
	LIST_ENTRY(alk_bus_member) entry;
	struct alk_bus *bus;
	alk_bus_event_fn *event;
	void *user;
	void *cookie;
	bool carried;
	LIST_HEAD(, bus_wish) wishes;
};

struct alk_bus {
	struct alk_loop *loop;
	const struct alk_bus_carrier *carrier; /* NULL: nobody */
	void *user;
	LIST_HEAD(, alk_operation) operations;
	LIST_HEAD(, alk_bus_member) members;
};

struct alk_bus *alk_bus_new(struct alk_loop *loop)
{
	struct alk_bus *bus = calloc(1, sizeof(*bus));

	if (bus == NULL)
		return NULL;
	bus->loop = loop;
	LIST_INIT(&bus->operations);
	LIST_INIT(&bus->members);
	return bus;
}

void alk_bus_free(struct alk_bus **bus)
{
	struct alk_bus *b = *bus;

	*bus = NULL;
	if (b == NULL)
		return;
	assert(LIST_EMPTY(&b->operations) && LIST_EMPTY(&b->members));
	free(b);
}

/* ---- operations ------------------------------------------------------------------------------ */

static void list_free(char ***list)
{
	for (size_t i = 0; *list != NULL && (*list)[i] != NULL; i++)
		free((*list)[i]);
	free(*list);
	*list = NULL;
}

static int list_copy(char ***to, const char *const *from)
{
	size_t n = 0;

	while (from != NULL && from[n] != NULL)
		n++;
	*to = calloc(n + 1, sizeof(char *));
	if (*to == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		if (((*to)[i] = strdup(from[i])) == NULL)
			return -ENOMEM;
	return 0;
}

static void operation_free(struct alk_operation *o)
{
	free(o->name);
	free(o->type);
	free(o->input);
	free(o->output);
	list_free(&o->scopes);
	list_free(&o->scopes_any);
	free(o);
}

static bool name_valid(const char *name)
{
	unsigned parts = 0;

	if (name == NULL || *name != '/' || strlen(name) > NAME_MAX_BYTES)
		return false;
	for (; *name == '/'; parts++) {
		size_t n = strspn(name + 1, LETTERS);

		if (n == 0)
			return false;
		name += 1 + n;
	}
	return *name == '\0' && parts >= 2;
}

static bool type_valid(const char *type)
{
	return strcmp(type, "query") == 0 || strcmp(type, "mutation") == 0 ||
	       strcmp(type, "subscription") == 0;
}

static int schema_valid(const char *name, const char *what, const char *schema, struct alk_err *err)
{
	json_t *json;
	int rc;

	if (schema == NULL)
		return 0;
	json = json_loads(schema, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
	rc = json != NULL ? schema_check(json, err) : alk_err_set(err, -EINVAL, "is not JSON");
	json_decref(json);
	return rc < 0 ? alk_err_prefix(err, -EINVAL, "%s: %s", name, what) : 0;
}

int alk_bus_check(const struct alk_operation_spec *spec, struct alk_err *err)
{
	if (!name_valid(spec->name))
		return alk_err_set(err, -EINVAL,
				   "%.64s: an operation's name is a path like /fs/read",
				   spec->name != NULL ? spec->name : "");
	if (spec->type != NULL && !type_valid(spec->type))
		return alk_err_set(err, -EINVAL,
				   "%s: op_type: must be query, mutation or subscription",
				   spec->name);
	if (schema_valid(spec->name, "input_schema", spec->input_schema, err) < 0)
		return -EINVAL;
	return schema_valid(spec->name, "output_schema", spec->output_schema, err);
}

static int name_free(const struct alk_bus *bus, const char *name, struct alk_err *err)
{
	const struct alk_operation *other;

	LIST_FOREACH(other, &bus->operations, entry)
	{
		if (strcmp(other->name, name) == 0)
			return alk_err_set(err, -EEXIST, "%s: there is such an operation already",
					   name);
	}
	return 0;
}

static char *copy_or_null(const char *text)
{
	return text != NULL ? strdup(text) : NULL;
}

/* An older plugin's table is shorter. */
#define SPEC(spec_, member_) ALK_OP(spec_, member_)

static int operation_fill(struct alk_operation *o, const struct alk_operation_spec *spec)
{
	o->name = strdup(spec->name);
	o->type = strdup(spec->type != NULL ? spec->type : "query");
	o->input = copy_or_null(spec->input_schema);
	o->output = copy_or_null(spec->output_schema);
	if (o->name == NULL || o->type == NULL ||
	    (spec->input_schema != NULL && o->input == NULL) ||
	    (spec->output_schema != NULL && o->output == NULL) ||
	    list_copy(&o->scopes, spec->scopes) < 0 ||
	    list_copy(&o->scopes_any, spec->scopes_any) < 0)
		return -ENOMEM;
	o->spec = (struct alk_operation_spec){
		.size = sizeof(o->spec),
		.name = o->name,
		.type = o->type,
		.input_schema = o->input,
		.output_schema = o->output,
		.scopes = (const char *const *)o->scopes,
		.scopes_any = (const char *const *)o->scopes_any,
		.call = SPEC(spec, call),
		.abort = SPEC(spec, abort),
	};
	return 0;
}

int alk_bus_offer(struct alk_bus *bus, const struct alk_operation_spec *spec, void *user,
		  struct alk_operation **operation, struct alk_err *err)
{
	struct alk_operation *o;
	int rc = alk_bus_check(spec, err);

	*operation = NULL;
	if (rc == 0)
		rc = name_free(bus, spec->name, err);
	if (rc < 0)
		return rc;
	if (SPEC(spec, call) == NULL)
		return alk_err_set(err, -EINVAL, "%s: nothing serves it", spec->name);
	o = calloc(1, sizeof(*o));
	if (o == NULL || operation_fill(o, spec) < 0) {
		if (o != NULL)
			operation_free(o);
		return alk_err_set(err, -ENOMEM, "out of memory");
	}
	o->bus = bus;
	o->user = user;
	LIST_INIT(&o->calls);
	LIST_INSERT_HEAD(&bus->operations, o, entry);
	if (bus->carrier != NULL)
		bus->carrier->offered(bus->user, o);
	*operation = o;
	return 0;
}

const struct alk_operation_spec *alk_operation_spec_of(const struct alk_operation *operation)
{
	return &operation->spec;
}

/* ---- calls ----------------------------------------------------------------------------------- */

static void call_free(struct alk_operation_call *call)
{
	alk_task_cancel(call->operation->bus->loop, &call->task);
	LIST_REMOVE(call, entry);
	call->magic = 0;
	if (call->input != NULL)
		explicit_bzero(call->input, strlen(call->input));
	free(call->input);
	free(call);
}

static void call_run(void *user)
{
	struct alk_operation_call *call = user;
	const struct alk_operation *o = call->operation;
	char *input = call->input;

	assert(call->magic == CALL_MAGIC);
	call->input = NULL;
	call->state = CALL_RUNNING;
	o->spec.call(o->user, call, &call->caller, input);
	explicit_bzero(input, strlen(input)); /* it may be somebody's secret */
	free(input);
}

struct alk_operation_call *alk_operation_start(struct alk_operation *operation,
					       const struct alk_operation_caller *caller,
					       const char *input,
					       alk_operation_answered_fn *answered, void *user)
{
	struct alk_operation_call *call = calloc(1, sizeof(*call));

	if (call == NULL || (call->input = strdup(input)) == NULL) {
		free(call);
		return NULL;
	}
	call->magic = CALL_MAGIC;
	call->operation = operation;
	call->caller = *caller;
	call->answered = answered;
	call->user = user;
	call->task.fn = call_run;
	call->task.user = call;
	LIST_INSERT_HEAD(&operation->calls, call, entry);
	alk_task_queue(operation->bus->loop, &call->task);
	return call;
}

static void call_end(struct alk_operation_call **at, enum alk_operation_answer kind,
		     const char *code, const char *text)
{
	struct alk_operation_call *call = *at;
	alk_operation_answered_fn *answered = call->answered;
	void *user = call->user;

	*at = NULL;
	assert(call->magic == CALL_MAGIC);
	call_free(call);
	answered(user, kind, code, text);
}

void alk_operation_answer(struct alk_operation_call *call, const char *json)
{
	assert(call->magic == CALL_MAGIC);
	call->answered(call->user, ALK_OPERATION_ANSWER, "", json);
}

void alk_operation_respond(struct alk_operation_call **call, const char *json)
{
	call_end(call, ALK_OPERATION_RESPONDED, "", json);
}

void alk_operation_complete(struct alk_operation_call **call)
{
	call_end(call, ALK_OPERATION_COMPLETED, "", "null");
}

void alk_operation_fail(struct alk_operation_call **call, const char *code, const char *message)
{
	call_end(call, ALK_OPERATION_FAILED, code, message);
}

static void call_abort(struct alk_operation_call *call)
{
	const struct alk_operation *o = call->operation;

	if (call->state == CALL_RUNNING && o->spec.abort != NULL)
		o->spec.abort(o->user, call);
	call_free(call);
}

void alk_operation_cancel(struct alk_operation_call **call)
{
	struct alk_operation_call *c = *call;

	*call = NULL;
	if (c != NULL)
		call_abort(c);
}

void alk_bus_withdraw(struct alk_operation **operation)
{
	struct alk_operation *o = *operation;

	*operation = NULL;
	if (o == NULL)
		return;
	LIST_REMOVE(o, entry);
	if (o->bus->carrier != NULL)
		o->bus->carrier->withdrawn(o->bus->user, o);
	while (!LIST_EMPTY(&o->calls)) {
		struct alk_operation_call *call = LIST_FIRST(&o->calls);
		alk_operation_answered_fn *answered = call->answered;
		void *user = call->user;

		call_abort(call);
		answered(user, ALK_OPERATION_FAILED, "UNAVAILABLE",
			 "the operation's server has gone");
	}
	operation_free(o);
}

/* ---- members --------------------------------------------------------------------------------- */

static void member_carry(struct alk_bus_member *member)
{
	struct alk_bus *bus = member->bus;
	const struct bus_wish *wish;

	if (bus->carrier->joined(bus->user, member, &member->cookie) < 0)
		return;
	member->carried = true;
	LIST_FOREACH(wish, &member->wishes, entry)
	{
		bus->carrier->subscribe(bus->user, member->cookie, wish->pattern, wish->group);
	}
}

static void member_drop(struct alk_bus_member *member)
{
	if (!member->carried)
		return;
	member->carried = false;
	member->bus->carrier->left(member->bus->user, member->cookie);
}

struct alk_bus_member *alk_bus_join(struct alk_bus *bus, alk_bus_event_fn *event, void *user)
{
	struct alk_bus_member *member = calloc(1, sizeof(*member));

	if (member == NULL)
		return NULL;
	member->bus = bus;
	member->event = event;
	member->user = user;
	LIST_INIT(&member->wishes);
	LIST_INSERT_HEAD(&bus->members, member, entry);
	if (bus->carrier != NULL)
		member_carry(member);
	return member;
}

static void wish_free(struct bus_wish *wish)
{
	free(wish->pattern);
	free(wish->group);
	free(wish);
}

void alk_bus_leave(struct alk_bus_member **member)
{
	struct alk_bus_member *m = *member;

	*member = NULL;
	if (m == NULL)
		return;
	member_drop(m);
	LIST_REMOVE(m, entry);
	while (!LIST_EMPTY(&m->wishes)) {
		struct bus_wish *wish = LIST_FIRST(&m->wishes);

		LIST_REMOVE(wish, entry);
		wish_free(wish);
	}
	free(m);
}

int alk_bus_subscribe(struct alk_bus_member *member, const char *pattern, const char *group,
		      struct alk_err *err)
{
	struct bus_wish *wish;
	int rc;

	if (topic_check_pattern(pattern, err) < 0)
		return -EINVAL;
	if (strlen(group) > TOPIC_TYPE_MAX)
		return alk_err_set(err, -EINVAL, "a group's name has at most %d bytes",
				   TOPIC_TYPE_MAX);
	wish = calloc(1, sizeof(*wish));
	if (wish != NULL) {
		wish->pattern = strdup(pattern);
		wish->group = strdup(group);
	}
	if (wish == NULL || wish->pattern == NULL || wish->group == NULL) {
		if (wish != NULL)
			wish_free(wish);
		return alk_err_set(err, -ENOMEM, "out of memory");
	}
	LIST_INSERT_HEAD(&member->wishes, wish, entry);
	if (!member->carried)
		return 0;
	rc = member->bus->carrier->subscribe(member->bus->user, member->cookie, pattern, group);
	if (rc == 0)
		return 0;
	LIST_REMOVE(wish, entry);
	wish_free(wish);
	return alk_err_set(err, rc, "the bus did not take the subscription");
}

int alk_bus_publish(struct alk_bus_member *member, const char *topic, const char *payload,
		    struct alk_err *err)
{
	if (!member->carried)
		return alk_err_set(err, -ENOTCONN, "there is no bus");
	return member->bus->carrier->publish(member->bus->user, member->cookie, topic, payload,
					     err);
}

/* ---- the carrier ----------------------------------------------------------------------------- */

void alk_bus_member_event(struct alk_bus_member *member, const char *envelope, size_t n)
{
	member->event(member->user, envelope, n);
}

int alk_bus_carry(struct alk_bus *bus, const struct alk_bus_carrier *carrier, void *user)
{
	struct alk_bus_member *member;
	struct alk_operation *o;

	if (bus->carrier != NULL)
		return -EBUSY;
	bus->carrier = carrier;
	bus->user = user;
	LIST_FOREACH(o, &bus->operations, entry)
	{
		carrier->offered(user, o);
	}
	LIST_FOREACH(member, &bus->members, entry)
	{
		member_carry(member);
	}
	return 0;
}

void alk_bus_uncarry(struct alk_bus *bus)
{
	struct alk_bus_member *member;
	struct alk_operation *o;

	if (bus->carrier == NULL)
		return;
	LIST_FOREACH(member, &bus->members, entry)
	{
		member_drop(member);
	}
	LIST_FOREACH(o, &bus->operations, entry)
	{
		while (!LIST_EMPTY(&o->calls))
			call_abort(LIST_FIRST(&o->calls));
	}
	bus->carrier = NULL;
}
