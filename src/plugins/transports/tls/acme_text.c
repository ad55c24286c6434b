/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "acme_private.h"

#include <string.h>

const char *acme_text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text != NULL ? text : "";
}

/* Bytes of the well-formed sequence at `text`, 0: there is none. jansson is the judge. */
static size_t sequence_len(const char *text)
{
	for (size_t n = 1; n <= 4 && text[n - 1] != '\0'; n++) {
		json_t *taken = json_stringn(text, n);

		json_decref(taken);
		if (taken != NULL)
			return n;
	}
	return 0;
}

json_t *acme_text_json(const char *text)
{
	json_t *whole = json_string(text);
	char clean[512];
	size_t n = 0, good = 0;

	if (whole != NULL)
		return whole;
	while (*text != '\0' && n + 4 < sizeof(clean)) {
		size_t len = sequence_len(text);

		if (len > 0)
			memcpy(clean + n, text, len);
		else
			clean[n] = '?';
		n += len > 0 ? len : 1;
		text += len > 0 ? len : 1;
		good = len > 0 ? n : good;
	}
	return json_stringn(clean, good);
}
