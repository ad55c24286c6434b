/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "options_private.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

#define REPEAT_MAX 1000

#define TYPE(t_) (1u << (t_))
#define TYPES_NUM (TYPE(ALK_OPT_INT) | TYPE(ALK_OPT_DURATION) | TYPE(ALK_OPT_SIZE))
#define TYPES_TEXT                                                                                 \
	(TYPE(ALK_OPT_STRING) | TYPE(ALK_OPT_ENUM) | TYPE(ALK_OPT_PATH) | TYPE(ALK_OPT_FILE) |     \
	 TYPE(ALK_OPT_TABLE))

/* --- tables ----------------------------------------------------------------------------------- */

const struct alk_option *alk_option_find(const struct alk_option *table, const char *name)
{
	for (; table != NULL && table->type != ALK_OPT_END; table++)
		if (strcmp(table->name, name) == 0)
			return table;
	return NULL;
}

const struct alk_option *alk_option_secret_file(const struct alk_option *table, const char *name)
{
	size_t len = strlen(name);

	if (len < 6 || strcmp(name + len - 5, "_file") != 0)
		return NULL;
	for (; table != NULL && table->type != ALK_OPT_END; table++)
		if ((table->flags & (ALK_OPT_SECRET | ALK_OPT_URL)) &&
		    strlen(table->name) == len - 5 && strncmp(table->name, name, len - 5) == 0)
			return table;
	return NULL;
}

const char *alk_option_nearest(const struct alk_option *table, const char *name, unsigned *best)
{
	const char *nearest = NULL;

	for (; table != NULL && table->type != ALK_OPT_END; table++) {
		unsigned distance = alk_text_distance(table->name, name);

		if (distance < *best && alk_text_near(distance, strlen(name))) {
			*best = distance;
			nearest = table->name;
		}
	}
	return nearest;
}

/* --- life ------------------------------------------------------------------------------------- */

struct alk_options *alk_options_new(const struct alk_option *table)
{
	struct alk_options *options = calloc(1, sizeof(*options));

	if (options == NULL)
		return NULL;
	options->table = table;
	while (table != NULL && table[options->count].type != ALK_OPT_END)
		options->count++;
	options->value = calloc(options->count + 1, sizeof(*options->value));
	if (options->value == NULL) {
		free(options);
		return NULL;
	}
	return options;
}

void alk_value_clear(struct alk_value *value)
{
	for (size_t i = 0; i < value->count; i++) {
		explicit_bzero(value->text[i], strlen(value->text[i]));
		free(value->text[i]);
		if (value->file != NULL)
			alk_content_deinit(&value->file[i]);
		if (value->given != NULL)
			alk_content_deinit(&value->given[i]);
	}
	free(value->text);
	free(value->file);
	free(value->given);
	free(value->source);
	free(value->secret_file);
	*value = (struct alk_value){0};
}

void alk_options_free(struct alk_options **options)
{
	if (*options == NULL)
		return;
	for (size_t i = 0; i < (*options)->count; i++)
		alk_value_clear(&(*options)->value[i]);
	free((*options)->value);
	free(*options);
	*options = NULL;
}

/* --- getters ---------------------------------------------------------------------------------- */

struct alk_value *alk_options_value(const struct alk_options *options, const char *name)
{
	const struct alk_option *option = alk_option_find(options->table, name);

	return option != NULL ? &options->value[option - options->table] : NULL;
}

static const struct alk_value *value_of(const struct alk_options *options, const char *name,
					unsigned types)
{
	const struct alk_option *option = alk_option_find(options->table, name);

	if (option == NULL || (TYPE(option->type) & types) == 0) {
		fprintf(stderr, "alknet: bug: option \"%s\" %s\n", name,
			option == NULL ? "is not in its table" : "was asked for as another type");
		abort();
	}
	return &options->value[option - options->table];
}

bool alk_options_has(const struct alk_options *options, const char *name)
{
	return value_of(options, name, ~0u)->source != NULL;
}

bool alk_options_bool(const struct alk_options *options, const char *name)
{
	return value_of(options, name, TYPE(ALK_OPT_BOOL))->num != 0;
}

int64_t alk_options_int(const struct alk_options *options, const char *name)
{
	return value_of(options, name, TYPES_NUM)->num;
}

const char *alk_options_str(const struct alk_options *options, const char *name)
{
	return alk_options_nth(options, name, 0);
}

const char *alk_options_nth(const struct alk_options *options, const char *name, size_t n)
{
	const struct alk_value *value = value_of(options, name, TYPES_TEXT);

	return n < value->count ? value->text[n] : NULL;
}

