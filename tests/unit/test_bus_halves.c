/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Both halves of the bus: two workers and the hub, whose messages wait until the test wants them
 * heard. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../../src/plugins/services/bus/hub.h"

#define WORKERS 2

/* Messages */

struct message {
	STAILQ_ENTRY(message) entry;
	uint64_t worker;
	size_t n;
	uint8_t bytes[];
};
STAILQ_HEAD(messages, message);

static struct messages up, down;
static struct hub *hub;
static struct bus *bus[WORKERS + 1]; /* each at its number */
static char ends[WORKERS + 1];	     /* of the line; the hub's first */

int alk_half_send(struct alk_half *half, uint64_t worker, const void *bytes, size_t n)
{
	size_t from = (size_t)((char *)half - ends);
	struct message *m = malloc(sizeof(*m) + n);

	assert_non_null(m);
	m->worker = from == 0 ? worker : from;
	m->n = n;
	memcpy(m->bytes, bytes, n);
	if (from == 0)
		STAILQ_INSERT_TAIL(&down, m, entry);
	else
		STAILQ_INSERT_TAIL(&up, m, entry);
	return 0;
}

static struct message *take(struct messages *messages)
{
	struct message *m = STAILQ_FIRST(messages);

	if (m != NULL)
		STAILQ_REMOVE_HEAD(messages, entry);
	return m;
}

static void hub_hears(void)
{
	struct message *m;

	while ((m = take(&up)) != NULL) {
		hub_hear(hub, m->worker, m->bytes, m->n);
		free(m);
	}
}

static void workers_hear(void)
{
	struct message *m;

	while ((m = take(&down)) != NULL) {
		for (uint64_t i = 1; i <= WORKERS; i++)
			if (m->worker == i || m->worker == ALK_HALF_EVERY_WORKER)
				bus_hear(bus[i], m->bytes, m->n);
		free(m);
	}
}

static void all_hear(void)
{
	while (!STAILQ_EMPTY(&up) || !STAILQ_EMPTY(&down)) {
		hub_hears();
		workers_hear();
	}
}

/* Channels */

struct channel {
	struct alk_identity identity;
	json_t *last; /* frame that it got */
	unsigned events;
};

static ssize_t way_write(struct conn *c, const struct iovec *parts, int n)
{
	struct channel *channel = c->at;
	size_t bytes = 0;

	for (int i = 0; i < n; i++) {
		const char *type;

		json_decref(channel->last);
		channel->last = json_loadb((const char *)parts[i].iov_base + 4,
					   parts[i].iov_len - 4, 0, NULL);
		assert_non_null(channel->last);
		type = json_string_value(json_object_get(channel->last, "type"));
		channel->events += strncmp(type, "__", 2) != 0 && strcmp(type, "error") != 0;
		bytes += parts[i].iov_len;
	}
	return (ssize_t)bytes;
}

static void way_nothing(struct conn *c)
{
	(void)c;
}

static void way_forget(struct conn *c)
{
	struct channel *channel = c->at;

	json_decref(channel->last);
	free(channel);
}

static const struct alk_identity *way_identity(const struct conn *c)
{
	return &((const struct channel *)c->at)->identity;
}

static int way_ask(struct conn *c, const struct alk_channel_question *question,
		   void (*done)(void *user, bool allowed, const char *reason), void *user,
		   struct alk_channel_ask **ask)
{
	(void)c, (void)question, (void)done, (void)user, (void)ask;
	return 1;
}

static const struct conn_way way = {.write = way_write,
				    .resume = way_nothing,
				    .close = way_nothing,
				    .identity = way_identity,
				    .ask = way_ask,
				    .forget = way_forget};

static struct conn *open_as(uint64_t worker, const char *identity)
{
	struct channel *channel = calloc(1, sizeof(*channel));
	struct conn *c;

	assert_non_null(channel);
	channel->identity.id = identity;
	c = conn_new(bus[worker], &way, channel);
	assert_non_null(c);
	return c;
}

/* Gives what it was answered with last, perhaps before. */
static const char *said(struct conn *c)
{
	const struct channel *channel = c->at;
	const json_t *payload = json_object_get(channel->last, "payload");
	const char *code = json_string_value(json_object_get(payload, "code"));

	return code != NULL ? code : json_string_value(json_object_get(channel->last, "type"));
}

static void say(struct conn *c, const char *type, const char *id, json_t *payload)
{
	size_t n;
	uint8_t *bytes = frame_make(type, id, payload, &n);

	assert_non_null(bytes);
	assert_int_equal(conn_data(c, bytes, n), n);
	frame_free(&bytes, n);
}

static void subscribe(struct conn *c, const char *topic, const char *group)
{
	json_t *payload = json_pack("{s:s}", "topic", topic);

	if (*group != '\0')
		json_object_set_new(payload, "group", json_string(group));
	say(c, "__subscribe", topic, payload);
}

