/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <alknet/log.h>
#include "cidr.h"
#include "policy_private.h"
#include "text.h"

/* `alknet`: what a policy may ask the program for. */

#define CIDR_NAME "alknet.cidr"
#define CIDR_MAGIC 0x52444943u
#define LOG_RATE 10 /* lines a second */
#define LOG_BURST 20

struct cidr {
	uint32_t magic;
	struct alk_cidr net;
};

int alk_api_cidr(lua_State *L)
{
	size_t len;
	const char *text = luaL_checklstring(L, 1, &len), *why;
	struct cidr *cidr = lua_newuserdatauv(L, sizeof(*cidr), 0);

	memset(cidr, 0, sizeof(*cidr));
	cidr->magic = CIDR_MAGIC;
	why = strlen(text) == len ? alk_cidr_parse(&cidr->net, text) : "not an address";
	if (why)
		return luaL_error(L, "not a network: %s", why);
	luaL_setmetatable(L, CIDR_NAME);
	return 1;
}

static const struct cidr *check_cidr(lua_State *L, int arg)
{
	const struct cidr *cidr = luaL_checkudata(L, arg, CIDR_NAME);

	if (cidr->magic != CIDR_MAGIC)
		luaL_error(L, "not a network");
	return cidr;
}

static int cidr_contains(lua_State *L)
{
	const struct cidr *cidr = check_cidr(L, 1);
	struct in6_addr addr;
	size_t len;
	const char *text = lua_type(L, 2) == LUA_TSTRING ? lua_tolstring(L, 2, &len) : NULL;
	bool v4;

	if (!text || strlen(text) != len || !alk_cidr_address(text, &addr, &v4)) {
		lua_pushnil(L);
		lua_pushliteral(L, "not an address");
		return 2;
	}
	lua_pushboolean(L, alk_cidr_has(&cidr->net, &addr));
	return 1;
}

static int cidr_tostring(lua_State *L)
{
	const struct cidr *cidr = check_cidr(L, 1);
	char text[INET6_ADDRSTRLEN];

	inet_ntop(AF_INET6, &cidr->net.net, text, sizeof(text));
	lua_pushfstring(L, "%s/%d", text, (int)cidr->net.bits);
	return 1;
}

static const char *check_short(lua_State *L, int arg, size_t *len)
{
	const char *text = luaL_checklstring(L, arg, len);

	luaL_argcheck(L, *len <= ALK_POLICY_TEXT_MAX, arg, "longer than 255 bytes");
	return text;
}

/* "www.example.com." is the same name as without the dot. */
static size_t without_dot(const char *text, size_t len)
{
	return len > 1 && text[len - 1] == '.' ? len - 1 : len;
}

int alk_api_glob(lua_State *L)
{
	size_t plen, len;
	const char *p = check_short(L, 1, &plen), *s = check_short(L, 2, &len);

	lua_pushboolean(L, alk_text_glob(s, len, p, plen, true) ||
				   alk_text_glob(s, without_dot(s, len), p, plen, true));
	return 1;
}

/* ".example.com": what is below it; "example.com": itself too. */
static bool suffix_matches(const char *s, size_t len, const char *suffix, size_t slen)
{
	if (slen == 0 || len < slen || strncasecmp(s + len - slen, suffix, slen) != 0)
		return false;
	if (suffix[0] == '.')
		return len > slen;
	return len == slen || s[len - slen - 1] == '.';
}

int alk_api_suffix(lua_State *L)
{
	size_t len, slen;
	const char *s = check_short(L, 1, &len), *suffix = check_short(L, 2, &slen);

	lua_pushboolean(L,
			suffix_matches(s, without_dot(s, len), suffix, without_dot(suffix, slen)));
	return 1;
}

/* Seconds since 1970, or what a test says. */
static double policy_now(lua_State *L)
{
	const struct alk_policy_sandbox *box = alk_policy_sandbox_of(L);
	struct timespec ts;

	if (box->given_now > 0)
		return box->given_now;
	clock_gettime(CLOCK_REALTIME, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int alk_api_now(lua_State *L)
{
	lua_pushnumber(L, policy_now(L));
	return 1;
}

static bool log_allowed(struct alk_policy_sandbox *box)
{
	uint64_t now = alk_policy_clock(), each = 1000000000u / LOG_RATE;
	uint64_t fresh = (now - box->log_at) / each;

	if (fresh > 0) {
		box->log_tokens = fresh + box->log_tokens > LOG_BURST
					  ? LOG_BURST
					  : (unsigned)fresh + box->log_tokens;
		box->log_at = box->log_tokens == LOG_BURST ? now : box->log_at + fresh * each;
	}
	if (box->log_tokens == 0) {
		box->log_dropped++;
		return false;
	}
	box->log_tokens--;
	return true;
}

void alk_policy_api_log(lua_State *L, int level, const char *text)
{
	struct alk_policy_sandbox *box = alk_policy_sandbox_of(L);

	if (!alk_log_enabled((enum alk_log_level)level) || !log_allowed(box))
		return;
	alk_log((enum alk_log_level)level, "policy", ALK_STR("policy", box->name),
		ALK_STR("text", text), ALK_INT("dropped", box->log_dropped));
	box->log_dropped = 0;
}

int alk_api_log(lua_State *L)
{
	static const char *const levels[] = {"error", "warn", "info", "debug", NULL};
	int level = luaL_checkoption(L, 1, NULL, levels);

	alk_policy_api_log(L, level, luaL_checkstring(L, 2));
	return 0;
}

static void open_cidr(lua_State *L)
{
	luaL_newmetatable(L, CIDR_NAME);
	lua_newtable(L);
	lua_pushcfunction(L, cidr_contains);
	lua_setfield(L, -2, "contains");
	alk_policy_sandbox_freeze(L);
	lua_setfield(L, -2, "__index");
	lua_pushcfunction(L, cidr_tostring);
	lua_setfield(L, -2, "__tostring");
	lua_pushliteral(L, "frozen");
	lua_setfield(L, -2, "__metatable");
	lua_pop(L, 1);
}

static const struct {
	const char *table, *name;
	lua_CFunction fn;
} functions[] = {
#define ALK_API(table_, name_, args_, fn_, text_) {table_, #name_, fn_},
#include "policy_api.def"
#undef ALK_API
};

/* Pushes the functions of one table. */
static void open_table(lua_State *L, const char *table)
{
	size_t i;

	lua_newtable(L);
	for (i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
		if (strcmp(functions[i].table, table) != 0)
			continue;
		lua_pushcfunction(L, functions[i].fn);
		lua_setfield(L, -2, functions[i].name);
	}
}

void alk_policy_api_open(lua_State *L)
{
	static const char *const tables[] = {"shared", "json", "base64"};
	size_t i;

	open_cidr(L);
	alk_policy_codec_open(L);
	open_table(L, "");
	for (i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		open_table(L, tables[i]);
		alk_policy_sandbox_freeze(L);
		lua_setfield(L, -2, tables[i]);
	}
	alk_policy_sandbox_freeze(L);
	lua_setglobal(L, "alknet");
}
