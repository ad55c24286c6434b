/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef SECRET_CALL_H
#define SECRET_CALL_H

/* The operations as JSON: what a `call.requested` asks for, and what is answered. For people and
 * logs: a private key is "[REDACTED]" here, always. */

#include <jansson.h>
#include "wire.h"

struct secret_call {
	enum secret_op op;
	struct secret_request request; /* borrows from `payload` and `plain` */
	struct secret_buf plain;       /* of plaintext_base64 */
};

/* What a call could not be, as the bus says it. */
struct secret_call_error {
	const char *code;
	struct alk_err err;
};

/* `payload` of a call.requested. Clear it always. `now` is ms since 1970, for the deadline. */
int secret_call_parse(struct secret_call *call, const json_t *payload, int64_t now,
		      struct secret_call_error *error);
void secret_call_clear(struct secret_call *call);
/* The time of now, as a deadline has it. */
int64_t secret_call_now(void);

/* The output of a good answer, a new reference, or NULL (out of memory). */
json_t *secret_call_output(enum secret_op op, const struct secret_answer *answer);
/* "code" of a fault; `retryable` where the same may work later. */
const char *secret_call_code(enum secret_fault_kind kind, bool *retryable);

#endif
