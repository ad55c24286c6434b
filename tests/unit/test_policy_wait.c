/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Questions that wait: alknet.resolve and alknet.sleep on the loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dns_play.h"
#include "log_private.h"
#include "policy.h"

#define ASKERS 1200

struct bench;

struct asker {
	struct bench *bench;
	struct alk_policy_asked *asked;
	struct alk_destination to;
	struct alk_ask ask;
	struct alk_answer answer;
	unsigned done;
};

struct bench {
	struct alk_loop *loop;
	struct dns_play dns;
	struct alk_policy *policy;
	struct asker asker[ASKERS];
	unsigned wanted, came;
	unsigned order[8]; /* which asker was answered when */
};

static struct alk_link link_tcp = {.fd = -1, .transport = "tcp", .remote_addr = "203.0.113.50"};

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	b->loop = alk_loop_new(NULL);
	dns_start(&b->dns, b->loop, alk_resolver_of(b->loop, NULL));
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	alk_policy_free(&b->policy);
	dns_stop(&b->dns);
	alk_loop_free(&b->loop);
	free(b);
	return 0;
}

static void on_done(void *user, const struct alk_answer *answer)
{
	struct asker *asker = user;
	struct bench *b = asker->bench;

	asker->done++;
	asker->asked = NULL;
	asker->answer = *answer;
	asker->answer.grant = NULL;
	if (b->came < sizeof(b->order) / sizeof(b->order[0]))
		b->order[b->came] = (unsigned)(asker - b->asker);
	if (++b->came == b->wanted)
		alk_loop_stop(b->loop);
}

/* A script with this on_open(session, to). */
static void load(struct bench *b, const char *body, uint32_t total_ms)
{
	struct alk_policy_limits limits = {.resume_ms = 1000, .total_ms = total_ms};
	struct alk_err err = {.text = ""};
	char text[4096];

	snprintf(text, sizeof(text), "return { on_open = function(session, to) %s end }", body);
	alk_policy_free(&b->policy);
	b->policy = alk_policy_new(b->loop, "test.lua", text, strlen(text), &limits, &err);
	if (!b->policy)
		fail_msg("%s", err.text);
}

static struct asker *ask(struct bench *b, unsigned i, uint64_t session, const char *host)
{
	struct asker *asker = &b->asker[i];

	*asker = (struct asker){.bench = b};
	snprintf(asker->to.host, sizeof(asker->to.host), "%s", host);
	asker->to.port = 443;
	asker->ask = (struct alk_ask){.question = ALK_QUESTION_OPEN,
				      .session = session,
				      .link = &link_tcp,
				      .user = "alice",
				      .to = &asker->to};
	asker->asked = alk_policy_ask(b->policy, &asker->ask, on_done, asker);
	assert_non_null(asker->asked);
	return asker;
}

static void wait_for(struct bench *b, unsigned n)
{
	b->wanted = b->came + n;
	alk_loop_run(b->loop);
}

/* What one question is answered; the reason is "" when it was let through. */
static const struct alk_answer *answer_to(struct bench *b, const char *host)
{
	struct asker *asker = ask(b, 0, 1, host);

	while (!asker->done)
		wait_for(b, 1);
	return &asker->answer;
}

/* The body's answer, which is denied with a reason. */
static const char *denied(struct bench *b, const char *body)
{
	const struct alk_answer *answer;

	load(b, body, 0);
	answer = answer_to(b, "both.example");
	assert_int_equal(answer->verdict, ALK_VERDICT_DENY);
	assert_false(answer->failed);
	return answer->reason;
}

static const char *failed(struct bench *b, const char *body)
{
	const struct alk_answer *answer;

	load(b, body, 0);
	answer = answer_to(b, "both.example");
	assert_int_equal(answer->verdict, ALK_VERDICT_DENY);
	assert_true(answer->failed);
	return answer->reason;
}

#define RESOLVED                                                                                   \
	"local found, why = alknet.resolve(to.host) "                                              \
	"return 'deny', found and table.concat(found, ' ') or 'nil: ' .. why"

