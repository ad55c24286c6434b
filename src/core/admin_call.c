/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "admin_private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "admin_rpc.h"

#define CALL_MAGIC 0x6c6c6163u /* "call" */

void admin_call_free(struct alk_admin_call **callp)
{
	struct alk_admin_call *call = *callp;

	*callp = NULL;
	if (call == NULL)
		return;
	if (call->client != NULL) {
		*call->prev = call->next;
		if (call->next != NULL)
			call->next->prev = call->prev;
		call->client->ncalls--;
		if (call->closed != NULL)
			call->client->nstreams--;
		/* Lines that had to wait, maybe; not inside whatever answers this call. */
		if (call->client->in_len > 0)
			alk_task_queue(call->client->admin->loop, &call->client->more);
		admin_client_watch(call->client);
	}
	json_decref(call->id);
	call->magic = 0;
	free(call);
}

struct alk_admin_call *admin_call_new(struct admin_client *c, json_t *id)
{
	struct alk_admin_call *call = calloc(1, sizeof(*call));

	if (call == NULL)
		return NULL;
	call->magic = CALL_MAGIC;
	call->client = c;
	call->id = json_incref(id);
	call->next = c->calls;
	call->prev = &c->calls;
	if (call->next != NULL)
		call->next->prev = &call->next;
	c->calls = call;
	c->ncalls++;
	return call;
}

void alk_admin_result(struct alk_admin_call **callp, json_t *result)
{
	struct alk_admin_call *call = *callp;

	*callp = NULL;
	if (call->answer != NULL)
		call->answer(call->answer_user, result, NULL);
	if (call->client != NULL && call->id != NULL) {
		json_t *message = json_pack("{s:s, s:O, s:O}", "jsonrpc", "2.0", "id", call->id,
					    "result", result);

		if (message != NULL)
			admin_client_write(call->client, message);
		else
			admin_client_error(call->client, call->id, ALK_ADMIN_FAILED,
					   "out of memory");
		json_decref(message);
	}
	json_decref(result);
	admin_call_free(&call);
}

static void client_text(struct admin_client *c, json_t *id, const char *result)
{
	static const char before[] = "{\"jsonrpc\":\"2.0\",\"id\":", between[] = ",\"result\":";
	size_t n = json_dumpb(id, NULL, 0, JSON_ENCODE_ANY);
	size_t need = sizeof(before) - 1 + n + sizeof(between) - 1 + strlen(result) + 1;
	char *out = admin_client_out(c, need);

	if (out == NULL)
		return;
	out = stpcpy(out, before);
	out += json_dumpb(id, out, n, JSON_ENCODE_ANY);
	out = stpcpy(stpcpy(out, between), result);
	*out = '}';
	admin_client_wrote(c, need);
}

void alk_admin_result_text(struct alk_admin_call **callp, const char *result)
{
	struct alk_admin_call *call = *callp;

	/* The program itself asks in values. */
	if (call->answer != NULL) {
		alk_admin_result(callp, json_loads(result, JSON_DECODE_ANY, NULL));
		return;
	}
	*callp = NULL;
	if (call->client != NULL && call->id != NULL)
		client_text(call->client, call->id, result);
	admin_call_free(&call);
}

void alk_admin_error(struct alk_admin_call **callp, int code, const char *fmt, ...)
{
	struct alk_admin_call *call = *callp;
	char text[512];
	va_list ap;

	*callp = NULL;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (call->answer != NULL)
		call->answer(call->answer_user, NULL, text);
	if (call->client != NULL && call->id != NULL)
		admin_client_error(call->client, call->id, code, text);
	admin_call_free(&call);
}

void alk_admin_stream(struct alk_admin_call *call,
		      void (*closed)(void *user, struct alk_admin_call *call), void *user)
{
	json_t *message = json_pack("{s:s, s:O?, s:b}", "jsonrpc", "2.0", "id", call->id, "result",
				    1);

	call->closed = closed;
	call->user = user;
	if (call->answer != NULL)
		call->answer(call->answer_user, json_true(), NULL);
	if (call->client != NULL) {
		call->client->nstreams++;
		if (call->id != NULL && message != NULL)
			admin_client_write(call->client, message);
	}
	json_decref(message);
}

void alk_admin_event(struct alk_admin_call *call, json_t *event)
{
	json_t *message = json_pack("{s:s, s:s, s:O}", "jsonrpc", "2.0", "method", "event",
				    "params", event);

	if (call->answer != NULL)
		call->answer(call->answer_user, event, NULL);
	if (message != NULL && call->client != NULL)
		admin_client_write(call->client, message);
	json_decref(message);
	json_decref(event);
}

/* The same checks as for a line of the socket. */
int alk_admin_local(const struct alk_admin_command *commands, void *commands_user,
		    const char *method, json_t *params, alk_admin_local_fn *answer, void *user)
{
	json_t *line = json_pack("{s:s, s:i, s:s, s:o}", "jsonrpc", "2.0", "id", 1, "method",
				 method, "params", params != NULL ? params : json_object());
	char *text = line != NULL ? json_dumps(line, JSON_COMPACT) : NULL;
	struct alk_admin_call *call = text != NULL ? calloc(1, sizeof(*call)) : NULL;
	struct alk_admin_request request;

	json_decref(line);
	if (call == NULL) {
		free(text);
		return -ENOMEM;
	}
	call->magic = CALL_MAGIC;
	call->answer = answer;
	call->answer_user = user;
	alk_admin_request_parse(text, strlen(text), commands, &request);
	explicit_bzero(text, strlen(text)); /* a phrase, maybe */
	free(text);
	if (request.code != 0)
		alk_admin_error(&call, request.code, "%s", request.message);
	else
		request.command->run(commands_user, call, request.params);
	alk_admin_request_clear(&request);
	return 0;
}

void alk_admin_local_end(struct alk_admin_call *call)
{
	call->answer = NULL;
	call->closed(call->user, call);
	admin_call_free(&call);
}
