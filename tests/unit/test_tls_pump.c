/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The pump, or a site, and its connection, and a client of OpenSSL's in the same thread: what of a
 * turn of the loop a peer can have. */
#include "../../src/plugins/transports/tls/tls.h"
#include "../../src/plugins/transports/tls/acme.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cmocka.h>
#include "board.h"
#include "direct.h"
#include "tls_play.h"

#define MANY 2000 /* records, which are all there when the first is read */
#define TURN_RECORDS 128
#define FDS 64 /* more than are open */
#define LONG_MS 20000
#define CHUNKS 200
#define SEND_MS 2000 /* a visitor's time between two writes */

static struct tls tls;
static SSL_CTX *client_ctx;
static SSL *client;
static int net;		   /* the client's socket */
static uint8_t secret[32]; /* of what the client says */

/* SSH, or a web server: the other end of the pump. */
static int end;
static struct alk_io *end_io;
static struct alk_direct *direct;
static const char *says; /* until it is taken */
static bool hears;	 /* the client takes all that there is when SSH reads */
static size_t came, wanted;
static int last_errno;
static unsigned wakes;

/* A web server that always has more, CHUNKS of it, and a network that takes all. */
static int pump_net = -1, pump_web = -1;
static bool endless;
static unsigned chunks, turn_chunks, turn_most;

ssize_t recv(int fd, void *bytes, size_t n, int flags)
{
	if (!endless || fd != pump_web)
		return syscall(SYS_recvfrom, fd, bytes, n, flags, NULL, NULL);
	if (chunks == CHUNKS) {
		alk_loop_stop(tls.loop);
		errno = EAGAIN;
		return -1;
	}
	chunks++;
	if (++turn_chunks > turn_most)
		turn_most = turn_chunks;
	memset(bytes, 'x', n);
	return (ssize_t)n;
}

ssize_t send(int fd, const void *bytes, size_t n, int flags)
{
	if (endless && fd == pump_net)
		return (ssize_t)n;
	return syscall(SYS_sendto, fd, bytes, n, flags, NULL, 0);
}

/* The next one fails. */
static bool no_memory;
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);

void *__wrap_calloc(size_t n, size_t size)
{
	if (!no_memory)
		return __real_calloc(n, size);
	no_memory = false;
	return NULL;
}

const char *tls_error(void)
{
	return "an error";
}

int acme_worker_http(const struct acme_worker *worker, const uint8_t *bytes, size_t n,
		     const char **text)
{
	(void)worker, (void)bytes, (void)n, (void)text;
	return -1;
}

/* ---- the client ---- */

/* All at once: each write of its own would take room for itself in the socket. */
static void client_flush(void)
{
	char *bytes;
	long n = BIO_get_mem_data(SSL_get_wbio(client), &bytes);

	assert_int_equal(n, write(net, bytes, (size_t)n));
	BIO_reset(SSL_get_wbio(client));
}

