/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The operations on the bus (alknet/bus.h): what port 0 does, for who speaks with alknet-control.
 * The bus has looked at the scope. */
#include "worker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char path_schema[] =
	"{\"type\":\"object\",\"required\":[\"path\"],\"properties\":{\"path\":{\"type\":\"string\"}}}";
static const char password_schema[] =
	"{\"type\":\"object\",\"required\":[\"path\",\"length\"],\"properties\":"
	"{\"path\":{\"type\":\"string\"},\"length\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":1024}}}";

static const char *input_schema(enum secret_op op)
{
	switch (op) {
	case SECRET_DERIVE_ED25519:
	case SECRET_DERIVE_ENCRYPTION_KEY:
	case SECRET_DERIVE_ETHEREUM_KEY:
		return path_schema;
	case SECRET_DERIVE_PASSWORD:
		return password_schema;
	default:
		return NULL;
	}
}

/* What is dumped may be a phrase or a password. */
static void text_wipe(char *text)
{
	if (text != NULL)
		explicit_bzero(text, strlen(text));
	free(text);
}

static void operation_ask(struct secret_operation *o, struct alk_operation_call *call,
			  const char *identity, struct secret_call *parsed)
{
	struct secret_buf request = {0};

	secret_request_encode(&request, &parsed->request);
	if (request.failed || request.len > SECRET_MESSAGE_MAX ||
	    secret_operation_ask(o->worker, call, identity, parsed->op, &request) < 0)
		alk_operation_fail(&call, "UNAVAILABLE", "the supervisor cannot be asked just now");
	secret_buf_wipe(&request);
}

static void on_call(void *user, struct alk_operation_call *call,
		    const struct alk_operation_caller *caller, const char *input)
{
	struct secret_operation *o = user;
	struct secret_call_error error = {0};
	struct secret_call parsed = {.op = SECRET_OPS};
	json_t *payload = json_pack("{s:s, s:o}", "operationId", secret_op_bus(o->op), "input",
				    json_loads(input, JSON_DECODE_ANY, NULL));

	if (payload == NULL)
		alk_operation_fail(&call, "OVERLOADED", "out of memory");
	else if (secret_call_parse(&parsed, payload, secret_call_now(), &error) < 0)
		alk_operation_fail(&call, error.code, error.err.text);
	else
		operation_ask(o, call, caller->identity != NULL ? caller->identity->id : "admin",
			      &parsed);
	secret_call_clear(&parsed);
	json_decref(payload);
}

static void on_abort(void *user, struct alk_operation_call *call)
{
	const struct secret_operation *o = user;

	for (struct secret_ask *ask = o->worker->asks; ask != NULL; ask = ask->next)
		if (ask->call == call)
			ask->call = NULL;
}

void secret_operation_answer(struct secret_ask *ask, const uint8_t *bytes, size_t n)
{
	struct alk_operation_call *call = ask->call;
	struct secret_answer answer;
	char text[640], *json;
	json_t *output;
	bool retryable;

	ask->call = NULL;
	if (secret_answer_decode(bytes, n, ask->op, &answer) < 0) {
		alk_operation_fail(&call, "INTERNAL", "the answer could not be read");
	} else if (!answer.good) {
		snprintf(text, sizeof(text), "%s%s%.*s", secret_fault_name(answer.fault),
			 answer.text.len > 0 ? ": " : "", (int)answer.text.len,
			 (const char *)answer.text.bytes);
		alk_operation_fail(&call, secret_call_code(answer.fault, &retryable), text);
	} else {
		output = secret_call_output(ask->op, &answer);
		json = output != NULL ? json_dumps(output, JSON_COMPACT) : NULL;
		json_decref(output);
		if (json != NULL)
			alk_operation_respond(&call, json);
		else
			alk_operation_fail(&call, "OVERLOADED", "out of memory");
		text_wipe(json);
	}
}

int secret_operations_offer(struct secret_worker *worker, struct alk_bus *bus, struct alk_err *err)
{
	int rc = 0;

	for (unsigned op = 0; bus != NULL && rc == 0 && op < SECRET_OPS; op++) {
		struct secret_operation *o = &worker->operations[op];
		const char *scopes[] = {secret_op_scope(op), NULL};
		struct alk_operation_spec spec = {
			.size = sizeof(spec),
			.name = secret_op_bus(op),
			.type = op == SECRET_LOCK || op == SECRET_UNLOCK ? "mutation" : "query",
			.input_schema = input_schema(op),
			.scopes = scopes,
			.call = on_call,
			.abort = on_abort,
		};

		o->worker = worker;
		o->op = op;
		rc = alk_bus_offer(bus, &spec, o, &o->offered, err);
	}
	return rc;
}

void secret_operations_withdraw(struct secret_worker *worker)
{
	for (unsigned op = 0; op < SECRET_OPS; op++)
		alk_bus_withdraw(&worker->operations[op].offered);
}
