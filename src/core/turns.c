/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "turns.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "siphash.h"

#define BUCKETS 256
#define SOURCE_MAX 64

struct waiter {
	struct waiter *next;
	uint64_t number;
	struct alk_link link;
};

struct source {
	struct source *chain;	    /* in its bucket */
	struct source *prev, *next; /* in its list */
	struct waiter *first, **last;
	size_t waiting;
	uint64_t served; /* which service of all its last one was; 0 = it had none */
	char name[SOURCE_MAX];
};

struct list {
	struct source *first, *last;
};

struct alk_turns {
	struct source *bucket[BUCKETS];
	uint64_t key[2];
	/* Both ordered by `served`: those that have links waiting, and those that had. */
	struct list waiting, idle;
	size_t links, sources, idles;
	uint64_t services;
};

struct alk_turns *alk_turns_new(void)
{
	struct alk_turns *turns = calloc(1, sizeof(*turns));

	/* Without it the chains are as long as a stranger likes, and no more: there are few
	 * sources. */
	if (turns != NULL && getrandom(turns->key, sizeof(turns->key), GRND_NONBLOCK) < 0)
		turns->key[0] = (uint64_t)(uintptr_t)turns;
	return turns;
}

void alk_turns_free(struct alk_turns **turnsp)
{
	struct alk_turns *turns = *turnsp;
	struct alk_link link;

	*turnsp = NULL;
	if (turns == NULL)
		return;
	while (alk_turns_take(turns, &link) != 0)
		alk_link_close(&link);
	free(turns);
}

/* Sources, by name */

static struct source **source_at(const struct alk_turns *turns, const char *name)
{
	uint64_t hash = alk_siphash(turns->key, name, strlen(name));
	struct source **at = (struct source **)&turns->bucket[hash % BUCKETS];

	while (*at != NULL && strcmp((*at)->name, name) != 0)
		at = &(*at)->chain;
	return at;
}

static struct source *source_new(struct alk_turns *turns, struct source **at, const char *name)
{
	struct source *source = calloc(1, sizeof(*source));

	if (source == NULL)
		return NULL;
	snprintf(source->name, sizeof(source->name), "%s", name);
	source->last = &source->first;
	*at = source;
	turns->sources++;
	return source;
}

static void source_forget(struct alk_turns *turns, struct source *source)
{
	struct source **at = source_at(turns, source->name);

	*at = source->chain;
	turns->sources--;
	free(source);
}

/* The order of service */

static void list_remove(struct list *list, struct source *source)
{
	*(source->prev != NULL ? &source->prev->next : &list->first) = source->next;
	*(source->next != NULL ? &source->next->prev : &list->last) = source->prev;
}

/* Behind all that were served before it, and all that were not served either. Who comes back soon,
 * as a flood does, has its place near the end. */
static void list_insert(struct list *list, struct source *source)
{
	struct source *before = list->last;

	while (before != NULL && before->served > source->served)
		before = before->prev;
	source->prev = before;
	source->next = before != NULL ? before->next : list->first;
	*(before != NULL ? &before->next : &list->first) = source;
	*(source->next != NULL ? &source->next->prev : &list->last) = source;
}

static void idle_forget(struct alk_turns *turns, size_t keep)
{
	while (turns->idles > keep) {
		struct source *source = turns->idle.first;

		list_remove(&turns->idle, source);
		turns->idles--;
		source_forget(turns, source);
	}
}

/* Its last link went: it is remembered if it was served. */
static void source_rest(struct alk_turns *turns, struct source *source)
{
	if (source->served == 0) {
		source_forget(turns, source);
		return;
	}
	list_insert(&turns->idle, source);
	turns->idles++;
	idle_forget(turns, ALK_TURNS_IDLE);
}

/* Links */

static int source_queue(struct source *source, uint64_t number, struct alk_link *link)
{
	struct waiter *waiter = malloc(sizeof(*waiter));

	if (waiter == NULL)
		return -ENOMEM;
	waiter->next = NULL;
	waiter->number = number;
	waiter->link = *link;
	link->fd = -1;
	*source->last = waiter;
	source->last = &waiter->next;
	source->waiting++;
	return 0;
}

int alk_turns_add(struct alk_turns *turns, const char *name, uint64_t number, struct alk_link *link)
{
	struct source **at = source_at(turns, name);
	struct source *source = *at != NULL ? *at : source_new(turns, at, name);

	if (source == NULL)
		return -ENOMEM;
	if (source_queue(source, number, link) != 0) {
		if (source->waiting == 0 && source->served == 0)
			source_forget(turns, source);
		return -ENOMEM;
	}
	turns->links++;
	if (source->waiting > 1)
		return 0;
	if (source->served != 0) {
		list_remove(&turns->idle, source);
		turns->idles--;
	}
	list_insert(&turns->waiting, source);
	return 0;
}

static uint64_t source_dequeue(struct alk_turns *turns, struct source *source,
			       struct alk_link *link)
{
	struct waiter *waiter = source->first;
	uint64_t number = waiter->number;

	*link = waiter->link;
	source->first = waiter->next;
	if (source->first == NULL)
		source->last = &source->first;
	free(waiter);
	source->waiting--;
	turns->links--;
	return number;
}

uint64_t alk_turns_take(struct alk_turns *turns, struct alk_link *link)
{
	struct source *source = turns->waiting.first;
	uint64_t number;

	if (source == NULL) {
		idle_forget(turns, 0);
		return 0;
	}
	list_remove(&turns->waiting, source);
	source->served = ++turns->services;
	number = source_dequeue(turns, source, link);
	if (source->waiting > 0)
		list_insert(&turns->waiting, source);
	else
		source_rest(turns, source);
	return number;
}

uint64_t alk_turns_push_out(struct alk_turns *turns, struct alk_link *link)
{
	struct source *most = turns->waiting.last;
	uint64_t number;

	if (most == NULL)
		return 0;
	for (struct source *source = most->prev; source != NULL; source = source->prev)
		if (source->waiting > most->waiting)
			most = source;
	number = source_dequeue(turns, most, link);
	if (most->waiting == 0) {
		list_remove(&turns->waiting, most);
		source_rest(turns, most);
	}
	return number;
}

size_t alk_turns_count(const struct alk_turns *turns)
{
	return turns->links;
}

size_t alk_turns_of(const struct alk_turns *turns, const char *name)
{
	const struct source *source = *source_at(turns, name);

	return source != NULL ? source->waiting : 0;
}

size_t alk_turns_sources(const struct alk_turns *turns)
{
	return turns->sources;
}
