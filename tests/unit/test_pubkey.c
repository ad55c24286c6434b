/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What a client logs in with: public keys and certificates of the real ssh-keygen, identities of
 * every type, and what an agent may answer. */
#include "pubkey.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "agent.h"
#include "identity.h"
#include "keygen.h"

static const struct {
	const char *make, *file, *type;
} kinds[] = {
	{"-t ed25519", "ed", "ssh-ed25519"},
	{"-t ecdsa -b 256", "e256", "ecdsa-sha2-nistp256"},
	{"-t ecdsa -b 384", "e384", "ecdsa-sha2-nistp384"},
	{"-t ecdsa -b 521", "e521", "ecdsa-sha2-nistp521"},
	{"-t rsa -b 3072", "rsa", "ssh-rsa"},
};

#define KINDS (sizeof(kinds) / sizeof(*kinds))

struct blob {
	uint8_t *p;
	size_t len;
};

static struct blob keys[KINDS], certs[KINDS];

static struct blob read_pub(const char *file)
{
	struct blob blob = {0};
	struct alk_err err;
	size_t len;
	char *text = keygen_read(file, &len);

	if (alk_pubkey_parse("FILE", text, len, &blob.p, &blob.len, &err) < 0)
		fail_msg("%s: %s", file, err.text);
	free(text);
	return blob;
}

static int setup(void **state)
{
	if (keygen_setup(state) < 0)
		return -1;
	keygen_run("ssh-keygen -q -t ed25519 -N '' -f ca");
	for (size_t i = 0; i < KINDS; i++) {
		char file[32];

		keygen_run("ssh-keygen -q %s -N '' -f %s && ssh-keygen -q -s ca -I id -n me %s.pub",
			   kinds[i].make, kinds[i].file, kinds[i].file);
		snprintf(file, sizeof(file), "%s.pub", kinds[i].file);
		keys[i] = read_pub(file);
		snprintf(file, sizeof(file), "%s-cert.pub", kinds[i].file);
		certs[i] = read_pub(file);
	}
	return 0;
}

static int teardown(void **state)
{
	for (size_t i = 0; i < KINDS; i++) {
		free(keys[i].p);
		free(certs[i].p);
	}
	return keygen_teardown(state);
}

static void test_types(void **state)
{
	(void)state;
	for (size_t i = 0; i < KINDS; i++) {
		char name[64];

		snprintf(name, sizeof(name), "%s-cert-v01@openssh.com", kinds[i].type);
		assert_string_equal(alk_pubkey_type(keys[i].p, keys[i].len), kinds[i].type);
		assert_string_equal(alk_pubkey_type(certs[i].p, certs[i].len), name);
		assert_false(alk_pubkey_is_cert(keys[i].p, keys[i].len));
		assert_true(alk_pubkey_is_cert(certs[i].p, certs[i].len));
	}
}

static void test_certifies(void **state)
{
	(void)state;
	for (size_t i = 0; i < KINDS; i++)
		for (size_t k = 0; k < KINDS; k++) {
			assert_int_equal(alk_pubkey_certifies(certs[i].p, certs[i].len, keys[k].p,
							      keys[k].len),
					 i == k);
			assert_false(alk_pubkey_certifies(keys[i].p, keys[i].len, keys[k].p,
							  keys[k].len));
			assert_false(alk_pubkey_certifies(keys[i].p, keys[i].len, certs[k].p,
							  certs[k].len));
		}
	keygen_run("ssh-keygen -q -t ed25519 -N '' -f other");
	struct blob other = read_pub("other.pub");

	assert_false(alk_pubkey_certifies(certs[0].p, certs[0].len, other.p, other.len));
	free(other.p);
}

/* Cut anywhere a key is damaged; a certificate is at least up to the end of its key. */
static void test_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < KINDS; i++)
		for (size_t n = 0; n < certs[i].len; n++) {
			uint8_t *copy = malloc(n ? n : 1);

			assert_non_null(copy);
			memcpy(copy, certs[i].p, n);
			alk_pubkey_check("FILE", copy, n, NULL);
			assert_false(n <= keys[i].len && alk_pubkey_is_cert(copy, n));
			if (n < keys[i].len) {
				memcpy(copy, keys[i].p, n);
				assert_int_equal(alk_pubkey_check("FILE", copy, n, NULL), -EINVAL);
			}
			free(copy);
		}
}

static void test_files(void **state)
{
	static const char *const rows[][2] = {
		{"", "not a public key"},
		{"\n", "not a public key"},
		{"ssh-ed25519", "not a public key"},
		{"ssh-ed25519 ", "not a public key"},
		{"ssh-ed25519 !!!!", "not a public key"},
		{"ssh-ed25519 AAAA", "damaged"},
		{"ssh-ed25519 AAAAB3NzaC1kc3MAAAAA", "ssh-dss"},
		{"ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIEJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJC",
		 "another type"},
		{"ssh-ed25519x AAAAC3NzaC1lZDI1NTE5AAAAIEJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJC",
		 "another type"},
		{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCAAAA",
		 "damaged"},
	};
	struct alk_err err;
	struct blob blob;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		assert_int_equal(alk_pubkey_parse("FILE", rows[i][0], strlen(rows[i][0]), &blob.p,
						  &blob.len, &err),
				 -EINVAL);
		assert_null(blob.p);
		if (!strstr(err.text, rows[i][1]) || !strstr(err.text, "FILE"))
			fail_msg("%s: %s", rows[i][0], err.text);
	}
	keygen_run("ssh-keygen -q -t rsa -b 2048 -N '' -f small");
	size_t len;
	char *text = keygen_read("small.pub", &len);

	assert_int_equal(alk_pubkey_parse("FILE", text, len, &blob.p, &blob.len, &err), -EINVAL);
	assert_non_null(strstr(err.text, "2048 bits"));
	free(text);
	/* without a comment, without a line's end, with CRLF, with tabs */
	keygen_run(
		"cut -d' ' -f1,2 ed.pub | tr -d '\\n' > plain; printf '\\r\\nx' | cat plain - > crlf;"
		" tr ' ' '\\t' < plain > tabs");
	for (size_t i = 0; i < 3; i++) {
		blob = read_pub((const char *const[]){"plain", "crlf", "tabs"}[i]);
		assert_int_equal(blob.len, keys[0].len);
		assert_memory_equal(blob.p, keys[0].p, blob.len);
		free(blob.p);
	}
}

