/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The questions of a policy: what it is told and what its answers mean. */
#include "policy_play.h"

static void test_grant(void **state)
{
	const char *const scopes[] = {"read", "write", NULL};
	const char *const resources[] = {"/a", NULL};
	struct alk_grant *grant = alk_grant_new("id", "alice", "SHA256:x", scopes, resources),
			 *other;

	(void)state;
	assert_string_equal(grant->identity.id, "id");
	assert_string_equal(grant->identity.user, "alice");
	assert_string_equal(grant->identity.key_fingerprint, "SHA256:x");
	assert_string_equal(grant->identity.scopes[1], "write");
	assert_null(grant->identity.scopes[2]);
	assert_string_equal(grant->resources[0], "/a");
	assert_null(grant->resources[1]);
	other = alk_grant_ref(grant);
	alk_grant_unref(&grant);
	assert_null(grant);
	assert_string_equal(other->identity.id, "id");
	alk_grant_unref(&other);
	alk_grant_unref(&other);
	grant = alk_grant_new(NULL, "bob", NULL, NULL, NULL);
	assert_string_equal(grant->identity.id, "bob");
	assert_null(grant->identity.scopes[0]);
	assert_null(grant->identity.key_fingerprint);
	assert_null(grant->resources);
	alk_grant_unref(&grant);
	assert_null(alk_grant_ref(NULL));
}

static void test_words(void **state)
{
	(void)state;
	assert_string_equal(alk_verdict_str(ALK_VERDICT_DENY), "deny");
	assert_string_equal(alk_verdict_str(ALK_VERDICT_ALLOW), "allow");
	assert_string_equal(alk_verdict_str(ALK_VERDICT_PASS), "pass");
	assert_string_equal(alk_verdict_str(ALK_VERDICT_FORWARD), "forward");
	assert_string_equal(alk_verdict_str(ALK_VERDICT_SERVICE), "service");
	assert_true(alk_destination_reserved("alknet-"));
	assert_true(alk_destination_reserved("alknet-control"));
	assert_false(alk_destination_reserved("Alknet-control"));
	assert_false(alk_destination_reserved("alknet"));
	assert_false(alk_destination_reserved(""));
	assert_false(alk_destination_reserved("x.alknet-control"));
}

static char *shipped_policy(size_t *len)
{
	const char *dir = getenv("ALKNET_SRCDIR");
	char path[4096], *text = calloc(1, 65536);
	FILE *file;

	snprintf(path, sizeof(path), "%s/scripts/policy.lua", dir ? dir : ".");
	file = fopen(path, "re");
	if (!file)
		fail_msg("%s: %m", path);
	*len = fread(text, 1, 65535, file);
	fclose(file);
	return text;
}

/* The script that is shipped says in Lua what the built-in answers say in C. */
static void test_shipped_is_built_in(void **state)
{
	static const char *const hosts[] = {"www.example.com", "127.0.0.1",
					    "alknet-control",  "alknet-secret",
					    "alknet-status",   "alknet-",
					    "alknet-statusx",  "ALKNET-CONTROL",
					    "alknet",	       "",
					    "alknet-control.", "::1",
					    "/run/x.sock"};
	size_t len, i;
	char *text = shipped_policy(&len);
	struct alk_policy *script = alk_policy_new(NULL, "policy.lua", text, len, &patient, NULL);
	struct alk_policy *built_in = alk_policy_new(NULL, NULL, NULL, 0, NULL, NULL);
	struct alk_answer a, b;
	struct alk_ask ask;
	int q;

	(void)state;
	assert_non_null(script);
	assert_true(alk_policy_has(script, ALK_QUESTION_OPEN));
	assert_false(alk_policy_has(script, ALK_QUESTION_CLOSE));
	assert_false(alk_policy_has(built_in, ALK_QUESTION_OPEN));
	for (q = 0; q < ALK_QUESTION_COUNT; q++)
		for (i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
			struct alk_destination to = {.port = 1};

			if (hosts[i][0] == '/')
				snprintf(to.path, sizeof(to.path), "%s", hosts[i]);
			else
				snprintf(to.host, sizeof(to.host), "%s", hosts[i]);
			ask = ask_make((enum alk_question)q);
			ask.to = &to;
			alk_policy_ask_now(script, &ask, &a);
			alk_policy_ask_now(built_in, &ask, &b);
			assert_int_equal(a.verdict, b.verdict);
			assert_false(a.failed);
			assert_false(b.failed);
			assert_string_equal(a.reason, b.reason);
			assert_string_equal(a.service, b.service);
			assert_string_equal(a.host, b.host);
			assert_int_equal(a.port, b.port);
			assert_null(a.grant);
			assert_string_equal(b.where, "built-in");
		}
	alk_policy_free(&script);
	alk_policy_free(&built_in);
	alk_policy_free(&built_in);
	free(text);
}

