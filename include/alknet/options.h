/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_OPTIONS_H
#define ALKNET_OPTIONS_H

/* Options are data: one array of struct alk_option describes every option of a program or a plugin.
 * Checking, defaults, --help, the man page, completion, `alknet check --dump-defaults` and
 * `config.show` are made from it. A plugin's options stand in the configuration under the plugin's
 * name: `tcp = { backlog = 512 }`. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <alknet/err.h>

enum alk_option_type {
	ALK_OPT_END, /* ends the array */
	ALK_OPT_BOOL,
	ALK_OPT_INT,
	ALK_OPT_DURATION, /* seconds; a number, or text with s, m, h, ms behind it; kept in milliseconds */
	ALK_OPT_SIZE, /* bytes; a number, or text with K, M, G behind it */
	ALK_OPT_STRING,
	ALK_OPT_ENUM,  /* one of `choices`, split by | */
	ALK_OPT_PATH,  /* a path that is used by name (a socket, a directory) */
	ALK_OPT_FILE,  /* a path whose content is read at start and kept */
	ALK_OPT_TABLE, /* a table that its owner checks (listen, a plugin's own) */
};

enum alk_option_flags {
	ALK_OPT_SERVE = 1 << 0,	  /* `alknet serve` takes it */
	ALK_OPT_CONNECT = 1 << 1, /* `alknet connect` takes it */
	ALK_OPT_REPEAT = 1 << 2,  /* may be given several times; a list in the file */
	ALK_OPT_SECRET = 1 << 3,  /* never shown; never a flag; NAME_file is accepted for it */
	ALK_OPT_PRIVATE = 1 << 4, /* a FILE that others must not be able to read */
	ALK_OPT_NO_FLAG = 1 << 5, /* in the file only */
	ALK_OPT_PUB_TOO = 1 << 7, /* PRIVATE, but others may read a file whose name ends in .pub */
	ALK_OPT_AUTO = 1 << 6,	  /* the word `auto` is taken too, kept as -1 */
	/* A URL that may hold a password: that is not shown, cannot be given as a flag or in the
	 * environment, and NAME_file is accepted for the whole. */
	ALK_OPT_URL = 1 << 8,
	ALK_OPT_RESTART = 1 << 9, /* of a program: a reload does not change it, and says so */
	ALK_OPT_PLUGIN = 1 << 10, /* of a program: for the plugin that has an option of that name */
};

struct alk_option {
	const char *name; /* with underscores; the flag has dashes */
	enum alk_option_type type;
	unsigned flags;
	const char *fallback; /* the default as it would be written, NULL = unset */
	int64_t min, max;     /* of INT, DURATION (ms), SIZE; both 0 = any that is not negative */
	const char *choices;  /* of ENUM */
	const char *arg;      /* how --help names the value */
	const char *help;     /* one sentence */
	/* For the programs' own tables; plugins leave these out. */
	const char *env;   /* environment variable that fills it in */
	const char *group; /* heading in --help and the man page */
};

/* The checked values of one array, defaults filled in. Owned by the configuration; a plugin borrows
 * its own for life. Asking for a name that is not in the array, or as another type, is our own bug
 * and aborts. */
struct alk_options;
ALK_EXPORT bool alk_options_has(const struct alk_options *options, const char *name);
ALK_EXPORT bool alk_options_bool(const struct alk_options *options, const char *name);
ALK_EXPORT int64_t alk_options_int(const struct alk_options *options,
				   const char *name); /* ms, bytes too */
/* Of STRING, ENUM, PATH, and FILE (its path); of TABLE its JSON text. NULL when unset. */
ALK_EXPORT const char *alk_options_str(const struct alk_options *options, const char *name);
/* The n-th value of a REPEAT option, NULL past the last. */
ALK_EXPORT const char *alk_options_nth(const struct alk_options *options, const char *name,
				       size_t n);
/* The content of a FILE option (n-th of a REPEAT), NUL-terminated besides; `len` may be NULL. NULL
 * when unset. */
ALK_EXPORT const char *alk_options_file(const struct alk_options *options, const char *name,
					size_t n, size_t *len);

#endif
