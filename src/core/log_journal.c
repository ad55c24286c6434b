/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "log_private.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* NAME=value and a line's end; or, where the value may hold one: NAME, a line's end, 64 bits of
 * length (little endian), the value, a line's end. */

#define NAME_MAX_LEN 64 /* longer ones are thrown away there */
static const char prefix[] = "ALKNET_";
static const char truncated[] = "ALKNET_TRUNCATED=true\n";

static bool is_plain(const char *value, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)value[i] < ' ' && value[i] != '\t')
			return false;
	return true;
}

static bool record_put(struct alk_log_record *record, const char *name, const char *value,
		       size_t len)
{
	size_t name_len = strlen(name), need = name_len + len + 2;
	bool plain = is_plain(value, len);
	char *at = record->bytes + record->len;

	if (!plain)
		need += 8;
	if (need > sizeof(record->bytes) - sizeof(truncated) - record->len)
		return false;
	memcpy(at, name, name_len);
	at += name_len;
	*at++ = plain ? '=' : '\n';
	for (unsigned i = 0; i < 8 && !plain; i++)
		*at++ = (char)((uint64_t)len >> (8 * i));
	memcpy(at, value, len);
	at[len] = '\n';
	record->len += (uint32_t)need;
	return true;
}

/* Capital letters, digits and _ are all that a name may have. */
static void name_make(char name[NAME_MAX_LEN + 1], const char *key)
{
	size_t n = sizeof(prefix) - 1;

	memcpy(name, prefix, n);
	for (; *key != '\0' && n < NAME_MAX_LEN; key++)
		name[n++] = (char)(*key >= 'a' && *key <= 'z'	? *key - 'a' + 'A'
				   : *key >= 'A' && *key <= 'Z' ? *key
				   : *key >= '0' && *key <= '9' ? *key
								: '_');
	name[n] = '\0';
}

static bool record_put_field(struct alk_log_record *record, const struct alk_field *field)
{
	char name[NAME_MAX_LEN + 1], number[400];
	const char *value = number;

	number[0] = '\0';
	switch (field->type) {
	case ALK_FIELD_STR:
		value = field->v.str;
		break;
	case ALK_FIELD_INT:
		snprintf(number, sizeof(number), "%" PRId64, field->v.num);
		break;
	case ALK_FIELD_NUM:
		snprintf(number, sizeof(number), isfinite(field->v.real) ? "%.3f" : "nan",
			 field->v.real);
		break;
	case ALK_FIELD_BOOL:
		value = field->v.yes ? "true" : "false";
		break;
	case ALK_FIELD_END:
		break;
	}
	if (value == NULL)
		return true;
	name_make(name, field->key);
	return record_put(record, name, value, strnlen(value, ALK_LOG_VALUE_MAX));
}

void alk_log_record_fill(struct alk_log_record *record, int priority, const char *msg,
			 const struct alk_field *fields, const char *line, size_t len)
{
	bool all;
	/* cppcheck-suppress ctuuninitvar ; it is written here, not read */
	int n = snprintf(record->bytes, sizeof(record->bytes),
			 "PRIORITY=%d\nSYSLOG_IDENTIFIER=alknet\n", priority);

	record->len = (uint32_t)n;
	all = record_put(record, "MESSAGE", line, len);
	all = record_put(record, "ALKNET_MSG", msg, strnlen(msg, ALK_LOG_VALUE_MAX)) && all;
	for (; fields->type != ALK_FIELD_END; fields++)
		all = record_put_field(record, fields) && all;
	if (all)
		return;
	memcpy(record->bytes + record->len, truncated, sizeof(truncated) - 1);
	record->len += (uint32_t)sizeof(truncated) - 1;
}
