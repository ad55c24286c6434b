/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_ACME_PRIVATE_H
#define ALKNET_ACME_PRIVATE_H

/* What the files of acme.h are to each other. Names are a JSON array of texts: host names in lower
 * case and IP addresses as inet_ntop writes them.
 *
 * The supervisor and alknet-acme speak in JSON objects, one a packet:
 *
 *   supervisor  {"start": settings, "past": the last status of a helper with these settings} first;
 *               {"renew": new account key too?}; {"ready": true} after each challenge
 *   helper      {"event": "status", ...},
 *               {"event": "certificate", "pem": key and chain, "kept": was it on disk before?},
 *               {"event": "challenge", "name": SNI, "pem": key and certificate or null}; by http-01 at the stealth port
 *               the name is / and the token, and "pem" what is to be answered,
 *               {"event": "notice", "text"}, {"event": "done", "error": text or null, ...} */

#include <curl/curl.h>
#include <jansson.h>
#include <netdb.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <alknet/err.h>

/* One that a socket takes where net.core.wmem_max is the kernel's own, and a system's whole bundle of
 * CA certificates. */
#define ACME_PACKET_MAX ((size_t)256 * 1024)
#define ACME_NAMES_MAX 100
#define ACME_RETRY_AFTER_MAX (7 * 24 * 3600)
#define ACME_PEM_MAX ((size_t)64 * 1024)

bool acme_is_ip(const char *name);

/* ---- acme_x509.c ---- */

/* A P-256 key; NULL with `err`. */
EVP_PKEY *acme_key_new(struct alk_err *err);
/* Text that the caller frees; it is a secret. NULL: out of memory. */
char *acme_key_pem(EVP_PKEY *key);
/* NULL when there is none in `pem`. */
EVP_PKEY *acme_key_read(const char *pem);
/* A certificate request in DER, for free(). */
int acme_csr_make(EVP_PKEY *key, const json_t *names, uint8_t **der, size_t *n,
		  struct alk_err *err);
/* Key and certificate in PEM that nobody vouches for. */
char *acme_self_signed(const json_t *names, struct alk_err *err);
/* Key and certificate in PEM for tls-alpn-01 (RFC 8737 section 3): `digest` is SHA-256 of the key
 * authorization. */
char *acme_alpn_certificate(const char *name, const uint8_t digest[32], struct alk_err *err);

struct acme_pair {
	time_t not_before, not_after;
	bool for_names;	  /* for all of them */
	char ari_id[256]; /* RFC 9773 section 4.1; "" where there is none */
};
/* Look at key and chain in one text: they are a pair? 0 or -EINVAL with `err`. */
int acme_pair_read(const char *pem, const json_t *names, struct acme_pair *pair,
		   struct alk_err *err);

/* ---- acme_state.c ---- */

#define ACME_ACCOUNT "account.key"
#define ACME_ACCOUNT_NEXT "account-next.key"
#define ACME_CERTIFICATE "certificate.pem"
#define ACME_BACKOFF "backoff.json"

/* Make the directory if need be, and see that it can be written by us alone. */
int acme_state_check(const char *dir, struct alk_err *err);
/* Text for free(), which may be a secret. -ENOENT: there is none (and `err` is not set); -EINVAL:
 * no text or too long; -EPERM: others may read or write it. */
int acme_state_read(const char *dir, const char *name, char **text, struct alk_err *err);
/* The whole file or the one before, after a crash too; mode 0600. */
int acme_state_write(const char *dir, const char *name, const char *text, struct alk_err *err);
int acme_state_rename(const char *dir, const char *from, const char *to, struct alk_err *err);
void acme_state_remove(const char *dir, const char *name);
/* The account's key; *key NULL: there is none yet. -EINVAL: the file is something else. */
int acme_account_read(const char *dir, const char *name, EVP_PKEY **key, struct alk_err *err);
/* Wipe and free. */
void acme_text_free(char **text);

/* ---- acme_hello.c: bodies of extensions of a ClientHello, from a peer ---- */

/* Does it offer acme-tls/1 and nothing else? */
bool acme_hello_is_proof(const uint8_t *alpn, size_t n);
/* The host name, in lower case. */
bool acme_hello_name(const uint8_t *sni, size_t n, char name[256]);

/* ---- acme_answer.c ---- */

struct acme_answer;
enum acme_match {
	ACME_MATCH_MORE,
	ACME_MATCH_NO,
	ACME_MATCH_YES
};
/* Is this the request for the token? `n` bytes came so far. */
enum acme_match acme_answer_match(const char *bytes, size_t n, const char *token);
/* The same beside a web server, which has to have what is not for us at once. In acme_hello.c. */
enum acme_match acme_proof_match(const uint8_t *bytes, size_t n, const char *token);
/* Bind to `address` without listening: connections are refused. NULL with `err`. */
struct acme_answer *acme_answer_open(const char *address, struct alk_err *err);
/* Listen, and answer for `token`; copies. 0 or -errno. */
int acme_answer_begin(struct acme_answer *answer, const char *token, const char *text,
		      struct alk_err *err);
void acme_answer_end(struct acme_answer *answer);
/* What it waits for; how many. */
#define ACME_ANSWER_FDS 17
size_t acme_answer_fds(const struct acme_answer *answer, struct pollfd fds[ACME_ANSWER_FDS]);
/* Go on with whatever is ready; `now` by acme_client_clock(). Who comes when all places are taken gets
 * that of the one who is there longest. */
void acme_answer_turn(struct acme_answer *answer, time_t now);

/* ---- acme_jose.c: all gives text for free(), NULL: it failed ---- */

