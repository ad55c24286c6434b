/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* RFC 8555 section 7: order, authorizations, certificate. What the CA says is a stranger's word:
 * every URL goes through libcurl, which takes https alone; every text is cut. */
#include "acme_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define POLL_SECONDS_MAX 60
#define POLLS_MAX 60
#define POLL_TIME 300 /* seconds for one thing */

static const char *url_of(struct acme_client *c, const char *key)
{
	return acme_text_of(c->directory, key);
}

/* ---- waiting for the CA ---- */

static void pause_for(struct acme_client *c, int64_t seconds)
{
	time_t until;

	seconds = seconds < 1 ? 1 : seconds > POLL_SECONDS_MAX ? POLL_SECONDS_MAX : seconds;
	for (until = acme_client_clock() + seconds; acme_client_clock() < until;)
		acme_client_turn(c, 200);
}

/* Ask `url` until its status is neither `busy` nor `also`. */
static int status_wait(struct acme_client *c, const char *url, const char *busy, const char *also,
		       struct acme_reply *reply, struct alk_err *err)
{
	time_t until = acme_client_clock() + POLL_TIME;
	int rc;

	for (unsigned i = 0; i < POLLS_MAX && acme_client_clock() < until; i++) {
		const char *status;

		rc = acme_wire_post(c, url, NULL, reply, err);
		if (rc < 0)
			return rc;
		status = acme_text_of(reply->json, "status");
		if (strcmp(status, busy) != 0 && strcmp(status, also) != 0)
			return 0;
		/* They grow, so that all of them come to POLL_TIME. */
		pause_for(c, reply->retry_after > 1 + i / 6 ? reply->retry_after : 1 + i / 6);
		acme_reply_clear(reply);
	}
	return alk_err_set(err, -EBUSY, "the CA does not come to an end with %.200s", url);
}

/* ---- proving a name ---- */

static const json_t *challenge_find(const struct acme_client *c, const json_t *authz)
{
	const json_t *challenge;
	size_t i;

	json_array_foreach(json_object_get(authz, "challenges"), i, challenge)
	{
		if (strcmp(acme_text_of(challenge, "type"), c->challenge) == 0)
			return challenge;
	}
	return NULL;
}

/* What the CA sends as SNI: for an address the name that DNS has for it (RFC 8738 section 6). */
static void sni_of(const char *name, char sni[256])
{
	static const char hex[] = "0123456789abcdef";
	uint8_t a[16];
	size_t n = 0;

	if (inet_pton(AF_INET, name, a) == 1) {
		snprintf(sni, 256, "%u.%u.%u.%u.in-addr.arpa", a[3], a[2], a[1], a[0]);
	} else if (inet_pton(AF_INET6, name, a) == 1) {
		for (size_t i = sizeof(a); i-- > 0; n += 4)
			snprintf(sni + n, 256 - n, "%c.%c.", hex[a[i] & 15], hex[a[i] >> 4]);
		snprintf(sni + n, 256 - n, "ip6.arpa");
	} else {
		snprintf(sni, 256, "%s", name);
	}
}

/* All have it when the supervisor says so. */
static int workers_wait(struct acme_client *c, struct alk_err *err)
{
	time_t until = acme_client_clock() + POLL_SECONDS_MAX;

	while (!c->ready && acme_client_clock() < until)
		acme_client_turn(c, 1000);
	return c->ready ? 0 : alk_err_set(err, -EIO, "the workers do not take the challenge");
}

/* Through the supervisor to all workers; it says when they have it. */
static int alpn_begin(struct acme_client *c, const char *name, const char *text,
		      struct alk_err *err)
{
	uint8_t digest[SHA256_DIGEST_LENGTH];
	char sni[256], *pem;

	SHA256((const unsigned char *)text, strlen(text), digest);
	pem = acme_alpn_certificate(name, digest, err);
	if (pem == NULL)
		return -EIO;
	sni_of(name, sni);
	c->ready = false;
	acme_client_say(c, json_pack("{s:s, s:s, s:s}", "event", "challenge", "name", sni, "pem",
				     pem));
	acme_text_free(&pem);
	return workers_wait(c, err);
}

static int stealth_begin(struct acme_client *c, const char *token, const char *text,
			 struct alk_err *err)
{
	snprintf(c->proof, sizeof(c->proof), "/%s", token);
	c->ready = false;
	acme_client_say(c, json_pack("{s:s, s:s, s:s}", "event", "challenge", "name", c->proof,
				     "pem", text));
	return workers_wait(c, err);
}

static int proof_begin(struct acme_client *c, const char *name, const char *token,
		       struct alk_err *err)
{
	char *text = acme_key_authorization(c->key, token);
	int rc;

