/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The configuration: the file, flags and environment, plugins' sections, listeners, and the sentences. */
#include "conf.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "cmdline.h"
#include "conf_private.h"

#define ARGS_MAX 16

static char dir[] = "/tmp/alk-conf-XXXXXX";
static char file[64], plugin_file[64];

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static int dir_make(void **state)
{
	(void)state;
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(file, sizeof(file), "%s/alknet.conf", dir);
	snprintf(plugin_file, sizeof(plugin_file), "%s/bee.so", dir);
	write_file(plugin_file, "");
	return setenv("ALKNET_PLUGIN_DIR", dir, 1);
}

static int dir_remove(void **state)
{
	(void)state;
	unlink(file);
	unlink(plugin_file);
	return rmdir(dir);
}

static int load(struct alk_conf *conf, const char *text, struct alk_err *err)
{
	write_file(file, text);
	return alk_conf_load_file(conf, file, err);
}

/* --- Lua ------------------------------------------------------------------------------------------ */

static json_t *lua(const char *text, struct alk_err *err)
{
	return alk_conf_lua_read("a.conf", text, strlen(text), err);
}

static void test_lua_values(void **state)
{
	static const struct {
		const char *lua, *json;
	} rows[] = {
		{"return {}", "{}"},
		{"return { a = 1, b = -2, c = 0x10, d = 1.5, e = 7 // 2 }",
		 "{\"a\":1,\"b\":-2,\"c\":16,\"d\":1.5,\"e\":3}"},
		{"return { a = true, b = false, c = nil }", "{\"a\":true,\"b\":false}"},
		{"return { a = 'x', b = \"\\u{e9}\", c = [[\nlong]] }",
		 "{\"a\":\"x\",\"b\":\"\xc3\xa9\",\"c\":\"long\"}"},
		{"return { a = { 1, 2, { 3 } }, b = { c = { d = {} } } }",
		 "{\"a\":[1,2,[3]],\"b\":{\"c\":{\"d\":{}}}}"},
		{"return { ['a b'] = 1, ['\xc3\xa9'] = 2 }", "{\"a b\":1,\"\xc3\xa9\":2}"},
		{"local dir = '/etc/' return { a = dir .. 'x', b = 'y' .. 1 }",
		 "{\"a\":\"/etc/x\",\"b\":\"y1\"}"},
		{"local t = { 1 } return { a = t, b = t }", "{\"a\":[1],\"b\":[1]}"},
		{"-- a comment\nreturn { --[[ more ]] a = 60 * 60 }", "{\"a\":3600}"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct alk_err err = {""};
		json_t *got = lua(rows[i].lua, &err), *expected = json_loads(rows[i].json, 0, NULL);

		if (got == NULL || !json_equal(got, expected))
			fail_msg("%s: %s", rows[i].lua, err.text);
		json_decref(got);
		json_decref(expected);
	}
}

static void test_lua_refuses(void **state)
{
	static const struct {
		const char *lua, *says;
	} rows[] = {
		{"", "a.conf: must say return { ... }"},
		{"return 5", "a.conf: must say return { ... }"},
		{"return nil", "a.conf: must say return { ... }"},
		{"return function() end", "a.conf: must say return { ... }"},
		{"return {", "a.conf:1: "},
		{"\n\nreturn { a = = 1 }", "a.conf:3: unexpected symbol near '='"},
		{"return { key = 'unfinished }", "a.conf:1: unfinished string"},
		{"return { a = debug }",
		 "a.conf:1: nothing is called \"debug\" here; text needs quotes"},
		{"return {\n a = os.getenv('HOME') }", "a.conf:2: nothing is called \"os\""},
		{"require 'os'", "nothing is called \"require\""},
		{"pcall(error)", "nothing is called \"pcall\""},
		{"key = 'x'",
		 "a.conf:1: \"key = ...\" stands outside of the table; write return { key = ... }"},
		{"return { a = ('x'):rep(10) }", "a.conf:1: "},
		{"return { a = function() end }", "a.conf: a is a function; a configuration holds"},
		{"return { a = { b = { 1, function() end } } }", "a.conf: a.b[2] is a function"},
		{"return { 1, 2, a = 3 }", "a.conf: the table mixes a list with named values"},
		{"return { a = { 1, b = 2 } }", "a.conf: a mixes a list"},
		{"return { a = { 1, nil, 3 } }", "a.conf: a is a list with holes"},
		{"return { a = { [1.5] = 1 } }",
		 "a.conf: a has a key that is neither text nor a place in a list"},
		{"return { a = { [true] = 1 } }", "a.conf: a has a key"},
		{"return { a = { [7] = 1 } }", "a.conf: a has a key"},
		{"return { [{}] = 1 }", "a.conf: the table has a key"},
		{"return { a = { [''] = 1 } }", "a.conf: a has a key that is empty"},
		{"return { a = { ['x\\0y'] = 1 } }", "a.conf: a has a key that is empty, too long"},
		{"return { a = 1/0 }", "a.conf: a is not a number"},
		{"return { a = -1/0 }", "a.conf: a is not a number"},
		{"return { a = 0/0 }", "a.conf: a is not a number"},
		{"return { a = 'x\\0y' }", "a.conf: a holds a zero byte"},
		{"return { a = '\\xff' }", "a.conf: a is not valid UTF-8"},
		{"return { a = '\\xed\\xa0\\x80' }", "a.conf: a is not valid UTF-8"},
		{"local t = {} t.bee = t return t", "a.conf: bee holds itself"},
		{"local t, u = {}, {} t.a = u u.b = t return t", "a.conf: a.b holds itself"},
		{"local t = {} for i = 1, 17 do t = { a = t } end return t",
		 "is nested too deeply"},
		{"local t = {} for i = 1, 14 do t = { t, t, t } end return { a = t }",
		 "is one value too many"},
		{"local s = 'x' for i = 1, 17 do s = s .. s end return { a = s }",
		 "a.conf: a is longer than 64 KiB"},
		{"local s = 'x' for i = 1, 15 do s = s .. s end local t = {} for i = 1, 200 do t[i] = s end return { a = t }",
		 "is one text too many"},
		{"while true do end", "a.conf: the configuration runs too long"},
		{"local function f() return f() end f()", "runs too long"},
		{"goto here ::here:: goto here", "runs too long"},
		{"local function f() return 1 + f() end f()",
		 "a.conf: needs more than 8 MiB of memory"},
		{"local s = 'x' while true do s = s .. s end",
		 "a.conf: needs more than 8 MiB of memory"},
		{"local t = {} for i = 1, 1e9 do t[i] = { i } end", "a.conf: "},
		{"\x1bLua", "a.conf: attempt to load a binary chunk"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct alk_err err = {""};
		json_t *got = lua(rows[i].lua, &err);

		if (got != NULL || strstr(err.text, rows[i].says) == NULL)
			fail_msg("%s: %s", rows[i].lua, got != NULL ? "is read" : err.text);
		assert_null(strchr(err.text, '\n'));
	}
}

static void test_lua_bytes(void **state)
{
	static const char zero[] = "return { a = 1 }\0", high[] = "return { \x80\xff = 1 }";
	char *deep = malloc(100001);
	struct alk_err err = {""};

	(void)state;
	assert_null(alk_conf_lua_read("a.conf", zero, sizeof(zero) - 1, &err));
	assert_null(alk_conf_lua_read("a.conf", high, sizeof(high) - 1, &err));
	for (const char *c = err.text; *c != '\0'; c++)
		assert_true(*c >= 0x20 && *c < 0x7f);
	assert_non_null(deep);
	memset(deep, '{', 100000);
	memcpy(deep, "return ", 7);
	assert_null(alk_conf_lua_read("a.conf", deep, 100000, &err));
	free(deep);
}

/* --- the file ------------------------------------------------------------------------------------- */

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
		{"return { authorized_keys = { 'a' } }", "authorized_keys: must be text, not a list"},
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

/* Everything after the file: flags, environment, the end. */
static struct alk_conf *conf_of(enum alk_role role, const char *text, const char *const *argv,
				struct alk_err *err)
{
	struct alk_conf *conf = alk_conf_new(role);
	char *copy[ARGS_MAX] = {NULL};
	struct alk_cmdline line;
	int argc = 0, rc = 0;

	for (; argv != NULL && argv[argc] != NULL; argc++) {
		assert_true(argc < ARGS_MAX - 1);
		copy[argc] = strdup(argv[argc]);
	}
	if (text != NULL)
		rc = load(conf, text, err);
	if (rc == 0 && argv != NULL)
		rc = alk_cmdline_read(argc, copy, conf, &line, err);
	if (rc == 0)
		rc = alk_cmdline_environment(conf, err);
	if (rc == 0)
		rc = alk_conf_finish(conf, err);
	while (argc > 0)
		free(copy[--argc]);
	if (rc < 0)
		alk_conf_free(&conf);
	return conf;
}

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})
#define SERVE(...) ARGV("serve", "--key", "k", "--authorized-keys", "a", ##__VA_ARGS__)
#define CONNECT(...) ARGV("connect", "--server", "h", "--identity", "i", ##__VA_ARGS__)

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
	static const char *const good[] = {"host",	"host.example.",   "host:22",
					   "192.0.2.1", "192.0.2.1:65535", "::1",
					   "[::1]",	"[::1]:22",	   "fe80::1%lo"};

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
	assert_non_null(strstr(err.text, ".conf: server: "));
}

