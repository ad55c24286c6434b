/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "remote_listener.h"

#define ONE "SHA256:one"
#define TWO "SHA256:two"

/* Two workers' tables; what one tells is looked at, and carried to the other by hand, as the
 * supervisor does. */
struct bench {
	struct alk_loop *loop;
	struct alk_remote_table *table, *other;
	json_t *told; /* the last message of `table` */
	unsigned n_told;
	struct alk_link link;
	unsigned accepted, lost;
	int lost_rc;
};

static void on_tell(void *user, json_t *message)
{
	struct bench *b = user;

	json_decref(b->told);
	b->told = message;
	b->n_told++;
}

static void on_tell_other(void *user, json_t *message)
{
	(void)user;
	json_decref(message);
}

static void on_accepted(void *user, struct alk_link *link)
{
	struct bench *b = user;

	b->accepted++;
	b->link = *link;
	alk_link_close(link);
	alk_loop_stop(b->loop);
}

static void on_lost(void *user, int rc, const char *why)
{
	struct bench *b = user;

	b->lost_rc = rc;
	assert_true(why && *why);
	b->lost++;
}

static const struct alk_remote_listener_ops ops = {.accepted = on_accepted, .lost = on_lost};

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	b->loop = alk_loop_new(NULL);
	b->table = alk_remote_table_new(b->loop, on_tell, b);
	b->other = alk_remote_table_new(b->loop, on_tell_other, b);
	assert_non_null(b->loop);
	assert_non_null(b->table);
	assert_non_null(b->other);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	alk_remote_table_free(&b->table);
	alk_remote_table_free(&b->other);
	json_decref(b->told);
	alk_loop_free(&b->loop);
	free(b);
	return 0;
}

static int listen_at(struct bench *b, struct alk_remote_table *table, uint64_t session,
		     const char *identity, const char *host, uint16_t port,
		     struct alk_remote_listener **out)
{
	struct alk_remote_ask ask = {.session = session,
				     .identity = identity,
				     .host = host,
				     .port = port};

	return alk_remote_listen(table, &ask, &ops, b, out);
}

static const char *told(const struct bench *b, const char *key)
{
	return json_string_value(json_object_get(b->told, key));
}

static void hear_at(struct alk_remote_table *table, const char *op, uint64_t session,
		    const char *host, uint16_t port, const char *identity, bool on)
{
	json_t *message = json_pack("{s:s, s:I, s:i, s:s, s:s, s:b}", "op", op, "session",
				    (json_int_t)session, "port", (int)port, "host", host,
				    "identity", identity, "on", on);

	assert_non_null(message);
	alk_remote_table_hear(table, message);
	json_decref(message);
}

static void hear(struct alk_remote_table *table, const char *op, uint64_t session, uint16_t port,
		 const char *identity, bool on)
{
	hear_at(table, op, session, "127.0.0.1", port, identity, on);
}

/* Connect and accept. */
static void knock(struct bench *b, uint16_t port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)}, from;
	socklen_t len = sizeof(from);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&from, &len), 0);
	alk_loop_run(b->loop);
	close(fd);
	assert_int_equal(b->link.remote_port, ntohs(from.sin_port));
}

static void test_listen(void **state)
{
	struct bench *b = *state;
	struct alk_remote_listener *l;
	char text[320];
	uint16_t port;

	assert_int_equal(listen_at(b, b->table, 1, ONE, "localhost", 0, &l), 0);
	port = alk_remote_listener_port(l);
	assert_int_not_equal(port, 0);
	assert_string_equal(told(b, "op"), "remote");
	assert_true(json_is_true(json_object_get(b->told, "on")));
	alk_remote_listener_describe(l, text, sizeof(text));
	assert_string_equal(told(b, "address"), text);
	knock(b, port);
	assert_string_equal(b->link.remote_addr, "127.0.0.1");
	assert_int_equal(b->accepted, 1);
	alk_remote_listener_close(&l);
	assert_null(l);
	assert_true(json_is_false(json_object_get(b->told, "on")));
	assert_int_equal(b->lost, 0);
	assert_int_equal(listen_at(b, b->table, 1, ONE, "127.0.0.1", port, &l), 0);
	alk_remote_listener_close(&l);
}

