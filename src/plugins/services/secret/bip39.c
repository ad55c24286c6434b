/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "derive.h"

#include <errno.h>
#include <string.h>
#include <utf8proc.h>
#include "buf.h"
#include "crypt.h"
#include "words.h"

#define ROUNDS 2048
#define SALT "mnemonic"

/* Words that were found, and the phrase as BIP-39 has it: with one space between them. */
struct phrase {
	uint16_t index[SECRET_WORDS_MAX];
	unsigned words;
	char text[SECRET_PHRASE_SIZE];
	size_t len;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static int phrase_word(struct phrase *p, const char *word, size_t len, struct alk_err *err)
{
	int index = secret_words_find(word, len);

	if (p->words == SECRET_WORDS_MAX)
		return alk_err_set(err, -EINVAL, "the phrase has more than %d words",
				   SECRET_WORDS_MAX);
	if (index < 0)
		return alk_err_set(err, -EINVAL, "word %u is not in the English list of BIP-39",
				   p->words + 1);
	if (p->words > 0)
		p->text[p->len++] = ' ';
	memcpy(p->text + p->len, word, len);
	p->len += len;
	p->index[p->words++] = (uint16_t)index;
	return 0;
}

static int phrase_split(struct phrase *p, const char *text, size_t len, struct alk_err *err)
{
	for (size_t at = 0; at < len;) {
		size_t end = at;

		while (end < len && !is_blank(text[end]))
			end++;
		if (end > at && phrase_word(p, text + at, end - at, err) < 0)
			return -EINVAL;
		at = end + 1;
	}
	if (secret_words_entropy(p->words) == 0)
		return alk_err_set(err, -EINVAL,
				   "the phrase has %u words; it must have 12, 15, 18, 21 or 24",
				   p->words);
	return 0;
}

static int phrase_entropy(const struct phrase *p, uint8_t entropy[32], size_t *n,
			  struct alk_err *err)
{
	size_t size = secret_words_entropy(p->words);
	unsigned check = (unsigned)size / 4; /* bits */
	uint8_t bits[SECRET_ENTROPY_MAX + 1] = {0}, digest[32];
	int rc;

	for (unsigned i = 0; i < p->words * 11; i++)
		if ((p->index[i / 11] >> (10 - i % 11) & 1) != 0)
			bits[i / 8] |= (uint8_t)(0x80 >> i % 8);
	rc = secret_sha256(bits, size, digest);
	if (rc < 0)
		alk_err_set(err, rc, "SHA-256 failed");
	else if (bits[size] >> (8 - check) != digest[0] >> (8 - check))
		rc = alk_err_set(
			err, -EINVAL,
			"the checksum is wrong: a word is not the right one, or not in its place");
	if (rc == 0) {
		memcpy(entropy, bits, size);
		*n = size;
	}
	explicit_bzero(bits, sizeof(bits));
	explicit_bzero(digest, sizeof(digest));
	return rc;
}

int secret_bip39_entropy(const char *phrase, size_t len, uint8_t entropy[32], size_t *n,
			 struct alk_err *err)
{
	struct phrase p = {.words = 0};
	int rc = phrase_split(&p, phrase, len, err);

	if (rc == 0)
		rc = phrase_entropy(&p, entropy, n, err);
	explicit_bzero(&p, sizeof(p));
	return rc;
}

/* NFKD, behind what is in `out`. A code point becomes 18 at most, of 4 bytes each. */
static int add_nfkd(struct secret_buf *out, const char *text, size_t len, struct alk_err *err)
{
	static const utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
						 UTF8PROC_COMPAT;
	struct secret_buf points = {0};
	utf8proc_ssize_t room = (utf8proc_ssize_t)len * 18 + 1, n;
	uint8_t *space = secret_buf_more(&points, (size_t)room * sizeof(utf8proc_int32_t));
	utf8proc_int32_t *point = (utf8proc_int32_t *)(void *)space;
	int rc = 0;

	if (space == NULL) {
		rc = alk_err_set(err, -ENOMEM, "out of memory");
		goto out;
	}
	n = utf8proc_decompose((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)len, point, room,
			       options);
	if (n < 0 || n > room) {
		rc = alk_err_set(err, -EINVAL, "the passphrase is not UTF-8");
		goto out;
	}
	n = utf8proc_reencode(point, n, options);
	if (n < 0)
		rc = alk_err_set(err, -EINVAL, "the passphrase is not UTF-8");
	else
		secret_buf_add(out, space, (size_t)n);
out:
	secret_buf_wipe(&points);
	return rc;
}

int secret_bip39_seed(const char *phrase, size_t len, const char *passphrase, size_t passphrase_len,
		      uint8_t seed[SECRET_SEED], struct alk_err *err)
{
	struct phrase p = {.words = 0};
	struct secret_buf salt = {0};
	uint8_t entropy[SECRET_ENTROPY_MAX];
	size_t n;
	int rc = phrase_split(&p, phrase, len, err);

	if (rc == 0)
		rc = phrase_entropy(&p, entropy, &n, err);
	if (rc == 0 && passphrase_len > SECRET_PASSPHRASE_MAX)
		rc = alk_err_set(err, -EINVAL, "the passphrase is longer than %d bytes",
				 SECRET_PASSPHRASE_MAX);
	secret_buf_add_text(&salt, SALT);
	if (rc == 0)
		rc = add_nfkd(&salt, passphrase, passphrase_len, err);
	if (rc == 0 && salt.failed)
		rc = alk_err_set(err, -ENOMEM, "out of memory");
	if (rc == 0) {
		rc = secret_pbkdf2(p.text, p.len, salt.bytes, salt.len, ROUNDS, seed);
		if (rc < 0)
			alk_err_set(err, rc, "PBKDF2 failed");
	}
	explicit_bzero(entropy, sizeof(entropy));
	explicit_bzero(&p, sizeof(p));
	secret_buf_wipe(&salt);
	secret_stack_wipe();
	return rc;
}
