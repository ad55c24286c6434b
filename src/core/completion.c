/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "completion.h"

#include <errno.h>
#include <string.h>

static void head(FILE *out, const struct alk_completion *c, const char *shell)
{
	fprintf(out, "# %s completion for %s, made by \"%s completion %s\" from its own tables.\n",
		shell, c->program, c->program, shell);
}

/* A name in a shell function: letters, digits and underscores. */
static void function_name(FILE *out, const char *program)
{
	fputc('_', out);
	for (; *program != '\0'; program++)
		fputc(*program == '-' ? '_' : *program, out);
}

/* How many flags stand together that go with the same argument. */
static size_t flags_together(const struct alk_completion_flag *flags, size_t n)
{
	size_t together = 1;

	while (together < n && (flags->of == NULL) == (flags[together].of == NULL) &&
	       (flags->of == NULL || strcmp(flags->of, flags[together].of) == 0))
		together++;
	return together;
}

/* --- bash ------------------------------------------------------------------------------------- */

static void bash_values(FILE *out, const char *command, const struct alk_completion_flag *flag)
{
	static const char *const how[] = {
		[ALK_COMPLETE_NOTHING] = "",
		[ALK_COMPLETE_FILE] =
			"compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")",
		[ALK_COMPLETE_DIRECTORY] =
			"compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- \"$cur\")",
		[ALK_COMPLETE_USER] = "mapfile -t COMPREPLY < <(compgen -u -- \"$cur\")",
	};

	if (flag->arg == NULL)
		return;
	fprintf(out, "\t%s:%s:%s) ", command, flag->of != NULL ? flag->of : "*", flag->name);
	if (flag->kind == ALK_COMPLETE_WORDS)
		fprintf(out, "mapfile -t COMPREPLY < <(compgen -W '%s' -- \"$cur\")", flag->words);
	else
		fputs(how[flag->kind], out);
	fprintf(out, "%sreturn ;;\n", flag->kind == ALK_COMPLETE_NOTHING ? "" : "; ");
}

static void bash_flags(FILE *out, const struct alk_completion_flag *flags, size_t n)
{
	for (size_t i = 0; i < n; i++)
		fprintf(out, " %s", flags[i].name);
}

static void bash_command(FILE *out, const struct alk_completion *c,
			 const struct alk_completion_command *command)
{
	size_t n;

	fprintf(out, "\t%s)\n\t\twords='", command->name);
	bash_flags(out, c->flags, c->n_flags);
	for (size_t i = 0; i < command->n_flags; i += n) {
		const struct alk_completion_flag *flags = command->flags + i;

		n = flags_together(flags, command->n_flags - i);
		if (flags->of != NULL)
			fprintf(out, "'\n\t\t[[ $argument != %s ]] || words+='", flags->of);
		else if (i > 0)
			fputs("'\n\t\twords+='", out);
		bash_flags(out, flags, n);
	}
	if (command->words != NULL)
		fprintf(out,
			"'\n\t\t[[ ${COMP_WORDS[COMP_CWORD - 1]} != \"$command\" ]] || words+=' %s",
			command->words);
	fputs("' ;;\n", out);
}

static void bash_print(FILE *out, const struct alk_completion *c)
{
	head(out, c, "bash");
	function_name(out, c->program);
	fputs("() {\n\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}\n"
	      "\tlocal command=${COMP_WORDS[1]} argument=${COMP_WORDS[2]} words=\n"
	      "\tCOMPREPLY=()\n\tif ((COMP_CWORD == 1)); then\n\t\tmapfile -t COMPREPLY < <(compgen -W '",
	      out);
	for (size_t i = 0; i < c->n_commands; i++)
		fprintf(out, "%s ", c->commands[i].name);
	bash_flags(out, c->flags, c->n_flags);
	fputs("' -- \"$cur\")\n\t\treturn\n\tfi\n\tcase $command:$argument:$prev in\n", out);
	for (size_t i = 0; i < c->n_commands; i++)
		for (size_t k = 0; k < c->commands[i].n_flags; k++)
			bash_values(out, c->commands[i].name, &c->commands[i].flags[k]);
	for (size_t i = 0; i < c->n_flags; i++)
		bash_values(out, "*", &c->flags[i]);
	fputs("\tesac\n\tcase $command in\n", out);
	for (size_t i = 0; i < c->n_commands; i++)
		bash_command(out, c, &c->commands[i]);
	fputs("\tesac\n\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n}\ncomplete -F ",
	      out);
	function_name(out, c->program);
	fprintf(out, " %s\n", c->program);
}

/* --- zsh -------------------------------------------------------------------------------------- */

/* Inside '...' of a zsh specification: its own signs are escaped. */
static void zsh_text(FILE *out, const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == '\'')
			fputs("'\\''", out);
		else if (strchr("[]:\\", *text) != NULL)
			fprintf(out, "\\%c", *text);
		else
			fputc(*text, out);
	}
}

static void zsh_flag(FILE *out, const struct alk_completion_flag *flag)
{
	fprintf(out, " \\\n\t\t\t'*%s[", flag->name);
	zsh_text(out, flag->help);
	fputc(']', out);
	if (flag->arg != NULL) {
		fputc(':', out);
		zsh_text(out, flag->arg);
		fputc(':', out);
	}
	if (flag->arg != NULL && flag->kind == ALK_COMPLETE_FILE)
		fputs("_files", out);
	else if (flag->arg != NULL && flag->kind == ALK_COMPLETE_DIRECTORY)
		fputs("_files -/", out);
	else if (flag->arg != NULL && flag->kind == ALK_COMPLETE_USER)
		fputs("_users", out);
	else if (flag->arg != NULL && flag->kind == ALK_COMPLETE_WORDS)
		fprintf(out, "(%s)", flag->words);
	fputc('\'', out);
}

