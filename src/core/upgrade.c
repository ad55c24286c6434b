/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "inherited.h"
#include "loop_private.h"
#include "notify.h"
#include "text.h"

#define FIRST_FD 3
#define START_MS 30000
#define LINE_MAX_LEN 1024
#define ADDED 5 /* variables of ours in the environment */
#define VARIABLE "ALKNET_UPGRADE_FD"

extern char **environ;

static struct {
	char **argv;
	char program
		[PATH_MAX]; /* the name that it had when it was started; whoever replaced it has that now */
	int before;	    /* the process that this one follows; -1: none, or it has its answer */
	bool given_up; /* it was told that this one failed */
} self = {.before = -1};

struct alk_upgrade {
	alk_upgrade_fn *fn;
	void *user;
	pid_t pid;
	int pidfd, fd;
	struct alk_io *io;
	struct alk_timer *timer;
	size_t used;
	char line[LINE_MAX_LEN];
};

/* In the new process */

int alk_upgrade_init(int argc, char **argv)
{
	static char name[] = "alknet";
	const char *text = getenv(VARIABLE);
	ssize_t n = readlink("/proc/self/exe", self.program, sizeof(self.program) - 1);
	int64_t fd;

	self.program[n > 0 ? n : 0] = '\0';
	self.argv = calloc((size_t)argc + 2, sizeof(*self.argv));
	if (self.argv == NULL)
		return -ENOMEM;
	self.argv[0] = name;
	memcpy(self.argv + 1, argv, (size_t)argc * sizeof(*argv));
	if (text != NULL && alk_text_int(text, &fd) == 0 && fd >= FIRST_FD && fd < INT_MAX &&
	    fcntl((int)fd, F_SETFD, FD_CLOEXEC) == 0)
		self.before = (int)fd;
	alk_notify_hold(self.before >= 0);
	unsetenv(VARIABLE);
	return 0;
}

void alk_upgrade_deinit(void)
{
	alk_fd_close(&self.before);
	free(self.argv);
	self.argv = NULL;
}

bool alk_upgrade_pending(void)
{
	return self.before >= 0 || self.given_up;
}

static void before_tell(const char *word, const char *text)
{
	char line[LINE_MAX_LEN];
	int n;

	if (self.before < 0)
		return;
	n = snprintf(line, sizeof(line), "%s %s\n", word, text);
	if (n > 0)
		send(self.before, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1,
		     MSG_NOSIGNAL);
	alk_fd_close(&self.before);
}

void alk_upgrade_ready(void)
{
	before_tell("ready", PACKAGE_VERSION);
	alk_notify_hold(false);
}

/* What is inherited stays the other one's, also while this one takes itself apart. */
void alk_upgrade_failed(const char *why)
{
	self.given_up |= self.before >= 0;
	before_tell("failed", why);
}

/* In the old one */

int alk_upgrade_check(struct alk_err *err)
{
	struct stat st;

	if (self.argv == NULL || self.program[0] == '\0')
		return alk_err_set(err, -EOPNOTSUPP,
				   "upgrade: only the program alknet can be followed by another");
	if (getpid() == 1)
		return alk_err_set(
			err, -EOPNOTSUPP,
			"upgrade: process 1 ends all others with it: replace the container");
	if (stat(self.program, &st) < 0)
		return alk_err_set(err, -errno, "upgrade: %s: %s", self.program, strerror(errno));
	if (!S_ISREG(st.st_mode) || access(self.program, X_OK) != 0)
		return alk_err_set(err, -EACCES, "upgrade: %s cannot be executed", self.program);
	if ((st.st_mode & S_IWOTH) != 0 || (st.st_uid != 0 && st.st_uid != geteuid()))
		return alk_err_set(err, -EPERM, "upgrade: %s may be written by others",
				   self.program);
	return 0;
}

struct launch {
	int fds[ALK_INHERITED_MAX + 1]; /* the last is that of the one line */
	size_t n;
	int pid_fd; /* for the number of the new process */
	sigset_t mask, child_mask;
	char **env;
	char *pid_text; /* after LISTEN_PID= */
};

static void number_put(char *text, long number)
{
	char digits[24];
	size_t n = 0;

	for (; number > 0; number /= 10)
		digits[n++] = (char)('0' + number % 10);
	while (n > 0)
		*text++ = digits[--n];
	*text = '\0';
}

