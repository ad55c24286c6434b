/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A configuration beside another: what a reload copies, reads again, compares and keeps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf.h"

static char dir[] = "/tmp/alk-conf-reload-XXXXXX";
static char files[4][64];
enum {
	CONF,
	KEY,
	AUTHORIZED,
	POLICY
};

static void write_file(int which, const char *text)
{
	FILE *f = fopen(files[which], "w");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(files[which], 0600), 0);
}

static int make(void **state)
{
	static const char *const names[] = {"alknet.conf", "key", "authorized", "policy"};

	(void)state;
	if (mkdtemp(dir) == NULL)
		return -1;
	for (int i = 0; i < 4; i++)
		snprintf(files[i], sizeof(files[i]), "%s/%s", dir, names[i]);
	write_file(KEY, "first key");
	write_file(AUTHORIZED, "first authorized");
	write_file(POLICY, "first policy");
	return 0;
}

static int clean(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++)
		unlink(files[i]);
	return rmdir(dir);
}

static struct alk_conf *conf_of(const char *more)
{
	struct alk_conf *conf = alk_conf_new(ALK_ROLE_SUPERVISOR);
	struct alk_err err = {""};
	char text[512];

	snprintf(text, sizeof(text),
		 "return { key = '%s', authorized_keys = '%s', policy = '%s', %s }", files[KEY],
		 files[AUTHORIZED], files[POLICY], more);
	write_file(CONF, text);
	if (alk_conf_load_file(conf, files[CONF], &err) < 0 || alk_conf_finish(conf, &err) < 0 ||
	    alk_conf_read_files(conf, &err) < 0)
		fail_msg("%s", err.text);
	return conf;
}

static void has(const struct alk_conf *conf, const char *option, const char *text)
{
	size_t len = 0;
	const char *bytes = alk_conf_file(conf, option, 0, &len);

	assert_non_null(bytes);
	assert_int_equal(len, strlen(text));
	assert_string_equal(bytes, text);
}

static void test_a_copy_reads_again_what_is_asked_for(void **state)
{
	struct alk_conf *conf = conf_of("max_sessions = 7"), *copy = alk_conf_copy(conf, NULL);
	struct alk_err err = {""};

	(void)state;
	assert_non_null(copy);
	write_file(KEY, "second key");
	write_file(AUTHORIZED, "second authorized");
	write_file(POLICY, "second policy");
	assert_int_equal(alk_conf_read_again(copy, "policy", false, &err), 0);
	has(copy, "policy", "second policy");
	has(copy, "key", "first key");
	has(copy, "authorized_keys", "first authorized");
	assert_int_equal(alk_conf_read_again(copy, "key", true, &err), 0);
	has(copy, "key", "second key");
	has(copy, "authorized_keys", "second authorized");
	assert_int_equal(alk_options_int(alk_conf_values(copy), "max_sessions"), 7);
	has(conf, "policy", "first policy"); /* the one that runs has not moved */
	has(conf, "key", "first key");
	alk_conf_free(&conf);
	has(copy, "policy", "second policy"); /* and is not needed */
	unlink(files[POLICY]);
	assert_true(alk_conf_read_again(copy, "policy", false, &err) < 0);
	assert_non_null(strstr(err.text, files[POLICY]));
	alk_conf_free(&copy);
	write_file(POLICY, "first policy");
}

static void test_same_and_keep(void **state)
{
	struct alk_conf *a = conf_of("admin_socket = '/a', listen = { '127.0.0.1:1' }");
	struct alk_conf *b = conf_of("admin_socket = '/b', listen = { '127.0.0.1:1' }");
	struct alk_err err = {""};

	(void)state;
	assert_true(alk_conf_same(a, b, "listen"));
	assert_true(alk_conf_same(a, b, "workers"));
	assert_true(alk_conf_same(a, b, "user")); /* unset in both */
	assert_false(alk_conf_same(a, b, "admin_socket"));
	assert_int_equal(alk_conf_keep(b, a, "admin_socket", &err), 0);
	assert_true(alk_conf_same(a, b, "admin_socket"));
	assert_string_equal(alk_options_str(alk_conf_values(b), "admin_socket"), "/a");
	assert_string_equal(alk_conf_source(b, "admin_socket"), files[CONF]);
	assert_int_equal(alk_conf_keep(b, a, "user", &err), 0);
	assert_false(alk_options_has(alk_conf_values(b), "user"));
	write_file(POLICY, "another policy");
	assert_int_equal(alk_conf_read_again(b, "policy", false, &err), 0);
	assert_false(alk_conf_same(a, b, "policy")); /* the contents count */
	assert_int_equal(alk_conf_keep(b, a, "policy", &err), 0);
	assert_true(alk_conf_same(a, b, "policy"));
	alk_conf_free(&a);
	has(b, "policy", "first policy");
	alk_conf_free(&b);
	write_file(POLICY, "first policy");
}

static const struct alk_option bee_options[] = {
	{.name = "legs", .type = ALK_OPT_INT, .fallback = "6", .max = 8},
	{.name = "name", .type = ALK_OPT_STRING},
	{.type = ALK_OPT_END},
};
static const struct alk_plugin bee = {.name = "bee", .options = bee_options};

static void test_plugin_options(void **state)
{
	struct alk_conf *a = conf_of(""), *b = alk_conf_copy(a, NULL), *c;
	struct alk_err err = {""};

	(void)state;
	assert_non_null(alk_conf_plugin(a, &bee, &err));
	assert_non_null(alk_conf_plugin(b, &bee, &err));
	assert_true(alk_conf_plugin_same(a, b, "bee"));
	c = alk_conf_copy(a, NULL);
	/* A copy of a copy has them although nobody asked in between. */
	alk_conf_free(&b);
	b = alk_conf_copy(c, NULL);
	assert_non_null(alk_conf_plugin(b, &bee, &err));
	assert_true(alk_conf_plugin_same(a, b, "bee"));
	alk_conf_plugin_forget(b, "bee");
	assert_false(alk_conf_plugin_same(a, b, "bee"));
	alk_conf_plugin_forget(b, "wasp"); /* never was there */
	assert_int_equal(alk_options_int(alk_conf_plugin(b, &bee, &err), "legs"), 6);
	alk_conf_free(&a);
	alk_conf_free(&b);
	alk_conf_free(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_copy_reads_again_what_is_asked_for),
		cmocka_unit_test(test_same_and_keep),
		cmocka_unit_test(test_plugin_options),
	};

	return cmocka_run_group_tests(tests, make, clean);
}
