/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "limit.h"
#include "penalty.h"
#include "ban.h"
#include "misdeed.h"

/* THREATS 2: random early drop, as OpenSSH's MaxStartups. */
static void test_drop_rate(void **state)
{
	struct alk_limit_conf conf = {.start = 10, .rate = 30, .full = 100};

	(void)state;
	assert_int_equal(alk_limit_drop_rate(&conf, 0), 0);
	assert_int_equal(alk_limit_drop_rate(&conf, 9), 0);
	assert_int_equal(alk_limit_drop_rate(&conf, 10), 30);
	assert_int_equal(alk_limit_drop_rate(&conf, 55), 65);
	assert_int_equal(alk_limit_drop_rate(&conf, 99), 99);
	assert_int_equal(alk_limit_drop_rate(&conf, 100), 100);
	assert_int_equal(alk_limit_drop_rate(&conf, 5000), 100);
	conf = (struct alk_limit_conf){0};
	assert_int_equal(alk_limit_drop_rate(&conf, 5000), 0);
	conf = (struct alk_limit_conf){.start = 3, .rate = 100, .full = 3};
	assert_int_equal(alk_limit_drop_rate(&conf, 2), 0);
	assert_int_equal(alk_limit_drop_rate(&conf, 3), 100);
}

static void test_startups(void **state)
{
	struct alk_limit_conf conf = {.start = 10, .rate = 30, .full = 20};
	struct alk_limit *limits = alk_limit_new(&conf);
	unsigned admitted = 0, refused = 0;

	(void)state;
	assert_non_null(limits);
	for (int i = 0; i < 10; i++)
		assert_int_equal(alk_limit_admit(limits, "192.0.2.1"), ALK_REFUSAL_NONE);
	for (int i = 0; i < 10000; i++) {
		enum alk_refusal why = alk_limit_admit(limits, "192.0.2.1");

		if (why == ALK_REFUSAL_NONE) {
			admitted++;
			alk_limit_end(limits, "192.0.2.1", false);
		} else {
			assert_int_equal(why, ALK_REFUSAL_STARTUPS);
			refused++;
		}
	}
	/* 30 % of 10000, give or take ten standard deviations. */
	assert_in_range(refused, 3000 - 460, 3000 + 460);
	assert_int_equal(admitted + refused, 10000);
	while (alk_limit_startups(limits) < 20)
		alk_limit_admit(limits, "192.0.2.1");
	for (int i = 0; i < 100; i++)
		assert_int_equal(alk_limit_admit(limits, "192.0.2.1"), ALK_REFUSAL_STARTUPS);
	for (int i = 0; i < 20; i++)
		alk_limit_login(limits, "192.0.2.1");
	assert_int_equal(alk_limit_startups(limits), 0);
	assert_int_equal(alk_limit_links(limits), 20);
	assert_int_equal(alk_limit_admit(limits, "192.0.2.1"), ALK_REFUSAL_NONE);
	assert_int_equal(alk_limit_startups(limits), 1);
	for (int i = 0; i < 20; i++)
		alk_limit_end(limits, "192.0.2.1", true);
	assert_int_equal(alk_limit_startups(limits), 1);
	alk_limit_end(limits, "192.0.2.1", false);
	assert_int_equal(alk_limit_startups(limits), 0);
	assert_int_equal(alk_limit_links(limits), 0);
	alk_limit_free(&limits);
	assert_null(limits);
}

