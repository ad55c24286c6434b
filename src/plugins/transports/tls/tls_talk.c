/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "tls_site.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

/* Reads and answers in one turn: hundreds of requests have room in a record. */
#define TURN_ROUNDS 64

/* ---- what the state machine asks for ---- */

static size_t site_send(struct tls_site *site, const void *bytes, size_t n)
{
	ssize_t sent;

	if (!site->plain)
		return tls_conn_write(&site->conn, bytes, n);
	sent = send(site->conn.fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (sent < 0 && errno != EAGAIN && errno != EINTR)
		site->conn.broken = -errno;
	return sent > 0 ? (size_t)sent : 0;
}

static void on_write(void *user, const void *bytes, size_t n)
{
	struct tls_site *site = user;
	size_t sent = site->out_len == 0 ? site_send(site, bytes, n) : 0;
	uint8_t *grown;

	site->wrote = true;
	if (sent == n || site->conn.broken < 0)
		return;
	grown = realloc(site->out, site->out_len + n - sent);
	if (grown == NULL) {
		site->conn.broken = -ENOMEM;
		return;
	}
	memcpy(grown + site->out_len, (const uint8_t *)bytes + sent, n - sent);
	site->out = grown;
	site->out_len += n - sent;
}

static void on_set_timer(void *user, uint64_t ms)
{
	struct tls_site *site = user;

	if (ms == 0)
		alk_timer_stop(site->timer);
	else
		alk_timer_start(site->timer, ms);
}

static void on_close(void *user, enum stealth_close how)
{
	struct tls_site *site = user;

	site->closing = true;
	site->how = how;
}

static int64_t on_clock(void *user)
{
	(void)user;
	return (int64_t)time(NULL);
}

/* ---- what it is given ---- */

static size_t plain_read(struct tls_site *site, void *bytes, size_t n)
{
	struct tls_conn *conn = &site->conn;
	size_t left = conn->ahead_len - conn->ahead_at;
	ssize_t got;

	if (conn->ended || conn->broken < 0)
		return 0;
	if (conn->ahead != NULL) { /* the first bytes of all */
		left = left < n ? left : n;
		memcpy(bytes, conn->ahead + conn->ahead_at, left);
		conn->ahead_at += (uint32_t)left;
		if (conn->ahead_at == conn->ahead_len)
			tls_buffer_give(conn->tls, &conn->ahead);
		return left;
	}
	got = recv(conn->fd, bytes, n, MSG_DONTWAIT);
	if (got == 0)
		conn->ended = true;
	else if (got < 0 && errno != EAGAIN && errno != EINTR)
		conn->broken = -errno;
	return got > 0 ? (size_t)got : 0;
}

/* Until `n` are there or there are no more. */
static size_t site_read(struct tls_site *site, uint8_t *bytes, size_t n)
{
	size_t got = 0, piece;

	do {
		piece = site->plain ? plain_read(site, bytes + got, n - got)
				    : tls_conn_read(&site->conn, bytes + got, n - got);
		got += piece;
	} while (piece > 0 && got < n);
	return got;
}

/* May the state machine be given anything? */
static bool talk_goes_on(const struct tls_site *site)
{
	enum stealth_state state = stealth_state(site->stealth);

	return !site->closing && (state == STEALTH_JUDGING || state == STEALTH_HTTP);
}

/* After a read that filled the room: may there be more? nginx asks the kernel once and counts down
 * from there what it reads; below zero it takes it that there is nothing. Of what OpenSSL holds it
 * knows nothing. */
static bool site_may_have_more(struct tls_site *site, size_t n)
{
	if (site->available < 0) {
		if (ioctl(site->conn.fd, FIONREAD, &site->available) < 0)
			site->available = -1;
		return true;
	}
	site->available -= (int)n;
	if (site->available >= 0)
		return true;
	site->available = -1;
	return false;
}

/* Whether something was done, so that there may be more to do. */
static bool site_input(struct tls_site *site, uint8_t *buffer)
{
	size_t room = stealth_room(site->stealth), n;

	if (room == 0)
		return false;
	if (room > TLS_BUFFER_SIZE)
		room = TLS_BUFFER_SIZE;
	n = site_read(site, buffer, room);
	if (n > 0) {
		site->ready = (n == room && site_may_have_more(site, n)) || site->conn.ended ||
			      site->conn.broken < 0 || site->conn.spent;
		stealth_input(site->stealth, buffer, n, site->ready);
		return true;
	}
	if (site->conn.ended || site->conn.broken < 0) {
		stealth_eof(site->stealth, site->conn.broken < 0);
		return true;
	}
	if (!site->ready || site->conn.spent)
		return false;
	site->ready = false;
	stealth_input(site->stealth, NULL, 0, false);
	return true;
}

/* Whether all of it is out. */
static bool site_flush(struct tls_site *site)
{
	size_t n = site->out_len > 0 ? site_send(site, site->out, site->out_len) : 0;

	if (site->out_len == 0 && site->conn.broken == 0)
		return true;
	if (site->conn.broken < 0) {
		site->out_len = 0;
		if (talk_goes_on(site))
			stealth_eof(site->stealth, true);
		return true;
	}
	memmove(site->out, site->out + n, site->out_len - n);
	site->out_len -= n;
	return site->out_len == 0;
}

void tls_talk_turn(struct tls_site *site, uint8_t *buffer)
{
	int rounds = TURN_ROUNDS;
	bool more = true;

	while (more && site_flush(site) && talk_goes_on(site)) {
		if (--rounds < 0) {
			tls_conn_spend(&site->conn);
			more = false;
		} else if (site->wrote) {
			site->wrote = false;
			stealth_written(site->stealth);
		} else {
			more = site_input(site, buffer);
		}
	}
}

int tls_talk_init(struct tls_site *site)
{
	const struct stealth_settings settings = {.keyed = site->tls->keyed,
						  .upstream = site->tls->has_upstream,
						  .times = &site->tls->times};
	const struct stealth_hooks hooks = {.write = on_write,
					    .timer = on_set_timer,
					    .close = on_close,
					    .clock = on_clock,
					    .user = site};

	site->stealth = stealth_new(&settings, &hooks);
	return site->stealth != NULL ? 0 : -ENOMEM;
}
