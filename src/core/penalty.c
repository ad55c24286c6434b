/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "penalty.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_LEN 128
#define BUCKETS 1024 /* a power of two */

struct penalty {
	struct penalty *chain;	       /* of its bucket */
	struct penalty *newer, *older; /* in the order they were added */
	enum alk_penalty_kind kind;
	uint64_t until;
	bool counts;
	char name[NAME_MAX_LEN];
};

struct alk_penalty {
	struct penalty *bucket[BUCKETS];
	struct penalty *oldest, *newest;
	size_t count;
};

struct alk_penalty *alk_penalty_new(void)
{
	return calloc(1, sizeof(struct alk_penalty));
}

static struct penalty **penalty_find(struct alk_penalty *penalties, enum alk_penalty_kind kind,
				     const char *name)
{
	uint32_t h = 2166136261u ^ (uint32_t)kind;
	struct penalty **at;

	for (const char *p = name; *p != '\0' && p < name + NAME_MAX_LEN - 1; p++)
		h = (h ^ (uint8_t)*p) * 16777619u;
	at = &penalties->bucket[(h ^ h >> 16) & (BUCKETS - 1)];
	while (*at != NULL &&
	       ((*at)->kind != kind || strncmp((*at)->name, name, NAME_MAX_LEN - 1) != 0))
		at = &(*at)->chain;
	return at;
}

static void penalty_drop(struct alk_penalty *penalties, struct penalty **at)
{
	struct penalty *p = *at;

	*at = p->chain;
	*(p->older != NULL ? &p->older->newer : &penalties->oldest) = p->newer;
	*(p->newer != NULL ? &p->newer->older : &penalties->newest) = p->older;
	penalties->count--;
	free(p);
}

void alk_penalty_free(struct alk_penalty **penalties)
{
	if (*penalties == NULL)
		return;
	while ((*penalties)->oldest != NULL) {
		struct penalty *p = (*penalties)->oldest;

		penalty_drop(*penalties, penalty_find(*penalties, p->kind, p->name));
	}
	free(*penalties);
	*penalties = NULL;
}

/* As the newest. NULL when out of memory: then it is gone. */
static struct penalty *penalty_put(struct alk_penalty *penalties, enum alk_penalty_kind kind,
				   const char *name, uint64_t until, bool counts)
{
	struct penalty **at = penalty_find(penalties, kind, name);
	struct penalty *p;

	if (*at != NULL)
		penalty_drop(penalties, at);
	p = calloc(1, sizeof(*p));
	if (p == NULL)
		return NULL;
	if (penalties->count == ALK_PENALTY_MAX)
		penalty_drop(penalties, penalty_find(penalties, penalties->oldest->kind,
						     penalties->oldest->name));
	p->kind = kind;
	p->until = until;
	p->counts = counts;
	memcpy(p->name, name, strnlen(name, sizeof(p->name) - 1));
	*penalty_find(penalties, kind, p->name) = p;
	p->older = penalties->newest;
	*(p->older != NULL ? &p->older->newer : &penalties->oldest) = p;
	penalties->newest = p;
	penalties->count++;
	return p;
}

int alk_penalty_add(struct alk_penalty *penalties, enum alk_penalty_kind kind, const char *name,
		    uint64_t until)
{
	return penalty_put(penalties, kind, name, until, true) != NULL ? 0 : -ENOMEM;
}

bool alk_penalty_grow(struct alk_penalty *penalties, enum alk_penalty_kind kind, const char *name,
		      uint64_t now, uint64_t more_ms, uint64_t min_ms, uint64_t max_ms)
{
	const struct penalty *p = *penalty_find(penalties, kind, name);
	bool counted = p != NULL && p->until > now && p->counts;
	uint64_t left = (p != NULL && p->until > now ? p->until - now : 0) + more_ms;

	/* One that was set by other means may be longer than max. */
	if (left > max_ms)
		left = p != NULL && p->until > now + max_ms ? p->until - now : max_ms;
	p = penalty_put(penalties, kind, name, now + left, counted || left >= min_ms);
	return p != NULL && p->counts && !counted;
}

bool alk_penalty_remove(struct alk_penalty *penalties, enum alk_penalty_kind kind, const char *name)
{
	struct penalty **at = penalty_find(penalties, kind, name);

	if (*at == NULL)
		return false;
	penalty_drop(penalties, at);
	return true;
}

uint64_t alk_penalty_left(struct alk_penalty *penalties, enum alk_penalty_kind kind,
			  const char *name, uint64_t now)
{
	struct penalty **at = penalty_find(penalties, kind, name);

	if (*at == NULL)
		return 0;
	if ((*at)->until > now)
		return (*at)->counts ? (*at)->until - now : 0;
	penalty_drop(penalties, at);
	return 0;
}

void alk_penalty_each(struct alk_penalty *penalties, uint64_t now,
		      void (*fn)(void *user, enum alk_penalty_kind kind, const char *name,
				 uint64_t left),
		      void *user)
{
	for (struct penalty *p = penalties->oldest; p != NULL; p = p->newer)
		if (p->until > now && p->counts)
			fn(user, p->kind, p->name, p->until - now);
}

size_t alk_penalty_count(const struct alk_penalty *penalties)
{
	return penalties->count;
}
