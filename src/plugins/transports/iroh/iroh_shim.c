/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* iroh knows HTTP proxies alone. What it asks of this one is dialled as the program dials
 * everything: through the proxy that the program has, of whatever kind, with its credentials, which
 * the helper never learns. */
#include "iroh.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include "iroh_head.h"

#define SHIM_MAGIC 0x69727368u
#define CONN_MAGIC 0x69727363u
#define CONNS_MAX (IROH_SHIM_FDS / 2)
#define HEAD_MS 10000
#define DIAL_MS 30000
#define BUFFER ((size_t)64 * 1024)
#define SHORT_MS 100 /* out of descriptors: how long nobody is accepted */

/* One direction. */
struct shim_flow {
	uint8_t *bytes;
	size_t at, len;
	bool ended, told; /* no more comes; and the other side has heard of it */
};

struct shim_conn {
	uint32_t magic;
	struct iroh_shim *shim;
	struct shim_conn *next, **prev;
	int fd[2]; /* the helper's, the destination's */
	struct alk_io *io[2];
	struct alk_dial *dial;
	struct alk_timer *timer;
	struct shim_flow flow[2]; /* what came from fd[0], from fd[1] */
	bool connect, open;
};

struct iroh_shim {
	uint32_t magic;
	struct alk_loop *loop;
	int fd;
	struct alk_io *io;
	struct alk_timer *pause;
	struct shim_conn *conns;
	unsigned n;
	char word[80]; /* as it stands in the field */
	char url[128];
};

/* ---- a connection ---- */

static void shim_watch(struct iroh_shim *s)
{
	bool on = s->n < CONNS_MAX && !alk_timer_active(s->pause);

	alk_io_set(s->io, on ? ALK_IO_READ : 0);
}

static void conn_free(struct shim_conn *c)
{
	if (c->next != NULL)
		c->next->prev = c->prev;
	*c->prev = c->next;
	c->shim->n--;
	shim_watch(c->shim);
	alk_dial_cancel(&c->dial);
	alk_timer_free(&c->timer);
	for (int i = 0; i < 2; i++) {
		alk_io_free(&c->io[i]);
		alk_fd_close(&c->fd[i]);
		free(c->flow[i].bytes);
	}
	c->magic = 0;
	free(c);
}

