/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "log_private.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "text.h"

#define VALUE_MAX ALK_LOG_VALUE_MAX
/* What may still have to follow the last field. */
#define LINE_RESERVE (sizeof(",\"truncated\":true}\n") + 1)

static enum alk_log_level log_level = ALK_LOG_INFO;
static enum alk_log_format log_format;

struct line {
	char text[ALK_LOG_LINE_MAX];
	size_t len;
	bool full;
};

static const char *const level_names[] = {
	[ALK_LOG_ERROR] = "error",
	[ALK_LOG_WARN] = "warn",
	[ALK_LOG_INFO] = "info",
	[ALK_LOG_DEBUG] = "debug",
};
static const int level_priority[] = {
	[ALK_LOG_ERROR] = LOG_ERR,
	[ALK_LOG_WARN] = LOG_WARNING,
	[ALK_LOG_INFO] = LOG_INFO,
	[ALK_LOG_DEBUG] = LOG_DEBUG,
};

const char *alk_log_level_str(enum alk_log_level level)
{
	return level_names[level];
}

int alk_log_level_parse(const char *word, enum alk_log_level *level)
{
	for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
		if (strcmp(word, level_names[i]) == 0) {
			*level = (enum alk_log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

/* --- how it looks ----------------------------------------------------------------------------- */

static void put(struct line *line, const char *text, size_t len)
{
	if (line->full || len > sizeof(line->text) - LINE_RESERVE - line->len) {
		line->full = true;
		return;
	}
	memcpy(line->text + line->len, text, len);
	line->len += len;
}

static void put_str(struct line *line, const char *text)
{
	put(line, text, strlen(text));
}

/* Escaped already; what is left is the quote. JSON has its own meaning for a backslash. */
static void put_quoted(struct line *line, const char *text, size_t len)
{
	size_t from = 0;

	put(line, "\"", 1);
	for (size_t i = 0; i < len; i++) {
		/* cppcheck-suppress uninitvar ; alk_text_escape filled it */
		if (text[i] == '"' || (text[i] == '\\' && log_format == ALK_LOG_JSON)) {
			put(line, text + from, i - from);
			put(line, "\\", 1);
			from = i;
		}
	}
	put(line, text + from, len - from);
	put(line, "\"", 1);
}

static bool is_bare(const char *text, size_t len)
{
	if (len == 0)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) &&
		    (c == '\0' || strchr("._:/@+,-", c) == NULL))
			return false;
	}
	return true;
}

static void put_text(struct line *line, const char *text)
{
	char safe[VALUE_MAX * 4 + 1];
	size_t len = alk_text_escape(text, strnlen(text, VALUE_MAX), safe, sizeof(safe));

	if (log_format == ALK_LOG_LOGFMT && is_bare(safe, len))
		put(line, safe, len);
	else
		put_quoted(line, safe, len);
}

static void put_real(struct line *line, double real)
{
	char text[400];
	size_t len;

	if (!isfinite(real)) {
		put_str(line, log_format == ALK_LOG_JSON ? "null" : "nan");
		return;
	}
	/* Milliseconds are as fine as anything here gets; 12.300 is 12.3. */
	if (real == 0) { /* of a visitor that came to nothing; and -0 is 0 */
		put(line, "0", 1);
		return;
	}
	len = (size_t)snprintf(text, sizeof(text), "%.3f", real);
	while (text[len - 1] == '0')
		len--;
	if (text[len - 1] == '.')
		len--;
	put(line, text, len);
}

static void put_field(struct line *line, const struct alk_field *field)
{
	char number[32];

	if (log_format == ALK_LOG_JSON) {
		put_str(line, ",\"");
		put_str(line, field->key);
		put_str(line, "\":");
	} else {
		put_str(line, " ");
		put_str(line, field->key);
		put_str(line, "=");
	}
	switch (field->type) {
	case ALK_FIELD_STR:
		put_text(line, field->v.str);
		break;
	case ALK_FIELD_INT:
		snprintf(number, sizeof(number), "%" PRId64, field->v.num);
		put_str(line, number);
		break;
	case ALK_FIELD_NUM:
		put_real(line, field->v.real);
		break;
	case ALK_FIELD_BOOL:
		put_str(line, field->v.yes ? "true" : "false");
		break;
	case ALK_FIELD_END:
		break;
	}
}

static void put_syslog_head(struct line *line, enum alk_log_level level, const struct timespec *now)
{
	char head[96], when[32];
	struct tm tm;

	localtime_r(&now->tv_sec, &tm);
	strftime(when, sizeof(when), "%b %e %T", &tm);
	snprintf(head, sizeof(head), "<%d>%s alknet[%d]: ", LOG_DAEMON | level_priority[level],
		 when, (int)getpid());
	put_str(line, head);
}