	if (text == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	if (c->answer != NULL)
		rc = acme_answer_begin(c->answer, token, text, err);
	else if (strcmp(c->challenge, "http-01") == 0)
		rc = stealth_begin(c, token, text, err);
	else
		rc = alpn_begin(c, name, text, err);
	free(text);
	return rc;
}

static void proof_end(struct acme_client *c, const char *name)
{
	char sni[257];

	if (c->answer != NULL) {
		acme_answer_end(c->answer);
		return;
	}
	sni_of(name, sni);
	if (c->proof[0] != '\0')
		snprintf(sni, sizeof(sni), "%s", c->proof);
	c->proof[0] = '\0';
	acme_client_say(c, json_pack("{s:s, s:s, s:n}", "event", "challenge", "name", sni, "pem"));
}

/* base64url alone: it becomes a part of a URL and of what is signed. */
static bool is_token(const char *token)
{
	return token[0] != '\0' && strlen(token) < 256 &&
	       token[strspn(token,
			    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")] ==
		       '\0';
}

static int proof_judge(struct acme_client *c, const char *name, const json_t *authz,
		       struct alk_err *err)
{
	const json_t *why = json_object_get(challenge_find(c, authz), "error");

	if (strcmp(acme_text_of(authz, "status"), "valid") == 0)
		return 0;
	return alk_err_set(err, -EPERM, "the CA could not check %.100s by %s: %.100s %.200s", name,
			   c->challenge, acme_text_of(why, "type"), acme_text_of(why, "detail"));
}

static int proof_run(struct acme_client *c, const char *url, const char *name,
		     const json_t *challenge, struct alk_err *err)
{
	json_t *empty = json_object();
	struct acme_reply reply = {0};
	int rc = proof_begin(c, name, acme_text_of(challenge, "token"), err);

	if (rc == 0)
		rc = acme_wire_post(c, acme_text_of(challenge, "url"), empty, &reply, err);
	acme_reply_clear(&reply);
	if (rc == 0)
		rc = status_wait(c, url, "pending", "processing", &reply, err);
	if (rc == 0)
		rc = proof_judge(c, name, reply.json, err);
	proof_end(c, name);
	acme_reply_clear(&reply);
	json_decref(empty);
	return rc;
}

/* What the CA wants proved has to be a name that was asked for; an address may be written in
 * another way. */
static bool is_ours(const struct acme_client *c, const char *name)
{
	uint8_t a[16], b[16];
	const json_t *ours;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)c->names, i, ours)
	{
		if (strcasecmp(json_string_value(ours), name) == 0)
			return true;
		if (inet_pton(AF_INET6, name, a) == 1 &&
		    inet_pton(AF_INET6, json_string_value(ours), b) == 1 &&
		    memcmp(a, b, sizeof(a)) == 0)
			return true;
	}
	return false;
}

static int authorize(struct acme_client *c, const char *url, struct alk_err *err)
{
	struct acme_reply reply = {0};
	const json_t *challenge;
	char name[256];
	int rc = acme_wire_post(c, url, NULL, &reply, err);

	if (rc == 0 && strcmp(acme_text_of(reply.json, "status"), "valid") != 0) {
		snprintf(name, sizeof(name), "%s",
			 acme_text_of(json_object_get(reply.json, "identifier"), "value"));
		challenge = challenge_find(c, reply.json);
		if (!is_ours(c, name))
			rc = alk_err_set(
				err, -EPERM,
				"the CA wants a proof for \"%.100s\", which was not asked for",
				name);
		else if (challenge == NULL || !is_token(acme_text_of(challenge, "token")))
			rc = alk_err_set(err, -EPERM, "the CA does not offer %s for %.100s",
					 c->challenge, name);
		else
			rc = proof_run(c, url, name, challenge, err);
	}
	acme_reply_clear(&reply);
	return rc;
}

/* ---- the order ---- */

static json_t *order_payload(struct acme_client *c, bool replaces)
{
	json_t *list = json_array(), *payload = NULL;
	const json_t *name;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)c->names, i, name)
	{
		const char *value = json_string_value(name);

		json_array_append_new(list,
				      json_pack("{s:s, s:s}", "type",
						acme_is_ip(value) ? "ip" : "dns", "value", value));
	}
	payload = json_pack("{s:o}", "identifiers", list);
	if (payload != NULL && replaces)
		json_object_set_new(payload, "replaces", json_string(c->pair.ari_id));
	return payload;
}

static int order_new(struct acme_client *c, struct acme_reply *reply, struct alk_err *err)
{
	bool replaces = c->pair.ari_id[0] != '\0' && url_of(c, "renewalInfo")[0] != '\0';
	json_t *payload = order_payload(c, replaces);
	int rc = acme_wire_post(c, url_of(c, "newOrder"), payload, reply, err);

	json_decref(payload);
	/* The one to replace may be of another CA, or replaced already. */
	if (rc == -EPERM && replaces) {
		acme_reply_clear(reply);
		payload = order_payload(c, false);
		rc = acme_wire_post(c, url_of(c, "newOrder"), payload, reply, err);
		json_decref(payload);
	}
	if (rc == 0 && (reply->location[0] == '\0' ||
			!json_is_array(json_object_get(reply->json, "authorizations"))))
		rc = alk_err_set(err, -EIO, "the CA's order cannot be understood");
	return rc;
}

