/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* authorized_keys: whatever stands in the file, an entry that is kept is an exact key with options
 * that can be asked, each line is either kept, told to `bad` or a comment, and base64 comes out as
 * it went in. */
#include "base64.h"
#include "keys.h"
#include "wire.h"
#include "policy.h"

#include <stdlib.h>
#include <string.h>

#define TYPES "ssh-ed25519,ssh-rsa,ecdsa-sha2-nistp256,sk-ssh-ed25519@openssh.com"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

struct bad {
	unsigned count;
	unsigned line;
};

static void require(int yes)
{
	if (!yes)
		abort();
}

static void on_bad(void *user, const char *name, unsigned line, const char *why)
{
	struct bad *bad = user;

	require(strcmp(name, "FILE") == 0);
	require(line > bad->line);
	require(why[0] != '\0');
	for (; *why; why++)
		require(*why >= ' ' && *why < 0x7f);
	bad->line = line;
	bad->count++;
}

/* What was taken can be asked, and says of itself what it says to the grant. */
static void check_options(const struct alk_key_options *o)
{
	size_t n;

	require(!o->principals || o->cert_authority);
	require(o->expires >= 0);
	if (o->from) {
		(void)alk_key_options_from(o->from, "10.1.2.3");
		(void)alk_key_options_from(o->from, "2001:db8::1");
		(void)alk_key_options_from(o->from, "");
	}
	for (n = 0; o->permit_open && o->permit_open[n]; n++)
		require(alk_grant_permit_valid(o->permit_open[n], false));
	require(n == o->n_open);
	for (n = 0; o->permit_listen && o->permit_listen[n]; n++)
		require(alk_grant_permit_valid(o->permit_listen[n], true));
	require(n == o->n_listen);
}

static void check_entry(const struct alk_keys *keys, size_t i)
{
	const struct alk_key_entry *entry = &keys->entry[i];
	struct alk_wire wire = {entry->blob, entry->blob_len};
	const struct alk_key_entry *found;
	const uint8_t *data;
	size_t len;

	require(entry->blob_len <= ALK_KEY_BLOB_MAX);
	require(i == 0 || entry->line > keys->entry[i - 1].line);
	require(strpbrk(entry->comment, "\n") == NULL);
	require(alk_wire_string(&wire, &data, &len));
	require(len == strlen(entry->type) && memcmp(data, entry->type, len) == 0);
	while (wire.left > 0)
		require(alk_wire_string(&wire, &data, &len));
	require(strcmp(entry->type, "ssh-ed25519") != 0 || entry->blob_len == 51);
	found = alk_keys_find(keys, entry->blob, entry->blob_len);
	require(found && found <= entry && found->blob_len == entry->blob_len);
	require(memcmp(found->blob, entry->blob, entry->blob_len) == 0);
	check_options(&entry->options);
}

static void check_base64(const char *text, size_t len)
{
	ssize_t n = alk_base64_decode(text, len, NULL, 0);
	uint8_t *data;
	char *again;

	if (n < 0)
		return;
	data = malloc((size_t)n + 1);
	again = malloc(len + 1);
	require(data && again);
	require(alk_base64_decode(text, len, data, (size_t)n) == n);
	require(n == 0 || alk_base64_decode(text, len, data, (size_t)n - 1) < 0);
	require(alk_base64_encode(data, (size_t)n, again, len + 1) == (ssize_t)len);
	require(memcmp(text, again, len) == 0);
	free(data);
	free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	const char *text = (const char *)bytes;
	struct bad bad = {0, 0};
	struct alk_keys *keys = alk_keys_parse("FILE", text, n, TYPES, on_bad, &bad);
	size_t lines = n > 0;

	require(keys != NULL);
	for (size_t i = 0; i < n; i++)
		lines += bytes[i] == '\n';
	require(keys->count + bad.count <= lines);
	for (size_t i = 0; i < keys->count; i++)
		check_entry(keys, i);
	alk_keys_free(&keys);
	bad = (struct bad){0, 0};
	keys = alk_keys_parse_authorities("FILE", text, n, on_bad, &bad);
	require(keys != NULL && keys->count + bad.count <= lines);
	for (size_t i = 0; i < keys->count; i++)
		require(!keys->entry[i].options.cert_authority);
	alk_keys_free(&keys);
	check_base64(text, n);
	return 0;
}
