/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "acme.h"
#include "acme_private.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

static const unsigned char protocol[] = "acme-tls/1";
#define PROTOCOL_LEN (sizeof(protocol) - 1)

struct challenge {
	struct challenge *next;
	SSL_CTX *ctx; /* NULL: of http-01 */
	char name[257], text[512];
};

struct acme_worker {
	SSL_CTX *ctx;
	struct challenge *challenges;
};

/* ---- handshakes ---- */

static int on_client_hello(SSL *ssl, int *alert, void *user)
{
	struct acme_worker *w = user;
	const unsigned char *alpn, *sni;
	size_t alpn_len, sni_len;
	char name[256];

	(void)alert;
	if (w->challenges == NULL ||
	    SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation,
				      &alpn, &alpn_len) != 1 ||
	    !acme_hello_is_proof(alpn, alpn_len) ||
	    SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &sni, &sni_len) != 1 ||
	    !acme_hello_name(sni, sni_len, name))
		return SSL_CLIENT_HELLO_SUCCESS;
	for (const struct challenge *c = w->challenges; c != NULL; c = c->next)
		if (c->ctx != NULL && strcmp(c->name, name) == 0)
			SSL_set_SSL_CTX(ssl, c->ctx);
	return SSL_CLIENT_HELLO_SUCCESS;
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
		   const unsigned char *in, unsigned in_len, void *user)
{
	(void)ssl, (void)in, (void)in_len, (void)user;
	*out = protocol;
	*out_len = PROTOCOL_LEN;
	return SSL_TLSEXT_ERR_OK;
}

int acme_worker_http(const struct acme_worker *w, const uint8_t *bytes, size_t n, const char **text)
{
	int answer = -1;

	for (const struct challenge *c = w->challenges; c != NULL; c = c->next) {
		enum acme_match match = c->ctx == NULL ? acme_proof_match(bytes, n, c->name + 1)
						       : ACME_MATCH_NO;

		if (match == ACME_MATCH_YES) {
			*text = c->text;
			return 1;
		}
		if (match == ACME_MATCH_MORE)
			answer = 0;
	}
	return answer;
}

bool acme_worker_proved(const SSL *ssl)
{
	const unsigned char *alpn;
	unsigned n;

	SSL_get0_alpn_selected(ssl, &alpn, &n);
	return n == PROTOCOL_LEN && memcmp(alpn, protocol, n) == 0;
}

/* ---- key and chain ---- */

static bool chain_use(SSL_CTX *ctx, BIO *bio)
{
	X509 *x;
	bool good = true;

	SSL_CTX_clear_chain_certs(ctx);
	while (good && (x = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
		good = SSL_CTX_add0_chain_cert(ctx, x) == 1;
		if (!good)
			X509_free(x);
	}
	ERR_clear_error();
	return good;
}

/* Handshakes that have begun keep what they had. */
static int pair_use(SSL_CTX *ctx, const char *pem, struct alk_err *err)
{
	EVP_PKEY *key = acme_key_read(pem);
	BIO *bio = BIO_new_mem_buf(pem, -1);
	X509 *x = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
	int rc = 0;

	if (key == NULL || x == NULL || X509_check_private_key(x, key) != 1 ||
	    SSL_CTX_use_cert_and_key(ctx, x, key, NULL, 1) != 1 || !chain_use(ctx, bio))
		rc = alk_err_set(err, -EINVAL, "a certificate by ACME cannot be used: %s",
				 ERR_reason_error_string(ERR_get_error()));
	ERR_clear_error();
	X509_free(x);
	BIO_free(bio);
	EVP_PKEY_free(key);
	return rc;
}

/* ---- what the supervisor says ---- */

static void challenge_drop(struct acme_worker *w, const char *name)
{
	for (struct challenge **at = &w->challenges; *at != NULL;) {
		struct challenge *c = *at;

		if (name != NULL && strcmp(c->name, name) != 0) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		SSL_CTX_free(c->ctx);
		free(c);
	}
}

static int challenge_add(struct acme_worker *w, const char *name, const char *pem,
			 struct alk_err *err)
{
	struct challenge *c = calloc(1, sizeof(*c));
	bool http = name[0] == '/';
	int rc;

	if (c == NULL || strlen(name) >= sizeof(c->name) ||
	    (http && strlen(pem) >= sizeof(c->text)) ||
	    (!http && (c->ctx = SSL_CTX_new(TLS_server_method())) == NULL)) {
		free(c);
		return alk_err_set(err, -ENOMEM, "a challenge by ACME cannot be taken");
	}
	strcpy(c->name, name);
	if (http) {
		strcpy(c->text, pem);
		c->next = w->challenges;
		w->challenges = c;
		return 0;
	}
	SSL_CTX_set_alpn_select_cb(c->ctx, on_alpn, NULL);
	/* The callback of tickets stays that of the other context, and looks for its keys here. */
	SSL_CTX_set_app_data(c->ctx, SSL_CTX_get_app_data(w->ctx));
	c->next = w->challenges;
	w->challenges = c;
	rc = pair_use(c->ctx, pem, err);
	if (rc < 0)
		challenge_drop(w, name);
	return rc;
}

int acme_worker_message(struct acme_worker *w, const uint8_t *bytes, size_t n, struct alk_err *err)
{
	json_t *message = json_loadb((const char *)bytes, n, JSON_REJECT_DUPLICATES, NULL);
	const char *name = json_string_value(json_object_get(message, "name"));
	const char *pem = json_string_value(json_object_get(message, "pem"));
	int rc = 0;

	if (name != NULL)
		challenge_drop(w, name);
	if (name != NULL && pem != NULL)
		rc = challenge_add(w, name, pem, err);
	else if (pem != NULL)
		rc = pair_use(w->ctx, pem, err);
	else if (name == NULL)
		rc = alk_err_set(err, -EINVAL, "a message about ACME that is none");
	json_decref(message);
	return rc;
}

struct acme_worker *acme_worker_new(SSL_CTX *ctx)
{
	struct acme_worker *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return NULL;
	w->ctx = ctx;
	SSL_CTX_set_client_hello_cb(ctx, on_client_hello, w);
	return w;
}

void acme_worker_free(struct acme_worker **worker)
{
	struct acme_worker *w = *worker;

	if (w == NULL)
		return;
	challenge_drop(w, NULL);
	SSL_CTX_set_client_hello_cb(w->ctx, NULL, NULL);
	free(w);
	*worker = NULL;
}