/* THREATS 2: a few sources that hold all they can get do not shut out another. */
static void test_share(void **state)
{
	struct alk_limit_conf conf = {.start = 10, .rate = 30, .full = 100};
	struct alk_limit *limits = alk_limit_new(&conf);
	char addr[32];
	unsigned n = 0;

	(void)state;
	assert_non_null(limits);
	while (alk_limit_startups(limits) < 100) {
		snprintf(addr, sizeof(addr), "198.51.100.%u", n++ % 3);
		alk_limit_admit(limits, addr);
	}
	/* Ten for four are two for each; what it logs in with makes place for the next. */
	for (int i = 0; i < 2; i++)
		assert_int_equal(alk_limit_admit(limits, "192.0.2.1"), ALK_REFUSAL_NONE);
	assert_int_equal(alk_limit_admit(limits, "192.0.2.1"), ALK_REFUSAL_STARTUPS);
	assert_int_equal(alk_limit_admit(limits, "198.51.100.1"), ALK_REFUSAL_STARTUPS);
	alk_limit_login(limits, "192.0.2.1");
	assert_int_equal(alk_limit_admit(limits, "192.0.2.1"), ALK_REFUSAL_NONE);
	/* Many sources have a share of nothing, and all of them together never more than full and
	 * start. */
	for (n = 0; n < 1000; n++) {
		snprintf(addr, sizeof(addr), "10.0.%u.%u", n / 250, n % 250);
		alk_limit_admit(limits, addr);
	}
	assert_in_range(alk_limit_startups(limits), 102, 110);
	assert_int_equal(alk_limit_admit(limits, "192.0.2.77"), ALK_REFUSAL_STARTUPS);
	alk_limit_free(&limits);
}

#define SOURCES 6
#define LINKS 40

/* Links come, log in and go in any order: what is counted is what is there, and in the end
 * nothing. */
static void test_any_order(void **state)
{
	struct alk_limit_conf conf = {.start = 4, .rate = 50, .full = 12, .per_address = LINKS};
	struct alk_limit *limits = alk_limit_new(&conf);
	unsigned waiting[SOURCES] = {0}, in[SOURCES] = {0}, links = 0, startups = 0;
	uint32_t dice = 1;
	char addr[32];

	(void)state;
	assert_non_null(limits);
	for (int round = 0; round < 200000; round++) {
		unsigned i, what;

		dice = dice * 1664525 + 1013904223;
		i = (dice >> 16) % SOURCES;
		what = (dice >> 24) % 8;
		snprintf(addr, sizeof(addr), "192.0.2.%u", i);
		if (what < 3) {
			bool came = alk_limit_admit(limits, addr) == ALK_REFUSAL_NONE;

			waiting[i] += came;
			startups += came;
			links += came;
		} else if (what < 5 && waiting[i] > 0) {
			alk_limit_login(limits, addr);
			waiting[i]--;
			in[i]++;
			startups--;
		} else if (what == 5 && waiting[i] > 0) {
			alk_limit_end(limits, addr, false);
			waiting[i]--;
			startups--;
			links--;
		} else if (what > 5 && in[i] > 0) {
			alk_limit_end(limits, addr, true);
			in[i]--;
			links--;
		}
		assert_int_equal(alk_limit_startups(limits), startups);
		assert_int_equal(alk_limit_links(limits), links);
		assert_true(startups <= conf.full + conf.start);
		assert_true(in[i] + waiting[i] <= LINKS);
	}
	for (unsigned i = 0; i < SOURCES; i++) {
		snprintf(addr, sizeof(addr), "192.0.2.%u", i);
		for (; waiting[i] > 0; waiting[i]--)
			alk_limit_end(limits, addr, false);
		for (; in[i] > 0; in[i]--)
			alk_limit_end(limits, addr, true);
	}
	assert_int_equal(alk_limit_startups(limits), 0);
	assert_int_equal(alk_limit_links(limits), 0);
	/* No source is left that would take a share: all of START is one's own. */
	for (unsigned i = 0; i < conf.start; i++)
		assert_int_equal(alk_limit_admit(limits, "192.0.2.77"), ALK_REFUSAL_NONE);
	alk_limit_free(&limits);
}

static void test_per_address(void **state)
{
	struct alk_limit_conf conf = {.per_address = 2, .sessions = 6};
	struct alk_limit *limits = alk_limit_new(&conf);

	(void)state;
	assert_int_equal(alk_limit_admit(limits, "192.0.2.1"), ALK_REFUSAL_NONE);
	assert_int_equal(alk_limit_admit(limits, "192.0.2.1"), ALK_REFUSAL_NONE);
	assert_int_equal(alk_limit_admit(limits, "192.0.2.1"), ALK_REFUSAL_ADDRESS);
	assert_int_equal(alk_limit_admit(limits, "192.0.2.10"), ALK_REFUSAL_NONE);
	/* One /64 is one source, two are two. */
	assert_int_equal(alk_limit_admit(limits, "2001:db8:1:2::1"), ALK_REFUSAL_NONE);
	assert_int_equal(alk_limit_admit(limits, "2001:db8:1:2:ffff::2"), ALK_REFUSAL_NONE);
	assert_int_equal(alk_limit_admit(limits, "2001:db8:1:2::3"), ALK_REFUSAL_ADDRESS);
	assert_int_equal(alk_limit_admit(limits, "2001:db8:1:3::3"), ALK_REFUSAL_NONE);
	assert_int_equal(alk_limit_admit(limits, "2001:db8:1:4::3"), ALK_REFUSAL_SESSIONS);
	alk_limit_end(limits, "192.0.2.1", false);
	assert_int_equal(alk_limit_admit(limits, "192.0.2.1"), ALK_REFUSAL_NONE);
	alk_limit_free(&limits);
}