/* --- listeners -------------------------------------------------------------------------------------- */

static void test_listen_forms(void **state)
{
	static const struct {
		const char *listen, *transport[3], *address[3];
	} rows[] = {
		{"nil", {"tcp", "tcp"}, {"0.0.0.0:22", "[::]:22"}},
		{"{}", {"tcp", "tcp"}, {"0.0.0.0:22", "[::]:22"}},
		{"'a:1'", {"tcp"}, {"a:1"}},
		{"{ 'a:1', 'b:2' }", {"tcp", "tcp"}, {"a:1", "b:2"}},
		{"{ address = 'a:1' }", {"tcp"}, {"a:1"}},
		{"{ { transport = 'bee', address = 'a:1' }, 'b:2' }",
		 {"bee", "tcp"},
		 {"a:1", "b:2"}},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct alk_conf_listen out[3] = {{0}};
		struct alk_err err = {""};
		struct alk_conf *conf;
		char text[256];
		size_t n;

		snprintf(text, sizeof(text), "return { listen = %s }", rows[i].listen);
		conf = conf_of(ALK_ROLE_SUPERVISOR, text, SERVE(), &err);
		if (conf == NULL)
			fail_msg("%s: %s", text, err.text);
		n = alk_conf_listeners(conf, out, 3);
		for (size_t j = 0; j < 3; j++) {
			assert_int_equal(j < n, rows[i].address[j] != NULL);
			if (j < n)
				assert_string_equal(out[j].transport, rows[i].transport[j]);
			if (j < n)
				assert_string_equal(out[j].address, rows[i].address[j]);
		}
		assert_int_equal(alk_conf_listeners(conf, out, 0), n);
		alk_conf_free(&conf);
	}
}

