/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Patterns, topics and the store of who wants what. The input is lines: each that is a pattern
 * subscribes (the second time it is there it unsubscribes), each that is a topic is looked for. The
 * store must find exactly the patterns that topic_match() says, and a second matcher, written in
 * another way, must agree. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/plugins/services/bus/nats_wire.h"
#include "../../src/plugins/services/common/topic.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

#define WANTS 64

struct want {
	struct topic_sub link;
	char pattern[TOPIC_MAX + 1];
	int used, found;
};

static void require(int yes)
{
	if (!yes)
		abort();
}

/* Tokens by recursion, ids behind the first colon. */
static int tokens_match(const char *p, size_t pn, const char *t, size_t tn)
{
	const char *pd = memchr(p, '.', pn), *td = memchr(t, '.', tn);
	size_t pl = pd != NULL ? (size_t)(pd - p) : pn, tl = td != NULL ? (size_t)(td - t) : tn;

	if (pl == 1 && *p == '>' && pd == NULL)
		return 1;
	if (!(pl == 1 && *p == '*') && (pl != tl || memcmp(p, t, pl) != 0))
		return 0;
	if (pd == NULL || td == NULL)
		return pd == NULL && td == NULL;
	return tokens_match(pd + 1, pn - pl - 1, td + 1, tn - tl - 1);
}

static int match(const char *pattern, const char *topic)
{
	const char *pc = strchr(pattern, ':'), *tc = strchr(topic, ':');
	size_t pn = pc != NULL ? (size_t)(pc - pattern) : strlen(pattern);
	size_t tn = tc != NULL ? (size_t)(tc - topic) : strlen(topic);

	if (pc != NULL && strcmp(pc + 1, tc != NULL ? tc + 1 : "") != 0)
		return 0;
	return tokens_match(pattern, pn, topic, tn);
}

/* A subject of NATS is one topic's alone: what was escaped comes back. */
static void subject(const char *type)
{
	char out[2048] = "p", back[TOPIC_MAX + 1];
	size_t n = 0;

	require(nats_subject_add(out, sizeof(out), type, false));
	for (const char *c = out + 2; *c != '\0'; c++) {
		char hex[3] = {c[0], 0, 0};

		require((unsigned char)*c > 0x20 && *c != '*' && *c != '>' && *c != '$');
		if (*c == '%') {
			hex[0] = c[1];
			hex[1] = c[2];
			c += 2;
		}
		back[n++] = hex[1] != 0 ? (char)strtol(hex, NULL, 16) : hex[0];
	}
	back[n] = '\0';
	require(strcmp(back, type) == 0);
}

static void on_found(void *user, struct topic_sub *sub)
{
	(void)user;
	((struct want *)sub)->found++;
}

static void look(struct topics *topics, struct want *wants, const char *line)
{
	char type[TOPIC_MAX + 1], topic[TOPIC_MAX + 1];
	struct alk_err err = {""};
	char *colon;

	if (strlen(line) > TOPIC_MAX)
		return;
	strcpy(type, line);
	colon = strchr(type, ':');
	if (colon != NULL)
		*colon = '\0';
	if (topic_check_event(type, colon != NULL ? colon + 1 : "", &err) < 0) {
		require(err.text[0] != '\0');
		return;
	}
	subject(type);
	topic_name(topic, type, colon != NULL ? colon + 1 : "");
	topics_each(topics, topic, on_found, NULL);
	for (int i = 0; i < WANTS; i++) {
		require(wants[i].found == (wants[i].used && match(wants[i].pattern, topic)));
		require(!wants[i].used ||
			topic_match(wants[i].pattern, topic) == match(wants[i].pattern, topic));
		wants[i].found = 0;
	}
}

static void wish(struct topics *topics, struct want *wants, const char *line)
{
	struct alk_err err = {""};
	struct want *empty = NULL;

	if (topic_check_pattern(line, &err) < 0) {
		require(err.text[0] != '\0');
		return;
	}
	require(strlen(line) <= TOPIC_MAX);
	for (int i = 0; i < WANTS; i++) {
		if (!wants[i].used) {
			empty = &wants[i];
			continue;
		}
		if (strcmp(wants[i].pattern, line) != 0)
			continue;
		topics_remove(topics, &wants[i].link);
		wants[i].used = 0;
		return;
	}
	if (empty == NULL)
		return;
	strcpy(empty->pattern, line);
	empty->used = topics_add(topics, line, &empty->link) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static struct want wants[WANTS];
	struct topics *topics = topics_new();
	char *text = malloc(n + 1), *rest = text, *line;

	require(topics != NULL && text != NULL);
	memset(wants, 0, sizeof(wants));
	memcpy(text, bytes, n);
	text[n] = '\0';
	while ((line = strsep(&rest, "\n")) != NULL) {
		if (path_check_pattern(line))
			path_match(line, "/dev1/fs/read");
		wish(topics, wants, line);
		look(topics, wants, line);
	}
	for (int i = 0; i < WANTS; i++)
		if (wants[i].used)
			topics_remove(topics, &wants[i].link);
	require(topics_empty(topics));
	topics_free(&topics);
	free(text);
	return 0;
}
