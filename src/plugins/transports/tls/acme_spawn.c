/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "acme_spawn.h"
#include "acme.h"
#include "acme_private.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

bool acme_wanted(const struct alk_options *options)
{
	return alk_options_has(options, "acme_domain");
}

/* ---- settings ---- */

/* Lower case, letters, digits and dashes between dots. */
static bool is_host(char *name)
{
	size_t label = 0, n = strlen(name);

	if (n == 0 || n > 253)
		return false;
	for (size_t i = 0; i <= n; i++) {
		char *c = &name[i];

		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c + ('a' - 'A'));
		if (*c == '.' || *c == '\0') {
			if (label == 0 || label > 63 || name[i - 1] == '-')
				return false;
			label = 0;
		} else if ((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') ||
			   (*c == '-' && label > 0)) {
			label++;
		} else {
			return false;
		}
	}
	return true;
}

static int name_check(const char *given, char name[256], struct alk_err *err)
{
	uint8_t address[16];

	if (strlen(given) < 256)
		strcpy(name, given);
	else
		name[0] = '\0';
	for (int family = AF_INET; inet_pton(family, name, address) == 1;)
		return inet_ntop(family, address, name, 256) != NULL ? 0 : -errno;
	if (inet_pton(AF_INET6, name, address) == 1)
		return inet_ntop(AF_INET6, address, name, 256) != NULL ? 0 : -errno;
	if (name[0] == '*')
		return alk_err_set(
			err, -EINVAL,
			"acme_domain: %s: a wildcard needs a proof by DNS, which alknet does not make: give each name",
			given);
	if (!is_host(name))
		return alk_err_set(
			err, -EINVAL,
			"acme_domain: %.260s is neither a host name nor an IP address (a name with other letters is written as xn--...)",
			given);
	return 0;
}

static int names_make(const struct alk_options *options, json_t *names, struct alk_err *err)
{
	const char *given;
	char name[256];
	int rc = 0;

	for (size_t i = 0; rc == 0 && (given = alk_options_nth(options, "acme_domain", i)) != NULL;
	     i++) {
		if (i == ACME_NAMES_MAX)
			return alk_err_set(err, -E2BIG, "acme_domain: there are more than %d names",
					   ACME_NAMES_MAX);
		rc = name_check(given, name, err);
		if (rc == 0 && json_array_append_new(names, json_string(name)) < 0)
			rc = alk_err_set(err, -ENOMEM, "out of memory");
	}
	return rc;
}

static int texts_check(const struct alk_options *options, struct alk_err *err)
{
	const char *url = alk_options_str(options, "acme_directory");
	const char *email = alk_options_str(options, "acme_email");
	const char *ca = alk_options_file(options, "acme_ca_file", 0, NULL);

	if (strncmp(url, "https://", 8) != 0 || url[8] == '\0')
		return alk_err_set(err, -EINVAL, "acme_directory: %s does not begin with https://",
				   url);
	if (email != NULL && (strchr(email, '@') == NULL || strpbrk(email, " ,?\r\n") != NULL))
		return alk_err_set(err, -EINVAL, "acme_email: %s is not an address", email);
	if (ca != NULL && strstr(ca, "-----BEGIN CERTIFICATE-----") == NULL)
		return alk_err_set(err, -EINVAL, "acme_ca_file: %s holds no PEM certificate",
				   alk_options_str(options, "acme_ca_file"));
	return 0;
}

int acme_settings_make(const struct alk_options *options, json_t **settings, struct alk_err *err)
{
	json_t *names = json_array();
	int rc = texts_check(options, err);

	if (rc == 0)
		rc = names_make(options, names, err);
	*settings = NULL;
	if (rc == 0) {
		*settings = json_pack("{s:s, s:s*, s:s*, s:s, s:s, s:s, s:O}", "directory",
				      alk_options_str(options, "acme_directory"), "email",
				      alk_options_str(options, "acme_email"), "ca",
				      alk_options_file(options, "acme_ca_file", 0, NULL),
				      "state_dir", alk_options_str(options, "acme_state_dir"),
				      "challenge", alk_options_str(options, "acme_challenge"),
				      "http", alk_options_str(options, "acme_http"), "names",
				      names);
		if (*settings == NULL)
			rc = alk_err_set(err, -EINVAL,
					 "the options of ACME are not text, or memory is out");
	}
	json_decref(names);
	return rc;
}

/* ---- the process ---- */

static int program_find(char path[4096], struct alk_err *err)
{
	Dl_info info;
	const char *slash;

	if (dladdr((void *)(uintptr_t)acme_wanted, &info) == 0 || info.dli_fname == NULL ||
	    (slash = strrchr(info.dli_fname, '/')) == NULL)
		return alk_err_set(err, -ENOENT, "where alknet-acme is cannot be found out");
	snprintf(path, 4096, "%.*s/alknet-acme", (int)(slash - info.dli_fname), info.dli_fname);
	if (access(path, X_OK) != 0)
		return alk_err_set(err, -errno, "ACME needs %s: %s", path, strerror(errno));
	return 0;
}

/* Signals as a program expects them, a session of its own (no Ctrl-C), and no descriptor but ours. */
static int process_start(pid_t *pid, const char *path, int fd)
{
	char arg0[] = "alknet-acme";
	char *argv[] = {arg0, NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int rc;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
						POSIX_SPAWN_SETSID);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_adddup2(&actions, STDIN_FILENO, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, fd, ACME_FD);
	posix_spawn_file_actions_addclosefrom_np(&actions, ACME_FD + 1);
	rc = posix_spawn(pid, path, &actions, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return -rc;
}

int acme_spawn(pid_t *pid, int *fd, struct alk_err *err)
{
	int pair[2], size = (int)(2 * ACME_PACKET_MAX), rc;
	char path[4096];

	rc = program_find(path, err);
	if (rc < 0)
		return rc;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return alk_err_set(err, -errno, "no socket for alknet-acme: %s", strerror(errno));
	for (int i = 0; i < 2; i++)
		setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	rc = process_start(pid, path, pair[1]);
	alk_fd_close(&pair[1]);
	if (rc < 0) {
		*pid = 0;
		alk_fd_close(&pair[0]);
		return alk_err_set(err, rc, "%s cannot be started: %s", path, strerror(-rc));
	}
	*fd = pair[0];
	return 0;
}
