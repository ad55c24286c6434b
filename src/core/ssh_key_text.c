/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "ssh_key_text.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include "base64.h"

#define LINE 70
#define BLOB_MAX 512

struct blob {
	uint8_t bytes[BLOB_MAX];
	size_t len;
};

static void put(struct blob *b, const void *bytes, size_t n)
{
	memcpy(b->bytes + b->len, bytes, n);
	b->len += n;
}

static void put_number(struct blob *b, uint32_t n)
{
	const uint8_t bytes[4] = {(uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8),
				  (uint8_t)n};

	put(b, bytes, 4);
}

static void put_string(struct blob *b, const void *bytes, size_t n)
{
	put_number(b, (uint32_t)n);
	put(b, bytes, n);
}

static void put_public(struct blob *b, const uint8_t public[32])
{
	put_string(b, "ssh-ed25519", 11);
	put_string(b, public, 32);
}

/* The part that a passphrase would encrypt, padded to 8. */
static void put_private(struct blob *b, const uint8_t seed[32], const uint8_t public[32],
			const char *comment, uint32_t check)
{
	uint8_t pair[64], pad = 0;

	memcpy(pair, seed, 32);
	memcpy(pair + 32, public, 32);
	put_number(b, check);
	put_number(b, check);
	put_public(b, public);
	put_string(b, pair, sizeof(pair));
	put_string(b, comment, strnlen(comment, 64));
	while (b->len % 8 != 0) {
		pad++;
		put(b, &pad, 1);
	}
	explicit_bzero(pair, sizeof(pair));
}

/* base64 in lines, between the marks. */
static ssize_t armor(const struct blob *b, char text[ALK_SSH_KEY_TEXT_MAX])
{
	char base64[BLOB_MAX * 2];
	ssize_t n = alk_base64_encode(b->bytes, b->len, base64, sizeof(base64));
	char *at = stpcpy(text, "-----BEGIN OPENSSH PRIVATE KEY-----\n");

	for (ssize_t i = 0; i < n; i += LINE) {
		size_t take = (size_t)(n - i < LINE ? n - i : LINE);

		memcpy(at, base64 + i, take);
		at += take;
		*at++ = '\n';
	}
	at = stpcpy(at, "-----END OPENSSH PRIVATE KEY-----\n");
	explicit_bzero(base64, sizeof(base64));
	return n < 0 ? n : at - text;
}

ssize_t alk_ssh_key_text(const uint8_t seed[32], const uint8_t public[32], const char *comment,
			 char text[ALK_SSH_KEY_TEXT_MAX], struct alk_err *err)
{
	static const char magic[] = "openssh-key-v1";
	struct blob whole = {.len = 0}, part = {.len = 0};
	uint32_t check;
	ssize_t n;

	if (getrandom(&check, sizeof(check), 0) != sizeof(check))
		return alk_err_set(err, -EIO, "the system has no random numbers");
	put(&whole, magic, sizeof(magic));
	put_string(&whole, "none", 4);
	put_string(&whole, "none", 4);
	put_string(&whole, "", 0);
	put_number(&whole, 1);
	put_public(&part, public);
	put_string(&whole, part.bytes, part.len);
	part.len = 0;
	put_private(&part, seed, public, comment, check);
	put_string(&whole, part.bytes, part.len);
	n = armor(&whole, text);
	explicit_bzero(&whole, sizeof(whole));
	explicit_bzero(&part, sizeof(part));
	return n < 0 ? alk_err_set(err, (int)n, "base64 failed") : n;
}
