/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Session tickets by OpenSSL with our keys: who comes back with one, before and after the keys have
 * changed. */
#include "../../src/plugins/transports/tls/tls.h"

#include <errno.h>
#include <openssl/bio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include "tls_play.h"

#define ROTATE_MS ((uint64_t)TLS_TICKET_ROTATE * 1000)

static SSL_CTX *server, *client;
static struct tls_tickets *tickets;
static SSL_SESSION *latest;

static int setup(void **state)
{
	(void)state;
	server = SSL_CTX_new(TLS_server_method());
	client = SSL_CTX_new(TLS_client_method());
	tickets = tls_tickets_ref();
	assert_true(server != NULL && client != NULL && tickets != NULL);
	certificate_use(server);
	SSL_CTX_set_session_cache_mode(server, SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_NO_INTERNAL);
	tls_tickets_use(tickets, server);
	tls_tickets_rotate(tickets, 1);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	SSL_SESSION_free(latest);
	latest = NULL;
	SSL_CTX_free(server);
	SSL_CTX_free(client);
	tls_tickets_unref(&tickets);
	return 0;
}

/* One connection, with a session or without; was it taken up? `latest` is the last ticket
 * afterwards. */
static bool visit(SSL_SESSION *session, int version)
{
	SSL *a = SSL_new(server), *b = SSL_new(client);
	BIO *one, *two;
	char byte = 'x';
	bool resumed;

	assert_true(a != NULL && b != NULL);
	assert_int_equal(BIO_new_bio_pair(&one, 0, &two, 0), 1);
	SSL_set_bio(a, one, one);
	SSL_set_bio(b, two, two);
	SSL_set_accept_state(a);
	SSL_set_connect_state(b);
	assert_int_equal(SSL_set_max_proto_version(b, version), 1);
	if (session != NULL) { /* a copy: OpenSSL spoils one of TLS 1.3 that was used */
		session = SSL_SESSION_dup(session);
		assert_int_equal(SSL_set_session(b, session), 1);
	}
	for (int i = 0; i < 10 && !(SSL_is_init_finished(a) && SSL_is_init_finished(b)); i++) {
		SSL_do_handshake(b);
		SSL_do_handshake(a);
	}
	assert_true(SSL_is_init_finished(a) && SSL_is_init_finished(b));
	assert_int_equal(SSL_write(a, &byte, 1), 1);
	assert_int_equal(SSL_read(b, &byte, 1), 1);
	resumed = SSL_session_reused(a) == 1;
	assert_int_equal(resumed, SSL_session_reused(b));
	SSL_SESSION_free(session);
	SSL_SESSION_free(latest);
	latest = SSL_get1_session(b);
	SSL_shutdown(a);
	SSL_shutdown(b);
	SSL_free(a);
	SSL_free(b);
	return resumed;
}

/* The ticket of a first visit. */
static SSL_SESSION *ticket_get(int version)
{
	SSL_SESSION *session;

	assert_false(visit(NULL, version));
	assert_non_null(latest);
	assert_true(SSL_SESSION_has_ticket(latest));
	assert_int_equal(SSL_SESSION_get_ticket_lifetime_hint(latest), TLS_TICKET_LIFETIME);
	session = latest;
	latest = NULL;
	return session;
}

static const unsigned char *key_name(const SSL_SESSION *session)
{
	const unsigned char *ticket;
	size_t n;

	SSL_SESSION_get0_ticket(session, &ticket, &n);
	assert_true(n > 16);
	return ticket;
}

static void keys_change(int version)
{
	SSL_SESSION *session = ticket_get(version);

	assert_true(visit(session, version));
	/* Not before it is time. */
	tls_tickets_rotate(tickets, ROTATE_MS);
	assert_true(visit(session, version));
	tls_tickets_rotate(tickets, ROTATE_MS + 1);
	/* The keys before are still good; who comes with them gets a ticket with the new ones. */
	assert_true(visit(session, version));
	assert_non_null(latest);
	assert_memory_not_equal(key_name(latest), key_name(session), 16);
	assert_true(visit(latest, version));
	tls_tickets_rotate(tickets, 2 * ROTATE_MS + 1);
	assert_false(visit(session, version));
	SSL_SESSION_free(session);
}

static void test_keys_change_tls_1_2(void **state)
{
	(void)state;
	keys_change(TLS1_2_VERSION);
}

static void test_keys_change_tls_1_3(void **state)
{
	(void)state;
	keys_change(TLS1_3_VERSION);
}

/* A worker that has been told the keys takes up what another one gave; one that has not does
 * not. */
static void test_another_worker(void **state)
{
	uint8_t told[512];
	const uint8_t *bytes;
	size_t n = tls_tickets_bytes(tickets, &bytes);
	SSL_SESSION *session = ticket_get(TLS1_3_VERSION);

	(void)state;
	assert_true(n <= sizeof(told));
	memcpy(told, bytes, n);
	tls_tickets_unref(&tickets);
	tickets = tls_tickets_ref();
	assert_non_null(tickets);
	tls_tickets_use(tickets, server);
	assert_false(visit(session, TLS1_3_VERSION));
	assert_int_equal(tls_tickets_set(tickets, told, n - 1), -EINVAL);
	assert_int_equal(tls_tickets_set(tickets, told, n), 0);
	assert_true(visit(session, TLS1_3_VERSION));
	SSL_SESSION_free(session);
}

/* One set for the process, however many there are that use it. */
static void test_one_set(void **state)
{
	struct tls_tickets *other = tls_tickets_ref();

	(void)state;
	assert_ptr_equal(other, tickets);
	tls_tickets_unref(&other);
	assert_null(other);
	tls_tickets_unref(&other);
}

/* A ticket of which one bit is wrong is no error: a full handshake. */
static void test_forged(void **state)
{
	SSL_SESSION *session = ticket_get(TLS1_2_VERSION);
	unsigned char der[4096], *p = der;
	const unsigned char *ticket, *q = der;
	size_t n;
	int len = i2d_SSL_SESSION(session, NULL);
	unsigned char *at;
	SSL_SESSION *forged;

	(void)state;
	assert_true(len > 0 && (size_t)len <= sizeof(der));
	i2d_SSL_SESSION(session, &p);
	SSL_SESSION_get0_ticket(session, &ticket, &n);
	at = memmem(der, (size_t)len, ticket, n);
	assert_non_null(at);
	at[n - 1] ^= 1;
	forged = d2i_SSL_SESSION(NULL, &q, len);
	assert_non_null(forged);
	assert_false(visit(forged, TLS1_2_VERSION));
	SSL_SESSION_free(forged);
	SSL_SESSION_free(session);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_keys_change_tls_1_2, setup, teardown),
		cmocka_unit_test_setup_teardown(test_keys_change_tls_1_3, setup, teardown),
		cmocka_unit_test_setup_teardown(test_another_worker, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_set, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forged, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
