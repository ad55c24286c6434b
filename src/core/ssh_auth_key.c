/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The key or certificate of an authentication request: taken apart, told to a script, turned into what a
 * session may do. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "knownhosts.h"
#include "ssh_server.h"

/* What a script is told of a certificate; lists and texts lie behind it. */
struct server_cert_told {
	struct alk_ask_cert ask;
	const char **list;
	char *text;
};

void server_key_drop(struct alk_server *v)
{
	free(v->key);
	v->key = NULL;
	free(v->blob);
	v->blob = NULL;
	alk_cert_free(&v->cert);
	if (v->told) {
		free(v->told->list);
		free(v->told->text);
		free(v->told);
		v->told = NULL;
	}
}

static char *base64_of(const uint8_t *bytes, size_t len)
{
	size_t size = (len + 2) / 3 * 4 + 1;
	char *text = malloc(size);

	if (text)
		alk_base64_encode(bytes, len, text, size);
	return text;
}

static uint8_t *bytes_of(const char *base64, size_t *len)
{
	size_t size = strlen(base64) / 4 * 3 + 1;
	uint8_t *bytes = malloc(size);
	ssize_t n = bytes ? alk_base64_decode(base64, strlen(base64), bytes, size) : -ENOMEM;

	if (n <= 0) {
		free(bytes);
		return NULL;
	}
	*len = (size_t)n;
	return bytes;
}

/* "" when it cannot be made. */
static void fingerprint_of(const uint8_t *blob, size_t len, char *out, size_t size)
{
	struct alk_wire wire = {blob, len};
	char *text = base64_of(blob, len), type[64];
	const uint8_t *name;
	ssh_key key = NULL;
	size_t n;

	out[0] = '\0';
	if (text && alk_wire_string(&wire, &name, &n) && n < sizeof(type)) {
		snprintf(type, sizeof(type), "%.*s", (int)n, (const char *)name);
		if (ssh_pki_import_pubkey_base64(text, ssh_key_type_from_name(type), &key) ==
			    SSH_OK &&
		    alk_key_fingerprint(key, out, size) < 0)
			out[0] = '\0';
	}
	ssh_key_free(key);
	free(text);
}

/* Takes `blob`: as the peer sent it. */
static const char *cert_read(struct alk_server *v, uint8_t *blob, size_t len)
{
	struct alk_err err = {""};

	v->cert = alk_cert_parse(blob, len, &err);
	free(blob);
	if (!v->cert) {
		snprintf(v->why, sizeof(v->why), "%s", err.text);
		return v->why;
	}
	v->blob_len = v->cert->key_len;
	v->blob = malloc(v->blob_len);
	if (!v->blob)
		return "out of memory";
	memcpy(v->blob, v->cert->key, v->blob_len);
	return NULL;
}

const char *server_key_read(struct alk_server *v, ssh_key key)
{
	const char *type = key ? ssh_key_type_to_char(ssh_key_type(key)) : NULL, *why = NULL;
	char *text = NULL;
	uint8_t *blob;
	size_t len = 0;

	server_key_drop(v);
	v->fingerprint[0] = '\0';
	if (!type || ssh_pki_export_pubkey_base64(key, &text) != SSH_OK)
		return "a key that cannot be read";
	snprintf(v->key_type, sizeof(v->key_type), "%s", type);
	blob = bytes_of(text, &len);
	ssh_string_free_char(text);
	if (!blob)
		return "out of memory";
	if (strstr(type, "-cert-v0")) {
		why = cert_read(v, blob, len);
	} else {
		v->blob = blob;
		v->blob_len = len;
	}
	if (why)
		return why;
	fingerprint_of(v->blob, v->blob_len, v->fingerprint, sizeof(v->fingerprint));
	v->key = base64_of(v->blob, v->blob_len);
	if (!v->key || !v->fingerprint[0])
		return "a key that cannot be read";
	return alk_key_blob_check(v->blob, v->blob_len, alk_auth_key_types(v->host->auth));
}

/* ---- for the script ------------------------------------------------------------------------------ */

static size_t pairs_count(struct alk_wire pairs)
{
	const uint8_t *p;
	size_t len, n = 0;

	while (alk_wire_string(&pairs, &p, &len))
		n++;
	return n;
}

