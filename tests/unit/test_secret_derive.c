/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The secret service's derivations, against the published vectors (secret_vectors.h), byte for
 * byte. */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <openssl/crypto.h>

#include "../../src/plugins/services/secret/crypt.h"
#include "../../src/plugins/services/secret/derive.h"
#include "../../src/plugins/services/secret/words.h"
#include "secret_vectors.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define PHRASE                                                                                     \
	"abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"

static size_t unhex(const char *hex, uint8_t *out)
{
	size_t n = strlen(hex) / 2;

	for (size_t i = 0; i < n; i++)
		assert_int_equal(sscanf(hex + 2 * i, "%2hhx", &out[i]), 1);
	return n;
}

static void assert_hex(const uint8_t *bytes, const char *hex)
{
	uint8_t wanted[128];
	size_t n = unhex(hex, wanted);

	assert_memory_equal(bytes, wanted, n);
}

static int parse(const char *text, struct secret_path *path, struct alk_err *err)
{
	return secret_path_parse(text, strlen(text), path, err);
}

static void test_bip39(void **state)
{
	struct alk_err err;

	(void)state;
	for (size_t i = 0; i < COUNT(bip39_vectors); i++) {
		const char *phrase = bip39_vectors[i].phrase;
		uint8_t entropy[32], wanted[32], digest[32], seed[64];
		char made[SECRET_PHRASE_SIZE];
		size_t n = unhex(bip39_vectors[i].entropy, wanted), got;

		assert_int_equal(secret_bip39_entropy(phrase, strlen(phrase), entropy, &got, &err),
				 0);
		assert_int_equal(got, n);
		assert_memory_equal(entropy, wanted, n);
		assert_int_equal(secret_sha256(entropy, n, digest), 0);
		assert_true(secret_words_make(entropy, n, digest[0], made));
		assert_string_equal(made, phrase);
		assert_int_equal(secret_bip39_seed(phrase, strlen(phrase), "TREZOR", 6, seed, &err),
				 0);
		assert_hex(seed, bip39_vectors[i].seed);
	}
}

/* Seeds by Python's unicodedata and hashlib. */
static void test_bip39_passphrase_is_nfkd(void **state)
{
	static const struct {
		const char *passphrase, *seed;
	} cases[] = {
		{"\xe2\x85\xa7 \xef\xac\x81\xc3\xa9 \xc3\xb1\xea\xb0\x80\xe3\x81\xb0",
		 "9695290a1ed4a7e5f3c6800884cc8b7a459daa7748a6f4f767cd508562d4e0af27b9a6bafd7ec0c010f0539057f0d9aa7399d0b08baba5c37265bd1c2a40b879"},
		{"\xc3\xa9",
		 "f37f8652bf7004d4bd4ba7702e70e647f54965758656423dde58d64fa725c1e8be1b0416864e10f714c0730e46f9676079b4fd4f72fcf0c09a120ae65589c091"},
		{"e\xcc\x81",
		 "f37f8652bf7004d4bd4ba7702e70e647f54965758656423dde58d64fa725c1e8be1b0416864e10f714c0730e46f9676079b4fd4f72fcf0c09a120ae65589c091"},
	};
	struct alk_err err;
	uint8_t seed[64];

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		const char *p = cases[i].passphrase;

		assert_int_equal(secret_bip39_seed(PHRASE, strlen(PHRASE), p, strlen(p), seed,
						   &err),
				 0);
		assert_hex(seed, cases[i].seed);
	}
	assert_int_equal(secret_bip39_seed(PHRASE, strlen(PHRASE), "\xff", 1, seed, &err), -EINVAL);
	assert_string_equal(err.text, "the passphrase is not UTF-8");
}

