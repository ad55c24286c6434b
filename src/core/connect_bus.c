/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "connect_bus.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "admin_socket.h"

#define PREFIX "unix:"
#define CONTROL "alknet-control"
#define CLIENTS_MAX 256
#define INPUT ((size_t)64 << 10)
#define UP_MAX ((size_t)1 << 20)     /* bytes of a program that wait for the server */
#define DOWN_MAX ((size_t)256 << 10) /* bytes that wait for the program: the server is not read */
#define OUT_MAX ((size_t)8 << 20)    /* the same with our own answers: it is not read either */
#define FRAME_MAX ((size_t)4 << 20)  /* the most that a server can be told to take */
#define FRAME_MS 30000
#define TICK_MS 250 /* how finely waiting is measured */
#define AGAIN_MS 1000
#define GRACE_MS 3000
#define MARKS_MAX 64

/* So many bytes had come by then. */
struct mark {
	uint64_t at, bytes;
};

#define CLIENT_MAGIC 0x6c637362u /* "bscl" */

struct bus_client {
	uint32_t magic;
	struct alk_bus_front *front;
	struct bus_client *next, **prev;
	int fd;
	struct alk_io *io;
	struct alk_timer *frame; /* of one that does not arrive */
	struct alk_timer *tick;	 /* while something waits, or the program has ended its input */
	struct alk_timer *again; /* the registration */
	struct alk_task work;
	struct alk_channel *channel;
	struct bus_memory memory;
	struct bus_bytes in;   /* of the program: the beginning of a frame */
	struct bus_bytes up;   /* whole frames that wait */
	struct bus_bytes tx;   /* whole frames that were judged, on their way into the channel */
	size_t tx_sent;	       /* of its first frame */
	struct bus_bytes down; /* of the server: the beginning of a frame */
	struct bus_bytes out;  /* for the program */
	struct mark marks[MARKS_MAX];
	unsigned n_marks;
	uint64_t came, went; /* bytes into and out of `up` */
	bool open;	     /* the channel is */
	bool eof, eof_sent, held, dead, closing;
};

static struct bus_client *client_of(void *user)
{
	struct bus_client *c = user;

	assert(c->magic == CLIENT_MAGIC);
	return c;
}

struct alk_bus_front {
	struct alk_loop *loop;
	struct alk_client *client;
	struct alk_admin_socket sock;
	char path[108];
	struct alk_io *io;
	struct alk_timer *pause;
	struct alk_timer *grace; /* while programs get back what they had: see front_restored() */
	struct bus_client *clients;
	unsigned n;
	uint64_t patience_ms;
	void (*wanted)(void *user);
	void *user;
	uint8_t input[INPUT];
};

static const struct alk_channel_ops detached_ops;

/* A program */

static void client_free(struct bus_client *c)
{
	alk_task_cancel(c->front->loop, &c->work);
	if (c->channel != NULL) {
		alk_channel_set_ops(c->channel, &detached_ops, NULL);
		alk_channel_close(c->channel);
	}
	alk_io_free(&c->io);
	alk_timer_free(&c->frame);
	alk_timer_free(&c->tick);
	alk_timer_free(&c->again);
	alk_fd_close(&c->fd);
	bus_memory_deinit(&c->memory);
	bus_bytes_deinit(&c->in);
	bus_bytes_deinit(&c->up);
	bus_bytes_deinit(&c->tx);
	bus_bytes_deinit(&c->down);
	bus_bytes_deinit(&c->out);
	*c->prev = c->next;
	if (c->next != NULL)
		c->next->prev = c->prev;
	c->front->n--;
	c->magic = 0;
	free(c);
}

/* Freed from the loop: who calls is in the middle of something. */
static void client_die(struct bus_client *c)
{
	c->dead = true;
	alk_task_queue(c->front->loop, &c->work);
}

static bool client_is_read(const struct bus_client *c)
{
	return !c->eof && !c->closing && bus_bytes_n(&c->up) < UP_MAX &&
	       bus_bytes_n(&c->out) < OUT_MAX;
}

static void client_watch(const struct bus_client *c)
{
	int events = client_is_read(c) ? ALK_IO_READ : 0;

	if (bus_bytes_n(&c->out) > 0)
		events |= ALK_IO_WRITE;
	alk_io_set(c->io, events);
}

