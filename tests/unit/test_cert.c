/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Certificates that ssh-keygen signed, and what becomes of them when a byte is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <time.h>
#include "cert.h"
#include "keygen.h"
#include "wirecraft.h"

struct row {
	const char *args; /* of ssh-keygen -s */
	const char *ca;	  /* "ca" when NULL */
	const char *remote_addr;
	const char *principals;
	bool optional;
	enum alk_cert_verdict verdict;
	const char *why;
};

static struct alk_cert *cert_of(const char *file)
{
	struct alk_err err = {""};
	size_t len;
	uint8_t *blob = blob_of(file, &len);
	struct alk_cert *cert = alk_cert_parse(blob, len, &err);

	free(blob);
	if (!cert)
		fail_msg("%s", err.text);
	return cert;
}

static struct alk_cert *signed_cert(const char *ca, const char *args)
{
	keygen_run("rm -f user-cert.pub; ssh-keygen -q -s %s -I 'some id' %s user.pub",
		   ca ? ca : "ca", args);
	return cert_of("user-cert.pub");
}

static struct alk_cert_ask ask_new(void)
{
	return (struct alk_cert_ask){.trusted = true,
				     .now = time(NULL),
				     .user = "alice",
				     .remote_addr = "192.0.2.7"};
}

static int setup(void **state)
{
	if (keygen_setup(state) < 0)
		return -1;
	keygen_run("ssh-keygen -q -t ed25519 -N '' -f ca; ssh-keygen -q -t ed25519 -N '' -f user");
	keygen_run("for b in 256 384 521; do ssh-keygen -q -t ecdsa -b $b -N '' -f ec$b; done");
	keygen_run("ssh-keygen -q -t rsa -b 3072 -N '' -f rsa; ssh-keygen -q -t rsa -b 2048 -N '' "
		   "-f rsa2048");
	return 0;
}

