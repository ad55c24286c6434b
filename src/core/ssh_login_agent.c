/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "ssh_login_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <alknet/log.h>
#include "base64.h"
#include "keys.h"
#include "wire.h"
#include "pubkey.h"

/* A person may have to confirm it; the handshake's deadline is the real one. */
#define SIGN_MS (600 * 1000)
/* What is put into the socketpair at once; far less than it holds. */
#define BATCH_BYTES 32768
#define ASKED_MAX 65536

/* A string of bytes that grows by RFC 4251 pieces. */
struct bytes {
	uint8_t *p;
	size_t len, size;
};

static void put_u32(struct bytes *b, uint32_t value)
{
	if (b->size - b->len < 4)
		return;
	for (int i = 0; i < 4; i++)
		b->p[b->len++] = (uint8_t)(value >> (24 - 8 * i));
}

static void put_string(struct bytes *b, const uint8_t *p, size_t len)
{
	put_u32(b, (uint32_t)len);
	if (b->size - b->len < len)
		return;
	memcpy(b->p + b->len, p, len);
	b->len += len;
}

/* ---- the list ---- */

static void offers_free(struct alk_login *l)
{
	for (size_t i = 0; i < l->n_offers; i++) {
		free(l->offers[i].blob);
		free(l->offers[i].sign);
	}
	free(l->offers);
	l->offers = NULL;
	l->n_offers = l->next = l->batch_end = 0;
}

/* Would libssh take it? It gives up a list at the first key that it cannot read. */
static bool is_readable(const uint8_t *blob, size_t len)
{
	char base64[ALK_KEY_BLOB_MAX * 4 / 3 + 8];
	const char *type = alk_pubkey_type(blob, len);
	ssh_key key = NULL;
	bool good;

	if (!type || alk_base64_encode(blob, len, base64, sizeof(base64)) < 0)
		return false;
	good = ssh_pki_import_pubkey_base64(base64, ssh_key_type_from_name(type), &key) == SSH_OK;
	ssh_key_free(key);
	return good;
}

static int offer_add(struct alk_login *l, const uint8_t *blob, size_t len,
		     const struct alk_agent_key *sign)
{
	struct login_offer *o;

	for (size_t i = 0; i < l->n_offers; i++)
		if (l->offers[i].len == len && memcmp(l->offers[i].blob, blob, len) == 0)
			return 0;
	if (!is_readable(blob, len))
		return 0;
	o = realloc(l->offers, (l->n_offers + 1) * sizeof(*o));
	if (!o)
		return -ENOMEM;
	l->offers = o;
	o += l->n_offers;
	*o = (struct login_offer){malloc(len), len, malloc(sign->len), sign->len};
	if (!o->blob || !o->sign) {
		free(o->blob);
		free(o->sign);
		return -ENOMEM;
	}
	memcpy(o->blob, blob, len);
	memcpy(o->sign, sign->blob, sign->len);
	l->n_offers++;
	return 0;
}

/* Is this plain key one that may be offered? */
static bool is_wanted(const struct alk_login *l, const struct alk_agent_key *key)
{
	if (l->wanted)
		return key->len == l->wanted_len && memcmp(key->blob, l->wanted, key->len) == 0;
	if (l->identity) /* a certificate */
		return alk_pubkey_certifies(l->cert, l->cert_len, key->blob, key->len);
	return true;
}

/* A plain key, its certificates first. */
static int offer_key(struct alk_login *l, const struct alk_agent_key *keys, size_t n,
		     const struct alk_agent_key *key)
{
	int rc = 0;

	if (!is_wanted(l, key))
		return 0;
	if (l->cert && alk_pubkey_certifies(l->cert, l->cert_len, key->blob, key->len))
		rc = offer_add(l, l->cert, l->cert_len, key);
	for (size_t i = 0; i < n && rc == 0; i++)
		if (alk_pubkey_certifies(keys[i].blob, keys[i].len, key->blob, key->len))
			rc = offer_add(l, keys[i].blob, keys[i].len, &keys[i]);
	return rc < 0 ? rc : offer_add(l, key->blob, key->len, key);
}

