/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "hub_nats.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "../../common/companion.h"

#define AGAIN_MIN 250 /* ms until the program is started again */
#define AGAIN_MAX 30000
#define READ_BYTES 65536
/* Of what is no event, and has no other bound: a program that leaves so much unread never will read
 * it. */
#define SAID_MAX ((size_t)64 << 20)

struct chunk {
	TAILQ_ENTRY(chunk) entry;
	bool event;
	char *origin;
	size_t n, sent;
	uint8_t bytes[];
};
TAILQ_HEAD(chunks, chunk);

struct nats_link {
	struct alk_loop *loop;
	const struct nats_link_ops *ops;
	void *user;
	struct alk_timer *again;
	struct alk_io *io;
	struct companion program;
	uint64_t wait;
	bool connected;
	struct chunks out, held;
	size_t bytes, limit; /* of events in both */
	size_t said;	     /* bytes of the others */
	bool stuck;	     /* it is being ended because of them */
	uint8_t *in;
	size_t have, size;
};

static void chunk_free(struct nats_link *link, struct chunks *list, struct chunk *c)
{
	TAILQ_REMOVE(list, c, entry);
	if (c->event)
		link->bytes -= c->n;
	else
		link->said -= c->n;
	free(c->origin);
	free(c);
}

static struct chunk *chunk_new(const struct wire_out *out, const char *origin)
{
	uint32_t n = (uint32_t)out->n;
	struct chunk *c = out->bad ? NULL : calloc(1, sizeof(*c) + sizeof(n) + out->n);

	if (c == NULL)
		return NULL;
	c->event = origin != NULL;
	c->origin = origin != NULL ? strdup(origin) : NULL;
	if (origin != NULL && c->origin == NULL) {
		free(c);
		return NULL;
	}
	c->n = sizeof(n) + out->n;
	memcpy(c->bytes, &n, sizeof(n));
	memcpy(c->bytes + sizeof(n), out->bytes, out->n);
	return c;
}

/* The program has ended, or has to. What was not written to it waits for the next. */
static void link_drop(struct nats_link *link)
{
	struct chunk *c, *last = NULL;

	alk_io_free(&link->io);
	companion_end(&link->program);
	link->have = 0;
	link->connected = link->stuck = false;
	while ((c = TAILQ_FIRST(&link->out)) != NULL) {
		if (!c->event) {
			chunk_free(link, &link->out, c);
		} else if (c->sent > 0) {
			link->ops->refused(link->user, c->origin, "NATS went away");
			chunk_free(link, &link->out, c);
		} else {
			TAILQ_REMOVE(&link->out, c, entry);
			if (last != NULL)
				TAILQ_INSERT_AFTER(&link->held, last, c, entry);
			else
				TAILQ_INSERT_HEAD(&link->held, c, entry);
			last = c;
		}
	}
}

static void link_again(struct nats_link *link)
{
	link_drop(link);
	link->ops->gone(link->user);
	link->wait = link->wait == 0		  ? AGAIN_MIN
		     : link->wait * 2 < AGAIN_MAX ? link->wait * 2
						  : AGAIN_MAX;
	alk_timer_start(link->again, link->wait);
}

static void link_write(struct nats_link *link)
{
	struct chunk *c;

	while (link->program.fd >= 0 && (c = TAILQ_FIRST(&link->out)) != NULL) {
		ssize_t n = send(link->program.fd, c->bytes + c->sent, c->n - c->sent,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n < 0)
			return; /* reading sees the end */
		c->sent += (size_t)n;
		if (c->sent == c->n)
			chunk_free(link, &link->out, c);
	}
	if (link->io != NULL)
		alk_io_set(link->io, ALK_IO_READ | (TAILQ_EMPTY(&link->out) ? 0 : ALK_IO_WRITE));
}

/* Whole messages in front. False: nonsense. */
static bool link_messages(struct nats_link *link)
{
	size_t at = 0;
	uint32_t n;

	while (link->have - at >= sizeof(n)) {
		memcpy(&n, link->in + at, sizeof(n));
		if (n > NATS_MESSAGE_MAX)
			return false;
		if (link->have - at - sizeof(n) < n)
			break;
		link->ops->message(link->user, link->in + at + sizeof(n), n);
		at += sizeof(n) + n;
	}
	memmove(link->in, link->in + at, link->have - at);
	link->have -= at;
	return true;
}

static bool link_room(struct nats_link *link)
{
	uint8_t *grown;

	if (link->size - link->have >= READ_BYTES)
		return true;
	grown = realloc(link->in, link->size + link->size / 2 + 2 * READ_BYTES);
	if (grown == NULL)
		return false;
	link->in = grown;
	link->size += link->size / 2 + 2 * READ_BYTES;
	return true;
}