/* The longest decompositions fit, and a passphrase that is too long is told. */
static void test_bip39_passphrase_limits(void **state)
{
	char text[SECRET_PASSPHRASE_MAX + 1];
	struct alk_err err;
	uint8_t seed[64];

	(void)state;
	for (size_t i = 0; i + 3 <= sizeof(text); i += 3)
		memcpy(text + i, "\xef\xb7\xba", 3); /* U+FDFA: 18 code points */
	assert_int_equal(secret_bip39_seed(PHRASE, strlen(PHRASE), text,
					   SECRET_PASSPHRASE_MAX / 3 * 3, seed, &err),
			 0);
	memset(text, 'x', sizeof(text));
	assert_int_equal(secret_bip39_seed(PHRASE, strlen(PHRASE), text, sizeof(text), seed, &err),
			 -EINVAL);
	assert_string_equal(err.text, "the passphrase is longer than 1024 bytes");
}

static void test_bip39_refused(void **state)
{
	static const struct {
		const char *phrase, *why;
	} cases[] = {
		{"", "the phrase has 0 words; it must have 12, 15, 18, 21 or 24"},
		{"abandon", "the phrase has 1 words; it must have 12, 15, 18, 21 or 24"},
		{"abandon about hunter2 abandon", "word 3 is not in the English list of BIP-39"},
		{"Abandon", "word 1 is not in the English list of BIP-39"},
		{"abandonabandon", "word 1 is not in the English list of BIP-39"},
		{"aban", "word 1 is not in the English list of BIP-39"},
		{PHRASE " about", "the phrase has 13 words; it must have 12, 15, 18, 21 or 24"},
		{PHRASE " " PHRASE " about", "the phrase has more than 24 words"},
		{"about about about about about about about about about about about about",
		 "the checksum is wrong: a word is not the right one, or not in its place"},
	};
	struct alk_err err;
	uint8_t seed[64];

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		const char *phrase = cases[i].phrase;

		assert_int_equal(secret_bip39_seed(phrase, strlen(phrase), "", 0, seed, &err),
				 -EINVAL);
		assert_string_equal(err.text, cases[i].why);
	}
}

static void test_blanks_around_words(void **state)
{
	static const char spaced[] = "  abandon abandon\tabandon abandon  abandon abandon abandon "
				     "abandon abandon\nabandon abandon about\n";
	uint8_t a[64], b[64];
	struct alk_err err;

	(void)state;
	assert_int_equal(secret_bip39_seed(PHRASE, strlen(PHRASE), "", 0, a, &err), 0);
	assert_int_equal(secret_bip39_seed(spaced, strlen(spaced), "", 0, b, &err), 0);
	assert_memory_equal(a, b, 64);
}

static void test_slip10(void **state)
{
	struct alk_err err;

	(void)state;
	for (size_t i = 0; i < COUNT(slip10_vectors); i++) {
		const struct node_vector *v = &slip10_vectors[i];
		uint8_t seed[64], public_key[32];
		size_t n = unhex(v->seed, seed);
		struct secret_node node;
		struct secret_path path;

		assert_int_equal(parse(v->path, &path, &err), 0);
		assert_int_equal(secret_slip10(seed, n, &path, &node, &err), 0);
		assert_hex(node.chain, v->chain);
		assert_hex(node.key, v->key);
		assert_int_equal(secret_ed25519_public(node.key, public_key), 0);
		assert_hex(public_key, v->public_key);
	}
}

static void test_bip32(void **state)
{
	struct alk_err err;

	(void)state;
	for (size_t i = 0; i < COUNT(bip32_vectors); i++) {
		const struct node_vector *v = &bip32_vectors[i];
		uint8_t seed[64], public_key[33];
		size_t n = unhex(v->seed, seed);
		struct secret_node node;
		struct secret_path path;

		assert_int_equal(parse(v->path, &path, &err), 0);
		assert_int_equal(secret_bip32(seed, n, &path, &node, &err), 0);
		assert_hex(node.chain, v->chain);
		assert_hex(node.key, v->key);
		assert_int_equal(secret_bip32_public(node.key, public_key, &err), 0);
		assert_hex(public_key, v->public_key);
	}
}

