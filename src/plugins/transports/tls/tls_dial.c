/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Client: connect (through the proxy, if there is one), handshake, and see whether it is the right
 * server. */
#include "tls.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIALING_MAGIC 0x746c7364u

struct tls_dialing {
	uint32_t magic;
	struct tls *tls;
	struct alk_dial *dial;
	struct tls_conn conn;
	struct alk_link link;
	char name[256]; /* who the server has to be */
	alk_link_fn *done;
	void *user;
};

static void dialing_free(struct tls_dialing *d)
{
	alk_dial_cancel(&d->dial);
	tls_conn_deinit(&d->conn);
	d->magic = 0;
	free(d);
}

static void dialing_end(struct tls_dialing *d, int rc, const struct alk_err *err)
{
	struct alk_link link = d->link;
	alk_link_fn *done = d->done;
	void *user = d->user;

	dialing_free(d);
	done(user, rc, &link, err);
}

/* The name that is checked also says in the hello whom we want; an address is not said there (RFC
 * 6066 3). */
static int name_set(struct tls_dialing *d, struct alk_err *err)
{
	uint8_t address[sizeof(struct in6_addr)];
	SSL *ssl = d->conn.ssl;
	bool good;

	if (inet_pton(AF_INET, d->name, address) == 1 || inet_pton(AF_INET6, d->name, address) == 1)
		good = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), d->name) == 1;
	else
		good = SSL_set1_host(ssl, d->name) == 1 &&
		       SSL_set_tlsext_host_name(ssl, d->name) == 1;
	return good ? 0
		    : alk_err_set(err, -EINVAL, "tls_server_name: \"%.64s\" cannot be one: %s",
				  d->name, tls_error());
}

static void dialing_turn(struct tls_dialing *d)
{
	struct alk_err err = {""};
	int rc = tls_conn_handshake(&d->conn, &err);

	if (rc == 0)
		return;
	if (rc > 0) {
		tls_conn_describe(&d->conn, &d->link);
		rc = d->tls->keyed ? tls_stealth_knock(&d->conn, d->name, &err) : 0;
		if (rc == 0)
			rc = tls_pump_start(&d->conn, NULL, 0, &d->link.fd, &err);
	}
	dialing_end(d, rc, &err);
}

static void on_ready(void *user, int revents)
{
	struct tls_dialing *d = user;

	assert(d->magic == DIALING_MAGIC);
	tls_conn_ready(&d->conn, revents);
	dialing_turn(d);
}

static void on_dialed(void *user, int rc, int fd, const struct alk_err *why)
{
	struct tls_dialing *d = user;
	struct alk_err err = *why;

	assert(d->magic == DIALING_MAGIC);
	d->dial = NULL;
	if (rc == 0)
		rc = alk_link_of_fd(&d->link, "tls", &fd, &err);
	if (rc == 0)
		rc = tls_conn_init(&d->conn, d->tls, &d->link.fd, on_ready, d, &err);
	if (rc == 0 && tls_conn_attach(&d->conn) < 0)
		rc = alk_err_set(&err, -ENOMEM, "out of memory");
	if (rc == 0)
		rc = name_set(d, &err);
	if (rc < 0)
		dialing_end(d, rc, &err);
	else
		dialing_turn(d);
}

void *tls_dial(void *state, const char *address, alk_link_fn *done, void *user, struct alk_err *err)
{
	struct tls *tls = tls_of(state);
	const char *name = alk_options_str(tls->options, "server_name");
	struct tls_dialing *d;
	char host[256];
	uint16_t port;

	if (alk_addr_split(address, host, sizeof(host), &port, false, err) < 0)
		return NULL;
	d = calloc(1, sizeof(*d));
	if (d == NULL) {
		alk_err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	d->magic = DIALING_MAGIC;
	d->tls = tls;
	d->conn.fd = -1;
	d->link = ALK_LINK_NONE;
	d->done = done;
	d->user = user;
	snprintf(d->name, sizeof(d->name), "%s", name != NULL ? name : host);
	d->dial = alk_dial_tcp(tls->loop, host, port, NULL, tls->timeout_ms, on_dialed, d, err);
	if (d->dial == NULL) {
		dialing_free(d);
		return NULL;
	}
	return d;
}

void tls_dial_cancel(void *state, void **dialing)
{
	(void)state;
	if (*dialing != NULL)
		dialing_free(*dialing);
	*dialing = NULL;
}
