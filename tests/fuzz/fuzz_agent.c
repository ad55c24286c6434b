/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What an agent answers: a list whose keys lie inside the answer, a signature that does, or
 * nothing; and the keys of a list, as public keys and certificates. */
#include "agent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "pubkey.h"

#define MAX 8

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void require(int yes)
{
	if (!yes)
		abort();
}

static void key(const uint8_t *blob, size_t len, const uint8_t *other, size_t other_len)
{
	struct alk_err err = {""};
	int rc = alk_pubkey_check("KEY", blob, len, &err);
	const char *type = alk_pubkey_type(blob, len);
	bool is_cert = alk_pubkey_is_cert(blob, len);

	require(rc == 0 || rc == -EINVAL);
	require((rc == 0) == (err.text[0] == '\0'));
	require(rc < 0 || type);
	require(!is_cert || (type && strstr(type, "-cert-v01@openssh.com")));
	for (const char *c = err.text; *c; c++)
		require(*c >= ' ' && *c < 0x7f);
	if (alk_pubkey_certifies(blob, len, other, other_len))
		require(is_cert && !alk_pubkey_is_cert(other, other_len));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct alk_agent_key keys[MAX];
	const uint8_t *signature;
	size_t len = 0;
	int count = alk_agent_keys(bytes, n, keys, MAX);
	int rc = alk_agent_signature(bytes, n, &signature, &len);

	require(count == -EPROTO || (count >= 0 && count <= MAX));
	for (int i = 0; i < count; i++) {
		require(keys[i].len > 0 && keys[i].blob > bytes &&
			keys[i].blob + keys[i].len <= bytes + n);
		key(keys[i].blob, keys[i].len, keys[0].blob, keys[0].len);
	}
	require(rc == 0 || rc == -EPROTO || (rc == -EACCES && n == 1));
	require(rc < 0 || (signature > bytes && signature + len == bytes + n));
	require(rc < 0 || count < 0);
	return 0;
}
