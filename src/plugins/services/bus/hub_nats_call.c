/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "hub_nats.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Calls between servers. Each ends once: by an answer, when either end or NATS goes away, or at its
 * deadline. */

/* The headers' names, a server and a type; an identity comes to it. */
#define HEADERS_MAX 128

/* Does it go through NATS, and through the program on the other side? */
static bool fits(const struct nats *nats, const char *payload, const char *identity)
{
	size_t n = strlen(payload) + strlen(identity) + HEADERS_MAX;

	return n <= nats->payload_max && n <= NATS_MESSAGE_MAX / 2;
}

/* ---- calls that go out ----------------------------------------------------------------------- */

static struct nats_calls *by_number(struct nats *nats, uint64_t number)
{
	return &nats->calls_by_number[number % NATS_BUCKETS];
}

static struct nats_calls *by_worker(struct nats *nats, uint64_t worker, uint64_t number)
{
	return &nats->calls_by_worker[(worker * 31 + number) % NATS_BUCKETS];
}

static size_t bucket_of(const char *text)
{
	return wire_hash(text, strlen(text)) % NATS_BUCKETS;
}

/* NULL: there are too many. */
static struct nats_call *call_make(struct nats *nats, uint64_t worker, uint64_t number,
				   size_t share)
{
	struct nats_call *call;

	if (nats->n_calls >= NATS_CALLS_MAX || nats->calls_of[share] >= NATS_CALLS_SHARE ||
	    (call = calloc(1, sizeof(*call))) == NULL)
		return NULL;
	call->share = share;
	nats->calls_of[share]++;
	call->number = ++nats->last_call;
	call->worker = worker;
	call->worker_number = number;
	TAILQ_INSERT_TAIL(&nats->calls, call, entry);
	LIST_INSERT_HEAD(by_number(nats, call->number), call, by_number);
	LIST_INSERT_HEAD(by_worker(nats, worker, number), call, by_worker);
	nats->n_calls++;
	return call;
}

static void call_free(struct nats *nats, struct nats_call *call)
{
	TAILQ_REMOVE(&nats->calls, call, entry);
	LIST_REMOVE(call, by_number);
	LIST_REMOVE(call, by_worker);
	nats->n_calls--;
	nats->calls_of[call->share]--;
	free(call);
}

static void answer_worker(struct hub *hub, uint64_t worker, uint64_t number, bool many,
			  const char *type, const char *payload)
{
	struct wire_out message;

	wire_begin(&message, WIRE_REMOTE);
	wire_number(&message, number);
	wire_number(&message, many);
	wire_text(&message, type);
	wire_text(&message, payload);
	if (!message.bad)
		hub_say_from(hub, 0, worker, message.bytes, message.n);
	wire_free(&message);
}

static void answer_error(struct hub *hub, uint64_t worker, uint64_t number, const char *code,
			 const char *message)
{
	char text[256];

	snprintf(text, sizeof(text), "{\"code\":\"%s\",\"message\":\"%s\",\"retryable\":%s}", code,
		 message, code_is_retryable(code) ? "true" : "false");
	answer_worker(hub, worker, number, false, "call.error", text);
}

void nats_call_fail(struct nats *nats, struct nats_call *call, const char *code,
		    const char *message)
{
	answer_error(nats->hub, call->worker, call->worker_number, code, message);
	call_free(nats, call);
}

/* A call, or the question what it would be. */
static void call_out(struct hub *hub, uint64_t worker, uint64_t number, bool describes,
		     const char *name, const char *payload, const char *identity)
{
	struct nats *nats = hub->nats;
	char subject[NATS_SUBJECT_MAX], reply[NATS_SUBJECT_MAX], inbox[64];
	struct nats_call *call;

	if (nats == NULL || !nats->connected) {
		answer_error(hub, worker, number, "UNAVAILABLE", "NATS is away");
		return;
	}
	if (!nats_operation_subject(nats, subject, describes ? "d" : "c", name)) {
		answer_error(hub, worker, number, "NOT_FOUND", "no such operation");
		return;
	}
	if (!fits(nats, payload, identity)) {
		answer_error(hub, worker, number, "INVALID_INPUT",
			     "the input is longer than a message of NATS");
		return;
	}
	call = call_make(nats, worker, number, bucket_of(identity));
	if (call == NULL) {
		answer_error(hub, worker, number, "OVERLOADED",
			     "too many calls to other servers are under way");
		return;
	}
	call->describes = describes;
	snprintf(inbox, sizeof(inbox), "i.%s.%" PRIu64, nats->server, call->number);
	nats_name(nats, reply, inbox);
	nats_publish(nats, &(struct nats_publication){.subject = subject,
						      .reply = reply,
						      .from = nats->server,
						      .identity = identity,
						      .body = payload,
						      .n = strlen(payload)});
}

