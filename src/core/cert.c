/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* From wire bytes to a certificate. The order of the fields is PROTOCOL.certkeys'. */
#include "cert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cert_private.h"

static const char cut_short[] = "it is cut short";

/* A text for people: any bytes but NUL. */
static const char *take_text(const uint8_t *p, size_t len, char **text)
{
	if (memchr(p, '\0', len))
		return "a text in it has a NUL byte";
	*text = strndup((const char *)p, len);
	return *text ? NULL : "out of memory";
}

static const char *read_principals(struct alk_cert *cert, struct alk_wire list)
{
	const uint8_t *p;
	const char *why;
	size_t len;

	while (list.left > 0) {
		char **grown;

		if (cert->n_principals == ALK_CERT_PRINCIPALS_MAX)
			return "it has more than 256 principals";
		if (!alk_wire_string(&list, &p, &len))
			return "its list of principals is damaged";
		grown = reallocarray(cert->principal, cert->n_principals + 1, sizeof(*grown));
		if (!grown)
			return "out of memory";
		cert->principal = grown;
		why = take_text(p, len, &grown[cert->n_principals]);
		if (why)
			return why;
		cert->n_principals++;
	}
	return NULL;
}

/* Options and extensions are pairs of strings. */
static bool pairs_are_whole(const uint8_t *bytes, size_t len)
{
	struct alk_wire wire = {bytes, len};
	const uint8_t *p;
	size_t n;

	while (wire.left > 0)
		if (!alk_wire_string(&wire, &p, &n) || !alk_wire_string(&wire, &p, &n))
			return false;
	return true;
}

static bool has_extension(const struct alk_cert *cert, const char *name)
{
	struct alk_wire wire = {cert->extensions, cert->extensions_len};
	const uint8_t *p, *data;
	size_t len, n;

	while (alk_wire_string(&wire, &p, &len) && alk_wire_string(&wire, &data, &n))
		if (alk_key_name_is(p, len, name))
			return true;
	return false;
}

static const char *read_authority(struct alk_cert *cert)
{
	struct alk_wire wire = {cert->ca, cert->ca_len};
	const uint8_t *name;
	size_t len;

	if (!alk_wire_string(&wire, &name, &len))
		return "the key of its authority is damaged";
	if (alk_key_kind_find_cert(name, len))
		return "the key of its authority is a certificate itself";
	return NULL;
}

/* The key alone is its type and the fields between the nonce and the serial number. */
static const char *take_key(struct alk_cert *cert, const uint8_t *fields, size_t len)
{
	size_t n = strlen(cert->key_type);

	cert->key_len = 4 + n + len;
	cert->key = malloc(cert->key_len);
	if (!cert->key)
		return "out of memory";
	memcpy(cert->key, (uint8_t[]){0, 0, 0, (uint8_t)n}, 4);
	memcpy(cert->key + 4, cert->key_type, n);
	memcpy(cert->key + 4 + n, fields, len);
	return NULL;
}

static const char *read_key(struct alk_cert *cert, struct alk_wire *wire)
{
	const struct alk_key_kind *kind;
	struct alk_key_public key;
	const uint8_t *p, *fields;
	const char *why;
	size_t len;

	if (!alk_wire_string(wire, &p, &len))
		return cut_short;
	kind = alk_key_kind_find_cert(p, len);
	if (!kind)
		return "it is of a type that is not taken here";
	cert->type = kind->cert_name;
	cert->key_type = kind->name;
	if (!alk_wire_string(wire, &p, &len)) /* the nonce: any length */
		return cut_short;
	fields = wire->p;
	why = alk_key_read_fields(wire, kind, &key);
	return why ? why : take_key(cert, fields, (size_t)(wire->p - fields));
}

static const char *read_fields(struct alk_cert *cert, struct alk_wire *wire)
{
	struct alk_wire principals;
	const uint8_t *id, *reserved;
	size_t id_len, reserved_len;
	const char *why;
	uint32_t kind;

	if (!alk_wire_u64(wire, &cert->serial) || !alk_wire_u32(wire, &kind) ||
	    !alk_wire_string(wire, &id, &id_len) ||
	    !alk_wire_string(wire, &principals.p, &principals.left) ||
	    !alk_wire_u64(wire, &cert->valid_after) || !alk_wire_u64(wire, &cert->valid_before) ||
	    !alk_wire_string(wire, &cert->critical, &cert->critical_len) ||
	    !alk_wire_string(wire, &cert->extensions, &cert->extensions_len) ||
	    !alk_wire_string(wire, &reserved, &reserved_len) ||
	    !alk_wire_string(wire, &cert->ca, &cert->ca_len))
		return cut_short;
	cert->signed_len = (size_t)(wire->p - cert->blob);
	if (!alk_wire_string(wire, &cert->signature, &cert->signature_len))
		return cut_short;
	if (wire->left != 0)
		return "there are bytes behind it";
	if (kind != ALK_CERT_KIND_USER && kind != ALK_CERT_KIND_HOST)
		return "it is neither for a user nor for a host";
	cert->kind = (enum alk_cert_kind)kind;
	why = take_text(id, id_len, &cert->key_id);
	return why ? why : read_principals(cert, principals);
}

static const char *cert_read(struct alk_cert *cert)
{
	struct alk_wire wire = {cert->blob, cert->len};
	const char *why = read_key(cert, &wire);

	if (!why)
		why = read_fields(cert, &wire);
	if (why)
		return why;
	if (!pairs_are_whole(cert->critical, cert->critical_len))
		return "its critical options are damaged";
	if (!pairs_are_whole(cert->extensions, cert->extensions_len))
		return "its extensions are damaged";
	cert->port_forwarding = has_extension(cert, "permit-port-forwarding");
	return read_authority(cert);
}

struct alk_cert *alk_cert_parse(const uint8_t *blob, size_t len, struct alk_err *err)
{
	struct alk_cert *cert = calloc(1, sizeof(*cert));
	const char *why = "out of memory";

	if (cert && len <= ALK_CERT_MAX) {
		cert->blob = malloc(len ? len : 1);
		if (cert->blob) {
			memcpy(cert->blob, blob, len);
			cert->len = len;
			why = cert_read(cert);
		}
	} else if (cert) {
		why = "it is longer than 256 KiB";
	}
	if (why) {
		alk_err_set(err, -EINVAL, "certificate: %s", why);
		alk_cert_free(&cert);
	}
	return cert;
}

void alk_cert_free(struct alk_cert **cert_)
{
	struct alk_cert *cert = *cert_;

	if (!cert)
		return;
	for (size_t i = 0; i < cert->n_principals; i++)
		free(cert->principal[i]);
	free(cert->principal);
	free(cert->key_id);
	free(cert->key);
	free(cert->blob);
	free(cert);
	*cert_ = NULL;
}
