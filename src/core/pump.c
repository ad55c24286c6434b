/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "loop_private.h"
#include "pump.h"

/* One read. Nothing is kept between two, so one buffer serves every pump of the process. */
#define PUMP_READ (512 * 1024)
#define PUMP_ALIGN 4096 /* as the read-ahead's buffer, which says why */

struct pump_end {
	int fd;
	struct alk_io *io;
	bool socket;
	bool plain; /* a regular file or /dev/null: always ready, epoll refuses it */
};

#define PUMP_MAGIC 0x706d7570u /* "pump" */

struct alk_pump {
	uint32_t magic;
	struct alk_loop *loop;
	struct alk_channel *channel;
	struct pump_end in;  /* read from */
	struct pump_end out; /* written to; shares in's fd and watcher unless `split` */
	bool split;
	bool in_done;	      /* the fd's end came, or nobody wants more */
	bool out_done;	      /* the channel's end came and all of it was written */
	bool out_eof;	      /* the channel's end came */
	bool reading;	      /* the channel has room */
	bool stuck;	      /* the fd took less than all: waiting for it */
	int rc;		      /* why it broke; bytes that were taken may be lost then */
	struct alk_task soon; /* for a plain file: read on in the next iteration */
	uint8_t *first;
	size_t first_len, first_off;
	alk_pump_done *done;
	void *user;
};

static struct alk_pump *pump_of(void *user)
{
	struct alk_pump *p = user;

	assert(p->magic == PUMP_MAGIC);
	return p;
}

static uint8_t *pump_buf;

static void pump_watch(struct alk_pump *p)
{
	int in = p->reading && !p->in_done ? ALK_IO_READ : 0;
	int out = p->stuck ? ALK_IO_WRITE : 0;

	if (p->in.plain) {
		if (in)
			alk_task_yield(p->loop, &p->soon);
		in = 0;
	}
	if (!p->split)
		in |= out;
	else if (p->out.io)
		alk_io_set(p->out.io, out);
	if (p->in.io)
		alk_io_set(p->in.io, in);
}

/* Both directions have ended: so does the channel. Its `close` frees the pump. */
static void pump_check_done(struct alk_pump *p)
{
	if (p->in_done && p->out_done)
		alk_channel_close(p->channel);
}

static void pump_fail(struct alk_pump *p, int rc)
{
	p->in_done = p->out_done = true;
	if (p->rc == 0)
		p->rc = rc;
	pump_watch(p);
	alk_channel_close(p->channel);
}

/* ---- fd → channel ---------------------------------------------------------------------------- */

static void pump_end_in(struct alk_pump *p)
{
	p->in_done = true;
	alk_channel_eof(p->channel);
	pump_check_done(p);
}

static void pump_send_first(struct alk_pump *p)
{
	ssize_t n = alk_channel_write(p->channel, p->first + p->first_off,
				      p->first_len - p->first_off);

	if (n < 0) {
		pump_fail(p, (int)n);
		return;
	}
	p->first_off += (size_t)n;
	p->reading = p->first_off == p->first_len;
	if (!p->reading)
		return;
	free(p->first);
	p->first = NULL;
}

static void pump_read(struct alk_pump *p)
{
	size_t room = alk_channel_room(p->channel);
	ssize_t n, sent;

	if (room == 0) {
		p->reading = false;
		pump_watch(p);
		return;
	}
	if (!pump_buf && !(pump_buf = aligned_alloc(PUMP_ALIGN, PUMP_READ))) {
		pump_fail(p, -ENOMEM);
		return;
	}
	n = read(p->in.fd, pump_buf, room < PUMP_READ ? room : PUMP_READ);
	if (n == 0) {
		pump_end_in(p);
	} else if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			pump_fail(p, -errno);
	} else {
		sent = alk_channel_write(p->channel, pump_buf, (size_t)n);
		if (sent < 0) {
			pump_fail(p, (int)sent);
		} else if (sent < n) {
			/* A rekey began between the two calls: keep the rest, the one case there
			 * is. */
			p->first_len = (size_t)(n - sent);
			p->first_off = 0;
			p->first = malloc(p->first_len);
			if (!p->first) {
				pump_fail(p, -ENOMEM);
				return;
			}
			memcpy(p->first, pump_buf + sent, p->first_len);
			p->reading = false;
		}
	}
	pump_watch(p);
}

static void on_channel_drain(void *user, struct alk_channel *channel)
{
	struct alk_pump *p = pump_of(user);

	(void)channel;
	if (p->in_done)
		return;
	if (p->first)
		pump_send_first(p);
	else
		p->reading = true;
	pump_watch(p);
}

static void on_soon(void *user)
{
	struct alk_pump *p = pump_of(user);

	if (p->reading && !p->in_done)
		pump_read(p);
}

/* ---- channel → fd ---------------------------------------------------------------------------- */

static void pump_shut_out(struct alk_pump *p)
{
	p->out_done = true;
	p->stuck = false;
	if (!p->split && p->in_done)
		; /* both ways are done: closing says so too */
	else if (p->out.socket)
		shutdown(p->out.fd, SHUT_WR);
	else {
		alk_io_free(&p->out.io);
		alk_fd_close(&p->out.fd);
	}
	pump_check_done(p);
}

