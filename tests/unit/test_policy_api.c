/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What `alknet` gives to a policy: each line is Lua that must hold, or a call that must raise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy.h"
#include "shared.h"

static struct alk_link link_tcp = {.fd = -1, .transport = "tcp", .remote_addr = "203.0.113.50"};

static struct alk_policy *load_shared(const char *chunk, const char *body,
				      struct alk_shared *shared)
{
	const struct alk_policy_limits patient = {.resume_ms = 2000};
	struct alk_err err = {.text = ""};
	struct alk_policy *policy;
	char text[8192];

	snprintf(text, sizeof(text),
		 "local J, B, S = alknet.json, alknet.base64, alknet.shared %s "
		 "return { on_link = function() %s return 'allow' end }",
		 chunk, body);
	policy = alk_policy_new_shared(NULL, "test.lua", text, strlen(text), &patient, shared,
				       &err);
	if (!policy)
		fail_msg("%s", err.text);
	return policy;
}

static struct alk_policy *load(const char *body)
{
	return load_shared("", body, NULL);
}

static void run(struct alk_policy *policy, struct alk_answer *answer)
{
	const struct alk_ask ask = {.question = ALK_QUESTION_LINK, .link = &link_tcp};

	alk_policy_ask_now(policy, &ask, answer);
}

/* Each must be true. */
static void holds(const char *const *lines, size_t n)
{
	struct alk_policy *policy;
	struct alk_answer answer;
	char body[4096];
	size_t i;

	for (i = 0; i < n; i++) {
		snprintf(body, sizeof(body), "assert(%s)", lines[i]);
		policy = load(body);
		run(policy, &answer);
		alk_policy_free(&policy);
		if (answer.verdict != ALK_VERDICT_ALLOW)
			fail_msg("%s: %s", lines[i], answer.reason);
	}
}

/* Each must raise an error that begins as they do all. */
static void raises(const char *const *lines, size_t n, const char *error)
{
	struct alk_policy *policy;
	struct alk_answer answer;
	size_t i;

	for (i = 0; i < n; i++) {
		policy = load(lines[i]);
		run(policy, &answer);
		alk_policy_free(&policy);
		if (!answer.failed || !strstr(answer.reason, error))
			fail_msg("%s: %s", lines[i], answer.reason);
	}
}

#define HOLDS(...)                                                                                 \
	do {                                                                                       \
		static const char *const lines[] = {__VA_ARGS__};                                  \
		holds(lines, sizeof(lines) / sizeof(lines[0]));                                    \
	} while (0)
#define RAISES(error_, ...)                                                                        \
	do {                                                                                       \
		static const char *const lines[] = {__VA_ARGS__};                                  \
		raises(lines, sizeof(lines) / sizeof(lines[0]), error_);                           \
	} while (0)

static void test_base64_and_sha256(void **state)
{
	(void)state;
	HOLDS("B.encode('') == ''", "B.encode('f') == 'Zg=='", "B.encode('foobar') == 'Zm9vYmFy'",
	      "B.decode('Zm9vYg==') == 'foob'", "B.decode('') == ''",
	      "B.decode(B.encode('\\0\\255\\0')) == '\\0\\255\\0'",
	      "select('#', B.decode('Zg')) == 2", "B.decode('Zh==') == nil",
	      "B.decode('Z g=') == nil", "B.decode('\\0\\0\\0\\0') == nil",
	      "#B.encode(('x'):rep(65536)) == 87384", "select(2, B.decode('!')) == 'not base64'",
	      "alknet.sha256('abc') == "
	      "'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'",
	      "alknet.sha256('') == "
	      "'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'");
	RAISES("longer than 64 KiB", "B.encode(('x'):rep(65537))", "B.decode(('x'):rep(65537))",
	       "alknet.sha256(('x'):rep(65537))", "J.decode((' '):rep(65537))");
	RAISES("string expected", "B.encode({})", "B.decode()", "alknet.sha256(nil)",
	       "J.decode({})");
}

