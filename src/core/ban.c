/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "ban.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct alk_bans {
	struct alk_ban *ban;
	unsigned n, size;
};

struct alk_bans *alk_bans_new(void)
{
	return calloc(1, sizeof(struct alk_bans));
}

void alk_bans_free(struct alk_bans **bans)
{
	if (*bans != NULL)
		free((*bans)->ban);
	free(*bans);
	*bans = NULL;
}

const char *alk_ban_parse(struct alk_ban *ban, const char *text)
{
	const char *why = alk_cidr_parse(&ban->net, text);
	char addr[INET6_ADDRSTRLEN];

	if (why != NULL)
		return why;
	if (ban->net.v4)
		inet_ntop(AF_INET, &ban->net.net.s6_addr[12], addr, sizeof(addr));
	else
		inet_ntop(AF_INET6, &ban->net.net, addr, sizeof(addr));
	snprintf(ban->text, sizeof(ban->text), "%s/%u", addr,
		 ban->net.bits - (ban->net.v4 ? 96 : 0));
	return NULL;
}

static bool same_net(const struct alk_cidr *a, const struct alk_cidr *b)
{
	return a->bits == b->bits && memcmp(&a->net, &b->net, sizeof(a->net)) == 0;
}

static void forget(struct alk_bans *bans, unsigned i)
{
	memmove(&bans->ban[i], &bans->ban[i + 1], (bans->n - i - 1) * sizeof(bans->ban[0]));
	bans->n--;
}

static void expire(struct alk_bans *bans, uint64_t now)
{
	for (unsigned i = bans->n; i-- > 0;)
		if (bans->ban[i].until != 0 && bans->ban[i].until <= now)
			forget(bans, i);
}

int alk_bans_add(struct alk_bans *bans, const struct alk_ban *ban, uint64_t now)
{
	expire(bans, now);
	alk_bans_remove(bans, &ban->net);
	if (bans->n == ALK_BANS_MAX)
		return -ENOSPC;
	if (bans->n == bans->size) {
		unsigned size = bans->size == 0 ? 16 : bans->size * 2;
		struct alk_ban *grown = reallocarray(bans->ban, size, sizeof(*grown));

		if (grown == NULL)
			return -ENOMEM;
		bans->ban = grown;
		bans->size = size;
	}
	bans->ban[bans->n++] = *ban;
	return 0;
}

bool alk_bans_remove(struct alk_bans *bans, const struct alk_cidr *net)
{
	for (unsigned i = 0; i < bans->n; i++) {
		if (same_net(&bans->ban[i].net, net)) {
			forget(bans, i);
			return true;
		}
	}
	return false;
}

bool alk_bans_has(struct alk_bans *bans, const char *addr, uint64_t now)
{
	struct in6_addr in6;
	bool v4;

	if (bans->n == 0 || !alk_cidr_address(addr, &in6, &v4))
		return false;
	for (unsigned i = 0; i < bans->n; i++) {
		const struct alk_ban *ban = &bans->ban[i];

		if ((ban->until == 0 || ban->until > now) && alk_cidr_has(&ban->net, &in6))
			return true;
	}
	return false;
}

const struct alk_ban *alk_bans_nth(struct alk_bans *bans, unsigned n, uint64_t now)
{
	expire(bans, now);
	return n < bans->n ? &bans->ban[n] : NULL;
}

unsigned alk_bans_count(struct alk_bans *bans, uint64_t now)
{
	expire(bans, now);
	return bans->n;
}
