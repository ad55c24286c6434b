/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "connect_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <alknet/dial.h>
#include "pump.h"

/* A standard descriptor that must not block, although the file behind it may be shared with other
 * programs, which would find O_NONBLOCK set on theirs too. So a terminal or a pipe is opened once
 * more, for us alone. Where that cannot be (sockets), the flag is set, and taken away again at the
 * end. */
struct stdio_end {
	int fd;	   /* what the pump gets; -1 once it has it */
	int again; /* the same file, to set `flags` on at the end; -1 = nothing to undo */
	int flags;
};

struct alk_stdio {
	struct alk_front *front;
	struct alk_channel *channel;
	struct alk_destination to;
	char address[300];
	struct stdio_end in, out;
	struct alk_task ended;
	int rc; /* of the pump */
	void (*done)(void *user, int rc, const struct alk_err *err);
	void *user;
};

/* Of a channel that nobody waits for any more: what comes is thrown away. */
static const struct alk_channel_ops detached_ops;

int alk_stdio_fill(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
		if (fd < 0)
			return -errno;
	} while (fd <= STDERR_FILENO);
	close(fd);
	return 0;
}

static int end_reopen(int fd, int access)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, access | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

static int end_open(struct stdio_end *end, int fd, int access)
{
	struct stat st;

	end->flags = fcntl(fd, F_GETFL);
	if (end->flags < 0 || fstat(fd, &st) != 0)
		return -errno;
	if (S_ISCHR(st.st_mode) || S_ISFIFO(st.st_mode))
		end->fd = end_reopen(fd, access);
	if (end->fd >= 0)
		return 0;
	end->fd = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (end->fd < 0)
		return -errno;
	if ((end->flags & O_NONBLOCK) != 0 || S_ISREG(st.st_mode))
		return 0;
	if (fcntl(fd, F_SETFL, end->flags | O_NONBLOCK) != 0)
		return -errno;
	end->again = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	return end->again >= 0 ? 0 : -errno;
}

static void end_close(struct stdio_end *end)
{
	/* Nothing can be done for a file that does not take its flags back. */
	if (end->again >= 0)
		(void)fcntl(end->again, F_SETFL, end->flags);
	alk_fd_close(&end->again);
	alk_fd_close(&end->fd);
}

/* The channel's descriptors are the only ones from now on: whoever reads our output sees its end
 * when the channel closes it. */
static int stdio_give_up(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int rc = 0;

	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
		rc = -errno;
	alk_fd_close(&null);
	return rc;
}

static void stdio_fail(struct alk_stdio *stdio, int rc, const char *why)
{
	struct alk_err err;

	alk_err_set(&err, rc, "%s: %s", stdio->address, why);
	stdio->done(stdio->user, rc, &err);
}

static void on_ended(void *user)
{
	struct alk_stdio *stdio = user;

	if (alk_client_get_state(stdio->front->client) != ALK_CLIENT_UP)
		return;
	if (stdio->rc < 0)
		stdio_fail(stdio, stdio->rc, strerror(-stdio->rc));
	else
		stdio->done(stdio->user, 0, NULL);
}

/* A session that ends closes its channels first: look a moment later whether this was the stream's
 * own end. If not, the session says why. */
static void on_pump_done(void *user, int rc)
{
	struct alk_stdio *stdio = user;

	stdio->rc = rc;
	alk_task_queue(stdio->front->loop, &stdio->ended);
}

static void on_channel_opened(void *user, struct alk_channel *channel)
{
	struct alk_stdio *stdio = user;
	int rc;

	stdio->channel = NULL;
	rc = alk_pump_start(channel, &stdio->in.fd, &stdio->out.fd, NULL, 0, on_pump_done, stdio);
	if (rc == 0)
		return;
	alk_channel_set_ops(channel, &detached_ops, NULL);
	alk_channel_close(channel);
	stdio_fail(stdio, rc, strerror(-rc));
}

static void on_channel_refused(void *user, struct alk_channel *channel, enum alk_open_failure why,
			       const char *text)
{
	char both[256];

	(void)channel;
	switch (why) {
	case ALK_OPEN_GONE:
		/* The session says why. */
		return;
	case ALK_OPEN_PROHIBITED:
	case ALK_OPEN_CONNECT_FAILED:
	case ALK_OPEN_RESOURCE_SHORTAGE:
		snprintf(both, sizeof(both), "%s (%s)", alk_open_failure_str(why), text);
		stdio_fail(user, -ECONNREFUSED, both);
		return;
	default:
		stdio_fail(user, -ECONNREFUSED, alk_open_failure_str(why));
	}
}

static void on_channel_close(void *user, struct alk_channel *channel)
{
	struct alk_stdio *stdio = user;

	(void)channel;
	stdio->channel = NULL;
}

void alk_stdio_open(struct alk_stdio *stdio)
{
	static const struct alk_channel_ops ops = {
		.opened = on_channel_opened,
		.refused = on_channel_refused,
		.close = on_channel_close,
	};
	struct alk_err err = {""};

	stdio->channel = alk_client_open(stdio->front->client, &stdio->to, &ops, stdio, &err);
	if (stdio->channel == NULL)
		stdio_fail(stdio, -ECONNREFUSED, err.text);
}

struct alk_stdio *alk_stdio_new(struct alk_front *front, const char *address,
				void (*done)(void *user, int rc, const struct alk_err *err),
				void *user, struct alk_err *err)
{
	struct alk_stdio *stdio = calloc(1, sizeof(*stdio));
	int rc;

	if (stdio == NULL) {
		alk_err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	*stdio = (struct alk_stdio){.front = front, .done = done, .user = user};
	stdio->ended = (struct alk_task){.fn = on_ended, .user = stdio};
	stdio->in = stdio->out = (struct stdio_end){.fd = -1, .again = -1};
	snprintf(stdio->address, sizeof(stdio->address), "%s", address);
	/* The protocol wants to know where the channel comes from: from this machine. */
	strcpy(stdio->to.originator, "127.0.0.1");
	/* Port 0 means something at a reserved destination alone. */
	rc = alk_addr_split(address, stdio->to.host, sizeof(stdio->to.host), &stdio->to.port,
			    strncmp(address, "alknet-", 7) == 0, err);
	if (rc == 0 && stdio->to.host[0] == '\0')
		rc = alk_err_set(err, -EINVAL, "'%s' has no host", address);
	if (rc != 0) {
		alk_err_prefix(err, rc, "--stdio");
		goto fail;
	}
	rc = end_open(&stdio->in, STDIN_FILENO, O_RDONLY);
	if (rc == 0)
		rc = end_open(&stdio->out, STDOUT_FILENO, O_WRONLY);
	if (rc == 0)
		rc = stdio_give_up();
	if (rc == 0)
		return stdio;
	alk_err_set(err, rc, "--stdio: cannot use standard input and output: %s", strerror(-rc));
fail:
	alk_stdio_free(&stdio);
	return NULL;
}

void alk_stdio_free(struct alk_stdio **stdio)
{
	if (*stdio == NULL)
		return;
	alk_task_cancel((*stdio)->front->loop, &(*stdio)->ended);
	if ((*stdio)->channel != NULL) {
		alk_channel_set_ops((*stdio)->channel, &detached_ops, NULL);
		alk_channel_close((*stdio)->channel);
	}
	end_close(&(*stdio)->in);
	end_close(&(*stdio)->out);
	free(*stdio);
	*stdio = NULL;
}
