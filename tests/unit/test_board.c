/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <alknet/loop.h>
#include "metrics.h"

/* What one side writes the other reads. */
static void test_shared(void **state)
{
	struct alk_board *mine, *theirs;
	struct alk_board_hand hand;
	int fd;

	(void)state;
	mine = alk_board_new(&fd, NULL);
	assert_non_null(mine);
	theirs = alk_board_map(fd, NULL);
	assert_non_null(theirs);
	alk_board_use(theirs);
	alk_count(ALK_M_LINKS, 3);
	alk_count(ALK_M_SESSIONS, 2);
	alk_count(ALK_M_SESSIONS, -1);
	alk_board_hand(77, "203.0.113.50", "alice");
	atomic_store(&theirs->busy_since, 1);
	assert_int_equal(atomic_load(&mine->metric[ALK_M_LINKS]), 3);
	assert_int_equal(atomic_load(&mine->metric[ALK_M_SESSIONS]), 1);
	assert_int_equal(atomic_load(&mine->busy_since), 1);
	alk_board_get_hand(mine, &hand);
	assert_int_equal(hand.link, 77);
	assert_string_equal(hand.addr, "203.0.113.50");
	assert_string_equal(hand.identity, "alice");
	atomic_store(&theirs->busy_since, 0);
	assert_int_equal(atomic_load(&mine->busy_since), 0);
	alk_board_free(&theirs);
	assert_null(theirs);
	alk_count(ALK_M_LINKS, 1); /* the private one again: nothing breaks */
	assert_int_equal(atomic_load(&mine->metric[ALK_M_LINKS]), 3);
	alk_board_free(&mine);
	alk_fd_close(&fd);
}

/* A worker can neither shrink the memory under the supervisor nor make it read past a text. */
static void test_hostile(void **state)
{
	struct alk_board *board;
	struct alk_board_hand hand;
	int fd;

	(void)state;
	board = alk_board_new(&fd, NULL);
	assert_non_null(board);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(errno, EPERM);
	memset(board->in_hand_addr, 'x', sizeof(board->in_hand_addr));
	memset(board->in_hand_identity, 'y', sizeof(board->in_hand_identity));
	alk_board_get_hand(board, &hand);
	assert_int_equal(strlen(hand.addr), sizeof(hand.addr) - 1);
	assert_int_equal(strlen(hand.identity), sizeof(hand.identity) - 1);
	alk_board_free(&board);
	alk_fd_close(&fd);
}

static void test_map_refuses(void **state)
{
	struct alk_err err = {""};
	int fd = memfd_create("small", MFD_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	assert_null(alk_board_map(fd, &err));
	assert_non_null(strstr(err.text, "too small"));
	assert_int_equal(ftruncate(fd, 65536), 0);
	assert_null(alk_board_map(fd, &err));
	assert_non_null(strstr(err.text, "not a board"));
	close(fd);
	assert_null(alk_board_map(-1, &err));
}

/* Counters of the dead stay in the totals, gauges do not; the text is Prometheus's. */
static void test_metrics(void **state)
{
	struct alk_metrics metrics = {0};
	struct alk_metrics_text out = {0};
	struct alk_board board = {0};

	(void)state;
	atomic_store(&board.metric[ALK_M_LINKS], 10);
	atomic_store(&board.metric[ALK_M_SESSIONS], 4);
	alk_metrics_add(&metrics, &board, false);
	atomic_store(&board.metric[ALK_M_LINKS], 5);
	atomic_store(&board.metric[ALK_M_SESSIONS], 2);
	atomic_store(&board.metric[ALK_M_CHANNELS], (uint64_t)-1);
	alk_metrics_add(&metrics, &board, true);
	alk_metrics_write(&out, &metrics);
	alk_metrics_head(&out, ALK_OWN_REFUSED);
	alk_metrics_sample(&out, ALK_OWN_REFUSED, "{reason=\"a\"}", 1.5);
	alk_metrics_sample(&out, ALK_OWN_REFUSED, "{reason=\"b\"}", 4e9);
	assert_false(out.failed);
	assert_non_null(strstr(out.text,
			       "# HELP alknet_links_total Links accepted.\n"
			       "# TYPE alknet_links_total counter\nalknet_links_total 15\n"));
	assert_non_null(strstr(out.text, "# TYPE alknet_sessions gauge\nalknet_sessions 2\n"));
	assert_non_null(strstr(out.text, "\nalknet_channels -1\n"));
	assert_non_null(strstr(
		out.text,
		"alknet_links_refused_total{reason=\"a\"} 1.5\nalknet_links_refused_total{reason=\"b\"} 4000000000\n"));
	assert_int_equal(out.text[out.len], '\0');
	alk_metrics_text_deinit(&out);
}

/* Names are Prometheus's: a prefix, counters end in _total, no name twice. */
static void test_metric_names(void **state)
{
	(void)state;
	for (int m = 0; m < ALK_METRIC_COUNT; m++) {
		const char *name = alk_metric_info[m].name;
		size_t len = strlen(name);

		assert_int_equal(strncmp(name, "alknet_", 7), 0);
		assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyz_"), len);
		assert_int_equal(strcmp(name + len - 6, "_total") == 0,
				 alk_metric_info[m].kind == ALK_COUNTER);
		for (int other = 0; other < m; other++)
			assert_string_not_equal(name, alk_metric_info[other].name);
	}
}

/* Links that ended come over in order, as many as there is place for; what a worker that was taken
 * over writes there costs one look and no more. */
static void test_ended(void **state)
{
	struct alk_board board = {0};
	uint32_t read = 0;
	uint64_t link;

	(void)state;
	assert_false(alk_board_ended_waits(&board));
	for (uint64_t n = 1, heard = 1; n < 3 * ALK_BOARD_ENDED; n++) {
		assert_true(alk_board_end(&board, n));
		assert_true(alk_board_ended_waits(&board));
		if (n % 3 != 0)
			continue;
		for (int i = 0; i < 3; i++) {
			assert_int_equal(alk_board_ended_next(&board, &read, &link), 0);
			assert_int_equal(link, heard++);
		}
		assert_int_equal(alk_board_ended_next(&board, &read, &link), 0);
		assert_int_equal(link, 0);
		assert_false(alk_board_ended_waits(&board));
	}
	while (alk_board_ended_next(&board, &read, &link) == 0 && link != 0)
		;
	for (int i = 0; i < ALK_BOARD_ENDED; i++)
		assert_true(alk_board_end(&board, 7));
	assert_false(alk_board_end(&board, 8));
	assert_int_equal(alk_board_ended_next(&board, &read, &link), 0);
	assert_int_equal(link, 7);
	assert_true(alk_board_end(&board, 8));
	atomic_fetch_add(&board.ended.written, 1);
	assert_int_equal(alk_board_ended_next(&board, &read, &link), -EPROTO);
	assert_int_equal(link, 0);
	assert_int_equal(alk_board_ended_next(&board, &read, &link), 0);
	assert_int_equal(link, 0);
	assert_true(alk_board_end(&board, 9));
	assert_int_equal(alk_board_ended_next(&board, &read, &link), 0);
	assert_int_equal(link, 9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shared),	     cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_map_refuses),  cmocka_unit_test(test_metrics),
		cmocka_unit_test(test_metric_names), cmocka_unit_test(test_ended),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
