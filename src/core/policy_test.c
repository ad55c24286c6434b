/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "policy_private.h"

/* The tests of a policy: a Lua script in a sandbox of its own, with `policy`, whose functions ask the
 * real engine, `test(name, fn)` and the two expectations. The main chunk collects the tests, then each
 * runs in a coroutine with a budget of its own. */

#define TEST_MS 5000
#define TEST_ASK "alknet.ask"
#define TEST_ASK_MAGIC 0x51534b41u
#define LIST_MAX 64

struct tester {
	struct alk_sandbox box;
	struct alk_policy *policy;
	int tests; /* reference to a list of {name, fn} */
	int count;
};

/* A question as the test script put it: everything that C must give back if Lua raises. */
struct test_ask {
	uint32_t magic;
	struct alk_ask ask;
	struct alk_link link;
	struct alk_destination to;
	struct alk_grant *grant;
	struct alk_answer answer;
};

static int test_ask_gc(lua_State *L)
{
	struct test_ask *t = luaL_checkudata(L, 1, TEST_ASK);

	if (t->magic != TEST_ASK_MAGIC)
		return 0;
	alk_grant_unref(&t->grant);
	alk_grant_unref(&t->answer.grant);
	t->magic = 0;
	return 0;
}

static struct test_ask *test_ask_new(lua_State *L)
{
	struct test_ask *t = lua_newuserdatauv(L, sizeof(*t), 0);

	memset(t, 0, sizeof(*t));
	t->magic = TEST_ASK_MAGIC;
	luaL_setmetatable(L, TEST_ASK);
	t->link = (struct alk_link){.fd = -1,
				    .transport = "tcp",
				    .remote_addr = "192.0.2.1",
				    .remote_port = 50000,
				    .local_addr = "192.0.2.2",
				    .local_port = 22};
	t->ask.link = &t->link;
	t->ask.user = "user";
	return t;
}

/* A key that the engine does not know is a mistake in the test. */
static void check_keys(lua_State *L, int index, const char *what, const char *known)
{
	const char *key, *found;
	size_t len;

	luaL_checktype(L, index, LUA_TTABLE);
	for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
		key = lua_type(L, -2) == LUA_TSTRING ? lua_tolstring(L, -2, &len) : NULL;
		found = key ? strstr(known, key) : NULL;
		while (found && (found == known || found[-1] != ' ' || found[len] != ' '))
			found = strstr(found + 1, key);
		if (!found)
			luaL_error(L, "%s has no key %s", what, key ? key : luaL_typename(L, -2));
	}
}

static void take_text(lua_State *L, int index, const char *key, char *out, size_t size)
{
	const char *text;
	size_t len;

	if (lua_getfield(L, index, key) != LUA_TNIL) {
		text = lua_tolstring(L, -1, &len);
		if (!text || len >= size)
			luaL_error(L, "%s must be a text shorter than %d bytes", key, (int)size);
		memcpy(out, text, len + 1);
	}
	lua_pop(L, 1);
}

/* The string stays in the caller's table. */
static void borrow_text(lua_State *L, int index, const char *key, const char **out)
{
	if (lua_getfield(L, index, key) != LUA_TNIL) {
		if (lua_type(L, -1) != LUA_TSTRING)
			luaL_error(L, "%s must be a text", key);
		*out = lua_tostring(L, -1);
	}
	lua_pop(L, 1);
}

static void take_port(lua_State *L, int index, const char *key, uint16_t *port)
{
	lua_Integer n;

	if (lua_getfield(L, index, key) != LUA_TNIL) {
		n = luaL_checkinteger(L, -1);
		if (n < 0 || n > 65535)
			luaL_error(L, "%s must be a port", key);
		*port = (uint16_t)n;
	}
	lua_pop(L, 1);
}