static const char *subscribed(struct conn *c, const char *topic, const char *group)
{
	subscribe(c, topic, group);
	all_hear();
	conn_flush(c);
	return said(c);
}

static unsigned events_of(struct conn *c)
{
	conn_flush(c);
	return ((const struct channel *)c->at)->events;
}

static void on_tell(void *user)
{
	(void)user;
}

static struct bus *worker_make(struct alk_loop *loop, uint64_t number)
{
	struct bus *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	b->loop = loop;
	b->half = (struct alk_half *)&ends[number];
	b->tell = alk_timer_new(loop, "counters", on_tell, b);
	b->topics = topics_new();
	b->frame_max = b->queue_max = (size_t)1 << 20;
	b->subscriptions_max = b->calls_max = 1000000;
	conn_turns_init(b);
	half_start(b);
	return b;
}

static int setup(void **state)
{
	struct alk_loop *loop = alk_loop_new(NULL);

	STAILQ_INIT(&up);
	STAILQ_INIT(&down);
	hub = calloc(1, sizeof(*hub));
	assert_non_null(hub);
	hub->loop = loop;
	hub->half = (struct alk_half *)&ends[0];
	hub->topics = topics_new();
	hub_hear_init(hub);
	TAILQ_INIT(&hub->wants);
	TAILQ_INIT(&hub->kept);
	TAILQ_INIT(&hub->spokes);
	TAILQ_INIT(&hub->tails);
	TAILQ_INIT(&hub->calls);
	for (uint64_t i = 1; i <= WORKERS; i++) {
		bus[i] = worker_make(loop, i);
		hub_worker_up(hub, i);
	}
	all_hear();
	*state = loop;
	return 0;
}

static void worker_end(struct bus *b)
{
	while (b->conns != NULL) {
		struct conn *c = b->conns;

		conn_free(&c);
	}
	event_end(b);
	alk_task_cancel(b->loop, &b->turn);
	half_stop(b);
	topics_free(&b->topics);
	free(b->groups);
	alk_timer_free(&b->tell);
	free(b);
}

static int teardown(void **state)
{
	struct alk_loop *loop = *state;

	for (uint64_t i = 1; i <= WORKERS; i++)
		worker_end(bus[i]);
	while (!STAILQ_EMPTY(&up))
		free(take(&up));
	while (!STAILQ_EMPTY(&down))
		free(take(&down));
	hub_free(&hub);
	alk_loop_free(&loop);
	return 0;
}

/* Groups */

/* In nobody's name. */
static void ask_as_worker(uint64_t worker, const char *pattern, const char *group)
{
	struct wire_out out;

	wire_begin(&out, WIRE_SUBSCRIBE);
	wire_number(&out, UINT64_MAX);
	wire_number(&out, WIRE_REPLAY_NO);
	wire_number(&out, 0);
	wire_text(&out, pattern);
	wire_text(&out, group);
	wire_text(&out, "");
	hub_hear(hub, worker, out.bytes, out.n);
	wire_free(&out);
}

/* One that has all numbers but this one. */
static void fill_groups(uint64_t but)
{
	static struct hub_want others;

	hub->groups = calloc(BUS_GROUPS_MAX, sizeof(*hub->groups));
	assert_non_null(hub->groups);
	for (size_t i = 0; i < BUS_GROUPS_MAX; i++)
		hub->groups[i] = i + 1 != but ? &others : NULL;
	hub->size_groups = BUS_GROUPS_MAX;
	hub->n_groups = BUS_GROUPS_MAX - 1;
}

/* Who was refused and is gone later takes nothing away from who was not. */
static void test_a_group_that_was_refused(void **state)
{
	struct conn *first, *second, *third, *sender;
	uint64_t number;

	(void)state;
	fill_groups(60000);
	first = open_as(1, "a");
	second = open_as(1, "b");
	third = open_as(1, "c");
	sender = open_as(2, "d");
	assert_string_equal(subscribed(third, "other", "g"), "__ok");
	/* Asked for while there is no room, answered when there is. */
	subscribe(first, "p", "g");
	say(third, "__unsubscribe", "other", json_object());
	subscribe(second, "p", "g");
	all_hear();
	conn_flush(first);
	conn_flush(second);
	assert_string_equal(said(first), "OVERLOADED");
	assert_string_equal(said(second), "__ok");
	number = second->subs->group->number;
	assert_non_null(hub->groups[number - 1]);
	assert_string_equal(hub->groups[number - 1]->pattern, "p");
	conn_free(&first);
	all_hear();
	say(sender, "p", "", json_object());
	all_hear();
	assert_int_equal(events_of(second), 1);
	/* And nobody else gets its number. */
	assert_string_equal(subscribed(third, "other", "g"), "OVERLOADED");
	assert_int_equal(hub->n_groups, BUS_GROUPS_MAX);
}

