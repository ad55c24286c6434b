/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Signatures, by OpenSSL: Ed25519 (RFC 8709 6), ECDSA (RFC 5656 3.1.2), RSA with SHA-2 (RFC
 * 8332). */
#include <errno.h>
#include <string.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include "cert_private.h"

struct algorithm {
	const char *name;
	const char *key_name;
	const char *group;
	const char *digest; /* NULL: the algorithm has its own */
};

static const struct algorithm algorithms[] = {
	{"ssh-ed25519", "ssh-ed25519", NULL, NULL},
	{"ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256", "P-256", "SHA256"},
	{"ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384", "P-384", "SHA384"},
	{"ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521", "P-521", "SHA512"},
	{"rsa-sha2-256", "ssh-rsa", NULL, "SHA256"},
	{"rsa-sha2-512", "ssh-rsa", NULL, "SHA512"},
};

static const struct algorithm *algorithm_find(struct alk_key_bytes name, const char *key_name)
{
	for (size_t i = 0; i < sizeof(algorithms) / sizeof(*algorithms); i++)
		if (alk_key_name_is(name.p, name.len, algorithms[i].name) &&
		    strcmp(algorithms[i].key_name, key_name) == 0)
			return &algorithms[i];
	return NULL;
}

static EVP_PKEY *pkey_from(const char *type, OSSL_PARAM *params)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	EVP_PKEY *pkey = NULL;

	if (ctx && EVP_PKEY_fromdata_init(ctx) == 1 &&
	    EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
		pkey = NULL;
	EVP_PKEY_CTX_free(ctx);
	return pkey;
}

static EVP_PKEY *pkey_ec(const struct alk_key_public *key, const char *group)
{
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char *)group, 0),
		OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, (void *)key->point.p,
						  key->point.len),
		OSSL_PARAM_construct_end(),
	};

	return pkey_from("EC", params);
}

static EVP_PKEY *pkey_rsa(const struct alk_key_public *key)
{
	BIGNUM *n = BN_bin2bn(key->modulus.p, (int)key->modulus.len, NULL);
	BIGNUM *e = BN_bin2bn(key->exponent.p, (int)key->exponent.len, NULL);
	OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
	OSSL_PARAM *params = NULL;
	EVP_PKEY *pkey = NULL;

	if (n && e && build && OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
	    OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e) == 1)
		params = OSSL_PARAM_BLD_to_param(build);
	if (params)
		pkey = pkey_from("RSA", params);
	OSSL_PARAM_free(params);
	OSSL_PARAM_BLD_free(build);
	BN_free(n);
	BN_free(e);
	return pkey;
}

static EVP_PKEY *pkey_new(const struct alk_key_public *key, const struct algorithm *algorithm)
{
	if (algorithm->group)
		return pkey_ec(key, algorithm->group);
	if (algorithm->digest)
		return pkey_rsa(key);
	return EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key->point.p, key->point.len);
}

/* SSH has two mpints where OpenSSL has DER. Returns the length, 0 when it is no such signature. */
static size_t ecdsa_to_der(struct alk_key_bytes bytes, size_t most, uint8_t *der)
{
	struct alk_wire wire = {bytes.p, bytes.len};
	struct alk_key_bytes r, s;
	ECDSA_SIG *sig;
	BIGNUM *r_bn, *s_bn;
	int n = 0;

	if (!alk_key_read_mpint(&wire, &r) || !alk_key_read_mpint(&wire, &s) || wire.left != 0 ||
	    r.len > most || s.len > most)
		return 0;
	sig = ECDSA_SIG_new();
	r_bn = BN_bin2bn(r.p, (int)r.len, NULL);
	s_bn = BN_bin2bn(s.p, (int)s.len, NULL);
	if (sig && r_bn && s_bn && ECDSA_SIG_set0(sig, r_bn, s_bn) == 1) {
		n = i2d_ECDSA_SIG(sig, &der);
	} else {
		BN_free(r_bn);
		BN_free(s_bn);
	}
	ECDSA_SIG_free(sig);
	return n > 0 ? (size_t)n : 0;
}

static bool pkey_verify(EVP_PKEY *pkey, const char *digest, struct alk_key_bytes signature,
			struct alk_key_bytes under)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool good = pkey && ctx &&
		    EVP_DigestVerifyInit_ex(ctx, NULL, digest, NULL, NULL, pkey, NULL) == 1 &&
		    EVP_DigestVerify(ctx, signature.p, signature.len, under.p, under.len) == 1;

	EVP_MD_CTX_free(ctx);
	/* What was wrong stays in no queue, where somebody else would find it. */
	ERR_clear_error();
	return good;
}

static bool verify(const struct alk_key_public *key, const struct algorithm *algorithm,
		   struct alk_key_bytes signature, struct alk_key_bytes under)
{
	uint8_t room[ALK_CERT_RSA_BITS_MAX / 8];
	EVP_PKEY *pkey;
	bool good;

	if (algorithm->group) {
		size_t n = ecdsa_to_der(signature, key->kind->size / 2, room);

		signature = (struct alk_key_bytes){room, n};
	} else if (algorithm->digest) {
		size_t n = key->modulus.len;

		/* A number without its leading zeros is a good signature too. */
		if (signature.len > n)
			return false;
		memset(room, 0, n - signature.len);
		memcpy(room + n - signature.len, signature.p, signature.len);
		signature = (struct alk_key_bytes){room, n};
	}
	if (signature.len == 0)
		return false;
	pkey = pkey_new(key, algorithm);
	good = pkey_verify(pkey, algorithm->digest, signature, under);
	EVP_PKEY_free(pkey);
	return good;
}

enum alk_cert_verdict alk_signature_check(struct alk_key_bytes key, struct alk_key_bytes signature,
					  struct alk_key_bytes under, struct alk_err *err)
{
	struct alk_wire wire = {signature.p, signature.len};
	const struct algorithm *algorithm;
	struct alk_key_bytes name, bytes;
	struct alk_key_public public;
	const char *why = alk_key_read(key.p, key.len, &public);

	if (why) {
		alk_err_set(err, -EINVAL, "%s", why);
		return ALK_CERT_ALGORITHM;
	}
	if (!alk_wire_string(&wire, &name.p, &name.len) ||
	    !alk_wire_string(&wire, &bytes.p, &bytes.len) || wire.left != 0) {
		alk_err_set(err, -EINVAL, "the signature is damaged");
		return ALK_CERT_SIGNATURE;
	}
	algorithm = algorithm_find(name, public.kind->name);
	if (!algorithm) {
		alk_err_set(err, -EINVAL, "%s",
			    alk_key_name_is(name.p, name.len, "ssh-rsa")
				    ? "ssh-rsa signatures (SHA-1) are not taken"
				    : "the signature is of another kind than the key");
		return ALK_CERT_ALGORITHM;
	}
	if (!verify(&public, algorithm, bytes, under)) {
		alk_err_set(err, -EINVAL, "the signature is wrong");
		return ALK_CERT_SIGNATURE;
	}
	return ALK_CERT_OK;
}
