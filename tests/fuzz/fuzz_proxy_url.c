/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The URL of a proxy: a host, a port and words that both protocols can say, or a sentence that does
 * not give the password away; and what is shown never has it. */
#include <stdlib.h>
#include <string.h>

#include "proxy_url.h"
#include "proxy_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void require(int yes)
{
	if (!yes)
		abort();
}

static void require_word(const char *word)
{
	for (; *word != '\0'; word++)
		require((unsigned char)*word >= 0x20 && *word != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct alk_proxy_wire wire;
	struct alk_proxy_url url;
	struct alk_err err = {""};
	char *text = malloc(n + 1), *shown = malloc(n + 8);

	require(text != NULL && shown != NULL);
	memcpy(text, bytes, n);
	text[n] = '\0';
	alk_proxy_url_show(text, shown, n + 8);
	require(!alk_proxy_url_has_password(text) || strstr(shown, "***") != NULL);
	if (alk_proxy_url_parse(text, &url, &err) < 0) {
		require(err.text[0] != '\0');
	} else if (url.kind != ALK_PROXY_NONE) {
		require(url.host[0] != '\0' && url.port != 0);
		require_word(url.user);
		require_word(url.password);
		require(!url.has_login || url.user[0] != '\0');
		require(alk_proxy_wire_init(&wire, &url, "example.com", 65535, &err) == 0);
		require(wire.out_len <= sizeof(wire.out));
	}
	free(text);
	free(shown);
	return 0;
}
