/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "crypt.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#define BLOCK 128 /* of SHA-512 */

/* HMAC on plain digests: libcrypto's own PBKDF2 frees its copy of the salt, which has the
 * passphrase in it, without wiping it. */
struct hmac {
	EVP_MD_CTX *inner, *outer, *work; /* keyed, keyed, scratch */
};

static void hmac_clear(struct hmac *h)
{
	EVP_MD_CTX_free(h->inner);
	EVP_MD_CTX_free(h->outer);
	EVP_MD_CTX_free(h->work);
}

static int hmac_pad(EVP_MD_CTX *ctx, const uint8_t key[BLOCK], uint8_t with)
{
	uint8_t pad[BLOCK];
	int ok;

	for (size_t i = 0; i < BLOCK; i++)
		pad[i] = key[i] ^ with;
	ok = EVP_DigestInit_ex(ctx, EVP_sha512(), NULL) && EVP_DigestUpdate(ctx, pad, BLOCK);
	explicit_bzero(pad, sizeof(pad));
	return ok;
}

static int hmac_init(struct hmac *h, const void *key, size_t len)
{
	uint8_t block[BLOCK] = {0};
	int ok;

	*h = (struct hmac){EVP_MD_CTX_new(), EVP_MD_CTX_new(), EVP_MD_CTX_new()};
	ok = h->inner != NULL && h->outer != NULL && h->work != NULL;
	if (ok && len > BLOCK)
		ok = EVP_DigestInit_ex(h->work, EVP_sha512(), NULL) &&
		     EVP_DigestUpdate(h->work, key, len) &&
		     EVP_DigestFinal_ex(h->work, block, NULL);
	else if (ok && len > 0)
		memcpy(block, key, len);
	ok = ok && hmac_pad(h->inner, block, 0x36) && hmac_pad(h->outer, block, 0x5c);
	explicit_bzero(block, sizeof(block));
	if (!ok)
		hmac_clear(h);
	return ok ? 0 : -EIO;
}

struct part {
	const void *bytes;
	size_t len;
};

static int hmac_run(struct hmac *h, const struct part *parts, unsigned n, uint8_t out[64])
{
	uint8_t inner[64];
	int ok = EVP_MD_CTX_copy_ex(h->work, h->inner);

	for (unsigned i = 0; ok && i < n; i++)
		ok = parts[i].len == 0 || EVP_DigestUpdate(h->work, parts[i].bytes, parts[i].len);
	ok = ok && EVP_DigestFinal_ex(h->work, inner, NULL) &&
	     EVP_MD_CTX_copy_ex(h->work, h->outer) &&
	     EVP_DigestUpdate(h->work, inner, sizeof(inner)) &&
	     EVP_DigestFinal_ex(h->work, out, NULL);
	explicit_bzero(inner, sizeof(inner));
	return ok ? 0 : -EIO;
}

int secret_sha256(const void *bytes, size_t n, uint8_t out[32])
{
	return EVP_Digest(bytes, n, out, NULL, EVP_sha256(), NULL) ? 0 : -EIO;
}

int secret_hmac512(const void *key, size_t key_len, const void *a, size_t a_len, const void *b,
		   size_t b_len, uint8_t out[64])
{
	struct hmac h;
	int rc = hmac_init(&h, key, key_len);

	if (rc < 0)
		return rc;
	rc = hmac_run(&h, (struct part[]){{a, a_len}, {b, b_len}}, 2, out);
	hmac_clear(&h);
	return rc;
}

int secret_pbkdf2(const void *password, size_t password_len, const void *salt, size_t salt_len,
		  unsigned rounds, uint8_t out[64])
{
	static const uint8_t first[4] = {0, 0, 0, 1};
	uint8_t u[64];
	struct hmac h;
	int rc = hmac_init(&h, password, password_len);

	if (rc < 0)
		return rc;
	rc = hmac_run(&h, (struct part[]){{salt, salt_len}, {first, 4}}, 2, u);
	memcpy(out, u, 64);
	for (unsigned i = 1; rc == 0 && i < rounds; i++) {
		rc = hmac_run(&h, &(struct part){u, 64}, 1, u);
		for (unsigned j = 0; j < 64; j++)
			out[j] ^= u[j];
	}
	explicit_bzero(u, sizeof(u));
	if (rc < 0)
		explicit_bzero(out, 64);
	hmac_clear(&h);
	return rc;
}

