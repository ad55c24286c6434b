/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "worker_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <alknet/loop.h>
#include "sandbox.h"

static void child_close_from(int first)
{
	struct rlimit limit;

#ifdef SYS_close_range
	if (syscall(SYS_close_range, (unsigned)first, ~0u, 0u) == 0)
		return;
#endif
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
		limit.rlim_cur = 1 << 20;
	for (rlim_t fd = (rlim_t)first; fd < limit.rlim_cur; fd++)
		close((int)fd);
}

static void child_signals(void)
{
	static const int obeys_supervisor[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction action = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int signo = 1; signo < NSIG; signo++)
		sigaction(signo, &action,
			  NULL); /* fails for SIGKILL and SIGSTOP, which nobody changed */
	action.sa_handler = SIG_IGN;
	for (size_t i = 0; i < sizeof(obeys_supervisor) / sizeof(obeys_supervisor[0]); i++)
		sigaction(obeys_supervisor[i], &action, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* This program, also when another file has its name by now. Under valgrind that would be valgrind,
 * which has an answer of its own for who reads the link. */
static const char *own_program(char *path, size_t size)
{
	ssize_t n = alk_sandbox_valgrind() ? readlink("/proc/self/exe", path, size - 1) : -1;

	if (n < 0)
		return "/proc/self/exe";
	path[n] = '\0';
	return path;
}

/* Between fork and exec: only what is async-signal-safe. */
static void __attribute__((noreturn)) child_run(const char *exe, int ctl)
{
	char arg0[] = "alknet", arg1[] = "worker";
	char *const argv[] = {arg0, arg1, NULL};
	int null;

	child_signals();
	/* Out of the way first: it may be one of the numbers that are given out below. */
	ctl = fcntl(ctl, F_DUPFD, ALK_WORKER_FD + 1);
	null = open("/dev/null", O_RDWR);
	if (ctl < 0 || null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(ctl, ALK_WORKER_FD) < 0)
		_exit(ALK_WORKER_EXEC_FAILED);
	child_close_from(ALK_WORKER_FD + 1);
	execv(exe, argv);
	_exit(ALK_WORKER_EXEC_FAILED);
}

int alk_worker_spawn(pid_t *pid, int *pidfd, int *ctl, struct alk_err *err)
{
	sigset_t all, before;
	char path[PATH_MAX];
	const char *exe = own_program(path, sizeof(path));
	int fd[2], rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) != 0)
		return alk_err_set(err, -errno, "cannot make a control socket: %s",
				   strerror(errno));
	/* No handler of ours may run in the child. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	*pid = fork();
	if (*pid == 0)
		child_run(exe, fd[1]);
	rc = -errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	alk_fd_close(&fd[1]);
	if (*pid < 0) {
		alk_fd_close(&fd[0]);
		return alk_err_set(err, rc, "cannot start a worker process: %s", strerror(-rc));
	}
#ifdef SYS_pidfd_open
	*pidfd = (int)syscall(SYS_pidfd_open, *pid, 0u); /* close-on-exec by itself */
#else
	*pidfd = -1;
#endif
	*ctl = fd[0];
	return 0;
}
