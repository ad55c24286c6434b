/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "log_private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "board.h"
#include "loop_private.h"

#define PENDING_MAX (64 * 1024)

enum sink_kind {
	SINK_NONE,
	SINK_FILE,     /* plain write */
	SINK_NONBLOCK, /* our own open file with O_NONBLOCK */
	SINK_POLL,     /* shared with others: ask first */
	SINK_STREAM,
	SINK_SYSLOG,
	SINK_JOURNAL,
};

static struct {
	enum sink_kind kind;
	int fd;
	struct alk_loop *loop;
	struct alk_io *io;
	bool gathered;	  /* lines wait for the end of the turn alone */
	uint64_t dropped; /* not told yet */
	size_t used;
	char pending
		[PENDING_MAX]; /* whole lines but for the first, which may have begun; or records */
} sink = {.fd = -1};

const char *alk_log_syslog_path = "/dev/log";

/* Another socket is that of a namespace of journald's (LogNamespace=). */
static const char *daemon_path(enum alk_log_target target)
{
	const char *path = getenv("ALKNET_JOURNAL_SOCKET");

	if (target == ALK_LOG_SYSLOG)
		return alk_log_syslog_path;
	return path != NULL && path[0] != '\0' ? path : "/run/systemd/journal/socket";
}

static int daemon_open(enum alk_log_target target)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	const char *path = daemon_path(target);
	int fd;

	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	strcpy(sa.sun_path, path);
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

static ssize_t daemon_send(const char *text, size_t len)
{
	enum sink_kind kind = sink.kind;

	for (int attempt = 0;; attempt++) {
		ssize_t n = -1;

		if (sink.fd >= 0)
			n = send(sink.fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n >= 0 || (sink.fd >= 0 && (errno == EAGAIN || errno == ENOBUFS)) ||
		    attempt == 1)
			return n >= 0 ? (ssize_t)len : -errno;
		/* The daemon was restarted: it has a new socket. */
		sink_close();
		sink.kind = kind;
		sink.fd = daemon_open(alk_log_sink_target());
		if (sink.fd < 0)
			return sink.fd;
	}
}

/* One record; its length comes first. */
static ssize_t journal_write(const char *record)
{
	size_t head = offsetof(struct alk_log_record, bytes);
	uint32_t len;
	ssize_t n;

	memcpy(&len, record, sizeof(len));
	n = daemon_send(record + head, len);
	return n < 0 ? n : n + (ssize_t)head;
}

/* Write what goes at once. Returns how many bytes went, or -errno. */
static ssize_t sink_write(const char *text, size_t len)
{
	struct pollfd ready = {.fd = sink.fd, .events = POLLOUT};
	const char *end;
	ssize_t n;

	if (sink.kind == SINK_SYSLOG) {
		end = memchr(text, '\n', len);
		n = daemon_send(text, (size_t)(end - text));
		return n < 0 ? n : n + 1;
	}
	if (sink.kind == SINK_JOURNAL)
		return journal_write(text);
	if (sink.kind == SINK_NONE)
		return -EBADF;
	if (sink.kind == SINK_STREAM) {
		n = send(sink.fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		return n < 0 ? -errno : n;
	}
	if (sink.kind == SINK_POLL && poll(&ready, 1, 0) <= 0)
		return -EAGAIN;
	/* A pipe takes PIPE_BUF bytes whole or not at all, so lines of several processes do not
	 * mix. */
	end = len > PIPE_BUF ? memrchr(text, '\n', PIPE_BUF) : NULL;
	n = write(sink.fd, text,
		  end != NULL	   ? (size_t)(end - text) + 1
		  : len > PIPE_BUF ? PIPE_BUF
				   : len);
	return n < 0 ? -errno : n;
}

/* 0, or why not all of it went. */
static int pending_flush(void)
{
	size_t done = 0;
	ssize_t n = 1;

	while (n > 0 && done < sink.used) {
		n = sink_write(sink.pending + done, sink.used - done);
		done += n > 0 ? (size_t)n : 0;
	}
	memmove(sink.pending, sink.pending + done, sink.used - done);
	sink.used -= done;
	return n < 0 ? (int)n : 0;
}

/* A disk that is full or a terminal that is gone is always ready and never takes anything: the next
 * line tries. */
static void on_writable(void *user, int revents)
{
	int rc = pending_flush();

	(void)user;
	(void)revents;
	if (sink.io != NULL && (sink.used == 0 || (rc < 0 && rc != -EAGAIN && rc != -EINTR)))
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

/* At the end of the loop's turn. */
static void on_last(void *user)
{
	(void)user;
	if (!sink.gathered)
		return;
	sink.gathered = false;
	pending_flush();
	pending_watch();
}

/* Of a datagram a line there is nothing to save. */
static bool pending_gather(const char *text, size_t len)
{
	if (sink.loop == NULL || sink.kind == SINK_NONE || sink.kind == SINK_SYSLOG ||
	    sink.kind == SINK_JOURNAL || len > sizeof(sink.pending) - sink.used)
		return false;
	memcpy(sink.pending + sink.used, text, len);
	sink.used += len;
	sink.gathered = true;
	return true;
}

void alk_log_sink_write(const char *text, size_t len, bool gather)
{
	ssize_t n = 0;

	if (sink.kind == SINK_NONE)
		stderr_open(&sink.kind, &sink.fd);
	if (gather && pending_gather(text, len))
		return;
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

uint64_t alk_log_sink_dropped(void)
{
	uint64_t dropped = sink.dropped;

	if (dropped == 0)
		return 0;
	pending_flush();
	if (sizeof(sink.pending) - sink.used < 2 * sizeof(struct alk_log_record))
		return 0;
	sink.dropped = 0;
	return dropped;
}

enum alk_log_target alk_log_sink_target(void)
{
	return sink.kind == SINK_SYSLOG	   ? ALK_LOG_SYSLOG
	       : sink.kind == SINK_JOURNAL ? ALK_LOG_JOURNAL
					   : ALK_LOG_STDERR;
}

int alk_log_sink_open(enum alk_log_target target, struct alk_err *err)
{
	enum sink_kind kind = target == ALK_LOG_SYSLOG ? SINK_SYSLOG : SINK_JOURNAL;
	bool same = target == alk_log_sink_target();
	int fd;

	if (target != ALK_LOG_STDERR) {
		fd = daemon_open(target);
		if (fd < 0)
			return alk_err_set(err, fd, "log_target: cannot reach %s at %s: %s",
					   target == ALK_LOG_SYSLOG ? "syslog" : "the journal",
					   daemon_path(target), strerror(-fd));
	} else {
		stderr_open(&kind, &fd);
	}
	if (sink.used > 0)
		pending_flush();
	/* What waits has the shape of the old target. */
	if (!same)
		sink.used = 0;
	sink_close();
	sink.kind = kind;
	sink.fd = fd;
	pending_watch();
	return 0;
}

void alk_log_sink_close(void)
{
	if (sink.used > 0)
		pending_flush();
	sink_close();
	sink.loop = NULL;
	sink.gathered = false;
	sink.used = 0;
	sink.dropped = 0;
}

void alk_log_attach(struct alk_loop *loop)
{
	if (sink.loop != NULL) {
		on_last(NULL);
		alk_loop_set_last(sink.loop, NULL, NULL);
	}
	alk_io_free(&sink.io);
	sink.loop = loop;
	if (loop != NULL)
		alk_loop_set_last(loop, on_last, NULL);
	pending_watch();
}
