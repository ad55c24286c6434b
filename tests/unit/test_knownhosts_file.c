/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* known_hosts: OpenSSH and we read each other's lines, and how the file is written. */
#include "knownhosts_play.h"

static int check(const char *file, const char *host, uint16_t port, int key,
		 struct alk_host_answer *answer)
{
	struct alk_err err = {""};
	int rc = alk_knownhosts_check(keygen_path(file), host, port, keys[key], answer, &err);

	if (rc < 0)
		fail_msg("%s", err.text);
	return rc;
}

/* Names hashed by ssh-keygen. */
static void test_hashed_by_openssh(void **state)
{
	struct alk_host_answer answer;
	char *text = expand("host %A\n[host]:2222 %B\n192.0.2.7 %R\n@revoked bad %A\n");

	(void)state;
	keygen_write("hashed", text);
	free(text);
	keygen_run("ssh-keygen -q -H -f hashed && rm hashed.old && grep -c '^|1|' hashed");
	check("hashed", "host", 22, A, &answer);
	assert_int_equal(answer.verdict, ALK_HOST_OK);
	assert_string_equal(strrchr(answer.where, ':'), ":1");
	check("hashed", "HOST", 2222, B, &answer);
	assert_int_equal(answer.verdict, ALK_HOST_OK);
	check("hashed", "host", 2222, A, &answer);
	assert_int_equal(answer.verdict, ALK_HOST_CHANGED);
	assert_string_equal(answer.known, print[B]);
	check("hashed", "192.0.2.7", 22, A, &answer);
	assert_int_equal(answer.verdict, ALK_HOST_CHANGED);
	assert_string_equal(answer.known_type, "ssh-rsa");
	check("hashed", "hos", 22, A, &answer);
	assert_int_equal(answer.verdict, ALK_HOST_UNKNOWN);
	assert_int_equal(answer.bad_lines, 0);
}

static unsigned mode_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_mode & 07777;
}

/* What we write, we and ssh-keygen find again. */
static void test_add(void **state)
{
	static const struct {
		const char *host;
		uint16_t port;
		const char *find;
	} hosts[] = {
		{"Host.Example.Org", 22, "host.example.org"},
		{"host.example.org", 2222, "[host.example.org]:2222"},
		{"2001:db8::1", 22, "2001:db8::1"},
		{"2001:db8::1", 65535, "[2001:db8::1]:65535"},
	};
	struct alk_host_answer answer;
	struct alk_err err = {""};

	(void)state;
	umask(022);
	for (int hash = 0; hash < 2; hash++) {
		keygen_run("rm -rf new");
		for (size_t i = 0; i < sizeof(hosts) / sizeof(*hosts); i++) {
			check("new/deep/known", hosts[i].host, hosts[i].port, A, &answer);
			assert_int_equal(answer.verdict, ALK_HOST_UNKNOWN);
			assert_int_equal(alk_knownhosts_add(keygen_path("new/deep/known"),
							    hosts[i].host, hosts[i].port, keys[A],
							    hash, &err),
					 0);
			check("new/deep/known", hosts[i].host, hosts[i].port, A, &answer);
			assert_int_equal(answer.verdict, ALK_HOST_OK);
			check("new/deep/known", hosts[i].host, hosts[i].port, B, &answer);
			assert_int_equal(answer.verdict, ALK_HOST_CHANGED);
			keygen_run("ssh-keygen -F '%s' -f new/deep/known | grep -qF '%s %s'",
				   hosts[i].find, key_types[A], base64[A]);
		}
		keygen_run(
			"test $(wc -l <new/deep/known) = 4 && test $(grep -c '^|1|' new/deep/known || true) = %d",
			hash ? 4 : 0);
	}
	assert_int_equal(mode_of(keygen_path("new")), 0700);
	assert_int_equal(mode_of(keygen_path("new/deep")), 0700);
	assert_int_equal(mode_of(keygen_path("new/deep/known")), 0600);
	/* keys of the other types */
	alk_knownhosts_add(keygen_path("new/deep/known"), "rsa", 22, keys[RSA], false, &err);
	alk_knownhosts_add(keygen_path("new/deep/known"), "ec", 22, keys[EC], true, &err);
	check("new/deep/known", "rsa", 22, RSA, &answer);
	assert_int_equal(answer.verdict, ALK_HOST_OK);
	check("new/deep/known", "ec", 22, EC, &answer);
	assert_int_equal(answer.verdict, ALK_HOST_OK);
}

