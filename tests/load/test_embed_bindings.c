/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* alknet/embed.h: what bindings to other languages need besides. */
#include <alknet/alknet.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "embed_play.h"

static void file_read(const char *name, char *text, size_t size)
{
	FILE *file = fopen(keygen_path(name), "r");
	size_t n;

	assert_non_null(file);
	n = fread(text, 1, size - 1, file);
	text[n] = '\0';
	fclose(file);
}

static struct {
	int count;
	bool was_up, again;
	enum alk_embed_failure failure;
} lost;

static bool on_lost(void *user, struct alk_embed_client *c, bool was_up, const struct alk_err *err)
{
	(void)user;
	assert_true(err->text[0] != '\0');
	lost.count++;
	lost.was_up = was_up;
	lost.failure = alk_embed_client_failure(c);
	return lost.again;
}

static const struct alk_embed_client_ops once_ops = {.size = sizeof(once_ops),
						     .ready = on_up,
						     .closed = on_client_closed,
						     .lost = on_lost};

static struct alk_embed_client *content_client(const char *name, const char *identity,
					       const char *passphrase, struct alk_err *err)
{
	const struct alk_setting settings[] = {{"server", alk_embed_server_address(server, 0)},
					       {"user", "tester"},
					       {name, identity},
					       {"known_hosts", keygen_path("known")},
					       {"accept_new_host_key", "true"},
					       {"log_level", "error"},
					       {passphrase ? "identity_passphrase" : NULL,
						passphrase},
					       {0}};

	return alk_embed_client_new(embed, NULL, settings, &once_ops, NULL, err);
}

/* A server whose files are given by their content, reloaded with others. */
static void test_contents(void **state)
{
	char host[2048], user[2048], user_pub[512], stranger_pub[512];
	struct answer answer = {0};
	struct alk_err err;

	begin(state);
	alk_embed_server_free(&server);
	file_read("host", host, sizeof(host));
	file_read("user", user, sizeof(user));
	file_read("user.pub", user_pub, sizeof(user_pub));
	file_read("stranger.pub", stranger_pub, sizeof(stranger_pub));
	{
		const struct alk_setting settings[] = {{"key_content", host},
						       {"authorized_keys_content", stranger_pub},
						       {"listen", "127.0.0.1:0"},
						       {"services", "none"},
						       {"log_level", "error"},
						       {0}};
		const struct alk_setting others[] = {{"authorized_keys_content", user_pub}, {0}};
		const struct alk_setting bad[] = {{"authorized_keys_content", "nonsense\n"}, {0}};
		const struct alk_setting path[] = {{"authorized_keys", keygen_path("none")}, {0}};

		ready = 0;
		server = alk_embed_server_new(embed, NULL, settings, &server_ops, NULL, &err);
		if (server == NULL)
			fail_msg("%s", err.text);
		turn_until(&ready, 1);
		assert_string_equal(alk_embed_server_transport(server, 0), "tcp");
		assert_null(alk_embed_server_transport(server, 1));
		client = content_client("identity_content", user, NULL, &err);
		assert_non_null(client);
		turn_until(&down, 1);
		assert_int_equal(alk_embed_client_failure(client), ALK_EMBED_AUTH);
		assert_non_null(strstr(down_err.text, "(identity)"));
		alk_embed_client_free(&client);
		/* a reload that fails changes nothing, also for the one after it */
		assert_int_equal(alk_embed_server_reload(server, "keys.reload", bad, on_done,
							 &answer),
				 0);
		assert_int_equal(alk_embed_server_reload(server, "keys.reload", others, on_done,
							 &answer),
				 -EBUSY);
		turn_until(&answer.count, 1);
		assert_non_null(strstr(answer.err.text, "(authorized_keys):1"));
		answer.count = 0;
		assert_int_equal(alk_embed_server_reload(server, "keys.reload", path, on_done,
							 &answer),
				 0);
		turn_until(&answer.count, 1);
		assert_non_null(strstr(answer.err.text, "No such file"));
		assert_int_equal(alk_embed_server_reload(server, "status", others, on_done,
							 &answer),
				 -EINVAL);
		answer.count = 0;
		assert_int_equal(alk_embed_server_reload(server, "keys.reload", others, on_done,
							 &answer),
				 0);
		turn_until(&answer.count, 1);
		assert_string_not_equal(answer.json, "");
		/* and it holds through one that reads everything again */
		request("reload", NULL, &answer);
		assert_string_not_equal(answer.json, "");
	}
	client = content_client("identity_content", user, NULL, &err);
	assert_non_null(client);
	turn_until(&up, 1);
	assert_string_equal(alk_embed_client_link(client)->transport, "tcp");
	assert_string_equal(alk_embed_client_link(client)->remote_addr, "127.0.0.1");
	assert_memory_equal(alk_embed_client_host_key(client), "SHA256:", 7);
	/* the bus was left out, so its channels are the program's, which does not want this one */
	stream("alknet-control", 1);
	assert_int_equal(got.why, ALK_OPEN_PROHIBITED);
	stream("alknet-echo", 7);
	assert_int_equal(got.n, 4);
	end();
}