void hub_nats_call(struct hub *hub, uint64_t worker, struct wire_in *in)
{
	uint64_t number = wire_get_number(in);
	const char *payload, *identity;
	json_t *json;

	wire_get_number(in);
	wire_get_number(in);
	payload = wire_get_text(in);
	identity = wire_get_text(in);
	if (!wire_done(in))
		return;
	json = json_loads(payload, 0, NULL);
	call_out(hub, worker, number, false,
		 json_string_value(json_object_get(json, "operationId")), payload, identity);
	json_decref(json);
}

void hub_nats_describe(struct hub *hub, uint64_t worker, struct wire_in *in)
{
	uint64_t number = wire_get_number(in);
	const char *name = wire_get_text(in), *identity = wire_get_text(in);

	if (wire_done(in))
		call_out(hub, worker, number, true, name, "null", identity);
}

static void call_abort(struct nats *nats, struct nats_call *call)
{
	char subject[NATS_SUBJECT_MAX], body[64 + NATS_SUBJECT_MAX];

	nats_name(nats, subject, "x");
	snprintf(body, sizeof(body), "\"%s.i.%s.%" PRIu64 "\"", nats->prefix, nats->server,
		 call->number);
	nats_publish(nats, &(struct nats_publication){.subject = subject,
						      .from = nats->server,
						      .body = body,
						      .n = strlen(body)});
	call_free(nats, call);
}

void hub_nats_abort(struct hub *hub, uint64_t worker, struct wire_in *in)
{
	uint64_t number = wire_get_number(in);
	struct nats_call *call;

	if (hub->nats == NULL || !wire_done(in))
		return;
	LIST_FOREACH(call, by_worker(hub->nats, worker, number), by_worker)
	{
		if (call->worker == worker && call->worker_number == number) {
			call_abort(hub->nats, call);
			return;
		}
	}
}

void hub_nats_worker_down(struct hub *hub, uint64_t worker)
{
	struct nats_call *call, *next;

	if (hub->nats == NULL)
		return;
	for (call = TAILQ_FIRST(&hub->nats->calls); call != NULL; call = next) {
		next = TAILQ_NEXT(call, entry);
		if (call->worker == worker)
			call_abort(hub->nats, call);
	}
}

/* A program of its own on NATS answers with the output alone, once. */
static void answer_program(struct nats *nats, struct nats_call *call, const char *body)
{
	json_t *output = json_loads(body, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
	json_t *payload = output != NULL ? json_pack("{s:o}", "output", output) : NULL;
	char *text = payload != NULL ? json_dumps(payload, JSON_COMPACT) : NULL;

	json_decref(payload);
	if (text == NULL) {
		nats_call_fail(nats, call, "INTERNAL", "the answer is not JSON");
		return;
	}
	answer_worker(nats->hub, call->worker, call->worker_number, false, "call.responded", text);
	free(text);
	call_free(nats, call);
}

/* The worker takes nothing else. */
static bool is_answer(const char *type)
{
	static const char *const types[] = {"call.responded", "call.completed", "call.error",
					    "call.aborted"};

	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++)
		if (strcmp(types[i], type) == 0)
			return true;
	return false;
}

/* Whoever serves it may go on: it is told. */
static void call_stop(struct nats *nats, struct nats_call *call, const char *code,
		      const char *message)
{
	answer_error(nats->hub, call->worker, call->worker_number, code, message);
	call_abort(nats, call);
}

