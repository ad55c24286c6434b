/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_INHERITED_H
#define ALK_INHERITED_H

/* Listening sockets that whoever started the program has opened for it (LISTEN_FDS,
 * sd_listen_fds(3)): the kernel holds connections in them while the program is replaced, and the
 * program needs no right to open them.
 *
 * One is used where the configuration listens on the address that it is bound to, or on `fd:NAME`
 * with its name in LISTEN_FDNAMES. A program that follows another of its kind gets all that this
 * one had, with names of our own for those that had none. */

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <alknet/err.h>

/* Take what stands in the environment, which children then do not see. Once, early in main. */
void alk_inherited_init(void);
#define ALK_INHERITED_MAX 256
#define ALK_INHERITED_NAME_SIZE 64

/* The socket that is bound to this address, or, where the port is 0, that the same program before
 * us had for `kind`; -1 when there is none. It is the caller's from now on, and does not block. */
int alk_inherited_take(const char *kind, const struct sockaddr *sa, socklen_t len);
/* The first that is left of this name. */
int alk_inherited_take_name(const char *name);
/* The socket that the same program before us had at this path. */
int alk_inherited_take_path(const char *path);
/* Close those that nobody wanted, and log them. */
void alk_inherited_close(void);

/* Sockets of ours that a program which follows this one may take (upgrade.h); until
 * alk_inherited_withdraw(). */

/* `kind`: what accepts from it (a transport's name). `name`: that by which it was taken; NULL: it
 * was not. -ENOMEM. */
int alk_inherited_offer(int fd, const char *kind, const char *name);
/* Of kind "unix". */
int alk_inherited_offer_path(int fd, const char *path);
void alk_inherited_withdraw(int fd);
/* The i-th; -1 past the last. `name` goes into LISTEN_FDNAMES. */
int alk_inherited_offered(size_t i, const char **kind, const char **name);

#endif
