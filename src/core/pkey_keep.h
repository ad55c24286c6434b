/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_PKEY_KEEP_H
#define ALK_PKEY_KEEP_H

/* Two private keys of a server's login that libssh has, forgets and takes up again from their
 * bytes: the host key, for each signature, and the key of X25519, between its making and the shared
 * secret. Each time libcrypto computes the public half anew, which is a fifth of what a login costs
 * in user space.
 *
 * libssh calls EVP_PKEY_new_raw_private_key() and EVP_PKEY_get_raw_private_key(). A program that
 * links src/cmd/pkey_syms.c defines them itself, ahead of libcrypto's; they ask here, and here is
 * an answer only while a server's session works (alk_ssh_enter). In a program that does not link it
 * all works, slower.
 *
 * A host key stays until alk_pkey_keep_forget(), which a worker's end and the end of the last
 * server of a process call; that of X25519 is given away to its second use. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct evp_pkey_st;

/* Servers of one process, each with its host key: while one takes over from another there are
 * two. */
#define ALK_PKEY_KEEP_HOSTS 4

/* From here to the next call with false libssh works for a server's session. */
void alk_pkey_keep_work(bool on);
/* Drop what is kept. */
void alk_pkey_keep_forget(void);

/* For pkey_syms.c alone. A key with these bytes, a reference for the caller; NULL when there is
 * none. */
struct evp_pkey_st *alk_pkey_keep_find(int type, const uint8_t *bytes, size_t len);
/* This key was made from bytes, or its bytes were asked for. Takes a reference of its own. */
void alk_pkey_keep_made(struct evp_pkey_st *key);
void alk_pkey_keep_told(struct evp_pkey_st *key);

#endif
