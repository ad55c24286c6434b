/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Schemas: a JSON document, a NUL, and another: the first as a schema of the second, and each as a
 * schema of itself. What is refused is refused with a sentence; what a schema says does not depend
 * on how often it is asked. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include "../../src/plugins/services/common/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void require(int yes)
{
	if (!yes)
		abort();
}

static void check(const json_t *schema, const json_t *value)
{
	struct alk_err err = {""}, again = {""};
	int rc;

	if (schema == NULL || value == NULL)
		return;
	if (schema_check(schema, &err) < 0) {
		require(err.text[0] != '\0');
		return;
	}
	rc = schema_fits(schema, value, &err);
	require(rc == schema_fits(schema, value, &again));
	require(rc == 0 || (err.text[0] != '\0' && strcmp(err.text, again.text) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	const uint8_t *nul = memchr(bytes, '\0', n);
	size_t first = nul != NULL ? (size_t)(nul - bytes) : n;
	int flags = JSON_DECODE_ANY | JSON_REJECT_DUPLICATES;
	json_t *schema = json_loadb((const char *)bytes, first, flags, NULL);
	json_t *value = nul != NULL ? json_loadb((const char *)nul + 1, n - first - 1, flags, NULL)
				    : NULL;

	check(schema, value);
	check(schema, schema);
	check(value, schema);
	json_decref(schema);
	json_decref(value);
	return 0;
}
