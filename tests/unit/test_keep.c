/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* When another session is begun. The session is played, and time is not waited for: the keeper's
 * own insides are moved, which is why its source stands here. */
#include "../../src/core/connect_keep.c"

#include <fcntl.h>
#include <setjmp.h>
#include <stddef.h>
#include <cmocka.h>
#include "log_private.h"

/* ---- the session, played --------------------------------------------------------------------- */

struct alk_client {
	enum alk_client_state state;
	const struct alk_client_ops *ops;
	void *user;
	unsigned starts, stops, cuts;
	char cut_why[64];
	uint64_t missed;
	int start_rc;
};

static struct alk_client client;

struct alk_client *alk_client_new(struct alk_loop *loop, struct alk_conf *conf,
				  const struct alk_client_ops *ops, void *user, struct alk_err *err)
{
	(void)loop, (void)conf, (void)err;
	client = (struct alk_client){.ops = ops, .user = user};
	return &client;
}

void alk_client_free(struct alk_client **c)
{
	*c = NULL;
}

int alk_client_start(struct alk_client *c, struct alk_err *err)
{
	assert_int_equal(c->state, ALK_CLIENT_DOWN);
	c->starts++;
	if (c->start_rc != 0)
		return alk_err_set(err, c->start_rc, "no descriptor left");
	c->state = ALK_CLIENT_DIALING;
	return 0;
}

void alk_client_stop(struct alk_client *c)
{
	c->stops++;
}

void alk_client_cut(struct alk_client *c, const char *why)
{
	snprintf(c->cut_why, sizeof(c->cut_why), "%s", why);
	c->cuts++;
}

void alk_client_missed(struct alk_client *c, uint64_t ms)
{
	c->missed += ms;
}

enum alk_client_state alk_client_get_state(const struct alk_client *c)
{
	return c->state;
}

const char *alk_client_server(const struct alk_client *c)
{
	(void)c;
	return "server.example:22";
}

/* ---- the harness ----------------------------------------------------------------------------- */

static struct alk_loop *loop;
static struct alk_conf *conf;
static struct alk_keep *keeper;
static struct {
	unsigned ups, firsts, overs;
	int rc;
	char text[512];
} told;
static int stderr_pipe[2], stderr_saved;

static void on_told_up(void *user, bool first)
{
	(void)user;
	told.ups++;
	told.firsts += first;
}

static void on_told_over(void *user, int rc, const struct alk_err *err)
{
	(void)user;
	told.overs++;
	told.rc = rc;
	snprintf(told.text, sizeof(told.text), "%s", err != NULL ? err->text : "");
}

static bool somebody_waits;

static bool is_waited_for(void *user)
{
	(void)user;
	return somebody_waits;
}

static const struct alk_keep_ops told_ops = {
	.up = on_told_up,
	.waited_for = is_waited_for,
	.over = on_told_over,
};

static void begin(bool once)
{
	struct alk_err err = {""};

	keeper = alk_keep_new(loop, conf, once, &told_ops, NULL, &err);
	assert_non_null(keeper);
	assert_int_equal(alk_keep_start(keeper, &err), 0);
	assert_int_equal(client.starts, 1);
}

static int setup(void **state)
{
	struct alk_err err = {""};

	(void)state;
	loop = alk_loop_new(&err);
	conf = alk_conf_new(ALK_ROLE_CLIENT);
	assert_non_null(loop);
	assert_non_null(conf);
	assert_int_equal(alk_conf_set(conf, "keepalive", "15s", "flag", &err), 0);
	alk_log_set_level(ALK_LOG_WARN);
	memset(&told, 0, sizeof(told));
	assert_int_equal(pipe2(stderr_pipe, O_CLOEXEC | O_NONBLOCK), 0);
	fflush(stderr);
	stderr_saved = dup(STDERR_FILENO);
	dup2(stderr_pipe[1], STDERR_FILENO);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	dup2(stderr_saved, STDERR_FILENO);
	close(stderr_saved);
	close(stderr_pipe[0]);
	close(stderr_pipe[1]);
	alk_keep_free(&keeper);
	alk_conf_free(&conf);
	alk_loop_free(&loop);
	return 0;
}

static void up(void)
{
	client.state = ALK_CLIENT_UP;
	client.ops->up(client.user);
}

