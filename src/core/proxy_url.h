/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_PROXY_URL_H
#define ALK_PROXY_URL_H

/* The URL of an outbound proxy, socks5://[USER:PASSWORD@]HOST:PORT or
 * http://[USER:PASSWORD@]HOST:PORT, as `proxy` has it and a policy's `via`. "socks5h" is the same
 * as "socks5": names are always the proxy's to resolve. Fuzzed (tests/fuzz/fuzz_proxy_url.c). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <alknet/err.h>

#define ALK_PROXY_WORD_MAX 255 /* bytes of a user name or a password (RFC 1929 2) */

enum alk_proxy_kind {
	ALK_PROXY_NONE = 0, /* the word "none": connect directly */
	ALK_PROXY_SOCKS5,
	ALK_PROXY_HTTP,
};

struct alk_proxy_url {
	enum alk_proxy_kind kind;
	char host[256]; /* a name or an address, no brackets */
	uint16_t port;
	bool has_login;
	char user[ALK_PROXY_WORD_MAX + 1]; /* percent signs are decoded */
	char password[ALK_PROXY_WORD_MAX + 1];
};

/* 0, or -EINVAL with a sentence that names what is wrong and quotes nothing: it may be the
 * secret. */
int alk_proxy_url_parse(const char *text, struct alk_proxy_url *out, struct alk_err *err);
/* Does the text have a password in it? True also for what is no good URL but may have one. */
bool alk_proxy_url_has_password(const char *text);
/* The text with *** for the password. */
void alk_proxy_url_show(const char *text, char *out, size_t size);

#endif
