/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Revoked keys as a list: a public key a line, as it stands in a .pub file. */
#include <errno.h>
#include <string.h>
#include "krl_private.h"
#include "base64.h"

struct text {
	const char *p;
	size_t len;
};

static struct text text_trim(struct text text)
{
	while (text.len > 0 && strchr(" \t\r", text.p[text.len - 1]))
		text.len--;
	while (text.len > 0 && strchr(" \t\r", text.p[0])) {
		text.p++;
		text.len--;
	}
	return text;
}

static struct text text_word(struct text *text)
{
	struct text word = {text->p, 0};

	while (word.len < text->len && word.p[word.len] != ' ' && word.p[word.len] != '\t')
		word.len++;
	*text = text_trim((struct text){text->p + word.len, text->len - word.len});
	return word;
}

/* The blob of a certificate becomes the blob of its key. `why` is set when it is none. */
static size_t cert_to_key(uint8_t *blob, size_t len, const char **why)
{
	struct alk_cert *cert = alk_cert_parse(blob, len, NULL);
	size_t n = 0;

	if (cert) {
		n = cert->key_len;
		memcpy(blob, cert->key, n);
	} else {
		*why = "the certificate cannot be read";
	}
	alk_cert_free(&cert);
	return n;
}

/* Decode the key into `blob`, where there is room for what the line says. NULL, or why not. */
static const char *line_read(struct text line, uint8_t *blob, size_t *len)
{
	struct text type = text_word(&line), base64 = text_word(&line);
	struct alk_wire wire = {blob, 0};
	const char *why = NULL;
	const uint8_t *name;
	ssize_t n;
	size_t name_len;

	n = alk_base64_decode(base64.p, base64.len, blob, base64.len);
	if (n <= 0)
		return "not a public key: a line is such as \"ssh-ed25519 AAAA... comment\"";
	wire.left = *len = (size_t)n;
	if (!alk_wire_string(&wire, &name, &name_len) || name_len != type.len ||
	    memcmp(name, type.p, type.len) != 0)
		return "the key inside is not of the type that the line names";
	if (alk_key_kind_find_cert(name, name_len))
		*len = cert_to_key(blob, *len, &why);
	return why ? why : krl_key_shape(blob, *len);
}

int krl_read_list(struct alk_krl *krl, const char *name, const char *text, size_t len,
		  struct alk_err *err)
{
	const char *end = text + len, *nl;
	uint8_t *blob = krl->bytes;
	unsigned number = 0;

	for (const char *p = text; p < end; p = nl + 1) {
		struct text line;
		const char *why;
		size_t n = 0;

		nl = memchr(p, '\n', (size_t)(end - p));
		if (!nl)
			nl = end;
		number++;
		if (memchr(p, '\0', (size_t)(nl - p)))
			return alk_err_set(err, -EINVAL, "%s:%u: there is a NUL byte in the line",
					   name, number);
		line = text_trim((struct text){p, (size_t)(nl - p)});
		if (line.len == 0 || line.p[0] == '#')
			continue;
		why = line_read(line, blob, &n);
		if (why)
			return alk_err_set(err, -EINVAL, "%s:%u: %s", name, number, why);
		if (krl_items_add(&krl->keys, (struct alk_key_bytes){blob, n}) < 0)
			return -ENOMEM;
		blob += n;
	}
	return 0;
}
