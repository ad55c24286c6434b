/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <alknet/err.h>

int alk_err_set(struct alk_err *err, int rc, const char *fmt, ...)
{
	va_list args;

	if (err == NULL)
		return rc;
	va_start(args, fmt);
	if (vsnprintf(err->text, sizeof(err->text), fmt, args) < 0)
		err->text[0] = '\0';
	va_end(args);
	return rc;
}

int alk_err_prefix(struct alk_err *err, int rc, const char *fmt, ...)
{
	struct alk_err old;
	va_list args;
	size_t len;

	if (err == NULL)
		return rc;
	old = *err;
	va_start(args, fmt);
	if (vsnprintf(err->text, sizeof(err->text), fmt, args) < 0)
		err->text[0] = '\0';
	va_end(args);
	len = strlen(err->text);
	snprintf(err->text + len, sizeof(err->text) - len, ": %s", old.text);
	return rc;
}
