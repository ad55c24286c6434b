/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "pkey_keep.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#define BYTES 32

static _Thread_local bool working;
static _Thread_local EVP_PKEY *hosts[ALK_PKEY_KEEP_HOSTS], *exchange;
static _Thread_local unsigned next_host;

static bool key_is(const EVP_PKEY *key, const uint8_t *bytes)
{
	uint8_t own[BYTES];
	size_t len = sizeof(own);
	bool same = key && EVP_PKEY_get_raw_private_key(key, own, &len) == 1 && len == BYTES &&
		    CRYPTO_memcmp(own, bytes, BYTES) == 0;

	OPENSSL_cleanse(own, sizeof(own));
	return same;
}

void alk_pkey_keep_work(bool on)
{
	working = on;
}

void alk_pkey_keep_forget(void)
{
	for (size_t i = 0; i < ALK_PKEY_KEEP_HOSTS; i++) {
		EVP_PKEY_free(hosts[i]);
		hosts[i] = NULL;
	}
	EVP_PKEY_free(exchange);
	exchange = NULL;
}

EVP_PKEY *alk_pkey_keep_find(int type, const uint8_t *bytes, size_t len)
{
	EVP_PKEY *found = NULL;

	if (!working || !bytes || len != BYTES)
		return NULL;
	if (type == EVP_PKEY_X25519 && key_is(exchange, bytes)) {
		found = exchange;
		exchange = NULL;
	}
	for (size_t i = 0; type == EVP_PKEY_ED25519 && !found && i < ALK_PKEY_KEEP_HOSTS; i++)
		if (key_is(hosts[i], bytes) && EVP_PKEY_up_ref(hosts[i]))
			found = hosts[i];
	return found;
}

void alk_pkey_keep_made(EVP_PKEY *key)
{
	if (!working || !key || EVP_PKEY_get_id(key) != EVP_PKEY_ED25519 || !EVP_PKEY_up_ref(key))
		return;
	EVP_PKEY_free(hosts[next_host]);
	hosts[next_host] = key;
	next_host = (next_host + 1) % ALK_PKEY_KEEP_HOSTS;
}

void alk_pkey_keep_told(EVP_PKEY *key)
{
	/* key_is() asks too. */
	if (!working || !key || key == exchange || EVP_PKEY_get_id(key) != EVP_PKEY_X25519 ||
	    !EVP_PKEY_up_ref(key))
		return;
	EVP_PKEY_free(exchange);
	exchange = key;
}
