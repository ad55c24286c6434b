/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "acme_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SELF_SIGNED_DAYS 365
#define PROOF_DAYS 7

bool acme_is_ip(const char *name)
{
	struct in6_addr address;

	return inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1;
}

static int failed(struct alk_err *err, const char *what)
{
	const char *text = ERR_reason_error_string(ERR_get_error());

	ERR_clear_error();
	return alk_err_set(err, -EIO, "%s: %s", what, text != NULL ? text : "out of memory");
}

EVP_PKEY *acme_key_new(struct alk_err *err)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");

	if (key == NULL)
		failed(err, "a key cannot be made");
	return key;
}

/* ---- PEM ---- */

static char *bio_text(BIO *bio)
{
	char *bytes;
	long n = BIO_get_mem_data(bio, &bytes);

	return n > 0 ? strndup(bytes, (size_t)n) : NULL;
}

static char *pair_pem(EVP_PKEY *key, X509 *certificate)
{
	BIO *bio = BIO_new(BIO_s_secmem());
	char *text = NULL;

	if (bio == NULL)
		bio = BIO_new(BIO_s_mem());
	if (bio != NULL && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1 &&
	    (certificate == NULL || PEM_write_bio_X509(bio, certificate) == 1))
		text = bio_text(bio);
	BIO_free(bio);
	return text;
}

char *acme_key_pem(EVP_PKEY *key)
{
	return pair_pem(key, NULL);
}

/* A key with a passphrase is none: nobody is there to be asked. */
static int on_passphrase(char *text, int size, int writing, void *user)
{
	(void)text, (void)size, (void)writing, (void)user;
	return -1;
}

EVP_PKEY *acme_key_read(const char *pem)
{
	BIO *bio = BIO_new_mem_buf(pem, -1);
	EVP_PKEY *key = NULL;

	if (bio != NULL)
		key = PEM_read_bio_PrivateKey(bio, NULL, on_passphrase, NULL);
	BIO_free(bio);
	ERR_clear_error();
	return key;
}

/* ---- names ---- */

/* Names were checked: there is nothing in them that has a meaning here. */
static char *names_text(const json_t *names)
{
	char *text = NULL, *more;
	const json_t *name;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)names, i, name)
	{
		const char *value = json_string_value(name);

		if (asprintf(&more, "%s%s%s:%s", text != NULL ? text : "", text != NULL ? "," : "",
			     acme_is_ip(value) ? "IP" : "DNS", value) < 0)
			more = NULL;
		free(text);
		text = more;
		if (text == NULL)
			break;
	}
	return text;
}

static X509_EXTENSION *names_extension(const json_t *names)
{
	char *text = names_text(names);
	X509_EXTENSION *extension = NULL;

	if (text != NULL)
		extension = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, text);
	free(text);
	return extension;
}

/* ---- the request ---- */

static bool csr_names(X509_REQ *req, const json_t *names)
{
	STACK_OF(X509_EXTENSION) *list = sk_X509_EXTENSION_new_null();
	X509_EXTENSION *extension = names_extension(names);
	bool good = list != NULL && extension != NULL &&
		    sk_X509_EXTENSION_push(list, extension) > 0;

	if (!good)
		X509_EXTENSION_free(extension);
	good = good && X509_REQ_add_extensions(req, list) == 1;
	sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
	return good;
}

int acme_csr_make(EVP_PKEY *key, const json_t *names, uint8_t **der, size_t *n, struct alk_err *err)
{
	X509_REQ *req = X509_REQ_new();
	int len = -1, rc = 0;

	*der = NULL;
	if (req != NULL && X509_REQ_set_version(req, X509_REQ_VERSION_1) == 1 &&
	    X509_REQ_set_pubkey(req, key) == 1 && csr_names(req, names) &&
	    X509_REQ_sign(req, key, EVP_sha256()) > 0)
		len = i2d_X509_REQ(req, NULL);
	*der = len > 0 ? malloc((size_t)len) : NULL;
	if (*der != NULL) {
		uint8_t *at = *der;

		*n = (size_t)i2d_X509_REQ(req, &at);
	} else {
		rc = failed(err, "a certificate request cannot be made");
	}
	X509_REQ_free(req);
	return rc;
}

/* ---- certificates of our own ---- */

static bool serial_set(X509 *x)
{
	uint64_t serial;

	return RAND_bytes((unsigned char *)&serial, sizeof(serial)) == 1 &&
	       ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), serial >> 1) == 1;
}

static X509 *certificate_new(EVP_PKEY *key, const char *subject, int days)
{
	X509 *x = X509_new();
	X509_NAME *name;

	if (x == NULL)
		return NULL;
	name = X509_get_subject_name(x);
	if (X509_set_version(x, X509_VERSION_3) == 1 && serial_set(x) &&
	    X509_gmtime_adj(X509_getm_notBefore(x), -3600) != NULL &&
	    X509_time_adj_ex(X509_getm_notAfter(x), days, 0, NULL) != NULL &&
	    X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_ASC,
				       (const unsigned char *)subject, -1, -1, 0) == 1 &&
	    X509_set_issuer_name(x, name) == 1 && X509_set_pubkey(x, key) == 1)
		return x;
	X509_free(x);
	return NULL;
}

