/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <lualib.h>
#include "policy_private.h"

/* The standard libraries as a policy sees them. What is left out or replaced, and why:
 *
 *   load, loadfile, dofile, require, io, os, debug, package   nothing from outside gets in or out
 *   string.dump                     no bytecode
 *   collectgarbage, warn            the engine's business
 *   xpcall                          Lua runs its handler with hooks off after a timeout
 *   coroutine.wrap, .close          Lua runs __close with hooks off after a timeout
 *   setmetatable                    __gc would run outside of a question
 *   table.*, string.rep             loops in C as long as a number in the script, or its __len, says
 *   string.find, match, gmatch, gsub   policy_string.c
 */

static const char frozen_mark;

static bool is_frozen(lua_State *L, int index)
{
	bool frozen;

	if (!lua_getmetatable(L, index))
		return false;
	frozen = lua_rawgetp(L, -1, &frozen_mark) != LUA_TNIL;
	lua_pop(L, 2);
	return frozen;
}

static int frozen_set(lua_State *L)
{
	return luaL_error(L, "this table cannot be changed");
}

void alk_policy_sandbox_freeze(lua_State *L)
{
	lua_newtable(L);
	lua_createtable(L, 0, 4);
	lua_rotate(L, -3, -1);
	lua_setfield(L, -2, "__index");
	lua_pushcfunction(L, frozen_set);
	lua_setfield(L, -2, "__newindex");
	lua_pushliteral(L, "frozen");
	lua_setfield(L, -2, "__metatable");
	lua_pushboolean(L, 1);
	lua_rawsetp(L, -2, &frozen_mark);
	lua_setmetatable(L, -2);
}

static int base_rawset(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	luaL_checkany(L, 2);
	luaL_checkany(L, 3);
	if (is_frozen(L, 1))
		return frozen_set(L);
	lua_settop(L, 3);
	lua_rawset(L, 1);
	return 1;
}

static int base_setmetatable(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	luaL_argexpected(L, lua_isnil(L, 2) || lua_istable(L, 2), 2, "nil or table");
	if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL)
		return luaL_error(L, "cannot change a protected metatable");
	if (lua_istable(L, 2)) {
		lua_pushliteral(L, "__gc");
		if (lua_rawget(L, 2) != LUA_TNIL)
			return luaL_error(L, "__gc cannot be used in a policy");
	}
	lua_settop(L, 2);
	lua_setmetatable(L, 1);
	return 1;
}

static int base_print(lua_State *L)
{
	int n = lua_gettop(L), i;
	luaL_Buffer line;

	luaL_buffinit(L, &line);
	for (i = 1; i <= n; i++) {
		if (i > 1)
			luaL_addchar(&line, ' ');
		luaL_tolstring(L, i, NULL);
		luaL_addvalue(&line);
	}
	luaL_pushresult(&line);
	alk_policy_api_log(L, 3, lua_tostring(L, -1));
	return 0;
}

static int xpcall_handled(lua_State *L, int status, lua_KContext ctx)
{
	(void)status;
	(void)ctx;
	lua_pushboolean(L, 0);
	lua_insert(L, 1);
	return lua_gettop(L);
}

/* Stack: the handler, then the results or the error. */
static int xpcall_done(lua_State *L, int status, lua_KContext ctx)
{
	if (status != LUA_OK && status != LUA_YIELD) {
		status = lua_pcallk(L, 1, LUA_MULTRET, 0, ctx, xpcall_handled);
		return xpcall_handled(L, status, ctx);
	}
	lua_pushboolean(L, 1);
	lua_replace(L, 1);
	return lua_gettop(L);
}

static int base_xpcall(lua_State *L)
{
	int n = lua_gettop(L);

	luaL_checktype(L, 2, LUA_TFUNCTION);
	lua_pushvalue(L, 1);
	lua_copy(L, 2, 1);
	lua_replace(L, 2);
	return xpcall_done(L, lua_pcallk(L, n - 2, LUA_MULTRET, 0, 0, xpcall_done), 0);
}

static int wrap_resume(lua_State *L)
{
	lua_State *co = lua_tothread(L, lua_upvalueindex(1));
	int n = lua_gettop(L), rc;

	if (lua_status(co) == LUA_OK && lua_gettop(co) == 0)
		return luaL_error(L, "cannot resume dead coroutine");
	if (!lua_checkstack(co, n))
		return luaL_error(L, "too many arguments to resume");
	lua_xmove(L, co, n);
	rc = lua_resume(co, L, n, &n);
	if (rc != LUA_OK && rc != LUA_YIELD) {
		lua_xmove(co, L, 1);
		return lua_error(L);
	}
	if (!lua_checkstack(L, n + 1)) {
		lua_pop(co, n);
		return luaL_error(L, "too many results to resume");
	}
	lua_xmove(co, L, n);
	return n;
}

static int co_wrap(lua_State *L)
{
	lua_State *co;

	luaL_checktype(L, 1, LUA_TFUNCTION);
	co = lua_newthread(L);
	lua_pushvalue(L, 1);
	lua_xmove(L, co, 1);
	lua_pushcclosure(L, wrap_resume, 1);
	return 1;
}

/* Calls the library's own function, the first upvalue, with the arguments as they are. */
static int call_original(lua_State *L)
{
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
	return lua_gettop(L);
}

static int str_rep(lua_State *L)
{
	size_t len, sep_len;
	lua_Integer n = luaL_checkinteger(L, 2);

	luaL_checklstring(L, 1, &len);
	luaL_optlstring(L, 3, "", &sep_len);
	if (n > ALK_POLICY_STRING_MAX ||
	    (n > 0 && len + sep_len > (size_t)(ALK_POLICY_STRING_MAX / n)))
		return luaL_error(L, "resulting string too large");
	return call_original(L);
}

