/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "bus.h"
#include "../common/schema.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A call is one record while both ends are in this worker, else one in each of the two, which know
 * each other by worker and number. It ends once: call_end() tells the caller and forgets it. What
 * comes later finds nothing. */

#define SERVER_ID_MAX 32
#define TOO_MUCH "the answer is longer or deeper than a frame"

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

struct call *call_of_caller(const struct conn *c, const char *id)
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
	if (call->from_prev != NULL) {
		*call->from_prev = call->from_next;
		if (call->from_next != NULL)
			call->from_next->from_prev = call->from_prev;
	}
	alk_timer_free(&call->deadline);
	alk_operation_cancel(&call->inner);
	json_decref(call->output);
	elsewhere_free(&call->who);
	free(call->describes);
	free(call->id);
	free(call);
}

struct call *call_new(struct bus *bus, struct conn *caller, const char *id, struct conn *server)
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

json_t *call_output(json_t *output)
{
	return json_pack("{s:o}", "output", output);
}

/* What cannot be said as JSON, such as a text that is no UTF-8, is a failure of its own: whoever
 * called is told something. */
json_t *call_failure(const char *code, const char *message)
{
	json_t *failure = json_pack("{s:s, s:s, s:b}", "code", code, "message", message,
				    "retryable", code_is_retryable(code));

	return failure != NULL
		       ? failure
		       : json_pack("{s:s, s:s, s:b}", "code", "INTERNAL", "message",
				   "the operation failed and does not say how", "retryable", false);
}

void call_fail(struct conn *c, const char *id, const char *code, const char *message)
{
	bus_count(c->bus, BUS_COUNT_calls_failed, 1);
	conn_say(c, "call.error", id, call_failure(code, message));
}

/* A peer's words, written anew: they may have become more than a frame takes. False: they have.
 * Takes `payload`. */
static bool conn_pass(struct conn *c, const char *type, const char *id, json_t *payload)
{
	struct packet *packet = packet_make(type, id, payload);
	bool fits = packet == NULL || packet_fits(c->bus, packet);

	if (packet == NULL)
		conn_close_slow(c);
	else if (fits)
		conn_put(c, packet, false);
	packet_unref(&packet);
	return fits;
}

/* To a caller that is elsewhere. False: it is too much for a message. Takes `payload`. */
static bool answer_say(struct bus *bus, struct conn *by, uint64_t worker, uint64_t number,
		       const char *type, json_t *payload)
{
	char *text = json_dumps(payload, JSON_COMPACT | JSON_ENCODE_ANY);
	struct wire_out out;

	json_decref(payload);
	wire_begin(&out, WIRE_ANSWER);
	wire_number(&out, number);
	wire_text(&out, type);
	wire_text(&out, text != NULL ? text : "null");
	free(text);
	return bus_say_to(bus, by, worker, &out);
}

/* What comes back, to the caller wherever it is. False: it is too much for a frame. Takes
 * `payload`. */
static bool call_tell(struct call *call, const char *type, json_t *payload)
{
	if (call->caller != NULL)
		return conn_pass(call->caller, type, call->id, payload);
	return answer_say(call->bus, call->server, call->from_worker, call->from_number, type,
			  payload);
}

/* Takes `payload`. NULL is for an abort alone, which nobody is told then. */
void call_end(struct call *call, const char *type, json_t *payload)
{
	struct conn *caller = call->caller;

	if (payload == NULL && strcmp(type, "call.aborted") != 0) {
		type = "call.error";
		payload = call_failure("INTERNAL", "the answer could not be made");
	}
	if (payload != NULL && !call_tell(call, type, payload)) {
		type = "call.error";
		call_tell(call, type, call_failure("INTERNAL", TOO_MUCH));
	}
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

	if (call->inner != NULL) {
		alk_operation_cancel(&call->inner);
	} else if (call->server != NULL) {
		server_id(id, call);
		conn_say(call->server, "call.aborted", id, json_object());
	} else if (call->to_worker != 0 || call->remote) {
		wire_begin(&out, WIRE_ABORT);
		wire_number(&out, call->number);
		bus_say_to(call->bus, NULL, call->to_worker, &out);
	}
}

static void on_deadline(void *user)
{
	struct call *call = user;

	call_stop_server(call);
	call_end(call, "call.error", call_failure("TIMEOUT", "no answer in time"));
}

