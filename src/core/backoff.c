/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "backoff.h"

#include <sys/random.h>

uint64_t alk_backoff_jitter(uint64_t ms)
{
	uint32_t noise;

	/* Early in the boot there may be none yet: then all clients of this second come
	 * together. */
	if (getrandom(&noise, sizeof(noise), GRND_NONBLOCK) != sizeof(noise))
		return ms;
	return ms - noise % (ms / 4 + 1);
}

uint64_t alk_backoff_next(struct alk_backoff *backoff)
{
	uint64_t ms = backoff->next_ms > 0 ? backoff->next_ms : backoff->first_ms;

	backoff->next_ms = ms < backoff->max_ms / 2 ? ms * 2 : backoff->max_ms;
	return alk_backoff_jitter(ms);
}

void alk_backoff_reset(struct alk_backoff *backoff)
{
	backoff->next_ms = 0;
}