static void test_shipped_tests(void **state)
{
	const char *dir = getenv("ALKNET_SRCDIR");
	char path[4096], *out = NULL;
	struct alk_err err = {.text = ""};
	size_t size;
	FILE *file = open_memstream(&out, &size);

	(void)state;
	snprintf(path, sizeof(path), "%s/scripts/policy.lua", dir ? dir : ".");
	assert_int_equal(alk_policy_test_file(path, file, &err), 0);
	fclose(file);
	assert_non_null(strstr(out, "ok 1 - "));
	assert_non_null(strstr(out, "8 passed, 0 failed"));
	assert_null(strstr(out, "not ok"));
	free(out);
}

static void test_deny(void **state)
{
	struct alk_answer a = body_answer(ALK_QUESTION_LINK, "return 'deny', 'not you'");

	(void)state;
	assert_int_equal(a.verdict, ALK_VERDICT_DENY);
	assert_false(a.failed);
	assert_string_equal(a.reason, "not you");
	assert_string_equal(a.where, "test.lua:1");
	a = body_answer(ALK_QUESTION_OPEN, "return 'deny'");
	assert_int_equal(a.verdict, ALK_VERDICT_DENY);
	assert_false(a.failed);
	assert_string_equal(a.reason, "");
	a = body_answer(ALK_QUESTION_OPEN, "return 'deny', ('x'):rep(10000)");
	assert_false(a.failed);
	assert_int_equal(strlen(a.reason), sizeof(a.reason) - 1);
	/* The peer is told in JSON: whole characters, of UTF-8. */
	a = body_answer(ALK_QUESTION_OPEN, "return 'deny', ('\\xc3\\xa9'):rep(1000)");
	assert_false(a.failed);
	assert_int_equal(strlen(a.reason), sizeof(a.reason) - 2);
	assert_string_equal(a.reason + sizeof(a.reason) - 4, "\xc3\xa9");
	a = body_answer(ALK_QUESTION_OPEN, "return 'deny', 'x' .. ('\\u{10ffff}'):rep(64)");
	assert_int_equal(strlen(a.reason), 253);
	a = body_answer(ALK_QUESTION_OPEN, "return 'deny', 'caf\\xe9'");
	assert_false(a.failed);
	assert_string_equal(a.reason, "caf\\xe9");
	a = body_answer(ALK_QUESTION_OPEN, "return 'deny', ('\\xe9'):rep(1000)");
	assert_false(a.failed);
	assert_int_equal(strlen(a.reason), 252);
}

