/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "admin_tool.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "completion.h"

const struct alk_admin_command admin_commands[] = {
#define ALK_COMMAND ALK_ADMIN_ROW
#include "admin_commands.def"
#include "tool_commands.def"
#include "client_commands.def"
#undef ALK_COMMAND
	{0},
};

/* Room for all, help and completion. */
#define ADMIN_COMMANDS_MAX (sizeof(admin_commands) / sizeof(admin_commands[0]) + 2)

static const struct {
	const char *name; /* as mdoc has it; help puts the dashes before it */
	const char *arg;
	const char *help;
} options[] = {
	{"socket", "PATH",
	 "The admin socket of a server, or of a client; " ADMIN_DEFAULT_SOCKET
	 " by default, or alknet/admin.sock in XDG_RUNTIME_DIR where that is and the first is not."},
	{"stdin", NULL, "secret.unlock: read the words and the passphrase, a line each."},
	{"force", NULL, "upgrade: also while the secret service is unlocked."},
	{"private", NULL, "secret.derive: show the private part too; asks first."},
	{"json", NULL, "Print the answer as JSON; watch prints one object a line."},
	{"help", NULL, "Print the commands and options."},
	{"version", NULL, "Print the version."},
};

/* What connect_admin.c answers besides the commands of client_commands.def. */
#define OF_CLIENT "status, health, log.level, metrics, shutdown"

#define OPTIONS (sizeof(options) / sizeof(options[0]))

const struct alk_admin_command *admin_command_find(const char *name)
{
	for (const struct alk_admin_command *c = admin_commands; c->name != NULL; c++)
		if (strcmp(c->name, name) == 0)
			return c;
	return NULL;
}

/* "channel.list [session]" */
static int print_usage(FILE *out, const struct alk_admin_command *command)
{
	int n = fprintf(out, "%s", command->name);

	for (const struct alk_admin_param *p = command->params; p->name != NULL; p++) {
		n += fprintf(out, p->required ? " " : " [");
		for (const char *c = p->name; *c != '\0'; c++) {
			fputc(toupper((unsigned char)*c), out);
			n++;
		}
		n += p->required ? 0 : fprintf(out, "]");
	}
	return n;
}

void admin_help(FILE *out)
{
	fputs("Usage: alknet-admin COMMAND [ARGS] [--socket PATH] [--json]\n\nCommands:\n", out);
	for (const struct alk_admin_command *c = admin_commands; c->name != NULL; c++) {
		int n;

		fputs("  ", out);
		n = print_usage(out, c);
		fprintf(out, "%*s%s\n", n < 28 ? 28 - n : 1, "", c->help);
	}
	fprintf(out, "  %-28s%s\n", "help [COMMAND]", "Print this, or what one command takes.");
	fprintf(out, "  %-28s%s\n", "completion SHELL",
		"Print a completion script for bash, zsh or fish.");
	fputs("\nA client (alknet connect --admin-socket PATH) answers " OF_CLIENT ",\n"
	      "forward.list, forward.add, forward.remove and reconnect; a server all but the last four of these.\n",
	      out);
	fputs("\nArguments go by position or as NAME=VALUE; \"secret status\" is secret.status.\n\nOptions:\n",
	      out);
	for (size_t i = 0; i < OPTIONS; i++)
		fprintf(out, "  --%s%s%-*s%s\n", options[i].name, options[i].arg != NULL ? " " : "",
			(int)(26 - strlen(options[i].name) - (options[i].arg != NULL)),
			options[i].arg != NULL ? options[i].arg : "", options[i].help);
}

void admin_help_command(FILE *out, const struct alk_admin_command *command)
{
	fputs("Usage: alknet-admin ", out);
	print_usage(out, command);
	fprintf(out, "\n\n%s\n", command->help);
	if (command->params[0].name != NULL)
		fputs("\nArguments:\n", out);
	for (const struct alk_admin_param *p = command->params; p->name != NULL; p++)
		fprintf(out, "  %-12s%s%s\n", p->name, p->help, p->required ? "" : " (optional)");
}

/* Text in mdoc: a line must not begin with a dot or an apostrophe, a backslash is \e, a hyphen of
 * an option is \-. */
