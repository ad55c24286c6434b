/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "policy_private.h"

/* alknet.resolve and alknet.sleep: they note what to wait for and yield to the engine
 * (policy_ask.c), which resumes the question when it is there. They work in the question's own
 * coroutine alone: in one of the script's the yield would go to the script. */

static int check_waits(lua_State *L, const char *name)
{
	struct alk_policy_sandbox *box = alk_policy_sandbox_of(L);

	if (!box->wait)
		return luaL_error(
			L,
			"alknet.%s waits, which only a question can, and not on_listen or on_close",
			name);
	if (box->asked != L)
		return luaL_error(L, "alknet.%s cannot wait in a coroutine of the script", name);
	if (!lua_isyieldable(L))
		return luaL_error(L, "alknet.%s cannot wait in a function that a library calls",
				  name);
	if (box->wait->count >= ALK_POLICY_WAITS_MAX)
		return luaL_error(L, "the question has waited %d times", ALK_POLICY_WAITS_MAX);
	box->wait->count++;
	return 0;
}

static int resolve_done(lua_State *L, int status, lua_KContext ctx)
{
	const struct alk_wait *wait = alk_policy_sandbox_of(L)->wait;
	size_t i;

	(void)status;
	(void)ctx;
	if (wait->n == 0) {
		lua_pushnil(L);
		lua_pushstring(L, wait->why);
		return 2;
	}
	lua_createtable(L, (int)wait->n, 0);
	for (i = 0; i < wait->n; i++) {
		lua_pushstring(L, wait->addr[i]);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}

static int resolve_failed(lua_State *L, const char *why)
{
	lua_pushnil(L);
	lua_pushstring(L, why);
	return 2;
}

/* An address is its own answer, written as every other answer is. */
static int resolve_address(lua_State *L, const struct alk_sockaddr *addr)
{
	char text[46];
	uint16_t port;

	alk_addr_format(&addr->sa, addr->len, text, sizeof(text), &port);
	lua_createtable(L, 1, 0);
	lua_pushstring(L, text);
	lua_rawseti(L, -2, 1);
	return 1;
}

int alk_api_resolve(lua_State *L)
{
	struct alk_err err = {.text = ""};
	struct alk_sockaddr addr;
	struct alk_wait *wait;
	size_t len;
	const char *host = luaL_checklstring(L, 1, &len);

	if (strlen(host) != len || len > ALK_POLICY_TEXT_MAX)
		return resolve_failed(L, "not a host name");
	if (strchr(host, '%'))
		return resolve_failed(L, "an address with a zone");
	if (alk_addr_parse(&addr, host, 0) == 0)
		return resolve_address(L, &addr);
	if (alk_destination_reserved(host))
		return resolve_failed(L, "a reserved destination has no address");
	if (alk_addr_check_name(host, &err) < 0)
		return resolve_failed(L, err.text);
	check_waits(L, "resolve");
	wait = alk_policy_sandbox_of(L)->wait;
	wait->kind = ALK_WAIT_RESOLVE;
	wait->n = 0;
	snprintf(wait->host, sizeof(wait->host), "%s", host);
	return lua_yieldk(L, 0, 0, resolve_done);
}

static int sleep_done(lua_State *L, int status, lua_KContext ctx)
{
	(void)status;
	(void)ctx;
	lua_pushboolean(L, 1);
	return 1;
}

/* Longer than any question lasts is a mistake: said now and not when the time is over. */
int alk_api_sleep(lua_State *L)
{
	lua_Number seconds = luaL_checknumber(L, 1);
	struct alk_wait *wait;

	luaL_argcheck(L, seconds >= 0 && isfinite(seconds), 1, "not a number of seconds");
	luaL_argcheck(L, seconds <= ALK_POLICY_TOTAL_MS / 1000.0, 1,
		      "longer than a question may take");
	check_waits(L, "sleep");
	wait = alk_policy_sandbox_of(L)->wait;
	wait->kind = ALK_WAIT_SLEEP;
	wait->ms = (uint64_t)ceil(seconds * 1000);
	return lua_yieldk(L, 0, 0, sleep_done);
}