static int offers_make(struct alk_login *l, const struct alk_agent_key *keys, size_t n)
{
	int rc = 0;

	for (size_t i = 0; i < n && rc == 0; i++) {
		if (alk_pubkey_check("", keys[i].blob, keys[i].len, NULL) < 0)
			continue;
		if (!alk_pubkey_is_cert(keys[i].blob, keys[i].len))
			rc = offer_key(l, keys, n, &keys[i]);
	}
	/* Certificates whose plain key the agent does not show. */
	for (size_t i = 0; i < n && rc == 0 && !l->identity; i++)
		if (alk_pubkey_is_cert(keys[i].blob, keys[i].len))
			rc = offer_add(l, keys[i].blob, keys[i].len, &keys[i]);
	return rc;
}

/* What the server took the last time goes first. */
static void offers_order(struct alk_login *l)
{
	l->last_first = false;
	for (size_t i = 0; i < l->n_offers && l->last; i++) {
		struct login_offer o = l->offers[i];

		if (o.len != l->last_len || memcmp(o.blob, l->last, o.len) != 0)
			continue;
		memmove(l->offers + 1, l->offers, i * sizeof(o));
		l->offers[0] = o;
		l->last_first = true;
		return;
	}
}

static void last_keep(struct alk_login *l)
{
	struct login_offer *o = &l->offers[l->next];

	free(l->last);
	l->last = o->blob;
	l->last_len = o->len;
	o->blob = NULL;
}

static int list_refuse(struct alk_login *l, size_t listed)
{
	if (l->n_offers > 0)
		return 0;
	if (listed == 0)
		return alk_err_set(
			&l->err, -EACCES,
			"the agent at %s has no keys, or is locked: ssh-add KEY adds one, ssh-add -X "
			"unlocks it",
			l->agent);
	if (l->identity)
		return alk_err_set(&l->err, -EACCES,
				   "the agent at %s does not have the key %s: ssh-add KEY adds it",
				   l->agent, l->identity);
	return alk_err_set(
		&l->err, -EACCES,
		"the agent at %s has no key that can be used (Ed25519, ECDSA, RSA of %d bits "
		"and more)",
		l->agent, ALK_RSA_BITS_MIN);
}

static int list_take(struct alk_login *l, const uint8_t *answer, size_t len)
{
	struct alk_agent_key *keys = calloc(ALK_AGENT_KEYS_MAX, sizeof(*keys));
	int n, rc;

	if (!keys)
		return alk_err_set(&l->err, -ENOMEM, "out of memory");
	n = alk_agent_keys(answer, len, keys, ALK_AGENT_KEYS_MAX);
	if (n < 0)
		rc = alk_err_set(&l->err, n, "the agent at %s sent no list of keys", l->agent);
	else if (offers_make(l, keys, (size_t)n) < 0)
		rc = alk_err_set(&l->err, -ENOMEM, "out of memory");
	else
		rc = list_refuse(l, (size_t)n);
	offers_order(l);
	free(keys);
	return rc;
}

static void on_list(void *user, int rc, const uint8_t *answer, size_t len,
		    const struct alk_err *err)
{
	struct alk_login *l = user;

	l->query = NULL;
	if (rc < 0)
		l->err = *err;
	else
		rc = list_take(l, answer, len);
	l->rc = rc;
	l->state = LOGIN_OFFERING;
	alk_ssh_wrote(l->ssh);
}

int login_agent_list(struct alk_login *l, struct alk_err *err)
{
	static const uint8_t question[] = {ALK_AGENT_REQUEST_IDENTITIES};

	l->query = alk_agent_ask(l->loop, l->agent, question, sizeof(question), LOGIN_LIST_MS,
				 on_list, l, err);
	if (!l->query)
		return -EINVAL;
	l->state = LOGIN_LISTING;
	return 0;
}

/* ---- the socketpair that libssh takes for its agent ---- */

/* Put in what libssh will read: offers next .. batch_end, and the answer to its question to
 * sign. */
