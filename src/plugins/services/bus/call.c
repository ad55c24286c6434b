/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "bus.h"
#include "schema.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A call is one record while both ends are in this worker, else one in each of the two, which know each other by
 * worker and number. It ends once: call_end() tells the caller and forgets it. What comes later finds nothing. */

#define SERVER_ID_MAX 32
#define DEADLINE_MAX ((uint64_t)24 * 3600 * 1000)

static void server_id(char out[SERVER_ID_MAX], const struct call *call)
{
	snprintf(out, SERVER_ID_MAX, "~%" PRIu64, call->number);
}

static struct call **bucket(struct bus *bus, uint64_t number)
{
	return &bus->calls[number % BUS_CALL_BUCKETS];
}

static struct call *call_of(struct bus *bus, uint64_t number)
{
	struct call *call = *bucket(bus, number);

	while (call != NULL && call->number != number)
		call = call->next;
	return call;
}

static struct call *call_of_server(struct conn *c, const char *id)
{
	char mine[SERVER_ID_MAX];
	struct call *call;

	if (*id != '~')
		return NULL;
	call = call_of(c->bus, strtoull(id + 1, NULL, 10));
	if (call == NULL || call->server != c)
		return NULL;
	server_id(mine, call);
	return strcmp(mine, id) == 0 ? call : NULL;
}

static struct call *call_of_caller(const struct conn *c, const char *id)
{
	struct call *call = c->calls;

	while (call != NULL && strcmp(call->id, id) != 0)
		call = call->caller_next;
	return call;
}

static void call_unlink(struct call *call)
{
	*call->prev = call->next;
	if (call->next != NULL)
		call->next->prev = call->prev;
	if (call->caller != NULL) {
		*call->caller_prev = call->caller_next;
		if (call->caller_next != NULL)
			call->caller_next->caller_prev = call->caller_prev;
		call->caller->n_calls--;
	}
	if (call->server != NULL) {
		*call->server_prev = call->server_next;
		if (call->server_next != NULL)
			call->server_next->server_prev = call->server_prev;
	}
	alk_timer_free(&call->deadline);
	free(call->id);
	free(call);
}

static struct call *call_new(struct bus *bus, struct conn *caller, const char *id,
			     struct conn *server)
{
	struct call *call = calloc(1, sizeof(*call));
	struct call **at;

	if (call == NULL)
		return NULL;
	call->id = strdup(id);
	if (call->id == NULL) {
		free(call);
		return NULL;
	}
	call->bus = bus;
	call->number = ++bus->last_call;
	at = bucket(bus, call->number);
	call->next = *at;
	call->prev = at;
	if (call->next != NULL)
		call->next->prev = &call->next;
	*at = call;
	call->caller = caller;
	if (caller != NULL) {
		call->caller_next = caller->calls;
		call->caller_prev = &caller->calls;
		if (call->caller_next != NULL)
			call->caller_next->caller_prev = &call->caller_next;
		caller->calls = call;
		caller->n_calls++;
	}
	call->server = server;
	if (server != NULL) {
		call->server_next = server->serves;
		call->server_prev = &server->serves;
		if (call->server_next != NULL)
			call->server_next->server_prev = &call->server_next;
		server->serves = call;
	}
	return call;
}

static json_t *failure(const char *code, const char *message)
{
	return json_pack("{s:s, s:s, s:b}", "code", code, "message", message, "retryable",
			 code_is_retryable(code));
}

void call_fail(struct conn *c, const char *id, const char *code, const char *message)
{
	bus_count(c->bus, BUS_COUNT_calls_failed, 1);
	conn_say(c, "call.error", id, failure(code, message));
}

/* What comes back, to the caller wherever it is. Takes `payload`. */
static void call_tell(struct call *call, const char *type, json_t *payload)
{
	struct wire_out out;
	char *text;

	if (call->caller != NULL) {
		conn_say(call->caller, type, call->id, payload);
		return;
	}
	text = json_dumps(payload, JSON_COMPACT | JSON_ENCODE_ANY);
	json_decref(payload);
	wire_begin(&out, WIRE_ANSWER);
	wire_number(&out, call->from_number);
	wire_text(&out, type);
	wire_text(&out, text != NULL ? text : "null");
	free(text);
	bus_say_to(call->bus, call->from_worker, &out);
}

/* Takes `payload`; NULL: there is nobody to tell. */
static void call_end(struct call *call, const char *type, json_t *payload)
{
	struct conn *caller = call->caller;

	if (payload != NULL)
		call_tell(call, type, payload);
	if (strcmp(type, "call.error") == 0 || strcmp(type, "call.aborted") == 0)
		bus_count(call->bus, BUS_COUNT_calls_failed, 1);
	call_unlink(call);
	if (caller != NULL)
		conn_settle(caller);
}

