/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "connect_private.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <alknet/dial.h>
#include <alknet/log.h>
#include "addr.h"

#define BACKLOG 128
#define ACCEPTS_A_TURN 64
#define PAUSE_FIRST_MS 10
#define PAUSE_MAX_MS 1000

/* One listening socket. A name that has two addresses makes two. */
struct alk_accept {
	struct alk_front *front;
	struct alk_accept *next;
	int fd;
	struct alk_io *io;
	struct alk_timer *pause;
	unsigned pause_ms;
	uint64_t forward; /* its number; 0 = the proxy */
	char path[108];	  /* the unix socket, or "" */
	dev_t dev;	  /* which file the socket is, so that no other is removed */
	ino_t ino;
	struct alk_destination to;
};

static void accept_free(struct alk_accept *accept)
{
	struct stat st;

	alk_io_free(&accept->io);
	alk_timer_free(&accept->pause);
	alk_fd_close(&accept->fd);
	if (accept->path[0] != '\0' && lstat(accept->path, &st) == 0 && st.st_dev == accept->dev &&
	    st.st_ino == accept->ino)
		unlink(accept->path);
	free(accept);
}

void alk_accept_close_all(struct alk_front *front)
{
	while (front->accepts != NULL) {
		struct alk_accept *accept = front->accepts;

		front->accepts = accept->next;
		accept_free(accept);
	}
}

bool alk_accept_remove(struct alk_front *front, uint64_t forward)
{
	struct alk_accept **at = &front->accepts, *accept;
	bool found = false;

	while ((accept = *at) != NULL) {
		if (forward == 0 || accept->forward != forward) {
			at = &accept->next;
			continue;
		}
		*at = accept->next;
		accept_free(accept);
		found = true;
	}
	return found;
}

/* Behind those that are there, so that they are announced in the order they were asked for. */
static void accept_add(struct alk_front *front, struct alk_accept *accept)
{
	struct alk_accept **at = &front->accepts;

	while (*at != NULL)
		at = &(*at)->next;
	*at = accept;
}

/* Takes *fd, always. */
static struct alk_accept *accept_new(struct alk_front *front, int *fd,
				     const struct alk_destination *to)
{
	struct alk_accept *accept = calloc(1, sizeof(*accept));

	if (accept == NULL) {
		alk_fd_close(fd);
		return NULL;
	}
	accept->front = front;
	accept->fd = *fd;
	*fd = -1;
	if (to != NULL) {
		accept->to = *to;
		accept->forward = front->last_forward;
	}
	return accept;
}

/* Accepted connections inherit all of it, and work without. */
static void listener_tune(int fd, const struct alk_sockaddr *addr)
{
	int one = 1;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	alk_addr_tune_local(fd, &addr->sa);
}

/* Who connects to a proxy speaks first: the kernel hands the connection over with its first words,
 * or after a second without any. */
static void listener_await_words(int fd)
{
	int seconds = 1;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof(seconds));
}

static int tcp_listen(const struct alk_sockaddr *addr)
{
	int one = 1, rc;
	int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
	    (addr->sa.sa_family == AF_INET6 &&
	     setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) != 0) ||
	    bind(fd, &addr->sa, addr->len) != 0 || listen(fd, BACKLOG) != 0) {
		rc = -errno;
		alk_fd_close(&fd);
		return rc;
	}
	listener_tune(fd, addr);
	return fd;
}

static uint16_t socket_port(int fd)
{
	struct sockaddr_storage addr = {0};
	socklen_t len = sizeof(addr);
	char host[64];
	uint16_t port = 0;

	if (getsockname(fd, (struct sockaddr *)&addr, &len) == 0)
		alk_addr_format((struct sockaddr *)&addr, len, host, sizeof(host), &port);
	return port;
}

/* The addresses that a bind stands for; returns how many. */
static size_t bind_addresses(const char *host, uint16_t port, struct alk_sockaddr out[2])
{
	const char *names[2] = {host, NULL};
	size_t n = 0;

	if (host[0] == '\0' || strcmp(host, "*") == 0) {
		names[0] = "0.0.0.0";
		names[1] = "::";
	} else if (strcmp(host, "localhost") == 0) {
		names[0] = "127.0.0.1";
		names[1] = "::1";
	}
	for (size_t i = 0; i < 2 && names[i] != NULL; i++) {
		if (alk_addr_parse(&out[n], names[i], port) == 0)
			n++;
	}
	return n;
}

static void addr_set_port(struct alk_sockaddr *addr, uint16_t port)
{
	if (addr->sa.sa_family == AF_INET6)
		addr->in6.sin6_port = htons(port);
	else
		addr->in.sin_port = htons(port);
}

