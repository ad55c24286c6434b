/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* One connection of the bus: its queue, with a peer that reads as little as the test wants; its
 * turn; calls that it serves. */
#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "../../src/plugins/services/bus/bus.h"

#define MANY 20000 /* answers that nobody reads, or calls */
#define FEW 2000
#define EVENTS 10000

/* A peer. */

static size_t budget; /* bytes that it reads */
static uint8_t *got;
static size_t got_n, got_size;
static unsigned closes;

static ssize_t way_write(struct conn *c, const struct iovec *parts, int n)
{
	size_t taken = 0;

	(void)c;
	for (int i = 0; i < n && budget > 0; i++) {
		size_t some = parts[i].iov_len < budget ? parts[i].iov_len : budget;

		while (got_size - got_n < some) {
			got_size = got_size > 0 ? got_size * 2 : 4096;
			got = realloc(got, got_size);
			assert_non_null(got);
		}
		memcpy(got + got_n, parts[i].iov_base, some);
		got_n += some;
		taken += some;
		budget -= some;
	}
	return (ssize_t)taken;
}

static void way_resume(struct conn *c)
{
	(void)c;
}

static void way_close(struct conn *c)
{
	(void)c;
	closes++;
}

static const struct alk_identity *way_identity(const struct conn *c)
{
	(void)c;
	return NULL;
}

static int way_ask(struct conn *c, const struct alk_channel_question *question,
		   void (*done)(void *user, bool allowed, const char *reason), void *user,
		   struct alk_channel_ask **ask)
{
	(void)c, (void)question, (void)done, (void)user, (void)ask;
	return 1;
}

static const struct conn_way way = {.write = way_write,
				    .resume = way_resume,
				    .close = way_close,
				    .identity = way_identity,
				    .ask = way_ask};

static void on_tell(void *user)
{
	(void)user;
}

static int setup(void **state)
{
	struct bus *bus = calloc(1, sizeof(*bus));

	assert_non_null(bus);
	bus->loop = alk_loop_new(NULL);
	bus->tell = alk_timer_new(bus->loop, "counters", on_tell, bus);
	bus->frame_max = (size_t)8 << 20;
	bus->queue_max = 4096;
	conn_turns_init(bus);
	budget = got_n = 0;
	closes = 0;
	*state = bus;
	return 0;
}

static int teardown(void **state)
{
	struct bus *bus = *state;

	while (bus->conns != NULL) {
		struct conn *c = bus->conns;

		conn_free(&c);
	}
	alk_task_cancel(bus->loop, &bus->turn);
	alk_timer_free(&bus->tell);
	alk_loop_free(&bus->loop);
	free(bus);
	free(got);
	got = NULL;
	got_size = 0;
	return 0;
}

static struct packet *packet(const char *type, unsigned number, unsigned pad)
{
	char text[256];

	memset(text, 'x', sizeof(text));
	text[pad] = '\0';
	return packet_make(type, "", json_pack("{s:i, s:s}", "n", (int)number, "pad", text));
}

/* Is it in the queue now? */
static bool put(struct conn *c, const char *type, unsigned number, unsigned pad)
{
	struct packet *p = packet(type, number, pad);
	bool in;

	conn_put(c, p, strcmp(type, "event") == 0);
	in = c->head != NULL && ((const struct queued *)c->tail)->packet == p;
	packet_unref(&p);
	return in;
}

/* Nothing that could be dropped is left where something found no room. */
static void assert_no_event(const struct conn *c)
{
	static_assert(offsetof(struct queued, next) == 0, "put() goes from a tail to its node");
	const struct queued *q = c->sent > 0 ? c->head->next : c->head;

	for (; q != NULL; q = q->next)
		assert_false(q->event);
}

struct account {
	unsigned answer, event; /* the next one's number */
	unsigned events, dropped;
};

static void account_frame(struct account *a, const uint8_t *text, size_t n)
{
	json_t *root = json_loadb((const char *)text, n, 0, NULL);
	const char *type = json_string_value(json_object_get(root, "type"));
	const json_t *payload = json_object_get(root, "payload");
	unsigned number = (unsigned)json_integer_value(json_object_get(payload, "n"));

	assert_non_null(root);
	if (strcmp(type, "__dropped") == 0) {
		a->dropped += (unsigned)json_integer_value(json_object_get(payload, "count"));
	} else if (strcmp(type, "answer") == 0) {
		assert_int_equal(number, a->answer);
		a->answer++;
	} else {
		assert_string_equal(type, "event");
		assert_true(number >= a->event);
		a->event = number + 1;
		a->events++;
	}
	json_decref(root);
}

/* What the peer read. */
static struct account account(void)
{
	struct account a = {0};

	for (size_t at = 0; at < got_n;) {
		size_t n = (size_t)got[at] << 24 | (size_t)got[at + 1] << 16 |
			   (size_t)got[at + 2] << 8 | got[at + 3];

		assert_true(at + 4 + n <= got_n);
		account_frame(&a, got + at + 4, n);
		at += 4 + n;
	}
	return a;
}

