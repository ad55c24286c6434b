/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* One SSH channel as a stream with back-pressure: alk_channel_* of alknet/service.h over libssh.
 *
 *   ASKED (server, open unanswered) ─accept─▶ OPEN ─close─▶ CLOSING ─peer's CLOSE─▶ freed
 *   ASKING (client)                 ─opened─▶ OPEN              (owner was told `close` already)
 *
 * Reading. The data callback hands libssh's own buffer to the owner. When the owner takes less than
 * all the channel is stalled: the callback takes nothing, nobody reads, and the peer's window
 * closes. On resume the whole rest is taken out in one read (a partial read would open the window
 * again without end) and handed on from our buffer; only when that is empty is libssh's looked at
 * again. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <libssh/server.h>
#include "board.h"
#include "loop_private.h"
#include "pump.h"
#include "readahead.h"
#include "ssh_session.h"
#include "text.h"
#include "window.h"

#define CHANNEL_MAGIC 0x4348414eu
/* More unread than libssh ever grants means that the peer ignores its window. */
#define UNREAD_MAX (2u << 20)
/* libssh numbers the channels of a session from here on. */
#define FIRST_CHANNEL 43
/* What libssh puts into one packet for a peer that takes 32768 bytes, as OpenSSH and libssh do. */
#define PACKET_DATA (32768u - 10)
/* A packet of a bulk transfer. While at least one more is read already, small writes wait for
 * it. */
#define PACKET_MAX (33u * 1024)
#define GATHER_MAX (256u * 1024)
/* The most that one channel writes or gathers at once while the session has others. */
#define SHARED_MAX (64u * 1024)

enum channel_state {
	CHANNEL_NEW,
	CHANNEL_ASKED,
	CHANNEL_ASKING,
	CHANNEL_OPEN,
	CHANNEL_CLOSING,
};

struct alk_channel {
	uint32_t magic;
	enum channel_state state;
	struct alk_ssh *s;
	ssh_channel ch;
	ssh_message asked;
	struct alk_destination *to; /* while asking */
	const struct alk_channel_ops *ops;
	void *user;
	struct alk_channel *next, **prev, *next_work;
	uint8_t *backlog;
	uint32_t backlog_len, backlog_off, unread;
	uint64_t id, bytes_in, bytes_out, since;
	uint64_t asked_us; /* when it was asked for; 0 = how long that took is not counted */
	uint64_t asked_at; /* loop time when we did */
	struct alk_window window;
	uint32_t widest; /* the most that was ever asked for by a wide window */
	enum alk_open_failure why;
	struct ssh_channel_callbacks_struct cb;
	unsigned number;		/* which open of the client this was */
	unsigned ch_id;			/* the library's number, of a channel that was asked for */
	struct alk_reason_query *query; /* the server is asked why it refused */
	bool working, stalled, resume, want_drain, widen;
	bool eof_in, eof_told, eof_out, eof_sent;
	bool back; /* forwarded-tcpip: from a server to its client */
	bool remote_closed, close_wanted, close_told, opened_told;
};

static struct alk_channel *channel_of(void *user)
{
	struct alk_channel *c = user;

	assert(c->magic == CHANNEL_MAGIC);
	return c;
}

static const struct alk_channel_ops ops_none;

/* ---- bookkeeping ----------------------------------------------------------------------------- */

static void channel_work_later(struct alk_channel *c)
{
	if (c->working)
		return;
	c->working = true;
	c->next_work = c->s->work;
	c->s->work = c;
	alk_ssh_wrote(c->s);
}

struct alk_channel *alk_ssh_channel_new(struct alk_ssh *s, const struct alk_channel_ops *ops,
					void *user)
{
	struct alk_channel *c;

	if (s->dying || s->n_channels >= s->max_channels)
		return NULL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->magic = CHANNEL_MAGIC;
	c->s = s;
	c->ops = ops ? ops : &ops_none;
	c->user = user;
	c->id = s->next_channel++;
	c->since = alk_loop_now(s->loop);
	alk_window_init(&c->window, c->since);
	c->next = s->channels;
	c->prev = &s->channels;
	if (c->next)
		c->next->prev = &c->next;
	s->channels = c;
	s->n_channels++;
	alk_count(ALK_M_CHANNELS, 1);
	return c;
}

