/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Values of one table: types, ranges, precedence, files, and their way to a worker. Holds THREATS
 * row 46. */
#include "options_private.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static const struct alk_option table[] = {
	{.name = "flag", .type = ALK_OPT_BOOL, .fallback = "false"},
	{.name = "count", .type = ALK_OPT_INT, .fallback = "5", .min = 1, .max = 1024},
	{.name = "any", .type = ALK_OPT_INT},
	{.name = "workers", .type = ALK_OPT_INT, .flags = ALK_OPT_AUTO, .min = 0, .max = 256},
	{.name = "wait", .type = ALK_OPT_DURATION, .fallback = "30", .min = 1000, .max = 600000},
	{.name = "bytes", .type = ALK_OPT_SIZE, .fallback = "1M", .min = 1024, .max = 1LL << 30},
	{.name = "word", .type = ALK_OPT_STRING, .fallback = "tcp"},
	{.name = "words", .type = ALK_OPT_STRING, .flags = ALK_OPT_REPEAT},
	{.name = "level", .type = ALK_OPT_ENUM, .choices = "error|warn|info", .fallback = "info"},
	{.name = "many",
	 .type = ALK_OPT_ENUM,
	 .choices =
		 "a-choice-with-a-name-of-50-letters-and-this-is-one|b-choice-with-a-name-of-50-letters-and-this-is-one|"
		 "c-choice-with-a-name-of-50-letters-and-this-is-one|d-choice-with-a-name-of-50-letters-and-this-is-one|"
		 "e-choice-with-a-name-of-50-letters-and-this-is-one|f-choice-with-a-name-of-50-letters-and-this-is-one|last"},
	{.name = "socket", .type = ALK_OPT_PATH},
	{.name = "file", .type = ALK_OPT_FILE},
	{.name = "files", .type = ALK_OPT_FILE, .flags = ALK_OPT_REPEAT},
	{.name = "key", .type = ALK_OPT_FILE, .flags = ALK_OPT_PRIVATE},
	{.name = "secret", .type = ALK_OPT_STRING, .flags = ALK_OPT_SECRET},
	{.name = "listen", .type = ALK_OPT_TABLE, .flags = ALK_OPT_REPEAT},
	{0},
};

static char dir[] = "/tmp/alk-options-XXXXXX";

static int dir_make(void **state)
{
	(void)state;
	return mkdtemp(dir) != NULL ? 0 : -1;
}

static int dir_remove(void **state)
{
	(void)state;
	return rmdir(dir);
}

/* A file in `dir`; the path is the caller's until the next call. */
static const char *file_make(const char *name, const void *bytes, size_t n, mode_t mode)
{
	static char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, mode), 0);
	return path;
}

static int set(struct alk_options *options, const char *name, const char *text, const char *source,
	       struct alk_err *err)
{
	return alk_options_set_text(options, alk_option_find(table, name), text, source, err);
}

static int set_json(struct alk_options *options, const char *name, const char *json, const char *in,
		    struct alk_err *err)
{
	json_t *value = json_loads(json, JSON_DECODE_ANY, NULL);
	int rc;

	assert_non_null(value);
	rc = alk_options_set_json(options, alk_option_find(table, name), value, "/etc/a.conf", in,
				  err);
	json_decref(value);
	return rc;
}

static void test_defaults(void **state)
{
	struct alk_options *options = alk_options_new(table);

	(void)state;
	assert_false(alk_options_has(options, "count"));
	assert_int_equal(alk_options_defaults(options, NULL), 0);
	assert_true(alk_options_has(options, "count"));
	assert_false(alk_options_bool(options, "flag"));
	assert_int_equal(alk_options_int(options, "count"), 5);
	assert_int_equal(alk_options_int(options, "wait"), 30000);
	assert_int_equal(alk_options_int(options, "bytes"), 1048576);
	assert_string_equal(alk_options_str(options, "word"), "tcp");
	assert_string_equal(alk_options_str(options, "level"), "info");
	assert_false(alk_options_has(options, "socket"));
	assert_null(alk_options_str(options, "socket"));
	assert_null(alk_options_nth(options, "words", 0));
	assert_null(alk_options_file(options, "file", 0, NULL));
	alk_options_free(&options);
	assert_null(options);
	alk_options_free(&options);
}

