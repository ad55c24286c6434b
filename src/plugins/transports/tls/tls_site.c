/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Server with `stealth`: drives the state machine of stealth.h over one accepted connection, until
 * it is SSH, somebody else's, or a visitor who gets his answer here. Once it is known not to be
 * ours the core is told that the link failed, and forgets it; the connection lives on by itself,
 * with a web server's patience and not the handshake's. */
#include "tls_site.h"
#include "acme.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define SITE_MAGIC 0x746c7374u
#define SITES_MAX                                                                                  \
	768 /* visitors at once; Debian's nginx takes as many. One more ends the oldest. */
#define WARN_MS 10000 /* the log is told once in that time that the upstream is not there */
/* What nginx has OpenSSL read at most at once; what is behind stays in the kernel and makes a
 * close() a RST. */
#define AHEAD_MAX 16709
/* The same of HTTP. */
#define FIRST_READ 1024

static void site_free(struct tls_site *site)
{
	if (site->next != NULL)
		site->next->prev = site->prev;
	*site->prev = site->next;
	site->tls->n_sites--;
	alk_task_cancel(site->tls->loop, &site->begin);
	stealth_free(&site->stealth);
	alk_dial_cancel(&site->dial);
	alk_timer_free(&site->timer);
	alk_timer_free(&site->linger_all);
	tls_conn_deinit(&site->conn);
	free(site->out);
	site->magic = 0;
	free(site);
}

/* The core hears the end of it. */
static void site_forget(struct tls_site *site, int rc, const char *why)
{
	alk_link_fn *done = site->done;
	struct alk_link link = ALK_LINK_NONE;
	struct alk_err err;

	if (done == NULL)
		return;
	site->done = NULL;
	alk_err_set(&err, rc, "%s", why);
	done(site->user, rc, &link, &err);
}

static void site_end(struct tls_site *site, const char *why)
{
	site_forget(site, -ECONNABORTED, why);
	site_free(site);
}

/* ---- ends ---- */

static void linger_turn(struct tls_site *site)
{
	uint8_t *bytes = tls_buffer_take(site->tls);
	ssize_t n;

	if (bytes == NULL) {
		site_free(site);
		return;
	}
	n = recv(site->conn.fd, bytes, TLS_BUFFER_SIZE, MSG_DONTWAIT);
	tls_buffer_give(site->tls, &bytes);
	if (n > 0)
		alk_timer_start(site->timer, site->tls->times.linger_idle);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		site_free(site);
}

static void site_linger(struct tls_site *site)
{
	if (site->plain && site->conn.ended) { /* nothing can come any more: close() is the FIN */
		site_free(site);
		return;
	}
	site->state = SITE_LINGER;
	if (site->plain || site->conn.ended) /* nginx takes no leave of who has taken his */
		shutdown(site->conn.fd, SHUT_WR);
	else
		tls_conn_end(&site->conn);
	alk_timer_start(site->timer, site->tls->times.linger_idle);
	alk_timer_start(site->linger_all, site->tls->times.linger_all);
	alk_io_set(site->conn.io, ALK_IO_READ);
	linger_turn(site); /* mostly the peer has gone by now */
}

static void site_close(struct tls_site *site)
{
	if (site->conn.broken == 0 && site->how == STEALTH_CLOSE_LINGER) {
		site_forget(site, -ECONNABORTED, "not an alknet client");
		site_linger(site);
		return;
	}
	if (site->state == SITE_TALK && !site->plain && !site->conn.ended &&
	    site->how == STEALTH_CLOSE_NOTIFY)
		tls_conn_notify(&site->conn);
	site_end(site, "not an alknet client");
}

/* ---- ours, or somebody else's ---- */

/* The core still waits for it: what it has given up is refused by the state machine. */
static void site_hand_over(struct tls_site *site)
{
	struct alk_link link = site->link;
	alk_link_fn *done = site->done;
	void *user = site->user;
	struct alk_err err = {""};
	const void *rest;
	size_t n;
	int rc;

	rest = stealth_rest(site->stealth, &n);
	tls_conn_describe(&site->conn, &link);
	site->conn.ahead_max = TLS_BUFFER_SIZE;
	rc = tls_pump_start(&site->conn, rest, n, &link.fd, &err);
	site_free(site);
	done(user, rc, &link, &err);
}

static void upstream_fail(struct tls_site *site, const struct alk_err *err)
{
	uint64_t now = alk_loop_now(site->tls->loop);

	if (site->tls->warned == 0 || now - site->tls->warned >= WARN_MS) {
		site->tls->warned = now;
		alk_log(ALK_LOG_WARN, "stealth_upstream cannot be reached",
			ALK_STR("error", err->text));
	}
	tls_conn_notify(&site->conn);
	site_free(site);
}

static void on_upstream(void *user, int rc, int fd, const struct alk_err *err)
{
	struct tls_site *site = user;
	const void *rest;
	size_t n;

	assert(site->magic == SITE_MAGIC);
	site->dial = NULL;
	if (rc < 0) {
		upstream_fail(site, err);
		return;
	}
	rest = stealth_rest(site->stealth, &n);
	site->conn.ahead_max = TLS_BUFFER_SIZE;
	tls_pump_join(&site->conn, rest, n, &fd, NULL);
	site_free(site);
}

