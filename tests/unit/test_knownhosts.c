/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* known_hosts: which entry decides. */
#include "knownhosts_play.h"

struct row {
	const char *text;
	const char *host;
	uint16_t port;
	int key;
	enum alk_host_verdict verdict;
	const char *where;
	int known; /* -1 none */
};

#define OK(text_, host_, port_, line_)                                                             \
	{                                                                                          \
		text_, host_, port_, A, ALK_HOST_OK, "FILE:" line_, -1                             \
	}
#define NO(text_, host_, port_)                                                                    \
	{                                                                                          \
		text_, host_, port_, A, ALK_HOST_UNKNOWN, "", -1                                   \
	}
#define CHANGED(text_, key_, line_, known_)                                                        \
	{                                                                                          \
		text_, "host", 22, key_, ALK_HOST_CHANGED, "FILE:" line_, known_                   \
	}
#define REVOKED(text_, line_)                                                                      \
	{                                                                                          \
		text_, "host", 22, A, ALK_HOST_REVOKED, "FILE:" line_, -1                          \
	}

static void test_rows(void **state)
{
	static const struct row rows[] = {
		NO("", "host", 22),
		NO("\n# x\n \t\r\n", "host", 22),
		OK("host %A\n", "host", 22, "1"),
		OK("host %A", "host", 22, "1"),
		OK("host %A\r\n", "host", 22, "1"),
		OK("host %A a comment of words\n", "host", 22, "1"),
		OK(" \thost\t%A\n", "host", 22, "1"),
		OK("# x\n\nhost %A\n", "host", 22, "3"),
		OK("a,host,b %A\n", "host", 22, "1"),
		OK("HOST %A\n", "host", 22, "1"),
		OK("host %A\n", "HoSt", 22, "1"),
		NO("hos %A\nhostt %A\nxhost %A\n", "host", 22),
		NO("# host %A\n#host %A\n", "host", 22),
		OK("192.0.2.7 %A\n", "192.0.2.7", 22, "1"),
		OK("2001:db8::1 %A\n", "2001:DB8::1", 22, "1"),
		OK("[2001:db8::1]:2222 %A\n", "2001:db8::1", 2222, "1"),
		/* a port of its own is a host of its own */
		OK("[host]:2222 %A\n", "host", 2222, "1"),
		NO("host %A\n", "host", 2222),
		NO("[host]:2222 %A\n", "host", 22),
		NO("[host]:2222 %A\n", "host", 2223),
		NO("[host]:22 %A\n", "host", 22),
		NO("[host]:2222 %A\n", "host", 222),
		/* patterns */
		OK("*.example.org %A\n", "a.example.org", 22, "1"),
		OK("*.example.org %A\n", "a.b.example.org", 22, "1"),
		NO("*.example.org %A\n", "example.org", 22),
		NO("*.example.org %A\n", "a.example.org", 2222),
		OK("[*.example.org]:* %A\n", "a.example.org", 2222, "1"),
		OK("192.0.2.? %A\n", "192.0.2.7", 22, "1"),
		NO("192.0.2.? %A\n", "192.0.2.77", 22),
		OK("* %A\n", "host", 22, "1"),
		OK("* %A\n", "host", 2222, "1"),
		OK("h**t %A\n", "host", 22, "1"),
		OK("*,!other %A\n", "host", 22, "1"),
		NO("*,!host %A\n", "host", 22),
		NO("!host,* %A\n", "host", 22),
		NO("*,!h?s* %A\n", "host", 22),
		NO("!other %A\n", "host", 22),
		NO("!*,host %A\n", "host", 22),
		NO(",, %A\n", "host", 22),
		NO("|1| %A\n|1|!!|!! %A\n|1|| %A\n", "host", 22),
		/* the strongest line wins, wherever it stands */
		OK("host %B\nhost %A\n", "host", 22, "2"),
		OK("host %A\nhost %B\n", "host", 22, "1"),
		OK("host %R\nhost %E\nhost %B\nhost %A\nhost %A\n", "host", 22, "4"),
		CHANGED("host %B\n", A, "1", B),
		CHANGED("other %A\nhost %B\n", A, "2", B),
		CHANGED("host %R\nhost %B\n", A, "2", B),
		CHANGED("host %B\nhost %R\n", A, "1", B),
		CHANGED("host %R\n", A, "1", RSA),
		CHANGED("host %E\nhost %R\n", A, "1", EC),
		CHANGED("host %A\n", RSA, "1", A),
		CHANGED("host %R\nhost %A\n", EC, "1", RSA),
		REVOKED("@revoked host %A\n", "1"),
		REVOKED("host %A\n@revoked host %A\n", "2"),
		REVOKED("@revoked * %A\nhost %A\n", "1"),
		REVOKED("host %B\n@revoked\thost\t%A # gone\n", "2"),
		NO("@revoked other %A\n", "host", 22),
		NO("@revoked host %B\n", "host", 22),
		NO("@revoked host %R\n", "host", 22),
		OK("@revoked host %B\nhost %A\n", "host", 22, "2"),
		CHANGED("@revoked host %B\nhost %B\n", A, "2", B),
		NO("@cert-authority host %A\n", "host", 22),
		OK("@cert-authority * %B\nhost %A\n", "host", 22, "2"),
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		const struct row *row = &rows[i];
		struct alk_host_answer answer;
		char *text = expand(row->text);

		assert_int_equal(judge(text, strlen(text), row->host, row->port, row->key, &answer),
				 0);
		if (answer.verdict != row->verdict || strcmp(answer.where, row->where) != 0)
			fail_msg("%s for [%s]:%u: verdict %d at \"%s\"", row->text, row->host,
				 row->port, answer.verdict, answer.where);
		assert_string_equal(answer.known, row->known < 0 ? "" : print[row->known]);
		assert_string_equal(answer.known_type, row->known < 0 ? "" : key_types[row->known]);
		assert_int_equal(answer.bad_lines, 0);
		free(text);
	}
}

