/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ADMIN_SSH_KEY_H
#define ADMIN_SSH_KEY_H

/* An Ed25519 key as `ssh-keygen` writes it (OpenSSH's PROTOCOL.key, without a passphrase). */

#include <stdint.h>
#include <alknet/err.h>

/* Makes `path`, which must not be there, with mode 0600; on failure there is no file. -errno. */
int admin_ssh_key_write(const char *path, const uint8_t seed[32], const uint8_t public[32],
			const char *comment, struct alk_err *err);

#endif
