/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "proxy_url.h"

#include <alknet/dial.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "addr.h"

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decode %XX. Control characters cannot go into either protocol (RFC 7617 2). */
static int word_decode(const char *text, size_t len, char *out, const char *what,
		       struct alk_err *err)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == '%') {
			int high = i + 2 < len ? hex_digit(text[i + 1]) : -1,
			    low = high >= 0 ? hex_digit(text[i + 2]) : -1;

			if (low < 0)
				return alk_err_set(err, -EINVAL,
						   "the %s has a %% without two hexadecimal digits",
						   what);
			c = (unsigned char)(high << 4 | low);
			i += 2;
		}
		if (c < 0x20 || c == 0x7f)
			return alk_err_set(err, -EINVAL, "the %s has a control character", what);
		if (n == ALK_PROXY_WORD_MAX)
			return alk_err_set(err, -EINVAL, "the %s is longer than %d bytes", what,
					   ALK_PROXY_WORD_MAX);
		out[n++] = (char)c;
	}
	out[n] = '\0';
	return 0;
}

static int login_parse(const char *text, size_t len, struct alk_proxy_url *out, struct alk_err *err)
{
	const char *colon = memchr(text, ':', len);
	size_t user = colon != NULL ? (size_t)(colon - text) : len;
	int rc = word_decode(text, user, out->user, "user name", err);

	out->has_login = true;
	if (rc == 0 && colon != NULL)
		rc = word_decode(colon + 1, len - user - 1, out->password, "password", err);
	if (rc < 0)
		return rc;
	if (out->user[0] == '\0')
		return alk_err_set(err, -EINVAL, "the user name is empty");
	if (out->kind == ALK_PROXY_SOCKS5 && out->password[0] == '\0')
		return alk_err_set(err, -EINVAL, "the password is missing: USER:PASSWORD@");
	if (out->kind == ALK_PROXY_HTTP && strchr(out->user, ':') != NULL)
		return alk_err_set(err, -EINVAL,
				   "the user name has a colon, which http cannot say");
	return 0;
}

static int place_parse(const char *text, size_t len, struct alk_proxy_url *out, struct alk_err *err)
{
	struct alk_sockaddr addr;
	struct alk_err why = {""};
	char place[300];

	if (len >= sizeof(place))
		return alk_err_set(err, -EINVAL, "the proxy's host is too long");
	memcpy(place, text, len);
	place[len] = '\0';
	if (alk_addr_split(place, out->host, sizeof(out->host), &out->port, false, &why) < 0 ||
	    out->host[0] == '\0')
		return alk_err_set(err, -EINVAL,
				   "must end in the proxy's HOST:PORT, the port from 1 to 65535");
	if (alk_addr_parse(&addr, out->host, out->port) < 0 &&
	    alk_addr_check_name(out->host, &why) < 0)
		return alk_err_set(err, -EINVAL,
				   "the proxy's host is neither a name nor an address");
	return 0;
}

static const char *scheme_parse(const char *text, enum alk_proxy_kind *kind)
{
	static const struct {
		const char *text;
		enum alk_proxy_kind kind;
	} schemes[] = {
		{"socks5://", ALK_PROXY_SOCKS5},
		{"socks5h://", ALK_PROXY_SOCKS5},
		{"http://", ALK_PROXY_HTTP},
	};

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		size_t len = strlen(schemes[i].text);

		if (strncasecmp(text, schemes[i].text, len) == 0) {
			*kind = schemes[i].kind;
			return text + len;
		}
	}
	return NULL;
}

int alk_proxy_url_parse(const char *text, struct alk_proxy_url *out, struct alk_err *err)
{
	const char *rest, *at;
	size_t len;
	int rc = 0;

	*out = (struct alk_proxy_url){.kind = ALK_PROXY_NONE};
	if (strcmp(text, "none") == 0)
		return 0;
	rest = scheme_parse(text, &out->kind);
	if (rest == NULL)
		return alk_err_set(
			err, -EINVAL,
			"must be socks5://[USER:PASSWORD@]HOST:PORT, http://[USER:PASSWORD@]HOST:PORT or none");
	len = strlen(rest);
	if (len > 0 && rest[len - 1] == '/')
		len--;
	/* A password may hold an @ that was not written as %40. */
	at = memrchr(rest, '@', len);
	if (at != NULL) {
		rc = login_parse(rest, (size_t)(at - rest), out, err);
		len -= (size_t)(at - rest) + 1;
		rest = at + 1;
	}
	return rc < 0 ? rc : place_parse(rest, len, out, err);
}

/* Where a password would stand: between a colon behind the scheme and the last @. */
static const char *password_find(const char *text, size_t *len)
{
	const char *rest = strstr(text, "://"), *at, *colon;

	rest = rest != NULL ? rest + 3 : text;
	at = strrchr(rest, '@');
	colon = at != NULL ? memchr(rest, ':', (size_t)(at - rest)) : NULL;
	if (colon == NULL)
		return NULL;
	*len = (size_t)(at - colon) - 1;
	return colon + 1;
}

bool alk_proxy_url_has_password(const char *text)
{
	size_t len;

	return password_find(text, &len) != NULL;
}

void alk_proxy_url_show(const char *text, char *out, size_t size)
{
	size_t len;
	const char *password = password_find(text, &len);

	if (password == NULL)
		snprintf(out, size, "%s", text);
	else
		snprintf(out, size, "%.*s***%s", (int)(password - text), text, password + len);
}
