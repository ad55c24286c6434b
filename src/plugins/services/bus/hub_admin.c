/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "hub.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_MAX 500

static const char *const counter_names[] = {
#define X(name_, help_) #name_,
	BUS_COUNTERS(X)
#undef X
};
static const char *const counter_helps[] = {
#define X(name_, help_) help_,
	BUS_COUNTERS(X)
#undef X
};

/* Takes `result`. */
static void answer(struct alk_call **call, json_t *result)
{
	char *text = result != NULL ? json_dumps(result, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	json_decref(result);
	if (text != NULL)
		alk_call_result(call, text);
	else
		alk_call_fail(call, "out of memory");
	free(text);
}

static uint64_t want_count(const struct hub_want *want)
{
	uint64_t n = 0;

	for (size_t i = 0; i < want->n; i++)
		n += want->members[i].count;
	return n;
}

/* Patterns with who wants them; of those, if there is a topic, the ones that match it. */
static json_t *wants_list(const struct hub *hub, const char *topic)
{
	json_t *list = json_array();
	const struct hub_want *want;

	TAILQ_FOREACH(want, &hub->wants, entry)
	{
		json_t *one;

		if (topic != NULL && !topic_match(want->pattern, topic))
			continue;
		if (json_array_size(list) >= ROWS_MAX)
			break;
		one = json_pack("{s:s, s:I}", "pattern", want->pattern, "subscribers",
				(json_int_t)want_count(want));
		if (*want->group != '\0')
			json_object_set_new(one, "group", json_string(want->group));
		json_array_append_new(list, one);
	}
	return list;
}

static void command_topics(struct hub *hub, const json_t *params, struct alk_call *call)
{
	json_t *list = json_array();
	const struct hub_kept *kept;

	(void)params;
	TAILQ_FOREACH(kept, &hub->kept, entry)
	{
		if (json_array_size(list) >= ROWS_MAX)
			break;
		json_array_append_new(list, json_pack("{s:s, s:I}", "topic", kept->topic, "bytes",
						      (json_int_t)kept->packet->n));
	}
	answer(&call, json_pack("{s:o, s:o}", "patterns", wants_list(hub, NULL), "retained", list));
}

static void command_subscribers(struct hub *hub, const json_t *params, struct alk_call *call)
{
	answer(&call, wants_list(hub, json_string_value(json_object_get(params, "topic"))));
}

static void command_publish(struct hub *hub, const json_t *params, struct alk_call *call)
{
	const char *topic = json_string_value(json_object_get(params, "topic"));
	const char *text = json_string_value(json_object_get(params, "payload"));
	json_t *payload = text != NULL
				  ? json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL)
				  : json_object();
	char *type = strdup(topic), *id;
	struct alk_err err = {""};
	uint64_t retain;
	uint8_t *frame;
	size_t n = 0;

	if (payload == NULL || type == NULL) {
		alk_call_fail(&call, "payload: must be JSON");
		json_decref(payload);
		free(type);
		return;
	}
	id = strchr(type, ':');
	if (id != NULL)
		*id++ = '\0';
	if (topic_check_event(type, id != NULL ? id : "", &err) < 0) {
		alk_call_fail(&call, "topic: %s", err.text);
		json_decref(payload);
		free(type);
		return;
	}
	retain = event_retain(payload);
	frame = frame_make(type, id != NULL ? id : "", payload, &n);
	free(type);
	if (frame == NULL) {
		alk_call_fail(&call, "out of memory");
		return;
	}
	if (n > hub->frame_max + 4 || frame_text_check(frame + 4, n - 4, &err) < 0) {
		alk_call_fail(&call, "payload: longer or deeper than a frame");
	} else {
		hub->count[BUS_COUNT_published]++;
		hub_retain(hub, topic, frame, n, retain);
		hub_event(hub, NULL, topic, frame, n, NULL, 0);
		if (hub_nats_event(hub, 0, 0, topic, frame, n, retain))
			answer(&call, json_object());
		else
			alk_call_fail(&call, "UNAVAILABLE: other servers and groups do not get it");
	}
	frame_free(&frame, n);
}

/* Tails */

