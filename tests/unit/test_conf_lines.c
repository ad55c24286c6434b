/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "conf_private.h"

static const char text[] = "-- a comment with key = 1\n"
			   "--[[ a long one\n"
			   "key = 2 ]] local x = 1\n"
			   "return {\n"
			   "	key = \"a { \\\" } -- no comment\",\n"
			   "	[\"max_channels\"] = 3, workers = 4,\n"
			   "	listen = {\n"
			   "		{ address = [==[\n"
			   "port = 5 ]] ]==] },\n"
			   "	},\n"
			   "	user\n"
			   "		= 'x',\n"
			   "	tcp = {\n"
			   "		backlog = 6, ['keepalive'] = 7,\n"
			   "		deep = { backlog = 8 },\n"
			   "	},\n"
			   "	same == 9,\n"
			   "}\n";

static void test_lines(void **state)
{
	static const struct {
		const char *key;
		int line; /* 0 = not found */
	} want[] = {
		{"key", 5},	  {"max_channels", 6},	 {"workers", 6},      {"listen", 7},
		{"user", 11},	  {"tcp", 13},		 {"tcp.backlog", 14}, {"tcp.keepalive", 14},
		{"tcp.deep", 15}, {"port", 0},		 {"address", 0},      {"x", 0},
		{"same", 0},	  {"listen.address", 0},
	};
	json_t *lines = alk_conf_lines(text, strlen(text));

	(void)state;
	assert_non_null(lines);
	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)
		if (json_integer_value(json_object_get(lines, want[i].key)) != want[i].line)
			fail_msg("%s is in line %d", want[i].key,
				 (int)json_integer_value(json_object_get(lines, want[i].key)));
	json_decref(lines);
}

/* However the text is cut, nothing is read past its end. */
static void test_cut(void **state)
{
	(void)state;
	for (size_t n = 0; n < sizeof(text); n++) {
		char *copy = n > 0 ? strndup(text, n) : strdup("");

		assert_non_null(copy);
		json_decref(alk_conf_lines(copy, n < strlen(text) ? n : strlen(text)));
		free(copy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