/* The same of one that has gone before it was answered: it takes itself away, if it was taken. */
static void test_who_goes_before_the_answer(void **state)
{
	struct conn *gone, *stays = open_as(1, "b"), *sender = open_as(2, "d");

	(void)state;
	fill_groups(60000);
	for (unsigned i = 0; i < 2; i++) {
		gone = open_as(1, "a");
		subscribe(gone, "p", "g");
		hub_hears();
		assert_int_equal(hub->n_groups, BUS_GROUPS_MAX);
		conn_free(&gone);
		all_hear();
		assert_int_equal(hub->n_groups, BUS_GROUPS_MAX - 1);
	}
	ask_as_worker(2, "other", "g");
	gone = open_as(1, "a");
	subscribe(gone, "p", "g");
	hub_hears();
	conn_free(&gone);
	hub_worker_down(hub, 2);
	hub_worker_up(hub, 2);
	subscribe(stays, "p", "g");
	all_hear();
	say(sender, "p", "", json_object());
	all_hear();
	assert_int_equal(events_of(stays), 1);
	for (size_t i = 0; i < BUS_TAG_BUCKETS; i++)
		assert_true(LIST_EMPTY(&bus[1]->asked[i]));
}

/* Nobody waits for a history that nobody reads to its end. */
static void test_a_history_that_is_left(void **state)
{
	struct conn *gone = open_as(1, "a");

	(void)state;
	bus[1]->backend = true;
	say(gone, "__subscribe", "r", json_pack("{s:s, s:s}", "topic", "p", "replay", "all"));
	all_hear();
	assert_null(((struct channel *)gone->at)->last);
	assert_false(TAILQ_EMPTY(&hub->wants));
	conn_free(&gone);
	all_hear();
	assert_true(TAILQ_EMPTY(&hub->wants));
	for (size_t i = 0; i < BUS_TAG_BUCKETS; i++)
		assert_true(LIST_EMPTY(&bus[1]->asked[i]));
}

/* Shares */

static void test_groups_of_an_identity(void **state)
{
	struct conn *a = open_as(1, "a"), *b = open_as(2, "a"), *other = open_as(1, "b");
	struct hub_share *share;
	char group[32];

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		snprintf(group, sizeof(group), "g%u", i);
		say(i % 2 == 0 ? a : b, "__subscribe", group,
		    json_pack("{s:s, s:s}", "topic", "p", "group", group));
		all_hear();
	}
	share = TAILQ_FIRST(&hub->wants)->share;
	assert_int_equal(share->groups, 4);
	share->groups += HUB_IDENTITY_GROUPS - 4;
	assert_string_equal(subscribed(a, "q", "g"), "OVERLOADED");
	assert_string_equal(subscribed(b, "q", "g"), "OVERLOADED");
	assert_string_equal(subscribed(a, "q", ""), "__ok");
	/* One of those that are there costs nobody anything. */
	assert_string_equal(subscribed(a, "p", "g1"), "__ok");
	assert_string_equal(subscribed(other, "p", "g1"), "__ok");
	assert_string_equal(subscribed(other, "q", "g"), "__ok");
	assert_string_equal(subscribed(a, "r", "g"), "OVERLOADED");
	say(a, "__unsubscribe", "g0", json_object());
	assert_string_equal(subscribed(a, "r", "g"), "__ok");
	share->groups -= HUB_IDENTITY_GROUPS - 4;
	/* What ended is paid back, however it ended. */
	conn_free(&a);
	all_hear();
	hub_worker_down(hub, 2);
	hub_worker_up(hub, 2);
	conn_free(&other);
	all_hear();
	assert_true(TAILQ_EMPTY(&hub->wants));
	assert_int_equal(hub->n_groups, 0);
	for (size_t i = 0; i < HUB_SHARE_BUCKETS; i++)
		assert_true(LIST_EMPTY(&hub->shares[i]));
}

static void test_patterns_of_an_identity(void **state)
{
	struct conn *a = open_as(1, "a"), *b = open_as(2, "a"), *other = open_as(1, "b");
	struct hub_share *share;
	size_t each;

	(void)state;
	assert_string_equal(subscribed(a, "x.*:id", ""), "__ok");
	share = TAILQ_FIRST(&hub->wants)->share;
	each = share->bytes;
	assert_int_equal(each, HUB_WANT_BYTES + 3 * HUB_WANT_TOKEN_BYTES + strlen("x.*:id"));
	share->bytes = HUB_IDENTITY_WANTS - each;
	assert_string_equal(subscribed(b, "x.*:ie", ""), "__ok");
	assert_string_equal(subscribed(a, "y", ""), "OVERLOADED");
	assert_string_equal(subscribed(b, "y", "g"), "OVERLOADED");
	assert_string_equal(subscribed(other, "y", ""), "__ok");
	assert_string_equal(subscribed(a, "y", ""), "__ok");
	conn_free(&b);
	assert_string_equal(subscribed(a, "z", ""), "__ok");
	share->bytes -= HUB_IDENTITY_WANTS - 2 * each;
	conn_free(&a);
	conn_free(&other);
	all_hear();
	for (size_t i = 0; i < HUB_SHARE_BUCKETS; i++)
		assert_true(LIST_EMPTY(&hub->shares[i]));
}

