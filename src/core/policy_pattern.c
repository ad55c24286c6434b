/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <ctype.h>
#include <string.h>
#include "policy_pattern.h"

#define PATTERN_POLL 1024 /* steps between two looks at the clock */

static const char *match_here(struct alk_matcher *m, const char *s, const char *p);

static void matcher_step(struct alk_matcher *m)
{
	if (++m->steps % PATTERN_POLL == 0)
		alk_policy_sandbox_poll(m->L);
}

/* Where the class that begins at `p` ends: behind a character, %x, or [set]. */
static const char *class_end(struct alk_matcher *m, const char *p)
{
	char c = *p++;

	if (c == '%') {
		if (p == m->pattern_end)
			luaL_error(m->L, "malformed pattern (ends with '%%')");
		return p + 1;
	}
	if (c != '[')
		return p;
	if (p < m->pattern_end && *p == '^')
		p++;
	do { /* a ] that comes first stands for itself */
		if (p == m->pattern_end)
			luaL_error(m->L, "malformed pattern (missing ']')");
		if (*p++ == '%' && p < m->pattern_end)
			p++;
	} while (p == m->pattern_end || *p != ']');
	return p + 1;
}

static int is_nul(int c)
{
	return c == '\0';
}

static bool letter_matches(int c, int letter)
{
	static const struct {
		char letter;
		int (*is)(int c);
	} classes[] = {
		{'a', isalpha}, {'c', iscntrl},	 {'d', isdigit}, {'g', isgraph},
		{'l', islower}, {'p', ispunct},	 {'s', isspace}, {'u', isupper},
		{'w', isalnum}, {'x', isxdigit}, {'z', is_nul},
	};
	size_t i;

	for (i = 0; i < sizeof(classes) / sizeof(classes[0]); i++)
		if (classes[i].letter == tolower(letter))
			return (classes[i].is(c) != 0) != (isupper(letter) != 0);
	return letter == c;
}

/* `set` is the '[', `end` the ']'. */
static bool set_matches(int c, const char *set, const char *end)
{
	bool sense = true;
	const char *p = set + 1;

	if (*p == '^') {
		sense = false;
		p++;
	}
	while (p < end) {
		if (*p == '%') {
			if (letter_matches(c, (unsigned char)p[1]))
				return sense;
			p += 2;
		} else if (p[1] == '-' && p + 2 < end) {
			if ((unsigned char)p[0] <= c && c <= (unsigned char)p[2])
				return sense;
			p += 3;
		} else if ((unsigned char)*p++ == c) {
			return sense;
		}
	}
	return !sense;
}

static bool one_matches(const struct alk_matcher *m, const char *s, const char *p, const char *end)
{
	int c;

	if (s >= m->text_end)
		return false;
	c = (unsigned char)*s;
	if (*p == '.')
		return true;
	if (*p == '%')
		return letter_matches(c, (unsigned char)p[1]);
	if (*p == '[')
		return set_matches(c, p, end - 1);
	return (unsigned char)*p == c;
}

static const char *match_most(struct alk_matcher *m, const char *s, const char *p, const char *end)
{
	ptrdiff_t n = 0;
	const char *found;

	while (one_matches(m, s + n, p, end)) {
		matcher_step(m);
		n++;
	}
	for (; n >= 0; n--) {
		found = match_here(m, s + n, end + 1);
		if (found)
			return found;
	}
	return NULL;
}

static const char *match_least(struct alk_matcher *m, const char *s, const char *p, const char *end)
{
	const char *found;

	for (;;) {
		found = match_here(m, s, end + 1);
		if (found)
			return found;
		if (!one_matches(m, s, p, end))
			return NULL;
		s++;
	}
}

static const char *capture_begin(struct alk_matcher *m, const char *s, const char *p,
				 ptrdiff_t kind)
{
	const char *found;

	if (m->captures >= ALK_PATTERN_CAPTURES)
		luaL_error(m->L, "too many captures");
	m->capture[m->captures].start = s;
	m->capture[m->captures].len = kind;
	m->captures++;
	found = match_here(m, s, p);
	if (!found)
		m->captures--;
	return found;
}

static const char *capture_finish(struct alk_matcher *m, const char *s, const char *p)
{
	const char *found;
	int i = m->captures - 1;

	while (i >= 0 && m->capture[i].len != ALK_CAPTURE_OPEN)
		i--;
	if (i < 0)
		luaL_error(m->L, "invalid pattern capture");
	m->capture[i].len = s - m->capture[i].start;
	found = match_here(m, s, p);
	if (!found)
		m->capture[i].len = ALK_CAPTURE_OPEN;
	return found;
}