static void test_resolve(void **state)
{
	static const char *const known[][2] = {
		{"both.example", "127.0.0.1 ::1"},
		{"four.example", "127.0.0.1"},
		{"six.example", "::1"},
		{"two.example", "127.0.0.1 127.0.0.2"},
		{"late.example", "127.0.0.1 127.0.0.2 ::1"}, /* whichever is answered first */
		{"none.example", "nil: no such host name"},
		{"192.0.2.7", "192.0.2.7"},
		{"2001:db8:0::1", "2001:db8::1"},
		{"::ffff:10.0.0.1", "10.0.0.1"},
		{"fe80::1%lo", "nil: an address with a zone"},
		{"alknet-control", "nil: a reserved destination has no address"},
	};
	struct bench *b = *state;
	size_t i;

	load(b, RESOLVED, 0);
	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		assert_string_equal(answer_to(b, known[i][0])->reason, known[i][1]);
	assert_non_null(strstr(answer_to(b, "0x7f.1")->reason, "nil: "));
	assert_non_null(strstr(answer_to(b, "a b")->reason, "nil: "));
	assert_non_null(strstr(answer_to(b, "nosix.example")->reason, "cannot be resolved"));
}

/* A name server may answer with thousands of addresses. */
static void test_t28_huge_answer(void **state)
{
	struct bench *b = *state;

	load(b, "return 'deny', tostring(#alknet.resolve(to.host))", 0);
	assert_string_equal(answer_to(b, "many.example")->reason, "16");
}

/* Several questions wait at once; each gets its own answer, in any order. */
static void test_side_by_side(void **state)
{
	struct bench *b = *state;
	struct asker *slow, *fast, *six;

	load(b, "if to.host == 'slow' then alknet.sleep(0.05) return 'deny', 'slept' end " RESOLVED,
	     0);
	slow = ask(b, 0, 1, "slow");
	fast = ask(b, 1, 1, "192.0.2.1");
	six = ask(b, 2, 2, "six.example");
	wait_for(b, 3);
	assert_string_equal(slow->answer.reason, "slept");
	assert_string_equal(fast->answer.reason, "192.0.2.1");
	assert_string_equal(six->answer.reason, "::1");
	assert_int_equal(b->order[0], 1);
	assert_int_equal(slow->done + fast->done + six->done, 3);
}

static void test_where_it_waits(void **state)
{
	struct bench *b = *state;

	/* through pcall, a metamethod, an iterator, and more than once */
	assert_string_equal(denied(b, "local ok, found = pcall(alknet.resolve, to.host) "
				      "return 'deny', tostring(ok) .. found[1]"),
			    "true127.0.0.1");
	assert_string_equal(denied(b, "local t = setmetatable({}, { __index = function(_, k) "
				      "return alknet.resolve(k)[1] end }) "
				      "return 'deny', t['six.x'] .. t['four.x']"),
			    "::1127.0.0.1");
	assert_string_equal(denied(b, "for _, a in ipairs(alknet.resolve(to.host)) do "
				      "assert(alknet.sleep(0)) end return 'deny', 'x'"),
			    "x");
	/* a coroutine of its own would get the yield, and so would a library */
	assert_non_null(strstr(failed(b, "local f = coroutine.wrap(alknet.resolve) f('a.b') "
					 "return 'forward'"),
			       "cannot wait in a coroutine of the script"));
	assert_non_null(strstr(failed(b, "coroutine.wrap(function() alknet.sleep(0) end)() "
					 "return 'forward'"),
			       "cannot wait in a coroutine of the script"));
	assert_non_null(strstr(failed(b, "table.sort({1, 2, 3}, function() alknet.sleep(0) end) "
					 "return 'forward'"),
			       "cannot wait in a function that a library calls"));
	assert_string_equal(failed(b, "coroutine.yield() return 'forward'"), "the script yielded");
	/* not the engine's wait either: it has to be noted by the function that yields */
	assert_string_equal(failed(b, "pcall(coroutine.wrap(alknet.sleep), 0) coroutine.yield() "
				      "return 'forward'"),
			    "the script yielded");
}

