/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "local_group.h"

#include <errno.h>
#include <grp.h>
#include <stddef.h>

int local_group_find(const char *name, gid_t *gid)
{
	const struct group *group = getgrnam(name);

	if (group == NULL)
		return -ENOENT;
	*gid = group->gr_gid;
	return 0;
}
