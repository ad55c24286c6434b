/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "admin_rpc.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "text.h"

static void ALK_PRINTF(3, 4)
	request_fail(struct alk_admin_request *request, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	request->code = code;
	vsnprintf(request->message, sizeof(request->message), fmt, ap);
	va_end(ap);
}

/* A peer's word in a sentence of ours: harmless and short. */
struct word {
	char text[72];
};

static const char *harmless(struct word *word, const char *text)
{
	alk_text_escape(text, strnlen(text, 64), word->text, sizeof(word->text));
	return word->text;
}

static const struct alk_admin_command *command_find(const struct alk_admin_command *commands,
						    const char *name)
{
	for (; commands->name != NULL; commands++)
		if (strcmp(commands->name, name) == 0)
			return commands;
	return NULL;
}

/* alknet-admin lists the commands of both. */
#define ALK_COMMAND(id_, name_, ...) name_,
static const char *const of_server[] = {
#include "admin_commands.def"
	NULL};
static const char *const of_client[] = {
#include "client_commands.def"
	NULL};
#undef ALK_COMMAND

static bool is_among(const char *const *names, const char *name)
{
	while (*names != NULL && strcmp(*names, name) != 0)
		names++;
	return *names != NULL;
}

static void unknown_method(struct alk_admin_request *request,
			   const struct alk_admin_command *commands, const char *method)
{
	const char *nearest = NULL;
	unsigned best = UINT_MAX;
	struct word word;

	if (is_among(of_client, method) && command_find(commands, "session.list") != NULL) {
		request_fail(request, ALK_ADMIN_UNKNOWN_METHOD,
			     "%s is a command of a client (alknet connect); this is a server",
			     method);
		return;
	}
	if (is_among(of_server, method) && command_find(commands, "reconnect") != NULL) {
		request_fail(request, ALK_ADMIN_UNKNOWN_METHOD,
			     "%s is a command of a server (alknet serve); this is a client",
			     method);
		return;
	}
	for (; commands->name != NULL; commands++) {
		unsigned distance = alk_text_distance(commands->name, method);

		if (distance < best) {
			best = distance;
			nearest = commands->name;
		}
	}
	if (nearest != NULL && alk_text_near(best, strlen(method)))
		request_fail(request, ALK_ADMIN_UNKNOWN_METHOD,
			     "there is no command \"%s\"; did you mean %s?",
			     harmless(&word, method), nearest);
	else
		request_fail(request, ALK_ADMIN_UNKNOWN_METHOD,
			     "there is no command \"%s\"; \"alknet-admin help\" lists them",
			     harmless(&word, method));
}

static bool param_fits(const struct alk_admin_param *param, const json_t *value)
{
	switch (param->type) {
	case 's':
		return json_is_string(value) && json_string_length(value) <= 255;
	case 't':
		return json_is_string(value) && json_string_length(value) <= 16384;
	case 'i':
		return json_is_integer(value) && json_integer_value(value) >= 0;
	case 'b':
		return json_is_boolean(value);
	default:
		return false;
	}
}

static const char *param_kind(char type)
{
	switch (type) {
	case 's':
		return "text of at most 255 bytes";
	case 't':
		return "text of at most 16384 bytes";
	case 'i':
		return "a whole number that is not negative";
	default:
		return "true or false";
	}
}

static const struct alk_admin_param *param_find(const struct alk_admin_command *command,
						const char *name)
{
	for (const struct alk_admin_param *param = command->params; param->name != NULL; param++)
		if (strcmp(param->name, name) == 0)
			return param;
	return NULL;
}

static void check_params(struct alk_admin_request *request, const struct alk_admin_command *command,
			 json_t *params)
{
	struct word word;
	const char *name;
	json_t *value;

	if (!json_is_object(params)) {
		request_fail(request, ALK_ADMIN_BAD_PARAMS,
			     "params: must be an object with parameters by name");
		return;
	}
	json_object_foreach(params, name, value)
	{
		const struct alk_admin_param *param = param_find(command, name);

		if (param == NULL) {
			request_fail(request, ALK_ADMIN_BAD_PARAMS,
				     "%s: there is no parameter \"%s\"", command->name,
				     harmless(&word, name));
			return;
		}
		if (!param_fits(param, value)) {
			request_fail(request, ALK_ADMIN_BAD_PARAMS, "%s: %s must be %s",
				     command->name, param->name, param_kind(param->type));
			return;
		}
	}
	for (const struct alk_admin_param *param = command->params; param->name != NULL; param++) {
		if (param->required && json_object_get(params, param->name) == NULL) {
			request_fail(request, ALK_ADMIN_BAD_PARAMS,
				     "%s: the parameter %s is missing (%s)", command->name,
				     param->name, param->help);
			return;
		}
	}
}