/* To the program */

static void client_send(struct bus_client *c)
{
	while (bus_bytes_n(&c->out) > 0 && !c->dead) {
		ssize_t n = send(c->fd, c->out.bytes + c->out.off, bus_bytes_n(&c->out),
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n < 0) {
			client_die(c);
			return;
		}
		bus_bytes_take(&c->out, (size_t)n);
	}
	if (bus_bytes_n(&c->out) == 0 && c->closing)
		client_die(c);
	if (c->held && bus_bytes_n(&c->out) < DOWN_MAX / 2) {
		c->held = false;
		if (c->channel != NULL)
			alk_channel_resume(c->channel);
	}
	client_watch(c);
}

/* What was said is still sent, if the program reads. */
static void client_close(struct bus_client *c)
{
	if (c->closing)
		return;
	c->closing = true;
	alk_timer_start(c->frame, FRAME_MS);
	client_send(c);
}

static void client_fail(struct bus_client *c, const char *code, const char *message)
{
	bus_say_error(&c->out, "error", "", code, message);
	client_close(c);
}

/* To the server */

static size_t frame_size(const uint8_t *bytes)
{
	return 4 +
	       ((size_t)bytes[0] << 24 | (size_t)bytes[1] << 16 | (size_t)bytes[2] << 8 | bytes[3]);
}

static bool client_is_up(const struct bus_client *c)
{
	return c->open && !c->dead && !c->closing;
}

/* False: not all has gone; `drain` follows, or `close`. */
static bool client_write(struct bus_client *c)
{
	while (bus_bytes_n(&c->tx) > 0) {
		size_t left = bus_bytes_n(&c->tx) - c->tx_sent;
		ssize_t n = alk_channel_write(c->channel, c->tx.bytes + c->tx.off + c->tx_sent,
					      left);

		if (n < 0)
			c->open = false;
		if (n <= 0)
			return false;
		c->tx_sent += (size_t)n;
		while (bus_bytes_n(&c->tx) > 0 &&
		       frame_size(c->tx.bytes + c->tx.off) <= c->tx_sent) {
			size_t size = frame_size(c->tx.bytes + c->tx.off);

			c->tx_sent -= size;
			bus_bytes_take(&c->tx, size);
		}
		if ((size_t)n < left)
			return false;
	}
	return true;
}

/* Judge one whole frame and have it sent, if it is to be. */
static int client_judge(struct bus_client *c, const uint8_t *frame, size_t n)
{
	if (bus_memory_up(&c->memory, frame, n, &c->out, &c->tx) == BUS_DROP)
		return 0;
	return bus_bytes_add(&c->tx, frame, n);
}

static bool client_has_room(const struct bus_client *c)
{
	return client_is_up(c) && bus_bytes_n(&c->tx) < INPUT && !alk_timer_active(c->front->grace);
}

static void marks_take(struct bus_client *c)
{
	unsigned n = 0;

	while (n < c->n_marks && c->marks[n].bytes <= c->went)
		n++;
	if (n == 0)
		return;
	c->n_marks -= n;
	memmove(c->marks, c->marks + n, c->n_marks * sizeof(*c->marks));
}

static void client_settle(struct bus_client *c)
{
	if (!c->eof || c->eof_sent || bus_bytes_n(&c->up) > 0 || bus_bytes_n(&c->tx) > 0)
		return;
	if (client_is_up(c)) {
		c->eof_sent = true;
		alk_channel_eof(c->channel);
	} else if (c->channel == NULL && !bus_memory_listens(&c->memory)) {
		client_close(c);
	}
}

/* As much of what waits as the channel takes. */
static void client_flush(struct bus_client *c)
{
	while (client_is_up(c)) {
		while (bus_bytes_n(&c->up) > 0 && client_has_room(c)) {
			size_t size = frame_size(c->up.bytes + c->up.off);

			if (client_judge(c, c->up.bytes + c->up.off, size) < 0) {
				client_die(c);
				return;
			}
			c->went += size;
			bus_bytes_take(&c->up, size);
		}
		if (!client_write(c) || bus_bytes_n(&c->up) == 0 || !client_has_room(c))
			break;
	}
	marks_take(c);
	client_settle(c);
	if (bus_bytes_n(&c->out) > 0)
		client_send(c);
	client_watch(c);
}

