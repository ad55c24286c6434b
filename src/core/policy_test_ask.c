/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>
#include "policy_test.h"

/* How the tests of a policy ask it: tables become a question, the answer becomes values; and the
 * names and the time that a test gives in place of the real ones. */

#define TEST_ASK "alknet.ask"
#define TEST_ASK_MAGIC 0x51534b41u
#define LIST_MAX 64
#define OPTIONS_MAX 16

/* A question as the test script put it: everything that C must give back if Lua raises. */
struct test_ask {
	uint32_t magic;
	struct alk_ask ask;
	struct alk_link link;
	struct alk_destination to;
	struct alk_grant *grant;
	struct alk_ask_cert cert;
	char serial[24];
	const char *principals[LIST_MAX + 1];
	const char *critical[2 * OPTIONS_MAX + 1], *extensions[2 * OPTIONS_MAX + 1];
	struct alk_answer answer;
	json_t *value;
};

static int test_ask_gc(lua_State *L)
{
	struct test_ask *t = luaL_checkudata(L, 1, TEST_ASK);

	if (t->magic != TEST_ASK_MAGIC)
		return 0;
	alk_grant_unref(&t->grant);
	alk_grant_unref(&t->answer.grant);
	json_decref(t->answer.output);
	json_decref(t->value);
	t->value = t->answer.output = NULL;
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
		found = key && len > 0 && strlen(key) == len ? strstr(known, key) : NULL;
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

/* {name = value, ...} */
static void borrow_options(lua_State *L, int index, const char *key, const char **list)
{
	int n = 0;

	if (lua_getfield(L, index, key) != LUA_TNIL) {
		luaL_checktype(L, -1, LUA_TTABLE);
		for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
			if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING)
				luaL_error(L, "%s must hold texts under names", key);
			if (n == 2 * OPTIONS_MAX)
				luaL_error(L, "%s has more than %d entries", key, OPTIONS_MAX);
			list[n++] = lua_tostring(L, -2);
			list[n++] = lua_tostring(L, -1);
		}
	}
	lua_pop(L, 1);
}

static uint64_t seconds_at(lua_State *L, int index, const char *key, uint64_t fallback)
{
	lua_Integer n;

	if (lua_getfield(L, index, key) != LUA_TNIL) {
		n = luaL_checkinteger(L, -1);
		fallback = n > 0 ? (uint64_t)n : 0;
	}
	lua_pop(L, 1);
	return fallback;
}

static void take_cert(lua_State *L, int index, struct test_ask *t)
{
	check_keys(L, index, "a certificate",
		   " key_id serial ca_fingerprint principals critical_options extensions "
		   "valid_after valid_before ");
	t->cert = (struct alk_ask_cert){
		.key_id = "",
		.ca_fingerprint = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		.principals = t->principals,
		.critical_options = t->critical,
		.extensions = t->extensions,
		.valid_after = seconds_at(L, index, "valid_after", 0),
		.valid_before = seconds_at(L, index, "valid_before", UINT64_MAX),
	};
	borrow_text(L, index, "key_id", &t->cert.key_id);
	borrow_text(L, index, "ca_fingerprint", &t->cert.ca_fingerprint);
	take_text(L, index, "serial", t->serial, sizeof(t->serial));
	t->cert.serial = strtoull(t->serial, NULL, 10);
	borrow_list(L, index, "principals", t->principals);
	borrow_options(L, index, "critical_options", t->critical);
	borrow_options(L, index, "extensions", t->extensions);
	t->ask.cert = &t->cert;
}

static void take_request(lua_State *L, int index, struct test_ask *t)
{
	check_keys(L, index, "a request", " user key_type key_fingerprint key certificate link ");
	t->ask.key_type = "ssh-ed25519";
	t->ask.key_fingerprint = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
	t->ask.key = "AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
	borrow_text(L, index, "user", &t->ask.user);
	borrow_text(L, index, "key_type", &t->ask.key_type);
	borrow_text(L, index, "key_fingerprint", &t->ask.key_fingerprint);
	borrow_text(L, index, "key", &t->ask.key);
	if (lua_getfield(L, index, "certificate") != LUA_TNIL)
		take_cert(L, lua_gettop(L), t);
	lua_pop(L, 1);
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
	check_keys(L, index, "a bind", " host port path gateway_ports ");
	take_text(L, index, "host", t->to.host, sizeof(t->to.host));
	take_text(L, index, "path", t->to.path, sizeof(t->to.path));
	take_port(L, index, "port", &t->to.port);
	lua_getfield(L, index, "gateway_ports");
	t->ask.gateway_ports = lua_toboolean(L, -1);
	lua_pop(L, 1);
	/* As the server does before it asks. */
	if (!t->ask.gateway_ports && !t->to.path[0] && !alk_bind_is_loopback(&t->to))
		strcpy(t->to.host, "localhost");
	t->ask.to = &t->to;
}

