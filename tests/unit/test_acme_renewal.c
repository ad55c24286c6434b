/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* When a certificate is due, and how long to wait after a failure (threat 69). The CA is this
 * file. */
#include "../../src/plugins/transports/tls/acme_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define DAY 86400

static struct {
	const char *window; /* NULL: it does not answer */
	long status;
	int64_t retry_after;
	char asked[1024];
	bool no_directory;
} ca;

/* Of a machine that was started a second ago, whatever time it is. */
static time_t ticks = 1;

time_t acme_client_clock(void)
{
	return ticks;
}

int acme_directory_read(struct acme_client *c, struct alk_err *err)
{
	(void)err;
	if (ca.no_directory)
		return -1;
	c->directory = json_pack("{s:s}", "renewalInfo", "https://ca.example/renewal");
	assert_non_null(c->directory);
	return 0;
}

int acme_wire_get(struct acme_client *c, const char *url, struct acme_reply *reply,
		  struct alk_err *err)
{
	(void)c, (void)err;
	snprintf(ca.asked, sizeof(ca.asked), "%s", url);
	*reply = (struct acme_reply){.status = ca.status, .retry_after = ca.retry_after};
	if (ca.window == NULL)
		return -1;
	reply->json = json_loads(ca.window, 0, NULL);
	return 0;
}

void acme_reply_clear(struct acme_reply *reply)
{
	json_decref(reply->json);
	*reply = (struct acme_reply){0};
}

/* ---- by ourselves ---- */

static void test_t69_two_thirds_and_a_little(void **state)
{
	const struct acme_pair pair = {.not_before = 1000, .not_after = 1000 + 90 * DAY};
	time_t first = 0, last = 0;

	(void)state;
	for (int i = 0; i < 500; i++) {
		time_t due = acme_renewal_time(&pair);

		assert_in_range(due, 1000 + 60 * DAY, 1000 + 60 * DAY + 90 * DAY / 48);
		first = first == 0 || due < first ? due : first;
		last = due > last ? due : last;
	}
	/* Many servers do not come at once: they are spread over most of those 45 hours. */
	assert_true(last - first > 90 * DAY / 48 / 2);
}

static void test_t69_short_lives(void **state)
{
	(void)state;
	for (time_t life = 1; life < 100; life++) {
		const struct acme_pair pair = {.not_before = 1000, .not_after = 1000 + life};

		assert_in_range(acme_renewal_time(&pair), 1000 + life / 3 * 2, 1000 + life);
	}
}

static void test_t69_backoff(void **state)
{
	time_t most = 60;

	(void)state;
	for (unsigned n = 1; n < 100; n++) {
		for (int i = 0; i < 50; i++)
			assert_in_range(acme_renewal_backoff(n), most - most / 4, most);
		most = most * 2 < 6 * 3600 ? most * 2 : 6 * 3600;
	}
	assert_in_range(acme_renewal_backoff(~0u), 6 * 3600 - 6 * 900, 6 * 3600);
}

/* ---- by the CA (RFC 9773) ---- */

static char *window(time_t start, time_t end)
{
	static char text[200];
	char from[32], to[32];
	struct tm tm;

	strftime(from, sizeof(from), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&start, &tm));
	strftime(to, sizeof(to), "%Y-%m-%dT%H:%M:%S.25Z", gmtime_r(&end, &tm));
	snprintf(text, sizeof(text), "{\"suggestedWindow\":{\"start\":\"%s\",\"end\":\"%s\"}}",
		 from, to);
	return text;
}

static struct acme_client client_of(time_t now)
{
	memset(&ca, 0, sizeof(ca));
	ca.status = 200;
	return (struct acme_client){.pair = {.not_before = now - 10 * DAY,
					     .not_after = now + 80 * DAY,
					     .ari_id = "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"}};
}

