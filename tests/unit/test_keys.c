/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* authorized_keys: what is a key, what is refused and with which words. */
#include "base64.h"
#include "keys.h"
#include "wire.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "keygen.h"

/* A key whose 32 bytes are all "B": the blob in base64. */
#define BLOB "AAAAC3NzaC1lZDI1NTE5AAAAIEJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJC"
#define KEY "ssh-ed25519 " BLOB
#define BLOB_LEN 51

struct refused {
	unsigned count;
	unsigned line;
	char why[256];
};

static void on_bad(void *user, const char *name, unsigned line, const char *why)
{
	struct refused *refused = user;

	assert_string_equal(name, "FILE");
	refused->count++;
	refused->line = line;
	snprintf(refused->why, sizeof(refused->why), "%s", why);
}

/* From a copy of the exact size, so that reading past it is caught. */
static struct alk_keys *parse(const char *text, size_t len, const char *types,
			      struct refused *refused)
{
	char *copy = malloc(len + 1);
	struct alk_keys *keys;

	assert_non_null(copy);
	memcpy(copy, text, len);
	copy = realloc(copy, len ? len : 1);
	memset(refused, 0, sizeof(*refused));
	keys = alk_keys_parse("FILE", copy, len, types, on_bad, refused);
	free(copy);
	assert_non_null(keys);
	return keys;
}

struct good {
	const char *text;
	unsigned line;
	const char *comment;
};

static void test_good(void **state)
{
	static const struct good goods[] = {
		{KEY, 1, ""},
		{KEY "\n", 1, ""},
		{KEY "\r\n", 1, ""},
		{KEY " anna@host", 1, "anna@host"},
		{KEY " anna@host\r\n", 1, "anna@host"},
		{KEY " \t two  words \t\n", 1, "two  words"},
		{"  \t" KEY " x\n", 1, "x"},
		{"ssh-ed25519\t" BLOB "\tx\n", 1, "x"},
		{"ssh-ed25519   " BLOB "   x\n", 1, "x"},
		{"\n \t \n# a comment\r\n  # another\n\r\n" KEY " x", 6, "x"},
		{KEY " caf\xc3\xa9 \x1b[31m\n", 1, "caf\xc3\xa9 \x1b[31m"},
		{KEY " # no comment sign here\n", 1, "# no comment sign here"},
	};
	struct refused refused;

	(void)state;
	for (size_t i = 0; i < sizeof(goods) / sizeof(*goods); i++) {
		struct alk_keys *keys = parse(goods[i].text, strlen(goods[i].text), "ssh-ed25519",
					      &refused);

		assert_int_equal(refused.count, 0);
		assert_int_equal(keys->count, 1);
		assert_string_equal(keys->entry[0].type, "ssh-ed25519");
		assert_int_equal(keys->entry[0].blob_len, BLOB_LEN);
		assert_memory_equal(keys->entry[0].blob + BLOB_LEN - 32,
				    "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB", 32);
		assert_string_equal(keys->entry[0].comment, goods[i].comment);
		assert_int_equal(keys->entry[0].line, goods[i].line);
		alk_keys_free(&keys);
		assert_null(keys);
	}
}

static void test_empty(void **state)
{
	static const char *const texts[] = {"", "\n", "\r\n\r\n", "# only\n#comments", " \t"};
	struct refused refused;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		struct alk_keys *keys = parse(texts[i], strlen(texts[i]), "ssh-ed25519", &refused);

		assert_int_equal(keys->count, 0);
		assert_int_equal(refused.count, 0);
		assert_null(alk_keys_find(keys, (const uint8_t *)"", 0));
		alk_keys_free(&keys);
	}
	alk_keys_free(&(struct alk_keys *){NULL});
}

struct bad {
	const char *text;
	const char *why;
};

