/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "conf_private.h"

#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "text.h"

#define MEMORY_MAX (8u * 1024 * 1024)
#define STEP 1000
#define STEPS_MAX 1000 /* 10^6 instructions */
#define DEPTH_MAX 16
#define NODES_MAX 20000
#define TEXT_MAX (64 * 1024)
#define TEXTS_MAX (4 * 1024 * 1024)
#define CPU_MAX (2 * CLOCKS_PER_SEC)
/* What Lua calls the file: its own way of showing a path cuts long ones. */
#define CHUNK "=?"

/* The reader travels in the state's extra space: what runs inside finds it there. */
struct reader {
	const char *text;
	size_t len, used, texts;
	clock_t start;
	unsigned steps, nodes, depth;
	const void *open[DEPTH_MAX]; /* the tables that we are inside of */
	char path[512];
	json_t *root;
};

static struct reader *reader_of(lua_State *L)
{
	return *(struct reader **)lua_getextraspace(L);
}

static void *alloc_capped(void *user, void *ptr, size_t old, size_t size)
{
	struct reader *reader = user;
	void *fresh;

	if (ptr == NULL)
		old = 0;
	if (size == 0) {
		free(ptr);
		reader->used -= old;
		return NULL;
	}
	if (size > old && size - old > MEMORY_MAX - reader->used)
		return NULL;
	fresh = realloc(ptr, size);
	if (fresh != NULL)
		reader->used = reader->used - old + size;
	return fresh;
}

/* There is no pcall in the environment, so nothing can catch this; it goes on all the same. */
static void on_steps(lua_State *L, lua_Debug *debug)
{
	(void)debug;
	if (++reader_of(L)->steps <= STEPS_MAX && clock() - reader_of(L)->start < CPU_MAX)
		return;
	lua_sethook(L, on_steps, LUA_MASKCOUNT, 1);
	luaL_error(L, "the configuration runs too long; it must only say return { ... }");
}

static int on_unknown_name(lua_State *L)
{
	return luaL_error(L, "nothing is called \"%s\" here; text needs quotes",
			  luaL_tolstring(L, 2, NULL));
}

static int on_assignment(lua_State *L)
{
	const char *name = luaL_tolstring(L, 2, NULL);

	return luaL_error(L, "\"%s = ...\" stands outside of the table; write return { %s = ... }",
			  name, name);
}

/* An empty table that tells a forgotten quote from a value that is not set. */
static void push_environment(lua_State *L)
{
	lua_newtable(L);
	lua_createtable(L, 0, 2);
	lua_pushcfunction(L, on_unknown_name);
	lua_setfield(L, -2, "__index");
	lua_pushcfunction(L, on_assignment);
	lua_setfield(L, -2, "__newindex");
	lua_setmetatable(L, -2);
}

/* --- from Lua to JSON; every new value hangs on the root before anything can fail ------------- */

static int value_fail(lua_State *L, const char *why)
{
	struct reader *reader = reader_of(L);

	return luaL_error(L, "%s %s", reader->path[0] != '\0' ? reader->path : "the table", why);
}

static size_t path_push(struct reader *reader, const char *key, lua_Integer index)
{
	size_t before = strlen(reader->path), room = sizeof(reader->path) - before;
	char safe[128];

	if (key == NULL) {
		snprintf(reader->path + before, room, "[%lld]", (long long)index);
	} else {
		alk_text_escape(key, strlen(key), safe, sizeof(safe));
		snprintf(reader->path + before, room, "%s%s", before > 0 ? "." : "", safe);
	}
	return before;
}

static void value_convert(lua_State *L, json_t *parent, const char *key);

static void attach(lua_State *L, json_t *parent, const char *key, json_t *value)
{
	int rc;

	if (value == NULL)
		value_fail(L, "does not fit into memory");
	if (parent == NULL) {
		reader_of(L)->root = value;
		return;
	}
	rc = key != NULL ? json_object_set_new(parent, key, value)
			 : json_array_append_new(parent, value);
	if (rc < 0)
		value_fail(L, "does not fit into memory");
}

static json_t *text_convert(lua_State *L)
{
	size_t len;
	const char *text = lua_tolstring(L, -1, &len);

	if (len > TEXT_MAX)
		value_fail(L, "is longer than 64 KiB");
	reader_of(L)->texts += len;
	if (reader_of(L)->texts > TEXTS_MAX)
		value_fail(L, "is one text too many");
	if (memchr(text, '\0', len) != NULL)
		value_fail(L, "holds a zero byte");
	if (!alk_text_utf8(text, len))
		value_fail(L, "is not valid UTF-8");
	return json_stringn(text, len);
}

static json_t *number_convert(lua_State *L)
{
	if (lua_isinteger(L, -1))
		return json_integer(lua_tointeger(L, -1));
	if (!isfinite(lua_tonumber(L, -1)))
		value_fail(L, "is not a number that can be used");
	return json_real(lua_tonumber(L, -1));
}