const char *alk_options_file(const struct alk_options *options, const char *name, size_t n,
			     size_t *len)
{
	const struct alk_value *value = value_of(options, name, TYPE(ALK_OPT_FILE));

	if (n >= value->count || value->file == NULL || value->file[n].bytes == NULL)
		return NULL;
	if (len != NULL)
		*len = value->file[n].len;
	return value->file[n].bytes;
}

/* --- checking --------------------------------------------------------------------------------- */

static void number_format(const struct alk_option *option, int64_t n, char *out, size_t size)
{
	if (option->type == ALK_OPT_DURATION)
		alk_text_format_duration(n, out, size);
	else if (option->type == ALK_OPT_SIZE)
		alk_text_format_size(n, out, size);
	else
		snprintf(out, size, "%" PRId64, n);
}

static int number_fail(const struct alk_option *option, const char *shown, int64_t min, int64_t max,
		       struct alk_err *err)
{
	static const char *const what[] = {
		[ALK_OPT_INT] = "a whole number",
		[ALK_OPT_DURATION] = "a time (seconds, or a number with ms, s, m or h behind it)",
		[ALK_OPT_SIZE] = "a size (bytes, or a number with K, M or G behind it)",
	};
	const char *word = option->flags & ALK_OPT_AUTO ? " or \"auto\"" : "";
	char lo[32], hi[32];

	number_format(option, min, lo, sizeof(lo));
	number_format(option, max, hi, sizeof(hi));
	if (max == INT64_MAX)
		return alk_err_set(err, -EINVAL, "must be %s from %s up%s, not \"%s\"",
				   what[option->type], lo, word, shown);
	return alk_err_set(err, -EINVAL, "must be %s from %s to %s%s, not \"%s\"",
			   what[option->type], lo, hi, word, shown);
}

static int number_parse(const struct alk_option *option, const char *text, int64_t *out,
			struct alk_err *err)
{
	bool any = option->min == 0 && option->max == 0;
	int64_t min = option->min, max = any ? INT64_MAX : option->max;
	char shown[64];
	int rc;

	if ((option->flags & ALK_OPT_AUTO) && strcmp(text, "auto") == 0) {
		*out = -1;
		return 0;
	}
	if (option->type == ALK_OPT_DURATION)
		rc = alk_text_duration(text, out);
	else if (option->type == ALK_OPT_SIZE)
		rc = alk_text_size(text, out);
	else
		rc = alk_text_int(text, out);
	if (rc == 0 && *out >= min && *out <= max)
		return 0;
	alk_text_escape(text, strlen(text), shown, sizeof(shown));
	return number_fail(option, shown, min, max, err);
}

static int bool_parse(const char *text, int64_t *out, struct alk_err *err)
{
	static const char *const yes[] = {"true", "yes", "on", "1"}, *const no[] = {"false", "no",
										    "off", "0"};
	char shown[64];

	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
		if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
			*out = strcmp(text, yes[i]) == 0;
			return 0;
		}
	}
	alk_text_escape(text, strlen(text), shown, sizeof(shown));
	return alk_err_set(err, -EINVAL, "must be true or false, not \"%s\"", shown);
}

static int enum_check(const struct alk_option *option, const char *text, struct alk_err *err)
{
	char listed[256], shown[64];
	size_t used = 0;

	for (const char *s = option->choices; *s != '\0';) {
		size_t n = strcspn(s, "|");

		if (strlen(text) == n && strncmp(s, text, n) == 0)
			return 0;
		if (used < sizeof(listed))
			used += (size_t)snprintf(listed + used, sizeof(listed) - used, "%s%.*s",
						 used > 0 ? ", " : "", (int)n, s);
		s += n + (s[n] == '|');
	}
	alk_text_escape(text, strlen(text), shown, sizeof(shown));
	return alk_err_set(err, -EINVAL, "must be one of %s, not \"%s\"", listed, shown);
}

static int text_check(const struct alk_option *option, const char *text, struct alk_err *err)
{
	if (!alk_text_utf8(text, strlen(text)))
		return alk_err_set(err, -EINVAL, "is not valid UTF-8");
	if (option->type == ALK_OPT_ENUM)
		return enum_check(option, text, err);
	if (*text == '\0')
		return alk_err_set(err, -EINVAL, "is empty");
	if ((option->type == ALK_OPT_PATH || option->type == ALK_OPT_FILE) &&
	    strlen(text) >= PATH_MAX)
		return alk_err_set(err, -EINVAL, "is too long for a path");
	return 0;
}

/* --- setting ---------------------------------------------------------------------------------- */

static int source_rank(const char *source)
{
	if (source == NULL)
		return -1;
	if (strcmp(source, "default") == 0)
		return 0;
	if (strcmp(source, "flag") == 0)
		return 3;
	return strcmp(source, "environment") == 0 ? 2 : 1;
}

