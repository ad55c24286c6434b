/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Numbers with units, the nearest word, and text made harmless. */
#include "text.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void test_distance(void **state)
{
	char word[80];

	(void)state;
	assert_int_equal(alk_text_distance("", ""), 0);
	assert_int_equal(alk_text_distance("listen", "listen"), 0);
	assert_int_equal(alk_text_distance("", "abc"), 3);
	assert_int_equal(alk_text_distance("abc", ""), 3);
	assert_int_equal(alk_text_distance("listen", "listn"), 1);
	assert_int_equal(alk_text_distance("listen", "listten"), 1);
	assert_int_equal(alk_text_distance("listen", "lixten"), 1);
	/* Two letters that changed places are one mistake. */
	assert_int_equal(alk_text_distance("listen", "lisetn"), 1);
	assert_int_equal(alk_text_distance("kitten", "sitting"), 3);
	memset(word, 'a', 63);
	word[63] = '\0';
	assert_int_equal(alk_text_distance(word, ""), 63);
	word[63] = 'a';
	word[64] = '\0';
	assert_int_equal(alk_text_distance(word, word), UINT_MAX);
}

static void test_near(void **state)
{
	(void)state;
	assert_true(alk_text_near(1, 3));
	assert_false(alk_text_near(2, 3));
	assert_true(alk_text_near(2, 6));
	assert_false(alk_text_near(UINT_MAX, 30));
}

static bool glob(const char *text, const char *pattern, bool fold)
{
	return alk_text_glob(text, strlen(text), pattern, strlen(pattern), fold);
}

static void test_glob(void **state)
{
	char many[256], stars[64];

	(void)state;
	assert_true(glob("", "", false));
	assert_true(glob("", "**", false));
	assert_false(glob("", "?", false));
	assert_true(glob("a.example", "*.example", false));
	assert_false(glob("a.example.org", "*.example", false));
	assert_true(glob("aab", "*ab", false));
	assert_true(glob("10.0.0.1", "10.?.*", false));
	assert_false(glob("10.11.0.1", "10.?.*", false));
	assert_false(glob("Host", "host", false));
	assert_true(glob("Host", "hOST", true));
	assert_true(alk_text_glob("abXX", 2, "a*YY", 2, false));
	/* No pattern is slow. */
	memset(many, 'a', sizeof(many));
	for (size_t i = 0; i < sizeof(stars); i++)
		stars[i] = i % 2 ? 'a' : '*';
	stars[63] = 'b';
	assert_false(alk_text_glob(many, sizeof(many), stars, sizeof(stars), false));
}

struct number_row {
	const char *text;
	int rc;
	int64_t value;
};

static void numbers(int (*parse)(const char *text, int64_t *out), const struct number_row *row)
{
	for (; row->text != NULL; row++) {
		int64_t value = 0;
		int rc = parse(row->text, &value);

		if (rc != row->rc || (rc == 0 && value != row->value))
			fail_msg("\"%s\": %d, %lld", row->text, rc, (long long)value);
	}
}

static void test_int(void **state)
{
	static const struct number_row rows[] = {
		{"0", 0, 0},
		{"00012", 0, 12},
		{"-7", 0, -7},
		{"9223372036854775807", 0, INT64_MAX},
		{"9223372036854775808", -ERANGE, 0},
		{"99999999999999999999999", -ERANGE, 0},
		{"", -EINVAL, 0},
		{"-", -EINVAL, 0},
		{"+1", -EINVAL, 0},
		{" 1", -EINVAL, 0},
		{"1 ", -EINVAL, 0},
		{"1.0", -EINVAL, 0},
		{"0x10", -EINVAL, 0},
		{"1e3", -EINVAL, 0},
		{"many", -EINVAL, 0},
		{NULL, 0, 0},
	};

	(void)state;
	numbers(alk_text_int, rows);
}