/* Thousands of sources come and go, and nothing is left. */
static void test_many(void **state)
{
	struct alk_limit_conf conf = {.per_address = 1};
	struct alk_limit *limits = alk_limit_new(&conf);
	char addr[64];

	(void)state;
	for (int i = 0; i < 5000; i++) {
		snprintf(addr, sizeof(addr), "10.%d.%d.1", i / 256, i % 256);
		assert_int_equal(alk_limit_admit(limits, addr), ALK_REFUSAL_NONE);
		assert_int_equal(alk_limit_admit(limits, addr), ALK_REFUSAL_ADDRESS);
	}
	assert_int_equal(alk_limit_links(limits), 5000);
	for (int i = 0; i < 5000; i++) {
		snprintf(addr, sizeof(addr), "10.%d.%d.1", i / 256, i % 256);
		alk_limit_end(limits, addr, false);
	}
	assert_int_equal(alk_limit_links(limits), 0);
	assert_int_equal(alk_limit_startups(limits), 0);
	alk_limit_free(&limits);
}

static void test_key(void **state)
{
	static const char *const key[][2] = {
		{"203.0.113.50", "203.0.113.50"},     {"2001:db8::1", "2001:db8::/64"},
		{"fe80::1%eth0", "fe80::/64"},	      {"unix", "unix"},
		{"not:an:address", "not:an:address"}, {"", ""},
	};
	char got[64];

	(void)state;
	for (size_t i = 0; i < sizeof(key) / sizeof(key[0]); i++) {
		alk_limit_key(key[i][0], got, sizeof(got));
		assert_string_equal(got, key[i][1]);
	}
}

static void count_one(void *user, enum alk_penalty_kind kind, const char *name, uint64_t left)
{
	size_t *n = user;

	assert_true(kind == ALK_PENALTY_ADDRESS || kind == ALK_PENALTY_IDENTITY);
	assert_true(name[0] != '\0' && left > 0);
	++*n;
}

static void test_penalties(void **state)
{
	struct alk_penalty *penalties = alk_penalty_new();
	size_t n = 0;

	(void)state;
	assert_non_null(penalties);
	assert_int_equal(alk_penalty_left(penalties, ALK_PENALTY_ADDRESS, "192.0.2.1", 1000), 0);
	assert_int_equal(alk_penalty_add(penalties, ALK_PENALTY_ADDRESS, "192.0.2.1", 61000), 0);
	assert_int_equal(alk_penalty_add(penalties, ALK_PENALTY_IDENTITY, "alice", 31000), 0);
	assert_int_equal(alk_penalty_left(penalties, ALK_PENALTY_ADDRESS, "192.0.2.1", 1000),
			 60000);
	assert_int_equal(alk_penalty_left(penalties, ALK_PENALTY_IDENTITY, "192.0.2.1", 1000), 0);
	alk_penalty_each(penalties, 1000, count_one, &n);
	assert_int_equal(n, 2);
	assert_int_equal(alk_penalty_left(penalties, ALK_PENALTY_IDENTITY, "alice", 31000), 0);
	assert_int_equal(alk_penalty_count(penalties), 1);
	assert_int_equal(alk_penalty_add(penalties, ALK_PENALTY_ADDRESS, "192.0.2.1", 90000), 0);
	assert_int_equal(alk_penalty_count(penalties), 1);
	assert_int_equal(alk_penalty_left(penalties, ALK_PENALTY_ADDRESS, "192.0.2.1", 70000),
			 20000);
	alk_penalty_free(&penalties);
	assert_null(penalties);
}

