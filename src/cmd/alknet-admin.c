/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include "admin_secret.h"
#include "admin_tool.h"
#include "json_wipe.h"
#include "text.h"

#define NAMED_MAX 8
#define NAMED_SIZE 4200

/* The command line */

static int unknown_command(const char *word)
{
	const char *nearest = NULL;
	unsigned best = UINT_MAX;

	for (const struct alk_admin_command *c = admin_commands; c->name != NULL; c++) {
		unsigned d = alk_text_distance(c->name, word);

		if (d < best) {
			best = d;
			nearest = c->name;
		}
	}
	if (nearest != NULL && alk_text_near(best, strlen(word)))
		return admin_fail(STATUS_USAGE, "there is no command \"%s\"; did you mean %s?",
				  word, nearest);
	return admin_fail(STATUS_USAGE,
			  "there is no command \"%s\"; \"alknet-admin help\" lists them", word);
}

static json_t *parse_integer(const char *text)
{
	char *end;
	long long n;

	if (*text < '0' || *text > '9')
		return NULL;
	errno = 0;
	n = strtoll(text, &end, 10);
	return errno == 0 && *end == '\0' ? json_integer(n) : NULL;
}

static json_t *parse_value(char type, const char *text)
{
	if (type == 'i')
		return parse_integer(text);
	if (type == 's' || type == 't')
		return json_string(text);
	if (strcmp(text, "true") == 0 || strcmp(text, "yes") == 0)
		return json_true();
	if (strcmp(text, "false") == 0 || strcmp(text, "no") == 0)
		return json_false();
	return NULL;
}

/* The parameter that a word is for: NAME=VALUE, or the first that has no value yet. */
static const struct alk_admin_param *param_of(const struct alk_admin_command *command,
					      const json_t *params, const char **word)
{
	for (const struct alk_admin_param *p = command->params; p->name != NULL; p++) {
		size_t n = strlen(p->name);

		if (strncmp(*word, p->name, n) == 0 && (*word)[n] == '=') {
			*word += n + 1;
			return p;
		}
	}
	for (const struct alk_admin_param *p = command->params; p->name != NULL; p++)
		if (json_object_get(params, p->name) == NULL)
			return p;
	return NULL;
}

static int parse_params(const struct alk_admin_command *command, char **words, json_t *params)
{
	static const char *const kinds[] =
		{['i'] = "a whole number", ['s'] = "text", ['t'] = "text", ['b'] = "true or false"};

	for (; *words != NULL; words++) {
		const char *word = *words;
		const struct alk_admin_param *param = param_of(command, params, &word);
		json_t *value;

		if (param == NULL)
			return admin_fail(STATUS_USAGE,
					  "%s: there is one argument too many: \"%s\"",
					  command->name, word);
		if (json_object_get(params, param->name) != NULL)
			return admin_fail(STATUS_USAGE, "%s: %s is given twice", command->name,
					  param->name);
		value = parse_value(param->type, word);
		if (value == NULL)
			return admin_fail(STATUS_USAGE, "%s: %s must be %s, not \"%s\"",
					  command->name, param->name,
					  kinds[(unsigned char)param->type], word);
		json_object_set_new(params, param->name, value);
	}
	/* What it needs is asked for. */
	if (strcmp(command->name, "secret.unlock") == 0)
		return STATUS_OK;
	for (const struct alk_admin_param *p = command->params; p->name != NULL; p++)
		if (p->required && json_object_get(params, p->name) == NULL)
			return admin_fail(STATUS_USAGE, "%s: the argument %s is missing (%s)",
					  command->name, p->name, p->help);
	return STATUS_OK;
}

/* Doing it */

static int flushed(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return STATUS_OK;
	return admin_fail(STATUS_FAILED, "cannot write: %s", strerror(errno));
}

void admin_print_answer(const struct tool *tool, FILE *out, const json_t *result)
{
	if (tool->json) {
		json_dumpf(result, out, JSON_INDENT(2) | JSON_ENSURE_ASCII | JSON_ENCODE_ANY);
		fputc('\n', out);
	} else {
		admin_print_result(out, result);
	}
}

static int print_answer(const struct tool *tool, const json_t *message)
{
	const json_t *error = json_object_get(message, "error"),
		     *result = json_object_get(message, "result");

	if (error != NULL || result == NULL)
		return admin_print_error(error);
	admin_print_answer(tool, stdout, result);
	return flushed();
}

