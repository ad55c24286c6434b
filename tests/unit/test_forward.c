/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

#include "conf.h"
#include "channel_play.h"

extern const struct alk_plugin alk_plugin; /* the one under test */

struct bench {
	struct alk_loop *loop;
	struct alk_conf *conf;
	void *state;
	struct alk_channel channel;
	int listener;
	uint16_t port;
	void *user;
};

static int setup(void **state)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct bench *b = calloc(1, sizeof(*b));
	struct alk_plugin_env env = {.size = sizeof(env),
				     .role = ALK_ROLE_WORKER,
				     .connect_timeout = 20000};
	socklen_t len = sizeof(sin);

	assert_non_null(b);
	env.loop = b->channel.loop = b->loop = alk_loop_new(NULL);
	b->channel.fd = -1;
	b->conf = alk_conf_new(ALK_ROLE_SUPERVISOR);
	env.options = alk_conf_plugin(b->conf, &alk_plugin, NULL);
	assert_non_null(env.options);
	assert_int_equal(alk_plugin.init(&env, &b->state, NULL), 0);
	b->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(b->listener, (struct sockaddr *)&sin, sizeof(sin)), 0);
	assert_int_equal(getsockname(b->listener, (struct sockaddr *)&sin, &len), 0);
	b->port = ntohs(sin.sin_port);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	alk_plugin.deinit(&b->state);
	assert_null(b->state);
	alk_fd_close(&b->channel.fd);
	alk_fd_close(&b->listener);
	alk_conf_free(&b->conf);
	alk_loop_free(&b->loop);
	free(b);
	return 0;
}

static int open_to(struct bench *b, const struct alk_destination *to, struct alk_err *err)
{
	return alk_plugin.ops.service->open(b->state, &b->channel, to, &b->user, err);
}

static struct alk_destination destination(const char *host, uint16_t port)
{
	struct alk_destination to = {.port = port};

	snprintf(to.host, sizeof(to.host), "%s", host);
	return to;
}

static void test_connected(void **state)
{
	struct bench *b = *state;
	struct alk_destination to = destination("127.0.0.1", b->port);
	struct sockaddr_in sin;
	socklen_t len = sizeof(sin);

	assert_int_equal(listen(b->listener, 5), 0);
	snprintf(to.bind, sizeof(to.bind), "127.0.0.5");
	assert_int_equal(open_to(b, &to, NULL), 0);
	assert_int_equal(b->channel.attached, 0); /* not before the target answered */
	alk_loop_run(b->loop);
	assert_int_equal(b->channel.attached, 1);
	assert_int_equal(b->channel.refused, 0);
	assert_int_equal(getsockname(b->channel.fd, (struct sockaddr *)&sin, &len), 0);
	assert_int_equal(ntohl(sin.sin_addr.s_addr), 0x7f000005);
}

static void test_refused(void **state)
{
	struct bench *b = *state;
	struct alk_destination to = destination("127.0.0.1", b->port);

	assert_int_equal(open_to(b, &to, NULL), 0);
	alk_loop_run(b->loop);
	assert_int_equal(b->channel.refused, 1);
	assert_int_equal(b->channel.why, ALK_OPEN_REFUSED);
	assert_string_equal(b->channel.text, "connect failed: Connection refused");
	alk_plugin.ops.service->close(b->user, &b->channel);
}

static void test_unix_socket(void **state)
{
	struct bench *b = *state;
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	char dir[] = "/tmp/alk-forward-XXXXXX";
	struct alk_destination to = {.path = ""};

	assert_non_null(mkdtemp(dir));
	snprintf(to.path, sizeof(to.path), "%s/s", dir);
	memcpy(sun.sun_path, to.path, sizeof(sun.sun_path));
	assert_int_equal(open_to(b, &to, NULL), 0);
	alk_loop_run(b->loop);
	assert_int_equal(b->channel.refused, 1);
	assert_int_equal(b->channel.why, ALK_OPEN_NAME);
	alk_plugin.ops.service->close(b->user, &b->channel);
	alk_fd_close(&b->listener);
	b->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(b->listener, (struct sockaddr *)&sun, sizeof(sun)), 0);
	assert_int_equal(listen(b->listener, 5), 0);
	assert_int_equal(open_to(b, &to, NULL), 0);
	alk_loop_run(b->loop);
	assert_int_equal(b->channel.attached, 1);
	unlink(to.path);
	rmdir(dir);
}

static void test_bad_host(void **state)
{
	struct bench *b = *state;
	struct alk_destination to = destination("no host", 1);
	struct alk_err err;

	assert_int_equal(open_to(b, &to, &err), -ENOENT);
	assert_string_equal(
		err.text,
		"connect failed: the host name \"no host\" has a character that no host name has");
	assert_int_equal(b->channel.refused, 0); /* the core does */
}

/* THREATS 32: the channel goes while its target is dialed. */
static void test_close_while_dialing(void **state)
{
	struct bench *b = *state;
	struct alk_destination to = destination("127.0.0.1", b->port);

	assert_int_equal(listen(b->listener, 5), 0);
	assert_int_equal(open_to(b, &to, NULL), 0);
	alk_plugin.ops.service->close(b->user, &b->channel);
	to = destination("name.invalid", 1);
	assert_int_equal(open_to(b, &to, NULL), 0);
	alk_plugin.ops.service->close(b->user, &b->channel);
	assert_int_equal(b->channel.attached, 0);
	assert_int_equal(b->channel.refused, 0);
}

/* The session broke at the same time: the channel cannot be attached, and is closed. */
static void test_attach_fails(void **state)
{
	struct bench *b = *state;
	struct alk_destination to = destination("127.0.0.1", b->port);

	assert_int_equal(listen(b->listener, 5), 0);
	b->channel.attach_rc = -EPIPE;
	assert_int_equal(open_to(b, &to, NULL), 0);
	alk_loop_run(b->loop);
	assert_int_equal(b->channel.attached, 1);
	assert_int_equal(b->channel.closed, 1);
	alk_plugin.ops.service->close(b->user, &b->channel);
}

#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_connected),		TEST(test_refused),
		TEST(test_unix_socket),		TEST(test_bad_host),
		TEST(test_close_while_dialing), TEST(test_attach_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
