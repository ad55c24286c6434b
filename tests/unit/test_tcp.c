/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <alknet/alknet.h>
#include "conf.h"

extern const struct alk_plugin alk_plugin; /* the one under test */

struct bench {
	struct alk_loop *loop;
	struct alk_conf *conf;
	void *state;
	struct alk_listener *listener;
	struct alk_link accepted, dialed;
	int links, done, rc;
	struct alk_err err;
	void *dialing;
	uint16_t port;
};

static const struct alk_transport_ops *ops;

static void check_stop(struct bench *b)
{
	if (b->done == 1 && (b->rc < 0 || b->links == 1))
		alk_loop_stop(b->loop);
}

static void on_accepted(void *user, struct alk_link *link)
{
	struct bench *b = user;

	b->accepted = *link;
	b->links++;
	check_stop(b);
}

static void on_dialed(void *user, int rc, struct alk_link *link, const struct alk_err *err)
{
	struct bench *b = user;

	b->dialing = NULL;
	b->done++;
	b->rc = rc;
	b->err = *err;
	if (rc == 0)
		b->dialed = *link;
	check_stop(b);
}

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct alk_plugin_env env = {.size = sizeof(env),
				     .role = ALK_ROLE_CLIENT,
				     .connect_timeout = 20000};
	struct alk_acceptor up = {.accepted = on_accepted, .user = b};
	char text[64], host[64];

	assert_non_null(b);
	b->accepted = b->dialed = ALK_LINK_NONE;
	b->loop = env.loop = alk_loop_new(NULL);
	b->conf = alk_conf_new(ALK_ROLE_CLIENT);
	env.options = alk_conf_plugin(b->conf, &alk_plugin, NULL);
	assert_non_null(env.options);
	assert_int_equal(alk_plugin.init(&env, &b->state, NULL), 0);
	ops = alk_plugin.ops.transport;
	assert_int_equal(ops->listen(b->state, "127.0.0.1:0", &up, &b->listener, NULL), 0);
	ops->describe(b->state, b->listener, text, sizeof(text));
	assert_int_equal(alk_addr_split(text, host, sizeof(host), &b->port, false, NULL), 0);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	ops->dial_cancel(b->state, &b->dialing);
	ops->unlisten(b->state, &b->listener);
	assert_null(b->listener);
	alk_link_close(&b->accepted);
	alk_link_close(&b->dialed);
	alk_plugin.deinit(&b->state);
	assert_null(b->state);
	alk_conf_free(&b->conf);
	alk_loop_free(&b->loop);
	free(b);
	return 0;
}

static void start_dial(struct bench *b, const char *address)
{
	struct alk_err err = {""};

	b->dialing = ops->dial(b->state, address, on_dialed, b, &err);
	if (b->dialing == NULL)
		fail_msg("%s: %s", address, err.text);
}

static int option(int fd, int level, int name)
{
	socklen_t len = sizeof(int);
	int value = -1;

	assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
	return value;
}

static void test_dial_and_accept(void **state)
{
	struct bench *b = *state;
	char address[64];

	snprintf(address, sizeof(address), "127.0.0.1:%u", b->port);
	start_dial(b, address);
	assert_int_equal(b->done, 0);
	alk_loop_run(b->loop);
	if (b->rc != 0)
		fail_msg("%s", b->err.text);
	assert_string_equal(b->dialed.transport, "tcp");
	assert_string_equal(b->dialed.remote_addr, "127.0.0.1");
	assert_int_equal(b->dialed.remote_port, b->port);
	assert_string_equal(b->accepted.remote_addr, "127.0.0.1");
	assert_int_equal(b->accepted.remote_port, b->dialed.local_port);
	assert_int_equal(b->accepted.local_port, b->port);
	assert_int_not_equal(option(b->dialed.fd, IPPROTO_TCP, TCP_NODELAY), 0);
	assert_int_not_equal(option(b->dialed.fd, SOL_SOCKET, SO_KEEPALIVE), 0);
	assert_int_equal(option(b->dialed.fd, IPPROTO_TCP, TCP_KEEPIDLE), 60);
}

static void test_dial_refused(void **state)
{
	struct bench *b = *state;
	char address[64];

	snprintf(address, sizeof(address), "127.0.0.1:%u", b->port);
	ops->unlisten(b->state, &b->listener);
	start_dial(b, address);
	alk_loop_run(b->loop);
	assert_int_equal(b->rc, -ECONNREFUSED);
	assert_string_equal(b->err.text, "connect failed: Connection refused");
}

