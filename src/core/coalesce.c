/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "coalesce.h"

bool alk_coalesce_look(struct alk_coalesce *coalesce, unsigned n, uint64_t waited, uint64_t worked)
{
	coalesce->pauses = n > 1 ||
			   (n == 1 && !coalesce->pauses && waited < ALK_COALESCE_SOON * worked);
	return coalesce->pauses;
}