static void channel_delete(struct alk_channel *c)
{
	struct alk_channel **w;

	if (c->next)
		c->next->prev = c->prev;
	*c->prev = c->next;
	for (w = &c->s->work; c->working && *w; w = &(*w)->next_work) {
		if (*w == c) {
			*w = c->next_work;
			break;
		}
	}
	c->s->n_channels--;
	c->s->windows -= c->window.size - ALK_WINDOW_BASE;
	alk_count(ALK_M_CHANNELS, -1);
	alk_ssh_reason_cancel(&c->query);
	if (c->asked)
		ssh_message_free(c->asked);
	if (c->ch) {
		ssh_remove_channel_callbacks(c->ch, &c->cb);
		ssh_channel_free(c->ch);
	}
	free(c->backlog);
	free(c->to);
	c->magic = 0;
	free(c);
}

static void channel_tell_close(struct alk_channel *c)
{
	if (c->close_told)
		return;
	c->close_told = true;
	free(c->backlog);
	c->backlog = NULL;
	c->backlog_len = c->backlog_off = c->unread = 0;
	if (c->ops->close)
		c->ops->close(c->user, c);
	c->ops = &ops_none;
}

/* ---- what libssh tells: flags only ----------------------------------------------------------- */

static void channel_taken(struct alk_channel *c, size_t n)
{
	c->bytes_in += n;
	alk_count(ALK_M_CHANNEL_BYTES_IN, (int64_t)n);
	if (!c->widen && c->s->rtt_ms >= ALK_WINDOW_NEAR_MS &&
	    c->bytes_in - c->window.asked >= c->window.size / ALK_WINDOW_PART) {
		c->widen = true;
		channel_work_later(c);
	}
}

static int on_data(ssh_session ssh, ssh_channel ch, void *bytes, uint32_t len, int is_stderr,
		   void *user)
{
	struct alk_channel *c = channel_of(user);
	size_t taken = len;

	(void)ssh, (void)ch;
	if (is_stderr || c->state == CHANNEL_CLOSING || c->close_wanted)
		return (int)len;
	if (len > UNREAD_MAX + c->widest) {
		alk_count(ALK_M_SESSIONS_KILLED, 1);
		alk_ssh_die(c->s, -EPROTO, "the peer ignores its window");
		return 0;
	}
	c->unread = len;
	if (c->stalled || c->backlog || c->state != CHANNEL_OPEN || c->s->dying)
		return 0;
	if (len < (c->s->n_channels > 1 ? SHARED_MAX : GATHER_MAX) &&
	    alk_readahead_left(c->s->fd) >= PACKET_MAX) {
		/* One write of several packets costs the kernel half of what they do. Should the
		 * bytes ahead be another channel's, the end of the turn hands these on. */
		c->resume = true;
		channel_work_later(c);
		return 0;
	}
	if (c->ops->data)
		taken = c->ops->data(c->user, c, bytes, len);
	channel_taken(c, taken);
	c->unread = len - (uint32_t)taken;
	c->stalled = c->unread > 0;
	return (int)taken;
}

static void on_eof(ssh_session ssh, ssh_channel ch, void *user)
{
	struct alk_channel *c = channel_of(user);

	(void)ssh, (void)ch;
	c->eof_in = true;
	channel_work_later(c);
}

static void on_close(ssh_session ssh, ssh_channel ch, void *user)
{
	struct alk_channel *c = channel_of(user);

	(void)ssh, (void)ch;
	c->eof_in = true;
	c->remote_closed = true;
	channel_work_later(c);
}

