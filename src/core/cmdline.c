/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "cmdline.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "conf_private.h"
#include "text.h"

#define HELP_COLUMN 34
#define HELP_WIDTH 100
#define FLAGS_MAX 32 /* of a command that takes no options */

const struct alk_command alk_commands[] = {
	{"serve", "--key FILE (--authorized-keys FILE | --policy FILE) [FLAG]...",
	 "Accept SSH sessions and join their channels with what they ask for.", ALK_ROLE_SUPERVISOR,
	 NULL},
	{"connect", "--server HOST[:PORT] --identity FILE [FLAG]...",
	 "Hold a session with a server and offer it here: SOCKS5, HTTP CONNECT, forwarded ports.",
	 ALK_ROLE_CLIENT, NULL},
	{"check", "[--connect] -c FILE [FLAG]...",
	 "Check a configuration, its files, plugins and policy; run the policy's tests.",
	 ALK_ROLE_CHECK, NULL},
	{"policy", "eval [FLAG]... | test [--json] (DIR | FILE)...",
	 "Ask a policy what it would answer; run the tests of policies.", ALK_ROLE_NONE,
	 alk_policy_flags},
	{"pub", "[FLAG]... TOPIC JSON|-",
	 "Publish an event on the bus of a local socket; - takes a payload from each line of the input.",
	 ALK_ROLE_NONE, alk_pub_flags},
	{"sub", "[FLAG]... PATTERN...", "Print events of the bus as they happen, one JSON a line.",
	 ALK_ROLE_NONE, alk_sub_flags},
	{"call", "[FLAG]... OPERATION [JSON|-]",
	 "Call an operation on the bus and print what it answers, one JSON a line.", ALK_ROLE_NONE,
	 alk_call_flags},
	{"secret", "new", "Print a new stealth_secret, for a server and its clients.",
	 ALK_ROLE_NONE, NULL},
	{"completion", "bash | zsh | fish", "Print a completion script for a shell.", ALK_ROLE_NONE,
	 NULL},
	{"worker", NULL, NULL, ALK_ROLE_NONE, NULL},
	{0},
};

/* Values that getopt_long gives for a long flag: options from FIRST on, BOOLs' --no- twins from NO
 * on. */
enum {
	GOT_HELP = 'h',
	GOT_CONFIG = 'c',
	GOT_DUMP = 256,
	GOT_CONNECT,
	GOT_FIRST = 1000,
	GOT_NO = 2000,
};

struct flags {
	struct option *list;
	char (*names)[64];
	size_t count;
};

void alk_cmdline_flag(const struct alk_option *option, char *out, size_t size)
{
	snprintf(out, size, "--%s", option->name);
	for (char *c = out; *c != '\0'; c++)
		*c = *c == '_' ? '-' : *c;
}

bool alk_cmdline_is_flag(const struct alk_option *option)
{
	return (option->flags & (ALK_OPT_NO_FLAG | ALK_OPT_SECRET)) == 0;
}

/* --- flags ------------------------------------------------------------------------------------ */

static void flag_add(struct flags *flags, const char *name, int has_arg, int val)
{
	snprintf(flags->names[flags->count], sizeof(*flags->names), "%.*s",
		 (int)sizeof(*flags->names) - 1, name);
	flags->list[flags->count] = (struct option){flags->names[flags->count], has_arg, NULL, val};
	flags->count++;
}

static void flags_fill(struct flags *flags, const struct alk_option *table, bool check)
{
	char name[64], no[72];

	flag_add(flags, "help", no_argument, GOT_HELP);
	flag_add(flags, "config", required_argument, GOT_CONFIG);
	if (check) {
		flag_add(flags, "dump-defaults", no_argument, GOT_DUMP);
		flag_add(flags, "connect", no_argument, GOT_CONNECT);
	}
	for (int i = 0; table[i].type != ALK_OPT_END; i++) {
		bool yes = table[i].type == ALK_OPT_BOOL;

		if (!alk_cmdline_is_flag(&table[i]))
			continue;
		alk_cmdline_flag(&table[i], name, sizeof(name));
		flag_add(flags, name + 2, yes ? no_argument : required_argument, GOT_FIRST + i);
		if (yes) {
			snprintf(no, sizeof(no), "no-%s", name + 2);
			flag_add(flags, no, no_argument, GOT_NO + i);
		}
	}
}