static void take_link(lua_State *L, int index, struct alk_link *link)
{
	check_keys(L, index, "a link",
		   " transport remote_addr remote_port local_addr local_port sni alpn peer_id ");
	take_text(L, index, "transport", link->transport, sizeof(link->transport));
	take_text(L, index, "remote_addr", link->remote_addr, sizeof(link->remote_addr));
	take_text(L, index, "local_addr", link->local_addr, sizeof(link->local_addr));
	take_text(L, index, "sni", link->sni, sizeof(link->sni));
	take_text(L, index, "alpn", link->alpn, sizeof(link->alpn));
	take_text(L, index, "peer_id", link->peer_id, sizeof(link->peer_id));
	take_port(L, index, "remote_port", &link->remote_port);
	take_port(L, index, "local_port", &link->local_port);
}

static void take_link_of(lua_State *L, int index, struct test_ask *t)
{
	if (lua_getfield(L, index, "link") != LUA_TNIL)
		take_link(L, lua_gettop(L), &t->link);
	lua_pop(L, 1);
}

static void borrow_list(lua_State *L, int index, const char *key, const char **list)
{
	lua_Integer i, n;

	if (lua_getfield(L, index, key) != LUA_TNIL) {
		luaL_checktype(L, -1, LUA_TTABLE);
		n = (lua_Integer)lua_rawlen(L, -1);
		if (n > LIST_MAX)
			luaL_error(L, "%s has more than %d entries", key, LIST_MAX);
		for (i = 0; i < n; i++) {
			if (lua_rawgeti(L, -1, i + 1) != LUA_TSTRING)
				luaL_error(L, "%s must hold texts", key);
			list[i] = lua_tostring(L, -1);
			lua_pop(L, 1);
		}
	}
	lua_pop(L, 1);
}

static void take_identity(lua_State *L, int index, struct test_ask *t)
{
	const char *id = NULL;
	const char *scopes[LIST_MAX + 1] = {NULL}, *resources[LIST_MAX + 1] = {NULL};

	if (lua_getfield(L, index, "identity") != LUA_TNIL) {
		check_keys(L, lua_gettop(L), "an identity", " id scopes resources ");
		borrow_text(L, lua_gettop(L), "id", &id);
		borrow_list(L, lua_gettop(L), "scopes", scopes);
		borrow_list(L, lua_gettop(L), "resources", resources);
	}
	t->grant = alk_grant_new(id, t->ask.user, NULL, scopes, resources);
	if (!t->grant)
		luaL_error(L, "not enough memory");
	t->ask.grant = t->grant;
	lua_pop(L, 1);
}

static void take_session(lua_State *L, int index, struct test_ask *t)
{
	check_keys(L, index, "a session", " id user identity link ");
	t->ask.session = 1;
	if (lua_getfield(L, index, "id") != LUA_TNIL)
		t->ask.session = (uint64_t)luaL_checkinteger(L, -1);
	lua_pop(L, 1);
	borrow_text(L, index, "user", &t->ask.user);
	take_identity(L, index, t);
	take_link_of(L, index, t);
}

static void take_request(lua_State *L, int index, struct test_ask *t)
{
	check_keys(L, index, "a request", " user key_type key_fingerprint key link ");
	t->ask.key_type = "ssh-ed25519";
	t->ask.key_fingerprint = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
	t->ask.key = "AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
	borrow_text(L, index, "user", &t->ask.user);
	borrow_text(L, index, "key_type", &t->ask.key_type);
	borrow_text(L, index, "key_fingerprint", &t->ask.key_fingerprint);
	borrow_text(L, index, "key", &t->ask.key);
	take_link_of(L, index, t);
}

static void take_destination(lua_State *L, int index, struct test_ask *t)
{
	check_keys(L, index, "a destination", " host port path originator originator_port ");
	t->to.port = 443;
	take_text(L, index, "host", t->to.host, sizeof(t->to.host));
	take_text(L, index, "path", t->to.path, sizeof(t->to.path));
	take_text(L, index, "originator", t->to.originator, sizeof(t->to.originator));
	take_port(L, index, "port", &t->to.port);
	take_port(L, index, "originator_port", &t->to.originator_port);
	t->ask.to = &t->to;
}

