/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_PENALTY_H
#define ALK_PENALTY_H

/* Who may not come back for a while: identities and addresses (as alk_limit_key() has them) that
 * hung a worker, and addresses whose misdeeds (misdeed.h) added up. At most ALK_PENALTY_MAX; the
 * one that was added first makes room. Times are monotonic milliseconds that the caller reads. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ALK_PENALTY_MAX 4096

enum alk_penalty_kind {
	ALK_PENALTY_ADDRESS,
	ALK_PENALTY_IDENTITY,
};

struct alk_penalty;

struct alk_penalty *alk_penalty_new(void);
void alk_penalty_free(struct alk_penalty **penalties);
/* Until `until`, also when an earlier end was set. 0 or -ENOMEM. */
int alk_penalty_add(struct alk_penalty *penalties, enum alk_penalty_kind kind, const char *name,
		    uint64_t until);
/* `more_ms` on top of what is left, up to `max_ms` in all. It counts from the moment on that it
 * reaches `min_ms`, until it has run off. True: it counts now and did not before. Out of memory it
 * is forgotten. */
bool alk_penalty_grow(struct alk_penalty *penalties, enum alk_penalty_kind kind, const char *name,
		      uint64_t now, uint64_t more_ms, uint64_t min_ms, uint64_t max_ms);
/* Take it back. False: there is none. */
bool alk_penalty_remove(struct alk_penalty *penalties, enum alk_penalty_kind kind,
			const char *name);
/* Milliseconds that are left; 0 = none, or one that does not count yet. */
uint64_t alk_penalty_left(struct alk_penalty *penalties, enum alk_penalty_kind kind,
			  const char *name, uint64_t now);
/* All that still stand and count, `fn` for each. It must not add any. */
void alk_penalty_each(struct alk_penalty *penalties, uint64_t now,
		      void (*fn)(void *user, enum alk_penalty_kind kind, const char *name,
				 uint64_t left),
		      void *user);
size_t alk_penalty_count(const struct alk_penalty *penalties);

#endif
