/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "derive.h"

#include <errno.h>
#include <string.h>
#include <secp256k1.h>
#include "crypt.h"

/* Blinded against what a neighbour could measure. NULL with `err`. */
static secp256k1_context *curve_new(struct alk_err *err)
{
	secp256k1_context *curve = secp256k1_context_create(SECP256K1_CONTEXT_SIGN);
	uint8_t blind[32];

	if (curve == NULL || secret_random(blind, sizeof(blind)) < 0 ||
	    !secp256k1_context_randomize(curve, blind)) {
		if (curve != NULL)
			secp256k1_context_destroy(curve);
		curve = NULL;
		alk_err_set(err, -EIO, "secp256k1 failed");
	}
	explicit_bzero(blind, sizeof(blind));
	return curve;
}

static int point_of(const secp256k1_context *curve, const uint8_t key[32], uint8_t out[33])
{
	secp256k1_pubkey point;
	size_t len = 33;

	if (!secp256k1_ec_pubkey_create(curve, &point, key) ||
	    !secp256k1_ec_pubkey_serialize(curve, out, &len, &point, SECP256K1_EC_COMPRESSED))
		return -EIO;
	return 0;
}

/* BIP-32, CKDpriv. -ERANGE: this index has no key (one in 2^127). */
static int node_child(const secp256k1_context *curve, struct secret_node *node, uint32_t index)
{
	uint8_t input[37] = {0}, i[64];
	int rc = 0;

	if ((index & SECRET_HARDENED) != 0)
		memcpy(input + 1, node->key, 32);
	else
		rc = point_of(curve, node->key, input);
	for (unsigned b = 0; b < 4; b++)
		input[33 + b] = (uint8_t)(index >> (24 - 8 * b));
	if (rc == 0)
		rc = secret_hmac512(node->chain, 32, input, sizeof(input), NULL, 0, i);
	if (rc == 0 && !secp256k1_ec_seckey_tweak_add(curve, node->key, i))
		rc = -ERANGE;
	if (rc == 0)
		memcpy(node->chain, i + 32, 32);
	explicit_bzero(input, sizeof(input));
	explicit_bzero(i, sizeof(i));
	return rc;
}

static int node_of_seed(const secp256k1_context *curve, const uint8_t *seed, size_t len,
			struct secret_node *node)
{
	static const char salt[] = "Bitcoin seed";
	uint8_t i[64];
	int rc = secret_hmac512(salt, sizeof(salt) - 1, seed, len, NULL, 0, i);

	if (rc == 0 && !secp256k1_ec_seckey_verify(curve, i))
		rc = -ERANGE;
	if (rc == 0) {
		memcpy(node->key, i, 32);
		memcpy(node->chain, i + 32, 32);
	}
	explicit_bzero(i, sizeof(i));
	return rc;
}

int secret_bip32(const uint8_t *seed, size_t len, const struct secret_path *path,
		 struct secret_node *node, struct alk_err *err)
{
	secp256k1_context *curve = curve_new(err);
	int rc;

	if (curve == NULL)
		return -EIO;
	rc = node_of_seed(curve, seed, len, node);
	for (unsigned level = 0; rc == 0 && level < path->levels; level++)
		rc = node_child(curve, node, path->index[level]);
	secp256k1_context_destroy(curve);
	if (rc < 0) {
		explicit_bzero(node, sizeof(*node));
		alk_err_set(err, rc,
			    rc == -ERANGE ? "there is no key at this path: take the next index"
					  : "HMAC-SHA512 or secp256k1 failed");
	}
	secret_stack_wipe();
	return rc;
}

int secret_bip32_public(const uint8_t key[32], uint8_t out[33], struct alk_err *err)
{
	secp256k1_context *curve = curve_new(err);
	int rc;

	if (curve == NULL)
		return -EIO;
	rc = point_of(curve, key, out);
	secp256k1_context_destroy(curve);
	secret_stack_wipe();
	return rc < 0 ? alk_err_set(err, rc, "secp256k1 failed") : 0;
}