static void take_bind(lua_State *L, int index, struct test_ask *t)
{
	check_keys(L, index, "a bind", " host port path ");
	take_text(L, index, "host", t->to.host, sizeof(t->to.host));
	take_text(L, index, "path", t->to.path, sizeof(t->to.path));
	take_port(L, index, "port", &t->to.port);
	t->ask.to = &t->to;
}

static void take_stats(lua_State *L, int index, struct test_ask *t)
{
	check_keys(L, index, "stats", " duration reason ");
	if (lua_getfield(L, index, "duration") != LUA_TNIL)
		t->ask.duration = luaL_checknumber(L, -1);
	lua_pop(L, 1);
	borrow_text(L, index, "reason", &t->ask.reason);
}

static void take_arguments(lua_State *L, struct test_ask *t)
{
	switch (t->ask.question) {
	case ALK_QUESTION_LINK:
		take_link(L, 1, &t->link);
		break;
	case ALK_QUESTION_AUTH:
		take_request(L, 1, t);
		break;
	case ALK_QUESTION_OPEN:
		take_session(L, 1, t);
		take_destination(L, 2, t);
		break;
	case ALK_QUESTION_LISTEN:
		take_session(L, 1, t);
		take_bind(L, 2, t);
		break;
	case ALK_QUESTION_CLOSE:
		take_session(L, 1, t);
		take_stats(L, 2, t);
		break;
	case ALK_QUESTION_COUNT:
		break;
	}
}

static void set_string(lua_State *L, const char *key, const char *text)
{
	if (!text || !*text)
		return;
	lua_pushstring(L, text);
	lua_setfield(L, -2, key);
}

static void set_strings(lua_State *L, const char *key, char *const *list)
{
	lua_Integer i;

	lua_newtable(L);
	for (i = 0; list && list[i]; i++) {
		lua_pushstring(L, list[i]);
		lua_rawseti(L, -2, i + 1);
	}
	lua_setfield(L, -2, key);
}

static void push_forward(lua_State *L, const struct alk_answer *answer)
{
	lua_newtable(L);
	set_string(L, "host", answer->host);
	set_string(L, "path", answer->path);
	set_string(L, "bind", answer->bind);
	if (answer->port == 0)
		return;
	lua_pushinteger(L, answer->port);
	lua_setfield(L, -2, "port");
}

/* Pushes what came with the word. */
static void push_detail(lua_State *L, enum alk_question question, const struct alk_answer *answer)
{
	if (answer->verdict == ALK_VERDICT_FORWARD ||
	    (answer->verdict == ALK_VERDICT_ALLOW && question == ALK_QUESTION_LISTEN)) {
		push_forward(L, answer);
	} else if (answer->verdict == ALK_VERDICT_SERVICE) {
		lua_pushstring(L, answer->service);
	} else if (answer->verdict == ALK_VERDICT_DENY && answer->reason[0]) {
		lua_pushstring(L, answer->reason);
	} else if (answer->grant) {
		lua_newtable(L);
		set_string(L, "id", answer->grant->identity.id);
		set_strings(L, "scopes", answer->grant->scopes);
		set_strings(L, "resources", answer->grant->resources);
	} else {
		lua_pushnil(L);
	}
}

/* policy.on_NAME(...): the word, what came with it, and how it was found. */
static int policy_ask(lua_State *L)
{
	struct alk_policy *policy = lua_touserdata(L, lua_upvalueindex(1));
	struct test_ask *t;
	const struct alk_answer *answer;

	lua_settop(L, 2);
	t = test_ask_new(L);
	t->ask.question = (enum alk_question)lua_tointeger(L, lua_upvalueindex(2));
	take_arguments(L, t);
	alk_policy_ask_now(policy, &t->ask, &t->answer);
	answer = &t->answer;
	if (t->ask.question == ALK_QUESTION_CLOSE)
		lua_pushnil(L);
	else
		lua_pushstring(L, alk_verdict_str(answer->verdict));
	push_detail(L, t->ask.question, answer);
	lua_newtable(L);
	lua_pushboolean(L, answer->failed);
	lua_setfield(L, -2, "failed");
	lua_pushstring(L, answer->where);
	lua_setfield(L, -2, "where");
	return 3;
}