static void site_upstream(struct tls_site *site)
{
	struct alk_err err = {""};

	site->state = SITE_DIAL;
	alk_timer_stop(site->timer);
	alk_io_set(site->conn.io, 0);
	site_forget(site, -ECONNABORTED, "not an alknet client");
	site->dial = alk_dial_to(site->tls->loop, &site->tls->upstream, site->tls->timeout_ms,
				 on_upstream, site, &err);
	if (site->dial == NULL)
		upstream_fail(site, &err);
}

/* ---- the talk ---- */

static void site_settle(struct tls_site *site)
{
	enum stealth_state state = stealth_state(site->stealth);

	if (site->out_len > 0) {
		alk_io_set(site->conn.io, site->conn.awaits ? ALK_IO_READ : ALK_IO_WRITE);
	} else if (site->closing) {
		site_close(site);
		return;
	} else if (state == STEALTH_OURS) {
		site_hand_over(site);
		return;
	} else if (state == STEALTH_UPSTREAM) {
		site_upstream(site);
		return;
	} else {
		bool reads = stealth_room(site->stealth) > 0 && !site->conn.ended;

		alk_io_set(site->conn.io, !reads	    ? 0
					  : site->conn.owes ? ALK_IO_WRITE
							    : ALK_IO_READ);
	}
	if (state == STEALTH_HTTP)
		site_forget(site, -ECONNABORTED, "not an alknet client");
}

static void talk_turn(struct tls_site *site)
{
	uint8_t *buffer = tls_buffer_take(site->tls);

	if (buffer == NULL) {
		site_end(site, "out of memory");
		return;
	}
	tls_talk_turn(site, buffer);
	tls_buffer_give(site->tls, &buffer);
	site_settle(site);
}

/* ---- the beginning ---- */

static void handshake_turn(struct tls_site *site)
{
	char token[STEALTH_TOKEN_LEN + 1];
	struct alk_err err = {""};
	int rc = tls_conn_handshake(&site->conn, &err);

	if (rc == 0)
		return;
	/* Where there can be no key no request has it: an exclamation mark is in none. */
	if (rc > 0 && site->tls->keyed && tls_stealth_token(&site->conn, token) < 0)
		memset(token, '!', sizeof(token));
	if (rc < 0) {
		site_end(site, err.text);
		return;
	}
	site->state = SITE_TALK;
	stealth_begin(site->stealth, false, site->tls->keyed ? token : NULL);
	if (site->done == NULL)
		stealth_refuse(site->stealth);
	talk_turn(site);
}

/* The first bytes, which are the TLS connection's or the state machine's to take. 1: there are
 * some, 0 not yet, -ECONNABORTED no more, -ENOMEM. No more of them is read than nginx does. */
static int first_read(struct tls_site *site)
{
	struct tls_conn *conn = &site->conn;
	uint8_t *bytes;
	ssize_t n, more;

	if (conn->ahead != NULL) { /* of what may be a CA's request */
		n = recv(conn->fd, conn->ahead + conn->ahead_len, FIRST_READ - conn->ahead_len,
			 MSG_DONTWAIT);
		conn->ahead_len += n > 0 ? (uint32_t)n : 0;
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		site->heard = n <= 0; /* there is no more of it */
		return 1;
	}
	bytes = tls_buffer_take(site->tls);
	if (bytes == NULL)
		return -ENOMEM;
	n = recv(conn->fd, bytes, FIRST_READ, MSG_DONTWAIT);
	if (n <= 0) {
		bool later = n < 0 && (errno == EAGAIN || errno == EINTR);

		tls_buffer_give(site->tls, &bytes);
		return later ? 0 : -ECONNABORTED;
	}
	site->plain = (bytes[0] & 0x80) == 0 && bytes[0] != 0x16;
	if (!site->plain && n == FIRST_READ) {
		more = recv(conn->fd, bytes + n, AHEAD_MAX - FIRST_READ, MSG_DONTWAIT);
		n += more > 0 ? more : 0; /* an end or an error is there again */
	}
	conn->ahead = bytes;
	conn->ahead_at = 0;
	conn->ahead_len = (uint32_t)n;
	return 1;
}

/* http-01: the one page that there is, while a CA checks a name. */
static void proof_answer(struct tls_site *site, const char *proof)
{
	char text[1024];
	int n = snprintf(text, sizeof(text),
			 "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\n"
			 "Content-Type: application/octet-stream\r\n"
			 "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
			 strlen(proof), proof);

	tls_buffer_give(site->tls, &site->conn.ahead);
	/* It is less than a socket's buffer. */
	if (send(site->conn.fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) != n) {
		site_end(site, "a CA's check was not answered");
		return;
	}
	site_forget(site, -ECONNABORTED, "a CA checked the name by http-01");
	site_linger(site);
}

