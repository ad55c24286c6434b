/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "tls.h"
#include "acme.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

const char *tls_error(void)
{
	unsigned long code = ERR_get_error();
	const char *text = code != 0 ? ERR_reason_error_string(code) : NULL;

	ERR_clear_error();
	return text != NULL ? text : "no reason given";
}

/* ---- certificate and key ---- */

static BIO *file_open(const struct tls *tls, const char *name)
{
	size_t len;
	const char *text = alk_options_file(tls->options, name, 0, &len);

	return text != NULL && len <= INT_MAX ? BIO_new_mem_buf(text, (int)len) : NULL;
}

/* PEM that ends where there is no other block is no error. */
static bool pem_ended(void)
{
	unsigned long code = ERR_peek_last_error();
	bool ended = ERR_GET_LIB(code) == ERR_LIB_PEM &&
		     ERR_GET_REASON(code) == PEM_R_NO_START_LINE;

	if (ended)
		ERR_clear_error();
	return ended;
}

/* What runs out; the first of the file is the server's own. */
static int certificate_times(const struct tls *tls, const X509 *certificate, struct alk_err *err)
{
	const char *path = alk_options_str(tls->options, "cert");

	if (X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0)
		return alk_err_set(err, -EINVAL, "tls_cert: %s is not valid yet", path);
	if (X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0 &&
	    tls->role == ALK_ROLE_SUPERVISOR)
		alk_log(ALK_LOG_WARN, "the TLS certificate has expired: clients will refuse it",
			ALK_STR("file", path));
	return 0;
}

static int chain_load(struct tls *tls, BIO *bio, struct alk_err *err)
{
	const char *path = alk_options_str(tls->options, "cert");
	X509 *certificate;

	while ((certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
		if (SSL_CTX_add0_chain_cert(tls->ctx, certificate) == 1)
			continue;
		X509_free(certificate);
		return alk_err_set(err, -EINVAL, "tls_cert: %s: %s", path, tls_error());
	}
	if (!pem_ended())
		return alk_err_set(err, -EINVAL,
				   "tls_cert: a certificate of the chain in %s cannot be read: %s",
				   path, tls_error());
	return 0;
}

static int certificate_load(struct tls *tls, struct alk_err *err)
{
	const char *path = alk_options_str(tls->options, "cert");
	BIO *bio = file_open(tls, "cert");
	X509 *certificate = bio != NULL ? PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL) : NULL;
	int rc = 0;

	if (certificate == NULL)
		rc = alk_err_set(err, -EINVAL, "tls_cert: %s holds no PEM certificate: %s", path,
				 tls_error());
	else if (SSL_CTX_use_certificate(tls->ctx, certificate) != 1)
		rc = alk_err_set(err, -EINVAL, "tls_cert: %s cannot be used: %s", path,
				 tls_error());
	if (rc == 0)
		rc = certificate_times(tls, certificate, err);
	if (rc == 0)
		rc = chain_load(tls, bio, err);
	X509_free(certificate);
	BIO_free(bio);
	return rc;
}

static int on_passphrase(char *text, int size, int writing, void *user)
{
	(void)text, (void)size, (void)writing;
	*(bool *)user = true;
	return -1;
}

static int key_load(struct tls *tls, struct alk_err *err)
{
	const char *path = alk_options_str(tls->options, "key");
	BIO *bio = file_open(tls, "key");
	bool locked = false;
	EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, on_passphrase, &locked)
				    : NULL;
	int rc = 0;

	if (locked)
		rc = alk_err_set(
			err, -EINVAL,
			"tls_key: %s has a passphrase; openssl pkey -in FILE -out FILE takes it off",
			path);
	else if (key == NULL)
		rc = alk_err_set(err, -EINVAL, "tls_key: %s holds no PEM private key: %s", path,
				 tls_error());
	else if (X509_check_private_key(SSL_CTX_get0_certificate(tls->ctx), key) != 1)
		rc = alk_err_set(err, -EINVAL,
				 "tls_key: %s is not the key of the certificate in tls_cert %s",
				 path, alk_options_str(tls->options, "cert"));
	else if (SSL_CTX_use_PrivateKey(tls->ctx, key) != 1)
		rc = alk_err_set(err, -EINVAL, "tls_key: %s cannot be used: %s", path, tls_error());
	ERR_clear_error();
	EVP_PKEY_free(key);
	BIO_free(bio);
	return rc;
}

static int pair_load(struct tls *tls, struct alk_err *err)
{
	bool cert = alk_options_has(tls->options, "cert");
	bool key = alk_options_has(tls->options, "key");
	int rc;

	if (acme_wanted(tls->options) && (cert || key))
		return alk_err_set(
			err, -EINVAL,
			"acme_domain gets a certificate: it does not go with tls_cert and tls_key");
	if (acme_wanted(tls->options))
		return 0;
	if (!cert && !key)
		return alk_err_set(
			err, -EINVAL,
			"a tls server needs a certificate and its key: give --tls-cert FILE and --tls-key FILE, or --acme-domain NAME");
	if (!key)
		return alk_err_set(err, -EINVAL,
				   "tls_cert is given without its key: give --tls-key FILE");
	if (!cert)
		return alk_err_set(
			err, -EINVAL,
			"tls_key is given without its certificate: give --tls-cert FILE");
	rc = certificate_load(tls, err);
	return rc < 0 ? rc : key_load(tls, err);
}