static int finalize(struct acme_client *c, const char *url, EVP_PKEY *key, struct alk_err *err)
{
	struct acme_reply reply = {0};
	uint8_t *der;
	size_t n;
	int rc = acme_csr_make(key, c->names, &der, &n, err);
	char *csr = rc == 0 ? acme_base64url(der, n) : NULL;
	json_t *payload = json_pack("{s:s?}", "csr", csr);

	if (rc == 0)
		rc = acme_wire_post(c, url, payload, &reply, err);
	acme_reply_clear(&reply);
	json_decref(payload);
	free(csr);
	free(der);
	return rc;
}

json_t *acme_certificate_event(const char *pem, bool kept)
{
	json_t *event = json_pack("{s:s, s:s, s:b}", "event", "certificate", "pem", pem, "kept",
				  kept);

	if (json_dumpb(event, NULL, 0, JSON_COMPACT) <= ACME_PACKET_MAX)
		return event;
	json_decref(event);
	return NULL;
}

/* Good for this key, these names, and now. */
static int certificate_judge(struct acme_client *c, const char *pem, struct alk_err *err)
{
	struct acme_pair pair;
	int rc = acme_pair_read(pem, c->names, &pair, err);

	if (rc < 0)
		return alk_err_prefix(err, rc, "the CA's certificate");
	if (!pair.for_names)
		return alk_err_set(err, -EPERM, "the CA's certificate is not for all of the names");
	if (pair.not_after <= time(NULL))
		return alk_err_set(
			err, -EPERM,
			"the CA's certificate has expired already: is this machine's clock right?");
	if (pair.not_before > time(NULL))
		acme_client_notice(
			c, "the new certificate is not valid yet: is this machine's clock right?");
	c->pair = pair;
	return 0;
}

static int certificate_take(struct acme_client *c, const char *url, EVP_PKEY *key,
			    struct alk_err *err)
{
	struct acme_reply reply = {0};
	struct alk_err late = {""};
	json_t *event = NULL;
	char *secret = acme_key_pem(key), *pem = NULL;
	int rc = acme_wire_post(c, url, NULL, &reply, err);

	if (rc == 0 &&
	    (reply.len > ACME_PEM_MAX - 4096 || reply.len == 0 || strlen(reply.body) != reply.len))
		rc = alk_err_set(err, -EIO, "the CA's certificate cannot be understood");
	if (rc == 0 && (secret == NULL || asprintf(&pem, "%s%s", secret, reply.body) < 0)) {
		pem = NULL;
		rc = alk_err_set(err, -ENOMEM, "out of memory");
	}
	/* What the supervisor cannot be told must not be on disk: it would be in use nowhere. */
	if (rc == 0 && (event = acme_certificate_event(pem, false)) == NULL)
		rc = alk_err_set(err, -EIO, "the CA's certificate is not text");
	if (rc == 0)
		rc = certificate_judge(c, pem, err);
	/* Used in any case: that it cannot be kept shows at the next start. */
	if (rc == 0 && acme_state_write(c->state_dir, ACME_CERTIFICATE, pem, &late) < 0)
		acme_client_notice(c, "the new certificate is in use but not on disk: %s",
				   late.text);
	if (rc == 0)
		acme_client_say(c, json_incref(event));
	json_decref(event);
	acme_text_free(&pem);
	acme_text_free(&secret);
	acme_reply_clear(&reply);
	return rc;
}

static int order_expect(const json_t *order, const char *status, struct alk_err *err)
{
	const json_t *why = json_object_get(order, "error");

	if (strcmp(acme_text_of(order, "status"), status) == 0)
		return 0;
	return alk_err_set(err, -EPERM, "the CA's order is \"%.40s\": %.100s %.200s",
			   acme_text_of(order, "status"), acme_text_of(why, "type"),
			   acme_text_of(why, "detail"));
}

/* All names are proved. */
static int order_finish(struct acme_client *c, const char *url, struct alk_err *err)
{
	EVP_PKEY *key = acme_key_new(err);
	struct acme_reply reply = {0};
	int rc = key != NULL ? status_wait(c, url, "pending", "processing", &reply, err) : -EIO;

	if (rc == 0)
		rc = order_expect(reply.json, "ready", err);
	if (rc == 0)
		rc = finalize(c, acme_text_of(reply.json, "finalize"), key, err);
	acme_reply_clear(&reply);
	if (rc == 0)
		rc = status_wait(c, url, "processing", "ready", &reply, err);
	if (rc == 0)
		rc = order_expect(reply.json, "valid", err);
	if (rc == 0)
		rc = certificate_take(c, acme_text_of(reply.json, "certificate"), key, err);
	acme_reply_clear(&reply);
	EVP_PKEY_free(key);
	return rc;
}

int acme_order_run(struct acme_client *c, struct alk_err *err)
{
	struct acme_reply reply = {0};
	const json_t *url;
	size_t i;
	int rc = order_new(c, &reply, err);

	json_array_foreach(json_object_get(reply.json, "authorizations"), i, url)
	{
		if (rc == 0 && i < ACME_NAMES_MAX)
			rc = authorize(c, json_is_string(url) ? json_string_value(url) : "", err);
	}
	if (rc == 0)
		rc = order_finish(c, reply.location, err);
	acme_reply_clear(&reply);
	return rc;
}
