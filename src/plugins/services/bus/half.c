/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "bus.h"

#include <stdlib.h>
#include <string.h>

/* What the hub and the worker's half say to each other. */

#define CREDIT_EVERY (BUS_HUB_WINDOW / 16)

bool bus_say(struct bus *bus, struct wire_out *out)
{
	bool said = !out->bad && alk_half_send(bus->half, 0, out->bytes, out->n) == 0;

	wire_free(out);
	return said;
}

/* The hub takes all in order, so a connection needs to know no more than where its own bytes
 * end. */
static void flight_add(struct conn *c, size_t n)
{
	struct flight *last = c->last_flight;
	uint64_t end = c->bus->said;

	if (last == NULL || last->end / CREDIT_EVERY != end / CREDIT_EVERY) {
		last = calloc(1, sizeof(*last));
		if (last == NULL)
			return;
		if (c->last_flight != NULL)
			c->last_flight->next = last;
		else
			c->flights = last;
		c->last_flight = last;
	}
	last->end = end;
	last->n += n;
	c->to_hub += n;
}

static void flights_land(struct conn *c, uint64_t taken)
{
	struct flight *first;

	while ((first = c->flights) != NULL && first->end <= taken) {
		c->to_hub -= first->n;
		c->flights = first->next;
		if (c->flights == NULL)
			c->last_flight = NULL;
		free(first);
	}
}

void conn_forget_share(struct conn *c)
{
	flights_land(c, UINT64_MAX);
}

bool conn_has_share(struct conn *c)
{
	uint64_t under_way = c->bus->said - c->bus->taken;

	flights_land(c, c->bus->taken);
	return under_way < BUS_HUB_WINDOW && c->to_hub < BUS_HUB_WINDOW - under_way;
}

bool bus_say_by(struct bus *bus, struct conn *by, struct wire_out *out)
{
	size_t n = out->n;

	if (!bus_say(bus, out))
		return false;
	bus->said += n;
	if (by != NULL)
		flight_add(by, n);
	return true;
}

bool bus_say_to(struct bus *bus, struct conn *by, uint64_t worker, struct wire_out *out)
{
	struct wire_out to;

	wire_begin(&to, WIRE_TO);
	wire_number(&to, worker);
	wire_bytes(&to, out->bytes, out->n);
	to.bad |= out->bad;
	wire_free(out);
	return bus_say_by(bus, by, &to);
}

/* Events and calls of the hub are paid back, so that it knows how many this worker has not
 * taken. */
static void half_pay(struct bus *bus, size_t n)
{
	struct wire_out out;

	bus->from_hub += n;
	if (bus->from_hub < CREDIT_EVERY)
		return;
	wire_begin(&out, WIRE_CREDIT);
	wire_number(&out, bus->from_hub);
	bus->from_hub = 0;
	bus_say(bus, &out);
}

static void on_credit(struct bus *bus, struct wire_in *in)
{
	uint64_t n = wire_get_number(in);

	bus->taken += n < bus->said - bus->taken ? n : bus->said - bus->taken;
	for (struct conn *c = bus->conns; c != NULL; c = c->next)
		if (c->stalled)
			conn_go_on(c);
}

static void on_deliver(struct bus *bus, struct wire_in *in)
{
	const char *topic = wire_get_text(in);
	uint64_t except = wire_get_number(in);
	size_t n;
	const uint8_t *bytes = wire_get_bytes(in, &n);
	bool plain = wire_get_number(in) != 0;
	uint64_t groups = wire_get_number(in);
	struct packet *packet = in->bad ? NULL : packet_new(bytes, n);

	if (packet != NULL)
		event_deliver(bus, topic, except, packet, plain, in, groups);
	packet_unref(&packet);
}

static void on_subscribed(struct bus *bus, struct wire_in *in)
{
	uint64_t tag = wire_get_number(in);
	bool counts = wire_get_number(in) != 0;
	uint64_t group = wire_get_number(in);
	const char *code = wire_get_text(in), *message = wire_get_text(in);

	if (wire_done(in))
		event_subscribed(bus, tag, counts, group, code, message);
}

