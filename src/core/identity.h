/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_IDENTITY_H
#define ALK_IDENTITY_H

/* Private keys from OpenSSH files, for serve (host key) and connect (identity). PEM (PKCS#1,
 * PKCS#8) is refused with a sentence that names `ssh-keygen -p -f`; types that do not fit are
 * refused with those that do. The outer part of the file is checked here before libssh sees it: it
 * calls a NULL pointer for a file encrypted with an AEAD cipher. Fuzzed
 * (tests/fuzz/fuzz_identity.c).
 *
 * No file access here; who reads the file checks its owner and mode. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <libssh/libssh.h>
#include <alknet/err.h>
#include "passphrase.h"

/* `text` is the file's content, `name` its path for messages. `ask` may be NULL: then an encrypted
 * key is an error that says so. Up to three tries; `ask` answers -EKEYREJECTED when it knows no
 * other. Gives the key (ssh_key_free), or NULL with `err`. */
ssh_key alk_identity_parse(const char *name, const char *text, size_t len, alk_passphrase_fn *ask,
			   void *user, struct alk_err *err);
/* The public half alone, which needs no passphrase. Gives the blob (free it) and whether the
 * private half is encrypted. 0, -EINVAL and the like as above. */
int alk_identity_public(const char *name, const char *text, size_t len, uint8_t **blob,
			size_t *blob_len, bool *encrypted, struct alk_err *err);

#endif
