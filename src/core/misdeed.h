/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_MISDEED_H
#define ALK_MISDEED_H

/* What a source of links can do wrong before it is logged in, and for how long that keeps it out:
 * the option `source_penalties`, as OpenSSH's PerSourcePenalties. A worker says that a link ended
 * in one; the supervisor, which knows whose link it was, adds up.
 *
 * Penalties of one source are added to each other and run off with time. They count from `min` on,
 * so that one mistake costs nothing, and never exceed `max`. */

#include <stdint.h>
#include <alknet/err.h>

/* id, word in the option, in metrics and in messages, default in seconds, what it is */
#define ALK_MISDEEDS(X)                                                                            \
	X(AUTHFAIL, "authfail", 5, "tried to log in and could not")                                \
	X(NOAUTH, "noauth", 1, "left before it tried to log in")                                   \
	X(GRACE, "grace-exceeded", 20, "did not log in within handshake_timeout")                  \
	X(GARBAGE, "garbage", 10, "broke the protocol before it was logged in")

enum alk_misdeed {
	ALK_MISDEED_NONE = 0,
#define X(id_, word_, seconds_, text_) ALK_MISDEED_##id_,
	ALK_MISDEEDS(X)
#undef X
	ALK_MISDEED_COUNT
};
const char *alk_misdeed_str(enum alk_misdeed misdeed);
/* ALK_MISDEED_NONE when it is no such word. */
enum alk_misdeed alk_misdeed_find(const char *word);

struct alk_misdeed_conf {
	uint64_t ms[ALK_MISDEED_COUNT]; /* 0 = nothing */
	uint64_t min_ms, max_ms;
};
/* "authfail:5 noauth:1 ... min:15 max:600", in seconds; what is left out has its default. "none":
 * nothing is ever held against anybody. -EINVAL with `err`. */
int alk_misdeed_parse(const char *text, struct alk_misdeed_conf *out, struct alk_err *err);

/* Networks that penalty_exempt may name; conf_check.c refuses more. */
#define ALK_PENALTY_EXEMPT_MAX 256

#endif
