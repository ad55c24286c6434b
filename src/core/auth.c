/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <alknet/log.h>
#include "auth.h"
#include "text.h"

#define PENALTIES_MAX 1024
#define DELAY_MIN 5
#define DELAY_SPREAD 4

struct penalty {
	char who[128];
	uint64_t until;
};

struct alk_auth {
	struct alk_keys *keys;
	struct alk_keys **authorities; /* of each file of cert_authority */
	size_t n_authorities;
	struct alk_krl *revoked;
	char key_types[128], signature_types[160];
	char bad_line[400];
	alk_keys_bad *bad;
	void *bad_user;
	uint64_t secret;
	struct penalty *penalty;
	size_t n_penalties, next_penalty;
};

/* ---- the files ------------------------------------------------------------------------------- */

static void on_bad_line(void *user, const char *name, unsigned line, const char *why)
{
	struct alk_auth *auth = user;

	if (!auth->bad_line[0])
		snprintf(auth->bad_line, sizeof(auth->bad_line), "%.150s:%u: %s", name, line, why);
	if (auth->bad)
		auth->bad(auth->bad_user, name, line, why);
	else
		alk_log(ALK_LOG_WARN, "authorized key refused", ALK_STR("file", name),
			ALK_INT("line", line), ALK_STR("reason", why));
}

static void list_add(char *list, size_t size, const char *word)
{
	size_t n = strlen(list);

	if (!alk_text_list_has(list, word))
		snprintf(list + n, size - n, "%s%s", n ? "," : "", word);
}

static void types_read(struct alk_auth *auth, const struct alk_options *values)
{
	const char *type;

	for (size_t i = 0; (type = alk_options_nth(values, "key_types", i)); i++) {
		bool rsa = strncmp(type, "rsa-", 4) == 0;

		list_add(auth->signature_types, sizeof(auth->signature_types), type);
		list_add(auth->key_types, sizeof(auth->key_types), rsa ? "ssh-rsa" : type);
	}
}

static int authorities_read(struct alk_auth *auth, const struct alk_conf *conf, struct alk_err *err)
{
	const struct alk_options *values = alk_conf_values(conf);
	size_t n = 0, len = 0;
	const char *path, *text;

	while (alk_options_nth(values, "cert_authority", n))
		n++;
	auth->authorities = calloc(n + 1, sizeof(*auth->authorities));
	if (!auth->authorities)
		return alk_err_set(err, -ENOMEM, "cert_authority: out of memory");
	for (size_t i = 0; i < n; i++) {
		path = alk_options_nth(values, "cert_authority", i);
		text = alk_conf_file(conf, "cert_authority", i, &len);
		auth->authorities[i] = alk_keys_parse_authorities(path, text, len, on_bad_line,
								  auth);
		if (!auth->authorities[i])
			return alk_err_set(err, -ENOMEM, "cert_authority: out of memory");
		auth->n_authorities++;
		if (auth->authorities[i]->count == 0)
			return alk_err_set(err, -EINVAL,
					   "cert_authority: %s holds no key that can be used%s%s",
					   path, auth->bad_line[0] ? ": " : "", auth->bad_line);
	}
	return 0;
}

static int files_read(struct alk_auth *auth, const struct alk_conf *conf, struct alk_err *err)
{
	const struct alk_options *values = alk_conf_values(conf);
	size_t len = 0;
	const char *text = alk_conf_file(conf, "authorized_keys", 0, &len);

	if (text) {
		auth->keys = alk_keys_parse(alk_options_str(values, "authorized_keys"), text, len,
					    auth->key_types, on_bad_line, auth);
		if (!auth->keys)
			return alk_err_set(err, -ENOMEM, "authorized_keys: out of memory");
	}
	text = alk_conf_file(conf, "revoked_keys", 0, &len);
	if (text) {
		auth->revoked = alk_krl_parse(alk_options_str(values, "revoked_keys"),
					      (const uint8_t *)text, len, err);
		if (!auth->revoked)
			return alk_err_prefix(err, -EINVAL, "revoked_keys");
	}
	return authorities_read(auth, conf, err);
}

struct alk_auth *alk_auth_new(const struct alk_conf *conf, alk_keys_bad *bad, void *user,
			      struct alk_err *err)
{
	struct alk_auth *auth = calloc(1, sizeof(*auth));

