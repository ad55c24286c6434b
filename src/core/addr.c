/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <strings.h>

#include <alknet/dial.h>
#include "addr.h"
#include "text.h"

#define NAME_MAX_BYTES 253
#define LABEL_MAX_BYTES 63

static int addr_parse_v6(struct alk_sockaddr *addr, const char *host, uint16_t port)
{
	char text[INET6_ADDRSTRLEN];
	const char *zone = strchr(host, '%');
	size_t len = zone != NULL ? (size_t)(zone - host) : strlen(host);
	char *end;

	if (len >= sizeof(text))
		return -EINVAL;
	memcpy(text, host, len);
	text[len] = '\0';
	if (inet_pton(AF_INET6, text, &addr->in6.sin6_addr) != 1)
		return -EINVAL;
	addr->in6.sin6_family = AF_INET6;
	addr->in6.sin6_port = htons(port);
	addr->len = sizeof(addr->in6);
	if (zone == NULL)
		return 0;
	addr->in6.sin6_scope_id = if_nametoindex(zone + 1);
	if (addr->in6.sin6_scope_id == 0 && zone[1] >= '0' && zone[1] <= '9') {
		addr->in6.sin6_scope_id = (uint32_t)strtoul(zone + 1, &end, 10);
		if (*end != '\0')
			return -EINVAL;
	}
	return addr->in6.sin6_scope_id != 0 ? 0 : -EINVAL;
}

static void addr_unmap(struct alk_sockaddr *addr)
{
	struct sockaddr_in6 in6 = addr->in6;

	if (addr->sa.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr))
		return;
	memset(addr, 0, sizeof(*addr));
	addr->in.sin_family = AF_INET;
	addr->in.sin_port = in6.sin6_port;
	memcpy(&addr->in.sin_addr, &in6.sin6_addr.s6_addr[12], 4);
	addr->len = sizeof(addr->in);
}

int alk_addr_parse(struct alk_sockaddr *addr, const char *host, uint16_t port)
{
	int rc;

	memset(addr, 0, sizeof(*addr));
	if (inet_pton(AF_INET, host, &addr->in.sin_addr) == 1) {
		addr->in.sin_family = AF_INET;
		addr->in.sin_port = htons(port);
		addr->len = sizeof(addr->in);
		return 0;
	}
	rc = addr_parse_v6(addr, host, port);
	if (rc == 0)
		addr_unmap(addr);
	return rc;
}

static bool label_is_number(const char *label, size_t len)
{
	if (len >= 2 && label[0] == '0' && (label[1] == 'x' || label[1] == 'X'))
		return strspn(label + 2, "0123456789abcdefABCDEF") >= len - 2;
	return strspn(label, "0123456789") >= len;
}

static int name_fail(const char *name, struct alk_err *err)
{
	char shown[300];

	alk_text_escape(name, strlen(name), shown, sizeof(shown));
	return alk_err_set(err, -EINVAL,
			   strchr(name, '@') != NULL
				   ? "\"%s\" is no host name: a host stands without a user"
				   : "the host name \"%s\" has a character that no host name has",
			   shown);
}

int alk_addr_check_name(const char *name, struct alk_err *err)
{
	static const char letters[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
	size_t total = strlen(name);
	const char *label = name;
	size_t len;

	if (total > 0 && name[total - 1] == '.')
		total--; /* the root's */
	if (total == 0)
		return alk_err_set(err, -EINVAL, "the host is empty");
	if (total > NAME_MAX_BYTES)
		return alk_err_set(err, -EINVAL, "the host name is longer than %d bytes",
				   NAME_MAX_BYTES);
	for (;;) {
		len = strspn(label, letters);
		if (label[len] != '\0' && label[len] != '.')
			return name_fail(name, err);
		if (len == 0 || len > LABEL_MAX_BYTES)
			return alk_err_set(err, -EINVAL, "the host name has %s label",
					   len == 0 ? "an empty" : "too long a");
		if ((size_t)(label - name) + len >= total)
			break;
		label += len + 1;
	}
	if (label_is_number(label, len))
		return alk_err_set(err, -EINVAL, "the host looks like an address, but is none");
	return 0;
}

bool alk_addr_is_localhost(const char *name)
{
	static const char localhost[] = "localhost";
	const size_t want = sizeof(localhost) - 1;
	size_t len = strlen(name);

	if (len > 0 && name[len - 1] == '.')
		len--;
	if (len < want || strncasecmp(name + len - want, localhost, want) != 0)
		return false;
	return len == want || name[len - want - 1] == '.';
}

bool alk_addr_tune_local(int fd, const struct sockaddr *peer)
{
	static const char reno[] = "reno"; /* any user may choose it, everywhere */
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	bool local = false;

	if (peer->sa_family == AF_INET) {
		memcpy(&in, peer, sizeof(in));
		local = ntohl(in.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	} else if (peer->sa_family == AF_INET6) {
		memcpy(&in6, peer, sizeof(in6));
		local = IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr);
	}
	/* A connection works without. */
	if (local)
		setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, reno, sizeof(reno) - 1);
	return local;
}

