/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What of a back-off outlives the server, and what a file that is wrong does to it (threat 69). The
 * clocks are this file. */
#include "../../src/plugins/transports/tls/acme_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define NOW ((time_t)1767225600)
#define WEEK ACME_RETRY_AFTER_MAX

static char dir[] = "/tmp/alknet-backoff.XXXXXX", path[64];
static time_t wall;
/* Of a machine that was started a second ago, whatever time it is. */
static time_t ticks;
static unsigned notices;
static char notice[512];

time_t time(time_t *at)
{
	if (at != NULL)
		*at = wall;
	return wall;
}

time_t acme_client_clock(void)
{
	return ticks;
}

void acme_client_notice(struct acme_client *c, const char *fmt, ...)
{
	va_list ap;

	(void)c;
	va_start(ap, fmt);
	vsnprintf(notice, sizeof(notice), fmt, ap);
	va_end(ap);
	notices++;
}

static int setup(void **state)
{
	(void)state;
	unlink(path);
	wall = NOW;
	ticks = 1;
	notices = 0;
	notice[0] = '\0';
	return 0;
}

static int group_setup(void **state)
{
	(void)state;
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/%s", dir, ACME_BACKOFF);
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(dir);
}

static struct acme_client client_of(const char *name)
{
	json_t *settings = json_pack("{s:s, s:[s]}", "directory", "https://ca.example/dir", "names",
				     name);

	assert_non_null(settings);
	return (struct acme_client){.settings = settings, .state_dir = dir};
}

/* As a server that was just started. */
static bool load(struct acme_client *c, const char *name)
{
	*c = client_of(name);
	return acme_backoff_load(c);
}

static void done(struct acme_client *c)
{
	json_decref(c->settings);
}

static bool is_kept(void)
{
	return access(path, F_OK) == 0;
}

static void keep(unsigned failures, unsigned early, time_t wait)
{
	struct acme_client c = client_of("one.example");

	c.early = early;
	acme_backoff_keep(&c, failures, wait, failures > 0 ? "no \xc3\xa9" : "");
	assert_int_equal(notices, 0);
	done(&c);
}

static void test_t69_waits_on(void **state)
{
	struct acme_client c;
	struct stat st;

	(void)state;
	keep(5, 0, 900);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	wall += 100;
	ticks = 7;
	assert_true(load(&c, "one.example"));
	assert_int_equal(c.pause, 7 + 800);
	assert_int_equal(c.failures, 5);
	assert_int_equal(c.early, 0);
	assert_string_equal(c.last_error, "no \xc3\xa9");
	acme_backoff_clear(&c);
	done(&c);
	assert_false(is_kept());
	assert_false(load(&c, "one.example"));
	assert_int_equal(c.pause, 0);
	assert_int_equal(notices, 0);
	done(&c);
}

/* What is over is not waited for, and the next one is as long as if the server had gone on. */
static void test_t69_is_over(void **state)
{
	struct acme_client c;

	(void)state;
	keep(5, 2, 900);
	wall += 900;
	assert_false(load(&c, "one.example"));
	assert_int_equal(c.pause, 0);
	assert_int_equal(c.failures, 5);
	assert_int_equal(c.early, 2);
	done(&c);
}

static void test_t69_other_settings(void **state)
{
	struct acme_client c;

	(void)state;
	keep(5, 0, 900);
	assert_false(load(&c, "two.example"));
	assert_int_equal(c.pause, 0);
	assert_int_equal(c.failures, 0);
	assert_int_equal(notices, 0);
	done(&c);
	/* They are the ones before again, and nobody has asked meanwhile. */
	assert_true(load(&c, "one.example"));
	done(&c);
}

/* What the supervisor knows of the helper before may be more. */
static void test_t69_beside_the_supervisors_word(void **state)
{
	struct acme_client c = client_of("one.example");

	(void)state;
	keep(2, 0, 100);
	c.failures = 3;
	c.pause = 400;
	strcpy(c.last_error, "the port is taken");
	assert_false(acme_backoff_load(&c));
	assert_int_equal(c.failures, 3);
	assert_int_equal(c.pause, 400);
	assert_string_equal(c.last_error, "the port is taken");
	c.pause = 50;
	assert_false(acme_backoff_load(&c));
	assert_int_equal(c.pause, 101);
	done(&c);
}

/* No wait is longer than it was to be, and a start does not begin it again. */
static void test_t69_clock_was_set_back(void **state)
{
	struct acme_client c;

	(void)state;
	keep(5, 0, 900);
	for (wall = 1000; wall < 1000 + 900; wall += 300) {
		assert_true(load(&c, "one.example"));
		assert_int_equal(c.pause, ticks + 1000 + 900 - wall);
		done(&c);
	}
	assert_false(load(&c, "one.example"));
	assert_int_equal(c.failures, 5);
	assert_int_equal(notices, 0);
	done(&c);
}

static void test_t69_no_longer_than_a_week(void **state)
{
	struct acme_client c;

	(void)state;
	keep(1, 0, (time_t)1 << 40);
	for (int day = 0; day < 7; day++) {
		assert_true(load(&c, "one.example"));
		assert_int_equal(c.pause, ticks + WEEK - (wall - NOW));
		done(&c);
		wall += 24 * 3600;
	}
	assert_false(load(&c, "one.example"));
	done(&c);
}

