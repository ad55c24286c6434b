/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* alknet/embed.h with nothing but the library, on a loop of the program's own and on a thread. */
#include <alknet/alknet.h>

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>
#include <cmocka.h>
#include <ev.h>
#include <jansson.h>

#include "../unit/keygen.h"

static struct ev_loop *ev;
static struct alk_embed *embed;
static struct alk_embed_server *server;
static struct alk_embed_client *client;
static int ready, closed, status, up, down, down_rc;
static struct alk_err down_err;
static struct {
	char bytes[256];
	size_t n;
	int opened, refused, eof, closed;
	enum alk_open_failure why;
} got;

static int setup(void **state)
{
	if (keygen_setup(state) < 0)
		return -1;
	keygen_run("for k in host user stranger; do ssh-keygen -q -t ed25519 -N '' -f $k; done");
	return 0;
}

/* Turn the program's loop until it is so; the alarm ends a test that hangs. */
static void turn_until(const int *what, int value)
{
	while (*what != value)
		ev_run(ev, EVRUN_ONCE);
}

static size_t on_data(void *user, struct alk_channel *channel, const uint8_t *bytes, size_t n)
{
	(void)user, (void)channel;
	assert_true(got.n + n < sizeof(got.bytes));
	memcpy(got.bytes + got.n, bytes, n);
	got.n += n;
	return n;
}

static void on_opened(void *user, struct alk_channel *channel)
{
	(void)user;
	got.opened++;
	assert_int_equal(alk_channel_write(channel, "ping", 4), 4);
	alk_channel_eof(channel);
}

static void on_refused(void *user, struct alk_channel *channel, enum alk_open_failure why,
		       const char *text)
{
	(void)user, (void)channel, (void)text;
	got.refused++;
	got.why = why;
}

static void on_eof(void *user, struct alk_channel *channel)
{
	(void)user;
	got.eof++;
	alk_channel_close(channel);
}

static void on_close(void *user, struct alk_channel *channel)
{
	(void)user, (void)channel;
	got.closed++;
}

static const struct alk_channel_ops stream_ops = {
	.opened = on_opened,
	.refused = on_refused,
	.data = on_data,
	.eof = on_eof,
	.close = on_close,
};

/* The server's side of a stream: gives back what comes. */
static size_t on_echo(void *user, struct alk_channel *channel, const uint8_t *bytes, size_t n)
{
	ssize_t taken = alk_channel_write(channel, bytes, n);

	(void)user;
	return taken < 0 ? n : (size_t)taken;
}

static void on_echo_drain(void *user, struct alk_channel *channel)
{
	(void)user;
	alk_channel_resume(channel);
}

static void on_echo_eof(void *user, struct alk_channel *channel)
{
	(void)user;
	alk_channel_eof(channel);
}

static bool on_serve(void *user, struct alk_channel *channel, const struct alk_destination *to)
{
	static const struct alk_channel_ops ops = {.data = on_echo,
						   .drain = on_echo_drain,
						   .eof = on_echo_eof};

	assert_string_equal(alk_channel_identity(channel)->user, "tester");
	if (strcmp(to->host, "alknet-echo") != 0 || to->port != 7)
		return false;
	alk_channel_set_ops(channel, &ops, user);
	assert_int_equal(alk_channel_accept(channel), 0);
	return true;
}

static void on_ready(void *user, struct alk_embed_server *s)
{
	(void)user;
	assert_ptr_equal(s, server);
	ready++;
}

static void on_server_closed(void *user, struct alk_embed_server *s, int how)
{
	(void)user, (void)s;
	status = how;
	closed++;
}

static void on_up(void *user, struct alk_embed_client *c, bool first)
{
	(void)user, (void)c;
	assert_int_equal(first, up == 0);
	up++;
}

static void on_client_closed(void *user, struct alk_embed_client *c, int rc,
			     const struct alk_err *err)
{
	(void)user, (void)c;
	down_rc = rc;
	down_err = *err;
	down++;
}

static const struct alk_embed_server_ops server_ops = {sizeof(server_ops), on_ready, on_serve,
						       on_server_closed};
static const struct alk_embed_client_ops client_ops = {.size = sizeof(client_ops),
						       .ready = on_up,
						       .closed = on_client_closed};

static struct alk_embed_server *server_make(struct alk_err *err)
{
	const struct alk_setting settings[] = {{"key", keygen_path("host")},
					       {"authorized_keys", keygen_path("user.pub")},
					       {0}};

	return alk_embed_server_new(embed, "return { listen = '127.0.0.1:0', log_level = 'error' }",
				    settings, &server_ops, NULL, err);
}