	if (!auth || getrandom(&auth->secret, sizeof(auth->secret), 0) != sizeof(auth->secret)) {
		alk_err_set(err, -ENOMEM, "out of memory for the authorized keys");
		free(auth);
		return NULL;
	}
	types_read(auth, alk_conf_values(conf));
	auth->bad = bad;
	auth->bad_user = user;
	if (files_read(auth, conf, err) < 0)
		alk_auth_free(&auth);
	return auth;
}

void alk_auth_free(struct alk_auth **auth_)
{
	struct alk_auth *auth = *auth_;

	if (!auth)
		return;
	alk_keys_free(&auth->keys);
	for (size_t i = 0; i < auth->n_authorities; i++)
		alk_keys_free(&auth->authorities[i]);
	free(auth->authorities);
	alk_krl_free(&auth->revoked);
	free(auth->penalty);
	explicit_bzero(auth, sizeof(*auth));
	free(auth);
	*auth_ = NULL;
}

size_t alk_auth_key_count(const struct alk_auth *auth)
{
	size_t n = 0;

	for (size_t i = 0; auth->keys && i < auth->keys->count; i++)
		n += !auth->keys->entry[i].options.cert_authority;
	return n;
}

size_t alk_auth_authority_count(const struct alk_auth *auth)
{
	size_t n = auth->keys ? auth->keys->count - alk_auth_key_count(auth) : 0;

	for (size_t i = 0; i < auth->n_authorities; i++)
		n += auth->authorities[i]->count;
	return n;
}

const char *alk_auth_bad_line(const struct alk_auth *auth)
{
	return auth->bad_line;
}

const char *alk_auth_key_types(const struct alk_auth *auth)
{
	return auth->key_types;
}

const char *alk_auth_signature_types(const struct alk_auth *auth)
{
	return auth->signature_types;
}

const struct alk_krl *alk_auth_revoked(const struct alk_auth *auth)
{
	return auth->revoked;
}

int alk_auth_set_revoked(struct alk_auth *auth, const char *name, const uint8_t *bytes, size_t len,
			 struct alk_err *err)
{
	struct alk_krl *revoked = bytes ? alk_krl_parse(name, bytes, len, err) : NULL;

	if (bytes && !revoked)
		return alk_err_prefix(err, -EINVAL, "revoked_keys");
	alk_krl_free(&auth->revoked);
	auth->revoked = revoked;
	return 0;
}

/* ---- may this one come in? ------------------------------------------------------------------- */

static void why_not(struct alk_auth_answer *answer, const char *why)
{
	snprintf(answer->why, sizeof(answer->why), "%s", why);
}

/* What the line says besides the key: when and from where. */
static bool line_allows(const struct alk_key_entry *line, const struct alk_auth_ask *ask,
			struct alk_auth_answer *answer)
{
	const struct alk_key_options *o = &line->options;

	if (o->expires && o->expires < ask->now)
		snprintf(answer->why, sizeof(answer->why), "expired (expiry-time=, line %u)",
			 line->line);
	else if (o->from && !alk_key_options_from(o->from, ask->remote_addr))
		snprintf(answer->why, sizeof(answer->why), "source address (from=, line %u)",
			 line->line);
	else
		return true;
	return false;
}

/* The first principal of the certificate that the line names; the check has found that there is
 * one. */
static const char *principal_of(const struct alk_cert *cert, const char *list)
{
	for (size_t i = 0; i < cert->n_principals; i++)
		if (!strchr(cert->principal[i], ',') && alk_text_list_has(list, cert->principal[i]))
			return cert->principal[i];
	return NULL;
}

/* Ask about a certificate whose authority is trusted by a line (`options`) or a file (NULL). */
static bool cert_allows(const struct alk_auth *auth, const struct alk_key_options *options,
			const struct alk_auth_ask *ask, struct alk_auth_answer *answer)
{
	struct alk_cert *cert = ask->cert;
	struct alk_cert_ask about = {
		.trusted = true,
		.principals_optional = ask->mapped || (options && !options->principals),
		.now = ask->now,
		.user = ask->user,
		.principals = options ? options->principals : NULL,
		.remote_addr = ask->remote_addr,
		.krl = auth->revoked,
	};
	struct alk_err err = {""};

	if (ask->mapped) {
		about.principals = NULL;
		about.user = cert->n_principals ? cert->principal[0] : NULL;
	}
	if (alk_cert_check(cert, &about, &err) != ALK_CERT_OK) {
		why_not(answer, err.text);
		return false;
	}
	answer->options = options;
	if (about.principals)
		answer->principal = principal_of(cert, about.principals);
	else if (cert->n_principals && !ask->mapped)
		answer->principal = ask->user;
	return true;
}

