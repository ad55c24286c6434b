/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* OpenSSH's key revocation lists (PROTOCOL.krl): a header, then sections of a type and a length. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "krl_private.h"
#include "text.h"

#define FORMAT_VERSION 1

enum {
	SECTION_CERTIFICATES = 1,
	SECTION_KEYS = 2,
	SECTION_SHA1 = 3,
	SECTION_SIGNATURE = 4,
	SECTION_SHA256 = 5,
	SECTION_EXTENSION = 255,
	CERT_SERIALS = 0x20,
	CERT_RANGE = 0x21,
	CERT_BITMAP = 0x22,
	CERT_IDS = 0x23,
	CERT_EXTENSION = 0x39,
};

static const uint8_t magic[8] = {'S', 'S', 'H', 'K', 'R', 'L', '\n', '\0'};

struct reader {
	struct alk_krl *krl;
	const char *name;
	struct alk_err *err;
};

static int bad(struct reader *r, const uint8_t *at, const char *why)
{
	return alk_err_set(r->err, -EINVAL, "%s: offset %zu: %s", r->name,
			   (size_t)(at - r->krl->bytes), why);
}

static bool take_byte(struct alk_wire *wire, uint8_t *byte)
{
	if (wire->left == 0)
		return false;
	*byte = *wire->p++;
	wire->left--;
	return true;
}

/* A part of its own: a type and its content. */
static bool take_section(struct alk_wire *wire, uint8_t *type, struct alk_wire *content)
{
	return take_byte(wire, type) && alk_wire_string(wire, &content->p, &content->left);
}

