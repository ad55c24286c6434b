/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "iroh_spawn.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "iroh.h"
#include "iroh_packet.h"

#define END_MS 3000

static int program_find(char path[4096], struct alk_err *err)
{
	Dl_info info;
	const char *slash;

	if (dladdr((void *)(uintptr_t)iroh_spawn, &info) == 0 || info.dli_fname == NULL ||
	    (slash = strrchr(info.dli_fname, '/')) == NULL)
		return alk_err_set(err, -ENOENT, "where alknet-iroh is cannot be found out");
	snprintf(path, 4096, "%.*s/alknet-iroh", (int)(slash - info.dli_fname), info.dli_fname);
	/* In a build directory libtool keeps the plugin one further down. */
	if (access(path, X_OK) != 0 && slash - info.dli_fname > 6 &&
	    strncmp(slash - 6, "/.libs", 6) == 0)
		snprintf(path, 4096, "%.*s/alknet-iroh", (int)(slash - 6 - info.dli_fname),
			 info.dli_fname);
	if (access(path, X_OK) != 0)
		return alk_err_set(err, -errno, "the iroh transport needs %s: %s", path,
				   strerror(errno));
	return 0;
}

/* Signals as a program expects them, a session of its own (no Ctrl-C), and no descriptor but ours. */
static int process_start(pid_t *pid, const char *path, int fd)
{
	char arg0[] = "alknet-iroh";
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
	posix_spawn_file_actions_adddup2(&actions, fd, IROH_FD);
	posix_spawn_file_actions_addclosefrom_np(&actions, IROH_FD + 1);
	rc = posix_spawn(pid, path, &actions, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return -rc;
}

int iroh_spawn(pid_t *pid, int *fd, struct alk_err *err)
{
	int pair[2], size = (int)(2 * IROH_PACKET_MAX), rc;
	char path[4096];

	rc = program_find(path, err);
	if (rc < 0)
		return rc;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
		return alk_err_set(err, -errno, "no socket for alknet-iroh: %s", strerror(errno));
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

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Links say their last, and peers hear of the end: that takes a round trip or three. The loop does not run meanwhile, so the
 * shim has its turns here. */
static bool process_ends(int pidfd, struct iroh_shim *shim)
{
	struct pollfd at[1 + IROH_SHIM_FDS] = {{.fd = pidfd, .events = POLLIN}};
	int64_t until = now_ms() + END_MS, left;

	while ((left = until - now_ms()) > 0) {
		size_t n = shim != NULL ? iroh_shim_fds(shim, at + 1) : 0;

		if (poll(at, (nfds_t)(1 + n), (int)left) < 0 && errno != EINTR)
			return false;
		if (at[0].revents != 0)
			return true;
		if (shim != NULL)
			iroh_shim_turn(shim);
	}
	return false;
}

void iroh_spawn_end(pid_t *pid, int *fd, struct iroh_shim *shim)
{
	int pidfd;

	alk_fd_close(fd);
	if (*pid > 0) {
		pidfd = (int)syscall(SYS_pidfd_open, *pid, 0);
		if (pidfd < 0 || !process_ends(pidfd, shim))
			kill(*pid, SIGKILL);
		alk_fd_close(&pidfd);
		while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	*pid = 0;
}
