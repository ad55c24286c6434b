/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_KRL_PRIVATE_H
#define ALK_KRL_PRIVATE_H

/* What krl.c (asked), krl_list.c and krl_sections.c (reading) share. All bytes that are pointed to
 * are in `bytes`, which the KRL owns. */

#include "cert_private.h"
#include "krl.h"

struct krl_items {
	struct alk_key_bytes *item;
	size_t count, room;
};

struct krl_range {
	uint64_t low, high; /* both included */
};

struct krl_bitmap {
	uint64_t offset;
	struct alk_key_bytes bits; /* a big-endian number without leading zeros */
};

/* What one section says of one authority's certificates. */
struct krl_authority {
	struct alk_key_bytes key; /* empty: of every authority's */
	struct krl_items ids;
	struct krl_range *range;
	size_t ranges, ranges_room;
	struct krl_bitmap *bitmap;
	size_t bitmaps, bitmaps_room;
};

struct alk_krl {
	uint8_t *bytes;
	struct krl_items keys, sha1, sha256;
	struct krl_items signers; /* the keys of its signatures, each of which is good */
	struct krl_authority *authority;
	size_t authorities, authorities_room;
};

/* -ENOMEM alone. */
int krl_items_add(struct krl_items *items, struct alk_key_bytes item);
/* The array with room for one more; NULL when there is no memory: then the old one stays. */
void *krl_grow(void *array, size_t count, size_t *room, size_t size);
/* NULL, or why this is no public key. Any type will do, but no certificate. */
const char *krl_key_shape(const uint8_t *blob, size_t len);

/* krl_list.c, krl_sections.c: 0 or -errno with `err`. */
int krl_read_list(struct alk_krl *krl, const char *name, const char *text, size_t len,
		  struct alk_err *err);
bool krl_is_binary(const uint8_t *bytes, size_t len);
int krl_read_binary(struct alk_krl *krl, const char *name, size_t len, struct alk_err *err);

#endif
