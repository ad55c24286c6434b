/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <ctype.h>
#include <string.h>
#include "policy_pattern.h"

/* string.find, match, gmatch and gsub, as the Lua manual (6.4) describes them. */

/* Capture i; the whole match, s to e, when there is none. */
static void push_capture(struct alk_matcher *m, int i, const char *s, const char *e)
{
	if (i >= m->captures) {
		if (i != 0)
			luaL_error(m->L, "invalid capture index %%%d", i + 1);
		lua_pushlstring(m->L, s, (size_t)(e - s));
	} else if (m->capture[i].len == ALK_CAPTURE_POSITION) {
		lua_pushinteger(m->L, m->capture[i].start - m->text + 1);
	} else if (m->capture[i].len == ALK_CAPTURE_OPEN) {
		luaL_error(m->L, "unfinished capture");
	} else {
		lua_pushlstring(m->L, m->capture[i].start, (size_t)m->capture[i].len);
	}
}

static int push_captures(struct alk_matcher *m, const char *s, const char *e, bool whole)
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

static int find_plain(lua_State *L, const char *s, size_t len, size_t at, const char *p,
		      size_t plen)
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

/* Without one of these string.find looks for the text itself, a ) or ] included. */
static bool is_plain(const char *p, size_t plen)
{
	static const char special[] = "^$*+?.([%-";
	size_t i;

	for (i = 0; i < plen; i++)
		if (memchr(special, p[i], sizeof(special) - 1))
			return false;
	return true;
}

static int find_or_match(lua_State *L, bool find)
{
	size_t len, plen;
	const char *s = check_text(L, 1, ALK_POLICY_TEXT_MAX, "text", &len);
	const char *p = check_text(L, 2, ALK_POLICY_PATTERN_MAX, "pattern", &plen);
	size_t at = start_offset(luaL_optinteger(L, 3, 1), len);
	struct alk_matcher m;
	const char *from, *e;
	bool anchor = plen > 0 && *p == '^';

	if (at > len) {
		lua_pushnil(L);
		return 1;
	}
	if (find && (lua_toboolean(L, 4) || is_plain(p, plen)))
		return find_plain(L, s, len, at, p, plen);
	alk_matcher_init(&m, L, s, len, p + plen);
	for (from = s + at; from <= s + len; from++) {
		e = alk_matcher_try(&m, from, p + anchor);
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
	struct alk_matcher m;
	const char *e;

	alk_matcher_init(&m, L, s, len, p + plen);
	for (; at <= (lua_Integer)len; at++) {
		e = alk_matcher_try(&m, s + at, p);
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
	size_t len, plen, at;

	check_text(L, 1, ALK_POLICY_TEXT_MAX, "text", &len);
	check_text(L, 2, ALK_POLICY_PATTERN_MAX, "pattern", &plen);
	at = start_offset(luaL_optinteger(L, 3, 1), len);
	lua_settop(L, 2);
	lua_pushinteger(L, (lua_Integer)at);
	lua_pushinteger(L, -1);
	lua_pushcclosure(L, gmatch_next, 4);
	return 1;
}

static void add_text(struct alk_matcher *m, luaL_Buffer *out, const char *s, const char *e)
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

static void add_replacement(struct alk_matcher *m, luaL_Buffer *out, const char *s, const char *e)
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
	struct alk_matcher m;
	luaL_Buffer out;

	luaL_argexpected(L,
			 type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION ||
				 type == LUA_TTABLE,
			 3, "string/function/table");
	lua_tostring(L, 3);
	alk_matcher_init(&m, L, s, len, p + plen);
	luaL_buffinit(L, &out);
	while (n < max) {
		e = alk_matcher_try(&m, from, p + anchor);
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
		{"find", str_find}, {"match", str_match}, {"gmatch", str_gmatch},
		{"gsub", str_gsub}, {NULL, NULL},
	};

	luaL_setfuncs(L, functions, 0);
}
