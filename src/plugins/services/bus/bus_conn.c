/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "bus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define COUNTS_EVERY 1000 /* ms */
#define FLUSH_PARTS 256

struct packet *packet_new(const void *bytes, size_t n)
{
	struct packet *packet = malloc(sizeof(*packet) + n);

	if (packet == NULL)
		return NULL;
	packet->refs = 1;
	packet->wiped = false;
	packet->n = n;
	memcpy(packet->bytes, bytes, n);
	return packet;
}

struct packet *packet_ref(struct packet *packet)
{
	packet->refs++;
	return packet;
}

void packet_unref(struct packet **packet)
{
	if (*packet != NULL && --(*packet)->refs == 0) {
		if ((*packet)->wiped)
			explicit_bzero((*packet)->bytes, (*packet)->n);
		free(*packet);
	}
	*packet = NULL;
}

struct packet *packet_make(const char *type, const char *id, json_t *payload)
{
	struct packet *packet = NULL;
	size_t n;
	uint8_t *bytes = frame_make(type, id, payload, &n);

	if (bytes != NULL)
		packet = packet_new(bytes, n);
	if (packet != NULL)
		packet->wiped = true;
	frame_free(&bytes, n);
	return packet;
}

bool packet_fits(const struct bus *bus, const struct packet *packet)
{
	struct alk_err ignored;

	return packet->n <= bus->frame_max + 4 &&
	       frame_text_check(packet->bytes + 4, packet->n - 4, &ignored) == 0;
}

struct packet *packet_of(const struct frame_reader *reader)
{
	size_t n = reader->have - sizeof(reader->head);
	struct packet *packet = malloc(sizeof(*packet) + reader->have);

	if (packet == NULL)
		return NULL;
	packet->refs = 1;
	packet->wiped = false;
	packet->n = reader->have;
	memcpy(packet->bytes, reader->head, sizeof(reader->head));
	memcpy(packet->bytes + sizeof(reader->head), reader->body, n);
	return packet;
}

void bus_count(struct bus *bus, enum bus_counter counter, uint64_t n)
{
	bus->count[counter] += n;
	if (!alk_timer_active(bus->tell))
		alk_timer_start(bus->tell, COUNTS_EVERY);
}

const char *conn_identity(const struct conn *c)
{
	const struct alk_identity *identity = c->way->identity(c);

	return identity != NULL && identity->id != NULL ? identity->id : "";
}

/* The queue */

static void queue_pop(struct conn *c, struct queued **at)
{
	struct queued *q = *at;

	*at = q->next;
	if (*at == NULL)
		c->tail = at;
	if (c->oldest == &q->next)
		c->oldest = at;
	c->bytes -= q->packet->n;
	if (!q->event)
		c->answers -= q->packet->n;
	packet_unref(&q->packet);
	free(q);
}

static void queue_clear(struct conn *c)
{
	while (c->head != NULL)
		queue_pop(c, &c->head);
	c->sent = 0;
}

/* Make room for `need` more: the oldest events go, but not what is half sent. What is no event is
 * passed once, not at each event that comes. */
static void queue_drop(struct conn *c, size_t need)
{
	struct queued **at = c->oldest;

	if (at == &c->head && c->sent > 0)
		at = &c->head->next;
	while (*at != NULL && c->bytes + need > c->bus->queue_max) {
		if (!(*at)->event) {
			at = &(*at)->next;
			continue;
		}
		queue_pop(c, at);
		c->dropped++;
		bus_count(c->bus, BUS_COUNT_dropped, 1);
	}
	c->oldest = at;
}

static void queue_add(struct conn *c, struct packet *packet, bool event)
{
	struct queued *q = calloc(1, sizeof(*q));

	if (q == NULL) {
		if (event)
			c->dropped++;
		else
			conn_close_slow(c);
		return;
	}
	q->packet = packet_ref(packet);
	q->event = event;
	*c->tail = q;
	c->tail = &q->next;
	c->bytes += packet->n;
	if (!event)
		c->answers += packet->n;
}

/* Told once, before what comes next. */
static void queue_tell_dropped(struct conn *c)
{
	struct packet *packet;
	struct queued *q;

	if (c->dropped == 0 || c->sent > 0)
		return;
	packet = packet_make("__dropped", "", json_pack("{s:I}", "count", (json_int_t)c->dropped));
	q = packet != NULL ? calloc(1, sizeof(*q)) : NULL;
	if (q == NULL) {
		packet_unref(&packet);
		return;
	}
	q->packet = packet;
	q->next = c->head;
	if (c->head == NULL)
		c->tail = &q->next;
	c->head = q;
	c->bytes += packet->n;
	c->answers += packet->n;
	c->dropped = 0;
}

static void conn_finish(struct conn *c)
{
	if (c->state == CONN_CLOSED)
		return;
	c->state = CONN_CLOSED;
	c->way->close(c);
}

