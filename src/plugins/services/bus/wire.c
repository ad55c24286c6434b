/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "wire.h"

#include <stdlib.h>
#include <string.h>

static void wire_put(struct wire_out *out, const void *bytes, size_t n)
{
	size_t size = out->size > 0 ? out->size : 256;
	uint8_t *grown;

	while (size - out->n < n)
		size *= 2;
	if (!out->bad && size != out->size) {
		grown = realloc(out->bytes, size);
		if (grown == NULL) {
			out->bad = true;
			return;
		}
		out->bytes = grown;
		out->size = size;
	}
	if (out->bad || n == 0)
		return;
	memcpy(out->bytes + out->n, bytes, n);
	out->n += n;
}

void wire_begin(struct wire_out *out, enum wire_op op)
{
	uint8_t byte = (uint8_t)op;

	*out = (struct wire_out){.bytes = NULL};
	wire_put(out, &byte, 1);
}

void wire_number(struct wire_out *out, uint64_t n)
{
	wire_put(out, &n, sizeof(n));
}

void wire_bytes(struct wire_out *out, const void *bytes, size_t n)
{
	wire_number(out, n);
	wire_put(out, bytes, n);
}

void wire_text(struct wire_out *out, const char *text)
{
	wire_bytes(out, text, strlen(text) + 1);
}

void wire_append(struct wire_out *out, const struct wire_out *part)
{
	wire_put(out, part->bytes, part->n);
	out->bad |= part->bad;
}

void wire_free(struct wire_out *out)
{
	free(out->bytes);
	*out = (struct wire_out){.bytes = NULL};
}

static const uint8_t *wire_take(struct wire_in *in, uint64_t n)
{
	const uint8_t *at = in->at;

	if (in->bad || n > (uint64_t)(in->end - in->at)) {
		in->bad = true;
		return NULL;
	}
	in->at += n;
	return at;
}

enum wire_op wire_open(struct wire_in *in, const uint8_t *bytes, size_t n)
{
	const uint8_t *op;

	*in = (struct wire_in){bytes, bytes + n, false};
	op = wire_take(in, 1);
	return op != NULL ? (enum wire_op) * op : WIRE_NONE;
}

uint64_t wire_get_number(struct wire_in *in)
{
	const uint8_t *at = wire_take(in, sizeof(uint64_t));
	uint64_t n = 0;

	if (at != NULL)
		memcpy(&n, at, sizeof(n));
	return n;
}

const uint8_t *wire_get_bytes(struct wire_in *in, size_t *n)
{
	uint64_t len = wire_get_number(in);
	const uint8_t *at = wire_take(in, len);

	*n = at != NULL ? (size_t)len : 0;
	return at;
}

const char *wire_get_text(struct wire_in *in)
{
	size_t n;
	const uint8_t *at = wire_get_bytes(in, &n);

	if (at == NULL || n == 0 || memchr(at, '\0', n) != at + n - 1) {
		in->bad = true;
		return "";
	}
	return (const char *)at;
}

bool wire_done(const struct wire_in *in)
{
	return !in->bad && in->at == in->end;
}

bool wire_wait(struct wire_queue *queue, const uint8_t *bytes, size_t n)
{
	struct wire_waiting *waiting = malloc(sizeof(*waiting) + n);

	if (waiting == NULL)
		return false;
	waiting->n = n;
	memcpy(waiting->bytes, bytes, n);
	STAILQ_INSERT_TAIL(queue, waiting, entry);
	return true;
}

void wire_heard(struct wire_queue *queue)
{
	struct wire_waiting *waiting = STAILQ_FIRST(queue);

	STAILQ_REMOVE_HEAD(queue, entry);
	explicit_bzero(waiting->bytes, waiting->n); /* it may be somebody's secret */
	free(waiting);
}

void wire_queue_clear(struct wire_queue *queue)
{
	while (!STAILQ_EMPTY(queue))
		wire_heard(queue);
}
