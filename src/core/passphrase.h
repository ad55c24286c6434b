/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_PASSPHRASE_H
#define ALK_PASSPHRASE_H

/* Asking a person at the terminal: for a passphrase, or for a word that may be seen. */

#include <stddef.h>

/* Asks for a passphrase; puts it NUL-terminated into buf, 0 or -errno. `prompt` names the file. buf
 * is wiped by the caller. */
typedef int alk_passphrase_fn(void *user, const char *prompt, char *buf, size_t size);

/* Ask on the controlling terminal without echo. -ENOTTY when there is none, -ECANCELED at end of
 * file, -E2BIG when the line does not fit. SIGINT, SIGTERM, SIGHUP and SIGQUIT are held back until
 * the terminal is as it was, then delivered: -EINTR when the process survives that. Blocks, so only
 * before the loop runs; not for two threads at once. `user` is not used. */
int alk_passphrase_tty(void *user, const char *prompt, char *buf, size_t size);
/* The same with echo. May be asked from the loop too, which stands still meanwhile: the handlers of
 * its signals have run when this returns, what they are for happens when the loop goes on. */
int alk_passphrase_tty_shown(const char *prompt, char *buf, size_t size);

#endif
