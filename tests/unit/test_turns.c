/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "turns.h"

static void add(struct alk_turns *turns, const char *source, uint64_t number)
{
	struct alk_link link = ALK_LINK_NONE;

	snprintf(link.remote_addr, sizeof(link.remote_addr), "%s", source);
	assert_int_equal(alk_turns_add(turns, source, number, &link), 0);
}

/* Gives the number, and looks that the link is the one that was added. */
static uint64_t out(uint64_t (*op)(struct alk_turns *, struct alk_link *), struct alk_turns *turns,
		    const char *source)
{
	struct alk_link link = ALK_LINK_NONE;
	uint64_t number = op(turns, &link);

	assert_string_equal(link.remote_addr, source);
	return number;
}

#define take(turns, source) out(alk_turns_take, turns, source)
#define push_out(turns, source) out(alk_turns_push_out, turns, source)

/* One has many, another comes later with one: it is served second at the latest. */
static void test_flood_waits_behind_itself(void **state)
{
	struct alk_turns *turns = alk_turns_new();

	(void)state;
	assert_non_null(turns);
	for (uint64_t i = 1; i <= 500; i++)
		add(turns, "flood", i);
	assert_int_equal(take(turns, "flood"), 1);
	add(turns, "late", 1000);
	assert_int_equal(alk_turns_of(turns, "flood"), 499);
	assert_int_equal(alk_turns_of(turns, "late"), 1);
	assert_int_equal(take(turns, "late"), 1000);
	assert_int_equal(take(turns, "flood"), 2);
	/* It comes again, as one that was served: turn by turn. */
	add(turns, "late", 1001);
	add(turns, "late", 1002);
	assert_int_equal(take(turns, "late"), 1001);
	assert_int_equal(take(turns, "flood"), 3);
	assert_int_equal(take(turns, "late"), 1002);
	assert_int_equal(take(turns, "flood"), 4);
	assert_int_equal(alk_turns_count(turns), 496);
	alk_turns_free(&turns);
	assert_null(turns);
}

/* A source that had no turn yet comes before all that had one, however many those are. */
static void test_who_was_never_served_comes_first(void **state)
{
	struct alk_turns *turns = alk_turns_new();
	char name[16];

	(void)state;
	for (uint64_t i = 1; i <= 300; i++) {
		snprintf(name, sizeof(name), "bot%u", (unsigned)i);
		add(turns, name, i);
		add(turns, name, 1000 + i);
	}
	for (uint64_t i = 1; i <= 300; i++) {
		snprintf(name, sizeof(name), "bot%u", (unsigned)i);
		assert_int_equal(take(turns, name), i);
	}
	add(turns, "honest", 5000);
	assert_int_equal(take(turns, "honest"), 5000);
	assert_int_equal(take(turns, "bot1"), 1001);
	alk_turns_free(&turns);
}

/* Who was served and has nothing waiting is remembered while others wait, so it does not jump the
 * queue. */
static void test_idle_is_no_trick(void **state)
{
	struct alk_turns *turns = alk_turns_new();
	struct alk_link link;

	(void)state;
	add(turns, "a", 1);
	add(turns, "b", 2);
	add(turns, "b", 3);
	assert_int_equal(take(turns, "a"), 1);
	assert_int_equal(take(turns, "b"), 2);
	add(turns, "b", 4);
	add(turns, "c", 5);
	add(turns, "a", 6); /* was served before b, and after c, who never was */
	assert_int_equal(take(turns, "c"), 5);
	assert_int_equal(take(turns, "a"), 6);
	assert_int_equal(take(turns, "b"), 3);
	assert_int_equal(take(turns, "b"), 4);
	assert_int_equal(alk_turns_sources(turns), 3);
	assert_int_equal(alk_turns_take(turns, &link), 0);
	assert_int_equal(alk_turns_push_out(turns, &link), 0);
	assert_int_equal(alk_turns_sources(turns), 0); /* nobody waits: all are strangers again */
	alk_turns_free(&turns);
}

static void test_too_many_are_the_floods(void **state)
{
	struct alk_turns *turns = alk_turns_new();

	(void)state;
	for (uint64_t i = 1; i <= 8; i++)
		add(turns, "flood", i);
	add(turns, "a", 20);
	add(turns, "b", 21);
	add(turns, "b", 22);
	assert_int_equal(push_out(turns, "flood"), 1); /* the oldest */
	assert_int_equal(take(turns, "flood"), 2);
	for (uint64_t i = 3; i <= 6; i++)
		assert_int_equal(push_out(turns, "flood"), i);
	/* Two each: the one that was served goes. */
	assert_int_equal(push_out(turns, "flood"), 7);
	assert_int_equal(push_out(turns, "b"), 21);
	assert_int_equal(alk_turns_count(turns), 3);
	alk_turns_free(&turns);
}

/* Thousands of addresses, one link each: what is remembered of them is bounded. */
static void test_memory_is_bounded(void **state)
{
	struct alk_turns *turns = alk_turns_new();
	char name[16];
	struct alk_link link;

	(void)state;
	for (uint64_t i = 1; i <= 20000; i++) {
		snprintf(name, sizeof(name), "n%u", (unsigned)i);
		add(turns, name, i);
		if (i > 100)
			assert_int_equal(alk_turns_take(turns, &link), i - 100);
		assert_in_range(alk_turns_sources(turns), 1, ALK_TURNS_IDLE + 101);
	}
	while (alk_turns_count(turns) > 0)
		assert_int_not_equal(alk_turns_push_out(turns, &link), 0);
	assert_int_equal(alk_turns_sources(turns), ALK_TURNS_IDLE);
	alk_turns_free(&turns);
}

