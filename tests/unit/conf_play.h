/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef CONF_PLAY_H
#define CONF_PLAY_H

/* A configuration from a file, flags and the environment, in a directory of its own. */

#include "conf.h"

#include <errno.h>
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

#include "cmdline.h"
#include "conf_private.h"

#define ARGS_MAX 16

static char dir[] = "/tmp/alk-conf-XXXXXX";
static char file[64], plugin_file[64];

static inline void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static inline int dir_make(void **state)
{
	(void)state;
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(file, sizeof(file), "%s/alknet.conf", dir);
	snprintf(plugin_file, sizeof(plugin_file), "%s/bee.so", dir);
	write_file(plugin_file, "");
	return setenv("ALKNET_PLUGIN_DIR", dir, 1);
}

static inline int dir_remove(void **state)
{
	(void)state;
	unlink(file);
	unlink(plugin_file);
	return rmdir(dir);
}

static inline int load(struct alk_conf *conf, const char *text, struct alk_err *err)
{
	write_file(file, text);
	return alk_conf_load_file(conf, file, err);
}

/* Everything after the file: flags, environment, the end. */
static inline struct alk_conf *conf_of(enum alk_role role, const char *text,
				       const char *const *argv, struct alk_err *err)
{
	struct alk_conf *conf = alk_conf_new(role);
	char *copy[ARGS_MAX] = {NULL};
	struct alk_cmdline line;
	int argc = 0, rc = 0;

	for (; argv != NULL && argv[argc] != NULL; argc++) {
		assert_true(argc < ARGS_MAX - 1);
		copy[argc] = strdup(argv[argc]);
	}
	if (text != NULL)
		rc = load(conf, text, err);
	if (rc == 0 && argv != NULL)
		rc = alk_cmdline_read(argc, copy, conf, &line, err);
	if (rc == 0)
		rc = alk_cmdline_environment(conf, err);
	if (rc == 0)
		rc = alk_conf_finish(conf, err);
	while (argc > 0)
		free(copy[--argc]);
	if (rc < 0)
		alk_conf_free(&conf);
	return conf;
}

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})
#define SERVE(...) ARGV("serve", "--key", "k", "--authorized-keys", "a", ##__VA_ARGS__)
#define CONNECT(...) ARGV("connect", "--server", "h", "--identity", "i", ##__VA_ARGS__)

static inline void conf_play_begin(void)
{
	unsetenv("ALKNET_SERVER");
	unsetenv("ALKNET_IDENTITY");
	unsetenv("SSH_AUTH_SOCK");
}

#endif
