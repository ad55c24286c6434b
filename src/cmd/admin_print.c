/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "admin_tool.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COLUMNS_MAX 32
#define CELL_MAX 512

static size_t escape(const char *text, size_t len, char *out, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < len && n + 5 < size; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c >= 0x20 && c < 0x7f && c != '\\')
			out[n++] = (char)c;
		else if (c == '\\')
			n += (size_t)snprintf(out + n, size - n, "\\\\");
		else
			n += (size_t)snprintf(out + n, size - n, "\\x%02x", c);
	}
	out[n] = '\0';
	return n;
}

static void format_duration(double s, char *out, size_t size)
{
	unsigned long t = s > 0 && s < 1e15 ? (unsigned long)s : 0;

	if (t < 60)
		snprintf(out, size, "%.1fs", s);
	else if (t < 3600)
		snprintf(out, size, "%lum%02lus", t / 60, t % 60);
	else if (t < 86400)
		snprintf(out, size, "%luh%02lum", t / 3600, t / 60 % 60);
	else
		snprintf(out, size, "%lud%02luh", t / 86400, t / 3600 % 24);
}

static void format_bytes(double n, char *out, size_t size)
{
	static const char units[] = "KMGTPE";
	int unit = -1;

	while (n >= 1024 && unit < (int)sizeof(units) - 2) {
		n /= 1024;
		unit++;
	}
	if (unit < 0)
		snprintf(out, size, "%.0f B", n);
	else
		snprintf(out, size, "%.1f %ciB", n, units[unit]);
}