static void test_slip10_soft_index(void **state)
{
	uint8_t seed[64] = {1};
	struct secret_path path;
	struct secret_node node;
	struct alk_err err;

	(void)state;
	assert_int_equal(parse("m/74'/0", &path, &err), 0);
	assert_int_equal(secret_slip10(seed, 64, &path, &node, &err), -EINVAL);
	assert_string_equal(err.text, "path: part 2 is not hardened, as all parts must be for this "
				      "kind of key: put ' behind it");
}

static void test_paths(void **state)
{
	static const struct {
		const char *text, *why;
	} bad[] = {
		{"", "path: it must begin with m/"},
		{"x", "path: it must begin with m/"},
		{"mm", "path: it must begin with m/"},
		{"M/0", "path: it must begin with m/"},
		{"/0", "path: it must begin with m/"},
		{"m/", "path: part 1 is empty"},
		{"m//0", "path: part 1 is empty"},
		{"m/0/", "path: part 2 is empty"},
		{"m/'", "path: part 1 is empty"},
		{"m/0''", "path: part 1 is not a number, with ' behind it or not"},
		{"m/-1", "path: part 1 is not a number, with ' behind it or not"},
		{"m/0x1", "path: part 1 is not a number, with ' behind it or not"},
		{"m/0/ 1", "path: part 2 is not a number, with ' behind it or not"},
		{"m/00", "path: part 1 begins with a zero"},
		{"m/2147483648", "path: part 1 is 2147483648 or more"},
		{"m/99999999999999999999999999", "path: part 1 is 2147483648 or more"},
	};
	struct secret_path path, again;
	struct alk_err err;
	char text[64];

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		assert_int_equal(parse(bad[i].text, &path, &err), -EINVAL);
		assert_string_equal(err.text, bad[i].why);
	}
	assert_int_equal(parse("m", &path, &err), 0);
	assert_int_equal(path.levels, 0);
	assert_int_equal(parse("m/44h/2147483647'/0", &path, &err), 0);
	secret_path_format(&path, text, sizeof(text));
	assert_string_equal(text, "m/44'/2147483647'/0");
	assert_int_equal(parse(text, &again, &err), 0);
	assert_true(secret_path_same(&path, &again));
}

static void test_path_levels(void **state)
{
	char text[1 + 2 * 300];
	struct secret_path path;
	struct alk_err err;

	(void)state;
	text[0] = 'm';
	for (unsigned i = 0; i < 300; i++)
		memcpy(text + 1 + 2 * i, "/1", 2);
	assert_int_equal(secret_path_parse(text, 1 + 2 * 255, &path, &err), 0);
	assert_int_equal(path.levels, 255);
	assert_int_equal(secret_path_parse(text, sizeof(text), &path, &err), -EINVAL);
	assert_string_equal(err.text, "path: it has more than 255 levels");
}

/* By Python: HKDF-Expand with SHA-512, key 00 01 ... 1f. */
static void test_password(void **state)
{
	char text[SECRET_PASSWORD_MAX], again[SECRET_PASSWORD_MAX];
	struct alk_err err;
	uint8_t key[32];

	(void)state;
	for (unsigned i = 0; i < 32; i++)
		key[i] = (uint8_t)i;
	assert_int_equal(secret_password(key, 16, text, &err), 0);
	assert_memory_equal(text, "mL3Lctv1t44mT_gT", 16);
	assert_int_equal(secret_password(key, 300, text, &err), 0);
	assert_memory_equal(text + 284, "Q0K6Xcnr6sdfLHVr", 16);
	assert_int_equal(secret_password(key, 1024, text, &err), 0);
	assert_int_equal(secret_password(key, 1024, again, &err), 0);
	assert_memory_equal(text, again, 1024);
	assert_int_equal(secret_password(key, 0, text, &err), -EINVAL);
	assert_int_equal(secret_password(key, 1025, text, &err), -EINVAL);
	assert_string_equal(err.text, "length: a password has 1 to 1024 letters");
}