static void conn_refuse(struct shim_conn *c, const char *status)
{
	char text[128];
	int n = snprintf(text, sizeof(text),
			 "HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status);

	/* A few bytes on loopback; who does not take them has gone. */
	if (send(c->fd[0], text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		alk_log(ALK_LOG_DEBUG, "iroh's proxy was not heard");
	conn_free(c);
}

/* false: broken. */
static bool flow_read(struct shim_flow *f, int fd)
{
	ssize_t n;

	if (f->ended || f->len > 0)
		return true;
	n = recv(fd, f->bytes, BUFFER, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	f->at = 0;
	f->len = (size_t)n;
	f->ended = n == 0;
	return true;
}

static bool flow_write(struct shim_flow *f, int fd)
{
	while (f->len > 0) {
		ssize_t n = send(fd, f->bytes + f->at, f->len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		f->at += (size_t)n;
		f->len -= (size_t)n;
	}
	if (f->ended && !f->told) {
		shutdown(fd, SHUT_WR);
		f->told = true;
	}
	return true;
}

static void conn_watch(struct shim_conn *c)
{
	for (int i = 0; i < 2; i++) {
		const struct shim_flow *from = &c->flow[i], *to = &c->flow[1 - i];

		alk_io_set(c->io[i], (!from->ended && from->len == 0 ? ALK_IO_READ : 0) |
					     (to->len > 0 ? ALK_IO_WRITE : 0));
	}
}

static void conn_pump(struct shim_conn *c)
{
	bool good = true;

	for (int i = 0; i < 2 && good; i++)
		good = flow_read(&c->flow[i], c->fd[i]) && flow_write(&c->flow[i], c->fd[1 - i]);
	if (!good || (c->flow[0].told && c->flow[1].told))
		conn_free(c);
	else
		conn_watch(c);
}

static void on_there(void *user, int revents)
{
	struct shim_conn *c = user;

	(void)revents;
	assert(c->magic == CONN_MAGIC);
	conn_pump(c);
}

static void on_dialed(void *user, int rc, int fd, const struct alk_err *err)
{
	static const char good[] = "HTTP/1.1 200 OK\r\n\r\n";
	struct shim_conn *c = user;

	assert(c->magic == CONN_MAGIC);
	c->dial = NULL;
	if (rc < 0) {
		alk_log(ALK_LOG_DEBUG, "iroh's proxy could not connect",
			ALK_STR("reason", err->text));
		conn_refuse(c, "502 Bad Gateway");
		return;
	}
	c->fd[1] = fd;
	c->io[1] = alk_io_new(c->shim->loop, fd, "iroh shim there", on_there, c);
	c->flow[1].bytes = malloc(BUFFER);
	if (c->io[1] == NULL || c->flow[1].bytes == NULL) {
		conn_free(c);
		return;
	}
	alk_timer_stop(c->timer);
	c->open = true;
	/* A forwarded request has been put in front already, and is answered by the host. */
	if (c->connect) {
		memcpy(c->flow[1].bytes, good, sizeof(good) - 1);
		c->flow[1].len = sizeof(good) - 1;
	}
	conn_pump(c);
}

/* What stands behind the head goes to the host too. */
static int head_take(struct shim_conn *c, const struct iroh_head *head, size_t len)
{
	struct shim_flow *f = &c->flow[0];

	c->connect = head->connect;
	if (head->connect) {
		f->at = len;
		f->len -= len;
		return 0;
	}
	if (head->forward_len + f->len - len > BUFFER)
		return -E2BIG;
	memmove(f->bytes + head->forward_len, f->bytes + len, f->len - len);
	memcpy(f->bytes, head->forward, head->forward_len);
	f->len = f->len - len + head->forward_len;
	f->at = 0;
	return 0;
}

static void head_read(struct shim_conn *c)
{
	struct shim_flow *f = &c->flow[0];
	struct iroh_head head;
	struct alk_err err;
	ssize_t n = recv(c->fd[0], f->bytes + f->len, BUFFER - f->len, MSG_DONTWAIT);
	int rc;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		conn_free(c);
		return;
	}
	f->len += (size_t)n;
	rc = iroh_head_parse(f->bytes, f->len, c->shim->word, &head);
	if (rc == 0)
		return;
	if (rc > 0 && head_take(c, &head, (size_t)rc) < 0)
		rc = -E2BIG;
	if (rc < 0) {
		conn_refuse(c, rc == -EACCES ? "407 Proxy Authentication Required"
					     : "400 Bad Request");
		return;
	}
	alk_io_set(c->io[0], 0);
	alk_timer_start(c->timer, DIAL_MS + HEAD_MS);
	c->dial = alk_dial_tcp(c->shim->loop, head.host, head.port, NULL, DIAL_MS, on_dialed, c,
			       &err);
	if (c->dial == NULL)
		conn_refuse(c, "502 Bad Gateway");
}

static void on_here(void *user, int revents)
{
	struct shim_conn *c = user;

	(void)revents;
	assert(c->magic == CONN_MAGIC);
	if (c->open)
		conn_pump(c);
	else
		head_read(c);
}

static void on_timeout(void *user)
{
	struct shim_conn *c = user;

	assert(c->magic == CONN_MAGIC);
	conn_free(c);
}

/* ---- the port ---- */

/* Takes fd. */
static void conn_new(struct iroh_shim *s, int fd)
{
	struct shim_conn *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		alk_fd_close(&fd);
		return;
	}
	c->magic = CONN_MAGIC;
	c->shim = s;
	c->fd[0] = fd;
	c->fd[1] = -1;
	c->next = s->conns;
	c->prev = &s->conns;
	if (c->next != NULL)
		c->next->prev = &c->next;
	s->conns = c;
	s->n++;
	shim_watch(s);
	c->flow[0].bytes = malloc(BUFFER);
	c->io[0] = alk_io_new(s->loop, fd, "iroh shim here", on_here, c);
	c->timer = alk_timer_new(s->loop, "iroh shim", on_timeout, c);
	if (c->flow[0].bytes == NULL || c->io[0] == NULL || c->timer == NULL) {
		conn_free(c);
		return;
	}
	alk_timer_start(c->timer, HEAD_MS);
	alk_io_set(c->io[0], ALK_IO_READ);
}

static void on_accept(void *user, int revents)
{
	struct iroh_shim *s = user;
	int fd;

	(void)revents;
	assert(s->magic == SHIM_MAGIC);
	fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0) {
		conn_new(s, fd);
	} else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
		/* The connection stays there, and the socket readable. */
		alk_timer_start(s->pause, SHORT_MS);
		shim_watch(s);
	}
}

static void on_pause_end(void *user)
{
	struct iroh_shim *s = user;

	assert(s->magic == SHIM_MAGIC);
	shim_watch(s);
}

static void base64_add(char *text, const char *from)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t n = strlen(from);

	text += strlen(text);
	for (size_t i = 0; i < n; i += 3) {
		unsigned three = (unsigned)from[i] << 16 |
				 (i + 1 < n ? (unsigned)from[i + 1] << 8 : 0) |
				 (i + 2 < n ? (unsigned)from[i + 2] : 0);

		*text++ = digits[three >> 18];
		*text++ = digits[three >> 12 & 63];
		*text++ = i + 1 < n ? digits[three >> 6 & 63] : '=';
		*text++ = i + 2 < n ? digits[three & 63] : '=';
	}
	*text = '\0';
}