static void on_ready(void *user, int revents)
{
	struct nats_link *link = user;
	ssize_t n;

	if (revents & ALK_IO_WRITE)
		link_write(link);
	if (!(revents & ALK_IO_READ))
		return;
	if (!link_room(link)) {
		link_again(link);
		return;
	}
	n = recv(link->program.fd, link->in + link->have, READ_BYTES, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		link->have += (size_t)n;
	if (n <= 0 || !link_messages(link)) {
		alk_log(ALK_LOG_WARN, "alknet-nats ended and is started again");
		nats_link_connected(link, false);
		link_again(link);
	}
}

/* ---- the process ----------------------------------------------------------------------------- */

static const struct companion_kind alknet_nats = {
	.name = "alknet-nats",
	.needs = "backend: needs",
	.type = SOCK_STREAM,
};

int nats_link_check(struct alk_err *err)
{
	char path[COMPANION_PATH_MAX];

	return companion_find(&alknet_nats, path, err);
}

static int link_spawn(struct nats_link *link, struct alk_err *err)
{
	int rc = companion_start(&link->program, &alknet_nats, err);

	if (rc < 0)
		return rc;
	link->io = alk_io_new(link->loop, link->program.fd, "bus nats", on_ready, link);
	if (link->io == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	alk_io_set(link->io, ALK_IO_READ);
	return 0;
}

static void on_again(void *user)
{
	struct nats_link *link = user;
	struct alk_err err = {""};

	if (link_spawn(link, &err) < 0) {
		alk_log(ALK_LOG_ERROR, "no alknet-nats", ALK_STR("reason", err.text));
		link_again(link);
		return;
	}
	link->ops->fresh(link->user);
}

struct nats_link *nats_link_new(struct alk_loop *loop, size_t limit,
				const struct nats_link_ops *ops, void *user)
{
	struct nats_link *link = calloc(1, sizeof(*link));

	if (link == NULL)
		return NULL;
	link->loop = loop;
	link->ops = ops;
	link->user = user;
	link->limit = limit;
	link->program.fd = -1;
	TAILQ_INIT(&link->out);
	TAILQ_INIT(&link->held);
	link->again = alk_timer_new(loop, "bus nats again", on_again, link);
	if (link->again == NULL) {
		free(link);
		return NULL;
	}
	alk_timer_start(link->again, 0);
	return link;
}

void nats_link_free(struct nats_link **link)
{
	struct nats_link *l = *link;

	*link = NULL;
	if (l == NULL)
		return;
	link_drop(l);
	while (!TAILQ_EMPTY(&l->held)) {
		l->ops->refused(l->user, TAILQ_FIRST(&l->held)->origin,
				"NATS is not used any more");
		chunk_free(l, &l->held, TAILQ_FIRST(&l->held));
	}
	alk_timer_free(&l->again);
	free(l->in);
	free(l);
}

void nats_link_say(struct nats_link *link, struct wire_out *out)
{
	struct chunk *c = NULL;

	if (link->said + out->n > SAID_MAX && !link->stuck) {
		alk_log(ALK_LOG_ERROR, "alknet-nats does not read, and is started again");
		link->stuck = true;
		shutdown(link->program.fd, SHUT_RDWR); /* reading sees the end */
	}
	if (link->program.fd >= 0 && !link->stuck)
		c = chunk_new(out, NULL);
	wire_free(out);
	if (c == NULL)
		return; /* `fresh` says it again */
	link->said += c->n;
	TAILQ_INSERT_TAIL(&link->out, c, entry);
	link_write(link);
}

bool nats_link_publish(struct nats_link *link, struct wire_out *out, const char *origin)
{
	struct chunk *c = NULL;

	if (link->bytes + out->n > link->limit)
		link->ops->refused(link->user, origin,
				   link->connected ? "NATS does not keep up"
						   : "NATS is away and the buffer is full");
	else if ((c = chunk_new(out, origin)) == NULL)
		link->ops->refused(link->user, origin, "out of memory");
	wire_free(out);
	if (c == NULL)
		return false;
	link->bytes += c->n;
	TAILQ_INSERT_TAIL(link->connected ? &link->out : &link->held, c, entry);
	link_write(link);
	return true;
}

void nats_link_connected(struct nats_link *link, bool connected)
{
	link->connected = connected;
	if (!connected)
		return;
	link->wait = 0;
	TAILQ_CONCAT(&link->out, &link->held, entry);
	link_write(link);
}

size_t nats_link_waiting(const struct nats_link *link)
{
	return link->bytes;
}

size_t nats_link_said(const struct nats_link *link)
{
	return link->said;
}