static void admin_tail_free(struct hub_admin_tail *a)
{
	free(a->pattern);
	free(a);
}

static void on_tail_closed(void *user, struct alk_call *call)
{
	struct hub_admin_tail *tail = user;
	struct hub *hub = tail->hub;

	(void)call;
	TAILQ_REMOVE(&hub->tails, tail, entry);
	admin_tail_free(tail);
	hub_tell_peers(hub);
}

static void command_tail(struct hub *hub, const json_t *params, struct alk_call *call)
{
	const char *pattern = json_string_value(json_object_get(params, "pattern"));
	struct hub_admin_tail *tail;
	struct alk_err err = {""};

	pattern = pattern != NULL ? pattern : ">";
	if (topic_check_pattern(pattern, &err) < 0) {
		alk_call_fail(&call, "pattern: %s", err.text);
		return;
	}
	tail = calloc(1, sizeof(*tail));
	if (tail != NULL)
		tail->pattern = strdup(pattern);
	if (tail == NULL || tail->pattern == NULL) {
		free(tail);
		alk_call_fail(&call, "out of memory");
		return;
	}
	tail->hub = hub;
	tail->call = call;
	TAILQ_INSERT_TAIL(&hub->tails, tail, entry);
	hub_tell_peers(hub);
	alk_call_stream(call, on_tail_closed, tail);
}

/* The frame's own text becomes part of the event's. */
void hub_tail(struct hub *hub, const char *topic, const uint8_t *frame, size_t n)
{
	struct hub_admin_tail *tail, *next;
	char *text;

	for (tail = TAILQ_FIRST(&hub->tails); tail != NULL; tail = next) {
		next = TAILQ_NEXT(tail, entry);
		if (!topic_match(tail->pattern, topic))
			continue;
		text = strndup((const char *)frame + 4, n - 4);
		if (text != NULL)
			alk_call_event(tail->call, text);
		free(text);
	}
}

/* Operations */

/* Each of the workers' own once: all have the same, but while a reload drains. */
static void list_inner(const struct hub *hub, json_t *list)
{
	json_t *seen = json_object();

	for (size_t i = 0; i < hub->n_workers; i++) {
		const char *offers = hub->workers[i]->offers;
		json_t *one, *operations = offers != NULL ? json_loads(offers, 0, NULL) : NULL;
		size_t at;

		json_array_foreach(operations, at, one)
		{
			const char *name = json_string_value(json_object_get(one, "name"));

			if (name == NULL || json_object_get(seen, name) != NULL ||
			    json_array_size(list) >= ROWS_MAX)
				continue;
			json_object_set_new(seen, name, json_true());
			json_array_append_new(list,
					      json_pack("{s:s, s:O, s:s}", "name", name, "op_type",
							json_object_get(one, "op_type"), "identity",
							""));
		}
		json_decref(operations);
	}
	json_decref(seen);
}

static void command_operation_list(struct hub *hub, const json_t *params, struct alk_call *call)
{
	json_t *list = json_array(), *operations, *one;
	const struct hub_spoke *s;
	size_t i;

	(void)params;
	TAILQ_FOREACH(s, &hub->spokes, entry)
	{
		operations = s->worker != 0 ? json_loads(s->operations, 0, NULL) : NULL;
		json_array_foreach(operations, i, one)
		{
			const char *type = json_string_value(json_object_get(one, "op_type"));

			if (json_array_size(list) < ROWS_MAX)
				json_array_append_new(
					list,
					json_pack("{s:o, s:s, s:s}", "name",
						  json_sprintf("/%s%s", s->name,
							       json_string_value(
								       json_object_get(one,
										       "name"))),
						  "op_type", type != NULL ? type : "query",
						  "identity", s->identity));
		}
		json_decref(operations);
	}
	list_inner(hub, list);
	answer(&call, list);
}

