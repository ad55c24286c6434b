/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cmdline.h"
#include "completion.h"

static char *script_of(const char *shell)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	assert_int_equal(alk_cmdline_completion(shell, out), 0);
	fclose(out);
	return text;
}

/* Every flag of the options table is in every script; what is no flag is in none. */
static void test_has_all_flags(void **state)
{
	static const char *const shells[] = {"bash", "zsh", "fish"};

	(void)state;
	for (size_t i = 0; i < sizeof(shells) / sizeof(shells[0]); i++) {
		char *script = script_of(shells[i]), name[64], want[80];

		for (const struct alk_option *o = alk_conf_options; o->type != ALK_OPT_END; o++) {
			bool fish = strcmp(shells[i], "fish") == 0;

			alk_cmdline_flag(o, name, sizeof(name));
			snprintf(want, sizeof(want), fish ? "-l %s " : "%s",
				 fish ? name + 2 : name);
			if ((strstr(script, want) != NULL) < alk_cmdline_is_flag(o))
				fail_msg("%s: no %s", shells[i], want);
		}
		assert_non_null(strstr(script, "error warn info debug"));
		free(script);
	}
}

static void test_no_such_shell(void **state)
{
	(void)state;
	assert_int_equal(alk_cmdline_completion("tcsh", stdout), -EINVAL);
	assert_int_equal(alk_cmdline_completion("", stdout), -EINVAL);
}

/* Help texts may hold what a shell would read as its own. */
static void test_quoting(void **state)
{
	static const struct alk_completion_flag flags[] = {
		{.name = "--x", .arg = "A:B", .help = "it's [a] $(touch x) \\ `y`: \"z\""},
	};
	static const struct alk_completion_command commands[] = {
		{.name = "one",
		 .help = "a 'command'",
		 .flags = flags,
		 .n_flags = 1,
		 .words = "p q"},
	};
	const struct alk_completion completion = {.program = "a-b",
						  .commands = commands,
						  .n_commands = 1};
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	(void)state;
	assert_int_equal(alk_completion_print(&completion, "zsh", out), 0);
	assert_int_equal(alk_completion_print(&completion, "fish", out), 0);
	fclose(out);
	assert_non_null(
		strstr(text, "'*--x[it'\\''s \\[a\\] $(touch x) \\\\ `y`\\: \"z\"]:A\\:B:'"));
	assert_non_null(strstr(text, "-d 'it\\'s [a] $(touch x) \\\\ `y`: \"z\"'"));
	free(text);
}

/* A flag that goes with one argument alone is offered behind no other. */
static void test_flags_of_an_argument(void **state)
{
	static const struct alk_completion_flag flags[] = {
		{.name = "--a", .arg = "X", .help = "", .of = "p"},
		{.name = "--b", .help = "", .of = "p"},
		{.name = "--c", .help = "", .of = "q"},
		{.name = "--d", .help = ""},
	};
	static const struct alk_completion_command commands[] = {
		{.name = "one", .help = "", .flags = flags, .n_flags = 4, .words = "p q"},
	};
	const struct alk_completion completion = {.program = "x",
						  .commands = commands,
						  .n_commands = 1};
	static const char *const parts[] = {
		"\tone:p:--a) return ;;\n",
		"[[ $argument != p ]] || words+=' --a --b'\n",
		"[[ $argument != q ]] || words+=' --c'\n\t\twords+=' --d'\n",
		"[[ $words[2] != p ]] || own+=( \\\n\t\t\t'*--a[]:X:' \\\n\t\t\t'*--b[]')\n",
		"[[ $words[2] != q ]] || own+=( \\\n\t\t\t'*--c[]')\n",
		"_arguments $own \\\n\t\t\t'*--d[]' ",
		"'__fish_seen_subcommand_from one; and __fish_seen_subcommand_from p' -l b",
		"'__fish_seen_subcommand_from one; and __fish_seen_subcommand_from q' -l c",
		"'__fish_seen_subcommand_from one' -l d",
	};
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	(void)state;
	assert_int_equal(alk_completion_print(&completion, "bash", out), 0);
	assert_int_equal(alk_completion_print(&completion, "zsh", out), 0);
	assert_int_equal(alk_completion_print(&completion, "fish", out), 0);
	fclose(out);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (strstr(text, parts[i]) == NULL)
			fail_msg("no \"%s\" in:\n%s", parts[i], text);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_has_all_flags),
		cmocka_unit_test(test_no_such_shell),
		cmocka_unit_test(test_quoting),
		cmocka_unit_test(test_flags_of_an_argument),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
