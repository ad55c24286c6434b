/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The file of the endpoint's key. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "../../src/plugins/transports/iroh/iroh.h"

static char dir[] = "/tmp/alknet-iroh-key-XXXXXX";
static char path[sizeof(dir) + 64];

static unsigned files(void)
{
	DIR *at = opendir(dir);
	const struct dirent *one;
	unsigned n = 0;

	assert_non_null(at);
	while ((one = readdir(at)) != NULL)
		n += one->d_name[0] != '.';
	closedir(at);
	return n;
}

static void read_twice(void)
{
	char first[IROH_ID_HEX], again[IROH_ID_HEX];
	struct alk_err err = {""};

	if (iroh_key_read(path, first, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(strlen(first), IROH_ID_HEX - 1);
	assert_int_equal(iroh_key_read(path, again, &err), 0);
	assert_string_equal(first, again);
}

static void test_is_made(void **state)
{
	struct stat st;

	(void)state;
	read_twice();
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(files(), 1);
	assert_int_equal(unlink(path), 0);
}

/* In a container a process has the same id at each start. */
static void test_one_was_killed(void **state)
{
	char left[sizeof(path) + 32];
	int fd;

	(void)state;
	snprintf(left, sizeof(left), "%s.new-%d", path, (int)getpid());
	fd = open(left, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	read_twice();
	assert_int_equal(unlink(path), 0);
	unlink(left);
	assert_int_equal(files(), 0);
}

static void test_name_without_directory(void **state)
{
	char whole[sizeof(path)];

	(void)state;
	strcpy(whole, path);
	assert_int_equal(chdir(dir), 0);
	strcpy(path, "key");
	read_twice();
	assert_int_equal(unlink(path), 0);
	strcpy(path, whole);
}

static int dir_make(void **state)
{
	(void)state;
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/key", dir);
	return 0;
}

static int dir_remove(void **state)
{
	(void)state;
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_is_made),
		cmocka_unit_test(test_one_was_killed),
		cmocka_unit_test(test_name_without_directory),
	};

	return cmocka_run_group_tests(tests, dir_make, dir_remove);
}