/* A list of strings: hashes of `size` bytes, or with 0 whole keys. */
static int read_items(struct reader *r, struct alk_wire wire, struct krl_items *items, size_t size)
{
	while (wire.left > 0) {
		const uint8_t *at = wire.p;
		struct alk_key_bytes item;
		const char *why = NULL;

		if (!alk_wire_string(&wire, &item.p, &item.len))
			return bad(r, at, "a key or hash is cut short");
		if (size == 0)
			why = krl_key_shape(item.p, item.len);
		else if (item.len != size)
			why = "a hash has a wrong length";
		if (why)
			return bad(r, at, why);
		if (krl_items_add(items, item) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Nothing of what extensions may say is known, so a critical one refuses. */
static int read_extension(struct reader *r, struct alk_wire wire)
{
	const uint8_t *at = wire.p;
	struct alk_key_bytes name, content;
	uint8_t critical;
	char shown[64], why[128];

	if (!alk_wire_string(&wire, &name.p, &name.len) || !take_byte(&wire, &critical) ||
	    !alk_wire_string(&wire, &content.p, &content.len) || wire.left != 0)
		return bad(r, at, "an extension is damaged");
	if (critical == 0)
		return 0;
	alk_text_escape((const char *)name.p, name.len, shown, sizeof(shown));
	snprintf(why, sizeof(why), "unknown critical extension `%s`", shown);
	return bad(r, at, why);
}

static int add_range(struct reader *r, struct krl_authority *authority, const uint8_t *at,
		     struct krl_range range)
{
	struct krl_range *grown;

	if (range.low > range.high || range.low == 0)
		return bad(r, at, "a serial number is 0, or a range ends before it begins");
	grown = krl_grow(authority->range, authority->ranges, &authority->ranges_room,
			 sizeof(range));
	if (!grown)
		return -ENOMEM;
	authority->range = grown;
	authority->range[authority->ranges++] = range;
	return 0;
}

static int read_serials(struct reader *r, struct krl_authority *authority, struct alk_wire wire)
{
	int rc = 0;

	while (wire.left > 0 && rc == 0) {
		const uint8_t *at = wire.p;
		uint64_t serial;

		if (!alk_wire_u64(&wire, &serial))
			return bad(r, at, "a serial number is cut short");
		rc = add_range(r, authority, at, (struct krl_range){serial, serial});
	}
	return rc;
}

static int read_range(struct reader *r, struct krl_authority *authority, struct alk_wire wire)
{
	const uint8_t *at = wire.p;
	struct krl_range range;

	if (!alk_wire_u64(&wire, &range.low) || !alk_wire_u64(&wire, &range.high) || wire.left != 0)
		return bad(r, at, "a range of serial numbers has a wrong length");
	return add_range(r, authority, at, range);
}

static int read_bitmap(struct reader *r, struct krl_authority *authority, struct alk_wire wire)
{
	const uint8_t *at = wire.p;
	struct krl_bitmap bitmap, *grown;
	uint64_t last;

	if (!alk_wire_u64(&wire, &bitmap.offset) || !alk_key_read_mpint(&wire, &bitmap.bits) ||
	    wire.left != 0)
		return bad(r, at, "a bitmap of serial numbers is damaged");
	if (bitmap.bits.len == 0)
		return 0;
	last = 8 * (uint64_t)(bitmap.bits.len - 1);
	for (unsigned top = bitmap.bits.p[0]; top > 1; top >>= 1)
		last++;
	if (last > UINT64_MAX - bitmap.offset)
		return bad(r, at, "a bitmap goes beyond the greatest serial number");
	if (bitmap.offset == 0 && bitmap.bits.p[bitmap.bits.len - 1] & 1)
		return bad(r, at, "a serial number is 0");
	grown = krl_grow(authority->bitmap, authority->bitmaps, &authority->bitmaps_room,
			 sizeof(bitmap));
	if (!grown)
		return -ENOMEM;
	authority->bitmap = grown;
	authority->bitmap[authority->bitmaps++] = bitmap;
	return 0;
}

static int read_ids(struct reader *r, struct krl_authority *authority, struct alk_wire wire)
{
	while (wire.left > 0) {
		const uint8_t *at = wire.p;
		struct alk_key_bytes id;

		if (!alk_wire_string(&wire, &id.p, &id.len) || memchr(id.p, '\0', id.len))
			return bad(r, at, "a key id is damaged");
		if (krl_items_add(&authority->ids, id) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int read_cert_section(struct reader *r, struct krl_authority *authority, const uint8_t *at,
			     uint8_t type, struct alk_wire content)
{
	switch (type) {
	case CERT_SERIALS:
		return read_serials(r, authority, content);
	case CERT_RANGE:
		return read_range(r, authority, content);
	case CERT_BITMAP:
		return read_bitmap(r, authority, content);
	case CERT_IDS:
		return read_ids(r, authority, content);
	case CERT_EXTENSION:
		return read_extension(r, content);
	default:
		return bad(r, at, "a certificate section of an unknown type");
	}
}

static int read_certificates(struct reader *r, struct alk_wire wire)
{
	struct alk_krl *krl = r->krl;
	const uint8_t *at = wire.p;
	struct krl_authority *authority;
	struct alk_key_bytes key, reserved;
	const char *why;
	int rc = 0;

	if (!alk_wire_string(&wire, &key.p, &key.len) ||
	    !alk_wire_string(&wire, &reserved.p, &reserved.len))
		return bad(r, at, "a section of certificates is cut short");
	why = key.len > 0 ? krl_key_shape(key.p, key.len) : NULL;
	if (why)
		return bad(r, at, why);
	authority = krl_grow(krl->authority, krl->authorities, &krl->authorities_room,
			     sizeof(*authority));
	if (!authority)
		return -ENOMEM;
	krl->authority = authority;
	authority = &krl->authority[krl->authorities++];
	*authority = (struct krl_authority){.key = key};
	while (wire.left > 0 && rc == 0) {
		struct alk_wire content;
		uint8_t type;

		at = wire.p;
		if (!take_section(&wire, &type, &content))
			return bad(r, at, "a certificate section is cut short");
		rc = read_cert_section(r, authority, at, type, content);
	}
	return rc;
}

static bool was_seen(const struct krl_items *items, struct alk_key_bytes item)
{
	for (size_t i = 0; i < items->count; i++)
		if (items->item[i].len == item.len &&
		    memcmp(items->item[i].p, item.p, item.len) == 0)
			return true;
	return false;
}

/* `key` ends what is signed; the signature follows it. */
static int read_signature(struct reader *r, struct alk_wire *wire, struct alk_key_bytes key)
{
	const uint8_t *begin = r->krl->bytes, *at = wire->p;
	struct alk_key_bytes under = {begin, (size_t)(at - begin)}, signature;
	struct alk_err why;

	if (!alk_wire_string(wire, &signature.p, &signature.len))
		return bad(r, at, "a signature is cut short");
	if (was_seen(&r->krl->signers, key))
		return bad(r, at, "it is signed twice by the same key");
	if (alk_signature_check(key, signature, under, &why) != ALK_CERT_OK)
		return bad(r, at, why.text);
	return krl_items_add(&r->krl->signers, key);
}

static int read_section(struct reader *r, struct alk_wire *wire)
{
	const uint8_t *at = wire->p;
	struct alk_wire content;
	uint8_t type;

	if (!take_section(wire, &type, &content))
		return bad(r, at, "a section is cut short");
	if (type != SECTION_SIGNATURE && r->krl->signers.count > 0)
		return bad(r, at, "a section behind the signature");
	switch (type) {
	case SECTION_CERTIFICATES:
		return read_certificates(r, content);
	case SECTION_KEYS:
		return read_items(r, content, &r->krl->keys, 0);
	case SECTION_SHA1:
		return read_items(r, content, &r->krl->sha1, 20);
	case SECTION_SHA256:
		return read_items(r, content, &r->krl->sha256, 32);
	case SECTION_SIGNATURE:
		return read_signature(r, wire, (struct alk_key_bytes){content.p, content.left});
	case SECTION_EXTENSION:
		return read_extension(r, content);
	default:
		return bad(r, at, "a section of an unknown type");
	}
}

static int read_header(struct reader *r, struct alk_wire *wire)
{
	uint64_t version, generated, flags;
	struct alk_key_bytes reserved, comment;
	const uint8_t *at;
	uint32_t format;

	wire->p += sizeof(magic);
	wire->left -= sizeof(magic);
	at = wire->p;
	if (!alk_wire_u32(wire, &format))
		return bad(r, at, "the header is cut short");
	if (format != FORMAT_VERSION)
		return bad(r, at, "a version of the format that is not known");
	if (!alk_wire_u64(wire, &version) || !alk_wire_u64(wire, &generated) ||
	    !alk_wire_u64(wire, &flags) || !alk_wire_string(wire, &reserved.p, &reserved.len) ||
	    !alk_wire_string(wire, &comment.p, &comment.len))
		return bad(r, at, "the header is cut short");
	return 0;
}

bool krl_is_binary(const uint8_t *bytes, size_t len)
{
	return len >= sizeof(magic) && memcmp(bytes, magic, sizeof(magic)) == 0;
}

int krl_read_binary(struct alk_krl *krl, const char *name, size_t len, struct alk_err *err)
{
	struct reader r = {.krl = krl, .name = name, .err = err};
	struct alk_wire wire = {krl->bytes, len};
	int rc = read_header(&r, &wire);

	while (rc == 0 && wire.left > 0)
		rc = read_section(&r, &wire);
	return rc;
}
