/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "worker.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define OUT_FULL 65536 /* so much unread: nothing more is asked */

static struct secret_channel *channel_of(void *user)
{
	struct secret_channel *c = user;

	assert(c->magic == SECRET_CHANNEL_MAGIC);
	return c;
}

static bool has_any_scope(const struct alk_identity *identity)
{
	for (unsigned op = 0; op < SECRET_OPS; op++)
		if (alk_identity_has_scope(identity, secret_op_scope(op)))
			return true;
	return false;
}

/* A channel of port 1 has one request; one of port 0 may be silent, but not inside a frame. */
static void channel_on_timeout(void *user)
{
	alk_channel_close(channel_of(user)->channel);
}

static void channel_watch(struct secret_channel *c)
{
	bool busy = c->port == &secret_port1 || !frame_reader_idle(&c->frames) ||
		    c->out.len > c->written || c->last;

	if (!busy)
		alk_timer_stop(c->timer);
	else if (!alk_timer_active(c->timer))
		alk_timer_start(c->timer, SECRET_TIMEOUT_MS);
}

static int channel_new(struct secret_worker *worker, struct alk_channel *channel,
		       const struct secret_port *port, struct secret_channel **out)
{
	struct secret_channel *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return -ENOMEM;
	c->magic = SECRET_CHANNEL_MAGIC;
	c->worker = worker;
	c->channel = channel;
	c->port = port;
	frame_reader_init(&c->frames, FRAME_MAX_DEFAULT);
	c->timer = alk_timer_new(worker->loop, "secret channel", channel_on_timeout, c);
	if (c->timer == NULL) {
		free(c);
		return -ENOMEM;
	}
	c->next = worker->channels;
	c->prev = &worker->channels;
	if (c->next != NULL)
		c->next->prev = &c->next;
	worker->channels = c;
	*out = c;
	return 0;
}

int secret_channel_open(void *state, struct alk_channel *channel, const struct alk_destination *to,
			void **user, struct alk_err *err)
{
	struct secret_worker *worker = state;
	struct secret_channel *c;

	assert(worker->magic == SECRET_WORKER_MAGIC);
	if (channel_new(worker, channel, to->port == 1 ? &secret_port1 : &secret_port0, &c) < 0)
		return alk_err_set(err, -ENOMEM, "out of memory");
	*user = c;
	if (to->port > 1)
		alk_channel_refuse(channel, ALK_OPEN_PROHIBITED,
				   "the secret service has port 0 (JSON) and port 1 (binary)");
	else if (!has_any_scope(alk_channel_identity(channel)))
		alk_channel_refuse(channel, ALK_OPEN_PROHIBITED,
				   "the identity has no scope of the secret service");
	else if (alk_channel_accept(channel) == 0)
		channel_watch(c);
	return 0;
}

static void channel_flush(struct secret_channel *c)
{
	ssize_t n;

	if (c->ended)
		return;
	if (c->written < c->out.len) {
		n = alk_channel_write(c->channel, c->out.bytes + c->written,
				      c->out.len - c->written);
		if (n < 0) {
			alk_channel_close(c->channel);
			return;
		}
		c->written += (size_t)n;
		if (n > 0)
			alk_timer_stop(c->timer); /* the time begins again */
	}
	if (c->written == c->out.len) {
		secret_buf_wipe(&c->out);
		c->written = 0;
		if (c->last) {
			c->ended = true;
			alk_channel_eof(c->channel);
			if (c->peer_ended)
				alk_channel_close(c->channel);
		}
	}
	channel_watch(c);
}

void secret_channel_say(struct secret_channel *c, const void *bytes, size_t n, bool last)
{
	if (c->last)
		return;
	secret_buf_add(&c->out, bytes, n);
	if (c->out.failed) {
		alk_channel_close(c->channel);
		return;
	}
	c->last = last;
	alk_timer_stop(c->timer); /* a new 30 s for what is to be fetched */
	channel_flush(c);
}

size_t secret_channel_data(void *user, struct alk_channel *channel, const uint8_t *bytes, size_t n)
{
	struct secret_channel *c = channel_of(user);
	size_t taken;

	(void)channel;
	if (c->last)
		return n;
	if (c->asks >= SECRET_CALLS_MAX || c->out.len - c->written > OUT_FULL)
		return 0;
	taken = c->port->data(c, bytes, n);
	channel_watch(c);
	return taken;
}

void secret_channel_drain(void *user, struct alk_channel *channel)
{
	struct secret_channel *c = channel_of(user);

	channel_flush(c);
	alk_channel_resume(channel);
}

void secret_channel_eof(void *user, struct alk_channel *channel)
{
	struct secret_channel *c = channel_of(user);

	c->peer_ended = true;
	if (!c->last)
		c->port->eof(c);
	else if (c->ended)
		alk_channel_close(channel);
}
