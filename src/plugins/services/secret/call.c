/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "call.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include "crypt.h"

#define REDACTED "[REDACTED]"

static int call_fail(struct secret_call_error *error, const char *code, const char *text)
{
	error->code = code;
	return alk_err_set(&error->err, -EINVAL, "%s", text);
}

static struct secret_span span_of(const json_t *text)
{
	return (struct secret_span){(const uint8_t *)json_string_value(text),
				    json_string_length(text)};
}

/* Members of an input: a text, or a number within `max`. */
static int take_text(const json_t *input, const char *name, struct secret_span *out,
		     struct secret_call_error *error)
{
	const json_t *value = json_object_get(input, name);

	error->code = "INVALID_INPUT";
	if (!json_is_string(value))
		return alk_err_set(&error->err, -EINVAL, "%s: must be text", name);
	*out = span_of(value);
	return 0;
}

static int take_number(const json_t *input, const char *name, uint64_t max, uint64_t *out,
		       struct secret_call_error *error)
{
	const json_t *value = json_object_get(input, name);

	error->code = "INVALID_INPUT";
	if (!json_is_integer(value) || json_integer_value(value) < 0 ||
	    (uint64_t)json_integer_value(value) > max)
		return alk_err_set(&error->err, -EINVAL,
				   "%s: must be a whole number that is not negative", name);
	*out = (uint64_t)json_integer_value(value);
	return 0;
}

static int take_version(const json_t *input, uint32_t *out, struct secret_call_error *error)
{
	uint64_t n = 0;
	int rc = take_number(input, "key_version", UINT32_MAX, &n, error);

	*out = (uint32_t)n;
	return rc;
}

static int take_plaintext(struct secret_call *call, const json_t *input,
			  struct secret_call_error *error)
{
	struct secret_span text;

	if (json_object_get(input, "plaintext_base64") == NULL)
		return take_text(input, "plaintext", &call->request.plaintext, error);
	if (take_text(input, "plaintext_base64", &text, error) < 0)
		return -EINVAL;
	if (secret_base64_decode(text.bytes, text.len, &call->plain) < 0)
		return call_fail(error, "INVALID_INPUT", "plaintext_base64: is not base64");
	call->request.plaintext = (struct secret_span){call->plain.bytes, call->plain.len};
	return 0;
}

static int take_sealed(const json_t *input, struct secret_encrypted *sealed,
		       struct secret_call_error *error)
{
	int rc = take_version(input, &sealed->key_version, error);

	if (rc == 0)
		rc = take_text(input, "salt", &sealed->salt, error);
	if (rc == 0)
		rc = take_text(input, "iv", &sealed->iv, error);
	if (rc == 0)
		rc = take_text(input, "data", &sealed->data, error);
	return rc;
}

/* How many members belong there; -EINVAL. */
static int take_input(struct secret_call *call, const json_t *input,
		      struct secret_call_error *error)
{
	struct secret_request *request = &call->request;
	int rc;

	switch (call->op) {
	case SECRET_DERIVE_ED25519:
	case SECRET_DERIVE_ENCRYPTION_KEY:
	case SECRET_DERIVE_ETHEREUM_KEY:
		rc = take_text(input, "path", &request->path, error);
		return rc < 0 ? rc : 1;
	case SECRET_DERIVE_PASSWORD:
		rc = take_text(input, "path", &request->path, error);
		if (rc == 0)
			rc = take_number(input, "length", INT64_MAX, &request->length, error);
		return rc < 0 ? rc : 2;
	case SECRET_ENCRYPT:
		rc = take_plaintext(call, input, error);
		if (rc == 0)
			rc = take_version(input, &request->key_version, error);
		return rc < 0 ? rc : 2;
	case SECRET_DECRYPT:
	case SECRET_REENCRYPT:
		rc = take_sealed(input, &request->sealed, error);
		return rc < 0 ? rc : 4;
	case SECRET_UNLOCK:
		rc = take_text(input, "passphrase", &request->phrase, error);
		return rc < 0 ? rc : 1;
	default:
		return 0;
	}
}

