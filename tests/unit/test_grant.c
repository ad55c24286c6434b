/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What a grant keeps of an authorized_keys line and a certificate, and what it permits. */
#include "policy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct alk_grant *limited(const struct alk_grant_limits *limits)
{
	struct alk_grant *grant = alk_grant_new_limited("id", "anna", "SHA256:x", NULL, NULL,
							limits);

	assert_non_null(grant);
	return grant;
}

static void test_copies_all(void **state)
{
	char principal[] = "anna", key_id[] = "laptop", ca[] = "SHA256:ca", open[] = "a:1";
	const char *const principals[] = {principal, "second", NULL};
	const char *const permits[] = {open, NULL};
	const struct alk_grant_cert cert = {.serial = 7,
					    .valid_before = UINT64_MAX,
					    .key_id = key_id,
					    .ca_fingerprint = ca,
					    .principals = principals};
	struct alk_grant *grant = limited(
		&(struct alk_grant_limits){.permit_open = permits, .expires = 99, .cert = &cert});

	(void)state;
	memset(principal, 'x', 4);
	memset(key_id, 'x', 4);
	memset(ca, 'x', 4);
	memset(open, 'x', 3);
	assert_false(grant->limits.no_forwarding);
	assert_int_equal(grant->limits.expires, 99);
	assert_string_equal(grant->limits.permit_open[0], "a:1");
	assert_null(grant->limits.permit_open[1]);
	assert_null(grant->limits.permit_listen);
	assert_int_equal(grant->limits.cert->serial, 7);
	assert_true(grant->limits.cert->valid_before == UINT64_MAX);
	assert_string_equal(grant->limits.cert->key_id, "laptop");
	assert_string_equal(grant->limits.cert->ca_fingerprint, "SHA256:ca");
	assert_string_equal(grant->limits.cert->principals[0], "anna");
	assert_string_equal(grant->limits.cert->principals[1], "second");
	assert_null(grant->limits.cert->principals[2]);
	alk_grant_unref(&grant);
}

static void test_no_limits(void **state)
{
	struct alk_grant *grant = limited(NULL);

	(void)state;
	assert_null(grant->limits.cert);
	assert_true(alk_grant_may_open(grant, "anywhere", 1));
	assert_true(alk_grant_may_open(grant, "/run/socket", 0));
	assert_true(alk_grant_may_listen(grant, "", 0));
	alk_grant_unref(&grant);
	assert_false(alk_grant_may_open(NULL, "anywhere", 1));
	assert_false(alk_grant_may_listen(NULL, "", 0));
}

static void test_no_forwarding(void **state)
{
	static const char *const all[] = {"*:*", NULL};
	struct alk_grant *grant = limited(&(struct alk_grant_limits){.no_forwarding = true,
								     .permit_open = all,
								     .permit_listen = all});

	(void)state;
	assert_false(alk_grant_may_open(grant, "anywhere", 1));
	assert_false(alk_grant_may_open(grant, "alknet-control", 1));
	assert_false(alk_grant_may_listen(grant, "localhost", 1));
	alk_grant_unref(&grant);
}

struct asked {
	const char *permit;
	const char *host;
	uint16_t port;
	bool yes;
};

static void ask(const struct asked *row, size_t n, bool listen)
{
	for (size_t i = 0; i < n; i++, row++) {
		const char *const list[] = {"never.example:9", row->permit, NULL};
		struct alk_grant *grant = limited(
			&(struct alk_grant_limits){.permit_open = listen ? NULL : list,
						   .permit_listen = listen ? list : NULL});
		bool yes = listen ? alk_grant_may_listen(grant, row->host, row->port)
				  : alk_grant_may_open(grant, row->host, row->port);

		assert_true(alk_grant_permit_valid(row->permit, listen));
		if (yes != row->yes)
			fail_msg("%s: %s:%u is %d", row->permit, row->host, row->port, yes);
		alk_grant_unref(&grant);
	}
}

