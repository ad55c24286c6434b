/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "wire.h"

#include <errno.h>
#include <string.h>

static const struct {
	const char *name, *scope, *bus;
} ops[SECRET_OPS] = {
#define SECRET_OP(id_, name_, bus_) {name_, "secret:" name_, bus_},
#include "ops.def"
#undef SECRET_OP
};

static const char *const key_types[] = {
	[SECRET_KEY_ED25519] = "Ed25519",
	[SECRET_KEY_AES256_GCM] = "Aes256Gcm",
	[SECRET_KEY_SECP256K1] = "Secp256k1",
};
static const char *const faults[SECRET_FAULTS] = {
	[SECRET_SERVICE_LOCKED] = "ServiceLocked",
	[SECRET_ALREADY_UNLOCKED] = "AlreadyUnlocked",
	[SECRET_MNEMONIC] = "Mnemonic",
	[SECRET_DERIVATION] = "Derivation",
	[SECRET_ENCRYPTION] = "Encryption",
	[SECRET_INVALID_PATH] = "InvalidPath",
	[SECRET_UNSUPPORTED_KEY_TYPE] = "UnsupportedKeyType",
};

const char *secret_op_name(enum secret_op op)
{
	return op < SECRET_OPS ? ops[op].name : "unknown";
}

const char *secret_op_scope(enum secret_op op)
{
	return ops[op].scope;
}

const char *secret_op_bus(enum secret_op op)
{
	return ops[op].bus;
}

enum secret_op secret_op_of_bus(const char *bus)
{
	enum secret_op op = 0;

	while (op < SECRET_OPS && strcmp(ops[op].bus, bus) != 0)
		op++;
	return op;
}

const char *secret_key_type_name(enum secret_key_type type)
{
	return key_types[type];
}

const char *secret_fault_name(enum secret_fault_kind kind)
{
	return faults[kind];
}

enum secret_fault_kind secret_fault_of(enum secret_op op)
{
	switch (op) {
	case SECRET_ENCRYPT:
	case SECRET_DECRYPT:
	case SECRET_REENCRYPT:
		return SECRET_ENCRYPTION;
	case SECRET_UNLOCK:
		return SECRET_MNEMONIC;
	default:
		return SECRET_DERIVATION;
	}
}

static void read_sealed(struct secret_reader *r, struct secret_encrypted *sealed)
{
	sealed->key_version = (uint32_t)secret_read_number(r, UINT32_MAX);
	sealed->salt = secret_read_text(r);
	sealed->iv = secret_read_text(r);
	sealed->data = secret_read_text(r);
}

static void put_span(struct secret_buf *out, struct secret_span span)
{
	secret_put_bytes(out, span.bytes, span.len);
}

static void put_sealed(struct secret_buf *out, const struct secret_encrypted *sealed)
{
	secret_put_number(out, sealed->key_version);
	put_span(out, sealed->salt);
	put_span(out, sealed->iv);
	put_span(out, sealed->data);
}

int secret_request_decode(const uint8_t *bytes, size_t n, unsigned limit,
			  struct secret_request *request)
{
	struct secret_reader r = {bytes, bytes + n, false};
	uint64_t op = secret_read_number(&r, UINT32_MAX);

	*request = (struct secret_request){.op = SECRET_OPS};
	if (r.failed || op >= limit)
		return -EINVAL;
	request->op = (enum secret_op)op;
	switch (request->op) {
	case SECRET_DERIVE_ED25519:
	case SECRET_DERIVE_ENCRYPTION_KEY:
	case SECRET_DERIVE_ETHEREUM_KEY:
		request->path = secret_read_text(&r);
		break;
	case SECRET_DERIVE_PASSWORD:
		request->path = secret_read_text(&r);
		request->length = secret_read_number(&r, UINT64_MAX);
		break;
	case SECRET_ENCRYPT:
		request->plaintext = secret_read_bytes(&r);
		request->key_version = (uint32_t)secret_read_number(&r, UINT32_MAX);
		break;
	case SECRET_DECRYPT:
	case SECRET_REENCRYPT:
		read_sealed(&r, &request->sealed);
		break;
	case SECRET_UNLOCK:
		request->phrase = secret_read_text(&r);
		break;
	default:
		break;
	}
	return secret_read_end(&r) ? 0 : -EINVAL;
}

