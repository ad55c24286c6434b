/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What is made from the table of options: defaults, help, the manual. */
#include "conf_play.h"

/* --- what is made from the table -------------------------------------------------------------- */

static void test_table(void **state)
{
	(void)state;
	for (const struct alk_option *o = alk_conf_options; o->type != ALK_OPT_END; o++) {
		assert_true(o->flags & (ALK_OPT_SERVE | ALK_OPT_CONNECT));
		assert_non_null(o->help);
		assert_non_null(o->group);
		assert_true(o->type == ALK_OPT_BOOL || o->arg != NULL);
		assert_true(o->type != ALK_OPT_ENUM || o->choices != NULL);
		/* One name, one meaning in a role. */
		for (const struct alk_option *p = alk_conf_options; p < o; p++)
			assert_true(strcmp(o->name, p->name) != 0 ||
				    (o->flags & p->flags & (ALK_OPT_SERVE | ALK_OPT_CONNECT)) == 0);
	}
}

/* The defaults that are printed are a file, and say what the program does without one. */
static void test_dump_defaults(void **state)
{
	char *text = alk_conf_dump_defaults(false);
	struct alk_conf *from_file = NULL, *without;
	struct alk_err err = {""};
	json_t *a, *b, *value;
	const char *name;

	(void)state;
	assert_non_null(text);
	unsetenv("ALKNET_PLUGIN_DIR");
	from_file = conf_of(ALK_ROLE_SUPERVISOR, text, SERVE(), &err);
	if (from_file == NULL)
		fail_msg("%s", err.text);
	without = conf_of(ALK_ROLE_SUPERVISOR, NULL, SERVE(), &err);
	setenv("ALKNET_PLUGIN_DIR", dir, 1);
	a = alk_conf_show(from_file);
	b = alk_conf_show(without);
	assert_int_equal(json_object_size(a), json_object_size(b));
	json_object_foreach(a, name, value)
	{
		if (!json_equal(json_object_get(value, "value"),
				json_object_get(json_object_get(b, name), "value")))
			fail_msg("%s", name);
		assert_true(strcmp(alk_conf_source(from_file, name), file) == 0 ||
			    strcmp(alk_conf_source(from_file, name), "flag") == 0);
	}
	for (const struct alk_option *o = alk_conf_options; o->type != ALK_OPT_END; o++)
		assert_non_null(strstr(text, o->name));
	json_decref(a);
	json_decref(b);
	alk_conf_free(&from_file);
	alk_conf_free(&without);
	free(text);
}

static char *printed(void (*print)(FILE *out))
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	print(out);
	fclose(out);
	return text;
}

static void print_serve(FILE *out)
{
	alk_cmdline_help("serve", out);
}

static void print_connect(FILE *out)
{
	alk_cmdline_help("connect", out);
}

static unsigned flags_of(const char *name)
{
	unsigned flags = 0;

	for (const struct alk_option *o = alk_conf_options; o->type != ALK_OPT_END; o++)
		flags |= strcmp(o->name, name) == 0 ? o->flags : 0;
	return flags;
}

static void test_help_and_manual(void **state)
{
	char *serve = printed(print_serve), *connect = printed(print_connect),
	     *manual = printed(alk_cmdline_manual);

	(void)state;
	for (const struct alk_option *o = alk_conf_options; o->type != ALK_OPT_END; o++) {
		char flag[80], line[90];

		alk_cmdline_flag(o, flag, sizeof(flag));
		snprintf(line, sizeof(line), "\n.It Fl %s", flag + 1);
		if (!alk_cmdline_is_flag(o))
			snprintf(line, sizeof(line), "\n.It Va %s", o->name);
		assert_non_null(strstr(manual, line));
		snprintf(line, sizeof(line), "      %s%s", flag,
			 o->type == ALK_OPT_BOOL ? "" : " ");
		if (!alk_cmdline_is_flag(o))
			snprintf(line, sizeof(line), " %s", o->name);
		assert_int_equal(strstr(serve, line) != NULL,
				 (flags_of(o->name) & ALK_OPT_SERVE) != 0);
		assert_int_equal(strstr(connect, line) != NULL,
				 (flags_of(o->name) & ALK_OPT_CONNECT) != 0);
	}
	for (const char *line = serve; line != NULL && *line != '\0'; line = strchr(line, '\n') + 1)
		assert_true(strcspn(line, "\n") <= 100);
	assert_non_null(strstr(serve, "(default 10:30:100)"));
	assert_non_null(strstr(serve, "; --no-sandbox)"));
	assert_non_null(strstr(connect, "ALKNET_SERVER"));
	free(serve);
	free(connect);
	free(manual);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_dump_defaults),
		cmocka_unit_test(test_help_and_manual),
	};

	conf_play_begin();
	return cmocka_run_group_tests(tests, dir_make, dir_remove);
}
