/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef KEYGEN_H
#define KEYGEN_H

/* Keys made by the real ssh-keygen in a directory of the test's own, removed at the end. Included
 * after <cmocka.h>. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char keygen_dir[64];

__attribute__((format(printf, 1, 2))) static inline void keygen_run(const char *fmt, ...)
{
	char command[1024], line[1200];
	va_list args;

	va_start(args, fmt);
	vsnprintf(command, sizeof(command), fmt, args);
	va_end(args);
	snprintf(line, sizeof(line),
		 "cd %s && { %s; } </dev/null >run.log 2>&1 || { cat run.log >&2; exit 1; }",
		 keygen_dir, command);
	if (system(line) != 0)
		fail_msg("failed: %s", command);
}

static inline int keygen_setup(void **state)
{
	(void)state;
	snprintf(keygen_dir, sizeof(keygen_dir), "/tmp/alknet-unit-XXXXXX");
	return mkdtemp(keygen_dir) ? 0 : -1;
}

static inline int keygen_teardown(void **state)
{
	char line[128];

	(void)state;
	snprintf(line, sizeof(line), "rm -rf %s", keygen_dir);
	return system(line);
}

static inline const char *keygen_path(const char *file)
{
	static char path[4][192];
	static unsigned next;
	char *p = path[next++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", keygen_dir, file);
	return p;
}

/* The file's content, NUL-terminated besides, for the caller to free. */
static inline char *keygen_read(const char *file, size_t *len)
{
	FILE *f = fopen(keygen_path(file), "re");
	char *text;
	long n;

	assert_non_null(f);
	assert_int_equal(fseek(f, 0, SEEK_END), 0);
	n = ftell(f);
	assert_true(n >= 0);
	rewind(f);
	text = calloc(1, (size_t)n + 1);
	assert_non_null(text);
	assert_int_equal(fread(text, 1, (size_t)n, f), n);
	fclose(f);
	if (len)
		*len = (size_t)n;
	return text;
}

static inline void keygen_write(const char *file, const char *text)
{
	FILE *f = fopen(keygen_path(file), "we");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

#endif
