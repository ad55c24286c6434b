/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The policy's pattern matcher against the one of the Lua library: the same results, or both fail.
 * The first byte of the input chooses the function, then come the pattern, a NUL, and the text. */
#include "policy_private.h"

#include <lualib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static const char driver[] =
	"local op, s, p = ...\n"
	"local function show(...)\n"
	"	local t = table.pack(...)\n"
	"	for i = 1, t.n do t[i] = tostring(t[i]) end\n"
	"	return table.concat(t, '|')\n"
	"end\n"
	"local function all(iterator)\n"
	"	local t = {}\n"
	"	for a, b, c in iterator do t[#t + 1] = show(a, b, c) end\n"
	"	return table.concat(t, '/')\n"
	"end\n"
	"local calls = {\n"
	"	function() return show(string.find(s, p)) end,\n"
	"	function() return show(string.match(s, p, 2)) end,\n"
	"	function() return all(string.gmatch(s, p)) end,\n"
	"	function() return show(string.gsub(s, p, '<%0>')) end,\n"
	"	function() return show(string.gsub(s, p, '%1%%%2', 3)) end,\n"
	"	function() return show(string.gsub(s, p, function(...) return show(...) end)) end,\n"
	"	function() return show(string.gsub(s, p, { a = 'b', [''] = false })) end,\n"
	"	function() return show(string.find(s, p, -3)) end,\n"
	"	function() return show(string.find(s, p, 1, true)) end,\n"
	"	function() return all(string.gmatch(s, p, -4)) end,\n"
	"}\n"
	"local ok, result = pcall(calls[op % #calls + 1])\n"
	"return ok and result or 'error'\n";

struct input {
	int op;
	const char *pattern, *text;
	size_t pattern_len, text_len;
};

static int push_arguments(lua_State *L, const struct input *input)
{
	if (luaL_loadbufferx(L, driver, sizeof(driver) - 1, "=driver", "t") != LUA_OK)
		abort();
	lua_pushinteger(L, input->op);
	lua_pushlstring(L, input->text, input->text_len);
	lua_pushlstring(L, input->pattern, input->pattern_len);
	return 4;
}

static int push_input(lua_State *L, void *user)
{
	return push_arguments(L, user);
}

/* Text is copied out; NULL when the time was over. */
static char *ours(struct input *input, size_t *len)
{
	static struct alk_policy_sandbox box;
	struct alk_run run;
	const char *text;
	char *copy = NULL;

	if (!box.L && alk_policy_sandbox_init(&box, "fuzz", 0, NULL) < 0)
		abort();
	if (alk_run_start(&box, &run, 0, push_input, input) == 0 &&
	    alk_run_resume(&box, &run, 2) == 0) {
		text = lua_tolstring(run.co, -1, len);
		copy = malloc(*len + 1);
		if (!copy)
			abort();
		memcpy(copy, text, *len + 1);
	}
	alk_run_end(&box, &run);
	/* Or the search for leaks takes what is not collected yet for one, each time. */
	lua_gc(box.L, LUA_GCCOLLECT);
	return copy;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static lua_State *stock;
	struct input input;
	const char *theirs;
	const uint8_t *nul;
	size_t len, their_len;
	char *mine;

	if (n < 2 || !(nul = memchr(bytes + 1, 0, n - 1)))
		return 0;
	input.op = bytes[0];
	input.pattern = (const char *)bytes + 1;
	input.pattern_len = (size_t)(nul - bytes) - 1;
	input.text = (const char *)nul + 1;
	input.text_len = n - input.pattern_len - 2;
	if (input.pattern_len > ALK_POLICY_PATTERN_MAX || input.text_len > ALK_POLICY_TEXT_MAX)
		return 0;
	mine = ours(&input, &len);
	if (!mine)
		return 0;
	if (!stock) {
		stock = luaL_newstate();
		luaL_openlibs(stock);
	}
	lua_call(stock, push_arguments(stock, &input) - 1, 1);
	theirs = lua_tolstring(stock, -1, &their_len);
	if (len != their_len || memcmp(mine, theirs, len) != 0) {
		fprintf(stderr, "ours:   %s\ntheirs: %s\n", mine, theirs);
		abort();
	}
	lua_pop(stock, 1);
	lua_gc(stock, LUA_GCCOLLECT);
	free(mine);
	return 0;
}
