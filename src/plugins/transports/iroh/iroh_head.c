/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "iroh_head.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <alknet/dial.h>

/* Without a CR or LF alone, which somebody behind us may take for the end of a line (RFC 9112 2.2),
 * and without other control characters. */
static bool is_line(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (iscntrl((unsigned char)text[i]) && text[i] != '\t')
			return false;
	return true;
}

/* A line without its end; NULL at the empty one. */
static const char *line_next(const char **at, size_t *len)
{
	const char *line = *at, *end = strstr(line, "\r\n");

	if (end == NULL || end == line)
		return NULL;
	*len = (size_t)(end - line);
	*at = end + 2;
	return line;
}

static bool is_word(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!isgraph((unsigned char)text[i]))
			return false;
	return n > 0;
}

static int target_set(struct iroh_head *head, const char *text, size_t n, uint16_t fallback)
{
	char place[300];
	bool has_port = false;

	if (n == 0 || n >= sizeof(place) - 8 || memchr(text, '@', n) != NULL)
		return -EINVAL;
	for (size_t i = n; i > 0 && text[i - 1] != ']' && !has_port; i--)
		has_port = text[i - 1] == ':';
	snprintf(place, sizeof(place), has_port || fallback == 0 ? "%.*s" : "%.*s:%u", (int)n, text,
		 (unsigned)fallback);
	if (alk_addr_split(place, head->host, sizeof(head->host), &head->port, false, NULL) < 0 ||
	    head->host[0] == '\0')
		return -EINVAL;
	return 0;
}

static int forward_add(struct iroh_head *head, const char *text, size_t n, const char *end)
{
	size_t left = sizeof(head->forward) - head->forward_len;
	int len = snprintf(head->forward + head->forward_len, left, "%.*s%s", (int)n, text, end);

	if (len < 0 || (size_t)len >= left)
		return -E2BIG;
	head->forward_len += (size_t)len;
	return 0;
}

/* METHOD TARGET HTTP/1.x */
static int request_line_parse(const char *line, size_t len, struct iroh_head *head)
{
	const char *space = memchr(line, ' ', len), *target, *version, *path;
	size_t left;

	if (space == NULL || !is_word(line, (size_t)(space - line)))
		return -EINVAL;
	target = space + 1;
	left = len - (size_t)(target - line);
	version = memchr(target, ' ', left);
	if (version == NULL || !is_word(target, (size_t)(version - target)) ||
	    len - (size_t)(version - line) != 9 || strncmp(version, " HTTP/1.", 8) != 0)
		return -EINVAL;
	head->connect = space - line == 7 && strncmp(line, "CONNECT", 7) == 0;
	if (head->connect)
		return target_set(head, target, (size_t)(version - target), 0);
	if (version - target < 8 || strncasecmp(target, "http://", 7) != 0)
		return -EINVAL;
	target += 7;
	path = memchr(target, '/', (size_t)(version - target));
	if (path == NULL)
		path = version;
	if (target_set(head, target, (size_t)(path - target), 80) < 0 ||
	    forward_add(head, line, (size_t)(space - line), path == version ? " /" : " ") < 0)
		return -EINVAL;
	return forward_add(head, path, len - (size_t)(path - line), "\r\n");
}

static bool is_field(const char *line, size_t len, const char *name)
{
	size_t n = strlen(name);

	return len > n && strncasecmp(line, name, n) == 0 && line[n] == ':';
}

/* In constant time: other programs of this machine reach the port. */
static bool has_word(const char *line, size_t len, const char *word)
{
	size_t name = strlen("Proxy-Authorization:"), n = strlen(word);
	unsigned char differs = 0;

	while (name < len && line[name] == ' ')
		name++;
	if (len - name != n)
		return false;
	for (size_t i = 0; i < n; i++)
		differs |= (unsigned char)(line[name + i] ^ word[i]);
	return differs == 0;
}

static int text_parse(const char *text, const char *word, struct iroh_head *head)
{
	bool allowed = false;
	const char *line;
	size_t len;
	int rc;

	line = line_next(&text, &len);
	rc = line != NULL && is_line(line, len) ? request_line_parse(line, len, head) : -EINVAL;
	while (rc == 0 && (line = line_next(&text, &len)) != NULL) {
		if (!is_line(line, len) || memchr(line, ':', len) == NULL)
			rc = -EINVAL;
		else if (is_field(line, len, "Proxy-Authorization"))
			allowed = has_word(line, len, word);
		else if (!is_field(line, len, "Proxy-Connection") &&
			 !is_field(line, len, "Connection") && !head->connect)
			rc = forward_add(head, line, len, "\r\n");
	}
	/* The next request may be another host's. */
	if (rc == 0 && !head->connect)
		rc = forward_add(head, "Connection: close", 17, "\r\n\r\n");
	if (rc == 0 && !allowed)
		rc = -EACCES;
	return rc;
}

int iroh_head_parse(const uint8_t *bytes, size_t n, const char *word, struct iroh_head *head)
{
	char text[IROH_HEAD_MAX + 1];
	const uint8_t *end;
	size_t len;
	int rc;

	memset(head, 0, sizeof(*head));
	end = memmem(bytes, n, "\r\n\r\n", 4);
	if (end == NULL)
		return n >= IROH_HEAD_MAX ? -E2BIG : 0;
	len = (size_t)(end - bytes) + 4;
	if (len > IROH_HEAD_MAX)
		return -E2BIG;
	memcpy(text, bytes, len);
	text[len] = '\0';
	if (strlen(text) != len)
		return -EINVAL;
	rc = text_parse(text, word, head);
	return rc < 0 ? rc : (int)len;
}