/* The first frames of the queue as one write; gives their bytes. */
static size_t queue_gather(const struct conn *c, struct iovec parts[FLUSH_PARTS], int *n)
{
	size_t skip = c->sent, bytes = 0;

	*n = 0;
	for (const struct queued *q = c->head; q != NULL && *n < FLUSH_PARTS; q = q->next) {
		if (*n > 0 && bytes + q->packet->n > BUS_OUTPUT)
			break;
		parts[*n] = (struct iovec){q->packet->bytes + skip, q->packet->n - skip};
		bytes += parts[(*n)++].iov_len;
		skip = 0;
	}
	return bytes;
}

static void queue_sent(struct conn *c, size_t n)
{
	c->sent += n;
	while (c->head != NULL && c->sent >= c->head->packet->n) {
		c->sent -= c->head->packet->n;
		queue_pop(c, &c->head);
	}
}

void conn_flush(struct conn *c)
{
	struct iovec parts[FLUSH_PARTS];

	c->blocked = false;
	while (c->state != CONN_CLOSED && !c->blocked) {
		size_t bytes;
		ssize_t n;
		int count;

		queue_tell_dropped(c);
		if (c->head == NULL)
			break;
		bytes = queue_gather(c, parts, &count);
		n = c->way->write(c, parts, count);
		if (n < 0) {
			conn_finish(c);
			return;
		}
		queue_sent(c, (size_t)n);
		c->blocked = (size_t)n < bytes; /* drain follows */
	}
	if (c->head == NULL && c->state == CONN_CLOSING)
		conn_finish(c);
	if (c->stalled && c->answers < BUS_ANSWERS_MAX / 2)
		conn_go_on(c);
}

/* Once for all that is put in this callback, unless that is a lot. */
static void conn_flush_soon(struct conn *c)
{
	if (c->blocked)
		return;
	if (c->bytes >= BUS_OUTPUT)
		conn_flush(c);
	else
		alk_task_queue(c->bus->loop, &c->flush);
}

/* What was queued is still sent, if the peer reads. */
static void conn_end(struct conn *c)
{
	if (c->state != CONN_OPEN)
		return;
	c->state = CONN_CLOSING;
	event_forget(c);
	call_forget(c);
	spoke_forget(c);
	alk_timer_start(c->timer, c->bus->frame_timeout);
	conn_flush(c);
}

void conn_close_slow(struct conn *c)
{
	conn_finish(c); /* `close` follows, and forgets it */
}

void conn_put(struct conn *c, struct packet *packet, bool event)
{
	if (c->state != CONN_OPEN)
		return;
	if (c->bytes + packet->n > c->bus->queue_max) {
		if (event && c->bus->close_slow && !c->inner) {
			bus_count(c->bus, BUS_COUNT_dropped, 1);
			conn_close_slow(c);
			return;
		}
		queue_drop(c, packet->n);
	}
	if (!event && c->bytes + packet->n > 2 * c->bus->queue_max + c->bus->frame_max) {
		conn_close_slow(c);
		return;
	}
	if (event && c->bytes + packet->n > c->bus->queue_max) {
		c->dropped++;
		bus_count(c->bus, BUS_COUNT_dropped, 1);
		return;
	}
	queue_add(c, packet, event);
	conn_flush_soon(c);
}

void conn_say(struct conn *c, const char *type, const char *id, json_t *payload)
{
	struct packet *packet = packet_make(type, id, payload);

	if (packet != NULL)
		conn_put(c, packet, false);
	else
		conn_close_slow(c);
	packet_unref(&packet);
}

bool code_is_retryable(const char *code)
{
	return strcmp(code, "TIMEOUT") == 0 || strcmp(code, "UNAVAILABLE") == 0 ||
	       strcmp(code, "OVERLOADED") == 0;
}

static json_t *failure(const char *code, const char *message)
{
	return json_pack("{s:s, s:s, s:b}", "code", code, "message", message, "retryable",
			 code_is_retryable(code));
}

