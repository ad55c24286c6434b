/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <poll.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <libssh/server.h>
#include "board.h"
#include "loop_private.h"
#include "readahead.h"
#include "ssh_session.h"
#include "text.h"
#include "window.h"

#define SSH_MAGIC 0x53534831u
/* Older ones lack fixes that a server cannot do without. The program is linked with whatever stands
 * there now, not with what it was built with. */
#define LIBSSH_OLDEST SSH_VERSION_INT(0, 10, 6)
/* dopolls a turn: 256 KiB with libssh's reads of 4096 bytes */
#define TURN_BUDGET 64
/* A peer that makes us queue more than this without reading is cut (replies to a request flood;
 * channel data stops far below). */
#define QUEUE_MAX (8u << 20)
/* What may wait in libssh's queue, besides: as much as the kernel takes at once, and little on a
 * link that is slower than its writers, because whoever writes next waits behind it. */
#define BATCH_MIN (64u * 1024)
#define BATCH_MAX (512u * 1024)
#define UNSENT_MAX (128 * 1024)
/* Packets that may wait for others to go with do so for this long, while so little comes in that no
 * window runs out meanwhile (the library opens one with 64000 bytes and again when 640000 are
 * left). */
#define LATER_MS 5
/* The same before the login is over: what may wait there goes with an answer that the peer is about
 * to ask for, and a stock ssh looks through its keys first. */
#define LATER_LOGIN_MS 200
#define LATER_BYTES 4096
#define WINDOW_ADJUST_BYTES 9
/* A bulk transfer into a program that has its own thread for it: a turn for each few packets wakes
 * two threads each time. After so many bytes in turns of so many, none of which waited long for the
 * next, the kernel gathers; when it has not that much together in GATHER_MS it is over. */
#define GATHER_AFTER (512u * 1024)
#define GATHER_MIN 4096u
#define GATHER_MS 2
#define GATHER_BYTES (128 * 1024)
/* A KEXINIT has more payload than this. So many exchanges a minute are allowed, and one more for
 * each of so many bytes that a session moved in it. */
#define KEXINIT_MIN 256
#define REKEYS_MAX 120
#define REKEY_BYTES (256u * 1024)

static void ssh_end(struct alk_ssh *s);
static void on_later(void *user);
static void on_gathered(void *user);

void alk_ssh_hold(const struct alk_ssh *s)
{
	if (s->link != atomic_load_explicit(&alk_board_self->in_hand_link, memory_order_relaxed))
		alk_board_hand(s->link, s->remote_addr, s->grant ? s->grant->identity.id : "");
}

/* Was it the peer's bytes that ended it, and not that it left? The library gives a socket that was
 * closed a sentence of its own; some protocol errors have none. */
static bool ssh_broken(const struct alk_ssh *s)
{
	const char *error = ssh_get_error(s->ssh);

	return !strstr(error, "Socket error") && !strstr(error, "SSH_MSG_DISCONNECT");
}

/* The connection is gone; a peer that said why is quoted. (libssh has a function for that, which
 * answers only when it was us who left.) */
static void ssh_lost(struct alk_ssh *s)
{
	static const char mark[] = "SSH_MSG_DISCONNECT: ";
	const char *said = strstr(ssh_get_error(s->ssh), mark);
	char text[100];

	s->broken = ssh_broken(s);
	said = said ? strchr(said + strlen(mark), ':') : NULL;
	if (!said || !said[1]) {
		alk_ssh_die(s, -ECONNRESET, "connection lost");
		return;
	}
	alk_text_escape(said + 1, strlen(said + 1), text, sizeof(text));
	alk_ssh_die(s, -ECONNRESET, "the peer ended the session: %s", text);
}

static void ssh_left(struct alk_ssh *s)
{
	s->depth--;
	if (s->serves && s->depth == 0)
		alk_pkey_keep_work(false);
}

