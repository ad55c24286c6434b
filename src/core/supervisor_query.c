/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "supervisor_private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define QUERY_MS 2000
#define QUERY_POLICY_MS 7000 /* a script may take 5 s */
#define PLUGINS_MAX 256	     /* more names than that are no plugins */

#define QUERY_MAGIC 0x79726571u /* "qery" */

struct supervisor_query {
	uint32_t magic;
	struct alk_supervisor *sup;
	struct supervisor_query *next, **prev;
	uint64_t id;
	struct alk_admin_call *call;
	enum supervisor_merge merge;
	char key[16];
	json_t *result;
	struct alk_timer *timer;
	supervisor_asked_fn *done; /* instead of `call` */
	void *user;
	bool incomplete;
	unsigned waiting;
	bool waits[ALK_SLOTS_MAX];
};

static void query_free(struct supervisor_query *q)
{
	*q->prev = q->next;
	if (q->next != NULL)
		q->next->prev = q->prev;
	alk_timer_free(&q->timer);
	json_decref(q->result);
	q->magic = 0;
	free(q);
}

static void query_answer(struct supervisor_query *q)
{
	if (q->done != NULL) {
		supervisor_asked_fn *done = q->done;
		void *user = q->user;
		json_t *result = q->result;

		q->result = NULL;
		query_free(q);
		done(user, result);
		return;
	}
	if (q->result == NULL) {
		alk_admin_error(&q->call, ALK_ADMIN_FAILED, "the worker did not answer");
	} else {
		if (q->incomplete)
			json_object_set_new(q->result, "incomplete", json_true());
		alk_admin_result(&q->call, json_incref(q->result));
	}
	query_free(q);
}

static void on_query_timeout(void *user)
{
	struct supervisor_query *q = user;

	assert(q->magic == QUERY_MAGIC);
	q->incomplete = true;
	if (q->merge == SUPERVISOR_MERGE_ERRORS && q->waiting > 0)
		json_array_append_new(json_object_get(q->result, "errors"),
				      json_string("a worker did not answer"));
	query_answer(q);
}

static struct supervisor_query *query_new(struct alk_supervisor *sup, struct alk_admin_call *call,
					  enum supervisor_merge merge, const char *key)
{
	struct supervisor_query *q = calloc(1, sizeof(*q));

	if (q == NULL)
		return NULL;
	q->timer = alk_timer_new(sup->loop, "admin query", on_query_timeout, q);
	if (merge == SUPERVISOR_MERGE_LIST)
		q->result = json_pack("{s:[]}", key);
	else if (merge == SUPERVISOR_MERGE_PLUGINS)
		q->result = json_pack("{s:o}", key, supervisor_plugin_list(sup));
	else if (merge == SUPERVISOR_MERGE_ERRORS)
		q->result = json_pack("{s:[], s:b}", "errors", "found", 0);
	if (q->timer == NULL || (merge != SUPERVISOR_MERGE_FIRST && q->result == NULL)) {
		json_decref(q->result);
		alk_timer_free(&q->timer);
		free(q);
		return NULL;
	}
	q->magic = QUERY_MAGIC;
	q->sup = sup;
	q->id = ++sup->last_query;
	q->call = call;
	q->merge = merge;
	memcpy(q->key, key, strnlen(key, sizeof(q->key) - 1));
	q->next = sup->queries;
	q->prev = &sup->queries;
	if (q->next != NULL)
		q->next->prev = &q->next;
	sup->queries = q;
	return q;
}

static bool slot_answers(const struct alk_supervisor *sup, unsigned slot)
{
	enum alk_worker_proc_state state = alk_worker_proc_state(sup->slot[slot].worker);

	if (sup->slot[slot].role == SLOT_NEW)
		return false; /* it has nothing yet, and may never serve */
	return state == ALK_WORKER_READY || state == ALK_WORKER_DRAINING;
}

static void query_send(struct supervisor_query *q, int slot, const char *method, json_t *params)
{
	struct alk_supervisor *sup = q->sup;

	for (unsigned i = 0; i < sup->slots; i++) {
		if ((slot >= 0 && i != (unsigned)slot) || !slot_answers(sup, i))
			continue;
		if (alk_worker_proc_send(sup->slot[i].worker,
					 json_pack("{s:s, s:I, s:s, s:O}", "op", "request", "id",
						   (json_int_t)q->id, "method", method, "params",
						   params),
					 NULL) != 0) {
			q->incomplete = true;
			continue;
		}
		q->waits[i] = true;
		q->waiting++;
	}
	alk_timer_start(q->timer, strcmp(method, "policy.eval") == 0 ? QUERY_POLICY_MS : QUERY_MS);
}

