/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "acme_private.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

#define ASK_AGAIN (6 * 3600)
#define ASK_SOONEST 60
#define ASK_LATEST 86400
#define TOLD_AGAIN                                                                                 \
	3600 /* a CA that wants each new certificate replaced at once is not heard before */
#define BACKOFF_FIRST 60
#define BACKOFF_MAX (6 * 3600)

/* 0..n-1 */
static time_t chance(time_t n)
{
	uint32_t value;

	if (n <= 0 || RAND_bytes((unsigned char *)&value, sizeof(value)) != 1)
		return 0;
	return (time_t)(((uint64_t)value * (uint64_t)n) >> 32);
}

time_t acme_renewal_time(const struct acme_pair *pair)
{
	time_t life = pair->not_after - pair->not_before;

	return pair->not_before + life / 3 * 2 + chance(life / 48);
}

time_t acme_renewal_backoff(unsigned failures)
{
	time_t wait = BACKOFF_FIRST;

	for (unsigned i = 1; i < failures && wait < BACKOFF_MAX; i++)
		wait *= 2;
	if (wait > BACKOFF_MAX)
		wait = BACKOFF_MAX;
	return wait - chance(wait / 4);
}

/* RFC 3339 as a CA writes it: in UTC. */
static time_t time_read(const char *text)
{
	struct tm tm = {0};
	char zone[16] = "";

	if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d%15s", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
		   &tm.tm_hour, &tm.tm_min, &tm.tm_sec, zone) != 7 ||
	    zone[strlen(zone) - 1] != 'Z')
		return 0;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	return timegm(&tm);
}

static time_t window_read(const json_t *answer)
{
	const json_t *window = json_object_get(answer, "suggestedWindow");
	time_t start = time_read(acme_text_of(window, "start"));
	time_t end = time_read(acme_text_of(window, "end"));

	return start <= 0 || end <= start ? 0 : start + chance(end - start);
}

time_t acme_renewal_ask(struct acme_client *c, time_t *again)
{
	time_t now = acme_client_clock(), due = 0, last = c->pair.not_after;
	bool at_once;
	struct acme_reply reply = {0};
	const char *base;
	char url[1024];
	int64_t wait = ASK_AGAIN;

	*again = c->pair.ari_id[0] != '\0' ? now + wait : 0;
	if (*again == 0 || (c->directory == NULL && acme_directory_read(c, NULL) < 0))
		return 0;
	base = acme_text_of(c->directory, "renewalInfo");
	if (base[0] == '\0') {
		*again = 0;
		return 0;
	}
	snprintf(url, sizeof(url), "%s/%s", base, c->pair.ari_id);
	if (acme_wire_get(c, url, &reply, NULL) == 0 && reply.status == 200) {
		due = window_read(reply.json);
		if (reply.retry_after > 0)
			wait = reply.retry_after;
	}
	acme_reply_clear(&reply);
	*again = now + (wait < ASK_SOONEST ? ASK_SOONEST : wait > ASK_LATEST ? ASK_LATEST : wait);
	/* A CA that errs does not make us wait for the end, nor come again and again. */
	last -= (c->pair.not_after - c->pair.not_before) / 6;
	at_once = due != 0 && due <= time(NULL);
	if (at_once && c->told != 0 && now - c->told < TOLD_AGAIN)
		return 0;
	if (at_once)
		c->told = now;
	return due > last ? last : due;
}
