/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* How many histories are read, and for whom. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../../src/plugins/services/bus/hub_nats.h"

static unsigned asked, answered;
static char code[32];

bool nats_topic(const struct nats *nats, char out[NATS_SUBJECT_MAX], const char *part,
		const char *topic, bool pattern)
{
	(void)nats, (void)pattern;
	snprintf(out, NATS_SUBJECT_MAX, "%s.%s", part, topic);
	return true;
}

void nats_link_say(struct nats_link *link, struct wire_out *out)
{
	struct wire_in in;

	(void)link;
	assert_false(out->bad);
	asked += (enum nats_op)wire_open(&in, out->bytes, out->n) == NATS_PAST;
	wire_free(out);
}

void hub_subscribed(struct hub *hub, uint64_t worker, uint64_t tag, uint64_t group,
		    const char *with, const char *message)
{
	(void)hub, (void)worker, (void)tag, (void)group, (void)message;
	answered++;
	snprintf(code, sizeof(code), "%s", with);
}

void hub_replay_one(struct hub *hub, uint64_t worker, uint64_t tag, bool recent,
		    const uint8_t *frame, size_t n)
{
	(void)hub, (void)worker, (void)tag, (void)recent, (void)frame, (void)n;
	fail_msg("there is no history");
}

static struct nats nats;
static struct hub hub = {.nats = &nats};

static int begin(void **state)
{
	(void)state;
	nats = (struct nats){.hub = &hub, .n_durable = 1, .flows = true};
	TAILQ_INIT(&nats.pasts);
	asked = answered = 0;
	return 0;
}

/* Gives the code, "" if it is read. */
static const char *past(const char *identity, uint64_t worker, uint64_t tag)
{
	const char *wrong = hub_nats_past(&hub, worker, tag, "order.>", 0, identity);

	return wrong != NULL ? wrong : "";
}

/* The program has read it. */
static void end(uint64_t tag)
{
	struct wire_out out;
	struct wire_in in;

	wire_begin(&out, (enum wire_op)NATS_THEN_END);
	wire_number(&out, tag);
	wire_text(&out, "");
	wire_open(&in, out.bytes, out.n);
	nats_hear_then_end(&nats, &in);
	wire_free(&out);
}

static void assert_no_share(void)
{
	for (size_t i = 0; i < HUB_SHARE_BUCKETS; i++)
		assert_true(LIST_EMPTY(&hub.shares[i]));
}

static void test_histories_of_an_identity(void **state)
{
	uint64_t first = nats.last_past + 1;

	(void)state;
	/* Whatever its workers are. */
	for (unsigned i = 0; i < NATS_PASTS_SHARE; i++)
		assert_string_equal(past("a", 1 + i % 2, i), "");
	assert_string_equal(past("a", 1, 100), "OVERLOADED");
	assert_string_equal(past("a", 2, 100), "OVERLOADED");
	assert_string_equal(past("b", 1, 100), "");
	assert_int_equal(asked, NATS_PASTS_SHARE + 1);
	/* One that nobody waits for is its own until it has ended. */
	hub_nats_past_stop(&hub, 1, 0);
	assert_string_equal(past("a", 1, 101), "OVERLOADED");
	end(first);
	assert_int_equal(answered, 0);
	assert_string_equal(past("a", 1, 101), "");
	assert_string_equal(past("a", 1, 102), "OVERLOADED");
	/* One that was read is answered. */
	end(first + 1);
	assert_int_equal(answered, 1);
	assert_string_equal(code, "");
	assert_string_equal(past("a", 1, 102), "");
	/* With NATS they go, too. */
	while (!TAILQ_EMPTY(&nats.pasts))
		nats_past_end(&nats, TAILQ_FIRST(&nats.pasts), "UNAVAILABLE", "");
	assert_int_equal(nats.n_pasts, 0);
	assert_no_share();
}

static void test_histories_of_all(void **state)
{
	char identity[16];

	(void)state;
	for (unsigned i = 0; i < NATS_PASTS_MAX; i++) {
		snprintf(identity, sizeof(identity), "%u", i / NATS_PASTS_SHARE);
		assert_string_equal(past(identity, 1, i), "");
	}
	assert_string_equal(past("another", 1, 100), "OVERLOADED");
	assert_string_equal(past("", 1, 100), "OVERLOADED");
	nats_past_end(&nats, TAILQ_FIRST(&nats.pasts), "", "");
	assert_string_equal(past("another", 1, 100), "");
	while (!TAILQ_EMPTY(&nats.pasts))
		nats_past_end(&nats, TAILQ_FIRST(&nats.pasts), "", "");
	assert_no_share();
	/* Who has no limit has no share either. */
	for (unsigned i = 0; i < NATS_PASTS_MAX; i++)
		assert_string_equal(past("", 1, i), "");
	assert_no_share();
	while (!TAILQ_EMPTY(&nats.pasts))
		nats_past_end(&nats, TAILQ_FIRST(&nats.pasts), "", "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_histories_of_an_identity, begin),
		cmocka_unit_test_setup(test_histories_of_all, begin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
