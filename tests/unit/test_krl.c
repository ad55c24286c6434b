/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Revocation lists that ssh-keygen made, and what is refused of those that it would not make. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <openssl/evp.h>
#include "cert.h"
#include "keygen.h"
#include "krl.h"
#include "wirecraft.h"

#define CERTS 12 /* with the serial numbers 0 to 11 */

static int setup(void **state)
{
	if (keygen_setup(state) < 0)
		return -1;
	keygen_run("for k in ca other a b; do ssh-keygen -q -t ed25519 -N '' -f $k; done");
	keygen_run("ssh-keygen -q -t rsa -b 2048 -N '' -f old");
	keygen_run(
		"for i in `seq 0 %d`; do cp a.pub c$i.pub; ssh-keygen -q -s ca -I id$i -n u -z $i "
		"c$i.pub; done",
		CERTS - 1);
	return 0;
}

static struct alk_krl *krl_of(const char *file)
{
	struct alk_err err = {""};
	size_t len;
	char *bytes = keygen_read(file, &len);
	struct alk_krl *krl = alk_krl_parse(file, (uint8_t *)bytes, len, &err);

	free(bytes);
	if (!krl)
		fail_msg("%s", err.text);
	return krl;
}

/* Bit i: the certificate with serial number i is revoked. */
static unsigned certs_revoked(const struct alk_krl *krl)
{
	unsigned mask = 0;

	for (unsigned i = 0; i < CERTS; i++) {
		struct alk_cert *cert;
		char file[32];
		uint8_t *blob;
		size_t len;

		snprintf(file, sizeof(file), "c%u-cert.pub", i);
		blob = blob_of(file, &len);
		cert = alk_cert_parse(blob, len, NULL);
		assert_non_null(cert);
		mask |= (unsigned)alk_krl_has_cert(krl, cert) << i;
		alk_cert_free(&cert);
		free(blob);
	}
	return mask;
}

static bool key_revoked(const struct alk_krl *krl, const char *file)
{
	size_t len;
	uint8_t *blob = blob_of(file, &len);
	bool revoked = alk_krl_has_key(krl, blob, len);

	free(blob);
	return revoked;
}