static void test_forward(void **state)
{
	struct alk_answer a = body_answer(ALK_QUESTION_OPEN, "return 'forward'");

	(void)state;
	assert_int_equal(a.verdict, ALK_VERDICT_FORWARD);
	assert_string_equal(a.host, "");
	assert_int_equal(a.port, 0);
	a = body_answer(ALK_QUESTION_OPEN,
			"return 'forward', { host = '10.0.0.1', port = 80.0, bind = '::1' }");
	assert_int_equal(a.verdict, ALK_VERDICT_FORWARD);
	assert_string_equal(a.host, "10.0.0.1");
	assert_int_equal(a.port, 80);
	assert_string_equal(a.bind, "::1");
	a = body_answer(ALK_QUESTION_OPEN, "return 'forward', { path = '/run/socket' }");
	assert_int_equal(a.verdict, ALK_VERDICT_FORWARD);
	assert_string_equal(a.path, "/run/socket");
	a = body_answer(ALK_QUESTION_OPEN,
			"return 'forward', { host = 'x', via = 'socks4://y:1' }");
	assert_true(a.failed);
	assert_non_null(strstr(a.reason, "via"));
	a = body_answer(
		ALK_QUESTION_OPEN,
		"return 'forward', { via = 'http://u:p@proxy:3128', proxy_protocol = true }");
	assert_false(a.failed);
	assert_string_equal(a.via, "http://u:p@proxy:3128");
	assert_true(a.proxy_protocol);
	a = body_answer(ALK_QUESTION_OPEN, "return 'forward', { proxy_protocol = 1 }");
	assert_true(a.failed);
	a = body_answer(ALK_QUESTION_OPEN, "return 'forward', { path = '/x', via = 'none' }");
	assert_true(a.failed);
	assert_string_equal(a.host, "");
}

/* A unix socket that is asked for is opened by those who name it, or something else, alone. */
static void test_a_unix_socket_is_named(void **state)
{
	static const char *const bad[] = {"",
					  ", {}",
					  ", { host = 'x' }",
					  ", { port = 80 }",
					  ", { via = 'none' }",
					  ", { proxy_protocol = true }"};
	struct alk_destination to = {.path = "/run/x"};
	struct alk_ask ask = ask_make(ALK_QUESTION_OPEN);
	struct alk_policy *built_in = alk_policy_new(NULL, NULL, NULL, 0, NULL, NULL);
	struct alk_answer a;
	char text[256];
	size_t i;

	(void)state;
	ask.to = &to;
	alk_policy_ask_now(built_in, &ask, &a);
	assert_int_equal(a.verdict, ALK_VERDICT_DENY);
	assert_false(a.failed);
	assert_non_null(strstr(a.reason, "unix socket"));
	alk_policy_free(&built_in);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text),
			 "return { on_open = function() return 'forward'%s end }", bad[i]);
		a = answer_of(text, &ask);
		assert_true(a.failed);
		assert_non_null(strstr(a.reason, "must be named"));
	}
	a = answer_of("return { on_open = function(_, to) "
		      "return 'forward', { path = to.path } end }",
		      &ask);
	assert_int_equal(a.verdict, ALK_VERDICT_FORWARD);
	assert_string_equal(a.path, "/run/x");
	a = answer_of("return { on_open = function() "
		      "return 'forward', { host = 'x', port = 80 } end }",
		      &ask);
	assert_int_equal(a.verdict, ALK_VERDICT_FORWARD);
	assert_string_equal(a.host, "x");
}

static void test_reserved_is_never_forwarded(void **state)
{
	struct alk_destination to = {.host = "alknet-control", .port = 0};
	struct alk_ask ask = ask_make(ALK_QUESTION_OPEN);
	struct alk_answer a;

	(void)state;
	ask.to = &to;
	a = answer_of("return { on_open = function() return 'forward' end }", &ask);
	assert_int_equal(a.verdict, ALK_VERDICT_DENY);
	assert_true(a.failed);
	assert_non_null(strstr(a.reason, "reserved"));
	a = answer_of("return { on_open = function() return 'forward', { port = 22 } end }", &ask);
	assert_true(a.failed);
	a = answer_of("return { on_open = function() return 'forward', { host = 'x' } end }", &ask);
	assert_int_equal(a.verdict, ALK_VERDICT_FORWARD);
	a = answer_of("return { on_open = function(_, to) assert(to.reserved) "
		      "return 'service', 'bus' end }",
		      &ask);
	assert_int_equal(a.verdict, ALK_VERDICT_SERVICE);
	assert_string_equal(a.service, "bus");
	a = body_answer(ALK_QUESTION_OPEN, "return 'forward', { host = 'alknet-x' }");
	assert_true(a.failed);
}

