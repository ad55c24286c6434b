/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_ADMIN_SOCKET_H
#define ALK_ADMIN_SOCKET_H

/* A listening unix socket of mode 0600 at a path, put there so that nobody sees it half made, that no
 * live server loses its own, and that nothing but a socket is ever replaced:
 *
 *   open the directory (made 0700 if missing), take its lock, probe what is there, bind under another
 *   name inside that directory, rename.
 *
 * A program that follows another (upgrade.h) gets the socket itself: the path is never without one.
 */

#include <stdbool.h>
#include <sys/types.h>
#include <alknet/err.h>

struct alk_admin_socket {
	const char *option; /* what sentences begin with */
	int fd;		    /* listens, non-blocking */
	bool inherited;	    /* from a program that may still need it */
	int dir;	    /* where it is, held open so that the same file is removed again */
	dev_t dev;
	ino_t ino;
	char name[108];
};

int alk_admin_socket_open(struct alk_admin_socket *sock, const char *path, struct alk_err *err);
/* The same for another socket, with another mode, and of a group ((gid_t)-1: of the process).
 * `option` is borrowed for life. A directory that is missing is made so that whoever may use the
 * socket may pass through. */
int alk_admin_socket_open_as(struct alk_admin_socket *sock, const char *option, const char *path,
			     mode_t mode, gid_t gid, struct alk_err *err);
/* May everybody connect, or only the owner? */
void alk_admin_socket_share(const struct alk_admin_socket *sock, bool shared);
/* Another program has it now: the file stays. */
void alk_admin_socket_leave(struct alk_admin_socket *sock);
/* Removes the file, unless another server has put its own there. */
void alk_admin_socket_close(struct alk_admin_socket *sock);

#endif
