/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The web server that a tls port with `stealth` is, with a clock of the test's. Holds THREATS row
 * 67's part of HTTP; that its bytes are nginx's is tests/integration/test_stealth_diff.py's to
 * find. */
#include "../../src/plugins/transports/tls/stealth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define TOKEN "abcdefghijklmnopqrstuvwxyz0123456789-_ABCDE"
#define GET "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#define POST(length_) "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " length_ "\r\n\r\n"

struct play {
	struct stealth *stealth;
	char out[1 << 16];
	size_t n;
	uint64_t timer;
	int closed; /* 1 + how */
	int64_t now;
	bool pending;
};

static void play_write(void *user, const void *bytes, size_t n)
{
	struct play *play = user;

	assert_true(play->n + n < sizeof(play->out));
	assert_false(play->pending);
	memcpy(play->out + play->n, bytes, n);
	play->n += n;
	play->out[play->n] = '\0';
	play->pending = true;
}

static void play_timer(void *user, uint64_t ms)
{
	((struct play *)user)->timer = ms;
}

static void play_close(void *user, enum stealth_close how)
{
	struct play *play = user;

	assert_int_equal(play->closed, 0);
	play->closed = 1 + (int)how;
}

static int64_t play_clock(void *user)
{
	return ((struct play *)user)->now;
}

static void play_start(struct play *play, bool keyed, bool upstream)
{
	struct stealth_settings settings = {.keyed = keyed, .upstream = upstream};
	struct stealth_hooks hooks = {.write = play_write,
				      .timer = play_timer,
				      .close = play_close,
				      .clock = play_clock,
				      .user = play};

	memset(play, 0, sizeof(*play));
	play->now = 784111777; /* Sun, 06 Nov 1994 08:49:37 GMT: RFC 9110 */
	play->stealth = stealth_new(&settings, &hooks);
	assert_non_null(play->stealth);
	assert_int_equal(play->timer, 60000);
	assert_int_equal(stealth_room(play->stealth), 0);
	stealth_begin(play->stealth, false, keyed ? TOKEN : NULL);
}

static enum stealth_state play_settle(struct play *play)
{
	while (play->pending) {
		assert_int_equal(stealth_room(play->stealth), 0);
		play->pending = false;
		stealth_written(play->stealth);
	}
	return stealth_state(play->stealth);
}

/* As a driver does: no more than there is room for; no more after the end. */
static enum stealth_state play_bytes(struct play *play, const void *bytes, size_t n, size_t step)
{
	const uint8_t *p = bytes;
	enum stealth_state state = stealth_state(play->stealth);

	while (n > 0 && (state == STEALTH_JUDGING || state == STEALTH_HTTP)) {
		size_t room = stealth_room(play->stealth), some = n < room ? n : room;
		uint8_t *copy;

		assert_true(room > 0 && room <= 8192);
		if (step > 0 && some > step)
			some = step;
		copy = malloc(some);
		assert_non_null(copy);
		memcpy(copy, p, some);
		stealth_input(play->stealth, copy, some, false);
		free(copy);
		p += some;
		n -= some;
		state = play_settle(play);
	}
	return state;
}

static enum stealth_state play_say(struct play *play, const char *text)
{
	return play_bytes(play, text, strlen(text), 0);
}

static void play_end(struct play *play)
{
	stealth_free(&play->stealth);
	assert_null(play->stealth);
}

static void test_stealth_answers(void **state)
{
	static const char answer[] = "HTTP/1.1 404 Not Found\r\n"
				     "Server: nginx/1.22.1\r\n"
				     "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
				     "Content-Type: text/html\r\n"
				     "Content-Length: 153\r\n"
				     "Connection: keep-alive\r\n\r\n"
				     "<html>\r\n<head><title>404 Not Found</title></head>\r\n"
				     "<body>\r\n<center><h1>404 Not Found</h1></center>\r\n"
				     "<hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n";
	struct play play;

	(void)state;
	for (size_t step = 0; step < 5; step++) {
		play_start(&play, false, false);
		assert_int_equal(play_bytes(&play, GET, strlen(GET), step), STEALTH_HTTP);
		assert_int_equal(play.n, 308);
		assert_string_equal(play.out, answer);
		assert_int_equal(play.closed, 0);
		play_end(&play);
	}
}

