/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "keys.h"
#include "base64.h"
#include "text.h"
#include "wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CERT_SUFFIX "-cert-v01@openssh.com"

/* What follows the type in the blob: so many strings, the first of `size` bytes (0: any). */
struct key_type {
	const char *name;
	unsigned fields;
	size_t size;
};

static const struct key_type key_types[] = {
	{"ssh-ed25519", 1, 32},
	{"ssh-rsa", 2, 0},
	{"ecdsa-sha2-nistp256", 2, 8},
	{"ecdsa-sha2-nistp384", 2, 8},
	{"ecdsa-sha2-nistp521", 2, 8},
	{"ssh-dss", 4, 0},
	{"sk-ssh-ed25519@openssh.com", 2, 32},
	{"sk-ecdsa-sha2-nistp256@openssh.com", 3, 8},
};

struct span {
	const char *p;
	size_t len;
};

/* A line that was read, before it is kept. */
struct line {
	const struct key_type *type;
	uint8_t blob[ALK_KEY_BLOB_MAX];
	size_t blob_len;
	struct span comment;
	struct alk_key_options options;
};

struct reader {
	const char *name;
	const char *types;
	bool authorities; /* a list of keys that sign, without options */
	alk_keys_bad *bad;
	void *user;
	struct alk_keys *keys;
	size_t room;
	unsigned line;
	char why[200];
};

