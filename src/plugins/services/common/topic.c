/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "topic.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One token of a pattern. Children are sorted, so that no choice of tokens makes a lookup long. */
struct topic_node {
	struct topic_node *parent, **child;
	struct topic_sub *subs;
	unsigned children, size;
	uint16_t len;
	char token[]; /* an id's begins with its colon */
};

struct topics {
	struct topic_node *root;
};

/* A part of a text. */
struct token {
	const char *text;
	size_t len;
};

static bool is_control(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return true;
	return false;
}

/* The next token of a topic or pattern; *text moves behind it, NULL at the end. */
static struct token token_next(const char **text)
{
	struct token t = {*text, 0};

	t.len = *t.text == ':' ? strlen(t.text) : strcspn(t.text, ".:");
	*text = t.text + t.len;
	if (**text == '.')
		(*text)++;
	else if (**text == '\0')
		*text = NULL;
	return t;
}

static bool token_is(struct token t, const char *text)
{
	return t.len == strlen(text) && memcmp(t.text, text, t.len) == 0;
}

static int check_tokens(const char *text, bool pattern, struct alk_err *err)
{
	const char *rest = text;
	size_t type = strcspn(text, ":");
	unsigned n = 0;

	if (type > 0 && text[type - 1] == '.')
		return alk_err_set(err, -EINVAL, "a topic has no empty token");
	if (text[type] == ':' && text[type + 1] == '\0')
		return alk_err_set(err, -EINVAL, "behind the colon of a topic stands an id");
	while (rest != NULL && *rest != ':') {
		struct token t = token_next(&rest);

		if (t.len == 0)
			return alk_err_set(err, -EINVAL, "a topic has no empty token");
		if (!pattern && (token_is(t, "*") || token_is(t, ">")))
			return alk_err_set(err, -EINVAL, "* and > are for patterns alone");
		if (token_is(t, ">") && rest != NULL && *rest != ':')
			return alk_err_set(err, -EINVAL, "> is the last token of a pattern");
		if (++n > TOPIC_TOKENS_MAX)
			return alk_err_set(err, -EINVAL, "a topic has at most %d tokens",
					   TOPIC_TOKENS_MAX);
	}
	return n > 0 ? 0 : alk_err_set(err, -EINVAL, "a topic has no empty token");
}

int topic_check_pattern(const char *pattern, struct alk_err *err)
{
	size_t type = strcspn(pattern, ":"), len = strlen(pattern);

	if (type > TOPIC_TYPE_MAX || len - type > TOPIC_TYPE_MAX + 1)
		return alk_err_set(err, -EINVAL, "a topic has at most %d bytes and %d of an id",
				   TOPIC_TYPE_MAX, TOPIC_TYPE_MAX);
	if (is_control(pattern))
		return alk_err_set(err, -EINVAL, "a topic has no control characters");
	return check_tokens(pattern, true, err);
}

int topic_check_event(const char *type, const char *id, struct alk_err *err)
{
	if (strlen(type) > TOPIC_TYPE_MAX || strlen(id) > TOPIC_TYPE_MAX)
		return alk_err_set(err, -EINVAL, "a type and an id have at most %d bytes",
				   TOPIC_TYPE_MAX);
	if (is_control(type) || is_control(id))
		return alk_err_set(err, -EINVAL, "a topic has no control characters");
	/* "a:b" would be the topic of type "a" and id "b", which the policy was not asked about. */
	if (strchr(type, ':') != NULL)
		return alk_err_set(err, -EINVAL, "a type has no colon: behind it an id begins");
	if (strncmp(type, "__", 2) == 0 || strncmp(type, "call.", 5) == 0 ||
	    strcmp(type, "error") == 0 || strncmp(type, "alknet-", 7) == 0)
		return alk_err_set(err, -EINVAL, "this type is reserved");
	return check_tokens(type, false, err);
}

void topic_name(char out[TOPIC_MAX + 1], const char *type, const char *id)
{
	snprintf(out, TOPIC_MAX + 1, "%s%s%s", type, *id != '\0' ? ":" : "", id);
}

bool topic_match(const char *pattern, const char *topic)
{
	while (pattern != NULL) {
		struct token want, got;

		if (*pattern == ':')
			return topic != NULL && strcmp(pattern, topic) == 0;
		if (topic == NULL || *topic == ':')
			return false;
		want = token_next(&pattern);
		got = token_next(&topic);
		if (token_is(want, ">")) {
			while (topic != NULL && *topic != ':')
				token_next(&topic);
			return pattern == NULL || (topic != NULL && strcmp(pattern, topic) == 0);
		}
		if (!token_is(want, "*") &&
		    (want.len != got.len || memcmp(want.text, got.text, got.len) != 0))
			return false;
	}
	return topic == NULL || *topic == ':';
}

/* The tree */

static int node_order(const struct topic_node *node, struct token t)
{
	if (node->len != t.len)
		return node->len < t.len ? -1 : 1;
	return memcmp(node->token, t.text, t.len);
}

