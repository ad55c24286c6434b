/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_LOOP_PRIVATE_H
#define ALK_LOOP_PRIVATE_H

/* What the core, and no plugin, may ask of a loop: to keep a thing for as long as it lives, such as
 * the process's resolver. Start here if there must be one of something a loop. */

#include <alknet/loop.h>

/* The thing that is kept under `key` (any address of the caller's own), NULL when there is none. */
void *alk_loop_kept(const struct alk_loop *loop, const void *key);
/* Keep `thing` until alk_loop_free(), which hands it to `free_thing` before it looks for leaks; the one
 * kept last goes first. Takes `thing` when it returns 0; -ENOMEM. */
int alk_loop_keep(struct alk_loop *loop, const void *key, void *thing,
		  void (*free_thing)(void *thing));

#endif
