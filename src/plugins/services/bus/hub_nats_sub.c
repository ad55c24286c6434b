/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "hub_nats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What this server has subscribed to at NATS, each under a number; and the operations that are
 * here, each of which is two subscriptions. A client may have thousands of them, and they come and
 * go at once: nothing here walks over all. */

static void sub_say(struct nats *nats, const struct nats_sub *sub)
{
	char prefix[NATS_SUBJECT_MAX];
	struct wire_out out;

	nats_name(nats, prefix, "e");
	wire_begin(&out, (enum wire_op)NATS_SUB);
	wire_number(&out, sub->id);
	wire_number(&out, sub->kind);
	wire_text(&out, sub->subject);
	wire_text(&out, sub->queue);
	wire_text(&out, prefix);
	nats_link_say(nats->link, &out);
}

void nats_subs_say(struct nats *nats)
{
	const struct nats_sub *sub;

	TAILQ_FOREACH(sub, &nats->subs, entry)
	{
		sub_say(nats, sub);
	}
}

struct nats_sub *nats_sub_new(struct nats *nats, enum nats_role role, uint64_t kind,
			      const char *subject, const char *queue)
{
	struct nats_sub *sub = calloc(1, sizeof(*sub));

	if (sub == NULL)
		return NULL;
	sub->role = role;
	sub->kind = kind;
	sub->subject = strdup(subject);
	sub->queue = strdup(queue);
	if (sub->subject == NULL || sub->queue == NULL) {
		free(sub->subject);
		free(sub->queue);
		free(sub);
		return NULL;
	}
	sub->id = ++nats->last_sub;
	nats->generation++;
	TAILQ_INSERT_TAIL(&nats->subs, sub, entry);
	LIST_INSERT_HEAD(&nats->subs_by_id[sub->id % NATS_BUCKETS], sub, by_id);
	sub_say(nats, sub);
	return sub;
}

struct nats_sub *nats_sub_find(const struct nats *nats, uint64_t id)
{
	struct nats_sub *sub;

	LIST_FOREACH(sub, &nats->subs_by_id[id % NATS_BUCKETS], by_id)
	{
		if (sub->id == id)
			return sub;
	}
	return NULL;
}

static void sub_free(struct nats *nats, struct nats_sub *sub)
{
	TAILQ_REMOVE(&nats->subs, sub, entry);
	LIST_REMOVE(sub, by_id);
	nats->generation++;
	free(sub->subject);
	free(sub->queue);
	free(sub);
}

void nats_sub_end(struct nats *nats, uint64_t id)
{
	struct nats_sub *sub = nats_sub_find(nats, id);
	struct wire_out out;

	if (sub == NULL)
		return;
	wire_begin(&out, (enum wire_op)NATS_UNSUB);
	wire_number(&out, id);
	nats_link_say(nats->link, &out);
	sub_free(nats, sub);
}

/* ---- operations that are here ---------------------------------------------------------------- */

struct nats_operation {
	LIST_ENTRY(nats_operation) entry;
	size_t uses; /* workers and spokes that have it */
	uint64_t calls, describes;
	char name[];
};

bool nats_operation_subject(const struct nats *nats, char out[NATS_SUBJECT_MAX], const char *part,
			    const char *name)
{
	nats_name(nats, out, part);
	return name != NULL && *name == '/' && name[strlen(name) - 1] != '/' &&
	       strstr(name, "//") == NULL && nats_subject_path(out, NATS_SUBJECT_MAX, name);
}

static struct nats_operations *bucket(struct nats *nats, const char *name)
{
	return &nats->operations[wire_hash(name, strlen(name)) % NATS_BUCKETS];
}

static uint64_t operation_sub(struct nats *nats, enum nats_role role, const char *part,
			      const struct nats_operation *operation)
{
	char subject[NATS_SUBJECT_MAX];
	struct nats_sub *sub;

	if (!nats_operation_subject(nats, subject, part, operation->name))
		return 0;
	sub = nats_sub_new(nats, role, NATS_KIND_JSON, subject, "alknet");
	if (sub == NULL)
		return 0;
	sub->operation = operation->name;
	return sub->id;
}

static struct nats_operation *operation_find(struct nats *nats, const char *name)
{
	struct nats_operation *operation;

	LIST_FOREACH(operation, bucket(nats, name), entry)
	{
		if (strcmp(operation->name, name) == 0)
			return operation;
	}
	return NULL;
}

/* Whoever may call one can ask about it, so that comes first. */
static void operation_add(struct nats *nats, const char *name)
{
	struct nats_operation *operation = operation_find(nats, name);

	if (operation == NULL) {
		operation = calloc(1, sizeof(*operation) + strlen(name) + 1);
		if (operation == NULL) {
			alk_log(ALK_LOG_ERROR, "an operation is not on NATS",
				ALK_STR("operation", name), ALK_STR("reason", "out of memory"));
			return;
		}
		strcpy(operation->name, name);
		LIST_INSERT_HEAD(bucket(nats, name), operation, entry);
		operation->describes = operation_sub(nats, NATS_ROLE_DESCRIBE, "d", operation);
		operation->calls = operation_sub(nats, NATS_ROLE_OPERATION, "c", operation);
	}
	operation->uses++;
}

/* The calls of all come first: the program drains only so many at a time, and what is lost of these
 * is somebody's input. */
static void operation_close(struct nats *nats, const char *name)
{
	struct nats_operation *operation = operation_find(nats, name);

	if (operation == NULL || operation->uses > 1)
		return;
	nats_sub_end(nats, operation->calls);
	operation->calls = 0;
}

static void operation_drop(struct nats *nats, const char *name)
{
	struct nats_operation *operation = operation_find(nats, name);

	if (operation == NULL || --operation->uses > 0)
		return;
	nats_sub_end(nats, operation->calls);
	nats_sub_end(nats, operation->describes);
	LIST_REMOVE(operation, entry);
	free(operation);
}

static void operations_each(struct hub *hub, const char *spoke, const struct hub_operations *has,
			    void (*does)(struct nats *nats, const char *name))
{
	char name[BUS_NAME_MAX + BUS_SPOKE_MAX];

	for (size_t i = 0; hub->nats != NULL && has != NULL && i < has->n; i++) {
		snprintf(name, sizeof(name), "%s%s%s", *spoke != '\0' ? "/" : "", spoke,
			 has->list[i].name);
		does(hub->nats, name);
	}
}

void hub_nats_has(struct hub *hub, const char *spoke, const struct hub_operations *has)
{
	operations_each(hub, spoke, has, operation_add);
}

void hub_nats_has_no_more(struct hub *hub, const char *spoke, const struct hub_operations *has)
{
	operations_each(hub, spoke, has, operation_close);
	operations_each(hub, spoke, has, operation_drop);
}

void nats_subs_free(struct nats *nats)
{
	struct nats_operation *operation;

	while (!TAILQ_EMPTY(&nats->subs))
		sub_free(nats, TAILQ_FIRST(&nats->subs));
	for (size_t i = 0; i < NATS_BUCKETS; i++)
		while ((operation = LIST_FIRST(&nats->operations[i])) != NULL) {
			LIST_REMOVE(operation, entry);
			free(operation);
		}
}
