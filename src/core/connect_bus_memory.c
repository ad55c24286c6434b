/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "connect_bus.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../plugins/services/common/frame.h"

#define KEPT_MAX ((size_t)4 << 20) /* bytes of subscriptions and calls of one connection */
#define OPERATIONS_MAX 1024
#define ID_MAX 255
#define REGISTER "/hub/services/register"
#define QUERY "~alknet-connect-" /* ids of our own calls */
#define AWAY "the server is not reached"

struct bus_memory_sub {
	struct bus_memory_sub *next;
	char *ref;
	bool held;    /* the server has said yes */
	bool again;   /* the answer is not for the program */
	json_t *many; /* of a registration: the names of subscriptions */
	size_t n;
	uint8_t frame[];
};

struct bus_memory_call {
	struct bus_memory_call *next;
	bool many;
	bool responded; /* it has an answer, and the operation's kind is not known yet */
	char *operation;
	char id[];
};

struct bus_memory_op {
	struct bus_memory_op *next;
	uint64_t query; /* the call that asks */
	bool known;	/* it was answered */
	bool many;
	char name[];
};

/* Bytes */

int bus_bytes_add(struct bus_bytes *b, const void *bytes, size_t n)
{
	size_t size = b->size > 0 ? b->size : 4096;
	uint8_t *grown;

	if (b->off > 0 && (b->off == b->len || b->len + n > b->size)) {
		memmove(b->bytes, b->bytes + b->off, b->len - b->off);
		b->len -= b->off;
		b->off = 0;
	}
	while (size < b->len + n)
		size *= 2;
	if (size > b->size) {
		grown = realloc(b->bytes, size);
		if (grown == NULL)
			return -ENOMEM;
		b->bytes = grown;
		b->size = size;
	}
	memcpy(b->bytes + b->len, bytes, n);
	b->len += n;
	return 0;
}

void bus_bytes_take(struct bus_bytes *b, size_t n)
{
	b->off += n;
	if (b->off == b->len)
		bus_bytes_deinit(b);
}

void bus_bytes_deinit(struct bus_bytes *b)
{
	free(b->bytes);
	*b = (struct bus_bytes){.bytes = NULL};
}

static void say(struct bus_bytes *to, const char *type, const char *id, json_t *payload)
{
	size_t n;
	uint8_t *bytes = frame_make(type, id, payload, &n);

	if (bytes != NULL)
		bus_bytes_add(to, bytes, n);
	frame_free(&bytes, bytes != NULL ? n : 0);
}

void bus_say_error(struct bus_bytes *back, const char *type, const char *id, const char *code,
		   const char *message)
{
	say(back, type, id,
	    json_pack("{s:s, s:s, s:b}", "code", code, "message", message, "retryable",
		      strcmp(code, "UNAVAILABLE") == 0 || strcmp(code, "OVERLOADED") == 0));
}

static bool frame_read(const uint8_t *frame, size_t n, struct frame *out)
{
	struct frame_reader reader = {.body = (uint8_t *)frame + 4, .have = n};
	struct alk_err err;

	if (frame_parse(&reader, out, &err) == 0)
		return true;
	frame_clear(out);
	return false;
}

/* Most frames are events: they are not looked into. */
static bool has(const uint8_t *frame, size_t n, const char *text)
{
	return memmem(frame, n, text, strlen(text)) != NULL;
}

/* Lists */

static void sub_drop(struct bus_memory *m, struct bus_memory_sub **at)
{
	struct bus_memory_sub *sub = *at;

	*at = sub->next;
	m->bytes -= sub->n;
	json_decref(sub->many);
	free(sub->ref);
	free(sub);
}

static struct bus_memory_sub *sub_new(struct bus_memory *m, const char *ref, const uint8_t *frame,
				      size_t n)
{
	struct bus_memory_sub *sub = m->bytes + n <= KEPT_MAX ? malloc(sizeof(*sub) + n) : NULL;

	if (sub == NULL)
		return NULL;
	*sub = (struct bus_memory_sub){.ref = strdup(ref), .n = n};
	memcpy(sub->frame, frame, n);
	m->bytes += n;
	if (sub->ref == NULL)
		sub_drop(m, &sub);
	return sub;
}