static struct alk_embed_client *client_make(const char *identity, const char *accept,
					    struct alk_err *err)
{
	const struct alk_setting settings[] = {{"server", alk_embed_server_address(server, 0)},
					       {"user", "tester"},
					       {"identity", keygen_path(identity)},
					       {"known_hosts", keygen_path("known")},
					       {"accept_new_host_key", accept},
					       {"log_level", "error"},
					       {0}};

	return alk_embed_client_new(embed, NULL, settings, &client_ops, NULL, err);
}

static void begin(void **state)
{
	struct alk_err err;

	(void)state;
	alarm(60);
	ready = closed = status = up = down = down_rc = 0;
	memset(&got, 0, sizeof(got));
	keygen_run("rm -f known");
	ev = ev_loop_new(EVFLAG_AUTO);
	embed = alk_embed_new(ev, &err);
	assert_non_null(embed);
	server = server_make(&err);
	if (server == NULL)
		fail_msg("%s", err.text);
	turn_until(&ready, 1);
}

static void end(void)
{
	alk_embed_client_free(&client);
	alk_embed_server_free(&server);
	alk_embed_free(&embed);
	assert_null(embed);
	/* Nothing of the library's is left to wait for. */
	assert_false(ev_run(ev, 0));
	ev_loop_destroy(ev);
	alarm(0);
}

static void connected(void)
{
	struct alk_err err;

	client = client_make("user", "true", &err);
	if (client == NULL)
		fail_msg("%s", err.text);
	turn_until(&up, 1);
}

static void stream(const char *host, uint16_t port)
{
	memset(&got, 0, sizeof(got));
	assert_non_null(alk_embed_client_open(client, host, port, &stream_ops, NULL, NULL));
	turn_until(&got.closed, 1);
}

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

struct answer {
	int count;
	char json[4096];
	struct alk_err err;
};

static void on_done(void *user, const char *json, const struct alk_err *err)
{
	struct answer *answer = user;

	answer->count++;
	answer->json[0] = '\0';
	if (json != NULL)
		snprintf(answer->json, sizeof(answer->json), "%s", json);
	else
		answer->err = *err;
	assert_true((json == NULL) == (err != NULL));
}

