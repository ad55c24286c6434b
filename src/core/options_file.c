/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "options_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int secret_set(struct alk_options *options, const struct alk_option *option,
		      const struct alk_value *value, struct alk_content *content,
		      struct alk_err *err)
{
	size_t len = strcspn(content->bytes, "\r\n");
	char *source;
	int rc;

	if (strspn(content->bytes + len, "\r\n") != content->len - len)
		return alk_err_set(err, -EINVAL, "%s must hold the secret on one line",
				   value->secret_file);
	content->bytes[len] = '\0';
	/* The value is made anew: keep what it has. */
	source = strdup(value->source);
	if (source == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	rc = alk_options_set_text(options, option, content->bytes, source, err);
	if (rc < 0)
		alk_err_prefix(err, rc, "the secret in %s", value->secret_file);
	free(source);
	return rc;
}

static int secret_read(struct alk_options *options, const struct alk_option *option,
		       const struct alk_value *value, struct alk_err *err)
{
	struct alk_content content;
	int rc = alk_content_read(value->secret_file, true, &content, err);

	if (rc == 0)
		rc = secret_set(options, option, value, &content, err);
	alk_content_deinit(&content);
	return rc;
}

static bool is_private(const struct alk_option *option, const char *path)
{
	size_t len = strlen(path);

	if ((option->flags & ALK_OPT_PUB_TOO) && len > 4 && strcmp(path + len - 4, ".pub") == 0)
		return false;
	return (option->flags & ALK_OPT_PRIVATE) != 0;
}

static int files_read(const struct alk_option *option, struct alk_value *value, struct alk_err *err)
{
	value->file = calloc(value->count, sizeof(*value->file));
	if (value->file == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < value->count; i++) {
		int rc = value->given != NULL && value->given[i].bytes != NULL
				 ? alk_content_copy(&value->file[i], &value->given[i], err)
				 : alk_content_read(value->text[i],
						    is_private(option, value->text[i]),
						    &value->file[i], err);

		if (rc < 0)
			return rc;
	}
	return 0;
}

int alk_options_read_files(struct alk_options *options, const char **failed, struct alk_err *err)
{
	for (size_t i = 0; i < options->count; i++) {
		const struct alk_option *option = &options->table[i];
		struct alk_value *value = &options->value[i];
		int rc = 0;

		if (value->secret_file != NULL && value->count == 0)
			rc = secret_read(options, option, value, err);
		else if (option->type == ALK_OPT_FILE && value->count > 0 && value->file == NULL)
			rc = files_read(option, value, err);
		if (rc < 0) {
			*failed = option->name;
			return rc;
		}
	}
	return 0;
}
