/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_COMPLETION_H
#define ALK_COMPLETION_H

/* Completion scripts for bash, zsh and fish, of a program that has commands with flags. Both
 * programs print theirs ("alknet completion bash"), from the tables that make their help; the build
 * installs what they print. Start here if you add a shell: a function in completion.c and a word in
 * `shells` of alk_completion_print(). */

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <alknet/err.h>

enum alk_completion_kind {
	ALK_COMPLETE_NOTHING, /* a value that nobody can guess */
	ALK_COMPLETE_FILE,
	ALK_COMPLETE_DIRECTORY,
	ALK_COMPLETE_USER,
	ALK_COMPLETE_WORDS,
};

struct alk_completion_flag {
	char name[64];	 /* "--max-sessions", "-c" */
	const char *arg; /* NULL: it takes no value */
	enum alk_completion_kind kind;
	const char *words; /* of WORDS, split by blanks */
	const char *help;
	const char *of; /* the command's first argument that it goes with; NULL: with any */
};

struct alk_completion_command {
	const char *name;
	const char *help;
	const struct alk_completion_flag *flags; /* besides the program's */
	size_t n_flags;
	const char
		*words; /* what its first argument may be, split by blanks; NULL = nothing known */
};

struct alk_completion {
	const char *program;
	const struct alk_completion_command *commands;
	size_t n_commands;
	const struct alk_completion_flag *flags; /* of the program and of each command */
	size_t n_flags;
};

#define ALK_COMPLETION_SHELLS "bash zsh fish"

/* Print the script for `shell` to `out`. -EINVAL: there is no such shell. */
ALK_EXPORT int alk_completion_print(const struct alk_completion *completion, const char *shell,
				    FILE *out);

#endif
