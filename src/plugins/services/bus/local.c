/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "bus.h"

#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <alknet/local.h>

/* Connections at the local socket: the same frames, without SSH. Who is behind one the kernel says
 * (SO_PEERCRED). */

#define READS 4 /* of BUS_INPUT a turn */
#define GONE_MS 500
#define SCOPES_MAX 64

struct local {
	struct alk_local *local;
	struct alk_io *io;
	struct conn *conn;
	uint8_t *rest; /* read and not taken yet */
	size_t rest_n, rest_at;
	struct alk_task resume, close;
	struct alk_timer *gone; /* the peer ended its half: is it there at all? */
	bool eof;
};

static void local_free(struct local **localp)
{
	struct local *l = *localp;
	struct alk_loop *loop = l->conn != NULL ? l->conn->bus->loop : NULL;

	*localp = NULL;
	if (loop != NULL) {
		alk_task_cancel(loop, &l->resume);
		alk_task_cancel(loop, &l->close);
	}
	alk_io_free(&l->io);
	alk_timer_free(&l->gone);
	free(l->rest);
	alk_local_close(&l->local);
	free(l);
}

/* Read while all is taken, and write if the last write was short. */
static void local_watch(const struct local *l)
{
	int events = l->rest == NULL && !l->eof ? ALK_IO_READ : 0;

	alk_io_set(l->io, events | (l->conn->blocked ? ALK_IO_WRITE : 0));
}

/* An end of input may be half a close or a whole one. What was read before is still worked on. */
static void on_gone(void *user)
{
	struct local *l = user;
	struct pollfd fd = {.fd = alk_local_fd(l->local)};

	if (!l->conn->waiting && poll(&fd, 1, 0) == 1 && (fd.revents & (POLLHUP | POLLERR)) != 0)
		conn_close_slow(l->conn);
	else
		alk_timer_start(l->gone, GONE_MS);
}

static bool local_keep(struct local *l, const uint8_t *bytes, size_t n)
{
	uint8_t *rest = malloc(n);

	if (rest == NULL)
		return false;
	memcpy(rest, bytes, n);
	free(l->rest);
	l->rest = rest;
	l->rest_n = n;
	l->rest_at = 0;
	return true;
}

/* 1: all was taken, read on; 0: not now. */
static int local_read(struct local *l)
{
	struct conn *c = l->conn;
	ssize_t n = recv(alk_local_fd(l->local), c->bus->input, BUS_INPUT, MSG_DONTWAIT);
	size_t taken;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		l->eof = true;
		if (n < 0) {
			conn_close_slow(c);
			return 0;
		}
		conn_eof(c);
		if (c->state != CONN_CLOSED)
			on_gone(l);
		return 0;
	}
	taken = conn_data(c, c->bus->input, (size_t)n);
	if (taken < (size_t)n && !local_keep(l, c->bus->input + taken, (size_t)n - taken))
		conn_close_slow(c);
	return taken == (size_t)n && (size_t)n == BUS_INPUT;
}

static void on_ready(void *user, int revents)
{
	struct local *l = user;

	if (revents & ALK_IO_WRITE)
		conn_flush(l->conn);
	if (revents & ALK_IO_READ)
		for (int i = 0; i < READS && l->conn->state != CONN_CLOSED && local_read(l) > 0;
		     i++)
			;
	local_watch(l);
}

static void on_resume(void *user)
{
	struct local *l = user;

	if (l->rest != NULL) {
		l->rest_at += conn_data(l->conn, l->rest + l->rest_at, l->rest_n - l->rest_at);
		if (l->rest_at < l->rest_n)
			return;
		free(l->rest);
		l->rest = NULL;
	}
	local_watch(l);
}

static void on_close(void *user)
{
	struct local *l = user;
	struct conn *c = l->conn;

	alk_task_cancel(c->bus->loop, &l->resume);
	conn_free(&c);
}

/* The way */

static ssize_t way_write(struct conn *c, const struct iovec *parts, int n)
{
	struct local *l = c->at;
	struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = (size_t)n};
	ssize_t sent = sendmsg(alk_local_fd(l->local), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	size_t all = 0;

	if (sent < 0 && errno != EAGAIN && errno != EINTR)
		return -errno;
	for (int i = 0; i < n; i++)
		all += parts[i].iov_len;
	if (sent < (ssize_t)all)
		alk_io_set(l->io, alk_io_events(l->io) | ALK_IO_WRITE);
	return sent < 0 ? 0 : sent;
}

static void way_resume(struct conn *c)
{
	alk_task_queue(c->bus->loop, &((struct local *)c->at)->resume);
}

static void way_close(struct conn *c)
{
	alk_task_queue(c->bus->loop, &((struct local *)c->at)->close);
}

static const struct alk_identity *way_identity(const struct conn *c)
{
	return alk_local_identity(((const struct local *)c->at)->local);
}

static int way_ask(struct conn *c, const struct alk_channel_question *question,
		   void (*done)(void *user, bool allowed, const char *reason), void *user,
		   struct alk_channel_ask **ask)
{
	return alk_local_ask(((struct local *)c->at)->local, question, done, user, ask);
}

