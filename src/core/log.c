/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "log_private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "board.h"
#include "text.h"

#define LINE_MAX_BYTES PIPE_BUF
#define VALUE_MAX 256
#define PENDING_MAX (64 * 1024)
/* What may still have to follow the last field. */
#define LINE_RESERVE (sizeof(",\"truncated\":true}\n") + 1)

enum sink_kind {
	SINK_NONE,
	SINK_FILE,     /* plain write */
	SINK_NONBLOCK, /* our own open file with O_NONBLOCK */
	SINK_POLL,     /* shared with others: ask first */
	SINK_STREAM,
	SINK_SYSLOG,
};

static struct {
	enum alk_log_level level;
	enum alk_log_format format;
	enum alk_log_target target;
	enum sink_kind kind;
	int fd;
	struct alk_loop *loop;
	struct alk_io *io;
	uint64_t dropped; /* not told yet */
	size_t used;
	char pending[PENDING_MAX]; /* whole lines but for the first, which may have begun */
} sink = {.level = ALK_LOG_INFO, .fd = -1};

struct line {
	char text[LINE_MAX_BYTES];
	size_t len;
	bool full;
};

const char *alk_log_syslog_path = "/dev/log";

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

/* --- where it goes ------------------------------------------------------------------------------- */

static int syslog_open(void)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(alk_log_syslog_path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	strcpy(sa.sun_path, alk_log_syslog_path);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	return fd;
}

static void stderr_open(enum sink_kind *kind, int *fd)
{
	struct stat st;

	*kind = SINK_NONE;
	*fd = -1;
	if (fstat(STDERR_FILENO, &st) < 0)
		return;
	*fd = STDERR_FILENO;
	if (S_ISREG(st.st_mode)) {
		*kind = SINK_FILE;
	} else if (S_ISSOCK(st.st_mode)) {
		*kind = SINK_STREAM;
	} else {
		int own = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

		*kind = own < 0 ? SINK_POLL : SINK_NONBLOCK;
		if (own >= 0)
			*fd = own;
	}
}

static void sink_close(void)
{
	alk_io_free(&sink.io);
	if (sink.fd >= 0 && sink.fd != STDERR_FILENO)
		close(sink.fd);
	sink.fd = -1;
	sink.kind = SINK_NONE;
}

static ssize_t syslog_send(const char *text, size_t len)
{
	for (int attempt = 0;; attempt++) {
		ssize_t n = -1;

		if (sink.fd >= 0)
			n = send(sink.fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n >= 0 || (sink.fd >= 0 && (errno == EAGAIN || errno == ENOBUFS)) || attempt == 1)
			return n >= 0 ? (ssize_t)len : -errno;
		/* The syslog daemon was restarted: it has a new socket. */
		sink_close();
		sink.kind = SINK_SYSLOG;
		sink.fd = syslog_open();
		if (sink.fd < 0)
			return sink.fd;
	}
}

/* Write what goes at once. Returns how many bytes went, or -errno. */
static ssize_t sink_write(const char *text, size_t len)
{
	struct pollfd ready = {.fd = sink.fd, .events = POLLOUT};
	const char *end;
	ssize_t n;

	if (sink.kind == SINK_SYSLOG) {
		end = memchr(text, '\n', len);
		n = syslog_send(text, (size_t)(end - text));
		return n < 0 ? n : n + 1;
	}
	if (sink.kind == SINK_NONE)
		return -EBADF;
	if (sink.kind == SINK_STREAM) {
		n = send(sink.fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		return n < 0 ? -errno : n;
	}
	if (sink.kind == SINK_POLL && poll(&ready, 1, 0) <= 0)
		return -EAGAIN;
	/* A pipe takes PIPE_BUF bytes whole or not at all, so lines of several processes do not mix. */
	end = len > PIPE_BUF ? memrchr(text, '\n', PIPE_BUF) : NULL;
	n = write(sink.fd, text, end != NULL ? (size_t)(end - text) + 1 : len > PIPE_BUF ? PIPE_BUF : len);
	return n < 0 ? -errno : n;
}

static void pending_flush(void)
{
	size_t done = 0;

	while (done < sink.used) {
		ssize_t n = sink_write(sink.pending + done, sink.used - done);

		if (n <= 0)
			break;
		done += (size_t)n;
	}
	memmove(sink.pending, sink.pending + done, sink.used - done);
	sink.used -= done;
}

static void on_writable(void *user, int revents)
{
	(void)user;
	(void)revents;
	pending_flush();
	if (sink.used == 0 && sink.io != NULL)
		alk_io_set(sink.io, 0);
}

static void pending_watch(void)
{
	if (sink.loop == NULL || sink.used == 0 || sink.fd < 0 || sink.kind == SINK_FILE)
		return;
	if (sink.io == NULL)
		sink.io = alk_io_new(sink.loop, sink.fd, "log", on_writable, NULL);
	if (sink.io != NULL)
		alk_io_set(sink.io, ALK_IO_WRITE);
}

static void emit(const char *text, size_t len)
{
	ssize_t n = 0;

	if (sink.used > 0)
		pending_flush();
	if (sink.used == 0)
		n = sink_write(text, len);
	if (n < 0)
		n = 0;
	if ((size_t)n == len)
		return;
	if (len - (size_t)n > sizeof(sink.pending) - sink.used) {
		sink.dropped++;
		alk_count(ALK_M_LOG_DROPPED, 1);
		return;
	}
	memcpy(sink.pending + sink.used, text + n, len - (size_t)n);
	sink.used += len - (size_t)n;
	pending_watch();
}

/* --- how it looks -------------------------------------------------------------------------------- */

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
	put(line, "\"", 1);
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '"' || (text[i] == '\\' && sink.format == ALK_LOG_JSON))
			put(line, "\\", 1);
		put(line, text + i, 1);
	}
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

	if (sink.format == ALK_LOG_LOGFMT && is_bare(safe, len))
		put(line, safe, len);
	else
		put_quoted(line, safe, len);
}

