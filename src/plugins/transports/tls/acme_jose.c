/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "acme_private.h"

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#define P256_SIZE 32

char *acme_base64url(const void *bytes, size_t n)
{
	char *text = n < INT_MAX / 2 ? malloc(4 * ((n + 2) / 3) + 1) : NULL;
	char *end;

	if (text == NULL)
		return NULL;
	EVP_EncodeBlock((unsigned char *)text, bytes, (int)n);
	for (char *c = text; *c != '\0'; c++)
		*c = *c == '+' ? '-' : *c == '/' ? '_' : *c;
	end = strchr(text, '=');
	if (end != NULL)
		*end = '\0';
	return text;
}

/* A coordinate of the public key. */
static char *coordinate(EVP_PKEY *key, const char *which)
{
	unsigned char bytes[P256_SIZE];
	BIGNUM *number = NULL;
	char *text = NULL;

	if (EVP_PKEY_get_bn_param(key, which, &number) == 1 &&
	    BN_bn2binpad(number, bytes, sizeof(bytes)) == sizeof(bytes))
		text = acme_base64url(bytes, sizeof(bytes));
	BN_free(number);
	return text;
}

json_t *acme_jwk(EVP_PKEY *key)
{
	char *x = coordinate(key, OSSL_PKEY_PARAM_EC_PUB_X);
	char *y = coordinate(key, OSSL_PKEY_PARAM_EC_PUB_Y);
	json_t *jwk = NULL;

	if (x != NULL && y != NULL)
		jwk = json_pack("{s:s, s:s, s:s, s:s}", "crv", "P-256", "kty", "EC", "x", x, "y",
				y);
	free(x);
	free(y);
	return jwk;
}

char *acme_key_authorization(EVP_PKEY *key, const char *token)
{
	json_t *jwk = acme_jwk(key);
	char *canonical = jwk != NULL ? json_dumps(jwk, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	unsigned char digest[SHA256_DIGEST_LENGTH];
	char *print = NULL, *text = NULL;

	if (canonical != NULL) {
		SHA256((const unsigned char *)canonical, strlen(canonical), digest);
		print = acme_base64url(digest, sizeof(digest));
	}
	if (print != NULL && asprintf(&text, "%s.%s", token, print) < 0)
		text = NULL;
	free(print);
	free(canonical);
	json_decref(jwk);
	return text;
}

/* r and s behind each other (RFC 7518 section 3.4). */
static char *signature_plain(const unsigned char *der, size_t n)
{
	unsigned char bytes[2 * P256_SIZE];
	ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)n);
	char *text = NULL;

	if (sig != NULL && BN_bn2binpad(ECDSA_SIG_get0_r(sig), bytes, P256_SIZE) == P256_SIZE &&
	    BN_bn2binpad(ECDSA_SIG_get0_s(sig), bytes + P256_SIZE, P256_SIZE) == P256_SIZE)
		text = acme_base64url(bytes, sizeof(bytes));
	ECDSA_SIG_free(sig);
	return text;
}

static char *text_sign(EVP_PKEY *key, const char *text)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	unsigned char der[256];
	size_t n = sizeof(der);
	char *signature = NULL;

	if (md != NULL && EVP_DigestSignInit(md, NULL, EVP_sha256(), NULL, key) == 1 &&
	    EVP_DigestSign(md, der, &n, (const unsigned char *)text, strlen(text)) == 1)
		signature = signature_plain(der, n);
	EVP_MD_CTX_free(md);
	return signature;
}

char *acme_jws(EVP_PKEY *key, json_t *header, const char *payload)
{
	char *head = NULL, *head64 = NULL, *body64 = NULL, *both = NULL, *signature = NULL;
	json_t *jws = NULL;
	char *text = NULL;

	if (json_object_set_new(header, "alg", json_string("ES256")) == 0)
		head = json_dumps(header, JSON_COMPACT);
	if (head != NULL)
		head64 = acme_base64url(head, strlen(head));
	body64 = acme_base64url(payload, strlen(payload));
	if (head64 != NULL && body64 != NULL && asprintf(&both, "%s.%s", head64, body64) < 0)
		both = NULL;
	if (both != NULL)
		signature = text_sign(key, both);
	if (signature != NULL)
		jws = json_pack("{s:s, s:s, s:s}", "protected", head64, "payload", body64,
				"signature", signature);
	if (jws != NULL)
		text = json_dumps(jws, JSON_COMPACT);
	json_decref(jws);
	free(signature);
	free(both);
	free(body64);
	free(head64);
	free(head);
	return text;
}
