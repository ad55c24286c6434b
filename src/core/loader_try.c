/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loader_file.h"

static bool try_first;

void alk_loader_try_first(bool on)
{
	try_first = on;
}

static void child(const char *path)
{
	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_DFL);
	dlopen(path, RTLD_NOW | RTLD_LOCAL); /* what is missing in it the opener says */
	_exit(0);
}

int alk_loader_file_try(const char *path, struct alk_err *err)
{
	pid_t pid = try_first ? fork() : -1;
	int status;

	if (pid < 0)
		return 0;
	if (pid == 0)
		child(path);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return 0;
	if (status == 0)
		return 0;
	if (WIFSIGNALED(status))
		return alk_err_set(err, -ENOEXEC, "%s: loading it ends the process: %s", path,
				   strsignal(WTERMSIG(status)));
	return alk_err_set(err, -ENOEXEC, "%s: loading it ends the process with status %d", path,
			   WEXITSTATUS(status));
}