static void test_bad_addresses(void **state)
{
	static const char *const bad[] = {"host.example.com", "127.1",	   "[::1]",
					  "127.0.0.1:80",     "Localhost", "300.0.0.1",
					  "127.0.0.1 ",	      "::1%"};
	struct bench *b = *state;
	struct alk_remote_listener *l;
	char text[400];
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_true(listen_at(b, b->table, 1, ONE, bad[i], 0, &l) < 0);
	memset(text, '1', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(listen_at(b, b->table, 1, ONE, text, 0, &l), -EINVAL);
	assert_int_equal(listen_at(b, b->table, 1, ONE, "192.0.2.1", 0, &l), -EADDRNOTAVAIL);
	assert_null(l);
	assert_int_equal(b->n_told, 0);
}

/* The same session and another identity are refused; another session of the identity takes the
 * port. */
static void test_whose_port(void **state)
{
	struct bench *b = *state;
	struct alk_remote_listener *one, *two;
	uint16_t port;

	assert_int_equal(listen_at(b, b->table, 1, ONE, "127.0.0.1", 0, &one), 0);
	port = alk_remote_listener_port(one);
	assert_int_equal(listen_at(b, b->table, 1, ONE, "127.0.0.1", port, &two), -EADDRINUSE);
	assert_int_equal(listen_at(b, b->table, 2, TWO, "127.0.0.1", port, &two), -EADDRINUSE);
	assert_int_equal(b->lost, 0);
	assert_int_equal(listen_at(b, b->table, 2, ONE, "localhost", port, &two), 0);
	assert_int_equal(b->lost, 1);
	knock(b, port);
	alk_remote_listener_close(&two);
}

/* The holder is in another worker. */
static void test_other_worker(void **state)
{
	struct bench *b = *state;
	struct alk_remote_listener *old, *young, *again;
	uint16_t port;

	assert_int_equal(listen_at(b, b->other, 1, ONE, "127.0.0.1", 0, &old), 0);
	port = alk_remote_listener_port(old);
	/* Not known here yet, or not of this identity. */
	assert_int_equal(listen_at(b, b->table, 2, ONE, "127.0.0.1", port, &young), -EADDRINUSE);
	hear(b->table, "remote", 1, port, ONE, true);
	assert_int_equal(listen_at(b, b->table, 2, TWO, "127.0.0.1", port, &young), -EADDRINUSE);
	assert_int_equal(b->n_told, 0);
	assert_int_equal(listen_at(b, b->table, 2, ONE, "127.0.0.1", port, &young), 0);
	assert_string_equal(told(b, "op"), "remote_want");
	assert_int_equal(listen_at(b, b->table, 2, ONE, "127.0.0.1", port, &again), -EADDRINUSE);
	hear(b->other, "remote_drop", 1, port, ONE, false);
	assert_int_equal(b->lost, 1);
	assert_int_equal(b->lost_rc, 0);
	hear(b->table, "remote", 1, port, ONE, false);
	assert_string_equal(told(b, "op"), "remote");
	knock(b, port);
	alk_remote_listener_close(&young);
}

/* Somebody else was faster: the one that waits is told. */
static void test_lost_to_a_third(void **state)
{
	struct bench *b = *state;
	struct alk_remote_listener *old, *young;
	uint16_t port;

	assert_int_equal(listen_at(b, b->other, 1, ONE, "127.0.0.1", 0, &old), 0);
	port = alk_remote_listener_port(old);
	hear(b->table, "remote", 1, port, ONE, true);
	assert_int_equal(listen_at(b, b->table, 2, ONE, "127.0.0.1", port, &young), 0);
	/* `old` still has it, in truth. */
	hear(b->table, "remote", 1, port, ONE, false);
	assert_int_equal(b->lost, 1);
	assert_int_equal(b->lost_rc, -EADDRINUSE);
	alk_remote_listener_close(&old);
	/* What makes no sense changes nothing. */
	hear(b->table, "remote_drop", 9, port, ONE, false);
	hear(b->table, "remote", 9, port, ONE, false);
	assert_int_equal(b->lost, 1);
}

/* Other addresses of the port are others' matter: they are neither taken over nor waited for. */
static void test_addresses_of_a_port(void **state)
{
	struct bench *b = *state;
	struct alk_remote_listener *one, *two, *young;
	uint16_t port;

	assert_int_equal(listen_at(b, b->table, 1, ONE, "127.0.0.1", 0, &one), 0);
	port = alk_remote_listener_port(one);
	assert_int_equal(listen_at(b, b->table, 1, ONE, "127.0.0.2", port, &two), 0);
	assert_string_equal(told(b, "host"), "127.0.0.2");
	assert_int_equal(listen_at(b, b->table, 2, ONE, "127.0.0.1", port, &young), 0);
	assert_int_equal(b->lost, 1);
	knock(b, port);
	hear_at(b->table, "remote_drop", 1, "127.0.0.1", port, ONE, false);
	assert_int_equal(b->lost, 1);
	hear_at(b->table, "remote_drop", 1, "127.0.0.2", port, ONE, false);
	assert_int_equal(b->lost, 2);
	alk_remote_listener_close(&young);
}

/* Another worker's session has two addresses of the port: who wants one waits for that one, who
 * wants all waits for both. */
static void test_addresses_in_another_worker(void **state)
{
	struct bench *b = *state;
	struct alk_remote_listener *one, *two, *young, *wide;
	uint16_t port;

	assert_int_equal(listen_at(b, b->other, 1, ONE, "127.0.0.1", 0, &one), 0);
	port = alk_remote_listener_port(one);
	assert_int_equal(listen_at(b, b->other, 1, ONE, "127.0.0.2", port, &two), 0);
	hear_at(b->table, "remote", 1, "127.0.0.1", port, ONE, true);
	hear_at(b->table, "remote", 1, "127.0.0.2", port, ONE, true);
	assert_int_equal(listen_at(b, b->table, 2, ONE, "127.0.0.1", port, &young), 0);
	assert_string_equal(told(b, "op"), "remote_want");
	assert_string_equal(told(b, "host"), "127.0.0.1");
	assert_int_equal(b->n_told, 1);
	/* Not what it waits for. */
	hear_at(b->table, "remote", 1, "127.0.0.2", port, ONE, false);
	hear_at(b->table, "remote", 1, "127.0.0.2", port, ONE, true);
	assert_int_equal(b->lost, 0);
	hear_at(b->other, "remote_drop", 1, "127.0.0.1", port, ONE, false);
	assert_int_equal(b->lost, 1);
	hear_at(b->table, "remote", 1, "127.0.0.1", port, ONE, false);
	assert_string_equal(told(b, "op"), "remote");
	knock(b, port);
	alk_remote_listener_close(&young);

	assert_int_equal(listen_at(b, b->other, 3, ONE, "127.0.0.1", port, &one), 0);
	hear_at(b->table, "remote", 3, "127.0.0.1", port, ONE, true);
	b->n_told = 0;
	assert_int_equal(listen_at(b, b->table, 2, ONE, "", port, &wide), 0);
	assert_int_equal(b->n_told, 2);
	hear_at(b->other, "remote_drop", 1, "127.0.0.2", port, ONE, false);
	hear_at(b->table, "remote", 1, "127.0.0.2", port, ONE, false);
	assert_int_equal(b->n_told, 2);
	hear_at(b->other, "remote_drop", 3, "127.0.0.1", port, ONE, false);
	hear_at(b->table, "remote", 3, "127.0.0.1", port, ONE, false);
	assert_int_equal(b->n_told, 3);
	knock(b, port);
	alk_remote_listener_close(&wide);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_listen, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_addresses, setup, teardown),
		cmocka_unit_test_setup_teardown(test_whose_port, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_worker, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost_to_a_third, setup, teardown),
		cmocka_unit_test_setup_teardown(test_addresses_of_a_port, setup, teardown),
		cmocka_unit_test_setup_teardown(test_addresses_in_another_worker, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
