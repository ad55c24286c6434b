/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* One request of HTTP/1.1 (RFC 9112) a channel. */
#include "worker.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "http_head.h"

/* Nothing is loaded from elsewhere, and no other site may look into it. */
#define FIELDS                                                                                     \
	"Cache-Control: no-store\r\n"                                                              \
	"Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; script-src "      \
	"'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'\r\n"         \
	"Referrer-Policy: no-referrer\r\n"                                                         \
	"X-Content-Type-Options: nosniff\r\n"                                                      \
	"Connection: close\r\n"

static struct status_channel *channel_of(void *user)
{
	struct status_channel *c = user;

	assert(c->magic == STATUS_CHANNEL_MAGIC);
	return c;
}

static bool out_pending(const struct status_channel *c)
{
	return c->written < c->out_len;
}

static void out_flush(struct status_channel *c)
{
	ssize_t n = 0;

	while (out_pending(c)) {
		n = alk_channel_write(c->channel, c->out + c->written, c->out_len - c->written);
		if (n <= 0)
			break;
		c->written += (size_t)n;
		c->since = alk_loop_now(c->worker->loop);
	}
	if (n < 0) {
		alk_channel_close(c->channel);
		return;
	}
	if (!out_pending(c) && c->state == STATUS_ANSWERED)
		alk_channel_eof(c->channel);
}

/* Takes `text`, which may be NULL for want of memory; what was there was written. */
static void out_set(struct status_channel *c, char *text, int len)
{
	free(c->out);
	c->out = len < 0 ? NULL : text;
	c->written = 0;
	c->out_len = c->out != NULL ? (size_t)len : 0;
	if (c->out == NULL) {
		alk_channel_close(c->channel);
		return;
	}
	out_flush(c);
}

static void answer(struct status_channel *c, const char *status, const char *type, const char *more,
		   const char *body, size_t n)
{
	char *text = NULL;
	int len;

	c->state = STATUS_ANSWERED;
	len = asprintf(&text,
		       "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s" FIELDS
		       "\r\n%.*s",
		       status, type, n, more, c->head_only ? 0 : (int)n, body);
	out_set(c, text, len);
}

static void answer_text(struct status_channel *c, const char *status, const char *more)
{
	char body[128];
	int n = snprintf(body, sizeof(body), "%s\n", status);

	answer(c, status, "text/plain; charset=utf-8", more, body, (size_t)n);
}

static void events_begin(struct status_channel *c)
{
	static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" FIELDS
				   "\r\nretry: 3000\n\n";
	char *text;

	c->state = c->head_only ? STATUS_ANSWERED : STATUS_EVENTS;
	text = strdup(head);
	out_set(c, text, text != NULL ? (int)sizeof(head) - 1 : -1);
	status_worker_ask(c->worker);
}

static void request(struct status_channel *c, const struct alk_http_head *head)
{
	bool get = strcmp(head->method, "GET") == 0;

	c->head_only = strcmp(head->method, "HEAD") == 0;
	if (!get && !c->head_only) {
		answer_text(c, "405 Method Not Allowed", "Allow: GET, HEAD\r\n");
	} else if (strcmp(head->path, "/") == 0) {
		answer(c, "200 OK", "text/html; charset=utf-8", "", status_page, status_page_len);
	} else if (strcmp(head->path, "/status.json") == 0) {
		c->state = STATUS_WAITING;
		status_worker_ask(c->worker);
	} else if (strcmp(head->path, "/events") == 0) {
		events_begin(c);
	} else {
		answer_text(c, "404 Not Found", "");
	}
}

int status_channel_open(void *state, struct alk_channel *channel, const struct alk_destination *to,
			void **user, struct alk_err *err)
{
	struct status_worker *worker = state;
	struct status_channel *c;
	int rc;

	(void)to;
	assert(worker->magic == STATUS_WORKER_MAGIC);
	if (!alk_identity_has_scope(alk_channel_identity(channel), STATUS_SCOPE))
		return alk_err_set(err, -EACCES, "needs the scope " STATUS_SCOPE);
	if (worker->n_channels == STATUS_CHANNELS)
		return alk_err_set(err, -EBUSY, "%d pages of this worker are open",
				   STATUS_CHANNELS);
	c = calloc(1, sizeof(*c));
	if (c == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	rc = alk_channel_accept(channel);
	if (rc < 0) {
		free(c);
		return alk_err_set(err, rc, "the channel is gone");
	}
	c->magic = STATUS_CHANNEL_MAGIC;
	c->worker = worker;
	c->channel = channel;
	c->since = alk_loop_now(worker->loop);
	c->next = worker->channels;
	c->prev = &worker->channels;
	if (c->next != NULL)
		c->next->prev = &c->next;
	worker->channels = c;
	worker->n_channels++;
	if (!alk_timer_active(worker->tick))
		alk_timer_start(worker->tick, STATUS_EVERY_MS);
	*user = c;
	return 0;
}

size_t status_channel_data(void *user, struct alk_channel *channel, const uint8_t *bytes, size_t n)
{
	struct status_channel *c = channel_of(user);
	size_t room = sizeof(c->in) - c->in_len, take = n < room ? n : room;
	struct alk_http_head head;
	int rc;

	(void)channel;
	if (c->state != STATUS_HEAD)
		return n; /* the connection ends after one request; what follows is thrown away */
	memcpy(c->in + c->in_len, bytes, take);
	c->in_len += take;
	rc = alk_http_head_parse(c->in, c->in_len, &head);
	if (rc > 0)
		request(c, &head);
	else if (rc == -EFBIG || (rc == 0 && c->in_len == sizeof(c->in)))
		answer_text(c, "431 Request Header Fields Too Large", "");
	else if (rc < 0)
		answer_text(c, "400 Bad Request", "");
	return n;
}

void status_channel_drain(void *user, struct alk_channel *channel)
{
	(void)channel;
	out_flush(channel_of(user));
}

/* A peer that says no more may still read; one that never asked has nothing to read. */
void status_channel_eof(void *user, struct alk_channel *channel)
{
	const struct status_channel *c = channel_of(user);

	if (c->state == STATUS_HEAD || (c->state == STATUS_ANSWERED && !out_pending(c)))
		alk_channel_close(channel);
}

void status_channel_close(void *user, struct alk_channel *channel)
{
	struct status_channel *c = channel_of(user);

	(void)channel;
	*c->prev = c->next;
	if (c->next != NULL)
		c->next->prev = c->prev;
	c->worker->n_channels--;
	c->magic = 0;
	free(c->out);
	free(c);
}

void status_channel_snapshot(struct status_channel *c, const char *json, size_t n)
{
	char *text = NULL;

	if (c->state == STATUS_WAITING) {
		answer(c, "200 OK", "application/json", "", json, n);
	} else if (c->state == STATUS_EVENTS && !out_pending(c)) {
		/* One that has not read the last event misses this one. JSON text has no line end
		 * in it. */
		int len = asprintf(&text, "data: %.*s\n\n", (int)n, json);

		out_set(c, text, len);
	}
}

void status_channel_tick(struct status_channel *c)
{
	bool waits = c->state == STATUS_EVENTS && !out_pending(c);

	if (!waits && alk_loop_now(c->worker->loop) - c->since >= STATUS_HEAD_MS)
		alk_channel_close(c->channel);
}