static void test_listen_refuses(void **state)
{
	static const struct {
		const char *listen, *says;
	} rows[] = {
		{"5",
		 "listen: entry 1 must be \"ADDR:PORT\" or { transport = ..., address = ... }"},
		{"{ 'a:1', 5 }", "listen: entry 2 must be"},
		{"{ { adress = 'a:1' } }",
		 "listen: entry 1 must be { transport = \"NAME\", address = \"ADDR:PORT\" }"},
		{"{ { address = 'a:1', more = 1 } }", "listen: entry 1 must be"},
		{"{ { transport = 'tcp' } }", "listen: entry 1 must be"},
		{"{ { address = 5 } }", "listen: entry 1 must be"},
		{"''", "listen: entry 1 has an empty address"},
		{"{ { transport = '../tcp', address = 'a:1' } }", "listen: entry 1 has"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct alk_err err = {""};
		char text[256];

		snprintf(text, sizeof(text), "return { listen = %s }", rows[i].listen);
		assert_null(conf_of(ALK_ROLE_SUPERVISOR, text, SERVE(), &err));
		if (strstr(err.text, rows[i].says) == NULL)
			fail_msg("%s: %s", text, err.text);
	}
}

/* What a flag takes the place of is checked all the same. */
static void test_listen_that_a_flag_replaces_is_checked(void **state)
{
	struct alk_err err = {""};

	(void)state;
	assert_null(conf_of(ALK_ROLE_SUPERVISOR, "return { listen = { { adress = 'a:1' } } }",
			    SERVE("--listen", "c:3"), &err));
	assert_non_null(strstr(err.text, ".conf: listen: entry 1 must be"));
}

static void test_listen_flags_replace_the_file(void **state)
{
	struct alk_conf_listen out[3];
	struct alk_err err = {""};
	struct alk_conf *conf = conf_of(ALK_ROLE_SUPERVISOR,
					"return { listen = { 'a:1', 'b:2' }, transport = 'bee' }",
					SERVE("--listen", "c:3", "--listen", "d:4"), &err);

	(void)state;
	assert_non_null(conf);
	assert_int_equal(alk_conf_listeners(conf, out, 3), 2);
	assert_string_equal(out[0].address, "c:3");
	assert_string_equal(out[1].address, "d:4");
	assert_string_equal(out[1].transport, "bee");
	alk_conf_free(&conf);
}

/* --- plugins ---------------------------------------------------------------------------------------- */

static const struct alk_option bee_options[] = {
	{.name = "honey", .type = ALK_OPT_INT, .fallback = "3", .min = 1, .max = 9},
	{.name = "word", .type = ALK_OPT_STRING, .flags = ALK_OPT_SECRET},
	{.name = "file", .type = ALK_OPT_FILE},
	{0},
};
static const struct alk_plugin bee = {.name = "bee", .options = bee_options};
static const struct alk_plugin plain = {.name = "plain"};

static void test_plugin_sections(void **state)
{
	static const struct {
		const char *text, *says;
	} rows[] = {
		{"return { bee = { honney = 5 } }",
		 "bee.honney: the plugin has no such option; did you mean bee.honey?"},
		{"return { bee = { q = 5 } }", "bee.q: the plugin has no such option"},
		{"return { bee = { honey = 10 } }",
		 "bee.honey: must be a whole number from 1 to 9, not \"10\""},
		{"return { bee = { honey = 'x' } }", "bee.honey: must be a number, not text"},
		{"return { bee = { file = '/nonexistent/f' } }",
		 "alknet.conf: bee.file: /nonexistent/f: No such file"},
		{"return { bee = { word_file = '/nonexistent/f' } }",
		 "alknet.conf: bee.word: /nonexistent/f"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct alk_err err = {""};
		struct alk_conf *conf = conf_of(ALK_ROLE_SUPERVISOR, rows[i].text, SERVE(), &err);

		if (conf == NULL)
			fail_msg("%s: %s", rows[i].text, err.text);
		assert_null(alk_conf_plugin(conf, &bee, &err));
		if (strstr(err.text, rows[i].says) == NULL)
			fail_msg("%s: %s", rows[i].text, err.text);
		alk_conf_free(&conf);
	}
}

static void test_plugin_values(void **state)
{
	struct alk_err err = {""};
	struct alk_conf *conf = conf_of(ALK_ROLE_SUPERVISOR, "return { bee = { honey = 5 } }",
					SERVE(), &err);
	const struct alk_options *values = alk_conf_plugin(conf, &bee, &err);

	(void)state;
	assert_non_null(values);
	assert_int_equal(alk_options_int(values, "honey"), 5);
	assert_ptr_equal(alk_conf_plugin(conf, &bee, &err), values);
	assert_true(alk_conf_has_section(conf, "bee"));
	assert_non_null(alk_conf_plugin(conf, &plain, &err));
	assert_false(alk_conf_has_section(conf, "plain"));
	assert_false(alk_conf_has_section(conf, "none"));
	alk_conf_free(&conf);
	conf = conf_of(ALK_ROLE_SUPERVISOR, NULL, SERVE(), &err);
	assert_int_equal(alk_options_int(alk_conf_plugin(conf, &bee, &err), "honey"), 3);
	alk_conf_free(&conf);
}

static void test_section_of_no_plugin(void **state)
{
	struct alk_err err = {""};

	(void)state;
	assert_null(conf_of(ALK_ROLE_SUPERVISOR, "return { wasp = { sting = 1 } }", SERVE(), &err));
	assert_non_null(strstr(err.text,
			       ".conf: wasp: there is no such option, and no plugin of that name"));
	assert_null(conf_of(ALK_ROLE_SUPERVISOR, "return { socks5 = {} }", SERVE(), &err));
	assert_non_null(strstr(err.text, "socks5: is an option of \"alknet connect\""));
	assert_null(conf_of(ALK_ROLE_SUPERVISOR, "return { be = {} }", SERVE(), &err));
	assert_non_null(strstr(err.text, "be: there is no such option; did you mean bee?"));
	assert_null(conf_of(ALK_ROLE_SUPERVISOR, "return { lissten = { 'a:1' } }", SERVE(), &err));
	assert_non_null(strstr(err.text, "lissten: there is no such option; did you mean listen?"));
	assert_null(
		conf_of(ALK_ROLE_SUPERVISOR, "return { ['../bee'] = { a = 1 } }", SERVE(), &err));
	assert_non_null(strstr(err.text, "../bee: there is no such option"));
}

/* --- to a worker ------------------------------------------------------------------------------------ */

static struct alk_conf *sent(const struct alk_conf *conf)
{
	json_t *encoded = alk_conf_encode(conf), *again;
	struct alk_err err = {""};
	struct alk_conf *other;
	char *text;

	assert_non_null(encoded);
	text = json_dumps(encoded, JSON_COMPACT);
	again = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	other = alk_conf_decode(again, &err);
	if (other == NULL)
		fail_msg("%s", err.text);
	free(text);
	json_decref(again);
	json_decref(encoded);
	return other;
}

static void test_worker_gets_all_of_it(void **state)
{
	char keys[64], text[256];
	struct alk_err err = {""};
	struct alk_conf *conf, *other;
	struct alk_conf_listen out[2];
	const struct alk_options *values;
	size_t len;

	(void)state;
	snprintf(keys, sizeof(keys), "%s/keys", dir);
	write_file(keys, "ssh-ed25519 AAAA caf\xe9\n");
	chmod(keys, 0600);
	snprintf(text, sizeof(text),
		 "return { bee = { word_file = 'keys', file = 'keys', honey = 4 }, plain = nil }");
	conf = conf_of(ALK_ROLE_SUPERVISOR, text,
		       ARGV("serve", "--key", keys, "--authorized-keys", keys, "--listen", "x:1"),
		       &err);
	assert_non_null(conf);
	assert_int_equal(alk_conf_read_files(conf, &err), 0);
	/* This word is not UTF-8. */
	assert_null(alk_conf_plugin(conf, &bee, &err));
	assert_non_null(strstr(err.text, "is not valid UTF-8"));
	write_file(keys, "hush\n");
	assert_non_null(alk_conf_plugin(conf, &bee, &err));
	unlink(keys);

	other = sent(conf);
	assert_string_equal(alk_conf_file(other, "key", 0, &len), "ssh-ed25519 AAAA caf\xe9\n");
	assert_int_equal(len, 22);
	assert_int_equal(alk_conf_listeners(other, out, 2), 1);
	assert_string_equal(out[0].address, "x:1");
	values = alk_conf_plugin(other, &bee, &err);
	assert_non_null(values);
	assert_int_equal(alk_options_int(values, "honey"), 4);
	assert_string_equal(alk_options_str(values, "word"), "hush");
	assert_string_equal(alk_options_file(values, "file", 0, NULL), "hush\n");
	alk_conf_free(&other);
	alk_conf_free(&conf);

	/* A section that only the worker's plugin can check goes there as it stands. */
	conf = conf_of(ALK_ROLE_SUPERVISOR, "return { bee = { honey = 10 } }", SERVE(), &err);
	other = sent(conf);
	assert_null(alk_conf_plugin(other, &bee, &err));
	assert_non_null(strstr(err.text, ".conf: bee.honey: must be"));
	alk_conf_free(&other);
	alk_conf_free(&conf);
}

static void test_decode_refuses(void **state)
{
	static const char *const texts[] = {
		"{}",
		"[]",
		"{\"role\": 1, \"values\": {\"nothing\": {}}, \"plugins\": {}}",
		"{\"role\": \"x\", \"values\": {}, \"plugins\": {}}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		json_t *encoded = json_loads(texts[i], 0, NULL);
		struct alk_err err = {""};

		assert_null(alk_conf_decode(encoded, &err));
		assert_true(err.text[0] != '\0');
		json_decref(encoded);
	}
}

static void test_show_hides_secrets(void **state)
{
	struct alk_err err = {""};
	struct alk_conf *conf = conf_of(ALK_ROLE_SUPERVISOR,
					"return { bee = { word = 'hush', honey = 4 } }", SERVE(),
					&err);
	json_t *shown = alk_conf_show(conf);
	char *text = json_dumps(shown, 0);

	(void)state;
	/* Before the plugin's table is known, and after. */
	assert_null(strstr(text, "hush"));
	assert_non_null(strstr(text, "\"honey\": {\"value\": 4"));
	free(text);
	json_decref(shown);
	assert_non_null(alk_conf_plugin(conf, &bee, &err));
	shown = alk_conf_show(conf);
	text = json_dumps(shown, 0);
	assert_null(strstr(text, "hush"));
	assert_non_null(strstr(text, "\"word\": {\"value\": \"***\""));
	free(text);
	json_decref(shown);
	alk_conf_free(&conf);
}

/* --- forwards and start-ups -------------------------------------------------------------------------- */

static void test_forwards(void **state)
{
	static const struct {
		const char *spec, *bind;
		int port;
		const char *listen_path, *host;
		int host_port;
		const char *path;
	} rows[] = {
		{"8080:host:80", "127.0.0.1", 8080, "", "host", 80, ""},
		{"0:host:80", "127.0.0.1", 0, "", "host", 80, ""},
		{"192.0.2.1:8080:host:80", "192.0.2.1", 8080, "", "host", 80, ""},
		{"localhost:8080:host:80", "localhost", 8080, "", "host", 80, ""},
		{"*:8080:host:80", "*", 8080, "", "host", 80, ""},
		{":8080:host:80", "*", 8080, "", "host", 80, ""},
		{"[::1]:8080:[2001:db8::1]:80", "::1", 8080, "", "2001:db8::1", 80, ""},
		{"8080:[2001:db8::1]:80", "127.0.0.1", 8080, "", "2001:db8::1", 80, ""},
		{"8080:/run/x.sock", "127.0.0.1", 8080, "", "", 0, "/run/x.sock"},
		{"8080:/run/x:y.sock", "127.0.0.1", 8080, "", "", 0, "/run/x:y.sock"},
		{"[::]:8080:/run/x.sock", "::", 8080, "", "", 0, "/run/x.sock"},
		{"/run/l.sock:host:80", "", 0, "/run/l.sock", "host", 80, ""},
		{"/run/l.sock:[::1]:80", "", 0, "/run/l.sock", "::1", 80, ""},
		{"/run/l.sock:/run/x.sock", "", 0, "/run/l.sock", "", 0, "/run/x.sock"},
		{"1:alknet-control:0", "127.0.0.1", 1, "", "alknet-control", 0, ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct alk_forward f;
		struct alk_err err = {""};

		if (alk_forward_parse(rows[i].spec, &f, &err) < 0)
			fail_msg("%s: %s", rows[i].spec, err.text);
		assert_string_equal(f.bind, rows[i].bind);
		assert_int_equal(f.port, rows[i].port);
		assert_string_equal(f.listen_path, rows[i].listen_path);
		assert_string_equal(f.host, rows[i].host);
		assert_int_equal(f.host_port, rows[i].host_port);
		assert_string_equal(f.path, rows[i].path);
	}
}

static void test_forwards_refused(void **state)
{
	static const char *const specs[] = {
		"",
		":",
		"8080",
		"8080:host",
		"x:y",
		"1:host:0",
		"1:host:99999",
		"65536:host:1",
		"-1:host:1",
		"1:host:80:",
		"a:1:host:80:9",
		"1::80",
		"1:relative/path",
		"1:ho st:80",
		"[::1:1:host:80",
		"[::1]x:1:host:80",
		"1:[::1:80",
		"1:::1:80",
		"/run/l.sock",
		"/run/l.sock:",
		"/run/l.sock:host",
		"1:host:80x",
		"1:\xff:80",
		"1:host:+80",
	};
	char path[200];

	(void)state;
	for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
		struct alk_forward f;
		struct alk_err err = {""};

		if (alk_forward_parse(specs[i], &f, &err) != -EINVAL)
			fail_msg("%s is taken", specs[i]);
		assert_memory_equal(err.text, "must be [bind:]port:host:hostport", 33);
	}
	/* A unix path has 107 bytes at most. */
	for (size_t n = 107; n <= 108; n++) {
		struct alk_forward f;

		memset(path, 'a', sizeof(path));
		memcpy(path, "1:/", 3);
		path[2 + n] = '\0';
		assert_int_equal(alk_forward_parse(path, &f, NULL), n == 107 ? 0 : -EINVAL);
	}
}

static void test_max_startups(void **state)
{
	static const char *const bad[] = {"",		"10",		"10:30", "10:30:9",
					  "10:101:100", "10:-1:100",	"a:b:c", "10:30:100:1",
					  "10::100",	"10:30:1000001"};
	struct alk_max_startups out;

	(void)state;
	assert_int_equal(alk_max_startups_parse("10:30:100", &out, NULL), 0);
	assert_int_equal(out.start, 10);
	assert_int_equal(out.rate, 30);
	assert_int_equal(out.full, 100);
	assert_int_equal(alk_max_startups_parse("5:0:5", &out, NULL), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(alk_max_startups_parse(bad[i], &out, NULL), -EINVAL);
}

/* --- what is made from the table --------------------------------------------------------------------- */

static void test_table(void **state)
{
	(void)state;
	for (const struct alk_option *o = alk_conf_options; o->type != ALK_OPT_END; o++) {
		assert_true(o->flags & (ALK_OPT_SERVE | ALK_OPT_CONNECT));
		assert_non_null(o->help);
		assert_non_null(o->group);
		assert_true(o->type == ALK_OPT_BOOL || o->arg != NULL);
		assert_true(o->type != ALK_OPT_ENUM || o->choices != NULL);
		/* One name, one meaning in a role. */
		for (const struct alk_option *p = alk_conf_options; p < o; p++)
			assert_true(strcmp(o->name, p->name) != 0 ||
				    (o->flags & p->flags & (ALK_OPT_SERVE | ALK_OPT_CONNECT)) == 0);
	}
}

/* The defaults that are printed are a file, and say what the program does without one. */
static void test_dump_defaults(void **state)
{
	char *text = alk_conf_dump_defaults();
	struct alk_conf *from_file = NULL, *without;
	struct alk_err err = {""};
	json_t *a, *b, *value;
	const char *name;

	(void)state;
	assert_non_null(text);
	unsetenv("ALKNET_PLUGIN_DIR");
	from_file = conf_of(ALK_ROLE_SUPERVISOR, text, SERVE(), &err);
	if (from_file == NULL)
		fail_msg("%s", err.text);
	without = conf_of(ALK_ROLE_SUPERVISOR, NULL, SERVE(), &err);
	setenv("ALKNET_PLUGIN_DIR", dir, 1);
	a = alk_conf_show(from_file);
	b = alk_conf_show(without);
	assert_int_equal(json_object_size(a), json_object_size(b));
	json_object_foreach(a, name, value)
	{
		if (!json_equal(json_object_get(value, "value"),
				json_object_get(json_object_get(b, name), "value")))
			fail_msg("%s", name);
		assert_true(strcmp(alk_conf_source(from_file, name), file) == 0 ||
			    strcmp(alk_conf_source(from_file, name), "flag") == 0);
	}
	for (const struct alk_option *o = alk_conf_options; o->type != ALK_OPT_END; o++)
		assert_non_null(strstr(text, o->name));
	json_decref(a);
	json_decref(b);
	alk_conf_free(&from_file);
	alk_conf_free(&without);
	free(text);
}

static char *printed(void (*print)(FILE *out))
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	print(out);
	fclose(out);
	return text;
}

static void print_serve(FILE *out)
{
	alk_cmdline_help("serve", out);
}

static void print_connect(FILE *out)
{
	alk_cmdline_help("connect", out);
}

static unsigned flags_of(const char *name)
{
	unsigned flags = 0;

	for (const struct alk_option *o = alk_conf_options; o->type != ALK_OPT_END; o++)
		flags |= strcmp(o->name, name) == 0 ? o->flags : 0;
	return flags;
}

static void test_help_and_manual(void **state)
{
	char *serve = printed(print_serve), *connect = printed(print_connect),
	     *manual = printed(alk_cmdline_manual);

	(void)state;
	for (const struct alk_option *o = alk_conf_options; o->type != ALK_OPT_END; o++) {
		char flag[80], line[90];

		alk_cmdline_flag(o, flag, sizeof(flag));
		snprintf(line, sizeof(line), "\n.It Fl %s", flag + 1);
		if (!alk_cmdline_is_flag(o))
			snprintf(line, sizeof(line), "\n.It Va %s", o->name);
		assert_non_null(strstr(manual, line));
		snprintf(line, sizeof(line), "      %s%s", flag,
			 o->type == ALK_OPT_BOOL ? "" : " ");
		if (!alk_cmdline_is_flag(o))
			snprintf(line, sizeof(line), " %s", o->name);
		assert_int_equal(strstr(serve, line) != NULL,
				 (flags_of(o->name) & ALK_OPT_SERVE) != 0);
		assert_int_equal(strstr(connect, line) != NULL,
				 (flags_of(o->name) & ALK_OPT_CONNECT) != 0);
	}
	for (const char *line = serve; line != NULL && *line != '\0'; line = strchr(line, '\n') + 1)
		assert_true(strcspn(line, "\n") <= 100);
	assert_non_null(strstr(serve, "(default 10:30:100)"));
	assert_non_null(strstr(connect, "ALKNET_SERVER"));
	free(serve);
	free(connect);
	free(manual);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lua_values),
		cmocka_unit_test(test_lua_refuses),
		cmocka_unit_test(test_lua_bytes),
		cmocka_unit_test(test_sentences_of_the_file),
		cmocka_unit_test(test_file_that_is_none),
		cmocka_unit_test(test_where_values_come_from),
		cmocka_unit_test(test_defaults_of_a_role),
		cmocka_unit_test(test_bool_flags),
		cmocka_unit_test(test_sentences_of_the_flags),
		cmocka_unit_test(test_server_forms),
		cmocka_unit_test(test_environment_is_named),
		cmocka_unit_test(test_listen_forms),
		cmocka_unit_test(test_listen_refuses),
		cmocka_unit_test(test_listen_that_a_flag_replaces_is_checked),
		cmocka_unit_test(test_listen_flags_replace_the_file),
		cmocka_unit_test(test_plugin_sections),
		cmocka_unit_test(test_plugin_values),
		cmocka_unit_test(test_section_of_no_plugin),
		cmocka_unit_test(test_worker_gets_all_of_it),
		cmocka_unit_test(test_decode_refuses),
		cmocka_unit_test(test_show_hides_secrets),
		cmocka_unit_test(test_forwards),
		cmocka_unit_test(test_forwards_refused),
		cmocka_unit_test(test_max_startups),
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_dump_defaults),
		cmocka_unit_test(test_help_and_manual),
	};

	unsetenv("ALKNET_SERVER");
	unsetenv("ALKNET_IDENTITY");
	unsetenv("SSH_AUTH_SOCK");
	return cmocka_run_group_tests(tests, dir_make, dir_remove);
}