static void test_json(void **state)
{
	(void)state;
	HOLDS("J.encode({}) == '{}'", "J.encode({1, 2, {a = true}}) == '[1,2,{\"a\":true}]'",
	      "J.encode({b = 1, a = 1.5}) == '{\"a\":1.5,\"b\":1}'",
	      "J.encode('\\n') == '\"\\\\n\"'",
	      "J.encode(math.maxinteger) == '9223372036854775807'", "J.encode(false) == 'false'",
	      "J.decode('[1,2.5,\"x\",true]')[4] == true", "math.type(J.decode('7')) == 'integer'",
	      "J.decode('{\"a\":{\"b\":[]}}').a.b ~= nil", "J.decode('{\"a\":null}').a == nil",
	      "next(J.decode('{\"a\":null}')) == nil", "J.decode('false') == false",
	      "J.decode('\"\\\\u00e9\"') == 'é'", "J.decode(J.encode({x = {1}})).x[1] == 1");
	/* what is not JSON, or cannot be: nil and why */
	HOLDS("J.decode('') == nil", "J.decode('{') == nil", "J.decode('{} x') == nil",
	      "J.decode('null') == nil", "J.decode('[null]') == nil",
	      "J.decode('{\"a\":1,\"a\":2}') == nil", "J.decode('\"\\\\u0000\"') == nil",
	      "J.decode('\"\\255\"') == nil", "J.decode('1e999') == nil", "J.decode('NaN') == nil",
	      "J.decode('99999999999999999999') == nil", "J.decode('[1,]') == nil",
	      "select(2, J.decode(('['):rep(33) .. (']'):rep(33))) == 'deeper than 32 levels'",
	      "J.decode(('['):rep(32) .. (']'):rep(32)) ~= nil",
	      "select(2, J.decode(('['):rep(65536))) == 'deeper than 32 levels'",
	      "J.decode('[\"' .. ('['):rep(99) .. '\"]')[1] == ('['):rep(99)",
	      "select(2, J.decode('[' .. ('1,'):rep(20000) .. '1]')) == 'more than 16384 values'",
	      "J.encode(0/0) == nil", "J.encode(1/0) == nil", "J.encode('\\255') == nil",
	      "J.encode({[1.5] = 1}) == nil", "J.encode({1, nil, 3}) == nil",
	      "J.encode({a = print}) == nil", "J.encode({['a\\0'] = 1}) == nil",
	      "select(2, J.encode(nil)) ~= nil");
	HOLDS("(function() local t = {} t.t = t return J.encode(t) end)() == nil",
	      "(function() local t = {} for i = 1, 20000 do t[i] = 1 end return J.encode(t) end)() == nil",
	      "(function() local t = {} for i = 1, 60 do t[i] = ('x'):rep(60000) end "
	      "return J.encode(t) end)() == nil",
	      /* no metamethod is called: it could do anything */
	      "J.encode(setmetatable({}, { __index = function() error('x') end, "
	      "__pairs = function() error('y') end, __len = function() return 1e9 end })) == '{}'");
	RAISES("value expected", "J.encode()");
}

static void test_limit(void **state)
{
	(void)state;
	HOLDS("alknet.limit('a', 0.001, 1) == true and alknet.limit('a', 0.001, 1) == false",
	      "alknet.limit('a', 1e-9, 3) and alknet.limit('a', 1e-9, 3) and alknet.limit('a', 1e-9, 3) "
	      "and not alknet.limit('a', 1e-9, 3) and alknet.limit('b', 1e-9, 3)",
	      "alknet.limit('\\0', 1, 1) and alknet.limit('\\0\\0', 1, 1)",
	      "alknet.limit(5, 1, 1) and not alknet.limit('5', 1e-9, 1)",
	      "(function() alknet.limit('old', 1e-9, 1) for i = 1, 4096 do alknet.limit('k' .. i, 1e-9, 1) end "
	      "return alknet.limit('old', 1e-9, 1) and not alknet.limit('k4096', 1e-9, 1) end)()");
	RAISES("bad argument #1", "alknet.limit('', 1, 1)", "alknet.limit(('k'):rep(256), 1, 1)",
	       "alknet.limit({}, 1, 1)");
	RAISES("bad argument #2", "alknet.limit('a', 0, 1)", "alknet.limit('a', -1, 1)",
	       "alknet.limit('a', 0/0, 1)", "alknet.limit('a', 1/0, 1)", "alknet.limit('a')");
	RAISES("bad argument #3", "alknet.limit('a', 1, 0)", "alknet.limit('a', 1, 0.5)",
	       "alknet.limit('a', 1, 0/0)", "alknet.limit('a', 1, -5)",
	       "alknet.limit('a', 1, 1/0)");
}

