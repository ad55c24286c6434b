/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "path.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* One part, without its slash. */
static int part_parse(const char *text, size_t len, unsigned number, uint32_t *index,
		      struct alk_err *err)
{
	uint64_t value = 0;
	bool hardened = len > 0 && (text[len - 1] == '\'' || text[len - 1] == 'h');
	size_t digits = hardened ? len - 1 : len;

	if (digits == 0)
		return alk_err_set(err, -EINVAL, "path: part %u is empty", number);
	for (size_t i = 0; i < digits; i++) {
		if (text[i] < '0' || text[i] > '9')
			return alk_err_set(err, -EINVAL,
					   "path: part %u is not a number, with ' behind it or not",
					   number);
		value = value * 10 + (uint64_t)(text[i] - '0');
		if (value >= SECRET_HARDENED)
			return alk_err_set(err, -EINVAL, "path: part %u is 2147483648 or more",
					   number);
	}
	if (digits > 1 && text[0] == '0')
		return alk_err_set(err, -EINVAL, "path: part %u begins with a zero", number);
	*index = (uint32_t)value | (hardened ? SECRET_HARDENED : 0);
	return 0;
}

int secret_path_parse(const char *text, size_t len, struct secret_path *path, struct alk_err *err)
{
	path->levels = 0;
	if (len == 0 || text[0] != 'm' || (len > 1 && text[1] != '/'))
		return alk_err_set(err, -EINVAL, "path: it must begin with m/");
	for (size_t at = 1; at < len;) {
		const char *slash = memchr(text + at + 1, '/', len - at - 1);
		size_t end = slash != NULL ? (size_t)(slash - text) : len;

		if (path->levels == SECRET_PATH_LEVELS)
			return alk_err_set(err, -EINVAL, "path: it has more than %d levels",
					   SECRET_PATH_LEVELS);
		if (part_parse(text + at + 1, end - at - 1, path->levels + 1u,
			       &path->index[path->levels], err) < 0)
			return -EINVAL;
		path->levels++;
		at = end;
	}
	return 0;
}

bool secret_path_same(const struct secret_path *a, const struct secret_path *b)
{
	return a->levels == b->levels &&
	       memcmp(a->index, b->index, a->levels * sizeof(a->index[0])) == 0;
}

void secret_path_format(const struct secret_path *path, char *out, size_t size)
{
	size_t at = (size_t)snprintf(out, size, "m");

	for (unsigned i = 0; i < path->levels && at < size; i++)
		at += (size_t)snprintf(out + at, size - at, "/%u%s",
				       path->index[i] & ~SECRET_HARDENED,
				       path->index[i] & SECRET_HARDENED ? "'" : "");
}