/* A list has the keys 1..n and no others. */
static bool table_is_list(lua_State *L)
{
	lua_Unsigned n = lua_rawlen(L, -1), seen = 0;

	lua_pushnil(L);
	while (lua_next(L, -2) != 0) {
		lua_pop(L, 1);
		if (lua_isinteger(L, -1) && lua_tointeger(L, -1) >= 1 &&
		    (lua_Unsigned)lua_tointeger(L, -1) <= n)
			seen++;
		else if (lua_type(L, -1) != LUA_TSTRING)
			value_fail(L, "has a key that is neither text nor a place in a list");
		else if (n > 0)
			value_fail(L, "mixes a list with named values");
	}
	if (n > 0 && seen != n)
		value_fail(L, "is a list with holes");
	return n > 0;
}

static void list_convert(lua_State *L, json_t *list)
{
	lua_Integer n = (lua_Integer)lua_rawlen(L, -1);

	for (lua_Integer i = 1; i <= n; i++) {
		size_t before = path_push(reader_of(L), NULL, i);

		lua_rawgeti(L, -1, i);
		value_convert(L, list, NULL);
		lua_pop(L, 1);
		reader_of(L)->path[before] = '\0';
	}
}

static void object_convert(lua_State *L, json_t *object)
{
	lua_pushnil(L);
	while (lua_next(L, -2) != 0) {
		size_t len, before;
		const char *key = lua_tolstring(L, -2, &len);

		if (len == 0 || len > 256 || strlen(key) != len || !alk_text_utf8(key, len))
			value_fail(L, "has a key that is empty, too long or not valid UTF-8");
		before = path_push(reader_of(L), key, 0);
		value_convert(L, object, key);
		lua_pop(L, 1);
		reader_of(L)->path[before] = '\0';
	}
}

static void table_convert(lua_State *L, json_t *parent, const char *key)
{
	struct reader *reader = reader_of(L);
	const void *self = lua_topointer(L, -1);
	json_t *table;
	bool list;

	/* A table that was emptied is walked to its end, and may stand there many times. */
	if (clock() - reader->start >= CPU_MAX)
		value_fail(L, "takes too long to read");
	for (unsigned i = 0; i < reader->depth; i++)
		if (reader->open[i] == self)
			value_fail(L, "holds itself");
	if (reader->depth == DEPTH_MAX)
		value_fail(L, "is nested too deeply");
	reader->open[reader->depth++] = self;
	luaL_checkstack(L, 4, NULL);
	list = table_is_list(L);
	table = list ? json_array() : json_object();
	attach(L, parent, key, table);
	if (list)
		list_convert(L, table);
	else
		object_convert(L, table);
	reader->depth--;
}

static void value_convert(lua_State *L, json_t *parent, const char *key)
{
	if (++reader_of(L)->nodes > NODES_MAX)
		value_fail(L, "is one value too many");
	switch (lua_type(L, -1)) {
	case LUA_TTABLE:
		table_convert(L, parent, key);
		break;
	case LUA_TSTRING:
		attach(L, parent, key, text_convert(L));
		break;
	case LUA_TNUMBER:
		attach(L, parent, key, number_convert(L));
		break;
	case LUA_TBOOLEAN:
		attach(L, parent, key, json_boolean(lua_toboolean(L, -1)));
		break;
	default:
		lua_pushfstring(
			L, "is a %s; a configuration holds text, numbers, true, false and tables",
			luaL_typename(L, -1));
		value_fail(L, lua_tostring(L, -1));
	}
}

/* --- all of it, protected --------------------------------------------------------------------- */

static int read_protected(lua_State *L)
{
	struct reader *reader = reader_of(L);

	if (luaL_loadbufferx(L, reader->text, reader->len, CHUNK, "t") != LUA_OK)
		return lua_error(L);
	push_environment(L);
	lua_setupvalue(L, -2, 1);
	lua_sethook(L, on_steps, LUA_MASKCOUNT, STEP);
	lua_call(L, 0, 1);
	lua_sethook(L, NULL, 0, 0);
	if (lua_type(L, -1) != LUA_TTABLE)
		return luaL_error(L, "must say return { ... }, one table");
	value_convert(L, NULL, NULL);
	return 0;
}

/* What Lua says may quote the file. */
static void fail(lua_State *L, int status, const char *name, struct alk_err *err)
{
	const char *why = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
	bool located = why != NULL && strncmp(why, "?:", 2) == 0;
	char safe[400];

	if (status == LUA_ERRMEM || why == NULL) {
		alk_err_set(err, -EINVAL, "%s: needs more than %u MiB of memory", name,
			    MEMORY_MAX >> 20);
		return;
	}
	why += located ? 1 : 0;
	alk_text_escape(why, strlen(why), safe, sizeof(safe));
	alk_err_set(err, -EINVAL, "%s%s%s", name, located ? "" : ": ", safe);
}

const char *alk_conf_lua_version(void)
{
	return LUA_RELEASE;
}

json_t *alk_conf_lua_read(const char *name, const char *text, size_t len, struct alk_err *err)
{
	struct reader reader = {.text = text, .len = len, .start = clock()};
	lua_State *L = lua_newstate(alloc_capped, &reader);
	int status;

	if (L == NULL) {
		alk_err_set(err, -ENOMEM, "%s: out of memory", name);
		return NULL;
	}
	*(struct reader **)lua_getextraspace(L) = &reader;
	lua_pushcfunction(L, read_protected);
	status = lua_pcall(L, 0, 0, 0);
	if (status != LUA_OK) {
		fail(L, status, name, err);
		json_decref(reader.root);
		reader.root = NULL;
	}
	lua_close(L);
	return reader.root;
}
