/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_CMDLINE_H
#define ALK_CMDLINE_H

/* The command line: flags are made from the options table, and so are --help and the manual page.
 * Used by serve, connect and check (main.h) and by the program (src/cmd/alknet.c). */

#include <stdbool.h>
#include <stdio.h>
#include "conf.h"

/* What the command line says besides options. */
struct alk_cmdline {
	const char *config; /* -c FILE */
	bool help;
	bool dump_defaults; /* check */
	bool connect;	    /* check: the file is one for connect */
};

/* argv[0] is the subcommand. Sets the flags in `conf`, or, when that is NULL, only looks for the
 * words of struct alk_cmdline and skips the rest. 0, or -EINVAL with `err` naming the flag. */
int alk_cmdline_read(int argc, char **argv, struct alk_conf *conf, struct alk_cmdline *out,
		     struct alk_err *err);
/* Set what the environment says. */
int alk_cmdline_environment(struct alk_conf *conf, struct alk_err *err);

/* A flag that is no option of a configuration. `arg` NULL: it takes none. A list ends with a NULL
 * name. */
struct alk_flag {
	const char *name; /* without the dashes */
	const char *arg;
	const char *help;
	const char *of; /* the command's first argument that it goes with; NULL: with any */
};
extern const struct alk_flag alk_policy_flags[];				 /* policy_main.c */
extern const struct alk_flag alk_pub_flags[], alk_sub_flags[], alk_call_flags[]; /* bus_command.c */

/* What the help and the manual say of it, `of` before it. Gives `text`. */
const char *alk_cmdline_flag_help(const struct alk_flag *flag, char *text, size_t size);
/* One flag; `value` is NULL where it takes none, and borrowed for the program's life. 0, or -errno
 * with `err`. */
typedef int alk_flag_take(void *user, const char *name, const char *value, struct alk_err *err);
/* Hand the flags to `take`, wherever they stand; `--` ends them, and a number below zero is none.
 * -h is --help, and -c is --config where there is one. Gives where the other words are in `argv`
 * now, up to its end; what `take` failed with; -EINVAL with `err`, which names `command`. */
int alk_cmdline_read_flags(const struct alk_flag *flags, const char *command, int argc, char **argv,
			   alk_flag_take *take, void *user, struct alk_err *err);

/* The commands; NULL ends the list. Hidden ones have no summary. */
struct alk_command {
	const char *name;
	const char *usage;
	const char *summary;
	enum alk_role role;	      /* whose options it takes; ALK_ROLE_NONE = none */
	const struct alk_flag *flags; /* of its own, or NULL */
};
extern const struct alk_command alk_commands[];

/* `command` NULL: of the program. -EINVAL when there is no such command. */
ALK_EXPORT int alk_cmdline_help(const char *command, FILE *out);
/* The script for a shell; -EINVAL when there is no such shell (cmdline_completion.c). */
ALK_EXPORT int alk_cmdline_completion(const char *shell, FILE *out);
ALK_EXPORT void alk_cmdline_version(FILE *out);
/* mdoc(7), manual.c. */
ALK_EXPORT void alk_cmdline_manual(FILE *out);
/* "frob is not a command; did you mean ...?" on stderr. Returns 2. */
ALK_EXPORT int alk_cmdline_unknown(const char *word);

/* "--max-sessions" from max_sessions. */
void alk_cmdline_flag(const struct alk_option *option, char *out, size_t size);
bool alk_cmdline_is_flag(const struct alk_option *option);

#endif
