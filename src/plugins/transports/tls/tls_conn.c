/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* RFC 8446 5.5: AES-GCM keys are good for 2^24.5 records, 388 GB of full ones. */
#define KEY_BYTES_MAX ((uint64_t)64 << 30)
/* OpenSSL reads a record's header and then its body. Records without a byte for us (new keys, a
 * handshake that is refused) it takes by itself, one after another, as long as there are any: new
 * keys are 27 bytes and take 20 us. */
#define TURN_READS (2 * 128)

/* ---- the socket, as OpenSSL sees it ---- */

/* Read as much as there is, for a header of 5 bytes and the records to come. (OpenSSL's own
 * read-ahead moves all that it holds to the front of its buffer for each record.) A short read
 * emptied the kernel's buffer: the loop says when there is more, so that reading until nothing is
 * left costs no call that finds nothing. */
static void conn_fill(struct tls_conn *conn)
{
	ssize_t rc;

	if (!conn->readable || conn->ended || conn->broken < 0)
		return;
	conn->ahead = tls_buffer_take(conn->tls);
	if (conn->ahead == NULL) {
		conn->broken = -ENOMEM;
		return;
	}
	rc = recv(conn->fd, conn->ahead, conn->ahead_max, MSG_DONTWAIT);
	if (rc > 0) {
		conn->ahead_at = 0;
		conn->ahead_len = (uint32_t)rc;
		/* A site looks again at once: a web server sees the end together with what came
		 * before. */
		conn->readable = (size_t)rc == conn->ahead_max || conn->ahead_max < TLS_BUFFER_SIZE;
		return;
	}
	conn->readable = rc < 0 && errno == EINTR;
	if (rc == 0)
		conn->ended = true;
	else if (errno != EAGAIN && errno != EINTR)
		conn->broken = -errno;
	tls_buffer_give(conn->tls, &conn->ahead);
}

static int bio_read(BIO *bio, char *bytes, size_t n, size_t *got)
{
	struct tls_conn *conn = BIO_get_data(bio);
	size_t left;

	BIO_clear_retry_flags(bio);
	*got = 0;
	if (conn->ahead == NULL)
		conn_fill(conn);
	if (conn->ahead == NULL) {
		if (!conn->ended && conn->broken == 0)
			BIO_set_retry_read(bio);
		return 0;
	}
	if (--conn->reads_left < 0) {
		tls_conn_spend(conn);
		BIO_set_retry_read(bio);
		return 0;
	}
	left = conn->ahead_len - conn->ahead_at;
	*got = n < left ? n : left;
	memcpy(bytes, conn->ahead + conn->ahead_at, *got);
	conn->ahead_at += (uint32_t)*got;
	if (*got == left)
		tls_buffer_give(conn->tls, &conn->ahead);
	return 1;
}

/* What of `n` bytes the socket takes. */
static size_t conn_send(struct tls_conn *conn, const void *bytes, size_t n)
{
	ssize_t rc;

	if (!conn->writable || conn->broken < 0)
		return 0;
	rc = send(conn->fd, bytes, n, MSG_NOSIGNAL);
	if (rc >= 0) {
		conn->writable = (size_t)rc == n;
		conn->sent += (size_t)rc;
		return (size_t)rc;
	}
	conn->writable = errno == EINTR;
	if (errno != EAGAIN && errno != EINTR)
		conn->broken = -errno;
	return 0;
}

bool tls_conn_flush(struct tls_conn *conn)
{
	if (conn->gather == NULL)
		return true;
	conn->gather_at += (uint32_t)conn_send(conn, conn->gather + conn->gather_at,
					       conn->gather_len - conn->gather_at);
	if (conn->gather_at < conn->gather_len && conn->broken == 0)
		return false;
	tls_buffer_give(conn->tls, &conn->gather);
	conn->gather_at = conn->gather_len = 0;
	return true;
}

/* Records of one write go to the kernel together: a call a record is dear, and so is a peer who
 * wakes for each. */
