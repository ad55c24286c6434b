/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_TLS_H
#define ALKNET_TLS_H

/* The tls transport: a link is TLS 1.2 or 1.3 over TCP.
 *
 *   tls.c          the plugin: options, listening, what the halves say to each other
 *   tls_context.c  certificate, key, trust, protocol settings: what all connections share
 *   tls_tickets.c  the keys of session tickets, one set for all workers and reloads
 *   tls_conn.c     one TLS connection over a socket: handshake, records, ends
 *   tls_admit.c    server: handshake on an accepted connection, then a link
 *   tls_dial.c     client: connect, handshake, verify, then a link
 *   tls_stealth.c  the settings of stealth and the keyed request
 *   tls_site.c     server with stealth: a connection until it is SSH, or a visitor's to its end; tls_talk.c drives the
 *                  state machine of stealth.h
 *   tls_pump.c     SSH's end of a socketpair and the TLS connection: SSH asks for the bytes, or
 *                  they are carried
 *
 * Start here if you change how bytes travel: conn knows OpenSSL and the socket, pump knows two
 * directions. */

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <alknet/alknet.h>
#include "stealth.h"

/* What is read and written at once; a buffer has room for as much in records. More stays in no
 * cache: 256 KiB took 7 % more CPU, 32 KiB 10 %. */
#define TLS_CHUNK_SIZE ((size_t)96 * 1024)
#define TLS_BUFFER_SIZE (TLS_CHUNK_SIZE + (size_t)8 * 1024)
#define TLS_SPARES 4
#define TLS_RECORD_MAX 16384

struct acme;
struct acme_worker;
struct tls_pump;
struct tls_site;
struct tls_admission;

/* One instance of the plugin. */
struct tls {
	uint32_t magic;
	enum alk_role role;
	struct alk_loop *loop;
	struct alk_half *half;
	const struct alk_options *options;
	uint64_t timeout_ms;
	SSL_CTX *ctx;
	BIO_METHOD *bio;
	struct alk_timer *rotate;    /* supervisor: ticket keys */
	struct acme *acme;	     /* supervisor, with acme_domain */
	struct acme_worker *proving; /* worker, with acme_domain */
	struct tls_tickets *tickets; /* server */
	/* Buffers that are kept, so that busy links do not fault pages in anew. */
	uint8_t *spare[TLS_SPARES];
	unsigned spares;
	/* What is under way; deinit ends them. */
	struct tls_admission *admissions;
	struct tls_pump *pumps;
	struct tls_site *sites; /* the newest first */
	unsigned n_sites;	/* and the pumps of visitors */
	uint64_t n_conns;	/* since the beginning */
	/* Stealth. */
	bool stealth, keyed, has_upstream;
	struct stealth_times times; /* nginx's, but in tests */
	uint8_t secret[32];
	struct alk_destination upstream;
	uint64_t warned; /* when the log was told last that the upstream is not there */
};

/* A TLS_BUFFER_SIZE buffer; NULL when out of memory. */
uint8_t *tls_buffer_take(struct tls *tls);
void tls_buffer_give(struct tls *tls, uint8_t **buffer);

/* ---- context ---- */

/* Takes options apart and makes tls->ctx. 0, or -errno with `err` naming the option and what is
 * wrong. What is only strange (a certificate that has expired) is logged by the supervisor and the
 * check. */
int tls_context_init_server(struct tls *tls, struct alk_err *err);
int tls_context_init_client(struct tls *tls, struct alk_err *err);
/* The last error of OpenSSL in words; empties its queue. */
const char *tls_error(void);

/* ---- tickets ---- */

#define TLS_TICKET_LIFETIME 300 /* s, as nginx */
#define TLS_TICKET_ROTATE 600	/* s; the keys before are still taken for as long */

/* The process's keys: one set, however many instances there are. NULL: out of memory, or no
 * randomness. */
struct tls_tickets *tls_tickets_ref(void);
void tls_tickets_unref(struct tls_tickets **tickets);
/* Supervisor: new keys if the ones that are there are old enough. */
void tls_tickets_rotate(struct tls_tickets *tickets, uint64_t now_ms);
/* Over the control socket. */
size_t tls_tickets_bytes(const struct tls_tickets *tickets, const uint8_t **bytes);
int tls_tickets_set(struct tls_tickets *tickets, const uint8_t *bytes, size_t n);
/* Encrypt and decrypt tickets of `ctx` with them. */
void tls_tickets_use(struct tls_tickets *tickets, SSL_CTX *ctx);

/* ---- one connection ---- */

struct tls_conn {
	struct tls *tls;
	uint64_t number; /* the first one's is the smallest */
	SSL *ssl;
	int fd;
	struct alk_io *io;
	alk_io_fn *on_ready;
	void *user;
	struct alk_task again; /* tells `on_ready` of what is left of a turn */
	int reads_left;	       /* of OpenSSL in this turn */
	uint8_t *ahead;	       /* read from the socket, not by OpenSSL yet; NULL while empty */
	uint32_t ahead_at, ahead_len;
	size_t ahead_max; /* how much is read at once */
	uint8_t *gather;  /* records that the kernel has not taken yet; NULL while there are none */
	uint32_t gather_at, gather_len;
	bool gathers;		 /* whoever writes looks at tls_conn_flush() */
	bool gathering;		 /* more records come at once */
	bool readable, writable; /* the kernel may have more, take more */
	bool spent;		 /* this turn was long enough: `again` will be the next */
	bool strict;		 /* a peer who only keeps us busy is none of ours */
	bool heard;		 /* bytes came in this turn */
	bool awaits;		 /* nothing is written before more was read */
	bool owes;		 /* nothing is read before TLS's own answer has room */
	bool ended;		 /* the peer sends no more */
	bool sent_end;		 /* nor do we */
	int broken;		 /* -errno: nothing goes in or out any more */
	uint64_t sent;		 /* bytes that the kernel took */
	uint64_t since_update;	 /* bytes written with the keys of now */
};