/* The flags that go with one argument stand in `own`, all others behind _arguments. */
static void zsh_command(FILE *out, const struct alk_completion *c,
			const struct alk_completion_command *command)
{
	size_t n;

	fprintf(out, "\t%s)\n", command->name);
	for (size_t i = 0; i < command->n_flags; i += n) {
		const struct alk_completion_flag *flags = command->flags + i;

		n = flags_together(flags, command->n_flags - i);
		if (flags->of == NULL)
			continue;
		fprintf(out, "\t\t[[ $words[2] != %s ]] || own+=(", flags->of);
		for (size_t k = 0; k < n; k++)
			zsh_flag(out, &flags[k]);
		fputs(")\n", out);
	}
	fputs("\t\t_arguments $own", out);
	for (size_t i = 0; i < command->n_flags; i++)
		if (command->flags[i].of == NULL)
			zsh_flag(out, &command->flags[i]);
	for (size_t i = 0; i < c->n_flags; i++)
		zsh_flag(out, &c->flags[i]);
	if (command->words != NULL)
		fprintf(out, " \\\n\t\t\t'1::argument:(%s)'", command->words);
	fputs(" ;;\n", out);
}

static void zsh_print(FILE *out, const struct alk_completion *c)
{
	fprintf(out, "#compdef %s\n", c->program);
	head(out, c, "zsh");
	function_name(out, c->program);
	fputs("() {\n\tlocal -a commands own\n\tcommands=(\n", out);
	for (size_t i = 0; i < c->n_commands; i++) {
		fprintf(out, "\t\t'%s:", c->commands[i].name);
		zsh_text(out, c->commands[i].help);
		fputs("'\n", out);
	}
	fputs("\t)\n\tif ((CURRENT == 2)); then\n\t\t_describe command commands\n\t\treturn\n\tfi\n"
	      "\tlocal command=$words[2]\n\tshift words\n\t((CURRENT--))\n\tcase $command in\n",
	      out);
	for (size_t i = 0; i < c->n_commands; i++)
		zsh_command(out, c, &c->commands[i]);
	fputs("\tesac\n}\n", out);
	function_name(out, c->program);
	fputs(" \"$@\"\n", out);
}

/* --- fish ------------------------------------------------------------------------------------- */

static void fish_text(FILE *out, const char *text)
{
	fputc('\'', out);
	for (; *text != '\0'; text++)
		fprintf(out, *text == '\'' || *text == '\\' ? "\\%c" : "%c", *text);
	fputc('\'', out);
}

static void fish_value(FILE *out, const struct alk_completion_flag *flag)
{
	switch (flag->kind) {
	case ALK_COMPLETE_FILE:
		fputs(" -r -F", out);
		break;
	case ALK_COMPLETE_DIRECTORY:
		fputs(" -x -a '(__fish_complete_directories)'", out);
		break;
	case ALK_COMPLETE_USER:
		fputs(" -x -a '(__fish_complete_users)'", out);
		break;
	case ALK_COMPLETE_WORDS:
		fprintf(out, " -x -a '%s'", flag->words);
		break;
	case ALK_COMPLETE_NOTHING:
		fputs(" -x", out);
		break;
	}
}

static void fish_flag(FILE *out, const char *program, const char *command,
		      const struct alk_completion_flag *flag)
{
	bool letter = flag->name[1] != '-';

	fprintf(out, "complete -c %s", program);
	if (command != NULL)
		fprintf(out, " -n '__fish_seen_subcommand_from %s%s%s'", command,
			flag->of != NULL ? "; and __fish_seen_subcommand_from " : "",
			flag->of != NULL ? flag->of : "");
	fprintf(out, " -%c %s", letter ? 's' : 'l', flag->name + (letter ? 1 : 2));
	if (flag->arg != NULL)
		fish_value(out, flag);
	fputs(" -d ", out);
	fish_text(out, flag->help);
	fputc('\n', out);
}

static void fish_print(FILE *out, const struct alk_completion *c)
{
	head(out, c, "fish");
	fprintf(out, "complete -c %s -f\n", c->program);
	for (size_t i = 0; i < c->n_flags; i++)
		fish_flag(out, c->program, NULL, &c->flags[i]);
	for (size_t i = 0; i < c->n_commands; i++) {
		const struct alk_completion_command *command = &c->commands[i];

		fprintf(out, "complete -c %s -n __fish_use_subcommand -a %s -d ", c->program,
			command->name);
		fish_text(out, command->help);
		fputc('\n', out);
		if (command->words != NULL)
			fprintf(out, "complete -c %s -n '__fish_seen_subcommand_from %s' -a '%s'\n",
				c->program, command->name, command->words);
		for (size_t k = 0; k < command->n_flags; k++)
			fish_flag(out, c->program, command->name, &command->flags[k]);
	}
}

int alk_completion_print(const struct alk_completion *completion, const char *shell, FILE *out)
{
	static const struct {
		const char *name;
		void (*print)(FILE *out, const struct alk_completion *c);
	} shells[] = {{"bash", bash_print}, {"zsh", zsh_print}, {"fish", fish_print}};

	for (size_t i = 0; i < sizeof(shells) / sizeof(shells[0]); i++) {
		if (strcmp(shells[i].name, shell) != 0)
			continue;
		shells[i].print(out, completion);
		return 0;
	}
	return -EINVAL;
}