void alk_ssh_leave(struct alk_ssh *s)
{
	ssh_left(s);
	if (s->fd < 0 || ssh_get_fd(s->ssh) == s->fd)
		return;
	alk_io_free(&s->io);
	alk_readahead_remove(s->fd);
	s->fd = -1;
	ssh_lost(s);
}

static size_t ssh_queued(const struct alk_ssh *s)
{
	uint64_t made = s->raw.out_bytes + 48 * s->raw.out_packets;

	return made > s->sock.out_bytes ? made - s->sock.out_bytes : 0;
}

/* A key exchange cannot be seen through the library, but while it dispatches we write nothing, and
 * nothing else that it sends by itself (window adjusts, answers of a byte) is as long as its
 * KEXINIT. */
static void ssh_judge_rekey(struct alk_ssh *s, uint64_t packets, uint64_t bytes)
{
	uint64_t moved = s->sock.in_bytes + s->sent;

	if (!s->up || packets == 0 || bytes < KEXINIT_MIN || bytes / packets < KEXINIT_MIN / 4)
		return;
	if (alk_loop_now(s->loop) - s->rekeys_since > 60000) {
		s->rekeys_since = alk_loop_now(s->loop);
		s->rekeys = 0;
		s->moved = moved;
	}
	if (++s->rekeys > REKEYS_MAX + (moved - s->moved) / REKEY_BYTES) {
		alk_count(ALK_M_SESSIONS_KILLED, 1);
		alk_ssh_die(s, -EPROTO, "too many key exchanges in a minute");
	}
}

void alk_ssh_took(struct alk_ssh *s, uint64_t ms)
{
	/* 0 = not known */
	uint32_t took = ms < 1 ? 1 : ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms;

	if (!s->rtt_ms || took < s->rtt_ms)
		s->rtt_ms = took;
}

/* The round trip, as the login shows it over any transport, relay or proxy; a user who is asked for
 * a passphrase makes some answers late, not all. A busy peer may make all of the few late: a
 * channel that is opened shows it again. */
static void ssh_answered(struct alk_ssh *s)
{
	uint64_t took = alk_loop_now(s->loop) - s->said_at;

	/* In no time came what was on its way already. */
	if (s->said_at && took > 0)
		alk_ssh_took(s, took);
	s->said_at = 0;
}

/* Any byte is a sign of life, whichever call of the library read it. */
static void ssh_hear(struct alk_ssh *s)
{
	if (s->sock.in_bytes == s->heard)
		return;
	s->heard = s->sock.in_bytes;
	s->idle_since = alk_loop_now(s->loop);
	ssh_answered(s);
}

static void ssh_dispatch(struct alk_ssh *s)
{
	uint64_t packets = s->raw.out_packets, bytes = s->raw.out_bytes;
	int budget = TURN_BUDGET, rc = SSH_OK;

	/* What was read is also handed on: an owner that gathers packets counts on the rest of
	 * them. */
	while (rc >= 0 && (budget-- > 0 || alk_readahead_left(s->fd) > 0) && !s->dying) {
		alk_ssh_enter(s);
		rc = ssh_event_dopoll(s->event, 0);
		alk_ssh_leave(s);
		/* Before more packets come: the library finds the port of a forward in the last
		 * one. */
		if (s->listens && rc >= 0 && !s->dying)
			alk_ssh_global_step(s);
	}
	if (rc == SSH_ERROR || (ssh_get_status(s->ssh) & (SSH_CLOSED | SSH_CLOSED_ERROR))) {
		ssh_lost(s);
		return;
	}
	ssh_hear(s);
	packets = s->raw.out_packets - packets;
	bytes = s->raw.out_bytes - bytes;
	ssh_judge_rekey(s, packets, bytes);
	if (bytes == packets * WINDOW_ADJUST_BYTES)
		alk_ssh_may_wait(s, packets);
}

void alk_ssh_may_wait(struct alk_ssh *s, uint64_t packets)
{
	s->patient += packets;
}