void secret_request_encode(struct secret_buf *out, const struct secret_request *request)
{
	secret_put_number(out, request->op);
	switch (request->op) {
	case SECRET_DERIVE_ED25519:
	case SECRET_DERIVE_ENCRYPTION_KEY:
	case SECRET_DERIVE_ETHEREUM_KEY:
		put_span(out, request->path);
		break;
	case SECRET_DERIVE_PASSWORD:
		put_span(out, request->path);
		secret_put_number(out, request->length);
		break;
	case SECRET_ENCRYPT:
		put_span(out, request->plaintext);
		secret_put_number(out, request->key_version);
		break;
	case SECRET_DECRYPT:
	case SECRET_REENCRYPT:
		put_sealed(out, &request->sealed);
		break;
	case SECRET_UNLOCK:
		put_span(out, request->phrase);
		break;
	default:
		break;
	}
}

static bool fault_has_text(enum secret_fault_kind kind)
{
	return kind >= SECRET_MNEMONIC && kind <= SECRET_INVALID_PATH;
}

void secret_fault_encode(struct secret_buf *out, enum secret_fault_kind kind, const char *text)
{
	secret_put_number(out, 1);
	secret_put_number(out, kind);
	if (fault_has_text(kind))
		secret_put_bytes(out, text, strlen(text));
}

void secret_answer_encode(struct secret_buf *out, enum secret_op op,
			  const struct secret_answer *answer)
{
	secret_put_number(out, 0);
	switch (op) {
	case SECRET_DERIVE_ED25519:
	case SECRET_DERIVE_ENCRYPTION_KEY:
	case SECRET_DERIVE_ETHEREUM_KEY:
		secret_put_number(out, answer->type);
		put_span(out, answer->private_key);
		put_span(out, answer->public_key);
		break;
	case SECRET_DERIVE_PASSWORD:
	case SECRET_DECRYPT:
		put_span(out, answer->bytes);
		break;
	case SECRET_ENCRYPT:
	case SECRET_REENCRYPT:
		put_sealed(out, &answer->sealed);
		break;
	case SECRET_STATUS:
		secret_put_number(out, answer->unlocked);
		secret_put_number(out, answer->key_version);
		secret_put_number(out, answer->cached);
		break;
	default:
		break;
	}
}

static void read_good(struct secret_reader *r, enum secret_op op, struct secret_answer *answer)
{
	switch (op) {
	case SECRET_DERIVE_ED25519:
	case SECRET_DERIVE_ENCRYPTION_KEY:
	case SECRET_DERIVE_ETHEREUM_KEY:
		answer->type = (enum secret_key_type)secret_read_number(r, SECRET_KEY_SECP256K1);
		answer->private_key = secret_read_bytes(r);
		answer->public_key = secret_read_bytes(r);
		break;
	case SECRET_DERIVE_PASSWORD:
	case SECRET_DECRYPT:
		answer->bytes = secret_read_bytes(r);
		break;
	case SECRET_ENCRYPT:
	case SECRET_REENCRYPT:
		read_sealed(r, &answer->sealed);
		break;
	case SECRET_STATUS:
		answer->unlocked = secret_read_number(r, 1) != 0;
		answer->key_version = (uint32_t)secret_read_number(r, UINT32_MAX);
		answer->cached = (uint32_t)secret_read_number(r, UINT32_MAX);
		break;
	default:
		break;
	}
}

int secret_answer_decode(const uint8_t *bytes, size_t n, enum secret_op op,
			 struct secret_answer *answer)
{
	struct secret_reader r = {bytes, bytes + n, false};

	*answer = (struct secret_answer){.good = secret_read_number(&r, 1) == 0};
	if (answer->good) {
		read_good(&r, op, answer);
	} else {
		answer->fault = (enum secret_fault_kind)secret_read_number(&r, SECRET_FAULTS - 1);
		if (fault_has_text(answer->fault))
			answer->text = secret_read_text(&r);
	}
	return secret_read_end(&r) ? 0 : -EINVAL;
}
