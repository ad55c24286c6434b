/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "conf.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "addr.h"
#include "text.h"

/* One field up to a colon or the end, brackets taken off; *s goes behind the colon, NULL at the
 * end. */
static int forward_field(const char **s, char *out, size_t size)
{
	const char *end, *next, *begin = *s;

	if (*begin == '[') {
		end = strchr(++begin, ']');
		if (end == NULL || (end[1] != ':' && end[1] != '\0'))
			return -EINVAL;
		next = end + 1;
	} else {
		end = next = strchrnul(begin, ':');
	}
	if ((size_t)(end - begin) >= size)
		return -EINVAL;
	memcpy(out, begin, (size_t)(end - begin));
	out[end - begin] = '\0';
	*s = *next == ':' ? next + 1 : NULL;
	return 0;
}

static int forward_port(const char *text, bool zero_ok, uint16_t *port)
{
	int64_t n;

	if (alk_text_int(text, &n) < 0 || n < (zero_ok ? 0 : 1) || n > 65535)
		return -EINVAL;
	*port = (uint16_t)n;
	return 0;
}

static int forward_path(const char *text, char *out, size_t size)
{
	if (strlen(text) >= size)
		return -EINVAL;
	strcpy(out, text);
	return 0;
}

static int forward_host(const char *host, const char *port, struct alk_forward *out)
{
	struct alk_sockaddr addr;

	/* Port 0 means something at a reserved destination alone. */
	if (forward_port(port, strncmp(host, "alknet-", 7) == 0, &out->host_port) < 0)
		return -EINVAL;
	if (alk_addr_parse(&addr, host, 1) < 0 && alk_addr_check_name(host, NULL) < 0)
		return -EINVAL;
	snprintf(out->host, sizeof(out->host), "%s", host);
	return 0;
}

/* Behind the port: host:hostport or /unix/path. */
static int forward_target(const char *s, struct alk_forward *out)
{
	char host[256], port[8];

	if (*s == '/')
		return forward_path(s, out->path, sizeof(out->path));
	if (forward_field(&s, host, sizeof(host)) < 0 || s == NULL ||
	    forward_field(&s, port, sizeof(port)) < 0 || s != NULL)
		return -EINVAL;
	return forward_host(host, port, out);
}

/* How many colons stand outside of brackets, up to a unix path. */
static unsigned forward_colons(const char *s)
{
	unsigned n = 0;
	bool inside = false;

	for (; *s != '\0' && (inside || *s != '/'); s++) {
		inside = *s == '[' || (inside && *s != ']');
		n += *s == ':' && !inside;
	}
	return n + (*s == '/' ? 1 : 0);
}

/* Leaves `bind` empty when there is none. */
static int forward_listen(const char **s, struct alk_forward *out)
{
	char port[8];

	if (**s == '/') {
		if (forward_field(s, out->listen_path, sizeof(out->listen_path)) < 0 || *s == NULL)
			return -EINVAL;
		return 0;
	}
	if (forward_colons(*s) == 3) {
		if (forward_field(s, out->bind, sizeof(out->bind)) < 0 || *s == NULL)
			return -EINVAL;
		if (out->bind[0] == '\0')
			strcpy(out->bind, "*");
	}
	if (forward_field(s, port, sizeof(port)) < 0 || *s == NULL)
		return -EINVAL;
	return forward_port(port, true, &out->port);
}

static int forward_read(const char *spec, struct alk_forward *out)
{
	const char *s = spec;

	*out = (struct alk_forward){0};
	return forward_listen(&s, out) == 0 ? forward_target(s, out) : -EINVAL;
}

static int forward_bad(const char *spec, const char *forms, struct alk_err *err)
{
	char shown[128];

	alk_text_escape(spec, strlen(spec), shown, sizeof(shown));
	return alk_err_set(err, -EINVAL, "must be %s (IPv6 in brackets), not \"%s\"", forms, shown);
}

int alk_forward_parse(const char *spec, struct alk_forward *out, struct alk_err *err)
{
	if (forward_read(spec, out) < 0)
		return forward_bad(
			spec,
			"[bind:]port:host:hostport, [bind:]port:/unix/path or /unix/path:host:hostport",
			err);
	if (out->bind[0] == '\0' && out->listen_path[0] == '\0')
		strcpy(out->bind, "127.0.0.1");
	return 0;
}

int alk_forward_parse_remote(const char *spec, struct alk_forward *out, struct alk_err *err)
{
	if (forward_read(spec, out) < 0 || out->listen_path[0] != '\0' ||
	    strncmp(out->host, "alknet-", 7) == 0)
		return forward_bad(spec, "[bind:]port:host:hostport or [bind:]port:/unix/path",
				   err);
	if (out->bind[0] == '\0')
		strcpy(out->bind, "localhost");
	else if (strcmp(out->bind, "*") == 0)
		out->bind[0] = '\0';
	return 0;
}