/* Nobody takes it now: since when does it wait? */
static void client_mark(struct bus_client *c)
{
	uint64_t now = alk_loop_now(c->front->loop);
	struct mark *last = c->n_marks > 0 ? &c->marks[c->n_marks - 1] : NULL;

	if (last != NULL && now - last->at < TICK_MS) {
		last->bytes = c->came;
	} else {
		/* Where there is no place for another, what came last is given up later, not before
		 * its time. */
		if (last == NULL || c->n_marks < MARKS_MAX)
			last = &c->marks[c->n_marks++];
		*last = (struct mark){now, c->came};
	}
	if (c->open)
		return;
	if (!alk_timer_active(c->tick))
		alk_timer_start(c->tick, TICK_MS);
	if (c->front->wanted != NULL)
		c->front->wanted(c->front->user);
}

/* Frames that are whole; gives their bytes. 0 < length <= FRAME_MAX of each was checked. */
static int client_take(struct bus_client *c, const uint8_t *bytes, size_t n)
{
	size_t at = 0;
	int rc = 0;

	while (rc == 0 && at < n && bus_bytes_n(&c->up) == 0 && client_has_room(c)) {
		size_t size = frame_size(bytes + at);

		rc = client_judge(c, bytes + at, size);
		at += size;
		if (!client_has_room(c))
			client_write(c);
	}
	if (rc == 0 && at < n) {
		rc = bus_bytes_add(&c->up, bytes + at, n - at);
		c->came += n - at;
		client_mark(c);
	}
	return rc;
}

/* How many bytes of these are whole frames? -EMSGSIZE: one cannot be. */
static ssize_t whole_frames(const uint8_t *bytes, size_t n)
{
	size_t at = 0;

	while (n - at >= 4) {
		size_t size = frame_size(bytes + at);

		if (size == 4 || size > 4 + FRAME_MAX)
			return at > 0 ? (ssize_t)at : -EMSGSIZE;
		if (n - at < size)
			break;
		at += size;
	}
	return (ssize_t)at;
}

static void client_input(struct bus_client *c, const uint8_t *bytes, size_t n)
{
	bool joined = bus_bytes_n(&c->in) > 0;
	ssize_t whole;
	int rc = joined ? bus_bytes_add(&c->in, bytes, n) : 0;

	if (joined) {
		bytes = c->in.bytes + c->in.off;
		n = bus_bytes_n(&c->in);
	}
	while (rc == 0 && n > 0 && (whole = whole_frames(bytes, n)) != 0) {
		if (whole < 0) {
			client_fail(c, "INVALID_FRAME", "a frame has 1 byte to 4 MiB");
			return;
		}
		rc = client_take(c, bytes, (size_t)whole);
		bytes += whole;
		n -= (size_t)whole;
		if (joined)
			bus_bytes_take(&c->in, (size_t)whole);
	}
	if (rc == 0 && !joined && n > 0)
		rc = bus_bytes_add(&c->in, bytes, n);
	if (rc < 0)
		client_die(c);
	else if (n > 0)
		alk_timer_start(c->frame, FRAME_MS);
	else
		alk_timer_stop(c->frame);
}

static void client_read(struct bus_client *c)
{
	ssize_t n = recv(c->fd, c->front->input, INPUT, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		client_die(c);
	} else if (n > 0) {
		client_input(c, c->front->input, (size_t)n);
	} else {
		c->eof = true;
		alk_timer_start(c->tick, TICK_MS);
		if (bus_bytes_n(&c->in) > 0)
			client_fail(c, "INVALID_FRAME", "the connection ended inside a frame");
	}
	if (!c->dead && !c->closing)
		client_flush(c);
}

static void on_program(void *user, int revents)
{
	struct bus_client *c = client_of(user);

	if ((revents & ALK_IO_WRITE) != 0 && !c->dead)
		client_send(c);
	if ((revents & ALK_IO_READ) != 0 && !c->dead && !c->closing)
		client_read(c);
	if (!c->dead)
		client_watch(c);
}

/* The channel */

static void client_open(struct bus_client *c);
static void front_restored(struct alk_bus_front *front);