static void down(int rc, const char *why)
{
	struct alk_err err;

	snprintf(err.text, sizeof(err.text), "%s", why);
	client.state = ALK_CLIENT_DOWN;
	client.ops->down(client.user, rc, &err);
}

/* The wait is over. */
static void time_goes_by(void)
{
	alk_timer_stop(keeper->wait);
	on_wait_over(keeper);
}

static void expect_next(double at_least, double at_most)
{
	struct alk_keep_info info;

	alk_keep_get_info(keeper, &info);
	assert_int_equal(info.state, ALK_KEEP_WAITING);
	assert_true(alk_timer_active(keeper->wait));
	if (info.next < at_least || info.next > at_most)
		fail_msg("the next attempt is in %g s, not in %g to %g", info.next, at_least,
			 at_most);
}

/* What came on stderr meanwhile, and how many lines. */
static char said[4096];

static unsigned lines_said(void)
{
	ssize_t n = read(stderr_pipe[0], said, sizeof(said) - 1);
	unsigned lines = 0;

	said[n > 0 ? n : 0] = '\0';
	for (const char *c = said; *c != '\0'; c++)
		lines += *c == '\n';
	return lines;
}

/* ---- the tests ------------------------------------------------------------------------------- */

static void test_first_failure_is_the_end(void **state)
{
	(void)state;
	begin(false);
	down(-ECONNREFUSED, "server.example:22: refused");
	assert_int_equal(told.overs, 1);
	assert_int_equal(told.rc, -ECONNREFUSED);
	assert_string_equal(told.text, "server.example:22: refused");
	assert_int_equal(client.starts, 1);
}

static void test_waits_grow(void **state)
{
	static const double waits[] = {1, 2, 4, 8, 16, 30, 30, 30};

	(void)state;
	begin(false);
	up();
	assert_int_equal(told.firsts, 1);
	down(-ECONNRESET, "connection lost");
	for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
		expect_next(waits[i] * 0.75, waits[i]);
		assert_int_equal(client.starts, i + 1);
		time_goes_by();
		assert_int_equal(client.starts, i + 2);
		down(-ECONNREFUSED, "refused");
	}
	/* For ever, and it is not the end for anybody. */
	assert_int_equal(told.overs, 0);
	time_goes_by();
	up();
	assert_int_equal(told.ups, 2);
	assert_int_equal(told.firsts, 1);
}

static void test_a_good_session_begins_anew(void **state)
{
	(void)state;
	begin(false);
	up();
	down(-ECONNRESET, "lost");
	time_goes_by();
	up();
	down(-ECONNRESET, "lost");
	/* It stood for no time at all: a server that drops us at once is not asked each second. */
	expect_next(1.5, 2);
	time_goes_by();
	up();
	keeper->since -= STOOD_MS;
	down(-ECONNRESET, "lost");
	expect_next(0.75, 1);
}

static void test_one_line_a_change(void **state)
{
	(void)state;
	begin(false);
	up();
	down(-ECONNRESET, "lost");
	assert_int_equal(lines_said(), 1);
	assert_non_null(strstr(said, "the session ended: lost; connecting again in "));
	for (int i = 0; i < 5; i++) {
		time_goes_by();
		down(-ECONNREFUSED, "refused");
	}
	assert_int_equal(lines_said(), 1);
	assert_non_null(strstr(said, "not connected: refused"));
	time_goes_by();
	down(-EHOSTUNREACH, "unreachable");
	assert_int_equal(lines_said(), 1);
	time_goes_by();
	up();
	assert_int_equal(lines_said(), 1);
	assert_non_null(strstr(said, "connected to server.example:22 again after "));
}

/* Who does not read our stderr loses lines, and nothing else happens. */
static void test_stderr_that_is_full(void **state)
{
	char bytes[4096] = {0};

	(void)state;
	begin(false);
	while (write(stderr_pipe[1], bytes, sizeof(bytes)) > 0)
		;
	fcntl(stderr_pipe[1], F_SETFL, 0);
	up();
	down(-ECONNRESET, "lost");
	expect_next(0.75, 1);
}