static void test_odd_sleeps(void **state)
{
	static const char *const odd[] = {"-1",	    "0/0", "1/0", "-1/0", "1e9", "5.001",
					  "2^1000", "'x'", "{}",  "nil",  "",	 "math.maxinteger"};
	struct bench *b = *state;
	char body[128];
	size_t i;

	for (i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		snprintf(body, sizeof(body), "alknet.sleep(%s) return 'forward'", odd[i]);
		assert_non_null(strstr(failed(b, body), "bad argument #1 to 'sleep'"));
	}
	load(b, "assert(alknet.sleep('0.001') == true) return 'forward'", 0);
	assert_int_equal(answer_to(b, "x")->verdict, ALK_VERDICT_FORWARD);
}

static void test_over_in_all(void **state)
{
	struct bench *b = *state;
	const struct alk_answer *answer;

	load(b, "alknet.resolve('silent.example') return 'forward'", 100);
	answer = answer_to(b, "x");
	assert_true(answer->failed);
	assert_string_equal(answer->reason, "took more time than it may");
	assert_string_equal(answer->where, "test.lua:1");
	load(b, "while true do pcall(alknet.sleep, 0.03) end", 100);
	assert_string_equal(answer_to(b, "x")->reason, "took more time than it may");
	assert_string_equal(failed(b, "for _ = 1, 33 do alknet.sleep(0) end return 'forward'"),
			    "test.lua:1: the question has waited 32 times");
}

/* Waiting does not count as processor time, working does, in each resume anew. */
static void test_budget_of_a_resume(void **state)
{
	const struct alk_policy_limits limits = {.resume_ms = 30};
	static const char text[] = "return { on_open = function(_, to) alknet.sleep(0.05) "
				   "if to.host == 'loop' then while true do end end "
				   "return 'forward' end }";
	struct bench *b = *state;

	b->policy = alk_policy_new(b->loop, "test.lua", text, strlen(text), &limits, NULL);
	assert_int_equal(answer_to(b, "x")->verdict, ALK_VERDICT_FORWARD);
	assert_string_equal(answer_to(b, "loop")->reason, "took more processor time than it may");
}

/* An answer that comes after the question was cancelled resumes nobody. */
static void test_cancelled(void **state)
{
	struct bench *b = *state;
	unsigned i;

	load(b, RESOLVED, 0);
	for (i = 0; i < 20; i++)
		ask(b, i, 1, i % 2 ? "both.example" : "slowsix.example");
	ask(b, 20, 2, "two.example");
	wait_for(b, 1);
	for (i = 0; i < 20; i++)
		alk_policy_cancel(&b->asker[i].asked);
	assert_string_equal(answer_to(b, "four.example")->reason, "127.0.0.1");
	for (i = 1; i < 20; i++)
		assert_true(b->asker[i].done <= 1);
	assert_int_equal(b->asker[2].done, 0);
	while (!b->asker[20].done)
		wait_for(b, 1);
	assert_string_equal(b->asker[20].answer.reason, "127.0.0.1 127.0.0.2");
}

static void test_freed_while_waiting(void **state)
{
	struct bench *b = *state;

	load(b, "alknet.sleep(4) return 'forward'", 0);
	ask(b, 1, 1, "x");
	ask(b, 2, 1, "x");
	load(b, "return 'forward'", 0);
	assert_int_equal(answer_to(b, "x")->verdict, ALK_VERDICT_FORWARD);
	assert_int_equal(b->asker[1].done, 0);
	load(b, "if to.host ~= 'good' then alknet.sleep(4) end return 'forward'", 0);
	ask(b, 1, 1, "x");
	ask(b, 2, 1, "good");
	wait_for(b, 1);
	alk_policy_free(&b->policy);
	assert_int_equal(b->asker[1].done, 0);
	assert_int_equal(b->asker[2].done, 1);
}