static size_t on_channel_data(void *user, struct alk_channel *channel, const uint8_t *bytes,
			      size_t n)
{
	struct alk_pump *p = pump_of(user);
	ssize_t done;

	(void)channel;
	if (p->out_done)
		return n;
	/* While the fd is full there is no use in asking it again before the loop says so. */
	if (p->stuck)
		return 0;
	if (p->out.socket)
		done = send(p->out.fd, bytes, n, MSG_NOSIGNAL);
	else
		done = write(p->out.fd, bytes, n);
	if (done < 0 && errno == EPIPE) {
		/* Nobody reads there any more; what it wrote before may still wait. */
		p->out_done = true;
		p->rc = -EPIPE;
		pump_check_done(p);
		return n;
	}
	if (done < 0 && errno != EAGAIN && errno != EINTR) {
		pump_fail(p, -errno);
		return n;
	}
	if (done < 0)
		done = 0;
	if ((size_t)done < n) {
		p->stuck = true;
		pump_watch(p);
	}
	return (size_t)done;
}

static void on_channel_eof(void *user, struct alk_channel *channel)
{
	struct alk_pump *p = pump_of(user);

	(void)channel;
	p->out_eof = true;
	if (!p->out_done)
		pump_shut_out(p);
}

/* ---- the end --------------------------------------------------------------------------------- */

static void on_channel_close(void *user, struct alk_channel *channel)
{
	struct alk_pump *p = pump_of(user);
	struct linger reset = {.l_onoff = 1, .l_linger = 0};

	(void)channel;
	/* An application whose stream was cut must not mistake that for its end. */
	if (p->rc == 0 && !p->out_eof)
		p->rc = -ECONNRESET;
	if (!p->split && p->rc < 0)
		setsockopt(p->in.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	alk_io_free(&p->in.io);
	alk_fd_close(&p->in.fd);
	if (p->split) {
		alk_io_free(&p->out.io);
		alk_fd_close(&p->out.fd);
	}
	alk_task_cancel(p->loop, &p->soon);
	free(p->first);
	if (p->done)
		p->done(p->user, p->rc);
	p->magic = 0;
	free(p);
}

static const struct alk_channel_ops pump_ops = {
	.data = on_channel_data,
	.drain = on_channel_drain,
	.eof = on_channel_eof,
	.close = on_channel_close,
};

static void on_ready(void *user, int revents)
{
	struct alk_pump *p = pump_of(user);

	if ((revents & ALK_IO_WRITE) && p->stuck) {
		p->stuck = false;
		pump_watch(p);
		alk_channel_resume(p->channel);
	}
	if ((revents & ALK_IO_READ) && p->reading && !p->in_done)
		pump_read(p);
}

/* Takes *io, if there is one. */
static int pump_end_init(struct alk_pump *p, struct pump_end *end, int fd, struct alk_io **io)
{
	struct stat st = {.st_mode = S_IFSOCK};

	end->fd = fd;
	if (io && *io) {
		end->socket = true;
		end->io = *io;
		*io = NULL;
		alk_io_hand_over(end->io, "pump", on_ready, p);
		return 0;
	}
	if (p->split && fstat(fd, &st) < 0)
		return -errno;
	end->socket = S_ISSOCK(st.st_mode);
	/* epoll refuses what is always ready. */
	end->plain = S_ISREG(st.st_mode) || (S_ISCHR(st.st_mode) && !isatty(fd));
	if (end->plain)
		return 0;
	end->io = alk_io_new(p->loop, fd, "pump", on_ready, p);
	return end->io ? 0 : -ENOMEM;
}

static int pump_start(struct alk_channel *channel, int *fd, struct alk_io **io, int *fd_out,
		      const void *first, size_t first_len, alk_pump_done *done, void *user)
{
	struct alk_pump *p = calloc(1, sizeof(*p));
	int rc = -ENOMEM;

	if (!p)
		goto fail;
	p->magic = PUMP_MAGIC;
	p->loop = alk_channel_loop(channel);
	p->soon = (struct alk_task){.fn = on_soon, .user = p};
	p->channel = channel;
	p->done = done;
	p->user = user;
	p->reading = true;
	p->split = fd_out && *fd_out >= 0;
	p->in.fd = p->out.fd = -1;
	rc = pump_end_init(p, &p->in, *fd, io);
	if (rc == 0 && p->split)
		rc = pump_end_init(p, &p->out, *fd_out, NULL);
	if (rc == 0 && first_len > 0) {
		p->first = malloc(first_len);
		if (!p->first)
			rc = -ENOMEM;
		else
			memcpy(p->first, first, first_len);
		p->first_len = first_len;
	}
	if (rc < 0)
		goto fail;
	if (!p->split)
		p->out = (struct pump_end){.fd = *fd, .socket = p->in.socket};
	*fd = -1;
	if (p->split)
		*fd_out = -1;
	alk_channel_set_ops(channel, &pump_ops, p);
	if (p->first)
		pump_send_first(p);
	pump_watch(p);
	/* What came before the pump stood is waiting. */
	alk_channel_resume(channel);
	return 0;
fail:
	if (p) {
		alk_io_free(&p->in.io);
		alk_io_free(&p->out.io);
		alk_task_cancel(p->loop, &p->soon);
		free(p);
	}
	if (io)
		alk_io_free(io);
	alk_fd_close(fd);
	if (fd_out)
		alk_fd_close(fd_out);
	alk_channel_close(channel);
	return rc;
}

int alk_pump_start(struct alk_channel *channel, int *fd, int *fd_out, const void *first,
		   size_t first_len, alk_pump_done *done, void *user)
{
	return pump_start(channel, fd, NULL, fd_out, first, first_len, done, user);
}

int alk_pump_start_watched(struct alk_channel *channel, int *fd, struct alk_io **io,
			   const void *first, size_t first_len)
{
	return pump_start(channel, fd, io, NULL, first, first_len, NULL, NULL);
}
