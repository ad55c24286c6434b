/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "connect_private.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <alknet/dial.h>
#include <alknet/log.h>
#include "pump.h"
#include "socks5.h"

#define LINGER_MS 2000 /* to read why it failed */
#define WAITING_MAX 256
#define HEAD_FIRST_SIZE 512 /* holds any SOCKS request */

static_assert(HEAD_FIRST_SIZE < ALK_SOCKS5_HEAD_MAX, "a head grows once");

/*   HEAD ─asked─▶ OPENING ─opened─▶ the pump; the conn is freed
 *     │             ▲  │
 *     │             │up│no session, or it ended
 *     │          WAITING
 *     └─bad──────────┴──refused─▶ LINGER ─read, or late─▶ freed */
enum conn_phase {
	CONN_HEAD,
	CONN_WAITING,
	CONN_OPENING,
	CONN_LINGER,
};

/* What the application says on the proxy port. Not kept once its channel is open. */
struct conn_head {
	struct alk_socks5 socks;
	uint8_t *bytes; /* not consumed yet */
	size_t len, size;
};

#define CONN_MAGIC 0x6e6e6f63u /* "conn" */

struct alk_conn {
	uint32_t magic;
	struct alk_front *front;
	struct alk_conn *next, **prev;
	enum conn_phase phase;
	bool carried; /* from a session that ended to the next */
	int fd;
	struct alk_io *io;
	struct alk_timer *timer;
	struct conn_head *head; /* NULL: a forward */
	struct alk_channel *channel;
	struct alk_sockaddr peer;
	struct alk_destination to;
};

static struct alk_conn *conn_of(void *user)
{
	struct alk_conn *conn = user;

	assert(conn->magic == CONN_MAGIC);
	return conn;
}

/* Of a channel that nobody waits for any more: what comes is thrown away. */
static const struct alk_channel_ops detached_ops;

static void head_free(struct conn_head **head)
{
	if (*head == NULL)
		return;
	free((*head)->bytes);
	free(*head);
	*head = NULL;
}

static void conn_set_phase(struct alk_conn *conn, enum conn_phase phase)
{
	if (conn->phase == CONN_WAITING)
		conn->front->waiting--;
	conn->phase = phase;
	if (conn->phase == CONN_WAITING)
		conn->front->waiting++;
}

static void conn_free(struct alk_conn *conn)
{
	conn_set_phase(conn, CONN_LINGER);
	if (conn->channel != NULL) {
		alk_channel_set_ops(conn->channel, &detached_ops, NULL);
		alk_channel_close(conn->channel);
	}
	alk_io_free(&conn->io);
	alk_timer_free(&conn->timer);
	alk_fd_close(&conn->fd);
	head_free(&conn->head);
	*conn->prev = conn->next;
	if (conn->next != NULL)
		conn->next->prev = conn->prev;
	conn->magic = 0;
	free(conn);
}

/* Say what waits. The socket's buffer is empty but for these few bytes, so that a short write means
 * that the socket is broken. */
static bool conn_say(struct alk_conn *conn)
{
	struct alk_socks5 *socks = &conn->head->socks;
	size_t len = socks->reply_len;

	socks->reply_len = 0;
	return len == 0 ||
	       send(conn->fd, socks->reply, len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)len;
}

/* Say why and close, but let the application read it first: a close with unread bytes resets the
 * connection, and a reset throws away what was said. */
static void conn_linger(struct alk_conn *conn)
{
	if (!conn_say(conn) || shutdown(conn->fd, SHUT_WR) != 0) {
		conn_free(conn);
		return;
	}
	conn_set_phase(conn, CONN_LINGER);
	alk_io_set(conn->io, ALK_IO_READ);
	alk_timer_start(conn->timer, LINGER_MS);
}

/* A forward has no words for it: its connection closes. */
static void conn_fail(struct alk_conn *conn, enum alk_open_failure why)
{
	if (conn->head == NULL) {
		conn_free(conn);
		return;
	}
	alk_socks5_answer(&conn->head->socks, why);
	conn_linger(conn);
}