static void test_shared(void **state)
{
	(void)state;
	HOLDS("S.get('a') == nil and select('#', S.get('a')) == 1",
	      "S.set('a', 'x') == true and S.get('a') == 'x'",
	      "S.set('a', 1.5) and S.get('a') == 1.5", "S.set('a', false) and S.get('a') == false",
	      "S.set('a', 'y\\0z') and S.get('a') == 'y\\0z'",
	      "S.set('a', 7) and math.type(S.get('a')) == 'integer'",
	      "S.incr('n') == 1 and S.incr('n', 5) == 6 and S.incr('n', -10) == -4",
	      "S.set('a', 'x') and select(2, S.incr('a')) == 'not a whole number'",
	      "S.set('a', math.maxinteger) and select(2, S.incr('a')) == 'out of range'",
	      "S.set('a', 1) and S.delete('a') == true and S.delete('a') == false and S.get('a') == nil",
	      "S.set(('k'):rep(128), ('v'):rep(344))",
	      "(function() for i = 1, 20000 do local ok, why = S.set('k' .. i, i) "
	      "if not ok then return why == 'full' end end end)()");
	RAISES("bad argument #1", "S.get('')", "S.get(('k'):rep(129))", "S.set({}, 1)", "S.incr()",
	       "S.delete(nil)");
	RAISES("bad argument #2", "S.set('a')", "S.set('a', {})", "S.set('a', ('v'):rep(345))",
	       "S.incr('a', 1.5)", "S.incr('a', 0/0)", "S.incr('a', {})");
	RAISES("bad argument #3", "S.set('a', 1, 0)", "S.set('a', 1, -1)", "S.set('a', 1, 0/0)",
	       "S.incr('a', 1, 1/0)", "S.set('a', 1, 'soon')");
	RAISES("cannot be changed", "S.x = 1", "alknet.json.encode = nil",
	       "rawset(B, 'encode', 1)");
}

/* Two workers' policies see one dictionary; a new policy, after a reload, too. */
static void test_shared_by_policies(void **state)
{
	struct alk_shared *shared = alk_shared_new(NULL);
	struct alk_policy *one = load_shared("", "S.incr('n', 1, 3600) S.set('who', 'one')",
					     shared),
			  *two;
	struct alk_answer answer;

	(void)state;
	two = load_shared("", "assert(S.get('n') == 2) assert(S.get('who') == 'one')", shared);
	run(one, &answer);
	run(one, &answer);
	run(two, &answer);
	assert_int_equal(answer.verdict, ALK_VERDICT_ALLOW);
	alk_policy_free(&one);
	run(two, &answer);
	assert_int_equal(answer.verdict, ALK_VERDICT_ALLOW);
	alk_policy_free(&two);
	alk_shared_free(&shared);
}

/* What the main chunk sets is there for the questions, and for the next policy's main chunk. */
static void test_shared_by_main_chunks(void **state)
{
	struct alk_shared *shared = alk_shared_new(NULL);
	struct alk_policy *one, *two;
	struct alk_answer answer;

	(void)state;
	one = load_shared("S.set('boot', 1)", "assert(S.get('boot') == 1) S.set('asked', 1)",
			  shared);
	run(one, &answer);
	assert_int_equal(answer.verdict, ALK_VERDICT_ALLOW);
	two = load_shared("assert(S.get('boot') == 1 and S.get('asked') == 1)", "", shared);
	alk_policy_free(&one);
	alk_policy_free(&two);
	one = load_shared("S.set('boot', 1)", "assert(S.get('boot') == 1)", NULL);
	run(one, &answer);
	assert_int_equal(answer.verdict, ALK_VERDICT_ALLOW);
	alk_policy_free(&one);
	alk_shared_free(&shared);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_base64_and_sha256),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_shared),
		cmocka_unit_test(test_shared_by_policies),
		cmocka_unit_test(test_shared_by_main_chunks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
