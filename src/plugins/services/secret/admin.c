/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* secret.status, unlock, lock, derive, reencrypt. The parameters were checked against the core's
 * table. */
#include "secret.h"

#include <string.h>
#include "call.h"
#include "crypt.h"

#define IDENTITY "admin"

static struct secret_span span_of(const json_t *params, const char *name)
{
	const json_t *text = json_object_get(params, name);

	return (struct secret_span){(const uint8_t *)json_string_value(text),
				    json_string_length(text)};
}

/* {"name": TEXT} members, by hand: what is private does not become a value of jansson. */
static void add_member(struct secret_buf *out, const char *name)
{
	secret_buf_add_text(out, out->len > 1 ? ",\"" : "\"");
	secret_buf_add_text(out, name);
	secret_buf_add_text(out, "\":\"");
}

static void add_hex(struct secret_buf *out, const char *name, struct secret_span span)
{
	static const char digits[] = "0123456789abcdef";

	add_member(out, name);
	for (size_t i = 0; i < span.len; i++) {
		secret_buf_add(out, &digits[span.bytes[i] >> 4], 1);
		secret_buf_add(out, &digits[span.bytes[i] & 15], 1);
	}
	secret_buf_add_text(out, "\"");
}

static void add_base64(struct secret_buf *out, const char *name, const char *before,
		       const uint8_t *bytes, size_t n)
{
	add_member(out, name);
	secret_buf_add_text(out, before);
	secret_base64_add(out, bytes, n);
	secret_buf_add_text(out, "\"");
}

/* RFC 8709 4 */
static void add_ssh(struct secret_buf *out, struct secret_span public)
{
	static const uint8_t head[] = "\0\0\0\013ssh-ed25519\0\0\0\040";
	uint8_t blob[sizeof(head) - 1 + 32];

	memcpy(blob, head, sizeof(head) - 1);
	memcpy(blob + sizeof(head) - 1, public.bytes, 32);
	add_base64(out, "ssh_public_key", "ssh-ed25519 ", blob, sizeof(blob));
}

static void derived(struct secret_buf *out, enum secret_op op, const struct secret_answer *answer,
		    bool private)
{
	secret_buf_add_text(out, "{");
	if (op == SECRET_DERIVE_PASSWORD) {
		add_member(out, "password");
		secret_buf_add(out, answer->bytes.bytes, answer->bytes.len);
		secret_buf_add_text(out, "\"");
	} else {
		add_member(out, "key_type");
		secret_buf_add_text(out, secret_key_type_name(answer->type));
		secret_buf_add_text(out, "\"");
		if (answer->public_key.len > 0) {
			add_hex(out, "public_key", answer->public_key);
			if (answer->type == SECRET_KEY_ED25519)
				add_ssh(out, answer->public_key);
		}
		if (private)
			add_hex(out, "private_key", answer->private_key);
	}
	secret_buf_add(out, "}", 2);
}

static void answer_call(struct alk_call *call, enum secret_op op, const struct secret_buf *answer,
			bool private)
{
	struct secret_buf text = {0};
	struct secret_answer a;
	json_t *output;
	char *dumped;

	if (answer->failed || secret_answer_decode(answer->bytes, answer->len, op, &a) < 0) {
		alk_call_fail(&call, "out of memory");
	} else if (!a.good) {
		alk_call_fail(&call, "%s%s%.*s", secret_fault_name(a.fault),
			      a.text.len > 0 ? ": " : "", (int)a.text.len,
			      (const char *)a.text.bytes);
	} else if (op <= SECRET_DERIVE_PASSWORD) {
		derived(&text, op, &a, private);
		if (text.failed)
			alk_call_fail(&call, "out of memory");
		else
			alk_call_result_private(&call, (const char *)text.bytes);
	} else {
		output = secret_call_output(op, &a);
		dumped = json_dumps(output, JSON_COMPACT);
		alk_call_result(&call, dumped != NULL ? dumped : "null");
		free(dumped);
		json_decref(output);
	}
	secret_buf_wipe(&text);
}

/* Which operation "type" is; SECRET_OPS and the call is answered. */
static enum secret_op derive_op(const json_t *params, struct alk_call **call)
{
	static const char *const types[] = {"ed25519", "encryption", "ethereum", "password"};
	const char *type = json_string_value(json_object_get(params, "type"));
	enum secret_op op = SECRET_DERIVE_ED25519;

	while (type != NULL && op <= SECRET_DERIVE_PASSWORD && strcmp(type, types[op]) != 0)
		op++;
	if (op > SECRET_DERIVE_PASSWORD) {
		alk_call_fail(call, "type: it is ed25519, encryption, ethereum or password");
		return SECRET_OPS;
	}
	if ((op == SECRET_DERIVE_PASSWORD || op == SECRET_DERIVE_ENCRYPTION_KEY) &&
	    !json_is_true(json_object_get(params, "private"))) {
		alk_call_fail(call, "%s: it has no public part; private=true shows it", types[op]);
		return SECRET_OPS;
	}
	return op;
}

static bool reencrypt_request(const json_t *params, struct secret_request *request, json_t **sealed,
			      struct alk_call **call)
{
	struct secret_call_error error;
	struct secret_call parsed;
	json_t *payload;

	*sealed = json_loads(json_string_value(json_object_get(params, "encrypted")),
			     JSON_REJECT_DUPLICATES, NULL);
	payload = json_pack("{s:s, s:O}", "operationId", "/secret/reencrypt", "input", *sealed);
	if (payload == NULL || secret_call_parse(&parsed, payload, 0, &error) < 0) {
		alk_call_fail(call, "encrypted: %s",
			      payload == NULL ? "must be a JSON object" : error.err.text);
		json_decref(payload);
		return false;
	}
	*request = parsed.request;
	json_decref(payload);
	return true;
}

void secret_admin_command(struct secret_keeper *keeper, const char *name, const char *params,
			  struct alk_call *call)
{
	json_t *root = json_loads(params, JSON_REJECT_DUPLICATES, NULL), *sealed = NULL;
	struct secret_request request = {.op = SECRET_STATUS};
	struct secret_buf answer = {0};

	if (strcmp(name, "unlock") == 0) {
		request.op = SECRET_UNLOCK;
		request.phrase = span_of(root, "mnemonic");
	} else if (strcmp(name, "lock") == 0) {
		request.op = SECRET_LOCK;
	} else if (strcmp(name, "derive") == 0) {
		request.op = derive_op(root, &call);
		request.path = span_of(root, "path");
		request.length = (uint64_t)json_integer_value(json_object_get(root, "length"));
	} else if (strcmp(name, "reencrypt") == 0) {
		request.op = SECRET_REENCRYPT;
		if (!reencrypt_request(root, &request, &sealed, &call))
			request.op = SECRET_OPS;
	} else if (strcmp(name, "status") != 0) {
		alk_call_fail(&call, "there is no command secret.%s", name);
		request.op = SECRET_OPS;
	}
	if (request.op != SECRET_OPS) {
		secret_keeper_run(keeper, &request, span_of(root, "passphrase"), IDENTITY, &answer);
		answer_call(call, request.op, &answer,
			    json_is_true(json_object_get(root, "private")));
	}
	secret_buf_wipe(&answer);
	json_decref(sealed);
	json_decref(root);
	secret_stack_wipe();
}