static int value_store(const struct alk_option *option, struct alk_value *value, const char *text,
		       int64_t num, const char *source, struct alk_err *err)
{
	bool grow = value->source != NULL && (option->flags & ALK_OPT_REPEAT) &&
		    strcmp(value->source, source) == 0;
	struct alk_content *given;
	char **more, *copy;

	if (source_rank(value->source) > source_rank(source))
		return 0;
	if (!grow)
		alk_value_clear(value);
	if (value->count >= REPEAT_MAX)
		return alk_err_set(err, -E2BIG, "is given more than %d times", REPEAT_MAX);
	if (value->source == NULL && (value->source = strdup(source)) == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	value->num = num;
	if (text == NULL)
		return 0;
	copy = strdup(text);
	more = copy != NULL ? realloc(value->text, (value->count + 1) * sizeof(*more)) : NULL;
	if (more == NULL) {
		free(copy);
		return alk_err_set(err, -ENOMEM, "out of memory");
	}
	value->text = more;
	if (value->given != NULL) {
		given = realloc(value->given, (value->count + 1) * sizeof(*given));
		if (given == NULL) {
			free(copy);
			return alk_err_set(err, -ENOMEM, "out of memory");
		}
		given[value->count] = (struct alk_content){.bytes = NULL};
		value->given = given;
	}
	value->text[value->count++] = copy;
	return 0;
}

static int table_store(const struct alk_option *option, struct alk_value *value,
		       const json_t *element, const char *source, struct alk_err *err)
{
	char *text = json_dumps(element, JSON_COMPACT | JSON_ENCODE_ANY);
	int rc;

	if (text == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	rc = value_store(option, value, text, 0, source, err);
	free(text);
	return rc;
}

int alk_options_set_text(struct alk_options *options, const struct alk_option *option,
			 const char *text, const char *source, struct alk_err *err)
{
	struct alk_value *value = &options->value[option - options->table];
	int64_t num = 0;
	json_t *word;
	int rc;

	switch (option->type) {
	case ALK_OPT_BOOL:
		rc = bool_parse(text, &num, err);
		return rc < 0 ? rc : value_store(option, value, NULL, num, source, err);
	case ALK_OPT_INT:
	case ALK_OPT_DURATION:
	case ALK_OPT_SIZE:
		rc = number_parse(option, text, &num, err);
		return rc < 0 ? rc : value_store(option, value, NULL, num, source, err);
	case ALK_OPT_TABLE:
		rc = text_check(option, text, err);
		if (rc < 0)
			return rc;
		word = json_string(text);
		rc = word != NULL ? table_store(option, value, word, source, err)
				  : alk_err_set(err, -ENOMEM, "out of memory");
		json_decref(word);
		return rc;
	default:
		rc = text_check(option, text, err);
		return rc < 0 ? rc : value_store(option, value, text, 0, source, err);
	}
}

int alk_options_set_content(struct alk_options *options, const struct alk_option *option,
			    const char *bytes, size_t len, const char *source, struct alk_err *err)
{
	struct alk_value *value = &options->value[option - options->table];
	size_t limit = option->flags & ALK_OPT_PRIVATE ? ALK_CONTENT_PRIVATE_MAX : ALK_CONTENT_MAX;
	char label[80], *copy;
	int rc;

	if (option->type != ALK_OPT_FILE)
		return alk_err_set(err, -EINVAL, "has no content");
	if (len > limit)
		return alk_err_set(err, -EFBIG, "is larger than %zu KiB", limit / 1024);
	snprintf(label, sizeof(label), "(%s)", option->name);
	rc = value_store(option, value, label, 0, source, err);
	if (rc < 0 || source_rank(value->source) > source_rank(source))
		return rc;
	copy = malloc(len + 1);
	if (copy == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	if (value->given == NULL)
		value->given = calloc(value->count, sizeof(*value->given));
	if (value->given == NULL) {
		free(copy);
		return alk_err_set(err, -ENOMEM, "out of memory");
	}
	memcpy(copy, bytes, len);
	copy[len] = '\0';
	value->given[value->count - 1] = (struct alk_content){.bytes = copy, .len = len};
	return 0;
}

static const char *json_kind(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_STRING:
		return "text";
	case JSON_INTEGER:
	case JSON_REAL:
		return "a number";
	case JSON_TRUE:
	case JSON_FALSE:
		return "true or false";
	case JSON_ARRAY:
		return "a list";
	default:
		return "a table";
	}
}

static int kind_fail(const json_t *value, const char *want, struct alk_err *err)
{
	return alk_err_set(err, -EINVAL, "must be %s, not %s", want, json_kind(value));
}

static int json_number(struct alk_options *options, const struct alk_option *option,
		       const json_t *value, const char *source, struct alk_err *err)
{
	char text[400];

	if (json_is_integer(value))
		snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	else if (json_is_real(value) && option->type != ALK_OPT_INT)
		snprintf(text, sizeof(text), "%.6f", json_real_value(value));
	else if (json_is_real(value))
		snprintf(text, sizeof(text), "%.17g", json_real_value(value));
	else if (json_is_string(value) &&
		 (option->type != ALK_OPT_INT || (option->flags & ALK_OPT_AUTO)))
		return alk_options_set_text(options, option, json_string_value(value), source, err);
	else
		return kind_fail(value, "a number", err);
	return alk_options_set_text(options, option, text, source, err);
}

/* A relative path in the file means: beside the file; ~ is who runs this. malloc'd; NULL when out
 * of memory. */
static char *path_resolve(const char *path, const char *dir)
{
	const char *home = strncmp(path, "~/", 2) == 0 ? getenv("HOME") : NULL;
	char *whole;

	if (home != NULL) {
		dir = home;
		path += 2;
	} else if (dir == NULL || strcmp(dir, ".") == 0 || *path == '/' || *path == '\0') {
		return strdup(path);
	}
	return asprintf(&whole, "%s/%s", dir, path) < 0 ? NULL : whole;
}

/* "none" is a word, not a path. */
static int json_path(struct alk_options *options, const struct alk_option *option, const char *path,
		     const char *source, const char *dir, struct alk_err *err)
{
	char *whole = strcmp(path, "none") == 0 ? strdup(path) : path_resolve(path, dir);
	int rc;

	if (whole == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	rc = alk_options_set_text(options, option, whole, source, err);
	free(whole);
	return rc;
}

static int json_one(struct alk_options *options, const struct alk_option *option,
		    const json_t *value, const char *source, const char *dir, struct alk_err *err)
{
	switch (option->type) {
	case ALK_OPT_BOOL:
		if (!json_is_boolean(value))
			return kind_fail(value, "true or false", err);
		return alk_options_set_text(options, option, json_is_true(value) ? "true" : "false",
					    source, err);
	case ALK_OPT_INT:
	case ALK_OPT_DURATION:
	case ALK_OPT_SIZE:
		return json_number(options, option, value, source, err);
	case ALK_OPT_TABLE:
		return table_store(option, &options->value[option - options->table], value, source,
				   err);
	default:
		if (!json_is_string(value))
			return kind_fail(value, "text", err);
		if (option->type == ALK_OPT_PATH || option->type == ALK_OPT_FILE)
			return json_path(options, option, json_string_value(value), source, dir,
					 err);
		return alk_options_set_text(options, option, json_string_value(value), source, err);
	}
}

int alk_options_set_json(struct alk_options *options, const struct alk_option *option,
			 const json_t *value, const char *source, const char *dir,
			 struct alk_err *err)
{
	size_t i;
	json_t *element;

	if (options->value[option - options->table].secret_file != NULL)
		return alk_err_set(err, -EINVAL, "stands beside %s_file; give one of the two",
				   option->name);
	/* {} in the file may be an empty list. */
	if ((option->flags & ALK_OPT_REPEAT) && json_is_object(value) &&
	    json_object_size(value) == 0)
		return 0;
	if (!(option->flags & ALK_OPT_REPEAT) || !json_is_array(value))
		return json_one(options, option, value, source, dir, err);
	json_array_foreach(value, i, element)
	{
		int rc = json_one(options, option, element, source, dir, err);

		if (rc < 0)
			return alk_err_prefix(err, rc, "entry %zu", i + 1);
	}
	return 0;
}

int alk_options_set_secret_file(struct alk_options *options, const struct alk_option *option,
				const json_t *path, const char *source, const char *dir,
				struct alk_err *err)
{
	struct alk_value *value = &options->value[option - options->table];
	const char *text = json_string_value(path);

	if (text == NULL)
		return kind_fail(path, "text", err);
	if (source_rank(value->source) > source_rank(source))
		return 0;
	if (source_rank(value->source) == source_rank(source))
		return alk_err_set(err, -EINVAL, "stands beside %s; give one of the two",
				   option->name);
	alk_value_clear(value);
	value->source = strdup(source);
	value->secret_file = path_resolve(text, dir);
	if (value->source == NULL || value->secret_file == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	return 0;
}

int alk_options_defaults(struct alk_options *options, struct alk_err *err)
{
	for (const struct alk_option *o = options->table; o != NULL && o->type != ALK_OPT_END;
	     o++) {
		int rc = 0;

		if (options->value[o - options->table].source == NULL && o->fallback != NULL)
			rc = alk_options_set_text(options, o, o->fallback, "default", err);
		if (rc < 0)
			return alk_err_prefix(err, rc, "%s: the default", o->name);
	}
	return 0;
}
