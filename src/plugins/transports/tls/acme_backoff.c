/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "acme_private.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is in the file; texts are borrowed from its JSON. */
struct kept {
	const char *settings, *error;
	json_int_t asked, next; /* by the wall clock */
	json_int_t failures, early;
};

/* Whoever changes one of ACME's options is to be heard at once, as at a reload. */
static char *settings_digest(const json_t *settings)
{
	char *text = json_dumps(settings, JSON_COMPACT | JSON_SORT_KEYS), *digest = NULL;
	uint8_t hash[EVP_MAX_MD_SIZE];
	unsigned n;

	if (text != NULL && EVP_Digest(text, strlen(text), hash, &n, EVP_sha256(), NULL) == 1)
		digest = acme_base64url(hash, n);
	free(text);
	return digest;
}

void acme_backoff_keep(struct acme_client *c, unsigned failures, time_t wait, const char *error)
{
	json_int_t now = time(NULL);
	char *digest = settings_digest(c->settings), *text;
	struct alk_err err = {"out of memory"};
	json_t *kept = json_pack("{s:s, s:I, s:I, s:I, s:I, s:o}", "settings", digest, "asked", now,
				 "next", now + wait, "failures", (json_int_t)failures, "early",
				 (json_int_t)c->early, "last_error", acme_text_json(error));

	text = kept != NULL ? json_dumps(kept, JSON_COMPACT) : NULL;
	if (text == NULL || acme_state_write(c->state_dir, ACME_BACKOFF, text, &err) < 0)
		acme_client_notice(c, "a restart will not know how long the CA is not asked: %s",
				   err.text);
	free(text);
	json_decref(kept);
	free(digest);
}

void acme_backoff_clear(struct acme_client *c)
{
	acme_state_remove(c->state_dir, ACME_BACKOFF);
}

static bool is_count(json_int_t n)
{
	return n >= 0 && n < INT_MAX;
}

static int kept_read(json_t *object, struct kept *kept)
{
	if (json_unpack_ex(object, NULL, JSON_STRICT, "{s:s, s:I, s:I, s:I, s:I, s:s}", "settings",
			   &kept->settings, "asked", &kept->asked, "next", &kept->next, "failures",
			   &kept->failures, "early", &kept->early, "last_error",
			   &kept->error) < 0 ||
	    kept->asked < 0 || kept->next < kept->asked || !is_count(kept->failures) ||
	    !is_count(kept->early) || (kept->failures == 0 && kept->early == 0))
		return -EINVAL;
	return 0;
}

/* No longer than it was to be, whatever the clock says: where that was set back, the wait begins
 * again from now, in the file too. */
static bool kept_take(struct acme_client *c, const struct kept *kept)
{
	json_int_t left = kept->next - time(NULL), most = kept->next - kept->asked;
	bool waited = c->pause != 0, shortened;

	if (most > ACME_RETRY_AFTER_MAX)
		most = ACME_RETRY_AFTER_MAX;
	shortened = left > most;
	if (shortened)
		left = most;
	if (c->failures < (unsigned)kept->failures)
		c->failures = (unsigned)kept->failures;
	if (c->early < (unsigned)kept->early)
		c->early = (unsigned)kept->early;
	if (c->last_error[0] == '\0')
		snprintf(c->last_error, sizeof(c->last_error), "%s", kept->error);
	if (left <= 0 || acme_client_clock() + left <= c->pause)
		return false;
	c->pause = acme_client_clock() + left;
	if (shortened)
		acme_backoff_keep(c, c->failures, left, c->last_error);
	return !waited;
}

static const char *why_not(int rc)
{
	if (rc == -EINVAL)
		return "it is not what was written there";
	return rc == -EPERM ? "others may use it" : strerror(-rc);
}

bool acme_backoff_load(struct acme_client *c)
{
	char *text, *digest = settings_digest(c->settings);
	int rc = acme_state_read(c->state_dir, ACME_BACKOFF, &text, NULL);
	json_t *object = rc == 0 ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
	struct kept kept;
	bool waits = false;

	if (rc == 0)
		rc = kept_read(object, &kept);
	if (rc == 0 && digest != NULL && strcmp(kept.settings, digest) == 0)
		waits = kept_take(c, &kept);
	if (rc < 0 && rc != -ENOENT) {
		acme_client_notice(
			c,
			"acme_state_dir: %s/%s cannot be used, the CA is asked as if it were not there: %s",
			c->state_dir, ACME_BACKOFF, why_not(rc));
		acme_backoff_clear(c);
	}
	json_decref(object);
	acme_text_free(&text);
	free(digest);
	return waits;
}