static void test_refused_is_tried_slowly(void **state)
{
	(void)state;
	begin(false);
	up();
	down(-ECONNRESET, "lost");
	time_goes_by();
	down(-EACCES, "THE HOST KEY HAS CHANGED");
	expect_next(45, 60);
	lines_said();
	assert_non_null(strstr(said, "NOT CONNECTED: THE HOST KEY HAS CHANGED"));
	/* Applications that wait do not make it any better. */
	alk_keep_wanted(keeper);
	expect_next(45, 60);
	time_goes_by();
	down(-EACCES, "THE HOST KEY HAS CHANGED");
	expect_next(45, 60);
	time_goes_by();
	down(-ECONNREFUSED, "refused");
	expect_next(1.5, 2);
}

static void test_wanted_is_sooner(void **state)
{
	(void)state;
	begin(false);
	up();
	down(-ECONNRESET, "lost");
	for (int i = 0; i < 6; i++) {
		time_goes_by();
		down(-ECONNREFUSED, "refused");
	}
	expect_next(22, 30);
	alk_keep_wanted(keeper);
	expect_next(0, 1.1);
	/* As long as it waits. */
	somebody_waits = true;
	for (int i = 0; i < 3; i++) {
		time_goes_by();
		down(-ECONNREFUSED, "refused");
		expect_next(0.75, 1);
	}
	time_goes_by();
	down(-EACCES, "refused");
	expect_next(45, 60);
	somebody_waits = false;
	time_goes_by();
	down(-ECONNREFUSED, "refused");
	expect_next(22, 30);
	/* Never later than it was. */
	keeper->due = alk_loop_now(loop);
	alk_keep_wanted(keeper);
	expect_next(0, 0);
}

static void test_start_that_fails(void **state)
{
	(void)state;
	begin(false);
	up();
	down(-ECONNRESET, "lost");
	client.start_rc = -EMFILE;
	time_goes_by();
	expect_next(1.5, 2);
	client.start_rc = 0;
	time_goes_by();
	up();
	assert_int_equal(told.ups, 2);
}

static void test_asked_for_again(void **state)
{
	struct alk_keep_info info;

	(void)state;
	begin(false);
	alk_keep_again(keeper); /* it is on its way already */
	assert_int_equal(client.stops, 0);
	up();
	alk_keep_again(keeper);
	assert_int_equal(client.stops, 1);
	down(0, "stopped");
	expect_next(0, 0);
	time_goes_by();
	down(-ECONNREFUSED, "refused");
	expect_next(0.75, 1);
	alk_keep_again(keeper);
	expect_next(0, 0);
	time_goes_by();
	up();
	alk_keep_get_info(keeper, &info);
	assert_int_equal(info.reconnects, 1);
	assert_int_equal(info.failures, 1);
	assert_string_equal(info.reason, "refused");
}

static void test_suspended(void **state)
{
	(void)state;
	begin(false);
	on_missed(keeper, 3600000, 3600000);
	assert_int_equal(client.cuts, 0); /* the first attempt has its own deadline */
	up();
	on_missed(keeper, 44999, 44999);
	assert_int_equal(client.missed, 44999);
	assert_int_equal(client.cuts, 0);
	on_missed(keeper, 45000, 45000);
	assert_int_equal(client.cuts, 1);
	assert_string_equal(client.cut_why, "this machine slept for 45 s");
	down(-ETIMEDOUT, "this machine slept");
	expect_next(0, 0);
	time_goes_by();
	for (int i = 0; i < 6; i++) {
		down(-ENETUNREACH, "unreachable");
		time_goes_by();
	}
	down(-ENETUNREACH, "unreachable");
	expect_next(22, 30);
	on_missed(keeper, 45000, 45000);
	expect_next(0, 0);
	/* An attempt that began before the sleep is given up too. */
	time_goes_by();
	on_missed(keeper, 45000, 45000);
	assert_int_equal(client.cuts, 2);
}

/* What was no sleep, or less than half of it, is not called one. */
static void test_stopped(void **state)
{
	(void)state;
	begin(false);
	up();
	on_missed(keeper, 44999, 0);
	assert_int_equal(client.missed, 0);
	assert_int_equal(client.cuts, 0);
	on_missed(keeper, 50000, 0);
	assert_string_equal(client.cut_why, "this process stood still for 50 s");
	on_missed(keeper, 50000, 25000);
	assert_string_equal(client.cut_why, "this process stood still for 50 s");
	on_missed(keeper, 50000, 25001);
	assert_string_equal(client.cut_why, "this machine slept for 50 s");
	assert_int_equal(client.cuts, 3);
}