/* Answers all come, in their order; events come in theirs or are counted, the oldest first. */
static void test_any_order(void **state)
{
	struct bus *bus = *state;

	for (unsigned seed = 1; seed <= 50; seed++) {
		struct conn *c = conn_new(bus, &way, NULL);
		unsigned events = 0, answers = 0;
		struct account a;

		srand(seed);
		got_n = 0;
		for (unsigned i = 0; i < 1000; i++) {
			unsigned what = (unsigned)rand() % 8, pad = (unsigned)rand() % 250;

			if (what < 5) {
				if (!put(c, "event", events++, pad))
					assert_no_event(c);
			} else if (what < 6 && c->bytes < 2 * bus->queue_max) {
				put(c, "answer", answers++, pad);
				if (c->bytes > bus->queue_max)
					assert_no_event(c);
			} else {
				budget = 3 * pad;
				conn_flush(c);
			}
		}
		budget = SIZE_MAX;
		conn_flush(c);
		budget = 0;
		assert_null(c->head);
		assert_int_equal(c->bytes, 0);
		assert_int_equal(c->answers, 0);
		a = account();
		assert_int_equal(a.answer, answers);
		assert_int_equal(a.events + a.dropped, events);
		assert_true(a.events > 0 && a.dropped > 0);
		conn_free(&c);
	}
	assert_int_equal(closes, 0);
}

/* What a script says need not be text; its channel stays. */
static void test_an_error_that_is_no_text(void **state)
{
	struct conn *c = conn_new(*state, &way, NULL);

	conn_error(c, "error", "r", "FORBIDDEN", "caf\xe9");
	conn_error(c, "error", "r", "\xff", "caf\xc3\xa9");
	budget = SIZE_MAX;
	conn_flush(c);
	budget = 0;
	assert_int_equal(closes, 0);
	assert_non_null(memmem(got, got_n, "\"FORBIDDEN\"", 11));
	assert_non_null(memmem(got, got_n, "\"caf?\"", 6));
	assert_non_null(memmem(got, got_n, "\"?\"", 3));
	conn_free(&c);
}

/* CPU time of events that find so many answers in the queue and no room. */
static clock_t cost(struct bus *bus, unsigned answers)
{
	struct conn *c = conn_new(bus, &way, NULL);
	struct packet *event = packet("event", 0, 1);
	clock_t start;

	for (unsigned i = 0; i < answers; i++)
		put(c, "answer", i, 1);
	assert_true(c->bytes > bus->queue_max);
	start = clock();
	for (unsigned i = 0; i < EVENTS; i++)
		conn_put(c, event, true);
	start = clock() - start;
	assert_int_equal(c->dropped, EVENTS);
	packet_unref(&event);
	conn_free(&c);
	assert_int_equal(closes, 0);
	return start;
}

/* Who does not read its answers makes no event dearer. */
static void test_answers_are_walked_once(void **state)
{
	clock_t few = cost(*state, FEW), many = cost(*state, MANY);

	assert_true(many < 4 * few + CLOCKS_PER_SEC / 50);
}

/* Whose number it is. */

static clock_t cost_of_finds(struct bus *bus, unsigned n)
{
	struct conn *first = conn_new(bus, &way, NULL);
	clock_t start;

	for (unsigned i = 1; i < n; i++)
		assert_non_null(conn_new(bus, &way, NULL));
	start = clock();
	for (unsigned i = 0; i < EVENTS; i++)
		assert_ptr_equal(conn_find(bus, first->number), first);
	start = clock() - start;
	while (bus->conns != NULL) {
		struct conn *c = bus->conns;

		conn_free(&c);
	}
	assert_null(conn_find(bus, bus->last_conn));
	return start;
}

static void test_one_of_many(void **state)
{
	clock_t few = cost_of_finds(*state, FEW), many = cost_of_finds(*state, MANY);

	assert_true(many < 4 * few + CLOCKS_PER_SEC / 50);
}

/* Turns. */

static unsigned iteration, turns, last;
static struct alk_task tick;

static void on_tick(void *user)
{
	struct bus *bus = user;

	iteration++;
	if (TAILQ_EMPTY(&bus->line))
		alk_loop_stop(bus->loop);
	else
		alk_task_yield(bus->loop, &tick);
}

static void long_work(struct conn *c, bool allowed, const char *reason)
{
	(void)reason;
	assert_true(allowed);
	if (!conn_take_turn(c, long_work))
		return;
	turns++;
	assert_int_not_equal(iteration, last);
	last = iteration;
}

static void test_one_turn_at_a_time(void **state)
{
	struct bus *bus = *state;
	struct conn *c[10], *gone;

	iteration = 1;
	turns = last = 0;
	tick = (struct alk_task){.fn = on_tick, .user = bus};
	for (size_t i = 0; i < 10; i++) {
		c[i] = conn_new(bus, &way, NULL);
		long_work(c[i], true, "");
		assert_true(c[i]->waiting);
	}
	gone = c[4];
	conn_free(&gone);
	alk_task_yield(bus->loop, &tick);
	alk_loop_run(bus->loop);
	assert_int_equal(turns, 9);
	for (size_t i = 0; i < 10; i++)
		assert_true(i == 4 || !c[i]->waiting);
}

