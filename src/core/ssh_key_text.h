/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_SSH_KEY_TEXT_H
#define ALK_SSH_KEY_TEXT_H

/* An Ed25519 key as OpenSSH keeps it in a file, without a passphrase (openssh-key-v1, PROTOCOL.key
 * of OpenSSH). */

#include <stdint.h>
#include <sys/types.h>
#include <alknet/err.h>

#define ALK_SSH_KEY_TEXT_MAX 1024

/* `seed` is the private key of RFC 8032; of `comment` 64 bytes are taken. `text` gets the lines,
 * without a NUL; the caller wipes it. How many bytes, or -errno with `err`. */
ssize_t alk_ssh_key_text(const uint8_t seed[32], const uint8_t public[32], const char *comment,
			 char text[ALK_SSH_KEY_TEXT_MAX], struct alk_err *err);

#endif
