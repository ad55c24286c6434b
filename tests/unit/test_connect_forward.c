/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Forwards of `alknet connect`, and where it listens. */
#include "connect_play.h"

/* ---- forwards -------------------------------------------------------------------------------- */

static void test_forward_opens(void **state)
{
	int fd = dial(forward_start("0:[2001:db8::1]:25"));

	(void)state;
	SAY(fd, "data of the application");
	expect_channels(1);
	assert_string_equal(channels[0]->to.host, "2001:db8::1");
	assert_int_equal(channels[0]->to.port, 25);
	assert_string_equal(channels[0]->to.path, "");
	channels[0]->ops->opened(channels[0]->user, channels[0]);
	assert_true(pumped.fd >= 0);
	/* It is still in the socket. */
	assert_int_equal(pumped.first_len, 0);
	expect_bytes(pumped.fd, "data of the application", 23);
	close(fd);
}

static void test_forward_keeps_a_half_closed_reader(void **state)
{
	int fd = dial(forward_start("0:h:25"));
	size_t n = 2;

	(void)state;
	shutdown(fd, SHUT_WR);
	expect_channels(1);
	assert_false(run_until(has_channels, &n, 50));
	assert_false(channels[0]->closed);
	channels[0]->ops->opened(channels[0]->user, channels[0]);
	assert_true(pumped.fd >= 0);
	close(fd);
}

static void test_forward_refused_closes(void **state)
{
	int fd = dial(forward_start("127.0.0.1:0:h:25"));

	(void)state;
	expect_channels(1);
	channel_refuse(channels[0], ALK_OPEN_REFUSED);
	expect_last_bytes(fd, "", 0);
	assert_null(front.conns);
	close(fd);
}

static void test_forward_to_unix(void **state)
{
	int fd = dial(forward_start("0:/run/there.sock"));

	(void)state;
	expect_channels(1);
	assert_string_equal(channels[0]->to.path, "/run/there.sock");
	assert_string_equal(channels[0]->to.host, "");
	close(fd);
}

static int dial_unix(const char *path)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0)
		alk_fd_close(&fd);
	return fd;
}

static void test_forward_from_unix(void **state)
{
	char path[64], spec[128], text[256], line[256];
	struct alk_err err = {""};
	struct stat st;
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/s", dir);
	snprintf(spec, sizeof(spec), "%s:h:25", path);
	assert_int_equal(alk_accept_forward(&front, spec, &err), 0);
	assert_int_equal(alk_accept_start(&front), 0);
	announced(text, sizeof(text));
	snprintf(line, sizeof(line), "alknet: forwarding %s to h:25\n", path);
	assert_string_equal(text, line);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);

	fd = dial_unix(path);
	assert_true(fd >= 0);
	expect_channels(1);
	assert_string_equal(channels[0]->to.originator, "127.0.0.1");
	assert_int_equal(channels[0]->to.originator_port, 0);
	/* A unix socket does tell a close from a half-close. */
	close(fd);
	expect_no_conns();
	assert_true(channels[0]->closed);

	/* The path is taken while we listen, and free afterwards. */
	assert_int_equal(alk_accept_forward(&front, spec, &err), -EADDRINUSE);
	assert_non_null(strstr(err.text, path));
	assert_non_null(strstr(err.text, "--forward"));
	alk_accept_close_all(&front);
	assert_int_equal(stat(path, &st), -1);
}

static void test_stale_unix_socket_is_replaced(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char spec[128];
	struct alk_err err = {""};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/stale", dir);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
	snprintf(spec, sizeof(spec), "%s:h:25", addr.sun_path);
	assert_int_equal(alk_accept_forward(&front, spec, &err), 0);
	fd = dial_unix(addr.sun_path);
	assert_true(fd >= 0);
	close(fd);
}

static void test_other_files_stay(void **state)
{
	char path[64], spec[128];
	struct alk_err err = {""};
	struct stat st;
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/file", dir);
	snprintf(spec, sizeof(spec), "%s:h:25", path);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(alk_accept_forward(&front, spec, &err), -EEXIST);
	assert_int_equal(stat(path, &st), 0);
	unlink(path);

	/* One that took our path's place is not ours to remove. */
	assert_int_equal(alk_accept_forward(&front, spec, &err), 0);
	unlink(path);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	alk_accept_close_all(&front);
	assert_int_equal(stat(path, &st), 0);
	unlink(path);
}

static void test_ipv6_forward(void **state)
{
	struct alk_err err = {""};
	char text[256];
	unsigned port = 0;

	(void)state;
	if (alk_accept_forward(&front, "[::1]:0:h:25", &err) == -EADDRNOTAVAIL)
		skip();
	announced(text, sizeof(text));
	assert_int_equal(sscanf(text, "alknet: forwarding [::1]:%u to h:25", &port), 1);
	assert_true(port > 0);
}

/* ---- listening ------------------------------------------------------------------------------- */

static void test_port_in_use(void **state)
{
	struct alk_err err = {""};
	char address[32], spec[64];
	uint16_t port = proxy_start();

	(void)state;
	snprintf(address, sizeof(address), "127.0.0.1:%u", port);
	assert_int_equal(alk_accept_proxy(&front, address, &err), -EADDRINUSE);
	assert_non_null(strstr(err.text, "--socks5"));
	assert_non_null(strstr(err.text, address));
	snprintf(spec, sizeof(spec), "%u:h:25", port);
	assert_int_equal(alk_accept_forward(&front, spec, &err), -EADDRINUSE);
	assert_non_null(strstr(err.text, "--forward"));
	assert_non_null(strstr(err.text, spec));
}

static void test_bad_addresses(void **state)
{
	static const char *const bad[] = {"",
					  "127.0.0.1",
					  "127.0.0.1:x",
					  "127.0.0.1:65536",
					  "no.such.name:1080",
					  "[::1:1080"};
	struct alk_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err.text[0] = '\0';
		assert_true(alk_accept_proxy(&front, bad[i], &err) < 0);
		assert_non_null(strstr(err.text, "--socks5"));
	}
	assert_null(front.accepts);
}

static bool has_second(void *user)
{
	(void)user;
	return n_channels > 0 && strcmp(channels[n_channels - 1]->to.host, "second") == 0;
}

static void test_descriptors_run_out(void **state)
{
	uint16_t port = proxy_start();
	int first = dial(port), second = dial(port);
	struct rlimit old, tight;

	(void)state;
	SAY(first, ASK);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	tight = old;
	tight.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	assert_false(run_until(has_second, NULL, 100));
	assert_null(front.conns);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	/* valgrind plays the limit by accepting and closing, so the first may be lost there. */
	SAY(second, "CONNECT second:1 HTTP/1.1\r\n\r\n");
	if (!run_until(has_second, NULL, 2000)) {
		close(second);
		second = dial(port);
		SAY(second, "CONNECT second:1 HTTP/1.1\r\n\r\n");
	}
	assert_true(run_until(has_second, NULL, 20000));
	close(first);
	close(second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_forward_opens),
		TEST(test_forward_keeps_a_half_closed_reader),
		TEST(test_forward_refused_closes),
		TEST(test_forward_to_unix),
		TEST(test_forward_from_unix),
		TEST(test_stale_unix_socket_is_replaced),
		TEST(test_other_files_stay),
		TEST(test_ipv6_forward),
		TEST(test_port_in_use),
		TEST(test_bad_addresses),
		TEST(test_descriptors_run_out),
	};
	int failed;

	assert(mkdtemp(dir) != NULL);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(dir);
	return failed;
}
