/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef SERVICES_FRAME_H
#define SERVICES_FRAME_H

/* Frames of envelopes, as the services speak them on a channel: 4 bytes of length (big endian),
 * then that many bytes of UTF-8 JSON, {"type": text, "id": text, "payload": anything}.
 * docs/PROTOCOL.md. No I/O; compiled into each plugin that needs it. Fuzzed
 * (tests/fuzz/fuzz_frame.c).
 *
 * Buffers are wiped when they move and when they go. The JSON is the program's jansson. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <jansson.h>
#include <alknet/err.h>

#define FRAME_MAX_DEFAULT ((size_t)1 << 20)
#define FRAME_DEPTH 32
#define FRAME_VALUES 65536 /* a million values in a frame would hold the loop for 100 ms */

struct frame_reader {
	size_t max; /* bytes of a frame */
	uint8_t head[4];
	size_t have; /* of head and body */
	uint8_t *body;
	size_t size;
};

struct frame {
	const char *type, *id; /* borrowed from `root` */
	json_t *payload;       /* borrowed */
	json_t *root;
};

void frame_reader_init(struct frame_reader *reader, size_t max);
void frame_reader_clear(struct frame_reader *reader);
/* Take bytes up to the end of a frame at most; *taken says how many. 1: a frame is whole:
 * frame_parse() is due and the next call begins another. 0: more must come. -EMSGSIZE: the length
 * is 0 or above the limit; -ENOMEM. Both with `err`. Memory grows with what came, not with what was
 * announced. */
int frame_feed(struct frame_reader *reader, const uint8_t *bytes, size_t n, size_t *taken,
	       struct alk_err *err);
/* No frame is begun. */
bool frame_reader_idle(const struct frame_reader *reader);

/* What frame_feed() has whole. 0 and `frame`, to be cleared; -EINVAL with `err`; then `frame->id`
 * is the envelope's id where it could be read, else "" (clear it all the same). */
int frame_parse(const struct frame_reader *reader, struct frame *frame, struct alk_err *err);
void frame_clear(struct frame *frame);

/* Is this as deep and has it as many values as JSON in a frame may? Of any text. -EINVAL with
 * `err`. */
int frame_text_check(const uint8_t *text, size_t n, struct alk_err *err);
/* In JSON text that jansson wrote, make each real as short as it can be: 0.1, not
 * 0.10000000000000001. Gives the new length; nothing is ended with NUL. */
size_t frame_text_shorten(char *text, size_t n);

/* A frame with its length, malloc'd: wipe it with frame_free(). Takes `payload`. NULL: out of
 * memory, or longer than 4 GiB. */
uint8_t *frame_make(const char *type, const char *id, json_t *payload, size_t *len);
/* The same as `code` and `message` of an error. */
uint8_t *frame_make_error(const char *type, const char *id, const char *code, const char *message,
			  bool retryable, size_t *len);
void frame_free(uint8_t **bytes, size_t len);

#endif
