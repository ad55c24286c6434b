/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "derive.h"

#include <errno.h>
#include <string.h>
#include "crypt.h"

static void node_set(struct secret_node *node, const uint8_t i[64])
{
	memcpy(node->key, i, 32);
	memcpy(node->chain, i + 32, 32);
}

static int node_child(struct secret_node *node, uint32_t index, uint8_t i[64])
{
	uint8_t input[37] = {0};
	int rc;

	memcpy(input + 1, node->key, 32);
	for (unsigned b = 0; b < 4; b++)
		input[33 + b] = (uint8_t)(index >> (24 - 8 * b));
	rc = secret_hmac512(node->chain, 32, input, sizeof(input), NULL, 0, i);
	explicit_bzero(input, sizeof(input));
	return rc;
}

int secret_slip10(const uint8_t *seed, size_t len, const struct secret_path *path,
		  struct secret_node *node, struct alk_err *err)
{
	static const char curve[] = "ed25519 seed";
	uint8_t i[64];
	int rc;

	for (unsigned level = 0; level < path->levels; level++)
		if ((path->index[level] & SECRET_HARDENED) == 0)
			return alk_err_set(
				err, -EINVAL,
				"path: part %u is not hardened, as all parts must be for "
				"this kind of key: put ' behind it",
				level + 1);
	rc = secret_hmac512(curve, sizeof(curve) - 1, seed, len, NULL, 0, i);
	if (rc == 0)
		node_set(node, i);
	for (unsigned level = 0; rc == 0 && level < path->levels; level++) {
		rc = node_child(node, path->index[level], i);
		if (rc == 0)
			node_set(node, i);
	}
	explicit_bzero(i, sizeof(i));
	if (rc < 0) {
		explicit_bzero(node, sizeof(*node));
		alk_err_set(err, rc, "HMAC-SHA512 failed");
	}
	return rc;
}