static int flags_make(struct flags *flags, const struct alk_option *table, bool check)
{
	size_t n = 8;

	while (table[n - 8].type != ALK_OPT_END)
		n++;
	*flags = (struct flags){.list = calloc(n * 2, sizeof(*flags->list)),
				.names = calloc(n * 2, sizeof(*flags->names))};
	if (flags->list == NULL || flags->names == NULL)
		return -ENOMEM;
	flags_fill(flags, table, check);
	return 0;
}

static const char *flag_nearest(const struct flags *flags, const char *name)
{
	unsigned best = UINT_MAX;
	const char *nearest = NULL;

	for (size_t i = 0; i < flags->count; i++) {
		unsigned distance = alk_text_distance(flags->list[i].name, name);

		if (distance < best && alk_text_near(distance, strlen(name))) {
			best = distance;
			nearest = flags->list[i].name;
		}
	}
	return nearest;
}

/* `word` begins with a dash and is no flag of this command. */
static int flag_fail(const struct flags *flags, const char *command, const char *word,
		     struct alk_err *err)
{
	char name[64], shown[128], key[64];
	const struct alk_option *known;
	const char *nearest;

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(word, "="), word);
	alk_text_escape(name, strlen(name), shown, sizeof(shown));
	snprintf(key, sizeof(key), "%s", name + strspn(name, "-"));
	nearest = flag_nearest(flags, key);
	for (char *c = key; *c != '\0'; c++)
		*c = *c == '-' ? '_' : *c;
	known = strncmp(word, "--", 2) == 0 && strchr(name, '_') == NULL
			? alk_option_find(alk_conf_options, key)
			: NULL;
	if (known != NULL && !alk_cmdline_is_flag(known))
		return alk_err_set(err, -EINVAL,
				   "%s: is no flag; write %s in the configuration file", shown,
				   known->name);
	if (known != NULL)
		return alk_err_set(err, -EINVAL,
				   "%s: is a flag of \"alknet %s\", not of \"alknet %s\"", shown,
				   known->flags & ALK_OPT_SERVE ? "serve" : "connect", command);
	if (nearest != NULL)
		return alk_err_set(err, -EINVAL, "%s: there is no such flag; did you mean --%s?",
				   shown, nearest);
	return alk_err_set(err, -EINVAL,
			   "%s: there is no such flag; \"alknet %s --help\" lists them", shown,
			   command);
}

/* getopt_long takes any unambiguous beginning of a flag; what works today could mean two things
 * tomorrow, so it must be written out. */
static bool is_abbreviated(const struct option *list, const char *word, int got)
{
	size_t len = strcspn(word + 2, "=");

	if (strncmp(word, "--", 2) != 0)
		return false;
	for (; list->name != NULL; list++)
		if (list->val == got && strlen(list->name) == len)
			return false;
	return true;
}

static int flag_take(struct alk_conf *conf, struct alk_cmdline *out, int got, struct alk_err *err)
{
	switch (got) {
	case GOT_HELP:
		out->help = true;
		return 0;
	case GOT_CONFIG:
		if (out->config != NULL)
			return alk_err_set(err, -EINVAL, "--config: is given twice");
		if (*optarg == '\0')
			return alk_err_set(err, -EINVAL, "--config: is empty");
		out->config = optarg;
		return 0;
	case GOT_DUMP:
		out->dump_defaults = true;
		return 0;
	case GOT_CONNECT:
		out->connect = true;
		return 0;
	default:
		break;
	}
	if (conf == NULL)
		return 0;
	if (got >= GOT_NO)
		return alk_conf_set(conf, conf->table[got - GOT_NO].name, "false", "flag", err);
	return alk_conf_set(conf, conf->table[got - GOT_FIRST].name,
			    optarg != NULL ? optarg : "true", "flag", err);
}

static int flags_read(const struct flags *flags, int argc, char **argv, struct alk_conf *conf,
		      struct alk_cmdline *out, struct alk_err *err)
{
	const char *command = argv[0];
	char shown[128];