/* Is it a CA's? Then true: it is answered, or may become one and is waited for. */
static bool proof_turn(struct tls_site *site)
{
	const struct tls_conn *conn = &site->conn;
	const char *proof;
	int rc;

	if (!site->plain || site->tls->proving == NULL)
		return false;
	rc = acme_worker_http(site->tls->proving, conn->ahead, conn->ahead_len, &proof);
	if (rc > 0)
		proof_answer(site, proof);
	else if (rc == 0 && conn->ahead_len < FIRST_READ && !site->heard)
		alk_io_set(conn->io, ALK_IO_READ);
	else
		return false;
	return true;
}

/* As nginx: what cannot begin a handshake is HTTP that came to the wrong port. */
static void first_turn(struct tls_site *site)
{
	static const char none[STEALTH_TOKEN_LEN + 1];
	int rc = first_read(site);

	if (rc == 0) {
		alk_io_set(site->conn.io, ALK_IO_READ);
	} else if (rc < 0) {
		site_end(site, rc == -ENOMEM
				       ? "out of memory"
				       : "the peer closed the connection before it said anything");
	} else if (!site->plain) {
		site->state = SITE_HANDSHAKE;
		handshake_turn(site);
	} else if (!proof_turn(site)) {
		site->state = SITE_TALK;
		stealth_begin(site->stealth, true, none);
		talk_turn(site);
	}
}

static void site_turn(struct tls_site *site)
{
	switch (site->state) {
	case SITE_FIRST:
		first_turn(site);
		break;
	case SITE_HANDSHAKE:
		handshake_turn(site);
		break;
	case SITE_TALK:
		talk_turn(site);
		break;
	case SITE_LINGER:
		linger_turn(site);
		break;
	case SITE_DIAL:
		break;
	}
}

static void on_ready(void *user, int revents)
{
	struct tls_site *site = user;

	assert(site->magic == SITE_MAGIC);
	if (!site->conn.spent) /* else it goes on where it stopped */
		site->available = -1;
	tls_conn_ready(&site->conn, revents);
	site_turn(site);
}

/* Most strangers have spoken by the time their connection gets here: no need to ask the kernel
 * when. */
static void on_begin(void *user)
{
	struct tls_site *site = user;

	assert(site->magic == SITE_MAGIC);
	site->available = -1;
	site_turn(site);
}

static void on_timer(void *user)
{
	struct tls_site *site = user;

	assert(site->magic == SITE_MAGIC);
	if (site->state == SITE_LINGER) {
		site_free(site);
		return;
	}
	stealth_timeout(site->stealth);
	if (site->state == SITE_TALK)
		talk_turn(site);
	else
		site_end(site, "the peer was silent");
}

/* ---- from outside ---- */

static int site_make(struct tls_site *site)
{
	site->timer = alk_timer_new(site->tls->loop, "tls site", on_timer, site);
	site->linger_all = alk_timer_new(site->tls->loop, "tls linger", on_timer, site);
	if (site->timer == NULL || site->linger_all == NULL)
		return -ENOMEM;
	return tls_talk_init(site);
}

/* Visitors of the web server behind are held as long as it likes, if they take what it says. */
static void sites_make_room(struct tls *tls)
{
	struct tls_site *oldest = NULL;
	struct tls_pump *older;

	if (tls->n_sites <= SITES_MAX)
		return;
	for (struct tls_site *site = tls->sites; site != NULL; site = site->next)
		if (site->done == NULL)
			oldest = site;
	older = tls_pump_oldest(tls, oldest != NULL ? oldest->conn.number : UINT64_MAX);
	if (older != NULL)
		tls_pump_free(&older);
	else if (oldest != NULL)
		site_free(oldest);
}

void *tls_site_admit(struct tls *tls, struct alk_link *link, alk_link_fn *done, void *user)
{
	struct tls_site *site = calloc(1, sizeof(*site));

	if (site == NULL) {
		alk_link_close(link);
		return NULL;
	}
	if (tls_conn_init(&site->conn, tls, &link->fd, on_ready, site, NULL) < 0) {
		free(site);
		return NULL;
	}
	site->conn.ahead_max = AHEAD_MAX;
	site->magic = SITE_MAGIC;
	site->tls = tls;
	site->link = *link;
	site->next = tls->sites;
	site->prev = &tls->sites;
	if (site->next != NULL)
		site->next->prev = &site->next;
	tls->sites = site;
	tls->n_sites++;
	if (site_make(site) < 0) {
		site_free(site);
		return NULL;
	}
	site->done = done;
	site->user = user;
	sites_make_room(tls);
	site->begin = (struct alk_task){.fn = on_begin, .user = site};
	alk_task_queue(tls->loop, &site->begin);
	return site;
}

void tls_site_cancel(struct tls_site *site)
{
	assert(site->magic == SITE_MAGIC);
	site->done = NULL;
	if (site->state != SITE_TALK)
		return;
	stealth_refuse(site->stealth);
	talk_turn(site);
}

void tls_site_free(struct tls_site **site)
{
	site_free(*site);
	*site = NULL;
}
