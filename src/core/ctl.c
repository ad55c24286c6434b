/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "ctl.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CTL_FRAME_MAX ((size_t)16 << 20)
#define CTL_QUEUE_MAX ((size_t)64 << 20)
#define CTL_READ_MIN ((size_t)16 << 10)
#define CTL_KEEP_MAX ((size_t)64 << 10) /* an empty buffer larger than this is given back */
#define CTL_SMALL 4096
#define CTL_LINKS ALK_CTL_LINKS
#define CTL_FDS (4 * CTL_LINKS)
#define CTL_FD_LOST (-2)
#define CTL_BUDGET 64 /* reads in one turn: a read ends at each fd */
#define CTL_RETRY_MS 10
#define CTL_TRIES 4 /* until what cannot be parsed is no message */

struct ctl_header {
	uint32_t len;
	uint32_t flags; /* CTL_FLAG_* */
};
#define CTL_FLAG_FD 1u
#define CTL_FLAG_BYTES 2u
#define CTL_FLAG_LINK 4u
#define CTL_NAME 16 /* of a plugin, before its bytes */

struct ctl_frame {
	struct ctl_frame *next;
	size_t len, off;
	int fds[CTL_LINKS];
	unsigned nfds; /* go with the first byte */
	char bytes[];
};

#define CTL_MAGIC 0x736c7463u /* "ctls" */

struct alk_ctl {
	uint32_t magic;
	struct alk_loop *loop;
	struct alk_io *io;
	struct alk_timer *retry;
	const struct alk_ctl_ops *ops;
	void *user;
	int fd;
	bool busy;	/* inside a callback of ours: the memory must stay */
	bool freed;	/* alk_ctl_free came meanwhile */
	bool ended;	/* `closed` was told */
	bool mute;	/* the other end takes nothing any more */
	unsigned tries; /* to parse what is first in the buffer */
	bool resting;	/* memory was short: nothing is read until `retry` rings */

	struct ctl_frame *head, **tail;
	size_t pending;
	/* Links of this turn, which go together at its end or before any other message; NULL or
	 * empty: there are none. */
	struct ctl_frame *links;
	struct alk_task send_links;

	uint8_t *buf;
	size_t start, end, size;
	/* Descriptors that came, in the order of the frames that announce them; CTL_FD_LOST = the
	 * rest of a frame's were lost on the way because this process is out of descriptors. */
	int fds[CTL_FDS];
	unsigned nfds;
};

static struct alk_ctl *ctl_of(void *user)
{
	struct alk_ctl *ctl = user;

	assert(ctl->magic == CTL_MAGIC);
	return ctl;
}

/* Sending */

static void fds_close(int *fds, unsigned *n)
{
	while (*n > 0)
		alk_fd_close(&fds[--*n]);
}

