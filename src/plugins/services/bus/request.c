/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "bus.h"
#include "../common/schema.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The way of a call to whoever serves it: a channel of this worker, one of another's, this worker
 * itself, another server. */

#define DEADLINE_MAX ((uint64_t)24 * 3600 * 1000)
#define DESCRIBE_MS 5000 /* how long another server may take to say what an operation is */

/* What a caller asks for. */
struct request {
	const char *operation;
	json_t *input;
	uint64_t left; /* ms; 0 = past */
	bool limited;
};

static int request_read(const struct conn *c, struct request *r, struct alk_err *err)
{
	const json_t *deadline = json_object_get(c->frame.payload, "deadline");
	struct timespec now;
	int64_t ms;

	r->operation = json_string_value(json_object_get(c->frame.payload, "operationId"));
	r->input = json_object_get(c->frame.payload, "input");
	if (r->operation == NULL || *r->operation != '/' || strlen(r->operation) > BUS_NAME_MAX)
		return alk_err_set(err, -EINVAL,
				   "payload.operationId: must be a path of 1 to 255 bytes");
	r->limited = deadline != NULL && !json_is_null(deadline);
	if (r->limited && !json_is_number(deadline))
		return alk_err_set(err, -EINVAL,
				   "payload.deadline: must be milliseconds since 1970");
	if (!r->limited)
		return 0;
	clock_gettime(CLOCK_REALTIME, &now);
	ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
	r->left = json_number_value(deadline) > (double)ms
			  ? (uint64_t)(json_number_value(deadline) - (double)ms < DEADLINE_MAX
					       ? json_number_value(deadline) - (double)ms
					       : DEADLINE_MAX)
			  : 0;
	return 0;
}

static json_t *request_payload(const struct request *r, const struct operation *operation,
			       const struct conn *c)
{
	json_t *payload = json_pack("{s:s, s:O}", "operationId", operation->name, "input",
				    r->input != NULL ? r->input : json_null());
	json_t *deadline = json_object_get(c->frame.payload, "deadline");

	if (payload != NULL && r->limited)
		json_object_set(payload, "deadline", deadline);
	return payload;
}

/* The spoke is in another worker. Takes `payload`. */
static void request_send(struct call *call, const struct spoke *spoke, json_t *payload)
{
	struct wire_out out;
	char *text = json_dumps(payload, JSON_COMPACT);

	json_decref(payload);
	call->to_worker = spoke->worker;
	wire_begin(&out, WIRE_CALL);
	wire_number(&out, call->number);
	wire_number(&out, spoke->connection);
	wire_number(&out, call->many);
	wire_text(&out, text != NULL ? text : "{}");
	wire_text(&out, ""); /* who may was looked at here */
	free(text);
	if (!bus_say_to(call->bus, call->caller, spoke->worker, &out))
		call_end(call, "call.error",
			 call_failure("UNAVAILABLE", "the hub does not answer"));
}

static void request_start(struct conn *c, const struct request *r, const struct operation_at *at)
{
	struct bus *bus = c->bus;
	bool here = at->spoke != NULL && at->spoke->worker == bus->self;
	struct conn *server = here ? conn_server(bus, at->spoke->connection) : NULL;
	json_t *payload = request_payload(r, at->operation, c);
	struct call *call = NULL;
	uint64_t left = r->limited ? r->left : bus->call_timeout;

	if (here && server == NULL) {
		json_decref(payload);
		call_fail(c, c->frame.id, "UNAVAILABLE", "the operation's server has gone");
		return;
	}
	if (payload != NULL)
		call = call_new(bus, c, c->frame.id, server);
	if (call == NULL) {
		json_decref(payload);
		call_fail(c, c->frame.id, "OVERLOADED", "out of memory");
		return;
	}
	call->many = strcmp(at->operation->type, "subscription") == 0;
	if ((r->limited || !call->many) && !call_limit(call, left)) {
		json_decref(payload);
		return;
	}
	if (here) {
		call_serve(call, payload);
	} else if (at->spoke != NULL) {
		request_send(call, at->spoke, payload);
	} else {
		if (!inner_serve(call, at->operation, json_object_get(payload, "input")))
			call_end(call, "call.error", call_failure("OVERLOADED", "out of memory"));
		json_decref(payload);
	}
}

/* A call that another server is to answer. NULL: the caller was told. */
static struct call *remote_new(struct conn *c, bool limited, uint64_t left)
{
	struct call *call = call_new(c->bus, c, c->frame.id, NULL);

	if (call == NULL) {
		call_fail(c, c->frame.id, "OVERLOADED", "out of memory");
		return NULL;
	}
	call->remote = true;
	call->limited = limited;
	return call_limit(call, left) ? call : NULL;
}

/* Says `out` and frees it. */
static void remote_say(struct call *call, struct wire_out *out)
{
	if (!bus_say_to(call->bus, call->caller, 0, out))
		call_end(call, "call.error",
			 call_failure("UNAVAILABLE", "the hub does not answer"));
}

/* No operation of this server: perhaps of another one. Whether it has many answers comes with the
 * first. */