static void on_called(void *user, const char *type, const char *payload, bool last)
{
	struct alk_call *call = user;
	const char *code, *message;
	json_t *error;

	(void)last;
	if (strcmp(type, "call.responded") == 0) {
		char *output = hub_call_output(payload);

		if (output != NULL)
			alk_call_result(&call, output);
		else
			alk_call_fail(&call, "INTERNAL: the operation's answer has no output");
		free(output);
		return;
	}
	error = json_loads(payload, JSON_DECODE_ANY, NULL);
	code = json_string_value(json_object_get(error, "code"));
	message = json_string_value(json_object_get(error, "message"));
	if (message == NULL)
		message = strcmp(type, "call.completed") == 0 ? "completed without an answer"
							      : "the call was aborted";
	alk_call_fail(&call, "%s: %s", code != NULL ? code : "INTERNAL", message);
	json_decref(error);
}

static void command_operation_call(struct hub *hub, const json_t *params, struct alk_call *call)
{
	const char *operation = json_string_value(json_object_get(params, "operation"));
	const char *text = json_string_value(json_object_get(params, "input"));
	json_t *input = text != NULL
				? json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL)
				: json_object();
	struct hub_target target;
	struct hub_call *started;
	const char *wrong;

	if (input == NULL) {
		alk_call_fail(&call, "input: must be JSON");
	} else if (!hub_target_find(hub, operation, &target)) {
		alk_call_fail(&call, "NOT_FOUND: no such operation");
	} else {
		wrong = hub_call_start(hub, &target, input, "", hub->call_timeout, on_called, call,
				       &started);
		if (wrong != NULL)
			alk_call_fail(&call, "%s: %s", wrong, wrong + strlen(wrong) + 1);
		else
			hub_call_first(started);
	}
	json_decref(input);
}

void hub_admin_deinit(struct hub *hub)
{
	while (!TAILQ_EMPTY(&hub->tails)) {
		struct hub_admin_tail *tail = TAILQ_FIRST(&hub->tails);
		struct alk_call *call = tail->call;

		TAILQ_REMOVE(&hub->tails, tail, entry);
		admin_tail_free(tail);
		alk_call_fail(&call, "the server ends");
	}
}

void hub_command(struct hub *hub, const char *name, const char *params, struct alk_call *call)
{
	static const struct {
		const char *name;
		void (*run)(struct hub *hub, const json_t *params, struct alk_call *call);
	} commands[] = {
		{"topics", command_topics},
		{"subscribers", command_subscribers},
		{"publish", command_publish},
		{"tail", command_tail},
		{"operation.list", command_operation_list},
		{"operation.call", command_operation_call},
	};
	json_t *object = json_loads(params, 0, NULL);

	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		if (strcmp(commands[i].name, name) == 0) {
			commands[i].run(hub, object, call);
			json_decref(object);
			return;
		}
	json_decref(object);
	alk_call_fail(&call, "the bus has no such command");
}

char *hub_metrics(struct hub *hub)
{
	uint64_t subscriptions = 0;
	const struct hub_want *want;
	const struct hub_spoke *s;
	size_t n, spokes = 0;
	char *text = NULL;
	FILE *out = open_memstream(&text, &n);

	if (out == NULL)
		return NULL;
	for (size_t i = 0; i < BUS_COUNTER_COUNT; i++)
		fprintf(out,
			"# HELP alknet_bus_%s_total %s\n# TYPE alknet_bus_%s_total counter\n"
			"alknet_bus_%s_total %" PRIu64 "\n",
			counter_names[i], counter_helps[i], counter_names[i], counter_names[i],
			hub->count[i]);
	TAILQ_FOREACH(want, &hub->wants, entry)
	{
		subscriptions += want_count(want);
	}
	TAILQ_FOREACH(s, &hub->spokes, entry)
	{
		spokes += s->worker != 0;
	}
	fprintf(out,
		"# HELP alknet_bus_subscriptions Subscriptions.\n"
		"# TYPE alknet_bus_subscriptions gauge\nalknet_bus_subscriptions %" PRIu64 "\n"
		"# HELP alknet_bus_retained_bytes Bytes of retained values.\n"
		"# TYPE alknet_bus_retained_bytes gauge\nalknet_bus_retained_bytes %zu\n"
		"# HELP alknet_bus_spokes Clients that serve operations.\n"
		"# TYPE alknet_bus_spokes gauge\nalknet_bus_spokes %zu\n",
		subscriptions, hub->kept_bytes, spokes);
	hub_nats_metrics(hub, out);
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}