static void test_once(void **state)
{
	(void)state;
	begin(true);
	up();
	down(0, "");
	assert_int_equal(told.overs, 1);
	assert_true(told.rc < 0);
	assert_string_equal(told.text, "the session ended: the server closed the session");
}

static void test_stop(void **state)
{
	(void)state;
	begin(false);
	up();
	alk_keep_stop(keeper);
	alk_keep_stop(keeper);
	alk_keep_again(keeper);
	on_missed(keeper, 100000, 100000);
	assert_int_equal(client.stops, 1);
	assert_int_equal(told.overs, 0);
	down(0, "stopped");
	assert_int_equal(told.overs, 1);
	assert_int_equal(told.rc, 0);
}

static void test_stop_while_it_waits(void **state)
{
	(void)state;
	begin(false);
	up();
	down(-ECONNRESET, "lost");
	alk_keep_stop(keeper);
	assert_int_equal(told.overs, 1);
	assert_int_equal(told.rc, 0);
	assert_false(alk_timer_active(keeper->wait));
	assert_int_equal(client.starts, 1);
}

/* ---- clocks ---------------------------------------------------------------------------------- */

#define S 1000000000ULL

static void test_t44_clocks_that_jump(void **state)
{
	struct alk_suspend_clocks last = {0};
	uint64_t slept;

	(void)state;
	/* Days since the boot are no sleep. */
	assert_int_equal(alk_suspend_judge(&last, 100 * S, 90000 * S, 5000, &slept), 0);
	assert_int_equal(alk_suspend_judge(&last, 105 * S, 90005 * S, 5000, &slept), 0);
	/* An hour in which only the clock of the boot went on. */
	assert_int_equal(alk_suspend_judge(&last, 110 * S, 93610 * S, 5000, &slept), 3600000);
	assert_int_equal(slept, 3600000);
	assert_int_equal(alk_suspend_judge(&last, 115 * S, 93615 * S, 5000, &slept), 0);
	/* Stopped: both went on, nobody looked. */
	assert_int_equal(alk_suspend_judge(&last, 220 * S, 93720 * S, 5000, &slept), 100000);
	assert_int_equal(slept, 0);
	/* Looked early, because the wall clock was set. */
	assert_int_equal(alk_suspend_judge(&last, 221 * S, 93721 * S, 5000, &slept), 0);
	assert_int_equal(alk_suspend_judge(&last, 221 * S, 93721 * S, 5000, &slept), 0);
	/* A clock that goes back is not one of these two; it must not count as an age either. */
	assert_int_equal(alk_suspend_judge(&last, 226 * S, 93700 * S, 5000, &slept), 0);
}

static void test_backoff(void **state)
{
	struct alk_backoff backoff = {.first_ms = 1000, .max_ms = 30000};
	unsigned different = 0;
	uint64_t before = 0;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		uint64_t ms = alk_backoff_next(&backoff);
		uint64_t full = i < 5 ? 1000ULL << i : 30000;

		assert_in_range(ms, full - full / 4, full);
		different += ms != before;
		before = ms;
	}
	assert_true(different > 900);
	alk_backoff_reset(&backoff);
	assert_in_range(alk_backoff_next(&backoff), 750, 1000);
	assert_int_equal(alk_backoff_jitter(0), 0);
}

#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_first_failure_is_the_end),
		TEST(test_waits_grow),
		TEST(test_a_good_session_begins_anew),
		TEST(test_one_line_a_change),
		TEST(test_stderr_that_is_full),
		TEST(test_refused_is_tried_slowly),
		TEST(test_wanted_is_sooner),
		TEST(test_start_that_fails),
		TEST(test_asked_for_again),
		TEST(test_suspended),
		TEST(test_stopped),
		TEST(test_once),
		TEST(test_stop),
		TEST(test_stop_while_it_waits),
		cmocka_unit_test(test_t44_clocks_that_jump),
		cmocka_unit_test(test_backoff),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
