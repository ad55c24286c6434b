/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Who may come in: lines, authorities and revocations together, as one answer with its reason. */
#include "auth.h"
#include "base64.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <cmocka.h>

#include "keygen.h"

static int setup(void **state)
{
	if (keygen_setup(state) < 0)
		return -1;
	keygen_run(
		"for k in host key other ca; do ssh-keygen -q -t ed25519 -N '' -C $k -f $k; done");
	return 0;
}

static char told[400];

static void on_bad(void *user, const char *name, unsigned line, const char *why)
{
	(void)user;
	(void)name;
	snprintf(told, sizeof(told), "%u: %s", line, why);
}

/* NULL-terminated pairs of names and values. */
static struct alk_conf *conf_of(const char *const *pairs)
{
	struct alk_conf *conf = alk_conf_new(ALK_ROLE_SUPERVISOR);
	struct alk_err err = {""};
	int rc;

	assert_non_null(conf);
	rc = alk_conf_set(conf, "key", keygen_path("host"), "flag", &err);
	for (; rc == 0 && *pairs; pairs += 2)
		rc = alk_conf_set(conf, pairs[0], pairs[1], "flag", &err);
	if (rc == 0)
		rc = alk_conf_finish(conf, &err);
	if (rc == 0)
		rc = alk_conf_read_files(conf, &err);
	if (rc < 0)
		fail_msg("%s", err.text);
	return conf;
}

static struct alk_auth *auth_of(const char *const *pairs, struct alk_err *err)
{
	struct alk_conf *conf = conf_of(pairs);
	struct alk_auth *auth;

	told[0] = '\0';
	auth = alk_auth_new(conf, on_bad, NULL, err);
	alk_conf_free(&conf);
	return auth;
}

/* The blob of a .pub file, to be freed. */
static uint8_t *blob_of(const char *file, size_t *len)
{
	char *text = keygen_read(file, NULL), *rest = text, *base64;
	uint8_t *blob;
	ssize_t n;

	strsep(&rest, " ");
	base64 = strsep(&rest, " \n");
	blob = malloc(strlen(base64));
	assert_non_null(blob);
	n = alk_base64_decode(base64, strlen(base64), blob, strlen(base64));
	assert_true(n > 0);
	*len = (size_t)n;
	free(text);
	return blob;
}

/* Asks about a .pub or -cert.pub file; `why` must be in the reason, NULL: let in. */
static struct alk_auth_answer ask(const struct alk_auth *auth, const char *file, const char *user,
				  bool mapped, const char *why)
{
	struct alk_auth_ask about = {.user = user,
				     .remote_addr = "192.0.2.7",
				     .now = time(NULL),
				     .mapped = mapped};
	struct alk_auth_answer answer;
	struct alk_cert *cert = NULL;
	struct alk_err err = {""};
	size_t len;
	uint8_t *blob = blob_of(file, &len);
	bool good;

	about.key = blob;
	about.key_len = len;
	if (strstr(file, "-cert")) {
		cert = alk_cert_parse(blob, len, &err);
		assert_non_null(cert);
		about.cert = cert;
		about.key = cert->key;
		about.key_len = cert->key_len;
	}
	good = alk_auth_check(auth, &about, &answer);
	assert_int_equal(good, answer.good);
	if (good != (why == NULL) || (why && !strstr(answer.why, why)))
		fail_msg("%s as %s: %d, %s", file, user, good, answer.why);
	if (answer.principal)
		assert_true(strcmp(answer.principal, "anna") == 0 ||
			    strcmp(answer.principal, "bert") == 0);
	answer.principal = NULL; /* it goes with the certificate */
	alk_cert_free(&cert);
	free(blob);
	return answer;
}

