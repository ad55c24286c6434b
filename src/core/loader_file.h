/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_LOADER_FILE_H
#define ALK_LOADER_FILE_H

/* Whether a file may be opened as a plugin at all: before any of its code runs. loader.c is the
 * user. */

#include <stdbool.h>
#include <alknet/err.h>

/* `path` is absolute and, links followed, a regular file that belongs to root or to us, in a
 * directory that does too, neither of them writable by others; and it is a whole shared object for
 * this machine (the dynamic linker dies of one that was cut short). 0, or -errno with `err`. */
int alk_loader_file_check(const char *path, struct alk_err *err);
/* The same for a directory of plugins. */
int alk_loader_dir_check(const char *path, struct alk_err *err);

/* In programs of ours a library is opened in a child first, so that one whose constructors end the
 * process is refused with a sentence, like every other that does not fit. Off until it is switched
 * on (an embedding program's process is not ours to fork); off again in a worker that has given up
 * its privileges: the supervisor has tried what is loaded from then on. */
void alk_loader_try_first(bool on);
/* 0, also when it is off or no child can be made; -ENOEXEC with `err`. */
int alk_loader_file_try(const char *path, struct alk_err *err);

#endif