/* Takes *fd, also on failure. 0 or -errno. Who says nothing costs no more than that: OpenSSL comes
 * in with attach. */
int tls_conn_init(struct tls_conn *conn, struct tls *tls, int *fd, alk_io_fn *on_ready, void *user,
		  struct alk_err *err);
/* Accept or connect as `ctx` of tls says; without it the handshake does so. 0 or -ENOMEM. */
int tls_conn_attach(struct tls_conn *conn);
void tls_conn_deinit(struct tls_conn *conn);
/* Who is told when the socket is ready changes; `*from` is empty afterwards. */
void tls_conn_move(struct tls_conn *to, struct tls_conn *from, alk_io_fn *on_ready, void *user);
/* 1 done, 0 goes on when the socket is ready (it is watched), -errno with `err`. */
int tls_conn_handshake(struct tls_conn *conn, struct alk_err *err);
/* The loop says so: conn may try again. A turn begins with it. */
void tls_conn_ready(struct tls_conn *conn, int revents);
/* This turn has taken long enough: on_ready is told to read in the next iteration, as if the socket
 * were ready. */
void tls_conn_spend(struct tls_conn *conn);
/* > 0 bytes; 0 nothing now, or `spent`, or `ended`, or `broken`, or when it is writable again, since
 * it `owes`: then what is readable is no news. */
size_t tls_conn_read(struct tls_conn *conn, void *bytes, size_t n);
/* Bytes taken, 0..n; less than all: when it is writable again, or readable if it `awaits`, the same
 * bytes first. */
size_t tls_conn_write(struct tls_conn *conn, const void *bytes, size_t n);
/* Of a connection that `gathers`: is all that was taken with the kernel? If not: when it is
 * writable again. */
bool tls_conn_flush(struct tls_conn *conn);
/* Is there something that the socket will not tell? */
bool tls_conn_pending(const struct tls_conn *conn);
/* close_notify, as far as it fits; and then FIN, too. */
void tls_conn_notify(struct tls_conn *conn);
void tls_conn_end(struct tls_conn *conn);
/* Give back buffers that are not in use, where OpenSSL can. */
void tls_conn_idle(struct tls_conn *conn);
/* Can the OpenSSL of this number (OpenSSL_version_num()) give buffers back? Before it was mended it
 * gave back some that are in use (CVE-2024-4741). */
bool tls_gives_back(unsigned long version);
/* What the handshake has found out. */
void tls_conn_describe(const struct tls_conn *conn, struct alk_link *link);

/* ---- the pump ---- */

/* Takes what is in `conn`, also on failure; `n` bytes of what was read from it already come first.
 * Gives SSH's end in *fd, and offers SSH to ask for the bytes itself (alk_direct_offer). The pump
 * lives on by itself until both ends are done. 0 or -errno. */
int tls_pump_start(struct tls_conn *conn, const void *first, size_t n, int *fd,
		   struct alk_err *err);
/* The same to a socket that is there: takes *fd, also on failure. It is a visitor's, and one of
 * tls->n_sites while it lives. */
int tls_pump_join(struct tls_conn *conn, const void *first, size_t n, int *fd, struct alk_err *err);
/* The oldest visitor's whose connection is older than the one of that number, or NULL. */
struct tls_pump *tls_pump_oldest(const struct tls *tls, uint64_t number);
/* What SSH said last goes out, if the socket takes it; then all is closed. Of a web server's it is
 * what was read from it. */
void tls_pump_free(struct tls_pump **pump);

/* ---- stealth ---- */

/* The options of it. */
int tls_stealth_init(struct tls *tls, struct alk_err *err);
/* What makes a first request ours, on this connection alone. 0; -EOPNOTSUPP: it cannot have such a
 * thing; -EIO. */
int tls_stealth_token(const struct tls_conn *conn, char token[STEALTH_TOKEN_LEN + 1]);
/* Client: say it. */
int tls_stealth_knock(struct tls_conn *conn, const char *host, struct alk_err *err);
/* As tls_admit and tls_admit_cancel, where stealth is on; and the end of a connection with the
 * plugin. */
void *tls_site_admit(struct tls *tls, struct alk_link *link, alk_link_fn *done, void *user);
void tls_site_cancel(struct tls_site *site);
void tls_site_free(struct tls_site **site);

/* ---- operations ---- */

void *tls_admit(void *state, struct alk_link *link, alk_link_fn *done, void *user);
void tls_admit_cancel(void *state, void **admission);
void *tls_dial(void *state, const char *address, alk_link_fn *done, void *user,
	       struct alk_err *err);
void tls_dial_cancel(void *state, void **dialing);
struct tls *tls_of(void *state);

#endif