bool alk_equal_ct(const void *a, const void *b, size_t n)
{
	const volatile uint8_t *x = a;
	const volatile uint8_t *y = b;
	uint8_t differ = 0;

	for (size_t i = 0; i < n; i++)
		differ |= x[i] ^ y[i];
	return differ == 0;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool span_equal(struct span a, const char *text)
{
	return strlen(text) == a.len && memcmp(a.p, text, a.len) == 0;
}

static void span_trim(struct span *s)
{
	while (s->len > 0 && is_blank(s->p[0])) {
		s->p++;
		s->len--;
	}
	while (s->len > 0 && is_blank(s->p[s->len - 1]))
		s->len--;
}

/* Take the first word. Blanks inside double quotes do not end it when `quotes`. */
static struct span span_word(struct span *s, bool quotes)
{
	struct span word = {s->p, 0};
	bool inside = false;

	while (word.len < s->len && (inside || !is_blank(word.p[word.len]))) {
		char c = word.p[word.len++];

		if (quotes && c == '\\' && word.len < s->len && word.p[word.len] == '"')
			word.len++;
		else if (quotes && c == '"')
			inside = !inside;
	}
	s->p += word.len;
	s->len -= word.len;
	span_trim(s);
	return word;
}

static const struct key_type *type_find(struct span word)
{
	for (size_t i = 0; i < sizeof(key_types) / sizeof(*key_types); i++)
		if (span_equal(word, key_types[i].name))
			return &key_types[i];
	return NULL;
}

static bool type_is_cert(struct span word)
{
	size_t n = strlen(CERT_SUFFIX);

	return word.len > n && memcmp(word.p + word.len - n, CERT_SUFFIX, n) == 0;
}

/* Bits of an mpint (RFC 4251 5). */
static size_t mpint_bits(const uint8_t *p, size_t len)
{
	size_t bits;

	for (; len > 0 && *p == 0; len--)
		p++;
	if (len == 0)
		return 0;
	for (bits = 8 * (len - 1); bits < 8 * len && *p >> (bits - 8 * (len - 1)); bits++)
		;
	return bits;
}

static const char *blob_check(const struct key_type *type, const uint8_t *blob, size_t len)
{
	struct alk_wire wire = {blob, len};
	const uint8_t *data;
	size_t n;

	if (!alk_wire_string(&wire, &data, &n))
		return "the key is cut short: copy the line again from the .pub file";
	if (!span_equal((struct span){(const char *)data, n}, type->name))
		return "the key inside is not of the type that the line names: copy the line again from the "
		       ".pub file";
	for (unsigned i = 0; i < type->fields; i++)
		if (!alk_wire_string(&wire, &data, &n) || (i == 0 && type->size && n != type->size))
			return "the key has a wrong length: copy the line again from the .pub file";
	if (wire.left != 0)
		return "there are bytes behind the key: copy the line again from the .pub file";
	if (type->fields == 2 && type->size == 0 && mpint_bits(data, n) < ALK_KEY_RSA_BITS_MIN)
		return "the RSA key is shorter than 3072 bits: make one with `ssh-keygen -t rsa -b "
		       "3072`, or better with `ssh-keygen -t ed25519`";
	return NULL;
}

const char *alk_key_blob_check(const uint8_t *blob, size_t len, const char *types)
{
	struct alk_wire wire = {blob, len};
	const struct key_type *type = NULL;
	const uint8_t *name;
	size_t n;

	if (alk_wire_string(&wire, &name, &n))
		type = type_find((struct span){(const char *)name, n});
	if (!type || !alk_text_list_has(types, type->name))
		return "keys of this type are not accepted (key_types)";
	return blob_check(type, blob, len);
}

/* Why a line that does not begin with a key type or options before one is refused. */
static const char *other_check(struct span word)
{
	static const char begin[] = "-----BEGIN";

	if (word.len >= sizeof(begin) - 1 && memcmp(word.p, begin, sizeof(begin) - 1) == 0)
		return "this is a PEM file, not a list of public keys: put in the line of the .pub file";
	if (type_is_cert(word))
		return "a certificate does not belong here: put in the line of the key's .pub file";
	return "not a public key: a line is such as \"ssh-ed25519 AAAA... comment\"";
}

static const char *type_refuse(struct reader *r, const struct key_type *type, const char *types)
{
	snprintf(r->why, sizeof(r->why),
		 "%s keys are not accepted, only %s: make a key with `ssh-keygen -t ed25519`, or "
		 "list the type in key_types",
		 type->name, types);
	return r->why;
}

/* Take the options before the key's type, if there are any. NULL, or why the line is refused; ""
 * when out of memory. */
static const char *line_read_options(struct reader *r, struct line *l, struct span *rest)
{
	struct span all = *rest, word = span_word(rest, false), options;
	int rc;

	if (type_find(word)) {
		*rest = all;
		return NULL;
	}
	*rest = all;
	options = span_word(rest, true);
	all = *rest;
	word = span_word(&all, false);
	if (type_is_cert(options) || (!type_find(word) && !type_is_cert(word)))
		return other_check(options);
	if (r->authorities)
		return "a list of authorities has no options: such a line belongs into "
		       "authorized_keys, with cert-authority before it";
	rc = alk_key_options_parse(&l->options, options.p, options.len, r->why, sizeof(r->why));
	if (rc < 0)
		return rc == -ENOMEM ? "" : r->why;
	return type_is_cert(word) ? other_check(word) : NULL;
}

/* NULL when the line holds a good key, else why not; "" when out of memory. */
static const char *line_read(struct reader *r, struct span rest, struct line *l)
{
	const char *why = line_read_options(r, l, &rest), *types = r->types;
	struct span word;
	ssize_t n;

	if (why)
		return why;
	l->type = type_find(span_word(&rest, false));
	if (l->options.cert_authority || r->authorities)
		types = ALK_KEY_TYPES_AUTHORITY;
	if (!alk_text_list_has(types, l->type->name))
		return type_refuse(r, l->type, types);
	word = span_word(&rest, false);
	if (word.len == 0)
		return "there is no key behind the type: copy the line again from the .pub file";
	n = alk_base64_decode(word.p, word.len, l->blob, sizeof(l->blob));
	if (n == -ENOSPC)
		return "the key is longer than 8192 bytes";
	if (n < 0)
		return "the key is not valid base64: copy the line again from the .pub file";
	l->blob_len = (size_t)n;
	l->comment = rest;
	return blob_check(l->type, l->blob, l->blob_len);
}

/* Takes the line's options. */
static int reader_add(struct reader *r, struct line *l)
{
	struct alk_keys *keys = r->keys;
	struct alk_key_entry *entry;

	if (keys->count == r->room) {
		size_t room = r->room ? 2 * r->room : 8;

		entry = reallocarray(keys->entry, room, sizeof(*entry));
		if (!entry)
			return -ENOMEM;
		keys->entry = entry;
		r->room = room;
	}
	entry = &keys->entry[keys->count];
	*entry = (struct alk_key_entry){.line = r->line,
					.blob_len = l->blob_len,
					.options = l->options};
	l->options = (struct alk_key_options){0};
	keys->count++;
	entry->type = strdup(l->type->name);
	entry->blob = malloc(l->blob_len);
	entry->comment = strndup(l->comment.p, l->comment.len);
	if (!entry->type || !entry->blob || !entry->comment)
		return -ENOMEM;
	memcpy(entry->blob, l->blob, l->blob_len);
	return 0;
}

static int reader_line(struct reader *r, struct span text)
{
	struct line l;
	const char *why;
	int rc = 0;

	l.options = (struct alk_key_options){0};
	if (text.len > 0 && text.p[text.len - 1] == '\r')
		text.len--;
	if (text.len > ALK_KEY_LINE_MAX) {
		why = "the line is longer than 65536 bytes";
	} else if (memchr(text.p, '\0', text.len)) {
		why = "the line has a NUL byte: save the file as plain text";
	} else {
		span_trim(&text);
		if (text.len == 0 || text.p[0] == '#')
			return 0;
		why = line_read(r, text, &l);
	}
	if (!why)
		rc = reader_add(r, &l);
	else if (!*why)
		rc = -ENOMEM;
	else if (r->bad)
		r->bad(r->user, r->name, r->line, why);
	alk_key_options_deinit(&l.options);
	return rc;
}

static struct alk_keys *reader_run(struct reader *r, const char *text, size_t len)
{
	const char *p = text, *end = text + len;

	r->keys = calloc(1, sizeof(*r->keys));
	if (!r->keys)
		return NULL;
	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		struct span line = {p, (size_t)((nl ? nl : end) - p)};

		r->line++;
		if (reader_line(r, line) < 0) {
			alk_keys_free(&r->keys);
			return NULL;
		}
		p = nl ? nl + 1 : end;
	}
	return r->keys;
}

