/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "acme_private.h"

#include <stdio.h>
#include <string.h>

static const uint8_t proof[] = "\x00\x0b\x0a"
			       "acme-tls/1";

bool acme_hello_is_proof(const uint8_t *alpn, size_t n)
{
	return n == sizeof(proof) - 1 && memcmp(alpn, proof, n) == 0;
}

enum acme_match acme_proof_match(const uint8_t *bytes, size_t n, const char *token)
{
	static const char path[] = "GET /.well-known/acme-challenge/";
	char line[sizeof(path) + 256 + 8];
	size_t len = (size_t)snprintf(line, sizeof(line), "%s%s HTTP/1.", path, token);

	if (len >= sizeof(line) || memcmp(bytes, line, n < len ? n : len) != 0)
		return ACME_MATCH_NO;
	return n > len && memmem(bytes, n, "\r\n\r\n", 4) != NULL ? ACME_MATCH_YES
								  : ACME_MATCH_MORE;
}

/* RFC 6066 section 3: one list of one name of the type 0. */
bool acme_hello_name(const uint8_t *sni, size_t n, char name[256])
{
	size_t len;

	if (n < 5 || ((size_t)sni[0] << 8 | sni[1]) != n - 2 || sni[2] != 0)
		return false;
	len = (size_t)sni[3] << 8 | sni[4];
	if (len != n - 5 || len == 0 || len > 255 || memchr(sni + 5, '\0', len) != NULL)
		return false;
	for (size_t i = 0; i < len; i++) {
		uint8_t c = sni[5 + i];

		name[i] = (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
	}
	name[len] = '\0';
	return true;
}
