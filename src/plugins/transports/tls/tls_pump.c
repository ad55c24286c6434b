/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Between SSH's end of a socketpair and the TLS connection. Each direction has at most one buffer,
 * and nothing is read for a direction while its buffer waits: that is the back-pressure.
 *
 * Where SSH takes the offer (alk_direct_offer) it reads and writes the TLS connection itself: no byte
 * goes through the pair and none waits here, but the records that the kernel has not taken. Then the
 * pair tells of SSH's end, as it does otherwise. */
#include "tls.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <linux/sockios.h>

#define PUMP_MAGIC 0x746c7370u
#define IDLE_MS 1000	/* without a byte for so long it gives its buffers back */
#define LINGER_MS 5000	/* for the peer's FIN, when SSH has closed its end */
#define BLOCKED_MS 5000 /* how often to see whether SSH is there while the network takes nothing */
#define HUNG_MS 30000	/* what SSH said last has so long to get out */
#define UNSENT_MAX (128 * 1024)
/* A web server refills its socket while it is read, SSH does not. */
#define VISITOR_CHUNKS 4
#define PAIR_BYTES                                                                                 \
	(256 *                                                                                     \
	 1024) /* what SSH writes at once goes into the pair at once, if the system allows it */

struct chunk {
	uint8_t *bytes; /* NULL while empty */
	size_t at, len;
};

struct tls_pump {
	uint32_t magic;
	struct tls *tls;
	struct tls_pump *next, **prev;
	struct tls_conn conn;
	int fd;			   /* our end of the pair */
	struct alk_direct *direct; /* what was offered and has not ended */
	bool taken;		   /* SSH asks itself */
	bool refused;		   /* SSH was told that there is no room */
	struct alk_io *io;
	struct alk_timer *timer;
	struct chunk in, out; /* from the network to SSH; from SSH to the network */
	bool in_done;	      /* SSH was told that nothing more comes, or does not want it */
	bool out_done;	      /* the peer was told */
	bool lingering;
	bool visitor;  /* one of tls->n_sites */
	uint64_t took; /* of a visitor: when the network took something, or nothing waited for it */
	uint64_t sent; /* conn.sent at that time */
	uint64_t hung; /* when it was seen that SSH has closed its end, 0 = has not */
};

static struct tls_pump *pump_of(void *state)
{
	struct tls_pump *pump = state;

	assert(pump->magic == PUMP_MAGIC);
	return pump;
}

uint8_t *tls_buffer_take(struct tls *tls)
{
	return tls->spares > 0 ? tls->spare[--tls->spares] : malloc(TLS_BUFFER_SIZE);
}

void tls_buffer_give(struct tls *tls, uint8_t **buffer)
{
	if (tls->spares < TLS_SPARES)
		tls->spare[tls->spares++] = *buffer;
	else
		free(*buffer);
	*buffer = NULL;
}

static void chunk_drop(struct tls_pump *pump, struct chunk *chunk)
{
	if (chunk->bytes != NULL)
		tls_buffer_give(pump->tls, &chunk->bytes);
	chunk->at = chunk->len = 0;
}

static bool chunk_make(struct tls_pump *pump, struct chunk *chunk)
{
	if (chunk->bytes == NULL)
		chunk->bytes = tls_buffer_take(pump->tls);
	return chunk->bytes != NULL;
}

/* ---- from the network to SSH ---- */

static void in_fill(struct tls_pump *pump)
{
	struct chunk *in = &pump->in;
	size_t n;

	do {
		n = tls_conn_read(&pump->conn, in->bytes + in->len, TLS_BUFFER_SIZE - in->len);
		in->len += n;
	} while (n > 0 && TLS_BUFFER_SIZE - in->len >= TLS_RECORD_MAX &&
		 tls_conn_pending(&pump->conn));
}

/* SSH has gone: what comes is thrown away. */
static void in_stop(struct tls_pump *pump)
{
	chunk_drop(pump, &pump->in);
	pump->in_done = true;
}

