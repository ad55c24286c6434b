/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A worker in this process, with this test as its supervisor: what it does when memory is short. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <cmocka.h>

#include <jansson.h>
#include "ctl.h"
#include "worker.h"

#define WAIT_MS 60000
#define WALK_MAX 200 /* allocations for one question and its answer are fewer */

static struct alk_loop *loop;
static unsigned left; /* allocations of JSON until one fails; 0: none does */
static json_int_t answered;
static bool done, failed;

static void *failing_malloc(size_t n)
{
	if (left > 0 && --left == 0) {
		failed = true;
		alk_loop_stop(loop);
		return NULL;
	}
	return malloc(n);
}

static void on_message(void *user, struct alk_ctl *ctl, json_t *message, int fd)
{
	(void)user, (void)ctl, (void)fd;
	answered = json_integer_value(json_object_get(message, "id"));
	alk_loop_stop(loop);
}

static void on_closed(void *user, struct alk_ctl *ctl, int rc)
{
	(void)user, (void)ctl, (void)rc;
	fail_msg("the worker closed its control socket");
}

static void on_done(void *user, int status)
{
	(void)user, (void)status;
	done = true;
	alk_loop_stop(loop);
}

static void on_late(void *user)
{
	(void)user;
	fail_msg("no answer");
}

static void ask(struct alk_ctl *ctl, json_int_t id)
{
	assert_int_equal(alk_ctl_send(ctl,
				      json_pack("{s:s, s:I, s:s, s:{}}", "op", "request", "id", id,
						"method", "session.list", "params"),
				      NULL),
			 0);
}

/* An answer that there is no memory for is lost; the worker, and the sessions that it has, are
 * not. */
static void test_answer_is_lost(void **state)
{
	static const struct alk_ctl_ops ops = {.message = on_message, .closed = on_closed};
	struct alk_err err = {""};
	struct alk_worker *worker;
	struct alk_timer *late;
	struct alk_ctl *ctl;
	int pair[2];
	unsigned n;

	(void)state;
	loop = alk_loop_new(&err);
	assert_non_null(loop);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	worker = alk_worker_new(loop, &pair[1], true, on_done, NULL, &err);
	ctl = alk_ctl_new(loop, &pair[0], &ops, NULL, &err);
	late = alk_timer_new(loop, "late", on_late, NULL);
	assert_non_null(worker);
	assert_non_null(ctl);
	alk_timer_start(late, WAIT_MS);
	for (n = 1, failed = true; failed && n < WALK_MAX; n++) {
		failed = false;
		ask(ctl, 2 * n);
		left = n;
		while (answered != 2 * n && !failed)
			alk_loop_run(loop);
		left = 0;
		ask(ctl, 2 * n + 1);
		while (answered != 2 * n + 1 && !done)
			alk_loop_run(loop);
		if (done)
			fail_msg("the worker left when allocation %u failed", n);
	}
	assert_false(failed); /* all of them were walked */
	assert_true(n > 10);
	alk_timer_free(&late);
	alk_worker_free(&worker);
	alk_ctl_free(&ctl);
	alk_loop_free(&loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_answer_is_lost)};

	json_set_alloc_funcs(failing_malloc, free);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