static void check_length(lua_State *L, lua_Integer n)
{
	if (n > ALK_POLICY_LIST_MAX)
		luaL_error(L, "more than %d elements", ALK_POLICY_LIST_MAX);
}

/* The library asks for the length again: a metamethod would tell it another one than us. */
static int tab_change(lua_State *L)
{
	luaL_checkany(L, 1);
	if (luaL_getmetafield(L, 1, "__len") != LUA_TNIL)
		return luaL_error(L, "a table with __len cannot be changed like this");
	check_length(L, luaL_len(L, 1));
	return call_original(L);
}

static int tab_move(lua_State *L)
{
	lua_Integer from = luaL_checkinteger(L, 2), to = luaL_checkinteger(L, 3);

	if (to >= from && (lua_Unsigned)to - (lua_Unsigned)from >= ALK_POLICY_LIST_MAX)
		check_length(L, ALK_POLICY_LIST_MAX + 1);
	return call_original(L);
}

/* table.concat, with nothing but what it takes from a table of tables, cannot loop for long; but
 * the range may be given. */
static int tab_concat(lua_State *L)
{
	lua_Integer from = luaL_optinteger(L, 3, 1), to;

	luaL_checkany(L, 1);
	to = lua_isnoneornil(L, 4) ? luaL_len(L, 1) : luaL_checkinteger(L, 4);
	if (to >= from && (lua_Unsigned)to - (lua_Unsigned)from >= ALK_POLICY_LIST_MAX)
		check_length(L, ALK_POLICY_LIST_MAX + 1);
	return call_original(L);
}

static int less_than(lua_State *L)
{
	lua_pushboolean(L, lua_compare(L, 1, 2, LUA_OPLT));
	return 1;
}

/* Without a function to compare, a sort is one long C function: give it one, so that the hook is
 * called. */
static int tab_sort(lua_State *L)
{
	luaL_checkany(L, 1);
	check_length(L, luaL_len(L, 1));
	if (lua_isnoneornil(L, 2)) {
		lua_settop(L, 1);
		lua_pushcfunction(L, less_than);
	}
	return call_original(L);
}

struct wrapped {
	const char *name;
	lua_CFunction fn;
};

/* Each function gets the library's own as its upvalue. */
static void wrap_functions(lua_State *L, const struct wrapped *list)
{
	for (; list->name; list++) {
		lua_getfield(L, -1, list->name);
		lua_pushcclosure(L, list->fn, 1);
		lua_setfield(L, -2, list->name);
	}
}

static void remove_functions(lua_State *L, const char *const *names)
{
	for (; *names; names++) {
		lua_pushnil(L);
		lua_setfield(L, -2, *names);
	}
}

static void publish(lua_State *L, const char *name)
{
	alk_policy_sandbox_freeze(L);
	lua_setglobal(L, name);
}

static void open_base(lua_State *L)
{
	static const char *const gone[] = {"load",	     "loadfile", "dofile",
					   "collectgarbage", "warn",	 NULL};
	static const luaL_Reg own[] = {
		{"print", base_print},
		{"rawset", base_rawset},
		{"setmetatable", base_setmetatable},
		{"xpcall", base_xpcall},
		{NULL, NULL},
	};

	luaL_requiref(L, LUA_GNAME, luaopen_base, 1);
	remove_functions(L, gone);
	luaL_setfuncs(L, own, 0);
	lua_pop(L, 1);
}

static void open_string(lua_State *L)
{
	static const char *const gone[] = {"dump", NULL};
	static const struct wrapped wrapped[] = {{"rep", str_rep}, {NULL, NULL}};

	luaL_requiref(L, LUA_STRLIBNAME, luaopen_string, 0);
	remove_functions(L, gone);
	wrap_functions(L, wrapped);
	alk_pattern_open(L);
	lua_pushliteral(L, "");
	lua_getmetatable(L, -1);
	lua_pushliteral(L, "frozen");
	lua_setfield(L, -2, "__metatable");
	lua_pop(L, 2);
	publish(L, LUA_STRLIBNAME);
}

static void open_table(lua_State *L)
{
	static const struct wrapped wrapped[] = {
		{"insert", tab_change}, {"remove", tab_change}, {"move", tab_move},
		{"concat", tab_concat}, {"sort", tab_sort},	{NULL, NULL},
	};

	luaL_requiref(L, LUA_TABLIBNAME, luaopen_table, 0);
	wrap_functions(L, wrapped);
	publish(L, LUA_TABLIBNAME);
}

static void open_coroutine(lua_State *L)
{
	static const char *const gone[] = {"close", NULL};
	static const luaL_Reg own[] = {{"wrap", co_wrap}, {NULL, NULL}};

	luaL_requiref(L, LUA_COLIBNAME, luaopen_coroutine, 0);
	remove_functions(L, gone);
	luaL_setfuncs(L, own, 0);
	publish(L, LUA_COLIBNAME);
}

void alk_policy_sandbox_open_libs(lua_State *L)
{
	open_base(L);
	open_string(L);
	open_table(L);
	open_coroutine(L);
	luaL_requiref(L, LUA_MATHLIBNAME, luaopen_math, 0);
	publish(L, LUA_MATHLIBNAME);
	luaL_requiref(L, LUA_UTF8LIBNAME, luaopen_utf8, 0);
	publish(L, LUA_UTF8LIBNAME);
	/* luaL_requiref() keeps the libraries, unfrozen, here. */
	lua_pushnil(L);
	lua_setfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
}
