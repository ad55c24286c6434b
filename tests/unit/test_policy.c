/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "board.h"
#include "log_private.h"
#include "policy.h"

static struct alk_link link_tls = {
	.fd = -1,
	.transport = "tls",
	.remote_addr = "203.0.113.50",
	.remote_port = 50000,
	.local_addr = "192.0.2.2",
	.local_port = 443,
	.sni = "alk.example.com",
	.alpn = "ssh",
};
static struct alk_destination to_web = {
	.host = "www.example.com",
	.port = 443,
	.originator = "127.0.0.1",
	.originator_port = 41000,
};

/* A test is about the script, not about how fast valgrind is. */
static const struct alk_policy_limits patient = {.resume_ms = 1000};

static struct alk_policy *policy_make(const char *text)
{
	struct alk_err err = {.text = ""};
	struct alk_policy *policy;

	policy = alk_policy_new(NULL, "test.lua", text, strlen(text), &patient, &err);
	if (!policy)
		fail_msg("%s", err.text);
	return policy;
}

static struct alk_ask ask_make(enum alk_question question)
{
	return (struct alk_ask){
		.question = question,
		.session = 7,
		.link = &link_tls,
		.user = "alice",
		.key_type = "ssh-ed25519",
		.key_fingerprint = "SHA256:abc",
		.key = "AAAA",
		.to = &to_web,
		.duration = 12.5,
		.reason = "closed by peer",
	};
}

/* What a whole script answers. */
static struct alk_answer answer_of(const char *text, const struct alk_ask *ask)
{
	struct alk_policy *policy = policy_make(text);
	struct alk_answer answer;

	alk_policy_ask_now(policy, ask, &answer);
	alk_policy_free(&policy);
	return answer;
}

/* What the body of one function answers. */
static struct alk_answer body_answer(enum alk_question question, const char *body)
{
	static const char *const names[] = {
#define X(id_, name_, words_) name_,
		ALK_QUESTIONS(X)
#undef X
	};
	struct alk_ask ask = ask_make(question);
	char text[4096];

	snprintf(text, sizeof(text), "return { %s = function(a, b) %s end }", names[question],
		 body);
	return answer_of(text, &ask);
}

/* The body checks what it was given with assert() and allows. */
static void assert_body(enum alk_question question, const char *body)
{
	struct alk_answer answer = body_answer(question, body);

	if (answer.failed)
		fail_msg("%s", answer.reason);
	assert_int_not_equal(answer.verdict, ALK_VERDICT_DENY);
	alk_grant_unref(&answer.grant);
}

static uint64_t metric(enum alk_metric m)
{
	return atomic_load(&alk_board_self->metric[m]);
}

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
					    "alknet-control.", "::1"};
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
	assert_non_null(strstr(out, "6 passed, 0 failed"));
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

