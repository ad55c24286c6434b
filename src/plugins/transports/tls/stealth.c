/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "stealth_http.h"

#include <stdlib.h>
#include <string.h>

#define HOST_MAX 255

const struct stealth_times stealth_times = {
	.header = 60000,
	.body = 60000,
	.keepalive = 75000,
	.send = 60000,
	.linger_idle = 5000,
	.linger_all = 30000,
};

struct stealth *stealth_new(const struct stealth_settings *settings,
			    const struct stealth_hooks *hooks)
{
	struct stealth *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->settings = *settings;
	s->times = settings->times != NULL ? *settings->times : stealth_times;
	s->hooks = *hooks;
	s->state = STEALTH_JUDGING;
	s->born = hooks->clock(hooks->user);
	s->timed = true;
	hooks->timer(hooks->user, s->times.header);
	return s;
}

void stealth_free(struct stealth **stealth)
{
	if (*stealth == NULL)
		return;
	free((*stealth)->buf);
	explicit_bzero(*stealth, sizeof(**stealth));
	free(*stealth);
	*stealth = NULL;
}

enum stealth_state stealth_state(const struct stealth *s)
{
	return s->state;
}

/* ---- whose the first bytes are ---- */

enum verdict {
	MAYBE,
	OURS,
	NOT_OURS
};

/* `n` bytes are there: can they begin with `text`, do they? */
static enum verdict begins(const uint8_t *p, size_t n, const char *text)
{
	size_t len = strlen(text);

	if (memcmp(p, text, n < len ? n : len) != 0)
		return NOT_OURS;
	return n < len ? MAYBE : OURS;
}

static bool token_char(uint8_t c)
{
	uint8_t letter = c | 0x20;

	return (letter >= 'a' && letter <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

/* Nothing is said of a token before all of it is there, and then it takes as long for each. */
static enum verdict token_judge(const uint8_t *p, size_t n, const char *token)
{
	volatile uint8_t differs = 0;
	size_t len = n < STEALTH_TOKEN_LEN ? n : STEALTH_TOKEN_LEN;

	for (size_t i = 0; i < len; i++) {
		if (!token_char(p[i]))
			return NOT_OURS;
		differs |= p[i] ^ (uint8_t)token[i];
	}
	if (n < STEALTH_TOKEN_LEN)
		return MAYBE;
	return differs == 0 ? OURS : NOT_OURS;
}

static enum verdict host_judge(const uint8_t *p, size_t n, size_t *rest)
{
	size_t i = 0;
	enum verdict end;

	while (i < n && p[i] > ' ' && p[i] < 0x7f)
		i++;
	if (i > HOST_MAX || (i < n && i == 0))
		return NOT_OURS;
	end = begins(p + i, n - i, "\r\n\r\n");
	*rest = i + 4;
	return end;
}

/* GET /TOKEN HTTP/1.1, Host: and an empty line, just as our client writes them. */
static enum verdict keyed_judge(const struct stealth *s, size_t *rest)
{
	static const char before[] = "GET /", after[] = " HTTP/1.1\r\nHost: ";
	const uint8_t *p = s->buf;
	size_t n = s->last, host = 0;
	enum verdict verdict = begins(p, n, before);

	if (verdict != OURS)
		return verdict;
	p += strlen(before);
	n -= strlen(before);
	verdict = token_judge(p, n, s->settings.token);
	if (verdict != OURS)
		return verdict;
	p += STEALTH_TOKEN_LEN;
	n -= STEALTH_TOKEN_LEN;
	verdict = begins(p, n, after);
	if (verdict != OURS)
		return verdict;
	p += strlen(after);
	n -= strlen(after);
	verdict = host_judge(p, n, &host);
	*rest = (size_t)(p - s->buf) + host;
	return verdict;
}

static void stealth_not_ours(struct stealth *s)
{
	if (s->settings.upstream && !s->plain) {
		s->state = STEALTH_UPSTREAM;
		s->rest = 0;
		return;
	}
	s->state = STEALTH_HTTP;
	http_start(s);
}

static void stealth_judge(struct stealth *s)
{
	enum verdict verdict;

	if (s->last == 0)
		return;
	s->rest = 0;
	if (s->plain)
		verdict = NOT_OURS;
	else if (s->refused)
		verdict = NOT_OURS;
	else if (s->settings.keyed)
		verdict = keyed_judge(s, &s->rest);
	else
		verdict = begins(s->buf, s->last, "SSH-2.0-");
	if (verdict == OURS)
		s->state = STEALTH_OURS;
	else if (verdict == NOT_OURS || s->last == s->cap)
		stealth_not_ours(s);
}

/* ---- calls ---- */

void stealth_begin(struct stealth *s, bool plain, const char *token)
{
	s->begun = true;
	s->plain = plain;
	if (token != NULL)
		memcpy(s->settings.token, token, STEALTH_TOKEN_LEN);
	else if (s->settings.keyed)
		s->state = STEALTH_HTTP; /* it has no key: nobody has */
}

void stealth_refuse(struct stealth *s)
{
	if (s->state != STEALTH_JUDGING)
		return;
	/* Who is silent is so to the web server in front: behind it he would have its time once
	 * more. */
	if (s->settings.upstream && s->last == 0)
		s->refused = true;
	else
		stealth_not_ours(s);
}

size_t stealth_room(const struct stealth *s)
{
	if (s->state == STEALTH_JUDGING)
		return s->begun ? HTTP_FIRST_BUFFER - s->last : 0;
	return s->state == STEALTH_HTTP ? http_room(s) : 0;
}

enum stealth_state stealth_input(struct stealth *s, const void *bytes, size_t n, bool ready)
{
	if (s->state == STEALTH_HTTP) {
		http_input(s, bytes, n, ready);
	} else if (s->state == STEALTH_JUDGING && n > 0) {
		if (http_buffer(s) < 0) {
			http_close(s, STEALTH_CLOSE_QUIET);
			return s->state;
		}
		memcpy(s->buf + s->last, bytes, n);
		s->last += n;
		s->ready = ready;
		stealth_judge(s);
	}
	return s->state;
}

enum stealth_state stealth_eof(struct stealth *s, bool broken)
{
	if (s->state == STEALTH_JUDGING && s->last > 0 && !broken)
		stealth_not_ours(s);
	if (s->state == STEALTH_JUDGING)
		http_close(s, STEALTH_CLOSE_QUIET);
	else if (s->state == STEALTH_HTTP)
		http_eof(s, broken);
	return s->state;
}

enum stealth_state stealth_written(struct stealth *s)
{
	if (s->state == STEALTH_HTTP)
		http_written(s);
	return s->state;
}

enum stealth_state stealth_timeout(struct stealth *s)
{
	if (s->state == STEALTH_JUDGING)
		http_close(s, s->last > 0 ? STEALTH_CLOSE_QUIET : STEALTH_CLOSE_NOTIFY);
	else if (s->state == STEALTH_HTTP)
		http_timeout(s);
	return s->state;
}

const void *stealth_rest(const struct stealth *s, size_t *n)
{
	*n = s->last - s->rest;
	return s->buf + s->rest;
}