static void test_identity(void **state)
{
	struct alk_answer a = body_answer(ALK_QUESTION_AUTH, "return 'allow'");

	(void)state;
	assert_int_equal(a.verdict, ALK_VERDICT_ALLOW);
	assert_string_equal(a.grant->identity.id, "alice");
	assert_string_equal(a.grant->identity.user, "alice");
	assert_string_equal(a.grant->identity.key_fingerprint, "SHA256:abc");
	assert_null(a.grant->identity.scopes[0]);
	alk_grant_unref(&a.grant);
	a = body_answer(
		ALK_QUESTION_AUTH,
		"return 'allow', { id = 'al', scopes = { 'r', 'w' }, resources = { '/x' } }");
	assert_string_equal(a.grant->identity.id, "al");
	assert_string_equal(a.grant->identity.scopes[1], "w");
	assert_string_equal(a.grant->resources[0], "/x");
	alk_grant_unref(&a.grant);
	a = body_answer(ALK_QUESTION_AUTH, "return 'pass'");
	assert_int_equal(a.verdict, ALK_VERDICT_PASS);
	assert_null(a.grant);
}

/* What the one operation of a script gives. */
static struct alk_answer operation_answer(const char *body)
{
	struct alk_ask ask = ask_make(ALK_QUESTION_OPERATION);
	struct alk_policy *policy;
	struct alk_answer answer;
	char text[1024];

	snprintf(text, sizeof(text), "alknet.operation('/a/b', {}, function() %s end) return {}",
		 body);
	policy = policy_make(text);
	ask.name = "/a/b";
	ask.function = alk_policy_operation_function(alk_policy_operation_find(policy, "/a/b"));
	alk_policy_ask_now(policy, &ask, &answer);
	alk_policy_free(&policy);
	return answer;
}

/* What goes on as JSON is UTF-8, or the script failed. */
static void test_texts_are_utf8(void **state)
{
	static const char *const auth[] = {
		"return 'allow', { id = '\\xc3' }",
		"return 'allow', { scopes = { 'a', '\\xc3' } }",
		"return 'allow', { resources = { '\\xff' } }",
	};
	struct alk_answer a = operation_answer("return nil, 'BAD', '\\xc3'");
	size_t i;

	(void)state;
	assert_true(a.failed);
	assert_non_null(strstr(a.reason, "UTF-8"));
	assert_string_equal(a.code, "");
	a = operation_answer("return nil, '\\xc3', 'x'");
	assert_true(a.failed);
	a = operation_answer("return nil, 'BAD', '\\xc3\\xa9'");
	assert_false(a.failed);
	assert_string_equal(a.code, "BAD");
	assert_string_equal(a.reason, "\xc3\xa9");
	for (i = 0; i < sizeof(auth) / sizeof(auth[0]); i++) {
		a = body_answer(ALK_QUESTION_AUTH, auth[i]);
		assert_true(a.failed);
		assert_null(a.grant);
	}
	a = body_answer(ALK_QUESTION_OPEN, "return 'forward', { host = '\\xff' }");
	assert_true(a.failed);
}

/* What on_listen answers to a bind address; "" = allowed as asked for. */
static const char *listen_answer(const char *script, const char *host, const char *path)
{
	static struct alk_answer answer;
	struct alk_policy *policy = script ? policy_make(script)
					   : alk_policy_new(NULL, NULL, NULL, 0, NULL, NULL);
	struct alk_ask ask = ask_make(ALK_QUESTION_LISTEN);
	struct alk_destination to = {.port = 8080};

	snprintf(to.host, sizeof(to.host), "%s", host);
	snprintf(to.path, sizeof(to.path), "%s", path);
	ask.to = &to;
	alk_policy_ask_now(policy, &ask, &answer);
	alk_policy_free(&policy);
	assert_int_equal(answer.failed, answer.verdict == ALK_VERDICT_DENY && script != NULL);
	if (answer.verdict == ALK_VERDICT_DENY)
		return answer.reason;
	assert_int_equal(answer.verdict, ALK_VERDICT_ALLOW);
	return answer.path[0] ? answer.path : answer.host;
}