/* Is all that is queued of the kind that may wait? `came` bytes came in this turn. */
static bool ssh_waits(struct alk_ssh *s, uint64_t came)
{
	if (!s->ahead || s->finishing || s->patient == 0 || s->patient != s->raw.out_packets ||
	    came >= LATER_BYTES)
		return false;
	if (!s->later)
		s->later = alk_timer_new(s->loop, "ssh later", on_later, s);
	if (s->later && !alk_timer_active(s->later))
		alk_timer_start(s->later, s->up ? LATER_MS : LATER_LOGIN_MS);
	return s->later != NULL;
}

/* Leave nothing in libssh's queue that the kernel would take, and wait for the kernel if it is
 * full. */
static void ssh_flush(struct alk_ssh *s, uint64_t came)
{
	int events = ALK_IO_READ;

	if (ssh_waits(s, came))
		return;
	s->patient = 0;
	if (s->later)
		alk_timer_stop(s->later);
	if (s->event && (ssh_get_status(s->ssh) & SSH_WRITE_PENDING)) {
		alk_readahead_cork(s->fd, false);
		alk_ssh_enter(s);
		if (ssh_event_dopoll(s->event, 0) == SSH_ERROR)
			ssh_lost(s);
		alk_ssh_leave(s);
		alk_readahead_cork(s->fd, true);
		if (!s->direct)
			alk_loop_wrote(s->loop, s->fd);
		if (s->lockstep && !s->up)
			s->said_at = alk_loop_now(s->loop);
	}
	if (ssh_get_status(s->ssh) & SSH_WRITE_PENDING) {
		if (!s->direct)
			events |= ALK_IO_WRITE;
		if (s->batch > BATCH_MIN)
			s->batch /= 2;
		if (ssh_queued(s) > QUEUE_MAX && !s->dying) {
			alk_count(ALK_M_SESSIONS_KILLED, 1);
			alk_ssh_die(s, -ENOBUFS, "the peer does not read our answers");
		}
	} else {
		if (s->queued + BATCH_MIN / 2 >= s->batch && s->batch < BATCH_MAX)
			s->batch *= 2;
		s->queued = 0;
		s->handed += s->sock.out_bytes;
		s->raw.out_bytes = s->raw.out_packets = s->sock.out_bytes = 0;
	}
	if (s->io)
		alk_io_set(s->io, events);
}

static void ssh_step(struct alk_ssh *s)
{
	int rc;

	if (s->dying || (s->up && s->raw.in_packets == s->stepped))
		return;
	rc = s->ops->step(s->user);
	s->stepped = s->raw.in_packets;
	if (rc < 0) {
		s->broken = rc == -EPROTO && ssh_broken(s);
		alk_ssh_die(s, rc, "%s", "protocol error");
	}
}

/* `came` bytes came in this turn. */
static void ssh_gather(struct alk_ssh *s, uint64_t came)
{
	uint64_t now = alk_loop_now(s->loop);

	if (!s->up || !s->ahead || came == 0 || !alk_loop_is_guest(s->loop))
		return;
	if (came < GATHER_MIN || now - s->bulk_at > GATHER_MS)
		s->bulk = 0;
	s->bulk += came;
	s->bulk_at = now;
	if (s->bulk < GATHER_AFTER)
		return;
	if (!s->gather)
		s->gather = alk_timer_new(s->loop, "ssh gather", on_gathered, s);
	if (!s->gather)
		return;
	alk_timer_start(s->gather, GATHER_MS);
	if (!s->gathers)
		alk_ssh_wake_at(s, GATHER_BYTES);
	s->gathers = true;
}