/* A copy in which nothing can be wrong. */
static char *text_plain(const char *text)
{
	char *plain = strdup(text);

	for (char *p = plain; p != NULL && *p != '\0'; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	return plain;
}

/* The words may be a script's, and no UTF-8. */
void conn_error(struct conn *c, const char *type, const char *id, const char *code,
		const char *message)
{
	json_t *payload = failure(code, message);
	char *plain_code, *plain;

	if (payload == NULL) {
		plain_code = text_plain(code);
		plain = text_plain(message);
		if (plain_code != NULL && plain != NULL)
			payload = failure(plain_code, plain);
		free(plain_code);
		free(plain);
	}
	conn_say(c, type, id, payload);
}

/* Frames in */

/* What the frame waited for is there. */
static void conn_then_run(struct conn *c, bool allowed, const char *reason)
{
	c->waiting = false;
	if (c->state == CONN_OPEN)
		c->then(c, allowed, reason);
	if (c->waiting)
		return; /* for the hub now */
	c->waiting = true;
	conn_go_on(c);
}

static void on_asked(void *user, bool allowed, const char *reason)
{
	struct conn *c = user;

	c->ask = NULL;
	if (c->state == CONN_OPEN && !allowed)
		bus_count(c->bus, BUS_COUNT_denied, 1);
	conn_then_run(c, allowed, reason);
}

void conn_ask(struct conn *c, const struct alk_channel_question *question, conn_then *then)
{
	int rc = c->way->ask(c, question, on_asked, c, &c->ask);

	c->then = then;
	c->waiting = rc == 0;
	if (rc == 1)
		then(c, true, "");
	else if (rc < 0)
		then(c, false, "out of memory");
}

bool conn_hear_out(struct conn *c, conn_then *then)
{
	struct wire_out out;

	if (c->heard)
		return true;
	wire_begin(&out, WIRE_SYNC);
	wire_number(&out, c->number);
	c->then = then;
	c->waiting = true;
	if (bus_say(c->bus, &out))
		return false;
	c->waiting = false;
	return true;
}

void conn_heard(struct bus *bus, uint64_t number)
{
	struct conn *c = conn_find(bus, number);

	if (c == NULL || !c->waiting)
		return;
	c->heard = true;
	conn_then_run(c, true, "");
}

static void on_turn(void *user)
{
	struct bus *bus = user;
	struct conn *c = TAILQ_FIRST(&bus->line);

	bus->work = 0;
	if (c == NULL)
		return;
	TAILQ_REMOVE(&bus->line, c, line);
	c->in_line = false;
	c->has_turn = true;
	if (!TAILQ_EMPTY(&bus->line))
		alk_task_yield(bus->loop, &bus->turn);
	conn_then_run(c, true, "");
}

void conn_turns_init(struct bus *bus)
{
	TAILQ_INIT(&bus->line);
	bus->turn = (struct alk_task){.fn = on_turn, .user = bus};
}

bool conn_take_turn(struct conn *c, conn_then *then)
{
	if (c->has_turn)
		return true;
	c->then = then;
	c->waiting = true;
	c->in_line = true;
	TAILQ_INSERT_TAIL(&c->bus->line, c, line);
	alk_task_yield(c->bus->loop, &c->bus->turn);
	return false;
}

static void conn_invalid(struct conn *c, const char *id, const char *why)
{
	bus_count(c->bus, BUS_COUNT_invalid_frames, 1);
	conn_error(c, "error", strlen(id) <= TOPIC_TYPE_MAX ? id : "", "INVALID_FRAME", why);
	conn_end(c);
}

static void on_silence(void *user)
{
	struct conn *c = user;

	if (c->state == CONN_OPEN)
		conn_invalid(c, "", "the rest of the frame did not arrive");
	else
		conn_close_slow(c);
}

static void on_pause(void *user)
{
	conn_go_on(user);
}

/* So many events a second; more wait in their channel. */
static bool conn_may_publish(struct conn *c)
{
	uint64_t now = alk_loop_now(c->bus->loop);
	double rate = (double)c->bus->rate;

	if (c->bus->rate == 0)
		return true;
	c->tokens += (double)(now - c->tokens_at) * rate / 1000;
	c->tokens_at = now;
	if (c->tokens > rate)
		c->tokens = rate;
	if (c->tokens >= 1) {
		c->tokens--;
		return true;
	}
	alk_timer_start(c->pause, 1 + (uint64_t)(1000 / rate));
	return false;
}

static void conn_frame(struct conn *c)
{
	const char *type = c->frame.type;

	if (strlen(c->frame.id) > TOPIC_TYPE_MAX)
		conn_error(c, "error", "", "INVALID_INPUT", "an id has at most 255 bytes");
	else if (strcmp(type, "__subscribe") == 0)
		event_subscribe(c);
	else if (strcmp(type, "__unsubscribe") == 0)
		event_unsubscribe(c);
	else if (strcmp(type, "call.requested") == 0)
		request_call(c);
	else if (strncmp(type, "call.", 5) == 0)
		call_answered(c);
	else
		event_publish(c);
}

static void conn_frame_done(struct conn *c)
{
	frame_clear(&c->frame);
	frame_reader_clear(&c->reader);
	c->heard = c->has_turn = false;
}

/* A frame is whole. */
static void conn_parse(struct conn *c)
{
	struct alk_err err = {""};

	if (frame_parse(&c->reader, &c->frame, &err) < 0)
		conn_invalid(c, c->frame.id, err.text);
	else
		conn_frame(c);
	if (!c->waiting)
		conn_frame_done(c);
}

size_t conn_data(struct conn *c, const uint8_t *bytes, size_t n)
{
	struct alk_err err = {""};
	size_t taken = 0, some;
	int rc;

	while (taken < n && c->state == CONN_OPEN) {
		if (c->waiting || alk_timer_active(c->pause))
			return taken;
		c->stalled = c->answers >= BUS_ANSWERS_MAX || !conn_has_share(c);
		if (c->stalled || (frame_reader_idle(&c->reader) && !conn_may_publish(c))) {
			alk_timer_stop(c->timer); /* it is we who do not read */
			return taken;
		}
		rc = frame_feed(&c->reader, bytes + taken, n - taken, &some, &err);
		taken += some;
		if (rc < 0)
			conn_invalid(c, "", err.text);
		else if (rc > 0)
			conn_parse(c);
		if (rc > 0 && c->state == CONN_OPEN)
			alk_timer_stop(c->timer);
		else if (c->state == CONN_OPEN)
			alk_timer_start(c->timer, c->bus->frame_timeout);
	}
	return c->state == CONN_OPEN ? taken : n;
}

void conn_go_on(struct conn *c)
{
	if (c->waiting) {
		c->waiting = false;
		conn_frame_done(c);
	}
	c->stalled = false;
	if (c->state != CONN_OPEN)
		return;
	c->way->resume(c);
	conn_settle(c);
}

void conn_settle(struct conn *c)
{
	if (c->eof && c->state == CONN_OPEN && !c->waiting && c->subs == NULL && c->calls == NULL)
		conn_end(c);
}

void conn_eof(struct conn *c)
{
	c->eof = true;
	if (c->state != CONN_OPEN)
		return;
	if (!c->waiting && !frame_reader_idle(&c->reader)) {
		conn_invalid(c, "", "the channel ended inside a frame");
		return;
	}
	/* It can serve nobody any more. */
	spoke_forget(c);
	call_forget_served(c);
	conn_settle(c);
}

static void on_flush(void *user)
{
	conn_flush(user);
}

static void conn_link(struct conn *c)
{
	c->next = c->bus->conns;
	c->prev = &c->bus->conns;
	if (c->next != NULL)
		c->next->prev = &c->next;
	c->bus->conns = c;
	LIST_INSERT_HEAD(&c->bus->by_number[c->number % BUS_CONN_BUCKETS], c, by_number);
}

static void conn_unlink(struct conn *c)
{
	*c->prev = c->next;
	if (c->next != NULL)
		c->next->prev = c->prev;
	LIST_REMOVE(c, by_number);
}

struct conn *conn_new(struct bus *bus, const struct conn_way *way, void *at)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->magic = BUS_CONN_MAGIC;
	c->bus = bus;
	c->way = way;
	c->at = at;
	c->flush = (struct alk_task){.fn = on_flush, .user = c};
	c->number = ++bus->last_conn;
	c->tail = c->oldest = &c->head;
	c->tokens = (double)bus->rate;
	c->tokens_at = alk_loop_now(bus->loop);
	frame_reader_init(&c->reader, bus->frame_max);
	c->timer = alk_timer_new(bus->loop, "bus frame", on_silence, c);
	c->pause = alk_timer_new(bus->loop, "bus rate", on_pause, c);
	if (c->timer == NULL || c->pause == NULL) {
		alk_timer_free(&c->timer);
		alk_timer_free(&c->pause);
		free(c);
		return NULL;
	}
	conn_link(c);
	return c;
}

