/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Public keys in wire form: Ed25519 (RFC 8709), ECDSA (RFC 5656), RSA (RFC 4253). */
#include <stdio.h>
#include <string.h>
#include "cert_private.h"

#define KIND(name_, curve_, size_)                                                                 \
	{                                                                                          \
		name_, name_ "-cert-v01@openssh.com", curve_, size_                                \
	}

static const struct alk_key_kind kinds[] = {
	KIND("ssh-ed25519", NULL, 32),
	KIND("ecdsa-sha2-nistp256", "nistp256", 65),
	KIND("ecdsa-sha2-nistp384", "nistp384", 97),
	KIND("ecdsa-sha2-nistp521", "nistp521", 133),
	KIND("ssh-rsa", NULL, 0),
};

bool alk_key_name_is(const uint8_t *name, size_t len, const char *text)
{
	return strlen(text) == len && memcmp(name, text, len) == 0;
}

static const struct alk_key_kind *key_kind_find(const uint8_t *name, size_t len)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (alk_key_name_is(name, len, kinds[i].name))
			return &kinds[i];
	return NULL;
}

const struct alk_key_kind *alk_key_kind_find_cert(const uint8_t *name, size_t len)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (alk_key_name_is(name, len, kinds[i].cert_name))
			return &kinds[i];
	return NULL;
}

const char *alk_cert_key_type(const char *type)
{
	const struct alk_key_kind *kind = alk_key_kind_find_cert((const uint8_t *)type,
								 strlen(type));

	return kind ? kind->name : NULL;
}

bool alk_key_read_mpint(struct alk_wire *wire, struct alk_key_bytes *number)
{
	if (!alk_wire_string(wire, &number->p, &number->len) ||
	    (number->len > 0 && number->p[0] & 0x80))
		return false;
	while (number->len > 0 && number->p[0] == 0) {
		number->p++;
		number->len--;
	}
	return true;
}

/* As read_mpint, and in the one way that a key is written, so that comparing bytes compares
 * keys. */
static bool read_number(struct alk_wire *wire, struct alk_key_bytes *number)
{
	size_t before = wire->left, zero;

	if (!alk_key_read_mpint(wire, number) || number->len == 0)
		return false;
	zero = number->p[0] >> 7;
	return before - wire->left == 4 + zero + number->len;
}

static size_t bits(struct alk_key_bytes number)
{
	size_t n = number.len * 8;

	for (unsigned top = number.p[0]; !(top & 0x80); top <<= 1)
		n--;
	return n;
}

static const char *read_rsa(struct alk_wire *wire, struct alk_key_public *key)
{
	if (!read_number(wire, &key->exponent) || !read_number(wire, &key->modulus))
		return "the RSA key is damaged";
	if (bits(key->modulus) < ALK_CERT_RSA_BITS_MIN)
		return "an RSA key needs 3072 bits at least";
	if (bits(key->modulus) > ALK_CERT_RSA_BITS_MAX)
		return "an RSA key of more than 16384 bits";
	return NULL;
}

const char *alk_key_read_fields(struct alk_wire *wire, const struct alk_key_kind *kind,
				struct alk_key_public *key)
{
	const uint8_t *curve;
	size_t len;

	*key = (struct alk_key_public){.kind = kind};
	if (kind->size == 0)
		return read_rsa(wire, key);
	if (kind->curve &&
	    (!alk_wire_string(wire, &curve, &len) || !alk_key_name_is(curve, len, kind->curve)))
		return "the key's curve is not the one of its type";
	if (!alk_wire_string(wire, &key->point.p, &key->point.len) ||
	    key->point.len != kind->size || (kind->curve && key->point.p[0] != 4))
		return "the key has a wrong length";
	return NULL;
}

const char *alk_key_read(const uint8_t *blob, size_t len, struct alk_key_public *key)
{
	struct alk_wire wire = {blob, len};
	const struct alk_key_kind *kind;
	const uint8_t *name;
	const char *why;
	size_t n;

	if (!alk_wire_string(&wire, &name, &n))
		return "the key is cut short";
	if (alk_key_kind_find_cert(name, n))
		return "a certificate where a key is due";
	kind = key_kind_find(name, n);
	if (!kind)
		return "a key of a type that is not taken here";
	why = alk_key_read_fields(&wire, kind, key);
	return !why && wire.left != 0 ? "there are bytes behind the key" : why;
}
