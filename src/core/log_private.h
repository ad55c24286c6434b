/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_LOG_PRIVATE_H
#define ALK_LOG_PRIVATE_H

/* How the log is set up. Before that it writes logfmt to stderr from info up.
 *
 * Where lines go and why that never blocks:
 *   pipe, terminal   the file behind stderr is opened once more for us alone, with O_NONBLOCK: setting
 *                    the flag on stderr itself would set it for everyone who shares it. Where that is
 *                    not allowed, poll before a write of at most PIPE_BUF.
 *   stream socket    (journald's) send with MSG_DONTWAIT
 *   plain file       write; a full disk is an error like any other
 *   syslog           one datagram a line to /dev/log, MSG_DONTWAIT
 *   journal          one datagram an event in journald's own protocol (log_journal.c), MSG_DONTWAIT
 * What cannot be written at once waits in one buffer of 64 KiB. When that is full lines are dropped
 * and counted (alknet_log_dropped_total), and a line says how many as soon as there is room again.
 *
 * Lines of links that come and go are gathered there for the length of a loop's turn.
 *
 * A line is at most PIPE_BUF (4096) bytes; fields that do not fit are left out, `truncated=true`
 * says so. A logfmt line carries no time: the journal and syslog stamp it. JSON begins with "time"
 * (UTC). */

#include <limits.h>
#include <alknet/log.h>
#include <alknet/loop.h>
#include <alknet/options.h>

enum alk_log_format {
	ALK_LOG_LOGFMT,
	ALK_LOG_JSON,
};

enum alk_log_target {
	ALK_LOG_STDERR,
	ALK_LOG_SYSLOG,
	ALK_LOG_JOURNAL,
};

/* May be called again (a reload, a worker that got its configuration). 0, or -errno with `err` when
 * syslog or the journal cannot be reached; then nothing changed. */
int alk_log_setup(enum alk_log_level level, enum alk_log_format format, enum alk_log_target target,
		  struct alk_err *err);
/* The same from log_level, log_format and log_target of a program's options. */
int alk_log_setup_options(const struct alk_options *values, struct alk_err *err);
void alk_log_set_level(enum alk_log_level level);
enum alk_log_level alk_log_get_level(void);
const char *alk_log_level_str(enum alk_log_level level);
/* -EINVAL when `word` is none of error, warn, info, debug. */
int alk_log_level_parse(const char *word, enum alk_log_level *level);
/* Let the loop write what waits as soon as it can be written; NULL (before alk_loop_free) ends
 * that. */
void alk_log_attach(struct alk_loop *loop);
/* As alk_log, for lines that come by the thousand: they wait for the end of the loop's turn, or the
 * next line of another kind, and are written together. Only where the log is a file, a pipe or a
 * stream and has a loop. A process that dies within the turn takes them with it, so nothing that
 * tells of a failure is logged like this. */
#define alk_log_gather(level_, msg_, ...)                                                          \
	do {                                                                                       \
		if (alk_log_enabled(level_))                                                       \
			alk_log_gather_fields((level_), (msg_),                                    \
					      (const struct alk_field[]){                          \
						      __VA_ARGS__ __VA_OPT__(, ){0}});             \
	} while (0)
void alk_log_gather_fields(enum alk_log_level level, const char *msg,
			   const struct alk_field *fields);
/* Write what can be written at once; back to the beginning. */
void alk_log_close(void);

/* For tests: where syslog listens. */
extern const char *alk_log_syslog_path;

/* Where lines go (log_sink.c); log.c makes them. */
#define ALK_LOG_LINE_MAX PIPE_BUF
int alk_log_sink_open(enum alk_log_target target, struct alk_err *err);
void alk_log_sink_close(void);
/* One line with its end; for the journal one record. */
void alk_log_sink_write(const char *text, size_t len, bool gather);
/* How many lines were dropped, once there is room to say so; then it begins at 0 again. */
uint64_t alk_log_sink_dropped(void);
enum alk_log_target alk_log_sink_target(void);

/* log_journal.c: what journald hears of an event (systemd's "Native Journal Protocol"), after its
 * length. */
#define ALK_LOG_VALUE_MAX 256
struct alk_log_record {
	uint32_t len; /* of bytes */
	char bytes[2 * ALK_LOG_LINE_MAX];
};
/* `line` is its MESSAGE, without an end. */
void alk_log_record_fill(struct alk_log_record *record, int priority, const char *msg,
			 const struct alk_field *fields, const char *line, size_t len);

#endif
