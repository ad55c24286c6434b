/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef BUS_LOCAL_GROUP_H
#define BUS_LOCAL_GROUP_H

/* The system's groups, which are no queue groups. */

#include <sys/types.h>

/* -ENOENT. */
int local_group_find(const char *name, gid_t *gid);

#endif