void conn_free(struct conn **conn)
{
	struct conn *c = *conn;

	*conn = NULL;
	if (c == NULL)
		return;
	c->state = CONN_CLOSED;
	if (c->ask != NULL)
		alk_channel_ask_cancel(&c->ask);
	alk_task_cancel(c->bus->loop, &c->flush);
	if (c->in_line)
		TAILQ_REMOVE(&c->bus->line, c, line);
	event_forget(c);
	call_forget(c);
	spoke_forget(c);
	queue_clear(c);
	conn_forget_share(c);
	frame_clear(&c->frame);
	frame_reader_clear(&c->reader);
	alk_timer_free(&c->timer);
	alk_timer_free(&c->pause);
	if (c->way->forget != NULL)
		c->way->forget(c);
	conn_unlink(c);
	c->magic = 0;
	free(c);
}

struct conn *conn_find(const struct bus *bus, uint64_t number)
{
	struct conn *c = LIST_FIRST(&bus->by_number[number % BUS_CONN_BUCKETS]);

	while (c != NULL && c->number != number)
		c = LIST_NEXT(c, by_number);
	return c;
}

struct conn *conn_server(const struct bus *bus, uint64_t number)
{
	struct conn *c = conn_find(bus, number);

	return c != NULL && c->state == CONN_OPEN && !c->eof ? c : NULL;
}
