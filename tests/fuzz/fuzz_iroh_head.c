/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The head of a request to the proxy on loopback: a host and a port, or a refusal; what is
 * forwarded has neither the word nor a second request in it; and no byte behind the head changes
 * the outcome. */
#include <stdlib.h>
#include <string.h>

#include "../../src/plugins/transports/iroh/iroh_head.h"

#define WORD "Basic YWxrbmV0OjAwMTEyMjMz"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void require(int yes)
{
	if (!yes)
		abort();
}

static void require_forward(const struct iroh_head *head)
{
	const char *end;

	require(head->forward_len < sizeof(head->forward));
	require(head->forward[head->forward_len] == '\0' &&
		strlen(head->forward) == head->forward_len);
	end = strstr(head->forward, "\r\n\r\n");
	require(end != NULL && end + 4 == head->forward + head->forward_len);
	require(strcasestr(head->forward, "\nProxy-Authorization:") == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct iroh_head head, again;
	int rc = iroh_head_parse(bytes, n, WORD, &head);

	require(rc <= (int)n && rc <= IROH_HEAD_MAX);
	if (rc <= 0)
		return 0;
	require(head.host[0] != '\0' && head.port != 0);
	if (!head.connect)
		require_forward(&head);
	require(iroh_head_parse(bytes, (size_t)rc, WORD, &again) == rc);
	require(memcmp(&head, &again, sizeof(head)) == 0);
	for (int i = 0; i < rc; i++)
		require(iroh_head_parse(bytes, (size_t)i, WORD, &again) == 0);
	return 0;
}
