/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Revoked keys: a list that can be asked or a sentence that names the file, never both. A line that
 * is taken revokes its key. */
#include "cert.h"
#include "base64.h"
#include "wire.h"
#include "krl.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void require(int yes)
{
	if (!yes)
		abort();
}

/* Serial numbers and ids that the bytes themselves may hold. */
static void ask(const struct alk_krl *krl, const uint8_t *bytes, size_t n)
{
	uint8_t key[51] = "\0\0\0\13ssh-ed25519\0\0\0\40";
	char id[] = "id7";
	struct alk_cert cert = {.key = key, .key_len = sizeof(key), .ca = key, .ca_len = 51};
	struct alk_wire wire = {bytes, n};

	cert.key_id = id;
	for (unsigned i = 0; i < 64 && alk_wire_u64(&wire, &cert.serial); i++) {
		bool revoked = alk_krl_has_cert(krl, &cert);

		require(!revoked || alk_krl_count(krl) > 0);
		require(!alk_krl_has_key(krl, key, sizeof(key)) || revoked);
	}
	alk_krl_has_key(krl, bytes, n);
}

static void check_list(const struct alk_krl *krl, const char *text, size_t n)
{
	char *copy = strndup(text, n), *rest = copy, *line;
	uint8_t *blob = malloc(n + 1);

	require(copy && blob);
	while ((line = strsep(&rest, "\n")) != NULL) {
		char *type, *base64;
		ssize_t len;

		line += strspn(line, " \t\r");
		type = strsep(&line, " \t");
		if (*type == '#' || !line || strstr(type, "-cert-v01@openssh.com"))
			continue;
		line += strspn(line, " \t\r");
		base64 = strsep(&line, " \t\r");
		len = alk_base64_decode(base64, strlen(base64), blob, n);
		if (len > 0)
			require(alk_krl_has_key(krl, blob, (size_t)len));
	}
	free(copy);
	free(blob);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct alk_err err = {""};
	struct alk_krl *krl = alk_krl_parse("FILE", bytes, n, &err);

	if (!krl) {
		require(strncmp(err.text, "FILE:", 5) == 0);
		for (const char *p = err.text; *p; p++)
			require(*p >= ' ' && *p < 0x7f);
		return 0;
	}
	require(err.text[0] == '\0');
	ask(krl, bytes, n);
	if (n < 7 || memcmp(bytes, "SSHKRL\n", 7) != 0)
		check_list(krl, (const char *)bytes, n);
	alk_krl_free(&krl);
	require(krl == NULL);
	return 0;
}
