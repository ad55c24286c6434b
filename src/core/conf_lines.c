/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "conf_private.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* Where in the file each key stands. Lua's tables do not remember, so the text is looked through
 * for NAME = and ["NAME"] = directly in the table that is returned, and in the plugins' tables in
 * it. A key that was computed is not found: then the file alone is its source. */

#define NAME_MAX_BYTES 63

struct scan {
	const char *p, *end;
	unsigned line;
	int depth; /* of braces */
	char section[NAME_MAX_BYTES + 1];
	json_t *found;
};

static void skip_to(struct scan *s, const char *to)
{
	for (; s->p < to && s->p < s->end; s->p++)
		s->line += *s->p == '\n';
}

/* The end of "[==[ ... ]==]" if one begins at `p`, else NULL. */
static const char *long_bracket(const struct scan *s, const char *p)
{
	const char *at = p + 1;
	size_t level;

	while (at < s->end && *at == '=')
		at++;
	level = (size_t)(at - p) - 1;
	if (at == s->end || *at != '[')
		return NULL;
	for (; at < s->end; at++)
		if (*at == ']' && (size_t)(s->end - at) >= level + 2 && at[level + 1] == ']' &&
		    strspn(at + 1, "=") >= level)
			return at + level + 2;
	return s->end;
}

static void skip_comment(struct scan *s)
{
	const char *end = s->p + 2 < s->end && s->p[2] == '[' ? long_bracket(s, s->p + 2) : NULL;

	if (end == NULL) {
		end = memchr(s->p, '\n', (size_t)(s->end - s->p));
		end = end != NULL ? end : s->end;
	}
	skip_to(s, end);
}

/* Behind a quoted text; its first and last byte without the quotes in *text and *len. */
static const char *quoted(const struct scan *s, const char **text, size_t *len)
{
	const char *at = s->p + 1;

	while (at < s->end && *at != *s->p)
		at += *at == '\\' && at + 1 < s->end ? 2 : 1;
	*text = s->p + 1;
	*len = (size_t)((at < s->end ? at : s->end) - s->p) - 1;
	return at < s->end ? at + 1 : s->end;
}

static bool assigned(const struct scan *s, const char *p)
{
	while (p < s->end && isspace((unsigned char)*p))
		p++;
	return p < s->end && *p == '=' && (p + 1 == s->end || p[1] != '=');
}

static void key_found(struct scan *s, const char *name, size_t len)
{
	char path[2 * NAME_MAX_BYTES + 4];

	if (len > NAME_MAX_BYTES)
		return;
	if (s->depth == 1) {
		memcpy(s->section, name, len);
		s->section[len] = '\0';
		snprintf(path, sizeof(path), "%s", s->section);
	} else if (s->depth == 2) {
		snprintf(path, sizeof(path), "%s.%.*s", s->section, (int)len, name);
	} else {
		return;
	}
	json_object_set_new(s->found, path, json_integer(s->line));
}

static void scan_word(struct scan *s)
{
	const char *name = s->p;

	while (s->p < s->end && (isalnum((unsigned char)*s->p) || *s->p == '_'))
		s->p++;
	if (assigned(s, s->p))
		key_found(s, name, (size_t)(s->p - name));
}

static void scan_quoted(struct scan *s)
{
	const char *text, *end;
	bool bracket = s->p[-1] == '[';
	size_t len;

	end = quoted(s, &text, &len);
	if (bracket && end < s->end && *end == ']' && assigned(s, end + 1))
		key_found(s, text, len);
	skip_to(s, end);
}

static void scan_one(struct scan *s)
{
	const char *end;

	if (s->p[0] == '-' && s->p + 1 < s->end && s->p[1] == '-') {
		skip_comment(s);
	} else if (*s->p == '"' || *s->p == '\'') {
		scan_quoted(s);
	} else if (*s->p == '[' && (end = long_bracket(s, s->p)) != NULL) {
		skip_to(s, end);
	} else if (isalpha((unsigned char)*s->p) || *s->p == '_') {
		scan_word(s);
	} else {
		s->depth += (*s->p == '{') - (*s->p == '}');
		skip_to(s, s->p + 1);
	}
}

json_t *alk_conf_lines(const char *text, size_t len)
{
	struct scan s = {.p = text, .end = text + len, .line = 1, .found = json_object()};

	if (s.found == NULL)
		return NULL;
	/* Whatever stands before the table has no quote before its first byte. */
	while (s.p < s.end && *s.p != 'r' && *s.p != '-' && !isalpha((unsigned char)*s.p))
		skip_to(&s, s.p + 1);
	while (s.p < s.end)
		scan_one(&s);
	return s.found;
}

void alk_conf_where(const struct alk_conf *conf, const char *key, char *out, size_t size)
{
	const char *path = conf->path != NULL ? conf->path : "the configuration";
	json_t *line = json_object_get(conf->lines, key);

	if (line == NULL) { /* or as a secret's file */
		char file[200];

		snprintf(file, sizeof(file), "%s_file", key);
		line = json_object_get(conf->lines, file);
	}
	if (line != NULL)
		snprintf(out, size, "%s:%" JSON_INTEGER_FORMAT, path, json_integer_value(line));
	else
		snprintf(out, size, "%s", path);
}
