/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "misdeed.h"

#include <errno.h>
#include <string.h>
#include "text.h"

#define SECONDS_MAX 86400
#define MIN_DEFAULT 15
#define MAX_DEFAULT 600

static const char *const words[ALK_MISDEED_COUNT] = {[ALK_MISDEED_NONE] = "none",
#define X(id_, word_, seconds_, text_) [ALK_MISDEED_##id_] = (word_),
						     ALK_MISDEEDS(X)
#undef X
};

const char *alk_misdeed_str(enum alk_misdeed misdeed)
{
	return words[misdeed];
}

enum alk_misdeed alk_misdeed_find(const char *word)
{
	for (int i = 1; i < ALK_MISDEED_COUNT; i++)
		if (strcmp(words[i], word) == 0)
			return (enum alk_misdeed)i;
	return ALK_MISDEED_NONE;
}

static uint64_t *place_of(struct alk_misdeed_conf *conf, const char *word)
{
	enum alk_misdeed misdeed = alk_misdeed_find(word);

	if (strcmp(word, "min") == 0)
		return &conf->min_ms;
	if (strcmp(word, "max") == 0)
		return &conf->max_ms;
	return misdeed != ALK_MISDEED_NONE ? &conf->ms[misdeed] : NULL;
}

static int word_parse(char *word, struct alk_misdeed_conf *out, struct alk_err *err)
{
	char *colon = strchr(word, ':'), shown[64];
	uint64_t *place;
	int64_t n;

	if (colon != NULL)
		*colon = '\0';
	place = place_of(out, word);
	if (place != NULL && colon != NULL && alk_text_int(colon + 1, &n) == 0 && n >= 0 &&
	    n <= SECONDS_MAX) {
		*place = (uint64_t)n * 1000;
		return 0;
	}
	alk_text_escape(word, strlen(word), shown, sizeof(shown));
	if (place != NULL)
		return alk_err_set(err, -EINVAL, "%s must be followed by : and seconds, 0 to %d",
				   shown, SECONDS_MAX);
	return alk_err_set(
		err, -EINVAL,
		"must be none, or words of authfail, noauth, grace-exceeded, garbage, min and max with :SECONDS each, not \"%s\"",
		shown);
}

int alk_misdeed_parse(const char *text, struct alk_misdeed_conf *out, struct alk_err *err)
{
	char copy[256], *rest = copy, *word;
	int rc = 0;

	*out = (struct alk_misdeed_conf){.min_ms = MIN_DEFAULT * 1000,
					 .max_ms = MAX_DEFAULT * 1000,
#define X(id_, word_, seconds_, text_) .ms[ALK_MISDEED_##id_] = (seconds_)*1000,
					 ALK_MISDEEDS(X)
#undef X
	};
	if (strcmp(text, "none") == 0) {
		memset(out->ms, 0, sizeof(out->ms));
		return 0;
	}
	if (strlen(text) >= sizeof(copy))
		return alk_err_set(err, -EINVAL, "is too long");
	strcpy(copy, text);
	while (rc == 0 && (word = strsep(&rest, " \t")) != NULL)
		if (*word != '\0')
			rc = word_parse(word, out, err);
	if (rc == 0 && out->min_ms > out->max_ms)
		rc = alk_err_set(err, -EINVAL, "min is above max");
	return rc;
}