/* The session is the only one when the program says so, and another one comes when it does not. */
static void test_lost(void **state)
{
	struct answer answer;
	struct alk_err err;

	begin(state);
	memset(&lost, 0, sizeof(lost));
	client = content_client("identity", keygen_path("user"), NULL, &err);
	assert_non_null(client);
	turn_until(&up, 1);
	lost.again = true;
	request("session.kill", "{\"id\":1}", &answer);
	turn_until(&lost.count, 1);
	assert_true(lost.was_up);
	assert_int_equal(lost.failure, ALK_EMBED_ENDED);
	alk_embed_client_hurry(client);
	turn_until(&up, 2);
	lost.again = false;
	request("session.kill", "{\"id\":2}", &answer);
	turn_until(&down, 1);
	assert_int_equal(lost.count, 2);
	assert_non_null(strstr(down_err.text, "the session ended"));
	alk_embed_client_free(&client);
	end();
}

/* A server that cannot be reached for longer than the first pause: nobody is asked who waits. */
static void test_lost_for_longer(void **state)
{
	struct alk_err err;

	begin(state);
	memset(&lost, 0, sizeof(lost));
	lost.again = true;
	client = content_client("identity", keygen_path("user"), NULL, &err);
	turn_until(&up, 1);
	alk_embed_server_free(&server);
	turn_until(&lost.count, 3);
	assert_false(lost.was_up);
	assert_int_equal(lost.failure, ALK_EMBED_CONNECT);
	end();
}

static void test_passphrases(void **state)
{
	static const struct {
		const char *passphrase, *says;
	} rows[] = {
		{NULL, "nobody can be asked"},
		{"wrong", "the passphrase for"},
		{"open sesame", NULL},
	};
	struct alk_err err;

	begin(state);
	keygen_run("cp -p user locked && ssh-keygen -q -p -P '' -N 'open sesame' -f locked");
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		client = content_client("identity", keygen_path("locked"), rows[i].passphrase,
					&err);
		assert_true((client == NULL) == (rows[i].says != NULL));
		if (rows[i].says != NULL)
			assert_non_null(strstr(err.text, rows[i].says));
	}
	turn_until(&up, 1);
	end();
}

/* Two servers in one process, each with its own streams, and one is as good as the other when one
 * has gone. */
static void test_two_servers(void **state)
{
	struct alk_embed_server *first;
	struct alk_err err;

	begin(state);
	first = server;
	server = server_make(&err);
	assert_non_null(server);
	turn_until(&ready, 2);
	assert_string_not_equal(alk_embed_server_address(first, 0),
				alk_embed_server_address(server, 0));
	alk_embed_server_stop(first);
	turn_until(&closed, 1);
	assert_string_equal(alk_embed_server_failed(first), "");
	alk_embed_server_free(&first);
	connected();
	stream("alknet-echo", 7);
	assert_int_equal(got.n, 4);
	end();
}

static void level_is(const char *level)
{
	struct answer answer;
	char json[64];

	request("log.level", NULL, &answer);
	snprintf(json, sizeof(json), "{\"level\":\"%s\"}", level);
	assert_string_equal(answer.json, json);
}

/* The log is changed by a reload that works, by nothing else. */
static void test_log_of_a_reload(void **state)
{
	const struct alk_setting bad[] = {{"log_level", "warn"},
					  {"authorized_keys_content", "nonsense\n"},
					  {0}};
	const struct alk_setting good[] = {{"log_level", "warn"}, {0}};
	struct answer answer = {0};

	begin(state);
	level_is("error");
	assert_int_equal(alk_embed_server_reload(server, "reload", bad, on_done, &answer), 0);
	turn_until(&answer.count, 1);
	assert_non_null(strstr(answer.err.text, "(authorized_keys):1"));
	level_is("error");
	answer.count = 0;
	assert_int_equal(alk_embed_server_reload(server, "reload", good, on_done, &answer), 0);
	turn_until(&answer.count, 1);
	assert_string_not_equal(answer.json, "");
	level_is("warn");
	request("log.level", "{\"level\":\"error\"}", &answer);
	request("config.check", NULL, &answer);
	assert_string_not_equal(answer.json, "");
	level_is("error");
	end();
}

static void test_late_failure(void **state)
{
	const struct alk_setting settings[] = {{"key", keygen_path("host")},
					       {"authorized_keys_content", "nonsense\n"},
					       {"listen", "127.0.0.1:0"},
					       {"log_level", "error"},
					       {0}};
	const struct alk_setting nul[] = {{"key", keygen_path("host")},
					  {"listen_content", "x"},
					  {0}};
	struct alk_embed_server *bad;
	struct alk_err err;

	begin(state);
	bad = alk_embed_server_new(embed, NULL, settings, &server_ops, NULL, &err);
	assert_non_null(bad);
	turn_until(&closed, 1);
	assert_int_not_equal(status, 0);
	assert_non_null(strstr(alk_embed_server_failed(bad), "nobody could log in"));
	alk_embed_server_free(&bad);
	assert_null(alk_embed_server_new(embed, NULL, nul, &server_ops, NULL, &err));
	assert_non_null(strstr(err.text, "listen: has no content"));
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_contents),	cmocka_unit_test(test_lost),
		cmocka_unit_test(test_lost_for_longer), cmocka_unit_test(test_passphrases),
		cmocka_unit_test(test_two_servers),	cmocka_unit_test(test_log_of_a_reload),
		cmocka_unit_test(test_late_failure),
	};

	return cmocka_run_group_tests(tests, setup, keygen_teardown);
}