static struct bus_memory_sub **sub_find(struct bus_memory *m, const char *ref)
{
	struct bus_memory_sub **at = &m->subs;

	while (*at != NULL && strcmp((*at)->ref, ref) != 0)
		at = &(*at)->next;
	return at;
}

static size_t call_size(const struct bus_memory_call *call)
{
	return sizeof(*call) + strlen(call->id) + strlen(call->operation);
}

static void call_drop(struct bus_memory *m, struct bus_memory_call **at)
{
	struct bus_memory_call *call = *at;

	*at = call->next;
	m->bytes -= call_size(call);
	free(call->operation);
	free(call);
}

static struct bus_memory_call **call_find(struct bus_memory_call **list, const char *id)
{
	while (*list != NULL && strcmp((*list)->id, id) != 0)
		list = &(*list)->next;
	return list;
}

static struct bus_memory_call *call_add(struct bus_memory *m, struct bus_memory_call **list,
					const char *id, const char *operation)
{
	struct bus_memory_call *call = m->bytes < KEPT_MAX
					       ? calloc(1, sizeof(*call) + strlen(id) + 1)
					       : NULL;

	if (call == NULL)
		return NULL;
	strcpy(call->id, id);
	call->operation = strdup(operation);
	if (call->operation == NULL) {
		free(call);
		return NULL;
	}
	call->next = *list;
	*list = call;
	m->bytes += call_size(call);
	return call;
}

/* What kind of operation */

static struct bus_memory_op *op_find(const struct bus_memory *m, const char *name)
{
	struct bus_memory_op *op = m->operations;

	while (op != NULL && strcmp(op->name, name) != 0)
		op = op->next;
	return op;
}

/* One answer is all that there is: the calls that have it have ended. */
static void op_is_single(struct bus_memory *m, const char *name)
{
	for (struct bus_memory_call **at = &m->calls; *at != NULL;) {
		if ((*at)->responded && strcmp((*at)->operation, name) == 0)
			call_drop(m, at);
		else
			at = &(*at)->next;
	}
}

static void ops_forget(struct bus_memory *m)
{
	struct bus_memory_op *op;

	while ((op = m->operations) != NULL) {
		m->operations = op->next;
		if (!op->known)
			op_is_single(m, op->name);
		free(op);
	}
	m->n_operations = 0;
}

/* Only the server knows whether a call has one answer or many: it is asked before the first call of
 * an operation, and answers first, unless it has to ask another one. */
static void op_ask(struct bus_memory *m, const char *name, struct bus_bytes *before)
{
	struct bus_memory_op *op;
	char id[48];

	if (op_find(m, name) != NULL || strlen(name) > ID_MAX ||
	    strncmp(name, "/services/", 10) == 0 || strcmp(name, REGISTER) == 0)
		return;
	if (m->n_operations >= OPERATIONS_MAX)
		ops_forget(m);
	op = calloc(1, sizeof(*op) + strlen(name) + 1);
	if (op == NULL)
		return;
	strcpy(op->name, name);
	op->query = ++m->last_query;
	op->next = m->operations;
	m->operations = op;
	m->n_operations++;
	snprintf(id, sizeof(id), QUERY "%" PRIu64, op->query);
	say(before, "call.requested", id,
	    json_pack("{s:s, s:{s:s}}", "operationId", "/services/schema", "input", "name", name));
}

static void op_answered(struct bus_memory *m, const struct frame *f)
{
	uint64_t query = strtoull(f->id + strlen(QUERY), NULL, 10);
	const json_t *output = json_object_get(f->payload, "output");
	const char *type = json_string_value(json_object_get(output, "op_type"));

	for (struct bus_memory_op **at = &m->operations; *at != NULL; at = &(*at)->next) {
		struct bus_memory_op *op = *at;

		if (op->query != query)
			continue;
		if (type != NULL) {
			op->known = true;
			op->many = strcmp(type, "subscription") == 0;
			if (!op->many)
				op_is_single(m, op->name);
			return;
		}
		/* There is none now: ask again at the next call. */
		op_is_single(m, op->name);
		*at = op->next;
		m->n_operations--;
		free(op);
		return;
	}
}