static void check_ours(bool keyed, const char *bytes, size_t step, const char *rest)
{
	struct play play;
	size_t n;
	const char *kept;

	play_start(&play, keyed, false);
	assert_int_equal(play_bytes(&play, bytes, strlen(bytes), step), STEALTH_OURS);
	if (step == 0) {
		kept = stealth_rest(play.stealth, &n);
		assert_int_equal(n, strlen(rest));
		assert_memory_equal(kept, rest, n);
	}
	assert_int_equal(play.n, 0);
	assert_int_equal(play.closed, 0);
	play_end(&play);
}

static void test_stealth_ours(void **state)
{
	(void)state;
	for (size_t step = 0; step < 3; step++) {
		check_ours(false, "SSH-2.0-alknet\r\nand", step, "SSH-2.0-alknet\r\nand");
		check_ours(true, "GET /" TOKEN " HTTP/1.1\r\nHost: example.org\r\n\r\nSSH-2.0-x",
			   step, "SSH-2.0-x");
	}
}

/* The first byte that cannot be ours settles it, and not one before. */
static void check_judged(bool keyed, const char *text, size_t at)
{
	struct play play;

	play_start(&play, keyed, true);
	for (size_t i = 0; i <= at; i++) {
		enum stealth_state is = stealth_input(play.stealth, text + i, 1, false);

		assert_int_equal(is, i < at ? STEALTH_JUDGING : STEALTH_UPSTREAM);
	}
	stealth_rest(play.stealth, &(size_t){0});
	play_end(&play);
}

static void test_stealth_judged_at_once(void **state)
{
	(void)state;
	check_judged(false, "GET /", 0);
	check_judged(false, "SSH-1.99-x", 4);
	check_judged(false, "SSH-2.0x", 7);
	check_judged(true, "SSH-2.0-x", 0);
	check_judged(true, "GET /a/b", 6);
	check_judged(true, "GET /abcdefghijklmnopqrstuvwxyz0123456789-_ABCDX HTTP", 47);
	check_judged(true, "GET /Xbcdefghijklmnopqrstuvwxyz0123456789-_ABCDE HTTP", 47);
	check_judged(true, "GET /" TOKEN " HTTP/1.0", 56);
	check_judged(true, "GET /" TOKEN " HTTP/1.1\r\nHost: \r\n", 65);
	check_judged(true, "GET /" TOKEN " HTTP/1.1\r\nHost: a\r\nX", 68);
}

/* A key of another connection is a page that is not there; its host is anything. */
static void test_stealth_wrong_token(void **state)
{
	struct play play;

	(void)state;
	play_start(&play, true, false);
	play_say(&play,
		 "GET /abcdefghijklmnopqrstuvwxyz0123456789-_ABCDX HTTP/1.1\r\nHost: a\r\n\r\n");
	assert_int_equal(play.n, 308);
	/* And the right one is none either, once the connection speaks HTTP. */
	assert_int_equal(play_say(&play, "GET /" TOKEN " HTTP/1.1\r\nHost: a\r\n\r\n"),
			 STEALTH_HTTP);
	assert_int_equal(play.n, 616);
	play_end(&play);
	play_start(&play, true, false);
	play_say(&play, "SSH-2.0-OpenSSH_9.2\r\n");
	assert_non_null(strstr(play.out, "400 Bad Request"));
	assert_int_equal(play.closed, 1 + STEALTH_CLOSE_LINGER);
	play_end(&play);
}

static void test_stealth_refuse(void **state)
{
	struct play play;

	(void)state;
	play_start(&play, false, false);
	assert_int_equal(play_say(&play, "SSH-2."), STEALTH_JUDGING);
	stealth_refuse(play.stealth);
	play_settle(&play);
	assert_non_null(strstr(play.out, "400 Bad Request"));
	play_end(&play);
	play_start(&play, false, false);
	stealth_refuse(play.stealth);
	assert_int_equal(play_say(&play, "SSH-2.0-x\r\n"), STEALTH_DONE);
	assert_non_null(strstr(play.out, "400 Bad Request"));
	play_end(&play);
}

