/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ssh_get_random of this program, ahead of libssh's: padding.h says why. */
#include <alknet/err.h>
#include "padding.h"

ALK_EXPORT int ssh_get_random(void *where, int len, int strong);

int ssh_get_random(void *where, int len, int strong)
{
	return alk_padding_random(where, len, strong);
}
