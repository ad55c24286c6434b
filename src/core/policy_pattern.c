/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <ctype.h>
#include <string.h>
#include "policy_private.h"

/* string.find, match, gmatch and gsub as the Lua manual (6.4.1) describes them, with a clock inside:
 * "a*a*a*a*a*a*a*a*b" on 40 bytes keeps the library's own matcher busy for 20 s, and nothing can stop
 * a C function from outside. The subject is at most 255 bytes and the pattern 64, so that the matcher
 * is never deeper than the pattern is long. */

#define PATTERN_CAPTURES 32
#define PATTERN_POLL 1024 /* steps between two looks at the clock */
#define CAPTURE_OPEN (-1)
#define CAPTURE_POSITION (-2)

struct matcher {
	lua_State *L;
	const char *text, *text_end;
	const char *pattern_end;
	unsigned steps;
	int captures;
	struct {
		const char *start;
		ptrdiff_t len; /* or CAPTURE_OPEN, CAPTURE_POSITION */
	} capture[PATTERN_CAPTURES];
};

static const char *match_here(struct matcher *m, const char *s, const char *p);

static void matcher_step(struct matcher *m)
{
	if (++m->steps % PATTERN_POLL == 0)
		alk_sandbox_poll(m->L);
}

/* Where the class that begins at `p` ends: behind a character, %x, or [set]. */
static const char *class_end(struct matcher *m, const char *p)
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