	opterr = 0;
	optind = 0;
	for (;;) {
		const char *word = argv[optind > 0 ? optind : 1];
		int got = getopt_long(argc, argv, "+:c:h", flags->list, NULL), rc;

		if (got == -1)
			break;
		alk_text_escape(word, strlen(word), shown, sizeof(shown));
		if (got == ':')
			return alk_err_set(err, -EINVAL, "%s: needs a value", shown);
		if (got == '?' && optopt != 0 && strncmp(word, "--", 2) == 0)
			return alk_err_set(err, -EINVAL, "%s: takes no value", shown);
		if (got == '?' || is_abbreviated(flags->list, word, got))
			return flag_fail(flags, command, word, err);
		rc = flag_take(conf, out, got, err);
		if (rc < 0)
			return rc;
	}
	if (optind < argc && !out->help) {
		alk_text_escape(argv[optind], strlen(argv[optind]), shown, sizeof(shown));
		return alk_err_set(err, -EINVAL, "\"%s\": \"alknet %s\" takes flags only; %s",
				   shown, command,
				   strcmp(command, "connect") == 0
					   ? "the server is given by --server HOST[:PORT]"
					   : "a file is said as -c FILE");
	}
	return 0;
}

int alk_cmdline_read(int argc, char **argv, struct alk_conf *conf, struct alk_cmdline *out,
		     struct alk_err *err)
{
	struct flags flags;
	int rc = flags_make(&flags, conf != NULL ? conf->table : alk_conf_options,
			    strcmp(argv[0], "check") == 0);

	*out = (struct alk_cmdline){0};
	if (rc == 0)
		rc = flags_read(&flags, argc, argv, conf, out, err);
	else
		alk_err_set(err, rc, "out of memory");
	free(flags.list);
	free(flags.names);
	return rc;
}

/* Returns the letters for getopt_long. */
static const char *flags_list(const struct alk_flag *flags, struct option list[FLAGS_MAX])
{
	const char *letters = "-:h"; /* words that are none are given in their order */

	for (int i = 0; flags[i].name != NULL; i++) {
		assert(i < FLAGS_MAX - 1);
		list[i] = (struct option){flags[i].name,
					  flags[i].arg != NULL ? required_argument : no_argument,
					  NULL, GOT_FIRST + i};
		if (strcmp(flags[i].name, "config") == 0)
			letters = "-:c:h";
	}
	return letters;
}

/* What is no flag: a word without a dash, which getopt_long gives as 1; and a number below zero. */
static bool is_word(const char *word)
{
	return word[0] == '-' && word[1] >= '0' && word[1] <= '9';
}

int alk_cmdline_read_flags(const struct alk_flag *flags, const char *command, int argc, char **argv,
			   alk_flag_take *take, void *user, struct alk_err *err)
{
	struct option list[FLAGS_MAX] = {{0}};
	const char *letters = flags_list(flags, list);
	char shown[128];
	int words = 0; /* from argv[1] on, where flags were that have been read */

	opterr = 0;
	optind = 0;
	for (;;) {
		const char *word = argv[optind > 0 ? optind : 1];
		int got, rc;

		if (optind > 0 && optind < argc && is_word(word)) {
			argv[++words] = argv[optind++];
			continue;
		}
		got = getopt_long(argc, argv, letters, list, NULL);
		if (got == -1) {
			memmove(argv + optind - words, argv + 1, (size_t)words * sizeof(*argv));
			return optind - words;
		}
		if (got == 1) {
			argv[++words] = optarg;
			continue;
		}
		alk_text_escape(word, strlen(word), shown, sizeof(shown));
		if (got == ':')
			return alk_err_set(err, -EINVAL, "%s: needs a value", shown);
		if (got == '?' && optopt != 0 && strncmp(word, "--", 2) == 0)
			return alk_err_set(err, -EINVAL, "%s: takes no value", shown);
		if (got == '?' || is_abbreviated(list, word, got))
			return alk_err_set(
				err, -EINVAL,
				"%s: there is no such flag; \"alknet %s --help\" lists them", shown,
				command);
		if (got == GOT_HELP || got == GOT_CONFIG)
			rc = take(user, got == GOT_HELP ? "help" : "config", optarg, err);
		else
			rc = take(user, flags[got - GOT_FIRST].name, optarg, err);
		if (rc < 0)
			return rc;
	}
}