static void take_envelope(lua_State *L, int index, struct test_ask *t)
{
	check_keys(L, index, "an envelope",
		   t->ask.question == ALK_QUESTION_EVENT ? " type id size payload "
							 : " type id size ");
	t->ask.name = "";
	t->ask.id = "";
	borrow_text(L, index, "type", &t->ask.name);
	borrow_text(L, index, "id", &t->ask.id);
	if (lua_getfield(L, index, "size") != LUA_TNIL)
		t->ask.size = (size_t)luaL_checkinteger(L, -1);
	lua_pop(L, 1);
}

static void take_value(lua_State *L, int index, struct test_ask *t)
{
	const char *why = "";

	t->ask.value = t->value = alk_policy_json_take(L, index, &why);
	if (!t->value)
		luaL_error(L, "%s", why);
}

static void take_event(lua_State *L, int index, struct test_ask *t)
{
	take_envelope(L, index, t);
	lua_getfield(L, index, "payload");
	take_value(L, lua_gettop(L), t);
	lua_pop(L, 1);
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
	case ALK_QUESTION_PUBLISH:
		take_session(L, 1, t);
		take_envelope(L, 2, t);
		break;
	case ALK_QUESTION_SUBSCRIBE:
	case ALK_QUESTION_CALL:
		take_session(L, 1, t);
		t->ask.name = luaL_checkstring(L, 2);
		break;
	case ALK_QUESTION_EVENT:
		take_event(L, 1, t);
		break;
	case ALK_QUESTION_CLOSE:
		take_session(L, 1, t);
		take_stats(L, 2, t);
		break;
	case ALK_QUESTION_COUNT:
	case ALK_QUESTION_OPERATION:
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
	set_string(L, "via", answer->via);
	set_string(L, "bind", answer->bind);
	if (answer->port != 0) {
		lua_pushinteger(L, answer->port);
		lua_setfield(L, -2, "port");
	}
	if (answer->proxy_protocol) {
		lua_pushboolean(L, true);
		lua_setfield(L, -2, "proxy_protocol");
	}
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
	struct tester *tester = lua_touserdata(L, lua_upvalueindex(1));
	struct test_ask *t;
	const struct alk_answer *answer;

	lua_settop(L, 2);
	t = test_ask_new(L);
	t->ask.question = (enum alk_question)lua_tointeger(L, lua_upvalueindex(2));
	take_arguments(L, t);
	alk_policy_ask_now(tester->policy, &t->ask, &t->answer);
	answer = &t->answer;
	if (t->ask.question == ALK_QUESTION_CLOSE || t->ask.question == ALK_QUESTION_EVENT)
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

/* policy.call(name, input [, session]): the operation's output; or nil, code, message. */
static int policy_call(lua_State *L)
{
	struct tester *tester = lua_touserdata(L, lua_upvalueindex(1));
	const struct alk_policy_operation *operation;
	const char *name = luaL_checkstring(L, 1);
	struct test_ask *t;

	lua_settop(L, 3);
	operation = alk_policy_operation_find(tester->policy, name);
	if (!operation)
		return luaL_error(L, "the policy has no operation %s", name);
	t = test_ask_new(L);
	t->ask.question = ALK_QUESTION_OPERATION;
	t->ask.function = alk_policy_operation_function(operation);
	t->ask.name = name;
	take_value(L, 2, t);
	if (!lua_isnil(L, 3))
		take_session(L, 3, t);
	alk_policy_ask_now(tester->policy, &t->ask, &t->answer);
	if (t->answer.output && alk_policy_json_push(L, t->answer.output))
		return 1;
	lua_pushnil(L);
	lua_pushstring(L, t->answer.code[0] ? t->answer.code : "INTERNAL");
	lua_pushstring(L, t->answer.reason);
	return 3;
}

/* ---- in place of the world ---- */

/* alknet.resolve and alknet.sleep of the policy, at once. */
static void stand_in(void *user, struct alk_wait *wait)
{
	struct tester *tester = user;
	struct alk_policy_sandbox *box = &tester->policy->box;
	const struct test_host *host = NULL;
	size_t i;

	if (wait->kind == ALK_WAIT_SLEEP) {
		if (box->given_now > 0)
			box->given_now += (double)wait->ms / 1000;
		return;
	}
	for (i = 0; i < tester->hosts; i++)
		if (strcasecmp(tester->host[i].name, wait->host) == 0)
			host = &tester->host[i];
	snprintf(wait->why, sizeof(wait->why), "no such host name");
	wait->n = host ? host->n : 0;
	if (host)
		memcpy(wait->addr, host->addr, sizeof(host->addr));
}

static void host_add(lua_State *L, struct tester *tester)
{
	struct test_host *host = &tester->host[tester->hosts];
	lua_Integer i, n;

	if (tester->hosts == ALK_TEST_HOSTS)
		luaL_error(L, "more than %d hosts", ALK_TEST_HOSTS);
	if (lua_type(L, -2) != LUA_TSTRING || strlen(lua_tostring(L, -2)) >= sizeof(host->name))
		luaL_error(L, "a host is a name");
	luaL_checktype(L, -1, LUA_TTABLE);
	n = (lua_Integer)lua_rawlen(L, -1);
	if (n > ALK_TEST_ADDRESSES)
		luaL_error(L, "a host has at most %d addresses", ALK_TEST_ADDRESSES);
	snprintf(host->name, sizeof(host->name), "%s", lua_tostring(L, -2));
	for (i = 0; i < n; i++) {
		lua_rawgeti(L, -1, i + 1);
		if (lua_type(L, -1) != LUA_TSTRING ||
		    strlen(lua_tostring(L, -1)) >= sizeof(host->addr[0]))
			luaL_error(L, "an address is a text");
		snprintf(host->addr[i], sizeof(host->addr[0]), "%s", lua_tostring(L, -1));
		lua_pop(L, 1);
	}
	host->n = (size_t)n;
	tester->hosts++;
}

/* given_hosts { ["db.example.net"] = { "10.0.0.9" } }: these are all the names that there are. */
static int given_hosts(lua_State *L)
{
	struct tester *tester = lua_touserdata(L, lua_upvalueindex(1));

	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	tester->hosts = 0;
	for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1))
		host_add(L, tester);
	return 0;
}