static void test_inside_the_window(void **state)
{
	time_t now = time(NULL), again;
	struct acme_client c = client_of(now);

	(void)state;
	ca.window = window(now + 5 * DAY, now + 7 * DAY);
	for (int i = 0; i < 50; i++) {
		time_t due = acme_renewal_ask(&c, &again);

		assert_in_range(due, now + 5 * DAY, now + 7 * DAY);
		assert_int_equal(again, ticks + 6 * 3600);
	}
	assert_string_equal(ca.asked,
			    "https://ca.example/renewal/aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
	json_decref(c.directory);
}

/* Not behind the last sixth of its life, whatever the CA says. */
static void test_not_too_late(void **state)
{
	time_t now = time(NULL), again;
	struct acme_client c = client_of(now);

	(void)state;
	ca.window = window(now + 1000 * DAY, now + 1001 * DAY);
	assert_int_equal(acme_renewal_ask(&c, &again), now + 80 * DAY - 15 * DAY);
	json_decref(c.directory);
}

/* Revoked: now. But not each new one again. */
static void test_at_once_and_once(void **state)
{
	time_t now = time(NULL), again;
	struct acme_client c = client_of(now);
	time_t due;

	(void)state;
	ca.window = window(now - 2 * DAY, now - DAY);
	due = acme_renewal_ask(&c, &again);
	assert_true(due > 0 && due <= now);
	assert_int_equal(acme_renewal_ask(&c, &again), 0);
	ticks += 3500;
	assert_int_equal(acme_renewal_ask(&c, &again), 0);
	ticks += 200;
	due = acme_renewal_ask(&c, &again);
	assert_true(due > 0 && due <= now);
	json_decref(c.directory);
}

static void test_when_to_ask_again(void **state)
{
	static const int64_t after[][2] = {{0, 6 * 3600},
					   {1, 60},
					   {7200, 7200},
					   {INT64_C(1) << 40, DAY}};
	time_t now = time(NULL), again;
	struct acme_client c = client_of(now);

	(void)state;
	ca.window = window(now + 5 * DAY, now + 7 * DAY);
	for (size_t i = 0; i < sizeof(after) / sizeof(after[0]); i++) {
		ca.retry_after = after[i][0];
		acme_renewal_ask(&c, &again);
		assert_int_equal(again, ticks + after[i][1]);
	}
	json_decref(c.directory);
}

static void test_answers_that_are_none(void **state)
{
	static const char *const windows[] = {
		"{}",
		"[]",
		"{\"suggestedWindow\":1}",
		"{\"suggestedWindow\":{\"start\":\"2030-01-01T00:00:00Z\"}}",
		"{\"suggestedWindow\":{\"start\":\"2030-01-02T00:00:00Z\",\"end\":\"2030-01-01T00:00:00Z\"}}",
		"{\"suggestedWindow\":{\"start\":\"2030-01-01T00:00:00+02:00\",\"end\":\"2030-01-02T00:00:00+02:00\"}}",
		"{\"suggestedWindow\":{\"start\":\"soon\",\"end\":\"later\"}}",
		NULL,
	};
	time_t now = time(NULL), again;
	struct acme_client c = client_of(now);

	(void)state;
	for (size_t i = 0; i < sizeof(windows) / sizeof(windows[0]); i++) {
		ca.window = windows[i];
		assert_int_equal(acme_renewal_ask(&c, &again), 0);
		assert_true(again > ticks);
	}
	ca.window = window(now + 5 * DAY, now + 7 * DAY);
	ca.status = 404;
	assert_int_equal(acme_renewal_ask(&c, &again), 0);
	json_decref(c.directory);
}

/* A CA that is down is asked later; one that has no such thing, or a certificate without a name for
 * it, never. */
static void test_who_is_asked(void **state)
{
	time_t now = time(NULL), again;
	struct acme_client c = client_of(now);

	(void)state;
	ca.window = window(now + 5 * DAY, now + 7 * DAY);
	ca.no_directory = true;
	assert_int_equal(acme_renewal_ask(&c, &again), 0);
	assert_true(again > ticks);
	c.directory = json_object();
	assert_int_equal(acme_renewal_ask(&c, &again), 0);
	assert_int_equal(again, 0);
	json_decref(c.directory);
	c = client_of(now);
	c.pair.ari_id[0] = '\0';
	assert_int_equal(acme_renewal_ask(&c, &again), 0);
	assert_int_equal(again, 0);
	assert_string_equal(ca.asked, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_t69_two_thirds_and_a_little),
		cmocka_unit_test(test_t69_short_lives),
		cmocka_unit_test(test_t69_backoff),
		cmocka_unit_test(test_inside_the_window),
		cmocka_unit_test(test_not_too_late),
		cmocka_unit_test(test_at_once_and_once),
		cmocka_unit_test(test_when_to_ask_again),
		cmocka_unit_test(test_answers_that_are_none),
		cmocka_unit_test(test_who_is_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