static int test_add(lua_State *L)
{
	struct tester *tester = lua_touserdata(L, lua_upvalueindex(1));
	const char *name = luaL_checkstring(L, 1), *p;

	luaL_checktype(L, 2, LUA_TFUNCTION);
	for (p = name; *p; p++)
		luaL_argcheck(L, (unsigned char)*p >= ' ', 1, "a name is one line");
	if (tester->count < 0)
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
	static const char *const names[ALK_QUESTION_COUNT] = {
#define X(id_, name_, words_) [ALK_QUESTION_##id_] = name_,
		ALK_QUESTIONS(X)
#undef X
	};
	struct tester *tester = lua_touserdata(L, 1);
	int i;

	luaL_newmetatable(L, TEST_ASK);
	lua_pushcfunction(L, test_ask_gc);
	lua_setfield(L, -2, "__gc");
	lua_newtable(L);
	tester->tests = luaL_ref(L, LUA_REGISTRYINDEX);
	lua_newtable(L);
	for (i = 0; i < ALK_QUESTION_COUNT; i++) {
		lua_pushlightuserdata(L, tester->policy);
		lua_pushinteger(L, i);
		lua_pushcclosure(L, policy_ask, 2);
		lua_setfield(L, -2, names[i]);
	}
	alk_sandbox_freeze(L);
	lua_setglobal(L, "policy");
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

static bool one_test_run(struct tester *tester, int n, FILE *out)
{
	struct one_test one = {.tester = tester, .n = n};
	struct alk_run run;
	int rc;

	rc = alk_run_start(&tester->box, &run, TEST_MS, one_test_push, &one);
	if (rc == 0)
		rc = alk_run_resume(&tester->box, &run, TEST_MS);
	fprintf(out, "%s %d - %s\n", rc == 0 ? "ok" : "not ok", n + 1, one.name);
	if (rc == -EAGAIN)
		fprintf(out, "# the test yielded\n");
	else if (rc < 0)
		fprintf(out, "# %s\n", run.error);
	alk_run_end(&tester->box, &run);
	return rc == 0;
}

static int tests_run(struct tester *tester, FILE *out)
{
	int n = tester->count, i, failed = 0;

	tester->count = -1;
	fprintf(out, "1..%d\n", n);
	for (i = 0; i < n; i++)
		if (!one_test_run(tester, i, out))
			failed++;
	fprintf(out, "# %d passed, %d failed\n", n - failed, failed);
	return failed;
}

static int tester_run(struct tester *tester, const char *name, const char *text, size_t len,
		      FILE *out, struct alk_err *err)
{
	struct alk_run run;
	char why[256];
	int rc;

	rc = alk_sandbox_init(&tester->box, name, 0, err);
	if (rc < 0)
		return rc;
	if (alk_sandbox_call(&tester->box, tester_open, tester, why, sizeof(why)) < 0)
		rc = alk_err_set(err, -ENOMEM, "%s: %s", name, why);
	else {
		rc = alk_sandbox_load(&tester->box, &run, text, len, TEST_MS, err);
		alk_run_end(&tester->box, &run);
	}
	if (rc == 0 && tester->count == 0)
		rc = alk_err_set(err, -EINVAL, "%s: has no tests", name);
	if (rc == 0)
		rc = tests_run(tester, out);
	alk_sandbox_deinit(&tester->box);
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

int alk_policy_test_file(const char *path, FILE *out, struct alk_err *err)
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
		rc = tester_run(&tester, base_name(tests), text, len, out, err);
	free(text);
	alk_policy_free(&tester.policy);
	return rc;
}
