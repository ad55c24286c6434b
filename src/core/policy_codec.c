/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <jansson.h>
#include "cert_digest.h"
#include "base64.h"
#include "policy_private.h"

/* alknet.base64, alknet.sha256, alknet.json. What they work on is bounded, because nothing stops
 * them while they do. */

#define CODEC_MAX (64 * 1024) /* bytes that go in */
#define JSON_DEPTH 32
#define JSON_NODES 16384
#define JSON_NAME "alknet.json"
#define JSON_MAGIC 0x4e534a41u

static const char *check_input(lua_State *L, size_t *len)
{
	const char *text = luaL_checklstring(L, 1, len);

	luaL_argcheck(L, *len <= CODEC_MAX, 1, "longer than 64 KiB");
	return text;
}

static int failed(lua_State *L, const char *why)
{
	lua_pushnil(L);
	lua_pushstring(L, why);
	return 2;
}

int alk_api_base64_encode(lua_State *L)
{
	size_t len, size;
	const char *text = check_input(L, &len);
	luaL_Buffer out;

	size = (len + 2) / 3 * 4 + 1;
	luaL_buffinitsize(L, &out, size);
	alk_base64_encode((const uint8_t *)text, len, luaL_buffaddr(&out), size);
	luaL_pushresultsize(&out, size - 1);
	return 1;
}

int alk_api_base64_decode(lua_State *L)
{
	size_t len;
	const char *text = check_input(L, &len);
	luaL_Buffer out;
	ssize_t n;

	luaL_buffinitsize(L, &out, len + 1);
	n = alk_base64_decode(text, len, (uint8_t *)luaL_buffaddr(&out), len + 1);
	luaL_pushresultsize(&out, n < 0 ? 0 : (size_t)n);
	return n < 0 ? failed(L, "not base64") : 1;
}

