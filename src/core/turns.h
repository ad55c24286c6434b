/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_TURNS_H
#define ALK_TURNS_H

/* Links that wait because more come than may begin (`max_handshakes`): a queue for each source, and
 * sources take turns. Who was served longest ago comes first, who never was before all others, so a
 * source that floods waits behind itself and nobody waits behind it. When there are too many, the
 * oldest of the source that has most is given up: what is served then has not waited long. No
 * clock, no limits and no log here: the supervisor has them.
 *
 *     alk_turns_add() -> [queue of its source] -> alk_turns_take()       its turn has come
 *                                              -> alk_turns_push_out()   there are too many
 *
 * Which sources were served is remembered while links wait, ALK_TURNS_IDLE of those that have none
 * at most. */

#include <stddef.h>
#include <stdint.h>
#include <alknet/transport.h>

#define ALK_TURNS_IDLE 1024

struct alk_turns;

/* NULL when out of memory. */
struct alk_turns *alk_turns_new(void);
/* Closes what waits. */
void alk_turns_free(struct alk_turns **turns);
/* One more of `source`, with the number that it will have. Takes link->fd when it returns 0, else
 * -ENOMEM. */
int alk_turns_add(struct alk_turns *turns, const char *source, uint64_t number,
		  struct alk_link *link);
/* The link whose turn it is; gives link->fd. Its number, or 0: none waits. */
uint64_t alk_turns_take(struct alk_turns *turns, struct alk_link *link);
/* The oldest of the source that has most; of several, the one that was served last. As
 * alk_turns_take(), but it was not served. */
uint64_t alk_turns_push_out(struct alk_turns *turns, struct alk_link *link);
/* How many wait: of all, of one source. */
size_t alk_turns_count(const struct alk_turns *turns);
size_t alk_turns_of(const struct alk_turns *turns, const char *source);
/* Sources that are known, for tests. */
size_t alk_turns_sources(const struct alk_turns *turns);

#endif
