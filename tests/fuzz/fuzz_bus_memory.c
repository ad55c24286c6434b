/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What `alknet connect --bus` remembers: frames of both ends in any order, and sessions that end
 * between them. A step is a byte that says what, two of length, and so many bytes of JSON. */
#include <stdlib.h>
#include <string.h>

#include "connect_bus.h"
#include "../../src/plugins/services/common/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void require(int yes)
{
	if (!yes)
		abort();
}

/* What is said is frames, and each can be read. */
static void check(struct bus_bytes *said)
{
	struct frame_reader reader;
	struct alk_err err;
	size_t taken;

	frame_reader_init(&reader, (size_t)8 << 20);
	while (bus_bytes_n(said) > 0) {
		struct frame frame;

		require(frame_feed(&reader, said->bytes + said->off, bus_bytes_n(said), &taken,
				   &err) == 1);
		require(frame_parse(&reader, &frame, &err) == 0);
		frame_clear(&frame);
		bus_bytes_take(said, taken);
	}
	frame_reader_clear(&reader);
}

static void step(struct bus_memory *m, unsigned what, const uint8_t *frame, size_t n)
{
	struct bus_bytes back = {.bytes = NULL}, up = {.bytes = NULL};

	switch (what % 6) {
	case 0:
		bus_memory_up(m, frame, n, &back, &up);
		break;
	case 1:
		bus_memory_down(m, frame, n);
		break;
	case 2:
		bus_memory_lost(m, &back);
		require(m->calls == NULL && m->serves == NULL && m->leaves == NULL);
		break;
	case 3:
		require(bus_memory_again(m, &up) == 0);
		break;
	case 4:
		bus_memory_expire(m, frame, n, &back);
		break;
	default:
		require(bus_memory_register(m, &up) == 0);
		break;
	}
	check(&back);
	check(&up);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct bus_memory m = {.subs = NULL};
	uint8_t *frame = malloc(n + 4);

	require(frame != NULL);
	while (n >= 3) {
		size_t size = ((size_t)bytes[1] << 8 | bytes[2]) % 4096;

		size = size < n - 3 ? size : n - 3;
		memset(frame, 0, 4);
		frame[2] = (uint8_t)(size >> 8);
		frame[3] = (uint8_t)size;
		memcpy(frame + 4, bytes + 3, size);
		if (size > 0)
			step(&m, bytes[0], frame, size + 4);
		else
			step(&m, 2, frame, 4);
		bytes += 3 + size;
		n -= 3 + size;
	}
	bus_memory_deinit(&m);
	require(m.bytes == 0);
	free(frame);
	return 0;
}
