/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "hub.h"

#include <stdlib.h>
#include <string.h>

/* What an identity has, wherever its channels are. Groups and patterns are counted in hub.c,
 * histories in hub_nats_past.c. */

struct hub_share *hub_share_of(struct hub *hub, const char *identity)
{
	size_t n = strlen(identity);
	struct hub_shares *bucket = &hub->shares[wire_hash(identity, n) % HUB_SHARE_BUCKETS];
	struct hub_share *share;

	LIST_FOREACH(share, bucket, entry)
	{
		if (strcmp(share->identity, identity) == 0)
			return share;
	}
	share = calloc(1, sizeof(*share) + n + 1);
	if (share == NULL)
		return NULL;
	memcpy(share->identity, identity, n);
	LIST_INSERT_HEAD(bucket, share, entry);
	return share;
}

void hub_share_drop(struct hub_share *share)
{
	if (share->wants > 0 || share->pasts > 0)
		return;
	LIST_REMOVE(share, entry);
	free(share);
}
