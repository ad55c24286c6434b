/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "acme_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define BODY_MAX ((size_t)512 * 1024)
#define REQUEST_SECONDS 60L
#define CONNECT_SECONDS 20L
/* A CA that takes one nonce of ten is still one that can be worked with. */
#define NONCE_TRIES 100

struct exchange {
	struct acme_client *client;
	struct acme_reply *reply;
	bool too_long;
};

void acme_reply_clear(struct acme_reply *reply)
{
	json_decref(reply->json);
	free(reply->body);
	*reply = (struct acme_reply){0};
}

static size_t on_body(char *bytes, size_t size, size_t n, void *user)
{
	struct exchange *x = user;
	char *more;

	(void)size;
	x->too_long = x->reply->len + n > BODY_MAX;
	more = x->too_long ? NULL : realloc(x->reply->body, x->reply->len + n + 1);
	if (more == NULL)
		return 0;
	memcpy(more + x->reply->len, bytes, n);
	x->reply->body = more;
	x->reply->len += n;
	more[x->reply->len] = '\0';
	return n;
}

/* The value of header `name`, when that is what the line is and the value is one that can be
 * used. */
static void header_take(const char *line, size_t n, const char *name, char *value, size_t size)
{
	size_t len = strlen(name);

	if (n <= len || strncasecmp(line, name, len) != 0 || line[len] != ':')
		return;
	line += len + 1;
	n -= len + 1;
	for (; n > 0 && (*line == ' ' || *line == '\t'); n--)
		line++;
	while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == '\n' || line[n - 1] == ' '))
		n--;
	if (n == 0 || n >= size || memchr(line, '\0', n) != NULL)
		return;
	memcpy(value, line, n);
	value[n] = '\0';
}

static size_t on_header(char *line, size_t size, size_t n, void *user)
{
	struct exchange *x = user;

	(void)size;
	header_take(line, n, "Replay-Nonce", x->client->nonce, sizeof(x->client->nonce));
	header_take(line, n, "Location", x->reply->location, sizeof(x->reply->location));
	return n;
}

int acme_wire_init(struct acme_client *c, struct alk_err *err)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
		return alk_err_set(err, -ENOMEM, "libcurl cannot be used");
	c->multi = curl_multi_init();
	c->easy = curl_easy_init();
	if (c->multi == NULL || c->easy == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	return 0;
}

static void easy_set(struct acme_client *c, const char *url, const char *body,
		     struct curl_slist *headers, struct exchange *x)
{
	CURL *easy = c->easy;

	curl_easy_reset(easy); /* keeps the connection */
	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "https");
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "alknet/" ALKNET_VERSION);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT, REQUEST_SECONDS);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, x);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, x);
	if (body != NULL)
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	if (c->ca != NULL) {
		struct curl_blob blob = {(void *)(uintptr_t)c->ca, strlen(c->ca), CURL_BLOB_NOCOPY};

		curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &blob);
		curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	}
}

/* Wait for the one transfer there is; the rest of the helper goes on. */
static CURLcode easy_run(struct acme_client *c)
{
	CURLcode code = CURLE_FAILED_INIT;
	CURLMsg *msg;
	int running = 1, left;

	if (curl_multi_add_handle(c->multi, c->easy) != CURLM_OK)
		return code;
	while (running > 0) {
		if (curl_multi_perform(c->multi, &running) != CURLM_OK)
			break;
		if (running > 0)
			acme_client_turn(c, 1000);
	}
	while ((msg = curl_multi_info_read(c->multi, &left)) != NULL)
		if (msg->msg == CURLMSG_DONE)
			code = msg->data.result;
	curl_multi_remove_handle(c->multi, c->easy);
	return code;
}

static int wire_request(struct acme_client *c, const char *url, const char *body,
			struct acme_reply *reply, struct alk_err *err)
{
	struct exchange x = {c, reply, false};
	char why[CURL_ERROR_SIZE] = "";
	struct curl_slist *headers = NULL;
	curl_off_t after = 0;
	CURLcode code;