/* Between fork and exec: only what is async-signal-safe. */
static void __attribute__((noreturn)) child_execute(struct launch *launch)
{
	int first = FIRST_FD + (int)launch->n;
	int last = -1;

	number_put(launch->pid_text, (long)getpid());
	/* Out of the way first: they may have the numbers that are given out. */
	for (size_t i = 0; i < launch->n; i++)
		launch->fds[i] = fcntl(launch->fds[i], F_DUPFD, first);
	for (size_t i = 0; i < launch->n; i++)
		last = launch->fds[i] < 0 ? -1 : dup2(launch->fds[i], FIRST_FD + (int)i);
#ifdef SYS_close_range
	syscall(SYS_close_range, (unsigned)first, ~0u, 0u);
#endif
	sigprocmask(SIG_SETMASK, &launch->child_mask, NULL);
	if (last >= 0) {
		execve(self.program, self.argv, launch->env);
		number_put(launch->pid_text, errno);
		if (write(last, "exec ", 5) == 5 &&
		    write(last, launch->pid_text, strlen(launch->pid_text)) > 0)
			last = write(last, "\n", 1) == 1 ? last : -1;
	}
	_exit(127);
}

static void __attribute__((noreturn)) child_run(struct launch *launch)
{
	pid_t pid = fork();

	if (pid == 0)
		child_execute(launch);
	_exit(pid > 0 && write(launch->pid_fd, &pid, sizeof(pid)) == sizeof(pid) ? 0 : 1);
}

/* Of the environment, but for what a process takes for itself. */
static bool is_own(const char *variable)
{
	static const char *const own[] = {
		"LISTEN_PID=",	  "LISTEN_FDS=",   "LISTEN_FDNAMES=", "NOTIFY_SOCKET=",
		"WATCHDOG_USEC=", "WATCHDOG_PID=", VARIABLE "=",
	};

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (strncmp(variable, own[i], strlen(own[i])) == 0)
			return true;
	return false;
}

static char *names_join(const char *const *names, size_t n)
{
	size_t size = sizeof("LISTEN_FDNAMES=");
	char *text, *at;

	for (size_t i = 0; i < n; i++)
		size += strlen(names[i]) + 1;
	text = malloc(size);
	if (text == NULL)
		return NULL;
	at = stpcpy(text, "LISTEN_FDNAMES=");
	for (size_t i = 0; i < n; i++) {
		at = stpcpy(at, names[i]);
		if (i + 1 < n)
			*at++ = ':';
	}
	*at = '\0';
	return text;
}

static void environment_free(struct launch *launch, char **added, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(added[i]);
	free(launch->env);
	launch->env = NULL;
}

static int environment_make(struct launch *launch, const char *const *names, char **added)
{
	size_t n = 0, sockets = launch->n - 1;
	bool all;

	for (char **one = environ; *one != NULL; one++)
		n++;
	launch->env = calloc(n + ADDED + ALK_NOTIFY_VARIABLES + 1, sizeof(*launch->env));
	added[0] = calloc(1, sizeof("LISTEN_PID=") + 24);
	added[1] = names_join(names, sockets);
	if (asprintf(&added[2], "LISTEN_FDS=%zu", sockets) < 0)
		added[2] = NULL;
	if (asprintf(&added[3], VARIABLE "=%zu", FIRST_FD + sockets) < 0)
		added[3] = NULL;
	all = launch->env != NULL;
	for (size_t i = 0; i < ADDED - 1; i++)
		all = all && added[i] != NULL;
	if (!all)
		return -ENOMEM;
	launch->pid_text = stpcpy(added[0], "LISTEN_PID=");
	n = 0;
	for (char **one = environ; *one != NULL; one++)
		if (!is_own(*one))
			launch->env[n++] = *one;
	for (size_t i = 0; i < ADDED - 1; i++)
		launch->env[n++] = added[i];
	alk_notify_environment(&launch->env[n]);
	return 0;
}

