/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "bus.h"

/* What the hub and the worker's half say to each other. */

#define CREDIT_EVERY (BUS_HUB_WINDOW / 16)

bool bus_say(struct bus *bus, struct wire_out *out)
{
	bool said = !out->bad && alk_half_send(bus->half, 0, out->bytes, out->n) == 0;

	wire_free(out);
	return said;
}

bool bus_say_to(struct bus *bus, uint64_t worker, struct wire_out *out)
{
	struct wire_out to;

	wire_begin(&to, WIRE_TO);
	wire_number(&to, worker);
	wire_bytes(&to, out->bytes, out->n);
	to.bad |= out->bad;
	wire_free(out);
	return bus_say(bus, &to);
}

/* Events of the hub are paid back, so that it knows how many this worker has not taken. */
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

	bus->to_hub -= n < bus->to_hub ? n : bus->to_hub;
	if (bus->to_hub >= BUS_HUB_WINDOW / 2)
		return;
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

static void on_answer(struct bus *bus, struct wire_in *in,
		      void (*told)(struct bus *bus, uint64_t tag, const char *code,
				   const char *message))
{
	uint64_t tag = wire_get_number(in);
	const char *code = wire_get_text(in), *message = wire_get_text(in);

	if (wire_done(in))
		told(bus, tag, code, message);
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

void bus_hear(struct bus *bus, const uint8_t *bytes, size_t n)
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
		on_answer(bus, &in, event_subscribed);
		break;
	case WIRE_REGISTERED:
		on_answer(bus, &in, spoke_registered);
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
		break;
	default:
		break;
	}
}