int alk_api_sha256(lua_State *L)
{
	size_t len, i;
	const char *text = check_input(L, &len);
	uint8_t digest[ALK_SHA256_LEN];
	char hex[2 * ALK_SHA256_LEN + 1];

	if (alk_sha256(text, len, digest) < 0)
		return luaL_error(L, "SHA-256 is not to be had");
	for (i = 0; i < sizeof(digest); i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	lua_pushlstring(L, hex, sizeof(hex) - 1);
	return 1;
}

/* ---- JSON ---- */

/* Keeps a document until Lua, which may raise at any push, is done with it. */
struct json_box {
	uint32_t magic;
	json_t *json;
	char *text;
	unsigned nodes;
};

static int json_box_gc(lua_State *L)
{
	struct json_box *box = luaL_checkudata(L, 1, JSON_NAME);

	if (box->magic != JSON_MAGIC)
		return 0;
	json_decref(box->json);
	free(box->text);
	box->json = NULL;
	box->text = NULL;
	return 0;
}

static struct json_box *json_box_new(lua_State *L)
{
	struct json_box *box = lua_newuserdatauv(L, sizeof(*box), 0);

	*box = (struct json_box){.magic = JSON_MAGIC};
	luaL_setmetatable(L, JSON_NAME);
	return box;
}

/* Does a value of an object that is null, or a list with one in it, stay out? Pushes nothing
 * then. */
static bool json_push(lua_State *L, struct json_box *box, const json_t *json, int depth);

static bool json_push_object(lua_State *L, struct json_box *box, const json_t *json, int depth)
{
	const char *key;
	json_t *value;

	lua_createtable(L, 0, (int)json_object_size(json));
	json_object_foreach((json_t *)json, key, value)
	{
		if (json_is_null(value))
			continue;
		lua_pushstring(L, key);
		if (!json_push(L, box, value, depth + 1))
			return false;
		lua_rawset(L, -3);
	}
	return true;
}

static bool json_push_array(lua_State *L, struct json_box *box, const json_t *json, int depth)
{
	json_t *value;
	size_t i;

	lua_createtable(L, (int)json_array_size(json), 0);
	json_array_foreach((json_t *)json, i, value)
	{
		if (json_is_null(value) || !json_push(L, box, value, depth + 1))
			return false;
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return true;
}

static bool json_push(lua_State *L, struct json_box *box, const json_t *json, int depth)
{
	if (depth > JSON_DEPTH || ++box->nodes > JSON_NODES)
		return false;
	luaL_checkstack(L, 4, NULL);
	alk_policy_sandbox_poll(L);
	switch (json_typeof(json)) {
	case JSON_OBJECT:
		return json_push_object(L, box, json, depth);
	case JSON_ARRAY:
		return json_push_array(L, box, json, depth);
	case JSON_STRING:
		lua_pushlstring(L, json_string_value(json), json_string_length(json));
		return true;
	case JSON_INTEGER:
		lua_pushinteger(L, json_integer_value(json));
		return true;
	case JSON_REAL:
		lua_pushnumber(L, json_real_value(json));
		return true;
	case JSON_TRUE:
	case JSON_FALSE:
		lua_pushboolean(L, json_is_true(json));
		return true;
	case JSON_NULL:
		break;
	}
	return false;
}

bool alk_policy_json_push(lua_State *L, const json_t *json)
{
	struct json_box box = {.nodes = 0};

	if (json == NULL || json_is_null(json)) {
		lua_pushnil(L);
		return true;
	}
	return json_push(L, &box, json, 1);
}

static bool json_fits(const json_t *json, int depth, unsigned *nodes)
{
	const char *key;
	json_t *value;
	size_t i;

	if (depth > JSON_DEPTH || ++*nodes > JSON_NODES)
		return false;
	json_array_foreach((json_t *)json, i, value)
	{
		if (json_is_null(value) || !json_fits(value, depth + 1, nodes))
			return false;
	}
	json_object_foreach((json_t *)json, key, value)
	{
		if (!json_fits(value, depth + 1, nodes))
			return false;
	}
	return true;
}

bool alk_policy_json_fits(const json_t *json)
{
	unsigned nodes = 0;

	return json_fits(json, 1, &nodes);
}

/* Opening brackets are counted before the library, which would go down 2048 of them, sees the
 * text. */
static bool json_is_deep(const char *text, size_t len)
{
	int depth = 0;
	bool quoted = false;
	size_t i;

	for (i = 0; i < len; i++) {
		if (quoted) {
			if (text[i] == '\\')
				i++;
			else if (text[i] == '"')
				quoted = false;
		} else if (text[i] == '"') {
			quoted = true;
		} else if (text[i] == '[' || text[i] == '{') {
			if (++depth > JSON_DEPTH)
				return true;
		} else if (text[i] == ']' || text[i] == '}') {
			depth--;
		}
	}
	return false;
}

int alk_api_json_decode(lua_State *L)
{
	size_t len;
	const char *text = check_input(L, &len);
	struct json_box *box;
	json_error_t error;

	if (json_is_deep(text, len))
		return failed(L, "deeper than 32 levels");
	box = json_box_new(L);
	box->json = json_loadb(text, len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);
	if (!box->json) {
		lua_pushnil(L);
		lua_pushfstring(L, "line %d: %s", error.line, error.text);
		return 2;
	}
	if (json_is_null(box->json) || !json_push(L, box, box->json, 1)) {
		lua_settop(L, 2);
		return failed(L, box->nodes > JSON_NODES ? "more than 16384 values"
							 : "null where nothing can stand for it");
	}
	return 1;
}

/* The document of the value at `index`; NULL with *why. Nothing here raises: what is under way
 * would be lost. */
static json_t *json_take(lua_State *L, struct json_box *box, int index, int depth,
			 const char **why);

static bool table_is_list(lua_State *L, int index)
{
	lua_Unsigned n = lua_rawlen(L, index), count = 0;

	for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1))
		count++;
	return n > 0 && n == count;
}

