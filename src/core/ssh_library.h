/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_SSH_LIBRARY_H
#define ALK_SSH_LIBRARY_H

/* The version of libssh that is linked with, "0.10.6". */
const char *alk_ssh_library(void);

#endif
