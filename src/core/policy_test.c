/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "policy_test.h"

/* The tests of a policy: a Lua script in a sandbox of its own, with `policy`, whose functions ask
 * the real engine, `test(name, fn)` and the two expectations. The main chunk collects the tests,
 * then each runs in a coroutine with a budget of its own. */

#define TEST_MS 5000

static int test_add(lua_State *L)
{
	struct tester *tester = lua_touserdata(L, lua_upvalueindex(1));
	const char *name = luaL_checkstring(L, 1), *p;

	luaL_checktype(L, 2, LUA_TFUNCTION);
	for (p = name; *p; p++)
		luaL_argcheck(L, (unsigned char)*p >= ' ', 1, "a name is one line");
	if (tester->running)
		return luaL_error(L, "a test cannot hold another");
	lua_rawgeti(L, LUA_REGISTRYINDEX, tester->tests);
	lua_pushvalue(L, 1);
	lua_rawseti(L, -2, 2 * tester->count + 1);
	lua_pushvalue(L, 2);
	lua_rawseti(L, -2, 2 * tester->count + 2);
	tester->count++;
	return 0;
}

static int test_expect(lua_State *L)
{
	luaL_checkany(L, 1);
	if (lua_toboolean(L, 1))
		return 0;
	luaL_where(L, 1);
	lua_pushstring(L, luaL_optstring(L, 2, "expected something true"));
	lua_concat(L, 2);
	return lua_error(L);
}

static int test_expect_equal(lua_State *L)
{
	luaL_checkany(L, 2);
	if (lua_compare(L, 1, 2, LUA_OPEQ))
		return 0;
	luaL_tolstring(L, 1, NULL);
	luaL_tolstring(L, 2, NULL);
	return luaL_error(L, "got %s, expected %s", lua_tostring(L, -2), lua_tostring(L, -1));
}

static int tester_open(lua_State *L)
{
	struct tester *tester = lua_touserdata(L, 1);

	alk_test_ask_open(L, tester);
	lua_newtable(L);
	tester->tests = luaL_ref(L, LUA_REGISTRYINDEX);
	lua_pushlightuserdata(L, tester);
	lua_pushcclosure(L, test_add, 1);
	lua_setglobal(L, "test");
	lua_register(L, "expect", test_expect);
	lua_register(L, "expect_equal", test_expect_equal);
	return 0;
}

struct one_test {
	struct tester *tester;
	int n;
	char name[128];
};

static int one_test_push(lua_State *L, void *user)
{
	struct one_test *one = user;

	lua_rawgeti(L, LUA_REGISTRYINDEX, one->tester->tests);
	lua_rawgeti(L, -1, 2 * one->n + 1);
	snprintf(one->name, sizeof(one->name), "%s", lua_tostring(L, -1));
	lua_pop(L, 1);
	lua_rawgeti(L, -1, 2 * one->n + 2);
	lua_remove(L, -2);
	return 1;
}

static bool one_test_run(struct tester *tester, int n, alk_policy_test_fn *told, void *user)
{
	struct one_test one = {.tester = tester, .n = n};
	struct alk_run run;
	int rc;

	alk_test_forget(tester);
	rc = alk_run_start(&tester->box, &run, TEST_MS, one_test_push, &one);
	if (rc == 0)
		rc = alk_run_resume(&tester->box, &run, TEST_MS);
	told(user, n + 1, tester->count, one.name, rc == 0 ? NULL : run.error);
	alk_run_end(&tester->box, &run);
	return rc == 0;
}

static int tests_run(struct tester *tester, alk_policy_test_fn *told, void *user)
{
	int i, failed = 0;

	tester->running = true;
	for (i = 0; i < tester->count; i++)
		if (!one_test_run(tester, i, told, user))
			failed++;
	return failed;
}

static int tester_run(struct tester *tester, const char *name, const char *text, size_t len,
		      alk_policy_test_fn *told, void *user, struct alk_err *err)
{
	struct alk_run run;
	char why[256];
	int rc;

	rc = alk_policy_sandbox_init(&tester->box, name, 0, err);
	if (rc < 0)
		return rc;
	if (alk_policy_sandbox_call(&tester->box, tester_open, tester, why, sizeof(why)) < 0)
		rc = alk_err_set(err, -ENOMEM, "%s: %s", name, why);
	else {
		rc = alk_policy_sandbox_load(&tester->box, &run, text, len, TEST_MS, err);
		alk_run_end(&tester->box, &run);
	}
	if (rc == 0 && tester->count == 0)
		rc = alk_err_set(err, -EINVAL, "%s: has no tests", name);
	if (rc == 0)
		rc = tests_run(tester, told, user);
	alk_policy_sandbox_deinit(&tester->box);
	return rc;
}

static int script_read(const char *path, char **text, size_t *len, struct alk_err *err)
{
	FILE *file = fopen(path, "re");
	int rc;

	*text = NULL;
	if (!file)
		return alk_err_set(err, -errno, "%s: %m", path);
	*text = malloc(ALK_POLICY_SCRIPT_MAX + 1);
	*len = *text ? fread(*text, 1, ALK_POLICY_SCRIPT_MAX + 1, file) : 0;
	if (!*text)
		rc = alk_err_set(err, -ENOMEM, "not enough memory");
	else if (ferror(file))
		rc = alk_err_set(err, -EIO, "%s: cannot be read", path);
	else
		rc = 0;
	fclose(file);
	return rc;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* NAME.lua has NAME_test.lua beside it. */
static int test_path(const char *path, char *out, size_t size, struct alk_err *err)
{
	size_t len = strlen(path);

	if (len > 4 && strcmp(path + len - 4, ".lua") == 0)
		len -= 4;
	if (len + sizeof("_test.lua") > size)
		return alk_err_set(err, -ENAMETOOLONG, "%s: the path is too long", path);
	snprintf(out, size, "%.*s_test.lua", (int)len, path);
	return 0;
}

int alk_policy_test_each(const char *path, alk_policy_test_fn *told, void *user,
			 struct alk_err *err)
{
	struct tester tester = {.count = 0};
	char tests[4096], *text = NULL;
	size_t len = 0;
	int rc;

	rc = test_path(path, tests, sizeof(tests), err);
	if (rc == 0)
		rc = script_read(path, &text, &len, err);
	if (rc == 0) {
		tester.policy = alk_policy_new(NULL, base_name(path), text, len, NULL, err);
		rc = tester.policy ? 0 : -EINVAL;
	}
	free(text);
	text = NULL;
	if (rc == 0)
		rc = script_read(tests, &text, &len, err);
	if (rc == 0)
		rc = tester_run(&tester, base_name(tests), text, len, told, user, err);
	free(text);
	alk_policy_free(&tester.policy);
	return rc;
}

struct tap {
	FILE *out;
	int passed, failed;
};

static void tap_print(void *user, int n, int of, const char *name, const char *why)
{
	struct tap *tap = user;

	if (n == 1)
		fprintf(tap->out, "1..%d\n", of);
	fprintf(tap->out, "%s %d - %s\n", why ? "not ok" : "ok", n, name);
	if (why)
		fprintf(tap->out, "# %s\n", why);
	if (why)
		tap->failed++;
	else
		tap->passed++;
}

int alk_policy_test_file(const char *path, FILE *out, struct alk_err *err)
{
	struct tap tap = {.out = out};
	int rc = alk_policy_test_each(path, tap_print, &tap, err);

	if (rc >= 0)
		fprintf(out, "# %d passed, %d failed\n", tap.passed, tap.failed);
	return rc;
}
