/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_IDENTITY_H
#define ALK_IDENTITY_H

/* Private keys from OpenSSH files, for serve (host key) and connect (identity). PEM (PKCS#1, PKCS#8)
 * is refused with a sentence that names `ssh-keygen -p -f`; other types than Ed25519 are refused with
 * the types that fit. */

#include <libssh/libssh.h>
#include <alknet/err.h>

/* Asks for a passphrase; puts it NUL-terminated into buf, 0 or -errno. `prompt` names the file. */
typedef int alk_passphrase_fn(void *user, const char *prompt, char *buf, size_t size);

/* `text` is the file's content, `name` its path for messages. `ask` may be NULL: then an encrypted key
 * is an error that says so. Three tries. Gives the key. */
ssh_key alk_identity_parse(const char *name, const char *text, size_t len, alk_passphrase_fn *ask, void *user,
			   struct alk_err *err);
/* Ask on the controlling terminal without echo. -ENOTTY when there is none. */
int alk_passphrase_tty(void *user, const char *prompt, char *buf, size_t size);

#endif
