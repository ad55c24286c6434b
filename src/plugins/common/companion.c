/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "companion.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <alknet/loop.h>

int companion_find(const struct companion_kind *kind, char path[COMPANION_PATH_MAX],
		   struct alk_err *err)
{
	static const char libs[] = "/.libs";
	const size_t n_libs = sizeof(libs) - 1;
	const char *slash;
	Dl_info info;
	size_t n;

	if (dladdr((void *)(uintptr_t)companion_find, &info) == 0 || info.dli_fname == NULL ||
	    (slash = strrchr(info.dli_fname, '/')) == NULL ||
	    (n = (size_t)(slash - info.dli_fname)) + strlen(kind->name) + 2 > COMPANION_PATH_MAX)
		return alk_err_set(err, -ENOENT, "where %s is cannot be found out", kind->name);
	snprintf(path, COMPANION_PATH_MAX, "%.*s/%s", (int)n, info.dli_fname, kind->name);
	/* In a build directory libtool keeps the plugin one further down. */
	if (access(path, X_OK) != 0 && n > n_libs && strncmp(slash - n_libs, libs, n_libs) == 0)
		snprintf(path, COMPANION_PATH_MAX, "%.*s/%s", (int)(n - n_libs), info.dli_fname,
			 kind->name);
	if (access(path, X_OK) != 0)
		return alk_err_set(err, -errno, "%s %s: %s", kind->needs, path, strerror(errno));
	return 0;
}

static int actions_fill(posix_spawn_file_actions_t *actions, int fd)
{
	int rc = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDWR, 0);

	if (rc == 0)
		rc = posix_spawn_file_actions_adddup2(actions, STDIN_FILENO, STDOUT_FILENO);
	if (rc == 0)
		rc = posix_spawn_file_actions_adddup2(actions, fd, COMPANION_FD);
	if (rc == 0)
		rc = posix_spawn_file_actions_addclosefrom_np(actions, COMPANION_FD + 1);
	return rc;
}

/* `fd` is none of those that the program gets. */
static int process_start(pid_t *pid, const char *path, const char *name, int fd)
{
	char *argv[] = {(char *)(uintptr_t)name, NULL}; /* posix_spawn does not write there */
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
	rc = actions_fill(&actions, fd);
	if (rc == 0)
		rc = posix_spawn(pid, path, &actions, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return -rc;
}

int companion_start(struct companion *companion, const struct companion_kind *kind,
		    struct alk_err *err)
{
	char path[COMPANION_PATH_MAX];
	int pair[2], theirs, rc = companion_find(kind, path, err);

	*companion = (struct companion){.fd = -1};
	if (rc < 0)
		return rc;
	if (socketpair(AF_UNIX, kind->type | SOCK_CLOEXEC, 0, pair) != 0)
		return alk_err_set(err, -errno, "no socket for %s: %s", kind->name,
				   strerror(errno));
	for (int i = 0; i < 2 && kind->buffer > 0; i++)
		setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &kind->buffer, sizeof(kind->buffer));
	/* Out of the way of the numbers that are given out. */
	theirs = fcntl(pair[1], F_DUPFD_CLOEXEC, COMPANION_FD + 1);
	rc = theirs < 0 ? -errno : process_start(&companion->pid, path, kind->name, theirs);
	alk_fd_close(&theirs);
	alk_fd_close(&pair[1]);
	if (rc < 0) {
		companion->pid = 0;
		alk_fd_close(&pair[0]);
		return alk_err_set(err, rc, "%s cannot be started: %s", path, strerror(-rc));
	}
	companion->fd = pair[0];
	return 0;
}

void companion_end(struct companion *companion)
{
	alk_fd_close(&companion->fd);
	if (companion->pid > 0) {
		kill(companion->pid, SIGKILL);
		while (waitpid(companion->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	companion->pid = 0;
}