static void test_bad(void **state)
{
	static const struct bad bads[] = {
		{"x ecdsa-sha2-nistp256 AAAA", "there is no option x"},
		{"no-pty ssh-ed25519-cert-v01@openssh.com AAAA", "a certificate does not belong"},
		{"no-pty ssh-rsa AAAA", "ssh-rsa keys are not accepted"},
		{"no-pty", "not a public key"},
		{"no-pty hello", "not a public key"},
		{"restrict restrict " KEY, "not a public key"},
		{"command=\"never closed " KEY, "not a public key"},
		{"hello", "not a public key"},
		{"hello world", "not a public key"},
		{BLOB, "not a public key"},
		{"SSH-ED25519 " BLOB, "not a public key"},
		{"\xef\xbb\xbf" KEY, "not a public key"},
		{"-----BEGIN OPENSSH PRIVATE KEY-----", ".pub file"},
		{"-----BEGIN", ".pub file"},
		{"ssh-ed25519-cert-v01@openssh.com AAAA x", "a certificate does not belong here"},
		{"ssh-rsa AAAAB3NzaC1yc2EAAAABAwAAAAEF x",
		 "ssh-rsa keys are not accepted, only ssh-ed25519"},
		{"ssh-dss AAAA", "ssh-keygen -t ed25519"},
		{"sk-ssh-ed25519@openssh.com AAAA", "keys are not accepted"},
		{"ssh-ed25519", "there is no key behind the type"},
		{"ssh-ed25519 \r", "there is no key behind the type"},
		{"ssh-ed25519 AAAA=A==", "base64"},
		{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA!", "base64"},
		{"ssh-ed25519 A", "base64"},
		{KEY "=", "base64"},
		{KEY "====", "base64"},
		{"ssh-ed25519 AAAA", "cut short"},
		{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE=", "cut short"},
		{"ssh-ed25519 /////w==", "cut short"},
		/* the type alone, a key of 31 bytes, of 33, a length beyond the end */
		{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5", "wrong length"},
		{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAH0JCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI=",
		 "wrong length"},
		{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIUJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQg==",
		 "wrong length"},
		{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIUJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJC",
		 "wrong length"},
		{KEY "AA==", "bytes behind the key"},
		{KEY "AAAAAA==", "bytes behind the key"},
		/* the type inside is ssh-ed25518, and ssh-rsa */
		{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE4AAAAIEJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJC",
		 "not of the type that the line names"},
		{"ssh-ed25519 AAAAB3NzaC1yc2EAAAABAwAAAAEF", "not of the type that the line names"},
	};
	char text[1024];
	struct refused refused;

	(void)state;
	for (size_t i = 0; i < sizeof(bads) / sizeof(*bads); i++) {
		int len = snprintf(text, sizeof(text), "%s one\n%s\n%s two\n", KEY, bads[i].text,
				   KEY);
		struct alk_keys *keys = parse(text, (size_t)len, "ssh-ed25519", &refused);

		if (refused.count != 1 || !strstr(refused.why, bads[i].why))
			fail_msg("%s: %u times, %s", bads[i].text, refused.count, refused.why);
		assert_int_equal(refused.line, 2);
		/* the rest stands */
		assert_int_equal(keys->count, 2);
		assert_string_equal(keys->entry[0].comment, "one");
		assert_string_equal(keys->entry[1].comment, "two");
		assert_int_equal(keys->entry[1].line, 3);
		alk_keys_free(&keys);
	}
}

/* A reason is logged as it is, so it quotes nothing of the line. */
static void test_bad_quotes_nothing(void **state)
{
	static const char *const texts[] = {
		"\x1b[31msecret " KEY, "secret", "secret\x07 words", "ssh-rsa secret",
		"ssh-ed25519 secret",
	};
	struct refused refused;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		struct alk_keys *keys = parse(texts[i], strlen(texts[i]), "ssh-ed25519", &refused);

		assert_int_equal(refused.count, 1);
		assert_null(strstr(refused.why, "secret"));
		for (const char *p = refused.why; *p; p++)
			assert_true(*p >= ' ' && *p < 0x7f);
		alk_keys_free(&keys);
	}
}

static void test_nul_and_length(void **state)
{
	static const char nul[] = KEY " a\0b\n" KEY " c";
	struct refused refused;
	struct alk_keys *keys = parse(nul, sizeof(nul) - 1, "ssh-ed25519", &refused);
	char *text = malloc(80000);

	(void)state;
	assert_int_equal(refused.count, 1);
	assert_non_null(strstr(refused.why, "NUL"));
	assert_int_equal(keys->count, 1);
	assert_string_equal(keys->entry[0].comment, "c");
	alk_keys_free(&keys);

	assert_non_null(text);
	memset(text, 'x', 80000);
	memcpy(text, KEY " ", sizeof(KEY));
	keys = parse(text, 65536, "ssh-ed25519", &refused);
	assert_int_equal(keys->count, 1);
	assert_int_equal(strlen(keys->entry[0].comment), 65536 - sizeof(KEY));
	alk_keys_free(&keys);
	keys = parse(text, 65537, "ssh-ed25519", &refused);
	assert_int_equal(keys->count, 0);
	assert_non_null(strstr(refused.why, "65536"));
	alk_keys_free(&keys);
	/* a blob of more than ALK_KEY_BLOB_MAX bytes */
	memset(text, 'A', 80000);
	memcpy(text, "ssh-ed25519 ", 12);
	keys = parse(text, 12 + 10924, "ssh-ed25519", &refused);
	assert_int_equal(keys->count, 0);
	assert_non_null(strstr(refused.why, "8192"));
	alk_keys_free(&keys);
	free(text);
}

static void test_find(void **state)
{
	uint8_t blob[BLOB_LEN + 1] = {0};
	struct refused refused;
	char text[4096];
	size_t len = 0;
	struct alk_keys *keys;

	(void)state;
	assert_int_equal(alk_base64_decode(BLOB, strlen(BLOB), blob, sizeof(blob)), BLOB_LEN);
	/* twelve keys that differ in their last byte, the first of them once more at the end */
	for (int i = 0; i <= 12; i++) {
		char base64[128];

		blob[BLOB_LEN - 1] = (uint8_t)(i % 12);
		assert_int_equal(alk_base64_encode(blob, BLOB_LEN, base64, sizeof(base64)),
				 strlen(BLOB));
		len += (size_t)snprintf(text + len, sizeof(text) - len, "ssh-ed25519 %s %d\n",
					base64, i);
	}
	keys = parse(text, len, "ssh-ed25519", &refused);
	assert_int_equal(keys->count, 13);
	for (int i = 0; i < 12; i++) {
		blob[BLOB_LEN - 1] = (uint8_t)i;
		assert_ptr_equal(alk_keys_find(keys, blob, BLOB_LEN), &keys->entry[i]);
	}
	assert_null(alk_keys_find(keys, blob, BLOB_LEN - 1));
	assert_null(alk_keys_find(keys, blob, BLOB_LEN + 1));
	assert_null(alk_keys_find(keys, blob, 0));
	blob[BLOB_LEN - 1] = 12;
	assert_null(alk_keys_find(keys, blob, BLOB_LEN));
	blob[0] = 1;
	assert_null(alk_keys_find(keys, blob, BLOB_LEN));
	alk_keys_free(&keys);
}

/* Every type that ssh-keygen makes: accepted when `types` says so, refused by its name
 * otherwise. */
static void test_real_keys(void **state)
{
	static const struct {
		const char *make;
		const char *type;
	} kinds[] = {
		{"-t ed25519", "ssh-ed25519"},
		{"-t rsa -b 3072", "ssh-rsa"},
		{"-t ecdsa -b 256", "ecdsa-sha2-nistp256"},
		{"-t ecdsa -b 384", "ecdsa-sha2-nistp384"},
		{"-t ecdsa -b 521", "ecdsa-sha2-nistp521"},
	};
	struct refused refused;

	(void)state;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		size_t len;
		char *text;
		struct alk_keys *keys;

		keygen_run("rm -f k k.pub; ssh-keygen -q %s -N '' -C 'my key' -f k", kinds[i].make);
		text = keygen_read("k.pub", &len);
		keys = parse(text, len, kinds[i].type, &refused);
		assert_int_equal(keys->count, 1);
		assert_string_equal(keys->entry[0].type, kinds[i].type);
		assert_string_equal(keys->entry[0].comment, "my key");
		assert_ptr_equal(alk_keys_find(keys, keys->entry[0].blob, keys->entry[0].blob_len),
				 keys->entry);
		alk_keys_free(&keys);
		keys = parse(text, len, "foo,ssh-ed25519-x,xssh-ed25519,ssh-ed2551", &refused);
		assert_int_equal(keys->count, 0);
		assert_non_null(strstr(refused.why, kinds[i].type));
		alk_keys_free(&keys);
		keys = parse(
			text, len,
			"ssh-ed25519,ssh-rsa,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521",
			&refused);
		assert_int_equal(keys->count, 1);
		alk_keys_free(&keys);
		free(text);
	}
	/* one bit short of enough */
	keygen_run("rm -f k k.pub; ssh-keygen -q -t rsa -b 3071 -N '' -f k");
	for (int i = 0; i < 2; i++) {
		size_t len;
		char *text = keygen_read("k.pub", &len);
		struct alk_keys *keys = i ? alk_keys_parse_authorities("FILE", text, len, on_bad,
								       &refused)
					  : parse(text, len, "ssh-rsa", &refused);

		assert_int_equal(keys->count, 0);
		assert_non_null(strstr(refused.why, "3072 bits"));
		alk_keys_free(&keys);
		free(text);
	}
	/* a private key and a certificate instead of a .pub file */
	keygen_run(
		"rm -f k k.pub; ssh-keygen -q -t ed25519 -N '' -f k && ssh-keygen -q -s k -I id -n anna k.pub");
	for (int i = 0; i < 2; i++) {
		size_t len;
		char *text = keygen_read(i ? "k" : "k-cert.pub", &len);
		struct alk_keys *keys = parse(text, len, "ssh-ed25519", &refused);

		assert_int_equal(keys->count, 0);
		assert_true(refused.count > 0);
		alk_keys_free(&keys);
		free(text);
	}
}

static void test_authorities(void **state)
{
	struct refused refused = {0};
	struct alk_keys *keys;

	(void)state;
	keys = alk_keys_parse_authorities("FILE", KEY " ca\n# x\n", strlen(KEY) + 8, on_bad,
					  &refused);
	assert_int_equal(keys->count, 1);
	assert_int_equal(refused.count, 0);
	alk_keys_free(&keys);
	keys = alk_keys_parse_authorities("FILE", "cert-authority " KEY, strlen(KEY) + 15, on_bad,
					  &refused);
	assert_int_equal(keys->count, 0);
	assert_non_null(strstr(refused.why, "belongs into authorized_keys"));
	alk_keys_free(&keys);
	/* an authority may be of another type than the keys that log in */
	keys = parse("cert-authority " KEY, strlen(KEY) + 15, "ssh-rsa", &refused);
	assert_int_equal(keys->count, 1);
	assert_true(keys->entry[0].options.cert_authority);
	alk_keys_free(&keys);
}

static void test_blob_check(void **state)
{
	uint8_t blob[BLOB_LEN + 1] = {0};

	(void)state;
	alk_base64_decode(BLOB, strlen(BLOB), blob, sizeof(blob));
	assert_null(alk_key_blob_check(blob, BLOB_LEN, "ssh-rsa,ssh-ed25519"));
	assert_non_null(alk_key_blob_check(blob, BLOB_LEN, "ssh-rsa"));
	assert_non_null(alk_key_blob_check(blob, BLOB_LEN - 1, "ssh-ed25519"));
	assert_non_null(alk_key_blob_check(blob, BLOB_LEN + 1, "ssh-ed25519"));
	assert_non_null(alk_key_blob_check(blob, 3, "ssh-ed25519"));
	assert_non_null(alk_key_blob_check(blob, 0, "ssh-ed25519"));
}

static void test_base64(void **state)
{
	static const char *const bad[] = {"A",	   "AA",   "AAA",   "A===",    "====",
					  "AA=A",  "=AAA", "AB==",  "AAB=",    "AA A",
					  "AAA\n", "AA-_", "AAAA=", "AAAAAA=", "AA\xff\xff"};
	/* RFC 4648 10 */
	static const char *const pairs[][2] = {{"", ""},
					       {"f", "Zg=="},
					       {"fo", "Zm8="},
					       {"foo", "Zm9v"},
					       {"foob", "Zm9vYg=="},
					       {"fooba", "Zm9vYmE="},
					       {"foobar", "Zm9vYmFy"}};
	uint8_t data[256], again[256];
	char text[512];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(alk_base64_decode(bad[i], strlen(bad[i]), data, sizeof(data)),
				 -EINVAL);
	for (size_t i = 0; i < sizeof(pairs) / sizeof(*pairs); i++) {
		size_t len = strlen(pairs[i][0]), len64 = strlen(pairs[i][1]);

		assert_int_equal(alk_base64_decode(pairs[i][1], len64, NULL, 0), len);
		assert_int_equal(alk_base64_decode(pairs[i][1], len64, data, len), len);
		assert_memory_equal(data, pairs[i][0], len);
		if (len)
			assert_int_equal(alk_base64_decode(pairs[i][1], len64, data, len - 1),
					 -ENOSPC);
		assert_int_equal(alk_base64_encode((const uint8_t *)pairs[i][0], len, text,
						   len64 + 1),
				 len64);
		assert_string_equal(text, pairs[i][1]);
		assert_int_equal(alk_base64_encode((const uint8_t *)pairs[i][0], len, text, len64),
				 -ENOSPC);
	}
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7);
	for (size_t n = 0; n <= sizeof(data); n++) {
		ssize_t len = alk_base64_encode(data, n, text, sizeof(text));

		assert_int_equal(len, (n + 2) / 3 * 4);
		assert_int_equal(alk_base64_decode(text, (size_t)len, again, sizeof(again)), n);
		assert_memory_equal(data, again, n);
	}
}

