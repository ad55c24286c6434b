/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Frames of the bus: call.requested in, call.responded or call.error out; any number of calls a
 * channel. */
#include "worker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ID_MAX 1024
#define FRAME_HEAD 4 /* bytes of its length */

/* `len` is a pointer because the frame is made in the same call. */
static void say_frame(struct secret_channel *c, uint8_t *frame, const size_t *len, bool last)
{
	if (frame == NULL)
		alk_channel_close(c->channel);
	else
		secret_channel_say(c, frame, *len, last);
	frame_free(&frame, *len);
}

static void say_error(struct secret_channel *c, const char *id, const char *code,
		      const char *message, bool retryable)
{
	size_t len = 0;

	say_frame(c, frame_make_error("call.error", id, code, message, retryable, &len), &len,
		  false);
}

static void bad_frame(struct secret_channel *c, const char *id, const char *message)
{
	size_t len = 0;

	say_frame(c, frame_make_error("error", id, "INVALID_FRAME", message, false, &len), &len,
		  true);
}

static void ask_call(struct secret_channel *c, const char *id, struct secret_call *call)
{
	struct secret_buf request = {0};

	secret_request_encode(&request, &call->request);
	if (request.len > SECRET_SMALL && !secret_channel_reserve(c, request.len))
		say_error(c, id, "OVERLOADED", "too much is asked at once", true);
	else if (request.failed || request.len > SECRET_MESSAGE_MAX ||
		 secret_channel_ask(c, call->op, request.bytes, request.len, id) < 0)
		say_error(c, id, "UNAVAILABLE", "the supervisor cannot be asked just now", true);
	secret_buf_wipe(&request);
}

static void forbidden(struct secret_channel *c, const char *id, enum secret_op op)
{
	char text[96];

	snprintf(text, sizeof(text), "the scope %s is missing", secret_op_scope(op));
	alk_log(ALK_LOG_WARN, "secret operation", ALK_STR("operation", secret_op_name(op)),
		ALK_STR("identity", alk_channel_identity(c->channel)->id),
		ALK_STR("result", "forbidden"));
	say_error(c, id, "FORBIDDEN", text, false);
}

static void one_call(struct secret_channel *c, const struct frame *frame)
{
	struct secret_call_error error = {0};
	struct secret_call call;
	int rc = secret_call_parse(&call, frame->payload, secret_call_now(), &error);

	/* What is forbidden is not looked at further. */
	if (call.op != SECRET_OPS && !secret_channel_may(c, call.op))
		forbidden(c, frame->id, call.op);
	else if (rc < 0)
		say_error(c, frame->id, error.code, error.err.text, false);
	else
		ask_call(c, frame->id, &call);
	secret_call_clear(&call);
}

/* An id that is asked for again while it waits could not be told apart. */
static bool id_waits(const struct secret_channel *c, const char *id)
{
	for (const struct secret_ask *ask = c->worker->asks; ask != NULL; ask = ask->next)
		if (ask->channel == c && ask->id != NULL && strcmp(ask->id, id) == 0)
			return true;
	return false;
}

/* Its answer is awaited all the same: what is under way counts as long as it is. */
static void abort_call(struct secret_channel *c, const char *id)
{
	for (struct secret_ask *ask = c->worker->asks; ask != NULL; ask = ask->next) {
		if (ask->channel == c && ask->id != NULL && strcmp(ask->id, id) == 0) {
			free(ask->id);
			ask->id = NULL;
		}
	}
}

static void one_frame(struct secret_channel *c, const struct frame *frame)
{
	if (strlen(frame->id) > ID_MAX)
		bad_frame(c, "", "id: is longer than 1024 bytes");
	else if (strcmp(frame->type, "call.aborted") == 0)
		abort_call(c, frame->id);
	else if (strcmp(frame->type, "call.requested") != 0)
		say_error(c, frame->id, "INVALID_INPUT", "only call.requested is answered here",
			  false);
	else if (id_waits(c, frame->id))
		say_error(c, frame->id, "INVALID_INPUT", "a call with this id waits already",
			  false);
	else
		one_call(c, frame);
}

static size_t port0_data(struct secret_channel *c, const uint8_t *bytes, size_t n)
{
	struct alk_err err;
	struct frame frame;
	size_t taken, at = 0;

	while (at < n && !c->last && c->asks < SECRET_CALLS_MAX) {
		int rc = frame_feed(&c->frames, bytes + at, n - at, &taken, &err);

		at += taken;
		if (rc < 0)
			bad_frame(c, "", err.text);
		if (rc <= 0)
			continue;
		if (frame_parse(&c->frames, &frame, &err) < 0)
			bad_frame(c, frame.id, err.text);
		else
			one_frame(c, &frame);
		frame_clear(&frame);
		frame_reader_clear(&c->frames);
	}
	return c->last ? n : at;
}

static void port0_eof(struct secret_channel *c)
{
	if (!frame_reader_idle(&c->frames))
		bad_frame(c, "", "the frame is cut short");
	else if (c->asks == 0)
		secret_channel_say(c, NULL, 0, true);
	c->asked = true; /* the end follows the last answer */
}

static void answer_good(struct secret_channel *c, const struct secret_ask *ask,
			const struct secret_answer *answer)
{
	size_t len = 0;
	uint8_t *frame = frame_make("call.responded", ask->id,
				    json_pack("{s:o}", "output",
					      secret_call_output(ask->op, answer)),
				    &len);

	if (frame != NULL && len > FRAME_HEAD + c->frames.max) {
		frame_free(&frame, len);
		say_error(c, ask->id, "INVALID_INPUT",
			  "the answer is longer than a frame: use port 1", false);
		return;
	}
	say_frame(c, frame, &len, false);
}

static void answer_call(struct secret_channel *c, const struct secret_ask *ask,
			const uint8_t *bytes, size_t n)
{
	struct secret_answer answer;
	char text[640];
	bool retryable;

	if (secret_answer_decode(bytes, n, ask->op, &answer) < 0) {
		say_error(c, ask->id, "INTERNAL", "the answer could not be read", false);
	} else if (answer.good) {
		answer_good(c, ask, &answer);
	} else {
		const char *code = secret_call_code(answer.fault, &retryable);

		snprintf(text, sizeof(text), "%s%s%.*s", secret_fault_name(answer.fault),
			 answer.text.len > 0 ? ": " : "", (int)answer.text.len,
			 (const char *)answer.text.bytes);
		say_error(c, ask->id, code, text, retryable);
	}
}

static void port0_answer(struct secret_channel *c, const struct secret_ask *ask,
			 const uint8_t *bytes, size_t n)
{
	if (ask->id != NULL)
		answer_call(c, ask, bytes, n);
	if (c->asked && c->asks == 0)
		secret_channel_say(c, NULL, 0, true);
}

const struct secret_port secret_port0 = {port0_data, port0_eof, port0_answer};
