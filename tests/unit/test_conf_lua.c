/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The Lua of a configuration: a table that is data. */
#include "conf_play.h"

/* --- Lua -------------------------------------------------------------------------------------- */

static json_t *lua(const char *text, struct alk_err *err)
{
	return alk_conf_lua_read("a.conf", text, strlen(text), err);
}

static void test_lua_values(void **state)
{
	static const struct {
		const char *lua, *json;
	} rows[] = {
		{"return {}", "{}"},
		{"return { a = 1, b = -2, c = 0x10, d = 1.5, e = 7 // 2 }",
		 "{\"a\":1,\"b\":-2,\"c\":16,\"d\":1.5,\"e\":3}"},
		{"return { a = true, b = false, c = nil }", "{\"a\":true,\"b\":false}"},
		{"return { a = 'x', b = \"\\u{e9}\", c = [[\nlong]] }",
		 "{\"a\":\"x\",\"b\":\"\xc3\xa9\",\"c\":\"long\"}"},
		{"return { a = { 1, 2, { 3 } }, b = { c = { d = {} } } }",
		 "{\"a\":[1,2,[3]],\"b\":{\"c\":{\"d\":{}}}}"},
		{"return { ['a b'] = 1, ['\xc3\xa9'] = 2 }", "{\"a b\":1,\"\xc3\xa9\":2}"},
		{"local dir = '/etc/' return { a = dir .. 'x', b = 'y' .. 1 }",
		 "{\"a\":\"/etc/x\",\"b\":\"y1\"}"},
		{"local t = { 1 } return { a = t, b = t }", "{\"a\":[1],\"b\":[1]}"},
		{"-- a comment\nreturn { --[[ more ]] a = 60 * 60 }", "{\"a\":3600}"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct alk_err err = {""};
		json_t *got = lua(rows[i].lua, &err), *expected = json_loads(rows[i].json, 0, NULL);

		if (got == NULL || !json_equal(got, expected))
			fail_msg("%s: %s", rows[i].lua, err.text);
		json_decref(got);
		json_decref(expected);
	}
}

static void test_lua_refuses(void **state)
{
	static const struct {
		const char *lua, *says;
	} rows[] = {
		{"", "a.conf: must say return { ... }"},
		{"return 5", "a.conf: must say return { ... }"},
		{"return nil", "a.conf: must say return { ... }"},
		{"return function() end", "a.conf: must say return { ... }"},
		{"return {", "a.conf:1: "},
		{"\n\nreturn { a = = 1 }", "a.conf:3: unexpected symbol near '='"},
		{"return { key = 'unfinished }", "a.conf:1: unfinished string"},
		{"return { a = debug }",
		 "a.conf:1: nothing is called \"debug\" here; text needs quotes"},
		{"return {\n a = os.getenv('HOME') }", "a.conf:2: nothing is called \"os\""},
		{"require 'os'", "nothing is called \"require\""},
		{"pcall(error)", "nothing is called \"pcall\""},
		{"key = 'x'",
		 "a.conf:1: \"key = ...\" stands outside of the table; write return { key = ... }"},
		{"return { a = ('x'):rep(10) }", "a.conf:1: "},
		{"return { a = function() end }", "a.conf: a is a function; a configuration holds"},
		{"return { a = { b = { 1, function() end } } }", "a.conf: a.b[2] is a function"},
		{"return { 1, 2, a = 3 }", "a.conf: the table mixes a list with named values"},
		{"return { a = { 1, b = 2 } }", "a.conf: a mixes a list"},
		{"return { a = { 1, nil, 3 } }", "a.conf: a is a list with holes"},
		{"return { a = { [1.5] = 1 } }",
		 "a.conf: a has a key that is neither text nor a place in a list"},
		{"return { a = { [true] = 1 } }", "a.conf: a has a key"},
		{"return { a = { [7] = 1 } }", "a.conf: a has a key"},
		{"return { [{}] = 1 }", "a.conf: the table has a key"},
		{"return { a = { [''] = 1 } }", "a.conf: a has a key that is empty"},
		{"return { a = { ['x\\0y'] = 1 } }", "a.conf: a has a key that is empty, too long"},
		{"return { a = 1/0 }", "a.conf: a is not a number"},
		{"return { a = -1/0 }", "a.conf: a is not a number"},
		{"return { a = 0/0 }", "a.conf: a is not a number"},
		{"return { a = 'x\\0y' }", "a.conf: a holds a zero byte"},
		{"return { a = '\\xff' }", "a.conf: a is not valid UTF-8"},
		{"return { a = '\\xed\\xa0\\x80' }", "a.conf: a is not valid UTF-8"},
		{"local t = {} t.bee = t return t", "a.conf: bee holds itself"},
		{"local t, u = {}, {} t.a = u u.b = t return t", "a.conf: a.b holds itself"},
		{"local t = {} for i = 1, 17 do t = { a = t } end return t",
		 "is nested too deeply"},
		{"local t = {} for i = 1, 14 do t = { t, t, t } end return { a = t }",
		 "is one value too many"},
		{"local s = 'x' for i = 1, 17 do s = s .. s end return { a = s }",
		 "a.conf: a is longer than 64 KiB"},
		{"local s = 'x' for i = 1, 15 do s = s .. s end local t = {} for i = 1, 200 do t[i] = s end return { a = t }",
		 "is one text too many"},
		{"local t, l = {}, {} for i = 1, 65000 do t['k' .. i] = 1 end for i = 1, 65000 do t['k' .. i] = nil end "
		 "for i = 1, 19000 do l[i] = t end return { a = l }",
		 "too long"}, /* to read, or on a slow machine already to run */
		{"while true do end", "a.conf: the configuration runs too long"},
		{"local function f() return f() end f()", "runs too long"},
		{"goto here ::here:: goto here", "runs too long"},
		{"local function f() return 1 + f() end f()",
		 "a.conf: needs more than 8 MiB of memory"},
		{"local s = 'x' while true do s = s .. s end",
		 "a.conf: needs more than 8 MiB of memory"},
		{"local t = {} for i = 1, 1e9 do t[i] = { i } end", "a.conf: "},
		{"\x1bLua", "a.conf: attempt to load a binary chunk"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct alk_err err = {""};
		json_t *got = lua(rows[i].lua, &err);

		if (got != NULL || strstr(err.text, rows[i].says) == NULL)
			fail_msg("%s: %s", rows[i].lua, got != NULL ? "is read" : err.text);
		assert_null(strchr(err.text, '\n'));
	}
}

static void test_lua_bytes(void **state)
{
	static const char zero[] = "return { a = 1 }\0", high[] = "return { \x80\xff = 1 }";
	char *deep = malloc(100001);
	struct alk_err err = {""};

	(void)state;
	assert_null(alk_conf_lua_read("a.conf", zero, sizeof(zero) - 1, &err));
	assert_null(alk_conf_lua_read("a.conf", high, sizeof(high) - 1, &err));
	for (const char *c = err.text; *c != '\0'; c++)
		assert_true(*c >= 0x20 && *c < 0x7f);
	assert_non_null(deep);
	memset(deep, '{', 100000);
	memcpy(deep, "return ", 7);
	assert_null(alk_conf_lua_read("a.conf", deep, 100000, &err));
	free(deep);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lua_values),
		cmocka_unit_test(test_lua_refuses),
		cmocka_unit_test(test_lua_bytes),
	};

	conf_play_begin();
	return cmocka_run_group_tests(tests, dir_make, dir_remove);
}