static int port_parse(const char *text, uint16_t *port, bool zero_ok, struct alk_err *err)
{
	size_t len = strspn(text, "0123456789");
	unsigned long value;

	if (len == 0 || text[len] != '\0')
		return alk_err_set(err, -EINVAL, "the port \"%.32s\" is not a number", text);
	value = len > 5 ? 65536 : strtoul(text, NULL, 10);
	if (value > 65535 || (value == 0 && !zero_ok))
		return alk_err_set(err, -EINVAL, "the port %.32s is not between %d and 65535", text,
				   zero_ok ? 0 : 1);
	*port = (uint16_t)value;
	return 0;
}

int alk_addr_split(const char *text, char *host, size_t size, uint16_t *port, bool zero_ok,
		   struct alk_err *err)
{
	const char *begin = text, *colon;
	size_t len;

	if (text[0] == '[') {
		begin = text + 1;
		colon = strchr(text, ']');
		if (colon == NULL)
			return alk_err_set(err, -EINVAL, "\"%.128s\" has no closing bracket", text);
		len = (size_t)(colon - begin);
		if (len == 0)
			return alk_err_set(err, -EINVAL,
					   "\"%.128s\" has nothing between its brackets", text);
		colon++;
		if (*colon != ':')
			return alk_err_set(err, -EINVAL, "\"%.128s\" has no :PORT", text);
	} else {
		colon = strchr(text, ':');
		if (colon == NULL)
			return alk_err_set(err, -EINVAL, "\"%.128s\" has no :PORT", text);
		if (strchr(colon + 1, ':') != NULL)
			return alk_err_set(
				err, -EINVAL,
				"\"%.128s\" has more than one colon; an IPv6 address goes in brackets",
				text);
		len = (size_t)(colon - text);
	}
	if (len >= size)
		return alk_err_set(err, -EINVAL, "the host of \"%.64s...\" is too long", text);
	memcpy(host, begin, len);
	host[len] = '\0';
	return port_parse(colon + 1, port, zero_ok, err);
}

/* As inet_ntop, which prints; each connection that is accepted has one. */
static void addr_format_v4(const void *bytes, char *host, size_t size)
{
	const uint8_t *octet = bytes;
	char text[INET_ADDRSTRLEN], *at = text;

	for (int i = 0; i < 4; i++) {
		if (i > 0)
			*at++ = '.';
		if (octet[i] >= 100)
			*at++ = (char)('0' + octet[i] / 100);
		if (octet[i] >= 10)
			*at++ = (char)('0' + octet[i] / 10 % 10);
		*at++ = (char)('0' + octet[i] % 10);
	}
	*at++ = '\0';
	memcpy(host, text, (size_t)(at - text) <= size ? (size_t)(at - text) : size);
	host[size - 1] = '\0';
}

static void addr_format_v6(const struct sockaddr_in6 *in6, char *host, size_t size)
{
	char text[INET6_ADDRSTRLEN];
	char zone[IF_NAMESIZE];

	if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
		addr_format_v4(&in6->sin6_addr.s6_addr[12], host, size);
		return;
	}
	inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof(text));
	if (in6->sin6_scope_id == 0)
		snprintf(host, size, "%s", text);
	else if (if_indextoname(in6->sin6_scope_id, zone) != NULL)
		snprintf(host, size, "%s%%%s", text, zone);
	else
		snprintf(host, size, "%s%%%u", text, (unsigned)in6->sin6_scope_id);
}

void alk_addr_format(const struct sockaddr *sa, socklen_t len, char *host, size_t size,
		     uint16_t *port)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	uint16_t found = 0;

	if (len >= sizeof(sa->sa_family) && sa->sa_family == AF_UNIX) {
		snprintf(host, size, "%s", "unix");
	} else if (len >= sizeof(in) && sa->sa_family == AF_INET) {
		memcpy(&in, sa, sizeof(in));
		addr_format_v4(&in.sin_addr, host, size);
		found = ntohs(in.sin_port);
	} else if (len >= sizeof(in6) && sa->sa_family == AF_INET6) {
		memcpy(&in6, sa, sizeof(in6));
		addr_format_v6(&in6, host, size);
		found = ntohs(in6.sin6_port);
	} else {
		snprintf(host, size, "%s", "unknown");
	}
	if (port != NULL)
		*port = found;
}