static void ssh_turn(struct alk_ssh *s, int events)
{
	uint64_t came = s->sock.in_bytes;

	if (s->turning || s->dead)
		return;
	s->turning = true;
	alk_ssh_hold(s);
	/* A server says its banner before it reads anything. */
	if (s->event || !s->serves)
		alk_readahead_ready(s->fd, events);
	if (!s->event)
		ssh_step(s);
	if (s->event && !s->dying && (!s->ahead || alk_readahead_more(s->fd)))
		ssh_dispatch(s);
	ssh_step(s);
	if (!s->dying && s->global_due) {
		s->global_due = false;
		alk_ssh_global_step(s);
	}
	if (!s->dying) {
		alk_ssh_channels_scan(s);
		alk_ssh_channels_work(s);
		came = s->sock.in_bytes - came;
		ssh_flush(s, came);
		ssh_gather(s, came);
	}
	if (!s->dying && (ssh_get_status(s->ssh) & (SSH_CLOSED | SSH_CLOSED_ERROR)))
		ssh_lost(s);
	/* A flush may have made room, or brought packets in. */
	if (!s->dying && (s->work || s->raw.in_packets != s->stepped ||
			  (s->starved && s->queued == 0) || alk_readahead_more(s->fd)))
		alk_task_yield(s->loop, &s->again);
	if (!s->dying && s->finishing && !(ssh_get_status(s->ssh) & SSH_WRITE_PENDING) &&
	    !alk_ssh_channels_closing(s))
		alk_ssh_die(s, 0, "%s", s->why);
	s->turning = false;
}

static struct alk_ssh *ssh_of(void *user)
{
	struct alk_ssh *s = user;

	assert(s->magic == SSH_MAGIC);
	return s;
}

static void on_ready(void *user, int events)
{
	struct alk_ssh *s = ssh_of(user);

	ssh_turn(s, events);
}

static void on_again(void *user)
{
	struct alk_ssh *s = ssh_of(user);

	ssh_turn(s, 0);
}

static void on_later(void *user)
{
	struct alk_ssh *s = ssh_of(user);

	s->patient = 0;
	ssh_turn(s, 0);
}

static void on_gathered(void *user)
{
	struct alk_ssh *s = ssh_of(user);

	s->bulk = 0;
	s->gathers = false;
	alk_ssh_wake_at(s, 1);
	ssh_turn(s, ALK_IO_READ);
}

static void on_last(void *user)
{
	struct alk_ssh *s = ssh_of(user);

	alk_ssh_die(s, 0, "%s", s->why);
}

static void on_task(void *user)
{
	struct alk_ssh *s = ssh_of(user);

	if (s->dying && !s->dead) {
		s->dead = true;
		ssh_end(s);
		s->ops->dead(s->user, s->rc, s->why);
		return; /* s may be gone */
	}
	ssh_turn(s, 0);
}

int alk_ssh_check_library(struct alk_err *err)
{
	if (ssh_version(LIBSSH_OLDEST))
		return 0;
	return alk_err_set(err, -EINVAL, "libssh %s is too old: 0.10.6 or newer is needed",
			   ssh_version(0));
}

int alk_ssh_init(struct alk_ssh *s, struct alk_loop *loop, const struct alk_ssh_ops *ops,
		 void *user, struct alk_err *err)
{
	bool no = false;

	memset(s, 0, sizeof(*s));
	s->magic = SSH_MAGIC;
	s->fd = -1;
	s->loop = loop;
	s->ops = ops;
	s->user = user;
	s->max_channels = 256;
	s->batch = 2 * BATCH_MIN;
	s->next_channel = 1;
	s->task.fn = on_task;
	s->task.user = s;
	s->ssh = ssh_new();
	s->again = (struct alk_task){.fn = on_again, .user = s};
	if (!s->ssh) {
		alk_ssh_deinit(s);
		return alk_err_set(err, -ENOMEM, "out of memory for a session");
	}
	ssh_set_blocking(s->ssh, 0);
	ssh_options_set(s->ssh, SSH_OPTIONS_PROCESS_CONFIG, &no);
	ssh_options_set(s->ssh, SSH_OPTIONS_COMPRESSION_C_S, "none");
	ssh_options_set(s->ssh, SSH_OPTIONS_COMPRESSION_S_C, "none");
	ssh_set_counters(s->ssh, &s->sock, &s->raw);
	return 0;
}