static bool list_take(lua_State *L, struct json_box *box, int index, json_t *list, int depth,
		      const char **why)
{
	lua_Unsigned i, n = lua_rawlen(L, index);
	json_t *value;

	for (i = 1; i <= n; i++) {
		lua_rawgeti(L, index, (lua_Integer)i);
		value = json_take(L, box, lua_gettop(L), depth + 1, why);
		lua_pop(L, 1);
		if (!value || json_array_append_new(list, value) < 0)
			return false;
	}
	return true;
}

static bool object_take(lua_State *L, struct json_box *box, int index, json_t *object, int depth,
			const char **why)
{
	const char *key;
	json_t *value;
	size_t len;

	for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
		key = lua_type(L, -2) == LUA_TSTRING ? lua_tolstring(L, -2, &len) : NULL;
		*why = "a key is no text of UTF-8";
		if (!key || strlen(key) != len)
			return false;
		value = json_take(L, box, lua_gettop(L), depth + 1, why);
		if (!value)
			return false;
		*why = "a key is no text of UTF-8";
		if (json_object_set_new(object, key, value) < 0)
			return false;
	}
	return true;
}

/* A table that was emptied is walked to its end, and may be in the document many times. */
static json_t *table_take(lua_State *L, struct json_box *box, int index, int depth,
			  const char **why)
{
	bool list, whole;
	json_t *json;

	*why = "took more time than it may";
	if (alk_policy_sandbox_is_over(L))
		return NULL;
	list = table_is_list(L, index);
	json = list ? json_array() : json_object();
	*why = "not enough memory";
	if (!json)
		return NULL;
	whole = list ? list_take(L, box, index, json, depth, why)
		     : object_take(L, box, index, json, depth, why);
	if (whole)
		return json;
	json_decref(json);
	return NULL;
}

static json_t *number_take(lua_State *L, int index, const char **why)
{
	*why = "not a number that JSON has";
	if (lua_isinteger(L, index))
		return json_integer(lua_tointeger(L, index));
	return isfinite(lua_tonumber(L, index)) ? json_real(lua_tonumber(L, index)) : NULL;
}

static json_t *json_take(lua_State *L, struct json_box *box, int index, int depth, const char **why)
{
	const char *text;
	size_t len;

	*why = "deeper than 32 levels";
	if (depth > JSON_DEPTH)
		return NULL;
	*why = "more than 16384 values, or than 64 KiB of text";
	if (++box->nodes > JSON_NODES || !lua_checkstack(L, 4))
		return NULL;
	switch (lua_type(L, index)) {
	case LUA_TBOOLEAN:
		return json_boolean(lua_toboolean(L, index));
	case LUA_TNUMBER:
		return number_take(L, index, why);
	case LUA_TSTRING:
		text = lua_tolstring(L, index, &len);
		if (len > CODEC_MAX || (box->nodes += (unsigned)(len / 4)) > JSON_NODES)
			return NULL;
		*why = "a text is not UTF-8";
		return json_stringn(text, len);
	case LUA_TTABLE:
		return table_take(L, box, index, depth, why);
	default:
		*why = "a value is neither text, number, boolean nor table";
		return NULL;
	}
}

json_t *alk_policy_json_take(lua_State *L, int index, const char **why)
{
	struct json_box box = {.nodes = 0};

	if (lua_isnil(L, index))
		return json_null();
	return json_take(L, &box, index, 1, why);
}

int alk_api_json_encode(lua_State *L)
{
	const char *why = "";
	struct json_box *box;

	luaL_checkany(L, 1);
	lua_settop(L, 1);
	box = json_box_new(L);
	box->json = json_take(L, box, 1, 1, &why);
	if (!box->json)
		return failed(L, why);
	box->text = json_dumps(box->json, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
	if (!box->text)
		return failed(L, "not enough memory");
	lua_pushstring(L, box->text);
	return 1;
}

void alk_policy_codec_open(lua_State *L)
{
	luaL_newmetatable(L, JSON_NAME);
	lua_pushcfunction(L, json_box_gc);
	lua_setfield(L, -2, "__gc");
	lua_pushliteral(L, "frozen");
	lua_setfield(L, -2, "__metatable");
	lua_pop(L, 1);
}