static void conn_pump(struct alk_conn *conn)
{
	struct alk_channel *channel = conn->channel;
	struct conn_head *head = conn->head;

	conn->channel = NULL;
	if (alk_pump_start_watched(channel, &conn->fd, &conn->io, head != NULL ? head->bytes : NULL,
				   head != NULL ? head->len : 0) != 0) {
		alk_channel_set_ops(channel, &detached_ops, NULL);
		alk_channel_close(channel);
	}
	conn_free(conn);
}

static void on_channel_opened(void *user, struct alk_channel *channel)
{
	struct alk_conn *conn = conn_of(user);

	(void)channel;
	if (conn->head != NULL) {
		alk_socks5_answer(&conn->head->socks, ALK_OPEN_OK);
		if (!conn_say(conn)) {
			conn_free(conn);
			return;
		}
	}
	conn_pump(conn);
}

static void conn_wait(struct alk_conn *conn)
{
	if (conn->front->waiting >= WAITING_MAX) {
		conn_fail(conn, ALK_OPEN_GONE);
		return;
	}
	conn_set_phase(conn, CONN_WAITING);
	alk_timer_start(conn->timer, conn->front->patience_ms);
	if (conn->front->wanted != NULL)
		conn->front->wanted(conn->front->user);
}

/* The session ended before the channel was open. Nothing was said to the application yet, so
 * another session will do; once, because it may have been this destination that ended it. */
static void conn_carry_over(struct alk_conn *conn)
{
	if (conn->carried || alk_client_ready(conn->front->client)) {
		conn_fail(conn, ALK_OPEN_GONE);
		return;
	}
	conn->carried = true;
	conn_wait(conn);
}

static void on_channel_refused(void *user, struct alk_channel *channel, enum alk_open_failure why,
			       const char *text)
{
	(void)channel;
	(void)text;
	if (why == ALK_OPEN_GONE)
		conn_carry_over(conn_of(user));
	else
		conn_fail(conn_of(user), why);
}

static void on_channel_close(void *user, struct alk_channel *channel)
{
	struct alk_conn *conn = conn_of(user);

	(void)channel;
	conn->channel = NULL;
	if (conn->phase == CONN_OPENING)
		conn_carry_over(conn);
}

static const struct alk_channel_ops conn_ops = {
	.opened = on_channel_opened,
	.refused = on_channel_refused,
	.close = on_channel_close,
};

static void conn_open(struct alk_conn *conn)
{
	struct alk_client *client = conn->front->client;
	struct alk_err err = {""};

	if (client == NULL || !alk_client_ready(client)) {
		conn_wait(conn);
		return;
	}
	conn_set_phase(conn, CONN_OPENING);
	alk_timer_stop(conn->timer);
	conn->channel = alk_client_open(client, &conn->to, &conn_ops, conn, &err);
	if (conn->channel == NULL) {
		alk_log(ALK_LOG_WARN, "channel not opened", ALK_STR("error", err.text));
		conn_fail(conn, ALK_OPEN_RESOURCE_SHORTAGE);
	}
}

static void conn_set_originator(struct alk_conn *conn)
{
	/* The protocol wants an address here: a local one stands for a unix socket. */
	if (conn->peer.sa.sa_family == AF_UNIX) {
		strcpy(conn->to.originator, "127.0.0.1");
		return;
	}
	alk_addr_format(&conn->peer.sa, conn->peer.len, conn->to.originator,
			sizeof(conn->to.originator), &conn->to.originator_port);
}

static bool head_room(struct conn_head *head)
{
	size_t size = head->size == 0 ? HEAD_FIRST_SIZE : ALK_SOCKS5_HEAD_MAX;
	uint8_t *bytes;

	if (head->len < head->size)
		return true;
	bytes = realloc(head->bytes, size);
	if (bytes == NULL)
		return false;
	head->bytes = bytes;
	head->size = size;
	return true;
}

static void head_feed(struct conn_head *head)
{
	size_t taken;

	do {
		taken = alk_socks5_feed(&head->socks, head->bytes, head->len);
		head->len -= taken;
		memmove(head->bytes, head->bytes + taken, head->len);
	} while (taken > 0 && head->socks.state < ALK_SOCKS5_ASKED);
}

static void conn_log_denied(struct alk_conn *conn)
{
	conn_set_originator(conn);
	alk_log(ALK_LOG_WARN, "proxy login refused", ALK_STR("remote_addr", conn->to.originator));
}

