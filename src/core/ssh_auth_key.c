/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The key or certificate of an authentication request: taken apart, and turned into what a session
 * may do. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base64.h"
#include "cert_digest.h"
#include "ssh_server.h"

void server_key_drop(struct alk_server *v)
{
	free(v->key);
	v->key = NULL;
	free(v->blob);
	v->blob = NULL;
	alk_cert_free(&v->cert);
	alk_ask_cert_free(&v->told);
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
	blob = alk_base64_bytes(text, &len);
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
	alk_key_blob_fingerprint(v->blob, v->blob_len, v->fingerprint);
	v->key = alk_base64_text(v->blob, v->blob_len);
	if (!v->key || !v->fingerprint[0])
		return "a key that cannot be read";
	return alk_key_blob_check(v->blob, v->blob_len, alk_auth_key_types(v->host->auth));
}

/* ---- for the session ------------------------------------------------------------------------- */

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
		alk_key_blob_fingerprint(cert->ca, cert->ca_len, v->ca_fingerprint);
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
