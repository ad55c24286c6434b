/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_OPTIONS_PRIVATE_H
#define ALK_OPTIONS_PRIVATE_H

/* The values behind alknet/options.h: how they are set, checked, read and sent. Text and JSON go
 * through one parser for each type, so that a flag, the environment and the file mean the same. */

#include <jansson.h>
#include <alknet/options.h>
#include "content.h"

struct alk_value {
	char *source; /* "default", "environment", "flag" or the file's path; NULL = unset */
	int64_t num;  /* BOOL, INT, DURATION, SIZE */
	size_t count; /* of text */
	char **text;  /* STRING, ENUM, PATH, FILE: the words; TABLE: one JSON text an element */
	struct alk_content *file; /* FILE: as many as `count`, once they were read */
	bool lent;		  /* the first of `file` is in no file: alk_value_lend() */
	/* FILE: contents that were given instead of a path, as many as `count`, or NULL: none was.
	 * Of the others `bytes` is NULL. */
	struct alk_content *given;
	char *secret_file; /* NAME_file of a SECRET */
};

struct alk_options {
	const struct alk_option *table; /* borrowed */
	size_t count;
	struct alk_value *value;
};

/* NULL when out of memory. */
struct alk_options *alk_options_new(const struct alk_option *table);
void alk_options_free(struct alk_options **options);

/* The entry of this name in a table, or NULL. */
const struct alk_option *alk_option_find(const struct alk_option *table, const char *name);
/* The name in a table that is nearest to this one, NULL when none is near; *best is the distance so
 * far. */
const char *alk_option_nearest(const struct alk_option *table, const char *name, unsigned *best);
/* Is this the NAME_file of a SECRET option? Then that option. */
const struct alk_option *alk_option_secret_file(const struct alk_option *table, const char *name);
/* The same value, wherever it comes from? Contents of files count. */
bool alk_value_same(const struct alk_value *a, const struct alk_value *b);
void alk_value_clear(struct alk_value *value);
/* -ENOMEM leaves `to` to be cleared. */
int alk_value_copy(struct alk_value *to, const struct alk_value *from);
/* Forget the contents, so that alk_options_read_files() reads them again. */
void alk_value_unread(struct alk_value *value);
/* Put a content that is in no file before those of files, in the place of the one that was put
 * there last. Copies; `bytes` NULL takes it away. -ENOMEM. */
int alk_value_lend(struct alk_value *value, const char *name, const char *bytes, size_t len);
struct alk_value *alk_options_value(const struct alk_options *options, const char *name);

/* Set one value. `source` says how much it counts: default < a file < environment < flag; what
 * counts less than the value that is there is checked and left. A REPEAT grows while the source is
 * the same. Errors are sentences that begin with what is wrong, without the name. */
int alk_options_set_text(struct alk_options *options, const struct alk_option *option,
			 const char *text, const char *source, struct alk_err *err);
/* Of a FILE: the content itself, which no file is read for, then or later. In sentences it is
 * "(NAME)". */
int alk_options_set_content(struct alk_options *options, const struct alk_option *option,
			    const char *bytes, size_t len, const char *source, struct alk_err *err);
/* `dir` is what relative paths are relative to; NULL = the working directory. */
int alk_options_set_json(struct alk_options *options, const struct alk_option *option,
			 const json_t *value, const char *source, const char *dir,
			 struct alk_err *err);
/* Set NAME_file of a SECRET. */
int alk_options_set_secret_file(struct alk_options *options, const struct alk_option *option,
				const json_t *path, const char *source, const char *dir,
				struct alk_err *err);
/* Fill in what nobody set. */
int alk_options_defaults(struct alk_options *options, struct alk_err *err);
/* Read FILEs and NAME_files that have not been read. *failed is the name of the option that could
 * not be, as it stands in the table. */
int alk_options_read_files(struct alk_options *options, const char **failed, struct alk_err *err);

/* For the control socket: everything, secrets and contents too. */
json_t *alk_options_encode(const struct alk_options *options);
int alk_options_decode(struct alk_options *options, const json_t *encoded, struct alk_err *err);
/* {"name": {"value": ..., "source": ...}} for people, secrets as "***". */
json_t *alk_options_show(const struct alk_options *options);

#endif
