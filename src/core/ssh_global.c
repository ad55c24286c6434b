/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Global requests of ours that want an answer: forwards that a client asks for, and keepalives.
 *
 * libssh has one place for all of them: a call while another request waits for its answer sends
 * nothing and takes that one's answer for its own. So one is under way at a time, and who it was is
 * kept here.
 *
 *   FREE ─ping─▶ PING ─answered─▶ FREE ─a request waits─▶ ASKED ─answered─▶ FREE */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <libssh/server.h>
#include "readahead.h"
#include "ssh_session.h"

enum global_slot {
	SLOT_FREE,
	SLOT_PING,
	SLOT_ASKED,
};

struct alk_ssh_listen {
	struct alk_ssh_listen *next;
	alk_ssh_listened_fn *done; /* NULL: nobody wants to know any more */
	void *user;
	bool cancel;
	uint16_t port;
	char host[];
};

static int global_call(struct alk_ssh *s, const struct alk_ssh_listen *l, int *bound)
{
	int rc;

	alk_ssh_enter(s);
	rc = l->cancel ? ssh_channel_cancel_forward(s->ssh, l->host, l->port)
		       : ssh_channel_listen_forward(s->ssh, l->host, l->port, bound);
	alk_ssh_leave(s);
	return rc;
}

/* `bound` begins as -1: the library has set it when it looked for a port, so the answer was yes,
 * whatever it returned after that. */
static void global_finish(struct alk_ssh *s, int rc, int bound, bool certain)
{
	struct alk_ssh_listen *l = s->listens;
	uint16_t port = l->port;
	bool granted = rc == SSH_OK || bound >= 0;

	s->slot = SLOT_FREE;
	s->listens = l->next;
	/* The library looks for the port in whatever packet it read last: it is not believed when
	 * there were others beside the answer, as there may be in a program without read-ahead. */
	if (l->port == 0)
		port = certain && bound > 0 && bound <= UINT16_MAX ? (uint16_t)bound : 0;
	if (l->done)
		l->done(l->user, granted ? 0 : -EACCES, port);
	free(l);
}

/* Is the answer there? */
static void global_collect(struct alk_ssh *s)
{
	bool certain;
	int rc, bound = -1;

	if (s->slot == SLOT_PING) {
		/* Any call takes it, and only this one tells. Nothing is sent: the place is
		 * taken. */
		alk_ssh_enter(s);
		rc = ssh_channel_cancel_forward(s->ssh, "", 0);
		alk_ssh_leave(s);
		if (rc != SSH_AGAIN)
			s->slot = SLOT_FREE;
		s->global_seen = s->raw.in_packets;
		return;
	}
	rc = global_call(s, s->listens, &bound);
	certain = s->raw.in_packets - s->global_seen == 1;
	s->global_seen = s->raw.in_packets;
	if (rc != SSH_AGAIN)
		global_finish(s, rc, bound, certain);
}

void alk_ssh_global_step(struct alk_ssh *s)
{
	int rc, bound = -1;
	bool sips;

	if (s->slot != SLOT_FREE && s->raw.in_packets != s->global_seen)
		global_collect(s);
	while (s->slot == SLOT_FREE && s->listens && !s->dying) {
		s->global_seen = s->raw.in_packets;
		s->slot = SLOT_ASKED;
		rc = global_call(s, s->listens, &bound);
		if (rc != SSH_AGAIN)
			global_finish(s, rc, bound, s->raw.in_packets - s->global_seen == 1);
		s->global_seen = s->raw.in_packets;
	}
	/* sshd says which host keys it has right before the answer to the first request. */
	sips = s->slot == SLOT_ASKED && s->listens && s->listens->port == 0 && !s->listens->cancel;
	if (sips != s->sips)
		alk_readahead_sip(s->fd, sips);
	s->sips = sips;
}

void alk_ssh_ping(struct alk_ssh *s)
{
	if (s->slot == SLOT_PING)
		global_collect(s);
	if (s->slot != SLOT_FREE)
		return; /* a question is on its way already */
	s->slot = SLOT_PING;
	s->global_seen = s->raw.in_packets;
	alk_ssh_enter(s);
	ssh_send_keepalive(s->ssh);
	alk_ssh_leave(s);
}

static struct alk_ssh_listen *global_ask(struct alk_ssh *s, const char *host, uint16_t port,
					 bool cancel, alk_ssh_listened_fn *done, void *user)
{
	size_t len = strlen(host);
	struct alk_ssh_listen *l = calloc(1, sizeof(*l) + len + 1), **at = &s->listens;

	if (!l)
		return NULL;
	memcpy(l->host, host, len);
	l->port = port;
	l->cancel = cancel;
	l->done = done;
	l->user = user;
	while (*at)
		at = &(*at)->next;
	*at = l;
	s->global_due = true;
	alk_ssh_wrote(s);
	return l;
}

struct alk_ssh_listen *alk_ssh_listen(struct alk_ssh *s, const char *host, uint16_t port,
				      alk_ssh_listened_fn *done, void *user)
{
	return global_ask(s, host, port, false, done, user);
}

int alk_ssh_unlisten(struct alk_ssh *s, const char *host, uint16_t port)
{
	return global_ask(s, host, port, true, NULL, NULL) ? 0 : -ENOMEM;
}

void alk_ssh_listen_cancel(struct alk_ssh_listen **listen)
{
	if (*listen)
		(*listen)->done = NULL;
	*listen = NULL;
}

void alk_ssh_global_end(struct alk_ssh *s)
{
	while (s->listens) {
		struct alk_ssh_listen *l = s->listens;

		s->listens = l->next;
		if (l->done)
			l->done(l->user, -ENOTCONN, 0);
		free(l);
	}
	s->slot = SLOT_FREE;
}
