/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The hub and alknet-nats: a program that does not read, which is this one under the other's
 * name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "../../src/plugins/common/companion.h"
#include "../../src/plugins/services/bus/hub_nats.h"

#define ROLE "ALKNET_TEST_NATS_LINK" /* set for the program only */
#define PIECE ((size_t)1 << 20)
#define PIECES 80 /* more than may wait */
#define WAIT_MS 60000

static struct alk_loop *loop;
static struct nats_link *link_;
static unsigned programs, ends;

static void on_gone(void *user)
{
	(void)user;
	ends++;
}

static void on_fresh(void *user)
{
	static uint8_t piece[PIECE];
	struct wire_out out;

	(void)user;
	assert_int_equal(ends, programs); /* told when it ends, not when there is another one */
	if (++programs == 2) {
		alk_loop_stop(loop);
		return;
	}
	for (int i = 0; i < PIECES; i++) {
		wire_begin(&out, WIRE_FROM);
		wire_bytes(&out, piece, sizeof(piece));
		assert_false(out.bad);
		nats_link_say(link_, &out);
	}
}

static void on_message(void *user, const uint8_t *bytes, size_t n)
{
	(void)user, (void)bytes, (void)n;
	fail_msg("the program says nothing");
}

static void on_refused(void *user, const char *origin, const char *why)
{
	(void)user, (void)origin, (void)why;
	fail_msg("there is no event");
}

static void on_late(void *user)
{
	(void)user;
	fail_msg("the program that does not read is still there");
}

/* What waits for it has a bound; then another one is started, which hears everything anew. */
static void test_program_that_does_not_read(void **state)
{
	static const struct nats_link_ops ops = {.gone = on_gone,
						 .fresh = on_fresh,
						 .message = on_message,
						 .refused = on_refused};
	static const struct companion_kind self = {.name = "test_nats_link", .needs = "this is"};
	char path[COMPANION_PATH_MAX], program[COMPANION_PATH_MAX];
	struct alk_timer *late;
	struct alk_err err = {""};

	(void)state;
	assert_int_equal(companion_find(&self, path, &err), 0);
	strcpy(program, path);
	strcpy(strrchr(program, '/'), "/alknet-nats");
	unlink(program);
	assert_int_equal(symlink(strrchr(path, '/') + 1, program), 0);
	setenv(ROLE, "deaf", 1);
	loop = alk_loop_new(&err);
	link_ = nats_link_new(loop, PIECE, &ops, NULL);
	late = alk_timer_new(loop, "late", on_late, NULL);
	assert_non_null(link_);
	alk_timer_start(late, WAIT_MS);
	alk_loop_run(loop);
	assert_int_equal(programs, 2);
	alk_timer_free(&late);
	nats_link_free(&link_);
	alk_loop_free(&loop);
	unlink(program);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_program_that_does_not_read)};

	while (getenv(ROLE) != NULL)
		pause();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