int alk_ssh_start(struct alk_ssh *s, int fd, struct alk_err *err)
{
	s->fd = fd;
	s->idle_since = alk_loop_now(s->loop);
	s->io = alk_io_new(s->loop, fd, "ssh", on_ready, s);
	if (!s->io || alk_readahead_add(fd) < 0)
		return alk_err_set(err, -ENOMEM, "out of memory for a session");
	s->ahead = alk_readahead_active(fd);
	alk_io_set(s->io, ALK_IO_READ);
	s->direct = alk_readahead_direct(fd, on_ready, s);
	return 0;
}

void alk_ssh_wake_at(struct alk_ssh *s, int bytes)
{
	if (s->fd >= 0)
		setsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes));
}

int alk_ssh_attach(struct alk_ssh *s)
{
	if (s->event)
		return 0;
	s->event = ssh_event_new();
	if (!s->event || ssh_event_add_session(s->event, s->ssh) != SSH_OK)
		return -ENOMEM;
	alk_readahead_cork(s->fd, true);
	return 0;
}

void alk_ssh_up(struct alk_ssh *s)
{
	int unsent = UNSENT_MAX;

	s->up = true;
	s->lockstep = false;
	/* A far link's kernel would queue megabytes, and whoever writes next waits behind them. Not
	 * every link is TCP. */
	if (s->rtt_ms >= ALK_WINDOW_NEAR_MS)
		setsockopt(s->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
}

/* A peer that broke the protocol gets what was said to it before; nothing more of it is read. Why
 * the session ends is known by now, so this is no matter for alk_ssh_leave. */
static void ssh_flush_last(struct alk_ssh *s)
{
	if (!s->event || s->fd < 0 || !(ssh_get_status(s->ssh) & SSH_WRITE_PENDING) || !s->ahead)
		return;
	alk_readahead_deafen(s->fd);
	alk_ssh_enter(s);
	ssh_event_dopoll(s->event, 0);
	ssh_left(s);
}

/* Channels first, then the library; the owner still has `s`. */
static void ssh_end(struct alk_ssh *s)
{
	alk_io_free(&s->io);
	alk_timer_free(&s->last);
	alk_timer_free(&s->later);
	alk_timer_free(&s->gather);
	alk_task_cancel(s->loop, &s->again);
	alk_ssh_global_end(s);
	alk_ssh_channels_end(s);
	if (s->event && s->rc == 0 && s->ssh) {
		/* Room for the DISCONNECT: libssh sends only after it saw POLLOUT. */
		alk_readahead_cork(s->fd, false);
		alk_ssh_enter(s);
		ssh_event_dopoll(s->event, 0);
		alk_ssh_leave(s);
		ssh_session_set_disconnect_message(s->ssh, s->why[0] ? s->why : "closed");
		/* What was given to it as an option it would forget without closing it. */
		ssh_options_set(s->ssh, SSH_OPTIONS_FD, NULL);
		ssh_disconnect(s->ssh);
	}
	if (s->rc < 0)
		ssh_flush_last(s);
	if (s->fd >= 0) {
		alk_readahead_remove(s->fd);
		alk_loop_unpair(s->loop, s->fd);
	}
	if (s->event) {
		ssh_event_remove_session(s->event, s->ssh);
		ssh_event_free(s->event);
		s->event = NULL;
	}
	if (s->ssh) {
		/* ssh_free alone would leave the socket to a peer that never closes its end. */
		ssh_silent_disconnect(s->ssh);
		ssh_free(s->ssh);
		s->ssh = NULL;
	}
	s->fd = -1;
}

void alk_ssh_deinit(struct alk_ssh *s)
{
	if (s->magic != SSH_MAGIC)
		return;
	s->dying = s->dead = true;
	alk_task_cancel(s->loop, &s->task);
	ssh_end(s);
	alk_grant_unref(&s->grant);
	free(s->reasons);
	s->magic = 0;
}

void alk_ssh_die(struct alk_ssh *s, int rc, const char *fmt, ...)
{
	va_list ap;
	char why[sizeof(s->why)];

	if (s->dying)
		return;
	s->dying = true;
	s->rc = rc;
	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	memcpy(s->why, why, sizeof(why));
	if (s->io)
		alk_io_set(s->io, 0);
	alk_task_queue(s->loop, &s->task);
}

void alk_ssh_finish(struct alk_ssh *s, const char *why)
{
	if (s->dying || s->finishing)
		return;
	s->finishing = true;
	snprintf(s->why, sizeof(s->why), "%s", why);
	s->last = alk_timer_new(s->loop, "ssh finish", on_last, s);
	if (s->last)
		alk_timer_start(s->last, 2000);
	alk_task_queue(s->loop, &s->task);
}

void alk_ssh_wrote(struct alk_ssh *s)
{
	if (!s->turning && !s->dead)
		alk_task_queue(s->loop, &s->task);
}

/* A long upload over a slow link may leave no room for an answer, but it moves: what the peer's
 * kernel has acknowledged is a sign of life as long as more is on its way behind it. (When nothing
 * is, our question has arrived, and a peer that lives answers.) */
static void ssh_look_for_progress(struct alk_ssh *s)
{
	uint64_t left = s->fd >= 0 ? alk_readahead_unsent(s->fd) : 0,
		 handed = s->handed + s->sock.out_bytes;
	uint64_t gone = handed > left ? handed - left : 0;

	ssh_hear(s);
	if (left > 0 && gone > s->gone && s->gone > 0)
		s->idle_since = alk_loop_now(s->loop);
	s->gone = gone;
}

/* The loop may have been late: what came meanwhile waits for its turn. */
static bool ssh_has_input(const struct alk_ssh *s)
{
	struct pollfd poll_fd = {.fd = s->fd, .events = POLLIN};

	alk_readahead_ready(s->fd, ALK_IO_READ); /* it would answer from what it knows */
	return s->fd >= 0 && poll(&poll_fd, 1, 0) > 0;
}

uint64_t alk_ssh_keepalive(struct alk_ssh *s, uint64_t every, uint64_t limit)
{
	uint64_t now = alk_loop_now(s->loop), idle = now - s->idle_since;

	if (s->dying)
		return every;
	if (idle < every) {
		s->gone = 0; /* the first look of a silence only remembers */
		return every - idle;
	}
	ssh_look_for_progress(s);
	idle = now - s->idle_since;
	if (s->asked_at <= s->idle_since)
		s->asked_at = now;
	if (idle >= limit && now - s->asked_at >= every && !ssh_has_input(s)) {
		alk_ssh_die(s, -ETIMEDOUT, "the peer does not answer");
		return every;
	}
	/* When no answer comes nothing more is sent, and the silence above decides. */
	alk_ssh_ping(s);
	alk_ssh_wrote(s);
	/* Progress is looked for more often than questions are asked. */
	if (idle >= limit)
		return every / 8 + 1;
	return limit - idle < every / 8 + 1 ? limit - idle : every / 8 + 1;
}

void alk_ssh_missed(struct alk_ssh *s, uint64_t ms)
{
	uint64_t now = alk_loop_now(s->loop);
	bool asked = s->asked_at > s->idle_since;

	s->idle_since -= ms < s->idle_since ? ms : s->idle_since;
	/* The answer may have come when nobody heard it, and comes once more: as much time again,
	 * or all of it. */
	if (asked)
		s->asked_at = ms < now - s->asked_at ? s->asked_at + ms : now;
	else
		s->asked_at = 0;
}

void alk_ssh_set_grant(struct alk_ssh *s, struct alk_grant *grant)
{
	alk_grant_unref(&s->grant);
	s->grant = alk_grant_ref(grant);
	alk_board_hand(s->link, s->remote_addr, grant->identity.id);
}