static bool conn_gather(struct tls_conn *conn, const void *bytes, size_t n)
{
	if (conn->gather == NULL)
		conn->gather = tls_buffer_take(conn->tls);
	if (conn->gather == NULL || TLS_BUFFER_SIZE - conn->gather_len < n)
		return false;
	memcpy(conn->gather + conn->gather_len, bytes, n);
	conn->gather_len += (uint32_t)n;
	return true;
}

static int bio_write(BIO *bio, const char *bytes, size_t n, size_t *written)
{
	struct tls_conn *conn = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	*written = 0;
	if (conn->gathering && conn_gather(conn, bytes, n))
		*written = n;
	else if (tls_conn_flush(conn))
		*written = conn_send(conn, bytes, n);
	/* The rest of a record waits here, and not in OpenSSL, which would want the same again. */
	if (*written < n && conn->gathers && conn->broken == 0 &&
	    conn_gather(conn, bytes + *written, n - *written))
		*written = n;
	if (*written == 0 && conn->broken == 0)
		BIO_set_retry_write(bio);
	return *written > 0;
}

static long bio_ctrl(BIO *bio, int command, long num, void *ptr)
{
	const struct tls_conn *conn = BIO_get_data(bio);

	(void)num, (void)ptr;
	if (command == BIO_CTRL_EOF)
		return conn->ended;
	return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *bio_method(void)
{
	BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "alknet");

	if (method != NULL) {
		BIO_meth_set_read_ex(method, bio_read);
		BIO_meth_set_write_ex(method, bio_write);
		BIO_meth_set_ctrl(method, bio_ctrl);
	}
	return method;
}

/* ---- turns ---- */

static void on_again(void *user)
{
	struct tls_conn *conn = user;

	conn->on_ready(conn->user, ALK_IO_READ);
}

void tls_conn_spend(struct tls_conn *conn)
{
	conn->spent = true;
	alk_task_yield(conn->tls->loop, &conn->again);
}

static void turn_begin(struct tls_conn *conn)
{
	alk_task_cancel(conn->tls->loop, &conn->again);
	conn->reads_left = TURN_READS;
	conn->spent = conn->heard = false;
}

void tls_conn_ready(struct tls_conn *conn, int revents)
{
	turn_begin(conn);
	conn->readable |= (revents & ALK_IO_READ) != 0;
	conn->writable |= (revents & ALK_IO_WRITE) != 0;
}

/* ---- life ---- */

int tls_conn_attach(struct tls_conn *conn)
{
	struct tls *tls = conn->tls;
	BIO *bio;

	if (tls->bio == NULL)
		tls->bio = bio_method();
	if (tls->bio == NULL)
		return -ENOMEM;
	conn->ssl = SSL_new(tls->ctx);
	bio = BIO_new(tls->bio);
	ERR_clear_error();
	if (conn->ssl == NULL || bio == NULL) {
		BIO_free(bio);
		SSL_free(conn->ssl);
		conn->ssl = NULL;
		return -ENOMEM;
	}
	BIO_set_data(bio, conn);
	BIO_set_init(bio, 1);
	SSL_set_bio(conn->ssl, bio, bio);
	if (tls->role == ALK_ROLE_CLIENT)
		SSL_set_connect_state(conn->ssl);
	else
		SSL_set_accept_state(conn->ssl);
	return 0;
}

int tls_conn_init(struct tls_conn *conn, struct tls *tls, int *fd, alk_io_fn *on_ready, void *user,
		  struct alk_err *err)
{
	*conn = (struct tls_conn){.tls = tls,
				  .number = ++tls->n_conns,
				  .fd = *fd,
				  .ahead_max = TLS_BUFFER_SIZE,
				  .on_ready = on_ready,
				  .user = user,
				  .again = {.fn = on_again, .user = conn},
				  .reads_left = TURN_READS,
				  .readable = true,
				  .writable = true};
	*fd = -1;
	conn->io = alk_io_new(tls->loop, conn->fd, "tls connection", on_ready, user);
	if (conn->io != NULL)
		return 0;
	tls_conn_deinit(conn);
	return alk_err_set(err, -ENOMEM, "out of memory");
}