static void test_may_open(void **state)
{
	static const struct asked rows[] = {
		{"db.example:5432", "db.example", 5432, true},
		{"db.example:5432", "db.example", 5433, false},
		{"db.example:5432", "DB.example", 5432, false},
		{"db.example:5432", "db.example.", 5432, false},
		{"db.example:5432", "xdb.example", 5432, false},
		{"db.example:*", "db.example", 1, true},
		{"db.example:*", "other", 1, false},
		{"*:443", "anything", 443, true},
		{"*:443", "anything", 444, false},
		{"*:443", "/run/socket", 443, false},
		{"*:*", "alknet-control", 1, true},
		{"*:*", "/run/socket", 0, false},
		{"*.example:80", "a.example", 80, false},
		{"[::1]:80", "::1", 80, true},
		{"[::1]:80", "0:0:0:0:0:0:0:1", 80, false},
		{"[::1]:80", "[::1]", 80, false},
		{"10.0.0.1/80", "10.0.0.1", 80, true},
		{"a:65535", "a", 65535, true},
		{"a:080", "a", 80, true},
	};

	(void)state;
	ask(rows, sizeof(rows) / sizeof(*rows), false);
}

static void test_may_listen(void **state)
{
	static const struct asked rows[] = {
		{"8080", "", 8080, true},
		{"8080", "localhost", 8080, true},
		{"8080", "localhost", 8081, false},
		{"8080", "localhost", 0, false},
		{"*", "localhost", 0, true},
		{"localhost:8080", "localhost", 8080, true},
		{"localhost:8080", "LOCALHOST", 8080, true},
		{"LOCALHOST:8080", "localhost", 8080, false},
		{"localhost:8080", "", 8080, false},
		{"localhost:8080", "127.0.0.1", 8080, false},
		{"127.0.0.?:8080", "127.0.0.1", 8080, true},
		{"127.0.0.*:*", "127.0.0.17", 1, true},
		{"127.0.0.*:*", "127.0.1.17", 1, false},
		{"*:*", "", 0, true},
		{"[::1]:8080", "::1", 8080, true},
		{"[::1]:8080", "::2", 8080, false},
	};

	(void)state;
	ask(rows, sizeof(rows) / sizeof(*rows), true);
}

static void test_several(void **state)
{
	static const char *const opens[] = {"a:1", "b:2", "b:3", NULL};
	static const char *const none[] = {NULL};
	struct alk_grant *grant = limited(
		&(struct alk_grant_limits){.permit_open = opens, .permit_listen = none});

	(void)state;
	assert_true(alk_grant_may_open(grant, "a", 1));
	assert_true(alk_grant_may_open(grant, "b", 3));
	assert_false(alk_grant_may_open(grant, "a", 2));
	/* An empty list permits nothing; no list permits everything. */
	assert_false(alk_grant_may_listen(grant, "a", 1));
	alk_grant_unref(&grant);
}

static void test_long_names(void **state)
{
	static const char *const any[] = {"*:*", NULL};
	struct alk_grant *grant = limited(
		&(struct alk_grant_limits){.permit_open = any, .permit_listen = any});
	char host[400];

	(void)state;
	memset(host, 'h', sizeof(host));
	host[255] = '\0';
	assert_true(alk_grant_may_listen(grant, host, 1));
	host[255] = 'h';
	host[399] = '\0';
	assert_false(alk_grant_may_listen(grant, host, 1));
	assert_true(alk_grant_may_open(grant, host, 1));
	alk_grant_unref(&grant);
}

static void test_valid(void **state)
{
	static const char *const bad[] = {
		"",	     "host",	 "host:",  "host:0",	       "host:65536",
		"host:http", "host:-1",	 "::1:80", "[::1]80",	       "[::1",
		"[::1]:",    "host: 80", "a:1:2",  "host:99999999999",
	};
	char host[300];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		if (alk_grant_permit_valid(bad[i], false))
			fail_msg("permitopen: %s", bad[i]);
		if (alk_grant_permit_valid(bad[i], true))
			fail_msg("permitlisten: %s", bad[i]);
	}
	assert_false(alk_grant_permit_valid("8080", false));
	assert_true(alk_grant_permit_valid("8080", true));
	memset(host, 'h', sizeof(host));
	memcpy(host + 255, ":1", 3);
	assert_true(alk_grant_permit_valid(host, false));
	memcpy(host + 255, "h:1", 4);
	assert_false(alk_grant_permit_valid(host, false));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_copies_all),    cmocka_unit_test(test_no_limits),
		cmocka_unit_test(test_no_forwarding), cmocka_unit_test(test_may_open),
		cmocka_unit_test(test_may_listen),    cmocka_unit_test(test_several),
		cmocka_unit_test(test_long_names),    cmocka_unit_test(test_valid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