static int tcp_error(int rc, const char *option, const char *text, struct alk_err *err)
{
	if (rc == -EADDRINUSE)
		return alk_err_set(err, rc, "--%s %s: the port is in use; choose another, or 0",
				   option, text);
	if (rc == -EADDRNOTAVAIL)
		return alk_err_set(err, rc, "--%s %s: this machine does not have the address",
				   option, text);
	return alk_err_set(err, rc, "--%s %s: cannot listen: %s", option, text, strerror(-rc));
}

/* `option` and `text` are how the user wrote it. */
static int accept_tcp(struct alk_front *front, const char *option, const char *text,
		      const char *host, uint16_t port, const struct alk_destination *to,
		      struct alk_err *err)
{
	struct alk_sockaddr addrs[2];
	size_t n = bind_addresses(host, port, addrs), bound = 0;
	int rc = 0;

	if (n == 0)
		return alk_err_set(
			err, -EINVAL,
			"--%s %s: '%s' is not an address to listen on; write an IP address, localhost or *",
			option, text, host);
	for (size_t i = 0; i < n; i++) {
		struct alk_accept *accept;
		int fd;

		addr_set_port(&addrs[i], port);
		fd = rc = tcp_listen(&addrs[i]);
		/* A machine without IPv6 still has the other one. */
		if (n == 2 && (rc == -EAFNOSUPPORT || rc == -EADDRNOTAVAIL))
			continue;
		if (rc < 0)
			return tcp_error(rc, option, text, err);
		if (to == NULL)
			listener_await_words(fd);
		/* Both families get the port that the system chose for the first. */
		port = socket_port(fd);
		accept = accept_new(front, &fd, to);
		if (accept == NULL)
			return alk_err_set(err, -ENOMEM, "--%s %s: out of memory", option, text);
		accept_add(front, accept);
		bound++;
	}
	return bound > 0 ? 0 : tcp_error(rc, option, text, err);
}

static bool host_is_local(const char *host)
{
	struct alk_sockaddr addr;

	if (strcmp(host, "localhost") == 0)
		return true;
	if (alk_addr_parse(&addr, host, 0) != 0)
		return false;
	if (addr.sa.sa_family == AF_INET6)
		return IN6_IS_ADDR_LOOPBACK(&addr.in6.sin6_addr);
	return ntohl(addr.in.sin_addr.s_addr) >> 24 == 127;
}

int alk_accept_proxy(struct alk_front *front, const char *address, struct alk_err *err)
{
	char host[256];
	uint16_t port;
	int rc = alk_addr_split(address, host, sizeof(host), &port, true, err);

	if (rc != 0)
		return alk_err_prefix(err, rc, "--socks5");
	rc = accept_tcp(front, "socks5", address, host, port, NULL, err);
	if (rc == 0 && front->auth == NULL && !host_is_local(host))
		fprintf(stderr,
			"alknet: warning: whoever can reach %s can use the proxy: --socks5-auth-file asks for a password\n",
			address);
	return rc;
}

/* Is someone there? What nobody listens on any more is in the way. 0: the path is free now. */
static int unix_make_room(const struct sockaddr_un *addr)
{
	struct stat st;
	int fd, rc = 0;

	if (lstat(addr->sun_path, &st) != 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* EAGAIN: its backlog is full, so someone is there. */
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno == EAGAIN)
		rc = -EADDRINUSE;
	else if (errno != ECONNREFUSED)
		rc = errno == ENOENT ? 0 : -errno;
	else if (unlink(addr->sun_path) != 0 && errno != ENOENT)
		rc = -errno;
	alk_fd_close(&fd);
	return rc;
}

static int unix_listen(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd, rc;
	mode_t mask;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	rc = unix_make_room(&addr);
	if (rc != 0)
		return rc;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	mask = umask(0177);
	rc = bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 && listen(fd, BACKLOG) == 0
		     ? 0
		     : -errno;
	umask(mask);
	if (rc != 0)
		alk_fd_close(&fd);
	return rc != 0 ? rc : fd;
}

static int accept_unix(struct alk_front *front, const char *spec, const char *path,
		       const struct alk_destination *to, struct alk_err *err)
{
	struct alk_accept *accept;
	struct stat st;
	int fd = unix_listen(path);

	if (fd == -EADDRINUSE)
		return alk_err_set(err, fd, "--forward %s: another program listens on %s", spec,
				   path);
	if (fd == -EEXIST)
		return alk_err_set(err, fd, "--forward %s: %s is there already and is no socket",
				   spec, path);
	if (fd < 0)
		return alk_err_set(err, fd, "--forward %s: cannot listen on %s: %s", spec, path,
				   strerror(-fd));
	accept = accept_new(front, &fd, to);
	if (accept == NULL) {
		unlink(path);
		return alk_err_set(err, -ENOMEM, "--forward %s: out of memory", spec);
	}
	if (lstat(path, &st) == 0) {
		snprintf(accept->path, sizeof(accept->path), "%s", path);
		accept->dev = st.st_dev;
		accept->ino = st.st_ino;
	}
	accept_add(front, accept);
	return 0;
}

