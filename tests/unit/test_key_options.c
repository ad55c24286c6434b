/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The options of authorized_keys: what they say, what is refused, and whom from= lets in. */
#include "key_options.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

static char why[200];

/* From a copy of the exact size, so that reading past it is caught. */
static int parse(struct alk_key_options *o, const char *text)
{
	size_t len = strlen(text);
	char *copy = malloc(len ? len : 1);
	int rc;

	assert_non_null(copy);
	memcpy(copy, text, len);
	why[0] = '\0';
	rc = alk_key_options_parse(o, copy, len, why, sizeof(why));
	free(copy);
	return rc;
}

static void test_nothing(void **state)
{
	static const char *const texts[] = {
		"",
		",",
		",,",
		"no-pty",
		"NO-PTY,No-X11-Forwarding,no-agent-forwarding",
		"pty,x11-forwarding,agent-forwarding,user-rc,no-user-rc",
		"no-touch-required,verify-required",
		"command=\"echo \\\"a, b\\\" c\"",
		"environment=\"A=b\",environment=\"LANG_1=\"",
		"tunnel=\"0\",tunnel=\"any\"",
		"restrict,port-forwarding",
		"no-port-forwarding,Port-Forwarding,",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		struct alk_key_options o;

		if (parse(&o, texts[i]) != 0)
			fail_msg("%s: %s", texts[i], why);
		assert_false(o.cert_authority || o.no_forwarding);
		assert_int_equal(o.expires, 0);
		assert_null(o.principals);
		assert_null(o.from);
		assert_null(o.permit_open);
		assert_null(o.permit_listen);
		alk_key_options_deinit(&o);
	}
}

static void test_values(void **state)
{
	struct alk_key_options o;

	(void)state;
	assert_int_equal(parse(&o,
			       "Cert-Authority,PRINCIPALS=\"a,b c\",from=\"10.0.0.0/8,!10.9.*\","
			       "permitopen=\"db:5432\",PermitOpen=\"[::1]:*\",restrict,"
			       "permitlisten=\"8080\",command=\"permitopen=\\\"x\\\"\""),
			 0);
	assert_true(o.cert_authority);
	assert_true(o.no_forwarding);
	assert_string_equal(o.principals, "a,b c");
	assert_string_equal(o.from, "10.0.0.0/8,!10.9.*");
	assert_int_equal(o.n_open, 2);
	assert_string_equal(o.permit_open[0], "db:5432");
	assert_string_equal(o.permit_open[1], "[::1]:*");
	assert_null(o.permit_open[2]);
	assert_int_equal(o.n_listen, 1);
	assert_string_equal(o.permit_listen[0], "8080");
	alk_key_options_deinit(&o);
	assert_null(o.from);
	assert_int_equal(parse(&o, "port-forwarding,restrict"), 0);
	assert_true(o.no_forwarding);
	alk_key_options_deinit(&o);
	assert_int_equal(parse(&o, "cert-authority,principals=\"\""), 0);
	assert_string_equal(o.principals, "");
	alk_key_options_deinit(&o);
}

struct expiry {
	const char *text;
	int64_t when; /* -1: refused */
};