static void test_identities(void **state)
{
	struct alk_err err;

	(void)state;
	for (size_t i = 0; i < KINDS; i++) {
		for (int encrypted = 0; encrypted < 2; encrypted++) {
			uint8_t *blob = NULL;
			size_t len, blob_len;
			bool seen = false;
			char *text;
			ssh_key key;

			keygen_run("cp %s k; ssh-keygen -q -p -a 1 -P '' -N '%s' -f k",
				   kinds[i].file, encrypted ? "secret" : "");
			text = keygen_read("k", &len);
			assert_int_equal(alk_identity_public("FILE", text, len, &blob, &blob_len,
							     &seen, &err),
					 0);
			assert_int_equal(seen, encrypted);
			assert_int_equal(blob_len, keys[i].len);
			assert_memory_equal(blob, keys[i].p, blob_len);
			free(blob);
			key = alk_identity_parse("FILE", text, len, NULL, NULL, &err);
			assert_true((key != NULL) == !encrypted);
			ssh_key_free(key);
			free(text);
		}
	}
}

/* Any byte of a key changed: refused, or a key that libssh holds to be whole; never a crash or a
 * leak. */
static void test_identity_damage(void **state)
{
	(void)state;
	for (size_t i = 1; i < KINDS; i++) {
		size_t len;
		char *text = keygen_read(kinds[i].file, &len);

		for (size_t n = 40; n < len - 40; n += 7) {
			struct alk_err err = {""};
			char was = text[n];
			ssh_key key;

			text[n] = was == 'A' ? 'B' : 'A';
			key = alk_identity_parse("FILE", text, len, NULL, NULL, &err);
			assert_true((key == NULL) == (err.text[0] != '\0'));
			ssh_key_free(key);
			text[n] = was;
		}
		free(text);
	}
}

#define KEYS(bytes_) alk_agent_keys((const uint8_t *)(bytes_), sizeof(bytes_) - 1, list, 2)

static void test_agent_keys(void **state)
{
	struct alk_agent_key list[2];

	(void)state;
	assert_int_equal(KEYS(""), -EPROTO);
	assert_int_equal(KEYS("\x0c"), -EPROTO);
	assert_int_equal(KEYS("\x05"), -EPROTO);
	assert_int_equal(KEYS("\x0c\0\0\0\0"), 0);
	assert_int_equal(KEYS("\x0c\0\0\0\0x"), -EPROTO);
	assert_int_equal(KEYS("\x0c\0\0\0\1\0\0\0\1k"), -EPROTO);
	assert_int_equal(KEYS("\x0c\0\0\0\1\0\0\0\1k\0\0\0\1c"), 1);
	assert_int_equal(list[0].len, 1);
	assert_int_equal(list[0].blob[0], 'k');
	assert_int_equal(KEYS("\x0c\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0\1k\0\0\0\0"), 1);
	assert_int_equal(KEYS("\x0c\0\0\0\3\0\0\0\1a\0\0\0\0\0\0\0\1b\0\0\0\0\0\0\0\1c\0\0\0\0"),
			 2);
	assert_int_equal(KEYS("\x0c\xff\xff\xff\xff\0\0\0\1a\0\0\0\0"), -EPROTO);
}

#define SIGNATURE(bytes_) alk_agent_signature((const uint8_t *)(bytes_), sizeof(bytes_) - 1, &p, &n)

static void test_agent_signature(void **state)
{
	const uint8_t *p;
	size_t n;

	(void)state;
	assert_int_equal(SIGNATURE(""), -EPROTO);
	assert_int_equal(SIGNATURE("\x05"), -EACCES);
	assert_int_equal(SIGNATURE("\x05x"), -EPROTO);
	assert_int_equal(SIGNATURE("\x0e"), -EPROTO);
	assert_int_equal(SIGNATURE("\x0e\0\0\0\0"), -EPROTO);
	assert_int_equal(SIGNATURE("\x0e\0\0\0\x0a\0\0\0\1t\0\0\0\1s"), 0);
	assert_int_equal(n, 10);
	assert_memory_equal(p, "\0\0\0\1t\0\0\0\1s", 10);
	assert_int_equal(SIGNATURE("\x0e\0\0\0\x0a\0\0\0\1t\0\0\0\1sx"), -EPROTO);
	assert_int_equal(SIGNATURE("\x0e\0\0\0\x0b\0\0\0\1t\0\0\0\1sx"), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_types),	   cmocka_unit_test(test_certifies),
		cmocka_unit_test(test_cut),	   cmocka_unit_test(test_files),
		cmocka_unit_test(test_identities), cmocka_unit_test(test_identity_damage),
		cmocka_unit_test(test_agent_keys), cmocka_unit_test(test_agent_signature),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
