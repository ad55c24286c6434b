/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A derivation path: what is taken comes back from its own text the same. */
#include <stdlib.h>
#include <string.h>

#include "../../src/plugins/services/secret/path.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	char text[SECRET_PATH_TEXT];
	struct secret_path path, again;
	struct alk_err err = {""};

	if (secret_path_parse((const char *)bytes, n, &path, &err) < 0) {
		if (err.text[0] == '\0')
			abort();
		return 0;
	}
	secret_path_format(&path, text, sizeof(text));
	if (secret_path_parse(text, strlen(text), &again, &err) < 0 ||
	    !secret_path_same(&path, &again))
		abort();
	return 0;
}
