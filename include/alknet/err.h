/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_ERR_H
#define ALKNET_ERR_H

/* One error idiom: a function that can fail returns 0 or -errno, and puts one sentence for a person
 * into `err`, its last parameter, which may be NULL. Who handles an error logs it; nobody logs and
 * returns. */

#if defined(__GNUC__)
#define ALK_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#define ALK_EXPORT __attribute__((visibility("default")))
#else
#define ALK_PRINTF(fmt, first)
#define ALK_EXPORT
#endif

struct alk_err {
	char text[512];
};

/* Set the sentence and return `rc`, so that `return alk_err_set(err, -EINVAL, "...")` reads well.
 * Truncates; never fails. `err` may be NULL. */
ALK_EXPORT int alk_err_set(struct alk_err *err, int rc, const char *fmt, ...) ALK_PRINTF(3, 4);

/* Put "prefix: " before the sentence that is there already. Returns `rc`. */
ALK_EXPORT int alk_err_prefix(struct alk_err *err, int rc, const char *fmt, ...) ALK_PRINTF(3, 4);

#endif
