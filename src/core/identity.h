/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_IDENTITY_H
#define ALK_IDENTITY_H

/* Private keys from OpenSSH files, for serve (host key) and connect (identity). PEM (PKCS#1, PKCS#8)
 * is refused with a sentence that names `ssh-keygen -p -f`; other types than Ed25519 are refused with
 * the types that fit. The outer part of the file is checked here before libssh sees it: it calls a NULL
 * pointer for a file encrypted with an AEAD cipher. Fuzzed (tests/fuzz/fuzz_identity.c).
 *
 * No file access here; who reads the file checks its owner and mode. */

#include <stddef.h>
#include <libssh/libssh.h>
#include <alknet/err.h>

/* Asks for a passphrase; puts it NUL-terminated into buf, 0 or -errno. `prompt` names the file. buf is
 * wiped by the caller. */
typedef int alk_passphrase_fn(void *user, const char *prompt, char *buf, size_t size);

/* `text` is the file's content, `name` its path for messages. `ask` may be NULL: then an encrypted key
 * is an error that says so. Up to three tries. Gives the key (ssh_key_free), or NULL with `err`. */
ssh_key alk_identity_parse(const char *name, const char *text, size_t len, alk_passphrase_fn *ask,
			   void *user, struct alk_err *err);
/* Ask on the controlling terminal without echo. -ENOTTY when there is none, -ECANCELED at end of file,
 * -E2BIG when the line does not fit. SIGINT, SIGTERM, SIGHUP and SIGQUIT are held back until the terminal
 * is as it was, then delivered: -EINTR when the process survives that. Blocks, so only before the loop
 * runs; not for two threads at once. `user` is not used. */
int alk_passphrase_tty(void *user, const char *prompt, char *buf, size_t size);

#endif