static void test_expiry(void **state)
{
	static const struct expiry rows[] = {
		{"20260102Z", 1767312000},
		{"20260102z", 1767312000},
		{"20260102UTC", 1767312000},
		{"202601021530Z", 1767367800},
		{"20260102153045Z", 1767367845},
		{"20260102", 1767312000},
		{"202601021530", 1767367800},
		{"20260102153060", 1767367860},
		{"20260230Z", 1772409600}, /* as the C library reads it: the 2nd of March */
		{"", -1},
		{"Z", -1},
		{"2026", -1},
		{"2026010", -1},
		{"202601021", -1},
		{"2026010215", -1},
		{"2026010215304", -1},
		{"20261302", -1},
		{"20260002", -1},
		{"20260100", -1},
		{"20260132", -1},
		{"202601022460", -1},
		{"202601022400", -1},
		{"20260102153062", -1},
		{"20260102 ", -1},
		{" 20260102", -1},
		{"20260102ZZ", -1},
		{"20260102+01", -1},
		{"19700101Z", -1},
		{"19600101Z", -1},
		{"9999999999999999999999", -1},
	};
	char text[128];

	(void)state;
	setenv("TZ", "UTC", 1);
	tzset();
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct alk_key_options o;
		int rc;

		snprintf(text, sizeof(text), "expiry-time=\"%s\"", rows[i].text);
		rc = parse(&o, text);
		if (rc != (rows[i].when < 0 ? -EINVAL : 0) ||
		    (rc == 0 && o.expires != rows[i].when))
			fail_msg("%s: %d, %lld", rows[i].text, rc, (long long)o.expires);
		alk_key_options_deinit(&o);
	}
}

/* Local time unless it says otherwise; the earliest of several counts. */
static void test_expiry_where_and_which(void **state)
{
	struct alk_key_options o;

	(void)state;
	setenv("TZ", "EET-2", 1); /* two hours east */
	tzset();
	assert_int_equal(parse(&o, "expiry-time=\"202601021530\""), 0);
	assert_int_equal(o.expires, 1767367800 - 7200);
	alk_key_options_deinit(&o);
	setenv("TZ", "UTC", 1);
	tzset();
	assert_int_equal(parse(&o, "expiry-time=\"20270101\",expiry-time=\"20260102\","
				   "expiry-time=\"20280101\""),
			 0);
	assert_int_equal(o.expires, 1767312000);
	alk_key_options_deinit(&o);
}

struct bad {
	const char *text;
	const char *why;
};

static void test_bad(void **state)
{
	static const struct bad bads[] = {
		{"no-such-option", "there is no option no-such-option"},
		{"restrictx", "there is no option restrictx"},
		{"no-restrict", "there is no option no-restrict"},
		{"no-cert-authority", "there is no option"},
		{"no-command=\"x\"", "there is no option"},
		{"pty,hello=\"x\"", "there is no option hello"},
		{"restrict=\"x\"", "something else than a comma"},
		{"restrict no-pty", "something else than a comma"},
		{"command=\"a\"x", "something else than a comma"},
		{"from", "the option from needs a value"},
		{"from,restrict", "the option from needs a value"},
		{"from=", "double quotes"},
		{"from=x", "double quotes"},
		{"command='x'", "double quotes"},
		{"command=\"x", "double quotes"},
		{"command=\"x\\\"", "double quotes"},
		{"command=\"x\",command=\"x\"", "command= stands there twice"},
		{"from=\"1.2.3.4\",FROM=\"1.2.3.4\"", "from= stands there twice"},
		{"cert-authority,principals=\"\",principals=\"a\"",
		 "principals= stands there twice"},
		{"principals=\"a\"", "cert-authority must stand there"},
		{"permitopen=\"host\"", "permitopen= must be"},
		{"permitopen=\"80\"", "permitopen= must be"},
		{"permitopen=\"host:http\"", "permitopen= must be"},
		{"permitopen=\"\"", "permitopen= must be"},
		{"permitlisten=\"host:\"", "permitlisten= must be"},
		{"permitlisten=\"0\"", "permitlisten= must be"},
		{"environment=\"x\"", "environment= must be"},
		{"environment=\"=x\"", "environment= must be"},
		{"environment=\"a-b=x\"", "environment= must be"},
		{"tunnel=\"x\"", "tunnel= must be"},
		{"tunnel=\"-1\"", "tunnel= must be"},
		{"from=\"\"", "empty entry"},
		{"from=\"a,,b\"", "empty entry"},
		{"from=\"a,\"", "empty entry"},
		{"from=\"!\"", "empty entry"},
		{"from=\"10.0.0.1/8\"", "neither an address nor a network"},
		{"from=\"10.0.0.0/33\"", "neither an address nor a network"},
		{"from=\"10.0.0.0/\"", "neither an address nor a network"},
		{"from=\"!10.0\"", "neither an address nor a network"},
		{"from=\"!fe80::/x\"", "neither an address nor a network"},
		{"from=\"::1::\"", "neither an address nor a network"},
		{"expiry-time=\"tomorrow\"", "expiry-time= is no time"},
		{"\"restrict\"", "not known"},
		{"\x1b[31m", "not known"},
		{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "not known"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bads) / sizeof(*bads); i++) {
		struct alk_key_options o;
		int rc = parse(&o, bads[i].text);

		if (rc != -EINVAL || !strstr(why, bads[i].why))
			fail_msg("%s: %d, %s", bads[i].text, rc, why);
		for (const char *p = why; *p; p++)
			assert_true(*p >= ' ' && *p < 0x7f);
		alk_key_options_deinit(&o);
	}
}