static void on_opened(void *user, struct alk_channel *channel)
{
	struct bus_client *c = client_of(user);

	(void)channel;
	c->open = true;
	if (bus_memory_again(&c->memory, &c->tx) < 0)
		client_die(c);
	else
		client_flush(c);
}

static size_t client_down(struct bus_client *c, const uint8_t *bytes, size_t n)
{
	size_t at = 0, from = 0;

	while (n - at >= 4) {
		size_t size = frame_size(bytes + at);

		if (size == 4 || size > 4 + FRAME_MAX) {
			client_fail(c, "INVALID_FRAME", "the server sent what is no frame");
			return n;
		}
		if (n - at < size)
			break;
		if (bus_memory_down(&c->memory, bytes + at, size) == BUS_DROP) {
			if (at > from && bus_bytes_add(&c->out, bytes + from, at - from) < 0)
				client_die(c);
			from = at + size;
		}
		at += size;
	}
	/* Straight to the socket while nothing waits. */
	if (bus_bytes_n(&c->out) == 0 && at > from) {
		ssize_t sent = send(c->fd, bytes + from, at - from, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && errno != EAGAIN && errno != EINTR)
			client_die(c);
		from += sent > 0 ? (size_t)sent : 0;
	}
	if (at > from && bus_bytes_add(&c->out, bytes + from, at - from) < 0)
		client_die(c);
	return at;
}

static size_t on_data(void *user, struct alk_channel *channel, const uint8_t *bytes, size_t n)
{
	struct bus_client *c = client_of(user);
	size_t used;

	(void)channel;
	if (c->dead || c->closing)
		return n;
	if (bus_bytes_n(&c->out) >= DOWN_MAX) {
		c->held = true;
		return 0;
	}
	if (bus_bytes_n(&c->down) == 0) {
		used = client_down(c, bytes, n);
		if (!c->closing && used < n && bus_bytes_add(&c->down, bytes + used, n - used) < 0)
			client_die(c);
	} else if (bus_bytes_add(&c->down, bytes, n) < 0) {
		client_die(c);
	} else {
		used = client_down(c, c->down.bytes + c->down.off, bus_bytes_n(&c->down));
		bus_bytes_take(&c->down, used);
	}
	front_restored(c->front);
	if (c->memory.register_later && !alk_timer_active(c->again))
		alk_timer_start(c->again, AGAIN_MS);
	if (bus_bytes_n(&c->out) > 0)
		client_watch(c);
	return n;
}

static void on_drain(void *user, struct alk_channel *channel)
{
	struct bus_client *c = client_of(user);

	(void)channel;
	if (!c->dead)
		client_flush(c);
}

/* Events that did not go are first in what waits; the rest is remembered. */
static int client_take_back(struct bus_client *c)
{
	struct bus_bytes kept = {.bytes = NULL};
	int rc = 0;

	while (bus_bytes_n(&c->tx) > 0 && rc == 0) {
		const uint8_t *frame = c->tx.bytes + c->tx.off;
		size_t size = frame_size(frame);

		if (!bus_memory_knows(frame, size)) {
			rc = bus_bytes_add(&kept, frame, size);
			c->came += size;
		}
		bus_bytes_take(&c->tx, size);
	}
	c->tx_sent = 0;
	if (rc == 0 && bus_bytes_n(&c->up) > 0)
		rc = bus_bytes_add(&kept, c->up.bytes + c->up.off, bus_bytes_n(&c->up));
	bus_bytes_deinit(&c->up);
	c->up = kept;
	c->n_marks = 0;
	return rc;
}

/* The session has ended, and the channel with it. */
static void client_lost(struct bus_client *c)
{
	c->open = c->eof_sent = c->held = false;
	alk_timer_stop(c->again);
	bus_bytes_deinit(&c->down);
	bus_memory_lost(&c->memory, &c->out);
	if (client_take_back(c) < 0) {
		client_die(c);
		return;
	}
	if (bus_bytes_n(&c->up) > 0)
		client_mark(c);
	client_settle(c);
	client_send(c);
}

static void on_refused(void *user, struct alk_channel *channel, enum alk_open_failure why,
		       const char *text)
{
	struct bus_client *c = client_of(user);

	(void)channel;
	c->channel = NULL;
	if (why == ALK_OPEN_GONE)
		client_lost(c);
	else
		client_fail(c, why == ALK_OPEN_PROHIBITED ? "FORBIDDEN" : "UNAVAILABLE",
			    *text != '\0' ? text : alk_open_failure_str(why));
}