/* The envelope: what JSON-RPC itself asks for. */
static bool check_envelope(struct alk_admin_request *request, json_t *root)
{
	static const char *const members[] = {"jsonrpc", "id", "method", "params"};
	const char *version = json_string_value(json_object_get(root, "jsonrpc")), *name;
	json_t *id = json_object_get(root, "id"), *value;
	struct word word;

	if (id != NULL && !json_is_string(id) && !json_is_integer(id) && !json_is_null(id)) {
		request_fail(request, ALK_ADMIN_INVALID_REQUEST,
			     "id: must be text, a whole number or null");
		return false;
	}
	request->id = json_incref(id);
	if (version == NULL || strcmp(version, "2.0") != 0) {
		request_fail(request, ALK_ADMIN_INVALID_REQUEST, "jsonrpc: must be \"2.0\"");
		return false;
	}
	if (!json_is_string(json_object_get(root, "method"))) {
		request_fail(request, ALK_ADMIN_INVALID_REQUEST,
			     "method: must be the name of a command");
		return false;
	}
	json_object_foreach(root, name, value)
	{
		bool known = false;

		for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
			known |= strcmp(name, members[i]) == 0;
		if (!known) {
			request_fail(request, ALK_ADMIN_INVALID_REQUEST,
				     "\"%s\": a request has no such member", harmless(&word, name));
			return false;
		}
	}
	return true;
}

static void check_request(struct alk_admin_request *request,
			  const struct alk_admin_command *commands, json_t *root)
{
	const struct alk_admin_command *command;
	const char *method;
	json_t *params;

	if (json_is_array(root)) {
		request_fail(request, ALK_ADMIN_INVALID_REQUEST,
			     "batches are not supported: send one request a line");
		return;
	}
	if (!json_is_object(root)) {
		request_fail(request, ALK_ADMIN_INVALID_REQUEST, "a request must be an object");
		return;
	}
	if (!check_envelope(request, root))
		return;
	method = json_string_value(json_object_get(root, "method"));
	command = command_find(commands, method);
	if (command == NULL) {
		unknown_method(request, commands, method);
		return;
	}
	params = json_object_get(root, "params");
	params = params != NULL ? json_incref(params) : json_object();
	check_params(request, command, params);
	if (request->code == 0) {
		request->command = command;
		request->params = params;
	} else {
		json_decref(params);
	}
}

void alk_admin_request_parse(const char *line, size_t len, const struct alk_admin_command *commands,
			     struct alk_admin_request *request)
{
	json_error_t error;
	json_t *root;

	*request = (struct alk_admin_request){0};
	root = json_loadb(line, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
	if (root == NULL && error.text[0] == '\0') {
		/* jansson has a text for all else. */
		request_fail(request, ALK_ADMIN_FAILED, "out of memory");
		request->id = json_null();
	} else if (root == NULL) {
		char text[sizeof(error.text) * 4];

		alk_text_escape(error.text, strlen(error.text), text, sizeof(text));
		request_fail(request, ALK_ADMIN_PARSE_ERROR, "this is not JSON: %.400s", text);
	} else {
		check_request(request, commands, root);
		json_decref(root);
	}
	/* What is no request cannot be told from one that wants no answer: it gets one. */
	if (request->id == NULL &&
	    (request->code == ALK_ADMIN_PARSE_ERROR || request->code == ALK_ADMIN_INVALID_REQUEST))
		request->id = json_null();
}

void alk_admin_request_clear(struct alk_admin_request *request)
{
	json_decref(request->id);
	json_decref(request->params);
	*request = (struct alk_admin_request){0};
}