/* ---- protocol ---- */

/* What a web server of this kind speaks; the first of the server's that the client has too. */
static const unsigned char web[] = "\x08http/1.1\x08http/1.0\x08http/0.9";

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
		   const unsigned char *in, unsigned in_len, void *user)
{
	unsigned char *found;

	(void)ssl, (void)user;
	if (SSL_select_next_proto(&found, out_len, web, sizeof(web) - 1, in, in_len) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = found;
	return SSL_TLSEXT_ERR_OK;
}

/* Any name will do; that it was looked at is told to the client. */
static int on_servername(SSL *ssl, int *alert, void *user)
{
	(void)ssl, (void)alert, (void)user;
	return SSL_TLSEXT_ERR_OK;
}

static int context_make(struct tls *tls, const SSL_METHOD *method, struct alk_err *err)
{
	tls->ctx = SSL_CTX_new(method);
	if (tls->ctx == NULL || SSL_CTX_set_min_proto_version(tls->ctx, TLS1_2_VERSION) != 1)
		return alk_err_set(err, -ENOMEM, "OpenSSL: %s", tls_error());
	SSL_CTX_set_options(tls->ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
					      SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_mode(tls->ctx,
			 SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	return 0;
}

int tls_context_init_server(struct tls *tls, struct alk_err *err)
{
	int rc = context_make(tls, TLS_server_method(), err);
	/* As long as a web server's, so that tickets are too. */
	static const unsigned char id[20] = "alknet";

	if (rc < 0)
		return rc;
	/* nginx chooses the cipher, and offers old versions as Debian sets it up, which OpenSSL
	 * cannot do at this level: clients that have nothing newer get another alert than from a
	 * server that does not offer them. Without stealth the client chooses, whose first is the
	 * cheapest. */
	if (tls->stealth) {
		SSL_CTX_set_options(tls->ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
		SSL_CTX_set_security_level(tls->ctx, 2);
		SSL_CTX_set_min_proto_version(tls->ctx, TLS1_VERSION);
	}
	if (SSL_CTX_set_cipher_list(tls->ctx, "HIGH:!aNULL:!MD5") != 1)
		return alk_err_set(err, -EINVAL, "OpenSSL: %s", tls_error());
	SSL_CTX_set_session_cache_mode(tls->ctx, SSL_SESS_CACHE_SERVER |
							 SSL_SESS_CACHE_NO_INTERNAL |
							 SSL_SESS_CACHE_NO_AUTO_CLEAR);
	SSL_CTX_set_session_id_context(tls->ctx, id, sizeof(id));
	SSL_CTX_set_alpn_select_cb(tls->ctx, on_alpn, NULL);
	SSL_CTX_set_tlsext_servername_callback(tls->ctx, on_servername);
	tls_tickets_use(tls->tickets, tls->ctx);
	return pair_load(tls, err);
}

/* ---- the client ---- */

static int trust_load(struct tls *tls, struct alk_err *err)
{
	X509_STORE *store = SSL_CTX_get_cert_store(tls->ctx);
	BIO *bio = file_open(tls, "ca");
	X509 *certificate;
	unsigned n = 0;

	if (bio == NULL) {
		if (SSL_CTX_set_default_verify_paths(tls->ctx) == 1)
			return 0;
		return alk_err_set(err, -EIO, "the system's certificates cannot be read: %s",
				   tls_error());
	}
	while ((certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
		n += X509_STORE_add_cert(store, certificate) == 1;
		X509_free(certificate);
	}
	BIO_free(bio);
	if (n == 0 || !pem_ended())
		return alk_err_set(err, -EINVAL,
				   "tls.ca: %s holds no PEM certificates that can be read: %s",
				   alk_options_str(tls->options, "ca"), tls_error());
	return 0;
}

int tls_context_init_client(struct tls *tls, struct alk_err *err)
{
	int rc = context_make(tls, TLS_client_method(), err);

	if (rc < 0)
		return rc;
	/* The order of browsers. SSH inside has keys of 256 bits whatever is taken here. */
	if (SSL_CTX_set_ciphersuites(tls->ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
					       "TLS_CHACHA20_POLY1305_SHA256") != 1)
		return alk_err_set(err, -EINVAL, "OpenSSL: %s", tls_error());
	/* OpenSSL's answer to good here is 0. */
	if (SSL_CTX_set_alpn_protos(tls->ctx, web, 9) != 0)
		return alk_err_set(err, -ENOMEM, "out of memory");
	if (alk_options_bool(tls->options, "insecure")) {
		fprintf(stderr,
			"alknet: warning: --insecure: the server's TLS certificate is not checked\n");
		return 0;
	}
	SSL_CTX_set_verify(tls->ctx, SSL_VERIFY_PEER, NULL);
	return trust_load(tls, err);
}
