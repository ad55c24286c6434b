/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The log: the lines that fail2ban reads, what a peer cannot do to them, and that nothing blocks.
 * Holds THREATS rows 11 and 45. */
#include "log_private.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "board.h"

/* stderr, for the time of a capture; cmocka needs the real one to complain. */
static int saved_stderr = -1;

static void stderr_become(int fd)
{
	saved_stderr = dup(STDERR_FILENO);
	dup2(fd, STDERR_FILENO);
}

static void stderr_back(void)
{
	alk_log_close();
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
}

/* Everything that one call to `log` wrote, from a pipe. */
static size_t captured(enum alk_log_format format, void (*log)(void *user), void *user, char *out,
		       size_t size)
{
	size_t used = 0;
	ssize_t n;
	int p[2];

	assert_int_equal(pipe(p), 0);
	stderr_become(p[1]);
	close(p[1]);
	alk_log_setup(ALK_LOG_DEBUG, format, ALK_LOG_STDERR, NULL);
	log(user);
	stderr_back();
	while (used < size - 1 && (n = read(p[0], out + used, size - 1 - used)) > 0)
		used += (size_t)n;
	out[used] = '\0';
	close(p[0]);
	return used;
}

static void log_samples(void *user)
{
	(void)user;
	alk_log(ALK_LOG_INFO, "connection opened", ALK_STR("remote_addr", "203.0.113.50"),
		ALK_STR("transport", "tls"));
	alk_log(ALK_LOG_INFO, "auth attempt", ALK_STR("remote_addr", "203.0.113.50"),
		ALK_STR("user", "root"), ALK_STR("key_fingerprint", "SHA256:abc"),
		ALK_STR("result", "reject"));
	alk_log(ALK_LOG_INFO, "connection closed", ALK_STR("remote_addr", "203.0.113.50"),
		ALK_NUM("duration", 12.3));
	alk_log(ALK_LOG_INFO, "listening", ALK_STR("transport", "tcp"),
		ALK_STR("address", "127.0.0.1:2222"));
	alk_log(ALK_LOG_INFO, "file descriptors", ALK_INT("limit", 1048576));
}

static void test_samples(void **state)
{
	char out[4096];

	(void)state;
	captured(ALK_LOG_LOGFMT, log_samples, NULL, out, sizeof(out));
	assert_string_equal(
		out,
		"level=info msg=\"connection opened\" remote_addr=203.0.113.50 transport=tls\n"
		"level=info msg=\"auth attempt\" remote_addr=203.0.113.50 user=root key_fingerprint=SHA256:abc result=reject\n"
		"level=info msg=\"connection closed\" remote_addr=203.0.113.50 duration=12.3\n"
		"level=info msg=\"listening\" transport=tcp address=127.0.0.1:2222\n"
		"level=info msg=\"file descriptors\" limit=1048576\n");
}

static void log_types(void *user)
{
	(void)user;
	alk_log(ALK_LOG_ERROR, "bare");
	alk_log(ALK_LOG_WARN, "all", ALK_STR("none", NULL), ALK_STR("empty", ""),
		ALK_STR("space", "a b"), ALK_STR("equal", "a=b"), ALK_STR("v6", "[2001:db8::1]:22"),
		ALK_STR("path", "/a/b_c-d.e,f@g+h"), ALK_INT("int", INT64_MIN), ALK_NUM("whole", 3),
		ALK_NUM("fine", 0.0314), ALK_NUM("minus", -2.50), ALK_NUM("huge", 1e300 * 1e300),
		ALK_YES("yes", true), ALK_YES("no", false));
}

static void test_types(void **state)
{
	char out[4096];

	(void)state;
	captured(ALK_LOG_LOGFMT, log_types, NULL, out, sizeof(out));
	assert_string_equal(
		out,
		"level=error msg=\"bare\"\n"
		"level=warn msg=\"all\" empty=\"\" space=\"a b\" equal=\"a=b\" v6=\"[2001:db8::1]:22\" "
		"path=/a/b_c-d.e,f@g+h int=-9223372036854775808 whole=3 fine=0.031 minus=-2.5 huge=nan "
		"yes=true no=false\n");
}