static void conn_read_head(struct alk_conn *conn)
{
	struct conn_head *head = conn->head;
	ssize_t n;

	if (!head_room(head)) {
		conn_free(conn);
		return;
	}
	n = recv(conn->fd, head->bytes + head->len, head->size - head->len, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		conn_free(conn);
		return;
	}
	head->len += (size_t)n;
	head_feed(head);
	if (head->socks.state == ALK_SOCKS5_FAILED) {
		if (head->socks.denied)
			conn_log_denied(conn);
		conn_linger(conn);
	} else if (!conn_say(conn)) {
		conn_free(conn);
	} else if (head->socks.state == ALK_SOCKS5_ASKED) {
		conn->to = head->socks.to;
		conn_set_originator(conn);
		conn_open(conn);
	}
}

static bool conn_hung_up(const struct alk_conn *conn)
{
	struct pollfd poll_fd = {.fd = conn->fd};

	return poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & (POLLHUP | POLLERR)) != 0;
}

/* While the open is pending: has the application gone? What it sent stays in the socket for the
 * pump. An end of input alone is no sign of it on a forward (`nc -N` reads what comes), but on the
 * proxy port, where the application has not heard yet whether there is a stream at all. */
static void conn_check(struct alk_conn *conn)
{
	char byte;
	ssize_t n = recv(conn->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0 ||
	    (n == 0 && (conn_hung_up(conn) || (conn->head != NULL && conn->head->len == 0))))
		conn_free(conn);
	else
		alk_io_set(conn->io, 0);
}

static void conn_drain(struct alk_conn *conn)
{
	char bytes[4096];
	ssize_t n = recv(conn->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		conn_free(conn);
}

static void on_ready(void *user, int revents)
{
	struct alk_conn *conn = conn_of(user);

	(void)revents;
	switch (conn->phase) {
	case CONN_HEAD:
		conn_read_head(conn);
		break;
	case CONN_WAITING:
	case CONN_OPENING:
		conn_check(conn);
		break;
	case CONN_LINGER:
		conn_drain(conn);
		break;
	}
}

static void on_timeout(void *user)
{
	struct alk_conn *conn = conn_of(user);

	if (conn->phase == CONN_WAITING)
		conn_fail(conn, ALK_OPEN_GONE);
	else
		conn_free(conn);
}

static struct alk_conn *conn_alloc(struct alk_front *front, int *fd)
{
	struct alk_conn *conn = calloc(1, sizeof(*conn));

	if (conn == NULL)
		return NULL;
	conn->magic = CONN_MAGIC;
	conn->front = front;
	conn->fd = *fd;
	*fd = -1;
	conn->next = front->conns;
	conn->prev = &front->conns;
	if (conn->next != NULL)
		conn->next->prev = &conn->next;
	front->conns = conn;
	conn->io = alk_io_new(front->loop, conn->fd, "application", on_ready, conn);
	conn->timer = alk_timer_new(front->loop, "application", on_timeout, conn);
	return conn;
}

void alk_conn_new(struct alk_front *front, int *fd, const struct alk_sockaddr *peer,
		  const struct alk_destination *to)
{
	struct alk_conn *conn = conn_alloc(front, fd);

	if (conn == NULL) {
		alk_fd_close(fd);
		return;
	}
	if (to == NULL)
		conn->head = calloc(1, sizeof(*conn->head));
	if (conn->io == NULL || conn->timer == NULL || (to == NULL && conn->head == NULL)) {
		conn_free(conn);
		return;
	}
	conn->peer = *peer;
	alk_io_set(conn->io, ALK_IO_READ);
	if (to == NULL) {
		alk_socks5_init(&conn->head->socks, front->auth);
		alk_timer_start(conn->timer, front->patience_ms);
		conn_read_head(conn); /* the first words came with it */
		return;
	}
	conn->to = *to;
	conn_set_originator(conn);
	conn_open(conn);
}

void alk_conn_open_waiting(struct alk_front *front)
{
	struct alk_conn *conn, *next;

	for (conn = front->conns; conn != NULL; conn = next) {
		next = conn->next;
		if (conn->phase == CONN_WAITING)
			conn_open(conn);
	}
}

void alk_conn_close_all(struct alk_front *front)
{
	while (front->conns != NULL)
		conn_free(front->conns);
}
