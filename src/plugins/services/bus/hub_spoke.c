/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "hub.h"

#include <stdlib.h>
#include <string.h>

#define OPERATIONS_MAX ((size_t)512 << 10)
#define ANSWER_SHORT 1024

static struct hub_spoke *spoke_of(const struct hub *hub, const char *name)
{
	struct hub_spoke *s;

	TAILQ_FOREACH(s, &hub->spokes, entry)
	{
		if (strcmp(s->name, name) == 0)
			return s;
	}
	return NULL;
}

static void operations_free(struct hub *hub, struct hub_spoke *s)
{
	hub->spokes_bytes -= s->bytes;
	s->bytes = 0;
	hub_operations_free(&s->has);
	free(s->operations);
	s->operations = NULL;
}

static void spoke_free(struct hub *hub, struct hub_spoke *s)
{
	operations_free(hub, s);
	TAILQ_REMOVE(&hub->spokes, s, entry);
	hub->n_spokes--;
	free(s->name);
	free(s->identity);
	free(s);
}

void hub_spokes_deinit(struct hub *hub)
{
	while (!TAILQ_EMPTY(&hub->spokes))
		spoke_free(hub, TAILQ_FIRST(&hub->spokes));
}

static void spoke_tell(struct hub *hub, const struct hub_spoke *s, uint64_t worker)
{
	struct wire_out out;

	wire_begin(&out, WIRE_SPOKE);
	wire_number(&out, s->worker);
	wire_number(&out, s->connection);
	wire_text(&out, s->name);
	wire_text(&out, s->identity);
	wire_text(&out, s->operations);
	hub_say(hub, worker, &out);
}

void hub_spokes_tell(struct hub *hub, uint64_t worker)
{
	const struct hub_spoke *s;

	TAILQ_FOREACH(s, &hub->spokes, entry)
	{
		if (s->worker != 0)
			spoke_tell(hub, s, worker);
	}
}

/* The name stays its identity's; the oldest of these goes when there is no room. */
static void spoke_leave(struct hub *hub, struct hub_spoke *s)
{
	struct wire_out out;

	s->worker = 0;
	hub_nats_has_no_more(hub, s->name, s->has);
	operations_free(hub, s);
	TAILQ_REMOVE(&hub->spokes, s, entry);
	TAILQ_INSERT_TAIL(&hub->spokes, s, entry);
	wire_begin(&out, WIRE_UNSPOKE);
	wire_text(&out, s->name);
	hub_say(hub, ALK_HALF_EVERY_WORKER, &out);
}

void hub_gone(struct hub *hub, const struct hub_worker *from, uint64_t connection)
{
	struct hub_spoke *s;

	TAILQ_FOREACH(s, &hub->spokes, entry)
	{
		if (s->worker == from->number && s->connection == connection) {
			spoke_leave(hub, s);
			return;
		}
	}
}

void hub_spokes_down(struct hub *hub, uint64_t worker)
{
	struct hub_spoke *s, *next;

	for (s = TAILQ_FIRST(&hub->spokes); s != NULL; s = next) {
		next = TAILQ_NEXT(s, entry);
		if (s->worker == worker)
			spoke_leave(hub, s);
	}
}

static bool room_for_one(struct hub *hub)
{
	struct hub_spoke *s;

	if (hub->n_spokes < HUB_SPOKES_MAX)
		return true;
	TAILQ_FOREACH(s, &hub->spokes, entry)
	{
		if (s->worker == 0) {
			spoke_free(hub, s);
			return true;
		}
	}
	return false;
}

static size_t spokes_of(const struct hub *hub, const char *identity, size_t *bytes)
{
	const struct hub_spoke *s;
	size_t n = 0;

	*bytes = 0;
	TAILQ_FOREACH(s, &hub->spokes, entry)
	{
		if (strcmp(s->identity, identity) != 0)
			continue;
		n++;
		*bytes += s->bytes;
	}
	return n;
}

static struct hub_spoke *spoke_new(struct hub *hub, const char *name, const char *identity)
{
	struct hub_spoke *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->name = strdup(name);
	s->identity = strdup(identity);
	TAILQ_INSERT_TAIL(&hub->spokes, s, entry);
	hub->n_spokes++;
	if (s->name == NULL || s->identity == NULL) {
		spoke_free(hub, s);
		return NULL;
	}
	return s;
}

/* With `bytes` of operations. What is wrong with it, or NULL. */
static const char *spoke_take(struct hub *hub, const char *name, const char *identity, size_t bytes,
			      struct hub_spoke **taken)
{
	struct hub_spoke *s = spoke_of(hub, name);
	size_t its_bytes, its = spokes_of(hub, identity, &its_bytes);