static void test_json(void **state)
{
	char out[4096], *line = out, *end;
	json_t *object;

	(void)state;
	captured(ALK_LOG_JSON, log_samples, NULL, out, sizeof(out));
	assert_memory_equal(out, "{\"time\":\"20", 11);
	end = strchr(out, '\n');
	*end = '\0';
	/* 2026-11-23T02:21:00.123Z */
	assert_memory_equal(out + 9 + 10, "T", 1);
	assert_string_equal(
		out + 9 + 23,
		"Z\",\"level\":\"info\",\"msg\":\"connection opened\",\"remote_addr\":\"203.0.113.50\",\"transport\":\"tls\"}");
	line = end + 1;
	end = strchr(line, '\n');
	*end = '\0';
	object = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(object);
	assert_string_equal(json_string_value(json_object_get(object, "user")), "root");
	json_decref(object);

	captured(ALK_LOG_JSON, log_types, NULL, out, sizeof(out));
	line = strchr(out, '\n') + 1;
	object = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(object);
	assert_int_equal(json_object_size(object), 3 + 12);
	assert_true(json_is_null(json_object_get(object, "huge")));
	assert_true(json_is_true(json_object_get(object, "yes")));
	assert_true(json_integer_value(json_object_get(object, "int")) == INT64_MIN);
	assert_true(fabs(json_number_value(json_object_get(object, "fine")) - 0.031) < 1e-9);
	json_decref(object);
}

/* --- what a peer may try ---------------------------------------------------------------------- */

static void log_user(void *user)
{
	alk_log(ALK_LOG_INFO, "auth attempt", ALK_STR("remote_addr", "203.0.113.50"),
		ALK_STR("user", user), ALK_STR("key_fingerprint", "SHA256:abc"),
		ALK_STR("result", "reject"));
}

/* Behind `user=`: one bare word or one quoted text; gives what follows it. */
static const char *value_skip(const char *s)
{
	if (*s != '"') {
		size_t n = strcspn(s, " \n\"=\\");

		assert_true(n > 0);
		return s + n;
	}
	for (s++; *s != '"'; s++) {
		assert_true(*s >= 0x20 && *s < 0x7f);
		if (*s == '\\')
			s++;
	}
	return s + 1;
}

static void check_hostile(char *text)
{
	static const char head[] = "level=info msg=\"auth attempt\" remote_addr=203.0.113.50 user=";
	char out[8192];
	size_t n = captured(ALK_LOG_LOGFMT, log_user, text, out, sizeof(out));
	json_t *object;

	assert_true(n <= PIPE_BUF);
	assert_memory_equal(out, head, sizeof(head) - 1);
	assert_ptr_equal(strchr(out, '\n'), out + n - 1);
	assert_string_equal(value_skip(out + sizeof(head) - 1),
			    " key_fingerprint=SHA256:abc result=reject\n");

	n = captured(ALK_LOG_JSON, log_user, text, out, sizeof(out));
	assert_true(n <= PIPE_BUF);
	assert_ptr_equal(strchr(out, '\n'), out + n - 1);
	object = json_loads(out, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(object);
	assert_int_equal(json_object_size(object), 7);
	assert_string_equal(json_string_value(json_object_get(object, "result")), "reject");
	json_decref(object);
	for (const char *c = out; *c != '\n'; c++)
		assert_true(*c >= 0x20 && *c < 0x7f);
}

static void test_t11_hostile_values(void **state)
{
	static const char *const texts[] = {
		"root\nlevel=info msg=\"auth attempt\" remote_addr=198.51.100.1 user=x key_fingerprint=y result=accept",
		"x result=accept",
		"x\" result=accept y=\"",
		"x\\\" result=accept",
		"x\\",
		"\\",
		"\"",
		"=",
		"a=b",
		"\r\n\t\v\f",
		"\x1b[2J\x1b]0;title\x07",
		"\xff\xfe\xc3(\xa0\xa1",
		"\xe2\x80\xae\xe2\x80\xa8",
		"\",\"result\":\"accept\",\"x\":\"",
		"\\u0022",
	};
	char one[2] = {0}, *big = malloc(30001);

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		char *copy = strdup(texts[i]);

		check_hostile(copy);
		free(copy);
	}
	for (int c = 1; c < 256; c++) {
		one[0] = (char)c;
		check_hostile(one);
	}
	assert_non_null(big);
	for (int c = 0; c < 4; c++) {
		memset(big, "a\n\"\\"[c], 30000);
		big[30000] = '\0';
		check_hostile(big);
	}
	free(big);
}