/* The table is bounded: the oldest goes. */
static void test_penalties_bound(void **state)
{
	struct alk_penalty *penalties = alk_penalty_new();
	char name[300];

	(void)state;
	for (int i = 0; i < ALK_PENALTY_MAX + 10; i++) {
		snprintf(name, sizeof(name), "id-%d", i);
		assert_int_equal(alk_penalty_add(penalties, ALK_PENALTY_IDENTITY, name, 5000), 0);
	}
	assert_int_equal(alk_penalty_count(penalties), ALK_PENALTY_MAX);
	assert_int_equal(alk_penalty_left(penalties, ALK_PENALTY_IDENTITY, "id-9", 1000), 0);
	assert_int_equal(alk_penalty_left(penalties, ALK_PENALTY_IDENTITY, "id-10", 1000), 4000);
	/* A name that is too long is cut, and still found. */
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(alk_penalty_add(penalties, ALK_PENALTY_IDENTITY, name, 5000), 0);
	assert_int_equal(alk_penalty_left(penalties, ALK_PENALTY_IDENTITY, name, 1000), 4000);
	alk_penalty_free(&penalties);
}

/* Other limits: what is counted stays. */
static void test_set(void **state)
{
	struct alk_limit_conf conf = {.sessions = 2};
	struct alk_limit *limits = alk_limit_new(&conf);

	(void)state;
	assert_int_equal(alk_limit_admit(limits, "192.0.2.1"), ALK_REFUSAL_NONE);
	assert_int_equal(alk_limit_admit(limits, "192.0.2.1"), ALK_REFUSAL_NONE);
	assert_int_equal(alk_limit_admit(limits, "192.0.2.1"), ALK_REFUSAL_SESSIONS);
	conf = (struct alk_limit_conf){.per_address = 3};
	alk_limit_set(limits, &conf);
	assert_int_equal(alk_limit_links(limits), 2);
	assert_int_equal(alk_limit_admit(limits, "192.0.2.1"), ALK_REFUSAL_NONE);
	assert_int_equal(alk_limit_admit(limits, "192.0.2.1"), ALK_REFUSAL_ADDRESS);
	alk_limit_end(limits, "192.0.2.1", false);
	assert_int_equal(alk_limit_links(limits), 2);
	alk_limit_free(&limits);
}

/* THREATS 5: a second's worth at once, then as they come in. */
static void test_handshakes(void **state)
{
	struct alk_limit_conf conf = {.handshakes = 100};
	struct alk_limit *limits = alk_limit_new(&conf);
	uint64_t now = 5000, begun = 0, wait;

	(void)state;
	assert_non_null(limits);
	for (; alk_limit_wait(limits, now) == 0; begun++)
		alk_limit_begin(limits, now);
	assert_int_equal(begun, 100);
	wait = alk_limit_wait(limits, now);
	assert_in_range(wait, 50, 70);
	for (begun = 0; now < 15000; now++)
		for (; alk_limit_wait(limits, now) == 0; begun++)
			alk_limit_begin(limits, now);
	assert_in_range(begun, 990, 1010);
	/* Time off saves up no more than a second's worth. */
	now += 3600000;
	for (begun = 0; alk_limit_wait(limits, now) == 0; begun++)
		alk_limit_begin(limits, now);
	assert_int_equal(begun, 100);
	conf.handshakes = 0;
	alk_limit_set(limits, &conf);
	for (int i = 0; i < 1000; i++)
		alk_limit_begin(limits, now);
	assert_int_equal(alk_limit_wait(limits, now), 0);
	alk_limit_free(&limits);
}