void supervisor_query(struct alk_supervisor *sup, struct alk_admin_call *call, int slot,
		      const char *method, json_t *params, enum supervisor_merge merge,
		      const char *key)
{
	struct supervisor_query *q = query_new(sup, call, merge, key);

	if (q == NULL) {
		alk_admin_error(&call, ALK_ADMIN_FAILED, "out of memory");
		return;
	}
	query_send(q, slot, method, params);
	if (q->waiting == 0)
		query_answer(q);
}

int supervisor_ask(struct alk_supervisor *sup, const char *method, json_t *params,
		   supervisor_asked_fn *done, void *user)
{
	struct supervisor_query *q = query_new(sup, NULL, SUPERVISOR_MERGE_ERRORS, "");

	if (q == NULL)
		return -ENOMEM;
	q->done = done;
	q->user = user;
	query_send(q, -1, method, params);
	if (q->waiting == 0)
		alk_timer_start(q->timer, 0); /* not before this call returned */
	return 0;
}

static void query_done(struct supervisor_query *q, unsigned slot)
{
	q->waits[slot] = false;
	if (--q->waiting == 0)
		query_answer(q);
}

static void add_number(json_t *known, const json_t *plugin, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(plugin, key));

	json_object_set_new(known, key,
			    json_integer(json_integer_value(json_object_get(known, key)) +
					 (n > 0 && n < INT32_MAX ? n : 0)));
}

static void add_plugin(json_t *list, json_t *plugin)
{
	const char *name = json_string_value(json_object_get(plugin, "name")), *other;
	json_t *known = NULL;
	size_t i;

	if (name == NULL || json_array_size(list) >= PLUGINS_MAX)
		return;
	json_array_foreach(list, i, known)
	{
		other = json_string_value(json_object_get(known, "name"));
		if (other != NULL && strcmp(name, other) == 0)
			break;
		known = NULL;
	}
	if (known == NULL) {
		json_object_set_new(plugin, "listeners", json_integer(0));
		json_array_append(list, plugin);
		return;
	}
	add_number(known, plugin, "sessions");
	add_number(known, plugin, "channels");
}

/* A worker's list is only joined, never looked into: what is in it is shown as peers' text is. */
static void query_merge(struct supervisor_query *q, json_t *result)
{
	json_t *list = json_object_get(result, q->key), *into = json_object_get(q->result, q->key),
	       *one;
	size_t i;

	if (q->merge == SUPERVISOR_MERGE_ERRORS) {
		if (json_is_true(json_object_get(result, "found")))
			json_object_set_new(q->result, "found", json_true());
	} else if (q->merge == SUPERVISOR_MERGE_FIRST && json_is_object(result)) {
		json_decref(q->result);
		q->result = json_incref(result);
	} else if (!json_is_array(list)) {
		q->incomplete = true;
	} else if (q->merge == SUPERVISOR_MERGE_LIST) {
		q->incomplete |= json_array_extend(into, list) != 0;
	} else {
		json_array_foreach(list, i, one) add_plugin(into, one);
	}
}

void supervisor_query_reply(struct alk_supervisor *sup, unsigned slot, uint64_t id, json_t *message)
{
	struct supervisor_query *q = sup->queries;
	json_t *error = json_object_get(message, "error");
	const char *text;

	while (q != NULL && q->id != id)
		q = q->next;
	if (q == NULL || !q->waits[slot])
		return; /* too late */
	if (error == NULL) {
		query_merge(q, json_object_get(message, "result"));
	} else if (q->merge == SUPERVISOR_MERGE_ERRORS) {
		text = json_string_value(json_object_get(error, "message"));
		json_array_append_new(json_object_get(q->result, "errors"),
				      json_string(text != NULL ? text : "a worker could not"));
	} else if (q->merge == SUPERVISOR_MERGE_FIRST) {
		text = json_string_value(json_object_get(error, "message"));
		alk_admin_error(&q->call, ALK_ADMIN_FAILED, "%s",
				text != NULL ? text : "the worker could not");
		query_free(q);
		return;
	} else {
		q->incomplete = true;
	}
	query_done(q, slot);
}

void supervisor_query_gone(struct alk_supervisor *sup, unsigned slot, bool lost)
{
	struct supervisor_query *next;

	for (struct supervisor_query *q = sup->queries; q != NULL; q = next) {
		next = q->next;
		if (!q->waits[slot])
			continue;
		q->incomplete |= lost;
		query_done(q, slot);
	}
}

void supervisor_query_deinit(struct alk_supervisor *sup)
{
	while (sup->queries != NULL) {
		if (sup->queries->call != NULL)
			alk_admin_error(&sup->queries->call, ALK_ADMIN_FAILED, "the server stops");
		query_free(sup->queries);
	}
}
