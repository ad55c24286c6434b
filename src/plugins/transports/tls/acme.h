/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_ACME_H
#define ALKNET_ACME_H

/* Certificates from a CA by ACME (RFC 8555), for the tls transport.
 *
 *   supervisor  acme.c         starts alknet-acme, keeps the certificate and what is being proved, tells the workers
 *               acme_settings.c  the options as what alknet-acme is told
 *   worker      acme_worker.c  puts both to use in handshakes
 *   alknet-acme alknet_acme.c  a process of its own: speaks with the CA, keeps the state directory, waits, renews
 *               acme_account.c directory and account
 *               acme_order.c   order, challenge, certificate
 *               acme_renewal.c when
 *               acme_backoff.c when not, across restarts
 *               acme_wire.c    HTTPS by libcurl, signed requests, nonces
 *               acme_jose.c    JWK and JWS (RFC 7515, 7517, 7638)
 *               acme_answer.c  http-01: a listener that answers one URL
 *   both        acme_x509.c    keys, requests, certificates
 *               acme_state.c   files, whole or not at all
 *               acme_hello.c   what is read of a ClientHello, and of a CA's request at a stealth port
 *   acme_none.c is all there is in a build without ACME.
 *
 * alknet-acme is where the bytes of the CA and of port 80 are parsed, because the supervisor has
 * privileges and a worker must not have the account's key. It has the account's key and the
 * certificate's, which it makes, and nothing else; it runs as the owner of the state directory,
 * without any new privilege.
 *
 *   supervisor  acme_start ─ acme_worker_up* ─ acme_command* ─ acme_stop
 *   worker      acme_worker_new ─ acme_worker_message* ─ acme_worker_free
 *
 * Start here if you add a kind of challenge: acme_order.c proves, acme_worker.c or acme_answer.c
 * answers. */

#include <openssl/ssl.h>
#include <stdint.h>
#include <alknet/alknet.h>

/* For the plugin's table of options. */
#define ACME_OPTIONS                                                                                                                              \
	{.name = "acme_domain",                                                                                                                   \
	 .type = ALK_OPT_STRING,                                                                                                                  \
	 .flags = ALK_OPT_REPEAT,                                                                                                                 \
	 .arg = "NAME",                                                                                                                           \
	 .help = "serve: get a certificate for this host name or IP address by ACME"},                                                            \
		{.name = "acme_directory",                                                                                                        \
		 .type = ALK_OPT_STRING,                                                                                                          \
		 .fallback = ACME_DIRECTORY,                                                                                                      \
		 .arg = "URL",                                                                                                                    \
		 .help = "serve: the CA's ACME directory"},                                                                                       \
		{.name = "acme_email",                                                                                                            \
		 .type = ALK_OPT_STRING,                                                                                                          \
		 .arg = "ADDRESS",                                                                                                                \
		 .help = "serve: where the CA writes to; without it it has no address"},                                                          \
		{.name = "acme_ca_file",                                                                                                          \
		 .type = ALK_OPT_FILE,                                                                                                            \
		 .arg = "FILE",                                                                                                                   \
		 .help = "serve: certificates in PEM that the CA's own server is checked with, instead of the system's"},                         \
		{.name = "acme_state_dir",                                                                                                        \
		 .type = ALK_OPT_PATH,                                                                                                            \
		 .fallback = ACME_STATE_DIR,                                                                                                      \
		 .arg = "DIR",                                                                                                                    \
		 .help = "serve: where the account's key and the certificate are kept"},                                                          \
		{.name = "acme_challenge",                                                                                                        \
		 .type = ALK_OPT_ENUM,                                                                                                            \
		 .choices = "tls-alpn-01|http-01",                                                                                                \
		 .fallback = "tls-alpn-01",                                                                                                       \
		 .help = "serve: how a name is proved: on the TLS port, which must be 443 to the CA, or by HTTP on port 80"},                     \
	{                                                                                                                                         \
		.name = "acme_http", .type = ALK_OPT_STRING, .fallback = ":80", .arg = "ADDRESS",                                                 \
		.help = "serve: where http-01 is answered, while a name is being proved; stealth: where the stealth side is, port 80 leads there" \
	}
#define ACME_HTTP_STEALTH "stealth"
#define ACME_DIRECTORY "https://acme-v02.api.letsencrypt.org/directory"
#define ACME_STATE_DIR "/var/lib/alknet/acme"

struct acme;

/* Something for one worker, or for ALK_HALF_EVERY_WORKER: goes to acme_worker_message() there. It
 * has a private key in it. Borrowed for the call; never called by acme_stop, and by acme_start only
 * for every worker. */
typedef void acme_say_fn(void *user, uint64_t worker, const uint8_t *bytes, size_t n);

/* Supervisor: is ACME asked for? */
bool acme_wanted(const struct alk_options *options);
/* Would acme_start() take the options? Starts nothing, touches no file. */
int acme_check(const struct alk_options *options, struct alk_err *err);
/* Check the options and the state directory, and start. What is on disk, or a self-signed
 * certificate, is there at once. Borrows `options` until acme_stop. 0; -errno with `err` naming the
 * option or the file and what is wrong. */
int acme_start(struct acme **out, struct alk_loop *loop, const struct alk_options *options,
	       acme_say_fn *say, void *user, struct alk_err *err);
/* Ends the helper at once; what it had under way is begun anew by the next. Calls that wait
 * fail. */
void acme_stop(struct acme **acme);
/* Tell a new worker what there is. */
void acme_worker_up(struct acme *acme, uint64_t worker);
/* The admin commands `status` and `renew`; `params` as in alk_half_ops.command. The answer of
 * `renew` comes when the CA has given a certificate or has not. */
void acme_command(struct acme *acme, const char *name, const char *params, struct alk_call *call);
/* For alk_half_ops.metrics. */
char *acme_metrics(struct acme *acme);

struct acme_worker;

/* Worker: answers tls-alpn-01 (RFC 8737) in handshakes of `ctx`: takes its ClientHello callback.
 * Borrows `ctx`. NULL: out of memory. */
struct acme_worker *acme_worker_new(SSL_CTX *ctx);
void acme_worker_free(struct acme_worker **worker);
/* What acme_say_fn said. A new certificate is in `ctx` afterwards, for handshakes that begin then.
 * 0 or -errno. */
int acme_worker_message(struct acme_worker *worker, const uint8_t *bytes, size_t n,
			struct alk_err *err);
/* http-01 at a stealth port: what a connection without TLS said so far. 1: it is a CA's check,
 * *text is the answer to it (borrowed for the call). 0: it may become one. -1: none, whatever
 * comes. */
int acme_worker_http(const struct acme_worker *worker, const uint8_t *bytes, size_t n,
		     const char **text);
/* Was this handshake made for a proof? Then nothing follows it. */
bool acme_worker_proved(const SSL *ssl);

#endif
