/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A libssh that says it is older than it is. */
#include <stddef.h>

const char *ssh_version(int wanted);

const char *ssh_version(int wanted)
{
	return wanted ? NULL : "0.9.8/openssl";
}