/* Up */

static enum bus_pass up_subscribe(struct bus_memory *m, const struct frame *f, const uint8_t *frame,
				  size_t n, struct bus_bytes *back)
{
	struct bus_memory_sub **at = sub_find(m, f->id), *sub;

	if (*at != NULL)
		return BUS_PASS; /* the server refuses a second one of the name */
	sub = sub_new(m, f->id, frame, n);
	if (sub == NULL) {
		bus_say_error(back, "error", f->id, "OVERLOADED", "too much to remember");
		return BUS_DROP;
	}
	*at = sub;
	return BUS_PASS;
}

static json_t *many_of(const json_t *input)
{
	json_t *many = json_object(), *one;
	size_t i;

	json_array_foreach(json_object_get(input, "operations"), i, one)
	{
		const char *name = json_string_value(json_object_get(one, "name"));
		const char *type = json_string_value(json_object_get(one, "op_type"));

		if (name != NULL && type != NULL && strcmp(type, "subscription") == 0)
			json_object_set_new(many, name, json_true());
	}
	return many;
}

static enum bus_pass up_call(struct bus_memory *m, const struct frame *f, const uint8_t *frame,
			     size_t n, struct bus_bytes *back, struct bus_bytes *before)
{
	const char *operation = json_string_value(json_object_get(f->payload, "operationId"));
	struct bus_memory_sub *spoke;

	if (strncmp(f->id, QUERY, strlen(QUERY)) == 0) {
		bus_say_error(back, "call.error", f->id, "INVALID_INPUT", "id: is reserved");
		return BUS_DROP;
	}
	if (operation == NULL || *call_find(&m->calls, f->id) != NULL)
		return BUS_PASS; /* the server says what is wrong with it */
	if (strcmp(operation, REGISTER) == 0 && m->spoke == NULL) {
		spoke = sub_new(m, f->id, frame, n);
		if (spoke != NULL)
			spoke->many = many_of(json_object_get(f->payload, "input"));
		m->spoke = spoke;
	}
	if (call_add(m, &m->calls, f->id, operation) == NULL) {
		bus_say_error(back, "call.error", f->id, "OVERLOADED", "too much to remember");
		return BUS_DROP;
	}
	op_ask(m, operation, before);
	return BUS_PASS;
}

/* The program answers a call; one of a session that has ended may have the number of another by
 * now. */
static enum bus_pass up_answer(struct bus_memory *m, const struct frame *f)
{
	struct bus_memory_call **at = call_find(&m->serves, f->id);
	bool last = strcmp(f->type, "call.responded") != 0;

	if (*at != NULL) {
		if (last || !(*at)->many)
			call_drop(m, at);
		return BUS_PASS;
	}
	if (strcmp(f->type, "call.aborted") == 0 && *call_find(&m->calls, f->id) != NULL)
		return BUS_PASS;
	return strcmp(f->type, "call.responded") == 0 || strcmp(f->type, "call.completed") == 0 ||
			       strcmp(f->type, "call.error") == 0 ||
			       strcmp(f->type, "call.aborted") == 0
		       ? BUS_DROP
		       : BUS_PASS;
}

enum bus_pass bus_memory_up(struct bus_memory *m, const uint8_t *frame, size_t n,
			    struct bus_bytes *back, struct bus_bytes *before)
{
	enum bus_pass pass = BUS_PASS;
	struct frame f;