void nats_hear_answer(struct nats *nats, const char *subject, const char *from, const char *type,
		      const char *status, const char *payload)
{
	const char *dot = strrchr(subject, '.');
	uint64_t number = dot != NULL ? strtoull(dot + 1, NULL, 10) : 0;
	struct nats_call *call;

	LIST_FOREACH(call, by_number(nats, number), by_number)
	{
		if (call->number == number)
			break;
	}
	if (call == NULL) {
		if (*status == '\0')
			nats->hub->count[BUS_COUNT_late_answers]++;
		return;
	}
	call->seen = alk_loop_now(nats->hub->loop);
	if (strcmp(status, NATS_STATUS_NO_JSON) == 0) {
		nats_call_fail(nats, call, "INTERNAL", "the answer is not JSON");
	} else if (*status != '\0') {
		nats_call_fail(nats, call, "NOT_FOUND", "no such operation");
	} else if (strncmp(type, "accepted", 8) == 0) {
		snprintf(call->server, sizeof(call->server), "%s", from);
		call->many = !call->describes && strcmp(type, "accepted-many") == 0;
		if (call->many)
			answer_worker(nats->hub, call->worker, call->worker_number, true, "",
				      "null");
	} else if (*type == '\0' && call->describes) {
		nats_call_fail(nats, call, "INTERNAL", "the answer is no operation's schema");
	} else if (*type == '\0') {
		answer_program(nats, call, payload);
	} else if (!is_answer(type)) {
		call_stop(nats, call, "INTERNAL", "the answer is of no known type");
	} else if (!hub_has_room(nats->hub, call->worker)) {
		call_stop(nats, call, "OVERLOADED", "the answers were not read");
	} else {
		bool last = !call->many || strcmp(type, "call.responded") != 0;

		answer_worker(nats->hub, call->worker, call->worker_number, call->many, type,
			      payload);
		if (last)
			call_free(nats, call);
	}
}

/* ---- calls that come in ---------------------------------------------------------------------- */

static struct nats_serve *serve_new(struct nats *nats, const char *reply, size_t share)
{
	struct nats_serve *serve = calloc(1, sizeof(*serve));

	if (serve == NULL || (serve->reply = strdup(reply)) == NULL) {
		free(serve);
		return NULL;
	}
	serve->nats = nats;
	serve->share = share;
	serve->seen = alk_loop_now(nats->hub->loop);
	nats->serves_of[share]++;
	TAILQ_INSERT_TAIL(&nats->serves, serve, entry);
	LIST_INSERT_HEAD(&nats->serves_by_reply[bucket_of(reply)], serve, by_reply);
	return serve;
}

void nats_serve_free(struct nats_serve *serve)
{
	serve->nats->serves_of[serve->share]--;
	TAILQ_REMOVE(&serve->nats->serves, serve, entry);
	LIST_REMOVE(serve, by_reply);
	hub_call_cancel(&serve->call);
	free(serve->reply);
	free(serve);
}

/* Whoever asked waits: said also while the program has not told yet that NATS is there. */
static void serve_say(struct nats *nats, const char *reply, const char *type, const char *payload)
{
	nats_publish_now(nats, &(struct nats_publication){.subject = reply,
							  .from = nats->server,
							  .type = type,
							  .body = payload,
							  .n = strlen(payload)});
}

static void serve_error(struct nats *nats, const char *reply, const char *code, const char *message)
{
	char text[256];

	snprintf(text, sizeof(text), "{\"code\":\"%s\",\"message\":\"%s\",\"retryable\":%s}", code,
		 message, code_is_retryable(code) ? "true" : "false");
	serve_say(nats, reply, "call.error", text);
}

static void on_served(void *user, const char *type, const char *payload, bool last)
{
	struct nats_serve *serve = user;
	bool short_enough;
	char *output = NULL;

	if (serve->server[0] == '\0' && strcmp(type, "call.responded") == 0)
		output = hub_call_output(payload);
	if (output != NULL)
		payload = output;
	short_enough = fits(serve->nats, payload, "");
	if (short_enough)
		serve_say(serve->nats, serve->reply, type, payload);
	else
		serve_error(serve->nats, serve->reply, "INTERNAL",
			    "the answer is longer than a message of NATS");
	free(output);
	if (last)
		serve->call = NULL;
	if (last || !short_enough)
		nats_serve_free(serve);
}

void nats_hear_late(struct nats *nats, const char *subject, const char *reply)
{
	size_t n = strlen(nats->prefix);
	bool call = strncmp(subject, nats->prefix, n) == 0 &&
		    (strncmp(subject + n, ".c.", 3) == 0 || strncmp(subject + n, ".d.", 3) == 0);

	if (call && *reply != '\0')
		serve_error(nats, reply, "UNAVAILABLE", "the operation's server has gone");
}

/* Where is it, and what is to be asked there? Takes nothing; `input` is new. */
static bool target_find(const struct nats *nats, const struct nats_sub *sub,
			struct hub_target *target, json_t **input)
{
	if (!hub_target_find(nats->hub, sub->operation, target))
		return false;
	if (sub->role != NATS_ROLE_DESCRIBE) {
		*input = json_incref(*input);
		return true;
	}
	*target = (struct hub_target){target->worker, 0, "/services/schema", false};
	*input = json_pack("{s:s}", "name", sub->operation);
	return *input != NULL;
}