static const char *told_text(char **room, const uint8_t *p, size_t len)
{
	char *start = *room;
	size_t n = strnlen((const char *)p, len);

	memcpy(start, p, n);
	start[n] = '\0';
	*room += n + 1;
	return start;
}

/* Names and values, one after the other. A value is a string in the string, or nothing. */
static const char **told_pairs(const char **list, char **room, struct alk_wire pairs)
{
	const uint8_t *p;
	size_t len;

	for (bool value = false; alk_wire_string(&pairs, &p, &len); value = !value) {
		struct alk_wire inner = {p, len};

		if (value && !alk_wire_string(&inner, &p, &len))
			len = 0;
		*list++ = told_text(room, p, len);
	}
	*list++ = NULL;
	return list;
}

const struct alk_ask_cert *server_key_tell(struct alk_server *v)
{
	const struct alk_cert *cert = v->cert;
	struct alk_wire critical, extensions;
	struct server_cert_told *told;
	const char **list;
	size_t n;
	char *room;

	if (!cert)
		return NULL;
	critical = (struct alk_wire){cert->critical, cert->critical_len};
	extensions = (struct alk_wire){cert->extensions, cert->extensions_len};
	n = pairs_count(critical) + pairs_count(extensions);
	told = v->told = calloc(1, sizeof(*told));
	if (!told)
		return NULL;
	told->list = calloc(cert->n_principals + n + 3, sizeof(*told->list));
	told->text = malloc(cert->critical_len + cert->extensions_len + n + 1);
	if (!told->list || !told->text)
		return NULL;
	fingerprint_of(cert->ca, cert->ca_len, v->ca_fingerprint, sizeof(v->ca_fingerprint));
	told->ask = (struct alk_ask_cert){.key_id = cert->key_id,
					  .serial = cert->serial,
					  .ca_fingerprint = v->ca_fingerprint,
					  .principals = told->list,
					  .valid_after = cert->valid_after,
					  .valid_before = cert->valid_before};
	list = told->list;
	room = told->text;
	for (size_t i = 0; i < cert->n_principals; i++)
		*list++ = cert->principal[i];
	*list++ = NULL;
	told->ask.critical_options = list;
	told->ask.extensions = list = told_pairs(list, &room, critical);
	told_pairs(list, &room, extensions);
	return &told->ask;
}

/* ---- for the session ----------------------------------------------------------------------------- */

struct alk_grant *server_key_grant(struct alk_server *v, const struct alk_auth_answer *answer,
				   const char *id, const char *const *scopes,
				   const char *const *resources)
{
	const struct alk_key_options *o = answer->options;
	const struct alk_cert *cert = v->cert;
	struct alk_grant_limits limits = {0};
	struct alk_grant_cert says;
	const char **principals = NULL;
	struct alk_grant *grant;

	if (o)
		limits = (struct alk_grant_limits){.no_forwarding = o->no_forwarding,
						   .permit_open = (const char *const *)
									  o->permit_open,
						   .permit_listen = (const char *const *)
									    o->permit_listen,
						   .expires = o->expires};
	if (cert) {
		principals = calloc(cert->n_principals + 1, sizeof(*principals));
		if (!principals)
			return NULL;
		for (size_t i = 0; i < cert->n_principals; i++)
			principals[i] = cert->principal[i];
		fingerprint_of(cert->ca, cert->ca_len, v->ca_fingerprint,
			       sizeof(v->ca_fingerprint));
		says = (struct alk_grant_cert){.serial = cert->serial,
					       .valid_before = cert->valid_before,
					       .key_id = cert->key_id,
					       .ca_fingerprint = v->ca_fingerprint,
					       .principals = principals};
		limits.cert = &says;
		limits.no_forwarding |= !cert->port_forwarding;
	}
	grant = alk_grant_new_limited(id, v->user, v->fingerprint, scopes, resources, &limits);
	free(principals);
	return grant;
}

const char *server_key_over(const struct alk_server *v, int64_t now)
{
	const struct alk_krl *revoked = alk_auth_revoked(v->host->auth);
	const struct alk_grant_cert *cert = v->ssh.grant->limits.cert;

	if (cert && cert->valid_before <= (uint64_t)now)
		return "expired";
	if (v->cert ? alk_krl_has_cert(revoked, v->cert)
		    : v->blob && alk_krl_has_key(revoked, v->blob, v->blob_len))
		return "revoked";
	return NULL;
}
