/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_SSH_LIBRARY_H
#define ALK_SSH_LIBRARY_H

#include <stdbool.h>

/* The version of libssh that is linked with, "0.10.6". */
const char *alk_ssh_library(void);
/* Can a client log in under this name? libssh refuses what a shell could take for more than a word. */
bool alk_ssh_takes_user(const char *name);

#endif