/* Work */

#define DEEP 12

/* All patterns of so many tokens that are x or a star, and a last one. */
static void want_deep(const char *last)
{
	for (unsigned i = 0; i < 1u << DEEP; i++) {
		char pattern[64], *at = pattern;

		for (unsigned k = 0; k < DEEP; k++) {
			*at++ = i >> k & 1 ? 'x' : '*';
			*at++ = '.';
		}
		strcpy(at, last);
		hub->work = 0;
		ask_as_worker(1, pattern, "");
	}
	all_hear();
}

static void publish_deep(struct conn *c, unsigned n)
{
	char id[16];

	for (unsigned i = 0; i < n; i++) {
		snprintf(id, sizeof(id), "%u", i);
		say(c, "x.x.x.x.x.x.x.x.x.x.x.x.y", id, json_object());
	}
}

static unsigned waits_of(uint64_t worker)
{
	const struct wire_waiting *w;
	unsigned n = 0;

	STAILQ_FOREACH(w, &hub_worker_of(hub, worker)->late, entry)
	{
		n++;
	}
	return n;
}

static struct alk_task stop;

static void on_stop(void *user)
{
	alk_loop_stop(user);
}

static void turn(struct alk_loop *loop)
{
	stop = (struct alk_task){.fn = on_stop, .user = loop};
	alk_task_yield(loop, &stop);
	alk_loop_run(loop);
}

/* Much to look at, whether it is found or not: the hub takes some of it, then the next one's. */
static void work_is_metered(struct alk_loop *loop, const char *last)
{
	struct conn *wants = open_as(1, "a"), *flood = open_as(2, "b"), *other = open_as(1, "c");
	struct conn *hears = open_as(2, "d");
	uint64_t owed;
	unsigned turns = 0;

	want_deep(last);
	assert_string_equal(subscribed(wants, "x.>", ""), "__ok");
	assert_string_equal(subscribed(hears, "end", ""), "__ok");
	hub->work = 0;
	publish_deep(flood, 40);
	hub_hears();
	assert_in_range(waits_of(2), 20, 39);
	owed = bus[2]->said - bus[2]->taken;
	assert_true(owed > 0);
	/* All that comes later waits, of the other worker too, which has its turn soon. */
	say(other, "end", "", json_object());
	all_hear();
	assert_int_equal(waits_of(1), 1);
	assert_int_equal(events_of(hears), 0);
	turn(loop);
	all_hear();
	assert_int_equal(waits_of(1), 0);
	assert_int_equal(events_of(hears), 1);
	assert_true(waits_of(2) > 5);
	for (; waits_of(2) > 0; turns++)
		turn(loop);
	assert_in_range(turns, 1, 10);
	all_hear();
	assert_int_equal(events_of(wants), 40);
}

static void test_what_is_found(void **state)
{
	work_is_metered(*state, "y");
}

static void test_what_is_not_found(void **state)
{
	work_is_metered(*state, "z");
}

/* What waits of a worker that goes is heard, if it is not too much. */
static void test_a_worker_goes(void **state)
{
	struct conn *wants = open_as(1, "a"), *flood = open_as(2, "b");

	(void)state;
	want_deep("y");
	assert_string_equal(subscribed(wants, "x.>", ""), "__ok");
	publish_deep(flood, 2);
	hub->work = BUS_WORK_MAX;
	hub_hears();
	assert_int_equal(waits_of(2), 2);
	hub_worker_down(hub, 2);
	all_hear();
	assert_int_equal(events_of(wants), 2);
	hub_worker_up(hub, 2);
	publish_deep(flood, 40);
	hub->work = BUS_WORK_MAX;
	hub_hears();
	hub_worker_down(hub, 2);
	all_hear();
	assert_in_range(events_of(wants), 3, 20);
	hub_worker_up(hub, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_group_that_was_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_who_goes_before_the_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_history_that_is_left, setup, teardown),
		cmocka_unit_test_setup_teardown(test_groups_of_an_identity, setup, teardown),
		cmocka_unit_test_setup_teardown(test_patterns_of_an_identity, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_found, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_not_found, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_worker_goes, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
