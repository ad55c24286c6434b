/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_LOADER_FILE_H
#define ALK_LOADER_FILE_H

/* Whether a file may be opened as a plugin at all: before any of its code runs. loader.c is the user. */

#include <alknet/err.h>

/* `path` is absolute and, links followed, a regular file that belongs to root or to us, in a directory
 * that does too, neither of them writable by others; and it is a whole shared object for this machine
 * (the dynamic linker dies of one that was cut short). 0, or -errno with `err`. */
int alk_loader_file_check(const char *path, struct alk_err *err);
/* The same for a directory of plugins. */
int alk_loader_dir_check(const char *path, struct alk_err *err);

#endif