static void certificates(void **state)
{
	static const struct {
		const char *spec;
		const char *with; /* options of ssh-keygen -k */
		unsigned mask;
	} rows[] = {
		{"serial: 3", "-s ca.pub", 1 << 3},
		{"serial: 3-5", "-s ca.pub", 7 << 3},
		{"serial: 1\nserial: 3\nserial: 5\nserial: 8", "-s ca.pub", 0x12a},
		{"serial: 1\nserial: 40000\nserial: 9999999999", "-s ca.pub", 2},
		{"serial: 2-18446744073709551615", "-s ca.pub", 0xffc},
		{"serial: 3", "-s other.pub", 0},
		{"id: id7", "-s ca.pub", 1 << 7},
		{"id: id7\nid: id0", "-s ca.pub", 1 << 7 | 1},
		{"id: id", "-s ca.pub", 0},
		{"id: id7", "-s none", 1 << 7},
		{"serial: 3", "-s none", 1 << 3},
		{"", "-s ca.pub", 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct alk_krl *krl;

		keygen_write("spec", rows[i].spec);
		keygen_run("ssh-keygen -q -k -f krl %s spec", rows[i].with);
		krl = krl_of("krl");
		if (certs_revoked(krl) != rows[i].mask)
			fail_msg("%s: %x", rows[i].spec, certs_revoked(krl));
		assert_false(key_revoked(krl, "a.pub"));
		assert_int_equal(alk_krl_count(krl) > 0, rows[i].spec[0] != '\0');
		alk_krl_free(&krl);
		assert_null(krl);
	}
	assert_false(alk_krl_has_key(NULL, (const uint8_t *)"", 0));
	assert_int_equal(certs_revoked(NULL), 0);
}

static void keys_and_hashes(void **state)
{
	static const char *const how[] = {"key", "sha1", "sha256"};

	(void)state;
	for (size_t i = 0; i < sizeof(how) / sizeof(*how); i++) {
		static const char *const files[] = {"a.pub", "ca.pub"};

		for (size_t k = 0; k < 2; k++) {
			struct alk_krl *krl;

			keygen_run("{ printf '%s: '; cat %s; printf '%s: '; cat old.pub; } >spec; "
				   "ssh-keygen -q -k -f krl spec",
				   how[i], files[k], how[i]);
			krl = krl_of("krl");
			assert_int_equal(alk_krl_count(krl), 2);
			assert_int_equal(key_revoked(krl, "a.pub"), k == 0);
			assert_int_equal(key_revoked(krl, "ca.pub"), k == 1);
			assert_true(key_revoked(krl, "old.pub"));
			assert_false(key_revoked(krl, "b.pub"));
			/* A revoked key or authority takes its certificates along. */
			assert_int_equal(certs_revoked(krl), (1 << CERTS) - 1);
			alk_krl_free(&krl);
		}
	}
	keygen_run("printf 'hash: ' >spec; ssh-keygen -lf b.pub | cut -d' ' -f2 >>spec; "
		   "ssh-keygen -q -k -f krl spec");
	struct alk_krl *krl = krl_of("krl");

	assert_true(key_revoked(krl, "b.pub"));
	alk_krl_free(&krl);
}

static void lists(void **state)
{
	static const struct {
		const char *make;
		unsigned mask;
		bool a, old;
	} rows[] = {
		{"cat a.pub", (1 << CERTS) - 1, true, false},
		{"cat ca.pub", (1 << CERTS) - 1, false, false},
		{"cat c3-cert.pub", (1 << CERTS) - 1, true, false},
		{"cat b.pub", 0, false, false},
		{"{ echo '# gone'; echo; echo ' \t'; sed 's/$/\\r/' old.pub; cat b.pub; }", 0,
		 false, true},
		{"cut -d' ' -f1,2 old.pub | tr -d '\\n'", 0, false, true},
		{"printf ''", 0, false, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct alk_krl *krl;

		keygen_run("%s >list", rows[i].make);
		krl = krl_of("list");
		if (certs_revoked(krl) != rows[i].mask)
			fail_msg("%s: %x", rows[i].make, certs_revoked(krl));
		assert_int_equal(key_revoked(krl, "a.pub"), rows[i].a);
		assert_int_equal(key_revoked(krl, "old.pub"), rows[i].old);
		alk_krl_free(&krl);
	}
}

static void refused(const char *name, const void *bytes, size_t len, const char *why)
{
	struct alk_err err = {""};
	uint8_t *copy = malloc(len ? len : 1); /* so that valgrind sees a read behind it */
	struct alk_krl *krl;

	memcpy(copy, bytes, len);
	krl = alk_krl_parse(name, copy, len, &err);
	free(copy);
	if (krl || strcmp(err.text, why) != 0)
		fail_msg("expected \"%s\", have \"%s\"", why, err.text);
}

static void lists_that_are_refused(void **state)
{
	static const struct {
		const char *make;
		const char *why;
	} rows[] = {
		{"{ cat b.pub; echo rubbish; }",
		 "list:2: not a public key: a line is such as \"ssh-ed25519 AAAA... comment\""},
		{"{ cat b.pub; sed 's/^/restrict /' a.pub; }",
		 "list:2: not a public key: a line is such as \"ssh-ed25519 AAAA... comment\""},
		{"cut -c1-40 a.pub", "list:1: the key is damaged"},
		{"sed s/ssh-ed25519/ssh-rsa/ a.pub",
		 "list:1: the key inside is not of the type that the line names"},
		{"head -c 7 krl",
		 "list:1: not a public key: a line is such as \"ssh-ed25519 AAAA... comment\""},
		{"{ cat a.pub; printf '# \\0\\n'; }", "list:2: there is a NUL byte in the line"},
		{"cut -c1-201 c3-cert.pub", "list:1: the certificate cannot be read"},
	};

	(void)state;
	keygen_run("ssh-keygen -q -k -f krl a.pub");
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		size_t len;
		char *text;

		keygen_run("%s >list", rows[i].make);
		text = keygen_read("list", &len);
		refused("list", text, len, rows[i].why);
		free(text);
	}
}

/* A list of our own making. */
static void put_header(struct craft *craft, unsigned format)
{
	craft->len = 0;
	put(craft, "SSHKRL\n", 8);
	put_number(craft, format, 4);
	put_number(craft, 1, 8);
	put_number(craft, 2, 8);
	put_number(craft, 0, 8);
	put_string(craft, "reserved", 8);
	put_string(craft, "comment", 7);
}

static void put_section(struct craft *craft, uint8_t type, const struct craft *content)
{
	put(craft, &type, 1);
	put_string(craft, content->bytes, content->len);
}

/* A section of certificates of any authority, with one part of `bytes`. */
static void put_certificates(struct craft *craft, uint8_t type, const void *bytes, size_t n)
{
	struct craft content = {.len = 0};

	put_string(&content, "", 0);
	put_string(&content, "", 0);
	put(&content, &type, 1);
	put_string(&content, bytes, n);
	put_section(craft, 1, &content);
}

#define EIGHT "\0\0\0\0\0\0\0"
#define FULL "\xff\xff\xff\xff\xff\xff\xff\xff"

static void sections_that_are_refused(void **state)
{
	static const struct {
		int section; /* 0: a part of a section of certificates, `part` */
		uint8_t part;
		const char *bytes;
		size_t len;
		const char *why; /* NULL: it is taken */
	} rows[] = {
		{0, 0x20, EIGHT "\5", 8, NULL},
		{0, 0x20, "", 0, NULL},
		{0, 0x20, EIGHT "\5\0", 9, "offset 85: a serial number is cut short"},
		{0, 0x20, EIGHT "\0", 8,
		 "offset 77: a serial number is 0, or a range ends before it begins"},
		{0, 0x21, EIGHT "\5" EIGHT "\6", 16, NULL},
		{0, 0x21, EIGHT "\6" EIGHT "\5", 16,
		 "offset 77: a serial number is 0, or a range ends before it begins"},
		{0, 0x21, EIGHT "\0" EIGHT "\5", 16,
		 "offset 77: a serial number is 0, or a range ends before it begins"},
		{0, 0x21, EIGHT "\5" EIGHT "\6\0", 17,
		 "offset 77: a range of serial numbers has a wrong length"},
		{0, 0x21, EIGHT "\5", 8, "offset 77: a range of serial numbers has a wrong length"},
		{0, 0x22, EIGHT "\5\0\0\0\1\1", 13, NULL},
		{0, 0x22, EIGHT "\5\0\0\0\0", 12, NULL},
		{0, 0x22, FULL "\0\0\0\1\1", 13, NULL},
		{0, 0x22, FULL "\0\0\0\1\2", 13,
		 "offset 77: a bitmap goes beyond the greatest serial number"},
		{0, 0x22, EIGHT "\0\0\0\0\1\1", 13, "offset 77: a serial number is 0"},
		{0, 0x22, EIGHT "\5\0\0\0\1\x80", 13,
		 "offset 77: a bitmap of serial numbers is damaged"},
		{0, 0x22, EIGHT "\5\0\0\0\2\1", 13,
		 "offset 77: a bitmap of serial numbers is damaged"},
		{0, 0x23, "\0\0\0\2id", 6, NULL},
		{0, 0x23, "\0\0\0\3id", 6, "offset 77: a key id is damaged"},
		{0, 0x23, "\0\0\0\2i\0", 6, "offset 77: a key id is damaged"},
		{0, 0x24, "", 0, "offset 72: a certificate section of an unknown type"},
		{0, 0x39, "\0\0\0\1x\0\0\0\0\0", 10, NULL},
		{0, 0x39, "\0\0\0\1x\1\0\0\0\0", 10, "offset 77: unknown critical extension `x`"},
		{1, 0, "\0\0\0\0", 4, "offset 64: a section of certificates is cut short"},
		{1, 0, "\0\0\0\2xx\0\0\0\0", 10, "offset 64: the key is damaged"},
		{1, 0, "\0\0\0\0\0\0\0\0\x20", 9, "offset 72: a certificate section is cut short"},
		{2, 0, "", 0, NULL},
		{2, 0, "\0\0\0\1x", 5, "offset 64: the key is damaged"},
		{2, 0, "\0\0\0\5x", 5, "offset 64: a key or hash is cut short"},
		{3, 0, "\0\0\0\1x", 5, "offset 64: a hash has a wrong length"},
		{5, 0, "\0\0\0\1x", 5, "offset 64: a hash has a wrong length"},
		{6, 0, "", 0, "offset 59: a section of an unknown type"},
		{0xfe, 0, "", 0, "offset 59: a section of an unknown type"},
		{0xff, 0, "\0\0\0\1\n\0\0\0\0\0", 10, NULL},
		{0xff, 0, "\0\0\0\1\n\1\0\0\0\0", 10,
		 "offset 64: unknown critical extension `\\x0a`"},
		{0xff, 0, "\0\0\0\1\n\0\0\0\0\0\0", 11, "offset 64: an extension is damaged"},
		{0xff, 0, "\0\0\0\1\n", 5, "offset 64: an extension is damaged"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct craft craft, content = {.len = 0};
		char why[128];

		put_header(&craft, 1);
		put(&content, rows[i].bytes, rows[i].len);
		if (rows[i].section)
			put_section(&craft, (uint8_t)rows[i].section, &content);
		else
			put_certificates(&craft, rows[i].part, rows[i].bytes, rows[i].len);
		if (rows[i].why) {
			snprintf(why, sizeof(why), "krl: %s", rows[i].why);
			refused("krl", craft.bytes, craft.len, why);
		} else {
			struct alk_err err;
			struct alk_krl *krl = alk_krl_parse("krl", craft.bytes, craft.len, &err);

			if (!krl)
				fail_msg("row %zu: %s", i, err.text);
			alk_krl_free(&krl);
		}
	}
}

static void headers(void **state)
{
	struct craft craft;
	struct alk_krl *krl;

	(void)state;
	put_header(&craft, 2);
	refused("krl", craft.bytes, craft.len,
		"krl: offset 8: a version of the format that is not known");
	put_header(&craft, 1);
	for (size_t n = 8; n < craft.len; n++)
		refused("krl", craft.bytes, n, "krl: offset 8: the header is cut short");
	krl = alk_krl_parse("krl", craft.bytes, craft.len, NULL);
	assert_non_null(krl);
	alk_krl_free(&krl);
}

/* Wherever it is cut, it is refused, except between two sections, where nothing can tell. */
static void cut_short(void **state)
{
	unsigned taken = 0;
	uint8_t *bytes;
	size_t len;

	(void)state;
	keygen_run("{ echo 'serial: 1-4'; echo 'serial: 9'; echo 'id: x'; echo 'id: y'; "
		   "printf 'sha1: '; cat a.pub; printf 'sha256: '; cat b.pub; "
		   "printf 'key: '; cat old.pub; } >spec; ssh-keygen -q -k -s ca.pub -f krl spec");
	bytes = (uint8_t *)keygen_read("krl", &len);
	for (size_t n = 0; n < len; n++) {
		uint8_t *part = malloc(n ? n : 1);
		struct alk_krl *krl;

		memcpy(part, bytes, n);
		krl = alk_krl_parse("krl", part, n, NULL);
		taken += krl != NULL;
		alk_krl_free(&krl);
		free(part);
	}
	/* Nothing at all is an empty list; behind the header and the first three of four
	 * sections. */
	assert_int_equal(taken, 5);
	free(bytes);
}

static EVP_PKEY *signer_new(struct craft *key)
{
	EVP_PKEY *pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	uint8_t raw[32];
	size_t n = sizeof(raw);

	assert_non_null(pkey);
	assert_int_equal(EVP_PKEY_get_raw_public_key(pkey, raw, &n), 1);
	key->len = 0;
	put_string(key, "ssh-ed25519", 11);
	put_string(key, raw, n);
	return pkey;
}

static void sign(struct craft *craft, EVP_PKEY *pkey, const struct craft *key)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	struct craft signature = {.len = 0};
	uint8_t raw[64];
	size_t n = sizeof(raw);

	put_section(craft, 4, key);
	assert_int_equal(EVP_DigestSignInit(ctx, NULL, NULL, NULL, pkey), 1);
	assert_int_equal(EVP_DigestSign(ctx, raw, &n, craft->bytes, craft->len), 1);
	EVP_MD_CTX_free(ctx);
	put_string(&signature, "ssh-ed25519", 11);
	put_string(&signature, raw, n);
	put_string(craft, signature.bytes, signature.len);
}

static void signatures(void **state)
{
	struct craft craft, key, second_key, listed = {.len = 0};
	EVP_PKEY *pkey = signer_new(&key), *second = signer_new(&second_key);
	struct alk_err err = {""};
	struct alk_krl *krl;
	FILE *f;

	(void)state;
	put_header(&craft, 1);
	put_certificates(&craft, 0x20, EIGHT "\5", 8);
	sign(&craft, pkey, &key);
	/* ssh-keygen takes it too. */
	f = fopen(keygen_path("krl"), "we");
	assert_int_equal(fwrite(craft.bytes, 1, craft.len, f), craft.len);
	assert_int_equal(fclose(f), 0);
	keygen_run("! ssh-keygen -Q -f krl c5-cert.pub && ssh-keygen -Q -f krl c6-cert.pub");
	krl = krl_of("krl");
	assert_int_equal(certs_revoked(krl), 1 << 5);
	alk_krl_free(&krl);
	craft.bytes[30] ^= 1;
	assert_null(alk_krl_parse("krl", craft.bytes, craft.len, &err));
	assert_non_null(strstr(err.text, "the signature is wrong"));
	craft.bytes[30] ^= 1;
	sign(&craft, pkey, &key);
	assert_null(alk_krl_parse("krl", craft.bytes, craft.len, &err));
	assert_non_null(strstr(err.text, "it is signed twice by the same key"));

	put_header(&craft, 1);
	sign(&craft, pkey, &key);
	put_certificates(&craft, 0x20, EIGHT "\5", 8);
	assert_null(alk_krl_parse("krl", craft.bytes, craft.len, &err));
	assert_non_null(strstr(err.text, "a section behind the signature"));

	put_string(&listed, key.bytes, key.len);
	put_header(&craft, 1);
	put_section(&craft, 2, &listed);
	sign(&craft, pkey, &key);
	refused("krl", craft.bytes, craft.len, "krl: it revokes the keys that signed it");
	sign(&craft, second, &second_key);
	krl = alk_krl_parse("krl", craft.bytes, craft.len, &err);
	assert_non_null(krl);
	alk_krl_free(&krl);
	EVP_PKEY_free(pkey);
	EVP_PKEY_free(second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(certificates),
		cmocka_unit_test(keys_and_hashes),
		cmocka_unit_test(lists),
		cmocka_unit_test(lists_that_are_refused),
		cmocka_unit_test(sections_that_are_refused),
		cmocka_unit_test(headers),
		cmocka_unit_test(cut_short),
		cmocka_unit_test(signatures),
	};

	return cmocka_run_group_tests(tests, setup, keygen_teardown);
}