static int agent_feed(struct alk_login *l, const uint8_t *signature, size_t signature_len)
{
	static const uint8_t comment[] = {'-'};
	struct bytes b = {.size = 2 * BATCH_BYTES + ALK_KEY_BLOB_MAX + signature_len};
	size_t list;
	int pair[2], old = l->theirs;
	ssize_t n;

	b.p = malloc(b.size);
	if (!b.p)
		return -ENOMEM;
	put_u32(&b, 0);
	b.p[b.len++] = ALK_AGENT_IDENTITIES_ANSWER;
	put_u32(&b, (uint32_t)(l->batch_end - l->next));
	for (size_t i = l->next; i < l->batch_end; i++) {
		put_string(&b, l->offers[i].blob, l->offers[i].len);
		put_string(&b, comment, sizeof(comment));
	}
	list = b.len;
	b.len = 0;
	put_u32(&b, (uint32_t)(list - 4));
	b.len = list;
	put_u32(&b, signature ? (uint32_t)signature_len + 5 : 1);
	b.p[b.len++] = signature ? ALK_AGENT_SIGN_RESPONSE : ALK_AGENT_FAILURE;
	if (signature)
		put_string(&b, signature, signature_len);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0) {
		free(b.p);
		return -errno;
	}
	alk_fd_close(&l->ours);
	l->ours = pair[0];
	l->theirs = pair[1];
	ssh_set_agent_socket(l->ssh->ssh, pair[1]);
	alk_fd_close(&old);
	n = send(l->ours, b.p, b.len, MSG_NOSIGNAL | MSG_DONTWAIT);
	free(b.p);
	return n == (ssize_t)b.len ? 0 : -ENOBUFS;
}

/* As many of the next offers as go at once. */
static int batch_begin(struct alk_login *l)
{
	size_t bytes = 0;

	l->batch_end = l->next;
	while (l->batch_end < l->n_offers &&
	       (l->batch_end == l->next || bytes + l->offers[l->batch_end].len < BATCH_BYTES)) {
		bytes += l->offers[l->batch_end++].len + 16;
		if (l->last_first && l->batch_end == 1)
			break;
	}
	return agent_feed(l, NULL, 0);
}

/* What libssh asked to sign: the last message in the socketpair. NULL when it asked for no
 * signature. */
static uint8_t *asked_read(struct alk_login *l, size_t *len)
{
	uint8_t *bytes = malloc(ASKED_MAX);
	struct alk_wire wire;
	const uint8_t *message;
	size_t message_len = 0;
	ssize_t n = bytes ? recv(l->ours, bytes, ASKED_MAX, MSG_DONTWAIT) : -1;
	bool found = false;

	wire = (struct alk_wire){bytes, n > 0 ? (size_t)n : 0};
	while (!found && alk_wire_string(&wire, &message, &message_len))
		found = message_len > 1 && message[0] == ALK_AGENT_SIGN_REQUEST;
	if (!found) {
		free(bytes);
		return NULL;
	}
	memmove(bytes, message, message_len);
	*len = message_len;
	return bytes;
}

/* ---- signing ---- */

static void on_signature(void *user, int rc, const uint8_t *answer, size_t len,
			 const struct alk_err *err)
{
	struct alk_login *l = user;
	const uint8_t *signature = NULL;
	size_t signature_len = 0;

	l->query = NULL;
	if (rc < 0) {
		l->err = *err;
	} else {
		rc = alk_agent_signature(answer, len, &signature, &signature_len);
		if (rc == -EPROTO)
			alk_err_set(&l->err, rc, "the agent at %s sent no signature", l->agent);
	}
	if (rc == -EACCES) {
		/* The person said no, or the key is gone: the others are left. */
		l->not_signed++;
		l->next++;
		l->state = LOGIN_OFFERING;
		l->batch_end = l->next;
		rc = 0;
	} else if (rc == 0) {
		l->batch_end = l->next + 1;
		rc = agent_feed(l, signature, signature_len);
		l->state = LOGIN_SIGNED;
		if (rc < 0)
			alk_err_set(&l->err, rc, "cannot sign: %s", strerror(-rc));
	}
	l->rc = rc;
	alk_ssh_wrote(l->ssh);
}

