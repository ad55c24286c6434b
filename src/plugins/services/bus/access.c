/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "bus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct access {
	struct access *next;
	char *text; /* "PATTERN", NUL, "SCOPE,SCOPE" */
	const char *scopes;
};

void access_free(struct access **list)
{
	while (*list != NULL) {
		struct access *a = *list;

		*list = a->next;
		free(a->text);
		free(a);
	}
}

static int line_read(const char *line, struct access **list, struct alk_err *err)
{
	struct access *a = calloc(1, sizeof(*a));
	char *equals;

	if (a == NULL || (a->text = strdup(line)) == NULL) {
		free(a);
		return alk_err_set(err, -ENOMEM, "out of memory");
	}
	a->next = *list;
	*list = a;
	equals = strchr(a->text, '=');
	if (equals == NULL || equals[1] == '\0')
		return alk_err_set(err, -EINVAL, "access: %s: must be PATTERN=SCOPE[,SCOPE]", line);
	*equals = '\0';
	a->scopes = equals + 1;
	if (!path_check_pattern(a->text))
		return alk_err_set(err, -EINVAL,
				   "access: %s: is no pattern like /*/fs/* or /admin/**", a->text);
	return 0;
}

int access_read(const struct alk_options *options, struct access **list, struct alk_err *err)
{
	const char *line;
	int rc = 0;

	*list = NULL;
	for (size_t i = 0; rc == 0 && (line = alk_options_nth(options, "access", i)) != NULL; i++)
		rc = line_read(line, list, err);
	return rc;
}

static bool resource_matches(const struct alk_identity *identity, const char *operation)
{
	for (size_t i = 0; identity->resources != NULL && identity->resources[i] != NULL; i++)
		if (path_check_pattern(identity->resources[i]) &&
		    path_match(identity->resources[i], operation))
			return true;
	return false;
}

static bool line_allows(const struct access *a, const struct alk_identity *identity,
			const char *operation)
{
	const char *scope = a->scopes;
	char one[256];

	if (identity == NULL)
		return false;
	while (*scope != '\0') {
		size_t n = strcspn(scope, ",");

		if (n == 1 && *scope == '@') {
			if (resource_matches(identity, operation))
				return true;
		} else if (n > 0 && n < sizeof(one)) {
			memcpy(one, scope, n);
			one[n] = '\0';
			if (alk_identity_has_scope(identity, one))
				return true;
		}
		scope += n + (scope[n] == ',');
	}
	return false;
}

bool access_allows(const struct access *list, const struct alk_identity *identity,
		   const char *operation)
{
	for (const struct access *a = list; a != NULL; a = a->next)
		if (path_match(a->text, operation) && !line_allows(a, identity, operation))
			return false;
	return true;
}