/* Whether all of it went. */
static bool in_flush(struct tls_pump *pump)
{
	struct chunk *in = &pump->in;

	while (in->at < in->len) {
		size_t left = in->len - in->at;
		ssize_t n = send(pump->fd, in->bytes + in->at, left, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			in_stop(pump);
			return true;
		}
		if (n > 0) {
			in->at += (size_t)n;
			alk_loop_wrote(pump->tls->loop, pump->fd);
		}
		/* Less than all fills the kernel's buffer. */
		if (n < (ssize_t)left && (n > 0 || errno == EAGAIN))
			return false;
	}
	in->at = in->len = 0;
	return true;
}

static void pump_in(struct tls_pump *pump)
{
	while (!pump->in_done && in_flush(pump)) {
		if (pump->in_done)
			return;
		if (pump->conn.broken < 0 || pump->conn.ended)
			break;
		if (!tls_conn_pending(&pump->conn) || !chunk_make(pump, &pump->in))
			break;
		in_fill(pump);
		if (pump->in.len == 0)
			break;
	}
	if (pump->in.len > 0)
		return;
	chunk_drop(pump, &pump->in);
	if (!pump->in_done && (pump->conn.ended || pump->conn.broken < 0)) {
		shutdown(pump->fd, SHUT_WR);
		pump->in_done = true;
	}
}

/* ---- from SSH to the network ---- */

static void out_end(struct tls_pump *pump)
{
	chunk_drop(pump, &pump->out);
	tls_conn_end(&pump->conn);
	pump->out_done = true;
}

