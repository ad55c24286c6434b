/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "policy.h"

/* A grant is one block of memory: the struct, its two lists, then the strings. */
struct grant_space {
	char **list;
	char *text;
};

static size_t str_space(const char *text)
{
	return text ? strlen(text) + 1 : 0;
}

static size_t list_space(const char *const *list)
{
	size_t space = 0;

	for (; list && *list; list++)
		space += sizeof(char *) + str_space(*list);
	return list ? space + sizeof(char *) : 0;
}

static const char *str_put(struct grant_space *space, const char *text)
{
	char *start = space->text;
	size_t size = str_space(text);

	if (!text)
		return NULL;
	memcpy(start, text, size);
	space->text += size;
	return start;
}

static char **list_put(struct grant_space *space, const char *const *list)
{
	char **start = space->list;

	if (!list)
		return NULL;
	for (; *list; list++)
		*space->list++ = (char *)str_put(space, *list);
	*space->list++ = NULL;
	return start;
}

static size_t list_count(const char *const *list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return list ? n + 1 : 0;
}

struct alk_grant *alk_grant_new(const char *id, const char *user, const char *key_fingerprint,
				const char *const *scopes, const char *const *resources)
{
	static const char *const none[] = {NULL};
	struct grant_space space;
	struct alk_grant *grant;

	if (!scopes)
		scopes = none;
	user = user ? user : "";
	id = id ? id : user;
	grant = calloc(1, sizeof(*grant) + list_space(scopes) + list_space(resources) +
				  str_space(id) + str_space(user) + str_space(key_fingerprint));
	if (!grant)
		return NULL;
	space.list = (char **)(grant + 1);
	space.text = (char *)(space.list + list_count(scopes) + list_count(resources));
	grant->refs = 1;
	grant->scopes = list_put(&space, scopes);
	grant->resources = list_put(&space, resources);
	grant->identity.scopes = (const char *const *)grant->scopes;
	grant->identity.id = str_put(&space, id);
	grant->identity.user = str_put(&space, user);
	grant->identity.key_fingerprint = str_put(&space, key_fingerprint);
	return grant;
}

struct alk_grant *alk_grant_ref(struct alk_grant *grant)
{
	if (grant)
		grant->refs++;
	return grant;
}

void alk_grant_unref(struct alk_grant **grant)
{
	if (*grant && --(*grant)->refs == 0)
		free(*grant);
	*grant = NULL;
}
