/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ssh_session.h"

#define REASONS 32

struct alk_reason {
	unsigned number;
	enum alk_open_failure why;
};

struct alk_reason_query {
	struct alk_channel *failed; /* NULL once cancelled */
	alk_reason_fn *done;
	char text[8];
	size_t len;
};

/* ---- server ---------------------------------------------------------------------------------- */

void alk_ssh_reason_keep(struct alk_ssh *s, unsigned number, enum alk_open_failure why)
{
	if (!s->reasons && !(s->reasons = calloc(REASONS, sizeof(*s->reasons))))
		return; /* the peer learns less */
	s->reasons[s->n_reasons++ % REASONS] = (struct alk_reason){.number = number, .why = why};
}

void alk_ssh_reason_answer(struct alk_ssh *s, struct alk_channel *channel, uint16_t port)
{
	enum alk_open_failure why = ALK_OPEN_CONNECT_FAILED;
	char text[8];
	unsigned i;

	for (i = 0; s->reasons && i < REASONS; i++)
		if ((uint16_t)s->reasons[i].number == port && s->reasons[i].why != ALK_OPEN_OK)
			why = s->reasons[i].why;
	snprintf(text, sizeof(text), "%d\n", (int)why);
	if (alk_channel_accept(channel) < 0)
		return;
	alk_channel_write(channel, text, strlen(text));
	alk_channel_eof(channel);
}

/* ---- client ---------------------------------------------------------------------------------- */

static size_t on_data(void *user, struct alk_channel *channel, const uint8_t *bytes, size_t n)
{
	struct alk_reason_query *q = user;
	size_t room = sizeof(q->text) - 1 - q->len;

	(void)channel;
	memcpy(q->text + q->len, bytes, n < room ? n : room);
	q->len += n < room ? n : room;
	return n;
}

static void on_eof(void *user, struct alk_channel *channel)
{
	(void)user;
	alk_channel_close(channel);
}

static void on_close(void *user, struct alk_channel *channel)
{
	struct alk_reason_query *q = user;
	int why = atoi(q->text);

	(void)channel;
	if (q->failed)
		q->done(q->failed, why >= ALK_OPEN_PROHIBITED && why < ALK_OPEN_GONE
					   ? (enum alk_open_failure)why
					   : ALK_OPEN_CONNECT_FAILED);
	free(q);
}

static const struct alk_channel_ops query_ops = {.data = on_data, .eof = on_eof, .close = on_close};

struct alk_reason_query *alk_ssh_reason_ask(struct alk_ssh *s, unsigned number, alk_reason_fn *done,
					    struct alk_channel *failed)
{
	struct alk_destination to = {.host = ALK_REASON_HOST,
				     .port = (uint16_t)number,
				     .originator = "127.0.0.1"};
	struct alk_reason_query *q = calloc(1, sizeof(*q));
	struct alk_channel *channel = q ? alk_ssh_channel_new(s, &query_ops, q) : NULL;

	if (!channel) {
		free(q);
		return NULL;
	}
	q->failed = failed;
	q->done = done;
	if (alk_ssh_channel_ask(channel, &to) < 0) {
		alk_ssh_reason_cancel(&q);
		alk_channel_close(channel);
		return NULL;
	}
	return q;
}

void alk_ssh_reason_cancel(struct alk_reason_query **query)
{
	if (*query)
		(*query)->failed = NULL;
	*query = NULL;
}