static void test_alknet(void **state)
{
	(void)state;
	assert_body(
		ALK_QUESTION_LINK,
		"local net = alknet.cidr('10.0.0.0/8') "
		"assert(net:contains('10.255.0.1') == true and net:contains('11.0.0.1') == false) "
		"assert(net:contains('::ffff:10.1.1.1') == true) "
		"assert(net:contains('example.com') == nil and net:contains(nil) == nil) "
		"assert(net:contains('10.0.0.1\\0x') == nil and net:contains('') == nil) "
		"assert(alknet.cidr('10.1.2.3'):contains('10.1.2.3')) "
		"assert(alknet.cidr('0.0.0.0/0'):contains('255.1.2.3')) "
		"assert(not alknet.cidr('0.0.0.0/0'):contains('::1')) return 'allow'");
	assert_body(
		ALK_QUESTION_LINK,
		"local net = alknet.cidr('2001:db8::/33') "
		"assert(net:contains('2001:db8:7fff::1') and not net:contains('2001:db8:8000::1')) "
		"assert(alknet.cidr('fe80::/10'):contains('fe80::1%eth0')) "
		"assert(alknet.cidr('::/0'):contains('192.0.2.1')) return 'allow'");
	assert_body(
		ALK_QUESTION_LINK,
		"for _, bad in ipairs({ '', '10.0.0.0/33', '10.0.0.1/8', '::/129', '10.0.0.0/', "
		"'10.0.0.0/x', '10.0.0.0/8/8', 'example.com', '10/8', '::/0000', '10.0.0.0/ 8', "
		"'10.0.0.0/8\\0' }) do assert(not pcall(alknet.cidr, bad), bad) end "
		"return 'allow'");
	assert_body(ALK_QUESTION_LINK,
		    "local g = alknet.glob "
		    "assert(g('*', '') and g('*', 'x') and g('', '') and not g('', 'x')) "
		    "assert(g('*.example.com', 'a.b.example.com') and not g('*.example.com', "
		    "'example.com')) assert(g('a?c', 'abc') and not g('a?c', 'ac')) "
		    "assert(g('*a*b', 'xaxxb') and not g('*a*b', 'xaxxbc')) "
		    "assert(g('A*', 'abc') and g('*.com', 'x.com.')) "
		    "assert(g('a.c', 'a.c') and not g('a.c', 'abc')) "
		    "assert(not pcall(g, '*', ('x'):rep(256))) return 'allow'");
	assert_body(ALK_QUESTION_LINK,
		    "local s = alknet.suffix "
		    "assert(s('www.example.com', '.example.com') and s('WWW.EXAMPLE.COM.', "
		    "'.example.com')) assert(not s('example.com', '.example.com')) "
		    "assert(s('example.com', 'example.com') and s('a.example.com', 'example.com')) "
		    "assert(not s('badexample.com', 'example.com')) "
		    "assert(not s('', '') and not s('x', '') and not s('m', 'example.com')) "
		    "return 'allow'");
	assert_body(ALK_QUESTION_LINK, "assert(math.type(alknet.now()) == 'float' and alknet.now() "
				       "> 1.7e9) return 'allow'");
	assert_body(ALK_QUESTION_LINK,
		    "assert(not pcall(alknet.log, 'loud', 'x') and not pcall(alknet.log, 'info')) "
		    "return 'allow'");
}

static void test_sandbox(void **state)
{
	(void)state;
	assert_body(
		ALK_QUESTION_LINK,
		"for _, name in ipairs({ 'load', 'loadfile', 'dofile', 'loadstring', 'require', "
		"'package', 'io', 'os', 'debug', 'collectgarbage', 'warn' }) do "
		"assert(_G[name] == nil, name) end "
		"assert(string.dump == nil and coroutine.close == nil) return 'allow'");
	assert_body(
		ALK_QUESTION_LINK,
		"for _, lib in ipairs({ alknet, string, table, math, utf8, coroutine }) do "
		"assert(not pcall(function() lib.x = 1 end)) assert(not pcall(rawset, lib, 'x', 1)) "
		"assert(not pcall(setmetatable, lib, {})) assert(getmetatable(lib) == 'frozen') "
		"end assert(getmetatable('') == 'frozen') return 'allow'");
	assert_body(ALK_QUESTION_LINK,
		    "local t = setmetatable({}, { __index = { x = 1 } }) assert(t.x == 1) "
		    "rawset(t, 'x', 2) assert(rawget(t, 'x') == 2) "
		    "assert(not pcall(setmetatable, {}, { __gc = print })) "
		    "assert(not pcall(setmetatable, {})) return 'allow'");
	assert_body(ALK_QUESTION_LINK,
		    "local ok, a, b = xpcall(function(...) return ... end, print, 1, 2) "
		    "assert(ok and a == 1 and b == 2) "
		    "ok, a = xpcall(error, function(e) return e .. '!' end, 'x') "
		    "assert(not ok and a == 'x!') "
		    "ok, a = xpcall(error, error, 'x') assert(not ok and a == 'x') return 'allow'");
	assert_body(ALK_QUESTION_LINK,
		    "local f = coroutine.wrap(function(x) local y = coroutine.yield(x + 1) "
		    "local ok, z = xpcall(function() return coroutine.yield(y) end, print) "
		    "assert(ok) error(z) end) assert(f(1) == 2 and f(5) == 5) "
		    "local ok, e = pcall(f, 'end') assert(not ok and e:find('end', 1, true)) "
		    "ok, e = pcall(f) assert(not ok and e:find('dead', 1, true)) return 'allow'");
	assert_body(ALK_QUESTION_LINK,
		    "local t = { 3, 1, 2 } table.sort(t) assert(table.concat(t, ',') == '1,2,3') "
		    "table.sort(t, function(a, b) return a > b end) assert(t[1] == 3) "
		    "table.insert(t, 4) table.insert(t, 1, 0) assert(#t == 5 and t[1] == 0) "
		    "assert(table.remove(t) == 4 and table.remove(t, 1) == 0) "
		    "assert(#table.move(t, 1, 3, 2) == 4 and ('ab'):rep(3, '-') == 'ab-ab-ab') "
		    "return 'allow'");
}

