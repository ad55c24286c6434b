/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Options that are more than a word: listeners, forwards, start-ups. */
#include "conf_play.h"

/* --- listeners -------------------------------------------------------------------------------- */

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
		{"{ { address = 'a:1', proxy_protocol = 'v2' } }",
		 "listen: entry 1: proxy_protocol must be true or false"},
		{"{ 'a:1', { address = 'b:2', proxy_from = '::1' } }",
		 "listen: entry 2: proxy_from stands without proxy_protocol = true"},
		{"{ { address = 'b:2', proxy_protocol = false, proxy_from = '::1' } }",
		 "listen: entry 1: proxy_from stands without proxy_protocol = true"},
		{"{ { address = 'a:1', proxy_protocol = true } }",
		 "listen: entry 1: proxy_protocol needs proxy_from"},
		{"{ { address = 'a:1', proxy_protocol = true, proxy_from = {} } }",
		 "listen: entry 1: proxy_protocol needs proxy_from"},
		{"{ { address = 'a:1', proxy_protocol = true, proxy_from = { '10.0.0.0/8', 5 } } }",
		 "listen: entry 1: proxy_from: network 2: it is no text"},
		{"{ { address = 'a:1', proxy_protocol = true, proxy_from = '10.0.0.0/33' } }",
		 "listen: entry 1: proxy_from: network 1: "},
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

/* Whose PROXY headers a listener believes; the others have none. */
static void test_listen_behind_a_proxy(void **state)
{
	static const char text[] =
		"return { listen = { 'a:1', { address = 'b:2', proxy_protocol = true,"
		" proxy_from = { '10.0.0.0/8', '::1' } }, { address = 'c:3',"
		" proxy_protocol = true, proxy_from = '127.0.0.1' } } }";
	struct alk_err err = {""};
	struct alk_conf *conf = conf_of(ALK_ROLE_SUPERVISOR, text, SERVE(), &err);
	const json_t *from;

	(void)state;
	if (conf == NULL)
		fail_msg("%s", err.text);
	assert_null(alk_conf_proxy_from(conf, "tcp", "a:1"));
	assert_null(alk_conf_proxy_from(conf, "bee", "b:2"));
	from = alk_conf_proxy_from(conf, "tcp", "b:2");
	assert_int_equal(json_array_size(from), 2);
	assert_string_equal(json_string_value(json_array_get(from, 1)), "::1");
	assert_string_equal(json_string_value(alk_conf_proxy_from(conf, "tcp", "c:3")),
			    "127.0.0.1");
	alk_conf_free(&conf);
}

/* What a flag takes the place of is checked all the same. */
static void test_listen_that_a_flag_replaces_is_checked(void **state)
{
	struct alk_err err = {""};

	(void)state;
	assert_null(conf_of(ALK_ROLE_SUPERVISOR, "return { listen = { { adress = 'a:1' } } }",
			    SERVE("--listen", "c:3"), &err));
	assert_non_null(strstr(err.text, ".conf:1: listen: entry 1 must be"));
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

/* --- forwards and start-ups ------------------------------------------------------------------- */

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_listen_forms),
		cmocka_unit_test(test_listen_refuses),
		cmocka_unit_test(test_listen_behind_a_proxy),
		cmocka_unit_test(test_listen_that_a_flag_replaces_is_checked),
		cmocka_unit_test(test_listen_flags_replace_the_file),
		cmocka_unit_test(test_forwards),
		cmocka_unit_test(test_forwards_refused),
		cmocka_unit_test(test_max_startups),
	};

	conf_play_begin();
	return cmocka_run_group_tests(tests, dir_make, dir_remove);
}
