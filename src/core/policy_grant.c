/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "policy.h"
#include "text.h"

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

static const char *const nothing[] = {NULL};

static const struct alk_grant_cert no_cert = {.principals = nothing};

struct alk_grant *alk_grant_new_limited(const char *id, const char *user,
					const char *key_fingerprint, const char *const *scopes,
					const char *const *resources,
					const struct alk_grant_limits *limits)
{
	static const struct alk_grant_limits no_limits;
	const struct alk_grant_limits *from = limits ? limits : &no_limits;
	const struct alk_grant_cert *says = from->cert ? from->cert : &no_cert;
	struct alk_grant_cert *cert;
	struct grant_space space;
	struct alk_grant *grant;

	scopes = scopes ? scopes : nothing;
	user = user ? user : "";
	id = id ? id : user;
	grant = calloc(1, sizeof(*grant) + sizeof(*cert) + list_space(scopes) +
				  list_space(resources) + list_space(from->permit_open) +
				  list_space(from->permit_listen) + list_space(says->principals) +
				  str_space(id) + str_space(user) + str_space(key_fingerprint) +
				  str_space(says->key_id) + str_space(says->ca_fingerprint));
	if (!grant)
		return NULL;
	cert = (struct alk_grant_cert *)(grant + 1);
	space.list = (char **)(cert + 1);
	space.text = (char *)(space.list + list_count(scopes) + list_count(resources) +
			      list_count(from->permit_open) + list_count(from->permit_listen) +
			      list_count(says->principals));
	grant->refs = 1;
	grant->scopes = list_put(&space, scopes);
	grant->resources = list_put(&space, resources);
	grant->identity.scopes = (const char *const *)grant->scopes;
	grant->identity.resources = (const char *const *)grant->resources;
	grant->identity.id = str_put(&space, id);
	grant->identity.user = str_put(&space, user);
	grant->identity.key_fingerprint = str_put(&space, key_fingerprint);
	grant->limits = *from;
	grant->limits.permit_open = (const char *const *)list_put(&space, from->permit_open);
	grant->limits.permit_listen = (const char *const *)list_put(&space, from->permit_listen);
	*cert = *says;
	cert->principals = (const char *const *)list_put(&space, says->principals);
	cert->key_id = str_put(&space, says->key_id);
	cert->ca_fingerprint = str_put(&space, says->ca_fingerprint);
	grant->limits.cert = from->cert ? cert : NULL;
	return grant;
}

struct alk_grant *alk_grant_new(const char *id, const char *user, const char *key_fingerprint,
				const char *const *scopes, const char *const *resources)
{
	return alk_grant_new_limited(id, user, key_fingerprint, scopes, resources, NULL);
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

/* ---- what a grant permits -------------------------------------------------------------------- */

struct permit {
	const char *host;
	size_t host_len;
	uint16_t port;
	bool any_port;
};

static bool port_read(const char *text, struct permit *permit)
{
	unsigned long port = 0;
	size_t n = strlen(text);

	permit->any_port = strcmp(text, "*") == 0;
	if (permit->any_port)
		return true;
	if (n == 0 || n > 5 || strspn(text, "0123456789") != n)
		return false;
	port = strtoul(text, NULL, 10);
	permit->port = (uint16_t)port;
	return port > 0 && port <= UINT16_MAX;
}

/* "host:port", "[v6]:port", and a port alone where one listens. */
static bool permit_read(const char *text, bool listen, struct permit *permit)
{
	const char *end;

	if (listen && !strchr(text, ':')) {
		permit->host = "*";
		permit->host_len = 1;
		return port_read(text, permit);
	}
	end = text[0] == '[' ? strchr(text, ']') : text + strcspn(text, ":/");
	if (!end)
		return false;
	permit->host = text;
	permit->host_len = (size_t)(end - text);
	if (text[0] == '[') {
		permit->host++;
		permit->host_len--;
		end++;
	}
	if (*end != ':' && *end != '/')
		return false;
	return permit->host_len < 256 && port_read(end + 1, permit);
}

bool alk_grant_permit_valid(const char *text, bool listen)
{
	struct permit permit;

	return permit_read(text, listen, &permit);
}

static bool host_equal(const struct permit *permit, const char *host)
{
	if (permit->host_len == 1 && permit->host[0] == '*')
		return true;
	return strlen(host) == permit->host_len &&
	       memcmp(host, permit->host, permit->host_len) == 0;
}

static bool host_matches(const struct permit *permit, const char *host)
{
	char small[256];
	size_t i;

	for (i = 0; host[i]; i++) {
		if (i + 1 == sizeof(small))
			return false;
		small[i] = host[i] >= 'A' && host[i] <= 'Z' ? (char)(host[i] | 0x20) : host[i];
	}
	small[i] = '\0';
	return alk_text_glob(small, i, permit->host, permit->host_len, false);
}

static bool list_permits(const char *const *list, const char *host, uint16_t port, bool listen)
{
	struct permit permit;

	for (; *list; list++)
		if (permit_read(*list, listen, &permit) &&
		    (permit.any_port || permit.port == port) &&
		    (listen ? host_matches(&permit, host) : host_equal(&permit, host)))
			return true;
	return false;
}

bool alk_grant_may_open(const struct alk_grant *grant, const char *host, uint16_t port)
{
	if (!grant || grant->limits.no_forwarding)
		return false;
	if (!grant->limits.permit_open)
		return true;
	return host[0] != '/' && list_permits(grant->limits.permit_open, host, port, false);
}

bool alk_grant_may_listen(const struct alk_grant *grant, const char *host, uint16_t port)
{
	if (!grant || grant->limits.no_forwarding)
		return false;
	return !grant->limits.permit_listen ||
	       list_permits(grant->limits.permit_listen, host, port, true);
}