static void on_close(void *user, struct alk_channel *channel)
{
	struct bus_client *c = client_of(user);

	(void)channel;
	if (c->channel == NULL)
		return;
	c->channel = NULL;
	if (c->dead || c->closing)
		return;
	/* The server closes a channel with a reason, which was passed on. */
	if (alk_client_ready(c->front->client))
		client_close(c);
	else
		client_lost(c);
}

/* What waited goes when all programs here listen again: they may be meant. Not for ever. */
static void front_flush(struct alk_bus_front *front)
{
	alk_timer_stop(front->grace);
	for (struct bus_client *c = front->clients; c != NULL; c = c->next)
		if (!c->dead)
			client_flush(c);
}

static void on_grace_end(void *user)
{
	front_flush(user);
}

static void front_restored(struct alk_bus_front *front)
{
	if (!alk_timer_active(front->grace))
		return;
	for (const struct bus_client *c = front->clients; c != NULL; c = c->next)
		if (!c->dead && !c->closing && !bus_memory_restored(&c->memory))
			return;
	alk_timer_start(front->grace, 0);
}

static const struct alk_channel_ops channel_ops = {
	.opened = on_opened,
	.refused = on_refused,
	.data = on_data,
	.drain = on_drain,
	.close = on_close,
};

static void client_open(struct bus_client *c)
{
	struct alk_destination to = {.host = CONTROL, .port = 1, .originator = "127.0.0.1"};
	struct alk_err err = {""};

	if (c->channel != NULL || c->dead || c->closing || c->front->client == NULL ||
	    !alk_client_ready(c->front->client))
		return;
	c->channel = alk_client_open(c->front->client, &to, &channel_ops, c, &err);
	if (c->channel == NULL)
		client_fail(c, "OVERLOADED", err.text);
}

/* Time */

static void on_frame_late(void *user)
{
	struct bus_client *c = client_of(user);

	if (c->closing)
		client_die(c);
	else if (!client_is_read(c))
		alk_timer_start(c->frame, FRAME_MS); /* it is we who do not read */
	else
		client_fail(c, "INVALID_FRAME", "the rest of the frame did not arrive");
}

static bool client_hung_up(const struct bus_client *c)
{
	struct pollfd fd = {.fd = c->fd};

	return poll(&fd, 1, 0) == 1 && (fd.revents & (POLLHUP | POLLERR)) != 0;
}

static void client_expire(struct bus_client *c)
{
	uint64_t now = alk_loop_now(c->front->loop), until = c->went;

	for (unsigned i = 0; i < c->n_marks && now - c->marks[i].at >= c->front->patience_ms; i++)
		until = c->marks[i].bytes;
	while (c->went < until && bus_bytes_n(&c->up) > 0) {
		size_t size = frame_size(c->up.bytes + c->up.off);

		bus_memory_expire(&c->memory, c->up.bytes + c->up.off, size, &c->out);
		c->went += size;
		bus_bytes_take(&c->up, size);
	}
	marks_take(c);
}

static void on_tick(void *user)
{
	struct bus_client *c = client_of(user);

	if (c->dead)
		return;
	if (!c->open)
		client_expire(c);
	if (c->eof && client_hung_up(c) && (bus_bytes_n(&c->up) == 0 && bus_bytes_n(&c->tx) == 0)) {
		client_die(c);
		return;
	}
	if (c->eof || (!c->open && bus_bytes_n(&c->up) > 0))
		alk_timer_start(c->tick, TICK_MS);
	client_settle(c);
	client_send(c);
}

static void on_again(void *user)
{
	struct bus_client *c = client_of(user);

	if (!client_is_up(c))
		return;
	if (bus_memory_register(&c->memory, &c->tx) < 0)
		client_die(c);
	else
		client_flush(c);
}

static void on_work(void *user)
{
	client_free(client_of(user));
}

/* The socket */