/* Its silence ends when it would have without: it does not begin anew behind. */
static void test_stealth_refuse_upstream(void **state)
{
	struct play play;
	size_t n;

	(void)state;
	play_start(&play, false, true);
	stealth_refuse(play.stealth);
	assert_int_equal(stealth_state(play.stealth), STEALTH_JUDGING);
	assert_int_equal(stealth_timeout(play.stealth), STEALTH_DONE);
	assert_int_equal(play.closed, 1 + STEALTH_CLOSE_NOTIFY);
	play_end(&play);
	play_start(&play, false, true);
	stealth_refuse(play.stealth);
	assert_int_equal(play_say(&play, "S"), STEALTH_UPSTREAM);
	assert_memory_equal(stealth_rest(play.stealth, &n), "S", 1);
	assert_int_equal(n, 1);
	play_end(&play);
	play_start(&play, false, true);
	play_say(&play, "SSH-");
	stealth_refuse(play.stealth);
	assert_int_equal(stealth_state(play.stealth), STEALTH_UPSTREAM);
	play_end(&play);
}

static void test_stealth_plain(void **state)
{
	struct stealth_settings settings = {.keyed = true, .upstream = true};
	struct play play;
	struct stealth_hooks hooks = {.write = play_write,
				      .timer = play_timer,
				      .close = play_close,
				      .clock = play_clock,
				      .user = &play};

	(void)state;
	memset(&play, 0, sizeof(play));
	play.stealth = stealth_new(&settings, &hooks);
	stealth_begin(play.stealth, true, NULL);
	assert_int_equal(play_say(&play, GET), STEALTH_DONE);
	assert_int_equal(play.n, 407);
	assert_non_null(strstr(play.out, "The plain HTTP request was sent to HTTPS port"));
	play_end(&play);
}

/* What waits for how long, and how it ends then. */
static void check_silence(const char *said, uint64_t ms, enum stealth_close how)
{
	struct play play;

	play_start(&play, false, false);
	play_say(&play, said);
	assert_int_equal(play.timer, ms);
	assert_int_equal(stealth_timeout(play.stealth), STEALTH_DONE);
	assert_int_equal(play.closed, 1 + how);
	assert_int_equal(play.timer, 0);
	assert_int_equal(stealth_room(play.stealth), 0);
	play_end(&play);
}

static void test_t67_stealth_silence(void **state)
{
	(void)state;
	check_silence("", 60000, STEALTH_CLOSE_NOTIFY);
	check_silence("SSH-", 60000, STEALTH_CLOSE_QUIET);
	check_silence("GET / HT", 60000, STEALTH_CLOSE_QUIET);
	check_silence("GET / HTTP/1.1\r\nHost: ", 60000, STEALTH_CLOSE_QUIET);
	check_silence(GET, 75000, STEALTH_CLOSE_NOTIFY);
	check_silence(GET "G", 60000, STEALTH_CLOSE_QUIET);
	check_silence(POST("5"), 5000, STEALTH_CLOSE_QUIET);
	check_silence(POST("5") "123", 5000, STEALTH_CLOSE_QUIET);
	check_silence(POST("5") "12345", 75000, STEALTH_CLOSE_NOTIFY);
}

/* A body that drips is not awaited for more than 30 s. */
static void test_t67_stealth_dripping_body(void **state)
{
	struct play play;

	(void)state;
	play_start(&play, false, false);
	play_say(&play, POST("100"));
	play.now += 27;
	assert_int_equal(play_say(&play, "1"), STEALTH_HTTP);
	assert_int_equal(play.timer, 3000);
	play.now += 3;
	assert_int_equal(play_say(&play, "1"), STEALTH_DONE);
	assert_int_equal(play.closed, 1 + STEALTH_CLOSE_NOTIFY);
	play_end(&play);
}

/* A header that drips has the minute that began with the connection, a later one a minute of its
 * own. */
static void test_t67_stealth_dripping_header(void **state)
{
	struct play play;

	(void)state;
	play_start(&play, false, false);
	play.timer = 0; /* is not set again */
	play_bytes(&play, GET, 20, 1);
	assert_int_equal(play.timer, 0);
	play_say(&play, GET + 20);
	play_say(&play, "GET");
	assert_int_equal(play.timer, 60000);
	play.timer = 0;
	play_say(&play, " / HTTP/1.1\r\n");
	assert_int_equal(play.timer, 0);
	play_end(&play);
}