int alk_cmdline_environment(struct alk_conf *conf, struct alk_err *err)
{
	for (const struct alk_option *o = conf->table; o->type != ALK_OPT_END; o++) {
		const char *text = o->env != NULL ? getenv(o->env) : NULL;
		int rc = 0;

		if (text != NULL && *text != '\0')
			rc = alk_conf_set(conf, o->name, text, "environment", err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* --- help ------------------------------------------------------------------------------------- */

/* Words from `column` on, broken at HELP_WIDTH. */
static void wrap(FILE *out, const char *text, int column)
{
	int at = column;

	while (*text != '\0') {
		int n = (int)strcspn(text, " ");

		if (at > column && at + 1 + n > HELP_WIDTH) {
			fprintf(out, "\n%*s", column, "");
			at = column;
		} else if (at > column) {
			fputc(' ', out);
			at++;
		}
		fprintf(out, "%.*s", n, text);
		at += n;
		text += n + (text[n] == ' ');
	}
	fputc('\n', out);
}

static void entry_print(FILE *out, const char *left, const char *text)
{
	if ((int)strlen(left) > HELP_COLUMN - 2)
		fprintf(out, "%s\n%*s", left, HELP_COLUMN, "");
	else
		fprintf(out, "%-*s", HELP_COLUMN, left);
	wrap(out, text, HELP_COLUMN);
}

static void option_print(FILE *out, const struct alk_option *option)
{
	bool off = option->type == ALK_OPT_BOOL && option->fallback != NULL &&
		   strcmp(option->fallback, "true") == 0;
	bool plain = option->fallback == NULL || (option->type == ALK_OPT_BOOL && !off);
	char flag[64], left[128], text[512];

	alk_cmdline_flag(option, flag, sizeof(flag));
	snprintf(left, sizeof(left), "      %s%s%s", flag, option->arg != NULL ? " " : "",
		 option->arg != NULL ? option->arg : "");
	snprintf(text, sizeof(text), "%s%s%s%s%s%s%s%s%s%s", option->help,
		 option->flags & ALK_OPT_REPEAT ? "; may be given several times" : "",
		 plain ? "" : " (default ", plain ? "" : option->fallback, off ? "; --no-" : "",
		 off ? flag + 2 : "", plain ? "" : ")", option->env != NULL ? "; " : "",
		 option->env != NULL ? option->env : "", option->env != NULL ? " fills it in" : "");
	entry_print(out, left, text);
}

static void groups_print(FILE *out, unsigned role)
{
	const char *group = NULL;

	for (const struct alk_option *o = alk_conf_options; o->type != ALK_OPT_END; o++) {
		if ((o->flags & role) == 0 || !alk_cmdline_is_flag(o))
			continue;
		if (group == NULL || strcmp(group, o->group) != 0)
			fprintf(out, "\n%s:\n", o->group);
		group = o->group;
		option_print(out, o);
	}
}

static void file_only_print(FILE *out, unsigned role)
{
	const char *before = "\nIn the configuration file only:\n  ";

	for (const struct alk_option *o = alk_conf_options; o->type != ALK_OPT_END; o++) {
		if ((o->flags & role) && (o->flags & ALK_OPT_NO_FLAG)) {
			fprintf(out, "%s%s", before, o->name);
			before = ", ";
		}
	}
	if (*before == ',')
		fputs(".\n", out);
}

/* NAME_file. */
static void secret_files_print(FILE *out, unsigned role)
{
	const char *before = "\nThere too, for a value that a file of its own has:\n  ";

	for (const struct alk_option *o = alk_conf_options; o->type != ALK_OPT_END; o++) {
		char name[72];

		snprintf(name, sizeof(name), "%s_file", o->name);
		if ((o->flags & role) == 0 || alk_option_find(alk_conf_options, name) != NULL ||
		    alk_option_secret_file(alk_conf_options, name) == NULL)
			continue;
		fprintf(out, "%s%s", before, name);
		before = ", ";
	}
	if (*before == ',')
		fputs(".\n", out);
}

const char *alk_cmdline_flag_help(const struct alk_flag *flag, char *text, size_t size)
{
	snprintf(text, size, "%s%s%s", flag->of != NULL ? flag->of : "",
		 flag->of != NULL ? ": " : "", flag->help);
	return text;
}

static void flags_help(const struct alk_flag *flag, FILE *out)
{
	char left[128], text[512];

	fputc('\n', out);
	for (; flag->name != NULL; flag++) {
		snprintf(left, sizeof(left), "      --%s%s%s", flag->name,
			 flag->arg != NULL ? " " : "", flag->arg != NULL ? flag->arg : "");
		entry_print(out, left, alk_cmdline_flag_help(flag, text, sizeof(text)));
	}
}

static void command_help(const struct alk_command *command, FILE *out)
{
	unsigned role = alk_conf_role_flag(command->role);

	fprintf(out, "Usage: alknet %s %s\n%s\n", command->name, command->usage, command->summary);
	if (command->flags != NULL)
		flags_help(command->flags, out);
	if (command->role == ALK_ROLE_NONE)
		return;
	if (command->role == ALK_ROLE_CHECK) {
		fprintf(out, "\nCheck:\n");
		entry_print(
			out, "      --connect",
			"the file is one for \"alknet connect\"; without it for \"alknet serve\"");
		entry_print(out, "      --dump-defaults",
			    "print a configuration file with every option and its default");
		fprintf(out,
			"\nIt also takes the flags of the command that the file is for.\n\nGeneral:\n");
	} else {
		groups_print(out, role);
		fprintf(out, "\nGeneral:\n");
	}
	entry_print(out, "  -c, --config FILE",
		    "read a configuration file; a flag counts more than the file");
	entry_print(out, "  -h, --help", "print this");
	if (command->role == ALK_ROLE_CHECK)
		return;
	file_only_print(out, role);
	secret_files_print(out, role);
	fprintf(out,
		"\nTIME is seconds, or a number with ms, s, m or h behind it; SIZE is bytes, or one with K, M or G.\n"
		"Each flag is also a key of the file, with underscores for dashes. More is in alknet(1).\n");
}

int alk_cmdline_help(const char *name, FILE *out)
{
	for (const struct alk_command *c = alk_commands; name != NULL && c->name != NULL; c++) {
		if (strcmp(c->name, name) == 0 && c->summary != NULL) {
			command_help(c, out);
			return 0;
		}
	}
	if (name != NULL)
		return -EINVAL;
	fprintf(out,
		"Usage: alknet COMMAND [FLAG]...\nA tunnel through SSH, over transports that are plugins.\n\nCommands:\n");
	for (const struct alk_command *c = alk_commands; c->name != NULL; c++) {
		char left[32];

		snprintf(left, sizeof(left), "  %s", c->name);
		if (c->summary != NULL)
			fprintf(out, "%-13s %s\n", left, c->summary);
	}
	fprintf(out,
		"\n\"alknet COMMAND --help\" lists the flags of a command, \"alknet --version\" prints versions,\n"
		"\"alknet --help-man\" prints the manual page.\n");
	return 0;
}

int alk_cmdline_unknown(const char *word)
{
	unsigned best = UINT_MAX;
	const char *nearest = NULL;
	char shown[128];

	for (const struct alk_command *c = alk_commands; c->name != NULL; c++) {
		unsigned distance = alk_text_distance(c->name, word);

		if (c->summary != NULL && distance < best &&
		    alk_text_near(distance, strlen(word))) {
			best = distance;
			nearest = c->name;
		}
	}
	alk_text_escape(word, strlen(word), shown, sizeof(shown));
	if (word[0] == '-')
		fprintf(stderr,
			"alknet: %s: there is no such flag; a command comes first (alknet --help)\n",
			shown);
	else if (nearest != NULL)
		fprintf(stderr, "alknet: %s: there is no such command; did you mean %s?\n", shown,
			nearest);
	else
		fprintf(stderr, "alknet: %s: there is no such command (alknet --help)\n", shown);
	return 2;
}

void alk_cmdline_version(FILE *out)
{
	fprintf(out, "alknet %s\n%s, jansson %s\n", PACKAGE_VERSION, alk_conf_lua_version(),
		jansson_version_str());
}
