/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What a worker knows of spokes: many of them, by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "../../src/plugins/services/bus/bus.h"

#define MANY 20000
#define FEW 2000
#define FINDS 10000

static struct conn *conn;

struct conn *conn_find(const struct bus *bus, uint64_t number)
{
	(void)bus;
	return number == conn->number ? conn : NULL;
}

/* Tests */

static int setup(void **state)
{
	struct bus *bus = calloc(1, sizeof(*bus));

	conn = calloc(1, sizeof(*conn));
	assert_non_null(bus);
	assert_non_null(conn);
	bus->self = 1;
	conn->bus = bus;
	conn->number = 77;
	*state = bus;
	return 0;
}

static int teardown(void **state)
{
	spoke_all_end(*state);
	free(conn);
	free(*state);
	return 0;
}

static void add(struct bus *bus, uint64_t worker, uint64_t connection, const char *name)
{
	struct wire_out out;
	struct wire_in in;

	wire_begin(&out, WIRE_SPOKE);
	wire_number(&out, worker);
	wire_number(&out, connection);
	wire_text(&out, name);
	wire_text(&out, "somebody");
	wire_text(&out, "[{\"name\":\"/x\"}]");
	wire_open(&in, out.bytes, out.n);
	spoke_add(bus, &in);
	wire_free(&out);
}

static uint64_t whose(const struct bus *bus, const char *operation)
{
	struct operation_at at;

	return spoke_find(bus, operation, &at) ? at.spoke->connection : 0;
}

static void test_names(void **state)
{
	struct bus *bus = *state;

	add(bus, 1, 77, "dev");
	assert_ptr_equal(conn->spoke, bus->spokes);
	add(bus, 2, 3, "dev2");
	add(bus, 2, 77, "de");
	add(bus, 2, 9, "dev"); /* it is there */
	assert_int_equal(whose(bus, "/dev/x"), 77);
	assert_int_equal(whose(bus, "/dev2/x"), 3);
	assert_int_equal(whose(bus, "/dev/y"), 0);
	assert_int_equal(whose(bus, "/dev3/x"), 0);
	assert_int_equal(whose(bus, "dev/x"), 0);
	assert_int_equal(whose(bus, "/"), 0);
	/* Of another worker, with a connection of that number. */
	spoke_remove(bus, "de");
	assert_non_null(conn->spoke);
	spoke_remove(bus, "dev");
	assert_null(conn->spoke);
	spoke_remove(bus, "dev");
	assert_int_equal(whose(bus, "/dev/x"), 0);
	add(bus, 2, 9, "dev");
	assert_int_equal(whose(bus, "/dev/x"), 9);
}

/* CPU time of looking for the oldest. */
static clock_t cost(struct bus *bus, unsigned n)
{
	char name[32];
	clock_t start;

	for (unsigned i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "s%u", i);
		add(bus, 2, i + 1, name);
	}
	start = clock();
	for (unsigned i = 0; i < FINDS; i++)
		assert_int_equal(whose(bus, "/s0/x"), 1);
	start = clock() - start;
	for (unsigned i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "s%u", i);
		spoke_remove(bus, name);
	}
	assert_null(bus->spokes);
	return start;
}

static void test_one_of_many(void **state)
{
	clock_t few = cost(*state, FEW), many = cost(*state, MANY);

	assert_true(many < 4 * few + CLOCKS_PER_SEC / 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_of_many, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
