/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* known_hosts: whatever stands in the file, the answer agrees with itself, and a line in front that
 * names the host and its key is found unless the key is revoked further on. */
#include "knownhosts.h"

#include <stdlib.h>
#include <string.h>

#define KEY "AAAAC3NzaC1lZDI1NTE5AAAAIEJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJC"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void require(int yes)
{
	if (!yes)
		abort();
}

static void check_answer(const struct alk_host_answer *answer)
{
	require(strncmp(answer->seen, "SHA256:", 7) == 0);
	require(strcmp(answer->key_type, "ssh-ed25519") == 0);
	require((answer->bad_lines == 0) == (answer->bad_line == 0));
	require((answer->where[0] == '\0') == (answer->verdict == ALK_HOST_UNKNOWN));
	if (answer->verdict == ALK_HOST_CHANGED) {
		require(strncmp(answer->known, "SHA256:", 7) == 0);
		require(strcmp(answer->known, answer->seen) != 0);
		require(answer->known_type[0] != '\0');
	} else {
		require(answer->known[0] == '\0' && answer->known_type[0] == '\0');
	}
}

static void judge(const char *text, size_t n, const char *host, uint16_t port, ssh_key key,
		  struct alk_host_answer *answer)
{
	require(alk_knownhosts_judge("FILE", text, n, host, port, key, answer, NULL) == 0);
	check_answer(answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static const char line[] = "host ssh-ed25519 " KEY "\n";
	const char *text = (const char *)bytes;
	struct alk_host_answer answer, other;
	ssh_key key = NULL;
	char *more;

	require(ssh_pki_import_pubkey_base64(KEY, SSH_KEYTYPE_ED25519, &key) == SSH_OK);
	judge(text, n, "host", 2222, key, &answer);
	judge(text, n, "host", 22, key, &answer);
	more = malloc(sizeof(line) + n);
	require(more != NULL);
	memcpy(more, line, sizeof(line) - 1);
	memcpy(more + sizeof(line) - 1, bytes, n);
	judge(more, sizeof(line) - 1 + n, "host", 22, key, &other);
	require(other.verdict ==
		(answer.verdict == ALK_HOST_REVOKED ? ALK_HOST_REVOKED : ALK_HOST_OK));
	require(other.bad_lines == answer.bad_lines);
	free(more);
	ssh_key_free(key);
	return 0;
}
