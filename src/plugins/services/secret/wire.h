/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef SECRET_WIRE_H
#define SECRET_WIRE_H

/* What is asked and answered, in postcard: on port 1 of the service, and between the halves of the
 * plugin. docs/SECRET.md has the layout. Fuzzed (tests/fuzz/fuzz_secret_wire.c). */

#include <alknet/err.h>
#include "postcard.h"

enum secret_op {
#define SECRET_OP(id_, name_, bus_) SECRET_##id_,
#include "ops.def"
#undef SECRET_OP
	SECRET_OPS,
	SECRET_OPS_PORT1 = SECRET_UNLOCK + 1,
};

const char *secret_op_name(enum secret_op op);
/* The scope that it needs: "secret:" and the name. */
const char *secret_op_scope(enum secret_op op);
/* SECRET_OPS when there is no such operation on the bus. */
const char *secret_op_bus(enum secret_op op);
enum secret_op secret_op_of_bus(const char *bus);

enum secret_key_type {
	SECRET_KEY_ED25519,
	SECRET_KEY_AES256_GCM,
	SECRET_KEY_SECP256K1,
};
const char *secret_key_type_name(enum secret_key_type type);

enum secret_fault_kind {
	SECRET_SERVICE_LOCKED,
	SECRET_ALREADY_UNLOCKED,
	SECRET_MNEMONIC,
	SECRET_DERIVATION,
	SECRET_ENCRYPTION,
	SECRET_INVALID_PATH,
	SECRET_UNSUPPORTED_KEY_TYPE,
	SECRET_FAULTS,
};
const char *secret_fault_name(enum secret_fault_kind kind);
/* What a request of this kind that is wrong by itself is answered with. */
enum secret_fault_kind secret_fault_of(enum secret_op op);

/* All spans are borrowed. */
struct secret_encrypted {
	uint32_t key_version;
	struct secret_span salt, iv, data; /* base64 */
};

struct secret_request {
	enum secret_op op;
	struct secret_span path;	/* Derive* */
	uint64_t length;		/* DerivePassword */
	struct secret_span plaintext;	/* Encrypt */
	uint32_t key_version;		/* Encrypt */
	struct secret_encrypted sealed; /* Decrypt, Reencrypt */
	struct secret_span phrase;	/* Unlock */
};

/* `ops` is how many operations there are: SECRET_OPS_PORT1 or SECRET_OPS. -EINVAL: `request->op` is
 * then what it wanted to be, SECRET_OPS when that cannot be told. */
int secret_request_decode(const uint8_t *bytes, size_t n, unsigned ops,
			  struct secret_request *request);
void secret_request_encode(struct secret_buf *out, const struct secret_request *request);

struct secret_answer {
	bool good;
	enum secret_fault_kind fault;
	struct secret_span text; /* of a fault that has one */
	enum secret_key_type type;
	struct secret_span private_key, public_key;
	struct secret_span bytes; /* DerivePassword, Decrypt */
	struct secret_encrypted sealed;
	bool unlocked; /* Status */
	uint32_t key_version, cached;
};

/* The answer to an `op`. */
int secret_answer_decode(const uint8_t *bytes, size_t n, enum secret_op op,
			 struct secret_answer *answer);
void secret_answer_encode(struct secret_buf *out, enum secret_op op,
			  const struct secret_answer *answer);
/* Err(kind(sentence)) */
void secret_fault_encode(struct secret_buf *out, enum secret_fault_kind kind, const char *text);

#endif
