/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_PROXY_AUTH_H
#define ALK_PROXY_AUTH_H

/* Who may use the client's proxy port: lines of USER:PASSWORD, 1 to 255 bytes each (RFC 1929); a
 * user has no colon. Empty lines and lines that begin with # do not count. No I/O. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <alknet/err.h>

/* Is each line well-formed, and is there one? -EINVAL with the number of the line, never its
 * words. */
int alk_proxy_auth_check(const char *lines, struct alk_err *err);
/* Takes the same time whether it is the user or the password that is wrong. `lines` was checked. */
bool alk_proxy_auth_match(const char *lines, const uint8_t *user, size_t user_len,
			  const uint8_t *password, size_t password_len);
/* The same for the value of a Proxy-Authorization field (RFC 7617): "Basic" and base64 of
 * user:password. */
bool alk_proxy_auth_match_basic(const char *lines, const uint8_t *value, size_t len);

#endif
