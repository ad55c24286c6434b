/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "cmdline.h"
#include "main.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{"serve", alk_main_serve},   {"connect", alk_main_connect}, {"check", alk_main_check},
	{"policy", alk_main_policy}, {"secret", alk_main_secret},   {"pub", alk_main_pub},
	{"sub", alk_main_sub},	     {"call", alk_main_call},
};

/* What was printed must have reached its reader: --help into a full disk has failed. */
static int printed(void)
{
	return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}

static int completion(const char *shell)
{
	if (shell != NULL && (strcmp(shell, "--help") == 0 || strcmp(shell, "-h") == 0)) {
		alk_cmdline_help("completion", stdout);
		return printed();
	}
	if (shell != NULL && alk_cmdline_completion(shell, stdout) == 0)
		return printed();
	fputs("alknet: completion: name a shell: bash, zsh or fish\n", stderr);
	return 2;
}

int main(int argc, char **argv)
{
	const char *word = argc > 1 ? argv[1] : NULL;

	if (word == NULL) {
		fputs("alknet: a command is missing: serve, connect, check, policy, pub, sub, call, secret or completion (alknet --help)\n",
		      stderr);
		return 2;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(word, commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	if (strcmp(word, "worker") == 0)
		return alk_main_worker();
	if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
		if (alk_cmdline_help(argc > 2 ? argv[2] : NULL, stdout) < 0)
			return alk_cmdline_unknown(argv[2]);
		return printed();
	}
	if (strcmp(word, "completion") == 0)
		return completion(argc > 2 ? argv[2] : NULL);
	if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
		alk_cmdline_version(stdout);
		return printed();
	}
	if (strcmp(word, "--help-man") == 0) {
		alk_cmdline_manual(stdout);
		return printed();
	}
	return alk_cmdline_unknown(word);
}
