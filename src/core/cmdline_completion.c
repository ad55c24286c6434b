/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "cmdline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "completion.h"
#include "conf_private.h"

/* alknet's own completion: the commands, and for each the flags of its role. */

#define COMMANDS_MAX 16

struct script {
	struct alk_completion_command commands[COMMANDS_MAX + 2]; /* and in_place */
	struct alk_completion_flag *flags[COMMANDS_MAX];
	char *words[256]; /* of ENUMs, made from their choices */
	size_t n_commands, n_words;
};

static const char *words_of(struct script *script, const char *choices)
{
	char *words;

	if (script->n_words == sizeof(script->words) / sizeof(script->words[0]) ||
	    (words = strdup(choices)) == NULL)
		return "";
	script->words[script->n_words++] = words;
	for (char *c = words; *c != '\0'; c++)
		*c = *c == '|' ? ' ' : *c;
	return words;
}

static enum alk_completion_kind kind_of(const struct alk_option *option)
{
	if (option->choices != NULL || option->type == ALK_OPT_ENUM)
		return ALK_COMPLETE_WORDS;
	if (strcmp(option->name, "user") == 0)
		return ALK_COMPLETE_USER;
	if (option->arg != NULL && strcmp(option->arg, "DIR") == 0)
		return ALK_COMPLETE_DIRECTORY;
	return option->type == ALK_OPT_FILE || option->type == ALK_OPT_PATH ? ALK_COMPLETE_FILE
									    : ALK_COMPLETE_NOTHING;
}

static void flag_fill(struct script *script, const struct alk_option *option, bool no,
		      struct alk_completion_flag *flag)
{
	char name[64];

	alk_cmdline_flag(option, name, sizeof(name));
	snprintf(flag->name, sizeof(flag->name), no ? "--no-%.58s" : "%s", no ? name + 2 : name);
	flag->arg = option->type != ALK_OPT_BOOL ? (option->arg != NULL ? option->arg : "VALUE")
						 : NULL;
	flag->kind = kind_of(option);
	flag->words = option->choices != NULL ? words_of(script, option->choices) : NULL;
	flag->help = option->help;
}

/* Both roles may have an option of one name. */
static bool has_flag(const struct alk_completion_command *command, const struct alk_option *option)
{
	char name[64];

	alk_cmdline_flag(option, name, sizeof(name));
	for (size_t i = 0; i < command->n_flags; i++)
		if (strcmp(command->flags[i].name, name) == 0)
			return true;
	return false;
}

/* What a value of a command's own flag may be. */
static const char *words_of_flag(const struct alk_flag *flag)
{
	if (strcmp(flag->name, "question") == 0)
		return "on_link on_auth on_open on_listen";
	return flag->arg != NULL && strcmp(flag->arg, "last") == 0 ? flag->arg : NULL;
}

/* Of a command that has flags of its own. */
static void flags_of_list(const struct alk_flag *list, struct alk_completion_command *out,
			  struct alk_completion_flag *flags, size_t max)
{
	for (; list != NULL && list->name != NULL && out->n_flags < max; list++) {
		struct alk_completion_flag *flag;

		if (strcmp(list->name, "help") == 0)
			continue; /* the program's */
		flag = &flags[out->n_flags++];
		snprintf(flag->name, sizeof(flag->name), "--%.60s", list->name);
		flag->arg = list->arg;
		flag->words = words_of_flag(list);
		flag->kind = flag->words != NULL ? ALK_COMPLETE_WORDS
			     : list->arg != NULL && strcmp(list->arg, "FILE") == 0
				     ? ALK_COMPLETE_FILE
				     : ALK_COMPLETE_NOTHING;
		flag->help = list->help;
		flag->of = list->of;
	}
}

static int command_add(struct script *script, const struct alk_command *command)
{
	unsigned role = command->role == ALK_ROLE_CHECK ? ALK_OPT_SERVE | ALK_OPT_CONNECT
							: alk_conf_role_flag(command->role);
	struct alk_completion_command *out = &script->commands[script->n_commands];
	struct alk_completion_flag *flags;
	size_t n = 0;

	while (alk_conf_options[n].type != ALK_OPT_END)
		n++;
	flags = calloc(n * 2 + 8, sizeof(*flags));
	if (flags == NULL)
		return -ENOMEM;
	script->flags[script->n_commands++] = flags;
	*out = (struct alk_completion_command){.name = command->name,
					       .help = command->summary,
					       .flags = flags};
	if (command->role == ALK_ROLE_NONE) {
		flags_of_list(command->flags, out, flags, n * 2);
		return 0;
	}
	flags[out->n_flags++] = (struct alk_completion_flag){.name = "--config",
							     .arg = "FILE",
							     .kind = ALK_COMPLETE_FILE,
							     .help = "read a configuration file"};
	flags[out->n_flags++] = (struct alk_completion_flag){.name = "-c",
							     .arg = "FILE",
							     .kind = ALK_COMPLETE_FILE,
							     .help = "read a configuration file"};
	if (command->role == ALK_ROLE_CHECK) {
		flags[out->n_flags++] =
			(struct alk_completion_flag){.name = "--connect",
						     .help = "the file is one for alknet connect"};
		flags[out->n_flags++] = (struct alk_completion_flag){
			.name = "--dump-defaults",
			.help = "print a configuration file with every option and its default"};
	}
	for (const struct alk_option *o = alk_conf_options; o->type != ALK_OPT_END; o++) {
		if ((o->flags & role) == 0 || !alk_cmdline_is_flag(o) || has_flag(out, o))
			continue;
		flag_fill(script, o, false, &flags[out->n_flags++]);
		if (o->type == ALK_OPT_BOOL)
			flag_fill(script, o, true, &flags[out->n_flags++]);
	}
	return 0;
}

/* What the first argument of a command may be. */
static const struct {
	const char *command, *words;
} arguments[] = {
	{"completion", ALK_COMPLETION_SHELLS},
	{"policy", "eval test"},
	{"secret", "new"},
};

/* They stand where a command does. */
static const struct alk_completion_command in_place[] = {
	{.name = "--version", .help = "Print versions."},
	{.name = "--help-man", .help = "Print the manual page."},
};

#define IN_PLACE (sizeof(in_place) / sizeof(in_place[0]))

int alk_cmdline_completion(const char *shell, FILE *out)
{
	static const struct alk_completion_flag help[] = {{.name = "--help", .help = "print help"}};
	struct script script = {.n_commands = 0};
	struct alk_completion completion = {.program = "alknet",
					    .commands = script.commands,
					    .flags = help,
					    .n_flags = 1};
	int rc = 0;

	for (const struct alk_command *c = alk_commands; c->name != NULL && rc == 0; c++)
		if (c->summary != NULL && script.n_commands < COMMANDS_MAX)
			rc = command_add(&script, c);
	for (size_t i = 0; i < script.n_commands; i++)
		for (size_t k = 0; k < sizeof(arguments) / sizeof(arguments[0]); k++)
			if (strcmp(script.commands[i].name, arguments[k].command) == 0)
				script.commands[i].words = arguments[k].words;
	memcpy(script.commands + script.n_commands, in_place, sizeof(in_place));
	completion.n_commands = script.n_commands + IN_PLACE;
	if (rc == 0)
		rc = alk_completion_print(&completion, shell, out);
	for (size_t i = 0; i < script.n_commands; i++)
		free(script.flags[i]);
	for (size_t i = 0; i < script.n_words; i++)
		free(script.words[i]);
	return rc;
}
