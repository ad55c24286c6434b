/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "agent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <alknet/dial.h>
#include "wire.h"

#define QUERY_MAGIC 0x61676e74u
#define PATH_SIZE 128 /* a unix socket's path is shorter */

struct alk_agent_query {
	uint32_t magic;
	struct alk_loop *loop;
	char path[PATH_SIZE];
	struct alk_dial *dial;
	int fd;
	struct alk_io *io;
	struct alk_timer *deadline;
	uint8_t *out; /* with the length in front */
	size_t out_len, sent;
	uint8_t head[4];
	uint8_t *in;
	size_t in_len, got; /* of head, then of in */
	alk_agent_fn *done;
	void *user;
};

static void query_free(struct alk_agent_query *q)
{
	q->magic = 0;
	alk_dial_cancel(&q->dial);
	alk_io_free(&q->io);
	alk_timer_free(&q->deadline);
	alk_fd_close(&q->fd);
	free(q->out);
	free(q->in);
	free(q);
}

static void query_end(struct alk_agent_query *q, int rc, const struct alk_err *err)
{
	uint8_t *answer = q->in;
	size_t len = q->in_len;
	alk_agent_fn *done = q->done;
	void *user = q->user;

	q->in = NULL;
	query_free(q);
	done(user, rc, rc < 0 ? NULL : answer, rc < 0 ? 0 : len, err);
	free(answer);
}

static void query_fail(struct alk_agent_query *q, int rc, const char *what)
{
	struct alk_err err;

	alk_err_set(&err, rc, "the agent at %s %s", q->path, what);
	query_end(q, rc, &err);
}

static void query_send(struct alk_agent_query *q)
{
	ssize_t n = send(q->fd, q->out + q->sent, q->out_len - q->sent,
			 MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		query_fail(q, -EPROTO, "closed the connection");
		return;
	}
	q->sent += (size_t)n;
	if (q->sent == q->out_len)
		alk_io_set(q->io, ALK_IO_READ);
}

/* False when q has ended. */
static bool query_head(struct alk_agent_query *q)
{
	struct alk_wire wire = {q->head, sizeof(q->head)};
	uint32_t len = 0;

	alk_wire_u32(&wire, &len);
	if (len == 0 || len > ALK_AGENT_MESSAGE_MAX) {
		query_fail(q, -EPROTO, "sent a message of a wrong length");
		return false;
	}
	q->in = malloc(len);
	if (!q->in) {
		query_fail(q, -ENOMEM, "sent a message, but there is no memory for it");
		return false;
	}
	q->in_len = len;
	q->got = 0;
	return true;
}

static void query_receive(struct alk_agent_query *q)
{
	for (;;) {
		uint8_t *to = q->in ? q->in : q->head;
		size_t want = q->in ? q->in_len : sizeof(q->head);
		ssize_t n = recv(q->fd, to + q->got, want - q->got, MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			query_fail(q, -EPROTO, "closed the connection");
			return;
		}
		q->got += (size_t)n;
		if (q->got < want)
			continue;
		if (q->in) {
			query_end(q, 0, NULL);
			return;
		}
		if (!query_head(q))
			return;
	}
}

static void on_ready(void *user, int revents)
{
	struct alk_agent_query *q = user;

	(void)revents;
	if (q->magic != QUERY_MAGIC)
		return;
	if (q->sent < q->out_len)
		query_send(q);
	else
		query_receive(q);
}

static void on_deadline(void *user)
{
	query_fail(user, -ETIMEDOUT, "does not answer");
}

static void on_dialed(void *user, int rc, int fd, const struct alk_err *err)
{
	struct alk_agent_query *q = user;
	struct alk_err why;

	q->dial = NULL;
	q->fd = fd;
	if (rc < 0) {
		alk_err_set(&why, rc, "cannot reach the agent at %s: %s", q->path, err->text);
		query_end(q, rc, &why);
		return;
	}
	q->io = alk_io_new(q->loop, fd, "agent", on_ready, q);
	if (!q->io) {
		query_fail(q, -ENOMEM, "cannot be asked: out of memory");
		return;
	}
	alk_io_set(q->io, ALK_IO_WRITE);
}