	*reply = (struct acme_reply){0};
	if (body != NULL)
		headers = curl_slist_append(NULL, "Content-Type: application/jose+json");
	easy_set(c, url, body, headers, &x);
	curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, why);
	code = easy_run(c);
	curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &reply->status);
	curl_easy_getinfo(c->easy, CURLINFO_RETRY_AFTER, &after);
	curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, NULL);
	curl_slist_free_all(headers);
	if (code != CURLE_OK)
		return alk_err_set(err, -EIO, "%s: %s", url,
				   x.too_long	    ? "the answer is too long"
				   : why[0] != '\0' ? why
						    : curl_easy_strerror(code));
	reply->retry_after = after < 0			    ? 0
			     : after < ACME_RETRY_AFTER_MAX ? after
							    : ACME_RETRY_AFTER_MAX;
	if (reply->body != NULL)
		reply->json = json_loadb(reply->body, reply->len, JSON_REJECT_DUPLICATES, NULL);
	return 0;
}

int acme_wire_get(struct acme_client *c, const char *url, struct acme_reply *reply,
		  struct alk_err *err)
{
	return wire_request(c, url, NULL, reply, err);
}

/* ---- signed requests ---- */

static char *request_sign(struct acme_client *c, const char *url, const char *payload)
{
	json_t *header = json_pack("{s:s, s:s}", "nonce", c->nonce, "url", url);
	char *body = NULL;
	int rc = -1;

	c->nonce[0] = '\0';
	if (header != NULL)
		rc = c->account != NULL
			     ? json_object_set_new(header, "kid", json_string(c->account))
			     : json_object_set_new(header, "jwk", acme_jwk(c->key));
	if (rc == 0)
		body = acme_jws(c->key, header, payload);
	json_decref(header);
	return body;
}

/* What a bad answer means, in the CA's words. */
static int reply_judge(struct acme_client *c, const char *url, const struct acme_reply *reply,
		       struct alk_err *err)
{
	const char *type = acme_text_of(reply->json, "type");
	bool later = reply->status == 429 || reply->status >= 500 || reply->retry_after > 0;
	int rc = later ? -EBUSY : -EPERM;

	if (reply->status >= 200 && reply->status < 300)
		return 0;
	if (reply->retry_after > 0)
		c->retry_after = acme_client_clock() + reply->retry_after;
	if (strcmp(type, "urn:ietf:params:acme:error:accountDoesNotExist") == 0)
		rc = -ENOENT;
	return alk_err_set(err, rc, "the CA answers %ld to %.120s: %.120s %.200s", reply->status,
			   url, type, acme_text_of(reply->json, "detail"));
}

static int nonce_get(struct acme_client *c, struct alk_err *err)
{
	const char *url = json_string_value(json_object_get(c->directory, "newNonce"));
	struct acme_reply reply = {0};
	int rc;

	if (c->nonce[0] != '\0')
		return 0;
	if (url == NULL)
		return alk_err_set(err, -EIO, "the CA's directory has no newNonce");
	rc = wire_request(c, url, NULL, &reply, err);
	if (rc == 0 && c->nonce[0] == '\0') {
		rc = reply_judge(c, url, &reply, err);
		if (rc == 0)
			rc = alk_err_set(err, -EIO, "%s gives no nonce", url);
	}
	acme_reply_clear(&reply);
	return rc;
}

static bool is_bad_nonce(const struct acme_reply *reply)
{
	return reply->status == 400 && strcmp(acme_text_of(reply->json, "type"),
					      "urn:ietf:params:acme:error:badNonce") == 0;
}

static int post_once(struct acme_client *c, const char *url, const char *payload,
		     struct acme_reply *reply, struct alk_err *err)
{
	int rc = nonce_get(c, err);
	char *body = rc == 0 ? request_sign(c, url, payload) : NULL;

	if (rc == 0 && body == NULL)
		rc = alk_err_set(err, -ENOMEM, "a request cannot be signed");
	if (rc == 0)
		rc = wire_request(c, url, body, reply, err);
	free(body);
	return rc;
}

int acme_wire_post(struct acme_client *c, const char *url, const json_t *payload,
		   struct acme_reply *reply, struct alk_err *err)
{
	char *text = payload != NULL ? json_dumps(payload, JSON_COMPACT) : strdup("");
	int rc = -ENOMEM;

	*reply = (struct acme_reply){0};
	for (unsigned i = 0; text != NULL && i < NONCE_TRIES; i++) {
		if (i > 4)
			acme_client_turn(c, 20);
		acme_reply_clear(reply);
		rc = post_once(c, url, text, reply, err);
		if (rc < 0 || !is_bad_nonce(reply))
			break;
	}
	free(text);
	if (rc == -ENOMEM)
		return alk_err_set(err, rc, "out of memory");
	return rc < 0 ? rc : reply_judge(c, url, reply, err);
}
