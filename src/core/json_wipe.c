/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "json_wipe.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>

static void wiping_free(void *memory)
{
	if (memory != NULL)
		explicit_bzero(memory, malloc_usable_size(memory));
	free(memory);
}

void alk_json_wipe(void)
{
	json_set_alloc_funcs(malloc, wiping_free);
}