static void test_texts_that_fit(void **state)
{
	static const struct {
		const char *name, *text;
		int64_t value;
	} rows[] = {
		{"count", "1", 1},
		{"count", "1024", 1024},
		{"any", "9223372036854775807", INT64_MAX},
		{"workers", "auto", -1},
		{"workers", "0", 0},
		{"wait", "1s", 1000},
		{"wait", "10m", 600000},
		{"wait", "1500ms", 1500},
		{"bytes", "1K", 1024},
		{"bytes", "1G", 1 << 30},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct alk_options *options = alk_options_new(table);

		assert_int_equal(set(options, rows[i].name, rows[i].text, "flag", NULL), 0);
		assert_true(alk_options_int(options, rows[i].name) == rows[i].value);
		alk_options_free(&options);
	}
}

/* Behind more choices than the sentence lists. */
static void test_last_of_many_choices(void **state)
{
	struct alk_options *options = alk_options_new(table);

	(void)state;
	assert_int_equal(set(options, "many", "last", "flag", NULL), 0);
	assert_string_equal(alk_options_str(options, "many"), "last");
	alk_options_free(&options);
}

static void test_texts_that_do_not(void **state)
{
	static const struct {
		const char *name, *text, *says;
	} rows[] = {
		{"flag", "maybe", "must be true or false, not \"maybe\""},
		{"count", "0", "must be a whole number from 1 to 1024, not \"0\""},
		{"count", "1025", "from 1 to 1024"},
		{"count", "-1", "from 1 to 1024"},
		{"count", "", "not \"\""},
		{"count", "auto", "not \"auto\""},
		{"count", "99999999999999999999", "from 1 to 1024"},
		{"any", "-1", "from 0 up, not \"-1\""},
		{"workers", "some", "from 0 to 256 or \"auto\", not \"some\""},
		{"wait", "999ms", "from 1s to 10m"},
		{"wait", "5 parsecs",
		 "must be a time (seconds, or a number with ms, s, m or h behind it)"},
		{"bytes", "1Q",
		 "must be a size (bytes, or a number with K, M or G behind it) from 1K to 1G"},
		{"level", "loud", "must be one of error, warn, info, not \"loud\""},
		{"level", "inf", "must be one of"},
		{"level", "", "must be one of"},
		{"many", "none", "must be one of a-choice"},
		{"word", "", "is empty"},
		{"word", "\xff", "is not valid UTF-8"},
		{"level", "x\ny", "not \"x\\x0ay\""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct alk_options *options = alk_options_new(table);
		struct alk_err err = {""};

		assert_int_equal(set(options, rows[i].name, rows[i].text, "flag", &err), -EINVAL);
		if (strstr(err.text, rows[i].says) == NULL)
			fail_msg("%s = %s: %s", rows[i].name, rows[i].text, err.text);
		assert_false(alk_options_has(options, rows[i].name));
		alk_options_free(&options);
	}
}

static void test_path_too_long(void **state)
{
	struct alk_options *options = alk_options_new(table);
	char path[PATH_MAX + 1];

	(void)state;
	memset(path, 'a', PATH_MAX);
	path[PATH_MAX] = '\0';
	assert_int_equal(set(options, "socket", path, "flag", NULL), -EINVAL);
	path[PATH_MAX - 1] = '\0';
	assert_int_equal(set(options, "socket", path, "flag", NULL), 0);
	alk_options_free(&options);
}

static void test_json_types(void **state)
{
	static const struct {
		const char *name, *json, *says; /* NULL = good */
	} rows[] = {
		{"flag", "true", NULL},
		{"flag", "\"true\"", "must be true or false, not text"},
		{"flag", "1", "must be true or false, not a number"},
		{"count", "7", NULL},
		{"count", "7.5", "must be a whole number from 1 to 1024, not \"7.5\""},
		{"count", "7.0", NULL},
		{"count", "1e300", "must be a whole number"},
		{"count", "\"7\"", "must be a number, not text"},
		{"count", "{}", "must be a number, not a table"},
		{"count", "[]", "must be a number, not a list"},
		{"count", "true", "must be a number, not true or false"},
		{"workers", "\"auto\"", NULL},
		{"wait", "1.5", NULL},
		{"wait", "\"2m\"", NULL},
		{"wait", "1e300", "must be a time"},
		{"wait", "-3", "must be a time"},
		{"bytes", "4096", NULL},
		{"bytes", "\"64K\"", NULL},
		{"word", "\"x\"", NULL},
		{"word", "5", "must be text, not a number"},
		{"word", "[\"x\"]", "must be text, not a list"},
		{"level", "\"warn\"", NULL},
		{"words", "\"one\"", NULL},
		{"words", "[]", NULL},
		{"words", "{}", NULL},
		{"words", "[\"one\", \"two\"]", NULL},
		{"words", "[\"one\", 2]", "entry 2: must be text, not a number"},
		{"words", "{\"one\":1}", "must be text, not a table"},
		{"listen", "{\"a\":1}", NULL},
		{"listen", "[{\"a\":1}, \"b\"]", NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct alk_options *options = alk_options_new(table);
		struct alk_err err = {""};
		int rc = set_json(options, rows[i].name, rows[i].json, NULL, &err);

		if (rc != (rows[i].says ? -EINVAL : 0) ||
		    (rows[i].says && !strstr(err.text, rows[i].says)))
			fail_msg("%s = %s: %d %s", rows[i].name, rows[i].json, rc, err.text);
		alk_options_free(&options);
	}
}

static void test_precedence(void **state)
{
	static const char *const sources[] = {"/etc/a.conf", "environment", "flag"};

	(void)state;
	/* In whatever order they come, the flag counts most and the file least. */
	for (int order = 0; order < 27; order++) {
		int picks[] = {order % 3, order / 3 % 3, order / 9}, best = 0;
		struct alk_options *options = alk_options_new(table);

		for (int i = 0; i < 3; i++) {
			assert_int_equal(set(options, "word", sources[picks[i]], sources[picks[i]],
					     NULL),
					 0);
			best = picks[i] > best ? picks[i] : best;
		}
		assert_int_equal(alk_options_defaults(options, NULL), 0);
		assert_string_equal(alk_options_str(options, "word"), sources[best]);
		assert_string_equal(alk_options_value(options, "word")->source, sources[best]);
		alk_options_free(&options);
	}
}

/* What counts less is checked all the same. */
static void test_overruled_value_is_checked(void **state)
{
	struct alk_options *options = alk_options_new(table);

	(void)state;
	assert_int_equal(set(options, "count", "7", "flag", NULL), 0);
	assert_int_equal(set_json(options, "count", "0", NULL, NULL), -EINVAL);
	assert_int_equal(set_json(options, "count", "8", NULL, NULL), 0);
	assert_int_equal(alk_options_int(options, "count"), 7);
	alk_options_free(&options);
}

static void test_repeat(void **state)
{
	struct alk_options *options = alk_options_new(table);

	(void)state;
	assert_int_equal(set_json(options, "words", "[\"file\", \"file\"]", NULL, NULL), 0);
	assert_int_equal(set(options, "words", "one", "flag", NULL), 0);
	assert_int_equal(set(options, "words", "two", "flag", NULL), 0);
	assert_string_equal(alk_options_nth(options, "words", 0), "one");
	assert_string_equal(alk_options_nth(options, "words", 1), "two");
	assert_null(alk_options_nth(options, "words", 2));
	/* The last one counts where there is only one. */
	assert_int_equal(set(options, "word", "one", "flag", NULL), 0);
	assert_int_equal(set(options, "word", "two", "flag", NULL), 0);
	assert_string_equal(alk_options_str(options, "word"), "two");
	assert_null(alk_options_nth(options, "word", 1));
	for (int i = 0; i < 998; i++)
		assert_int_equal(set(options, "words", "more", "flag", NULL), 0);
	assert_int_equal(set(options, "words", "too many", "flag", NULL), -E2BIG);
	alk_options_free(&options);
}

static void test_table_is_json(void **state)
{
	struct alk_options *options = alk_options_new(table);

	(void)state;
	assert_int_equal(set_json(options, "listen", "[{\"address\": \"a:1\"}, \"b:2\"]", NULL,
				  NULL),
			 0);
	assert_string_equal(alk_options_nth(options, "listen", 0), "{\"address\":\"a:1\"}");
	assert_string_equal(alk_options_nth(options, "listen", 1), "\"b:2\"");
	assert_int_equal(set(options, "listen", "c:3", "flag", NULL), 0);
	assert_string_equal(alk_options_str(options, "listen"), "\"c:3\"");
	assert_null(alk_options_nth(options, "listen", 1));
	alk_options_free(&options);
}

static void test_paths_stand_beside_the_file(void **state)
{
	struct alk_options *options = alk_options_new(table);

	(void)state;
	assert_int_equal(set_json(options, "socket", "\"run/a.sock\"", "/etc/alknet", NULL), 0);
	assert_string_equal(alk_options_str(options, "socket"), "/etc/alknet/run/a.sock");
	assert_int_equal(set_json(options, "socket", "\"/run/a.sock\"", "/etc/alknet", NULL), 0);
	assert_string_equal(alk_options_str(options, "socket"), "/run/a.sock");
	assert_int_equal(set_json(options, "socket", "\"none\"", "/etc/alknet", NULL), 0);
	assert_string_equal(alk_options_str(options, "socket"), "none");
	setenv("HOME", "/home/u", 1);
	assert_int_equal(set_json(options, "socket", "\"~/a.sock\"", "/etc/alknet", NULL), 0);
	assert_string_equal(alk_options_str(options, "socket"), "/home/u/a.sock");
	assert_int_equal(set(options, "socket", "a.sock", "flag", NULL), 0);
	assert_string_equal(alk_options_str(options, "socket"), "a.sock");
	alk_options_free(&options);
}

static int set_file(struct alk_options *options, const char *path, const char *in,
		    struct alk_err *err)
{
	json_t *value = json_string(path);
	int rc = alk_options_set_secret_file(options, alk_option_find(table, "secret"), value,
					     "/etc/a.conf", in, err);

	json_decref(value);
	return rc;
}

static const char *secret_file_of(const struct alk_options *options)
{
	return alk_options_value(options, "secret")->secret_file;
}

/* NAME_file is a path of the file as others are, and counts as much as NAME would. */
static void test_secret_files(void **state)
{
	struct alk_options *options = alk_options_new(table);
	struct alk_err err = {""};

	(void)state;
	setenv("HOME", "/home/u", 1);
	assert_int_equal(set_file(options, "~/s", "/etc/alknet", NULL), 0);
	assert_string_equal(secret_file_of(options), "/home/u/s");
	assert_int_equal(set_file(options, "/s", "/etc/alknet", &err), -EINVAL);
	assert_non_null(strstr(err.text, "give one of the two"));
	assert_int_equal(set(options, "secret", "x", "environment", NULL), 0);
	assert_null(secret_file_of(options));
	assert_int_equal(set_file(options, "s", "/etc/alknet", NULL), 0);
	assert_null(secret_file_of(options));
	assert_string_equal(alk_options_str(options, "secret"), "x");
	alk_options_free(&options);
	options = alk_options_new(table);
	assert_int_equal(set_file(options, "s", "/etc/alknet", NULL), 0);
	assert_string_equal(secret_file_of(options), "/etc/alknet/s");
	alk_options_free(&options);
	options = alk_options_new(table);
	assert_int_equal(set(options, "secret", "x", "/etc/a.conf", NULL), 0);
	assert_int_equal(set_file(options, "s", "/etc/alknet", NULL), -EINVAL);
	alk_options_free(&options);
}

static void test_names(void **state)
{
	unsigned best = UINT_MAX;

	(void)state;
	assert_string_equal(alk_option_nearest(table, "cuont", &best), "count");
	assert_int_equal(best, 1);
	best = UINT_MAX;
	assert_null(alk_option_nearest(table, "completely", &best));
	assert_non_null(alk_option_find(table, "wait"));
	assert_null(alk_option_find(table, "wai"));
	assert_null(alk_option_find(NULL, "wait"));
	assert_string_equal(alk_option_secret_file(table, "secret_file")->name, "secret");
	assert_null(alk_option_secret_file(table, "word_file"));
	assert_null(alk_option_secret_file(table, "_file"));
}

/* --- files ------------------------------------------------------------------------------------ */

static const char *failed;

static int read_one(const char *name, const char *path, struct alk_err *err)
{
	struct alk_options *options = alk_options_new(table);
	int rc;

	assert_int_equal(set(options, name, path, "flag", NULL), 0);
	rc = alk_options_read_files(options, &failed, err);
	if (rc < 0)
		assert_string_equal(failed, name);
	alk_options_free(&options);
	return rc;
}

static void test_file_is_read(void **state)
{
	struct alk_options *options = alk_options_new(table);
	const char *path = file_make("f", "a\0b", 3, 0644);
	const char *content;
	size_t len;

	(void)state;
	assert_int_equal(set(options, "file", path, "flag", NULL), 0);
	assert_int_equal(set(options, "files", path, "flag", NULL), 0);
	assert_int_equal(set(options, "files", path, "flag", NULL), 0);
	assert_int_equal(alk_options_read_files(options, &failed, NULL), 0);
	content = alk_options_file(options, "file", 0, &len);
	assert_int_equal(len, 3);
	assert_memory_equal(content, "a\0b", 4);
	assert_string_equal(alk_options_str(options, "file"), path);
	assert_non_null(alk_options_file(options, "files", 1, NULL));
	assert_null(alk_options_file(options, "files", 2, NULL));
	unlink(path);
	/* Once is enough. */
	assert_int_equal(alk_options_read_files(options, &failed, NULL), 0);
	alk_options_free(&options);
}

static void test_t46_modes(void **state)
{
	static const struct {
		mode_t mode;
		bool good, good_private;
	} rows[] = {
		{0600, true, true},   {0400, true, true},   {0640, true, false},
		{0604, true, false},  {0620, true, false},  {0644, true, false},
		{0610, true, false},  {0602, false, false}, {0666, false, false},
		{0777, false, false},
	};
	struct alk_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *path = file_make("mode", "x", 1, rows[i].mode);

		assert_int_equal(read_one("file", path, &err), rows[i].good ? 0 : -EPERM);
		if (!rows[i].good)
			assert_non_null(strstr(err.text, "chmod o-w "));
		assert_int_equal(read_one("key", path, &err), rows[i].good_private ? 0 : -EPERM);
		if (!rows[i].good_private)
			assert_non_null(strstr(err.text, "chmod "));
		unlink(path);
	}
}

static void test_t46_not_a_file(void **state)
{
	char path[128], target[128];
	struct alk_err err;

	(void)state;
	assert_int_equal(read_one("key", dir, &err), -EINVAL);
	assert_non_null(strstr(err.text, "is a directory, not a regular file"));
	assert_int_equal(read_one("file", "/dev/null", &err), -EINVAL);
	assert_non_null(strstr(err.text, "/dev/null is a device"));
	snprintf(path, sizeof(path), "%s/missing", dir);
	assert_int_equal(read_one("file", path, &err), -ENOENT);
	assert_non_null(strstr(err.text, path));

	snprintf(path, sizeof(path), "%s/fifo", dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(read_one("key", path, &err), -EINVAL);
	assert_non_null(strstr(err.text, "is a pipe"));
	unlink(path);

	snprintf(target, sizeof(target), "%s", file_make("target", "x", 1, 0600));
	snprintf(path, sizeof(path), "%s/link", dir);
	assert_int_equal(symlink(target, path), 0);
	assert_int_equal(read_one("key", path, &err), -ELOOP);
	assert_non_null(strstr(err.text, "is a symbolic link"));
	assert_int_equal(read_one("file", path, &err), 0);
	unlink(path);
	unlink(target);
}

static void test_t46_owner(void **state)
{
	const char *path;
	struct alk_err err;

	(void)state;
	if (geteuid() != 0)
		skip();
	path = file_make("foreign", "x", 1, 0600);
	assert_int_equal(chown(path, 65534, 65534), 0);
	assert_int_equal(read_one("key", path, &err), -EPERM);
	assert_non_null(strstr(err.text, "belongs to uid 65534"));
	assert_int_equal(read_one("file", path, &err), 0);
	unlink(path);
}

static void test_t46_sizes(void **state)
{
	char *big = calloc(1, ALK_CONTENT_MAX + 1);
	struct alk_err err;
	const char *path;

	(void)state;
	path = file_make("big", big, ALK_CONTENT_PRIVATE_MAX, 0600);
	assert_int_equal(read_one("key", path, &err), 0);
	path = file_make("big", big, ALK_CONTENT_PRIVATE_MAX + 1, 0600);
	assert_int_equal(read_one("key", path, &err), -EFBIG);
	assert_non_null(strstr(err.text, "is larger than 64 KiB"));
	path = file_make("big", big, ALK_CONTENT_MAX, 0600);
	assert_int_equal(read_one("file", path, &err), 0);
	path = file_make("big", big, ALK_CONTENT_MAX + 1, 0600);
	assert_int_equal(read_one("file", path, &err), -EFBIG);
	assert_non_null(strstr(err.text, "is larger than 1024 KiB"));
	path = file_make("big", big, 0, 0600);
	assert_int_equal(read_one("key", path, &err), 0);
	unlink(path);
	free(big);
}

/* --- secrets ---------------------------------------------------------------------------------- */

static int secret_file(struct alk_options *options, const char *path, struct alk_err *err)
{
	json_t *text = json_string(path);
	int rc = alk_options_set_secret_file(options, alk_option_secret_file(table, "secret_file"),
					     text, "/etc/a.conf", "/etc", err);

	json_decref(text);
	return rc;
}

static void test_secret_from_a_file(void **state)
{
	static const struct {
		const char *text, *secret;
	} rows[] = {{"hush", "hush"},	    {"hush\n", "hush"}, {"hush\r\n", "hush"},
		    {"two\nlines\n", NULL}, {"", NULL},		{"\n", NULL},
		    {"\xff", NULL}};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct alk_options *options = alk_options_new(table);
		const char *path = file_make("secret", rows[i].text, strlen(rows[i].text), 0600);
		struct alk_err err = {""};
		json_t *shown;

		assert_int_equal(secret_file(options, path, NULL), 0);
		assert_int_equal(alk_options_read_files(options, &failed, &err),
				 rows[i].secret != NULL ? 0 : -EINVAL);
		if (rows[i].secret == NULL) {
			assert_string_equal(failed, "secret");
			assert_non_null(strstr(err.text, path));
		} else {
			assert_string_equal(alk_options_str(options, "secret"), rows[i].secret);
			shown = alk_options_show(options);
			assert_string_equal(json_string_value(
						    json_object_get(json_object_get(shown,
										    "secret"),
								    "value")),
					    "***");
			assert_string_equal(alk_options_value(options, "secret")->source,
					    "/etc/a.conf");
			json_decref(shown);
		}
		unlink(path);
		alk_options_free(&options);
	}
}

static void test_secret_twice(void **state)
{
	struct alk_options *options = alk_options_new(table);
	struct alk_err err = {""};

	(void)state;
	assert_int_equal(secret_file(options, "/x", NULL), 0);
	assert_int_equal(set_json(options, "secret", "\"y\"", NULL, &err), -EINVAL);
	assert_non_null(strstr(err.text, "stands beside secret_file"));
	alk_options_free(&options);
	options = alk_options_new(table);
	assert_int_equal(set_json(options, "secret", "\"y\"", NULL, NULL), 0);
	assert_int_equal(secret_file(options, "/x", &err), -EINVAL);
	assert_non_null(strstr(err.text, "stands beside secret;"));
	alk_options_free(&options);
}

static void test_t46_secret_that_others_may_read(void **state)
{
	struct alk_options *options = alk_options_new(table);
	const char *path = file_make("secret", "hush", 4, 0644);
	struct alk_err err = {""};

	(void)state;
	assert_int_equal(secret_file(options, path, NULL), 0);
	assert_int_equal(alk_options_read_files(options, &failed, &err), -EPERM);
	assert_non_null(strstr(err.text, "chmod 600 "));
	unlink(path);
	alk_options_free(&options);
}

/* --- to a worker ------------------------------------------------------------------------------ */

static void test_encode(void **state)
{
	struct alk_options *options = alk_options_new(table), *other = alk_options_new(table);
	const char *path = file_make("f", "\xff\0\n\"", 4, 0600), *content;
	json_t *encoded, *again;
	char *text;
	size_t len;

	(void)state;
	assert_int_equal(set(options, "key", path, "flag", NULL), 0);
	assert_int_equal(set(options, "words", "one", "flag", NULL), 0);
	assert_int_equal(set(options, "words", "two", "flag", NULL), 0);
	assert_int_equal(set(options, "flag", "true", "flag", NULL), 0);
	assert_int_equal(set(options, "workers", "auto", "environment", NULL), 0);
	assert_int_equal(set(options, "secret", "hush", "/etc/a.conf", NULL), 0);
	assert_int_equal(alk_options_defaults(options, NULL), 0);
	assert_int_equal(alk_options_read_files(options, &failed, NULL), 0);
	unlink(path);
	encoded = alk_options_encode(options);
	/* As it goes over the socket. */
	text = json_dumps(encoded, JSON_COMPACT);
	again = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	assert_int_equal(alk_options_decode(other, again, NULL), 0);
	content = alk_options_file(other, "key", 0, &len);
	assert_int_equal(len, 4);
	assert_memory_equal(content, "\xff\0\n\"", 5);
	assert_string_equal(alk_options_nth(other, "words", 1), "two");
	assert_null(alk_options_nth(other, "words", 2));
	assert_true(alk_options_bool(other, "flag"));
	assert_int_equal(alk_options_int(other, "workers"), -1);
	assert_int_equal(alk_options_int(other, "wait"), 30000);
	assert_string_equal(alk_options_str(other, "secret"), "hush");
	assert_false(alk_options_has(other, "socket"));
	assert_string_equal(alk_options_value(other, "words")->source, "flag");
	/* Nothing that was sent is read again. */
	assert_int_equal(alk_options_read_files(other, &failed, NULL), 0);
	free(text);
	json_decref(again);
	json_decref(encoded);
	alk_options_free(&options);
	alk_options_free(&other);
}

static void test_decode_refuses(void **state)
{
	static const char *const texts[] = {
		"{\"nothing\": {}}",
		"{\"word\": 5}",
		"{\"word\": {\"source\": \"flag\"}}",
		"{\"key\": {\"source\": \"flag\", \"num\": 0, \"text\": [\"a\"], \"file\": [\"abc\"]}}",
		"{\"key\": {\"source\": \"flag\", \"num\": 0, \"text\": [\"a\"], \"file\": [\"zz\"]}}",
		"{\"key\": {\"source\": \"flag\", \"num\": 0, \"text\": [\"a\"], \"file\": [\"00\", \"00\"]}}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct alk_options *options = alk_options_new(table);
		json_t *encoded = json_loads(texts[i], 0, NULL);
		struct alk_err err = {""};

		assert_int_equal(alk_options_decode(options, encoded, &err), -EINVAL);
		assert_true(err.text[0] != '\0');
		json_decref(encoded);
		alk_options_free(&options);
	}
}

static void test_show(void **state)
{
	struct alk_options *options = alk_options_new(table);
	json_t *shown, *expected;

	(void)state;
	set(options, "words", "one", "flag", NULL);
	set(options, "workers", "auto", "environment", NULL);
	set(options, "wait", "1500ms", "flag", NULL);
	set(options, "flag", "true", "flag", NULL);
	set(options, "secret", "hush", "/etc/a.conf", NULL);
	set(options, "listen", "a:1", "flag", NULL);
	set(options, "word", "x", "flag", NULL);
	shown = alk_options_show(options);
	expected = json_loads("{\"words\": {\"value\": [\"one\"], \"source\": \"flag\"},"
			      " \"workers\": {\"value\": \"auto\", \"source\": \"environment\"},"
			      " \"wait\": {\"value\": 1.5, \"source\": \"flag\"},"
			      " \"flag\": {\"value\": true, \"source\": \"flag\"},"
			      " \"secret\": {\"value\": \"***\", \"source\": \"/etc/a.conf\"},"
			      " \"listen\": {\"value\": [\"a:1\"], \"source\": \"flag\"},"
			      " \"word\": {\"value\": \"x\", \"source\": \"flag\"}}",
			      0, NULL);
	assert_true(json_equal(shown, expected));
	json_decref(shown);
	json_decref(expected);
	alk_options_free(&options);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_texts_that_fit),
		cmocka_unit_test(test_last_of_many_choices),
		cmocka_unit_test(test_texts_that_do_not),
		cmocka_unit_test(test_path_too_long),
		cmocka_unit_test(test_json_types),
		cmocka_unit_test(test_precedence),
		cmocka_unit_test(test_overruled_value_is_checked),
		cmocka_unit_test(test_repeat),
		cmocka_unit_test(test_table_is_json),
		cmocka_unit_test(test_paths_stand_beside_the_file),
		cmocka_unit_test(test_secret_files),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_file_is_read),
		cmocka_unit_test(test_t46_modes),
		cmocka_unit_test(test_t46_not_a_file),
		cmocka_unit_test(test_t46_owner),
		cmocka_unit_test(test_t46_sizes),
		cmocka_unit_test(test_secret_from_a_file),
		cmocka_unit_test(test_secret_twice),
		cmocka_unit_test(test_t46_secret_that_others_may_read),
		cmocka_unit_test(test_encode),
		cmocka_unit_test(test_decode_refuses),
		cmocka_unit_test(test_show),
	};

	return cmocka_run_group_tests(tests, dir_make, dir_remove);
}