static void test_patterns(void **state)
{
	(void)state;
	assert_body(
		ALK_QUESTION_LINK,
		"assert(('key=val'):match('^(%w+)=(%w*)$') == 'key') "
		"assert(('a.b'):find('.', 1, true) == 2 and ('abc'):find('b()') == 2) "
		"assert(('hello'):gsub('l+', '<%0>') == 'he<ll>o') "
		"assert(('f(a(b))c'):match('%b()') == '(a(b))') "
		"assert(('THE (q)'):find('%f[%a]%a+%f[%A]') == 1) "
		"assert(('abcabc'):match('(a)bc%1') == 'a') "
		"local n = 0 for w in ('one two'):gmatch('%a+') do n = n + #w end assert(n == 6) "
		"assert(('x'):gsub('', '-') == '-x-' and ('aXb'):gsub('%u', { X = 1 }) == 'a1b') "
		"assert(not pcall(string.rep, 'x', 1 << 19)) return 'allow'");
}

static void test_load_errors(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{"return {\n}}", "test.lua:2:"},
		{"\n\nerror('no')", "test.lua:3: no"},
		{"error({})", "test.lua:1: the error is a table"},
		{"return 1", "test.lua: must return one table"},
		{"return {}, 1", "must return one table"},
		{"return { on_opne = print }", "on_opne is not a question"},
		{"return { on_open = 1 }", "on_open is a number, not a function"},
		{"while true do end",
		 "test.lua:1: took more "}, /* of either time: which, a busy machine decides */
		{"coroutine.yield()", "the script yielded"},
		{"\x1bLua", "test.lua"},
	};
	struct alk_err err;
	char *large = malloc(2000000);
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		err.text[0] = '\0';
		assert_null(alk_policy_new(NULL, "test.lua", cases[i].text, strlen(cases[i].text),
					   NULL, &err));
		if (!strstr(err.text, cases[i].says))
			fail_msg("\"%s\" does not say \"%s\"", err.text, cases[i].says);
	}
	memset(large, ' ', 2000000);
	assert_null(alk_policy_new(NULL, "test.lua", large, 2000000, NULL, &err));
	assert_non_null(strstr(err.text, "longer than"));
	free(large);
}

/* THREATS 66: denied, counted, alive; the budget is the caller's. */
static void test_budget(void **state)
{
	static const struct alk_policy_limits small = {.resume_ms = 5, .memory = 256 * 1024};
	static const char text[] =
		"return { on_link = function() while true do end end,\n"
		"on_auth = function() local t = {} while true do t[#t + 1] = {} end end,\n"
		"on_open = function() return 'forward' end }";
	struct alk_policy *policy = alk_policy_new(NULL, "test.lua", text, strlen(text), &small,
						   NULL);
	uint64_t asked = metric(ALK_M_POLICY_ASKED), denied = metric(ALK_M_POLICY_DENIED);
	uint64_t errors = metric(ALK_M_POLICY_ERRORS);
	struct alk_ask ask = ask_make(ALK_QUESTION_LINK);
	struct alk_answer a;

	(void)state;
	assert_non_null(policy);
	alk_policy_ask_now(policy, &ask, &a);
	assert_true(a.failed);
	assert_non_null(strstr(a.reason, "processor time"));
	assert_true(a.elapsed_us >= 5000);
	ask.question = ALK_QUESTION_AUTH;
	alk_policy_ask_now(policy, &ask, &a);
	assert_true(a.failed);
	ask.question = ALK_QUESTION_OPEN;
	alk_policy_ask_now(policy, &ask, &a);
	assert_int_equal(a.verdict, ALK_VERDICT_FORWARD);
	assert_int_equal(metric(ALK_M_POLICY_ASKED), asked + 3);
	assert_int_equal(metric(ALK_M_POLICY_DENIED), denied + 2);
	assert_int_equal(metric(ALK_M_POLICY_ERRORS), errors + 2);
	alk_policy_free(&policy);
	assert_null(alk_policy_new(NULL, "test.lua", text, strlen(text),
				   &(struct alk_policy_limits){.memory = 1000}, NULL));
}

