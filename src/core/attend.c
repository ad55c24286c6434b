/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "attend.h"

void alk_attend_ask(struct alk_attend *attend, uint64_t max, uint64_t now)
{
	if (now < attend->shy_until)
		return;
	attend->waits = ALK_ATTEND_WAITS;
	attend->max = max;
}

bool alk_attend_stays(struct alk_attend *attend, bool came, uint64_t woken, uint64_t now)
{
	if (attend->waits == 0)
		return false;
	if (came && attend->since != 0) {
		attend->may = woken - attend->since <= attend->max ? attend->max : 0;
		attend->waits--;
	}
	if (attend->waits == 0) {
		attend->since = 0;
		return false;
	}
	if (came || attend->since == 0)
		attend->since = now;
	return now - attend->since < attend->may;
}

void alk_attend_gave_way(struct alk_attend *attend, uint64_t before, uint64_t now)
{
	if (now - before < ALK_ATTEND_CROWDED_NS)
		return;
	attend->waits = 0;
	attend->may = attend->since = 0;
	attend->shy_until = now + ALK_ATTEND_SHY_NS;
}