static void put_real(struct line *line, double real)
{
	char text[400];
	size_t len;

	if (!isfinite(real)) {
		put_str(line, sink.format == ALK_LOG_JSON ? "null" : "nan");
		return;
	}
	/* Milliseconds are as fine as anything here gets; 12.300 is 12.3. */
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

	if (sink.format == ALK_LOG_JSON) {
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
	snprintf(head, sizeof(head), "<%d>%s alknet[%d]: ", LOG_DAEMON | level_priority[level], when,
		 (int)getpid());
	put_str(line, head);
}

static void put_head(struct line *line, enum alk_log_level level)
{
	struct timespec now;
	char when[64];
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	if (sink.kind == SINK_SYSLOG)
		put_syslog_head(line, level, &now);
	if (sink.format == ALK_LOG_JSON) {
		gmtime_r(&now.tv_sec, &tm);
		strftime(when, sizeof(when), "{\"time\":\"%Y-%m-%dT%H:%M:%S", &tm);
		put_str(line, when);
		snprintf(when, sizeof(when), ".%03dZ\",\"level\":\"%s\",\"msg\":", (int)(now.tv_nsec / 1000000),
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
	bool json = sink.format == ALK_LOG_JSON, truncated = false;

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

static void tell_dropped(void)
{
	const struct alk_field fields[] = {ALK_INT("count", (int64_t)sink.dropped), {0}};
	struct line line = {.len = 0};

	line_format(&line, ALK_LOG_WARN, "log lines dropped", fields);
	sink.dropped = 0;
	emit(line.text, line.len);
}

/* --- for the others ------------------------------------------------------------------------------ */

bool alk_log_enabled(enum alk_log_level level)
{
	return level <= sink.level;
}

void alk_log_fields(enum alk_log_level level, const char *msg, const struct alk_field *fields)
{
	int keep = errno;
	struct line line;

	if (sink.kind == SINK_NONE)
		stderr_open(&sink.kind, &sink.fd);
	line.len = 0;
	line.full = false;
	line_format(&line, level, msg, fields);
	if (sink.dropped > 0) {
		pending_flush();
		if (sizeof(sink.pending) - sink.used > 2 * LINE_MAX_BYTES)
			tell_dropped();
	}
	emit(line.text, line.len);
	errno = keep;
}

void alk_log_set_level(enum alk_log_level level)
{
	sink.level = level;
}

enum alk_log_level alk_log_get_level(void)
{
	return sink.level;
}

int alk_log_setup(enum alk_log_level level, enum alk_log_format format, enum alk_log_target target,
		  struct alk_err *err)
{
	enum sink_kind kind = SINK_SYSLOG;
	int fd;

	tzset();
	if (target == ALK_LOG_SYSLOG) {
		fd = syslog_open();
		if (fd < 0)
			return alk_err_set(err, fd, "log_target: cannot reach syslog at %s: %s", alk_log_syslog_path,
					   strerror(-fd));
	} else {
		stderr_open(&kind, &fd);
	}
	if (sink.used > 0)
		pending_flush();
	/* What waits has the shape of the old target. */
	if (target != sink.target)
		sink.used = 0;
	sink_close();
	sink.level = level;
	sink.format = format;
	sink.target = target;
	sink.kind = kind;
	sink.fd = fd;
	pending_watch();
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
			     strcmp(target, "syslog") == 0 ? ALK_LOG_SYSLOG : ALK_LOG_STDERR, err);
}

void alk_log_attach(struct alk_loop *loop)
{
	alk_io_free(&sink.io);
	sink.loop = loop;
	pending_watch();
}

void alk_log_close(void)
{
	if (sink.used > 0)
		pending_flush();
	sink_close();
	sink.loop = NULL;
	sink.used = 0;
	sink.dropped = 0;
	sink.level = ALK_LOG_INFO;
	sink.format = ALK_LOG_LOGFMT;
	sink.target = ALK_LOG_STDERR;
}