static int watch(struct tool *tool)
{
	int status = STATUS_OK;

	while (status == STATUS_OK) {
		json_t *message = admin_next(tool), *event;

		if (message == NULL)
			return STATUS_FAILED;
		event = json_object_get(message, "params");
		if (json_object_get(message, "error") != NULL) {
			status = admin_print_error(json_object_get(message, "error"));
		} else if (event != NULL) {
			if (tool->json) {
				json_dumpf(event, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
				fputc('\n', stdout);
			} else {
				admin_print_event(stdout, event);
			}
			status = flushed();
		}
		json_decref(message);
	}
	return status;
}

static int run(struct tool *tool, const struct alk_admin_command *command, json_t *params)
{
	json_t *message;
	int status;

	if (admin_secret_is(command->name)) {
		status = admin_secret_run(tool, command->name, params);
		return status == STATUS_OK ? flushed() : status;
	}
	status = admin_reach(tool);
	if (status == STATUS_OK) {
		admin_wait_for(tool, command->name);
		status = admin_ask(tool, 1, command->name, params);
	}
	if (status != STATUS_OK)
		return status;
	if (strcmp(command->name, "bus.tail") == 0)
		return watch(tool);
	if (strcmp(command->name, "watch") == 0)
		return !tool->json && admin_screen_possible() ? admin_screen(tool) : watch(tool);
	message = admin_next(tool);
	if (message == NULL)
		return STATUS_FAILED;
	status = print_answer(tool, message);
	if (status == STATUS_OK && strcmp(command->name, "health") == 0 &&
	    !json_is_true(json_object_get(json_object_get(message, "result"), "ready")))
		status = STATUS_NOT_READY;
	json_decref(message);
	return status;
}

static int help(char **words)
{
	const struct alk_admin_command *command;

	if (words[0] == NULL) {
		admin_help(stdout);
		return flushed();
	}
	if (words[1] != NULL)
		return admin_fail(STATUS_USAGE, "help: there is one argument too many: \"%s\"",
				  words[1]);
	command = admin_command_find(words[0]);
	if (command == NULL)
		return unknown_command(words[0]);
	admin_help_command(stdout, command);
	return flushed();
}

static int completion(char **words)
{
	if (words[0] == NULL || words[1] != NULL || admin_help_completion(words[0], stdout) < 0)
		return admin_fail(STATUS_USAGE, "completion: name a shell: bash, zsh or fish");
	return flushed();
}

/* "secret status" is secret.status, where there is such a command and none of the first word. */
static char **join_words(char **words, char *joined, size_t size)
{
	if (words[1] == NULL || admin_command_find(words[0]) != NULL)
		return words;
	snprintf(joined, size, "%s.%s", words[0], words[1]);
	if (admin_command_find(joined) == NULL)
		return words;
	words[1] = joined;
	return words + 1;
}

/* NAME=VALUE of the options that are parameters. */
struct named {
	char text[NAMED_MAX][NAMED_SIZE];
	size_t n;
};

/* An option is for the parameter of its name alone. */
static int named_check(const struct named *named, const struct alk_admin_command *command)
{
	for (size_t i = 0; i < named->n; i++) {
		size_t n = strcspn(named->text[i], "=");
		const struct alk_admin_param *p = command->params;

		while (p->name != NULL &&
		       (strncmp(p->name, named->text[i], n) != 0 || p->name[n] != '\0'))
			p++;
		if (p->name == NULL)
			return admin_fail(STATUS_USAGE, "--%.*s: %s does not take it", (int)n,
					  named->text[i], command->name);
	}
	return STATUS_OK;
}

static int command_line(struct tool *tool, char **words, const struct named *named)
{
	char joined[64];
	const struct alk_admin_command *command;
	json_t *params;
	int status;

	if (words[0] == NULL)
		return admin_fail(STATUS_USAGE,
				  "a command is missing; \"alknet-admin help\" lists them");
	if (strcmp(words[0], "help") == 0)
		return help(words + 1);
	if (strcmp(words[0], "completion") == 0)
		return completion(words + 1);
	words = join_words(words, joined, sizeof(joined));
	command = admin_command_find(words[0]);
	if (command == NULL)
		return unknown_command(words[0]);
	if (tool->use_stdin && strcmp(command->name, "secret.unlock") != 0)
		return admin_fail(STATUS_USAGE, "--stdin: only secret.unlock takes it");
	status = named_check(named, command);
	if (status != STATUS_OK)
		return status;
	params = json_object();
	status = params != NULL ? parse_params(command, words + 1, params)
				: admin_fail(STATUS_FAILED, "out of memory");
	if (status == STATUS_OK)
		status = run(tool, command, params);
	json_decref(params);
	return status;
}

/* --NAME VALUE is NAME=VALUE, behind the other words. NULL: out of memory. */
static char **words_of(int argc, char **argv, char (*named)[NAMED_SIZE], size_t n)
{
	char **words = calloc((size_t)(argc - optind) + n + 1, sizeof(*words));
	size_t at = 0;

	for (int i = optind; words != NULL && i < argc; i++)
		words[at++] = argv[i];
	for (size_t i = 0; words != NULL && i < n; i++)
		words[at++] = named[i];
	return words;
}

static int named_add(struct named *named, const char *name, const char *value)
{
	if (named->n == NAMED_MAX ||
	    snprintf(named->text[named->n++], NAMED_SIZE, "%s=%s", name, value) >= NAMED_SIZE)
		return admin_fail(STATUS_USAGE, "--%s: too long, or too many", name);
	return STATUS_OK;
}

/* One option. False: that was all, and *status is the program's. */
static bool option_take(int option, const char *name, const char *word, struct tool *tool,
			struct named *named, int *status)
{
	switch (option) {
	case 's':
		tool->socket = optarg;
		return true;
	case 'j':
		tool->json = true;
		return true;
	case 'i':
		tool->use_stdin = true;
		return true;
	case 'p':
	case 'P':
		*status = named_add(named, name, option == 'p' ? "true" : optarg);
		return *status == STATUS_OK;
	case 'h':
		admin_help(stdout);
		break;
	case 'a':
		*status = admin_doc(stdout) < 0 ? STATUS_FAILED : flushed();
		return false;
	case 'm':
		admin_help_man(stdout);
		break;
	case 'V':
		printf("alknet-admin %s\n", PACKAGE_VERSION);
		break;
	case ':':
		*status = admin_fail(STATUS_USAGE, "%s needs a value", word);
		return false;
	default:
		*status = admin_fail(STATUS_USAGE,
				     "there is no option %s; \"alknet-admin --help\" lists them",
				     word);
		return false;
	}
	*status = flushed();
	return false;
}

/* Where a server is that was told no place: of root and services, else of this user. */
static const char *default_socket(char *own, size_t size)
{
	bool is_own = geteuid() != 0 && access(ADMIN_DEFAULT_SOCKET, F_OK) != 0 &&
		      alk_admin_socket_of_user(own, size) && access(own, F_OK) == 0;

	return is_own ? own : ADMIN_DEFAULT_SOCKET;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"help-api", no_argument, NULL, 'a'},
		{"socket", required_argument, NULL, 's'},
		{"json", no_argument, NULL, 'j'},
		{"stdin", no_argument, NULL, 'i'},
		{"private", no_argument, NULL, 'p'},
		{"path", required_argument, NULL, 'P'},
		{"type", required_argument, NULL, 'P'},
		{"length", required_argument, NULL, 'P'},
		{"out", required_argument, NULL, 'P'},
		{"words", required_argument, NULL, 'P'},
		{"help", no_argument, NULL, 'h'},
		{"help-man", no_argument, NULL, 'm'},
		{"version", no_argument, NULL, 'V'},
		{"force", no_argument, NULL, 'p'},
		{0},
	};
	char own[PATH_MAX];
	struct tool tool = {.socket = default_socket(own, sizeof(own)), .fd = -1};
	struct named named = {.n = 0};
	int option, status, which = 0;
	char **words;

	alk_json_wipe();
	opterr = 0;
	while ((option = getopt_long(argc, argv, ":hV", options, &which)) != -1)
		if (!option_take(option, options[which].name, argv[optind - 1], &tool, &named,
				 &status))
			return status;
	words = words_of(argc, argv, named.text, named.n);
	status = words != NULL ? command_line(&tool, words, &named)
			       : admin_fail(STATUS_FAILED, "out of memory");
	free(words);
	alk_fd_close(&tool.fd);
	admin_buffer_deinit(&tool);
	return status;
}
