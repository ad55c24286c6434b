/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef BUS_TOPIC_H
#define BUS_TOPIC_H

/* Topics and patterns, and who wants which. No I/O, no knowledge of who the subscribers are: the
 * worker's half keeps channels here, the supervisor's half workers.
 *
 * A topic is an event's type, or type:id. A pattern has tokens split by dots; `*` is one token, a
 * last `>` one or more. What stands behind the first colon is an id and compared as it is; a
 * pattern without one matches every id.
 *
 * The store is a tree of tokens: an event's cost depends on its own tokens and on what matches, not
 * on how many subscribe to something else. */

#include <stdbool.h>
#include <stddef.h>
#include <alknet/err.h>

#define TOPIC_TYPE_MAX 255 /* bytes of a type, of an id, of a pattern's either part */
#define TOPIC_MAX (2 * TOPIC_TYPE_MAX + 1)
#define TOPIC_TOKENS_MAX 16

/* 0, or -EINVAL with a sentence. */
int topic_check_pattern(const char *pattern, struct alk_err *err);
/* The same for what is published: no wildcards, nothing reserved. */
int topic_check_event(const char *type, const char *id, struct alk_err *err);
/* "type" or "type:id". Both were checked. */
void topic_name(char out[TOPIC_MAX + 1], const char *type, const char *id);
bool topic_match(const char *pattern, const char *topic);

/* The names of operations, "/dev1/fs/read": `*` is one part, a last `**` one or more. */
bool path_check_pattern(const char *pattern);
bool path_match(const char *pattern, const char *path);

struct topic_node;
/* Somebody who wants what matches; part of a larger struct. */
struct topic_sub {
	struct topic_sub *next, **prev;
	struct topic_node *node; /* NULL: in no store */
};
struct topics;

struct topics *topics_new(void);
/* Nobody may be in it. */
void topics_free(struct topics **topics);
/* The pattern was checked. 0 or -ENOMEM. */
int topics_add(struct topics *topics, const char *pattern, struct topic_sub *sub);
void topics_remove(struct topics *topics, struct topic_sub *sub);
/* `found` for each that wants `topic`; it may not change the store. Gives how much was looked at:
 * nodes, and who was found. */
typedef void topics_found(void *user, struct topic_sub *sub);
size_t topics_each(const struct topics *topics, const char *topic, topics_found *found, void *user);
bool topics_empty(const struct topics *topics);

#endif
