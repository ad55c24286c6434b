/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "krl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/evp.h>
#include "krl_private.h"

#define CERT_SUFFIX "-cert-v01@openssh.com"

void *krl_grow(void *array, size_t count, size_t *room, size_t size)
{
	size_t wanted = *room ? 2 * *room : 4;

	if (count < *room)
		return array;
	array = reallocarray(array, wanted, size);
	if (array)
		*room = wanted;
	return array;
}

int krl_items_add(struct krl_items *items, struct alk_key_bytes item)
{
	struct alk_key_bytes *grown = krl_grow(items->item, items->count, &items->room,
					       sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	items->item = grown;
	items->item[items->count++] = item;
	return 0;
}

const char *krl_key_shape(const uint8_t *blob, size_t len)
{
	struct alk_wire wire = {blob, len};
	size_t n, suffix = strlen(CERT_SUFFIX);
	const uint8_t *p;

	if (!alk_wire_string(&wire, &p, &n) || n == 0 || wire.left == 0)
		return "the key is damaged";
	if (n > suffix && memcmp(p + n - suffix, CERT_SUFFIX, suffix) == 0)
		return "a certificate where a key is due";
	while (wire.left > 0)
		if (!alk_wire_string(&wire, &p, &n))
			return "the key is damaged";
	return NULL;
}

static int compare_items(const void *a_, const void *b_)
{
	const struct alk_key_bytes *a = a_, *b = b_;

	if (a->len != b->len)
		return a->len < b->len ? -1 : 1;
	return memcmp(a->p, b->p, a->len);
}

static int compare_ranges(const void *a_, const void *b_)
{
	const struct krl_range *a = a_, *b = b_;

	return a->low < b->low ? -1 : a->low > b->low;
}

static void items_sort(struct krl_items *items)
{
	if (items->count > 1)
		qsort(items->item, items->count, sizeof(*items->item), compare_items);
}

/* In order, and none overlaps another. */
static void ranges_sort(struct krl_authority *authority)
{
	struct krl_range *range = authority->range;
	size_t n = 0;

	if (authority->ranges < 2)
		return;
	qsort(range, authority->ranges, sizeof(*range), compare_ranges);
	for (size_t i = 1; i < authority->ranges; i++) {
		if (range[i].low > range[n].high)
			range[++n] = range[i];
		else if (range[i].high > range[n].high)
			range[n].high = range[i].high;
	}
	authority->ranges = n + 1;
}

static void krl_sort(struct alk_krl *krl)
{
	items_sort(&krl->keys);
	items_sort(&krl->sha1);
	items_sort(&krl->sha256);
	for (size_t i = 0; i < krl->authorities; i++) {
		items_sort(&krl->authority[i].ids);
		ranges_sort(&krl->authority[i]);
	}
}

/* One of those who signed must not be revoked by the list itself. */
static bool signers_stand(const struct alk_krl *krl)
{
	for (size_t i = 0; i < krl->signers.count; i++)
		if (!alk_krl_has_key(krl, krl->signers.item[i].p, krl->signers.item[i].len))
			return true;
	return krl->signers.count == 0;
}

struct alk_krl *alk_krl_parse(const char *name, const uint8_t *bytes, size_t len,
			      struct alk_err *err)
{
	struct alk_krl *krl = calloc(1, sizeof(*krl));
	int rc = -ENOMEM;

	if (krl)
		krl->bytes = malloc(len ? len : 1);
	if (krl && krl->bytes && krl_is_binary(bytes, len)) {
		memcpy(krl->bytes, bytes, len);
		rc = krl_read_binary(krl, name, len, err);
	} else if (krl && krl->bytes) {
		rc = krl_read_list(krl, name, (const char *)bytes, len, err);
	}
	if (rc == -ENOMEM)
		alk_err_set(err, rc, "%s: out of memory", name);
	if (rc == 0) {
		krl_sort(krl);
		if (!signers_stand(krl))
			rc = alk_err_set(err, -EINVAL, "%s: it revokes the keys that signed it",
					 name);
	}
	if (rc < 0)
		alk_krl_free(&krl);
	return krl;
}

void alk_krl_free(struct alk_krl **krl_)
{
	struct alk_krl *krl = *krl_;

	if (!krl)
		return;
	for (size_t i = 0; i < krl->authorities; i++) {
		free(krl->authority[i].ids.item);
		free(krl->authority[i].range);
		free(krl->authority[i].bitmap);
	}
	free(krl->authority);
	free(krl->keys.item);
	free(krl->sha1.item);
	free(krl->sha256.item);
	free(krl->signers.item);
	free(krl->bytes);
	free(krl);
	*krl_ = NULL;
}

static bool items_have(const struct krl_items *items, struct alk_key_bytes item)
{
	return items->count > 0 &&
	       bsearch(&item, items->item, items->count, sizeof(item), compare_items) != NULL;
}

/* A digest that cannot be made (no memory) must not let a revoked key in. */
static bool items_have_digest(const struct krl_items *items, const char *digest, const uint8_t *key,
			      size_t len)
{
	uint8_t bytes[EVP_MAX_MD_SIZE];
	size_t n;

	if (items->count == 0)
		return false;
	if (EVP_Q_digest(NULL, digest, NULL, key, len, bytes, &n) != 1)
		return true;
	return items_have(items, (struct alk_key_bytes){bytes, n});
}

bool alk_krl_has_key(const struct alk_krl *krl, const uint8_t *key, size_t len)
{
	return krl && (items_have(&krl->keys, (struct alk_key_bytes){key, len}) ||
		       items_have_digest(&krl->sha256, "SHA256", key, len) ||
		       items_have_digest(&krl->sha1, "SHA1", key, len));
}

static bool bitmap_has(const struct krl_bitmap *bitmap, uint64_t serial)
{
	uint64_t at = serial - bitmap->offset;

	if (serial < bitmap->offset || at / 8 >= bitmap->bits.len)
		return false;
	return bitmap->bits.p[bitmap->bits.len - 1 - at / 8] >> (at % 8) & 1;
}

static int compare_serial(const void *serial_, const void *range_)
{
	const uint64_t *serial = serial_;
	const struct krl_range *range = range_;

	return *serial < range->low ? -1 : *serial > range->high;
}

static bool authority_has(const struct krl_authority *authority, const struct alk_cert *cert)
{
	struct alk_key_bytes id = {(const uint8_t *)cert->key_id, strlen(cert->key_id)};
	bool applies = authority->key.len == 0 ||
		       (authority->key.len == cert->ca_len &&
			memcmp(authority->key.p, cert->ca, cert->ca_len) == 0);

	if (!applies)
		return false;
	if (items_have(&authority->ids, id))
		return true;
	/* An authority that does not number its certificates gives all of them 0. */
	if (cert->serial == 0)
		return false;
	if (authority->ranges > 0 && bsearch(&cert->serial, authority->range, authority->ranges,
					     sizeof(*authority->range), compare_serial))
		return true;
	for (size_t i = 0; i < authority->bitmaps; i++)
		if (bitmap_has(&authority->bitmap[i], cert->serial))
			return true;
	return false;
}

bool alk_krl_has_cert(const struct alk_krl *krl, const struct alk_cert *cert)
{
	if (!krl)
		return false;
	if (alk_krl_has_key(krl, cert->key, cert->key_len) ||
	    alk_krl_has_key(krl, cert->ca, cert->ca_len))
		return true;
	for (size_t i = 0; i < krl->authorities; i++)
		if (authority_has(&krl->authority[i], cert))
			return true;
	return false;
}

size_t alk_krl_count(const struct alk_krl *krl)
{
	size_t n;

	if (!krl)
		return 0;
	n = krl->keys.count + krl->sha1.count + krl->sha256.count;
	for (size_t i = 0; i < krl->authorities; i++) {
		const struct krl_authority *authority = &krl->authority[i];

		n += authority->ids.count + authority->ranges + authority->bitmaps;
	}
	return n;
}
