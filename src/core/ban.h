/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_BAN_H
#define ALK_BAN_H

/* Networks that an operator shut out (ban.add), until a time or until they are taken back. They are
 * in the supervisor's memory: a reload keeps them, a restart does not. Times are monotonic
 * milliseconds that the caller reads. */

#include <stdbool.h>
#include <stdint.h>
#include "cidr.h"

#define ALK_BANS_MAX 4096

struct alk_ban {
	struct alk_cidr net;
	char text[64];	/* as it is shown */
	uint64_t until; /* 0 = for good */
	char reason[128];
};

struct alk_bans;

struct alk_bans *alk_bans_new(void);
void alk_bans_free(struct alk_bans **bans);
/* net and text of the network that `text` says. NULL, or why it is none. */
const char *alk_ban_parse(struct alk_ban *ban, const char *text);
/* Copies; one of the same network is replaced. 0; -ENOMEM; -ENOSPC when there are ALK_BANS_MAX. */
int alk_bans_add(struct alk_bans *bans, const struct alk_ban *ban, uint64_t now);
/* False: there is no ban of exactly this network. */
bool alk_bans_remove(struct alk_bans *bans, const struct alk_cidr *net);
/* Is this address shut out? Text that is no IP address never is. */
bool alk_bans_has(struct alk_bans *bans, const char *addr, uint64_t now);
/* The n-th that stands, NULL past the last. Valid until the next call that changes anything. */
const struct alk_ban *alk_bans_nth(struct alk_bans *bans, unsigned n, uint64_t now);
unsigned alk_bans_count(struct alk_bans *bans, uint64_t now);

#endif
