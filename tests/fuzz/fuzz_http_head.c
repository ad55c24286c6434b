/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The head of an HTTP request: what is a head is one whatever comes behind it, and no part of it
 * is. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void require(int yes)
{
	if (!yes)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct alk_http_head head, part;
	int rc = alk_http_head_parse((const char *)bytes, n, &head);

	require(rc == -EINVAL || rc == -EFBIG || (rc >= 0 && (size_t)rc <= n));
	if (rc <= 0)
		return 0;
	require(rc <= ALK_HTTP_HEAD_MAX && head.method[0] != '\0');
	require(head.path[0] == '/' || head.path[0] == '\0');
	require(strpbrk(head.path, "?# \r\n") == NULL);
	for (int i = 0; i < rc; i++)
		require(alk_http_head_parse((const char *)bytes, (size_t)i, &part) == 0);
	require(alk_http_head_parse((const char *)bytes, (size_t)rc, &part) == rc);
	return 0;
}
