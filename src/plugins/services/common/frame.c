/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "frame.h"

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD 4

void frame_reader_init(struct frame_reader *reader, size_t max)
{
	*reader = (struct frame_reader){.max = max};
}

void frame_reader_clear(struct frame_reader *reader)
{
	frame_free(&reader->body, reader->size);
	*reader = (struct frame_reader){.max = reader->max};
}

bool frame_reader_idle(const struct frame_reader *reader)
{
	return reader->have == 0;
}

static size_t body_length(const struct frame_reader *reader)
{
	return (size_t)reader->head[0] << 24 | (size_t)reader->head[1] << 16 |
	       (size_t)reader->head[2] << 8 | reader->head[3];
}

static bool body_room(struct frame_reader *reader, size_t used, size_t need)
{
	size_t size = reader->size > 0 ? reader->size : 512;
	uint8_t *body;

	if (need <= reader->size)
		return true;
	while (size < need)
		size *= 2;
	body = malloc(size);
	if (body == NULL)
		return false;
	if (used > 0)
		memcpy(body, reader->body, used);
	frame_free(&reader->body, reader->size);
	reader->body = body;
	reader->size = size;
	return true;
}

static size_t take_head(struct frame_reader *reader, const uint8_t *bytes, size_t n)
{
	size_t take = 0;

	while (reader->have < HEAD && take < n)
		reader->head[reader->have++] = bytes[take++];
	return take;
}

int frame_feed(struct frame_reader *reader, const uint8_t *bytes, size_t n, size_t *taken,
	       struct alk_err *err)
{
	size_t length, used, more;

	if (reader->have >= HEAD && reader->have == HEAD + body_length(reader))
		frame_reader_clear(reader);
	*taken = take_head(reader, bytes, n);
	if (reader->have < HEAD)
		return 0;
	length = body_length(reader);
	if (length == 0 || length > reader->max)
		return alk_err_set(err, -EMSGSIZE, "a frame has 1 to %zu bytes, not %zu",
				   reader->max, length);
	used = reader->have - HEAD;
	more = length - used < n - *taken ? length - used : n - *taken;
	if (!body_room(reader, used, used + more))
		return alk_err_set(err, -ENOMEM, "out of memory");
	if (more > 0)
		memcpy(reader->body + used, bytes + *taken, more);
	reader->have += more;
	*taken += more;
	return used + more == length;
}

/* How deep and how many, before anything is made of it: strings aside, each value but the last of
 * its list has a comma behind it. */
int frame_text_check(const uint8_t *text, size_t n, struct alk_err *err)
{
	unsigned depth = 0, values = 1;
	bool quoted = false;

	for (size_t i = 0; i < n; i++) {
		if (quoted) {
			if (text[i] == '\\')
				i++;
			else if (text[i] == '"')
				quoted = false;
			continue;
		}
		if (text[i] == '"')
			quoted = true;
		else if (text[i] == '[' || text[i] == '{')
			depth++, values++;
		else if ((text[i] == ']' || text[i] == '}') && depth > 0)
			depth--;
		else if (text[i] == ',')
			values++;
		if (depth > FRAME_DEPTH)
			return alk_err_set(err, -EINVAL, "the JSON is nested deeper than %d",
					   FRAME_DEPTH);
		if (values > FRAME_VALUES)
			return alk_err_set(err, -EINVAL, "the JSON has more than %d values",
					   FRAME_VALUES);
	}
	return 0;
}

static int check_envelope(struct frame *frame, struct alk_err *err)
{
	const char *name;
	json_t *value;

	if (!json_is_object(frame->root))
		return alk_err_set(err, -EINVAL, "an envelope must be an object");
	value = json_object_get(frame->root, "id");
	if (json_is_string(value))
		frame->id = json_string_value(value);
	else
		return alk_err_set(err, -EINVAL, "id: must be text");
	frame->type = json_string_value(json_object_get(frame->root, "type"));
	frame->payload = json_object_get(frame->root, "payload");
	if (frame->type == NULL || *frame->type == '\0')
		return alk_err_set(err, -EINVAL, "type: must be text that is not empty");
	if (frame->payload == NULL)
		return alk_err_set(err, -EINVAL, "payload: is missing");
	json_object_foreach(frame->root, name, value)
	{
		if (strcmp(name, "type") != 0 && strcmp(name, "id") != 0 &&
		    strcmp(name, "payload") != 0)
			return alk_err_set(err, -EINVAL,
					   "an envelope has type, id and payload, nothing else");
	}
	return 0;
}

