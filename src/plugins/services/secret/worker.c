/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "crypt.h"

#define BUDGET (SECRET_MESSAGE_MAX * 2)

int secret_worker_new(const struct alk_plugin_env *env, void **state, struct alk_err *err)
{
	struct secret_worker *worker = calloc(1, sizeof(*worker));

	if (worker == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	worker->magic = SECRET_WORKER_MAGIC;
	worker->half = env->half;
	worker->loop = env->loop;
	*state = worker;
	if (secret_operations_offer(worker, env->bus, err) < 0) {
		secret_worker_free(state);
		return -EINVAL;
	}
	return 0;
}

static void ask_free(struct secret_ask **at)
{
	struct secret_ask *ask = *at;

	*at = ask->next;
	free(ask->id);
	free(ask);
}

void secret_worker_free(void **state)
{
	struct secret_worker *worker = *state;

	*state = NULL;
	secret_operations_withdraw(worker);
	while (worker->asks != NULL)
		ask_free(&worker->asks);
	secret_parts_clear(&worker->parts);
	worker->magic = 0;
	free(worker);
}

/* The budget */

bool secret_channel_reserve(struct secret_channel *c, size_t bytes)
{
	struct secret_worker *worker = c->worker;

	c->waiting = bytes > BUDGET - worker->used;
	if (c->waiting)
		return false;
	worker->used += bytes;
	c->reserved += bytes;
	return true;
}

static void budget_release(struct secret_worker *worker, size_t bytes)
{
	worker->used -= bytes;
	for (struct secret_channel *c = worker->channels; bytes > 0 && c != NULL; c = c->next) {
		if (!c->waiting)
			continue;
		c->waiting = false;
		alk_channel_resume(c->channel);
	}
}

/* Questions and answers */

bool secret_channel_may(const struct secret_channel *c, enum secret_op op)
{
	return alk_identity_has_scope(alk_channel_identity(c->channel), secret_op_scope(op));
}

/* Takes `ask`, which is in its place before it is asked: so nothing can come that is not
 * awaited. */
static int ask_send(struct secret_worker *worker, struct secret_ask *ask, const char *identity,
		    const uint8_t *request, size_t n)
{
	struct secret_buf whole = {0};
	int rc = -ENOMEM;

	secret_put_bytes(&whole, identity, strlen(identity));
	secret_buf_add(&whole, request, n);
	ask->number = ++worker->last;
	ask->next = worker->asks;
	worker->asks = ask;
	if (!whole.failed)
		rc = secret_parts_send(worker->half, 0, ask->number, whole.bytes, whole.len);
	secret_buf_wipe(&whole);
	if (rc < 0)
		ask_free(&worker->asks);
	return rc;
}

int secret_channel_ask(struct secret_channel *c, enum secret_op op, const uint8_t *request,
		       size_t n, const char *id)
{
	struct secret_ask *ask = calloc(1, sizeof(*ask));
	size_t reserved = c->reserved;
	int rc;

	if (ask == NULL)
		return -ENOMEM;
	ask->id = id != NULL ? strdup(id) : NULL;
	if (id != NULL && ask->id == NULL) {
		free(ask);
		return -ENOMEM;
	}
	ask->channel = c;
	ask->op = op;
	ask->bytes = reserved;
	c->asks++;
	c->reserved = 0;
	rc = ask_send(c->worker, ask, alk_channel_identity(c->channel)->id, request, n);
	if (rc < 0) {
		c->asks--;
		c->reserved = reserved;
	}
	return rc;
}

int secret_operation_ask(struct secret_worker *worker, struct alk_operation_call *call,
			 const char *identity, enum secret_op op, const struct secret_buf *request)
{
	size_t bytes = request->len > SECRET_SMALL ? request->len : 0;
	struct secret_ask *ask;
	int rc;

	if (bytes > BUDGET - worker->used)
		return -ENOBUFS;
	ask = calloc(1, sizeof(*ask));
	if (ask == NULL)
		return -ENOMEM;
	ask->call = call;
	ask->op = op;
	ask->bytes = bytes;
	worker->used += bytes;
	rc = ask_send(worker, ask, identity, request->bytes, request->len);
	if (rc < 0)
		worker->used -= bytes;
	return rc;
}

static void channel_answer(struct secret_channel *c, const struct secret_ask *ask,
			   const uint8_t *bytes, size_t n)
{
	bool was_full = c->asks == SECRET_CALLS_MAX;

	c->asks--;
	c->port->answer(c, ask, bytes, n);
	if (was_full)
		alk_channel_resume(c->channel);
}

void secret_worker_message(struct secret_worker *worker, const uint8_t *bytes, size_t n)
{
	struct secret_parts *parts = &worker->parts;
	struct secret_ask **at = &worker->asks;

	if (secret_parts_take(parts, bytes, n) != 1)
		return;
	while (*at != NULL && (*at)->number != parts->number)
		at = &(*at)->next;
	if (*at != NULL) {
		struct secret_ask *ask = *at;

		*at = ask->next;
		ask->next = NULL;
		if (ask->channel != NULL)
			channel_answer(ask->channel, ask, parts->buf.bytes, parts->buf.len);
		if (ask->call != NULL)
			secret_operation_answer(ask, parts->buf.bytes, parts->buf.len);
		budget_release(worker, ask->bytes);
		ask_free(&ask);
	}
	secret_parts_clear(parts);
	secret_stack_wipe();
}

/* A channel's end: what it asked for comes and is thrown away. */
static void channel_forget(struct secret_channel *c)
{
	size_t reserved = c->reserved;

	for (struct secret_ask *ask = c->worker->asks; ask != NULL; ask = ask->next)
		if (ask->channel == c)
			ask->channel = NULL;
	*c->prev = c->next;
	if (c->next != NULL)
		c->next->prev = c->prev;
	alk_timer_free(&c->timer);
	frame_reader_clear(&c->frames);
	secret_buf_wipe(&c->in);
	secret_buf_wipe(&c->out);
	c->magic = 0;
	budget_release(c->worker, reserved);
	free(c);
}

void secret_channel_close(void *user, struct alk_channel *channel)
{
	(void)channel;
	channel_forget(user);
}
