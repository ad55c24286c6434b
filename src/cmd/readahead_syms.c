/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* recv, send and poll of this program, ahead of libc's: see src/core/readahead.h. They are ours for
 * the fds that SSH runs over and pass everything else through, by system call, so that nothing here
 * depends on the order in which libraries were loaded. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <alknet/err.h>
#include "readahead.h"

ALK_EXPORT ssize_t recv(int fd, void *buf, size_t n, int flags);
ALK_EXPORT ssize_t send(int fd, const void *buf, size_t n, int flags);
ALK_EXPORT int poll(struct pollfd *fds, nfds_t n, int timeout);

__attribute__((constructor)) static void syms_enable(void)
{
	alk_readahead_enable();
}

ssize_t recv(int fd, void *buf, size_t n, int flags)
{
	ssize_t rc;

	if (alk_readahead_recv(fd, buf, n, flags, &rc))
		return rc;
	return syscall(SYS_recvfrom, fd, buf, n, flags, NULL, NULL);
}

ssize_t send(int fd, const void *buf, size_t n, int flags)
{
	ssize_t rc;

	if (alk_readahead_send(fd, buf, n, flags, &rc))
		return rc;
	return syscall(SYS_sendto, fd, buf, n, flags, NULL, (socklen_t)0);
}

int poll(struct pollfd *fds, nfds_t n, int timeout)
{
	struct timespec ts = {.tv_sec = timeout / 1000, .tv_nsec = (timeout % 1000) * 1000000L};
	int rc;

	if (alk_readahead_poll(fds, n, timeout, &rc))
		return rc;
	return (int)syscall(SYS_ppoll, fds, n, timeout < 0 ? NULL : &ts, NULL, (size_t)_NSIG / 8);
}