static void test_too_many(void **state)
{
	static const char one[] = "permitopen=\"a:1\",";
	size_t n = sizeof(one) - 1;
	char *text = malloc(4097 * n + 1);
	struct alk_key_options o;

	(void)state;
	assert_non_null(text);
	for (size_t i = 0; i < 4097; i++)
		memcpy(text + i * n, one, n + 1);
	assert_int_equal(parse(&o, text), -EINVAL);
	assert_non_null(strstr(why, "4096"));
	alk_key_options_deinit(&o);
	text[4096 * n] = '\0';
	assert_int_equal(parse(&o, text), 0);
	assert_int_equal(o.n_open, 4096);
	alk_key_options_deinit(&o);
	free(text);
}

struct from {
	const char *list, *addr;
	bool yes;
};

static void test_from(void **state)
{
	static const struct from rows[] = {
		{"10.0.0.0/8", "10.1.2.3", true},
		{"10.0.0.0/8", "11.1.2.3", false},
		{"10.0.0.0/8", "::ffff:10.1.2.3", false}, /* links have IPv4 as IPv4 */
		{"10.1.2.3", "10.1.2.3", true},
		{"10.1.2.3", "10.1.2.30", false},
		{"10.1.*", "10.1.2.3", true},
		{"10.1.2.?", "10.1.2.33", false},
		{"*", "10.1.2.3", true},
		{"*", "2001:db8::1", true},
		{"!10.1.2.3", "10.1.2.4", false},
		{"*,!10.1.2.3", "10.1.2.4", true},
		{"*,!10.1.2.3", "10.1.2.3", false},
		{"!10.1.2.3,*", "10.1.2.3", false},
		{"!10.0.0.0/8,*", "10.1.2.3", false},
		{"!10.1.*,10.0.0.0/8", "10.1.2.3", false},
		{"!10.1.*,10.0.0.0/8", "10.2.2.3", true},
		{"2001:db8::/32", "2001:db8::1", true},
		{"2001:db8::/32", "2001:db9::1", false},
		{"2001:DB8::1", "2001:db8:0::1", true},
		{"2001:db8:*", "2001:db8::1", true},
		{"2001:DB8:*", "2001:db8::1", true},
		{"::/0", "10.1.2.3", false},
		{"0.0.0.0/0", "2001:db8::1", false},
		{"0.0.0.0/0", "10.1.2.3", true},
		{"a.example,10.1.2.3", "10.1.2.3", true},
		{"*.example", "10.1.2.3", false},
		{"10.0.0.0/8", "", false},
		{"10.0.0.0/8", "not an address", false},
		{"", "10.1.2.3", false},
		{"*,", "10.1.2.3", false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		if (alk_key_options_from(rows[i].list, rows[i].addr) != rows[i].yes)
			fail_msg("%s: %s", rows[i].list, rows[i].addr);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing), cmocka_unit_test(test_values),
		cmocka_unit_test(test_expiry),	cmocka_unit_test(test_expiry_where_and_which),
		cmocka_unit_test(test_bad),	cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_from),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