int frame_parse(const struct frame_reader *reader, struct frame *frame, struct alk_err *err)
{
	size_t n = reader->have - HEAD;
	json_error_t error;

	*frame = (struct frame){.type = "", .id = ""};
	if (frame_text_check(reader->body, n, err) < 0)
		return -EINVAL;
	frame->root = json_loadb((const char *)reader->body, n,
				 JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
	if (frame->root == NULL)
		return alk_err_set(err, -EINVAL, "this is not JSON (byte %d)", error.position);
	return check_envelope(frame, err);
}

void frame_clear(struct frame *frame)
{
	json_decref(frame->root);
	*frame = (struct frame){.type = "", .id = ""};
}

/* A real of 17 digits has often a shorter text that is the same number. */
static size_t real_shorten(char *text, size_t n)
{
	char whole[40], shorter[40];

	if (n < 17 || n >= sizeof(whole))
		return n;
	memcpy(whole, text, n);
	whole[n] = '\0';
	if (strpbrk(whole, ".e") == NULL)
		return n;
	for (int digits = 15; digits <= 16; digits++) {
		size_t made = (size_t)snprintf(shorter, sizeof(shorter) - 2, "%.*g", digits,
					       strtod(whole, NULL));

		if (strtod(shorter, NULL) != strtod(whole, NULL))
			continue;
		if (strpbrk(shorter, ".e") == NULL) {
			memcpy(shorter + made, ".0", 3);
			made += 2;
		}
		if (made >= n)
			break;
		memcpy(text, shorter, made);
		return made;
	}
	return n;
}

size_t frame_text_shorten(char *text, size_t n)
{
	size_t to = 0;
	bool quoted = false;

	if (strcmp(localeconv()->decimal_point, ".") != 0)
		return n; /* of a program that has us as a library */
	for (size_t from = 0; from < n;) {
		size_t len = 1;

		if (quoted && text[from] == '\\' && from + 1 < n)
			len = 2;
		else if (text[from] == '"')
			quoted = !quoted;
		else if (!quoted && (text[from] == '-' || (text[from] >= '0' && text[from] <= '9')))
			while (from + len < n && text[from + len] != '\0' &&
			       strchr("0123456789+-.eE", text[from + len]) != NULL)
				len++;
		if (to < from)
			memmove(text + to, text + from, len);
		from += len;
		to += !quoted && len > 1 ? real_shorten(text + to, len) : len;
	}
	return to;
}

uint8_t *frame_make(const char *type, const char *id, json_t *payload, size_t *len)
{
	json_t *root = json_pack("{s:s, s:s, s:o}", "type", type, "id", id, "payload", payload);
	size_t n = root != NULL ? json_dumpb(root, NULL, 0, JSON_COMPACT) : 0;
	uint8_t *bytes = n > 0 && n <= UINT32_MAX ? malloc(HEAD + n) : NULL;

	if (bytes != NULL) {
		size_t longest = n;

		json_dumpb(root, (char *)bytes + HEAD, n, JSON_COMPACT);
		n = frame_text_shorten((char *)bytes + HEAD, n);
		explicit_bzero(bytes + HEAD + n, longest - n);
		for (unsigned i = 0; i < HEAD; i++)
			bytes[i] = (uint8_t)(n >> (24 - 8 * i));
		*len = HEAD + n;
	}
	json_decref(root);
	return bytes;
}

uint8_t *frame_make_error(const char *type, const char *id, const char *code, const char *message,
			  bool retryable, size_t *len)
{
	return frame_make(type, id,
			  json_pack("{s:s, s:s, s:b}", "code", code, "message", message,
				    "retryable", retryable),
			  len);
}

void frame_free(uint8_t **bytes, size_t len)
{
	if (*bytes != NULL)
		explicit_bzero(*bytes, len);
	free(*bytes);
	*bytes = NULL;
}
