/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "ssh_library.h"

#include <stdio.h>
#include <string.h>
#include <libssh/libssh.h>

const char *alk_ssh_library(void)
{
	static char version[32];
	const char *all = ssh_version(0); /* "0.10.6/openssl/zlib" */

	snprintf(version, sizeof(version), "%.*s", (int)strcspn(all, "/"), all);
	return version;
}

bool alk_ssh_takes_user(const char *name)
{
	ssh_session ssh = ssh_new();
	bool takes = !ssh || ssh_options_set(ssh, SSH_OPTIONS_USER, name) == SSH_OK;

	ssh_free(ssh);
	return takes;
}
