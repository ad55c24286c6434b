/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_PADDING_H
#define ALK_PADDING_H

/* Random bytes for libssh, which pads each packet with 4 to 19 of them and asks OpenSSL's generator
 * anew: 6700 instructions and a getpid() a packet, a third of what a short connection cost in user
 * space. Here they come from the kernel's generator, some kilobytes at a time; a byte that was
 * given out is wiped. What is asked for as strong, or longer than padding, is read from the kernel
 * for that call alone.
 *
 * libssh calls its own ssh_get_random() through its symbol table. src/cmd/random_syms.c has one
 * ahead of it, and the Node.js addon (bindings/node/src/ahead.c); they alone use this. Elsewhere
 * everything works, slower.
 *
 * Nothing here speaks SSH after a fork without an exec, and each thread has bytes of its own. */

/* As ssh_get_random() answers: 1, or 0 when there is no randomness, and the library gives the
 * session up then. */
int alk_padding_random(void *where, int len, int strong);

#endif