static void man_text(FILE *out, const char *text)
{
	if (*text == '.' || *text == '\'')
		fputs("\\&", out);
	for (; *text != '\0'; text++) {
		if (*text == '\\')
			fputs("\\e", out);
		else
			fputc(*text, out);
		if (*text == '.' && text[1] == ' ') {
			fputc('\n', out);
			text++;
		}
	}
	fputc('\n', out);
}

static void man_command(FILE *out, const struct alk_admin_command *command)
{
	fprintf(out, ".It Cm %s", command->name);
	for (const struct alk_admin_param *p = command->params; p->name != NULL; p++)
		fprintf(out, p->required ? " Ar %s" : " Op Ar %s", p->name);
	fputc('\n', out);
	man_text(out, command->help);
	for (const struct alk_admin_param *p = command->params; p->name != NULL; p++)
		fprintf(out, ".Ar %s :\n%s.\n", p->name, p->help);
}

void admin_help_man(FILE *out)
{
	fputs(".Dd November 23, 2026\n.Dt ALKNET-ADMIN 1\n.Os\n"
	      ".Sh NAME\n.Nm alknet-admin\n.Nd ask and steer a running alknet server or client\n"
	      ".Sh SYNOPSIS\n.Nm\n.Ar command\n.Op Ar argument ...\n.Op Fl -socket Ar path\n.Op Fl -json\n"
	      ".Nm\n.Cm help\n.Op Ar command\n"
	      ".Sh DESCRIPTION\n.Nm\nspeaks to\n.Ic alknet serve\nover its admin socket and prints the answer.\n"
	      "The server hears root and the user it runs as, and those that\n.Cm admin_users\nnames.\n.Pp\n"
	      "A client,\n.Ic alknet connect Fl -admin-socket Ar path ,\nis asked with\n.Fl -socket Ar path .\n"
	      "It answers\n" OF_CLIENT
	      ",\nforward.list, forward.add, forward.remove and reconnect;\n"
	      "the last four are of clients alone, everything else is of servers alone.\n"
	      "A client has no events to watch: ask for its status.\n.Pp\n"
	      "Arguments go by position or as\n.Ar name Ns = Ns Ar value .\nThe commands are:\n"
	      ".Bl -tag -width Ds\n",
	      out);
	for (const struct alk_admin_command *c = admin_commands; c->name != NULL; c++)
		man_command(out, c);
	fputs(".It Cm help Op Ar command\nPrint all commands, or what one of them takes.\n"
	      ".It Cm completion Ar shell\nPrint a completion script for bash, zsh or fish.\n.El\n"
	      ".Pp\nThe options are:\n.Bl -tag -width Ds\n",
	      out);
	for (size_t i = 0; i < OPTIONS; i++) {
		fprintf(out, ".It Fl -%s", options[i].name);
		if (options[i].arg != NULL)
			fputs(" Ar path", out);
		fputc('\n', out);
		man_text(out, options[i].help);
	}
	fputs(".El\n"
	      ".Sh FILES\n.Bl -tag -width Ds\n.It Pa " ADMIN_DEFAULT_SOCKET
	      "\nThe admin socket;\n.Cm admin_socket\n"
	      "in the server's configuration moves it.\n"
	      ".It Pa $XDG_RUNTIME_DIR/alknet/admin.sock\n"
	      "The same of a server that an ordinary user started; it is looked at when the first is missing.\n.El\n"
	      ".Sh ENVIRONMENT\n.Bl -tag -width Ds\n.It Ev XDG_RUNTIME_DIR\nSee\n.Sx FILES .\n.El\n"
	      ".Sh EXIT STATUS\n.Bl -tag -width Ds\n.It 0\nIt was done.\n"
	      ".It 1\nThe answer is an error, or nobody answers at the socket.\n"
	      ".It 2\nThe command line is wrong, as alknet-admin or the answer says.\n"
	      ".It 3\n.Cm health :\nit is not ready, and says why.\n.El\n"
	      ".Sh EXAMPLES\nWho is connected, and the end of one of them:\n.Bd -literal -offset indent\n"
	      "alknet-admin session.list\nalknet-admin session.kill 42\n.Ed\n.Pp\n"
	      "How many sessions there are, for a script:\n.Bd -literal -offset indent\n"
	      "alknet-admin status --json | jq .sessions\n.Ed\n.Pp\n"
	      "One more forward for a client that runs, and one that the server listens for:\n"
	      ".Bd -literal -offset indent\n"
	      "alknet-admin --socket ~/tunnel.sock forward.add 8080:intranet:80\n"
	      "alknet-admin --socket ~/tunnel.sock forward.add 9000:localhost:3000 true\n.Ed\n"
	      ".Sh SEE ALSO\n.Xr alknet 1\n",
	      out);
}

