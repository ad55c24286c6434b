/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "json_text.h"

#include <string.h>
#include "text.h"

json_t *alk_json_text(const char *text)
{
	char shown[1024];

	if (text == NULL)
		return NULL;
	if (alk_text_utf8(text, strlen(text)))
		return json_string(text);
	alk_text_escape(text, strlen(text), shown, sizeof(shown));
	return json_string(shown);
}
