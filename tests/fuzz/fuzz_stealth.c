/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The web server of `stealth`: however the bytes are cut, the answers are the same. The first byte
 * of the input says how many bytes come at a time (its lower 5 bits, 0 = as many as there is room
 * for), whether it is plain HTTP (32), keyed (64), and whether a read that fills the room says that
 * there may be more (128). */
#include "../../src/plugins/transports/tls/stealth.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define OUT_MAX ((size_t)1 << 18)
#define INPUT_MAX 8192 /* more may fill the buffers, and then it matters what came with what */
#define TOKEN "abcdefghijklmnopqrstuvwxyz0123456789-_ABCDE"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

struct play {
	struct stealth *stealth;
	uint8_t *out;
	size_t n;
	bool pending, closed;
};

static void require(int yes)
{
	if (!yes)
		abort();
}

static void play_write(void *user, const void *bytes, size_t n)
{
	struct play *play = user;

	require(!play->pending && !play->closed && n > 0 && n <= 16384);
	play->pending = true;
	if (play->n + n > OUT_MAX)
		return;
	memcpy(play->out + play->n, bytes, n);
	play->n += n;
}

static void play_timer(void *user, uint64_t ms)
{
	require(!((struct play *)user)->closed && ms <= 75000);
}

static void play_close(void *user, enum stealth_close how)
{
	struct play *play = user;

	require(!play->closed && how <= STEALTH_CLOSE_LINGER);
	play->closed = true;
}

static int64_t play_clock(void *user)
{
	(void)user;
	return 0;
}

/* Returns how it ended; what was left of the input does not matter. */
static enum stealth_state feed(struct play *play, const uint8_t *bytes, size_t n, uint8_t how,
			       size_t step)
{
	struct stealth_settings settings = {.keyed = (how & 64) != 0};
	struct stealth_hooks hooks = {play_write, play_timer, play_close, play_clock, play};
	enum stealth_state state = STEALTH_JUDGING;

	*play = (struct play){.out = malloc(OUT_MAX)};
	require(play->out != NULL);
	play->stealth = stealth_new(&settings, &hooks);
	require(play->stealth != NULL);
	stealth_begin(play->stealth, (how & 32) != 0, how & 64 && !(how & 32) ? TOKEN : NULL);
	while (n > 0 && (state == STEALTH_JUDGING || state == STEALTH_HTTP)) {
		size_t room = stealth_room(play->stealth), some = n < room ? n : room;
		bool ready = how & 128 && some == room;

		require(room > 0 && room <= 8192);
		if (step > 0 && some > step)
			some = step;
		state = stealth_input(play->stealth, bytes, some, ready);
		if (ready && state == STEALTH_HTTP && !play->pending)
			state = stealth_input(play->stealth, bytes, 0, false);
		bytes += some;
		n -= some;
		while (play->pending) {
			play->pending = false;
			state = stealth_written(play->stealth);
		}
		require(play->closed == (state == STEALTH_DONE));
	}
	return state;
}

static bool has_chunks(const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i + 7 <= n; i++)
		if (strncasecmp((const char *)bytes + i, "chunked", 7) == 0)
			return true;
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct play whole, cut;
	enum stealth_state state;

	if (n == 0 || n > INPUT_MAX)
		return 0;
	state = feed(&whole, bytes + 1, n - 1, bytes[0], 0);
	require(state == feed(&cut, bytes + 1, n - 1, bytes[0] & 0x7f, bytes[0] & 0x1f));
	/* A bad chunk that came with the header is known before the answer, and changes it. */
	if (!(bytes[0] & 128) && !has_chunks(bytes, n)) {
		require(whole.n == cut.n);
		require(memcmp(whole.out, cut.out, whole.n) == 0);
	}
	if (state == STEALTH_OURS) {
		size_t rest;

		require(whole.n == 0 && !(bytes[0] & 32));
		stealth_rest(whole.stealth, &rest);
		require(rest < n);
	}
	if (state == STEALTH_JUDGING || state == STEALTH_HTTP)
		require(stealth_eof(whole.stealth, true) == STEALTH_DONE && whole.closed);
	stealth_free(&whole.stealth);
	stealth_free(&cut.stealth);
	free(whole.out);
	free(cut.out);
	return 0;
}
