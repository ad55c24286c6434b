/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A line of the admin socket: it is a command of the table whose parameters fit, or an error with a
 * sentence in printable text; what is answered has an id. */
#include "admin_rpc.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static const struct alk_admin_command commands[] = {
#define ALK_COMMAND ALK_ADMIN_ROW
#include "admin_commands.def"
#undef ALK_COMMAND
	{0},
};

static void require(int yes)
{
	if (!yes)
		abort();
}

static const struct alk_admin_param *param_of(const struct alk_admin_command *command,
					      const char *name)
{
	for (const struct alk_admin_param *p = command->params; p->name != NULL; p++)
		if (strcmp(p->name, name) == 0)
			return p;
	return NULL;
}

static void check_good(const struct alk_admin_request *request)
{
	const struct alk_admin_command *command = request->command;
	const char *name;
	json_t *value;

	require(command >= commands && command->name != NULL && json_is_object(request->params));
	json_object_foreach(request->params, name, value)
	{
		const struct alk_admin_param *param = param_of(command, name);

		require(param != NULL);
		require(param->type != 'i' ||
			(json_is_integer(value) && json_integer_value(value) >= 0));
		require(param->type != 's' || json_string_length(value) <= 255);
		require(param->type != 'b' || json_is_boolean(value));
	}
	for (const struct alk_admin_param *p = command->params; p->name != NULL; p++)
		require(!p->required || json_object_get(request->params, p->name) != NULL);
}

static void check_bad(const struct alk_admin_request *request)
{
	require(request->code == ALK_ADMIN_PARSE_ERROR ||
		request->code == ALK_ADMIN_INVALID_REQUEST ||
		request->code == ALK_ADMIN_UNKNOWN_METHOD || request->code == ALK_ADMIN_BAD_PARAMS);
	require(request->command == NULL && request->params == NULL && request->message[0] != '\0');
	for (const char *c = request->message; *c != '\0'; c++)
		require(*c >= ' ' && *c < 0x7f);
	require(request->id != NULL || request->code == ALK_ADMIN_UNKNOWN_METHOD ||
		request->code == ALK_ADMIN_BAD_PARAMS);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct alk_admin_request request;

	if (n > ALK_ADMIN_LINE_MAX)
		return 0;
	alk_admin_request_parse((const char *)bytes, n, commands, &request);
	require(request.id == NULL || json_is_string(request.id) || json_is_integer(request.id) ||
		json_is_null(request.id));
	if (request.code == 0)
		check_good(&request);
	else
		check_bad(&request);
	alk_admin_request_clear(&request);
	return 0;
}
