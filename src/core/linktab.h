/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_LINKTAB_H
#define ALK_LINKTAB_H

/* The links that were handed to workers, by number. A link's number is also its session's: the
 * supervisor gives it, and it is never used again. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct alk_linktab_entry {
	struct alk_linktab_entry *chain; /* the table's */
	uint64_t id;
	unsigned worker;
	bool authenticated;
	char addr[64];
};

struct alk_linktab;

struct alk_linktab *alk_linktab_new(void);
void alk_linktab_free(struct alk_linktab **tab);
/* NULL when out of memory. The table owns it. */
struct alk_linktab_entry *alk_linktab_add(struct alk_linktab *tab, uint64_t id, unsigned worker,
					  const char *addr);
struct alk_linktab_entry *alk_linktab_find(const struct alk_linktab *tab, uint64_t id);
void alk_linktab_remove(struct alk_linktab *tab, uint64_t id);
/* Remove all links of one worker; `fn` sees each before it goes. */
void alk_linktab_remove_worker(struct alk_linktab *tab, unsigned worker,
			       void (*fn)(void *user, const struct alk_linktab_entry *entry),
			       void *user);

#endif
