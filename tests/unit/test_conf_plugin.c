/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Sections of plugins, and a configuration on its way to a worker. */
#include "conf_play.h"

/* --- plugins ---------------------------------------------------------------------------------- */

static const struct alk_option bee_options[] = {
	{.name = "honey", .type = ALK_OPT_INT, .fallback = "3", .min = 1, .max = 9},
	{.name = "word", .type = ALK_OPT_STRING, .flags = ALK_OPT_SECRET},
	{.name = "file", .type = ALK_OPT_FILE},
	{0},
};
static const struct alk_plugin bee = {.name = "bee", .options = bee_options};
static const struct alk_plugin plain = {.name = "plain"};

static void test_plugin_sections(void **state)
{
	static const struct {
		const char *text, *says;
	} rows[] = {
		{"return { bee = { honney = 5 } }",
		 "bee.honney: the plugin has no such option; did you mean bee.honey?"},
		{"return { bee = { q = 5 } }", "bee.q: the plugin has no such option"},
		{"return { bee = { honey = 10 } }",
		 "bee.honey: must be a whole number from 1 to 9, not \"10\""},
		{"return { bee = { honey = 'x' } }", "bee.honey: must be a number, not text"},
		{"return { bee = { file = '/nonexistent/f' } }",
		 "alknet.conf:1: bee.file: /nonexistent/f: No such file"},
		{"return { bee = { word_file = '/nonexistent/f' } }",
		 "alknet.conf:1: bee.word: /nonexistent/f"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct alk_err err = {""};
		struct alk_conf *conf = conf_of(ALK_ROLE_SUPERVISOR, rows[i].text, SERVE(), &err);

		if (conf == NULL)
			fail_msg("%s: %s", rows[i].text, err.text);
		assert_null(alk_conf_plugin(conf, &bee, &err));
		if (strstr(err.text, rows[i].says) == NULL)
			fail_msg("%s: %s", rows[i].text, err.text);
		alk_conf_free(&conf);
	}
}

static void test_plugin_values(void **state)
{
	struct alk_err err = {""};
	struct alk_conf *conf = conf_of(ALK_ROLE_SUPERVISOR, "return { bee = { honey = 5 } }",
					SERVE(), &err);
	const struct alk_options *values = alk_conf_plugin(conf, &bee, &err);

	(void)state;
	assert_non_null(values);
	assert_int_equal(alk_options_int(values, "honey"), 5);
	assert_ptr_equal(alk_conf_plugin(conf, &bee, &err), values);
	assert_true(alk_conf_has_section(conf, "bee"));
	assert_non_null(alk_conf_plugin(conf, &plain, &err));
	assert_false(alk_conf_has_section(conf, "plain"));
	assert_false(alk_conf_has_section(conf, "none"));
	alk_conf_free(&conf);
	conf = conf_of(ALK_ROLE_SUPERVISOR, NULL, SERVE(), &err);
	assert_int_equal(alk_options_int(alk_conf_plugin(conf, &bee, &err), "honey"), 3);
	alk_conf_free(&conf);
}

static void test_section_of_no_plugin(void **state)
{
	struct alk_err err = {""};

	(void)state;
	assert_null(conf_of(ALK_ROLE_SUPERVISOR, "return { wasp = { sting = 1 } }", SERVE(), &err));
	assert_non_null(
		strstr(err.text,
		       ".conf:1: wasp: there is no such option, and no plugin of that name"));
	assert_null(conf_of(ALK_ROLE_SUPERVISOR, "return { socks5 = {} }", SERVE(), &err));
	assert_non_null(strstr(err.text, "socks5: is an option of \"alknet connect\""));
	assert_null(conf_of(ALK_ROLE_SUPERVISOR, "return { be = {} }", SERVE(), &err));
	assert_non_null(strstr(err.text, "be: there is no such option; did you mean bee?"));
	assert_null(conf_of(ALK_ROLE_SUPERVISOR, "return { lissten = { 'a:1' } }", SERVE(), &err));
	assert_non_null(strstr(err.text, "lissten: there is no such option; did you mean listen?"));
	assert_null(
		conf_of(ALK_ROLE_SUPERVISOR, "return { ['../bee'] = { a = 1 } }", SERVE(), &err));
	assert_non_null(strstr(err.text, "../bee: there is no such option"));
}

/* --- to a worker ------------------------------------------------------------------------------ */

static struct alk_conf *sent(const struct alk_conf *conf)
{
	json_t *encoded = alk_conf_encode(conf), *again;
	struct alk_err err = {""};
	struct alk_conf *other;
	char *text;

	assert_non_null(encoded);
	text = json_dumps(encoded, JSON_COMPACT);
	again = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	other = alk_conf_decode(again, &err);
	if (other == NULL)
		fail_msg("%s", err.text);
	free(text);
	json_decref(again);
	json_decref(encoded);
	return other;
}

static void test_worker_gets_all_of_it(void **state)
{
	char keys[64], text[256];
	struct alk_err err = {""};
	struct alk_conf *conf, *other;
	struct alk_conf_listen out[2];
	const struct alk_options *values;
	size_t len;

	(void)state;
	snprintf(keys, sizeof(keys), "%s/keys", dir);
	write_file(keys, "ssh-ed25519 AAAA caf\xe9\n");
	chmod(keys, 0600);
	snprintf(text, sizeof(text),
		 "return { bee = { word_file = 'keys', file = 'keys', honey = 4 }, plain = nil }");
	conf = conf_of(ALK_ROLE_SUPERVISOR, text,
		       ARGV("serve", "--key", keys, "--authorized-keys", keys, "--listen", "x:1"),
		       &err);
	assert_non_null(conf);
	assert_int_equal(alk_conf_read_files(conf, &err), 0);
	/* This word is not UTF-8. */
	assert_null(alk_conf_plugin(conf, &bee, &err));
	assert_non_null(strstr(err.text, "is not valid UTF-8"));
	write_file(keys, "hush\n");
	assert_non_null(alk_conf_plugin(conf, &bee, &err));
	unlink(keys);

	other = sent(conf);
	assert_string_equal(alk_conf_file(other, "key", 0, &len), "ssh-ed25519 AAAA caf\xe9\n");
	assert_int_equal(len, 22);
	assert_int_equal(alk_conf_listeners(other, out, 2), 1);
	assert_string_equal(out[0].address, "x:1");
	values = alk_conf_plugin(other, &bee, &err);
	assert_non_null(values);
	assert_int_equal(alk_options_int(values, "honey"), 4);
	assert_string_equal(alk_options_str(values, "word"), "hush");
	assert_string_equal(alk_options_file(values, "file", 0, NULL), "hush\n");
	alk_conf_free(&other);
	alk_conf_free(&conf);

	/* A section that only the worker's plugin can check goes there as it stands. */
	conf = conf_of(ALK_ROLE_SUPERVISOR, "return { bee = { honey = 10 } }", SERVE(), &err);
	other = sent(conf);
	assert_null(alk_conf_plugin(other, &bee, &err));
	assert_non_null(strstr(err.text, ".conf:1: bee.honey: must be"));
	alk_conf_free(&other);
	alk_conf_free(&conf);
}

static void test_decode_refuses(void **state)
{
	static const char *const texts[] = {
		"{}",
		"[]",
		"{\"role\": 1, \"values\": {\"nothing\": {}}, \"plugins\": {}}",
		"{\"role\": \"x\", \"values\": {}, \"plugins\": {}}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		json_t *encoded = json_loads(texts[i], 0, NULL);
		struct alk_err err = {""};

		assert_null(alk_conf_decode(encoded, &err));
		assert_true(err.text[0] != '\0');
		json_decref(encoded);
	}
}

static void test_show_hides_secrets(void **state)
{
	struct alk_err err = {""};
	struct alk_conf *conf = conf_of(ALK_ROLE_SUPERVISOR,
					"return { bee = { word = 'hush', honey = 4 } }", SERVE(),
					&err);
	json_t *shown = alk_conf_show(conf);
	char *text = json_dumps(shown, 0);

	(void)state;
	/* Before the plugin's table is known, and after. */
	assert_null(strstr(text, "hush"));
	assert_non_null(strstr(text, "\"honey\": {\"value\": 4"));
	free(text);
	json_decref(shown);
	assert_non_null(alk_conf_plugin(conf, &bee, &err));
	shown = alk_conf_show(conf);
	text = json_dumps(shown, 0);
	assert_null(strstr(text, "hush"));
	assert_non_null(strstr(text, "\"word\": {\"value\": \"***\""));
	free(text);
	json_decref(shown);
	alk_conf_free(&conf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plugin_sections),
		cmocka_unit_test(test_plugin_values),
		cmocka_unit_test(test_section_of_no_plugin),
		cmocka_unit_test(test_worker_gets_all_of_it),
		cmocka_unit_test(test_decode_refuses),
		cmocka_unit_test(test_show_hides_secrets),
	};

	conf_play_begin();
	return cmocka_run_group_tests(tests, dir_make, dir_remove);
}
