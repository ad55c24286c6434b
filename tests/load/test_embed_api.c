/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* alknet/embed.h on a loop of the program's own: streams, requests, what is refused. */
#include <alknet/alknet.h>

#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/uio.h>
#include <unistd.h>
#include <cmocka.h>
#include <jansson.h>

#include "embed_play.h"

static void test_streams(void **state)
{
	struct alk_err err;

	begin(state);
	connected();
	stream("alknet-echo", 7);
	assert_int_equal(got.opened, 1);
	assert_int_equal(got.eof, 1);
	assert_int_equal(got.n, 4);
	assert_memory_equal(got.bytes, "ping", 4);
	/* what the program does not want */
	stream("alknet-other", 7);
	assert_int_equal(got.refused, 1);
	assert_int_equal(got.why, ALK_OPEN_PROHIBITED);
	/* an address where nobody listens */
	stream("127.0.0.1", 1);
	assert_int_equal(got.refused, 1);
	assert_int_equal(got.why, ALK_OPEN_REFUSED);
	assert_null(alk_embed_client_open(client, "", 1, &stream_ops, NULL, &err));
	alk_embed_client_stop(client);
	turn_until(&down, 1);
	assert_int_equal(down_rc, 0);
	assert_null(alk_embed_client_open(client, "a", 1, &stream_ops, NULL, &err));
	alk_embed_server_stop(server);
	turn_until(&closed, 1);
	assert_int_equal(status, 0);
	end();
}

static void test_requests(void **state)
{
	struct answer answer, watch = {0};
	char params[64];
	int id;

	begin(state);
	assert_int_equal(alk_embed_server_request(server, "watch", NULL, on_done, &watch), 0);
	turn_until(&watch.count, 1);
	connected();
	request("session.list", NULL, &answer);
	assert_non_null(strstr(answer.json, "\"user\":\"tester\""));
	assert_int_equal(sscanf(strstr(answer.json, "\"id\":"), "\"id\":%d", &id), 1);
	assert_true(watch.count > 1);
	request("nonsense", NULL, &answer);
	assert_string_equal(answer.json, "");
	assert_true(answer.err.text[0] != '\0');
	request("session.kill", "{", &answer);
	assert_non_null(strstr(answer.err.text, "JSON"));
	request("session.kill", "{\"id\":\"x\"}", &answer);
	assert_true(answer.err.text[0] != '\0');
	/* keys that are read anew, then the session of one that was taken out */
	keygen_run("cp user.pub user.pub.was; cp stranger.pub user.pub");
	request("keys.reload", NULL, &answer);
	keygen_run("mv user.pub.was user.pub");
	assert_string_equal(answer.err.text, "");
	snprintf(params, sizeof(params), "{\"id\":%d}", id);
	request("session.kill", params, &answer);
	assert_string_equal(answer.json, "{\"killed\":1}");
	alk_embed_client_free(&client);
	up = 0;
	client = client_make("stranger", "true", NULL);
	turn_until(&up, 1);
	/* a request that waits when its server goes */
	assert_int_equal(alk_embed_server_request(server, "session.list", NULL, on_done, &answer),
			 0);
	answer.count = 0;
	end();
	assert_int_equal(answer.count, 0);
}

static void *no_memory(size_t n)
{
	(void)n;
	return NULL;
}

/* Who waits for an answer is told when it cannot be made. */
static void test_out_of_memory(void **state)
{
	struct answer answer = {0}, watch = {0};

	begin(state);
	assert_int_equal(alk_embed_server_request(server, "watch", NULL, on_done, &watch), 0);
	turn_until(&watch.count, 1);
	assert_int_equal(alk_embed_server_request(server, "keys.reload", NULL, on_done, &answer),
			 0);
	json_set_alloc_funcs(no_memory, free);
	turn_until(&answer.count, 1);
	assert_string_equal(answer.err.text, "out of memory");
	answer.count = 0;
	assert_int_equal(alk_embed_server_request(server, "status", NULL, on_done, &answer),
			 -ENOMEM);
	json_set_alloc_funcs(malloc, free);
	ev_run(ev, EVRUN_NOWAIT);
	assert_int_equal(answer.count, 0);
	request("status", NULL, &answer);
	assert_string_equal(answer.err.text, "");
	end();
}

/* Every block that jansson was given last, also when it has gone. */
static struct {
	void *at;
	size_t n;
} blocks[1 << 14];
static size_t blocks_made;

static void *block_malloc(size_t n)
{
	void *at = malloc(n);
	size_t i = blocks_made++ % (sizeof(blocks) / sizeof(blocks[0]));

	blocks[i].at = at;
	blocks[i].n = n;
	return at;
}

/* As docs/EMBEDDING.md has it. */
static void block_free(void *at)
{
	if (at != NULL)
		explicit_bzero(at, malloc_usable_size(at));
	free(at);
}