static void test_descriptors(void **state)
{
	struct alk_turns *turns = alk_turns_new();
	struct alk_link link = ALK_LINK_NONE;
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	link.fd = fds[0];
	assert_int_equal(alk_turns_add(turns, "a", 1, &link), 0);
	assert_int_equal(link.fd, -1);
	link.fd = fds[1];
	assert_int_equal(alk_turns_add(turns, "a", 2, &link), 0);
	assert_int_equal(alk_turns_take(turns, &link), 1);
	assert_int_equal(link.fd, fds[0]);
	alk_turns_free(&turns);
	assert_int_equal(fcntl(fds[1], F_GETFD), -1);
	assert_int_equal(fcntl(fds[0], F_GETFD) & ~FD_CLOEXEC, 0);
	alk_link_close(&link);
}

/* Against a model that looks at everything each time. */

#define SOURCES 6
#define LINKS 4000

struct model {
	struct {
		uint64_t number;
		unsigned source;
	} link[LINKS];
	size_t n;
	uint64_t served[SOURCES], services;
	uint64_t queued[SOURCES]; /* when its first one that waits came to be first in line */
	uint64_t clock;
};

static size_t model_of(const struct model *m, unsigned source)
{
	size_t n = 0;

	for (size_t i = 0; i < m->n; i++)
		n += m->link[i].source == source;
	return n;
}

static uint64_t model_remove(struct model *m, unsigned source)
{
	uint64_t number;
	size_t i = 0;

	while (m->link[i].source != source)
		i++;
	number = m->link[i].number;
	memmove(&m->link[i], &m->link[i + 1], (--m->n - i) * sizeof(m->link[0]));
	return number;
}

/* Served longest ago; of those that never were, who came first. */
static bool model_before(const struct model *m, unsigned a, unsigned b)
{
	return m->served[a] != m->served[b] ? m->served[a] < m->served[b]
					    : m->queued[a] < m->queued[b];
}

static uint64_t model_take(struct model *m, unsigned *sourcep)
{
	unsigned best = SOURCES;

	for (unsigned s = 0; s < SOURCES; s++)
		if (model_of(m, s) > 0 && (best == SOURCES || model_before(m, s, best)))
			best = s;
	*sourcep = best;
	if (best == SOURCES) {
		memset(m->served, 0, sizeof(m->served));
		return 0;
	}
	m->served[best] = ++m->services;
	return model_remove(m, best);
}

static uint64_t model_push_out(struct model *m, unsigned *sourcep)
{
	unsigned most = SOURCES;

	for (unsigned s = 0; s < SOURCES; s++) {
		size_t n = model_of(m, s);

		if (n > 0 && (most == SOURCES || n > model_of(m, most) ||
			      (n == model_of(m, most) && model_before(m, most, s))))
			most = s;
	}
	*sourcep = most;
	return most == SOURCES ? 0 : model_remove(m, most);
}

static void test_model(void **state)
{
	static const char *const name[SOURCES] = {"192.0.2.1",	   "192.0.2.2",	   "2001:db8::/64",
						  "2001:db9::/64", "198.51.100.7", "iroh"};
	struct model *m = calloc(1, sizeof(*m));
	struct alk_turns *turns = alk_turns_new();
	unsigned seed = (unsigned)getpid();

	(void)state;
	assert_non_null(m);
	print_message("seed %u\n", seed);
	srandom(seed);
	for (uint64_t step = 1; step < 100000; step++) {
		unsigned dice = (unsigned)random() % 100, source = SOURCES;
		struct alk_link link = ALK_LINK_NONE;
		uint64_t expected, number;

		/* Times of many and times of few. */
		if (dice < ((step / 500) % 2 ? 60u : 35u) && m->n < LINKS) {
			source = (unsigned)random() % 3 ? 0 : (unsigned)random() % SOURCES;
			if (model_of(m, source) == 0)
				m->queued[source] = ++m->clock;
			m->link[m->n].number = step;
			m->link[m->n++].source = source;
			add(turns, name[source], step);
		} else {
			bool taken = dice < 95;

			expected = taken ? model_take(m, &source) : model_push_out(m, &source);
			number = taken ? alk_turns_take(turns, &link)
				       : alk_turns_push_out(turns, &link);
			assert_int_equal(number, expected);
			if (number != 0)
				assert_string_equal(link.remote_addr, name[source]);
		}
		assert_int_equal(alk_turns_count(turns), m->n);
		if (source < SOURCES)
			assert_int_equal(alk_turns_of(turns, name[source]), model_of(m, source));
	}
	alk_turns_free(&turns);
	free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flood_waits_behind_itself),
		cmocka_unit_test(test_who_was_never_served_comes_first),
		cmocka_unit_test(test_idle_is_no_trick),
		cmocka_unit_test(test_too_many_are_the_floods),
		cmocka_unit_test(test_memory_is_bounded),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
