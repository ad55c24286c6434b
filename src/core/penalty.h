/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_PENALTY_H
#define ALK_PENALTY_H

/* Who may not come back for a while: identities and addresses (as alk_limit_key() has them) that hung
 * a worker. At most ALK_PENALTY_MAX; the one that was added first makes room. Times are monotonic
 * milliseconds that the caller reads. */

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
/* Milliseconds that are left; 0 = none. */
uint64_t alk_penalty_left(struct alk_penalty *penalties, enum alk_penalty_kind kind,
			  const char *name, uint64_t now);
/* All that still stand, `fn` for each. It must not add any. */
void alk_penalty_each(struct alk_penalty *penalties, uint64_t now,
		      void (*fn)(void *user, enum alk_penalty_kind kind, const char *name,
				 uint64_t left),
		      void *user);
size_t alk_penalty_count(const struct alk_penalty *penalties);

#endif
