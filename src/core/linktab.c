/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "linktab.h"

#include <stdlib.h>
#include <string.h>

#define BUCKETS_MIN 64

struct alk_linktab {
	struct alk_linktab_entry **bucket;
	size_t buckets, count;
};

struct alk_linktab *alk_linktab_new(void)
{
	struct alk_linktab *tab = calloc(1, sizeof(*tab));

	if (tab == NULL)
		return NULL;
	tab->buckets = BUCKETS_MIN;
	tab->bucket = calloc(tab->buckets, sizeof(*tab->bucket));
	if (tab->bucket == NULL)
		alk_linktab_free(&tab);
	return tab;
}

void alk_linktab_free(struct alk_linktab **tabp)
{
	struct alk_linktab *tab = *tabp;

	*tabp = NULL;
	if (tab == NULL)
		return;
	for (size_t b = 0; tab->bucket != NULL && b < tab->buckets; b++) {
		while (tab->bucket[b] != NULL) {
			struct alk_linktab_entry *entry = tab->bucket[b];

			tab->bucket[b] = entry->chain;
			free(entry);
		}
	}
	free(tab->bucket);
	free(tab);
}

/* Numbers are given one after the other: their low bits are as good as a hash. */
static struct alk_linktab_entry **entry_at(const struct alk_linktab *tab, uint64_t id)
{
	struct alk_linktab_entry **at = &tab->bucket[id & (tab->buckets - 1)];

	while (*at != NULL && (*at)->id != id)
		at = &(*at)->chain;
	return at;
}

static void linktab_grow(struct alk_linktab *tab)
{
	struct alk_linktab bigger = {.buckets = tab->buckets * 2, .count = tab->count};

	bigger.bucket = calloc(bigger.buckets, sizeof(*bigger.bucket));
	if (bigger.bucket == NULL)
		return; /* longer chains, no more */
	for (size_t b = 0; b < tab->buckets; b++) {
		while (tab->bucket[b] != NULL) {
			struct alk_linktab_entry *entry = tab->bucket[b];
			struct alk_linktab_entry *
				*to = &bigger.bucket[entry->id & (bigger.buckets - 1)];

			tab->bucket[b] = entry->chain;
			entry->chain = *to;
			*to = entry;
		}
	}
	free(tab->bucket);
	*tab = bigger;
}

struct alk_linktab_entry *alk_linktab_add(struct alk_linktab *tab, uint64_t id, unsigned worker,
					  const char *addr)
{
	struct alk_linktab_entry *entry = calloc(1, sizeof(*entry));

	if (entry == NULL)
		return NULL;
	entry->id = id;
	entry->worker = worker;
	memcpy(entry->addr, addr, strnlen(addr, sizeof(entry->addr) - 1));
	*entry_at(tab, id) = entry;
	if (++tab->count > tab->buckets)
		linktab_grow(tab);
	return entry;
}

struct alk_linktab_entry *alk_linktab_find(const struct alk_linktab *tab, uint64_t id)
{
	return *entry_at(tab, id);
}

void alk_linktab_remove(struct alk_linktab *tab, uint64_t id)
{
	struct alk_linktab_entry **at = entry_at(tab, id), *entry = *at;

	if (entry == NULL)
		return;
	*at = entry->chain;
	tab->count--;
	free(entry);
}

void alk_linktab_remove_worker(struct alk_linktab *tab, unsigned worker,
			       void (*fn)(void *user, const struct alk_linktab_entry *entry),
			       void *user)
{
	for (size_t b = 0; b < tab->buckets; b++) {
		struct alk_linktab_entry **at = &tab->bucket[b];

		while (*at != NULL) {
			struct alk_linktab_entry *entry = *at;

			if (entry->worker != worker) {
				at = &entry->chain;
				continue;
			}
			*at = entry->chain;
			tab->count--;
			fn(user, entry);
			free(entry);
		}
	}
}