/* A last line without its end stays a line, and what stands there is kept. */
static void test_add_keeps(void **state)
{
	struct alk_host_answer answer;
	char *text = expand("one %A");

	(void)state;
	keygen_write("open", text);
	free(text);
	assert_int_equal(chmod(keygen_path("open"), 0640), 0);
	assert_int_equal(alk_knownhosts_add(keygen_path("open"), "two", 22, keys[B], false, NULL),
			 0);
	assert_int_equal(alk_knownhosts_add(keygen_path("open"), "three", 22, keys[B], false, NULL),
			 0);
	check("open", "one", 22, A, &answer);
	assert_int_equal(answer.verdict, ALK_HOST_OK);
	check("open", "two", 22, B, &answer);
	assert_int_equal(answer.verdict, ALK_HOST_OK);
	assert_string_equal(strrchr(answer.where, ':'), ":2");
	check("open", "three", 22, B, &answer);
	assert_int_equal(answer.verdict, ALK_HOST_OK);
	assert_int_equal(mode_of(keygen_path("open")), 0640);
}

static void test_files(void **state)
{
	struct alk_host_answer answer;
	struct alk_err err;
	char where[512];

	(void)state;
	assert_int_equal(alk_knownhosts_check("/dev/null", "host", 22, keys[A], &answer, &err), 0);
	assert_int_equal(answer.verdict, ALK_HOST_UNKNOWN);
	assert_int_equal(alk_knownhosts_check("/dev/null/x", "host", 22, keys[A], &answer, &err),
			 0);
	assert_int_equal(answer.verdict, ALK_HOST_UNKNOWN);
	assert_int_equal(alk_knownhosts_check(keygen_dir, "host", 22, keys[A], &answer, &err),
			 -EISDIR);
	assert_non_null(strstr(err.text, keygen_dir));
	assert_int_equal(alk_knownhosts_check("/dev/zero", "host", 22, keys[A], &answer, &err),
			 -EFBIG);
	assert_non_null(strstr(err.text, "4 MiB"));
	keygen_run("mkfifo fifo; ln -s loop loop");
	assert_int_equal(alk_knownhosts_check(keygen_path("fifo"), "host", 22, keys[A], &answer,
					      &err),
			 0);
	assert_int_equal(answer.verdict, ALK_HOST_UNKNOWN);
	assert_int_equal(alk_knownhosts_check(keygen_path("loop"), "host", 22, keys[A], &answer,
					      &err),
			 -ELOOP);
	assert_int_equal(alk_knownhosts_add(keygen_dir, "host", 22, keys[A], false, &err), -EISDIR);
	assert_int_equal(alk_knownhosts_add("/dev/null/x/y", "host", 22, keys[A], false, &err),
			 -ENOTDIR);
	assert_non_null(strstr(err.text, "/dev/null/x/y"));
	assert_int_equal(alk_knownhosts_add("/dev/full", "host", 22, keys[A], false, &err),
			 -ENOSPC);
	/* of a long path the end is kept */
	memset(where, 'p', sizeof(where));
	strcpy(where + 400, "/known_hosts");
	char *text = expand("host %A");
	assert_int_equal(alk_knownhosts_judge(where, text, strlen(text), "host", 22, keys[A],
					      &answer, NULL),
			 0);
	free(text);
	assert_int_equal(strlen(answer.where), sizeof(answer.where) - 1);
	assert_memory_equal(answer.where, "...ppp", 6);
	assert_string_equal(strrchr(answer.where, '/'), "/known_hosts:1");
}

static void test_default(void **state)
{
	char path[256];
	struct alk_err err;

	(void)state;
	setenv("XDG_STATE_HOME", "/x/state", 1);
	setenv("HOME", "/h", 1);
	assert_int_equal(alk_knownhosts_default(path, sizeof(path), NULL), 0);
	assert_string_equal(path, "/x/state/alknet/known_hosts");
	assert_int_equal(alk_knownhosts_default(path, 27, &err), -ENAMETOOLONG);
	assert_non_null(strstr(err.text, "--known-hosts"));
	assert_int_equal(alk_knownhosts_default(path, 28, &err), 0);
	setenv("XDG_STATE_HOME", "relative", 1);
	assert_int_equal(alk_knownhosts_default(path, sizeof(path), NULL), 0);
	assert_string_equal(path, "/h/.local/state/alknet/known_hosts");
	unsetenv("XDG_STATE_HOME");
	assert_int_equal(alk_knownhosts_default(path, sizeof(path), NULL), 0);
	assert_string_equal(path, "/h/.local/state/alknet/known_hosts");
	unsetenv("HOME");
	assert_int_equal(alk_knownhosts_default(path, sizeof(path), NULL), 0);
	assert_non_null(strstr(path, "/.local/state/alknet/known_hosts"));
}

static void test_fingerprint(void **state)
{
	char text[64];

	(void)state;
	for (int i = 0; i < KEYS; i++)
		keygen_run("ssh-keygen -l -f %s.pub | grep -qF ' %s '", key_files[i], print[i]);
	assert_int_equal(alk_key_fingerprint(keys[A], text, 50), -ENOSPC);
	assert_int_equal(alk_key_fingerprint(keys[A], text, 51), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hashed_by_openssh), cmocka_unit_test(test_add),
		cmocka_unit_test(test_add_keeps),	  cmocka_unit_test(test_files),
		cmocka_unit_test(test_default),		  cmocka_unit_test(test_fingerprint),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