/* The server takes a key: which one, and have it sign. */
static int sign_begin(struct alk_login *l, struct alk_err *err)
{
	size_t len = 0;
	uint8_t *asked = asked_read(l, &len);
	struct alk_wire wire = {asked + (asked != NULL), len - (asked != NULL)};
	const uint8_t *blob, *data;
	size_t blob_len, data_len, i;
	struct bytes b = {0};
	uint32_t flags;

	if (!asked || !alk_wire_string(&wire, &blob, &blob_len) ||
	    !alk_wire_string(&wire, &data, &data_len) || !alk_wire_u32(&wire, &flags)) {
		free(asked);
		return -EPROTO;
	}
	for (i = l->next; i < l->batch_end; i++)
		if (l->offers[i].len == blob_len && memcmp(l->offers[i].blob, blob, blob_len) == 0)
			break;
	b.size = i < l->batch_end ? 13 + l->offers[i].sign_len + data_len : 0;
	b.p = malloc(b.size + 1);
	if (i < l->batch_end && b.p) {
		l->next = i;
		b.p[b.len++] = ALK_AGENT_SIGN_REQUEST;
		put_string(&b, l->offers[i].sign, l->offers[i].sign_len);
		put_string(&b, data, data_len);
		put_u32(&b, flags);
		l->query = alk_agent_ask(l->loop, l->agent, b.p, b.len, SIGN_MS, on_signature, l,
					 err);
		l->state = LOGIN_SIGNING;
	}
	free(b.p);
	free(asked);
	return l->query ? 0 : -EPROTO;
}

static int offers_refused(const struct alk_login *l, struct alk_err *err)
{
	if (l->not_signed > 0)
		return alk_err_set(
			err, -EACCES,
			"%s: the agent at %s did not sign for a key that the server takes",
			l->server, l->agent);
	if (l->identity)
		return alk_err_set(
			err, -EACCES,
			"%s: the server refused the key %s%s%s (from the agent) for user %s",
			l->server, l->identity, l->cert ? " and its certificate " : "",
			l->cert ? l->cert_path : "", l->user);
	return alk_err_set(err, -EACCES,
			   "%s: the server refused all %zu keys of the agent for user %s",
			   l->server, l->n_offers, l->user);
}

static int agent_turn(struct alk_login *l)
{
	int rc;

	alk_ssh_enter(l->ssh);
	rc = ssh_userauth_agent(l->ssh->ssh, NULL);
	alk_ssh_leave(l->ssh);
	return rc;
}

static int offering_step(struct alk_login *l, struct alk_err *err)
{
	for (;;) {
		int rc = 0;

		if (l->next == l->n_offers)
			return offers_refused(l, err);
		if (l->next == l->batch_end)
			rc = batch_begin(l);
		if (rc < 0)
			return alk_err_set(err, rc, "cannot offer the agent's keys: %s",
					   strerror(-rc));
		switch (agent_turn(l)) {
		case SSH_AUTH_AGAIN:
			return 0;
		case SSH_AUTH_DENIED:
		case SSH_AUTH_PARTIAL:
			l->next = l->batch_end;
			break;
		case SSH_AUTH_ERROR:
			return sign_begin(l, err);
		default:
			return -EPROTO;
		}
	}
}

static int signed_step(struct alk_login *l, struct alk_err *err)
{
	switch (agent_turn(l)) {
	case SSH_AUTH_AGAIN:
		return 0;
	case SSH_AUTH_SUCCESS:
		last_keep(l);
		return 1;
	case SSH_AUTH_DENIED:
	case SSH_AUTH_PARTIAL:
		l->next++;
		l->batch_end = l->next;
		l->state = LOGIN_OFFERING;
		return offering_step(l, err);
	default:
		return -EPROTO;
	}
}

int login_agent_step(struct alk_login *l, struct alk_err *err)
{
	if (l->rc < 0) {
		alk_err_set(err, l->rc, "%s: %s", l->server, l->err.text);
		return l->rc;
	}
	switch (l->state) {
	case LOGIN_OFFERING:
		return offering_step(l, err);
	case LOGIN_SIGNED:
		return signed_step(l, err);
	default:
		return 0;
	}
}

void login_agent_end(struct alk_login *l)
{
	alk_agent_cancel(&l->query);
	offers_free(l);
	alk_fd_close(&l->ours);
	l->theirs = -1;
}