void tls_conn_deinit(struct tls_conn *conn)
{
	if (conn->tls != NULL)
		alk_task_cancel(conn->tls->loop, &conn->again);
	SSL_free(conn->ssl);
	conn->ssl = NULL;
	if (conn->ahead != NULL)
		tls_buffer_give(conn->tls, &conn->ahead);
	if (conn->gather != NULL)
		tls_buffer_give(conn->tls, &conn->gather);
	alk_io_free(&conn->io);
	alk_fd_close(&conn->fd);
}

void tls_conn_move(struct tls_conn *to, struct tls_conn *from, alk_io_fn *on_ready, void *user)
{
	alk_task_cancel(from->tls->loop, &from->again);
	*to = *from;
	to->on_ready = on_ready;
	to->user = user;
	to->again = (struct alk_task){.fn = on_again, .user = to};
	if (to->spent)
		tls_conn_spend(to);
	to->io = NULL;
	BIO_set_data(SSL_get_rbio(to->ssl), to);
	alk_io_free(&from->io);
	*from = (struct tls_conn){.fd = -1};
	to->io = alk_io_new(to->tls->loop, to->fd, "tls connection", on_ready, user);
}

/* ---- handshake ---- */

/* In words that a user understands, where it is one of the usual. */
static int handshake_fail(struct tls_conn *conn, struct alk_err *err)
{
	long verified = SSL_get_verify_result(conn->ssl);

	if (conn->broken < 0)
		return alk_err_set(err, conn->broken, "the TLS handshake failed: %s",
				   strerror(-conn->broken));
	if (conn->tls->role == ALK_ROLE_CLIENT && verified != X509_V_OK) {
		ERR_clear_error();
		return alk_err_set(err, -EKEYREJECTED,
				   "the server's TLS certificate cannot be trusted: %s",
				   X509_verify_cert_error_string(verified));
	}
	if (conn->ended) {
		ERR_clear_error();
		return alk_err_set(err, -ECONNRESET,
				   "the peer closed the connection during the TLS handshake");
	}
	return alk_err_set(err, -EPROTO, "the TLS handshake failed: %s", tls_error());
}

int tls_conn_handshake(struct tls_conn *conn, struct alk_err *err)
{
	int rc;

	if (conn->ssl == NULL && tls_conn_attach(conn) < 0)
		return alk_err_set(err, -ENOMEM, "out of memory");
	ERR_clear_error();
	rc = SSL_do_handshake(conn->ssl);
	if (rc == 1)
		return 1;
	switch (SSL_get_error(conn->ssl, rc)) {
	case SSL_ERROR_WANT_READ:
		alk_io_set(conn->io, ALK_IO_READ);
		return 0;
	case SSL_ERROR_WANT_WRITE:
		alk_io_set(conn->io, ALK_IO_WRITE);
		return 0;
	default:
		return handshake_fail(conn, err);
	}
}

void tls_conn_describe(const struct tls_conn *conn, struct alk_link *link)
{
	const char *name = SSL_get_servername(conn->ssl, TLSEXT_NAMETYPE_host_name);
	const unsigned char *alpn;
	unsigned len;

	SSL_get0_alpn_selected(conn->ssl, &alpn, &len);
	snprintf(link->transport, sizeof(link->transport), "tls");
	snprintf(link->sni, sizeof(link->sni), "%s", name != NULL ? name : "");
	snprintf(link->alpn, sizeof(link->alpn), "%.*s", (int)len, (const char *)alpn);
}

/* ---- records ---- */

