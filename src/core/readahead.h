/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_READAHEAD_H
#define ALK_READAHEAD_H

/* Read-ahead in front of libssh, which reads 4096 bytes a system call, with a poll before each.
 *
 * libssh calls plain recv(), send() and poll(). A program that links src/cmd/readahead_syms.c
 * defines them itself, ahead of libc's; for an fd that was given to alk_readahead_add() they come
 * here, for all others they go to libc. One read takes up to 256 KiB and is handed on in the pieces
 * that libssh asks for; poll answers from what the loop has said about the fd and from what the
 * last recv and send found, without a system call; a send that the kernel would not take is "0
 * sent", which libssh understands, and not EAGAIN, which it takes for the end of the session.
 *
 * In a program that does not link it libssh's calls reach libc and everything works, slower; the
 * Node.js addon has its own way to come first (bindings/node/src/ahead.c). ALKNET_READAHEAD=0 in
 * the environment switches it off. Memory: a buffer is lent to an fd only while there are bytes in
 * it; an idle fd has none. */

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <alknet/loop.h>

/* 0, also when the program has no read-ahead; -ENOMEM. */
int alk_readahead_add(int fd);
void alk_readahead_remove(int fd);
/* Is there something that a transport offers for this fd, which is read ahead? It is taken: all comes
 * from the transport and goes to it, and `on_ready` is told when, as if the fd were ready. */
bool alk_readahead_direct(int fd, alk_io_fn *on_ready, void *user);
/* Bytes that were sent and that the peer has not acknowledged; 0 where nobody knows. */
uint64_t alk_readahead_unsent(int fd);
/* The thread that calls this is the loop's, or is not any more. One that calls alk_readahead_add()
 * is. */
void alk_readahead_thread(bool is_loops);
/* Is this fd read ahead? */
bool alk_readahead_active(int fd);
/* While corked, nothing is sent: libssh's packets gather in its queue, so that those of one turn
 * leave in one system call. A new fd is not. */
void alk_readahead_cork(int fd, bool corked);
/* While it sips, libssh is handed so few bytes at a time that with the end of a packet comes no
 * beginning of the next. */
void alk_readahead_sip(int fd, bool sips);
/* From here on this fd is only written to, and not corked: what was read and not handed on is
 * dropped. */
void alk_readahead_deafen(int fd);
/* What the loop knows: `events` is a mask of ALK_IO_READ and ALK_IO_WRITE. */
void alk_readahead_ready(int fd, int events);
/* Bytes that were read from the kernel and libssh has not had yet. */
size_t alk_readahead_left(int fd);
/* Bytes were read from the kernel and libssh has not had them yet, or more is known to wait. */
bool alk_readahead_more(int fd);

/* For readahead_syms.c alone. Each is true when the call was answered here. */
void alk_readahead_enable(void);
bool alk_readahead_recv(int fd, void *buf, size_t n, int flags, ssize_t *rc);
bool alk_readahead_send(int fd, const void *buf, size_t n, int flags, ssize_t *rc);
bool alk_readahead_poll(struct pollfd *fds, nfds_t n, int timeout, int *rc);

#endif
