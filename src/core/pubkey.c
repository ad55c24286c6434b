/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "pubkey.h"
#include "base64.h"
#include "keys.h"
#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SUFFIX "-cert-v01@openssh.com"
#define BLOB_MAX ALK_KEY_BLOB_MAX

/* What follows the type (in a certificate: the nonce) is two strings, of Ed25519 one. */
static const struct kind {
	const char *name, *cert;
	const char *curve; /* the first of the two; NULL: numbers */
	size_t point;	   /* length of the last, 0: of RSA */
	unsigned fields;
} kinds[] = {
	{"ssh-ed25519", "ssh-ed25519" SUFFIX, NULL, 32, 1},
	{"ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256" SUFFIX, "nistp256", 65, 2},
	{"ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384" SUFFIX, "nistp384", 97, 2},
	{"ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521" SUFFIX, "nistp521", 133, 2},
	{"ssh-rsa", "ssh-rsa" SUFFIX, NULL, 0, 2},
};

struct parts {
	const struct kind *kind;
	bool is_cert;
	const uint8_t *fields; /* what makes the key */
	size_t fields_len;
	unsigned bits; /* of RSA */
};

static bool is_word(const uint8_t *p, size_t len, const char *word)
{
	return strlen(word) == len && memcmp(p, word, len) == 0;
}

/* Bits of an mpint, 0 when it is negative or not in its shortest form. */
static unsigned mpint_bits(const uint8_t *p, size_t len)
{
	unsigned bits;

	if (len == 0 || (p[0] & 0x80))
		return 0;
	if (p[0] == 0) {
		if (len == 1 || !(p[1] & 0x80))
			return 0;
		p++;
		len--;
	}
	bits = (unsigned)len * 8;
	for (unsigned top = 0x80; !(p[0] & top); top >>= 1)
		bits--;
	return bits;
}

static bool parts_fields(struct alk_wire *wire, struct parts *out)
{
	const uint8_t *first = NULL, *last;
	size_t first_len = 0, last_len;

	out->fields = wire->p;
	if (out->kind->fields == 2 && !alk_wire_string(wire, &first, &first_len))
		return false;
	if (!alk_wire_string(wire, &last, &last_len))
		return false;
	out->fields_len = (size_t)(wire->p - out->fields);
	if (out->kind->curve && !is_word(first, first_len, out->kind->curve))
		return false;
	if (out->kind->point)
		return last_len == out->kind->point;
	out->bits = mpint_bits(last, last_len);
	return out->bits > 0 && mpint_bits(first, first_len) > 0;
}

/* 0; -ENOENT a type that is none of ours; -EINVAL damaged. */
static int parts_read(const uint8_t *blob, size_t len, struct parts *out)
{
	struct alk_wire wire = {blob, len};
	const uint8_t *type, *nonce;
	size_t type_len, nonce_len;

	*out = (struct parts){0};
	if (!alk_wire_string(&wire, &type, &type_len))
		return -EINVAL;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		out->is_cert = is_word(type, type_len, kinds[i].cert);
		if (out->is_cert || is_word(type, type_len, kinds[i].name)) {
			out->kind = &kinds[i];
			break;
		}
	}
	if (!out->kind)
		return -ENOENT;
	if (out->is_cert && !alk_wire_string(&wire, &nonce, &nonce_len))
		return -EINVAL;
	if (!parts_fields(&wire, out))
		return -EINVAL;
	return out->is_cert == (wire.left > 0) ? 0 : -EINVAL;
}

static int type_refuse(const char *name, const uint8_t *blob, size_t len, struct alk_err *err)
{
	struct alk_wire wire = {blob, len};
	const uint8_t *type;
	size_t type_len;

	if (!alk_wire_string(&wire, &type, &type_len) || type_len == 0 || type_len > 64)
		return alk_err_set(err, -EINVAL, "%s is damaged", name);
	for (size_t i = 0; i < type_len; i++)
		if (type[i] <= ' ' || type[i] >= 0x7f)
			return alk_err_set(err, -EINVAL, "%s is damaged", name);
	return alk_err_set(
		err, -EINVAL,
		"%s is a key of type %.*s; Ed25519, ECDSA and RSA are accepted: make a key "
		"with `ssh-keygen -t ed25519`",
		name, (int)type_len, (const char *)type);
}

int alk_pubkey_check(const char *name, const uint8_t *blob, size_t len, struct alk_err *err)
{
	struct parts parts;
	int rc = len > BLOB_MAX ? -EINVAL : parts_read(blob, len, &parts);

	if (rc == -ENOENT)
		return type_refuse(name, blob, len, err);
	if (rc < 0)
		return alk_err_set(err, rc, "%s is damaged", name);
	if (parts.kind->point == 0 && parts.bits < ALK_RSA_BITS_MIN)
		return alk_err_set(
			err, -EINVAL,
			"%s is an RSA key of %u bits, and %d are the least: make a key with "
			"`ssh-keygen -t ed25519`",
			name, parts.bits, ALK_RSA_BITS_MIN);
	return 0;
}

const char *alk_pubkey_type(const uint8_t *blob, size_t len)
{
	struct parts parts;

	if (parts_read(blob, len, &parts) < 0)
		return NULL;
	return parts.is_cert ? parts.kind->cert : parts.kind->name;
}

bool alk_pubkey_is_cert(const uint8_t *blob, size_t len)
{
	struct parts parts;

	return parts_read(blob, len, &parts) == 0 && parts.is_cert;
}

bool alk_pubkey_certifies(const uint8_t *cert, size_t cert_len, const uint8_t *key, size_t key_len)
{
	struct parts c, k;

	return parts_read(cert, cert_len, &c) == 0 && parts_read(key, key_len, &k) == 0 &&
	       c.is_cert && !k.is_cert && c.kind == k.kind && c.fields_len == k.fields_len &&
	       memcmp(c.fields, k.fields, k.fields_len) == 0;
}

int alk_pubkey_parse(const char *name, const char *text, size_t len, uint8_t **blob,
		     size_t *blob_len, struct alk_err *err)
{
	const char *end = memchr(text, '\n', len), *p = text, *word;
	ssize_t n = -EINVAL;
	int rc;

	end = end ? end : text + len;
	while (p < end && *p != ' ' && *p != '\t')
		p++;
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	word = p;
	while (p < end && !strchr(" \t\r", *p))
		p++;
	*blob = malloc(BLOB_MAX);
	if (!*blob)
		return alk_err_set(err, -ENOMEM, "%s: out of memory", name);
	if (p > word)
		n = alk_base64_decode(word, (size_t)(p - word), *blob, BLOB_MAX);
	if (n < 0) {
		rc = alk_err_set(err, -EINVAL,
				 "%s is not a public key in OpenSSH's form (TYPE BASE64 COMMENT)",
				 name);
	} else {
		*blob_len = (size_t)n;
		rc = alk_pubkey_check(name, *blob, *blob_len, err);
		word = alk_pubkey_type(*blob, *blob_len);
		if (rc == 0 &&
		    (strncmp(text, word, strlen(word)) != 0 || !strchr(" \t", text[strlen(word)])))
			rc = alk_err_set(err, -EINVAL, "%s names another type than its key has",
					 name);
	}
	if (rc < 0) {
		free(*blob);
		*blob = NULL;
	}
	return rc;
}