static bool has_key(const struct alk_key_entry *entry, const uint8_t *key, size_t len)
{
	/* Lengths are public; contents are compared to the end. */
	return entry->blob_len == len && alk_equal_ct(entry->blob, key, len);
}

/* All entries are looked at, whatever was found before. */
static bool keys_allow(const struct alk_auth *auth, const struct alk_auth_ask *ask,
		       struct alk_auth_answer *answer)
{
	const uint8_t *key = ask->cert ? ask->cert->ca : ask->key;
	size_t len = ask->cert ? ask->cert->ca_len : ask->key_len;
	bool good = false;

	for (size_t i = 0; auth->keys && i < auth->keys->count; i++) {
		const struct alk_key_entry *line = &auth->keys->entry[i];

		if (!has_key(line, key, len) || good ||
		    line->options.cert_authority != (ask->cert != NULL) ||
		    !line_allows(line, ask, answer))
			continue;
		if (ask->cert) {
			good = cert_allows(auth, &line->options, ask, answer);
		} else {
			answer->options = &line->options;
			good = true;
		}
	}
	return good;
}

static bool authorities_allow(const struct alk_auth *auth, const struct alk_auth_ask *ask,
			      struct alk_auth_answer *answer)
{
	bool trusted = false;

	for (size_t i = 0; i < auth->n_authorities; i++)
		trusted |= alk_keys_find(auth->authorities[i], ask->cert->ca, ask->cert->ca_len) !=
			   NULL;
	return trusted && cert_allows(auth, NULL, ask, answer);
}

bool alk_auth_check(const struct alk_auth *auth, const struct alk_auth_ask *ask,
		    struct alk_auth_answer *answer)
{
	*answer = (struct alk_auth_answer){0};
	if (ask->cert) {
		why_not(answer, "signed by no trusted authority");
		answer->good = keys_allow(auth, ask, answer) ||
			       authorities_allow(auth, ask, answer);
	} else if (alk_krl_has_key(auth->revoked, ask->key, ask->key_len)) {
		why_not(answer, "revoked");
	} else {
		why_not(answer, "not authorized");
		answer->good = ask->mapped || keys_allow(auth, ask, answer);
	}
	return answer->good;
}

/* ---- what the answers must not tell ---------------------------------------------------------- */

bool alk_auth_user_valid(const char *user)
{
	size_t len = strnlen(user, 65);

	if (len == 0 || len > 64 || !alk_text_utf8(user, len))
		return false;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)user[i], next = (unsigned char)user[i + 1];

		/* Controls: C0, DEL, and C1, which are two bytes. */
		if (c < 0x20 || c == 0x7f || (c == 0xc2 && next < 0xa0))
			return false;
	}
	return true;
}

uint64_t alk_auth_delay(const struct alk_auth *auth, const char *user)
{
	/* FNV-1a from a secret start: nobody sees more of it than a few milliseconds. */
	uint64_t h = auth->secret;

	for (; *user; user++)
		h = (h ^ (unsigned char)*user) * 0x100000001b3u;
	return DELAY_MIN + (h >> 32) % (DELAY_SPREAD + 1);
}

void alk_auth_penalise(struct alk_auth *auth, const char *who, uint64_t until)
{
	struct penalty *p = NULL;
	size_t i;

	if (!auth->penalty && !(auth->penalty = calloc(PENALTIES_MAX, sizeof(*auth->penalty))))
		return;
	for (i = 0; i < auth->n_penalties && !p; i++)
		if (strcmp(auth->penalty[i].who, who) == 0)
			p = &auth->penalty[i];
	if (!p) {
		p = &auth->penalty[auth->next_penalty];
		auth->next_penalty = (auth->next_penalty + 1) % PENALTIES_MAX;
		if (auth->n_penalties < PENALTIES_MAX)
			auth->n_penalties++;
		strncpy(p->who, who, sizeof(p->who) - 1);
	}
	p->until = until;
}

bool alk_auth_penalised(const struct alk_auth *auth, const char *who, uint64_t now)
{
	size_t i;

	if (!who || !auth->penalty)
		return false;
	for (i = 0; i < auth->n_penalties; i++)
		if (auth->penalty[i].until > now && strncmp(auth->penalty[i].who, who, 127) == 0)
			return true;
	return false;
}