/* The number of the new process, or -errno. */
static pid_t child_start(struct launch *launch)
{
	int numbers[2];
	sigset_t all;
	pid_t between, pid = -1;
	ssize_t n;

	if (pipe2(numbers, O_CLOEXEC) < 0)
		return -errno;
	launch->pid_fd = numbers[1];
	/* No handler of ours may run in the child, nor may a SIGHUP end it: what comes meanwhile
	 * waits for the new program, which hears it as soon as it listens. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &launch->mask);
	launch->child_mask = launch->mask;
	alk_signals_add(&launch->child_mask);
	between = fork();
	if (between == 0)
		child_run(launch);
	if (between < 0)
		pid = -errno;
	sigprocmask(SIG_SETMASK, &launch->mask, NULL);
	alk_fd_close(&numbers[1]);
	if (between > 0) {
		while (waitpid(between, NULL, 0) < 0 && errno == EINTR)
			;
		n = read(numbers[0], &pid, sizeof(pid));
		if (n != (ssize_t)sizeof(pid))
			pid = -EAGAIN;
	}
	alk_fd_close(&numbers[0]);
	return pid;
}

static void upgrade_end(struct alk_upgrade *u, const char *version, const char *why)
{
	alk_io_free(&u->io);
	alk_timer_free(&u->timer);
	u->fn(u->user, u->pid, version, why);
}

static void child_kill(struct alk_upgrade *u)
{
#ifdef SYS_pidfd_send_signal
	if (u->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, u->pidfd, SIGKILL, NULL, 0u);
#endif
	alk_fd_close(&u->pidfd);
}

static void line_judge(struct alk_upgrade *u)
{
	char why[PATH_MAX + LINE_MAX_LEN];
	int64_t number;

	if (strncmp(u->line, "ready ", 6) == 0) {
		alk_fd_close(&u->pidfd);
		upgrade_end(u, u->line + 6, NULL);
		return;
	}
	if (strncmp(u->line, "exec ", 5) == 0 && alk_text_int(u->line + 5, &number) == 0)
		snprintf(why, sizeof(why), "%s: %s", self.program, strerror((int)number));
	else if (strncmp(u->line, "failed ", 7) == 0)
		snprintf(why, sizeof(why), "the new program says: %s", u->line + 7);
	else
		snprintf(why, sizeof(why), "the new program says what nobody understands");
	child_kill(u);
	upgrade_end(u, NULL, why);
}

static void on_line(void *user, int revents)
{
	struct alk_upgrade *u = user;
	ssize_t n = recv(u->fd, u->line + u->used, sizeof(u->line) - 1 - u->used, MSG_DONTWAIT);
	char *end;

	(void)revents;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		u->used += (size_t)n;
		u->line[u->used] = '\0';
		end = strchr(u->line, '\n');
		if (end == NULL && u->used < sizeof(u->line) - 1)
			return;
		if (end != NULL)
			*end = '\0';
		line_judge(u);
		return;
	}
	child_kill(u);
	upgrade_end(u, NULL, "the new program ended before it was ready, and did not say why");
}

static void on_timeout(void *user)
{
	struct alk_upgrade *u = user;

	child_kill(u);
	upgrade_end(u, NULL, "the new program was not ready in time");
}

static struct alk_upgrade *upgrade_new(struct alk_loop *loop, int fd, alk_upgrade_fn *fn,
				       void *user)
{
	struct alk_upgrade *u = calloc(1, sizeof(*u));

	if (u == NULL)
		return NULL;
	u->fn = fn;
	u->user = user;
	u->pidfd = u->fd = -1;
	u->io = alk_io_new(loop, fd, "upgrade", on_line, u);
	u->timer = alk_timer_new(loop, "upgrade", on_timeout, u);
	if (u->io == NULL || u->timer == NULL)
		alk_upgrade_free(&u);
	return u;
}

struct alk_upgrade *alk_upgrade_start(struct alk_loop *loop, const int *fds,
				      const char *const *names, size_t n, alk_upgrade_fn *fn,
				      void *user, struct alk_err *err)
{
	struct launch launch = {.n = n + 1};
	char *added[ADDED] = {NULL};
	struct alk_upgrade *u = NULL;
	int pair[2] = {-1, -1};

	if (n > ALK_INHERITED_MAX) {
		alk_err_set(err, -E2BIG, "upgrade: %zu sockets are more than %d", n,
			    ALK_INHERITED_MAX);
		return NULL;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		alk_err_set(err, -errno, "upgrade: %s", strerror(errno));
		return NULL;
	}
	memcpy(launch.fds, fds, n * sizeof(*fds));
	launch.fds[n] = pair[1];
	u = upgrade_new(loop, pair[0], fn, user);
	if (u == NULL || environment_make(&launch, names, added) < 0) {
		alk_err_set(err, -ENOMEM, "upgrade: out of memory");
		goto fail;
	}
	u->pid = child_start(&launch);
	if (u->pid < 0) {
		alk_err_set(err, (int)u->pid, "upgrade: cannot start a process: %s",
			    strerror((int)-u->pid));
		goto fail;
	}
#ifdef SYS_pidfd_open
	u->pidfd = (int)syscall(SYS_pidfd_open, u->pid, 0u);
#endif
	u->fd = pair[0];
	alk_io_set(u->io, ALK_IO_READ);
	alk_timer_start(u->timer, START_MS);
	alk_fd_close(&pair[1]);
	environment_free(&launch, added, ADDED);
	return u;
fail:
	alk_upgrade_free(&u);
	alk_fd_close(&pair[0]);
	alk_fd_close(&pair[1]);
	environment_free(&launch, added, ADDED);
	return NULL;
}

void alk_upgrade_free(struct alk_upgrade **upgrade)
{
	struct alk_upgrade *u = *upgrade;

	*upgrade = NULL;
	if (u == NULL)
		return;
	child_kill(u);
	alk_io_free(&u->io);
	alk_timer_free(&u->timer);
	alk_fd_close(&u->fd);
	free(u);
}