/* A @cert-authority line is told of, and neither lets in nor contradicts. */
static void test_authority(void **state)
{
	static const struct {
		const char *text;
		enum alk_host_verdict verdict;
		const char *authority;
	} rows[] = {
		{"host %A\n", ALK_HOST_OK, ""},
		{"@cert-authority other %A\n", ALK_HOST_UNKNOWN, ""},
		{"@cert-authority *,!host %A\n", ALK_HOST_UNKNOWN, ""},
		{"@cert-authority host %A\n", ALK_HOST_UNKNOWN, "FILE:1"},
		{"\n@cert-authority h* %R\n@cert-authority host %B\n", ALK_HOST_UNKNOWN, "FILE:2"},
		{"@cert-authority host %B\nhost %A\n", ALK_HOST_OK, "FILE:1"},
		{"host %B\n@cert-authority host %A\n", ALK_HOST_CHANGED, "FILE:2"},
		{"@cert-authority host %A\n@revoked host %A\n", ALK_HOST_REVOKED, "FILE:1"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct alk_host_answer answer;
		char *text = expand(rows[i].text);

		assert_int_equal(judge(text, strlen(text), "host", 22, A, &answer), 0);
		assert_int_equal(answer.verdict, rows[i].verdict);
		assert_string_equal(answer.authority, rows[i].authority);
		assert_int_equal(answer.bad_lines, 0);
		free(text);
	}
}

static void test_types(void **state)
{
	static const struct {
		const char *text;
		unsigned types;
	} rows[] = {
		{"", 0},
		{"other %A\n", 0},
		{"host %A\n", ALK_HOSTKEY_ED25519},
		{"host %E\ngarbage\nHOST,b %R\n", ALK_HOSTKEY_P256 | ALK_HOSTKEY_RSA},
		{"[host]:2222 %A\nhost %R\n", ALK_HOSTKEY_RSA},
		{"@revoked host %A\n@cert-authority host %E\nhost %R\n", ALK_HOSTKEY_RSA},
	};
	unsigned types = 99;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		char *text = expand(rows[i].text);

		keygen_write("types", text);
		assert_int_equal(alk_knownhosts_types(keygen_path("types"), "host", 22, &types,
						      NULL),
				 0);
		assert_int_equal(types, rows[i].types);
		free(text);
	}
	assert_int_equal(alk_knownhosts_types(keygen_path("nowhere"), "host", 22, &types, NULL), 0);
	assert_int_equal(types, 0);
	assert_int_equal(alk_knownhosts_types(keygen_path("types"), "a b", 22, &types, NULL),
			 -EINVAL);
	/* hashed by ssh-keygen */
	keygen_run("echo \"host $(cat rsa.pub)\" > hashed_types; ssh-keygen -q -H -f hashed_types");
	assert_int_equal(alk_knownhosts_types(keygen_path("hashed_types"), "host", 22, &types,
					      NULL),
			 0);
	assert_int_equal(types, ALK_HOSTKEY_RSA);
}