/* given_time(seconds since 1970): until the test ends it is then. */
static int given_time(lua_State *L)
{
	struct tester *tester = lua_touserdata(L, lua_upvalueindex(1));
	lua_Number now = luaL_checknumber(L, 1);

	luaL_argcheck(L, isfinite(now) && now > 0, 1, "not a time");
	tester->policy->box.given_now = now;
	return 0;
}

void alk_test_forget(struct tester *tester)
{
	tester->hosts = 0;
	tester->policy->box.given_now = 0;
}

static void open_given(lua_State *L, struct tester *tester)
{
	lua_pushlightuserdata(L, tester);
	lua_pushcclosure(L, given_hosts, 1);
	lua_setglobal(L, "given_hosts");
	lua_pushlightuserdata(L, tester);
	lua_pushcclosure(L, given_time, 1);
	lua_setglobal(L, "given_time");
	tester->policy->stand_in = stand_in;
	tester->policy->stand_in_user = tester;
}

void alk_test_ask_open(lua_State *L, struct tester *tester)
{
	int i;

	luaL_newmetatable(L, TEST_ASK);
	lua_pushcfunction(L, test_ask_gc);
	lua_setfield(L, -2, "__gc");
	lua_newtable(L);
	for (i = 0; i < ALK_QUESTION_COUNT; i++) {
		lua_pushlightuserdata(L, tester);
		lua_pushinteger(L, i);
		lua_pushcclosure(L, policy_ask, 2);
		lua_setfield(L, -2, alk_question_str((enum alk_question)i));
	}
	lua_pushlightuserdata(L, tester);
	lua_pushcclosure(L, policy_call, 1);
	lua_setfield(L, -2, "call");
	alk_policy_sandbox_freeze(L);
	lua_setglobal(L, "policy");
	open_given(L, tester);
}
