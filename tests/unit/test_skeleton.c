/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "conf.h"
#include "channel_play.h"

extern const struct alk_plugin alk_plugin; /* the one under test */

static const struct alk_service_ops *ops;

struct bench {
	struct alk_conf *conf;
	void *state, *user;
	struct alk_loop *loop;
	struct alk_channel channel;
};

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct alk_plugin_env env = {.size = sizeof(env), .role = ALK_ROLE_WORKER};
	char path[] = "/tmp/alk-skeleton-XXXXXX";
	int fd = mkstemp(path);

	assert_non_null(b);
	assert_true(fd >= 0);
	assert_true(dprintf(fd, "return { skeleton = { greeting = 'hello ' } }") > 0);
	alk_fd_close(&fd);
	b->conf = alk_conf_new(ALK_ROLE_SUPERVISOR);
	assert_int_equal(alk_conf_load_file(b->conf, path, NULL), 0);
	unlink(path);
	b->loop = b->channel.loop = env.loop = alk_loop_new(NULL);
	env.options = alk_conf_plugin(b->conf, &alk_plugin, NULL);
	assert_non_null(env.options);
	assert_int_equal(alk_plugin.init(&env, &b->state, NULL), 0);
	b->channel.room = 100;
	ops = alk_plugin.ops.service;
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	alk_plugin.deinit(&b->state);
	assert_null(b->state);
	alk_conf_free(&b->conf);
	alk_loop_free(&b->loop);
	free(b);
	return 0;
}

static int skeleton_open(struct bench *b)
{
	const struct alk_destination to = {.host = "alknet-echo", .port = 1};

	return ops->open(b->state, &b->channel, &to, &b->user, NULL);
}

static size_t skeleton_data(struct bench *b, const char *text)
{
	return ops->data(b->user, &b->channel, (const uint8_t *)text, strlen(text));
}

static void test_echo(void **state)
{
	struct bench *b = *state;

	assert_int_equal(skeleton_open(b), 0);
	assert_int_equal(b->channel.accepted, 1);
	assert_string_equal(b->channel.out, "hello ");
	assert_int_equal(skeleton_data(b, "world"), 5);
	assert_string_equal(b->channel.out, "hello world");
	ops->eof(b->user, &b->channel);
	assert_int_equal(b->channel.eof, 1);
	assert_int_equal(b->channel.closed, 1);
	ops->close(b->user, &b->channel);
}

/* What cannot be sent is not taken, and is asked for when there is room. */
static void test_back_pressure(void **state)
{
	struct bench *b = *state;

	b->channel.room = 4;
	assert_int_equal(skeleton_open(b), 0);
	assert_string_equal(b->channel.out, "hell");
	assert_int_equal(skeleton_data(b, "world"), 0);
	b->channel.room = 1;
	ops->drain(b->user, &b->channel);
	assert_int_equal(b->channel.resumed, 0);
	b->channel.room = 4;
	ops->drain(b->user, &b->channel);
	assert_int_equal(b->channel.resumed, 1);
	assert_int_equal(skeleton_data(b, "world"), 3);
	b->channel.room = 100;
	ops->drain(b->user, &b->channel);
	assert_int_equal(b->channel.resumed, 2);
	assert_int_equal(skeleton_data(b, "ld"), 2);
	assert_string_equal(b->channel.out, "hello world");
	ops->close(b->user, &b->channel);
}

static void test_channel_breaks(void **state)
{
	struct bench *b = *state;

	b->channel.accept_rc = -EPIPE;
	assert_int_equal(skeleton_open(b), -EPIPE);
	b->channel.accept_rc = 0;
	b->channel.room = 6;
	assert_int_equal(skeleton_open(b), 0);
	b->channel.broken = true;
	assert_int_equal(skeleton_data(b, "world"), 0);
	assert_int_equal(b->channel.closed, 1);
	ops->close(b->user, &b->channel);
}

#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_echo),
		TEST(test_back_pressure),
		TEST(test_channel_breaks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
