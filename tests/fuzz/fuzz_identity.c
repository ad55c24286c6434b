/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Private key files: a key or a sentence, never both; a passphrase is asked for at most three
 * times. The first byte of the input says whether the rest is base64 that BEGIN and END are put
 * around. */
#include "identity.h"
#include "base64.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BEGIN "-----BEGIN OPENSSH PRIVATE KEY-----\n"
#define END "\n-----END OPENSSH PRIVATE KEY-----\n"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void require(int yes)
{
	if (!yes)
		abort();
}

/* Key derivation is what an attacker of the file format cannot reach without a person who types; it
 * would make each run slow. */
static int on_ask(void *user, const char *prompt, char *buf, size_t size)
{
	unsigned *asked = user;

	require(++*asked <= 1);
	require(strcmp(prompt, "Passphrase for FILE: ") == 0);
	snprintf(buf, size, "secret");
	return -1;
}

static void parse(const char *text, size_t n)
{
	struct alk_err err = {""}, why = {""};
	unsigned asked = 0;
	bool encrypted = false;
	uint8_t *blob = NULL;
	size_t len;
	ssh_key key = alk_identity_parse("FILE", text, n, on_ask, &asked, &err);
	int rc = alk_identity_public("FILE", text, n, &blob, &len, &encrypted, &why);

	require((key != NULL) == (err.text[0] == '\0'));
	require(key == NULL || asked == 0);
	require(key == NULL || ssh_key_is_private(key));
	require(key != NULL || strstr(err.text, "FILE"));
	require((rc == 0) == (blob != NULL) && (rc == 0) == (why.text[0] == '\0'));
	require(key == NULL || (rc == 0 && !encrypted));
	require(asked == 0 || (rc == 0 && encrypted));
	free(blob);
	ssh_key_free(key);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	size_t size = strlen(BEGIN) + n * 2 + 8 + strlen(END);
	char *text;
	ssize_t len;

	if (n == 0)
		return 0;
	if (bytes[0] != 'b') {
		parse((const char *)bytes, n);
		return 0;
	}
	text = malloc(size);
	require(text != NULL);
	strcpy(text, BEGIN);
	len = alk_base64_encode(bytes + 1, n - 1, text + strlen(BEGIN), size - strlen(BEGIN));
	require(len >= 0);
	strcpy(text + strlen(BEGIN) + len, END);
	parse(text, strlen(text));
	free(text);
	return 0;
}
