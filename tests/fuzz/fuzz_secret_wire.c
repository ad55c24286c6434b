/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Requests in postcard: there is one encoding of each, and whatever they ask an unlocked service
 * answers with something that can be read. That takes EncryptedData too. */
#include <stdlib.h>
#include <string.h>

#include "../../src/plugins/services/secret/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

#define PHRASE                                                                                     \
	"abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"

static void require(int yes)
{
	if (!yes)
		abort();
}

static void answer(struct secret_store *store, const struct secret_request *request)
{
	struct secret_audit audit;
	struct secret_answer got;
	struct secret_buf out = {0};

	secret_store_run(store, request, (struct secret_span){0}, 0, &out, &audit);
	require(!out.failed);
	require(secret_answer_decode(out.bytes, out.len, request->op, &got) == 0);
	require(got.good == (strcmp(audit.result, "ok") == 0));
	secret_buf_wipe(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static struct secret_store *store;
	struct secret_request request, unlock = {.op = SECRET_UNLOCK};
	struct secret_buf again = {0};
	struct alk_err locked, err;

	if (store == NULL)
		store = secret_store_new(&locked, &err);
	require(store != NULL);
	if (secret_request_decode(bytes, n, SECRET_OPS, &request) < 0)
		return 0;
	secret_request_encode(&again, &request);
	require(again.len == n && memcmp(again.bytes, bytes, n) == 0);
	secret_buf_wipe(&again);
	unlock.phrase = (struct secret_span){(const uint8_t *)PHRASE, strlen(PHRASE)};
	if (!secret_store_unlocked(store))
		answer(store, &unlock);
	answer(store, &request);
	return 0;
}