static bool names_add(X509 *x, const json_t *names)
{
	X509_EXTENSION *extension = names_extension(names);
	bool good = extension != NULL && X509_add_ext(x, extension, -1) == 1;

	X509_EXTENSION_free(extension);
	return good;
}

/* id-pe-acmeIdentifier, critical: an OCTET STRING of 32 bytes. */
static bool identifier_add(X509 *x, const uint8_t digest[32])
{
	ASN1_OBJECT *oid = OBJ_txt2obj("1.3.6.1.5.5.7.1.31", 1);
	ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
	X509_EXTENSION *extension = NULL;
	uint8_t der[34] = {V_ASN1_OCTET_STRING, 32};
	bool good;

	memcpy(der + 2, digest, 32);
	if (oid != NULL && value != NULL && ASN1_OCTET_STRING_set(value, der, sizeof(der)) == 1)
		extension = X509_EXTENSION_create_by_OBJ(NULL, oid, 1, value);
	good = extension != NULL && X509_add_ext(x, extension, -1) == 1;
	X509_EXTENSION_free(extension);
	ASN1_OCTET_STRING_free(value);
	ASN1_OBJECT_free(oid);
	return good;
}

/* `digest` NULL: an ordinary one. */
static char *own_certificate(const json_t *names, const char *subject, const uint8_t *digest,
			     struct alk_err *err)
{
	EVP_PKEY *key = acme_key_new(err);
	X509 *x = NULL;
	char *pem = NULL;

	if (key == NULL)
		return NULL;
	x = certificate_new(key, subject, digest != NULL ? PROOF_DAYS : SELF_SIGNED_DAYS);
	if (x != NULL && names_add(x, names) && (digest == NULL || identifier_add(x, digest)) &&
	    X509_sign(x, key, EVP_sha256()) > 0)
		pem = pair_pem(key, x);
	if (pem == NULL)
		failed(err, "a self-signed certificate cannot be made");
	X509_free(x);
	EVP_PKEY_free(key);
	return pem;
}

/* A common name has 64 characters at most. */
char *acme_self_signed(const json_t *names, struct alk_err *err)
{
	char subject[65];

	snprintf(subject, sizeof(subject), "%s", json_string_value(json_array_get(names, 0)));
	return own_certificate(names, subject, NULL, err);
}

char *acme_alpn_certificate(const char *name, const uint8_t digest[32], struct alk_err *err)
{
	json_t *names = json_pack("[s]", name);
	char *pem = names != NULL ? own_certificate(names, "ACME challenge", digest, err) : NULL;

	json_decref(names);
	return pem;
}

/* ---- what a CA gave ---- */

static time_t time_of(const ASN1_TIME *value)
{
	struct tm tm;

	return ASN1_TIME_to_tm(value, &tm) == 1 ? timegm(&tm) : 0;
}

static bool is_for(X509 *x, const json_t *names)
{
	const json_t *name;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)names, i, name)
	{
		const char *value = json_string_value(name);

		if ((acme_is_ip(value) ? X509_check_ip_asc(x, value, 0)
				       : X509_check_host(x, value, 0, 0, NULL)) != 1)
			return false;
	}
	return true;
}

/* base64url(key identifier of the CA's key) "." base64url(serial number as in DER) */
static void ari_id_set(X509 *x, char *id, size_t size)
{
	const ASN1_OCTET_STRING *issuer = X509_get0_authority_key_id(x);
	const ASN1_INTEGER *serial = X509_get0_serialNumber(x);
	unsigned char *der = NULL;
	int n = i2d_ASN1_INTEGER(serial, &der);
	char *a = NULL, *b = NULL;

	*id = '\0';
	if (issuer != NULL && n > 2 && n < 2 + 128) {
		a = acme_base64url(ASN1_STRING_get0_data(issuer),
				   (size_t)ASN1_STRING_length(issuer));
		b = acme_base64url(der + 2, (size_t)n - 2);
	}
	if (a != NULL && b != NULL && (size_t)snprintf(id, size, "%s.%s", a, b) >= size)
		*id = '\0';
	free(a);
	free(b);
	OPENSSL_free(der);
}

int acme_pair_read(const char *pem, const json_t *names, struct acme_pair *pair,
		   struct alk_err *err)
{
	EVP_PKEY *key = acme_key_read(pem);
	BIO *bio = BIO_new_mem_buf(pem, -1);
	X509 *x = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
	int rc = 0;

	if (key == NULL)
		rc = alk_err_set(err, -EINVAL, "it has no private key");
	else if (x == NULL)
		rc = alk_err_set(err, -EINVAL, "it has no certificate");
	else if (X509_check_private_key(x, key) != 1)
		rc = alk_err_set(err, -EINVAL, "its key is not that of its certificate");
	if (rc == 0) {
		pair->not_before = time_of(X509_get0_notBefore(x));
		pair->not_after = time_of(X509_get0_notAfter(x));
		pair->for_names = is_for(x, names);
		ari_id_set(x, pair->ari_id, sizeof(pair->ari_id));
		if (pair->not_after <= pair->not_before)
			rc = alk_err_set(err, -EINVAL, "its certificate is valid at no time");
	}
	ERR_clear_error();
	X509_free(x);
	BIO_free(bio);
	EVP_PKEY_free(key);
	return rc;
}
