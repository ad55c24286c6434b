/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef TLS_PLAY_H
#define TLS_PLAY_H

/* For tests that have a TLS server of their own. Comes after cmocka.h. */

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

/* A certificate that is good for an hour and says nothing, with its key. */
static void certificate_use(SSL_CTX *ctx)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = X509_new();

	assert_true(key != NULL && x != NULL);
	assert_true(X509_gmtime_adj(X509_getm_notBefore(x), 0) != NULL);
	assert_true(X509_gmtime_adj(X509_getm_notAfter(x), 3600) != NULL);
	assert_int_equal(X509_set_pubkey(x, key), 1);
	assert_true(X509_sign(x, key, EVP_sha256()) > 0);
	assert_int_equal(SSL_CTX_use_certificate(ctx, x), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
	X509_free(x);
	EVP_PKEY_free(key);
}

#endif