/* What would be refused for certain need not wait for it; what chance decides waits. */
static void test_foresee(void **state)
{
	struct alk_limit_conf conf = {.start = 4,
				      .rate = 50,
				      .full = 8,
				      .per_address = 10,
				      .sessions = 12};
	struct alk_limit *limits = alk_limit_new(&conf);

	(void)state;
	assert_non_null(limits);
	assert_int_equal(alk_limit_foresee(limits, "192.0.2.1", 0), ALK_REFUSAL_NONE);
	assert_int_equal(alk_limit_foresee(limits, "192.0.2.1", 9), ALK_REFUSAL_NONE);
	assert_int_equal(alk_limit_foresee(limits, "192.0.2.1", 10), ALK_REFUSAL_ADDRESS);
	assert_int_equal(alk_limit_links(limits), 0);
	while (alk_limit_startups(limits) < 7)
		alk_limit_admit(limits, "192.0.2.1");
	assert_int_equal(alk_limit_foresee(limits, "192.0.2.1", 0), ALK_REFUSAL_NONE);
	assert_int_equal(alk_limit_foresee(limits, "192.0.2.1", 3), ALK_REFUSAL_ADDRESS);
	while (alk_limit_startups(limits) < 8)
		alk_limit_admit(limits, "192.0.2.1");
	assert_int_equal(alk_limit_foresee(limits, "192.0.2.1", 0), ALK_REFUSAL_STARTUPS);
	assert_int_equal(alk_limit_foresee(limits, "192.0.2.2", 5),
			 ALK_REFUSAL_NONE); /* its share */
	for (int i = 0; i < 4; i++) {
		alk_limit_login(limits, "192.0.2.1");
		assert_int_equal(alk_limit_admit(limits, "192.0.2.2"), ALK_REFUSAL_NONE);
		alk_limit_login(limits, "192.0.2.2");
	}
	assert_int_equal(alk_limit_foresee(limits, "192.0.2.3", 0), ALK_REFUSAL_SESSIONS);
	alk_limit_free(&limits);
}

/* However fast it is asked, no more are refused a second than that. */
static void test_refusals(void **state)
{
	struct alk_limit_conf conf = {0};
	struct alk_limit *limits = alk_limit_new(&conf);
	uint64_t now = 777, end = now + 2000, pause;
	unsigned refused = 0;

	(void)state;
	assert_non_null(limits);
	while (now < end) {
		pause = alk_limit_refused(limits, now);
		assert_in_range(pause, 0, 20);
		refused++;
		/* a batch that was accepted already comes all the same */
		for (int i = 0; pause > 0 && i < 10; i++, refused++)
			assert_int_equal(alk_limit_refused(limits, now), pause);
		now += pause;
	}
	assert_in_range(refused, 2 * ALK_LIMIT_REFUSALS - 500, 2 * ALK_LIMIT_REFUSALS + 1500);
	/* Few are never slowed down. */
	for (unsigned i = 0; i < 5000; i++)
		assert_int_equal(alk_limit_refused(limits, now += 1), 0);
	alk_limit_free(&limits);
}

/* Misdeeds add up, count from min on, run off, and never exceed max. */
static void test_penalty_grows(void **state)
{
	struct alk_penalty *penalties = alk_penalty_new();
	const char *who = "192.0.2.1";

	(void)state;
	assert_non_null(penalties);
	assert_false(alk_penalty_grow(penalties, ALK_PENALTY_ADDRESS, who, 1000, 10, 15, 40));
	assert_int_equal(alk_penalty_left(penalties, ALK_PENALTY_ADDRESS, who, 1000), 0);
	/* 6 of 10 have run off. */
	assert_false(alk_penalty_grow(penalties, ALK_PENALTY_ADDRESS, who, 1006, 10, 15, 40));
	assert_true(alk_penalty_grow(penalties, ALK_PENALTY_ADDRESS, who, 1006, 10, 15, 40));
	assert_int_equal(alk_penalty_left(penalties, ALK_PENALTY_ADDRESS, who, 1006), 24);
	/* It goes on counting below min, and is told once. */
	assert_int_equal(alk_penalty_left(penalties, ALK_PENALTY_ADDRESS, who, 1020), 10);
	assert_false(alk_penalty_grow(penalties, ALK_PENALTY_ADDRESS, who, 1020, 100, 15, 40));
	assert_int_equal(alk_penalty_left(penalties, ALK_PENALTY_ADDRESS, who, 1020), 40);
	/* A longer one that was set by other means is not cut. */
	assert_int_equal(alk_penalty_add(penalties, ALK_PENALTY_ADDRESS, who, 2000), 0);
	alk_penalty_grow(penalties, ALK_PENALTY_ADDRESS, who, 1020, 1, 15, 40);
	assert_int_equal(alk_penalty_left(penalties, ALK_PENALTY_ADDRESS, who, 1020), 980);
	assert_true(alk_penalty_remove(penalties, ALK_PENALTY_ADDRESS, who));
	assert_false(alk_penalty_remove(penalties, ALK_PENALTY_ADDRESS, who));
	assert_int_equal(alk_penalty_left(penalties, ALK_PENALTY_ADDRESS, who, 1020), 0);
	alk_penalty_free(&penalties);
}

