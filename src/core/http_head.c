/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "http_head.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

/* A part of the head; `len` without line ends. */
struct piece {
	const char *at;
	size_t len;
};

/* tchar of RFC 9110 5.6.2. */
static bool is_token(struct piece p)
{
	for (size_t i = 0; i < p.len; i++)
		if (!isalnum((unsigned char)p.at[i]) &&
		    (p.at[i] == '\0' || strchr("!#$%&'*+-.^_`|~", p.at[i]) == NULL))
			return false;
	return p.len > 0;
}

static bool is_text(struct piece p)
{
	for (size_t i = 0; i < p.len; i++)
		if (((unsigned char)p.at[i] < 0x20 && p.at[i] != '\t') || p.at[i] == 0x7f)
			return false;
	return true;
}

/* What stands before `mark`; `rest` becomes what stands behind it. */
static bool piece_cut(struct piece *rest, char mark, struct piece *out)
{
	const char *end = memchr(rest->at, mark, rest->len);

	if (end == NULL)
		return false;
	*out = (struct piece){rest->at, (size_t)(end - rest->at)};
	rest->len -= out->len + 1;
	rest->at = end + 1;
	return true;
}

/* CRLF ends a line; a bare LF is taken for one, a CR elsewhere is not (RFC 9112 2.2). */
static bool line_cut(struct piece *rest, struct piece *line)
{
	if (!piece_cut(rest, '\n', line))
		return false;
	if (line->len > 0 && line->at[line->len - 1] == '\r')
		line->len--;
	return true;
}

static bool request_line(struct piece line, struct alk_http_head *head)
{
	struct piece method, target;

	if (!piece_cut(&line, ' ', &method) || !piece_cut(&line, ' ', &target))
		return false;
	/* A letter first: what else cannot begin a request is refused before its line is there
	 * (below). */
	if (!is_token(method) || !isalpha((unsigned char)method.at[0]) ||
	    method.len >= sizeof(head->method))
		return false;
	if (line.len != 8 || memcmp(line.at, "HTTP/1.", 7) != 0 ||
	    !isdigit((unsigned char)line.at[7]))
		return false;
	for (size_t i = 0; i < target.len; i++)
		if ((unsigned char)target.at[i] <= 0x20 || target.at[i] == 0x7f)
			return false;
	if (target.len == 0)
		return false;
	memcpy(head->method, method.at, method.len);
	head->http11 = line.at[7] != '0';
	for (size_t i = 0; i < target.len; i++) {
		if (target.at[i] == '?' || target.at[i] == '#') {
			target.len = i;
			break;
		}
	}
	if (target.at[0] == '/' && target.len < sizeof(head->path))
		memcpy(head->path, target.at, target.len);
	return true;
}

static bool field_is(struct piece name, const char *text)
{
	return name.len == strlen(text) && strncasecmp(name.at, text, name.len) == 0;
}

static struct piece trimmed(struct piece p)
{
	while (p.len > 0 && (p.at[0] == ' ' || p.at[0] == '\t'))
		p.at++, p.len--;
	while (p.len > 0 && (p.at[p.len - 1] == ' ' || p.at[p.len - 1] == '\t'))
		p.len--;
	return p;
}

static bool field_line(struct piece line, struct alk_http_head *head)
{
	struct piece name;

	if (!piece_cut(&line, ':', &name) || !is_token(name) || !is_text(line))
		return false;
	line = trimmed(line);
	if (field_is(name, "host")) {
		if (head->host)
			return false;
		head->host = true;
	}
	if (field_is(name, "transfer-encoding"))
		return false;
	return !field_is(name, "content-length") || (line.len == 1 && line.at[0] == '0');
}

int alk_http_head_parse(const char *bytes, size_t len, struct alk_http_head *head)
{
	struct piece rest = {bytes, len}, line;
	bool first = true;

	*head = (struct alk_http_head){0};
	while (line_cut(&rest, &line)) {
		if ((size_t)(rest.at - bytes) > ALK_HTTP_HEAD_MAX)
			return -EFBIG;
		if (!first && line.len == 0)
			return head->http11 && !head->host ? -EINVAL : (int)(rest.at - bytes);
		if (first ? !request_line(line, head) : !field_line(line, head))
			return -EINVAL;
		first = false;
	}
	/* Garbage is told from a slow client by what cannot begin a request. */
	if (first && len > 0 && !isalpha((unsigned char)bytes[0]))
		return -EINVAL;
	return len > ALK_HTTP_HEAD_MAX ? -EFBIG : 0;
}