/* Bytes that the kernel took, or -errno. Closes the fds once they are on their way. */
static ssize_t ctl_write(struct alk_ctl *ctl, const struct iovec *iov, size_t niov, int *fds,
			 unsigned *nfds)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(CTL_LINKS * sizeof(int))];
	} control;
	struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = niov};
	ssize_t n;

	if (*nfds > 0) {
		struct cmsghdr *c;

		memset(control.room, 0, CMSG_SPACE(*nfds * sizeof(int)));
		msg.msg_control = control.room;
		msg.msg_controllen = CMSG_SPACE(*nfds * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(*nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, *nfds * sizeof(int));
	}
	do {
		n = sendmsg(ctl->fd, &msg, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	fds_close(fds, nfds);
	return n;
}

static void frame_free(struct ctl_frame *frame)
{
	fds_close(frame->fds, &frame->nfds);
	explicit_bzero(frame->bytes, frame->len);
	free(frame);
}

static void ctl_drop_head(struct alk_ctl *ctl)
{
	struct ctl_frame *frame = ctl->head;

	ctl->head = frame->next;
	if (ctl->head == NULL)
		ctl->tail = &ctl->head;
	ctl->pending -= frame->len - frame->off;
	frame_free(frame);
}

static void ctl_drop_queue(struct alk_ctl *ctl)
{
	while (ctl->head != NULL)
		ctl_drop_head(ctl);
	if (ctl->links != NULL)
		frame_free(ctl->links);
	ctl->links = NULL;
}

static void ctl_watch(struct alk_ctl *ctl, bool write)
{
	alk_io_set(ctl->io, (ctl->resting ? 0 : ALK_IO_READ) | (write ? ALK_IO_WRITE : 0));
}

/* What a failed write means: wait (0), or the other end is gone. Its last words are still read. */
static int ctl_write_failed(struct alk_ctl *ctl, int rc)
{
	switch (rc) {
	case -EAGAIN:
		ctl_watch(ctl, true);
		return 0;
	case -ETOOMANYREFS: /* too many descriptors under way: the socket would say writable all the time */
	case -ENOBUFS:
	case -ENOMEM:
		ctl_watch(ctl, false);
		alk_timer_start(ctl->retry, CTL_RETRY_MS);
		return 0;
	default:
		ctl->mute = true;
		ctl_drop_queue(ctl);
		ctl_watch(ctl, false);
		return -EPIPE;
	}
}

static void ctl_flush(struct alk_ctl *ctl)
{
	while (ctl->head != NULL) {
		struct ctl_frame *frame = ctl->head;
		struct iovec iov = {frame->bytes + frame->off, frame->len - frame->off};
		ssize_t n = ctl_write(ctl, &iov, 1, frame->fds, &frame->nfds);

		if (n < 0) {
			ctl_write_failed(ctl, (int)n);
			return;
		}
		frame->off += (size_t)n;
		ctl->pending -= (size_t)n;
		if (frame->off == frame->len)
			ctl_drop_head(ctl);
	}
	ctl_watch(ctl, false);
}

static void ctl_append(struct alk_ctl *ctl, struct ctl_frame *frame)
{
	frame->next = NULL;
	*ctl->tail = frame;
	ctl->tail = &frame->next;
	ctl->pending += frame->len - frame->off;
}

static int ctl_enqueue(struct alk_ctl *ctl, const struct ctl_header *header, const char *text,
		       size_t sent, int *fd)
{
	size_t len = sizeof(*header) + header->len;
	struct ctl_frame *frame = malloc(sizeof(*frame) + len - sent);

	if (frame == NULL)
		return -ENOMEM;
	frame->len = len - sent;
	frame->off = 0;
	frame->nfds = *fd >= 0;
	frame->fds[0] = *fd;
	*fd = -1;
	if (sent < sizeof(*header)) {
		memcpy(frame->bytes, (const char *)header + sent, sizeof(*header) - sent);
		memcpy(frame->bytes + sizeof(*header) - sent, text, header->len);
	} else {
		memcpy(frame->bytes, text + (sent - sizeof(*header)), frame->len);
	}
	ctl_append(ctl, frame);
	return 0;
}

/* What was gathered, at once; the memory is kept. */
static void ctl_send_links(struct alk_ctl *ctl)
{
	struct ctl_frame *frame = ctl->links;
	struct ctl_header header = {.flags = CTL_FLAG_LINK | CTL_FLAG_FD};
	struct iovec iov;
	ssize_t n = 0;

	if (frame == NULL || frame->nfds == 0)
		return;
	alk_task_cancel(ctl->loop, &ctl->send_links);
	header.len = (uint32_t)(frame->len - sizeof(header));
	memcpy(frame->bytes, &header, sizeof(header));
	iov = (struct iovec){frame->bytes, frame->len};
	if (ctl->head == NULL)
		n = ctl_write(ctl, &iov, 1, frame->fds, &frame->nfds);
	if (n == (ssize_t)frame->len)
		return;
	if (n < 0 && ctl_write_failed(ctl, (int)n) != 0)
		return; /* they went with all that waited: whoever should have had them is gone */
	frame->off = n > 0 ? (size_t)n : 0;
	if (n > 0)
		ctl_watch(ctl, true);
	ctl->links = NULL;
	ctl_append(ctl, frame);
}

static void on_send_links(void *user)
{
	ctl_send_links(ctl_of(user));
}

static int ctl_send_text(struct alk_ctl *ctl, uint32_t flags, const char *text, size_t len, int *fd)
{
	struct ctl_header header = {.len = (uint32_t)len,
				    .flags = flags | (*fd >= 0 ? CTL_FLAG_FD : 0)};
	struct iovec iov[2] = {{&header, sizeof(header)}, {(void *)text, len}};
	unsigned nfds = *fd >= 0;
	ssize_t n = 0;
	int rc;

	ctl_send_links(ctl);
	if (ctl->mute)
		return -EPIPE;
	if (ctl->pending + len > CTL_QUEUE_MAX)
		return -ENOBUFS;
	if (ctl->head == NULL) {
		n = ctl_write(ctl, iov, 2, fd, &nfds);
		if (n == (ssize_t)(sizeof(header) + len))
			return 0;
		if (n < 0) {
			rc = ctl_write_failed(ctl, (int)n);
			if (rc != 0)
				return rc;
			n = 0;
		} else {
			ctl_watch(ctl, true);
		}
	}
	rc = ctl_enqueue(ctl, &header, text, (size_t)n, fd);
	if (rc != 0 && n > 0) /* half a frame is out: the stream cannot go on */
		shutdown(ctl->fd, SHUT_RDWR);
	return rc;
}

int alk_ctl_send(struct alk_ctl *ctl, json_t *message, int *fd)
{
	char small[CTL_SMALL], *text = small;
	int none = -1, rc = -EPIPE;
	size_t len;

	if (fd == NULL)
		fd = &none;
	if (ctl->ended || ctl->freed || ctl->mute)
		goto out;
	rc = -ENOMEM;
	if (message == NULL)
		goto out;
	len = json_dumpb(message, small, sizeof(small), JSON_COMPACT);
	rc = -EMSGSIZE;
	if (len == 0 || len > CTL_FRAME_MAX)
		goto out;
	if (len > sizeof(small)) {
		rc = -ENOMEM;
		text = malloc(len);
		if (text == NULL)
			goto out;
		json_dumpb(message, text, len, JSON_COMPACT);
	}
	rc = ctl_send_text(ctl, 0, text, len, fd);
out:
	if (text != small && text != NULL) {
		explicit_bzero(text, len); /* the start message carries keys */
		free(text);
	}
	json_decref(message);
	alk_fd_close(fd);
	return rc;
}

int alk_ctl_send_bytes(struct alk_ctl *ctl, const char *name, const void *bytes, size_t n)
{
	size_t len = CTL_NAME + n;
	int none = -1, rc;
	char *frame;

	if (ctl->ended || ctl->freed || ctl->mute)
		return -EPIPE;
	if (n > CTL_FRAME_MAX - CTL_NAME)
		return -EMSGSIZE;
	frame = calloc(1, len);
	if (frame == NULL)
		return -ENOMEM;
	memcpy(frame, name, strnlen(name, CTL_NAME - 1));
	if (n > 0)
		memcpy(frame + CTL_NAME, bytes, n);
	rc = ctl_send_text(ctl, CTL_FLAG_BYTES, frame, len, &none);
	explicit_bzero(frame, len);
	free(frame);
	return rc;
}

/* Where the next one has its place, and room for the fd. */
static struct ctl_frame *ctl_links_room(struct alk_ctl *ctl)
{
	struct ctl_frame *frame = ctl->links;

	if (frame == NULL)
		frame = malloc(sizeof(*frame) + sizeof(struct ctl_header) +
			       CTL_LINKS * sizeof(struct alk_ctl_link));
	if (frame == NULL)
		return NULL;
	if (ctl->links == NULL)
		frame->nfds = 0;
	ctl->links = frame;
	if (frame->nfds == 0) {
		frame->len = sizeof(struct ctl_header);
		frame->off = 0;
		alk_task_queue(ctl->loop, &ctl->send_links);
	}
	return frame;
}

int alk_ctl_send_link(struct alk_ctl *ctl, uint64_t number, struct alk_link *link)
{
	struct alk_ctl_link one = {.number = number,
				   .remote_port = link->remote_port,
				   .local_port = link->local_port};
	struct ctl_frame *frame;
	int rc = -EPIPE;

	if (ctl->ended || ctl->freed || ctl->mute || link->fd < 0)
		goto out;
	rc = -ENOBUFS;
	if (ctl->pending + sizeof(one) > CTL_QUEUE_MAX)
		goto out;
	rc = -ENOMEM;
	frame = ctl_links_room(ctl);
	if (frame == NULL)
		goto out;
	memcpy(one.transport, link->transport, sizeof(one.transport));
	memcpy(one.remote_addr, link->remote_addr, sizeof(one.remote_addr));
	memcpy(one.local_addr, link->local_addr, sizeof(one.local_addr));
	memcpy(one.alpn, link->alpn, sizeof(one.alpn));
	memcpy(one.peer_id, link->peer_id, sizeof(one.peer_id));
	memcpy(frame->bytes + frame->len, &one, sizeof(one));
	frame->len += sizeof(one);
	frame->fds[frame->nfds++] = link->fd;
	link->fd = -1;
	rc = 0;
	if (frame->nfds == CTL_LINKS)
		ctl_send_links(ctl);
out:
	alk_fd_close(&link->fd);
	return rc;
}

size_t alk_ctl_pending(const struct alk_ctl *ctl)
{
	return ctl->pending;
}

/* Receiving */

static void ctl_close_fds(struct alk_ctl *ctl)
{
	for (unsigned i = 0; i < ctl->nfds; i++)
		alk_fd_close(&ctl->fds[i]);
	ctl->nfds = 0;
}

/* The next one, or -1 when it was lost; the frame has `left` more. */
static int ctl_take_fd(struct alk_ctl *ctl, size_t left)
{
	int fd = ctl->fds[0];

	if (fd == CTL_FD_LOST && left > 0)
		return -1;
	ctl->nfds--;
	memmove(ctl->fds, ctl->fds + 1, ctl->nfds * sizeof(ctl->fds[0]));
	return fd == CTL_FD_LOST ? -1 : fd;
}

static void ctl_keep_fd(struct alk_ctl *ctl, int fd)
{
	if (ctl->nfds < CTL_FDS)
		ctl->fds[ctl->nfds++] = fd;
	else
		alk_fd_close(&fd);
}

/* A read ends with the message that carries some: they are of one frame. */
static void ctl_keep_fds(struct alk_ctl *ctl, struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			ctl_keep_fd(ctl, fd);
		}
	}
	if ((msg->msg_flags & MSG_CTRUNC) != 0)
		ctl_keep_fd(ctl, CTL_FD_LOST);
}