static void test_listen(void **state)
{
	static const char *const good[] = {"localhost", "127.0.0.1", "127.255.0.9", "::1"};
	static const char *const bad[] = {"", "*", "0.0.0.0", "::", "::ffff:10.0.0.1", "Localhost"};
#define ALLOW(table_) "return { on_listen = function() return 'allow', " table_ " end }"
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_string_equal(listen_answer(NULL, good[i], ""), "");
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_string_equal(listen_answer(NULL, bad[i], ""),
				    "only loopback addresses are listened on");
	assert_string_equal(listen_answer(NULL, "", "/run/x"),
			    "only loopback addresses are listened on");
	assert_string_equal(listen_answer(ALLOW("nil"), "0.0.0.0", ""), "");
	assert_string_equal(listen_answer(ALLOW("{ host = '::1' }"), "0.0.0.0", ""), "::1");
	assert_string_equal(listen_answer(ALLOW("{ path = '/run/y' }"), "", "/run/x"), "/run/y");
	assert_string_equal(listen_answer(ALLOW("nil"), "", "/run/x"),
			    "a unix socket must be named by the answer");
	assert_string_equal(listen_answer(ALLOW("{ host = 'example.com' }"), "", ""),
			    "host must be an address, \"localhost\" or \"*\"");
	assert_string_equal(listen_answer(ALLOW("{ host = '*' }"), "localhost", ""), "*");
	assert_string_equal(listen_answer(ALLOW("{ host = '127.0.0.1' }"), "", "/run/x"),
			    "127.0.0.1");
	assert_string_equal(listen_answer(ALLOW("true"), "", ""),
			    "the listener is a boolean, not a table");
	assert_string_equal(listen_answer(ALLOW("{ path = '/run/y', port = 7 }"), "", ""),
			    "path goes with no other key");
	assert_string_equal(listen_answer(ALLOW("{ path = '/run/y', host = '::1' }"), "", ""),
			    "path goes with no other key");
	assert_string_equal(listen_answer(ALLOW("{ bind = '::1' }"), "", ""),
			    "unknown key in the listener: bind");
	assert_string_equal(listen_answer(ALLOW("{ port = 0 }"), "", ""),
			    "port must be a number from 1 to 65535");
	assert_body(ALK_QUESTION_LISTEN,
		    "assert(b.host == 'www.example.com' and b.port == 443 and "
		    "b.loopback == false and a.user == 'alice') return 'allow'");
}

static void test_close(void **state)
{
	struct alk_answer a = body_answer(
		ALK_QUESTION_CLOSE,
		"assert(a.user == 'alice' and b.duration == 12.5 and b.reason == 'closed by peer')");

	(void)state;
	assert_false(a.failed);
	a = body_answer(ALK_QUESTION_CLOSE, "return 'allow'");
	assert_true(a.failed);
}

static void test_arguments(void **state)
{
	(void)state;
	assert_body(
		ALK_QUESTION_LINK,
		"assert(a.transport == 'tls' and a.remote_addr == '203.0.113.50' and "
		"a.remote_port == 50000 and a.local_addr == '192.0.2.2' and a.local_port == 443 "
		"and a.sni == 'alk.example.com' and a.alpn == 'ssh' and a.peer_id == nil) "
		"return 'allow'");
	assert_body(
		ALK_QUESTION_AUTH,
		"assert(a.user == 'alice' and a.key_type == 'ssh-ed25519' and a.key == 'AAAA' and "
		"a.key_fingerprint == 'SHA256:abc' and a.link.transport == 'tls') return 'pass'");
	assert_body(
		ALK_QUESTION_OPEN,
		"assert(a.id == 7 and a.user == 'alice' and a.link.sni == 'alk.example.com' and "
		"a.identity.id == nil and #a.identity.scopes == 0 and b.host == 'www.example.com' "
		"and b.port == 443 and b.originator == '127.0.0.1' and b.originator_port == 41000 "
		"and b.reserved == false and b.path == nil) return 'forward'");
}