static void test_lines(void **state)
{
	struct alk_auth_answer answer;
	struct alk_err err = {""};
	struct alk_auth *auth;

	(void)state;
	keygen_run(
		"{ echo \"expiry-time=\\\"20200101\\\" $(cat key.pub)\"; "
		"echo \"from=\\\"10.0.0.0/8\\\" $(cat key.pub)\"; "
		"echo \"permitopen=\\\"a:1\\\" $(cat key.pub)\"; echo \"nonsense $(cat key.pub)\"; "
		"echo \"from=\\\"10.0.0.0/8\\\" $(cat other.pub)\"; "
		"echo \"cert-authority $(cat ca.pub)\"; } >authorized");
	auth = auth_of((const char *[]){"authorized_keys", keygen_path("authorized"), NULL}, &err);
	assert_non_null(auth);
	assert_int_equal(alk_auth_key_count(auth), 4);
	assert_int_equal(alk_auth_authority_count(auth), 1);
	assert_non_null(strstr(told, "4: there is no option nonsense"));
	assert_non_null(strstr(alk_auth_bad_line(auth), "authorized:4: there is no option"));
	assert_string_equal(alk_auth_key_types(auth), "ssh-ed25519");
	assert_null(alk_auth_revoked(auth));
	answer = ask(auth, "key.pub", "anyone", false, NULL);
	assert_int_equal(answer.options->n_open, 1);
	ask(auth, "other.pub", "anyone", false, "source address (from=, line 5)");
	ask(auth, "ca.pub", "anyone", false, "not authorized");
	ask(auth, "host.pub", "anyone", false, "not authorized");
	/* a policy decides about plain keys: no line is asked */
	assert_null(ask(auth, "host.pub", "anyone", true, NULL).options);
	alk_auth_free(&auth);
	assert_null(auth);
	alk_auth_free(&auth);
}

static void test_certificates(void **state)
{
	struct alk_err err = {""};
	struct alk_auth *auth;

	(void)state;
	keygen_run(
		"ssh-keygen -q -s ca -I x -n anna,bert key.pub && mv key-cert.pub two-cert.pub && "
		"ssh-keygen -q -s ca -I x key.pub && mv key-cert.pub none-cert.pub && "
		"ssh-keygen -q -s ca -I x -n anna -V 20200101:20200102 key.pub && "
		"mv key-cert.pub old-cert.pub && "
		"ssh-keygen -q -s other -I x -n anna key.pub && mv key-cert.pub strange-cert.pub");
	auth = auth_of((const char *[]){"cert_authority", keygen_path("ca.pub"), NULL}, &err);
	assert_non_null(auth);
	assert_int_equal(alk_auth_authority_count(auth), 1);
	assert_null(ask(auth, "two-cert.pub", "anna", false, NULL).options);
	ask(auth, "two-cert.pub", "carl", false, "wrong principal");
	ask(auth, "two-cert.pub", "carl", true, NULL);
	ask(auth, "none-cert.pub", "anna", false, "lacks principal list");
	ask(auth, "none-cert.pub", "anna", true, NULL);
	ask(auth, "old-cert.pub", "anna", true, "expired");
	ask(auth, "strange-cert.pub", "anna", true, "no trusted authority");
	ask(auth, "key.pub", "anna", false, "not authorized");
	alk_auth_free(&auth);

	keygen_run("{ echo \"cert-authority,expiry-time=\\\"20200101\\\" $(cat ca.pub)\"; "
		   "echo \"cert-authority,principals=\\\"x,bert\\\",restrict $(cat ca.pub)\"; "
		   "echo \"$(cat ca.pub)\"; } >lines");
	auth = auth_of((const char *[]){"authorized_keys", keygen_path("lines"), NULL}, &err);
	assert_non_null(auth);
	assert_true(ask(auth, "two-cert.pub", "anybody", false, NULL).options->no_forwarding);
	ask(auth, "none-cert.pub", "anybody", false, "wrong principal");
	ask(auth, "strange-cert.pub", "anybody", false, "no trusted authority");
	alk_auth_free(&auth);
}

static void test_revoked(void **state)
{
	struct alk_err err = {""};
	struct alk_auth *auth;

	(void)state;
	keygen_run("cat key.pub other.pub >authorized && ssh-keygen -q -k -f krl other.pub && "
		   "ssh-keygen -q -s ca -I x -n anna other.pub && mv other-cert.pub its-cert.pub");
	auth = auth_of((const char *[]){"authorized_keys", keygen_path("authorized"),
					"revoked_keys", keygen_path("krl"), "cert_authority",
					keygen_path("ca.pub"), NULL},
		       &err);
	assert_non_null(auth);
	assert_non_null(alk_auth_revoked(auth));
	ask(auth, "key.pub", "anna", false, NULL);
	ask(auth, "other.pub", "anna", false, "revoked");
	ask(auth, "other.pub", "anna", true, "revoked");
	ask(auth, "its-cert.pub", "anna", true, "revoked");
	alk_auth_free(&auth);
	keygen_run("head -c 20 krl >cut");
	auth = auth_of((const char *[]){"authorized_keys", keygen_path("authorized"),
					"revoked_keys", keygen_path("cut"), NULL},
		       &err);
	assert_null(auth);
	assert_non_null(strstr(err.text, "revoked_keys"));
}

