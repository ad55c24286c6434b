/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "acme_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *acme_text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text != NULL ? text : "";
}

/* Bytes of the well-formed sequence at `text`, 0: there is none. jansson is the judge. */
static size_t sequence_len(const char *text)
{
	for (size_t n = 1; n <= 4 && text[n - 1] != '\0'; n++) {
		json_t *taken = json_stringn(text, n);

		json_decref(taken);
		if (taken != NULL)
			return n;
	}
	return 0;
}

json_t *acme_text_json(const char *text)
{
	json_t *whole = json_string(text);
	char clean[512];
	size_t n = 0, good = 0;

	if (whole != NULL)
		return whole;
	while (*text != '\0' && n + 4 < sizeof(clean)) {
		size_t len = sequence_len(text);

		if (len > 0)
			memcpy(clean + n, text, len);
		else
			clean[n] = '?';
		n += len > 0 ? len : 1;
		text += len > 0 ? len : 1;
		good = len > 0 ? n : good;
	}
	return json_stringn(clean, good);
}

static bool is_port(const char *text)
{
	size_t n = strspn(text, "0123456789");
	long port = strtol(text, NULL, 10);

	return n > 0 && text[n] == '\0' && port > 0 && port <= 65535;
}

int acme_address_find(const char *address, struct addrinfo **found, struct alk_err *err)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
				 .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV};
	const char *colon = strrchr(address, ':');
	char host[64];
	size_t len = colon != NULL ? (size_t)(colon - address) : sizeof(host);
	const char *from = address;
	int rc;

	if (len >= 2 && address[0] == '[' && address[len - 1] == ']') {
		from++;
		len -= 2;
	}
	if (len >= sizeof(host) || !is_port(colon + 1))
		return alk_err_set(err, -EINVAL,
				   "acme_http: %s is not ADDRESS:PORT, [ADDRESS]:PORT or :PORT",
				   address);
	snprintf(host, sizeof(host), "%.*s", (int)len, from);
	rc = getaddrinfo(len == 0 ? "::" : host, colon + 1, &hints, found);
	if (rc != 0)
		return alk_err_set(err, -EINVAL, "acme_http: %s: %s", address, gai_strerror(rc));
	return 0;
}