	if (s != NULL) {
		if (strcmp(s->identity, identity) != 0)
			return "FORBIDDEN\0this name is another identity's";
		if (s->worker != 0)
			return "UNAVAILABLE\0a spoke of this name is there";
	}
	if (its_bytes + bytes > HUB_IDENTITY_BYTES)
		return "OVERLOADED\0this identity's operations take too many bytes";
	if (hub->spokes_bytes + bytes > HUB_SPOKES_BYTES)
		return "OVERLOADED\0the operations of all spokes take too many bytes";
	if (s != NULL) {
		*taken = s;
		return NULL;
	}
	if (its >= HUB_IDENTITY_SPOKES)
		return "OVERLOADED\0this identity has too many spokes";
	if (!room_for_one(hub))
		return "OVERLOADED\0there are too many spokes";
	*taken = spoke_new(hub, name, identity);
	return *taken != NULL ? NULL : "OVERLOADED\0out of memory";
}

void hub_register(struct hub *hub, struct hub_worker *from, struct wire_in *in)
{
	uint64_t tag = wire_get_number(in), connection = wire_get_number(in);
	const char *name = wire_get_text(in), *identity = wire_get_text(in);
	const char *operations = wire_get_text(in), *wrong;
	struct hub_spoke *s = NULL;
	struct wire_out out;

	if (!wire_done(in) || strlen(name) > BUS_SPOKE_MAX || strlen(operations) > OPERATIONS_MAX)
		return;
	wrong = spoke_take(hub, name, identity, strlen(operations), &s);
	if (s != NULL) {
		s->operations = strdup(operations);
		s->has = hub_operations_read(operations);
		if (s->operations == NULL || s->has == NULL) {
			operations_free(hub, s);
			wrong = "OVERLOADED\0out of memory";
		} else {
			s->worker = from->number;
			s->connection = connection;
			s->bytes = strlen(operations);
			hub->spokes_bytes += s->bytes;
			spoke_tell(hub, s, ALK_HALF_EVERY_WORKER);
			hub_nats_has(hub, s->name, s->has);
		}
	}
	wire_begin(&out, WIRE_REGISTERED);
	wire_number(&out, tag);
	wire_text(&out, wrong != NULL ? wrong : "");
	wire_text(&out, wrong != NULL ? wrong + strlen(wrong) + 1 : "");
	hub_say(hub, from->number, &out);
}

/* What a worker says to the hub about calls. */
static void hear_own(struct hub *hub, uint64_t worker, const uint8_t *bytes, size_t n)
{
	struct wire_in in;

	switch (wire_open(&in, bytes, n)) {
	case WIRE_ANSWER:
		hub_answered(hub, worker, bytes, n);
		break;
	case WIRE_CALL:
		hub_nats_call(hub, worker, &in);
		break;
	case WIRE_DESCRIBE:
		hub_nats_describe(hub, worker, &in);
		break;
	case WIRE_ABORT:
		hub_nats_abort(hub, worker, &in);
		break;
	default:
		break;
	}
}

static void say_overloaded(struct hub *hub, uint64_t from, uint64_t to, uint64_t call,
			   const char *message)
{
	struct wire_out out;
	char text[128];

	snprintf(text, sizeof(text),
		 "{\"code\":\"OVERLOADED\",\"message\":\"%s\",\"retryable\":true}", message);
	wire_begin(&out, WIRE_ANSWER);
	wire_number(&out, call);
	wire_text(&out, "call.error");
	wire_text(&out, text);
	hub_say_from(hub, from, to, out.bytes, out.n);
	wire_free(&out);
}

/* A worker does not keep up: it gets no call, and in the place of a long answer a short error.
 * False: it is to be carried, as is what ends a call. */
static bool carry_refuse(struct hub *hub, uint64_t from, uint64_t to, const uint8_t *bytes,
			 size_t n)
{
	const struct hub_worker *w = hub_worker_of(hub, to);
	struct wire_out out;
	struct wire_in in;
	uint64_t call;

	switch (wire_open(&in, bytes, n)) {
	case WIRE_CALL:
		say_overloaded(hub, to, from, wire_get_number(&in),
			       "the operation's server does not keep up");
		return true;
	case WIRE_ANSWER:
		call = wire_get_number(&in);
		if (n <= ANSWER_SHORT && (strcmp(wire_get_text(&in), "call.responded") != 0 ||
					  w == NULL || w->owed <= HUB_OWED_ANSWERS))
			return false;
		say_overloaded(hub, from, to, call, "the answers were not read");
		wire_begin(&out, WIRE_ABORT);
		wire_number(&out, call);
		hub_say_from(hub, to, from, out.bytes, out.n);
		wire_free(&out);
		return true;
	default:
		return false;
	}
}

void hub_carry(struct hub *hub, const struct hub_worker *from, struct wire_in *in)
{
	uint64_t to = wire_get_number(in);
	size_t n;
	const uint8_t *bytes = wire_get_bytes(in, &n);

	if (!wire_done(in))
		return;
	if (to == 0)
		hear_own(hub, from->number, bytes, n);
	else if (hub_has_room(hub, to) || !carry_refuse(hub, from->number, to, bytes, n))
		hub_say_from(hub, from->number, to, bytes, n);
}