static void test_duration(void **state)
{
	static const struct number_row rows[] = {
		{"30", 0, 30000},
		{"1.5", 0, 1500},
		{"0.0005", 0, 0},
		{"500ms", 0, 500},
		{"2s", 0, 2000},
		{"2m", 0, 120000},
		{"1h", 0, 3600000},
		{"0.25h", 0, 900000},
		{"0", 0, 0},
		{"2562047788015h", 0, 2562047788015LL * 3600000},
		{"2562047788016h", -ERANGE, 0},
		{"9999999999999999999h", -ERANGE, 0},
		{"-1", -EINVAL, 0},
		{"soon", -EINVAL, 0},
		{"5 s", -EINVAL, 0},
		{"5S", -EINVAL, 0},
		{"5sm", -EINVAL, 0},
		{"1.", -EINVAL, 0},
		{".5", -EINVAL, 0},
		{"1.2.3", -EINVAL, 0},
		{"1.0000000001", -EINVAL, 0},
		{"", -EINVAL, 0},
		{"s", -EINVAL, 0},
		{NULL, 0, 0},
	};

	(void)state;
	numbers(alk_text_duration, rows);
}

static void test_size(void **state)
{
	static const struct number_row rows[] = {
		{"4096", 0, 4096},
		{"64K", 0, 65536},
		{"1.5M", 0, 1572864},
		{"2G", 0, 2147483648LL},
		{"0.999999999G", 0, 1073741822},
		{"8589934591G", 0, 8589934591LL << 30},
		{"8589934592G", -ERANGE, 0},
		{"64k", -EINVAL, 0},
		{"64KiB", -EINVAL, 0},
		{"1Q", -EINVAL, 0},
		{NULL, 0, 0},
	};

	(void)state;
	numbers(alk_text_size, rows);
}

static void test_format(void **state)
{
	static const struct {
		int64_t n;
		const char *duration, *size;
	} rows[] = {
		{0, "0", "0"},
		{1, "1ms", "1"},
		{1000, "1s", "1000"},
		{1024, "1024ms", "1K"},
		{90000, "90s", "90000"},
		{3600000, "1h", "3600000"},
		{1LL << 30, "1073741824ms", "1G"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char out[32];

		alk_text_format_duration(rows[i].n, out, sizeof(out));
		assert_string_equal(out, rows[i].duration);
		alk_text_format_size(rows[i].n, out, sizeof(out));
		assert_string_equal(out, rows[i].size);
	}
}

static void test_escape(void **state)
{
	char out[32], tight[6];

	(void)state;
	assert_int_equal(alk_text_escape("plain ~", 7, out, sizeof(out)), 7);
	assert_string_equal(out, "plain ~");
	assert_int_equal(alk_text_escape("a\nb\0c", 5, out, sizeof(out)), 11);
	assert_string_equal(out, "a\\x0ab\\x00c");
	alk_text_escape("\x1b[\x7f\xc3\xa9\\", 6, out, sizeof(out));
	assert_string_equal(out, "\\x1b[\\x7f\\xc3\\xa9\\\\");
	/* Never half an escape. */
	assert_int_equal(alk_text_escape("ab\n", 3, tight, sizeof(tight)), 2);
	assert_string_equal(tight, "ab");
	assert_int_equal(alk_text_escape("a\n", 2, tight, sizeof(tight)), 5);
	assert_string_equal(tight, "a\\x0a");
	assert_int_equal(alk_text_escape("abc", 3, out, 1), 0);
	assert_string_equal(out, "");
	assert_int_equal(alk_text_escape("abc", 3, out, 0), 0);
}

static void test_utf8(void **state)
{
	static const char *const good[] = {"",
					   "a",
					   "\xc3\xa9",
					   "\xe2\x82\xac",
					   "\xf0\x9f\x98\x80",
					   "\xed\x9f\xbf",
					   "\xf4\x8f\xbf\xbf"};
	static const char *const bad[] = {
		"\x80",		/* alone */
		"\xc3",		/* cut */
		"\xc0\xaf",	/* overlong */
		"\xe0\x80\xaf", /* overlong */
		"\xf0\x80\x80\xaf",
		"\xed\xa0\x80",	    /* surrogate */
		"\xf4\x90\x80\x80", /* past U+10FFFF */
		"\xff",
		"a\xe2\x82",
		"\xe2\x28\xa1",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(alk_text_utf8(good[i], strlen(good[i])));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(alk_text_utf8(bad[i], strlen(bad[i])));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_distance), cmocka_unit_test(test_near),
		cmocka_unit_test(test_glob),	 cmocka_unit_test(test_int),
		cmocka_unit_test(test_duration), cmocka_unit_test(test_size),
		cmocka_unit_test(test_format),	 cmocka_unit_test(test_escape),
		cmocka_unit_test(test_utf8),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