static bool letter_matches(int c, int letter)
{
	bool in;

	switch (tolower(letter)) {
	case 'a': in = isalpha(c); break;
	case 'c': in = iscntrl(c); break;
	case 'd': in = isdigit(c); break;
	case 'g': in = isgraph(c); break;
	case 'l': in = islower(c); break;
	case 'p': in = ispunct(c); break;
	case 's': in = isspace(c); break;
	case 'u': in = isupper(c); break;
	case 'w': in = isalnum(c); break;
	case 'x': in = isxdigit(c); break;
	default: return letter == c;
	}
	return isupper(letter) ? !in : in;
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

static bool one_matches(const struct matcher *m, const char *s, const char *p, const char *end)
{
	int c;

	if (s >= m->text_end)
		return false;
	c = (unsigned char)*s;
	switch (*p) {
	case '.': return true;
	case '%': return letter_matches(c, (unsigned char)p[1]);
	case '[': return set_matches(c, p, end - 1);
	default: return (unsigned char)*p == c;
	}
}

static const char *match_most(struct matcher *m, const char *s, const char *p, const char *end)
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

static const char *match_least(struct matcher *m, const char *s, const char *p, const char *end)
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

static const char *capture_begin(struct matcher *m, const char *s, const char *p, ptrdiff_t kind)
{
	const char *found;

	if (m->captures >= PATTERN_CAPTURES)
		luaL_error(m->L, "too many captures");
	m->capture[m->captures].start = s;
	m->capture[m->captures].len = kind;
	m->captures++;
	found = match_here(m, s, p);
	if (!found)
		m->captures--;
	return found;
}

static const char *capture_finish(struct matcher *m, const char *s, const char *p)
{
	const char *found;
	int i = m->captures - 1;

	while (i >= 0 && m->capture[i].len != CAPTURE_OPEN)
		i--;
	if (i < 0)
		luaL_error(m->L, "invalid pattern capture");
	m->capture[i].len = s - m->capture[i].start;
	found = match_here(m, s, p);
	if (!found)
		m->capture[i].len = CAPTURE_OPEN;
	return found;
}

/* %bxy. `p` is behind the b. */
static const char *match_balance(struct matcher *m, const char *s, const char *p)
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
static bool match_frontier(struct matcher *m, const char *s, const char *p, const char *end)
{
	int before = s == m->text ? '\0' : (unsigned char)s[-1];
	int after = s < m->text_end ? (unsigned char)*s : '\0';

	return !set_matches(before, p, end - 1) && set_matches(after, p, end - 1);
}

/* %1 to %9: the same text again. */
static const char *match_again(struct matcher *m, const char *s, int digit)
{
	int i = digit - '1';
	ptrdiff_t len;

	if (i < 0 || i >= m->captures || m->capture[i].len == CAPTURE_OPEN)
		luaL_error(m->L, "invalid capture index %%%d in pattern", i + 1);
	len = m->capture[i].len;
	if (len < 0 || m->text_end - s < len || memcmp(m->capture[i].start, s, (size_t)len) != 0)
		return NULL;
	return s + len;
}

/* The items that begin with % and are no class. Answers whether this was one; then *s is where the
 * match goes on, NULL if it does not. */
static bool match_special(struct matcher *m, const char **s, const char **p)
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

/* Where the match of the rest of the pattern, from `p`, ends when it begins at `s`; NULL if none. */
static const char *match_here(struct matcher *m, const char *s, const char *p)
{
	const char *end, *found;
	char more;

	while (s && p < m->pattern_end) {
		matcher_step(m);
		if (*p == '(' && p + 1 < m->pattern_end && p[1] == ')')
			return capture_begin(m, s, p + 2, CAPTURE_POSITION);
		if (*p == '(')
			return capture_begin(m, s, p + 1, CAPTURE_OPEN);
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

static void matcher_init(struct matcher *m, lua_State *L, const char *text, size_t len,
			 const char *pattern_end)
{
	memset(m, 0, sizeof(*m));
	m->L = L;
	m->text = text;
	m->text_end = text + len;
	m->pattern_end = pattern_end;
}

static const char *matcher_try(struct matcher *m, const char *s, const char *p)
{
	m->captures = 0;
	return match_here(m, s, p);
}

/* Capture i; the whole match, s to e, when there is none. */
static void push_capture(struct matcher *m, int i, const char *s, const char *e)
{
	if (i >= m->captures) {
		if (i != 0)
			luaL_error(m->L, "invalid capture index %%%d", i + 1);
		lua_pushlstring(m->L, s, (size_t)(e - s));
	} else if (m->capture[i].len == CAPTURE_POSITION) {
		lua_pushinteger(m->L, m->capture[i].start - m->text + 1);
	} else if (m->capture[i].len == CAPTURE_OPEN) {
		luaL_error(m->L, "unfinished capture");
	} else {
		lua_pushlstring(m->L, m->capture[i].start, (size_t)m->capture[i].len);
	}
}

static int push_captures(struct matcher *m, const char *s, const char *e, bool whole)
{
	int n = m->captures == 0 && whole ? 1 : m->captures, i;

	luaL_checkstack(m->L, n, "too many captures");
	for (i = 0; i < n; i++)
		push_capture(m, i, s, e);
	return n;
}

static const char *check_text(lua_State *L, int arg, size_t max, const char *what, size_t *len)
{
	const char *text = luaL_checklstring(L, arg, len);

	if (*len > max)
		luaL_error(L, "%s longer than %d bytes", what, (int)max);
	return text;
}

/* A position as scripts give it, as an offset; `len` + 1 when it is past the end. */
static size_t start_offset(lua_Integer pos, size_t len)
{
	if (pos > 0)
		return (lua_Unsigned)pos - 1 > len ? len + 1 : (size_t)pos - 1;
	if (pos == 0 || pos < -(lua_Integer)len)
		return 0;
	return len - (size_t)-pos;
}

static int find_plain(lua_State *L, const char *s, size_t len, size_t at, const char *p, size_t plen)
{
	const char *found = plen ? memmem(s + at, len - at, p, plen) : s + at;

	if (!found) {
		lua_pushnil(L);
		return 1;
	}
	lua_pushinteger(L, found - s + 1);
	lua_pushinteger(L, found - s + (lua_Integer)plen);
	return 2;
}

static int find_or_match(lua_State *L, bool find)
{
	size_t len, plen;
	const char *s = check_text(L, 1, ALK_POLICY_TEXT_MAX, "text", &len);
	const char *p = check_text(L, 2, ALK_POLICY_PATTERN_MAX, "pattern", &plen);
	size_t at = start_offset(luaL_optinteger(L, 3, 1), len);
	struct matcher m;
	const char *from, *e;
	bool anchor = plen > 0 && *p == '^';

	if (at > len) {
		lua_pushnil(L);
		return 1;
	}
	if (find && lua_toboolean(L, 4))
		return find_plain(L, s, len, at, p, plen);
	matcher_init(&m, L, s, len, p + plen);
	for (from = s + at; from <= s + len; from++) {
		e = matcher_try(&m, from, p + anchor);
		if (e && find) {
			lua_pushinteger(L, from - s + 1);
			lua_pushinteger(L, e - s);
			return push_captures(&m, from, e, false) + 2;
		}
		if (e)
			return push_captures(&m, from, e, true);
		if (anchor)
			break;
	}
	lua_pushnil(L);
	return 1;
}

static int str_find(lua_State *L)
{
	return find_or_match(L, true);
}

static int str_match(lua_State *L)
{
	return find_or_match(L, false);
}

/* Upvalues: the text, the pattern, the next offset, the end of the last match (-1 = none). */
static int gmatch_next(lua_State *L)
{
	size_t len, plen;
	const char *s = lua_tolstring(L, lua_upvalueindex(1), &len);
	const char *p = lua_tolstring(L, lua_upvalueindex(2), &plen);
	lua_Integer at = lua_tointeger(L, lua_upvalueindex(3));
	lua_Integer last = lua_tointeger(L, lua_upvalueindex(4));
	struct matcher m;
	const char *e;

	matcher_init(&m, L, s, len, p + plen);
	for (; at <= (lua_Integer)len; at++) {
		e = matcher_try(&m, s + at, p);
		if (!e || e - s == last)
			continue;
		lua_pushinteger(L, e - s);
		lua_copy(L, -1, lua_upvalueindex(3));
		lua_replace(L, lua_upvalueindex(4));
		return push_captures(&m, s + at, e, true);
	}
	return 0;
}

static int str_gmatch(lua_State *L)
{
	size_t len, plen;

	check_text(L, 1, ALK_POLICY_TEXT_MAX, "text", &len);
	check_text(L, 2, ALK_POLICY_PATTERN_MAX, "pattern", &plen);
	lua_pushvalue(L, 1);
	lua_pushvalue(L, 2);
	lua_pushinteger(L, (lua_Integer)start_offset(luaL_optinteger(L, 3, 1), len));
	lua_pushinteger(L, -1);
	lua_pushcclosure(L, gmatch_next, 4);
	return 1;
}

static void add_text(struct matcher *m, luaL_Buffer *out, const char *s, const char *e)
{
	size_t len, i;
	const char *with = lua_tolstring(m->L, 3, &len);

	for (i = 0; i < len; i++) {
		if (with[i] != '%') {
			luaL_addchar(out, with[i]);
			continue;
		}
		i++;
		if (i < len && with[i] == '%') {
			luaL_addchar(out, '%');
		} else if (i < len && with[i] == '0') {
			luaL_addlstring(out, s, (size_t)(e - s));
		} else if (i < len && isdigit((unsigned char)with[i])) {
			push_capture(m, with[i] - '1', s, e);
			luaL_tolstring(m->L, -1, NULL);
			lua_remove(m->L, -2);
			luaL_addvalue(out);
		} else {
			luaL_error(m->L, "invalid use of '%%' in replacement string");
		}
	}
}

static void add_replacement(struct matcher *m, luaL_Buffer *out, const char *s, const char *e)
{
	lua_State *L = m->L;
	int type = lua_type(L, 3);

	if (type == LUA_TSTRING || type == LUA_TNUMBER) {
		add_text(m, out, s, e);
		return;
	}
	if (type == LUA_TFUNCTION) {
		lua_pushvalue(L, 3);
		lua_call(L, push_captures(m, s, e, true), 1);
	} else {
		push_capture(m, 0, s, e);
		lua_gettable(L, 3);
	}
	if (!lua_toboolean(L, -1)) {
		lua_pop(L, 1);
		luaL_addlstring(out, s, (size_t)(e - s));
	} else if (lua_isstring(L, -1)) {
		luaL_addvalue(out);
	} else {
		luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
	}
}

static int str_gsub(lua_State *L)
{
	size_t len, plen;
	const char *s = check_text(L, 1, ALK_POLICY_TEXT_MAX, "text", &len);
	const char *p = check_text(L, 2, ALK_POLICY_PATTERN_MAX, "pattern", &plen);
	int type = lua_type(L, 3);
	lua_Integer max = luaL_optinteger(L, 4, (lua_Integer)len + 1), n = 0;
	bool anchor = plen > 0 && *p == '^';
	const char *from = s, *last = NULL, *e;
	struct matcher m;
	luaL_Buffer out;

	luaL_argexpected(L, type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION ||
				    type == LUA_TTABLE, 3, "string/function/table");
	lua_tostring(L, 3);
	matcher_init(&m, L, s, len, p + plen);
	luaL_buffinit(L, &out);
	while (n < max) {
		e = matcher_try(&m, from, p + anchor);
		if (e && e != last) {
			n++;
			add_replacement(&m, &out, from, e);
			from = last = e;
		} else if (from < m.text_end) {
			luaL_addchar(&out, *from++);
		} else {
			break;
		}
		if (anchor)
			break;
	}
	luaL_addlstring(&out, from, (size_t)(m.text_end - from));
	luaL_pushresult(&out);
	lua_pushinteger(L, n);
	return 2;
}

void alk_pattern_open(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{"find", str_find}, {"match", str_match}, {"gmatch", str_gmatch}, {"gsub", str_gsub}, {NULL, NULL},
	};

	luaL_setfuncs(L, functions, 0);
}
