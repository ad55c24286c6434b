/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Frames of envelopes: however the bytes are cut, the same frames come out. The first byte says how
 * many bytes come at a time (0 = all). */
#include <stdlib.h>
#include <string.h>

#include "../../src/plugins/services/common/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

struct outcome {
	unsigned good, bad;
	int last;
};

static void require(int yes)
{
	if (!yes)
		abort();
}

/* Shorter reals are the same numbers, and nothing else changes. */
static void shorten(const json_t *root)
{
	char *text = json_dumps(root, JSON_COMPACT);
	size_t n = text != NULL ? strlen(text) : 0, shorter = frame_text_shorten(text, n);
	json_t *again = json_loadb(text, shorter, JSON_REJECT_DUPLICATES, NULL);

	require(text != NULL && shorter <= n && json_equal(root, again));
	json_decref(again);
	free(text);
}

static struct outcome feed(const uint8_t *bytes, size_t n, size_t step)
{
	struct outcome out = {0};
	struct frame_reader reader;
	struct alk_err err = {""};

	frame_reader_init(&reader, 4096);
	for (size_t at = 0, taken; at < n && out.last >= 0; at += taken) {
		size_t give = step == 0 || n - at < step ? n - at : step;
		struct frame frame;

		out.last = frame_feed(&reader, bytes + at, give, &taken, &err);
		require(taken <= give && (taken > 0 || out.last < 0));
		if (out.last != 1)
			continue;
		if (frame_parse(&reader, &frame, &err) == 0) {
			out.good++;
			require(frame.payload != NULL && frame.type[0] != '\0');
			shorten(frame.root);
		} else {
			out.bad++;
			require(err.text[0] != '\0' && frame.id != NULL);
		}
		frame_clear(&frame);
	}
	frame_reader_clear(&reader);
	return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct outcome whole, cut;

	if (n == 0)
		return 0;
	whole = feed(bytes + 1, n - 1, 0);
	cut = feed(bytes + 1, n - 1, bytes[0]);
	require(whole.good == cut.good && whole.bad == cut.bad);
	require((whole.last < 0) == (cut.last < 0));
	return 0;
}
