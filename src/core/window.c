/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "window.h"

void alk_window_init(struct alk_window *window, uint64_t now)
{
	*window = (struct alk_window){.size = ALK_WINDOW_BASE, .since = now};
}

uint32_t alk_window_next(struct alk_window *window, uint64_t taken, uint64_t now, uint32_t rtt_ms,
			 uint32_t spare)
{
	uint64_t elapsed = now - window->since, want;

	if (rtt_ms < ALK_WINDOW_NEAR_MS || taken - window->asked < window->size / ALK_WINDOW_PART)
		return 0;
	window->asked = taken;
	if (elapsed >= rtt_ms) {
		want = 2 * (taken - window->from) * rtt_ms / elapsed;
		if (want > 2 * (uint64_t)window->size)
			want = 2 * (uint64_t)window->size;
		if (want > ALK_WINDOW_MAX)
			want = ALK_WINDOW_MAX;
		if (want < ALK_WINDOW_BASE)
			want = ALK_WINDOW_BASE;
		window->size = (uint32_t)want;
		window->from = taken;
		window->since = now;
	}
	if (window->size > (uint64_t)ALK_WINDOW_BASE + spare)
		window->size = ALK_WINDOW_BASE + spare;
	return window->size > ALK_WINDOW_BASE ? window->size : 0;
}