/* Whoever works on it may stop. */
static void call_stop_server(struct call *call)
{
	struct wire_out out;
	char id[SERVER_ID_MAX];

	if (call->server != NULL) {
		server_id(id, call);
		conn_say(call->server, "call.aborted", id, json_object());
	} else {
		wire_begin(&out, WIRE_ABORT);
		wire_number(&out, call->number);
		bus_say_to(call->bus, call->to_worker, &out);
	}
}

static void on_deadline(void *user)
{
	struct call *call = user;

	call_stop_server(call);
	call_end(call, "call.error", failure("TIMEOUT", "no answer in time"));
}

/* Hand a request to a spoke's channel of this worker. Takes `payload`. */
static void call_serve(struct call *call, json_t *payload)
{
	char id[SERVER_ID_MAX];

	if (call->server->bytes > call->bus->queue_max) {
		json_decref(payload);
		call_end(call, "call.error",
			 failure("OVERLOADED", "the operation's server does not keep up"));
		return;
	}
	server_id(id, call);
	conn_say(call->server, "call.requested", id, payload);
}

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
	free(text);
	if (!bus_say_to(call->bus, spoke->worker, &out))
		call_end(call, "call.error", failure("UNAVAILABLE", "the hub does not answer"));
}

static void request_start(struct conn *c, const struct request *r, const struct operation_at *at)
{
	struct bus *bus = c->bus;
	bool here = at->spoke->worker == bus->self;
	struct conn *server = here ? conn_find(bus, at->spoke->connection) : NULL;
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
	if (r->limited || !call->many) {
		call->deadline = alk_timer_new(bus->loop, "bus call", on_deadline, call);
		if (call->deadline == NULL) {
			json_decref(payload);
			call_end(call, "call.error", failure("OVERLOADED", "out of memory"));
			return;
		}
		alk_timer_start(call->deadline, left);
	}
	if (here)
		call_serve(call, payload);
	else
		request_send(call, at->spoke, payload);
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
	if (spoke_hub_call(c, id, r.operation, r.input))
		return;
	bus_count(c->bus, BUS_COUNT_calls, 1);
	if (!spoke_find(c->bus, r.operation, &at)) {
		call_fail(c, id, "NOT_FOUND", "no such operation");
	} else if (!spoke_may(c, at.operation)) {
		bus_count(c->bus, BUS_COUNT_denied, 1);
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

void call_requested(struct conn *c)
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
	else if (strncmp(r.operation, "/secret/", 8) == 0)
		call_fail(c, c->frame.id, "FORBIDDEN", "not on this bus");
	else
		conn_ask(c,
			 &(struct alk_channel_question){.kind = ALK_MAY_CALL, .name = r.operation},
			 request_now);
}

/* Answers */

enum answer {
	ANSWER_NONE,
	ANSWER_ONE,
	ANSWER_LAST,
	ANSWER_ERROR,
	ANSWER_ABORTED
};

static enum answer answer_of(const char *type)
{
	static const char *const names[] = {"", "call.responded", "call.completed", "call.error",
					    "call.aborted"};

	for (enum answer a = ANSWER_ONE; a <= ANSWER_ABORTED; a++)
		if (strcmp(names[a], type) == 0)
			return a;
	return ANSWER_NONE;
}

/* A server's error as it may go on: a code and a message. */
static json_t *answer_error(const json_t *payload)
{
	const json_t *code = json_object_get(payload, "code");
	const json_t *message = json_object_get(payload, "message");

	if (!json_is_string(code) || json_string_length(code) == 0 ||
	    json_string_length(code) > 64 || !json_is_string(message) ||
	    json_string_length(message) > 1024)
		return failure("INTERNAL", "the operation failed and does not say how");
	return json_pack("{s:O, s:O, s:b}", "code", code, "message", message, "retryable",
			 json_is_true(json_object_get(payload, "retryable")));
}

/* Takes `payload`. */
static void call_answer(struct call *call, enum answer answer, json_t *payload)
{
	json_t *error;

	switch (answer) {
	case ANSWER_ONE:
		if (!call->many) {
			call_end(call, "call.responded", payload);
			return;
		}
		if (call->caller != NULL && call->caller->bytes > call->bus->queue_max) {
			json_decref(payload);
			call_stop_server(call);
			call_end(call, "call.error",
				 failure("OVERLOADED", "the answers were not read"));
			return;
		}
		call_tell(call, "call.responded", payload);
		return;
	case ANSWER_LAST:
		if (call->many) {
			call_end(call, "call.completed", payload);
			return;
		}
		json_decref(payload);
		call_end(call, "call.error", failure("INTERNAL", "completed without an answer"));
		return;
	case ANSWER_ERROR:
		error = answer_error(payload);
		json_decref(payload);
		call_end(call, "call.error", error);
		return;
	case ANSWER_ABORTED:
		call_end(call, "call.aborted", payload);
		return;
	case ANSWER_NONE:
		break;
	}
	json_decref(payload);
}

void call_answered(struct conn *c)
{
	enum answer answer = answer_of(c->frame.type);
	struct call *call;

	if (answer == ANSWER_NONE) {
		conn_error(c, "error", c->frame.id, "INVALID_INPUT", "this type is reserved");
		return;
	}
	call = call_of_server(c, c->frame.id);
	if (call != NULL) {
		call_answer(call, answer, json_incref(c->frame.payload));
		return;
	}
	call = answer == ANSWER_ABORTED ? call_of_caller(c, c->frame.id) : NULL;
	if (call == NULL) {
		bus_count(c->bus, BUS_COUNT_late_answers, 1);
		return;
	}
	call_stop_server(call);
	call_end(call, "call.aborted", json_object());
}

/* From other workers */

static void hear_call(struct bus *bus, uint64_t worker, struct wire_in *in)
{
	uint64_t number = wire_get_number(in), connection = wire_get_number(in);
	bool many = wire_get_number(in) != 0;
	json_t *payload = json_loads(wire_get_text(in), 0, NULL);
	struct conn *server = conn_find(bus, connection);
	struct call *call;

	if (server != NULL && server->state != CONN_OPEN)
		server = NULL;
	call = wire_done(in) && payload != NULL ? call_new(bus, NULL, "", server) : NULL;
	if (call == NULL) {
		json_decref(payload);
		return;
	}
	call->from_worker = worker;
	call->from_number = number;
	call->many = many;
	if (server != NULL) {
		call_serve(call, payload);
		return;
	}
	json_decref(payload);
	call_end(call, "call.error", failure("UNAVAILABLE", "the operation's server has gone"));
}

static void hear_answer(struct bus *bus, uint64_t worker, struct wire_in *in)
{
	struct call *call = call_of(bus, wire_get_number(in));
	enum answer answer = answer_of(wire_get_text(in));
	json_t *payload = json_loads(wire_get_text(in), JSON_DECODE_ANY, NULL);

	if (!wire_done(in) || payload == NULL) {
		json_decref(payload);
	} else if (call == NULL || call->server != NULL || call->to_worker != worker) {
		bus_count(bus, BUS_COUNT_late_answers, 1);
		json_decref(payload);
	} else {
		call_answer(call, answer, payload);
	}
}

static struct call *call_from(struct bus *bus, uint64_t worker, uint64_t number)
{
	for (size_t i = 0; i < BUS_CALL_BUCKETS; i++)
		for (struct call *call = bus->calls[i]; call != NULL; call = call->next)
			if (call->caller == NULL && call->from_worker == worker &&
			    call->from_number == number)
				return call;
	return NULL;
}

static void hear_abort(struct bus *bus, uint64_t worker, struct wire_in *in)
{
	struct call *call = call_from(bus, worker, wire_get_number(in));

	if (call == NULL)
		return;
	call_stop_server(call);
	call_end(call, "call.aborted", NULL);
}

void call_hear(struct bus *bus, uint64_t worker, const uint8_t *bytes, size_t n)
{
	struct wire_in in;

	switch (wire_open(&in, bytes, n)) {
	case WIRE_CALL:
		hear_call(bus, worker, &in);
		break;
	case WIRE_ANSWER:
		hear_answer(bus, worker, &in);
		break;
	case WIRE_ABORT:
		hear_abort(bus, worker, &in);
		break;
	default:
		break;
	}
}

/* Ends */

void call_forget(struct conn *c)
{
	while (c->serves != NULL)
		call_end(c->serves, "call.error",
			 failure("UNAVAILABLE", "the operation's server has gone"));
	while (c->calls != NULL) {
		call_stop_server(c->calls);
		call_end(c->calls, "call.aborted", NULL);
	}
}

static struct call *call_at(const struct bus *bus, uint64_t worker)
{
	for (size_t i = 0; i < BUS_CALL_BUCKETS; i++)
		for (struct call *call = bus->calls[i]; call != NULL; call = call->next)
			if ((call->caller == NULL && call->from_worker == worker) ||
			    (call->server == NULL && call->to_worker == worker))
				return call;
	return NULL;
}

void call_worker_gone(struct bus *bus, uint64_t worker)
{
	struct call *call;

	while ((call = call_at(bus, worker)) != NULL) {
		if (call->caller != NULL) {
			call_end(call, "call.error",
				 failure("UNAVAILABLE", "the operation's server has gone"));
		} else {
			call_stop_server(call);
			call_end(call, "call.aborted", NULL);
		}
	}
}