	if (!has(frame, n, "__") && !has(frame, n, "call.") && !has(frame, n, "\\"))
		return BUS_PASS;
	/* The server says what is wrong with it, and perhaps closes. */
	if (!frame_read(frame, n, &f))
		return BUS_PASS;
	if (strlen(f.id) > ID_MAX) {
		pass = BUS_PASS;
	} else if (strcmp(f.type, "__subscribe") == 0) {
		pass = up_subscribe(m, &f, frame, n, back);
	} else if (strcmp(f.type, "__unsubscribe") == 0) {
		struct bus_memory_sub **at = sub_find(m, f.id);

		if (*at != NULL)
			sub_drop(m, at);
		call_add(m, &m->leaves, f.id, "");
	} else if (strcmp(f.type, "call.requested") == 0) {
		pass = up_call(m, &f, frame, n, back, before);
	} else if (strncmp(f.type, "call.", 5) == 0) {
		pass = up_answer(m, &f);
	}
	frame_clear(&f);
	return pass;
}

bool bus_memory_knows(const uint8_t *frame, size_t n)
{
	struct frame f;
	bool knows = false;

	if (!has(frame, n, "__") && !has(frame, n, "call.") && !has(frame, n, "\\"))
		return false;
	if (frame_read(frame, n, &f)) {
		knows = strncmp(f.type, "__", 2) == 0 || strncmp(f.type, "call.", 5) == 0;
		frame_clear(&f);
	}
	return knows;
}

/* Down */

static enum bus_pass down_subscribed(struct bus_memory *m, const struct frame *f)
{
	struct bus_memory_sub **at = sub_find(m, f->id);
	struct bus_memory_call **leaves = call_find(&m->leaves, f->id);
	bool again;

	if (*leaves != NULL)
		call_drop(m, leaves);
	if (*at == NULL || (*at)->held)
		return BUS_PASS;
	again = (*at)->again;
	if (strcmp(f->type, "error") == 0) {
		sub_drop(m, at); /* it is told, also what had been granted before */
		return BUS_PASS;
	}
	(*at)->held = true;
	(*at)->again = false;
	return again ? BUS_DROP : BUS_PASS;
}

static enum bus_pass down_registered(struct bus_memory *m, const struct frame *f)
{
	const char *code = json_string_value(json_object_get(f->payload, "code"));
	bool again = m->spoke->again;

	if (strcmp(f->type, "call.responded") == 0) {
		m->spoke->held = true;
		m->spoke->again = false;
		return again ? BUS_DROP : BUS_PASS;
	}
	/* The session before has not ended at the server yet. */
	if (again && code != NULL && strcmp(code, "UNAVAILABLE") == 0) {
		m->register_later = true;
		return BUS_DROP;
	}
	sub_drop(m, &m->spoke);
	return BUS_PASS;
}

static void down_requested(struct bus_memory *m, const struct frame *f)
{
	const char *operation = json_string_value(json_object_get(f->payload, "operationId"));
	struct bus_memory_call *call;

	if (operation == NULL)
		return;
	call = call_add(m, &m->serves, f->id, operation);
	if (call != NULL && m->spoke != NULL)
		call->many = json_object_get(m->spoke->many, operation) != NULL;
}

static enum bus_pass down_answer(struct bus_memory *m, const struct frame *f)
{
	bool responded = strcmp(f->type, "call.responded") == 0;
	struct bus_memory_call **at;
	const struct bus_memory_op *op;
	enum bus_pass pass = BUS_PASS;

	if (strncmp(f->id, QUERY, strlen(QUERY)) == 0) {
		op_answered(m, f);
		return BUS_DROP;
	}
	if (m->spoke != NULL && !m->spoke->held && strcmp(m->spoke->ref, f->id) == 0)
		pass = down_registered(m, f);
	at = call_find(&m->calls, f->id);
	if (*at != NULL) {
		op = op_find(m, (*at)->operation);
		if (responded && op != NULL && !op->known)
			(*at)->responded = true;
		else if (!responded || op == NULL || !op->many)
			call_drop(m, at);
		return pass;
	}
	at = call_find(&m->serves, f->id);
	if (*at != NULL)
		call_drop(m, at); /* call.aborted */
	return pass;
}

enum bus_pass bus_memory_down(struct bus_memory *m, const uint8_t *frame, size_t n)
{
	enum bus_pass pass = BUS_PASS;
	struct frame f;

