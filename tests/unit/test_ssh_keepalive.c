/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* When a silent peer is given up. Its silence is not waited for: the session's own times are moved.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
#include "ssh_session.h"

#define EVERY 150
#define LIMIT (3 * EVERY)

static struct alk_loop *loop;
static struct alk_ssh session;
static int peer;
static unsigned questions;

/* What ssh_session.c has of ssh_global.c. */
void alk_ssh_ping(struct alk_ssh *s)
{
	(void)s;
	questions++;
}

void alk_ssh_global_step(struct alk_ssh *s)
{
	(void)s;
}

void alk_ssh_global_end(struct alk_ssh *s)
{
	(void)s;
}

/* A session whose peer said something so long ago, and was asked so long ago (0: it was not). */
static void begin(uint64_t idle, uint64_t asked)
{
	struct alk_err err = {""};
	uint64_t now = alk_loop_now(loop);
	int fd[2];

	assert_int_equal(alk_ssh_init(&session, loop, NULL, NULL, &err), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	session.fd = fd[0];
	peer = fd[1];
	questions = 0;
	assert_true(now > 10 * LIMIT);
	session.idle_since = now - idle;
	session.asked_at = asked > 0 ? now - asked : now - idle - EVERY;
}

static int end(void **state)
{
	int fd = session.fd;

	(void)state;
	alk_ssh_deinit(&session);
	close(fd);
	close(peer);
	return 0;
}

/* As if so much time went by. */
static void later(uint64_t ms)
{
	session.idle_since -= ms;
	session.asked_at -= ms;
}

static bool is_given_up(void)
{
	alk_ssh_keepalive(&session, EVERY, LIMIT);
	return session.dying;
}

/* Then, and no earlier. */
static void gives_up_in(uint64_t ms)
{
	later(ms - 1);
	assert_false(is_given_up());
	later(1);
	assert_true(is_given_up());
}

static void test_a_silence(void **state)
{
	(void)state;
	begin(EVERY - 1, 0);
	assert_false(is_given_up());
	assert_int_equal(questions, 0);
	later(1);
	assert_false(is_given_up());
	assert_int_equal(questions, 1);
	later(LIMIT - EVERY - 1);
	assert_false(is_given_up());
	later(1);
	assert_true(is_given_up());
}

/* Whoever stood still has not asked: the question comes first, and has its time. */
static void test_a_silence_without_a_question(void **state)
{
	(void)state;
	begin(LIMIT + 1, 0);
	assert_false(is_given_up());
	assert_int_equal(questions, 1);
	gives_up_in(EVERY);
}

static void test_an_answer_that_waits(void **state)
{
	(void)state;
	begin(LIMIT, LIMIT - EVERY);
	assert_int_equal(write(peer, "x", 1), 1);
	assert_false(is_given_up());
}

/* A question that was on its way has its time when the machine is awake again, and no more. */
static void test_a_sleep_under_a_question(void **state)
{
	(void)state;
	begin(EVERY + 10, 10);
	alk_ssh_missed(&session, LIMIT - 10);
	assert_false(is_given_up());
	gives_up_in(EVERY);
}

/* A sleep is silence: it brings the question, which is not taken for one from before. */
static void test_a_sleep_without_a_question(void **state)
{
	(void)state;
	begin(10, 0);
	alk_ssh_missed(&session, LIMIT - 10);
	assert_false(is_given_up());
	assert_int_equal(questions, 1);
	gives_up_in(EVERY);
}

/* A nap gives no more than it took. */
static void test_a_nap_under_a_question(void **state)
{
	(void)state;
	begin(LIMIT - 1, EVERY - 1);
	alk_ssh_missed(&session, 10);
	assert_false(is_given_up());
	gives_up_in(11);
}

/* As a process that was stopped is told: the loop's clock went on, and the kernel heard. */
static void test_nothing_missed(void **state)
{
	(void)state;
	begin(LIMIT - 1, EVERY - 1);
	alk_ssh_missed(&session, 0);
	assert_false(is_given_up());
	later(1);
	assert_true(is_given_up());
}

static int setup(void **state)
{
	(void)state;
	loop = alk_loop_new(NULL);
	return loop ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	alk_loop_free(&loop);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_a_silence, end),
		cmocka_unit_test_teardown(test_a_silence_without_a_question, end),
		cmocka_unit_test_teardown(test_an_answer_that_waits, end),
		cmocka_unit_test_teardown(test_a_sleep_under_a_question, end),
		cmocka_unit_test_teardown(test_a_sleep_without_a_question, end),
		cmocka_unit_test_teardown(test_a_nap_under_a_question, end),
		cmocka_unit_test_teardown(test_nothing_missed, end),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