static void way_forget(struct conn *c)
{
	struct local *l = c->at;

	local_free(&l);
}

static const struct conn_way local_way = {
	.write = way_write,
	.resume = way_resume,
	.close = way_close,
	.identity = way_identity,
	.ask = way_ask,
	.forget = way_forget,
};

static char **scopes_of(const struct bus *bus, uid_t uid)
{
	const struct bus_scopes *s = bus->local_scopes;

	while (s != NULL && s->uid != uid)
		s = s->next;
	return s != NULL ? s->scopes : NULL;
}

void local_open(struct bus *bus, struct alk_local *local)
{
	static const char *const none[] = {NULL};
	struct local *l = calloc(1, sizeof(*l));
	char **scopes = scopes_of(bus, alk_local_uid(local));
	char id[32];

	if (l == NULL) {
		alk_local_close(&local);
		return;
	}
	snprintf(id, sizeof(id), "uid:%lu", (unsigned long)alk_local_uid(local));
	l->local = local;
	l->resume = (struct alk_task){.fn = on_resume, .user = l};
	l->close = (struct alk_task){.fn = on_close, .user = l};
	if (alk_local_login(local, id, scopes != NULL ? (const char *const *)scopes : none) == 0)
		l->io = alk_io_new(bus->loop, alk_local_fd(local), "local", on_ready, l);
	l->gone = alk_timer_new(bus->loop, "local", on_gone, l);
	if (l->io != NULL && l->gone != NULL)
		l->conn = conn_new(bus, &local_way, l);
	if (l->conn == NULL)
		local_free(&l);
	else
		local_watch(l);
}

/* Scopes of local users */

static int user_parse(const char *text, uid_t *uid, struct alk_err *err)
{
	char *end;
	unsigned long number;
	const struct passwd *user;

	errno = 0;
	number = strtoul(text, &end, 10);
	if (*text >= '0' && *text <= '9' && *end == '\0' && errno == 0 && number < UINT32_MAX) {
		*uid = (uid_t)number;
		return 0;
	}
	user = getpwnam(text);
	if (user == NULL)
		return alk_err_set(err, -ENOENT, "listen_scopes: there is no user \"%s\"", text);
	*uid = user->pw_uid;
	return 0;
}

static struct bus_scopes *scopes_make(struct bus_scopes **list, uid_t uid)
{
	struct bus_scopes *s = *list;

	while (s != NULL && s->uid != uid)
		s = s->next;
	if (s != NULL)
		return s;
	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return NULL;
	s->scopes = calloc(SCOPES_MAX + 1, sizeof(*s->scopes));
	if (s->scopes == NULL) {
		free(s);
		return NULL;
	}
	s->uid = uid;
	s->next = *list;
	*list = s;
	return s;
}

static int scopes_add(struct bus_scopes *s, char *names, struct alk_err *err)
{
	size_t n = 0;
	char *rest = names, *name;

	while (s->scopes[n] != NULL)
		n++;
	while ((name = strsep(&rest, ",")) != NULL) {
		if (*name == '\0')
			return alk_err_set(err, -EINVAL, "listen_scopes: a scope is empty");
		if (n == SCOPES_MAX)
			return alk_err_set(err, -EINVAL, "listen_scopes: a user has at most %d",
					   SCOPES_MAX);
		s->scopes[n] = strdup(name);
		if (s->scopes[n++] == NULL)
			return alk_err_set(err, -ENOMEM, "out of memory");
	}
	return 0;
}

static int line_read(const char *line, struct bus_scopes **list, struct alk_err *err)
{
	char *text = strdup(line);
	char *equals = text != NULL ? strchr(text, '=') : NULL;
	struct bus_scopes *s;
	uid_t uid = 0;
	int rc;

	if (equals == NULL) {
		free(text);
		return alk_err_set(err, -EINVAL,
				   "listen_scopes: \"%s\" is not USER=SCOPE[,SCOPE]...", line);
	}
	*equals = '\0';
	rc = user_parse(text, &uid, err);
	if (rc == 0) {
		s = scopes_make(list, uid);
		rc = s != NULL ? scopes_add(s, equals + 1, err)
			       : alk_err_set(err, -ENOMEM, "out of memory");
	}
	free(text);
	return rc;
}

int local_scopes_read(const struct alk_options *options, struct bus_scopes **list,
		      struct alk_err *err)
{
	const char *line;
	int rc = 0;

	for (size_t i = 0; rc == 0 && (line = alk_options_nth(options, "listen_scopes", i)) != NULL;
	     i++)
		rc = line_read(line, list, err);
	if (rc < 0)
		local_scopes_free(list);
	return rc;
}

void local_scopes_free(struct bus_scopes **list)
{
	while (*list != NULL) {
		struct bus_scopes *s = *list;

		*list = s->next;
		for (size_t i = 0; s->scopes[i] != NULL; i++)
			free(s->scopes[i]);
		free(s->scopes);
		free(s);
	}
}
