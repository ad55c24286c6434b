/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "schema.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA_DEPTH 16
#define SCHEMA_LIST_MAX 64 /* of enum: each value is compared with all of it */
#define PATH_MAX_BYTES 128

struct path {
	char text[PATH_MAX_BYTES];
	struct alk_err *err;
};

static int wrong(const struct path *path, const char *what)
{
	return alk_err_set(path->err, -EINVAL, "%s: %s", *path->text != '\0' ? path->text : "/",
			   what);
}

/* Goes down by a name; gives where to cut again. A name that could not be shown is not. */
static size_t path_add(struct path *path, const char *name)
{
	size_t at = strlen(path->text);
	bool plain = *name != '\0';

	for (const char *p = name; *p != '\0'; p++)
		plain &= *p > 0x20 && *p < 0x7f;
	snprintf(path->text + at, sizeof(path->text) - at, "/%s", plain ? name : "?");
	return at;
}

typedef int word_check(const json_t *value, struct path *path, unsigned depth);

static int check_one(const json_t *schema, struct path *path, unsigned depth);

static bool is_type(const char *name)
{
	static const char *const names[] = {"null",   "boolean", "integer", "number",
					    "string", "array",	 "object"};

	for (size_t i = 0; name != NULL && i < sizeof(names) / sizeof(*names); i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

static int check_type(const json_t *value, struct path *path, unsigned depth)
{
	size_t i;
	json_t *one;

	(void)depth;
	if (json_is_string(value))
		return is_type(json_string_value(value)) ? 0 : wrong(path, "no such type");
	if (!json_is_array(value) || json_array_size(value) == 0 || json_array_size(value) > 7)
		return wrong(path, "must be the name of a type or a list of names");
	json_array_foreach(value, i, one)
	{
		if (!is_type(json_string_value(one)))
			return wrong(path, "no such type");
	}
	return 0;
}

static int check_enum(const json_t *value, struct path *path, unsigned depth)
{
	(void)depth;
	if (!json_is_array(value) || json_array_size(value) == 0 ||
	    json_array_size(value) > SCHEMA_LIST_MAX)
		return wrong(path, "must be a list of 1 to 64 values");
	return 0;
}

static int check_any(const json_t *value, struct path *path, unsigned depth)
{
	(void)value, (void)path, (void)depth;
	return 0;
}

static int check_properties(const json_t *value, struct path *path, unsigned depth)
{
	const char *name;
	json_t *one;

	if (!json_is_object(value))
		return wrong(path, "must be an object");
	json_object_foreach((json_t *)value, name, one)
	{
		size_t at = path_add(path, name);

		if (check_one(one, path, depth + 1) < 0)
			return -EINVAL;
		path->text[at] = '\0';
	}
	return 0;
}

static bool names_repeat(const json_t *names, size_t at)
{
	const char *name = json_string_value(json_array_get(names, at));

	for (size_t i = 0; i < at; i++)
		if (strcmp(json_string_value(json_array_get(names, i)), name) == 0)
			return true;
	return false;
}

/* Each value is looked through for all of them. */
static int check_names(const json_t *value, struct path *path, unsigned depth)
{
	size_t i;
	json_t *one;

	(void)depth;
	if (!json_is_array(value) || json_array_size(value) > 256)
		return wrong(path, "must be a list of at most 256 names");
	json_array_foreach(value, i, one)
	{
		if (!json_is_string(one))
			return wrong(path, "must be a list of names");
		if (names_repeat(value, i))
			return wrong(path, "has a name twice");
	}
	return 0;
}

static int check_schema(const json_t *value, struct path *path, unsigned depth)
{
	return check_one(value, path, depth + 1);
}

static int check_count(const json_t *value, struct path *path, unsigned depth)
{
	(void)depth;
	return json_is_integer(value) && json_integer_value(value) >= 0
		       ? 0
		       : wrong(path, "must be a whole number, 0 or more");
}

static int check_number(const json_t *value, struct path *path, unsigned depth)
{
	(void)depth;
	return json_is_number(value) ? 0 : wrong(path, "must be a number");
}

static const struct word {
	const char *name;
	word_check *check;
} words[] = {
	{"type", check_type},
	{"enum", check_enum},
	{"const", check_any},
	{"properties", check_properties},
	{"required", check_names},
	{"additionalProperties", check_schema},
	{"items", check_schema},
	{"minItems", check_count},
	{"maxItems", check_count},
	{"minLength", check_count},
	{"maxLength", check_count},
	{"minimum", check_number},
	{"maximum", check_number},
	{"exclusiveMinimum", check_number},
	{"exclusiveMaximum", check_number},
	{"title", check_any},
	{"description", check_any},
	{"default", check_any},
	{"examples", check_any},
	{"$schema", check_any},
	{"$id", check_any},
	{"$comment", check_any},
};

static int check_one(const json_t *schema, struct path *path, unsigned depth)
{
	const char *name;
	json_t *value;

	if (json_is_boolean(schema))
		return 0;
	if (!json_is_object(schema))
		return wrong(path, "a schema is an object, true or false");
	if (depth > SCHEMA_DEPTH)
		return wrong(path, "nested too deep");
	json_object_foreach((json_t *)schema, name, value)
	{
		size_t at = path_add(path, name), i = 0;

		while (i < sizeof(words) / sizeof(*words) && strcmp(words[i].name, name) != 0)
			i++;
		if (i == sizeof(words) / sizeof(*words))
			return wrong(path, "this word of JSON Schema is not supported");
		if (words[i].check(value, path, depth) < 0)
			return -EINVAL;
		path->text[at] = '\0';
	}
	return 0;
}

int schema_check(const json_t *schema, struct alk_err *err)
{
	struct path path = {.err = err};

	return check_one(schema, &path, 0);
}

/* Values */

static bool type_fits(const char *name, const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_NULL:
		return strcmp(name, "null") == 0;
	case JSON_TRUE:
	case JSON_FALSE:
		return strcmp(name, "boolean") == 0;
	case JSON_INTEGER:
		return strcmp(name, "integer") == 0 || strcmp(name, "number") == 0;
	case JSON_REAL:
		return strcmp(name, "number") == 0 ||
		       (strcmp(name, "integer") == 0 &&
			json_real_value(value) >= -9007199254740992.0 &&
			json_real_value(value) <= 9007199254740992.0 &&
			json_real_value(value) == (double)(int64_t)json_real_value(value));
	case JSON_STRING:
		return strcmp(name, "string") == 0;
	case JSON_ARRAY:
		return strcmp(name, "array") == 0;
	case JSON_OBJECT:
		return strcmp(name, "object") == 0;
	}
	return false;
}

static bool types_fit(const json_t *type, const json_t *value)
{
	size_t i;
	json_t *one;

	if (json_is_string(type))
		return type_fits(json_string_value(type), value);
	json_array_foreach(type, i, one)
	{
		if (type_fits(json_string_value(one), value))
			return true;
	}
	return false;
}

static bool equal(const json_t *a, const json_t *b)
{
	if (json_is_number(a) && json_is_number(b) && json_typeof(a) != json_typeof(b))
		return json_number_value(a) == json_number_value(b);
	return json_equal(a, b);
}

static bool enum_fits(const json_t *list, const json_t *value)
{
	size_t i;
	json_t *one;

	json_array_foreach(list, i, one)
	{
		if (equal(one, value))
			return true;
	}
	return false;
}

static int fits_one(const json_t *schema, const json_t *value, struct path *path);

/* Whole numbers as such: a double has not all of them. */
static int number_order(const json_t *a, const json_t *b)
{
	double x = json_number_value(a), y = json_number_value(b);

	if (json_is_integer(a) && json_is_integer(b))
		return (json_integer_value(a) > json_integer_value(b)) -
		       (json_integer_value(a) < json_integer_value(b));
	return (x > y) - (x < y);
}

static int fits_number(const json_t *schema, const json_t *value, struct path *path)
{
	const json_t *limit = json_object_get(schema, "minimum");

	if (limit != NULL && number_order(value, limit) < 0)
		return wrong(path, "is too small");
	limit = json_object_get(schema, "exclusiveMinimum");
	if (limit != NULL && number_order(value, limit) <= 0)
		return wrong(path, "is too small");
	limit = json_object_get(schema, "maximum");
	if (limit != NULL && number_order(value, limit) > 0)
		return wrong(path, "is too large");
	limit = json_object_get(schema, "exclusiveMaximum");
	if (limit != NULL && number_order(value, limit) >= 0)
		return wrong(path, "is too large");
	return 0;
}

static int fits_count(const json_t *schema, const char *low, const char *high, size_t n,
		      struct path *path)
{
	const json_t *limit = json_object_get(schema, low);

	if (limit != NULL && n < (uint64_t)json_integer_value(limit))
		return wrong(path, "is too short");
	limit = json_object_get(schema, high);
	if (limit != NULL && n > (uint64_t)json_integer_value(limit))
		return wrong(path, "is too long");
	return 0;
}

static size_t characters(const char *text)
{
	size_t n = 0;

	for (; *text != '\0'; text++)
		n += (*text & 0xc0) != 0x80;
	return n;
}

static int fits_array(const json_t *schema, const json_t *value, struct path *path)
{
	const json_t *items = json_object_get(schema, "items");
	size_t i, at;
	json_t *one;
	char name[24];

	if (fits_count(schema, "minItems", "maxItems", json_array_size(value), path) < 0)
		return -EINVAL;
	if (items == NULL)
		return 0;
	json_array_foreach(value, i, one)
	{
		snprintf(name, sizeof(name), "%zu", i);
		at = path_add(path, name);
		if (fits_one(items, one, path) < 0)
			return -EINVAL;
		path->text[at] = '\0';
	}
	return 0;
}

static int fits_object(const json_t *schema, const json_t *value, struct path *path)
{
	const json_t *properties = json_object_get(schema, "properties"), *rule;
	const json_t *others = json_object_get(schema, "additionalProperties");
	const char *name;
	size_t i, at;
	json_t *one;

	json_array_foreach(json_object_get(schema, "required"), i, one)
	{
		if (json_object_get(value, json_string_value(one)) != NULL)
			continue;
		path_add(path, json_string_value(one));
		return wrong(path, "is missing");
	}
	json_object_foreach((json_t *)value, name, one)
	{
		rule = json_object_get(properties, name);
		if (rule == NULL)
			rule = others;
		if (rule == NULL)
			continue;
		at = path_add(path, name);
		if (fits_one(rule, one, path) < 0)
			return -EINVAL;
		path->text[at] = '\0';
	}
	return 0;
}

/* As deep as the schema. */
static int fits_one(const json_t *schema, const json_t *value, struct path *path)
{
	const json_t *rule;

	if (json_is_boolean(schema))
		return json_is_true(schema) ? 0 : wrong(path, "may not be there");
	rule = json_object_get(schema, "type");
	if (rule != NULL && !types_fit(rule, value))
		return wrong(path, "has the wrong type");
	rule = json_object_get(schema, "enum");
	if (rule != NULL && !enum_fits(rule, value))
		return wrong(path, "is not one of the values");
	rule = json_object_get(schema, "const");
	if (rule != NULL && !equal(rule, value))
		return wrong(path, "is not the value");
	if (json_is_number(value))
		return fits_number(schema, value, path);
	if (json_is_string(value))
		return fits_count(schema, "minLength", "maxLength",
				  characters(json_string_value(value)), path);
	if (json_is_array(value))
		return fits_array(schema, value, path);
	if (json_is_object(value))
		return fits_object(schema, value, path);
	return 0;
}

int schema_fits(const json_t *schema, const json_t *value, struct alk_err *err)
{
	struct path path = {.err = err};

	return fits_one(schema, value, &path);
}