/* Nothing was read: why. */
static void read_stopped(struct tls_conn *conn, int rc)
{
	switch (SSL_get_error(conn->ssl, rc)) {
	case SSL_ERROR_WANT_READ:
		return;
	case SSL_ERROR_WANT_WRITE: /* new keys that the peer asked for */
		conn->owes = true;
		return;
	case SSL_ERROR_ZERO_RETURN:
		conn->ended = true;
		return;
	default:
		/* FIN without close_notify: SSH knows itself whether something is missing. */
		if (!conn->ended && conn->broken == 0)
			conn->broken = -EPROTO;
		ERR_clear_error();
	}
}

size_t tls_conn_read(struct tls_conn *conn, void *bytes, size_t n)
{
	size_t got = 0;
	int rc;

	conn->owes = false;
	if (conn->broken < 0)
		return 0;
	ERR_clear_error();
	rc = SSL_read_ex(conn->ssl, bytes, n, &got);
	if (rc == 1) {
		conn->heard = true;
		return got;
	}
	read_stopped(conn, rc);
	if (conn->spent && conn->strict && !conn->heard && conn->broken == 0)
		conn->broken = -EPROTO;
	return 0;
}

/* Nothing was written: why. In the middle of a message of the peer's OpenSSL reads the rest of it
 * first; a peer who has gone meanwhile takes nothing any more. */
static void write_stopped(struct tls_conn *conn, int rc)
{
	int why = SSL_get_error(conn->ssl, rc);

	conn->awaits = why == SSL_ERROR_WANT_READ;
	if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE && conn->broken == 0)
		conn->broken = -EPROTO;
	ERR_clear_error();
}

/* The next record asks the peer to use new keys too. */
static void conn_update_keys(struct tls_conn *conn, size_t n)
{
	conn->since_update += n;
	if (conn->since_update < KEY_BYTES_MAX || SSL_version(conn->ssl) != TLS1_3_VERSION)
		return;
	conn->since_update = 0;
	SSL_key_update(conn->ssl, SSL_KEY_UPDATE_REQUESTED);
}

size_t tls_conn_write(struct tls_conn *conn, const void *bytes, size_t n)
{
	const uint8_t *at = bytes;
	size_t done = 0, written;

	conn->awaits = false;
	if (conn->broken < 0 || !tls_conn_flush(conn))
		return 0;
	ERR_clear_error();
	conn->gathering = conn->gathers && n > TLS_RECORD_MAX;
	while (done < n) {
		size_t piece = n - done < TLS_RECORD_MAX ? n - done : TLS_RECORD_MAX;
		int rc = SSL_write_ex(conn->ssl, at + done, piece, &written);

		if (rc != 1) {
			write_stopped(conn, rc);
			break;
		}
		done += written;
		conn_update_keys(conn, written);
	}
	conn->gathering = false;
	tls_conn_flush(conn);
	return done;
}

bool tls_conn_pending(const struct tls_conn *conn)
{
	return conn->readable || conn->owes || conn->ahead != NULL || SSL_has_pending(conn->ssl);
}

void tls_conn_notify(struct tls_conn *conn)
{
	if (conn->broken < 0)
		return;
	ERR_clear_error();
	SSL_shutdown(conn->ssl);
	ERR_clear_error();
}

void tls_conn_end(struct tls_conn *conn)
{
	if (conn->sent_end)
		return;
	conn->sent_end = true;
	tls_conn_notify(conn);
	shutdown(conn->fd, SHUT_WR);
}

bool tls_gives_back(unsigned long version)
{
	static const unsigned patches[] = {14, 6, 2, 1}; /* the first good one of 3.0 to 3.3 */
	unsigned minor = (version >> 20) & 0xff, patch = (version >> 4) & 0xffff;

	if (version >> 28 != 3)
		return version >> 28 > 3;
	return minor >= sizeof(patches) / sizeof(patches[0]) || patch >= patches[minor];
}

void tls_conn_idle(struct tls_conn *conn)
{
	if (tls_gives_back(OpenSSL_version_num()))
		SSL_free_buffers(conn->ssl);
}