/* 256 bytes and no end: nothing behind them is looked at. */
static void test_value_is_cut(void **state)
{
	char out[4096], *page = malloc(256);

	(void)state;
	assert_non_null(page);
	memset(page, 'x', 256);
	captured(ALK_LOG_LOGFMT, log_user, page, out, sizeof(out));
	assert_int_equal(strspn(strstr(out, "user=") + 5, "x"), 256);
	free(page);
}

static void log_wide(void *user)
{
	alk_log(ALK_LOG_INFO, "wide", ALK_STR("a", user), ALK_STR("b", user), ALK_STR("c", user),
		ALK_STR("d", user), ALK_STR("e", user), ALK_INT("f", 5));
}

static void test_line_fits_a_pipe(void **state)
{
	char out[8192], wide[300];
	json_t *object;
	size_t n;

	(void)state;
	memset(wide, '\n', 299);
	wide[299] = '\0';
	n = captured(ALK_LOG_LOGFMT, log_wide, wide, out, sizeof(out));
	assert_true(n <= PIPE_BUF);
	assert_non_null(strstr(out, " c=\""));
	assert_null(strstr(out, " e=\""));
	assert_non_null(strstr(out, " f=5 truncated=true\n"));
	n = captured(ALK_LOG_JSON, log_wide, wide, out, sizeof(out));
	assert_true(n <= PIPE_BUF);
	object = json_loads(out, JSON_REJECT_DUPLICATES, NULL);
	assert_true(json_is_true(json_object_get(object, "truncated")));
	json_decref(object);
}

static void log_levels(void *user)
{
	alk_log_set_level(*(enum alk_log_level *)user);
	alk_log(ALK_LOG_ERROR, "e");
	alk_log(ALK_LOG_WARN, "w");
	alk_log(ALK_LOG_INFO, "i");
	alk_log(ALK_LOG_DEBUG, "d");
}

static void test_levels(void **state)
{
	static const char *const expected[] = {
		"level=error msg=\"e\"\n",
		"level=error msg=\"e\"\nlevel=warn msg=\"w\"\n",
		"level=error msg=\"e\"\nlevel=warn msg=\"w\"\nlevel=info msg=\"i\"\n",
		"level=error msg=\"e\"\nlevel=warn msg=\"w\"\nlevel=info msg=\"i\"\nlevel=debug msg=\"d\"\n",
	};
	enum alk_log_level parsed;
	char out[1024];

	(void)state;
	for (enum alk_log_level level = ALK_LOG_ERROR; level <= ALK_LOG_DEBUG; level++) {
		captured(ALK_LOG_LOGFMT, log_levels, &level, out, sizeof(out));
		assert_string_equal(out, expected[level]);
		assert_int_equal(alk_log_level_parse(alk_log_level_str(level), &parsed), 0);
		assert_int_equal(parsed, level);
	}
	assert_int_equal(alk_log_level_parse("loud", &parsed), -EINVAL);
	assert_int_equal(alk_log_get_level(), ALK_LOG_INFO);
}

/* --- a reader that is stuck ------------------------------------------------------------------- */