int secret_call_parse(struct secret_call *call, const json_t *payload, int64_t now,
		      struct secret_call_error *error)
{
	const char *bus = json_string_value(json_object_get(payload, "operationId"));
	const json_t *input = json_object_get(payload, "input"),
		     *deadline = json_object_get(payload, "deadline");
	int members;

	*call = (struct secret_call){.op = SECRET_OPS};
	if (bus == NULL)
		return call_fail(error, "INVALID_INPUT", "operationId: must be text");
	call->op = call->request.op = secret_op_of_bus(bus);
	if (call->op == SECRET_OPS)
		return call_fail(error, "NOT_FOUND", "there is no such operation here");
	if (deadline != NULL && !json_is_integer(deadline))
		return call_fail(error, "INVALID_INPUT", "deadline: must be ms since 1970");
	if (deadline != NULL && json_integer_value(deadline) <= now)
		return call_fail(error, "TIMEOUT", "the deadline has passed");
	if (input != NULL && !json_is_null(input) && !json_is_object(input))
		return call_fail(error, "INVALID_INPUT", "input: must be an object");
	members = take_input(call, input, error);
	if (members < 0)
		return members;
	if ((int)json_object_size(input) != members)
		return call_fail(error, "INVALID_INPUT",
				 "input: has a member that the operation does not have");
	return 0;
}

void secret_call_clear(struct secret_call *call)
{
	secret_buf_wipe(&call->plain);
	explicit_bzero(call, sizeof(*call));
}

int64_t secret_call_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static json_t *text_of(struct secret_span span)
{
	return json_stringn((const char *)span.bytes, span.len);
}

static json_t *base64_of(struct secret_span span)
{
	struct secret_buf buf = {0};
	json_t *text;

	secret_base64_add(&buf, span.bytes, span.len);
	text = buf.failed ? NULL : json_stringn((const char *)buf.bytes, buf.len);
	secret_buf_wipe(&buf);
	return text;
}

/* As text where it is some; a peer's jansson would refuse a NUL. */
static json_t *plaintext_of(struct secret_span span)
{
	json_t *text = span.len == 0 ? json_string("") : NULL;

	if (text == NULL && memchr(span.bytes, '\0', span.len) == NULL)
		text = text_of(span);
	return text != NULL ? json_pack("{s:o}", "plaintext", text)
			    : json_pack("{s:o}", "plaintext_base64", base64_of(span));
}

json_t *secret_call_output(enum secret_op op, const struct secret_answer *answer)
{
	const struct secret_encrypted *sealed = &answer->sealed;

	switch (op) {
	case SECRET_DERIVE_ED25519:
	case SECRET_DERIVE_ENCRYPTION_KEY:
	case SECRET_DERIVE_ETHEREUM_KEY:
		return json_pack("{s:s, s:s, s:o}", "key_type", secret_key_type_name(answer->type),
				 "private_key", REDACTED, "public_key",
				 base64_of(answer->public_key));
	case SECRET_DERIVE_PASSWORD:
		return json_pack("{s:o}", "password", text_of(answer->bytes));
	case SECRET_DECRYPT:
		return plaintext_of(answer->bytes);
	case SECRET_ENCRYPT:
	case SECRET_REENCRYPT:
		return json_pack("{s:I, s:o, s:o, s:o}", "key_version",
				 (json_int_t)sealed->key_version, "salt", text_of(sealed->salt),
				 "iv", text_of(sealed->iv), "data", text_of(sealed->data));
	case SECRET_STATUS:
		return json_pack("{s:b, s:I, s:I}", "unlocked", answer->unlocked, "key_version",
				 (json_int_t)answer->key_version, "cached_keys",
				 (json_int_t)answer->cached);
	default:
		return json_object();
	}
}

const char *secret_call_code(enum secret_fault_kind kind, bool *retryable)
{
	*retryable = kind == SECRET_SERVICE_LOCKED;
	return kind == SECRET_SERVICE_LOCKED ? "UNAVAILABLE" : "INVALID_INPUT";
}