/* Lines that cannot be read are passed over and counted; the rest stands. */
static void test_bad_lines(void **state)
{
	static const char *const bad[] = {
		"host",
		"host ssh-ed25519",
		"host ssh-ed25519 !!!!",
		"host ssh-ed25519 AAAA",
		"@revoked",
		"@revoked host",
		"@something host %A",
		"host ssh-foo AAAA",
		/* bytes behind the key, another type inside, base64 that is not the usual one */
		"host %AAAAA",
		"host ssh-ed25519 AAAAB3NzaC1yc2EAAAAgQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI=",
		"host ecdsa-sha2-nistp256 AAAAC3NzaC1lZDI1NTE5AAAAIEJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJC",
		"|1|x,* %A",
		"|2|c2FsdA==|aGFzaA== %A",
		"host ssh-ed25519-cert-v01@openssh.com AAAA",
	};
	struct alk_host_answer answer;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		char line[512];
		char *text;

		snprintf(line, sizeof(line), "\n%s\nhost %%A\n%s\n", bad[i], bad[i]);
		text = expand(line);
		assert_int_equal(judge(text, strlen(text), "host", 22, A, &answer), 0);
		assert_int_equal(answer.verdict, ALK_HOST_OK);
		assert_string_equal(answer.where, "FILE:3");
		if (answer.bad_lines != 2 || answer.bad_line != 2)
			fail_msg("%s: %u bad lines, line %u", bad[i], answer.bad_lines,
				 answer.bad_line);
		free(text);
	}
}

static void test_long_and_nul(void **state)
{
	struct alk_host_answer answer;
	char *key = expand("%A");
	size_t len = strlen(key);
	char *text = malloc(40000);

	(void)state;
	assert_non_null(text);
	memset(text, 'x', 40000);
	memcpy(text, "host ", 5);
	memcpy(text + 5, key, len);
	text[5 + len] = ' ';
	assert_int_equal(judge(text, 16384, "host", 22, A, &answer), 0);
	assert_int_equal(answer.verdict, ALK_HOST_OK);
	assert_int_equal(judge(text, 16385, "host", 22, A, &answer), 0);
	assert_int_equal(answer.verdict, ALK_HOST_UNKNOWN);
	assert_int_equal(answer.bad_line, 1);
	/* a name as long as a line may be */
	memset(text, 'x', 40000);
	memcpy(text + 16384 - len, key, len);
	text[16384 - len - 1] = ' ';
	assert_int_equal(judge(text, 16384, "host", 22, A, &answer), 0);
	assert_int_equal(answer.verdict, ALK_HOST_UNKNOWN);
	assert_int_equal(answer.bad_lines, 0);
	/* a NUL does not end the line for us and not for libssh either */
	len = (size_t)snprintf(text, 40000, "host %s", key);
	text[len] = '\0';
	text[len + 1] = '\n';
	assert_int_equal(judge(text, len + 2, "host", 22, A, &answer), 0);
	assert_int_equal(answer.verdict, ALK_HOST_UNKNOWN);
	assert_int_equal(answer.bad_lines, 1);
	free(text);
	free(key);
}

/* Patterns that would take a backtracking matcher for ever. */
static void test_pattern_cost(void **state)
{
	char *text = calloc(1, 16384);
	struct alk_host_answer answer;
	char host[256];
	size_t n = 0;

	(void)state;
	assert_non_null(text);
	for (int i = 0; i < 4000; i++)
		n += (size_t)snprintf(text + n, 16384 - n, "*a");
	n += (size_t)snprintf(text + n, 16384 - n, "*b %s %s\n", key_types[A], base64[A]);
	memset(host, 'a', 255);
	host[255] = '\0';
	assert_int_equal(judge(text, n, host, 22, A, &answer), 0);
	assert_int_equal(answer.verdict, ALK_HOST_UNKNOWN);
	free(text);
}

static void test_bad_host(void **state)
{
	static const char *const hosts[] = {"",	  "a b", "a\tb", "a\nb",  "a,b",
					    "*",  "a?",	 "!a",	 "[a]",	  "a\x1b",
					    "#a", "@a",	 "|1|a", "a\x7f", "caf\xc3\xa9"};
	struct alk_host_answer answer;
	struct alk_err err;
	char host[257];

	(void)state;
	for (size_t i = 0; i < sizeof(hosts) / sizeof(*hosts); i++) {
		assert_int_equal(alk_knownhosts_judge("FILE", "", 0, hosts[i], 22, keys[A], &answer,
						      &err),
				 -EINVAL);
		assert_non_null(strstr(err.text, "name"));
		assert_int_equal(alk_knownhosts_add(keygen_path("never"), hosts[i], 22, keys[A],
						    false, NULL),
				 -EINVAL);
	}
	memset(host, 'a', 256);
	host[256] = '\0';
	assert_int_equal(judge("", 0, host, 22, A, &answer), -EINVAL);
	assert_int_equal(judge("", 0, host + 1, 65535, A, &answer), 0);
	assert_int_not_equal(access(keygen_path("never"), F_OK), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),	     cmocka_unit_test(test_authority),
		cmocka_unit_test(test_types),	     cmocka_unit_test(test_bad_lines),
		cmocka_unit_test(test_long_and_nul), cmocka_unit_test(test_pattern_cost),
		cmocka_unit_test(test_bad_host),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
