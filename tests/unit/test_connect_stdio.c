/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* `alknet connect --stdio`. */
#include "connect_play.h"

/* ---- --stdio --------------------------------------------------------------------------------- */

static struct {
	int calls, rc;
	char text[512];
} stdio_end;

static void on_stdio_end(void *user, int rc, const struct alk_err *err)
{
	(void)user;
	stdio_end.calls++;
	stdio_end.rc = rc;
	snprintf(stdio_end.text, sizeof(stdio_end.text), "%s", err != NULL ? err->text : "");
}

static bool has_ended(void *user)
{
	(void)user;
	return stdio_end.calls > 0;
}

/* Give the process other standard descriptors for a while. */
static int saved_in, saved_out;

static void stdio_replace(int in, int out)
{
	fflush(stdout);
	saved_in = dup(STDIN_FILENO);
	saved_out = dup(STDOUT_FILENO);
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	memset(&stdio_end, 0, sizeof(stdio_end));
}

static void stdio_restore(void)
{
	dup2(saved_in, STDIN_FILENO);
	dup2(saved_out, STDOUT_FILENO);
	close(saved_in);
	close(saved_out);
}

static void test_stdio_pipes(void **state)
{
	struct alk_err err = {""};
	struct alk_stdio *stdio;
	int in[2], out[2];
	char byte;

	(void)state;
	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	stdio_replace(in[0], out[1]);
	stdio = alk_stdio_new(&front, "[::1]:22", on_stdio_end, NULL, &err);
	stdio_restore();
	assert_non_null(stdio);
	alk_stdio_open(stdio);
	expect_channels(1);
	assert_string_equal(channels[0]->to.host, "::1");
	assert_int_equal(channels[0]->to.port, 22);
	channels[0]->ops->opened(channels[0]->user, channels[0]);
	/* Ours do not block, and whoever shares them does not notice. */
	assert_true(fcntl(pumped.fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(pumped.fd_out, F_GETFL) & O_NONBLOCK);
	assert_false(fcntl(in[0], F_GETFL) & O_NONBLOCK);
	assert_false(fcntl(out[1], F_GETFL) & O_NONBLOCK);
	assert_int_equal(write(pumped.fd_out, "x", 1), 1);
	assert_int_equal(read(out[0], &byte, 1), 1);
	/* Nobody but the pump holds the output: its end is seen. */
	close(out[1]);
	alk_fd_close(&pumped.fd_out);
	assert_int_equal(read(out[0], &byte, 1), 0);
	pumped.done(pumped.user, 0);
	assert_true(run_until(has_ended, NULL, 20000));
	assert_int_equal(stdio_end.calls, 1);
	assert_int_equal(stdio_end.rc, 0);
	alk_stdio_free(&stdio);
	close(in[0]);
	close(in[1]);
	close(out[0]);
}

static void test_stdio_ends_with_the_session(void **state)
{
	struct alk_err err = {""};
	struct alk_stdio *stdio;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)state;
	stdio_replace(null, null);
	stdio = alk_stdio_new(&front, "h:22", on_stdio_end, NULL, &err);
	stdio_restore();
	assert_non_null(stdio);
	alk_stdio_open(stdio);
	channels[0]->ops->opened(channels[0]->user, channels[0]);
	pumped.done(pumped.user, 0);
	client.state = ALK_CLIENT_DOWN;
	/* That is the session's to report. */
	assert_false(run_until(has_ended, NULL, 50));
	alk_stdio_free(&stdio);
	close(null);
}

static void test_stdio_sockets_are_restored(void **state)
{
	struct alk_err err = {""};
	struct alk_stdio *stdio;
	int ends[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	stdio_replace(ends[0], ends[0]);
	stdio = alk_stdio_new(&front, "h:22", on_stdio_end, NULL, &err);
	stdio_restore();
	assert_non_null(stdio);
	assert_true(fcntl(ends[0], F_GETFL) & O_NONBLOCK);
	alk_stdio_free(&stdio);
	assert_false(fcntl(ends[0], F_GETFL) & O_NONBLOCK);
	close(ends[0]);
	close(ends[1]);
}

static void test_stdio_files_keep_their_place(void **state)
{
	struct alk_err err = {""};
	struct alk_stdio *stdio;
	char path[64];
	int in = open("/dev/null", O_RDONLY | O_CLOEXEC), out;

	(void)state;
	snprintf(path, sizeof(path), "%s/out", dir);
	out = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	unlink(path);
	assert_int_equal(write(out, "before", 6), 6);
	stdio_replace(in, out);
	stdio = alk_stdio_new(&front, "h:22", on_stdio_end, NULL, &err);
	stdio_restore();
	assert_non_null(stdio);
	alk_stdio_open(stdio);
	channels[0]->ops->opened(channels[0]->user, channels[0]);
	assert_int_equal(write(pumped.fd_out, "after", 5), 5);
	assert_int_equal(lseek(out, 0, SEEK_END), 11);
	alk_stdio_free(&stdio);
	close(in);
	close(out);
}

static void test_stdio_refused(void **state)
{
	struct alk_err err = {""};
	struct alk_stdio *stdio;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)state;
	stdio_replace(null, null);
	stdio = alk_stdio_new(&front, "h:22", on_stdio_end, NULL, &err);
	stdio_restore();
	assert_non_null(stdio);
	alk_stdio_open(stdio);
	channel_refuse(channels[0], ALK_OPEN_REFUSED);
	assert_int_equal(stdio_end.calls, 1);
	assert_true(stdio_end.rc < 0);
	assert_non_null(strstr(stdio_end.text, "h:22"));
	alk_stdio_free(&stdio);
	close(null);
}

static void test_stdio_bad_address(void **state)
{
	static const char *const bad[] = {"",	 "h",	  "h:",	    "h:0",
					  ":22", "h:ssh", "::1:22", "h:65536"};
	struct alk_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err.text[0] = '\0';
		assert_null(alk_stdio_new(&front, bad[i], on_stdio_end, NULL, &err));
		assert_non_null(strstr(err.text, "--stdio"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_stdio_pipes),
		TEST(test_stdio_ends_with_the_session),
		TEST(test_stdio_sockets_are_restored),
		TEST(test_stdio_files_keep_their_place),
		TEST(test_stdio_refused),
		TEST(test_stdio_bad_address),
	};
	int failed;

	assert(mkdtemp(dir) != NULL);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(dir);
	return failed;
}