static int channel_listen(struct alk_channel *c)
{
	ssh_callbacks_init(&c->cb);
	c->cb.userdata = c;
	c->cb.channel_data_function = on_data;
	c->cb.channel_eof_function = on_eof;
	c->cb.channel_close_function = on_close;
	return ssh_set_channel_callbacks(c->ch, &c->cb) == SSH_OK ? 0 : -ENOMEM;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Take everything libssh holds for this channel, and open the window to `window` bytes if it is
 * smaller (0: as libssh likes). False when nothing could be read. */
static bool channel_take_backlog(struct alk_channel *c, uint32_t window)
{
	uint32_t size = window > c->unread ? window : c->unread;
	uint8_t *fits;
	int n;

	c->backlog = malloc(size);
	if (!c->backlog) {
		alk_ssh_die(c->s, -ENOMEM, "out of memory for a channel");
		return false;
	}
	alk_ssh_enter(c->s);
	if (window)
		/* It asks the peer for as much as it is asked for, and gives what is there. */
		n = ssh_channel_read_timeout(c->ch, c->backlog, size, 0, 0);
	else
		n = ssh_channel_read_nonblocking(c->ch, c->backlog, size, 0);
	alk_ssh_leave(c->s);
	if (n <= 0) {
		free(c->backlog);
		c->backlog = NULL;
		return false;
	}
	fits = (uint32_t)n < size ? realloc(c->backlog, (size_t)n) : NULL;
	if (fits)
		c->backlog = fits;
	/* `unread` may have grown while the read dispatched: the next data callback says how
	 * far. */
	c->unread = (uint32_t)n < c->unread ? c->unread - (uint32_t)n : 0;
	c->backlog_len = (uint32_t)n;
	c->backlog_off = 0;
	return true;
}

/* Hand on what waits until the owner is full or nothing is left. */
static void channel_deliver(struct alk_channel *c)
{
	while (!c->close_told && !c->s->dying) {
		size_t left, taken;

		if (!c->backlog && (c->unread == 0 || !channel_take_backlog(c, 0)))
			break;
		left = c->backlog_len - c->backlog_off;
		taken = c->ops->data ? c->ops->data(c->user, c, c->backlog + c->backlog_off, left)
				     : left;
		channel_taken(c, taken);
		c->backlog_off += (uint32_t)taken;
		if (taken < left)
			return;
		free(c->backlog);
		c->backlog = NULL;
		c->backlog_len = c->backlog_off = 0;
	}
	c->stalled = false;
}

/* The owner keeps up: what it took says how much may be under way. */
static void channel_widen(struct alk_channel *c)
{
	struct alk_ssh *s = c->s;
	uint32_t size;

	s->windows -= c->window.size - ALK_WINDOW_BASE;
	size = alk_window_next(&c->window, c->bytes_in, alk_loop_now(s->loop), s->rtt_ms,
			       ALK_WINDOWS_SPARE - s->windows);
	s->windows += c->window.size - ALK_WINDOW_BASE;
	if (size > c->widest)
		c->widest = size;
	/* What came meanwhile is the owner's next. */
	if (size && channel_take_backlog(c, size))
		channel_deliver(c);
	alk_ssh_wrote(s);
}

/* ---- opening --------------------------------------------------------------------------------- */

struct alk_channel *alk_ssh_channel_asked(struct alk_ssh *s, ssh_message message)
{
	struct alk_channel *c = alk_ssh_channel_new(s, NULL, NULL);

	if (c) {
		c->asked = message;
		c->asked_us = alk_board_now_us();
		c->number = s->asked - 1;
		c->state = CHANNEL_ASKED;
	}
	return c;
}

int alk_channel_accept(struct alk_channel *c)
{
	if (c->state != CHANNEL_ASKED || !c->asked || c->s->dying || c->close_wanted)
		return -EPIPE;
	alk_ssh_enter(c->s);
	c->ch = ssh_message_channel_request_open_reply_accept(c->asked);
	c->s->ids++;
	alk_ssh_leave(c->s);
	ssh_message_free(c->asked);
	c->asked = NULL;
	alk_observe(ALK_H_OPEN, alk_board_now_us() - c->asked_us);
	if (!c->ch || channel_listen(c) < 0) {
		alk_channel_close(c);
		return -ENOMEM;
	}
	c->state = CHANNEL_OPEN;
	alk_ssh_wrote(c->s);
	return 0;
}

void alk_channel_refuse(struct alk_channel *c, enum alk_open_failure why, const char *text)
{
	if (c->state != CHANNEL_ASKED || !c->asked)
		return;
	if (!c->s->dying) {
		/* The public API sends one reason code and no text: the text goes beside it, where
		 * `ssh -v` shows it. */
		alk_ssh_enter(c->s);
		if (text && *text)
			ssh_send_debug(c->s->ssh, text, 0);
		ssh_message_reply_default(c->asked);
		alk_ssh_leave(c->s);
	}
	ssh_message_free(c->asked);
	c->asked = NULL;
	alk_observe(ALK_H_OPEN, alk_board_now_us() - c->asked_us);
	alk_ssh_reason_keep(c->s, c->number, why);
	alk_count(ALK_M_CHANNELS_REFUSED, 1);
	alk_channel_close(c);
}

static bool channel_peer_is_ours(const struct alk_channel *c)
{
	const char *banner = ssh_get_serverbanner(c->s->ssh);

	return banner && strncmp(banner, "SSH-2.0-alknet", 14) == 0;
}

static int channel_open_step(struct alk_channel *c)
{
	const struct alk_destination *to = c->to;
	int rc;

	alk_ssh_enter(c->s);
	if (c->back)
		rc = ssh_channel_open_reverse_forward(c->ch, to->host, to->port, to->originator,
						      to->originator_port);
	else if (!to->path[0])
		rc = ssh_channel_open_forward(c->ch, to->host, to->port, to->originator,
					      to->originator_port);
	else if (channel_peer_is_ours(c))
		/* Our server takes a path where a host stands; libssh's server knows no other
		 * way. */
		rc = ssh_channel_open_forward(c->ch, to->path, 1, to->originator,
					      to->originator_port);
	else
		rc = ssh_channel_open_forward_unix(c->ch, to->path, to->originator,
						   to->originator_port);
	alk_ssh_leave(c->s);
	return rc;
}

/* An error of asking may be the answer already: the library reads what is there. */
static bool channel_is_denied(const struct alk_channel *c)
{
	unsigned id;

	return sscanf(ssh_get_error(c->s->ssh), "Channel opening failure: channel %u error", &id) ==
		       1 &&
	       id == c->ch_id;
}

static int channel_ask(struct alk_channel *c, const struct alk_destination *to)
{
	c->ch = ssh_channel_new(c->s->ssh);
	c->to = malloc(sizeof(*to));
	if (!c->ch || !c->to || channel_listen(c) < 0)
		return -ENOMEM;
	*c->to = *to;
	c->state = CHANNEL_ASKING;
	c->asked_at = alk_loop_now(c->s->loop);
	c->ch_id = FIRST_CHANNEL + c->s->ids++;
	if (channel_open_step(c) == SSH_ERROR) {
		if (!channel_is_denied(c))
			c->why = ALK_OPEN_RESOURCE_SHORTAGE;
		channel_work_later(c);
	}
	alk_ssh_wrote(c->s);
	return 0;
}

int alk_ssh_channel_ask(struct alk_channel *c, const struct alk_destination *to)
{
	c->number = c->s->opens++;
	/* Why another one failed is no open of anybody's. */
	if (strcmp(to->host, ALK_REASON_HOST) != 0)
		c->asked_us = alk_loop_now_us(c->s->loop);
	return channel_ask(c, to);
}

int alk_ssh_channel_ask_back(struct alk_channel *c, const struct alk_destination *to)
{
	c->back = true;
	return channel_ask(c, to);
}

/* "Channel opening failure: channel 43 error (2) Connection refused" */
static enum alk_open_failure channel_failure(const struct alk_channel *c, char *text, size_t size)
{
	const char *error = ssh_get_error(c->s->ssh);
	unsigned id = 0, code = 0;
	int at = 0;

	text[0] = '\0';
	if (sscanf(error, "Channel opening failure: channel %u error (%u) %n", &id, &code, &at) <
		    2 ||
	    !at || id != c->ch_id)
		return ALK_OPEN_CONNECT_FAILED;
	/* The peer's words, on their way to a terminal. */
	alk_text_escape(error + at, strlen(error + at), text, size);
	if (code == ALK_OPEN_PROHIBITED && !error[at])
		return ALK_OPEN_CONNECT_FAILED; /* libssh's server has no other code */
	if (code != ALK_OPEN_CONNECT_FAILED)
		return code >= 1 && code <= 4 ? (enum alk_open_failure)code
					      : ALK_OPEN_CONNECT_FAILED;
	if (strstr(text, "refused"))
		return ALK_OPEN_REFUSED;
	if (strstr(text, "unreachable") || strstr(text, "No route"))
		return ALK_OPEN_UNREACHABLE;
	if (strstr(text, "timed out"))
		return ALK_OPEN_TIMEOUT;
	if (strstr(text, "not known") || strstr(text, "resol"))
		return ALK_OPEN_NAME;
	return ALK_OPEN_CONNECT_FAILED;
}

static void channel_tell_refused(struct alk_channel *c, enum alk_open_failure why, const char *text)
{
	c->opened_told = true;
	alk_count(ALK_M_CHANNELS_REFUSED, 1);
	if (c->ops->refused)
		c->ops->refused(c->user, c, why, text);
	channel_tell_close(c);
	channel_delete(c);
}

static void on_reason(struct alk_channel *c, enum alk_open_failure why)
{
	c->query = NULL;
	c->why = why;
	channel_work_later(c);
}

/* The peer's answer is there. It is counted once, however often it is seen; the end of the session is
 * none. */
static void channel_answered(struct alk_channel *c)
{
	if (c->asked_us && !c->s->dying)
		alk_observe(ALK_H_OPEN, alk_loop_now_us(c->s->loop) - c->asked_us);
	c->asked_us = 0;
}

static void channel_refused(struct alk_channel *c)
{
	char text[128];
	enum alk_open_failure why = channel_failure(c, text, sizeof(text));
	bool unsaid = why == ALK_OPEN_CONNECT_FAILED && text[0] == '\0';

	channel_answered(c);
	if (unsaid && !c->back && channel_peer_is_ours(c) && c->ops->refused) {
		c->query = alk_ssh_reason_ask(c->s, c->number, on_reason, c);
		if (c->query)
			return;
	}
	channel_tell_refused(c, why, unsaid ? "the server did not say why" : text);
}

/* The peer's answer, if it is there. False when `c` is gone. */
static bool channel_check_open(struct alk_channel *c)
{
	int rc;

	if (c->query)
		return true;
	if (c->why) {
		channel_tell_refused(c, c->why, alk_open_failure_str(c->why));
		return false;
	}
	if (!ssh_channel_is_open(c->ch) && !c->remote_closed && !c->unread) {
		rc = channel_open_step(c);
		if (rc == SSH_AGAIN)
			return true;
		if (rc != SSH_OK && !c->remote_closed && !c->unread) {
			if (!c->s->dying)
				channel_refused(c);
			return false; /* or waiting for the reason */
		}
	}
	c->state = CHANNEL_OPEN;
	channel_answered(c);
	alk_ssh_took(c->s, alk_loop_now(c->s->loop) - c->asked_at);
	c->opened_told = true;
	free(c->to);
	c->to = NULL;
	if (c->ops->opened)
		c->ops->opened(c->user, c);
	c->resume = true;
	channel_work_later(c);
	return true;
}

/* ---- the session's turn ---------------------------------------------------------------------- */

static void channel_send_close(struct alk_channel *c)
{
	uint64_t packets = c->s->raw.out_packets;
	int tries;

	if (c->state != CHANNEL_OPEN && c->state != CHANNEL_ASKING)
		return;
	if (c->state == CHANNEL_OPEN) {
		/* With a queue that is not empty the first call stops at the EOF; a later one sends
		 * the CLOSE, and only one that finds it sent answers OK. */
		alk_ssh_enter(c->s);
		for (tries = 0; tries < 3 && ssh_channel_close(c->ch) == SSH_AGAIN; tries++)
			;
		alk_ssh_leave(c->s);
		/* Who asked for a channel may wait for this before it leaves (`ssh -W` does); the
		 * other side only forgets a number. */
		if (c->remote_closed && c->ch_id)
			alk_ssh_may_wait(c->s, c->s->raw.out_packets - packets);
	}
	c->state = CHANNEL_CLOSING;
}

/* False when `c` is gone. */
static bool channel_work(struct alk_channel *c)
{
	if (c->state == CHANNEL_ASKING && !c->close_wanted)
		return channel_check_open(c);
	if (c->close_wanted && !c->close_told) {
		bool asking = c->state == CHANNEL_ASKING;

		channel_tell_close(c);
		/* An open that is given up stays until the peer has answered it. */
		if (!asking)
			channel_send_close(c);
	}
	if (c->close_told && c->state == CHANNEL_ASKING) {
		if (!ssh_channel_is_open(c->ch) && !c->remote_closed &&
		    channel_open_step(c) == SSH_AGAIN)
			return true;
		channel_answered(c);
		if (ssh_channel_is_open(c->ch)) {
			c->state = CHANNEL_OPEN;
			channel_send_close(c);
		} else if (!c->remote_closed) {
			channel_delete(c); /* refused: no channel, no CLOSE */
			return false;
		}
	}
	if (c->resume) {
		c->resume = false;
		channel_deliver(c);
	}
	if (c->widen && c->state == CHANNEL_OPEN && !c->stalled && !c->unread && !c->backlog &&
	    !c->eof_in && !c->close_told) {
		c->widen = false;
		channel_widen(c);
	}
	if (c->eof_in && !c->unread && !c->backlog && !c->eof_told && !c->close_told) {
		c->eof_told = true;
		if (c->ops->eof)
			c->ops->eof(c->user, c);
	}
	if (c->remote_closed && c->unread && !c->backlog)
		channel_take_backlog(c, 0); /* libssh answers CLOSE once its buffer is empty */
	if (c->remote_closed && (c->eof_told || c->close_told) && !c->unread && !c->backlog) {
		channel_send_close(c);
		channel_tell_close(c);
		channel_delete(c);
		return false;
	}
	if (c->close_told && (c->state == CHANNEL_ASKED || c->state == CHANNEL_NEW)) {
		channel_delete(c);
		return false;
	}
	if (c->eof_out && !c->eof_sent && c->state == CHANNEL_OPEN) {
		c->eof_sent = true;
		alk_ssh_enter(c->s);
		ssh_channel_send_eof(c->ch);
		alk_ssh_leave(c->s);
	}
	return true;
}

void alk_ssh_channels_work(struct alk_ssh *s)
{
	int rounds = 1000;

	while (s->work && !s->dying && rounds-- > 0) {
		struct alk_channel *c = s->work;

		s->work = c->next_work;
		c->working = false;
		channel_work(c);
	}
}

void alk_ssh_channels_scan(struct alk_ssh *s)
{
	struct alk_channel *c, *next;
	bool news = s->raw.in_packets != s->scanned;

	s->scanned = s->raw.in_packets;
	s->starved = false;
	for (c = s->channels; c && !s->dying; c = next) {
		next = c->next;
		if (c->state == CHANNEL_ASKING) {
			/* Asking the library costs as much as an open. */
			if (news)
				channel_work(c);
		} else if (c->want_drain) {
			c->want_drain = false;
			if (alk_channel_room(c) > 0 && c->ops->drain)
				c->ops->drain(c->user, c);
		}
	}
}

bool alk_ssh_channels_closing(const struct alk_ssh *s)
{
	const struct alk_channel *c = s->channels;

	while (c && (c->state != CHANNEL_CLOSING || c->remote_closed))
		c = c->next;
	return c != NULL;
}

void alk_ssh_channels_end(struct alk_ssh *s)
{
	while (s->channels) {
		struct alk_channel *c = s->channels;

		/* The session is over: what came is still handed on, as far as it is taken. */
		if (c->state == CHANNEL_ASKING && !c->opened_told && c->ops->refused)
			c->ops->refused(c->user, c, ALK_OPEN_GONE, "the session ended");
		if (c->state == CHANNEL_ASKED && c->asked) {
			ssh_message_free(c->asked);
			c->asked = NULL;
		}
		channel_tell_close(c);
		/* Freed by libssh with its session: ssh_channel_free would send an EOF, and what
		 * was cut off would look whole to the peer. */
		if (c->ch)
			ssh_remove_channel_callbacks(c->ch, &c->cb);
		c->ch = NULL;
		channel_delete(c);
	}
	s->work = NULL;
}

/* ---- the owner's side ------------------------------------------------------------------------ */

size_t alk_channel_room(struct alk_channel *c)
{
	struct alk_ssh *s = c->s;
	/* Where there are others, they must not wait long behind this one. */
	size_t room, batch = s->n_channels > 1 && s->batch > SHARED_MAX ? SHARED_MAX : s->batch;

	if (c->state != CHANNEL_OPEN || c->eof_out || c->close_wanted || c->remote_closed ||
	    s->dying)
		return 0;
	if (s->depth > 0 || s->queued + PACKET_DATA > batch) {
		c->want_drain = s->starved = true;
		if (s->depth > 0)
			alk_ssh_wrote(s);
		return 0;
	}
	room = ssh_channel_window_size(c->ch);
	if (room > batch - s->queued)
		room = batch - s->queued;
	if (room == 0)
		c->want_drain = true;
	/* Whole packets, so that a full read does not end in a packet of a few bytes. */
	if (room > PACKET_DATA)
		room -= room % PACKET_DATA;
	return room;
}

ssize_t alk_channel_write(struct alk_channel *c, const void *bytes, size_t n)
{
	struct alk_ssh *s = c->s;
	size_t room;
	int rc;

	if (c->state != CHANNEL_OPEN || c->eof_out || c->close_wanted || c->remote_closed ||
	    s->dying)
		return -EPIPE;
	room = alk_channel_room(c);
	if (room < n)
		c->want_drain = s->starved = true;
	else
		room = n;
	if (room == 0)
		return 0;
	alk_ssh_hold(s);
	alk_ssh_enter(s);
	rc = ssh_channel_write(c->ch, bytes, (uint32_t)room);
	alk_ssh_leave(s);
	if (rc < 0) {
		if (ssh_get_status(s->ssh) & (SSH_CLOSED | SSH_CLOSED_ERROR))
			alk_ssh_die(s, -ECONNRESET, "connection lost");
		return -EPIPE;
	}
	c->bytes_out += (uint64_t)rc;
	s->sent += (uint64_t)rc;
	alk_count(ALK_M_CHANNEL_BYTES_OUT, rc);
	if ((size_t)rc < n)
		c->want_drain = true;
	if (ssh_get_status(s->ssh) & SSH_WRITE_PENDING)
		s->queued += (size_t)rc + 64;
	else
		s->queued = 0;
	/* The turn flushes, and looks after what a write may have dispatched. */
	alk_ssh_wrote(s);
	return rc;
}

void alk_channel_eof(struct alk_channel *c)
{
	if (c->eof_out)
		return;
	c->eof_out = true;
	channel_work_later(c);
}

void alk_channel_resume(struct alk_channel *c)
{
	c->resume = true;
	channel_work_later(c);
}

void alk_channel_close(struct alk_channel *c)
{
	if (c->close_wanted)
		return;
	c->close_wanted = true;
	channel_work_later(c);
}

int alk_channel_attach(struct alk_channel *c, int *fd)
{
	int rc = alk_channel_accept(c);

	if (rc < 0) {
		alk_fd_close(fd);
		return rc;
	}
	return alk_pump_start(c, fd, NULL, NULL, 0, NULL, NULL);
}

void alk_channel_set_ops(struct alk_channel *c, const struct alk_channel_ops *ops, void *user)
{
	c->ops = ops ? ops : &ops_none;
	c->user = user;
}

void alk_channel_set_user(struct alk_channel *c, const struct alk_channel_ops *ops, void *user)
{
	if (c->ops == ops)
		c->user = user;
}

void alk_channel_hold(const struct alk_channel *c)
{
	alk_ssh_hold(c->s);
}

const struct alk_channel_ops *alk_channel_get_ops(const struct alk_channel *c)
{
	return c->ops;
}

uint64_t alk_channel_id(const struct alk_channel *c)
{
	return c->id;
}

const struct alk_identity *alk_channel_identity(const struct alk_channel *c)
{
	return c->s->grant ? &c->s->grant->identity : NULL;
}

const struct alk_link *alk_channel_link(const struct alk_channel *c)
{
	return c->s->from ? c->s->from->link : NULL;
}

uint64_t alk_channel_session(const struct alk_channel *c)
{
	return c->s->from ? c->s->from->id : 0;
}

struct alk_policy *alk_channel_policy(const struct alk_channel *c,
				      const struct alk_route_session **from)
{
	*from = c->s->from;
	return c->s->policy;
}

struct alk_loop *alk_channel_loop(const struct alk_channel *c)
{
	return c->s->loop;
}

void alk_channel_get_info(const struct alk_channel *c, struct alk_channel_info *info)
{
	info->id = c->id;
	info->open = c->state == CHANNEL_OPEN;
	info->eof_in = c->eof_in;
	info->eof_out = c->eof_out;
	info->bytes_in = c->bytes_in;
	info->bytes_out = c->bytes_out;
	info->age = (double)(alk_loop_now(c->s->loop) - c->since) / 1000;
}

struct alk_channel *alk_ssh_channel_next(const struct alk_ssh *s, const struct alk_channel *after)
{
	return after ? after->next : s->channels;
}