/* Where the token is among the children, or has to go. */
static unsigned node_place(const struct topic_node *node, struct token t, bool *found)
{
	unsigned low = 0, high = node->children;

	*found = false;
	while (low < high) {
		unsigned middle = low + (high - low) / 2;
		int order = node_order(node->child[middle], t);

		if (order == 0) {
			*found = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct topic_node *node_find(const struct topic_node *node, struct token t)
{
	bool found;
	unsigned at = node_place(node, t, &found);

	return found ? node->child[at] : NULL;
}

static struct topic_node *node_new(struct topic_node *parent, struct token t)
{
	struct topic_node *node = calloc(1, sizeof(*node) + t.len);

	if (node == NULL)
		return NULL;
	node->parent = parent;
	node->len = (uint16_t)t.len;
	memcpy(node->token, t.text, t.len);
	return node;
}

static struct topic_node *node_make(struct topic_node *node, struct token t)
{
	bool found;
	unsigned at = node_place(node, t, &found), size;
	struct topic_node *made, **child;

	if (found)
		return node->child[at];
	if (node->children == node->size) {
		size = node->size > 0 ? node->size * 2 : 1;
		child = realloc(node->child, size * sizeof(*child));
		if (child == NULL)
			return NULL;
		node->child = child;
		node->size = size;
	}
	made = node_new(node, t);
	if (made == NULL)
		return NULL;
	memmove(node->child + at + 1, node->child + at,
		(node->children - at) * sizeof(*node->child));
	node->child[at] = made;
	node->children++;
	return made;
}

/* Nodes that nobody needs any more go. */
static void node_prune(struct topic_node *node)
{
	while (node->parent != NULL && node->subs == NULL && node->children == 0) {
		struct topic_node *parent = node->parent;
		bool found;
		unsigned at = node_place(parent, (struct token){node->token, node->len}, &found);

		parent->children--;
		memmove(parent->child + at, parent->child + at + 1,
			(parent->children - at) * sizeof(*parent->child));
		free(node->child);
		free(node);
		node = parent;
	}
}

struct topics *topics_new(void)
{
	struct topics *topics = calloc(1, sizeof(*topics));

	if (topics == NULL)
		return NULL;
	topics->root = node_new(NULL, (struct token){"", 0});
	if (topics->root == NULL) {
		free(topics);
		return NULL;
	}
	return topics;
}

void topics_free(struct topics **topics)
{
	if (*topics != NULL) {
		free((*topics)->root->child);
		free((*topics)->root);
	}
	free(*topics);
	*topics = NULL;
}

int topics_add(struct topics *topics, const char *pattern, struct topic_sub *sub)
{
	struct topic_node *node = topics->root, *next;

	while (pattern != NULL) {
		next = node_make(node, token_next(&pattern));
		if (next == NULL) {
			node_prune(node);
			return -ENOMEM;
		}
		node = next;
	}
	sub->node = node;
	sub->next = node->subs;
	sub->prev = &node->subs;
	if (sub->next != NULL)
		sub->next->prev = &sub->next;
	node->subs = sub;
	return 0;
}

void topics_remove(struct topics *topics, struct topic_sub *sub)
{
	(void)topics;
	if (sub->node == NULL)
		return;
	*sub->prev = sub->next;
	if (sub->next != NULL)
		sub->next->prev = sub->prev;
	node_prune(sub->node);
	*sub = (struct topic_sub){.node = NULL};
}

struct walk {
	topics_found *found;
	void *user;
	const char *id; /* with its colon; NULL: the topic has none */
	size_t looked;
};

static void walk_found(struct walk *w, const struct topic_node *node)
{
	for (struct topic_sub *sub = node->subs, *next; sub != NULL; sub = next) {
		next = sub->next;
		w->looked++;
		w->found(w->user, sub);
	}
}

static void walk_end(struct walk *w, const struct topic_node *node)
{
	walk_found(w, node);
	if (w->id == NULL || node->children == 0)
		return;
	node = node_find(node, (struct token){w->id, strlen(w->id)});
	if (node != NULL)
		walk_found(w, node);
}

/* As deep as a topic has tokens. */
static void walk(struct walk *w, const struct topic_node *node, const char *rest)
{
	const struct topic_node *next;
	struct token t;

	w->looked++;
	if (rest == NULL || *rest == ':') {
		walk_end(w, node);
		return;
	}
	if (node->children == 0)
		return;
	next = node_find(node, (struct token){">", 1});
	if (next != NULL)
		walk_end(w, next);
	t = token_next(&rest);
	next = node_find(node, (struct token){"*", 1});
	if (next != NULL)
		walk(w, next, rest);
	next = node_find(node, t);
	if (next != NULL)
		walk(w, next, rest);
}

size_t topics_each(const struct topics *topics, const char *topic, topics_found *found, void *user)
{
	struct walk w = {found, user, strchr(topic, ':'), 0};

	walk(&w, topics->root, topic);
	return w.looked;
}

bool topics_empty(const struct topics *topics)
{
	return topics->root->children == 0;
}

bool path_check_pattern(const char *pattern)
{
	size_t n;

	if (*pattern != '/' || strlen(pattern) > TOPIC_TYPE_MAX)
		return false;
	for (; *pattern == '/'; pattern += 1 + n) {
		const char *part = pattern + 1;

		n = strcspn(part, "/");
		if (n == 0 || (memchr(part, '*', n) != NULL && !(n == 1 && *part == '*') &&
			       strcmp(part, "**") != 0))
			return false;
	}
	return true;
}

bool path_match(const char *pattern, const char *path)
{
	while (*pattern == '/' && *path == '/') {
		size_t n = strcspn(++pattern, "/"), m = strcspn(++path, "/");

		if (strcmp(pattern, "**") == 0)
			return true;
		if (m == 0 ||
		    ((n != 1 || *pattern != '*') && (n != m || memcmp(pattern, path, n) != 0)))
			return false;
		pattern += n;
		path += m;
	}
	return *pattern == '\0' && *path == '\0';
}
