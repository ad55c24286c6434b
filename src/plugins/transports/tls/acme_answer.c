/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* http-01 (RFC 8555 section 8.3). The port is bound all the time and listened on only while a name
 * is being proved: it is closed to the world otherwise. Strangers get 404; there are few
 * connections at once, for a short time. */
#include "acme_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <alknet/loop.h>

#define CONNS (ACME_ANSWER_FDS - 1)
#define REQUEST_MAX 4096
#define REQUEST_SECONDS 10

struct answer_conn {
	int fd;
	time_t since;	 /* acme_client_clock() */
	uint64_t number; /* of those that came */
	size_t n;
	char bytes[REQUEST_MAX];
};

struct acme_answer {
	int fd;
	char token[256], text[512];
	uint64_t came;
	struct answer_conn conn[CONNS];
};

enum acme_match acme_answer_match(const char *bytes, size_t n, const char *token)
{
	static const char path[] = "GET /.well-known/acme-challenge/", version[] = " HTTP/1.";
	size_t len = strlen(token);
	const char *end = memmem(bytes, n, "\r\n\r\n", 4);

	if (end == NULL && n < REQUEST_MAX)
		return ACME_MATCH_MORE;
	if (end == NULL || len == 0 || n < sizeof(path) - 1 + len + sizeof(version) - 1 ||
	    memcmp(bytes, path, sizeof(path) - 1) != 0 ||
	    memcmp(bytes + sizeof(path) - 1, token, len) != 0 ||
	    memcmp(bytes + sizeof(path) - 1 + len, version, sizeof(version) - 1) != 0)
		return ACME_MATCH_NO;
	return ACME_MATCH_YES;
}

static int port_bind(const struct addrinfo *at, bool both)
{
	int on = 1, off = 0;
	int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (at->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, both ? &off : &on, sizeof(on));
	if (bind(fd, at->ai_addr, at->ai_addrlen) == 0)
		return fd;
	on = -errno;
	alk_fd_close(&fd);
	return on;
}

struct acme_answer *acme_answer_open(const char *address, struct alk_err *err)
{
	struct acme_answer *a = calloc(1, sizeof(*a));
	struct addrinfo *at = NULL;
	char v4[80];
	bool any = address[0] == ':';

	if (a == NULL || acme_address_find(address, &at, err) < 0) {
		free(a);
		return NULL;
	}
	for (size_t i = 0; i < CONNS; i++)
		a->conn[i].fd = -1;
	a->fd = port_bind(at, any);
	freeaddrinfo(at);
	/* A machine without IPv6. */
	if (any && (a->fd == -EAFNOSUPPORT || a->fd == -EADDRNOTAVAIL)) {
		snprintf(v4, sizeof(v4), "0.0.0.0%.32s", address);
		if (acme_address_find(v4, &at, err) == 0) {
			a->fd = port_bind(at, false);
			freeaddrinfo(at);
		}
	}
	if (a->fd >= 0)
		return a;
	alk_err_set(err, a->fd, "acme_http: %s cannot be listened on: %s", address,
		    strerror(-a->fd));
	free(a);
	return NULL;
}

int acme_answer_begin(struct acme_answer *a, const char *token, const char *text,
		      struct alk_err *err)
{
	if (strlen(token) >= sizeof(a->token) || strlen(text) >= sizeof(a->text))
		return alk_err_set(err, -EINVAL, "the CA's token is too long");
	strcpy(a->token, token);
	strcpy(a->text, text);
	if (listen(a->fd, CONNS) == 0)
		return 0;
	return alk_err_set(err, -errno, "acme_http: the port cannot be listened on: %s",
			   strerror(errno));
}

void acme_answer_end(struct acme_answer *a)
{
	for (size_t i = 0; i < CONNS; i++)
		alk_fd_close(&a->conn[i].fd);
	/* Linux: listens no more, keeps the address. */
	shutdown(a->fd, SHUT_RD);
	a->token[0] = '\0';
}

size_t acme_answer_fds(const struct acme_answer *a, struct pollfd fds[ACME_ANSWER_FDS])
{
	size_t n = 0;

	if (a->token[0] == '\0')
		return 0;
	fds[n++] = (struct pollfd){.fd = a->fd, .events = POLLIN};
	for (size_t i = 0; i < CONNS; i++)
		if (a->conn[i].fd >= 0)
			fds[n++] = (struct pollfd){.fd = a->conn[i].fd, .events = POLLIN};
	return n;
}

/* Less than a socket's buffer: it goes at once, or to nobody who matters. */
static void conn_answer(struct acme_answer *a, struct answer_conn *conn, bool found)
{
	char text[1024];
	int n;

	if (found)
		n = snprintf(text, sizeof(text),
			     "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
			     "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
			     strlen(a->text), a->text);
	else
		n = snprintf(text, sizeof(text),
			     "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n"
			     "Connection: close\r\n\r\n");
	if (send(conn->fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) == n)
		shutdown(conn->fd, SHUT_WR);
	alk_fd_close(&conn->fd);
}

static void conn_read(struct acme_answer *a, struct answer_conn *conn)
{
	ssize_t n = recv(conn->fd, conn->bytes + conn->n, sizeof(conn->bytes) - conn->n,
			 MSG_DONTWAIT);
	enum acme_match match;

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		alk_fd_close(&conn->fd);
		return;
	}
	conn->n += n > 0 ? (size_t)n : 0;
	match = acme_answer_match(conn->bytes, conn->n, a->token);
	if (match != ACME_MATCH_MORE)
		conn_answer(a, conn, match == ACME_MATCH_YES);
}

/* A place for one more: free, or the oldest one's. */
static struct answer_conn *conn_place(struct acme_answer *a)
{
	struct answer_conn *oldest = &a->conn[0];

	for (size_t i = 0; i < CONNS; i++) {
		if (a->conn[i].fd < 0)
			return &a->conn[i];
		if (a->conn[i].number < oldest->number)
			oldest = &a->conn[i];
	}
	alk_fd_close(&oldest->fd);
	return oldest;
}

void acme_answer_turn(struct acme_answer *a, time_t now)
{
	int fd;

	if (a->token[0] == '\0')
		return;
	for (size_t i = 0; i < CONNS; i++) {
		if (a->conn[i].fd >= 0)
			conn_read(a, &a->conn[i]);
		if (a->conn[i].fd >= 0 && now - a->conn[i].since > REQUEST_SECONDS)
			alk_fd_close(&a->conn[i].fd);
	}
	for (size_t i = 0; i < CONNS; i++) {
		struct answer_conn *conn;

		fd = accept4(a->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			return;
		conn = conn_place(a);
		conn->fd = fd;
		conn->since = now;
		conn->number = ++a->came;
		conn->n = 0;
		conn_read(a, conn);
	}
}