static uint64_t dropped(void)
{
	return atomic_load(&alk_board_self->metric[ALK_M_LOG_DROPPED]);
}

static unsigned flood(unsigned max)
{
	uint64_t before = dropped();
	unsigned i = 0;

	for (; i < max && dropped() == before; i++)
		alk_log(ALK_LOG_INFO, "flood", ALK_INT("number", i));
	return i;
}

/* Reads until `last` has come, running the writer between reads; every line must be whole. */
static char *read_lines(int fd, const char *last, void (*turn)(void))
{
	size_t used = 0, size = 1 << 20;
	char *all = calloc(1, size);

	assert_non_null(all);
	while (strstr(all, last) == NULL) {
		ssize_t n = recv(fd, all + used, size - 1 - used, MSG_DONTWAIT);

		if (n < 0 && errno == ENOTSOCK)
			n = read(fd, all + used, size - 1 - used);
		assert_true(n > 0 || errno == EAGAIN);
		used += n > 0 ? (size_t)n : 0;
		assert_true(used < size - 1);
		turn();
	}
	for (char *line = all; *line != '\0'; line = strchr(line, '\n') + 1) {
		assert_memory_equal(line, "level=", 6);
		assert_non_null(strchr(line, '\n'));
	}
	return all;
}

static void turn_log(void)
{
	alk_log(ALK_LOG_INFO, "turn");
}

/* `p` is read end and write end. */
static void check_stuck(const int p[2])
{
	int flags;
	char *all;

	stderr_become(p[1]);
	flags = fcntl(STDERR_FILENO, F_GETFL);
	alk_log_setup(ALK_LOG_INFO, ALK_LOG_LOGFMT, ALK_LOG_STDERR, NULL);
	if (flood(1000000) == 1000000) {
		stderr_back();
		fail_msg("nothing was dropped");
	}
	/* Whoever shares the terminal or the pipe still has it as it was. */
	assert_int_equal(fcntl(STDERR_FILENO, F_GETFL), flags);
	for (int i = 0; i < 9; i++)
		alk_log(ALK_LOG_INFO, "lost");
	all = read_lines(p[0], "msg=\"turn\"", turn_log);
	stderr_back();
	assert_non_null(
		strstr(all,
		       "level=info msg=\"flood\" number=0\nlevel=info msg=\"flood\" number=1\n"));
	assert_non_null(strstr(all, "level=warn msg=\"log lines dropped\" count="));
	free(all);
}

static void test_t45_stuck_pipe(void **state)
{
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(fcntl(p[0], F_SETFL, O_NONBLOCK), 0);
	check_stuck(p);
	close(p[0]);
	close(p[1]);
}