static int query_init(struct alk_agent_query *q, const uint8_t *question, size_t len,
		      uint64_t timeout_ms, struct alk_err *err)
{
	q->out = malloc(len + 4);
	q->deadline = alk_timer_new(q->loop, "agent", on_deadline, q);
	if (!q->out || !q->deadline)
		return alk_err_set(err, -ENOMEM, "out of memory");
	q->out_len = len + 4;
	for (int i = 0; i < 4; i++)
		q->out[i] = (uint8_t)(len >> (24 - 8 * i));
	memcpy(q->out + 4, question, len);
	q->dial = alk_dial_unix(q->loop, q->path, timeout_ms, on_dialed, q, err);
	if (!q->dial)
		return alk_err_prefix(err, -EINVAL, "SSH_AUTH_SOCK");
	alk_timer_start(q->deadline, timeout_ms);
	return 0;
}

struct alk_agent_query *alk_agent_ask(struct alk_loop *loop, const char *path,
				      const uint8_t *question, size_t len, uint64_t timeout_ms,
				      alk_agent_fn *done, void *user, struct alk_err *err)
{
	struct alk_agent_query *q;

	if (strlen(path) >= PATH_SIZE || len > ALK_AGENT_MESSAGE_MAX) {
		alk_err_set(err, -EINVAL, "SSH_AUTH_SOCK: a path that is no unix socket's");
		return NULL;
	}
	q = calloc(1, sizeof(*q));
	if (!q) {
		alk_err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	q->magic = QUERY_MAGIC;
	q->loop = loop;
	q->fd = -1;
	q->done = done;
	q->user = user;
	memcpy(q->path, path, strlen(path));
	if (query_init(q, question, len, timeout_ms, err) < 0) {
		query_free(q);
		return NULL;
	}
	return q;
}

void alk_agent_cancel(struct alk_agent_query **query)
{
	if (!*query)
		return;
	query_free(*query);
	*query = NULL;
}

int alk_agent_keys(const uint8_t *answer, size_t len, struct alk_agent_key *keys, size_t max)
{
	struct alk_wire wire = {answer + (len > 0), len - (len > 0)};
	uint32_t count;
	size_t n = 0;

	if (len == 0 || answer[0] != ALK_AGENT_IDENTITIES_ANSWER || !alk_wire_u32(&wire, &count))
		return -EPROTO;
	for (uint32_t i = 0; i < count; i++) {
		struct alk_agent_key key;
		const uint8_t *comment;
		size_t comment_len;

		if (!alk_wire_string(&wire, &key.blob, &key.len) ||
		    !alk_wire_string(&wire, &comment, &comment_len))
			return -EPROTO;
		if (key.len > 0 && n < max)
			keys[n++] = key;
	}
	return wire.left == 0 ? (int)n : -EPROTO;
}

int alk_agent_signature(const uint8_t *answer, size_t len, const uint8_t **signature,
			size_t *signature_len)
{
	struct alk_wire wire = {answer + (len > 0), len - (len > 0)}, inner;
	const uint8_t *p;
	size_t n;

	if (len == 1 && answer[0] == ALK_AGENT_FAILURE)
		return -EACCES;
	if (len == 0 || answer[0] != ALK_AGENT_SIGN_RESPONSE ||
	    !alk_wire_string(&wire, signature, signature_len) || wire.left != 0)
		return -EPROTO;
	inner = (struct alk_wire){*signature, *signature_len};
	if (!alk_wire_string(&inner, &p, &n) || !alk_wire_string(&inner, &p, &n) || inner.left != 0)
		return -EPROTO;
	return 0;
}