int alk_accept_forward(struct alk_front *front, const char *spec, struct alk_err *err)
{
	struct alk_destination to = {.port = 0};
	struct alk_forward forward;
	int rc = alk_forward_parse(spec, &forward, err);

	if (rc != 0)
		return alk_err_prefix(err, rc, "--forward");
	memcpy(to.host, forward.host, sizeof(to.host));
	memcpy(to.path, forward.path, sizeof(to.path));
	to.port = forward.host_port;
	front->last_forward++;
	if (forward.listen_path[0] != '\0')
		rc = accept_unix(front, spec, forward.listen_path, &to, err);
	else
		rc = accept_tcp(front, "forward", spec, forward.bind, forward.port, &to, err);
	if (rc != 0)
		alk_accept_remove(front, front->last_forward);
	return rc;
}

/* Descriptors or memory ran out: leave the others in the backlog for a while. */
static void accept_pause(struct alk_accept *accept, int error)
{
	if (accept->pause_ms == 0) {
		alk_log(ALK_LOG_WARN, "accepting paused", ALK_STR("error", strerror(error)));
		accept->pause_ms = PAUSE_FIRST_MS;
	} else if (accept->pause_ms < PAUSE_MAX_MS) {
		accept->pause_ms = accept->pause_ms * 2 < PAUSE_MAX_MS ? accept->pause_ms * 2
								       : PAUSE_MAX_MS;
	}
	alk_io_set(accept->io, 0);
	alk_timer_start(accept->pause, accept->pause_ms);
}

static void on_pause_over(void *user)
{
	struct alk_accept *accept = user;

	alk_io_set(accept->io, ALK_IO_READ);
}

static void on_connection(void *user, int revents)
{
	struct alk_accept *accept = user;

	(void)revents;
	for (int i = 0; i < ACCEPTS_A_TURN; i++) {
		struct alk_sockaddr peer = {.len = sizeof(peer.in6)};
		int fd = accept4(accept->fd, &peer.sa, &peer.len, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0 &&
		    (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
			accept_pause(accept, errno);
			return;
		}
		if (fd < 0 && errno == EAGAIN)
			return;
		if (fd < 0) /* one that is gone again */
			continue;
		accept->pause_ms = 0;
		alk_conn_new(accept->front, &fd, &peer, accept->forward == 0 ? NULL : &accept->to);
	}
}

int alk_accept_start(struct alk_front *front)
{
	for (struct alk_accept *accept = front->accepts; accept != NULL; accept = accept->next) {
		if (accept->io != NULL)
			continue;
		accept->io = alk_io_new(front->loop, accept->fd, "listener", on_connection, accept);
		accept->pause = alk_timer_new(front->loop, "listener pause", on_pause_over, accept);
		if (accept->io == NULL || accept->pause == NULL)
			return -ENOMEM;
		alk_io_set(accept->io, ALK_IO_READ);
	}
	return 0;
}

static void address_text(const char *host, uint16_t port, char *out, size_t size)
{
	snprintf(out, size, strchr(host, ':') != NULL ? "[%s]:%u" : "%s:%u", host, port);
}

static void accept_text(const struct alk_accept *accept, char *out, size_t size)
{
	struct sockaddr_storage addr = {0};
	socklen_t len = sizeof(addr);
	char host[64] = "";
	uint16_t port = 0;

	if (accept->path[0] != '\0') {
		snprintf(out, size, "%s", accept->path);
		return;
	}
	if (getsockname(accept->fd, (struct sockaddr *)&addr, &len) == 0)
		alk_addr_format((struct sockaddr *)&addr, len, host, sizeof(host), &port);
	address_text(host, port, out, size);
}

const struct alk_accept *alk_accept_next(const struct alk_front *front,
					 const struct alk_accept *after,
					 struct alk_accept_info *info)
{
	const struct alk_accept *accept = after != NULL ? after->next : front->accepts;

	if (accept == NULL)
		return NULL;
	info->forward = accept->forward;
	accept_text(accept, info->from, sizeof(info->from));
	info->to[0] = '\0';
	if (accept->to.path[0] != '\0')
		snprintf(info->to, sizeof(info->to), "%s", accept->to.path);
	else if (accept->forward != 0)
		address_text(accept->to.host, accept->to.port, info->to, sizeof(info->to));
	return accept;
}

void alk_accept_announce(const struct alk_front *front)
{
	const struct alk_accept *accept = NULL;
	struct alk_accept_info info;

	while ((accept = alk_accept_next(front, accept, &info)) != NULL) {
		if (info.forward == 0)
			fprintf(stderr, "alknet: SOCKS5 and HTTP proxy on %s\n", info.from);
		else
			fprintf(stderr, "alknet: forwarding %s to %s\n", info.from, info.to);
	}
}