bool call_limit(struct call *call, uint64_t ms)
{
	call->deadline = alk_timer_new(call->bus->loop, "bus call", on_deadline, call);
	if (call->deadline == NULL) {
		call_end(call, "call.error", call_failure("OVERLOADED", "out of memory"));
		return false;
	}
	alk_timer_start(call->deadline, ms);
	return true;
}

void call_serve(struct call *call, json_t *payload)
{
	char id[SERVER_ID_MAX];

	if (call->server->bytes > call->bus->queue_max) {
		json_decref(payload);
		call_end(call, "call.error",
			 call_failure("OVERLOADED", "the operation's server does not keep up"));
		return;
	}
	server_id(id, call);
	if (!conn_pass(call->server, "call.requested", id, payload))
		call_end(call, "call.error",
			 call_failure("INVALID_INPUT",
				      "the input is longer or deeper than a frame"));
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

/* A server's error as it may go on: a code and a message, perhaps details. */
static json_t *answer_error(const json_t *payload)
{
	const json_t *code = json_object_get(payload, "code");
	const json_t *message = json_object_get(payload, "message");
	json_t *details = json_object_get(payload, "details"), *error;

	if (!json_is_string(code) || json_string_length(code) == 0 ||
	    json_string_length(code) > 64 || !json_is_string(message) ||
	    json_string_length(message) > 1024)
		return call_failure("INTERNAL", "the operation failed and does not say how");
	error = json_pack("{s:O, s:O, s:b}", "code", code, "message", message, "retryable",
			  json_is_true(json_object_get(payload, "retryable")));
	if (error != NULL && details != NULL)
		json_object_set(error, "details", details);
	return error;
}

/* Takes `payload`. */
static void call_answer(struct call *call, enum answer answer, json_t *payload)
{
	json_t *error;

	switch (answer) {
	case ANSWER_ONE:
		if (json_object_get(payload, "output") == NULL) {
			json_decref(payload);
			call_stop_server(call);
			call_end(call, "call.error",
				 call_failure("INTERNAL", "the operation's answer has no output"));
			return;
		}
		if (!call->many) {
			call_end(call, "call.responded", payload);
			return;
		}
		if (call->caller != NULL && call->caller->bytes > call->bus->queue_max) {
			json_decref(payload);
			call_stop_server(call);
			call_end(call, "call.error",
				 call_failure("OVERLOADED", "the answers were not read"));
			return;
		}
		if (call_tell(call, "call.responded", payload))
			return;
		call_stop_server(call);
		call_end(call, "call.error", call_failure("INTERNAL", TOO_MUCH));
		return;
	case ANSWER_LAST:
		if (call->many) {
			call_end(call, "call.completed", payload);
			return;
		}
		json_decref(payload);
		call_end(call, "call.error",
			 call_failure("INTERNAL", "completed without an answer"));
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

/* Does what this worker's own operation gave fit the schema that it came with? */
static bool output_fits(const struct call *call, const json_t *payload)
{
	struct alk_err err = {""};

	if (call->output == NULL || schema_fits(call->output, payload, &err) == 0)
		return true;
	alk_log(ALK_LOG_ERROR, "an operation's output does not fit its schema",
		ALK_STR("reason", err.text));
	return false;
}

void call_inner_answered(void *user, enum alk_operation_answer kind, const char *code,
			 const char *text)
{
	struct call *call = user;
	json_t *payload;

	if (kind != ALK_OPERATION_ANSWER)
		call->inner = NULL; /* it has ended */
	if (kind == ALK_OPERATION_FAILED) {
		call_end(call, "call.error", call_failure(*code != '\0' ? code : "INTERNAL", text));
		return;
	}
	payload = json_loads(text, JSON_DECODE_ANY, NULL);
	if (payload == NULL || (kind != ALK_OPERATION_COMPLETED && !output_fits(call, payload)) ||
	    (kind == ALK_OPERATION_ANSWER && !call->many)) {
		json_decref(payload);
		call_stop_server(call);
		call_end(call, "call.error", call_failure("INTERNAL", "the operation failed"));
	} else if (kind == ALK_OPERATION_RESPONDED && call->many) {
		if (call_tell(call, "call.responded", call_output(payload)))
			call_end(call, "call.completed", json_object());
		else
			call_end(call, "call.error", call_failure("INTERNAL", TOO_MUCH));
	} else if (kind == ALK_OPERATION_COMPLETED) {
		call_answer(call, ANSWER_LAST, payload);
	} else {
		call_answer(call, ANSWER_ONE, call_output(payload));
	}
}

/* From other workers */

static struct call **bucket_from(struct bus *bus, uint64_t number)
{
	return &bus->calls_from[number % BUS_CALL_BUCKETS];
}

static void call_set_from(struct call *call, uint64_t worker, uint64_t number)
{
	struct call **at = bucket_from(call->bus, number);

	call->from_worker = worker;
	call->from_number = number;
	call->from_next = *at;
	call->from_prev = at;
	if (call->from_next != NULL)
		call->from_next->from_prev = &call->from_next;
	*at = call;
}

/* A spoke's operation for a caller that this server has not looked at. False: it was told why
 * not. */
static bool spoke_takes(struct call *call, const json_t *payload)
{
	const struct spoke *s = call->server->spoke;
	const char *name = json_string_value(json_object_get(payload, "operationId"));
	const json_t *input = json_object_get(payload, "input");
	const struct operation *o = NULL;
	char full[BUS_SPOKE_MAX + BUS_NAME_MAX + 2];
	struct alk_err err = {""};

	for (size_t i = 0; s != NULL && name != NULL && i < s->n; i++)
		if (strcmp(s->operations[i].name, name) == 0)
			o = &s->operations[i];
	if (o != NULL)
		snprintf(full, sizeof(full), "/%s%s", s->name, o->name);
	if (o == NULL)
		call_end(call, "call.error", call_failure("NOT_FOUND", "no such operation"));
	else if (!operation_allows(o, elsewhere_identity(call->who)) ||
		 !elsewhere_may(call->bus, call->who, full))
		call_end(call, "call.error", call_failure("FORBIDDEN", "a scope is missing"));
	else if (o->input != NULL &&
		 schema_fits(o->input, input != NULL ? input : json_null(), &err) < 0)
		call_end(call, "call.error", call_failure("INVALID_INPUT", err.text));
	else
		return true;
	return false;
}

static void hear_inner(struct call *call, const json_t *payload, bool hub)
{
	const char *name = json_string_value(json_object_get(payload, "operationId"));
	const struct operation *o = name != NULL ? inner_find(call->bus, name) : NULL;
	const json_t *input = json_object_get(payload, "input");
	json_t *output = NULL;
	struct alk_err err = {""};

	if (input == NULL)
		input = json_null();
	/* Another server asks, for somebody of its own. */
	if (o == NULL && hub && name != NULL && strcmp(name, "/services/schema") == 0 &&
	    elsewhere_may(call->bus, call->who, name))
		output = spoke_describe(call->bus, input, call->who);
	if (output != NULL)
		call_end(call, "call.responded", call_output(output));
	else if (o == NULL)
		call_end(call, "call.error", call_failure("NOT_FOUND", "no such operation"));
	else if (call->who != NULL && (!operation_allows(o, elsewhere_identity(call->who)) ||
				       !elsewhere_may(call->bus, call->who, name)))
		call_end(call, "call.error", call_failure("FORBIDDEN", "a scope is missing"));
	else if (o->input != NULL && schema_fits(o->input, input, &err) < 0)
		call_end(call, "call.error", call_failure("INVALID_INPUT", err.text));
	else if (!inner_serve(call, o, input))
		call_end(call, "call.error", call_failure("OVERLOADED", "out of memory"));
}

static void hear_call(struct bus *bus, uint64_t worker, struct wire_in *in)
{
	uint64_t number = wire_get_number(in), connection = wire_get_number(in);
	bool many = wire_get_number(in) != 0;
	json_t *payload = json_loads(wire_get_text(in), 0, NULL);
	const char *identity = wire_get_text(in);
	struct conn *server = connection != 0 ? conn_server(bus, connection) : NULL;
	struct call *call;

	call = wire_done(in) && payload != NULL ? call_new(bus, NULL, "", server) : NULL;
	if (call == NULL) {
		json_decref(payload);
		answer_say(bus, NULL, worker, number, "call.error",
			   call_failure("OVERLOADED", "out of memory"));
		return;
	}
	call_set_from(call, worker, number);
	call->many = many;
	if (*identity != '\0' && (call->who = elsewhere_new(identity)) == NULL) {
		json_decref(payload);
		call_end(call, "call.error", call_failure("OVERLOADED", "out of memory"));
		return;
	}
	if (server != NULL) {
		if (call->who != NULL && !spoke_takes(call, payload))
			json_decref(payload);
		else
			call_serve(call, payload);
		return;
	}
	if (connection == 0) {
		hear_inner(call, payload, worker == 0);
		json_decref(payload);
		return;
	}
	json_decref(payload);
	call_end(call, "call.error",
		 call_failure("UNAVAILABLE", "the operation's server has gone"));
}

static void hear_answer(struct bus *bus, uint64_t worker, struct wire_in *in)
{
	struct call *call = call_of(bus, wire_get_number(in));
	enum answer answer = answer_of(wire_get_text(in));
	json_t *payload = json_loads(wire_get_text(in), JSON_DECODE_ANY, NULL);

	if (!wire_done(in) || payload == NULL) {
		json_decref(payload);
	} else if (call == NULL || call->server != NULL || call->inner != NULL || call->remote ||
		   call->to_worker != worker) {
		bus_count(bus, BUS_COUNT_late_answers, 1);
		json_decref(payload);
	} else {
		call_answer(call, answer, payload);
	}
}

static void hear_remote(struct bus *bus, struct wire_in *in)
{
	struct call *call = call_of(bus, wire_get_number(in));
	bool many = wire_get_number(in) != 0;
	const char *type = wire_get_text(in);
	enum answer answer = answer_of(type);
	json_t *payload = json_loads(wire_get_text(in), JSON_DECODE_ANY, NULL), *output;

	if (!wire_done(in) || payload == NULL) {
		json_decref(payload);
		return;
	}
	if (call == NULL || !call->remote) {
		bus_count(bus, BUS_COUNT_late_answers, 1);
		json_decref(payload);
		return;
	}
	if (call->describes != NULL && answer == ANSWER_ONE) {
		output = spoke_described(call->describes, json_object_get(payload, "output"));
		json_decref(payload);
		if (output != NULL)
			call_end(call, "call.responded", call_output(output));
		else
			call_end(call, "call.error",
				 call_failure("INTERNAL", "the answer is no operation's schema"));
		return;
	}
	call->many = many;
	if (many && !call->limited)
		alk_timer_stop(call->deadline);
	call_answer(call, answer, payload);
}

static struct call *call_from(struct bus *bus, uint64_t worker, uint64_t number)
{
	struct call *call = *bucket_from(bus, number);

	while (call != NULL && (call->from_number != number || call->from_worker != worker))
		call = call->from_next;
	return call;
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
	case WIRE_REMOTE:
		if (worker == 0)
			hear_remote(bus, &in);
		break;
	case WIRE_ABORT:
		hear_abort(bus, worker, &in);
		break;
	default:
		break;
	}
}

/* Ends */

void call_forget_served(struct conn *c)
{
	while (c->serves != NULL)
		call_end(c->serves, "call.error",
			 call_failure("UNAVAILABLE", "the operation's server has gone"));
}

void call_forget(struct conn *c)
{
	call_forget_served(c);
	while (c->calls != NULL) {
		call_stop_server(c->calls);
		call_end(c->calls, "call.aborted", NULL);
	}
}

/* One of a bucket's. */
static struct call *call_at(struct call *call, uint64_t worker)
{
	while (call != NULL && !(call->caller == NULL && call->from_worker == worker) &&
	       !(call->server == NULL && call->to_worker == worker))
		call = call->next;
	return call;
}

static void call_lose(struct call *call)
{
	if (call->caller != NULL) {
		call_end(call, "call.error",
			 call_failure("UNAVAILABLE", "the operation's server has gone"));
	} else {
		call_stop_server(call);
		call_end(call, "call.aborted", NULL);
	}
}

void call_worker_gone(struct bus *bus, uint64_t worker)
{
	struct call *call;

	/* The end of one may be that of others, and never begins one. */
	for (size_t i = 0; i < BUS_CALL_BUCKETS; i++)
		while ((call = call_at(bus->calls[i], worker)) != NULL)
			call_lose(call);
}

void call_all_end(struct bus *bus)
{
	for (size_t i = 0; i < BUS_CALL_BUCKETS; i++)
		while (bus->calls[i] != NULL) {
			call_stop_server(bus->calls[i]);
			call_end(bus->calls[i], "call.aborted", NULL);
		}
}