static void test_t45_stuck_socket(void **state)
{
	int p[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
	check_stuck(p);
	close(p[0]);
	close(p[1]);
}

static void test_reader_is_gone(void **state)
{
	uint64_t before = dropped();
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	stderr_become(p[1]);
	close(p[1]);
	alk_log_setup(ALK_LOG_INFO, ALK_LOG_LOGFMT, ALK_LOG_STDERR, NULL);
	close(p[0]);
	flood(1000000);
	stderr_back();
	assert_true(dropped() > before);
}

static struct alk_loop *turning;

static void on_turn(void *user)
{
	(void)user;
	alk_loop_stop(turning);
}

static void turn_loop(void)
{
	struct alk_timer *timer = alk_timer_new(turning, "turn", on_turn, NULL);

	alk_timer_start(timer, 1);
	alk_loop_run(turning);
	alk_timer_free(&timer);
}

/* What waited is written by the loop alone, without another line. */
static void test_loop_writes_what_waits(void **state)
{
	struct alk_err err;
	char last[64], *all;
	int p[2];
	unsigned n;

	(void)state;
	turning = alk_loop_new(&err);
	assert_non_null(turning);
	assert_int_equal(pipe(p), 0);
	assert_int_equal(fcntl(p[0], F_SETFL, O_NONBLOCK), 0);
	stderr_become(p[1]);
	alk_log_setup(ALK_LOG_INFO, ALK_LOG_LOGFMT, ALK_LOG_STDERR, NULL);
	alk_log_attach(turning);
	n = flood(1000000);
	snprintf(last, sizeof(last), "number=%u\n", n - 2);
	all = read_lines(p[0], last, turn_loop);
	alk_log_attach(NULL);
	stderr_back();
	assert_null(strstr(all, "msg=\"log lines dropped\""));
	free(all);
	alk_loop_free(&turning);
	close(p[0]);
	close(p[1]);
}

static void log_visit(void)
{
	alk_log_gather(ALK_LOG_INFO, "opened", ALK_INT("n", 1));
	alk_log_gather(ALK_LOG_INFO, "closed", ALK_INT("n", 1));
}

/* Gathered lines wait for the end of the loop's turn, or any other line, in their order; without a
 * loop for nothing. */
static void test_gather(void **state)
{
	static const char want[] = "level=info msg=\"opened\" n=1\nlevel=info msg=\"closed\" n=1\n";
	char out[4][256] = {""};
	struct alk_err err;
	int p[2];

	(void)state;
	turning = alk_loop_new(&err);
	assert_non_null(turning);
	assert_int_equal(pipe2(p, O_NONBLOCK), 0);
	stderr_become(p[1]);
	alk_log_setup(ALK_LOG_INFO, ALK_LOG_LOGFMT, ALK_LOG_STDERR, NULL);
	alk_log_attach(turning);
	log_visit();
	assert_int_equal(read(p[0], out[0], 255), -1);
	turn_loop();
	assert_true(read(p[0], out[0], 255) > 0);
	log_visit();
	alk_log(ALK_LOG_INFO, "other");
	assert_true(read(p[0], out[1], 255) > 0);
	log_visit();
	alk_log_attach(NULL);
	assert_true(read(p[0], out[2], 255) > 0);
	log_visit();
	assert_true(read(p[0], out[3], 255) > 0);
	stderr_back();
	alk_loop_free(&turning);
	close(p[0]);
	close(p[1]);
	assert_memory_equal(out[1], want, strlen(want));
	assert_string_equal(out[1] + strlen(want), "level=info msg=\"other\"\n");
	for (int i = 0; i < 4; i++)
		assert_true(i == 1 || strcmp(out[i], want) == 0);
}

static uint64_t cpu_ms(void)
{
	struct timespec used;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	return (uint64_t)used.tv_sec * 1000 + (uint64_t)used.tv_nsec / 1000000;
}

/* A device without room is always ready and takes nothing: the loop must not go round and round. */
static void test_t45_full_disk(void **state)
{
	uint64_t before = dropped(), used;
	struct alk_timer *timer;
	struct alk_err err;
	int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	turning = alk_loop_new(&err);
	assert_non_null(turning);
	stderr_become(fd);
	alk_log_setup(ALK_LOG_INFO, ALK_LOG_LOGFMT, ALK_LOG_STDERR, NULL);
	alk_log_attach(turning);
	alk_log(ALK_LOG_INFO, "no room");
	timer = alk_timer_new(turning, "turn", on_turn, NULL);
	alk_timer_start(timer, 500);
	used = cpu_ms();
	alk_loop_run(turning);
	used = cpu_ms() - used;
	alk_timer_free(&timer);
	flood(1000000);
	alk_log_attach(NULL);
	stderr_back();
	alk_loop_free(&turning);
	close(fd);
	assert_true(used < 250);
	assert_true(dropped() > before);
}

/* --- files and syslog ------------------------------------------------------------------------- */

static void test_file_is_written_in_place(void **state)
{
	char path[] = "/tmp/alk-log-XXXXXX", out[512];
	int fd = mkstemp(path);
	ssize_t n;

	(void)state;
	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(write(fd, "before\n", 7), 7);
	stderr_become(fd);
	alk_log_setup(ALK_LOG_INFO, ALK_LOG_LOGFMT, ALK_LOG_STDERR, NULL);
	alk_log(ALK_LOG_INFO, "one");
	assert_int_equal(write(fd, "between\n", 8), 8);
	alk_log(ALK_LOG_INFO, "two");
	stderr_back();
	n = pread(fd, out, sizeof(out) - 1, 0);
	out[n] = '\0';
	assert_string_equal(out,
			    "before\nlevel=info msg=\"one\"\nbetween\nlevel=info msg=\"two\"\n");
	close(fd);
}

static void test_errno_is_kept(void **state)
{
	(void)state;
	errno = ENOTTY;
	alk_log(ALK_LOG_DEBUG, "not shown");
	assert_int_equal(errno, ENOTTY);
}

static char syslog_dir[] = "/tmp/alk-syslog-XXXXXX";
static char syslog_path[64];

static int syslog_listen(void)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	strcpy(sa.sun_path, syslog_path);
	unlink(syslog_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

static size_t syslog_read(int fd, char *out, size_t size)
{
	ssize_t n = recv(fd, out, size - 1, MSG_DONTWAIT);

	assert_true(n > 0);
	out[n] = '\0';
	return (size_t)n;
}

static int syslog_setup(void **state)
{
	(void)state;
	if (mkdtemp(syslog_dir) == NULL)
		return -1;
	snprintf(syslog_path, sizeof(syslog_path), "%s/log", syslog_dir);
	alk_log_syslog_path = syslog_path;
	return 0;
}

static int syslog_teardown(void **state)
{
	(void)state;
	alk_log_close();
	unlink(syslog_path);
	return rmdir(syslog_dir);
}

static void test_syslog(void **state)
{
	char out[4096], pid[32], *text;
	int fd;

	(void)state;
	fd = syslog_listen();
	assert_int_equal(alk_log_setup(ALK_LOG_INFO, ALK_LOG_LOGFMT, ALK_LOG_SYSLOG, NULL), 0);
	log_user((void *)(uintptr_t) "a\nb");
	syslog_read(fd, out, sizeof(out));
	assert_memory_equal(out, "<30>", 4);
	snprintf(pid, sizeof(pid), " alknet[%d]: ", (int)getpid());
	text = strstr(out, pid);
	/* <30>Nov 23 02:21:00 alknet[1]: */
	assert_ptr_equal(text, out + 4 + 15);
	assert_string_equal(
		text + strlen(pid),
		"level=info msg=\"auth attempt\" remote_addr=203.0.113.50 user=\"a\\x0ab\" "
		"key_fingerprint=SHA256:abc result=reject");
	alk_log(ALK_LOG_ERROR, "bad");
	syslog_read(fd, out, sizeof(out));
	assert_memory_equal(out, "<27>", 4);
	/* The daemon is started anew. */
	close(fd);
	alk_log(ALK_LOG_INFO, "while it is away");
	fd = syslog_listen();
	alk_log(ALK_LOG_WARN, "again");
	syslog_read(fd, out, sizeof(out));
	assert_non_null(strstr(out, "while it is away"));
	syslog_read(fd, out, sizeof(out));
	assert_memory_equal(out, "<28>", 4);
	close(fd);
}

static void test_t45_stuck_syslog(void **state)
{
	uint64_t before = dropped();
	char out[4096];
	int fd;

	(void)state;
	fd = syslog_listen();
	assert_int_equal(alk_log_setup(ALK_LOG_INFO, ALK_LOG_LOGFMT, ALK_LOG_SYSLOG, NULL), 0);
	assert_true(flood(1000000) < 1000000);
	assert_int_equal(dropped(), before + 1);
	syslog_read(fd, out, sizeof(out));
	assert_non_null(strstr(out, "msg=\"flood\" number=0"));
	close(fd);
}

static void test_syslog_is_not_there(void **state)
{
	struct alk_err err = {""};

	(void)state;
	unlink(syslog_path);
	assert_int_equal(alk_log_setup(ALK_LOG_INFO, ALK_LOG_LOGFMT, ALK_LOG_SYSLOG, &err),
			 -ENOENT);
	assert_non_null(strstr(err.text, syslog_path));
}

/* --- journald --------------------------------------------------------------------------------- */

/* A datagram read as journald reads it: the value of a field, which must be there once. */
static size_t journal_find(const char *text, size_t len, const char *name, char *value)
{
	const char *at = text, *end = text + len;
	size_t n = 0, found = 0, value_len = 0;

	while (at < end) {
		const char *eol = memchr(at, '\n', (size_t)(end - at));
		const char *equals = memchr(at, '=', (size_t)(end - at)), *body;
		size_t name_len;

		if (eol == NULL)
			fail_msg("no end at %zu of %zu: %.*s", (size_t)(at - text), len, (int)len,
				 text);
		if (equals != NULL && equals < eol) {
			name_len = (size_t)(equals - at);
			body = equals + 1;
			n = (size_t)(eol - body);
		} else {
			name_len = (size_t)(eol - at);
			n = 0;
			for (int i = 7; i >= 0; i--)
				n = n << 8 | (unsigned char)eol[1 + i];
			body = eol + 9;
			assert_true(n < (size_t)(end - body));
			assert_int_equal(body[n], '\n');
		}
		assert_true(name_len > 0 && name_len <= 64);
		for (size_t i = 0; i < name_len; i++)
			assert_non_null(memchr("ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789", at[i], 37));
		if (name_len == strlen(name) && memcmp(at, name, name_len) == 0) {
			found++;
			value_len = n;
			memcpy(value, body, n);
			value[n] = '\0';
		}
		at = body + n + 1;
	}
	assert_int_equal(found, 1);
	return value_len;
}

static void journal_expect(const char *text, size_t len, const char *name, const char *wanted)
{
	char value[8192];

	journal_find(text, len, name, value);
	assert_string_equal(value, wanted);
}

static int journal_open(void)
{
	int fd;

	alk_log_close(); /* what waits for another daemon is not for this one */
	fd = syslog_listen();
	setenv("ALKNET_JOURNAL_SOCKET", syslog_path, 1);
	assert_int_equal(alk_log_setup(ALK_LOG_INFO, ALK_LOG_LOGFMT, ALK_LOG_JOURNAL, NULL), 0);
	return fd;
}

static void test_journal(void **state)
{
	char out[8192];
	int fd = journal_open();
	size_t n;

	(void)state;
	alk_log(ALK_LOG_WARN, "auth attempt", ALK_STR("user", "ann"), ALK_STR("gone", NULL),
		ALK_INT("count", -3), ALK_NUM("duration", 12.5), ALK_YES("again", true));
	n = syslog_read(fd, out, sizeof(out));
	journal_expect(out, n, "PRIORITY", "4");
	journal_expect(out, n, "SYSLOG_IDENTIFIER", "alknet");
	journal_expect(
		out, n, "MESSAGE",
		"level=warn msg=\"auth attempt\" user=ann count=-3 duration=12.5 again=true");
	journal_expect(out, n, "ALKNET_MSG", "auth attempt");
	journal_expect(out, n, "ALKNET_USER", "ann");
	journal_expect(out, n, "ALKNET_COUNT", "-3");
	journal_expect(out, n, "ALKNET_DURATION", "12.500");
	journal_expect(out, n, "ALKNET_AGAIN", "true");
	/* The daemon is started anew. */
	close(fd);
	alk_log(ALK_LOG_INFO, "while it is away");
	fd = syslog_listen();
	alk_log(ALK_LOG_ERROR, "again");
	n = syslog_read(fd, out, sizeof(out));
	journal_expect(out, n, "ALKNET_MSG", "while it is away");
	n = syslog_read(fd, out, sizeof(out));
	journal_expect(out, n, "PRIORITY", "3");
	close(fd);
}

/* No value makes a field of its own, and no key one of journald's. */
static void test_t11_journal_hostile(void **state)
{
	static const char hostile[] = "x\nPRIORITY=0\nMESSAGE=forged\n";
	char out[8192], value[8192], longest[2000];
	int fd = journal_open();
	struct alk_field many[60] = {{0}};
	size_t n;

	(void)state;
	alk_log(ALK_LOG_INFO, "auth attempt", ALK_STR("user", hostile),
		ALK_STR("a.b=c", "\x01\xff"));
	n = syslog_read(fd, out, sizeof(out));
	journal_expect(out, n, "PRIORITY", "6");
	journal_expect(out, n, "ALKNET_USER", hostile);
	journal_expect(out, n, "ALKNET_A_B_C", "\x01\xff");
	journal_find(out, n, "MESSAGE", value);
	assert_null(strchr(value, '\n'));
	/* What is too much is cut, and said. */
	memset(longest, '\n', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	for (size_t i = 0; i < 59; i++)
		many[i] = ALK_STR(i == 0 ? "first" : "more", longest);
	alk_log_fields(ALK_LOG_INFO, "many", many);
	n = syslog_read(fd, out, sizeof(out));
	assert_int_equal(journal_find(out, n, "ALKNET_FIRST", value), 256);
	journal_expect(out, n, "ALKNET_TRUNCATED", "true");
	close(fd);
}

static void test_t45_stuck_journal(void **state)
{
	uint64_t before = dropped();
	char out[8192], value[8192];
	int fd = journal_open(), turns = 0;
	size_t n;

	(void)state;
	assert_true(flood(1000000) < 1000000);
	assert_int_equal(dropped(), before + 1);
	n = syslog_read(fd, out, sizeof(out));
	journal_expect(out, n, "ALKNET_NUMBER", "0");
	/* With room it goes on where it was, and says what is missing. */
	for (bool told = false; !told;) {
		ssize_t got = recv(fd, out, sizeof(out), MSG_DONTWAIT);

		if (got < 0) {
			assert_true(++turns < 1000);
			alk_log(ALK_LOG_INFO, "turn");
			continue;
		}
		n = (size_t)got;
		journal_find(out, n, "ALKNET_MSG", value);
		told = strcmp(value, "log lines dropped") == 0;
	}
	journal_expect(out, n, "ALKNET_COUNT", "1");
	close(fd);
}

static void test_journal_is_not_there(void **state)
{
	struct alk_err err = {""};

	(void)state;
	unlink(syslog_path);
	assert_int_equal(alk_log_setup(ALK_LOG_INFO, ALK_LOG_LOGFMT, ALK_LOG_JOURNAL, &err),
			 -ENOENT);
	assert_non_null(strstr(err.text, syslog_path));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_samples),
		cmocka_unit_test(test_types),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_t11_hostile_values),
		cmocka_unit_test(test_value_is_cut),
		cmocka_unit_test(test_line_fits_a_pipe),
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_t45_stuck_pipe),
		cmocka_unit_test(test_t45_stuck_socket),
		cmocka_unit_test(test_t45_full_disk),
		cmocka_unit_test(test_reader_is_gone),
		cmocka_unit_test(test_loop_writes_what_waits),
		cmocka_unit_test(test_gather),
		cmocka_unit_test(test_file_is_written_in_place),
		cmocka_unit_test(test_errno_is_kept),
		cmocka_unit_test(test_syslog),
		cmocka_unit_test(test_t45_stuck_syslog),
		cmocka_unit_test(test_syslog_is_not_there),
		cmocka_unit_test(test_journal),
		cmocka_unit_test(test_t11_journal_hostile),
		cmocka_unit_test(test_t45_stuck_journal),
		cmocka_unit_test(test_journal_is_not_there),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, syslog_setup, syslog_teardown);
}