char *acme_base64url(const void *bytes, size_t n);
json_t *acme_jwk(EVP_PKEY *key);
/* TOKEN.THUMBPRINT (RFC 8555 section 8.1) */
char *acme_key_authorization(EVP_PKEY *key, const char *token);
/* Flattened JSON (RFC 7515 section 7.2.2), ES256. Borrows all; header has `alg` added. */
char *acme_jws(EVP_PKEY *key, json_t *header, const char *payload);

/* ---- the helper ---- */

struct acme_client {
	json_t *settings; /* what follows borrows from it */
	const char *directory_url, *email, *ca, *state_dir, *challenge;
	const json_t *names;

	CURLM *multi;
	CURL *easy;
	struct acme_answer
		*answer; /* NULL: not by http-01, or where the port is a stealth port's */
	char proof[257]; /* / and the token, while workers answer for it */

	json_t *directory;
	EVP_PKEY *key;
	char *account; /* its URL */
	char nonce[256];
	time_t retry_after; /* the CA does not want to hear from us before; acme_client_clock() */

	bool ready;   /* the supervisor has handed the challenge out */
	bool renew;   /* somebody asks for it now */
	bool new_key; /* and for another key of the account */

	struct acme_pair pair; /* of the certificate in use; not_after 0: none */
	time_t due;	       /* by the wall clock: certificate or CA say so; 0: it is */
	time_t pause;	       /* by acme_client_clock(): nothing is tried before by itself */
	time_t told;	       /* when the CA last had a certificate replaced before its time, by
				* acme_client_clock(); 0: never */
	unsigned failures;     /* in a row */
	unsigned early;	       /* certificates in a row that were due when they came */
	uint64_t issued, failed;
	char last_error[512];
};

/* Seconds of a clock that nobody sets: for pauses. What a certificate or the CA says is by time(). */
time_t acme_client_clock(void);
/* Wait for the network, the supervisor or `ms`. Does not return when the supervisor is gone. */
void acme_client_turn(struct acme_client *client, int ms);
/* To the supervisor. Takes the object. */
void acme_client_say(struct acme_client *client, json_t *event);
void acme_client_notice(struct acme_client *client, const char *fmt, ...) ALK_PRINTF(2, 3);

/* ---- acme_wire.c ---- */

struct acme_reply {
	long status;
	json_t *json; /* or NULL */
	char *body;
	size_t len;
	char location[1024];
	int64_t retry_after; /* seconds; 0: it did not say */
};
void acme_reply_clear(struct acme_reply *reply);
int acme_wire_init(struct acme_client *client, struct alk_err *err);
/* An answer of any status is 0; -EIO with `err`: there was none. Clear the reply in both cases. */
int acme_wire_get(struct acme_client *client, const char *url, struct acme_reply *reply,
		  struct alk_err *err);
/* A signed request, again with another nonce where the CA asks for it. Borrows `payload`, NULL is
 * POST-as-GET. Until there is an account it is signed with the key itself. 0: the answer is a good
 * one; else -EIO, -EBUSY (later, see client->retry_after), -ENOENT (it
 * does not know the account), -EPERM with the CA's words. */
int acme_wire_post(struct acme_client *client, const char *url, const json_t *payload,
		   struct acme_reply *reply, struct alk_err *err);

/* ---- acme_text.c ---- */

/* The text of that name; "" where there is none. */
const char *acme_text_of(const json_t *object, const char *key);
/* A string of a sentence that may have a stranger's words in it, and may be cut within a character:
 * what is no UTF-8 is left out at the end and is ? elsewhere. NULL: out of memory. */
json_t *acme_text_json(const char *text);
/* acme_http: ADDRESS:PORT, [ADDRESS]:PORT or :PORT. For freeaddrinfo(); -EINVAL with `err`. */
int acme_address_find(const char *address, struct addrinfo **found, struct alk_err *err);

/* ---- acme_account.c ---- */

/* Where the CA has what: client->directory. */
int acme_directory_read(struct acme_client *client, struct alk_err *err);
/* Directory and account. */
int acme_account_open(struct acme_client *client, struct alk_err *err);
/* RFC 8555 section 7.3.5. */
int acme_account_rekey(struct acme_client *client, struct alk_err *err);

/* ---- acme_order.c ---- */

/* Get one: it is on disk and with the supervisor then. */
int acme_order_run(struct acme_client *client, struct alk_err *err);
/* For the supervisor. NULL: `pem` is not text, or too long. */
json_t *acme_certificate_event(const char *pem, bool kept);

/* ---- acme_renewal.c ---- */

/* When is the certificate of client->pair due? At two thirds of its life and a little later, by
 * chance; earlier or later where the CA says so (RFC 9773). *again is when the CA is to be asked
 * again, by acme_client_clock(), 0: it does not say such things. */
time_t acme_renewal_time(const struct acme_pair *pair);
time_t acme_renewal_ask(struct acme_client *client, time_t *again);
/* After the n-th failure in a row: seconds, from a minute to six hours. */
time_t acme_renewal_backoff(unsigned failures);

/* ---- acme_backoff.c: what the CA counts goes on when the server ends, in ACME_BACKOFF ---- */

/* Keep that the CA was asked now, that this makes `failures` in a row with client->early, the last
 * of them `error`, and that the next attempt is in `wait` seconds. A notice if that cannot be
 * done. */
void acme_backoff_keep(struct acme_client *client, unsigned failures, time_t wait,
		       const char *error);
void acme_backoff_clear(struct acme_client *client);
/* Wait on, if it was kept with these settings: client->pause, failures, early and last_error are
 * what is kept or what they were, whichever is more. A file that is damaged is a notice and goes.
 * true: there was no pause, and now there is. */
bool acme_backoff_load(struct acme_client *client);

#endif
