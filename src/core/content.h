/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_CONTENT_H
#define ALK_CONTENT_H

/* A file that is read once, at start, and kept: keys, authorized_keys, the policy, the
 * configuration.
 *
 * Refused with a sentence: what is not a regular file, what is too large, what everybody may write.
 * A private one must besides not be a symbolic link, must belong to root or to us, and nobody else
 * may read it; its memory is wiped. */

#include <stdbool.h>
#include <stddef.h>
#include <alknet/err.h>

#define ALK_CONTENT_MAX (1024 * 1024)
#define ALK_CONTENT_PRIVATE_MAX (64 * 1024)

struct alk_content {
	char *bytes; /* NUL-terminated besides */
	size_t len;
};

/* Gives the content. 0, or -errno; `err` begins with the path. */
int alk_content_read(const char *path, bool is_private, struct alk_content *out,
		     struct alk_err *err);
/* Gives a copy. 0 or -ENOMEM. */
int alk_content_copy(struct alk_content *to, const struct alk_content *from, struct alk_err *err);
/* Wipes and frees. */
void alk_content_deinit(struct alk_content *content);

#endif