int secret_expand(const uint8_t key[32], const void *info, size_t info_len, uint8_t *out, size_t n)
{
	uint8_t block[64], count = 1;
	struct hmac h;
	int rc = n <= 255 * sizeof(block) ? hmac_init(&h, key, 32) : -EINVAL;

	if (rc < 0)
		return rc;
	for (size_t at = 0; rc == 0 && at < n; at += sizeof(block), count++) {
		struct part parts[] = {{block, at > 0 ? sizeof(block) : 0},
				       {info, info_len},
				       {&count, 1}};

		rc = hmac_run(&h, parts, 3, block);
		if (rc == 0)
			memcpy(out + at, block, n - at < sizeof(block) ? n - at : sizeof(block));
	}
	explicit_bzero(block, sizeof(block));
	if (rc < 0)
		explicit_bzero(out, n);
	hmac_clear(&h);
	return rc;
}

int secret_ed25519_public(const uint8_t seed[32], uint8_t out[32])
{
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, 32);
	size_t len = 32;
	int ok = key != NULL && EVP_PKEY_get_raw_public_key(key, out, &len) && len == 32;

	EVP_PKEY_free(key);
	return ok ? 0 : -EIO;
}

int secret_random(void *out, size_t n)
{
	return n <= 256 && getrandom(out, n, 0) == (ssize_t)n ? 0 : -EIO;
}

int secret_gcm_seal(const uint8_t key[32], const uint8_t iv[SECRET_GCM_IV], const uint8_t *text,
		    size_t n, uint8_t *out)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int len = 0, end = 0;
	int ok = ctx != NULL && n <= INT32_MAX &&
		 EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, iv) &&
		 EVP_EncryptUpdate(ctx, out, &len, text, (int)n) &&
		 EVP_EncryptFinal_ex(ctx, out + len, &end) &&
		 EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, SECRET_GCM_TAG, out + n);

	EVP_CIPHER_CTX_free(ctx);
	return ok ? 0 : -EIO;
}

int secret_gcm_open(const uint8_t key[32], const uint8_t iv[SECRET_GCM_IV], const uint8_t *sealed,
		    size_t n, uint8_t *out)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	uint8_t tag[SECRET_GCM_TAG];
	size_t text = n - SECRET_GCM_TAG;
	int len = 0, end = 0, rc = -EIO;

	if (n < SECRET_GCM_TAG || text > INT32_MAX) {
		EVP_CIPHER_CTX_free(ctx);
		return -EBADMSG;
	}
	memcpy(tag, sealed + text, sizeof(tag));
	if (ctx != NULL && EVP_DecryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, iv) &&
	    EVP_DecryptUpdate(ctx, out, &len, sealed, (int)text) &&
	    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, sizeof(tag), tag))
		rc = EVP_DecryptFinal_ex(ctx, out + len, &end) ? 0 : -EBADMSG;
	if (rc < 0)
		explicit_bzero(out, text);
	EVP_CIPHER_CTX_free(ctx);
	return rc;
}

void secret_base64_add(struct secret_buf *out, const uint8_t *bytes, size_t n)
{
	uint8_t *at = secret_buf_more(out, (n + 2) / 3 * 4 + 1);

	if (at == NULL)
		return;
	EVP_EncodeBlock(at, bytes, (int)n);
	out->len--; /* its NUL */
}

/* EVP_DecodeBlock takes more than is base64: what encodes to the same text again is. */
int secret_base64_decode(const void *text, size_t len, struct secret_buf *out)
{
	struct secret_buf again = {0};
	size_t before = out->len;
	const uint8_t *t = text;
	uint8_t *at;
	int n, rc = -EINVAL;

	if (len == 0)
		return 0;
	if (len % 4 != 0 || len > SECRET_MESSAGE_MAX)
		return -EINVAL;
	at = secret_buf_more(out, len / 4 * 3);
	if (at == NULL)
		return -ENOMEM;
	n = EVP_DecodeBlock(at, t, (int)len);
	if (n >= 0)
		n -= (t[len - 1] == '=') + (t[len - 2] == '=');
	if (n >= 0) {
		secret_base64_add(&again, at, (size_t)n);
		if (again.failed)
			rc = -ENOMEM;
		else if (again.len == len && memcmp(again.bytes, t, len) == 0)
			rc = 0;
	}
	out->len = before + (rc == 0 ? (size_t)n : 0);
	secret_buf_wipe(&again);
	return rc;
}

__attribute__((noinline)) void secret_stack_wipe(void)
{
	uint8_t below[32768];

	explicit_bzero(below, sizeof(below));
}
