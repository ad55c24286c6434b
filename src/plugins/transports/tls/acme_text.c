/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "acme_private.h"

const char *acme_text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text != NULL ? text : "";
}