static void test_misdeeds_parse(void **state)
{
	static const char *const bad[] = {"authfail",	 "authfail:",	"authfail:x", "authfail:-1",
					  "authfail:1s", "other:1",	"none:1",     ":5",
					  "min:2 max:1", "min:99999999"};
	struct alk_misdeed_conf conf;
	struct alk_err err;

	(void)state;
	assert_int_equal(alk_misdeed_parse("garbage:7  min:0", &conf, &err), 0);
	assert_int_equal(conf.ms[ALK_MISDEED_GARBAGE], 7000);
	assert_int_equal(conf.ms[ALK_MISDEED_AUTHFAIL], 5000);
	assert_int_equal(conf.min_ms, 0);
	assert_int_equal(conf.max_ms, 600000);
	assert_int_equal(alk_misdeed_parse("none", &conf, &err), 0);
	for (int i = 0; i < ALK_MISDEED_COUNT; i++)
		assert_int_equal(conf.ms[i], 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(alk_misdeed_parse(bad[i], &conf, &err), -EINVAL);
}

static void test_bans(void **state)
{
	struct alk_bans *bans = alk_bans_new();
	struct alk_ban ban = {.until = 2000}, one = {.until = 0};

	(void)state;
	assert_non_null(bans);
	assert_non_null(alk_ban_parse(&ban, "10.0.0.1/8"));
	assert_non_null(alk_ban_parse(&ban, "example.com"));
	assert_null(alk_ban_parse(&ban, "2001:db8::/32"));
	assert_string_equal(ban.text, "2001:db8::/32");
	assert_null(alk_ban_parse(&one, "192.0.2.7"));
	assert_string_equal(one.text, "192.0.2.7/32");
	assert_int_equal(alk_bans_add(bans, &ban, 1000), 0);
	assert_int_equal(alk_bans_add(bans, &one, 1000), 0);
	assert_int_equal(alk_bans_add(bans, &one, 1000), 0);
	assert_int_equal(alk_bans_count(bans, 1000), 2);
	assert_true(alk_bans_has(bans, "2001:db8:1::5", 1000));
	assert_true(alk_bans_has(bans, "192.0.2.7", 1000));
	assert_false(alk_bans_has(bans, "192.0.2.8", 1000));
	assert_false(alk_bans_has(bans, "an endpoint", 1000));
	assert_false(alk_bans_has(bans, "2001:db8:1::5", 2000));
	assert_int_equal(alk_bans_count(bans, 2000), 1);
	assert_true(alk_bans_remove(bans, &one.net));
	assert_false(alk_bans_remove(bans, &one.net));
	for (unsigned i = 0; i < ALK_BANS_MAX; i++) {
		char text[32];

		snprintf(text, sizeof(text), "10.0.%u.%u", i / 256, i % 256);
		assert_null(alk_ban_parse(&one, text));
		assert_int_equal(alk_bans_add(bans, &one, 3000), 0);
	}
	assert_null(alk_ban_parse(&one, "192.0.2.7"));
	assert_int_equal(alk_bans_add(bans, &one, 3000), -ENOSPC);
	alk_bans_free(&bans);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_penalty_grows), cmocka_unit_test(test_misdeeds_parse),
		cmocka_unit_test(test_bans),	      cmocka_unit_test(test_drop_rate),
		cmocka_unit_test(test_handshakes),    cmocka_unit_test(test_foresee),
		cmocka_unit_test(test_refusals),      cmocka_unit_test(test_startups),
		cmocka_unit_test(test_share),	      cmocka_unit_test(test_any_order),
		cmocka_unit_test(test_per_address),   cmocka_unit_test(test_many),
		cmocka_unit_test(test_key),	      cmocka_unit_test(test_set),
		cmocka_unit_test(test_penalties),     cmocka_unit_test(test_penalties_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
