/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* alknet/embed.h on the library's own thread, and visits: another thread in its place. */
#include <alknet/alknet.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <cmocka.h>

#include "embed_play.h"

static int posts[1000], posted;

static void on_post(void *user)
{
	posts[posted++] = *(int *)user;
}

static void thread_ready(void *user, struct alk_embed_server *s)
{
	server = s;
	client = client_make("user", "true", NULL);
	alk_embed_attend(embed); /* the posts that follow are waited for awake */
	sem_post(user);
}

static void thread_begin(void *user)
{
	static const struct alk_embed_server_ops ops = {.size = sizeof(ops), .ready = thread_ready};
	const struct alk_setting settings[] = {{"key", keygen_path("host")},
					       {"authorized_keys", keygen_path("user.pub")},
					       {"listen", "127.0.0.1:0"},
					       {0}};

	if (alk_embed_server_new(embed, "return { log_level = 'error' }", settings, &ops, user,
				 NULL) == NULL)
		abort();
}

/* Posts keep their order and none is lost; servers and clients that are left go with the thread. */
static void test_thread(void **state)
{
	static int numbers[1000];
	sem_t begun;

	(void)state;
	alarm(60);
	for (int round = 0; round < 3; round++) {
		keygen_run("rm -f known");
		sem_init(&begun, 0, 0);
		posted = up = 0; /* on_up may run before the end, and may not */
		embed = alk_embed_new(NULL, NULL);
		assert_non_null(embed);
		assert_int_equal(alk_embed_post(embed, thread_begin, &begun), 0);
		sem_wait(&begun);
		for (int i = 0; i < 1000; i++) {
			numbers[i] = i;
			assert_int_equal(alk_embed_post(embed, on_post, &numbers[i]), 0);
		}
		alk_embed_free(&embed);
		assert_int_equal(posted, 1000);
		for (int i = 0; i < 1000; i++)
			assert_int_equal(posts[i], i);
		sem_destroy(&begun);
	}
	client = NULL;
	server = NULL;
	alarm(0);
}

/* ---- visits: this thread in the place of the library's ---- */

/* In visits, until it is so. */
static void visit_until(const int *what, int value)
{
	bool is = false;

	while (!is) {
		assert_true(alk_embed_enter(embed, true));
		is = *what == value;
		alk_embed_leave(embed);
		sched_yield();
	}
}

/* As a program does it that has lent connections to `epoll`. */
static void serve_until(int epoll, const int *what, int value)
{
	struct pollfd in = {.fd = epoll, .events = POLLIN};
	bool is = false;

	while (!is) {
		assert_true(poll(&in, 1, 10) >= 0);
		assert_true(alk_embed_enter(embed, true));
		alk_embed_serve(embed, epoll);
		is = *what == value;
		alk_embed_leave(embed);
	}
}

static pthread_t data_thread;
static int pinged;

static size_t on_pinged(void *user, struct alk_channel *channel, const uint8_t *bytes, size_t n)
{
	(void)user, (void)channel, (void)bytes;
	data_thread = pthread_self();
	pinged++;
	return n;
}

static void on_ping_opened(void *user, struct alk_channel *channel)
{
	(void)user, (void)channel;
	got.opened++;
}

static const struct alk_channel_ops ping_ops = {.opened = on_ping_opened,
						.data = on_pinged,
						.close = on_close};

static void on_posted(void *user)
{
	++*(int *)user;
}

static void test_visits(void **state)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC), first = 0;
	struct alk_channel *channel;
	struct pollfd in = {.fd = epoll, .events = POLLIN};
	struct alk_err err;

	(void)state;
	alarm(60);
	ready = closed = up = down = pinged = 0;
	memset(&got, 0, sizeof(got));
	keygen_run("rm -f known");
	embed = alk_embed_new(NULL, &err);
	assert_non_null(embed);
	assert_true(alk_embed_enter(embed, true));
	server = server_make(&err);
	alk_embed_leave(embed);
	assert_non_null(server);
	visit_until(&ready, 1);
	/* What was posted before runs before. */
	assert_int_equal(alk_embed_post(embed, on_posted, &first), 0);
	assert_true(alk_embed_enter(embed, true));
	assert_int_equal(first, 1);
	client = client_make("user", "true", &err);
	assert_non_null(client);
	assert_int_equal(alk_embed_client_lend(client, epoll), -ENOTSUP); /* no session yet */
	alk_embed_leave(embed);
	visit_until(&up, 1);
	assert_true(alk_embed_enter(embed, true));
	channel = alk_embed_client_open(client, "alknet-echo", 7, &ping_ops, NULL, &err);
	assert_non_null(channel);
	alk_embed_leave(embed);
	visit_until(&got.opened, 1);
	/* The answer is this thread's. (The loop looks now and then whether it is wanted: then it
	 * was the loop's.) */
	do {
		assert_true(alk_embed_enter(embed, true));
		pinged = 0;
		assert_int_equal(alk_channel_write(channel, "ping", 4), 4);
		assert_int_equal(alk_embed_client_lend(client, epoll), 0);
		alk_embed_leave(embed);
		serve_until(epoll, &pinged, 1);
	} while (!pthread_equal(data_thread, pthread_self()));
	/* Nobody comes for it: it is the loop's again. */
	assert_true(alk_embed_enter(embed, true));
	assert_int_equal(alk_channel_write(channel, "ping", 4), 4);
	assert_int_equal(alk_embed_client_lend(client, epoll), 0);
	alk_embed_leave(embed);
	visit_until(&pinged, 2);
	assert_false(pthread_equal(data_thread, pthread_self()));
	/* Taken back by hand. */
	assert_true(alk_embed_enter(embed, true));
	assert_int_equal(alk_embed_client_lend(client, epoll), 0);
	alk_embed_client_recall(client);
	assert_int_equal(alk_channel_write(channel, "ping", 4), 4);
	alk_embed_leave(embed);
	visit_until(&pinged, 3);
	assert_int_equal(poll(&in, 1, 0), 0);
	/* A session that ends while it is lent. */
	assert_true(alk_embed_enter(embed, true));
	assert_int_equal(alk_embed_client_lend(client, epoll), 0);
	alk_embed_client_stop(client);
	alk_embed_leave(embed);
	visit_until(&down, 1);
	assert_int_equal(got.closed, 1);
	assert_int_equal(poll(&in, 1, 0), 0);
	assert_true(alk_embed_enter(embed, true));
	assert_int_equal(alk_embed_client_lend(client, epoll), -ENOTSUP);
	alk_embed_client_free(&client);
	alk_embed_server_free(&server);
	alk_embed_leave(embed);
	alk_embed_free(&embed);
	close(epoll);
	alarm(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_thread),
		cmocka_unit_test(test_visits),
	};

	return cmocka_run_group_tests(tests, setup, keygen_teardown);
}