static void on_registered(struct bus *bus, struct wire_in *in)
{
	uint64_t tag = wire_get_number(in);
	const char *code = wire_get_text(in), *message = wire_get_text(in);

	if (wire_done(in))
		spoke_registered(bus, tag, code, message);
}

static void on_replay(struct bus *bus, struct wire_in *in)
{
	uint64_t tag = wire_get_number(in);
	bool recent = wire_get_number(in) != 0;
	size_t n;
	const uint8_t *bytes = wire_get_bytes(in, &n);

	if (wire_done(in))
		event_replay(bus, tag, recent, bytes, n);
}

static void on_refused(struct bus *bus, struct wire_in *in)
{
	uint64_t connection = wire_get_number(in);
	const char *topic = wire_get_text(in), *why = wire_get_text(in);

	if (wire_done(in))
		event_refused(bus, connection, topic, why);
}

static void on_from(struct bus *bus, struct wire_in *in)
{
	uint64_t worker = wire_get_number(in);
	size_t n;
	const uint8_t *bytes = wire_get_bytes(in, &n);

	if (wire_done(in))
		call_hear(bus, worker, bytes, n);
}

static void hear(struct bus *bus, const uint8_t *bytes, size_t n)
{
	struct wire_in in;

	switch (wire_open(&in, bytes, n)) {
	case WIRE_HELLO:
		bus->self = wire_get_number(&in);
		break;
	case WIRE_PEERS:
		bus->peers = wire_get_number(&in) != 0;
		bus->backend = wire_get_number(&in) != 0;
		break;
	case WIRE_CREDIT:
		on_credit(bus, &in);
		break;
	case WIRE_DELIVER:
		on_deliver(bus, &in);
		half_pay(bus, n);
		break;
	case WIRE_REFUSED:
		on_refused(bus, &in);
		break;
	case WIRE_REPLAY:
		on_replay(bus, &in);
		half_pay(bus, n);
		break;
	case WIRE_SUBSCRIBED:
		on_subscribed(bus, &in);
		break;
	case WIRE_REGISTERED:
		on_registered(bus, &in);
		break;
	case WIRE_SYNC:
		conn_heard(bus, wire_get_number(&in));
		break;
	case WIRE_LOST:
		event_lost(bus, wire_get_number(&in));
		break;
	case WIRE_SPOKE:
		spoke_add(bus, &in);
		break;
	case WIRE_UNSPOKE:
		spoke_remove(bus, wire_get_text(&in));
		break;
	case WIRE_WORKER_GONE:
		call_worker_gone(bus, wire_get_number(&in));
		break;
	case WIRE_FROM:
		on_from(bus, &in);
		half_pay(bus, n);
		break;
	default:
		break;
	}
}

/* Events that many subscriptions want take long: what comes behind them waits, in order, for the
 * next turn of the loop. The hub knows what was not taken, and says no more than it may. */

static void late_hear(struct bus *bus, size_t work)
{
	while (!STAILQ_EMPTY(&bus->late) && bus->work < work) {
		hear(bus, STAILQ_FIRST(&bus->late)->bytes, STAILQ_FIRST(&bus->late)->n);
		wire_heard(&bus->late);
	}
}

static void on_late(void *user)
{
	struct bus *bus = user;

	bus->work = 0;
	late_hear(bus, BUS_WORK_MAX);
	if (!STAILQ_EMPTY(&bus->late))
		alk_task_yield(bus->loop, &bus->hear_late);
}

void bus_hear(struct bus *bus, const uint8_t *bytes, size_t n)
{
	bool waits = !STAILQ_EMPTY(&bus->late) || bus->work >= BUS_WORK_MAX;

	if (waits && wire_wait(&bus->late, bytes, n)) {
		alk_task_yield(bus->loop, &bus->hear_late);
		return;
	}
	late_hear(bus, SIZE_MAX); /* if there is no memory for more */
	hear(bus, bytes, n);
}

void half_start(struct bus *bus)
{
	STAILQ_INIT(&bus->late);
	bus->hear_late = (struct alk_task){.fn = on_late, .user = bus};
}

void half_stop(struct bus *bus)
{
	alk_task_cancel(bus->loop, &bus->hear_late);
	wire_queue_clear(&bus->late);
}