static void put_head(struct line *line, enum alk_log_level level)
{
	struct timespec now;
	char when[64];
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	if (alk_log_sink_target() == ALK_LOG_SYSLOG)
		put_syslog_head(line, level, &now);
	if (log_format == ALK_LOG_JSON) {
		gmtime_r(&now.tv_sec, &tm);
		strftime(when, sizeof(when), "{\"time\":\"%Y-%m-%dT%H:%M:%S", &tm);
		put_str(line, when);
		snprintf(when, sizeof(when),
			 ".%03dZ\",\"level\":\"%s\",\"msg\":", (int)(now.tv_nsec / 1000000),
			 level_names[level]);
		put_str(line, when);
	} else {
		put_str(line, "level=");
		put_str(line, level_names[level]);
		put_str(line, " msg=");
	}
}

static void put_msg(struct line *line, const char *msg)
{
	char safe[VALUE_MAX * 4 + 1];

	put_quoted(line, safe, alk_text_escape(msg, strnlen(msg, VALUE_MAX), safe, sizeof(safe)));
}

static void line_format(struct line *line, enum alk_log_level level, const char *msg,
			const struct alk_field *fields)
{
	bool json = log_format == ALK_LOG_JSON, truncated = false;

	put_head(line, level);
	put_msg(line, msg);
	for (; fields->type != ALK_FIELD_END; fields++) {
		size_t before = line->len;

		if (fields->type == ALK_FIELD_STR && fields->v.str == NULL)
			continue;
		put_field(line, fields);
		if (line->full) {
			line->len = before;
			line->full = false;
			truncated = true;
		}
	}
	if (truncated) {
		const char *mark = json ? ",\"truncated\":true" : " truncated=true";

		memcpy(line->text + line->len, mark, strlen(mark));
		line->len += strlen(mark);
	}
	if (json)
		line->text[line->len++] = '}';
	line->text[line->len++] = '\n';
}

/* --- for the others --------------------------------------------------------------------------- */

bool alk_log_enabled(enum alk_log_level level)
{
	return level <= log_level;
}

static void record_write(enum alk_log_level level, const char *msg, const struct alk_field *fields,
			 const struct line *line)
{
	struct alk_log_record record;

	alk_log_record_fill(&record, level_priority[level], msg, fields, line->text, line->len - 1);
	alk_log_sink_write((const char *)&record,
			   offsetof(struct alk_log_record, bytes) + record.len, false);
}

static void event_write(enum alk_log_level level, const char *msg, const struct alk_field *fields,
			bool gather)
{
	struct line line;

	line.len = 0;
	line.full = false;
	line_format(&line, level, msg, fields);
	if (alk_log_sink_target() == ALK_LOG_JOURNAL)
		record_write(level, msg, fields, &line);
	else
		alk_log_sink_write(line.text, line.len, gather);
}

static void event_log(enum alk_log_level level, const char *msg, const struct alk_field *fields,
		      bool gather)
{
	uint64_t dropped = alk_log_sink_dropped();
	int keep = errno;

	if (dropped > 0)
		event_write(ALK_LOG_WARN, "log lines dropped",
			    (const struct alk_field[]){ALK_INT("count", (int64_t)dropped), {0}},
			    false);
	event_write(level, msg, fields, gather);
	errno = keep;
}

void alk_log_fields(enum alk_log_level level, const char *msg, const struct alk_field *fields)
{
	event_log(level, msg, fields, false);
}

void alk_log_gather_fields(enum alk_log_level level, const char *msg,
			   const struct alk_field *fields)
{
	event_log(level, msg, fields, true);
}

void alk_log_set_level(enum alk_log_level level)
{
	log_level = level;
}

enum alk_log_level alk_log_get_level(void)
{
	return log_level;
}

int alk_log_setup(enum alk_log_level level, enum alk_log_format format, enum alk_log_target target,
		  struct alk_err *err)
{
	int rc;

	tzset();
	rc = alk_log_sink_open(target, err);
	if (rc < 0)
		return rc;
	log_level = level;
	log_format = format;
	return 0;
}

int alk_log_setup_options(const struct alk_options *values, struct alk_err *err)
{
	const char *format = alk_options_str(values, "log_format");
	const char *target = alk_options_str(values, "log_target");
	enum alk_log_level level;

	if (alk_log_level_parse(alk_options_str(values, "log_level"), &level) < 0)
		return alk_err_set(err, -EINVAL, "log_level: is none of error, warn, info, debug");
	return alk_log_setup(level, strcmp(format, "json") == 0 ? ALK_LOG_JSON : ALK_LOG_LOGFMT,
			     strcmp(target, "syslog") == 0    ? ALK_LOG_SYSLOG
			     : strcmp(target, "journal") == 0 ? ALK_LOG_JOURNAL
							      : ALK_LOG_STDERR,
			     err);
}

void alk_log_close(void)
{
	alk_log_sink_close();
	log_level = ALK_LOG_INFO;
	log_format = ALK_LOG_LOGFMT;
}
