/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Keys of session tickets (RFC 5077, RFC 8446 4.6.1). The supervisor makes them and hands them to
 * all workers, so that a client may come back to another worker, and to the workers of the next
 * generation: therefore one set for the process and not for the instance. They are never written
 * anywhere. */
#include "tls.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <string.h>

struct ticket_key {
	uint8_t name[16], cipher[32], mac[32];
};

struct tls_tickets {
	unsigned refs;
	uint64_t since;
	struct ticket_key key[2]; /* of now, and the one before */
};

static struct tls_tickets *shared;

static int key_make(struct ticket_key *key)
{
	return RAND_bytes(key->name, sizeof(key->name)) == 1 &&
			       RAND_priv_bytes(key->cipher, sizeof(key->cipher)) == 1 &&
			       RAND_priv_bytes(key->mac, sizeof(key->mac)) == 1
		       ? 0
		       : -EIO;
}

struct tls_tickets *tls_tickets_ref(void)
{
	struct tls_tickets *tickets = shared;

	if (tickets == NULL) {
		tickets = OPENSSL_zalloc(sizeof(*tickets));
		if (tickets == NULL)
			return NULL;
		if (key_make(&tickets->key[0]) < 0 || key_make(&tickets->key[1]) < 0) {
			OPENSSL_clear_free(tickets, sizeof(*tickets));
			return NULL;
		}
		shared = tickets;
	}
	tickets->refs++;
	return tickets;
}

void tls_tickets_unref(struct tls_tickets **at)
{
	struct tls_tickets *tickets = *at;

	*at = NULL;
	if (tickets == NULL || --tickets->refs > 0)
		return;
	OPENSSL_clear_free(tickets, sizeof(*tickets));
	shared = NULL;
}

void tls_tickets_rotate(struct tls_tickets *tickets, uint64_t now_ms)
{
	struct ticket_key fresh;

	if (tickets->since == 0)
		tickets->since = now_ms;
	if (now_ms - tickets->since < TLS_TICKET_ROTATE * UINT64_C(1000) || key_make(&fresh) < 0)
		return;
	tickets->key[1] = tickets->key[0];
	tickets->key[0] = fresh;
	tickets->since = now_ms;
	OPENSSL_cleanse(&fresh, sizeof(fresh));
}

size_t tls_tickets_bytes(const struct tls_tickets *tickets, const uint8_t **bytes)
{
	*bytes = (const uint8_t *)tickets->key;
	return sizeof(tickets->key);
}

int tls_tickets_set(struct tls_tickets *tickets, const uint8_t *bytes, size_t n)
{
	if (n != sizeof(tickets->key))
		return -EINVAL;
	memcpy(tickets->key, bytes, n);
	return 0;
}

/* ---- what OpenSSL asks ---- */

static int ticket_seal(const struct ticket_key *key, unsigned char *iv, EVP_CIPHER_CTX *cipher)
{
	if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1)
		return -1;
	return EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->cipher, iv) == 1 ? 1 : -1;
}

static int ticket_mac(struct ticket_key *key, EVP_MAC_CTX *mac)
{
	char sha256[] = "SHA256";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, sizeof(key->mac)),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, sha256, 0),
		OSSL_PARAM_construct_end(),
	};

	return EVP_MAC_CTX_set_params(mac, params) == 1 ? 0 : -1;
}

/* 1 go on; 2 go on and give a ticket with the keys of now; 0 not one of ours: a full handshake; -1
 * failed. */
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
		     EVP_MAC_CTX *mac, int seal)
{
	struct tls_tickets *tickets = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	struct ticket_key *key = &tickets->key[0];

	if (seal) {
		memcpy(name, key->name, sizeof(key->name));
		return ticket_mac(key, mac) == 0 ? ticket_seal(key, iv, cipher) : -1;
	}
	if (memcmp(name, key->name, sizeof(key->name)) != 0)
		key++;
	if (memcmp(name, key->name, sizeof(key->name)) != 0)
		return 0;
	if (ticket_mac(key, mac) < 0 ||
	    EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->cipher, iv) != 1)
		return -1;
	return key == &tickets->key[0] && SSL_version(ssl) != TLS1_3_VERSION ? 1 : 2;
}

void tls_tickets_use(struct tls_tickets *tickets, SSL_CTX *ctx)
{
	SSL_CTX_set_app_data(ctx, tickets);
	SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket);
	SSL_CTX_set_timeout(ctx, TLS_TICKET_LIFETIME);
}
