/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An endpoint's id: what is taken comes back from both of its texts the same. */
#include <stdlib.h>
#include <string.h>

#include "../../src/plugins/transports/iroh/iroh_id.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	uint8_t id[IROH_ID_BYTES], again[IROH_ID_BYTES];
	char z32[IROH_ID_Z32], hex[IROH_ID_HEX], *text = malloc(n + 1);

	if (text == NULL)
		abort();
	memcpy(text, bytes, n);
	text[n] = '\0';
	if (iroh_id_parse(text, id) == 0) {
		iroh_id_z32(id, z32);
		iroh_id_hex(id, hex);
		if (strlen(z32) != IROH_ID_Z32 - 1 || strlen(hex) != IROH_ID_HEX - 1)
			abort();
		if (iroh_id_parse(z32, again) < 0 || memcmp(id, again, sizeof(id)) != 0)
			abort();
		if (iroh_id_parse(hex, again) < 0 || memcmp(id, again, sizeof(id)) != 0)
			abort();
		/* One id has one text of each form, but for the case of hex. */
		if (strcasecmp(text, hex) != 0 && strcmp(text, z32) != 0)
			abort();
	}
	free(text);
	return 0;
}
