/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <alknet/dial.h>
#include <alknet/transport.h>

void alk_link_close(struct alk_link *link)
{
	alk_fd_close(&link->fd);
}

int alk_link_of_fd(struct alk_link *link, const char *transport, int *fd, struct alk_err *err)
{
	struct sockaddr_storage remote = {0}, local = {0};
	socklen_t remote_len = sizeof(remote), local_len = sizeof(local);
	int rc;

	*link = ALK_LINK_NONE;
	if (getpeername(*fd, (struct sockaddr *)&remote, &remote_len) < 0 ||
	    getsockname(*fd, (struct sockaddr *)&local, &local_len) < 0) {
		rc = -errno;
		alk_fd_close(fd);
		return alk_err_set(err, rc, "the connection broke: %s", strerror(-rc));
	}
	snprintf(link->transport, sizeof(link->transport), "%s", transport);
	alk_addr_format((struct sockaddr *)&remote, remote_len, link->remote_addr,
			sizeof(link->remote_addr), &link->remote_port);
	alk_addr_format((struct sockaddr *)&local, local_len, link->local_addr,
			sizeof(link->local_addr), &link->local_port);
	link->fd = *fd;
	*fd = -1;
	return 0;
}