static void test_key_types(void **state)
{
	struct alk_err err = {""};
	struct alk_auth *auth;

	(void)state;
	keygen_run("cat key.pub other.pub >authorized");
	auth = auth_of((const char *[]){"authorized_keys", keygen_path("authorized"), "key_types",
					"rsa-sha2-512", "key_types", "ecdsa-sha2-nistp256",
					"key_types", "rsa-sha2-256", NULL},
		       &err);
	assert_non_null(auth);
	assert_string_equal(alk_auth_key_types(auth), "ssh-rsa,ecdsa-sha2-nistp256");
	assert_string_equal(alk_auth_signature_types(auth),
			    "rsa-sha2-512,ecdsa-sha2-nistp256,rsa-sha2-256");
	assert_int_equal(alk_auth_key_count(auth), 0);
	assert_non_null(strstr(alk_auth_bad_line(auth), "authorized:1: ssh-ed25519 keys are not"));
	alk_auth_free(&auth);
}

static void test_authority_without_keys(void **state)
{
	struct alk_err err = {""};

	(void)state;
	keygen_write("empty", "# nothing\nnonsense\n");
	assert_null(auth_of((const char *[]){"cert_authority", keygen_path("empty"), NULL}, &err));
	assert_non_null(strstr(err.text, "empty:2: not a public key"));
}

/* THREATS 8: who is penalised waits; no more than so many are kept. */
static void test_t08_penalties(void **state)
{
	struct alk_err err = {""};
	struct alk_auth *auth = auth_of((const char *[]){"cert_authority", keygen_path("ca.pub"),
							 NULL},
					&err);
	char who[32];

	(void)state;
	assert_non_null(auth);
	assert_false(alk_auth_penalised(auth, "192.0.2.1", 5));
	alk_auth_penalise(auth, "192.0.2.1", 100);
	assert_true(alk_auth_penalised(auth, "192.0.2.1", 99));
	assert_false(alk_auth_penalised(auth, "192.0.2.1", 100));
	assert_false(alk_auth_penalised(auth, "192.0.2.2", 99));
	assert_false(alk_auth_penalised(auth, NULL, 99));
	for (int i = 0; i < 1024; i++) {
		snprintf(who, sizeof(who), "x%d", i);
		alk_auth_penalise(auth, who, 100);
	}
	assert_false(alk_auth_penalised(auth, "192.0.2.1", 99));
	assert_true(alk_auth_penalised(auth, "x0", 99));
	alk_auth_free(&auth);
}

/* THREATS 9: a refusal takes at least 5 ms, as long for the same name each time. */
static void test_t09_delay(void **state)
{
	struct alk_err err = {""};
	struct alk_auth *auth = auth_of((const char *[]){"cert_authority", keygen_path("ca.pub"),
							 NULL},
					&err);
	uint64_t first = alk_auth_delay(auth, "anna");

	(void)state;
	for (int i = 0; i < 100; i++) {
		char user[8];

		snprintf(user, sizeof(user), "u%d", i);
		assert_in_range(alk_auth_delay(auth, user), 5, 9);
		assert_int_equal(alk_auth_delay(auth, "anna"), first);
	}
	alk_auth_free(&auth);
}

/* THREATS 11 */
static void test_t11_users(void **state)
{
	static const char *const good[] = {"a", "tester", "caf\xc3\xa9", "a b", "-x", "a;b"};
	static const char *const bad[] = {"",	  "a\nb", "\x1b[31m", "a\x7f",
					  "\xff", "\xc3", "\xc2\x80", "\xed\xa0\x80"};
	char text[66];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
		assert_true(alk_auth_user_valid(good[i]));
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_false(alk_auth_user_valid(bad[i]));
	memset(text, 'a', sizeof(text));
	text[64] = '\0';
	assert_true(alk_auth_user_valid(text));
	text[64] = 'a';
	text[65] = '\0';
	assert_false(alk_auth_user_valid(text));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_certificates),
		cmocka_unit_test(test_revoked),
		cmocka_unit_test(test_key_types),
		cmocka_unit_test(test_authority_without_keys),
		cmocka_unit_test(test_t08_penalties),
		cmocka_unit_test(test_t09_delay),
		cmocka_unit_test(test_t11_users),
	};

	return cmocka_run_group_tests(tests, setup, keygen_teardown);
}