/* No scope, and `access` is asked where the operation is: no server was before. */
#define PROGRAM "{\"id\":\"nats\",\"scopes\":[],\"program\":true}"

/* Another server's caller has the scopes that the server says; a program of its own on NATS has
 * none, whatever it says. Its body is the input. */
void nats_hear_call(struct nats *nats, const struct nats_sub *sub, const char *reply,
		    const char *from, const char *identity, const char *status, const char *body)
{
	struct nats_serve *serve = NULL;
	struct hub_target target;
	const char *wrong = "NOT_FOUND\0no such operation";
	char server[NATS_SERVER_ID + 1];
	json_t *json = json_loads(body, JSON_DECODE_ANY, NULL), *input = json;
	uint64_t worker, connection;
	bool from_server;
	size_t share;

	if (*status != '\0' && *reply != '\0')
		serve_error(nats, reply, "INVALID_INPUT", "the input is not JSON");
	if (*status != '\0' || *reply == '\0' || json == NULL) {
		json_decref(json);
		return;
	}
	nats_from(nats, from, server, &worker, &connection);
	from_server = *server != '\0';
	share = from_server && *identity != '\0' ? bucket_of(identity) : NATS_BUCKETS;
	if (from_server)
		input = json_object_get(json, "input");
	if (input == NULL)
		input = json_null();
	if (nats->serves_of[share] >= NATS_SERVES_SHARE) {
		wrong = "OVERLOADED\0too many calls of this identity are under way";
	} else if ((serve = serve_new(nats, reply, share)) == NULL) {
		wrong = "OVERLOADED\0out of memory";
	} else if (!nats->connected) {
		/* The program hears calls before it says that NATS is there: all of them would end
		 * then. */
		wrong = "UNAVAILABLE\0the operation's server is just back at NATS";
	} else if (target_find(nats, sub, &target, &input)) {
		strcpy(serve->server, server);
		wrong = hub_call_start(nats->hub, &target, input,
				       share < NATS_BUCKETS ? identity : PROGRAM,
				       from_server ? 0 : nats->hub->call_timeout, on_served, serve,
				       &serve->call);
		json_decref(input);
	}
	json_decref(json);
	if (wrong != NULL) {
		serve_error(nats, reply, wrong, wrong + strlen(wrong) + 1);
		if (serve != NULL)
			nats_serve_free(serve);
	} else if (from_server) {
		serve_say(nats, reply, target.many ? "accepted-many" : "accepted", "null");
	}
}

void nats_say_forgotten(struct nats *nats)
{
	char subject[NATS_SUBJECT_MAX];

	nats_name(nats, subject, "x");
	nats_publish(nats, &(struct nats_publication){.subject = subject,
						      .from = nats->server,
						      .type = "all"});
}

/* It was away for a moment, and may have been back before anybody missed it. */
static void server_forgot(struct nats *nats, const char *server)
{
	struct nats_call *call, *next_call;
	struct nats_serve *serve, *next_serve;

	for (call = TAILQ_FIRST(&nats->calls); call != NULL; call = next_call) {
		next_call = TAILQ_NEXT(call, entry);
		if (strcmp(call->server, server) == 0)
			nats_call_fail(nats, call, "UNAVAILABLE",
				       "the operation's server lost NATS");
	}
	for (serve = TAILQ_FIRST(&nats->serves); serve != NULL; serve = next_serve) {
		next_serve = TAILQ_NEXT(serve, entry);
		if (strcmp(serve->server, server) == 0)
			nats_serve_free(serve);
	}
}

void nats_hear_abort(struct nats *nats, const char *from, const char *type, const char *body)
{
	char server[NATS_SERVER_ID + 1];
	uint64_t worker, connection;
	struct nats_serve *serve;
	const char *reply;
	json_t *json;

	if (strcmp(type, "all") == 0) {
		if (!nats_from(nats, from, server, &worker, &connection) && server[0] != '\0')
			server_forgot(nats, server);
		return;
	}
	json = json_loads(body, JSON_DECODE_ANY, NULL);
	reply = json_string_value(json);
	if (reply != NULL)
		LIST_FOREACH(serve, &nats->serves_by_reply[bucket_of(reply)], by_reply)
		{
			if (strcmp(serve->reply, reply) == 0) {
				nats_serve_free(serve);
				break;
			}
		}
	json_decref(json);
}
