/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The dictionary that workers share, by several processes. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared.h"
#include "siphash.h"

#define CHILDREN 4
#define TIMES 2000

static int setup(void **state)
{
	*state = alk_shared_new(NULL);
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	struct alk_shared *shared = *state;

	alk_shared_free(&shared);
	assert_null(shared);
	alk_shared_free(&shared);
	return 0;
}

static int set(struct alk_shared *s, const char *key, int64_t n, uint64_t now, uint64_t expires)
{
	const struct alk_shared_value value = {.type = ALK_SHARED_INT, .integer = n};

	return alk_shared_set(s, key, strlen(key), now, expires, &value);
}

/* -1: it is not there. */
static int64_t get(struct alk_shared *s, const char *key, uint64_t now)
{
	struct alk_shared_value value;
	int rc = alk_shared_get(s, key, strlen(key), now, &value);

	assert_true(rc == 0 || rc == -ENOENT);
	return rc == 0 ? value.integer : -1;
}

/* The paper's own: the key 00 01 ... 0f and the text 00 01 ... 0e. */
static void test_siphash(void **state)
{
	const uint64_t key[2] = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
	uint8_t text[15];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(text); i++)
		text[i] = (uint8_t)i;
	assert_true(alk_siphash(key, text, sizeof(text)) == 0xa129ca6149be45e5u);
	assert_true(alk_siphash(key, text, 0) == 0x726fdb47dd0e0e31u);
}

static void test_values(void **state)
{
	struct alk_shared *s = *state;
	struct alk_shared_value in = {.type = ALK_SHARED_TEXT, .len = ALK_SHARED_TEXT_MAX}, out;
	char key[ALK_SHARED_KEY_MAX];

	memset(in.text, 'x', sizeof(in.text));
	in.text[3] = '\0';
	memset(key, 'k', sizeof(key));
	assert_int_equal(alk_shared_set(s, key, sizeof(key), 1, 0, &in), 0);
	assert_int_equal(alk_shared_get(s, key, sizeof(key), 1, &out), 0);
	assert_int_equal(out.type, ALK_SHARED_TEXT);
	assert_int_equal(out.len, sizeof(in.text));
	assert_memory_equal(out.text, in.text, sizeof(in.text));
	assert_int_equal(alk_shared_get(s, key, sizeof(key) - 1, 1, &out), -ENOENT);
	in = (struct alk_shared_value){.type = ALK_SHARED_FLOAT, .number = 1.5};
	assert_int_equal(alk_shared_set(s, key, sizeof(key), 1, 0, &in), 0);
	assert_int_equal(alk_shared_get(s, key, sizeof(key), 1, &out), 0);
	assert_true(out.type == ALK_SHARED_FLOAT && out.number == 1.5);
	assert_int_equal(alk_shared_delete(s, key, sizeof(key), 1), 0);
	assert_int_equal(alk_shared_delete(s, key, sizeof(key), 1), -ENOENT);
	assert_int_equal(alk_shared_get(s, key, sizeof(key), 1, &out), -ENOENT);
}

static void test_expiry(void **state)
{
	struct alk_shared *s = *state;
	int64_t sum;

	assert_int_equal(set(s, "a", 1, 1000, 2000), 0);
	assert_int_equal(get(s, "a", 1999), 1);
	assert_int_equal(get(s, "a", 2000), -1);
	assert_int_equal(alk_shared_delete(s, "a", 1, 2000), -ENOENT);
	assert_int_equal(set(s, "b", 1, 1000, 0), 0);
	assert_int_equal(get(s, "b", UINT64_MAX), 1);
	/* A counter's time begins with its first count. */
	assert_int_equal(alk_shared_add(s, "c", 1, 1000, 1500, 1, &sum), 0);
	assert_int_equal(alk_shared_add(s, "c", 1, 1400, 1900, 1, &sum), 0);
	assert_int_equal(sum, 2);
	assert_int_equal(alk_shared_add(s, "c", 1, 1500, 2000, 1, &sum), 0);
	assert_int_equal(sum, 1);
}

static void test_counting(void **state)
{
	struct alk_shared *s = *state;
	const struct alk_shared_value text = {.type = ALK_SHARED_TEXT, .len = 1, .text = "1"};
	int64_t sum;

	assert_int_equal(alk_shared_add(s, "n", 1, 1, 0, INT64_MAX, &sum), 0);
	assert_int_equal(alk_shared_add(s, "n", 1, 1, 0, 1, &sum), -ERANGE);
	assert_int_equal(alk_shared_add(s, "n", 1, 1, 0, INT64_MIN, &sum), 0);
	assert_int_equal(sum, -1);
	assert_int_equal(alk_shared_set(s, "t", 1, 1, 0, &text), 0);
	assert_int_equal(alk_shared_add(s, "t", 1, 1, 0, 1, &sum), -EINVAL);
}