static void client_hear(void)
{
	char bytes[65536];
	ssize_t n;

	while ((n = recv(net, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
		BIO_write(SSL_get_rbio(client), bytes, (int)n);
}

static void client_says(const char *text)
{
	assert_int_equal(strlen(text), SSL_write(client, text, (int)strlen(text)));
}

static void client_changes_keys(int times, int type)
{
	for (int i = 0; i < times; i++) {
		assert_int_equal(1, SSL_key_update(client, type));
		assert_int_equal(1, SSL_do_handshake(client));
	}
}

static void on_keylog(const SSL *ssl, const char *line)
{
	const char *hex = strrchr(line, ' ') + 1;
	unsigned byte;

	(void)ssl;
	if (strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24) != 0)
		return;
	for (size_t i = 0; i < sizeof(secret); i++, hex += 2) {
		assert_int_equal(1, sscanf(hex, "%2x", &byte));
		secret[i] = (uint8_t)byte;
	}
}

/* HKDF-Expand-Label without a context, of 32 bytes at most. */
static void expand(const char *label, uint8_t len, uint8_t bytes[32])
{
	uint8_t info[32] = {0, len, (uint8_t)(6 + strlen(label))};
	size_t n = 3;
	unsigned made = 32;

	n += (size_t)snprintf((char *)info + n, sizeof(info) - n, "tls13 %s", label);
	info[n++] = 0;
	info[n++] = 1;
	assert_non_null(HMAC(EVP_sha256(), secret, sizeof(secret), info, n, bytes, &made));
}

/* The client's first record behind its handshake: the head of a message of which no more comes. */
static void client_begins_a_message(void)
{
	static const uint8_t head[] = {0x17, 3, 3, 0, 21}, inner[] = {24, 0, 0, 1, 22};
	uint8_t key[32], iv[32], record[5 + 5 + 16];
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int n;

	expand("key", 16, key);
	expand("iv", 12, iv);
	memcpy(record, head, sizeof(head));
	assert_int_equal(1, EVP_EncryptInit_ex(ctx, EVP_aes_128_gcm(), NULL, key, iv));
	assert_int_equal(1, EVP_EncryptUpdate(ctx, NULL, &n, head, sizeof(head)));
	assert_int_equal(1, EVP_EncryptUpdate(ctx, record + 5, &n, inner, sizeof(inner)));
	assert_int_equal(1, EVP_EncryptFinal_ex(ctx, record + 10, &n));
	assert_int_equal(1, EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, 16, record + 10));
	EVP_CIPHER_CTX_free(ctx);
	assert_int_equal(sizeof(record), write(net, record, sizeof(record)));
}

static void on_conn(void *user, int revents)
{
	(void)user, (void)revents;
}

/* The server's socket, and a client. */
static int client_connects(int version)
{
	const int size = 1 << 20, small = 1 << 14;
	int pair[2];

	assert_int_equal(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair));
	net = pair[0];
	setsockopt(net, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	client = SSL_new(client_ctx);
	SSL_set_min_proto_version(client, version);
	SSL_set_max_proto_version(client, version);
	SSL_set_bio(client, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	SSL_set_connect_state(client);
	return pair[1];
}

/* A connection after its handshake. */
static void connected(struct tls_conn *conn, int version)
{
	int fd = client_connects(version), rc = 0;
	struct alk_err err;

	pump_net = fd;
	assert_int_equal(0, tls_conn_init(conn, &tls, &fd, on_conn, NULL, &err));
	for (int i = 0; i < 4; i++) {
		client_hear();
		SSL_do_handshake(client);
		client_flush();
		tls_conn_ready(conn, ALK_IO_READ | ALK_IO_WRITE);
		if (rc == 0)
			rc = tls_conn_handshake(conn, &err);
	}
	assert_int_equal(1, rc);
	assert_true(SSL_is_init_finished(client));
}

/* ---- the other end ---- */

static void on_end(void *user, int revents)
{
	char bytes[65536];
	ssize_t n;

	(void)user;
	if (hears)
		client_hear();
	if ((revents & ALK_IO_WRITE) != 0 && says != NULL &&
	    alk_direct_send(direct, says, strlen(says)) > 0)
		says = NULL;
	n = direct != NULL ? alk_direct_recv(direct, bytes, sizeof(bytes))
			   : recv(end, bytes, sizeof(bytes), MSG_DONTWAIT);
	last_errno = n < 0 ? errno : 0;
	if (n > 0)
		came += (size_t)n;
	if (came >= wanted || (n < 0 && errno != EAGAIN) || n == 0)
		alk_loop_stop(tls.loop);
}

static void end_watched(void)
{
	came = 0;
	end_io = alk_io_new(tls.loop, end, "end", on_end, NULL);
	alk_io_set(end_io, ALK_IO_READ);
}

/* To SSH, which asks itself if it `takes`. */
static void pump_to_ssh(int version, bool takes)
{
	struct tls_conn conn;
	struct alk_err err;

	connected(&conn, version);
	assert_int_equal(0, tls_pump_start(&conn, NULL, 0, &end, &err));
	if (takes) {
		direct = alk_direct_take(end, on_end, NULL);
		assert_non_null(direct);
	}
	end_watched();
}

static void pump_to_web(int version)
{
	struct tls_conn conn;
	struct alk_err err;
	int pair[2];

	connected(&conn, version);
	assert_int_equal(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair));
	end = pair[1];
	pump_web = pair[0];
	assert_int_equal(0, tls_pump_join(&conn, NULL, 0, &pair[0], &err));
	end_watched();
}

static void on_wake(void *user)
{
	(void)user;
	wakes++;
	turn_chunks = 0;
}

static void on_late(void *user)
{
	(void)user;
	alk_loop_stop(tls.loop);
}

/* Until `bytes` have come to the end, or nothing more comes. */
static void run(size_t bytes, uint64_t ms)
{
	struct alk_timer *late = alk_timer_new(tls.loop, "late", on_late, NULL);

	wanted = bytes;
	wakes = 0;
	alk_timer_start(late, ms);
	alk_loop_run(tls.loop);
	alk_timer_free(&late);
}

/* ---- tests ---- */

static int setup(void **state)
{
	struct alk_err err;

	(void)state;
	tls = (struct tls){.role = ALK_ROLE_WORKER, .loop = alk_loop_new(&err)};
	tls.times = stealth_times;
	tls.times.send = SEND_MS;
	tls.ctx = SSL_CTX_new(TLS_server_method());
	client_ctx = SSL_CTX_new(TLS_client_method());
	assert_true(tls.loop != NULL && tls.ctx != NULL && client_ctx != NULL);
	certificate_use(tls.ctx);
	assert_int_equal(1, SSL_CTX_set_ciphersuites(client_ctx, "TLS_AES_128_GCM_SHA256"));
	SSL_CTX_set_keylog_callback(client_ctx, on_keylog);
	SSL_CTX_set_options(tls.ctx, SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_mode(tls.ctx,
			 SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	alk_loop_set_hooks(tls.loop, on_wake, NULL, NULL);
	direct = NULL;
	end = -1;
	endless = hears = false;
	chunks = turn_chunks = turn_most = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	alk_io_free(&end_io);
	alk_direct_end(&direct);
	if (end >= 0)
		close(end);
	close(net);
	while (tls.sites != NULL) {
		struct tls_site *site = tls.sites;

		tls_site_free(&site);
	}
	while (tls.pumps != NULL) {
		struct tls_pump *pump = tls.pumps;

		tls_pump_free(&pump);
	}
	SSL_free(client);
	SSL_CTX_free(client_ctx);
	SSL_CTX_free(tls.ctx);
	BIO_meth_free(tls.bio);
	while (tls.spares > 0)
		free(tls.spare[--tls.spares]);
	alk_loop_free(&tls.loop);
	return 0;
}

static void client_says_bytes(int n)
{
	for (int i = 0; i < n; i++)
		client_says("x");
	client_flush();
}

static void test_records_of_a_byte_to_ssh(void **state)
{
	(void)state;
	pump_to_ssh(TLS1_3_VERSION, true);
	client_says_bytes(MANY);
	run(MANY, LONG_MS);
	assert_int_equal(MANY, came);
	assert_in_range(wakes, MANY / TURN_RECORDS, 2 * MANY);
}

static void test_records_of_a_byte_through_the_pair(void **state)
{
	(void)state;
	pump_to_ssh(TLS1_2_VERSION, false);
	client_says_bytes(MANY);
	run(MANY, LONG_MS);
	assert_int_equal(MANY, came);
	assert_in_range(wakes, MANY / TURN_RECORDS, 2 * MANY);
}

/* A turn does not get longer by what else its records are good for. */
static void test_full_records_in_one_turn(void **state)
{
	static char full[TLS_RECORD_MAX];

	(void)state;
	pump_to_ssh(TLS1_3_VERSION, true);
	for (int i = 0; i < 4; i++)
		assert_int_equal(sizeof(full), SSL_write(client, full, sizeof(full)));
	client_flush();
	run(4 * sizeof(full), LONG_MS);
	assert_int_equal(4 * sizeof(full), came);
	assert_in_range(wakes, 1, 4);
}

static void test_new_keys_to_a_web_server(void **state)
{
	(void)state;
	pump_to_web(TLS1_3_VERSION);
	client_changes_keys(MANY, SSL_KEY_UPDATE_NOT_REQUESTED);
	client_says("hello");
	client_flush();
	run(5, LONG_MS);
	assert_int_equal(5, came);
	assert_in_range(wakes, MANY / TURN_RECORDS, 2 * MANY);
}

static void test_new_keys_without_end_to_ssh(void **state)
{
	const bool takes = *state != NULL;

	pump_to_ssh(TLS1_3_VERSION, takes);
	client_changes_keys(TURN_RECORDS / 2, SSL_KEY_UPDATE_NOT_REQUESTED);
	client_says("hello");
	client_flush();
	run(5, LONG_MS);
	assert_int_equal(5, came);
	client_changes_keys(MANY, SSL_KEY_UPDATE_NOT_REQUESTED);
	client_says("again");
	client_flush();
	run(10, LONG_MS);
	assert_int_equal(5, came);
	assert_int_equal(takes ? EPROTO : 0, last_errno);
	assert_in_range(wakes, 1, 8);
}

/* What was refused SSH is nobody's when it has gone: the socket that takes everything is no news. */
static void test_a_peer_that_stays_costs_nothing(void **state)
{
	static const char bytes[65536];
	ssize_t n;

	(void)state;
	pump_to_ssh(TLS1_3_VERSION, true);
	do
		n = alk_direct_send(direct, bytes, sizeof(bytes));
	while (n == sizeof(bytes));
	assert_in_range(n, 0, sizeof(bytes) - 1);
	alk_io_free(&end_io);
	alk_direct_end(&direct);
	alk_fd_close(&end);
	for (int i = 0; i < 10; i++) {
		client_hear();
		run(1, 5);
	}
	client_hear();
	run(1, 300);
	assert_in_range(wakes, 1, 20);
}

/* What there is room for is not all that there is to do. */
static void test_room_does_not_end_a_turn(void **state)
{
	static const char bytes[65536];

	(void)state;
	pump_to_ssh(TLS1_3_VERSION, true);
	while (alk_direct_send(direct, bytes, sizeof(bytes)) == sizeof(bytes))
		;
	hears = true;
	client_says_bytes(MANY);
	run(MANY, LONG_MS);
	assert_int_equal(MANY, came);
}

/* OpenSSL writes nothing in the middle of a peer's message: the peer is what is waited for. */
static void test_half_a_message_costs_nothing(void **state)
{
	const bool takes = *state != NULL;

	pump_to_ssh(TLS1_3_VERSION, takes);
	client_begins_a_message();
	run(1, 20);
	if (takes) {
		says = "hello";
		on_end(NULL, ALK_IO_WRITE);
		assert_non_null(says);
	}
	if (!takes)
		assert_int_equal(5, write(end, "hello", 5));
	run(1, 300);
	assert_in_range(wakes, 1, 20);
	says = NULL;
}

static void client_reads(size_t bytes)
{
	char piece[TLS_RECORD_MAX];
	int n;

	for (int i = 0; i < 100 && bytes > 0; i++) {
		run(1, 2);
		client_hear();
		while ((n = SSL_read(client, piece, sizeof(piece))) > 0)
			bytes -= (size_t)n;
	}
	assert_int_equal(0, bytes);
}

/* What there is for the client; then only what his TLS says of the end. */
static void client_reads_all(void)
{
	char piece[TLS_RECORD_MAX];

	client_hear();
	while (SSL_read(client, piece, sizeof(piece)) > 0)
		;
}

/* The client takes nothing and asks for new keys until there is no room for the answers: what he says
 * behind that is not read. */
static size_t client_asks_for_keys(bool takes)
{
	static const char bytes[TLS_CHUNK_SIZE];
	size_t said = 0;

	pump_to_ssh(TLS1_3_VERSION, takes);
	if (takes)
		assert_int_equal(sizeof(bytes), alk_direct_send(direct, bytes, sizeof(bytes)));
	else
		assert_int_equal(sizeof(bytes), write(end, bytes, sizeof(bytes)));
	run(SIZE_MAX, 20);
	for (; said < 10; said++) {
		client_changes_keys(TURN_RECORDS / 2, SSL_KEY_UPDATE_REQUESTED);
		client_says("x");
	}
	client_flush();
	run(1, LONG_MS);
	run(said, 200);
	assert_in_range(came, 1, said - 1);
	return said;
}

static void test_what_waits_behind_an_answer_comes(void **state)
{
	size_t said = client_asks_for_keys(*state != NULL);

	for (int i = 0; i < 100 && came < said; i++) {
		client_reads_all();
		run(said, 50);
	}
	assert_int_equal(said, came);
}

static void test_an_answer_that_waits_costs_nothing(void **state)
{
	client_asks_for_keys(*state != NULL);
	client_says("y");
	client_flush();
	run(SIZE_MAX, 300);
	assert_in_range(wakes, 1, 20);
}

/* SSH has written more than the network takes before it asks itself: it does not then. */
static void test_what_waits_goes_first(void **state)
{
	static const char bytes[80000];

	(void)state;
	pump_to_ssh(TLS1_3_VERSION, false);
	assert_int_equal(sizeof(bytes), write(end, bytes, sizeof(bytes)));
	assert_null(alk_direct_take(end, on_end, NULL));
	client_reads(sizeof(bytes));
	assert_int_equal(5, write(end, "after", 5));
	client_reads(5);
}

static void on_stranger(void *user, int revents)
{
	unsigned *told = user;

	(void)revents;
	(*told)++;
}

/* The numbers of the pair are other sockets' soon. */
static void test_no_pair_is_left_where_there_is_no_memory(void **state)
{
	struct tls_conn conn;
	struct alk_err err;
	int strangers[4];
	struct alk_io *ios[4];
	unsigned told = 0;

	(void)state;
	connected(&conn, TLS1_3_VERSION);
	no_memory = true;
	assert_int_equal(-ENOMEM, tls_pump_start(&conn, NULL, 0, &end, &err));
	assert_false(no_memory);
	for (int i = 0; i < 4; i += 2)
		assert_int_equal(0, socketpair(AF_UNIX, SOCK_STREAM, 0, strangers + i));
	for (int i = 0; i < 4; i++) {
		ios[i] = alk_io_new(tls.loop, strangers[i], "stranger", on_stranger, &told);
		alk_io_set(ios[i], ALK_IO_READ);
	}
	for (int fd = 0; fd < FDS; fd++)
		alk_loop_wrote(tls.loop, fd);
	run(1, 1);
	for (int i = 0; i < 4; i++) {
		alk_io_free(&ios[i]);
		close(strangers[i]);
	}
	assert_int_equal(0, told);
}

/* ---- a web server of our own ---- */

static void on_link(void *user, int rc, struct alk_link *link, const struct alk_err *err)
{
	(void)user, (void)rc, (void)link, (void)err;
}

/* A visitor asks for a page behind so many new keys that there is no room for the answers; `more`: he
 * says something after they were read. */
static void site_is_asked(bool more)
{
	struct alk_link link = ALK_LINK_NONE;

	link.fd = client_connects(TLS1_3_VERSION);
	assert_non_null(tls_site_admit(&tls, &link, on_link, NULL));
	for (int i = 0; i < 1000 && !SSL_is_init_finished(client); i++) {
		SSL_do_handshake(client);
		client_flush();
		run(1, 5);
		client_hear();
	}
	client_changes_keys(400, SSL_KEY_UPDATE_REQUESTED);
	client_says("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
	client_flush();
	run(1, 200);
	if (more) {
		client_says("x");
		client_flush();
	}
}

static void test_a_page_that_waits_behind_an_answer_comes(void **state)
{
	char page[4096];
	int n = -1;

	(void)state;
	site_is_asked(false);
	for (int i = 0; i < 100 && n <= 0; i++) {
		client_hear();
		n = SSL_read(client, page, sizeof(page));
		run(1, 50);
	}
	assert_in_range(n, 12, sizeof(page));
	assert_memory_equal("HTTP/1.1 404", page, 12);
}

static void test_a_page_that_waits_costs_nothing(void **state)
{
	(void)state;
	site_is_asked(true);
	run(1, 300);
	assert_in_range(wakes, 1, 20);
}

/* ---- visitors ---- */

static void web_says_all_it_can(void)
{
	static const char bytes[65536];

	while (write(end, bytes, sizeof(bytes)) > 0)
		;
}

static void test_a_visitor_who_takes_nothing_is_ended(void **state)
{
	(void)state;
	pump_to_web(TLS1_3_VERSION);
	web_says_all_it_can();
	run(1, LONG_MS);
	assert_null(tls.pumps);
	assert_int_equal(0, tls.n_sites);
	client_reads_all();
	assert_int_equal(0, recv(net, &(char){0}, 1, MSG_DONTWAIT));
	assert_int_equal(0, SSL_get_shutdown(client) & SSL_RECEIVED_SHUTDOWN);
}

/* What he says is not what he takes. */
static void test_a_visitor_who_only_talks_is_ended(void **state)
{
	(void)state;
	pump_to_web(TLS1_3_VERSION);
	web_says_all_it_can();
	for (int i = 0; i < LONG_MS / 20 && tls.pumps != NULL; i++) {
		client_says("x");
		client_flush();
		run(SIZE_MAX, 20);
	}
	assert_null(tls.pumps);
}

static void test_a_visitor_who_takes_some_stays(void **state)
{
	uint64_t slowest = 0;

	(void)state;
	pump_to_web(TLS1_3_VERSION);
	for (int i = 0; i < SEND_MS * 3 / 2 / 50; i++) {
		uint64_t then = alk_board_now_us();

		web_says_all_it_can();
		client_reads_all();
		run(1, 50);
		then = alk_board_now_us() - then;
		slowest = then > slowest ? then : slowest;
	}
	if (slowest / 1000 > SEND_MS / 2)
		skip(); /* this machine has taken nothing itself for so long */
	assert_non_null(tls.pumps);
}

/* Silence is not: a web server may let him wait. */
static void test_a_visitor_for_whom_there_is_nothing_stays(void **state)
{
	(void)state;
	pump_to_web(TLS1_3_VERSION);
	run(1, SEND_MS * 3 / 2);
	assert_non_null(tls.pumps);
	assert_int_equal(5, write(end, "hello", 5));
	client_reads(5);
}

/* However fast the two are that a visitor is between: the others have their turns. */
static void test_a_web_server_that_has_no_end(void **state)
{
	(void)state;
	pump_to_web(TLS1_3_VERSION);
	endless = true;
	assert_int_equal(1, write(end, "x", 1));
	run(SIZE_MAX, LONG_MS);
	assert_int_equal(CHUNKS, chunks);
	assert_in_range(turn_most, 1, 8);
}

static void test_a_web_server_that_has_no_end_when_the_visitor_goes(void **state)
{
	(void)state;
	pump_to_web(TLS1_3_VERSION);
	endless = true;
	tls_pump_free(&(struct tls_pump *){tls.pumps});
	assert_int_equal(0, chunks);
}

static void test_buffers_are_given_back_where_they_can_be(void **state)
{
	static const struct {
		unsigned long version;
		bool can;
	} cases[] = {
		{0x30000000, false}, {0x300000d0, false}, {0x300000e0, true},  {0x30000160, true},
		{0x30100050, false}, {0x30100060, true},  {0x30200010, false}, {0x30200020, true},
		{0x30300000, false}, {0x30300010, true},  {0x30400000, true},  {0x30500000, true},
		{0x40000000, true},  {0x1010118f, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(cases[i].can, tls_gives_back(cases[i].version));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buffers_are_given_back_where_they_can_be),
		cmocka_unit_test_setup_teardown(test_records_of_a_byte_to_ssh, setup, teardown),
		cmocka_unit_test_setup_teardown(test_records_of_a_byte_through_the_pair, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_full_records_in_one_turn, setup, teardown),
		cmocka_unit_test_setup_teardown(test_new_keys_to_a_web_server, setup, teardown),
		{"test_new_keys_without_end_through_the_pair", test_new_keys_without_end_to_ssh,
		 setup, teardown, NULL},
		{"test_new_keys_without_end_to_ssh", test_new_keys_without_end_to_ssh, setup,
		 teardown, &tls},
		cmocka_unit_test_setup_teardown(test_room_does_not_end_a_turn, setup, teardown),
		{"test_half_a_message_through_the_pair", test_half_a_message_costs_nothing, setup,
		 teardown, NULL},
		{"test_half_a_message_to_ssh", test_half_a_message_costs_nothing, setup, teardown,
		 &tls},
		{"test_what_waits_behind_an_answer_comes_through_the_pair",
		 test_what_waits_behind_an_answer_comes, setup, teardown, NULL},
		{"test_what_waits_behind_an_answer_comes_to_ssh",
		 test_what_waits_behind_an_answer_comes, setup, teardown, &tls},
		{"test_an_answer_that_waits_costs_nothing_through_the_pair",
		 test_an_answer_that_waits_costs_nothing, setup, teardown, NULL},
		{"test_an_answer_that_waits_costs_nothing_to_ssh",
		 test_an_answer_that_waits_costs_nothing, setup, teardown, &tls},
		cmocka_unit_test_setup_teardown(test_what_waits_goes_first, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_peer_that_stays_costs_nothing, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_page_that_waits_behind_an_answer_comes,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_page_that_waits_costs_nothing, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_no_pair_is_left_where_there_is_no_memory,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_visitor_who_takes_nothing_is_ended, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_visitor_who_only_talks_is_ended, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_visitor_who_takes_some_stays, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_visitor_for_whom_there_is_nothing_stays,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_web_server_that_has_no_end, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_web_server_that_has_no_end_when_the_visitor_goes, setup, teardown),
	};

	alarm(120);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