	/* The server writes these words as they are. */
	if (!has(frame, n, "\"__ok\"") && !has(frame, n, "\"error\"") && !has(frame, n, "\"call."))
		return BUS_PASS;
	if (!frame_read(frame, n, &f))
		return BUS_PASS;
	if (strcmp(f.type, "__ok") == 0 || strcmp(f.type, "error") == 0)
		pass = down_subscribed(m, &f);
	else if (strcmp(f.type, "call.requested") == 0)
		down_requested(m, &f);
	else if (strncmp(f.type, "call.", 5) == 0)
		pass = down_answer(m, &f);
	frame_clear(&f);
	return pass;
}

/* Sessions end and begin */

void bus_memory_lost(struct bus_memory *m, struct bus_bytes *back)
{
	/* A registration that was not answered ends as the call that it is. */
	if (m->spoke != NULL && !m->spoke->held && !m->spoke->again)
		sub_drop(m, &m->spoke);
	/* Also what was answered and might have gone on: better told twice than never. */
	while (m->calls != NULL) {
		bus_say_error(back, "call.error", m->calls->id, "UNAVAILABLE",
			      "the connection to the server was lost");
		call_drop(m, &m->calls);
	}
	while (m->serves != NULL) {
		say(back, "call.aborted", m->serves->id, json_object());
		call_drop(m, &m->serves);
	}
	while (m->leaves != NULL) {
		say(back, "__ok", m->leaves->id, json_object());
		call_drop(m, &m->leaves);
	}
	for (struct bus_memory_sub *sub = m->subs; sub != NULL; sub = sub->next) {
		sub->again |= sub->held;
		sub->held = false;
	}
	if (m->spoke != NULL) {
		m->spoke->again = true;
		m->spoke->held = false;
	}
	m->register_later = false;
	ops_forget(m);
}

int bus_memory_register(struct bus_memory *m, struct bus_bytes *up)
{
	m->register_later = false;
	return m->spoke != NULL ? bus_bytes_add(up, m->spoke->frame, m->spoke->n) : 0;
}

int bus_memory_again(struct bus_memory *m, struct bus_bytes *up)
{
	for (const struct bus_memory_sub *sub = m->subs; sub != NULL; sub = sub->next)
		if (bus_bytes_add(up, sub->frame, sub->n) < 0)
			return -ENOMEM;
	return bus_memory_register(m, up);
}

void bus_memory_expire(struct bus_memory *m, const uint8_t *frame, size_t n, struct bus_bytes *back)
{
	struct bus_memory_sub **at;
	struct frame f;

	if (!frame_read(frame, n, &f)) {
		bus_say_error(back, "error", "", "INVALID_FRAME", "this is no envelope");
		return;
	}
	at = sub_find(m, f.id);
	if (strcmp(f.type, "__unsubscribe") == 0 && *at != NULL) {
		sub_drop(m, at);
		say(back, "__ok", f.id, json_object());
	} else if (strcmp(f.type, "call.requested") == 0) {
		bus_say_error(back, "call.error", f.id, "UNAVAILABLE", AWAY);
	} else if (strncmp(f.type, "call.", 5) != 0) {
		bus_say_error(back, "error", f.id, "UNAVAILABLE", AWAY);
	}
	frame_clear(&f);
}

bool bus_memory_restored(const struct bus_memory *m)
{
	for (const struct bus_memory_sub *sub = m->subs; sub != NULL; sub = sub->next)
		if (sub->again)
			return false;
	return m->spoke == NULL || !m->spoke->again;
}

bool bus_memory_listens(const struct bus_memory *m)
{
	return m->subs != NULL || m->spoke != NULL || m->calls != NULL;
}

void bus_memory_deinit(struct bus_memory *m)
{
	while (m->subs != NULL)
		sub_drop(m, &m->subs);
	if (m->spoke != NULL)
		sub_drop(m, &m->spoke);
	while (m->calls != NULL)
		call_drop(m, &m->calls);
	while (m->serves != NULL)
		call_drop(m, &m->serves);
	while (m->leaves != NULL)
		call_drop(m, &m->leaves);
	ops_forget(m);
}
