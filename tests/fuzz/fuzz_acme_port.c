/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What strangers send where a name is proved: requests at the port of http-01, and the parts of a
 * ClientHello that decide about tls-alpn-01. */
#include "../../src/plugins/transports/tls/acme_private.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define TOKEN "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"
#define REQUEST_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void require(int yes)
{
	if (!yes)
		abort();
}

/* However the bytes are cut: once it is settled it stays so, and a good request is just that. */
static void port(const char *bytes, size_t n)
{
	static const char asked[] = "/" TOKEN " HTTP/1.";
	enum acme_match settled = ACME_MATCH_MORE;

	for (size_t i = 0; i <= n && i <= REQUEST_MAX; i++) {
		enum acme_match match = acme_answer_match(bytes, i, TOKEN);

		require(settled == ACME_MATCH_MORE || match == settled);
		settled = match;
	}
	require(n < REQUEST_MAX || settled != ACME_MATCH_MORE);
	if (settled == ACME_MATCH_YES)
		require(memmem(bytes, n, asked, sizeof(asked) - 1) != NULL);
	require(acme_answer_match(bytes, n < REQUEST_MAX ? n : REQUEST_MAX, "") != ACME_MATCH_YES);
}

/* The same beside a web server: what it is is settled at the first byte that differs, and it never
 * takes what the port of its own does not. */
static void beside(const uint8_t *bytes, size_t n)
{
	enum acme_match settled = ACME_MATCH_MORE;

	for (size_t i = 0; i <= n && i <= REQUEST_MAX; i++) {
		enum acme_match match = acme_proof_match(bytes, i, TOKEN);

		require(settled == ACME_MATCH_MORE || match == settled);
		settled = match;
	}
	if (settled == ACME_MATCH_YES)
		require(acme_answer_match((const char *)bytes, n < REQUEST_MAX ? n : REQUEST_MAX,
					  TOKEN) == ACME_MATCH_YES);
}

static void hello(const uint8_t *bytes, size_t n)
{
	char name[256];

	if (acme_hello_is_proof(bytes, n))
		require(n == 13 && memcmp(bytes + 3, "acme-tls/1", 10) == 0);
	if (!acme_hello_name(bytes, n, name))
		return;
	require(strlen(name) == n - 5);
	for (const char *c = name; *c != '\0'; c++)
		require(!isupper((unsigned char)*c));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	port((const char *)bytes, n);
	beside(bytes, n);
	hello(bytes, n);
	return 0;
}