struct alk_keys *alk_keys_parse(const char *name, const char *text, size_t len, const char *types,
				alk_keys_bad *bad, void *user)
{
	struct reader r = {.name = name, .types = types, .bad = bad, .user = user};

	return reader_run(&r, text, len);
}

struct alk_keys *alk_keys_parse_authorities(const char *name, const char *text, size_t len,
					    alk_keys_bad *bad, void *user)
{
	struct reader r = {.name = name, .authorities = true, .bad = bad, .user = user};

	return reader_run(&r, text, len);
}

void alk_keys_free(struct alk_keys **keys_)
{
	struct alk_keys *keys = *keys_;

	if (!keys)
		return;
	for (size_t i = 0; i < keys->count; i++) {
		free(keys->entry[i].type);
		free(keys->entry[i].blob);
		free(keys->entry[i].comment);
		alk_key_options_deinit(&keys->entry[i].options);
	}
	free(keys->entry);
	free(keys);
	*keys_ = NULL;
}

const struct alk_key_entry *alk_keys_find(const struct alk_keys *keys, const uint8_t *blob,
					  size_t len)
{
	size_t found = keys->count;

	for (size_t i = keys->count; i-- > 0;) {
		const struct alk_key_entry *entry = &keys->entry[i];
		/* Lengths are public; contents are compared to the end, whatever was found
		 * before. */
		size_t same = entry->blob_len == len && alk_equal_ct(entry->blob, blob, len);

		found ^= (found ^ i) & (0 - same);
	}
	return found < keys->count ? &keys->entry[found] : NULL;
}