static void judges_as_sshd(void **state)
{
	static const struct row rows[] = {
		{"-n alice", .verdict = ALK_CERT_OK},
		{"-n bob,alice", .verdict = ALK_CERT_OK},
		{"-n alice -V always:forever", .verdict = ALK_CERT_OK},
		{"-n alice", "ec256", .verdict = ALK_CERT_OK},
		{"-n alice", "ec384", .verdict = ALK_CERT_OK},
		{"-n alice", "ec521", .verdict = ALK_CERT_OK},
		{"-n alice -t rsa-sha2-256", "rsa", .verdict = ALK_CERT_OK},
		{"-n alice -t rsa-sha2-512", "rsa", .verdict = ALK_CERT_OK},
		{"-n alice -O extension:new@example.com=1", .verdict = ALK_CERT_OK},
		{"-n alice -O source-address=192.0.2.0/24", .verdict = ALK_CERT_OK},
		{"-n alice -O source-address=10.0.0.0/8,192.0.2.7", .verdict = ALK_CERT_OK},
		{"-n alice -O verify-required", .verdict = ALK_CERT_OK},
		{"", .optional = true, .verdict = ALK_CERT_OK},
		{"-n web", .principals = "db,web", .verdict = ALK_CERT_OK},
		{"-n alice -t ssh-rsa", "rsa", .verdict = ALK_CERT_ALGORITHM,
		 .why = "authority: ssh-rsa signatures (SHA-1) are not taken"},
		{"-n alice", "rsa2048", .verdict = ALK_CERT_ALGORITHM,
		 .why = "authority: an RSA key needs 3072 bits at least"},
		{"-n alice -V 20200101:20200102", .verdict = ALK_CERT_EXPIRED, .why = "expired"},
		{"-n alice -V 20500101:20500102", .verdict = ALK_CERT_NOT_YET,
		 .why = "not yet valid"},
		{"-n bob", .verdict = ALK_CERT_PRINCIPAL, .why = "wrong principal"},
		{"-n alicex", .verdict = ALK_CERT_PRINCIPAL, .why = "wrong principal"},
		{"", .verdict = ALK_CERT_NO_PRINCIPALS, .why = "lacks principal list"},
		{"", .optional = true, .principals = "db,web", .verdict = ALK_CERT_PRINCIPAL,
		 .why = "wrong principal"},
		{"-n alice", .principals = "db,web", .verdict = ALK_CERT_PRINCIPAL,
		 .why = "wrong principal"},
		{"-n web", .principals = "db,,web", .verdict = ALK_CERT_PRINCIPAL,
		 .why = "wrong principal"},
		{"-h -n alice", .verdict = ALK_CERT_NOT_USER, .why = "not a user certificate"},
		{"-n alice -O critical:new@example.com=1", .verdict = ALK_CERT_OPTION,
		 .why = "unknown critical option `new@example.com`"},
		{"-n alice -O force-command=true", .verdict = ALK_CERT_OPTION,
		 .why = "critical option `force-command` cannot be honoured: there is no shell"},
		{"-n alice -O source-address=10.0.0.0/8", .verdict = ALK_CERT_ADDRESS,
		 .why = "source address"},
		{"-n alice -O source-address=::/0", .verdict = ALK_CERT_ADDRESS,
		 .why = "source address"},
		{"-n alice -O source-address=192.0.2.7", .remote_addr = "host",
		 .verdict = ALK_CERT_ADDRESS, .why = "source address"},
		{"-n alice -O source-address=10.0.0.0/8", .remote_addr = "::ffff:10.1.2.3",
		 .verdict = ALK_CERT_OK},
		{"-n alice -O source-address=10.0.0.0/8", .remote_addr = "::ffff:11.1.2.3",
		 .verdict = ALK_CERT_ADDRESS, .why = "source address"},
		/* Lists that ssh-keygen would not make by itself: one good entry does not save
		 * them. */
		{"-n alice -O critical:source-address=192.0.2.7,nonsense",
		 .verdict = ALK_CERT_OPTION, .why = "critical option `source-address` is damaged"},
		{"-n alice -O critical:source-address=192.0.2.7,", .verdict = ALK_CERT_OPTION,
		 .why = "critical option `source-address` is damaged"},
		{"-n alice -O critical:source-address=192.0.2.7,0123456789012345678901234567890123456789012345678901234567890123",
		 .verdict = ALK_CERT_OPTION, .why = "critical option `source-address` is damaged"},
		{"-n alice -O critical:source-address", .verdict = ALK_CERT_OPTION,
		 .why = "critical option `source-address` is damaged"},
		{"-n alice -O critical:verify-required=1", .verdict = ALK_CERT_OPTION,
		 .why = "critical option `verify-required` is damaged"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		const struct row *row = &rows[i];
		struct alk_cert *cert = signed_cert(row->ca, row->args);
		struct alk_cert_ask ask = ask_new();
		struct alk_err err = {""};

		ask.principals = row->principals;
		ask.principals_optional = row->optional;
		if (row->remote_addr)
			ask.remote_addr = row->remote_addr;
		if (alk_cert_check(cert, &ask, &err) != row->verdict)
			fail_msg("%s: %s", row->args, err.text);
		assert_string_equal(err.text, row->why ? row->why : "");
		ask.trusted = false;
		assert_int_equal(alk_cert_check(cert, &ask, &err), ALK_CERT_UNTRUSTED);
		alk_cert_free(&cert);
		assert_null(cert);
	}
}

static void reads_every_field(void **state)
{
	struct alk_cert *cert = signed_cert(NULL, "-n alice,bob -z 77 -V 20200101Z:20300101Z");
	size_t len;
	uint8_t *blob;

	(void)state;
	assert_string_equal(cert->type, "ssh-ed25519-cert-v01@openssh.com");
	assert_string_equal(cert->key_type, "ssh-ed25519");
	assert_string_equal(cert->key_id, "some id");
	assert_int_equal(cert->serial, 77);
	assert_int_equal(cert->kind, ALK_CERT_KIND_USER);
	assert_int_equal(cert->n_principals, 2);
	assert_string_equal(cert->principal[1], "bob");
	assert_int_equal(cert->valid_after, 1577836800);
	assert_int_equal(cert->valid_before, 1893456000);
	assert_true(cert->port_forwarding);
	blob = blob_of("user.pub", &len);
	assert_int_equal(len, cert->key_len);
	assert_memory_equal(blob, cert->key, len);
	free(blob);
	blob = blob_of("ca.pub", &len);
	assert_int_equal(len, cert->ca_len);
	assert_memory_equal(blob, cert->ca, len);
	free(blob);
	alk_cert_free(&cert);
	cert = signed_cert(NULL, "-n alice -O clear");
	assert_false(cert->port_forwarding);
	alk_cert_free(&cert);
}

static void reads_each_type(void **state)
{
	static const char *const users[] = {"ec256", "ec384", "ec521", "rsa"};
	struct alk_cert_ask ask = ask_new();

	(void)state;
	for (size_t i = 0; i < sizeof(users) / sizeof(*users); i++) {
		char file[32];
		struct alk_cert *cert;
		size_t len;
		uint8_t *blob;

		keygen_run("ssh-keygen -q -s ca -I id -n alice %s.pub", users[i]);
		snprintf(file, sizeof(file), "%s-cert.pub", users[i]);
		cert = cert_of(file);
		assert_int_equal(alk_cert_check(cert, &ask, NULL), ALK_CERT_OK);
		assert_string_equal(alk_cert_key_type(cert->type), cert->key_type);
		snprintf(file, sizeof(file), "%s.pub", users[i]);
		blob = blob_of(file, &len);
		assert_int_equal(len, cert->key_len);
		assert_memory_equal(blob, cert->key, len);
		free(blob);
		alk_cert_free(&cert);
	}
	assert_null(alk_cert_key_type("ssh-ed25519"));
	assert_null(alk_cert_key_type("ssh-dss-cert-v01@openssh.com"));
}

static void time_is_exact(void **state)
{
	struct alk_cert *cert = signed_cert(NULL, "-n alice -V 20200101Z:20300101Z");
	struct alk_cert_ask ask = ask_new();
	static const struct {
		int64_t now;
		enum alk_cert_verdict verdict;
	} rows[] = {
		{-1, ALK_CERT_NOT_YET},		{1577836799, ALK_CERT_NOT_YET},
		{1577836800, ALK_CERT_OK},	{1893455999, ALK_CERT_OK},
		{1893456000, ALK_CERT_EXPIRED}, {INT64_MAX, ALK_CERT_EXPIRED},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		ask.now = rows[i].now;
		assert_int_equal(alk_cert_check(cert, &ask, NULL), rows[i].verdict);
	}
	alk_cert_free(&cert);
}

/* Each byte of it is under the signature or is the signature: none can change. */
static void no_byte_can_change(void **state)
{
	struct alk_cert_ask ask = ask_new();
	struct alk_cert *cert = signed_cert(NULL, "-n alice -O source-address=192.0.2.7");
	size_t len;
	uint8_t *blob = blob_of("user-cert.pub", &len);

	(void)state;
	alk_cert_free(&cert);
	for (size_t i = 0; i < len; i++) {
		blob[i] ^= 1;
		cert = alk_cert_parse(blob, len, NULL);
		if (cert && alk_cert_check(cert, &ask, NULL) == ALK_CERT_OK)
			fail_msg("byte %zu may change", i);
		alk_cert_free(&cert);
		blob[i] ^= 1;
	}
	free(blob);
}

static void every_length_is_refused(void **state)
{
	struct alk_cert *cert = signed_cert(NULL, "-n alice,bob");
	struct alk_err err;
	size_t len;
	uint8_t *blob = blob_of("user-cert.pub", &len), *longer = calloc(1, ALK_CERT_MAX + 1);

	(void)state;
	alk_cert_free(&cert);
	for (size_t n = 0; n < len; n++) {
		uint8_t *part = malloc(n ? n : 1); /* so that valgrind sees a read behind it */

		memcpy(part, blob, n);
		err.text[0] = '\0';
		assert_null(alk_cert_parse(part, n, &err));
		assert_non_null(strstr(err.text, "certificate: "));
		free(part);
	}
	memcpy(longer, blob, len);
	assert_null(alk_cert_parse(longer, len + 1, &err));
	assert_string_equal(err.text, "certificate: there are bytes behind it");
	assert_null(alk_cert_parse(longer, ALK_CERT_MAX + 1, &err));
	assert_string_equal(err.text, "certificate: it is longer than 256 KiB");
	free(longer);
	free(blob);
}

/* A certificate of our own making, for what ssh-keygen does not make; its signature is none. */
struct recipe {
	const char *type;
	const char *id;
	size_t id_len, nonce, principals, key;
	const char *critical, *extensions; /* bytes of 8 */
	const char *ca;
	uint32_t kind;
	const char *why;
};

static void cook(struct craft *craft, const struct recipe *recipe)
{
	const char *type = recipe->type ? recipe->type : "ssh-ed25519-cert-v01@openssh.com";
	const char *ca = recipe->ca ? recipe->ca : "ssh-ed25519";
	struct craft inner = {.len = 0};

	craft->len = 0;
	put_string(craft, type, strlen(type));
	put_string(craft, inner.bytes, recipe->nonce);
	put_string(craft, inner.bytes, recipe->key ? recipe->key : 32);
	put_number(craft, 1, 8);
	put_number(craft, recipe->kind ? recipe->kind : 1, 4);
	put_string(craft, recipe->id ? recipe->id : "id", recipe->id_len ? recipe->id_len : 2);
	for (size_t i = 0; i < recipe->principals; i++)
		put_string(&inner, "u", 1);
	put_string(craft, inner.bytes, inner.len);
	put_number(craft, 0, 8);
	put_number(craft, UINT64_MAX, 8);
	put_string(craft, recipe->critical, recipe->critical ? 8 : 0);
	put_string(craft, recipe->extensions, recipe->extensions ? 8 : 0);
	put_string(craft, "reserved", 8);
	inner.len = 0;
	put_string(&inner, ca, strlen(ca));
	put_string(&inner, craft->bytes, 32);
	put_string(craft, inner.bytes, inner.len);
	put_string(craft, "signature", 9);
}

static void refuses_what_is_odd(void **state)
{
	static const struct recipe recipes[] = {
		{.nonce = 0},
		{.nonce = 4096},
		{.principals = 256},
		{.critical = "\0\0\0\0\0\0\0\0", .extensions = "\0\0\0\0\0\0\0\0"},
		{.principals = 257, .why = "it has more than 256 principals"},
		{.id = "a\0b", .id_len = 3, .why = "a text in it has a NUL byte"},
		{.kind = 3, .why = "it is neither for a user nor for a host"},
		{.key = 31, .why = "the key has a wrong length"},
		{.critical = "\0\0\0\2xxxx", .why = "its critical options are damaged"},
		{.critical = "\0\0\0\4xxxx", .why = "its critical options are damaged"},
		{.extensions = "\0\0\0\5xxxx", .why = "its extensions are damaged"},
		{.ca = "ssh-ed25519-cert-v01@openssh.com",
		 .why = "the key of its authority is a certificate itself"},
		{.type = "ssh-ed25519", .why = "it is of a type that is not taken here"},
		{.type = "ssh-dss-cert-v01@openssh.com",
		 .why = "it is of a type that is not taken here"},
	};
	struct craft *craft = malloc(sizeof(*craft));

	(void)state;
	for (size_t i = 0; i < sizeof(recipes) / sizeof(*recipes); i++) {
		struct alk_err err = {""};
		struct alk_cert *cert;

		cook(craft, &recipes[i]);
		cert = alk_cert_parse(craft->bytes, craft->len, &err);
		if (!recipes[i].why && !cert)
			fail_msg("row %zu: %s", i, err.text);
		if (recipes[i].why) {
			assert_null(cert);
			assert_string_equal(err.text + strlen("certificate: "), recipes[i].why);
		}
		alk_cert_free(&cert);
	}
	free(craft);
}

/* No authority that we know signs so; the verdict must not depend on that. */
static void an_authority_of_another_kind(void **state)
{
	const struct recipe recipe = {.ca = "ssh-dss", .principals = 1};
	struct craft *craft = malloc(sizeof(*craft));
	struct alk_cert_ask ask = ask_new();
	struct alk_err err = {""};
	struct alk_cert *cert;

	(void)state;
	cook(craft, &recipe);
	cert = alk_cert_parse(craft->bytes, craft->len, &err);
	assert_non_null(cert);
	assert_int_equal(alk_cert_check(cert, &ask, &err), ALK_CERT_ALGORITHM);
	assert_string_equal(err.text, "authority: a key of a type that is not taken here");
	assert_string_equal(alk_cert_verdict_str(ALK_CERT_ALGORITHM),
			    "the authority's signature is of a refused kind");
	alk_cert_free(&cert);
	free(craft);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(judges_as_sshd),
		cmocka_unit_test(reads_every_field),
		cmocka_unit_test(reads_each_type),
		cmocka_unit_test(time_is_exact),
		cmocka_unit_test(no_byte_can_change),
		cmocka_unit_test(every_length_is_refused),
		cmocka_unit_test(refuses_what_is_odd),
		cmocka_unit_test(an_authority_of_another_kind),
	};

	return cmocka_run_group_tests(tests, setup, keygen_teardown);
}