/* %bxy. `p` is behind the b. */
static const char *match_balance(struct alk_matcher *m, const char *s, const char *p)
{
	unsigned depth = 1;

	if (m->pattern_end - p < 2)
		luaL_error(m->L, "malformed pattern (missing arguments to '%%b')");
	if (s >= m->text_end || *s != p[0])
		return NULL;
	while (++s < m->text_end) {
		matcher_step(m);
		if (*s == p[1] && --depth == 0)
			return s + 1;
		if (*s == p[0] && p[0] != p[1])
			depth++;
	}
	return NULL;
}

/* %f[set]. `p` is the '[', `end` behind the ']'. */
static bool match_frontier(struct alk_matcher *m, const char *s, const char *p, const char *end)
{
	int before = s == m->text ? '\0' : (unsigned char)s[-1];
	int after = s < m->text_end ? (unsigned char)*s : '\0';

	return !set_matches(before, p, end - 1) && set_matches(after, p, end - 1);
}

/* %1 to %9: the same text again. */
static const char *match_again(struct alk_matcher *m, const char *s, int digit)
{
	int i = digit - '1';
	ptrdiff_t len;

	if (i < 0 || i >= m->captures || m->capture[i].len == ALK_CAPTURE_OPEN)
		luaL_error(m->L, "invalid capture index %%%d in pattern", i + 1);
	len = m->capture[i].len;
	if (len < 0 || m->text_end - s < len || memcmp(m->capture[i].start, s, (size_t)len) != 0)
		return NULL;
	return s + len;
}

/* The items that begin with % and are no class. Answers whether this was one; then *s is where the
 * match goes on, NULL if it does not. */
static bool match_special(struct alk_matcher *m, const char **s, const char **p)
{
	const char *at = *p + 1;

	if (**p != '%' || at == m->pattern_end)
		return false;
	if (*at == 'b') {
		*s = match_balance(m, *s, at + 1);
		*p = at + 3;
		return true;
	}
	if (*at == 'f') {
		const char *end;

		if (++at == m->pattern_end || *at != '[')
			luaL_error(m->L, "missing '[' after '%%f' in pattern");
		end = class_end(m, at);
		if (!match_frontier(m, *s, at, end))
			*s = NULL;
		*p = end;
		return true;
	}
	if (!isdigit((unsigned char)*at))
		return false;
	*s = match_again(m, *s, (unsigned char)*at);
	*p = at + 1;
	return true;
}

/* Where the match of the rest of the pattern, from `p`, ends when it begins at `s`; NULL if
 * none. */
static const char *match_here(struct alk_matcher *m, const char *s, const char *p)
{
	const char *end, *found;
	char more;

	while (s && p < m->pattern_end) {
		matcher_step(m);
		if (*p == '(' && p + 1 < m->pattern_end && p[1] == ')')
			return capture_begin(m, s, p + 2, ALK_CAPTURE_POSITION);
		if (*p == '(')
			return capture_begin(m, s, p + 1, ALK_CAPTURE_OPEN);
		if (*p == ')')
			return capture_finish(m, s, p + 1);
		if (*p == '$' && p + 1 == m->pattern_end)
			return s == m->text_end ? s : NULL;
		if (match_special(m, &s, &p))
			continue;
		end = class_end(m, p);
		more = end < m->pattern_end ? *end : '\0';
		if (more == '*')
			return match_most(m, s, p, end);
		if (more == '+')
			return one_matches(m, s, p, end) ? match_most(m, s + 1, p, end) : NULL;
		if (more == '-')
			return match_least(m, s, p, end);
		if (more == '?') {
			if (one_matches(m, s, p, end)) {
				found = match_here(m, s + 1, end + 1);
				if (found)
					return found;
			}
			p = end + 1;
			continue;
		}
		if (!one_matches(m, s, p, end))
			return NULL;
		s++;
		p = end;
	}
	return s;
}

void alk_matcher_init(struct alk_matcher *m, lua_State *L, const char *text, size_t len,
		      const char *pattern_end)
{
	memset(m, 0, sizeof(*m));
	m->L = L;
	m->text = text;
	m->text_end = text + len;
	m->pattern_end = pattern_end;
}

const char *alk_matcher_try(struct alk_matcher *m, const char *s, const char *p)
{
	m->captures = 0;
	return match_here(m, s, p);
}