/* What a question leaves behind is collected: 100 000 of them fit where 100 do. */
static void test_memory_stays_flat(void **state)
{
	static const struct alk_policy_limits small = {.resume_ms = 1000, .memory = 192 * 1024};
	static const char text[] = "return { on_open = function(s, to)\n"
				   "local t = {} for i = 1, 10 do t[i] = { to.host .. i } end\n"
				   "return 'forward', { host = t[1][1] } end }";
	struct alk_policy *policy = alk_policy_new(NULL, "test.lua", text, strlen(text), &small,
						   NULL);
	struct alk_ask ask = ask_make(ALK_QUESTION_OPEN);
	struct alk_answer a;
	int i;

	(void)state;
	assert_non_null(policy);
	for (i = 0; i < 3000; i++) {
		alk_policy_ask_now(policy, &ask, &a);
		assert_int_equal(a.verdict, ALK_VERDICT_FORWARD);
	}
	alk_policy_free(&policy);
}

/* Errors are logged once a second at the most, and say how many were not. */
static void test_errors_in_log(void **state)
{
	struct alk_policy *policy = policy_make(
		"return { on_open = function() error('first\\nlevel=info') end }");
	struct alk_ask ask = ask_make(ALK_QUESTION_OPEN);
	struct alk_answer a;
	char text[8192];
	int saved = dup(STDERR_FILENO), fd[2], i;
	const char *line;
	ssize_t n;

	(void)state;
	assert_int_equal(pipe2(fd, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_not_equal(dup2(fd[1], STDERR_FILENO), -1);
	alk_log_close();
	for (i = 0; i < 100; i++)
		alk_policy_ask_now(policy, &ask, &a);
	alk_log_close();
	n = read(fd[0], text, sizeof(text) - 1);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(fd[0]);
	close(fd[1]);
	assert_true(n > 0);
	text[n] = '\0';
	assert_non_null(strstr(text, "where=test.lua:1"));
	assert_non_null(strstr(text, "first\\x0alevel=info"));
	for (i = 0, line = text; (line = strchr(line, '\n')); line++)
		i++;
	assert_in_range(i, 1, 2);
	alk_policy_free(&policy);
}

struct asker {
	struct alk_loop *loop;
	struct alk_policy *policy;
	struct alk_policy_asked *asked, *other;
	struct alk_grant *grant;
	int count, wanted;
	enum alk_verdict verdict;
};

static void on_done(void *user, const struct alk_answer *answer)
{
	struct asker *asker = user;

	asker->count++;
	asker->verdict = answer->verdict;
	asker->grant = alk_grant_ref(answer->grant);
	alk_policy_cancel(&asker->asked); /* as a session that ends here would */
	alk_policy_cancel(&asker->other);
	if (asker->count >= asker->wanted)
		alk_loop_stop(asker->loop);
}

static void stop_loop(void *user)
{
	alk_loop_stop(user);
}

/* Everything that was queued has run. */
static void run_queued(struct alk_loop *loop)
{
	struct alk_task task = {.fn = stop_loop, .user = loop};

	alk_task_queue(loop, &task);
	alk_loop_run(loop);
}

static int asker_setup(void **state)
{
	static const char text[] =
		"return { on_auth = function() return 'allow', { id = 'x' } end }";
	struct asker *asker = calloc(1, sizeof(*asker));

	asker->loop = alk_loop_new(NULL);
	asker->policy = alk_policy_new(asker->loop, "test.lua", text, strlen(text), &patient, NULL);
	asker->wanted = 1;
	*state = asker;
	return asker->loop && asker->policy ? 0 : -1;
}

static int asker_teardown(void **state)
{
	struct asker *asker = *state;

	alk_policy_free(&asker->policy);
	alk_loop_free(&asker->loop);
	alk_grant_unref(&asker->grant);
	free(asker);
	return 0;
}

static void test_ask_later(void **state)
{
	struct asker *asker = *state;
	struct alk_ask *ask = malloc(sizeof(*ask));

	*ask = ask_make(ALK_QUESTION_AUTH);
	asker->asked = alk_policy_ask(asker->policy, ask, on_done, asker);
	free(ask); /* the question itself is copied */
	assert_non_null(asker->asked);
	assert_int_equal(asker->count, 0);
	alk_loop_run(asker->loop);
	run_queued(asker->loop);
	assert_int_equal(asker->count, 1);
	assert_int_equal(asker->verdict, ALK_VERDICT_ALLOW);
	assert_string_equal(asker->grant->identity.id, "x");
	assert_int_equal(asker->grant->refs, 1);
}

static void test_cancel(void **state)
{
	struct asker *asker = *state;
	struct alk_ask ask = ask_make(ALK_QUESTION_AUTH);

	asker->asked = alk_policy_ask(asker->policy, &ask, on_done, asker);
	alk_policy_cancel(&asker->asked);
	assert_null(asker->asked);
	alk_policy_cancel(&asker->asked);
	run_queued(asker->loop);
	assert_int_equal(asker->count, 0);
	/* The first that is answered cancels the other. */
	asker->asked = alk_policy_ask(asker->policy, &ask, on_done, asker);
	asker->other = alk_policy_ask(asker->policy, &ask, on_done, asker);
	alk_loop_run(asker->loop);
	run_queued(asker->loop);
	assert_int_equal(asker->count, 1);
}

static void on_done_free(void *user, const struct alk_answer *answer)
{
	struct asker *asker = user;

	asker->count++;
	assert_int_equal(answer->verdict, ALK_VERDICT_ALLOW);
	alk_policy_free(&asker->policy);
	assert_string_equal(answer->grant->identity.id, "x");
}

static void test_free_while_asked(void **state)
{
	struct asker *asker = *state;
	struct alk_ask ask = ask_make(ALK_QUESTION_AUTH);

	assert_non_null(alk_policy_ask(asker->policy, &ask, on_done_free, asker));
	assert_non_null(alk_policy_ask(asker->policy, &ask, on_done, asker));
	run_queued(asker->loop);
	assert_int_equal(asker->count, 1);
}

static void test_close_without_done(void **state)
{
	struct asker *asker = *state;
	struct alk_ask ask = ask_make(ALK_QUESTION_CLOSE);
	uint64_t asked = metric(ALK_M_POLICY_ASKED);

	assert_non_null(alk_policy_ask(asker->policy, &ask, NULL, NULL));
	run_queued(asker->loop);
	assert_int_equal(metric(ALK_M_POLICY_ASKED), asked + 1);
}

static void put_file(const char *dir, const char *name, const char *text, char *path, size_t size)
{
	FILE *file;

	snprintf(path, size, "%s/%s", dir, name);
	file = fopen(path, "we");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void test_tests_that_fail(void **state)
{
	static const char tests[] =
		"local seen = 0\n"
		"test('good', function() seen = seen + 1\n"
		"	local word, to, how = policy.on_open({ user = 'bob' }, { host = 'h', port = 5 })\n"
		"	expect_equal(word, 'forward') expect_equal(to.host, 'bob') expect_equal(to.port, 5)\n"
		"	expect(not how.failed) expect_equal(how.where, 'p.lua:1') end)\n"
		"test('unequal', function() expect_equal(1, 2) end)\n"
		"test('untrue', function() expect(false, 'no such thing') end)\n"
		"test('misspelt', function() policy.on_open({}, { hots = 'x' }) end)\n"
		"test('substring of a key', function() policy.on_open({}, { ost = 'x' }) end)\n"
		"test('denied', function() local word, why, how = policy.on_auth({ user = 'bob' })\n"
		"	expect_equal(word, 'deny') expect(how.failed) expect(why) end)\n"
		"test('nested', function() test('x', print) end)\n"
		"test('yields', function() coroutine.yield() end)\n"
		"test('identity', function()\n"
		"	local _, id = policy.on_auth({ user = 'al', link = { remote_addr = '::1' } })\n"
		"	expect_equal(id.id, '::1') expect_equal(id.scopes[1], 's') end)\n"
		"test('closed', function() expect_equal(policy.on_close({}, { duration = 1 }), nil) end)\n";
	char dir[] = "/tmp/alknet-test-XXXXXX", path[64], test_path[64], *out = NULL;
	struct alk_err err = {.text = ""};
	size_t size;
	FILE *file = open_memstream(&out, &size);

	(void)state;
	assert_non_null(mkdtemp(dir));
	put_file(dir, "p_test.lua", tests, test_path, sizeof(test_path));
	put_file(
		dir, "p.lua",
		"return { on_open = function(s, to) return 'forward', { host = s.user, port = to.port }"
		" end, on_auth = function(r) if r.user == 'bob' then error('bob') end"
		" return 'allow', { id = r.link.remote_addr, scopes = { 's' } } end }",
		path, sizeof(path));
	assert_int_equal(alk_policy_test_file(path, file, &err), 6);
	fclose(file);
	assert_non_null(strstr(out,
			       "1..10\nok 1 - good\nnot ok 2 - unequal\n# p_test.lua:6: got 1, "
			       "expected 2\nnot ok 3 - untrue\n# p_test.lua:7: no such thing\n"
			       "not ok 4 - misspelt\n"));
	assert_non_null(strstr(out, "not ok 5"));
	assert_non_null(strstr(out, "\nok 6 - denied\nnot ok 7 - nested\n"));
	assert_non_null(strstr(out, "\nok 9 - identity\nok 10 - closed\n# 4 passed, 6 failed\n"));
	free(out);
	put_file(dir, "p_test.lua", "-- nothing", test_path, sizeof(test_path));
	assert_int_equal(alk_policy_test_file(path, stdout, &err), -EINVAL);
	assert_string_equal(err.text, "p_test.lua: has no tests");
	unlink(test_path);
	assert_int_equal(alk_policy_test_file(path, stdout, &err), -ENOENT);
	put_file(dir, "p.lua", "return 1", path, sizeof(path));
	assert_int_equal(alk_policy_test_file(path, stdout, &err), -EINVAL);
	unlink(path);
	rmdir(dir);
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
		cmocka_unit_test(test_reserved_is_never_forwarded),
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_listen),
		cmocka_unit_test(test_close),
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_session_identity),
		cmocka_unit_test(test_peer_text_is_cut),
		cmocka_unit_test(test_where),
		cmocka_unit_test(test_wrong_word_is_not_told),
		cmocka_unit_test(test_alknet),
		cmocka_unit_test(test_sandbox),
		cmocka_unit_test(test_patterns),
		cmocka_unit_test(test_load_errors),
		cmocka_unit_test(test_budget),
		cmocka_unit_test(test_memory_stays_flat),
		cmocka_unit_test(test_errors_in_log),
		cmocka_unit_test_setup_teardown(test_ask_later, asker_setup, asker_teardown),
		cmocka_unit_test_setup_teardown(test_cancel, asker_setup, asker_teardown),
		cmocka_unit_test_setup_teardown(test_free_while_asked, asker_setup, asker_teardown),
		cmocka_unit_test_setup_teardown(test_close_without_done, asker_setup,
						asker_teardown),
		cmocka_unit_test(test_tests_that_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