/* No session, and no number of them, can have more questions wait than the worker can bear. */
static void test_how_many_wait(void **state)
{
	struct bench *b = *state;
	unsigned i, refused = 0;

	load(b, "if to.host ~= 'now' then alknet.sleep(4) end return 'forward'", 0);
	for (i = 1; i <= 80; i++)
		ask(b, i, 1, "x");
	wait_for(b, 16);
	for (i = 1; i <= 80; i++)
		refused += b->asker[i].done;
	assert_int_equal(refused, 16);
	for (i = 81; i < ASKERS; i++)
		ask(b, i, i, "x");
	wait_for(b, ASKERS - 1 - 16 - 1024);
	for (i = 1; i < ASKERS; i++) {
		if (!b->asker[i].done)
			continue;
		assert_true(b->asker[i].answer.failed);
		assert_string_equal(b->asker[i].answer.reason, "too many questions wait");
	}
	assert_int_equal(answer_to(b, "now")->verdict, ALK_VERDICT_FORWARD);
	for (i = 1; i < ASKERS; i++)
		alk_policy_cancel(&b->asker[i].asked);
	ask(b, 1, 1, "x");
	assert_int_equal(answer_to(b, "now")->verdict, ALK_VERDICT_FORWARD);
	assert_int_equal(b->asker[1].done, 0);
}

/* Who asks these does not wait, so they cannot either, in whatever way they are asked. */
static void on_listen_and_on_close(struct bench *b)
{
	static const char text[] =
		"return { on_listen = function() alknet.sleep(0) return 'allow' end, "
		"on_close = function() alknet.resolve('a.b') end }";
	struct asker *asker = &b->asker[0];

	alk_policy_free(&b->policy);
	b->policy = alk_policy_new(b->loop, "test.lua", text, strlen(text), NULL, NULL);
	assert_non_null(b->policy);
	for (int i = 0; i < 2; i++) {
		*asker = (struct asker){.bench = b};
		asker->to = (struct alk_destination){.host = "localhost"};
		asker->ask = (struct alk_ask){.question = i ? ALK_QUESTION_LISTEN
							    : ALK_QUESTION_CLOSE,
					      .session = 1,
					      .link = &link_tcp,
					      .user = "alice",
					      .reason = "",
					      .to = &asker->to};
		asker->asked = alk_policy_ask(b->policy, &asker->ask, on_done, asker);
		wait_for(b, 1);
		assert_true(asker->answer.failed);
		assert_non_null(strstr(asker->answer.reason, "not on_listen or on_close"));
	}
}

/* Where the answer is wanted at once, and while the script is loaded, nothing can wait. */
static void test_no_place_to_wait(void **state)
{
	static const char text[] = "return { on_close = alknet.resolve('a.b') }";
	struct bench *b = *state;
	struct alk_err err = {.text = ""};
	struct alk_answer answer;
	struct asker *asker;

	load(b, "alknet.sleep(1) return 'forward'", 0);
	asker = ask(b, 0, 1, "x");
	alk_policy_cancel(&asker->asked);
	alk_policy_ask_now(b->policy, &asker->ask, &answer);
	assert_true(answer.failed);
	assert_string_equal(answer.reason, "the script waits where nothing can be waited for");
	assert_null(alk_policy_new(b->loop, "test.lua", text, strlen(text), NULL, &err));
	assert_non_null(strstr(err.text, "alknet.resolve waits, which only a question can"));
	on_listen_and_on_close(b);
}

int main(void)
{
#define T(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_resolve),
		T(test_t28_huge_answer),
		T(test_side_by_side),
		T(test_where_it_waits),
		T(test_odd_sleeps),
		T(test_over_in_all),
		T(test_budget_of_a_resume),
		T(test_cancelled),
		T(test_freed_while_waiting),
		T(test_how_many_wait),
		T(test_no_place_to_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
