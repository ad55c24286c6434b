/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The configuration: the file, flags and environment, and the sentences. */
#include "conf_play.h"

/* --- the file --------------------------------------------------------------------------------- */

static void test_sentences_of_the_file(void **state)
{
	static const struct {
		const char *text, *says;
	} rows[] = {
		{"return { max_chanels = 5 }",
		 "max_chanels: there is no such option; did you mean max_channels?"},
		{"return { ['max-channels'] = 5 }", "did you mean max_channels?"},
		{"return { completely_else = 5 }",
		 "completely_else: there is no such option, and no plugin of that name"},
		{"return { server = 'x' }",
		 "server: is an option of \"alknet connect\", not of \"alknet serve\""},
		{"return { max_channels = 5000 }",
		 "max_channels: must be a whole number from 1 to 1024, not \"5000\""},
		{"return { max_channels = {} }", "max_channels: must be a number, not a table"},
		{"return { authorized_keys = { 'a' } }",
		 "authorized_keys: must be text, not a list"},
		{"return { ['x\\ny'] = 1 }", "x\\x0ay: there is no such option"},
		{"return { 'key' }", "the table is a list; options have names"},
		{"return { config = 'x' }", "config: there is no such option"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct alk_conf *conf = alk_conf_new(ALK_ROLE_SUPERVISOR);
		struct alk_err err = {""};
		int rc = load(conf, rows[i].text, &err);

		if (rc != -EINVAL || strstr(err.text, rows[i].says) == NULL)
			fail_msg("%s: %d %s", rows[i].text, rc, err.text);
		assert_memory_equal(err.text, file, strlen(file));
		alk_conf_free(&conf);
	}
}

static void test_file_that_is_none(void **state)
{
	struct alk_conf *conf = alk_conf_new(ALK_ROLE_SUPERVISOR);
	struct alk_err err = {""};

	(void)state;
	assert_int_equal(alk_conf_load_file(conf, "/nonexistent/alknet.conf", &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nonexistent/alknet.conf"));
	assert_int_equal(alk_conf_load_file(conf, dir, &err), -EINVAL);
	assert_int_equal(load(conf, "return {}", &err), 0);
	assert_int_equal(alk_conf_load_file(conf, file, &err), -EINVAL);
	alk_conf_free(&conf);
}

/* Flags are read before the file, and count more all the same. */
static void test_a_flag_and_a_file_for_a_secret(void **state)
{
	static const char one[] = "return { proxy_file = 'px' }",
			  two[] = "return { proxy_file = 'px', proxy = 'none' }";
	struct alk_conf *conf = alk_conf_new(ALK_ROLE_SUPERVISOR);
	struct alk_err err = {""};

	(void)state;
	assert_int_equal(alk_conf_set(conf, "proxy", "none", "flag", &err), 0);
	assert_int_equal(alk_conf_load_text(conf, "a.conf", one, sizeof(one) - 1, &err), 0);
	assert_string_equal(alk_options_str(alk_conf_values(conf), "proxy"), "none");
	assert_string_equal(alk_conf_source(conf, "proxy"), "flag");
	assert_int_equal(alk_conf_read_files(conf, &err), 0);
	alk_conf_free(&conf);
	conf = alk_conf_new(ALK_ROLE_SUPERVISOR);
	assert_int_equal(alk_conf_load_text(conf, "a.conf", two, sizeof(two) - 1, &err), -EINVAL);
	assert_non_null(strstr(err.text, "give one of the two"));
	alk_conf_free(&conf);
}

/* What a file is called is not what it is. */
static void test_a_file_called_as_a_source(void **state)
{
	static const char text[] = "return { max_channels = 5 }";
	static const char *const names[] = {"default", "flag", "environment", "program"};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct alk_conf *conf = alk_conf_new(ALK_ROLE_SUPERVISOR);
		struct alk_err err = {""};
		char path[32];

		snprintf(path, sizeof(path), "./%s", names[i]);
		assert_int_equal(alk_conf_load_text(conf, names[i], text, sizeof(text) - 1, &err),
				 0);
		assert_string_equal(alk_conf_source(conf, "max_channels"), path);
		assert_int_equal(alk_conf_set(conf, "max_channels", "6", "environment", &err), 0);
		assert_int_equal(alk_options_int(alk_conf_values(conf), "max_channels"), 6);
		alk_conf_free(&conf);
	}
}

static void test_where_values_come_from(void **state)
{
	struct alk_conf *conf;
	struct alk_err err = {""};
	json_t *shown;

	(void)state;
	setenv("ALKNET_SERVER", "env.example:2", 1);
	conf = conf_of(
		ALK_ROLE_CLIENT,
		"return { server = 'file', identity = 'id', max_channels = 9, keepalive = '1m' }",
		ARGV("connect", "--max-channels", "7"), &err);
	assert_non_null(conf);
	assert_string_equal(alk_options_str(alk_conf_values(conf), "server"), "env.example:2");
	assert_string_equal(alk_conf_source(conf, "server"), "environment");
	assert_int_equal(alk_options_int(alk_conf_values(conf), "max_channels"), 7);
	assert_string_equal(alk_conf_source(conf, "max_channels"), "flag");
	assert_int_equal(alk_options_int(alk_conf_values(conf), "keepalive"), 60000);
	assert_string_equal(alk_conf_source(conf, "keepalive"), file);
	assert_string_equal(alk_conf_source(conf, "connect_timeout"), "default");
	assert_int_equal(alk_options_int(alk_conf_values(conf), "connect_timeout"), 30000);
	assert_string_equal(alk_options_str(alk_conf_values(conf), "log_level"), "warn");
	assert_null(alk_conf_source(conf, "known_hosts"));
	shown = alk_conf_show(conf);
	assert_string_equal(json_string_value(
				    json_object_get(json_object_get(shown, "server"), "value")),
			    "env.example:2");
	json_decref(shown);
	alk_conf_free(&conf);
	unsetenv("ALKNET_SERVER");
}

static void test_defaults_of_a_role(void **state)
{
	struct alk_err err = {""};
	struct alk_conf *conf = conf_of(ALK_ROLE_SUPERVISOR, NULL, SERVE(), &err);
	const struct alk_options *values;

	(void)state;
	assert_non_null(conf);
	values = alk_conf_values(conf);
	assert_int_equal(alk_options_int(values, "max_channels"), 256);
	assert_int_equal(alk_options_int(values, "connect_timeout"), 10000);
	assert_int_equal(alk_options_int(values, "drain_timeout"), 3600000);
	assert_string_equal(alk_options_str(values, "log_level"), "info");
	assert_string_equal(alk_options_str(values, "admin_socket"), "/run/alknet/admin.sock");
	assert_false(alk_options_has(values, "user"));
	alk_conf_free(&conf);

	conf = conf_of(ALK_ROLE_CLIENT, NULL, CONNECT(), &err);
	values = alk_conf_values(conf);
	assert_true(alk_options_has(values, "user"));
	assert_string_equal(alk_options_str(values, "socks5"), "127.0.0.1:1080");
	alk_conf_free(&conf);
	/* With --stdio there is no proxy unless one is asked for. */
	conf = conf_of(ALK_ROLE_CLIENT, NULL, CONNECT("--stdio", "h:1"), &err);
	assert_string_equal(alk_options_str(alk_conf_values(conf), "socks5"), "none");
	alk_conf_free(&conf);
	conf = conf_of(ALK_ROLE_CLIENT, NULL, CONNECT("--stdio", "h:1", "--socks5", "[::1]:0"),
		       &err);
	assert_string_equal(alk_options_str(alk_conf_values(conf), "socks5"), "[::1]:0");
	alk_conf_free(&conf);
}

/* Those past the bound would be penalised, and nobody would know why. */
static void test_too_many_exempt(void **state)
{
	char text[16384] = "return { penalty_exempt = { ";
	struct alk_err err = {""};
	struct alk_conf *conf;

	(void)state;
	for (int i = 0; i < 257; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "'10.%d.%d.0/24', ",
			 i / 256, i % 256);
	strcat(text, "} }");
	conf = conf_of(ALK_ROLE_SUPERVISOR, text, SERVE(), &err);
	assert_null(conf);
	assert_non_null(strstr(err.text, "penalty_exempt: has more than 256 networks"));
	*strstr(text, "'10.1.0.0/24'") = '}';
	strcpy(strchr(text, '}') + 1, " }");
	conf = conf_of(ALK_ROLE_SUPERVISOR, text, SERVE(), &err);
	assert_non_null(conf);
	alk_conf_free(&conf);
}

static void test_bool_flags(void **state)
{
	const struct {
		const char *text;
		const char *const *argv;
		bool value;
	} rows[] = {
		{NULL, CONNECT(), false},
		{NULL, CONNECT("--accept-new-host-key"), true},
		{NULL, CONNECT("--accept-new-host-key", "--no-accept-new-host-key"), false},
		{"return { accept_new_host_key = true }", CONNECT(), true},
		{"return { accept_new_host_key = true }", CONNECT("--no-accept-new-host-key"),
		 false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct alk_err err = {""};
		struct alk_conf *conf = conf_of(ALK_ROLE_CLIENT, rows[i].text, rows[i].argv, &err);

		assert_non_null(conf);
		assert_int_equal(alk_options_bool(alk_conf_values(conf), "accept_new_host_key"),
				 rows[i].value);
		alk_conf_free(&conf);
	}
}

static void test_sentences_of_the_flags(void **state)
{
	const struct {
		const char *const *argv;
		const char *says;
	} rows[] = {
		{ARGV("serve"), "serve needs a host key: give --key FILE"},
		{ARGV("serve", "--key", "k"),
		 "nobody could log in: give --authorized-keys FILE or --cert-authority FILE, or --policy FILE"},
		{ARGV("connect", "--identity", "i"),
		 "connect needs a server: give --server HOST[:PORT] or set ALKNET_SERVER"},
		{ARGV("connect", "--server", "h"),
		 "connect needs a private key: give --identity FILE, set ALKNET_IDENTITY, or start ssh-agent"},
		{SERVE("--nonsense"),
		 "--nonsense: there is no such flag; \"alknet serve --help\" lists them"},
		{SERVE("--listn", "x"), "--listn: there is no such flag; did you mean --listen?"},
		{SERVE("--lis=x"), "--lis: there is no such flag"},
		{SERVE("--max-channel", "5"),
		 "--max-channel: there is no such flag; did you mean --max-channels?"},
		{SERVE("--max-channels"), "--max-channels: needs a value"},
		{SERVE("--max-channels", ""),
		 "--max-channels: must be a whole number from 1 to 1024, not \"\""},
		{SERVE("--max-channels=1025"),
		 "--max-channels: must be a whole number from 1 to 1024, not \"1025\""},
		{SERVE("--max_channels", "5"),
		 "--max_channels: there is no such flag; did you mean --max-channels?"},
		{SERVE("--help=yes"), "--help=yes: takes no value"},
		{SERVE("--socks5", "x"),
		 "--socks5: is a flag of \"alknet connect\", not of \"alknet serve\""},
		{SERVE("--drain-timeout", "5"),
		 "--drain-timeout: is no flag; write drain_timeout in the configuration file"},
		{SERVE("-x"), "-x: there is no such flag"},
		{SERVE("-c"), "-c: needs a value"},
		{SERVE("-c", "a", "-c", "b"), "--config: is given twice"},
		{SERVE("stray"), "\"stray\": \"alknet serve\" takes flags only"},
		{SERVE("--", "stray"), "\"stray\": \"alknet serve\" takes flags only"},
		{SERVE("--max-startups", "10"),
		 "--max-startups: must be START:RATE:FULL like 10:30:100"},
		{SERVE("--user", "no-such-user-here"),
		 "--user: there is no account no-such-user-here"},
		{SERVE("--transport", "../x"), "--transport: must be the name of a plugin"},
		{SERVE("--log-level", "loud"),
		 "--log-level: must be one of error, warn, info, debug, not \"loud\""},
		{CONNECT("--workers", "2"),
		 "--workers: is a flag of \"alknet serve\", not of \"alknet connect\""},
		{CONNECT("--server", "h:p"), "--server: "},
		{CONNECT("--server", "h:0"), "--server: "},
		{CONNECT("--server", "h:70000"), "--server: "},
		{CONNECT("--server", ":22"), "--server: "},
		{CONNECT("--server", "[::1"), "--server: "},
		{CONNECT("--server", "a b"), "--server: "},
		{CONNECT("--server",
			 "/0123456789012345678901234567890123456789012345678901234567890123456789"
			 "0123456789012345678901234567890123456789012345678901234567890123456789"
			 "0123456789012345678901234567890123456789012345678901234567890123456789"
			 "0123456789012345678901234567890123456789012345678901234567890123456789"),
		 "--server: the path is longer than 255 characters"},
		{CONNECT("--socks5", "nowhere"), "--socks5: "},
		{CONNECT("--socks5", "127.0.0.1:99999"), "--socks5: "},
		{CONNECT("--forward", "1:h:2", "--forward", "8080"),
		 "--forward: must be [bind:]port:host:hostport"},
		{CONNECT("--stdio", "host"), "--stdio: "},
		{CONNECT("--stdio", "host:0"), "--stdio: "},
		{CONNECT("--host-key-fingerprint", "MD5:aa"),
		 "--host-key-fingerprint: must be SHA256: and 43 characters"},
		{CONNECT("--host-key-fingerprint", "SHA256:short"),
		 "--host-key-fingerprint: must be SHA256:"},
		{CONNECT("--accept-new-host-key=maybe"),
		 "--accept-new-host-key=maybe: takes no value"},
		{CONNECT("--user", "a\nb"), "--user: must not hold control characters"},
		{CONNECT("--user",
			 "12345678901234567890123456789012345678901234567890123456789012345"),
		 "--user: must not be longer than 64 bytes"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		bool client = strcmp(rows[i].argv[0], "connect") == 0;
		struct alk_err err = {""};
		struct alk_conf *conf = conf_of(client ? ALK_ROLE_CLIENT : ALK_ROLE_SUPERVISOR,
						NULL, rows[i].argv, &err);

		if (conf != NULL || strncmp(err.text, rows[i].says, strlen(rows[i].says)) != 0)
			fail_msg("row %zu: %s", i, conf != NULL ? "is taken" : err.text);
	}
}

static void test_server_forms(void **state)
{
	static const char *const good[] = {"host",	   "host.example.",   "host:22",
					   "192.0.2.1",	   "192.0.2.1:65535", "::1",
					   "[::1]",	   "[::1]:22",	      "fe80::1%lo",
					   "/run/ssh.sock"};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct alk_err err = {""};
		struct alk_conf *conf = conf_of(ALK_ROLE_CLIENT, NULL,
						ARGV("connect", "--identity", "i", "--server",
						     good[i]),
						&err);

		if (conf == NULL)
			fail_msg("%s: %s", good[i], err.text);
		alk_conf_free(&conf);
	}
}

static void test_environment_is_named(void **state)
{
	struct alk_err err = {""};

	(void)state;
	setenv("ALKNET_SERVER", "h:x", 1);
	assert_null(conf_of(ALK_ROLE_CLIENT, NULL, ARGV("connect", "--identity", "i"), &err));
	assert_memory_equal(err.text, "ALKNET_SERVER: ", 15);
	unsetenv("ALKNET_SERVER");
	assert_null(
		conf_of(ALK_ROLE_CLIENT, "return { server = 'h:x', identity = 'i' }", NULL, &err));
	assert_memory_equal(err.text, file, strlen(file));
	assert_non_null(strstr(err.text, ".conf:1: server: "));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sentences_of_the_file),
		cmocka_unit_test(test_file_that_is_none),
		cmocka_unit_test(test_a_flag_and_a_file_for_a_secret),
		cmocka_unit_test(test_a_file_called_as_a_source),
		cmocka_unit_test(test_where_values_come_from),
		cmocka_unit_test(test_defaults_of_a_role),
		cmocka_unit_test(test_too_many_exempt),
		cmocka_unit_test(test_bool_flags),
		cmocka_unit_test(test_sentences_of_the_flags),
		cmocka_unit_test(test_server_forms),
		cmocka_unit_test(test_environment_is_named),
	};

	conf_play_begin();
	return cmocka_run_group_tests(tests, dir_make, dir_remove);
}
