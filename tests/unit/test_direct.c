/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
#include "direct.h"

/* A transport that has `say` to say, and takes `room` bytes. */
struct transport {
	int pair[2]; /* its own end, SSH's */
	struct alk_direct *direct;
	const char *say;
	ssize_t room;
	bool refuses;
	int begun, ended, told;
};

static bool begin(void *state)
{
	struct transport *t = state;

	t->begun++;
	if (t->refuses)
		t->direct = NULL;
	return !t->refuses;
}

static void end(void *state)
{
	struct transport *t = state;

	t->ended++;
	t->direct = NULL;
}

static ssize_t take_from(void *state, void *bytes, size_t n)
{
	struct transport *t = state;
	size_t len = t->say != NULL ? strlen(t->say) : 0;

	if (t->say == NULL)
		return -EAGAIN;
	if (len < n)
		n = len;
	memcpy(bytes, t->say, n);
	t->say += n;
	return (ssize_t)n;
}

static ssize_t give_to(void *state, const void *bytes, size_t n)
{
	const struct transport *t = state;

	(void)bytes;
	return t->room < (ssize_t)n ? t->room : (ssize_t)n;
}

static uint64_t unsent(void *state)
{
	(void)state;
	return 42;
}

static const struct alk_direct_ops ops = {
	.size = sizeof(ops),
	.begin = begin,
	.end = end,
	.recv = take_from,
	.send = give_to,
	.unsent = unsent,
};

static void on_ready(void *user, int events)
{
	struct transport *t = user;

	assert_int_equal(ALK_IO_READ, events);
	t->told++;
}

static void made(struct transport *t)
{
	*t = (struct transport){.room = 100};
	assert_int_equal(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, t->pair));
	t->direct = alk_direct_offer(t->pair[1], &ops, t);
	assert_non_null(t->direct);
}

static void closed(struct transport *t)
{
	close(t->pair[0]);
	close(t->pair[1]);
}

static void reads(struct alk_direct *direct, const char *what)
{
	char bytes[100];
	ssize_t n = alk_direct_recv(direct, bytes, sizeof(bytes));

	assert_int_equal(strlen(what), n);
	assert_memory_equal(what, bytes, strlen(what));
}

static void test_taken_and_ended(void **state)
{
	struct transport t;
	struct alk_direct *direct;
	char byte;

	(void)state;
	made(&t);
	alk_direct_ready(t.direct, ALK_IO_READ); /* nobody listens yet */
	direct = alk_direct_take(t.pair[1], on_ready, &t);
	assert_ptr_equal(t.direct, direct);
	assert_int_equal(1, t.begun);
	alk_direct_ready(t.direct, ALK_IO_READ);
	assert_int_equal(1, t.told);

	assert_int_equal(-1, alk_direct_recv(direct, &byte, 1));
	assert_int_equal(EAGAIN, errno);
	t.say = "hello";
	reads(direct, "hello");
	assert_int_equal(0, alk_direct_recv(direct, &byte, 1)); /* it has said all */

	assert_int_equal(3, alk_direct_send(direct, "abc", 3));
	t.room = 0;
	assert_int_equal(0, alk_direct_send(direct, "abc", 3));
	t.room = -EPIPE;
	assert_int_equal(-1, alk_direct_send(direct, "abc", 3));
	assert_int_equal(EPIPE, errno);
	assert_int_equal(42, alk_direct_unsent(direct));

	alk_direct_end(&direct);
	assert_null(direct);
	assert_null(t.direct);
	assert_int_equal(1, t.ended);
	assert_null(alk_direct_take(t.pair[1], on_ready, &t));
	alk_direct_end(&direct);
	closed(&t);
}

static void test_what_is_in_the_pair_comes_first(void **state)
{
	struct transport t;
	struct alk_direct *direct;

	(void)state;
	made(&t);
	t.say = " behind";
	assert_int_equal(5, write(t.pair[0], "first", 5));
	direct = alk_direct_take(t.pair[1], on_ready, &t);
	assert_true(alk_direct_drains(direct));
	reads(direct, "first");
	reads(direct, " behind");
	assert_false(alk_direct_drains(direct));
	alk_direct_end(&direct);
	closed(&t);
}

static void test_refused(void **state)
{
	struct transport t;

	(void)state;
	made(&t);
	t.refuses = true;
	assert_null(alk_direct_take(t.pair[1], on_ready, &t));
	assert_int_equal(1, t.begun);
	assert_null(alk_direct_take(t.pair[1], on_ready, &t));
	assert_int_equal(1, t.begun);
	assert_int_equal(0, t.ended);
	closed(&t);
}

static void test_withdrawn(void **state)
{
	struct transport t;
	struct alk_direct *direct;
	char byte;

	(void)state;
	made(&t);
	alk_direct_withdraw(&t.direct);
	assert_null(t.direct);
	assert_null(alk_direct_take(t.pair[1], on_ready, &t));
	alk_direct_withdraw(&t.direct);
	closed(&t);

	made(&t);
	t.say = "lost";
	direct = alk_direct_take(t.pair[1], on_ready, &t);
	alk_direct_withdraw(&t.direct);
	assert_int_equal(0, alk_direct_recv(direct, &byte, 1));
	assert_int_equal(-1, alk_direct_send(direct, "abc", 3));
	assert_int_equal(EPIPE, errno);
	assert_int_equal(0, alk_direct_unsent(direct));
	alk_direct_end(&direct);
	assert_int_equal(0, t.ended);
	closed(&t);
}

/* The number of a link that was closed before SSH had it is another's. */
static void test_a_number_that_came_again(void **state)
{
	struct transport old, new, none = {.told = 0};
	struct alk_direct *direct;

	(void)state;
	made(&old);
	closed(&old);
	assert_int_equal(0, socketpair(AF_UNIX, SOCK_STREAM, 0, none.pair));
	assert_int_equal(old.pair[1], none.pair[1]);
	assert_null(alk_direct_take(none.pair[1], on_ready, &none));
	closed(&none);

	made(&new);
	assert_int_equal(old.pair[1], new.pair[1]);
	alk_direct_withdraw(&old.direct); /* and is not the new one's end */
	direct = alk_direct_take(new.pair[1], on_ready, &new);
	assert_ptr_equal(new.direct, direct);
	alk_direct_end(&direct);
	assert_int_equal(0, old.begun);
	closed(&new);
	assert_null(alk_direct_take(-1, on_ready, &new));
	assert_null(alk_direct_take(100000, on_ready, &new));
}

static void test_a_shorter_table(void **state)
{
	const struct alk_direct_ops none = {.size = offsetof(struct alk_direct_ops, send)};
	const struct alk_direct_ops least = {
		.size = offsetof(struct alk_direct_ops, unsent),
		.recv = take_from,
		.send = give_to,
		.unsent = unsent,
	};
	struct transport t;
	struct alk_direct *direct;

	(void)state;
	made(&t);
	alk_direct_withdraw(&t.direct);
	assert_null(alk_direct_offer(t.pair[1], &none, &t));
	t.direct = alk_direct_offer(t.pair[1], &least, &t);
	direct = alk_direct_take(t.pair[1], on_ready, &t);
	assert_non_null(direct);
	assert_int_equal(0, alk_direct_unsent(direct));
	alk_direct_end(&direct);
	assert_int_equal(0, t.begun + t.ended);
	closed(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_taken_and_ended),
		cmocka_unit_test(test_what_is_in_the_pair_comes_first),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_withdrawn),
		cmocka_unit_test(test_a_number_that_came_again),
		cmocka_unit_test(test_a_shorter_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
