/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "derive.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "crypt.h"

/* HKDF-Expand(key, "alknet password LENGTH"), six bits of each byte: so no letter is likelier than
 * another, and a password is no beginning of a longer one. */
int secret_password(const uint8_t key[32], size_t len, char *out, struct alk_err *err)
{
	static const char letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	char info[40];
	int rc;

	if (len == 0 || len > SECRET_PASSWORD_MAX)
		return alk_err_set(err, -EINVAL, "length: a password has 1 to %d letters",
				   SECRET_PASSWORD_MAX);
	snprintf(info, sizeof(info), "alknet password %zu", len);
	rc = secret_expand(key, info, strlen(info), (uint8_t *)out, len);
	if (rc < 0)
		return alk_err_set(err, rc, "HKDF failed");
	for (size_t i = 0; i < len; i++)
		out[i] = letters[(uint8_t)out[i] & 63];
	return 0;
}
