/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Server: the handshake on a connection that was accepted. The core bounds its time and cancels. */
#include "tls.h"
#include "acme.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define ADMISSION_MAGIC 0x746c7361u

struct tls_admission {
	uint32_t magic;
	struct tls_admission *next, **prev;
	struct tls_conn conn;
	struct alk_link link;
	alk_link_fn *done;
	void *user;
};

static void admission_free(struct tls_admission *a)
{
	if (a->next != NULL)
		a->next->prev = a->prev;
	*a->prev = a->next;
	tls_conn_deinit(&a->conn);
	a->magic = 0;
	free(a);
}

static void admission_end(struct tls_admission *a, int rc, const struct alk_err *err)
{
	struct alk_link link = a->link;
	alk_link_fn *done = a->done;
	void *user = a->user;

	admission_free(a);
	done(user, rc, &link, err);
}

static void admission_turn(struct tls_admission *a)
{
	struct alk_err err = {""};
	int rc = tls_conn_handshake(&a->conn, &err);

	if (rc == 0)
		return;
	if (rc > 0 && acme_worker_proved(a->conn.ssl)) {
		rc = alk_err_set(&err, -ECONNABORTED, "a CA checked the name by tls-alpn-01");
	} else if (rc > 0) {
		tls_conn_describe(&a->conn, &a->link);
		rc = tls_pump_start(&a->conn, NULL, 0, &a->link.fd, &err);
	}
	admission_end(a, rc, &err);
}

static void on_ready(void *user, int revents)
{
	struct tls_admission *a = user;

	assert(a->magic == ADMISSION_MAGIC);
	tls_conn_ready(&a->conn, revents);
	admission_turn(a);
}

void *tls_admit(void *state, struct alk_link *link, alk_link_fn *done, void *user)
{
	struct tls *tls = tls_of(state);
	struct tls_admission *a;

	if (tls->stealth)
		return tls_site_admit(tls, link, done, user);
	a = calloc(1, sizeof(*a));
	if (a == NULL) {
		alk_link_close(link);
		return NULL;
	}
	if (tls_conn_init(&a->conn, tls, &link->fd, on_ready, a, NULL) < 0) {
		free(a);
		return NULL;
	}
	a->magic = ADMISSION_MAGIC;
	a->link = *link;
	a->done = done;
	a->user = user;
	a->next = tls->admissions;
	a->prev = &tls->admissions;
	if (a->next != NULL)
		a->next->prev = &a->next;
	tls->admissions = a;
	alk_io_set(a->conn.io, ALK_IO_READ);
	return a;
}

void tls_admit_cancel(void *state, void **admission)
{
	if (*admission != NULL && tls_of(state)->stealth)
		tls_site_cancel(*admission);
	else if (*admission != NULL)
		admission_free(*admission);
	*admission = NULL;
}