static void put(const char *text, size_t n, mode_t mode)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, n, file), n);
	assert_int_equal(fchmod(fileno(file), mode), 0);
	assert_int_equal(fclose(file), 0);
}

static void absent(const char *why)
{
	struct acme_client c;

	notices = 0;
	assert_false(load(&c, "one.example"));
	assert_int_equal(c.pause, 0);
	assert_int_equal(c.failures, 0);
	assert_int_equal(c.early, 0);
	assert_string_equal(c.last_error, "");
	done(&c);
	assert_int_equal(notices, 1);
	assert_non_null(strstr(notice, path));
	assert_non_null(strstr(notice, why));
	/* It is said once. */
	assert_false(load(&c, "one.example"));
	done(&c);
	assert_int_equal(notices, 1);
	assert_false(is_kept());
}

#define FILE_OF(asked, next, failures, early, error)                                               \
	"{\"settings\":\"x\",\"asked\":" asked ",\"next\":" next ",\"failures\":" failures         \
	",\"early\":" early ",\"last_error\":" error "}"

static void test_t69_damaged(void **state)
{
	static const char *const files[] = {
		"",
		"nothing",
		"[]",
		"{}",
		"{\"settings\":\"x\",\"asked\":1,\"next\":2,\"failures\":1,\"early\":0",
		FILE_OF("1", "2", "1", "0", "\"\"") "x",
		FILE_OF("1", "2", "1", "0", "\"\",\"more\":1"),
		FILE_OF("1", "2", "1", "0", "\"\",\"early\":1"),
		FILE_OF("1", "2", "1", "0", "null"),
		FILE_OF("1", "2", "1", "0", "\"\xff\""),
		FILE_OF("1", "2", "0", "0", "\"\""),
		FILE_OF("1", "2", "-1", "0", "\"\""),
		FILE_OF("1", "2", "1", "-1", "\"\""),
		FILE_OF("1", "2", "4294967296", "0", "\"\""),
		FILE_OF("1", "2", "1", "4294967297", "\"\""),
		FILE_OF("1", "2", "1.5", "0", "\"\""),
		FILE_OF("1", "2", "\"1\"", "0", "\"\""),
		FILE_OF("2", "1", "1", "0", "\"\""),
		FILE_OF("-9223372036854775807", "9223372036854775807", "1", "0", "\"\""),
		FILE_OF("1", "9223372036854775808", "1", "0", "\"\""),
	};

	(void)state;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		put(files[i], strlen(files[i]), 0600);
		absent("it is not what was written there");
	}
}

static void test_t69_other_files(void **state)
{
	static const char good[] = FILE_OF("1", "2", "1", "0", "\"\"");
	static char large[100000];
	struct acme_client c;

	(void)state;
	put(good, strlen(good), 0600); /* or the others are wrong for another reason */
	assert_false(load(&c, "one.example"));
	assert_int_equal(notices, 0);
	done(&c);
	put(good, strlen(good), 0640);
	absent("others may use it");
	put(good, sizeof(good), 0600);
	absent("it is not what was written there");
	memset(large, ' ', sizeof(large));
	memcpy(large, good, strlen(good));
	put(large, sizeof(large), 0600);
	absent("it is not what was written there");
	unlink(path);
	assert_int_equal(symlink("/dev/zero", path), 0);
	absent("symbolic links");
	assert_int_equal(mkfifo(path, 0600), 0);
	absent("it is not what was written there");
}

/* As far as a file can say it: the wait is a week's at most, and no number runs over. */
static void test_t69_extremes(void **state)
{
	struct acme_client c;
	json_t *file;

	(void)state;
	keep(1, 0, 60);
	file = json_load_file(path, 0, NULL);
	assert_non_null(file);
	json_object_set_new(file, "asked", json_integer(0));
	json_object_set_new(file, "next", json_integer(INT64_MAX));
	json_object_set_new(file, "failures", json_integer(INT32_MAX - 1));
	assert_int_equal(json_dump_file(file, path, 0), 0);
	json_decref(file);
	assert_true(load(&c, "one.example"));
	assert_int_equal(c.pause, ticks + WEEK);
	assert_int_equal(c.failures, INT32_MAX - 1);
	done(&c);
}

static void test_t69_cannot_be_kept(void **state)
{
	struct acme_client c = client_of("one.example");

	(void)state;
	c.state_dir = "/nonexistent";
	acme_backoff_keep(&c, 1, 60, "");
	assert_int_equal(notices, 1);
	assert_non_null(strstr(notice, "/nonexistent cannot be written in"));
	done(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_t69_waits_on, setup),
		cmocka_unit_test_setup(test_t69_is_over, setup),
		cmocka_unit_test_setup(test_t69_other_settings, setup),
		cmocka_unit_test_setup(test_t69_beside_the_supervisors_word, setup),
		cmocka_unit_test_setup(test_t69_clock_was_set_back, setup),
		cmocka_unit_test_setup(test_t69_no_longer_than_a_week, setup),
		cmocka_unit_test_setup(test_t69_damaged, setup),
		cmocka_unit_test_setup(test_t69_other_files, setup),
		cmocka_unit_test_setup(test_t69_extremes, setup),
		cmocka_unit_test_setup(test_t69_cannot_be_kept, setup),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