static void client_new(struct alk_bus_front *front, int *fd)
{
	struct bus_client *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		alk_fd_close(fd);
		return;
	}
	c->magic = CLIENT_MAGIC;
	c->front = front;
	c->fd = *fd;
	*fd = -1;
	c->work = (struct alk_task){.fn = on_work, .user = c};
	c->next = front->clients;
	c->prev = &front->clients;
	if (c->next != NULL)
		c->next->prev = &c->next;
	front->clients = c;
	front->n++;
	c->io = alk_io_new(front->loop, c->fd, "bus", on_program, c);
	c->frame = alk_timer_new(front->loop, "bus frame", on_frame_late, c);
	c->tick = alk_timer_new(front->loop, "bus wait", on_tick, c);
	c->again = alk_timer_new(front->loop, "bus register", on_again, c);
	if (c->io == NULL || c->frame == NULL || c->tick == NULL || c->again == NULL) {
		client_free(c);
		return;
	}
	client_open(c);
	client_watch(c);
}

static void on_connection(void *user, int revents)
{
	struct alk_bus_front *front = user;
	int fd;

	(void)revents;
	while ((fd = accept4(front->sock.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
		if (front->n < CLIENTS_MAX)
			client_new(front, &fd);
		alk_fd_close(&fd);
	}
	if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
		alk_io_set(front->io, 0);
		alk_timer_start(front->pause, TICK_MS);
	}
}

static void on_pause_end(void *user)
{
	struct alk_bus_front *front = user;

	alk_io_set(front->io, ALK_IO_READ);
}

struct alk_bus_front *alk_bus_front_new(struct alk_loop *loop, const char *address,
					uint64_t patience_ms, void (*wanted)(void *user),
					void *user, struct alk_err *err)
{
	struct alk_bus_front *front;

	if (strncmp(address, PREFIX, sizeof(PREFIX) - 1) != 0 ||
	    address[sizeof(PREFIX) - 1] == '\0') {
		alk_err_set(err, -EINVAL, "--bus: \"%s\" is not unix: with a path behind it",
			    address);
		return NULL;
	}
	front = calloc(1, sizeof(*front));
	if (front == NULL) {
		alk_err_set(err, -ENOMEM, "--bus: out of memory");
		return NULL;
	}
	front->loop = loop;
	front->patience_ms = patience_ms;
	front->wanted = wanted;
	front->user = user;
	front->sock.fd = -1;
	if (alk_admin_socket_open_as(&front->sock, "--bus", address + sizeof(PREFIX) - 1, 0600,
				     (gid_t)-1, err) < 0) {
		free(front);
		return NULL;
	}
	snprintf(front->path, sizeof(front->path), "%s", address + sizeof(PREFIX) - 1);
	return front;
}

void alk_bus_front_free(struct alk_bus_front **frontp)
{
	struct alk_bus_front *front = *frontp;

	*frontp = NULL;
	if (front == NULL)
		return;
	while (front->clients != NULL)
		client_free(front->clients);
	alk_io_free(&front->io);
	alk_timer_free(&front->pause);
	alk_timer_free(&front->grace);
	alk_admin_socket_close(&front->sock);
	free(front);
}

void alk_bus_front_set_client(struct alk_bus_front *front, struct alk_client *client)
{
	front->client = client;
}

int alk_bus_front_start(struct alk_bus_front *front)
{
	front->io = alk_io_new(front->loop, front->sock.fd, "bus socket", on_connection, front);
	front->pause = alk_timer_new(front->loop, "bus socket", on_pause_end, front);
	front->grace = alk_timer_new(front->loop, "bus restore", on_grace_end, front);
	if (front->io == NULL || front->pause == NULL || front->grace == NULL)
		return -ENOMEM;
	alk_io_set(front->io, ALK_IO_READ);
	return 0;
}

void alk_bus_front_up(struct alk_bus_front *front)
{
	alk_timer_start(front->grace, GRACE_MS);
	for (struct bus_client *c = front->clients; c != NULL; c = c->next)
		client_open(c);
	front_restored(front);
}

bool alk_bus_front_waits(const struct alk_bus_front *front)
{
	for (const struct bus_client *c = front->clients; c != NULL; c = c->next)
		if (!c->open && !c->dead && bus_bytes_n(&c->up) > 0)
			return true;
	return false;
}

const char *alk_bus_front_path(const struct alk_bus_front *front)
{
	return front->path;
}