static void test_dial_cancelled(void **state)
{
	struct bench *b = *state;
	char address[64];

	snprintf(address, sizeof(address), "127.0.0.1:%u", b->port);
	start_dial(b, address);
	ops->dial_cancel(b->state, &b->dialing);
	assert_null(b->dialing);
	ops->dial_cancel(b->state, &b->dialing);
	assert_int_equal(b->done, 0);
}

/* Each of these can be dialed; without a port it is 22. */
static void test_good_addresses(void **state)
{
	static const char *const good[] = {"127.0.0.1", "name.invalid", "[::1]",
					   "::1",	"[::1]:22",	"name.invalid:1"};
	struct bench *b = *state;
	size_t i;

	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		start_dial(b, good[i]);
		ops->dial_cancel(b->state, &b->dialing);
	}
}

static void test_bad_addresses(void **state)
{
	static const struct {
		const char *address, *why;
	} bad[] = {
		{"", "the host is empty"},
		{":22", "the host is empty"},
		{"host:", "the port \"\" is not a number"},
		{"host:0", "the port 0 is not between 1 and 65535"},
		{"host:ssh", "the port \"ssh\" is not a number"},
		{"[::1", "the host name \"[::1\" has a character that no host name has"},
		{"a b", "the host name \"a b\" has a character that no host name has"},
		{"::zz", "the host name \"::zz\" has a character that no host name has"},
	};
	struct bench *b = *state;
	struct alk_err err;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_null(ops->dial(b->state, bad[i].address, on_dialed, b, &err));
		assert_string_equal(err.text, bad[i].why);
	}
}

static void test_pause(void **state)
{
	struct bench *b = *state;
	char address[64];

	snprintf(address, sizeof(address), "127.0.0.1:%u", b->port);
	ops->pause(b->state, b->listener, true);
	start_dial(b, address);
	ops->pause(b->state, b->listener, false);
	alk_loop_run(b->loop);
	assert_int_equal(b->links, 1);
}

static const struct alk_options *options_of(struct alk_conf *conf, const char *keepalive)
{
	char path[] = "/tmp/alk-tcp-XXXXXX";
	const struct alk_options *options;
	struct alk_err err = {""};
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	dprintf(fd, "return { tcp = { keepalive = %s } }", keepalive);
	close(fd);
	if (alk_conf_load_file(conf, path, &err) < 0)
		fail_msg("%s", err.text);
	options = alk_conf_plugin(conf, &alk_plugin, &err);
	if (options == NULL)
		fail_msg("%s", err.text);
	unlink(path);
	return options;
}

/* Another instance with other options takes the listener; what is accepted from then on has
 * them. */
static void test_adopt(void **state)
{
	static const char *const keepalive[] = {"0", "120"};
	struct bench *b = *state;
	char address[64];

	snprintf(address, sizeof(address), "127.0.0.1:%u", b->port);
	for (int i = 0; i < 2; i++) {
		struct alk_plugin_env env = {.size = sizeof(env), .role = ALK_ROLE_SUPERVISOR};
		struct alk_conf *conf = alk_conf_new(ALK_ROLE_SUPERVISOR);
		void *other;

		env.loop = b->loop;
		env.options = options_of(conf, keepalive[i]);
		assert_int_equal(alk_plugin.init(&env, &other, NULL), 0);
		assert_int_equal(ops->adopt(other, b->listener), 0);
		start_dial(b, address);
		alk_loop_run(b->loop);
		assert_int_equal(option(b->accepted.fd, SOL_SOCKET, SO_KEEPALIVE), i);
		if (i == 1)
			assert_int_equal(option(b->accepted.fd, IPPROTO_TCP, TCP_KEEPIDLE), 120);
		alk_link_close(&b->accepted);
		alk_link_close(&b->dialed);
		b->done = b->links = 0;
		alk_plugin.deinit(&other);
		alk_conf_free(&conf);
	}
}

#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_dial_and_accept), TEST(test_dial_refused),  TEST(test_dial_cancelled),
		TEST(test_good_addresses),  TEST(test_bad_addresses), TEST(test_pause),
		TEST(test_adopt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