static void request_remote(struct conn *c, const struct request *r)
{
	struct operation operation = {.name = (char *)(uintptr_t)r->operation};
	json_t *payload = request_payload(r, &operation, c);
	char *text = payload != NULL ? json_dumps(payload, JSON_COMPACT) : NULL,
	     *who = identity_json(c);
	struct call *call = NULL;
	struct wire_out out;

	json_decref(payload);
	if (text == NULL || who == NULL)
		call_fail(c, c->frame.id, "OVERLOADED", "out of memory");
	else
		call = remote_new(c, r->limited, r->limited ? r->left : c->bus->call_timeout);
	if (call != NULL) {
		wire_begin(&out, WIRE_CALL);
		wire_number(&out, call->number);
		wire_number(&out, 0);
		wire_number(&out, 0);
		wire_text(&out, text);
		wire_text(&out, who);
		remote_say(call, &out);
	}
	free(text);
	free(who);
}

void request_describe(struct conn *c, const char *name)
{
	struct alk_err err = {""};
	struct request r = {.left = 0};
	struct call *call = NULL;
	struct wire_out out;
	char *who = identity_json(c);

	if (request_read(c, &r, &err) < 0 || who == NULL)
		call_fail(c, c->frame.id, "OVERLOADED", "out of memory");
	else if (r.limited && r.left == 0)
		call_fail(c, c->frame.id, "TIMEOUT", "the deadline is past");
	else
		call = remote_new(c, true,
				  r.limited && r.left < DESCRIBE_MS ? r.left : DESCRIBE_MS);
	if (call != NULL && (call->describes = strdup(name)) == NULL) {
		call_end(call, "call.error", call_failure("OVERLOADED", "out of memory"));
	} else if (call != NULL) {
		wire_begin(&out, WIRE_DESCRIBE);
		wire_number(&out, call->number);
		wire_text(&out, name);
		wire_text(&out, who);
		remote_say(call, &out);
	}
	free(who);
}

static bool operation_find(const struct bus *bus, const char *name, struct operation_at *at)
{
	const struct operation *inner = inner_find(bus, name);

	if (inner == NULL)
		return spoke_find(bus, name, at);
	*at = (struct operation_at){NULL, inner};
	return true;
}

/* Of this server's own operations; a client cannot fill the disk with it. */
static void log_forbidden(const struct conn *c, const struct operation_at *at)
{
	struct bus *bus = c->bus;
	uint64_t now = alk_loop_now(bus->loop);

	bus->forbidden++;
	if (bus->forbidden_at != 0 && now - bus->forbidden_at < 1000)
		return;
	alk_log(ALK_LOG_WARN, "bus operation", ALK_STR("operation", at->operation->name),
		ALK_STR("identity", conn_identity(c)), ALK_STR("result", "forbidden"),
		ALK_INT("times", (int64_t)bus->forbidden));
	bus->forbidden_at = now;
	bus->forbidden = 0;
}

static void request_now(struct conn *c, bool allowed, const char *reason)
{
	const char *id = c->frame.id;
	struct alk_err err = {""};
	struct operation_at at;
	struct request r;

	if (request_read(c, &r, &err) < 0)
		return;
	if (!allowed) {
		call_fail(c, id, "FORBIDDEN", *reason != '\0' ? reason : "denied by policy");
		return;
	}
	if (!access_allows(c->bus->access, c->way->identity(c), r.operation)) {
		bus_count(c->bus, BUS_COUNT_denied, 1);
		call_fail(c, id, "FORBIDDEN", "not for this identity");
		return;
	}
	if (!c->heard)
		bus_count(c->bus, BUS_COUNT_calls, 1);
	if (spoke_hub_call(c, id, r.operation, r.input, request_now))
		return;
	if (!operation_find(c->bus, r.operation, &at)) {
		if (!conn_hear_out(c, request_now))
			return;
		if (c->bus->backend && !(r.limited && r.left == 0)) {
			request_remote(c, &r);
			return;
		}
		call_fail(c, id, "NOT_FOUND", "no such operation");
	} else if (!spoke_may(c, at.operation)) {
		bus_count(c->bus, BUS_COUNT_denied, 1);
		if (at.spoke == NULL)
			log_forbidden(c, &at);
		call_fail(c, id, "FORBIDDEN", "a scope is missing");
	} else if (at.operation->input != NULL &&
		   schema_fits(at.operation->input, r.input != NULL ? r.input : json_null(), &err) <
			   0) {
		call_fail(c, id, "INVALID_INPUT", err.text);
	} else if (r.limited && r.left == 0) {
		call_fail(c, id, "TIMEOUT", "the deadline is past");
	} else {
		request_start(c, &r, &at);
	}
}

void request_call(struct conn *c)
{
	struct alk_err err = {""};
	struct request r;

	if (request_read(c, &r, &err) < 0)
		call_fail(c, c->frame.id, "INVALID_INPUT", err.text);
	else if (call_of_caller(c, c->frame.id) != NULL)
		call_fail(c, c->frame.id, "INVALID_INPUT", "id: a call of that id is under way");
	else if (c->n_calls >= c->bus->calls_max)
		call_fail(c, c->frame.id, "OVERLOADED",
			  "this channel has too many calls under way");
	else
		conn_ask(c,
			 &(struct alk_channel_question){.kind = ALK_MAY_CALL, .name = r.operation},
			 request_now);
}
