/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What alknet-iroh says, if it was taken over: a packet whose texts can be shown, or nothing. */
#include <stdlib.h>
#include <string.h>

#include "../../src/plugins/transports/iroh/iroh_packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void require_text(const char *text, size_t size)
{
	size_t n = strnlen(text, size);

	if (n == size)
		abort();
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct iroh_packet packet;
	int rc = iroh_packet_parse(bytes, n, &packet);

	if ((rc == 0) != (packet.kind != IROH_PACKET_NONE))
		abort();
	if (rc == 0) {
		require_text(packet.text, sizeof(packet.text));
		require_text(packet.error, sizeof(packet.error));
	}
	return 0;
}