static void test_session_identity(void **state)
{
	const char *const scopes[] = {"read", NULL};
	struct alk_grant *grant = alk_grant_new("id", "alice", NULL, scopes, scopes);
	struct alk_ask ask = ask_make(ALK_QUESTION_OPEN);
	struct alk_answer a;

	(void)state;
	ask.grant = grant;
	a = answer_of("return { on_open = function(s) local i = s.identity assert(i.id == 'id' and "
		      "i.scopes[1] == 'read' and i.resources[1] == 'read') return 'forward' end }",
		      &ask);
	assert_int_equal(a.verdict, ALK_VERDICT_FORWARD);
	assert_int_equal(grant->refs, 1);
	alk_grant_unref(&grant);
}

/* THREATS 65: a pattern takes time that grows with the text. */
static void test_peer_text_is_cut(void **state)
{
	char user[5001], key[1001];
	struct alk_ask ask = ask_make(ALK_QUESTION_AUTH);
	struct alk_answer a;

	(void)state;
	memset(user, 'u', 5000);
	memset(key, 'A', 1000);
	user[5000] = key[1000] = '\0';
	ask.user = user;
	ask.key = key;
	a = answer_of("return { on_auth = function(r) assert(#r.user == 255 and #r.key == 1000) "
		      "return 'pass' end }",
		      &ask);
	assert_int_equal(a.verdict, ALK_VERDICT_PASS);
	ask.key = user;
	a = answer_of("return { on_auth = function(r) assert(r.key == nil) return 'pass' end }",
		      &ask);
	assert_int_equal(a.verdict, ALK_VERDICT_PASS);
}

static void test_where(void **state)
{
	static const char text[] = "local function choose(to)\n"
				   "	if to.port == 443 then\n"
				   "		return 'deny', 'line 3'\n"
				   "	end\n"
				   "	return 'forward'\n"
				   "end\n"
				   "return {\n"
				   "	on_open = function(_, to)\n"
				   "		return choose(to)\n"
				   "	end,\n"
				   "	on_link = function()\n"
				   "		local word = choose({ port = 1 })\n"
				   "		return word\n"
				   "	end,\n"
				   "	on_auth = function()\n"
				   "		local x\n"
				   "		return x.y\n"
				   "	end,\n"
				   "}\n";
	struct alk_policy *policy = policy_make(text);
	struct alk_ask ask = ask_make(ALK_QUESTION_OPEN);
	struct alk_answer a;

	(void)state;
	alk_policy_ask_now(policy, &ask, &a);
	assert_string_equal(a.where, "test.lua:3");
	ask.question = ALK_QUESTION_LINK;
	alk_policy_ask_now(policy, &ask, &a);
	assert_string_equal(a.where, "test.lua:13");
	assert_true(a.failed);
	assert_non_null(strstr(a.reason, "forward"));
	ask.question = ALK_QUESTION_AUTH;
	alk_policy_ask_now(policy, &ask, &a);
	assert_string_equal(a.where, "test.lua:17");
	assert_true(a.failed);
	assert_non_null(strstr(a.reason, "nil value"));
	ask.question = ALK_QUESTION_CLOSE;
	alk_policy_ask_now(policy, &ask, &a);
	assert_string_equal(a.where, "built-in");
	alk_policy_free(&policy);
}

/* A destination is never logged: a script that returns it by mistake must not bring it there. */
static void test_wrong_word_is_not_told(void **state)
{
	struct alk_answer a = body_answer(ALK_QUESTION_OPEN, "return b.host");

	(void)state;
	assert_true(a.failed);
	assert_null(strstr(a.reason, "example"));
	a = body_answer(ALK_QUESTION_OPEN, "return 'foward'");
	assert_non_null(strstr(a.reason, "foward"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grant),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_shipped_is_built_in),
		cmocka_unit_test(test_shipped_tests),
		cmocka_unit_test(test_deny),
		cmocka_unit_test(test_forward),
		cmocka_unit_test(test_a_unix_socket_is_named),
		cmocka_unit_test(test_reserved_is_never_forwarded),
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_texts_are_utf8),
		cmocka_unit_test(test_listen),
		cmocka_unit_test(test_close),
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_session_identity),
		cmocka_unit_test(test_peer_text_is_cut),
		cmocka_unit_test(test_where),
		cmocka_unit_test(test_wrong_word_is_not_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
