/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* One request a channel: LEB128 length, postcard; answered in the same way, and the end. */
#include "worker.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SLOWEST 32 /* bytes in a ms: a long request may take so long */

static void answer_bytes(struct secret_channel *c, const uint8_t *bytes, size_t n)
{
	struct secret_buf out = {0};

	secret_put_bytes(&out, bytes, n);
	if (out.failed)
		alk_channel_close(c->channel);
	else
		secret_channel_say(c, out.bytes, out.len, true);
	secret_buf_wipe(&out);
}

static void answer_fault(struct secret_channel *c, enum secret_fault_kind kind, const char *text)
{
	struct secret_buf out = {0};

	secret_fault_encode(&out, kind, text);
	if (out.failed)
		alk_channel_close(c->channel);
	else
		answer_bytes(c, out.bytes, out.len);
	secret_buf_wipe(&out);
}

static void ask_whole(struct secret_channel *c, const uint8_t *bytes, size_t n)
{
	struct secret_request request;
	char text[96];
	int rc = secret_request_decode(bytes, n, SECRET_OPS_PORT1, &request);

	if (rc < 0 && request.op == SECRET_OPS) {
		answer_fault(c, SECRET_DERIVATION, "there is no such operation");
	} else if (!secret_channel_may(c, request.op)) {
		snprintf(text, sizeof(text), "forbidden: the scope %s is missing",
			 secret_op_scope(request.op));
		alk_log(ALK_LOG_WARN, "secret operation",
			ALK_STR("operation", secret_op_name(request.op)),
			ALK_STR("identity", alk_channel_identity(c->channel)->id),
			ALK_STR("result", "forbidden"));
		answer_fault(c, secret_fault_of(request.op), text);
	} else if (rc < 0) {
		answer_fault(c, secret_fault_of(request.op),
			     "the request is cut short, or longer than it should be");
	} else if (secret_channel_ask(c, request.op, bytes, n, NULL) < 0) {
		answer_fault(c, secret_fault_of(request.op),
			     "the supervisor cannot be asked just now");
	}
	secret_buf_wipe(&c->in);
}

static size_t port1_data(struct secret_channel *c, const uint8_t *bytes, size_t n)
{
	size_t taken = 0;
	uint64_t length;
	int head;

	if (c->asked)
		return n; /* behind the one request */
	/* The length, byte by byte: then what is taken never goes past the request. */
	for (;;) {
		head = secret_number_peek(c->in.bytes, c->in.len, SECRET_MESSAGE_MAX, &length);
		if (head != 0 || taken == n)
			break;
		secret_buf_add(&c->in, bytes + taken++, 1);
	}
	if (head == 0)
		return n;
	if (head < 0) {
		answer_fault(c, SECRET_DERIVATION, "length: a request has at most 16 MiB");
		return n;
	}
	if (length > SECRET_SMALL && c->reserved == 0) {
		if (!secret_channel_reserve(c, length))
			return taken;
		alk_timer_start(c->timer, SECRET_TIMEOUT_MS + length / SLOWEST);
	}
	length = length + (unsigned)head - c->in.len; /* that is missing */
	if (length > n - taken)
		length = n - taken;
	secret_buf_add(&c->in, bytes + taken, length);
	if (c->in.failed) {
		alk_channel_close(c->channel);
		return n;
	}
	taken += length;
	secret_number_peek(c->in.bytes, c->in.len, SECRET_MESSAGE_MAX, &length);
	if (c->in.len == length + (unsigned)head) {
		c->asked = true;
		ask_whole(c, c->in.bytes + head, length);
	}
	return taken;
}

static void port1_eof(struct secret_channel *c)
{
	if (!c->asked)
		answer_fault(c, SECRET_DERIVATION, "the request is cut short");
}

static void port1_answer(struct secret_channel *c, const struct secret_ask *ask,
			 const uint8_t *bytes, size_t n)
{
	(void)ask;
	answer_bytes(c, bytes, n);
}

const struct secret_port secret_port1 = {port1_data, port1_eof, port1_answer};
