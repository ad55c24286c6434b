/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "proxy_auth.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include "base64.h"

#define WORD_MAX 255

struct login {
	const char *user, *password;
	size_t user_len, password_len;
};

/* The next line that counts, from *lines on; false at the end. Without a colon the password is
 * NULL. */
static bool login_next(const char **lines, unsigned *number, struct login *out)
{
	while (**lines != '\0') {
		const char *line = *lines, *colon;
		size_t len = strcspn(line, "\n");

		*lines += len + (line[len] == '\n');
		(*number)++;
		if (len > 0 && line[len - 1] == '\r')
			len--;
		if (len == 0 || line[0] == '#')
			continue;
		colon = memchr(line, ':', len);
		*out = (struct login){.user = line, .user_len = len};
		if (colon != NULL) {
			out->user_len = (size_t)(colon - line);
			out->password = colon + 1;
			out->password_len = len - out->user_len - 1;
		}
		return true;
	}
	return false;
}

static bool word_ok(const char *word, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)word[i] < 0x20 || word[i] == 0x7f)
			return false;
	}
	return len > 0 && len <= WORD_MAX;
}

int alk_proxy_auth_check(const char *lines, struct alk_err *err)
{
	unsigned number = 0;
	bool any = false;
	struct login login;

	while (login_next(&lines, &number, &login)) {
		any = true;
		if (login.password == NULL || !word_ok(login.user, login.user_len) ||
		    !word_ok(login.password, login.password_len))
			return alk_err_set(
				err, -EINVAL,
				"line %u must be USER:PASSWORD, each 1 to 255 bytes without control characters",
				number);
	}
	return any ? 0 : alk_err_set(err, -EINVAL, "there is no USER:PASSWORD in it");
}

/* All of `len` is looked at, whatever is found. */
static unsigned differs(const char *ours, size_t our_len, const uint8_t *theirs, size_t len)
{
	unsigned diff = our_len != len;

	for (size_t i = 0; i < len; i++)
		diff |= (unsigned)((uint8_t)ours[i % our_len] ^ theirs[i]);
	return diff;
}

bool alk_proxy_auth_match(const char *lines, const uint8_t *user, size_t user_len,
			  const uint8_t *password, size_t password_len)
{
	unsigned number = 0, good = 0;
	struct login login;

	while (login_next(&lines, &number, &login)) {
		unsigned diff = differs(login.user, login.user_len, user, user_len) |
				differs(login.password, login.password_len, password, password_len);

		good |= diff == 0;
	}
	return good != 0;
}

bool alk_proxy_auth_match_basic(const char *lines, const uint8_t *value, size_t len)
{
	uint8_t plain[2 * WORD_MAX + 2];
	const uint8_t *colon;
	ssize_t n;

	if (len < 6 || strncasecmp((const char *)value, "Basic ", 6) != 0)
		return false;
	for (value += 6, len -= 6; len > 0 && *value == ' '; value++)
		len--;
	while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t'))
		len--;
	n = alk_base64_decode((const char *)value, len, plain, sizeof(plain));
	if (n <= 0)
		return false;
	colon = memchr(plain, ':', (size_t)n);
	if (colon == NULL)
		return false;
	return alk_proxy_auth_match(lines, plain, (size_t)(colon - plain), colon + 1,
				    (size_t)(n - (colon - plain) - 1));
}