static void format_time(double t, char *out, size_t size)
{
	time_t seconds = (time_t)t;
	struct tm tm;

	if (localtime_r(&seconds, &tm) == NULL ||
	    strftime(out, size, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		snprintf(out, size, "%.0f", t);
}

static bool ends_with(const char *key, const char *end)
{
	size_t n = strlen(key), m = strlen(end);

	return n >= m && strcmp(key + n - m, end) == 0;
}

/* A list or a table in a cell. */
static void format_nested(const json_t *value, char *out, size_t size)
{
	char *text = json_dumps(value, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_ENCODE_ANY);

	escape(text != NULL ? text : "-", text != NULL ? strlen(text) : 1, out, size);
	free(text);
}

void admin_format(const char *key, const json_t *value, char *out, size_t size)
{
	double n = json_number_value(value);

	if (json_is_string(value) && json_string_length(value) > 0)
		escape(json_string_value(value), json_string_length(value), out, size);
	else if (json_is_boolean(value))
		snprintf(out, size, "%s", json_is_true(value) ? "yes" : "no");
	else if (json_is_array(value) || json_is_object(value))
		format_nested(value, out, size);
	else if (!json_is_number(value))
		snprintf(out, size, "-");
	else if (strcmp(key, "uptime") == 0 || strcmp(key, "age") == 0 ||
		 ends_with(key, "duration"))
		format_duration(n, out, size);
	else if (strcmp(key, "rtt") == 0)
		snprintf(out, size, "%.1f ms", n * 1000);
	else if (ends_with(key, "bytes"))
		format_bytes(n, out, size);
	else if (strcmp(key, "time") == 0 || strcmp(key, "not_after") == 0)
		format_time(n, out, size);
	else if (strcmp(key, "next") == 0 && n <= 0)
		snprintf(out, size, "now");
	else if (strcmp(key, "next") == 0)
		format_time(n, out, size);
	else if (json_is_integer(value))
		snprintf(out, size, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	else
		snprintf(out, size, "%g", n);
}

static void print_key(FILE *out, const char *key, bool upper, int width)
{
	char text[64];
	size_t n = escape(key, strlen(key), text, sizeof(text));

	for (size_t i = 0; i < n; i++) {
		if (text[i] == '_')
			text[i] = ' ';
		else if (upper)
			text[i] = (char)toupper((unsigned char)text[i]);
	}
	fprintf(out, "%-*s", width, text);
}

static bool is_scalar(const json_t *value)
{
	return !json_is_object(value) && !json_is_array(value);
}

/* A list of names is as good as one value. */
static bool is_names(const json_t *value)
{
	json_t *name;
	size_t i;

	json_array_foreach((json_t *)value, i, name) if (!json_is_string(name)) return false;
	return json_array_size(value) > 0;
}

static bool is_pair(const json_t *value)
{
	return is_scalar(value) || is_names(value);
}

static void print_value(FILE *out, const char *key, const json_t *value)
{
	char cell[CELL_MAX];
	json_t *name;
	size_t i;

	if (is_scalar(value)) {
		admin_format(key, value, cell, sizeof(cell));
		fprintf(out, "%s\n", cell);
		return;
	}
	json_array_foreach((json_t *)value, i, name)
	{
		admin_format(key, name, cell, sizeof(cell));
		fprintf(out, "%s%s", i > 0 ? ", " : "", cell);
	}
	fputc('\n', out);
}

/* "key   value" for what is one value. */
static void print_pairs(FILE *out, const json_t *object)
{
	const char *key;
	json_t *value;
	int width = 0;

	json_object_foreach((json_t *)object, key,
			    value) if (is_pair(value) && (int)strlen(key) > width)
		width = (int)strlen(key);
	json_object_foreach((json_t *)object, key, value)
	{
		if (!is_pair(value))
			continue;
		print_key(out, key, false, width + 2);
		print_value(out, key, value);
	}
}

struct column {
	const char *key;
	int width;
	bool right; /* numbers */
};

/* Every key that a row has, in the order they come; as wide as their widest cell. */
static size_t find_columns(const json_t *rows, struct column *columns)
{
	size_t n = 0, i, c;
	json_t *row, *value;
	const char *key;
	char cell[CELL_MAX];

	json_array_foreach((json_t *)rows, i, row)
	{
		json_object_foreach(row, key, value)
		{
			for (c = 0; c < n && strcmp(columns[c].key, key) != 0; c++)
				;
			if (c == COLUMNS_MAX)
				continue;
			if (c == n)
				columns[n++] = (struct column){key, (int)strlen(key), true};
			admin_format(key, value, cell, sizeof(cell));
			if ((int)strlen(cell) > columns[c].width)
				columns[c].width = (int)strlen(cell);
			columns[c].right = columns[c].right && json_is_number(value);
		}
	}
	return n;
}

static void print_table(FILE *out, const char *name, const json_t *rows)
{
	struct column columns[COLUMNS_MAX];
	size_t n = find_columns(rows, columns), i;
	json_t *row;
	char cell[CELL_MAX];

	if (json_array_size(rows) == 0) {
		fputs("no ", out);
		print_key(out, name, false, 0);
		fputc('\n', out);
		return;
	}
	for (size_t c = 0; c < n; c++) {
		int pad = columns[c].right ? columns[c].width - (int)strlen(columns[c].key) : 0;

		fprintf(out, "%s%*s", c > 0 ? "  " : "", pad, "");
		print_key(out, columns[c].key, true, c + 1 < n && pad == 0 ? columns[c].width : 0);
	}
	fputc('\n', out);
	json_array_foreach((json_t *)rows, i, row)
	{
		for (size_t c = 0; c < n; c++) {
			int width = columns[c].right ? columns[c].width
				    : c + 1 < n	     ? -columns[c].width
						     : 0;

			admin_format(columns[c].key, json_object_get(row, columns[c].key), cell,
				     sizeof(cell));
			fprintf(out, "%s%*s", c > 0 ? "  " : "", width, cell);
		}
		fputc('\n', out);
	}
}

static size_t scalars_of(const json_t *object)
{
	const char *key;
	json_t *value;
	size_t n = 0;

	json_object_foreach((json_t *)object, key, value) n += is_pair(value);
	return n;
}

/* Single values first, then one section for each list and object. */
void admin_print_result(FILE *out, const json_t *result)
{
	const char *key;
	json_t *value;
	char cell[CELL_MAX];
	bool alone = json_object_size(result) == 1;

	if (json_is_string(json_object_get(result, "text")) && alone) { /* metrics: text already */
		fputs(json_string_value(json_object_get(result, "text")), out);
		return;
	}
	if (!json_is_object(result)) {
		admin_format("", result, cell, sizeof(cell));
		fprintf(out, "%s\n", cell);
		return;
	}
	/* One object under one name, as session.show has it. */
	if (alone && json_is_object(json_object_iter_value(json_object_iter((json_t *)result)))) {
		admin_print_result(out, json_object_iter_value(json_object_iter((json_t *)result)));
		return;
	}
	print_pairs(out, result);
	json_object_foreach((json_t *)result, key, value)
	{
		if (is_pair(value))
			continue;
		if (scalars_of(result) > 0 &&
		    (json_is_object(value) || json_array_size(value) > 0)) {
			fputc('\n', out);
			print_key(out, key, false, 0);
			fputs(":\n", out);
		}
		if (json_is_array(value))
			print_table(out, key, value);
		else
			print_pairs(out, value);
	}
}

void admin_print_event(FILE *out, const json_t *event)
{
	const char *key;
	json_t *value;
	char cell[CELL_MAX];

	admin_format("time", json_object_get(event, "time"), cell, sizeof(cell));
	fprintf(out, "%s", cell);
	admin_format("event", json_object_get(event, "event"), cell, sizeof(cell));
	fprintf(out, " %-14s", cell);
	json_object_foreach((json_t *)event, key, value)
	{
		if (strcmp(key, "time") == 0 || strcmp(key, "event") == 0 || !is_scalar(value))
			continue;
		escape(key, strlen(key), cell, 64);
		fprintf(out, " %s=", cell);
		admin_format(key, value, cell, sizeof(cell));
		fprintf(out, strchr(cell, ' ') != NULL ? "\"%s\"" : "%s", cell);
	}
	fputc('\n', out);
}