/* Completion */

#define FLAGS_MAX 4
#define CHOICES_MAX 128

/* The flags and words of one command. */
struct completed {
	struct alk_completion_flag flags[FLAGS_MAX];
	char choices[FLAGS_MAX][CHOICES_MAX];
	size_t n;
};

static const char *choices_split(char *out, const char *choices)
{
	snprintf(out, CHOICES_MAX, "%s", choices);
	for (char *c = out; *c != '\0'; c++)
		*c = *c == '|' ? ' ' : *c;
	return out;
}

/* Parameters that alknet-admin takes as an option, too. */
static bool is_option(const char *name)
{
	static const char *const names[] = {"private", "path",	"type", "length",
					    "out",     "words", "force"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

static void flag_add(struct completed *of, const struct alk_admin_param *param)
{
	struct alk_completion_flag *flag = &of->flags[of->n];
	bool is_file = strcmp(param->name, "out") == 0;

	if (!is_option(param->name) || of->n == FLAGS_MAX)
		return;
	snprintf(flag->name, sizeof(flag->name), "--%s", param->name);
	flag->arg = param->type == 'b' ? NULL : "VALUE";
	flag->kind = is_file		      ? ALK_COMPLETE_FILE
		     : param->choices != NULL ? ALK_COMPLETE_WORDS
					      : ALK_COMPLETE_NOTHING;
	if (param->choices != NULL)
		flag->words = choices_split(of->choices[of->n], param->choices);
	flag->help = param->help;
	of->n++;
}

static void flags_add(struct completed *of, const struct alk_admin_command *command)
{
	static const struct alk_completion_flag from_stdin =
		{.name = "--stdin", .help = "read the words and the passphrase, a line each"};

	for (const struct alk_admin_param *p = command->params; p->name != NULL; p++)
		flag_add(of, p);
	if (strcmp(command->name, "secret.unlock") == 0)
		of->flags[of->n++] = from_stdin;
}

int admin_help_completion(const char *shell, FILE *out)
{
	static const struct alk_completion_flag flags[] = {
		{.name = "--socket",
		 .arg = "PATH",
		 .kind = ALK_COMPLETE_FILE,
		 .help = "the server's admin socket"},
		{.name = "--json", .help = "print the answer as JSON"},
		{.name = "--help", .help = "print the commands and options"},
		{.name = "--version", .help = "print the version"},
	};
	struct alk_completion_command commands[ADMIN_COMMANDS_MAX] = {0};
	struct completed completed[ADMIN_COMMANDS_MAX] = {0};
	char names[2048] = "", words[8][CHOICES_MAX];
	struct alk_completion completion = {.program = "alknet-admin",
					    .commands = commands,
					    .flags = flags,
					    .n_flags = sizeof(flags) / sizeof(flags[0])};
	size_t n = 0, n_words = 0, used = 0;

	for (const struct alk_admin_command *c = admin_commands; c->name != NULL; c++) {
		const char *choices = c->params[0].choices;

		flags_add(&completed[n], c);
		commands[n] = (struct alk_completion_command){.name = c->name,
							      .help = c->help,
							      .flags = completed[n].flags,
							      .n_flags = completed[n].n};
		if (choices != NULL && n_words < sizeof(words) / sizeof(words[0])) {
			commands[n].words = choices_split(words[n_words], choices);
			n_words++;
		}
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s",
					 n > 0 ? " " : "", c->name);
		n++;
	}
	commands[n++] =
		(struct alk_completion_command){.name = "help",
						.help = "Print this, or what one command takes.",
						.words = names};
	commands[n++] = (struct alk_completion_command){.name = "completion",
							.help = "Print a completion script.",
							.words = ALK_COMPLETION_SHELLS};
	completion.n_commands = n;
	return alk_completion_print(&completion, shell, out);
}