static void ctl_drop_buf(struct alk_ctl *ctl)
{
	if (ctl->buf != NULL)
		explicit_bzero(ctl->buf, ctl->end);
	free(ctl->buf);
	ctl->buf = NULL;
	ctl->start = ctl->end = ctl->size = 0;
}

/* Make room behind `end`. Grows with the bytes that came, not with the length that a frame
 * promises. */
static int ctl_room(struct alk_ctl *ctl)
{
	size_t have = ctl->end - ctl->start,
	       size = have + (have > CTL_READ_MIN ? have : CTL_READ_MIN);
	uint8_t *buf;

	if (ctl->size >= size) {
		memmove(ctl->buf, ctl->buf + ctl->start, have);
		ctl->start = 0;
		ctl->end = have;
		return 0;
	}
	buf = malloc(size);
	if (buf == NULL)
		return -ENOMEM;
	if (have > 0)
		memcpy(buf, ctl->buf + ctl->start, have);
	ctl_drop_buf(ctl);
	ctl->buf = buf;
	ctl->end = have;
	ctl->size = size;
	return 0;
}

/* Bytes read, 0 at the end, or -errno. */
static ssize_t ctl_read(struct alk_ctl *ctl)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(CTL_LINKS * sizeof(int))];
	} control;
	struct iovec iov;
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.room,
			     .msg_controllen = sizeof(control.room)};
	ssize_t n;

	if (ctl->size - ctl->end < CTL_READ_MIN) {
		int rc = ctl_room(ctl);

		if (rc != 0)
			return rc;
	}
	iov.iov_base = ctl->buf + ctl->end;
	iov.iov_len = ctl->size - ctl->end;
	do {
		n = recvmsg(ctl->fd, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	ctl_keep_fds(ctl, &msg);
	ctl->end += (size_t)n;
	return n;
}

/* A frame of a plugin's bytes. -EPROTO when it is none, or nobody here takes such. */
static int ctl_hand_bytes(struct alk_ctl *ctl, uint8_t *frame, size_t len)
{
	if (len < CTL_NAME || frame[CTL_NAME - 1] != '\0' || ctl->ops->bytes == NULL)
		return -EPROTO;
	ctl->ops->bytes(ctl->user, ctl, (const char *)frame, frame + CTL_NAME, len - CTL_NAME);
	return 0;
}

static void text_take(char *to, const char *from, size_t size)
{
	memcpy(to, from, size - 1);
	to[size - 1] = '\0';
}

/* A link, with its fd or the news that it was lost. */
static void ctl_hand_link(struct alk_ctl *ctl, const uint8_t *bytes, size_t left)
{
	struct alk_link link = ALK_LINK_NONE;
	struct alk_ctl_link one;

	memcpy(&one, bytes, sizeof(one));
	text_take(link.transport, one.transport, sizeof(link.transport));
	text_take(link.remote_addr, one.remote_addr, sizeof(link.remote_addr));
	text_take(link.local_addr, one.local_addr, sizeof(link.local_addr));
	text_take(link.alpn, one.alpn, sizeof(link.alpn));
	text_take(link.peer_id, one.peer_id, sizeof(link.peer_id));
	link.remote_port = one.remote_port;
	link.local_port = one.local_port;
	link.fd = ctl_take_fd(ctl, left);
	ctl->ops->link(ctl->user, ctl, one.number, &link);
}

/* -EPROTO as above. */
static int ctl_hand_links(struct alk_ctl *ctl, const uint8_t *bytes,
			  const struct ctl_header *header)
{
	size_t size = sizeof(struct alk_ctl_link), n = header->len / size;

	if (header->len % size != 0 || n > CTL_LINKS || (header->flags & CTL_FLAG_FD) == 0 ||
	    ctl->ops->link == NULL)
		return -EPROTO;
	for (size_t i = 0; i < n && !ctl->freed; i++) {
		if (ctl->nfds == 0)
			return -EPROTO;
		ctl_hand_link(ctl, bytes + i * size, n - i - 1);
	}
	return 0;
}

/* One message out of the buffer. -EAGAIN: it is there still, memory may have been short: jansson
 * calls that bad syntax, mostly. -EPROTO: it is none. */
static int ctl_parse(struct alk_ctl *ctl, const struct ctl_header *header, json_t **message)
{
	char *bytes = (char *)ctl->buf + ctl->start + sizeof(*header);

	*message = json_loadb(bytes, header->len, JSON_REJECT_DUPLICATES, NULL);
	if (*message == NULL && ++ctl->tries < CTL_TRIES)
		return -EAGAIN;
	ctl->tries = 0;
	explicit_bzero(ctl->buf + ctl->start, sizeof(*header) + header->len);
	ctl->start += sizeof(*header) + header->len;
	return json_is_string(json_object_get(*message, "op")) ? 0 : -EPROTO;
}

/* Hands over what is complete. 0, or -errno when the stream is not ours. -EAGAIN: the rest
 * later. */
static int ctl_dispatch(struct alk_ctl *ctl)
{
	while (!ctl->freed && ctl->end - ctl->start >= sizeof(struct ctl_header)) {
		struct ctl_header header;
		json_t *message;
		int fd = -1, rc;

		memcpy(&header, ctl->buf + ctl->start, sizeof(header));
		if (header.len == 0 || header.len > CTL_FRAME_MAX ||
		    (header.flags & ~(CTL_FLAG_FD | CTL_FLAG_BYTES | CTL_FLAG_LINK)) != 0 ||
		    ((header.flags & CTL_FLAG_BYTES) != 0 && header.flags != CTL_FLAG_BYTES))
			return -EPROTO;
		if (ctl->end - ctl->start < sizeof(header) + header.len)
			return 0;
		if ((header.flags & (CTL_FLAG_BYTES | CTL_FLAG_LINK)) != 0) {
			uint8_t *bytes = ctl->buf + ctl->start + sizeof(header);

			rc = header.flags == CTL_FLAG_BYTES ? ctl_hand_bytes(ctl, bytes, header.len)
							    : ctl_hand_links(ctl, bytes, &header);
			explicit_bzero(ctl->buf + ctl->start, sizeof(header) + header.len);
			ctl->start += sizeof(header) + header.len;
			if (rc != 0)
				return rc;
			continue;
		}
		rc = ctl_parse(ctl, &header, &message);
		if (rc == 0 && (header.flags & CTL_FLAG_FD) != 0 && ctl->nfds == 0)
			rc = -EPROTO;
		if (rc < 0) {
			json_decref(message);
			return rc;
		}
		if ((header.flags & CTL_FLAG_FD) != 0)
			fd = ctl_take_fd(ctl, 0);
		ctl->ops->message(ctl->user, ctl, message, fd);
		json_decref(message);
	}
	if (!ctl->freed && ctl->start == ctl->end) {
		ctl_close_fds(ctl); /* nobody announced them */
		ctl->start = ctl->end = 0;
		if (ctl->size > CTL_KEEP_MAX)
			ctl_drop_buf(ctl);
	}
	return 0;
}

static void ctl_destroy(struct alk_ctl *ctl)
{
	ctl_drop_buf(ctl);
	ctl->magic = 0;
	free(ctl);
}

static void ctl_end(struct alk_ctl *ctl, int rc)
{
	ctl->ended = true;
	alk_io_set(ctl->io, 0);
	alk_timer_stop(ctl->retry);
	ctl_drop_queue(ctl);
	ctl->ops->closed(ctl->user, ctl, rc);
}

/* Memory is short: nothing that came is lost, it waits. */
static void ctl_rest(struct alk_ctl *ctl)
{
	ctl->resting = true;
	ctl_watch(ctl, (alk_io_events(ctl->io) & ALK_IO_WRITE) != 0);
	alk_timer_start(ctl->retry, CTL_RETRY_MS);
}

static void ctl_receive(struct alk_ctl *ctl)
{
	for (int i = 0; i < CTL_BUDGET && !ctl->freed; i++) {
		ssize_t n = ctl_read(ctl);
		bool all = n > 0 && ctl->end < ctl->size;
		int rc;

		if (n == -EAGAIN)
			return;
		if (n == -ENOMEM || n == -ENOBUFS) {
			ctl_rest(ctl);
			return;
		}
		if (n <= 0) {
			/* Reset: it went with something of ours unread, as one that is killed
			 * does. */
			ctl_end(ctl, n != -ECONNRESET ? (int)n : 0);
			return;
		}
		rc = ctl_dispatch(ctl);
		if (rc == -EAGAIN && !ctl->freed) {
			ctl_rest(ctl);
			return;
		}
		if (rc != 0 && !ctl->freed) {
			ctl_end(ctl, rc);
			return;
		}
		if (all)
			return; /* the loop says when there is more */
	}
}

/* After a shortage: what came already first. */
static void ctl_receive_again(struct alk_ctl *ctl)
{
	int rc = ctl_dispatch(ctl);

	if (ctl->freed)
		return;
	if (rc == -EAGAIN)
		ctl_rest(ctl);
	else if (rc != 0)
		ctl_end(ctl, rc);
	else
		ctl_receive(ctl);
}

static void on_ready(void *user, int revents)
{
	struct alk_ctl *ctl = ctl_of(user);

	ctl->busy = true;
	if ((revents & ALK_IO_WRITE) != 0)
		ctl_flush(ctl);
	if ((revents & ALK_IO_READ) != 0)
		ctl_receive(ctl);
	ctl->busy = false;
	if (ctl->freed)
		ctl_destroy(ctl);
}

static void on_retry(void *user)
{
	struct alk_ctl *ctl = ctl_of(user);
	bool rested = ctl->resting;

	ctl->resting = false;
	ctl->busy = true;
	ctl_flush(ctl);
	if (rested && !ctl->ended)
		ctl_receive_again(ctl);
	ctl->busy = false;
	if (ctl->freed)
		ctl_destroy(ctl);
}

struct alk_ctl *alk_ctl_new(struct alk_loop *loop, int *fd, const struct alk_ctl_ops *ops,
			    void *user, struct alk_err *err)
{
	struct alk_ctl *ctl = calloc(1, sizeof(*ctl));
	int flags;

	if (ctl == NULL) {
		alk_err_set(err, -ENOMEM, "control socket: out of memory");
		alk_fd_close(fd);
		return NULL;
	}
	ctl->magic = CTL_MAGIC;
	ctl->loop = loop;
	ctl->ops = ops;
	ctl->user = user;
	ctl->tail = &ctl->head;
	ctl->send_links = (struct alk_task){.fn = on_send_links, .user = ctl};
	ctl->fd = *fd;
	*fd = -1;
	flags = fcntl(ctl->fd, F_GETFL);
	if (flags < 0 || fcntl(ctl->fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
	    fcntl(ctl->fd, F_SETFD, FD_CLOEXEC) != 0) {
		alk_err_set(err, -errno, "control socket: %s", strerror(errno));
		goto fail;
	}
	ctl->io = alk_io_new(loop, ctl->fd, "control socket", on_ready, ctl);
	ctl->retry = alk_timer_new(loop, "control socket retry", on_retry, ctl);
	if (ctl->io == NULL || ctl->retry == NULL) {
		alk_err_set(err, -ENOMEM, "control socket: out of memory");
		goto fail;
	}
	ctl_watch(ctl, false);
	return ctl;
fail:
	alk_ctl_free(&ctl);
	return NULL;
}

void alk_ctl_free(struct alk_ctl **ctlp)
{
	struct alk_ctl *ctl = *ctlp;

	*ctlp = NULL;
	if (ctl == NULL || ctl->freed)
		return;
	ctl->freed = true;
	alk_io_free(&ctl->io);
	alk_timer_free(&ctl->retry);
	alk_fd_close(&ctl->fd);
	alk_task_cancel(ctl->loop, &ctl->send_links);
	ctl_drop_queue(ctl);
	ctl_close_fds(ctl);
	if (!ctl->busy)
		ctl_destroy(ctl);
}
