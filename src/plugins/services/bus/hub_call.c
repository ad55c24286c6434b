/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "hub.h"

#include <stdlib.h>
#include <string.h>

/* Calls that come from outside of the workers: the administrator's, another server's. Each ends
 * once: the worker's last answer, the deadline, the worker's death, or whoever asked cancels. */

struct hub_call {
	TAILQ_ENTRY(hub_call) entry;
	LIST_ENTRY(hub_call) by_number;
	struct hub *hub;
	uint64_t number, worker;
	bool many;
	bool first; /* that many, but one is enough */
	struct alk_timer *deadline;
	hub_call_answered *answered;
	void *user;
};

/* Of the workers that have it the newest: after a reload its script is the one that holds. */
static bool find_inner(const struct hub *hub, const char *name, struct hub_target *target)
{
	const struct hub_worker *best = NULL;

	for (size_t i = 0; i < hub->n_workers; i++) {
		const struct hub_worker *w = hub->workers[i];
		const struct hub_operation *one = hub_operations_find(w->has, name);

		if (one != NULL && (best == NULL || w->number > best->number)) {
			best = w;
			*target = (struct hub_target){w->number, 0, name, one->many};
		}
	}
	return best != NULL;
}

bool hub_target_find(const struct hub *hub, const char *name, struct hub_target *target)
{
	size_t n = *name == '/' ? strcspn(name + 1, "/") : 0;
	const struct hub_operation *one;
	const struct hub_spoke *s;

	if (find_inner(hub, name, target))
		return true;
	TAILQ_FOREACH(s, &hub->spokes, entry)
	{
		if (s->worker == 0 || strlen(s->name) != n || memcmp(s->name, name + 1, n) != 0)
			continue;
		one = hub_operations_find(s->has, name + 1 + n);
		if (one != NULL)
			*target = (struct hub_target){s->worker, s->connection, name + 1 + n,
						      one->many};
		return one != NULL;
	}
	return false;
}

static bool say_from_hub(struct hub *hub, uint64_t worker, struct wire_out *message)
{
	bool said = !message->bad && hub_say_from(hub, 0, worker, message->bytes, message->n);

	wire_free(message);
	return said;
}

static bool call_send(const struct hub_call *call, const struct hub_target *target,
		      const json_t *input, const char *identity)
{
	json_t *payload = json_pack("{s:s, s:O}", "operationId", target->name, "input", input);
	char *text = payload != NULL ? json_dumps(payload, JSON_COMPACT) : NULL;
	struct wire_out out;

	json_decref(payload);
	if (text == NULL)
		return false;
	wire_begin(&out, WIRE_CALL);
	wire_number(&out, call->number);
	wire_number(&out, target->connection);
	wire_number(&out, call->many);
	wire_text(&out, text);
	wire_text(&out, identity);
	free(text);
	return say_from_hub(call->hub, call->worker, &out);
}

static struct hub_calls *bucket(struct hub *hub, uint64_t number)
{
	return &hub->calls_by_number[number % HUB_CALL_BUCKETS];
}

static void call_free(struct hub_call *call)
{
	TAILQ_REMOVE(&call->hub->calls, call, entry);
	LIST_REMOVE(call, by_number);
	call->hub->n_calls--;
	alk_timer_free(&call->deadline);
	free(call);
}

/* The last word, of the hub's own. */
static void fail(struct hub_call *call, const char *code, const char *message)
{
	hub_call_answered *answered = call->answered;
	void *user = call->user;
	json_t *error = json_pack("{s:s, s:s, s:b}", "code", code, "message", message, "retryable",
				  code_is_retryable(code));
	char *text = json_dumps(error, JSON_COMPACT);

	json_decref(error);
	call_free(call);
	answered(user, "call.error", text != NULL ? text : "{}", true);
	free(text);
}