/* The kernel reads: what was freed is not ours to read. */
static ssize_t block_read(size_t i, char *to, size_t size)
{
	const struct iovec there = {blocks[i].at, blocks[i].n < size ? blocks[i].n : size},
			   here = {to, size};

	return process_vm_readv(getpid(), &here, 1, &there, 1, 0);
}

static bool blocks_have(const char *needle)
{
	static char bytes[1 << 16];
	bool found = false;

	for (size_t i = 0; i < blocks_made && i < sizeof(blocks) / sizeof(blocks[0]); i++) {
		ssize_t n = block_read(i, bytes, sizeof(bytes));

		if (n > 0 && memmem(bytes, (size_t)n, needle, strlen(needle)) != NULL)
			found = true;
	}
	explicit_bzero(bytes, sizeof(bytes));
	return found;
}

/* A phrase on its way in and a private key on its way out are gone with their buffers. */
static void test_wiped(void **state)
{
	static const char phrase[] = "{\"mnemonic\":\"legal winner thank year wave sausage worth "
				     "useful legal winner thank yellow\"}",
			  derive[] = "{\"path\":\"m/0'\",\"private\":true}";
	struct answer answer;
	char key[64];
	char *at;

	begin(state);
	blocks_made = 0;
	json_set_alloc_funcs(block_malloc, block_free);
	at = json_dumps(json_null(), JSON_ENCODE_ANY);
	if (block_read(blocks_made - 1, key, sizeof(key)) < 0) {
		json_set_alloc_funcs(malloc, free);
		free(at);
		end();
		skip();
	}
	assert_true(blocks_have("null"));
	free(at);
	request("secret.unlock", phrase, &answer);
	assert_true(blocks_made > 10);
	assert_false(blocks_have("winner thank year"));
	/* built with the service? */
	if (strcmp(answer.err.text, "the plugin secret is not loaded") != 0) {
		request("secret.derive", derive, &answer);
		at = strstr(answer.json, "\"private_key\":\"");
		assert_non_null(at);
		snprintf(key, sizeof(key), "%.40s", at + 15);
		assert_false(blocks_have(key));
		/* one that waits when its server goes */
		answer.count = 0;
		assert_int_equal(alk_embed_server_request(server, "secret.derive", derive, on_done,
							  &answer),
				 0);
		assert_true(blocks_have(key));
		alk_embed_server_free(&server);
		assert_int_equal(answer.count, 0);
		assert_false(blocks_have(key));
	}
	end();
	json_set_alloc_funcs(malloc, free);
}

static void test_refusals(void **state)
{
	static const struct {
		const char *name, *value, *says;
	} rows[] = {
		{"nonsense", "1", "no such option"},
		{"forward", "1:h:1", "forward: a client"},
		{"socks5", "127.0.0.1:1", "socks5: a client"},
		{"keepalive", "x", "keepalive"},
		{"key", "x", "alknet serve"},
	};
	static const struct {
		const char *table, *says;
	} tables[] = {
		{"return {", "the configuration:1"},
		{"return { workers = 2 }", "workers: "},
		{"return { user = 'nobody' }", "user: "},
		{"return { listen = '127.0.0.1:0' }", "host key"},
	};
	struct alk_err err;

	begin(state);
	assert_null(alk_embed_new(NULL, &err));
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		const struct alk_setting settings[] = {{"server", "127.0.0.1:1"},
						       {"identity", keygen_path("user")},
						       {rows[i].name, rows[i].value},
						       {0}};

		assert_null(alk_embed_client_new(embed, NULL, settings, &client_ops, NULL, &err));
		if (strstr(err.text, rows[i].says) == NULL)
			fail_msg("%s: %s", rows[i].name, err.text);
	}
	/* nobody is asked about a host key */
	client = client_make("user", "false", &err);
	assert_non_null(client);
	turn_until(&down, 1);
	assert_int_equal(down_rc, -EACCES);
	assert_non_null(strstr(down_err.text, "the host key is not known"));
	alk_embed_client_free(&client);
	client = client_make("stranger", "true", &err);
	turn_until(&down, 2);
	assert_non_null(strstr(down_err.text, "the server refused the key"));
	alk_embed_server_free(&server);
	for (size_t i = 0; i < sizeof(tables) / sizeof(*tables); i++) {
		assert_null(alk_embed_server_new(embed, tables[i].table, NULL, &server_ops, NULL,
						 &err));
		if (strstr(err.text, tables[i].says) == NULL)
			fail_msg("%s: %s", tables[i].table, err.text);
	}
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_streams),	      cmocka_unit_test(test_requests),
		cmocka_unit_test(test_out_of_memory), cmocka_unit_test(test_wiped),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(tests, setup, keygen_teardown);
}
