/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* RFC 8555 sections 7.1.1, 7.3: the directory, and the account behind its key. */
#include "acme_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *url_of(struct acme_client *c, const char *key)
{
	return acme_text_of(c->directory, key);
}

int acme_directory_read(struct acme_client *c, struct alk_err *err)
{
	static const char *const needed[] = {"newNonce", "newAccount", "newOrder", "keyChange"};
	struct acme_reply reply = {0};
	int rc = acme_wire_get(c, c->directory_url, &reply, err);

	if (rc == 0 && reply.retry_after > 0 && reply.status != 200)
		c->retry_after = acme_client_clock() + reply.retry_after;
	if (rc == 0 && (reply.status != 200 || !json_is_object(reply.json)))
		rc = alk_err_set(err, -EIO, "%s is not an ACME directory: it answers %ld",
				 c->directory_url, reply.status);
	for (size_t i = 0; rc == 0 && i < sizeof(needed) / sizeof(needed[0]); i++)
		if (acme_text_of(reply.json, needed[i])[0] == '\0')
			rc = alk_err_set(err, -EIO, "the directory %s has no %s", c->directory_url,
					 needed[i]);
	if (rc == 0) {
		json_decref(c->directory);
		c->directory = json_incref(reply.json);
	}
	acme_reply_clear(&reply);
	return rc;
}

static json_t *contact_of(const struct acme_client *c)
{
	char *mail = NULL;
	json_t *contact = json_array();

	if (c->email != NULL && contact != NULL && asprintf(&mail, "mailto:%s", c->email) > 0)
		json_array_append_new(contact, json_string(mail));
	free(mail);
	return contact;
}

/* RFC 8555 section 7.3: a key that is known gets its account, with the contact it had. */
static int account_ask(struct acme_client *c, bool known_only, struct alk_err *err)
{
	json_t *contact = contact_of(c);
	json_t *ask = known_only ? json_pack("{s:b}", "onlyReturnExisting", 1)
				 : json_pack("{s:b, s:O}", "termsOfServiceAgreed", 1, "contact",
					     contact);
	struct acme_reply reply = {0};
	int rc;

	free(c->account);
	c->account = NULL;
	rc = acme_wire_post(c, url_of(c, "newAccount"), ask, &reply, err);
	if (rc == 0 && reply.location[0] == '\0')
		rc = alk_err_set(err, -EIO, "the CA gives the account no URL");
	if (rc == 0)
		c->account = strdup(reply.location);
	if (rc == 0 && c->account == NULL)
		rc = alk_err_set(err, -ENOMEM, "out of memory");
	if (rc == 0 && !known_only && strcmp(acme_text_of(reply.json, "status"), "valid") != 0)
		rc = alk_err_set(err, -EPERM, "the CA says that the account is \"%.40s\"",
				 acme_text_of(reply.json, "status"));
	if (rc == 0 && reply.status == 200 && !known_only && c->email != NULL &&
	    !json_equal(json_object_get(reply.json, "contact"), contact)) {
		json_t *update = json_pack("{s:O}", "contact", contact);

		acme_reply_clear(&reply);
		rc = acme_wire_post(c, c->account, update, &reply, err);
		json_decref(update);
	}
	acme_reply_clear(&reply);
	json_decref(ask);
	json_decref(contact);
	return rc;
}

static int key_make(struct acme_client *c, const char *name, EVP_PKEY **key, struct alk_err *err)
{
	char *pem;
	int rc;

	*key = acme_key_new(err);
	if (*key == NULL)
		return -EIO;
	pem = acme_key_pem(*key);
	rc = pem != NULL ? acme_state_write(c->state_dir, name, pem, err)
			 : alk_err_set(err, -ENOMEM, "out of memory");
	acme_text_free(&pem);
	if (rc < 0) {
		EVP_PKEY_free(*key);
		*key = NULL;
	}
	return rc;
}

/* A change of the key that was cut off: did the CA take the new one? */
static int rekey_finish(struct acme_client *c, struct alk_err *err)
{
	EVP_PKEY *next, *old = c->key;
	int rc = acme_account_read(c->state_dir, ACME_ACCOUNT_NEXT, &next, err);

	if (rc < 0 || next == NULL)
		return rc;
	c->key = next;
	rc = account_ask(c, true, err);
	if (rc == 0)
		rc = acme_state_rename(c->state_dir, ACME_ACCOUNT_NEXT, ACME_ACCOUNT, err);
	if (rc == 0) {
		EVP_PKEY_free(old);
		return 0;
	}
	c->key = old;
	EVP_PKEY_free(next);
	if (rc != -ENOENT) /* it may have: without this key the account would be lost */
		return rc;
	acme_state_remove(c->state_dir, ACME_ACCOUNT_NEXT);
	return 0;
}

int acme_account_open(struct acme_client *c, struct alk_err *err)
{
	int rc = acme_directory_read(c, err);

	EVP_PKEY_free(c->key);
	c->key = NULL;
	if (rc == 0)
		rc = acme_account_read(c->state_dir, ACME_ACCOUNT, &c->key, err);
	if (rc == 0 && c->key == NULL)
		rc = key_make(c, ACME_ACCOUNT, &c->key, err);
	if (rc == 0)
		rc = rekey_finish(c, err);
	return rc < 0 ? rc : account_ask(c, false, err);
}

/* The inner signature is the new key's, over the old one. */
static json_t *rekey_payload(struct acme_client *c, EVP_PKEY *next)
{
	json_t *old = acme_jwk(c->key), *jwk = acme_jwk(next);
	json_t *header = json_pack("{s:O?, s:s}", "jwk", jwk, "url", url_of(c, "keyChange"));
	json_t *inner = json_pack("{s:s, s:O?}", "account", c->account, "oldKey", old);
	char *text = inner != NULL ? json_dumps(inner, JSON_COMPACT) : NULL;
	char *jws = text != NULL && header != NULL ? acme_jws(next, header, text) : NULL;
	json_t *payload = jws != NULL ? json_loads(jws, 0, NULL) : NULL;

	free(jws);
	free(text);
	json_decref(inner);
	json_decref(header);
	json_decref(jwk);
	json_decref(old);
	return payload;
}

int acme_account_rekey(struct acme_client *c, struct alk_err *err)
{
	EVP_PKEY *next;
	struct acme_reply reply = {0};
	json_t *payload = NULL;
	int rc = key_make(c, ACME_ACCOUNT_NEXT, &next, err);

	if (rc == 0 && (payload = rekey_payload(c, next)) == NULL)
		rc = alk_err_set(err, -ENOMEM, "out of memory");
	if (rc == 0)
		rc = acme_wire_post(c, url_of(c, "keyChange"), payload, &reply, err);
	if (rc == 0)
		rc = acme_state_rename(c->state_dir, ACME_ACCOUNT_NEXT, ACME_ACCOUNT, err);
	if (rc == 0) {
		EVP_PKEY_free(c->key);
		c->key = next;
		next = NULL;
	}
	EVP_PKEY_free(next);
	acme_reply_clear(&reply);
	json_decref(payload);
	return rc;
}