static int word_make(struct iroh_shim *s, unsigned port, struct alk_err *err)
{
	uint8_t bytes[IROH_ID_BYTES];
	char hex[IROH_ID_HEX], pair[48];

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		return alk_err_set(err, -errno, "no randomness: %s", strerror(errno));
	iroh_id_hex(bytes, hex);
	hex[32] = '\0';
	snprintf(pair, sizeof(pair), "alknet:%.32s", hex);
	strcpy(s->word, "Basic ");
	base64_add(s->word, pair);
	snprintf(s->url, sizeof(s->url), "http://alknet:%s@127.0.0.1:%u", hex, port);
	explicit_bzero(hex, sizeof(hex));
	explicit_bzero(pair, sizeof(pair));
	return 0;
}

static int port_open(struct iroh_shim *s, struct alk_err *err)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
				 .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(in);

	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->fd < 0 || bind(s->fd, (struct sockaddr *)&in, sizeof(in)) != 0 ||
	    listen(s->fd, CONNS_MAX) != 0 || getsockname(s->fd, (struct sockaddr *)&in, &len) != 0)
		return alk_err_set(err, -errno, "no port on loopback for iroh's proxy: %s",
				   strerror(errno));
	return word_make(s, ntohs(in.sin_port), err);
}

struct iroh_shim *iroh_shim_new(struct alk_loop *loop, struct alk_err *err)
{
	struct iroh_shim *s = calloc(1, sizeof(*s));
	int rc;

	if (s == NULL) {
		alk_err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	s->magic = SHIM_MAGIC;
	s->loop = loop;
	s->fd = -1;
	rc = port_open(s, err);
	if (rc == 0 && ((s->io = alk_io_new(loop, s->fd, "iroh shim", on_accept, s)) == NULL ||
			(s->pause = alk_timer_new(loop, "iroh shim", on_pause_end, s)) == NULL))
		rc = alk_err_set(err, -ENOMEM, "out of memory");
	if (rc < 0)
		iroh_shim_free(&s);
	else
		shim_watch(s);
	return s;
}

void iroh_shim_free(struct iroh_shim **at)
{
	struct iroh_shim *s = *at;

	*at = NULL;
	if (s == NULL)
		return;
	while (s->conns != NULL)
		conn_free(s->conns);
	alk_io_free(&s->io);
	alk_timer_free(&s->pause);
	alk_fd_close(&s->fd);
	explicit_bzero(s->word, sizeof(s->word));
	explicit_bzero(s->url, sizeof(s->url));
	s->magic = 0;
	free(s);
}

size_t iroh_shim_fds(const struct iroh_shim *s, struct pollfd at[IROH_SHIM_FDS])
{
	size_t n = 0;

	for (const struct shim_conn *c = s->conns; c != NULL; c = c->next)
		for (int i = 0; i < 2 && c->open && n < IROH_SHIM_FDS; i++) {
			int events = alk_io_events(c->io[i]);

			/* A hang-up is told whether it is asked for or not, and would be told for
			 * ever. */
			if (events != 0)
				at[n++] = (struct pollfd){.fd = c->fd[i],
							  .events = (short)(((events &
									      ALK_IO_READ) != 0
										     ? POLLIN
										     : 0) |
									    ((events &
									      ALK_IO_WRITE) != 0
										     ? POLLOUT
										     : 0))};
		}
	return n;
}

void iroh_shim_turn(struct iroh_shim *s)
{
	for (struct shim_conn *c = s->conns, *next; c != NULL; c = next) {
		next = c->next;
		if (c->open)
			conn_pump(c);
	}
}

const char *iroh_shim_url(const struct iroh_shim *s)
{
	return s->url;
}