/* Calls */

static void hear(struct bus *bus, uint64_t worker, struct wire_out *out)
{
	assert_false(out->bad);
	call_hear(bus, worker, out->bytes, out->n);
	wire_free(out);
}

static void hear_call(struct bus *bus, uint64_t worker, uint64_t number, const struct conn *server)
{
	struct wire_out out;

	wire_begin(&out, WIRE_CALL);
	wire_number(&out, number);
	wire_number(&out, server->number);
	wire_number(&out, 0);
	wire_text(&out, "{}");
	wire_text(&out, "");
	hear(bus, worker, &out);
}

static void hear_abort(struct bus *bus, uint64_t worker, uint64_t number)
{
	struct wire_out out;

	wire_begin(&out, WIRE_ABORT);
	wire_number(&out, number);
	hear(bus, worker, &out);
}

static void test_whose_call_is_aborted(void **state)
{
	struct bus *bus = *state;
	struct conn *c = conn_new(bus, &way, NULL);

	for (uint64_t worker = 2; worker <= 4; worker++)
		hear_call(bus, worker, 7, c);
	hear_call(bus, 2, 7 + BUS_CALL_BUCKETS, c);
	hear_abort(bus, 3, 7);
	hear_abort(bus, 3, 7);
	hear_abort(bus, 2, 7 + BUS_CALL_BUCKETS);
	assert_int_equal(c->serves->from_worker, 4);
	assert_int_equal(c->serves->server_next->from_worker, 2);
	assert_null(c->serves->server_next->server_next);
	call_worker_gone(bus, 4);
	assert_int_equal(c->serves->from_worker, 2);
	assert_null(c->serves->server_next);
	c->eof = true;
	hear_call(bus, 2, 8, c);
	assert_null(c->serves->server_next);
	call_all_end(bus);
	assert_null(c->serves);
}

/* Does the last packet to the peer hold these? */
static bool says(const struct conn *c, const char *id, const char *code)
{
	const struct packet *p = ((const struct queued *)c->tail)->packet;
	char text[512];

	snprintf(text, sizeof(text), "%.*s", (int)p->n - 4, (const char *)p->bytes + 4);
	return strstr(text, id) && strstr(text, code) && strstr(text, "call.error");
}

/* A call ends with something that the caller is told, also when what was to be said is no JSON. */
static void test_ends_that_cannot_be_said(void **state)
{
	struct bus *bus = *state;
	struct conn *c = conn_new(bus, &way, NULL);

	call_inner_answered(call_new(bus, c, "one", NULL), ALK_OPERATION_FAILED, "BAD", "\xc3");
	assert_null(c->calls);
	assert_true(says(c, "one", "INTERNAL"));
	call_inner_answered(call_new(bus, c, "two", NULL), ALK_OPERATION_FAILED, "\xc3", "x");
	assert_true(says(c, "two", "INTERNAL"));
	call_end(call_new(bus, c, "three", NULL), "call.responded", NULL);
	assert_null(c->calls);
	assert_true(says(c, "three", "INTERNAL"));
	call_fail(c, "four", "FORBIDDEN", "\xc3");
	assert_true(says(c, "four", "INTERNAL"));
	call_inner_answered(call_new(bus, c, "five", NULL), ALK_OPERATION_FAILED, "BAD",
			    "\xc3\xa9");
	assert_true(says(c, "five", "BAD"));
	call_end(call_new(bus, c, "six", NULL), "call.aborted", NULL);
	assert_true(says(c, "five", "BAD"));
	assert_int_equal(closes, 0);
}

/* CPU time of the end of so many calls. */
static clock_t cost_of_aborts(struct bus *bus, unsigned n)
{
	struct conn *c = conn_new(bus, &way, NULL);
	clock_t start;

	for (unsigned i = 0; i < n; i++)
		hear_call(bus, 2, i, c);
	start = clock();
	for (unsigned i = 0; i < n; i++)
		hear_abort(bus, 2, n - 1 - i);
	start = clock() - start;
	assert_null(c->serves);
	conn_free(&c);
	assert_int_equal(closes, 0);
	return start;
}

static void test_aborts_of_many(void **state)
{
	clock_t few, many;

	((struct bus *)*state)->queue_max = (size_t)64 << 20;
	few = cost_of_aborts(*state, FEW);
	many = cost_of_aborts(*state, MANY);
	assert_true(many < 4 * (MANY / FEW) * few + CLOCKS_PER_SEC / 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_any_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_answers_are_walked_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_an_error_that_is_no_text, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_of_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_turn_at_a_time, setup, teardown),
		cmocka_unit_test_setup_teardown(test_whose_call_is_aborted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ends_that_cannot_be_said, setup, teardown),
		cmocka_unit_test_setup_teardown(test_aborts_of_many, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
