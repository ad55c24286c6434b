/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_INHERITED_H
#define ALK_INHERITED_H

/* Listening sockets that whoever started the program has opened for it (LISTEN_FDS, sd_listen_fds(3)): the kernel
 * holds connections in them while the program is replaced, and the program needs no right to open them.
 *
 * One is used where the configuration listens on the address that it is bound to, or on `fd:NAME` with its name in
 * LISTEN_FDNAMES. */

#include <stddef.h>
#include <sys/socket.h>
#include <alknet/err.h>

/* Take what stands in the environment, which children then do not see. Once, early in main. */
void alk_inherited_init(void);
/* The socket that is bound to this address; -1 when there is none. It is the caller's from now on, and does not
 * block. */
int alk_inherited_take(const struct sockaddr *sa, socklen_t len);
/* The first that is left of this name. */
int alk_inherited_take_name(const char *name);
/* Close those that nobody wanted, and log them. */
void alk_inherited_close(void);

#endif