/* Memory stays bounded: the last of four large buffers, then it is refused. */
static void test_t67_stealth_endless_header(void **state)
{
	struct play play;
	char line[4000];
	int lines = 0;

	(void)state;
	memset(line, 'x', sizeof(line));
	memcpy(line, "X: ", 3);
	memcpy(line + sizeof(line) - 2, "\r\n", 2);
	play_start(&play, false, false);
	play_say(&play, "GET / HTTP/1.1\r\nHost: a\r\n");
	while (lines < 100 && play_bytes(&play, line, sizeof(line), 0) == STEALTH_HTTP)
		lines++;
	assert_in_range(lines, 6, 9);
	assert_non_null(strstr(play.out, "Request Header Or Cookie Too Large"));
	assert_int_equal(play.closed, 1 + STEALTH_CLOSE_LINGER);
	play_end(&play);
}

static void test_stealth_thousand_requests(void **state)
{
	struct play play;

	(void)state;
	play_start(&play, false, false);
	for (int i = 1; i < 1000; i++) {
		play.n = 0;
		assert_int_equal(play_say(&play, GET), STEALTH_HTTP);
		assert_non_null(strstr(play.out, "keep-alive"));
	}
	play.n = 0;
	assert_int_equal(play_say(&play, GET), STEALTH_DONE);
	assert_non_null(strstr(play.out, "Connection: close"));
	assert_int_equal(play.closed, 1 + STEALTH_CLOSE_NOTIFY);
	play_end(&play);
}

static void test_stealth_old_connection(void **state)
{
	struct play play;

	(void)state;
	play_start(&play, false, false);
	play.now += 3600;
	assert_int_equal(play_say(&play, GET), STEALTH_HTTP);
	play.now++;
	assert_int_equal(play_say(&play, GET), STEALTH_DONE);
	play_end(&play);
}

/* A body of which more may be there is looked at before the answer. */
static void test_stealth_body_before_answer(void **state)
{
	struct play play;

	(void)state;
	play_start(&play, false, false);
	stealth_input(play.stealth, POST("2") "1", strlen(POST("2") "1"), true);
	assert_int_equal(play.n, 0);
	assert_int_equal(stealth_room(play.stealth), 1);
	stealth_input(play.stealth, "", 0, false);
	assert_int_equal(play.n, 308);
	play_settle(&play);
	assert_int_equal(play_say(&play, "2" GET), STEALTH_HTTP);
	assert_int_equal(play.n, 616);
	play_end(&play);
}

static void check_eof(const char *said, bool broken, size_t answered)
{
	struct play play;

	play_start(&play, false, false);
	play_say(&play, said);
	stealth_eof(play.stealth, broken);
	assert_int_equal(play_settle(&play), STEALTH_DONE);
	assert_int_equal(play.closed, 1 + STEALTH_CLOSE_QUIET);
	assert_int_equal(play.n, answered);
	play_end(&play);
}

static void test_stealth_eof(void **state)
{
	(void)state;
	for (int broken = 0; broken < 2; broken++) {
		check_eof("", broken, 0);
		check_eof("SSH-", broken, 0);
		check_eof("GET / HTTP/1.1\r\n", broken, 0);
		check_eof(GET, broken, 308);
		check_eof(POST("5") "123", broken, 308);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stealth_answers),
		cmocka_unit_test(test_stealth_ours),
		cmocka_unit_test(test_stealth_judged_at_once),
		cmocka_unit_test(test_stealth_wrong_token),
		cmocka_unit_test(test_stealth_refuse),
		cmocka_unit_test(test_stealth_refuse_upstream),
		cmocka_unit_test(test_stealth_plain),
		cmocka_unit_test(test_t67_stealth_silence),
		cmocka_unit_test(test_t67_stealth_dripping_body),
		cmocka_unit_test(test_t67_stealth_dripping_header),
		cmocka_unit_test(test_t67_stealth_endless_header),
		cmocka_unit_test(test_stealth_thousand_requests),
		cmocka_unit_test(test_stealth_old_connection),
		cmocka_unit_test(test_stealth_body_before_answer),
		cmocka_unit_test(test_stealth_eof),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
