/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What a policy hands texts to that came from peers: networks, globs, base64 and JSON. The first
 * byte of the input chooses; then come a text, a NUL, and another. */
#include "policy_private.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* Each says what must hold of its two texts; another error is an answer too. */
static const char driver[] =
	"local op, a, b = ...\n"
	"local function hold(yes, what) if not yes then error('broken: ' .. what, 0) end end\n"
	"local calls = {\n"
	"	function()\n"
	"		local ok, net = pcall(alknet.cidr, a)\n"
	"		if not ok then return end\n"
	"		local address = a:match('^[^/]*')\n"
	"		hold(net:contains(address) == true, 'a network has its own address')\n"
	"		hold(tostring(net) == tostring(alknet.cidr(a)), 'parsed twice')\n"
	"		local has = net:contains(b)\n"
	"		hold(has == nil or has == true or has == false, 'a word of another kind')\n"
	"		if has ~= nil then hold(alknet.cidr('::/0'):contains(b) == true, 'in no network') end\n"
	"	end,\n"
	"	function()\n"
	"		hold(alknet.glob(a, b) == alknet.glob(a:upper(), b:lower()), 'letters count')\n"
	"		hold(alknet.glob('*', b), 'all match *')\n"
	"		if not a:find('[*?]') and not a:find('%.$') then\n"
	"			hold(alknet.glob(a, a), 'a text matches itself')\n"
	"		end\n"
	"		if alknet.glob(a, b) then hold(alknet.glob(a .. '*', b), 'a longer pattern fails') end\n"
	"	end,\n"
	"	function()\n"
	"		hold(alknet.base64.decode(alknet.base64.encode(a)) == a, 'not the same bytes')\n"
	"		local bytes = alknet.base64.decode(b)\n"
	"		if bytes then hold(alknet.base64.encode(bytes) == b, 'two ways to write it') end\n"
	"	end,\n"
	"	function()\n"
	"		local value = alknet.json.decode(a)\n"
	"		if value == nil then return end\n"
	"		local text = alknet.json.encode(value)\n"
	"		hold(text, 'cannot be written again')\n"
	"		hold(alknet.json.encode(alknet.json.decode(text)) == text, 'not the same again')\n"
	"	end,\n"
	"	function()\n"
	"		local has = alknet.suffix(a, b)\n"
	"		if has and #b > 0 and not a:find('%.$') and not b:find('%.$') then\n"
	"			hold(a:sub(-#b):lower() == b:lower(), 'no such end')\n"
	"		end\n"
	"	end,\n"
	"}\n"
	"local ok, why = pcall(calls[op % #calls + 1])\n"
	"return ok and '' or tostring(why)\n";

struct input {
	int op;
	const char *a, *b;
	size_t a_len, b_len;
};

static int push_input(lua_State *L, void *user)
{
	const struct input *input = user;

	if (luaL_loadbufferx(L, driver, sizeof(driver) - 1, "=driver", "t") != LUA_OK)
		abort();
	lua_pushinteger(L, input->op);
	lua_pushlstring(L, input->a, input->a_len);
	lua_pushlstring(L, input->b, input->b_len);
	return 4;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static struct alk_policy_sandbox box;
	struct alk_run run;
	struct input input;
	const uint8_t *nul;

	if (n < 2 || n > 4096 || !(nul = memchr(bytes + 1, 0, n - 1)))
		return 0;
	input.op = bytes[0];
	input.a = (const char *)bytes + 1;
	input.a_len = (size_t)(nul - bytes) - 1;
	input.b = (const char *)nul + 1;
	input.b_len = n - input.a_len - 2;
	if (!box.L && alk_policy_sandbox_init(&box, "fuzz", 0, NULL) < 0)
		abort();
	if (alk_run_start(&box, &run, 0, push_input, &input) == 0 &&
	    alk_run_resume(&box, &run, 100) == 0 &&
	    strncmp(lua_tostring(run.co, -1), "broken: ", 8) == 0) {
		fprintf(stderr, "%s\n", lua_tostring(run.co, -1));
		abort();
	}
	alk_run_end(&box, &run);
	lua_gc(box.L, LUA_GCCOLLECT);
	return 0;
}
