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
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
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
/* Where `alknet serve` has its socket when nobody said: here for root and services, else below
 * $XDG_RUNTIME_DIR. alknet-admin looks at the same places. */
#define ALK_ADMIN_SOCKET_DEFAULT "/run/alknet/admin.sock"
/* The second place. False: there is none. */
static inline bool alk_admin_socket_of_user(char *path, size_t size)
{
	const char *dir = getenv("XDG_RUNTIME_DIR");

	return dir != NULL && dir[0] == '/' &&
	       snprintf(path, size, "%s/alknet/admin.sock", dir) < (int)size;
}
/* May this process make no socket there, whatever stands there now? What else may be wrong is for
 * alk_admin_socket_open() to say. */
bool alk_admin_socket_is_denied(const char *path);
/* May everybody connect, or only the owner? */
void alk_admin_socket_share(const struct alk_admin_socket *sock, bool shared);
/* Another program has it now: the file stays. */
void alk_admin_socket_leave(struct alk_admin_socket *sock);
/* Removes the file, unless another server has put its own there. */
void alk_admin_socket_close(struct alk_admin_socket *sock);

#endif
