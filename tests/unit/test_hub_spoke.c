/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What spokes may register with the hub. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../../src/plugins/services/bus/hub.h"

#define BIG ((size_t)256 << 10)
#define ENOUGH (HUB_IDENTITY_BYTES / BIG) /* of them for one identity */

static char code[32];
static size_t told; /* bytes */

bool hub_say(struct hub *hub, uint64_t worker, struct wire_out *out)
{
	struct wire_in in;

	(void)hub, (void)worker;
	assert_false(out->bad);
	told += out->n;
	if (wire_open(&in, out->bytes, out->n) == WIRE_REGISTERED) {
		wire_get_number(&in);
		snprintf(code, sizeof(code), "%s", wire_get_text(&in));
	}
	wire_free(out);
	return true;
}

static struct hub_worker worker = {.number = 1};

/* Gives the code, "" if it went well. */
static const char *register_as(struct hub *hub, const char *identity, uint64_t connection,
			       size_t bytes)
{
	char *operations = malloc(bytes + 1), name[32];
	struct wire_out out;
	struct wire_in in;

	assert_non_null(operations);
	memset(operations, ' ', bytes);
	operations[0] = '[';
	operations[bytes - 1] = ']';
	operations[bytes] = '\0';
	snprintf(name, sizeof(name), "%s%u", identity, (unsigned)connection);
	wire_begin(&out, WIRE_REGISTER);
	wire_number(&out, 1);
	wire_number(&out, connection);
	wire_text(&out, name);
	wire_text(&out, identity);
	wire_text(&out, operations);
	wire_open(&in, out.bytes, out.n);
	strcpy(code, "nothing");
	hub_register(hub, &worker, &in);
	wire_free(&out);
	free(operations);
	return code;
}

static void test_bytes_of_operations(void **state)
{
	static const char *const identities[] = {"a", "b", "c", "d"};
	struct hub hub = {.loop = NULL};
	uint64_t n = 0;

	(void)state;
	TAILQ_INIT(&hub.spokes);
	for (size_t i = 0; i < 4; i++) {
		for (size_t k = 0; k < ENOUGH; k++)
			assert_string_equal(register_as(&hub, identities[i], ++n, BIG), "");
		assert_string_equal(register_as(&hub, identities[i], ++n, 2), "OVERLOADED");
	}
	/* All of it is too much for one more, and not too much for a worker that comes. */
	assert_int_equal(4 * HUB_IDENTITY_BYTES, HUB_SPOKES_BYTES);
	assert_string_equal(register_as(&hub, "e", ++n, 2), "OVERLOADED");
	told = 0;
	hub_spokes_tell(&hub, 2);
	assert_in_range(told, HUB_SPOKES_BYTES, HUB_SPOKES_BYTES + (1 << 20));
	/* One of a's goes, and its name is known. */
	hub_gone(&hub, &worker, 1);
	assert_string_equal(register_as(&hub, "a", 1, BIG), "");
	assert_string_equal(register_as(&hub, "e", ++n, 2), "OVERLOADED");
	hub_spokes_down(&hub, 1);
	assert_string_equal(register_as(&hub, "e", ++n, 2), "");
	hub_spokes_deinit(&hub);
	assert_int_equal(hub.spokes_bytes, 0);
	assert_int_equal(hub.n_spokes, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes_of_operations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