static void request(const char *method, const char *params, struct answer *answer)
{
	memset(answer, 0, sizeof(*answer));
	assert_int_equal(alk_embed_server_request(server, method, params, on_done, answer), 0);
	assert_int_equal(answer->count, 0);
	turn_until(&answer->count, 1);
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

/* ---- what bindings need ---- */

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

static int posts[1000], posted;

static void on_post(void *user)
{
	posts[posted++] = *(int *)user;
}

static void thread_ready(void *user, struct alk_embed_server *s)
{
	server = s;
	client = client_make("user", "true", NULL);
	alk_embed_attend(embed); /* the posts that follow are waited for awake */
	sem_post(user);
}

static void thread_begin(void *user)
{
	static const struct alk_embed_server_ops ops = {.size = sizeof(ops), .ready = thread_ready};
	const struct alk_setting settings[] = {{"key", keygen_path("host")},
					       {"authorized_keys", keygen_path("user.pub")},
					       {"listen", "127.0.0.1:0"},
					       {0}};

	if (alk_embed_server_new(embed, "return { log_level = 'error' }", settings, &ops, user,
				 NULL) == NULL)
		abort();
}

/* Posts keep their order and none is lost; servers and clients that are left go with the thread. */
static void test_thread(void **state)
{
	static int numbers[1000];
	sem_t begun;

	(void)state;
	alarm(60);
	for (int round = 0; round < 3; round++) {
		keygen_run("rm -f known");
		sem_init(&begun, 0, 0);
		posted = up = 0; /* on_up may run before the end, and may not */
		embed = alk_embed_new(NULL, NULL);
		assert_non_null(embed);
		assert_int_equal(alk_embed_post(embed, thread_begin, &begun), 0);
		sem_wait(&begun);
		for (int i = 0; i < 1000; i++) {
			numbers[i] = i;
			assert_int_equal(alk_embed_post(embed, on_post, &numbers[i]), 0);
		}
		alk_embed_free(&embed);
		assert_int_equal(posted, 1000);
		for (int i = 0; i < 1000; i++)
			assert_int_equal(posts[i], i);
		sem_destroy(&begun);
	}
	client = NULL;
	server = NULL;
	alarm(0);
}

/* ---- visits: this thread in the place of the library's ---- */

/* In visits, until it is so. */
static void visit_until(const int *what, int value)
{
	bool is = false;

	while (!is) {
		assert_true(alk_embed_enter(embed, true));
		is = *what == value;
		alk_embed_leave(embed);
		sched_yield();
	}
}

/* As a program does it that has lent connections to `epoll`. */
static void serve_until(int epoll, const int *what, int value)
{
	struct pollfd in = {.fd = epoll, .events = POLLIN};
	bool is = false;

	while (!is) {
		assert_true(poll(&in, 1, 10) >= 0);
		assert_true(alk_embed_enter(embed, true));
		alk_embed_serve(embed, epoll);
		is = *what == value;
		alk_embed_leave(embed);
	}
}

static pthread_t data_thread;
static int pinged;

static size_t on_pinged(void *user, struct alk_channel *channel, const uint8_t *bytes, size_t n)
{
	(void)user, (void)channel, (void)bytes;
	data_thread = pthread_self();
	pinged++;
	return n;
}

static void on_ping_opened(void *user, struct alk_channel *channel)
{
	(void)user, (void)channel;
	got.opened++;
}

static const struct alk_channel_ops ping_ops = {.opened = on_ping_opened,
						.data = on_pinged,
						.close = on_close};

static void on_posted(void *user)
{
	++*(int *)user;
}

static void test_visits(void **state)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC), first = 0;
	struct alk_channel *channel;
	struct pollfd in = {.fd = epoll, .events = POLLIN};
	struct alk_err err;

	(void)state;
	alarm(60);
	ready = closed = up = down = pinged = 0;
	memset(&got, 0, sizeof(got));
	keygen_run("rm -f known");
	embed = alk_embed_new(NULL, &err);
	assert_non_null(embed);
	assert_true(alk_embed_enter(embed, true));
	server = server_make(&err);
	alk_embed_leave(embed);
	assert_non_null(server);
	visit_until(&ready, 1);
	/* What was posted before runs before. */
	assert_int_equal(alk_embed_post(embed, on_posted, &first), 0);
	assert_true(alk_embed_enter(embed, true));
	assert_int_equal(first, 1);
	client = client_make("user", "true", &err);
	assert_non_null(client);
	assert_int_equal(alk_embed_client_lend(client, epoll), -ENOTSUP); /* no session yet */
	alk_embed_leave(embed);
	visit_until(&up, 1);
	assert_true(alk_embed_enter(embed, true));
	channel = alk_embed_client_open(client, "alknet-echo", 7, &ping_ops, NULL, &err);
	assert_non_null(channel);
	alk_embed_leave(embed);
	visit_until(&got.opened, 1);
	/* The answer is this thread's. (The loop looks now and then whether it is wanted: then it
	 * was the loop's.) */
	do {
		assert_true(alk_embed_enter(embed, true));
		pinged = 0;
		assert_int_equal(alk_channel_write(channel, "ping", 4), 4);
		assert_int_equal(alk_embed_client_lend(client, epoll), 0);
		alk_embed_leave(embed);
		serve_until(epoll, &pinged, 1);
	} while (!pthread_equal(data_thread, pthread_self()));
	/* Nobody comes for it: it is the loop's again. */
	assert_true(alk_embed_enter(embed, true));
	assert_int_equal(alk_channel_write(channel, "ping", 4), 4);
	assert_int_equal(alk_embed_client_lend(client, epoll), 0);
	alk_embed_leave(embed);
	visit_until(&pinged, 2);
	assert_false(pthread_equal(data_thread, pthread_self()));
	/* Taken back by hand. */
	assert_true(alk_embed_enter(embed, true));
	assert_int_equal(alk_embed_client_lend(client, epoll), 0);
	alk_embed_client_recall(client);
	assert_int_equal(alk_channel_write(channel, "ping", 4), 4);
	alk_embed_leave(embed);
	visit_until(&pinged, 3);
	assert_int_equal(poll(&in, 1, 0), 0);
	/* A session that ends while it is lent. */
	assert_true(alk_embed_enter(embed, true));
	assert_int_equal(alk_embed_client_lend(client, epoll), 0);
	alk_embed_client_stop(client);
	alk_embed_leave(embed);
	visit_until(&down, 1);
	assert_int_equal(got.closed, 1);
	assert_int_equal(poll(&in, 1, 0), 0);
	assert_true(alk_embed_enter(embed, true));
	assert_int_equal(alk_embed_client_lend(client, epoll), -ENOTSUP);
	alk_embed_client_free(&client);
	alk_embed_server_free(&server);
	alk_embed_leave(embed);
	alk_embed_free(&embed);
	close(epoll);
	alarm(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_streams),	      cmocka_unit_test(test_requests),
		cmocka_unit_test(test_out_of_memory), cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_thread),	      cmocka_unit_test(test_visits),
		cmocka_unit_test(test_contents),      cmocka_unit_test(test_lost),
		cmocka_unit_test(test_passphrases),   cmocka_unit_test(test_two_servers),
		cmocka_unit_test(test_late_failure),  cmocka_unit_test(test_lost_for_longer),
		cmocka_unit_test(test_wiped),	      cmocka_unit_test(test_log_of_a_reload),
	};

	return cmocka_run_group_tests(tests, setup, keygen_teardown);
}
