/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The engine: what a script may use, its budgets, failures, and asking on the loop. */
#include "policy_play.h"

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
		{"local a = 1\n\tlocal b = = 2\nreturn {}", "near '=' in: local b = = 2"},
		{"return {", "test.lua:1: unexpected symbol near <eof> in: return {"},
		{"x = 1\ny = '\x1b[2J", "in: y = '\\x1b[2J"},
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

/* However long the script's name is: the place once, the whole name, the line, what stands there.
 */
static void test_load_errors_of_a_long_name(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{"local a = 1\n\tlocal b = = 2\nreturn {}",
		 ":2: unexpected symbol near '=' in: local b = = 2"},
		{"\n\nerror('no')", ":3: no in: error('no')"},
		{"\nerror({})", ":2: the error is a table, not a text in: error({})"},
		{"error('a:b', 0)", ":1: a:b in: error('a:b', 0)"},
		{"return 1", ": must return one table of functions"},
	};
	char name[201], wanted[512];
	struct alk_err err;
	size_t i, n;

	(void)state;
	for (n = 57; n <= 200; n += n < 63 ? 1 : 137) {
		memset(name, 'd', sizeof(name));
		memcpy(name + n - 9, "/test.lua", 10);
		for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			assert_null(alk_policy_new(NULL, name, cases[i].text, strlen(cases[i].text),
						   &patient, &err));
			snprintf(wanted, sizeof(wanted), "%s%s", name, cases[i].says);
			assert_string_equal(err.text, wanted);
		}
	}
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
		"test('closed', function() expect_equal(policy.on_close({}, { duration = 1 }), nil) end)\n"
		"test('no key', function() policy.on_open({}, { [''] = 'x' }) end)\n"
		"test('a key and more', function() policy.on_open({}, { ['host\\0'] = 'x' }) end)\n";
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
	assert_int_equal(alk_policy_test_file(path, file, &err), 8);
	fclose(file);
	assert_non_null(strstr(out,
			       "1..12\nok 1 - good\nnot ok 2 - unequal\n# p_test.lua:6: got 1, "
			       "expected 2\nnot ok 3 - untrue\n# p_test.lua:7: no such thing\n"
			       "not ok 4 - misspelt\n"));
	assert_non_null(strstr(out, "not ok 5"));
	assert_non_null(strstr(out, "\nok 6 - denied\nnot ok 7 - nested\n"));
	assert_non_null(strstr(out, "\nok 9 - identity\nok 10 - closed\nnot ok 11 - no key\n"));
	assert_non_null(strstr(out, "\n# 4 passed, 8 failed\n"));
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
		cmocka_unit_test(test_alknet),
		cmocka_unit_test(test_sandbox),
		cmocka_unit_test(test_patterns),
		cmocka_unit_test(test_load_errors),
		cmocka_unit_test(test_load_errors_of_a_long_name),
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
