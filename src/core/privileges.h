/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_PRIVILEGES_H
#define ALK_PRIVILEGES_H

/* What a worker gives up of who it is, before it takes links. Files and system calls: sandbox.h. */

#include <alknet/err.h>

/* Become `user` for good: supplementary groups, group, user, then no_new_privs. NULL: stay who we
 * are, no_new_privs alone. Not root and another user asked for is an error. 0 or -errno. */
int alk_privileges_drop(const char *user, struct alk_err *err);

#endif
