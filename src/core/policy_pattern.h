/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_POLICY_PATTERN_H
#define ALK_POLICY_PATTERN_H

/* Lua's patterns (manual, 6.4.1), with a clock in the matcher: "a*a*a*a*a*a*a*a*b" on 40 bytes
 * keeps the library's own busy for 20 s, and nothing can stop a C function from outside. The text
 * is at most 255 bytes and the pattern 64, so that the matcher is never deeper than the pattern is
 * long. policy_string.c makes string.find, match, gmatch and gsub of it. */

#include "policy_private.h"

#define ALK_PATTERN_CAPTURES 32
#define ALK_CAPTURE_OPEN (-1)
#define ALK_CAPTURE_POSITION (-2)

struct alk_matcher {
	lua_State *L;
	const char *text, *text_end;
	const char *pattern_end;
	unsigned steps;
	int captures;
	struct {
		const char *start;
		ptrdiff_t len; /* or ALK_CAPTURE_OPEN, ALK_CAPTURE_POSITION */
	} capture[ALK_PATTERN_CAPTURES];
};

/* Borrows the texts. */
void alk_matcher_init(struct alk_matcher *m, lua_State *L, const char *text, size_t len,
		      const char *pattern_end);
/* Where the match of the pattern from `p` ends when it begins at `s`; NULL if none. Raises when the
 * pattern is malformed or the time is over. */
const char *alk_matcher_try(struct alk_matcher *m, const char *s, const char *p);

#endif
