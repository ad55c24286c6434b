/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "cert.h"
#include "cert_digest.h"
#include "wire.h"
#include "policy.h"

/* A certificate as on_auth sees it: texts and lists in one block, taken from the wire form. */

#define OPTIONS_MAX 64

struct cert_room {
	const char **list;
	char *text;
};

struct cert_block {
	struct alk_ask_cert cert;
	char ca[ALK_KEY_FINGERPRINT_SIZE];
	const char *list[ALK_CERT_PRINCIPALS_MAX + 1 + 2 * (2 * OPTIONS_MAX + 1)];
	char text[]; /* never more than the certificate has bytes, and a NUL for each */
};

/* A text with a NUL in it ends there: it is shown, not trusted. */
static const char *text_put(struct cert_room *room, const uint8_t *bytes, size_t len)
{
	char *start = room->text;

	memcpy(start, bytes, len);
	start[len] = '\0';
	room->text += len + 1;
	return start;
}

/* The value of an option is a string in a string, or empty (PROTOCOL.certkeys). */
static void value_open(const uint8_t **value, size_t *len)
{
	struct alk_wire inner = {*value, *len};
	const uint8_t *text;
	size_t n;

	if (alk_wire_string(&inner, &text, &n) && inner.left == 0) {
		*value = text;
		*len = n;
	}
}

static const char *const *options_put(struct cert_room *room, const uint8_t *bytes, size_t len)
{
	struct alk_wire wire = {bytes, len};
	const char **start = room->list;
	const uint8_t *name, *value;
	size_t name_len, value_len;
	unsigned n = 0;

	while (n++ < OPTIONS_MAX && alk_wire_string(&wire, &name, &name_len) &&
	       alk_wire_string(&wire, &value, &value_len)) {
		value_open(&value, &value_len);
		*room->list++ = text_put(room, name, name_len);
		*room->list++ = text_put(room, value, value_len);
	}
	*room->list++ = NULL;
	return start;
}

struct alk_ask_cert *alk_ask_cert_new(const struct alk_cert *from)
{
	size_t i, space = 2 * from->len + ALK_CERT_PRINCIPALS_MAX + 4 * OPTIONS_MAX;
	struct cert_block *block = calloc(1, sizeof(*block) + space);
	struct cert_room room;

	if (!block || alk_key_blob_fingerprint(from->ca, from->ca_len, block->ca) < 0) {
		free(block);
		return NULL;
	}
	room = (struct cert_room){block->list, block->text};
	block->cert.key_id = text_put(&room, (const uint8_t *)from->key_id, strlen(from->key_id));
	block->cert.serial = from->serial;
	block->cert.ca_fingerprint = block->ca;
	block->cert.valid_after = from->valid_after;
	block->cert.valid_before = from->valid_before;
	block->cert.principals = room.list;
	for (i = 0; i < from->n_principals && i < ALK_CERT_PRINCIPALS_MAX; i++)
		*room.list++ = text_put(&room, (const uint8_t *)from->principal[i],
					strlen(from->principal[i]));
	*room.list++ = NULL;
	block->cert.critical_options = options_put(&room, from->critical, from->critical_len);
	block->cert.extensions = options_put(&room, from->extensions, from->extensions_len);
	return &block->cert;
}

void alk_ask_cert_free(struct alk_ask_cert **cert)
{
	free(*cert);
	*cert = NULL;
}