static void test_wire(void **state)
{
	static const uint8_t bytes[] = {0, 0, 0, 2, 'h', 'i', 1, 2, 3, 4, 0, 0, 0, 1};
	struct alk_wire wire = {bytes, sizeof(bytes)};
	const uint8_t *data;
	size_t len;
	uint32_t n;

	(void)state;
	assert_true(alk_wire_string(&wire, &data, &len));
	assert_int_equal(len, 2);
	assert_ptr_equal(data, bytes + 4);
	assert_true(alk_wire_u32(&wire, &n));
	assert_int_equal(n, 0x01020304);
	assert_false(alk_wire_string(&wire, &data, &len));
	assert_int_equal(wire.left, 4);
	assert_true(alk_wire_u32(&wire, &n));
	assert_false(alk_wire_u32(&wire, &n));
	assert_false(alk_wire_string(&wire, &data, &len));
	assert_int_equal(wire.left, 0);
}

static void test_equal(void **state)
{
	(void)state;
	assert_true(alk_equal_ct("abc", "abd", 2));
	assert_false(alk_equal_ct("abc", "abd", 3));
	assert_false(alk_equal_ct("xbc", "abc", 3));
	assert_true(alk_equal_ct("", "", 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_bad_quotes_nothing),
		cmocka_unit_test(test_nul_and_length),
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_real_keys),
		cmocka_unit_test(test_authorities),
		cmocka_unit_test(test_blob_check),
		cmocka_unit_test(test_base64),
		cmocka_unit_test(test_wire),
		cmocka_unit_test(test_equal),
	};

	return cmocka_run_group_tests(tests, keygen_setup, keygen_teardown);
}
