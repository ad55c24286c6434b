/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The part of docs/ADMIN_API.md that is made from the command table: "alknet-admin --help-api". */
#include "admin_tool.h"

#include <errno.h>
#include <string.h>

static const struct {
	const char *name, *result;
} results[] = {
#define ALK_RESULT(name_, result_) {(name_), (result_)},
#include "admin_results.def"
#undef ALK_RESULT
};

#define RESULTS (sizeof(results) / sizeof(results[0]))

static const char *type_of(const struct alk_admin_param *param)
{
	switch (param->type) {
	case 's':
		return "text";
	case 't':
		return "long text";
	case 'i':
		return "number";
	default:
		return "boolean";
	}
}

static const char *result_of(const struct alk_admin_command *command)
{
	for (size_t i = 0; i < RESULTS; i++)
		if (strcmp(results[i].name, command->name) == 0)
			return results[i].result;
	return NULL;
}

static bool can_be_wrong(const struct alk_admin_command *command)
{
	static const char *const never[] = {"status",	 "session.list", "channel.list",
					    "metrics",	 "drain",	 "shutdown",
					    "keys.list", "watch",	 "health"};

	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
		if (strcmp(never[i], command->name) == 0)
			return false;
	return true;
}

static void command_doc(FILE *out, const struct alk_admin_command *command, const char *result)
{
	fprintf(out, "### `%s`\n\n%s%s\n\n", command->name, command->help,
		command->changes ? " Logged with the uid and pid of who asked." : "");
	for (const struct alk_admin_param *p = command->params; p->name != NULL; p++)
		fprintf(out, "- `%s`, %s%s: %s\n", p->name, type_of(p),
			p->required ? "" : ", may be left out", p->help);
	if (command->params[0].name != NULL)
		fputc('\n', out);
	fprintf(out, "Result: %s.\nErrors: -32602%s.\n\n", result,
		can_be_wrong(command) ? ", -32000" : "");
}

int admin_doc(FILE *out)
{
	for (const struct alk_admin_command *c = admin_commands; c->name != NULL; c++) {
		const char *result = result_of(c);

		if (result == NULL) {
			admin_fail(0, "%s has no row in admin_results.def", c->name);
			return -ENOENT;
		}
		command_doc(out, c, result);
	}
	return 0;
}
