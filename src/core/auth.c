/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <alknet/log.h>
#include "auth.h"

#define PENALTIES_MAX 1024
#define DELAY_MIN 5
#define DELAY_SPREAD 4

struct penalty {
	char who[128];
	uint64_t until;
};

struct alk_auth {
	struct alk_keys *keys;
	uint64_t secret;
	struct penalty *penalty;
	size_t n_penalties, next_penalty;
};

static void on_bad_line(void *user, const char *name, unsigned line, const char *why)
{
	(void)user;
	alk_log(ALK_LOG_WARN, "authorized key refused", ALK_STR("file", name),
		ALK_INT("line", line), ALK_STR("reason", why));
}

struct alk_auth *alk_auth_new(const struct alk_conf *conf, struct alk_err *err)
{
	struct alk_auth *auth = calloc(1, sizeof(*auth));
	const struct alk_options *values = alk_conf_values(conf);
	size_t len = 0;
	const char *text = alk_conf_file(conf, "authorized_keys", 0, &len);

	if (!auth || getrandom(&auth->secret, sizeof(auth->secret), 0) != sizeof(auth->secret)) {
		alk_err_set(err, -ENOMEM, "out of memory for the authorized keys");
		free(auth);
		return NULL;
	}
	if (text) {
		auth->keys = alk_keys_parse(alk_options_str(values, "authorized_keys"), text, len,
					    "ssh-ed25519", on_bad_line, NULL);
		if (!auth->keys) {
			alk_err_set(err, -ENOMEM, "out of memory for the authorized keys");
			alk_auth_free(&auth);
		}
	}
	return auth;
}

void alk_auth_free(struct alk_auth **auth)
{
	if (!*auth)
		return;
	alk_keys_free(&(*auth)->keys);
	free((*auth)->penalty);
	explicit_bzero(*auth, sizeof(**auth));
	free(*auth);
	*auth = NULL;
}

bool alk_auth_key_known(const struct alk_auth *auth, const uint8_t *blob, size_t len)
{
	return auth->keys && alk_keys_find(auth->keys, blob, len) != NULL;
}

size_t alk_auth_key_count(const struct alk_auth *auth)
{
	return auth->keys ? auth->keys->count : 0;
}

/* Length of the well-formed UTF-8 sequence at s, 0 if it is none (RFC 3629). */
static size_t utf8_length(const unsigned char *s)
{
	size_t n, i;
	uint32_t c;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		n = 2;
	else if ((s[0] & 0xf0) == 0xe0)
		n = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		n = 4;
	else
		return 0;
	c = s[0] & (0xffu >> (n + 1));
	for (i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if ((n == 3 && c < 0x800) || (n == 4 && c < 0x10000) || c > 0x10ffff ||
	    (c >= 0xd800 && c <= 0xdfff) || (c >= 0x80 && c < 0xa0))
		return 0;
	return n;
}

bool alk_auth_user_valid(const char *user)
{
	size_t len = strnlen(user, 65), i, n;

	if (len == 0 || len > 64)
		return false;
	for (i = 0; i < len; i += n) {
		n = utf8_length((const unsigned char *)user + i);
		if (n == 0 || (unsigned char)user[i] < 0x20 || user[i] == 0x7f)
			return false;
	}
	return true;
}

uint64_t alk_auth_delay(const struct alk_auth *auth, const char *user)
{
	/* FNV-1a from a secret start: nobody sees more of it than a few milliseconds. */
	uint64_t h = auth->secret;

	for (; *user; user++)
		h = (h ^ (unsigned char)*user) * 0x100000001b3u;
	return DELAY_MIN + (h >> 32) % (DELAY_SPREAD + 1);
}

void alk_auth_penalise(struct alk_auth *auth, const char *who, uint64_t until)
{
	struct penalty *p = NULL;
	size_t i;

	if (!auth->penalty && !(auth->penalty = calloc(PENALTIES_MAX, sizeof(*auth->penalty))))
		return;
	for (i = 0; i < auth->n_penalties && !p; i++)
		if (strcmp(auth->penalty[i].who, who) == 0)
			p = &auth->penalty[i];
	if (!p) {
		p = &auth->penalty[auth->next_penalty];
		auth->next_penalty = (auth->next_penalty + 1) % PENALTIES_MAX;
		if (auth->n_penalties < PENALTIES_MAX)
			auth->n_penalties++;
		strncpy(p->who, who, sizeof(p->who) - 1);
	}
	p->until = until;
}

bool alk_auth_penalised(const struct alk_auth *auth, const char *who, uint64_t now)
{
	size_t i;

	if (!who || !auth->penalty)
		return false;
	for (i = 0; i < auth->n_penalties; i++)
		if (auth->penalty[i].until > now && strncmp(auth->penalty[i].who, who, 127) == 0)
			return true;
	return false;
}