/* Whether there may be more behind what was read. */
static bool out_fill(struct tls_pump *pump)
{
	struct chunk *out = &pump->out;
	ssize_t n;

	do
		n = recv(pump->fd, out->bytes, TLS_CHUNK_SIZE, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		out->len = (size_t)n;
	else if (n == 0 || errno != EAGAIN)
		out_end(pump);
	return n == (ssize_t)TLS_CHUNK_SIZE;
}

/* Is there something that the network has not taken? */
static bool out_waits(const struct tls_pump *pump)
{
	return pump->out.len > 0 || pump->conn.gather != NULL;
}

static void out_run(struct tls_pump *pump, bool readable)
{
	struct chunk *out = &pump->out;
	unsigned chunks = 0;

	while (!pump->out_done) {
		if (tls_conn_flush(&pump->conn) && out->at < out->len)
			out->at += tls_conn_write(&pump->conn, out->bytes + out->at,
						  out->len - out->at);
		if (pump->conn.broken < 0) {
			out_end(pump);
			return;
		}
		if (out->at < out->len)
			return;
		out->at = out->len = 0;
		if (pump->conn.gather != NULL || !readable || !chunk_make(pump, out))
			break;
		/* The loop tells of the rest. */
		readable = out_fill(pump) && !(pump->visitor && ++chunks == VISITOR_CHUNKS);
		if (out->len == 0)
			break;
	}
	chunk_drop(pump, out);
}

static void pump_out(struct tls_pump *pump, bool readable)
{
	bool waited = out_waits(pump);

	out_run(pump, readable);
	if (!pump->visitor || (waited && out_waits(pump) && pump->conn.sent == pump->sent))
		return;
	pump->took = alk_loop_now(pump->tls->loop);
	pump->sent = pump->conn.sent;
}

/* ---- a visitor's patience ---- */

/* For how long the network may still take nothing of what there is for a visitor. */
static uint64_t visitor_left(const struct tls_pump *pump)
{
	uint64_t waited = alk_loop_now(pump->tls->loop) - pump->took;
	uint64_t all = pump->tls->times.send;

	return waited < all ? all - waited : 0;
}

/* Without a word, as at nginx's send_timeout. The end of the web server behind says nothing while he
 * takes nothing: over TCP it comes after bytes that are not read. */
static void visitor_end_late(struct tls_pump *pump)
{
	if (!out_waits(pump) || visitor_left(pump) > 0)
		return;
	/* That there is room may not have been told yet. */
	pump->conn.writable = true;
	pump_out(pump, false);
	if (!out_waits(pump) || visitor_left(pump) > 0)
		return;
	pump->conn.broken = -ETIMEDOUT;
	out_end(pump);
}

/* ---- both ---- */

static void pump_watch(struct tls_pump *pump)
{
	bool reads = pump->in_done ? pump->lingering : pump->taken || pump->in.len == 0;
	bool owes = reads && !pump->lingering && pump->conn.owes;
	/* A socket that was shut down takes everything: there is nothing to be told. */
	bool writes = !pump->out_done &&
		      (pump->conn.gather != NULL || owes ||
		       (!pump->conn.awaits && (pump->out.len > 0 || pump->refused)));

	alk_io_set(pump->conn.io, (reads && !owes && !pump->conn.ended ? ALK_IO_READ : 0) |
					  (writes ? ALK_IO_WRITE : 0));
	alk_io_set(pump->io, (!out_waits(pump) && !pump->out_done ? ALK_IO_READ : 0) |
				     (pump->in.len > 0 && !pump->taken ? ALK_IO_WRITE : 0));
}

/* SSH has closed and the peer knows: a close() now could take back what the peer has not read
 * yet. */
static void pump_linger(struct tls_pump *pump)
{
	if (pump->lingering)
		return;
	pump->lingering = true;
	in_stop(pump);
	tls_conn_idle(&pump->conn);
	alk_timer_start(pump->timer, LINGER_MS);
}

static void linger_read(struct tls_pump *pump)
{
	uint8_t *bytes = tls_buffer_take(pump->tls);
	ssize_t n;

	if (bytes == NULL)
		return;
	n = recv(pump->conn.fd, bytes, TLS_BUFFER_SIZE, MSG_DONTWAIT);
	tls_buffer_give(pump->tls, &bytes);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		pump->conn.ended = true;
}

static void pump_turn(struct tls_pump *pump, bool pair_readable)
{
	if (!pump->lingering) {
		if (!pump->taken)
			pump_in(pump);
		pump_out(pump, pair_readable);
		if (pump->visitor)
			visitor_end_late(pump);
	}
	if (pump->out_done && pump->conn.broken == 0 && !pump->conn.ended)
		pump_linger(pump);
	if (pump->out_done && (pump->conn.broken < 0 || pump->conn.ended)) {
		tls_pump_free(&pump);
		return;
	}
	pump_watch(pump);
	if (!pump->lingering)
		alk_timer_start(pump->timer,
				pump->visitor && out_waits(pump) ? visitor_left(pump) : IDLE_MS);
}

/* SSH reads what there is, also if TLS waited for room for that, and writes if it waited for room
 * itself. It may end with that. */
static void direct_turn(struct tls_pump *pump, int revents)
{
	int events = revents & ALK_IO_READ;

	if ((pump->refused || pump->conn.owes) && tls_conn_flush(&pump->conn)) {
		events |= (pump->refused ? ALK_IO_WRITE : 0) | (pump->conn.owes ? ALK_IO_READ : 0);
		pump->refused = pump->conn.owes = false;
	}
	if (pump->conn.broken < 0)
		events |= ALK_IO_READ;
	if (events != 0)
		alk_direct_ready(pump->direct, events);
}

static void on_net(void *user, int revents)
{
	struct tls_pump *pump = pump_of(user);

	/* What is left of the turn before is due with this one. */
	if (pump->conn.spent)
		revents |= ALK_IO_READ;
	tls_conn_ready(&pump->conn, revents);
	if (pump->taken)
		direct_turn(pump, revents);
	if (pump->lingering)
		linger_read(pump);
	pump_turn(pump, false);
}

static void on_pair(void *user, int revents)
{
	struct tls_pump *pump = pump_of(user);

	pump_turn(pump, (revents & ALK_IO_READ) != 0);
}

/* ---- SSH asks itself ---- */

/* Where there was no memory to read what SSH wrote to the pair. */
static bool pair_waits(const struct tls_pump *pump)
{
	int left;

	return ioctl(pump->fd, FIONREAD, &left) < 0 || left > 0;
}

static bool direct_begin(void *state)
{
	struct tls_pump *pump = pump_of(state);

	pump_out(pump, true);
	if (out_waits(pump) || pump->out_done || pair_waits(pump)) {
		pump->direct = NULL;
		pump_watch(pump);
		/* Of a connection that broke just now no event tells. */
		if (pump->out_done)
			tls_conn_spend(&pump->conn);
		return false;
	}
	pump->taken = true;
	/* No event will tell of what waits here already. */
	alk_loop_wrote(pump->tls->loop, pump->fd);
	pump_watch(pump);
	return true;
}

static void direct_end(void *state)
{
	struct tls_pump *pump = pump_of(state);

	pump->direct = NULL;
	pump->taken = pump->refused = false;
	pump_watch(pump);
}

/* What was read for the pair and did not get there any more. */
static size_t direct_rest(struct tls_pump *pump, uint8_t *bytes, size_t n)
{
	struct chunk *in = &pump->in;
	size_t left = in->len - in->at;

	if (left < n)
		n = left;
	if (n == 0)
		return 0;
	memcpy(bytes, in->bytes + in->at, n);
	in->at += n;
	if (in->at == in->len)
		chunk_drop(pump, in);
	return n;
}

static ssize_t direct_recv(void *state, void *bytes, size_t n)
{
	struct tls_pump *pump = pump_of(state);
	uint8_t *at = bytes;
	size_t got = direct_rest(pump, at, n), more = 1;

	pump->conn.readable = true;
	while (got < n && more > 0) {
		more = tls_conn_read(&pump->conn, at + got, n - got);
		got += more;
	}
	pump_watch(pump);
	if (got == 0)
		return pump->conn.ended ? 0 : pump->conn.broken < 0 ? pump->conn.broken : -EAGAIN;
	/* No event will tell of the end behind these. */
	if (pump->conn.ended || pump->conn.broken < 0)
		alk_loop_wrote(pump->tls->loop, pump->fd);
	return (ssize_t)got;
}

static ssize_t direct_send(void *state, const void *bytes, size_t n)
{
	struct tls_pump *pump = pump_of(state);
	const uint8_t *at = bytes;
	size_t done = 0, taken = 1;

	while (done < n && taken > 0) {
		taken = n - done < TLS_CHUNK_SIZE ? n - done : TLS_CHUNK_SIZE;
		taken = tls_conn_write(&pump->conn, at + done, taken);
		done += taken;
	}
	pump->refused = done < n;
	pump_watch(pump);
	alk_timer_start(pump->timer, IDLE_MS);
	return done == 0 && pump->conn.broken < 0 ? pump->conn.broken : (ssize_t)done;
}

static uint64_t direct_unsent(void *state)
{
	const struct tls_pump *pump = pump_of(state);
	int left = 0;

	if (ioctl(pump->conn.fd, SIOCOUTQ, &left) < 0 || left < 0)
		left = 0;
	return (uint64_t)left + pump->conn.gather_len - pump->conn.gather_at;
}

static const struct alk_direct_ops direct_ops = {
	.size = sizeof(direct_ops),
	.begin = direct_begin,
	.end = direct_end,
	.recv = direct_recv,
	.send = direct_send,
	.unsent = direct_unsent,
};

/* ---- life ---- */

/* While the network takes nothing the pair is not read, so that nobody hears of SSH's end. */
static bool pair_hung_up(const struct tls_pump *pump)
{
	struct pollfd at = {.fd = pump->fd};

	return poll(&at, 1, 0) == 1 && (at.revents & POLLHUP) != 0;
}

static void on_timer(void *user)
{
	struct tls_pump *pump = pump_of(user);

	if (pump->lingering) {
		tls_pump_free(&pump);
	} else if (!out_waits(pump) && pump->in.len == 0) {
		tls_conn_idle(&pump->conn);
	} else if (pump->visitor) {
		if (out_waits(pump))
			pump_turn(pump, false);
	} else if (pump->hung != 0 && alk_loop_now(pump->tls->loop) - pump->hung > HUNG_MS) {
		tls_pump_free(&pump);
	} else {
		if (pump->hung == 0 && pair_hung_up(pump))
			pump->hung = alk_loop_now(pump->tls->loop);
		alk_timer_start(pump->timer, BLOCKED_MS);
	}
}

static int pump_make(struct tls_pump *pump)
{
	struct alk_loop *loop = pump->tls->loop;
	const int unsent = UNSENT_MAX;

	pump->io = alk_io_new(loop, pump->fd, "tls pair", on_pair, pump);
	pump->timer = alk_timer_new(loop, "tls pump", on_timer, pump);
	/* Who writes next would wait behind what the kernel has queued. */
	setsockopt(pump->conn.fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
	return pump->io != NULL && pump->timer != NULL && pump->conn.io != NULL ? 0 : -ENOMEM;
}

static int pump_begin_with(struct tls_pump *pump, const void *first, size_t n)
{
	if (n == 0)
		return 0;
	if (n > TLS_BUFFER_SIZE || !chunk_make(pump, &pump->in))
		return -ENOMEM;
	memcpy(pump->in.bytes, first, n);
	pump->in.len = n;
	return 0;
}

/* `offers`: the other end, where SSH may ask itself; or -1: a visitor's. */
static int pump_join(struct tls_conn *conn, const void *first, size_t n, int *fd, int offers,
		     struct alk_err *err)
{
	struct tls_pump *pump = calloc(1, sizeof(*pump));
	int rc;

	if (pump == NULL) {
		alk_loop_unpair(conn->tls->loop, *fd);
		tls_conn_deinit(conn);
		alk_fd_close(fd);
		return alk_err_set(err, -ENOMEM, "out of memory");
	}
	pump->magic = PUMP_MAGIC;
	pump->tls = conn->tls;
	pump->fd = *fd;
	*fd = -1;
	tls_conn_move(&pump->conn, conn, on_net, pump);
	pump->conn.gathers = true;
	pump->conn.strict = offers >= 0;
	pump->visitor = offers < 0;
	pump->took = alk_loop_now(pump->tls->loop);
	pump->tls->n_sites += pump->visitor;
	pump->next = pump->tls->pumps;
	pump->prev = &pump->tls->pumps;
	if (pump->next != NULL)
		pump->next->prev = &pump->next;
	pump->tls->pumps = pump;
	rc = pump_make(pump);
	if (rc == 0)
		rc = pump_begin_with(pump, first, n);
	if (rc < 0) {
		tls_pump_free(&pump);
		return alk_err_set(err, rc, "out of memory");
	}
	/* Without it everything works, slower. */
	if (offers >= 0)
		pump->direct = alk_direct_offer(offers, &direct_ops, pump);
	pump_turn(pump, false);
	return 0;
}

int tls_pump_join(struct tls_conn *conn, const void *first, size_t n, int *fd, struct alk_err *err)
{
	return pump_join(conn, first, n, fd, -1, err);
}

int tls_pump_start(struct tls_conn *conn, const void *first, size_t n, int *fd, struct alk_err *err)
{
	const int size = PAIR_BYTES;
	int pair[2], rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0) {
		rc = -errno;
		tls_conn_deinit(conn);
		return alk_err_set(err, rc, "no socketpair: %s", strerror(-rc));
	}
	for (int i = 0; i < 2; i++)
		setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	rc = alk_loop_pair(conn->tls->loop, pair[0], pair[1]);
	if (rc < 0) {
		tls_conn_deinit(conn);
		alk_fd_close(&pair[0]);
		alk_fd_close(&pair[1]);
		return alk_err_set(err, rc, "out of memory");
	}
	rc = pump_join(conn, first, n, &pair[0], pair[1], err);
	if (rc < 0)
		alk_fd_close(&pair[1]);
	else
		*fd = pair[1];
	return rc;
}

struct tls_pump *tls_pump_oldest(const struct tls *tls, uint64_t number)
{
	struct tls_pump *oldest = NULL;

	for (struct tls_pump *pump = tls->pumps; pump != NULL; pump = pump->next) {
		if (pump->visitor && pump->conn.number < number) {
			oldest = pump;
			number = pump->conn.number;
		}
	}
	return oldest;
}

void tls_pump_free(struct tls_pump **at)
{
	struct tls_pump *pump = *at;

	*at = NULL;
	alk_direct_withdraw(&pump->direct);
	if (!pump->out_done && pump->io != NULL)
		pump_out(pump, !pump->visitor);
	if (!pump->out_done)
		out_end(pump);
	chunk_drop(pump, &pump->in);
	chunk_drop(pump, &pump->out);
	if (pump->next != NULL)
		pump->next->prev = pump->prev;
	*pump->prev = pump->next;
	pump->tls->n_sites -= pump->visitor;
	alk_io_free(&pump->io);
	alk_timer_free(&pump->timer);
	alk_loop_unpair(pump->tls->loop, pump->fd);
	alk_fd_close(&pump->fd);
	tls_conn_deinit(&pump->conn);
	pump->magic = 0;
	free(pump);
}
