/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The PROXY header: what is wrong at its beginning is wrong however little of it is there, and what
 * is good is IP addresses or none. */
#include <stdlib.h>

#include "proxy_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void require(int yes)
{
	if (!yes)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct alk_proxy_header header;
	struct alk_err err = {""};
	ssize_t size = 0;

	for (size_t i = 0; i <= n && i <= ALK_PROXY_HEADER_FIRST && size == 0; i++) {
		size = alk_proxy_header_size(bytes, i, &err);
		require(size >= 0 || err.text[0] != '\0');
		require((size > 0) <= (i == ALK_PROXY_HEADER_FIRST));
	}
	require(size <= ALK_PROXY_HEADER_MAX);
	if (size <= 0 || n < (size_t)size)
		return 0;
	if (alk_proxy_header_parse(bytes, (size_t)size, &header, &err) < 0) {
		require(err.text[0] != '\0');
		return 0;
	}
	if (header.has_addrs) {
		require(header.remote.sa.sa_family == AF_INET ||
			header.remote.sa.sa_family == AF_INET6);
		require(header.remote.sa.sa_family == header.local.sa.sa_family);
	}
	return 0;
}