/* Full is an answer, what is in it stays, and what expired makes room. */
static void test_full(void **state)
{
	struct alk_shared *s = *state;
	unsigned i, held = 0, refused = 0;
	char key[16];

	for (i = 0; i < 12000; i++) {
		snprintf(key, sizeof(key), "key%u", i);
		if (set(s, key, i, 1000, 2000) == 0)
			held++;
		else
			refused++;
	}
	assert_int_equal(held + refused, 12000);
	assert_in_range(held, 7000, 8192);
	for (i = 0; i < 12000; i++) {
		snprintf(key, sizeof(key), "key%u", i);
		if (get(s, key, 1500) == (int64_t)i)
			held--;
	}
	assert_int_equal(held, 0);
	for (i = 0; i < 6000; i++) {
		snprintf(key, sizeof(key), "new%u", i);
		assert_int_equal(set(s, key, i, 2000, 0), 0);
	}
}

static void child_add(int fd)
{
	struct alk_shared *s = alk_shared_map(&fd, NULL);
	int64_t sum;
	int i, rc;

	if (!s)
		_exit(1);
	for (i = 0; i < TIMES; i++) {
		do
			rc = alk_shared_add(s, "sum", 3, 1, 0, 1, &sum);
		while (rc == -EBUSY);
		if (rc < 0)
			_exit(2);
	}
	_exit(0);
}

static void test_workers_count_together(void **state)
{
	struct alk_shared *s = *state;
	pid_t pid[CHILDREN];
	int i, status;

	for (i = 0; i < CHILDREN; i++) {
		pid[i] = fork();
		if (pid[i] == 0)
			child_add(dup(alk_shared_fd(s)));
	}
	for (i = 0; i < CHILDREN; i++) {
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_int_equal(status, 0);
	}
	assert_int_equal(get(s, "sum", 1), CHILDREN * TIMES);
}

/* A worker that keeps the lock makes the others say so in time; one that dies with it holds up
 * nobody. */
static void test_lock_is_kept(void **state)
{
	struct alk_shared *s = *state;
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	struct alk_shared_value value;
	int ready[2], status;
	char byte;
	pid_t pid;

	assert_int_equal(set(s, "a", 7, 1, 0), 0);
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		if (fcntl(alk_shared_fd(s), F_SETLK, &lock) == 0 && write(ready[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(alk_shared_get(s, "a", 1, 1, &value), -EBUSY);
	assert_int_equal(set(s, "a", 8, 1, 0), -EBUSY);
	assert_int_equal(alk_shared_delete(s, "a", 1, 1), -EBUSY);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(get(s, "a", 1), 7);
	close(ready[0]);
	close(ready[1]);
}

/* Whatever another worker scribbles, this one reads values or nothing. */
static void test_scribbled(void **state)
{
	struct alk_shared *s = *state;
	struct alk_shared_value value;
	struct stat st;
	uint32_t *memory;
	size_t i, n;
	char key[16];
	unsigned k;

	assert_int_equal(fstat(alk_shared_fd(s), &st), 0);
	memory = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED,
		      alk_shared_fd(s), 0);
	assert_ptr_not_equal(memory, MAP_FAILED);
	for (k = 0; k < 500; k++) {
		snprintf(key, sizeof(key), "key%u", k);
		assert_int_equal(set(s, key, k, 1, 0), 0);
	}
	n = (size_t)st.st_size / sizeof(*memory);
	for (i = 0; i < n; i++)
		memory[i] = memory[i] ? memory[i] * 2654435761u : i % 7 ? 0 : UINT32_MAX;
	for (k = 0; k < 500; k++) {
		snprintf(key, sizeof(key), "key%u", k);
		value.len = 0;
		alk_shared_get(s, key, strlen(key), 1, &value);
		assert_in_range(value.len, 0, ALK_SHARED_TEXT_MAX);
	}
	assert_true(munmap(memory, (size_t)st.st_size) == 0);
}

static void test_map_refuses(void **state)
{
	struct alk_err err = {.text = ""};
	int fd = memfd_create("small", MFD_CLOEXEC);

	(void)state;
	assert_null(alk_shared_map(&fd, &err));
	assert_int_equal(fd, -1);
	assert_non_null(strstr(err.text, "another size"));
}

int main(void)
{
#define T(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_siphash),
		T(test_values),
		T(test_expiry),
		T(test_counting),
		T(test_full),
		T(test_workers_count_together),
		T(test_lock_is_kept),
		T(test_scribbled),
		T(test_map_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
