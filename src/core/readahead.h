/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_READAHEAD_H
#define ALK_READAHEAD_H

/* Read-ahead in front of libssh, which reads 4096 bytes a system call, with a poll before each.
 *
 * libssh calls plain recv() and poll(). A program that links src/cmd/readahead_syms.c defines both
 * itself, ahead of libc's; for an fd that was given to alk_readahead_add() they come here, all others
 * go to libc. One read takes up to 256 KiB and is handed on in the pieces libssh asks for; poll answers
 * from what the loop has just said about the fd, without a system call. In a program that does not
 * link it (a Node addon) libssh's calls reach libc and everything works, slower.
 * ALKNET_READAHEAD=0 switches it off. Memory: one buffer a process, lent to the fd that has bytes in it;
 * an idle fd has none. */

#include <poll.h>
#include <stdbool.h>
#include <sys/types.h>

int alk_readahead_add(int fd);
void alk_readahead_remove(int fd);
/* What the loop knows: `events` is a mask of ALK_IO_READ and ALK_IO_WRITE. */
void alk_readahead_ready(int fd, int events);
/* Bytes read from the kernel and not yet by libssh, or more known to wait in the kernel. */
bool alk_readahead_more(int fd);

/* For readahead_syms.c: true when the call was answered here. */
bool alk_readahead_recv(int fd, void *buf, size_t n, int flags, ssize_t *rc);
bool alk_readahead_poll(struct pollfd *fds, nfds_t n, int timeout, int *rc);

#endif