static void test_words(void **state)
{
	char phrase[SECRET_PHRASE_SIZE];
	uint8_t entropy[32] = {0};

	(void)state;
	assert_int_equal(secret_words_entropy(12), 16);
	assert_int_equal(secret_words_entropy(24), 32);
	assert_int_equal(secret_words_entropy(13), 0);
	assert_int_equal(secret_words_entropy(0), 0);
	assert_int_equal(secret_words_entropy(27), 0);
	assert_false(secret_words_make(entropy, 0, 0, phrase));
	assert_false(secret_words_make(entropy, 17, 0, phrase));
	assert_int_equal(secret_words_find("abandon", 7), 0);
	assert_int_equal(secret_words_find("zoo", 3), 2047);
	assert_int_equal(secret_words_find("act\0ion", 7), -1);
}

/* ---- libcrypto without memory ---- */

static unsigned long allowed = ULONG_MAX; /* allocations */

static void *some_malloc(size_t n, const char *file, int line)
{
	(void)file, (void)line;
	if (allowed == 0)
		return NULL;
	if (allowed != ULONG_MAX)
		allowed--;
	return malloc(n);
}

static void *some_realloc(void *memory, size_t n, const char *file, int line)
{
	(void)file, (void)line;
	return realloc(memory, n);
}

static void some_free(void *memory, const char *file, int line)
{
	(void)file, (void)line;
	free(memory);
}

/* The longest phrase is longer than HMAC's block, a digest is shorter. */
static int hmac_long(uint8_t out[64])
{
	static const char key[SECRET_PHRASE_SIZE] = {1};

	return secret_hmac512(key, sizeof(key), "a", 1, "b", 1, out);
}

static int hmac_short(uint8_t out[64])
{
	static const char key[32] = {1};

	return secret_hmac512(key, sizeof(key), "a", 1, "b", 1, out);
}

static int pbkdf2_long(uint8_t out[64])
{
	static const char key[SECRET_PHRASE_SIZE] = {1};

	return secret_pbkdf2(key, sizeof(key), "salt", 4, 3, out);
}

static int expand(uint8_t out[64])
{
	static const uint8_t key[32] = {1};

	return secret_expand(key, "info", 4, out, 64);
}

/* Whichever allocation fails, it is an error, and with all of them the result is right. */
static void test_no_memory(void **state)
{
	static int (*const runs[])(uint8_t out[64]) = {hmac_long, hmac_short, pbkdf2_long, expand};

	(void)state;
	for (size_t i = 0; i < COUNT(runs); i++) {
		uint8_t wanted[64], out[64];
		unsigned long n = 0;
		int rc;

		assert_int_equal(runs[i](wanted), 0);
		do {
			memset(out, 0, sizeof(out));
			allowed = n++;
			rc = runs[i](out);
			allowed = ULONG_MAX;
			if (rc < 0)
				assert_int_equal(rc, -EIO);
		} while (rc < 0);
		assert_true(n > 3);
		assert_memory_equal(out, wanted, sizeof(out));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bip39),
		cmocka_unit_test(test_bip39_passphrase_is_nfkd),
		cmocka_unit_test(test_bip39_passphrase_limits),
		cmocka_unit_test(test_bip39_refused),
		cmocka_unit_test(test_blanks_around_words),
		cmocka_unit_test(test_slip10),
		cmocka_unit_test(test_bip32),
		cmocka_unit_test(test_slip10_soft_index),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_path_levels),
		cmocka_unit_test(test_password),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_no_memory),
	};

	if (!CRYPTO_set_mem_functions(some_malloc, some_realloc, some_free))
		return 1;

	return cmocka_run_group_tests(tests, NULL, NULL);
}
