/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* One set of values beside another of the same table: what a reload compares and keeps. */
#include "options_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool contents_same(const struct alk_content *a, const struct alk_content *b)
{
	return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

bool alk_value_same(const struct alk_value *a, const struct alk_value *b)
{
	if ((a->source == NULL) != (b->source == NULL) || a->num != b->num ||
	    a->count != b->count || (a->file == NULL) != (b->file == NULL))
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (strcmp(a->text[i], b->text[i]) != 0 ||
		    (a->file != NULL && !contents_same(&a->file[i], &b->file[i])))
			return false;
	return true;
}

static int texts_copy(struct alk_value *to, const struct alk_value *from)
{
	to->text = calloc(from->count + 1, sizeof(*to->text));
	if (to->text == NULL)
		return -ENOMEM;
	for (; to->count < from->count; to->count++) {
		to->text[to->count] = strdup(from->text[to->count]);
		if (to->text[to->count] == NULL)
			return -ENOMEM;
	}
	return 0;
}

static int contents_copy(struct alk_content **to, const struct alk_content *from, size_t count)
{
	if (from == NULL)
		return 0;
	*to = calloc(count, sizeof(**to));
	if (*to == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		if (from[i].bytes != NULL && alk_content_copy(&(*to)[i], &from[i], NULL) < 0)
			return -ENOMEM;
	return 0;
}

int alk_value_copy(struct alk_value *to, const struct alk_value *from)
{
	int rc = 0;

	alk_value_clear(to);
	to->num = from->num;
	to->lent = from->lent;
	if (from->source != NULL && (to->source = strdup(from->source)) == NULL)
		rc = -ENOMEM;
	if (from->secret_file != NULL && (to->secret_file = strdup(from->secret_file)) == NULL)
		rc = -ENOMEM;
	if (rc == 0)
		rc = texts_copy(to, from);
	if (rc == 0)
		rc = contents_copy(&to->file, from->file, from->count);
	return rc == 0 ? contents_copy(&to->given, from->given, from->count) : rc;
}

void alk_value_unread(struct alk_value *value)
{
	for (size_t i = 0; value->file != NULL && i < value->count; i++)
		alk_content_deinit(&value->file[i]);
	free(value->file);
	value->file = NULL;
}

/* What was given keeps its place beside its text: a place before all of them comes or goes. */
static bool given_shift(struct alk_value *value, bool more)
{
	struct alk_content *given;

	if (value->given == NULL)
		return true;
	if (!more) {
		memmove(value->given, value->given + 1, value->count * sizeof(*value->given));
		return true;
	}
	given = calloc(value->count + 1, sizeof(*given));
	if (given == NULL)
		return false;
	memcpy(given + 1, value->given, value->count * sizeof(*given));
	free(value->given);
	value->given = given;
	return true;
}

static void lent_drop(struct alk_value *value)
{
	explicit_bzero(value->text[0], strlen(value->text[0]));
	free(value->text[0]);
	alk_content_deinit(&value->file[0]);
	value->count--;
	value->lent = false;
	/* One behind the last text is NULL. */
	memmove(value->text, value->text + 1, (value->count + 1) * sizeof(*value->text));
	memmove(value->file, value->file + 1, value->count * sizeof(*value->file));
	given_shift(value, false);
	if (value->count > 0)
		return;
	free(value->file);
	value->file = NULL;
	free(value->source);
	value->source = NULL;
}

int alk_value_lend(struct alk_value *value, const char *name, const char *bytes, size_t len)
{
	struct alk_content *file;
	char **text, *source;

	if (value->lent)
		lent_drop(value);
	if (bytes == NULL)
		return 0;
	text = calloc(value->count + 2, sizeof(*text));
	file = calloc(value->count + 1, sizeof(*file));
	source = value->source != NULL ? value->source : strdup("plugin");
	if (text != NULL)
		text[0] = strdup(name);
	if (file != NULL)
		file[0] = (struct alk_content){.bytes = malloc(len + 1), .len = len};
	if (text == NULL || text[0] == NULL || file == NULL || file[0].bytes == NULL ||
	    source == NULL || !given_shift(value, true)) {
		if (text != NULL)
			free(text[0]);
		free(text);
		if (file != NULL)
			free(file[0].bytes);
		free(file);
		if (source != value->source)
			free(source);
		return -ENOMEM;
	}
	memcpy(file[0].bytes, bytes, len);
	file[0].bytes[len] = '\0';
	if (value->count > 0) {
		memcpy(text + 1, value->text, value->count * sizeof(*text));
		memcpy(file + 1, value->file, value->count * sizeof(*file));
	}
	free(value->text);
	free(value->file);
	value->text = text;
	value->file = file;
	value->source = source;
	value->count++;
	value->lent = true;
	return 0;
}
