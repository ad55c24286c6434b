/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A service that tries in a worker what a worker must not do, as an attacker inside of it would:
 * the port of the destination says what, the log what came of it. What is tried changes nothing if
 * it is allowed. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <alknet/alknet.h>

static const struct alk_option options[] = {
	{.name = "path", .type = ALK_OPT_STRING, .help = "a file outside"},
	{.type = ALK_OPT_END},
};

static const char *outside;

static int probe_init(const struct alk_plugin_env *env, void **state, struct alk_err *err)
{
	(void)err;
	outside = alk_options_str(env->options, "path");
	*state = &outside;
	return 0;
}

static void probe_deinit(void **state)
{
	*state = NULL;
}

static int try_exec(void)
{
	static char nothing[] = "/nonexistent/alknet";
	char *const argv[] = {nothing, NULL};

	return execve(nothing, argv, argv + 1);
}

static int try_open(const char *path, int flags)
{
	int fd = open(path, flags, 0600);

	if (fd >= 0)
		close(fd);
	return fd;
}

static int try_fork(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	return (int)pid;
}

static int try_socket(int family, int type)
{
	int fd = socket(family, type, 0);

	if (fd >= 0)
		close(fd);
	return fd;
}

static int try_limit(void)
{
	struct rlimit files;

	getrlimit(RLIMIT_NOFILE, &files);
	return setrlimit(RLIMIT_NOFILE, &files);
}

static int try_one(unsigned what)
{
	switch (what) {
	case 1:
		return try_exec();
	case 2:
		return try_open(outside, O_RDONLY);
	case 3:
		return try_open(outside, O_WRONLY);
	case 4:
		return (int)ptrace(PTRACE_ATTACH, 0x3fffffff, NULL, NULL);
	case 5:
		return try_fork();
	case 6:
		return try_socket(AF_PACKET, SOCK_RAW);
	case 7:
		return kill(getppid(), 0);
	case 8:
		return try_limit();
	case 9:
		return mkdir(outside, 0700);
	case 10:
		return try_open("/etc/hosts", O_RDONLY);
	case 11:
		return try_socket(AF_INET6, SOCK_STREAM);
	default:
		return try_open("/proc/self/environ", O_RDONLY);
	}
}

static int probe_open(void *state, struct alk_channel *channel, const struct alk_destination *to,
		      void **user, struct alk_err *err)
{
	int rc;

	(void)state, (void)channel, (void)user;
	errno = 0;
	rc = try_one(to->port);
	alk_log(ALK_LOG_WARN, "probe", ALK_INT("what", to->port),
		ALK_INT("failed", rc < 0 ? errno : 0));
	return alk_err_set(err, -EACCES, "that was all");
}

static const struct alk_service_ops ops = {.size = sizeof(ops), .open = probe_open};

ALK_PLUGIN(.kind = ALK_PLUGIN_SERVICE, .name = "probe", .version = "1", .options = options,
	   .init = probe_init, .deinit = probe_deinit, .ops.service = &ops);