static void call_abort(struct hub_call *call)
{
	struct wire_out out;

	wire_begin(&out, WIRE_ABORT);
	wire_number(&out, call->number);
	say_from_hub(call->hub, call->worker, &out);
}

static void on_deadline(void *user)
{
	struct hub_call *call = user;

	call_abort(call);
	fail(call, "TIMEOUT", "no answer in time");
}

const char *hub_call_start(struct hub *hub, const struct hub_target *target, const json_t *input,
			   const char *identity, uint64_t timeout, hub_call_answered *answered,
			   void *user, struct hub_call **out)
{
	struct hub_call *call;

	*out = NULL;
	if (hub->n_calls >= HUB_CALLS_MAX)
		return "OVERLOADED\0too many calls are under way";
	if (!hub_has_room(hub, target->worker))
		return "OVERLOADED\0the operation's server does not keep up";
	call = calloc(1, sizeof(*call));
	if (call == NULL)
		return "OVERLOADED\0out of memory";
	call->hub = hub;
	call->number = ++hub->last_call;
	call->worker = target->worker;
	call->many = target->many;
	call->answered = answered;
	call->user = user;
	TAILQ_INSERT_TAIL(&hub->calls, call, entry);
	LIST_INSERT_HEAD(bucket(hub, call->number), call, by_number);
	hub->n_calls++;
	call->deadline = alk_timer_new(hub->loop, "bus hub call", on_deadline, call);
	if (call->deadline == NULL) {
		call_free(call);
		return "OVERLOADED\0out of memory";
	}
	if (timeout > 0)
		alk_timer_start(call->deadline, timeout);
	if (!call_send(call, target, input, identity)) {
		call_free(call);
		return "UNAVAILABLE\0the operation's server has gone";
	}
	*out = call;
	return NULL;
}

void hub_call_first(struct hub_call *call)
{
	call->first = true;
}

char *hub_call_output(const char *payload)
{
	json_t *json = json_loads(payload, JSON_DECODE_ANY, NULL);
	const json_t *output = json_object_get(json, "output");
	char *text = output != NULL ? json_dumps(output, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	json_decref(json);
	return text;
}

void hub_call_cancel(struct hub_call **call)
{
	struct hub_call *c = *call;

	*call = NULL;
	if (c == NULL)
		return;
	call_abort(c);
	call_free(c);
}

void hub_answered(struct hub *hub, uint64_t worker, const uint8_t *bytes, size_t n)
{
	const char *type, *payload;
	struct hub_call *call;
	struct wire_in in;
	uint64_t number;
	bool last;

	if (wire_open(&in, bytes, n) != WIRE_ANSWER)
		return;
	number = wire_get_number(&in);
	type = wire_get_text(&in);
	payload = wire_get_text(&in);
	LIST_FOREACH(call, bucket(hub, number), by_number)
	{
		if (call->number == number && call->worker == worker)
			break;
	}
	if (!wire_done(&in))
		return;
	if (call == NULL) {
		hub->count[BUS_COUNT_late_answers]++;
		return;
	}
	last = !call->many || strcmp(type, "call.responded") != 0;
	if (!last && call->first) {
		call_abort(call); /* or it would say the next one */
		last = true;
	}
	if (last) {
		hub_call_answered *answered = call->answered;
		void *user = call->user;

		call_free(call);
		answered(user, type, payload, true);
	} else {
		call->answered(call->user, type, payload, false);
	}
}

void hub_calls_down(struct hub *hub, uint64_t worker)
{
	struct hub_call *call, *next;

	for (call = TAILQ_FIRST(&hub->calls); call != NULL; call = next) {
		next = TAILQ_NEXT(call, entry);
		if (call->worker == worker)
			fail(call, "UNAVAILABLE", "the operation's server has gone");
	}
}

void hub_calls_deinit(struct hub *hub)
{
	while (!TAILQ_EMPTY(&hub->calls))
		fail(TAILQ_FIRST(&hub->calls), "UNAVAILABLE", "the server ends");
}
