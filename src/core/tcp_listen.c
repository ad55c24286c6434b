/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <alknet/dial.h>
#include <alknet/log.h>
#include <alknet/transport.h>
#include "addr.h"
#include "coalesce.h"
#include "inherited.h"
#include "loop_private.h"

#define LISTENER_MAGIC 0x616c6c69u
#define SOCKETS_MAX 16
#define BATCH_MAX 64 /* connections a wake-up, so that the rest of the loop gets its turn */
#define TRY_MORE                                                                                   \
	16 /* wake-ups until it is tried whether there are more: a call that finds none is dear */
#define PAUSE_MIN_MS 10
#define PAUSE_MAX_MS 1000
#define SHORTAGE_MS 5000 /* a shortage within that time of the last one is still the same */
#define SAME_PORT_TRIES 10
#define BACKLOG_DEFAULT 1024
#define KEEPALIVE_MS_DEFAULT 60000

struct listen_socket {
	struct alk_listener *listener;
	int fd;
	struct alk_io *io;
	bool local; /* on a loopback address */
	int batch;  /* how many to take at a wake-up */
	int full;   /* wake-ups that found as many */
	struct alk_coalesce coalesce;
	char transport[sizeof(((struct alk_link *)0)->transport)];
	char addr[64]; /* the local one of all its connections; "" = of each another, maybe */
	uint16_t port;
};

struct alk_listener {
	uint32_t magic;
	struct alk_loop *loop;
	const char *transport;
	struct alk_acceptor up;
	int backlog, keepalive; /* keepalive in s, 0 = none */
	struct listen_socket sockets[SOCKETS_MAX];
	size_t n;
	bool paused;
	bool *gone; /* set while connections are handed up: tells that the listener was freed there */
	/* File descriptors are short: nothing is accepted until the timer rings. */
	struct alk_timer *shortage;
	uint64_t pause_ms, last_short;
};

/* ---- accepting ---- */

static void listener_watch(struct alk_listener *listener)
{
	bool on = !listener->paused && !alk_timer_active(listener->shortage);
	size_t i;

	for (i = 0; i < listener->n; i++)
		alk_io_set(listener->sockets[i].io, on ? ALK_IO_READ : 0);
}

static void listener_on_shortage_over(void *user)
{
	struct alk_listener *listener = user;

	assert(listener->magic == LISTENER_MAGIC);
	listener_watch(listener);
}

static void listener_short(struct alk_listener *listener, int rc)
{
	uint64_t now = alk_loop_now(listener->loop);

	if (listener->pause_ms == 0 ||
	    now - listener->last_short > listener->pause_ms + SHORTAGE_MS) {
		listener->pause_ms = PAUSE_MIN_MS;
		alk_log(ALK_LOG_WARN, "accept paused", ALK_STR("transport", listener->transport),
			ALK_STR("error", strerror(-rc)));
	} else {
		listener->pause_ms = listener->pause_ms * 2 < PAUSE_MAX_MS ? listener->pause_ms * 2
									   : PAUSE_MAX_MS;
	}
	listener->last_short = now;
	alk_timer_start(listener->shortage, listener->pause_ms);
	listener_watch(listener);
}

/* Errors of the connection that was to be accepted, or of nothing: the next one may be good. */
static bool accept_may_go_on(int failure)
{
	switch (failure) {
	case EINTR:
	case ECONNABORTED:
	case EPROTO:
	case EPERM: /* a firewall's rule */
	case ENETDOWN:
	case ENETUNREACH:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case ENONET:
	case ENOPROTOOPT:
	case EOPNOTSUPP:
		return true;
	default:
		return false;
	}
}

static void link_fill(struct alk_link *link, const struct listen_socket *s, int fd,
		      const struct sockaddr_storage *remote, socklen_t remote_len)
{
	struct sockaddr_storage local = {0};
	socklen_t local_len = sizeof(local);

	*link = ALK_LINK_NONE;
	link->fd = fd;
	memcpy(link->transport, s->transport, sizeof(link->transport));
	alk_addr_format((const struct sockaddr *)remote, remote_len, link->remote_addr,
			sizeof(link->remote_addr), &link->remote_port);
	if (s->addr[0] != '\0') {
		memcpy(link->local_addr, s->addr, sizeof(link->local_addr));
		link->local_port = s->port;
		return;
	}
	if (getsockname(fd, (struct sockaddr *)&local, &local_len) < 0)
		local_len = 0;
	alk_addr_format((struct sockaddr *)&local, local_len, link->local_addr,
			sizeof(link->local_addr), &link->local_port);
}

/* One connection. Whether there may be more. */
static bool socket_accept(struct listen_socket *s)
{
	struct alk_listener *listener = s->listener;
	struct sockaddr_storage remote = {0};
	socklen_t len = sizeof(remote);
	struct alk_link link;
	int fd = accept4(s->fd, (struct sockaddr *)&remote, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return false;
		if (accept_may_go_on(errno))
			return true;
		listener_short(listener, -errno);
		return false;
	}
	if (!s->local)
		alk_addr_tune_local(fd, (struct sockaddr *)&remote);
	link_fill(&link, s, fd, &remote, len);
	listener->up.accepted(listener->up.user, &link);
	return true;
}

/* `n` were taken: shall the next ones come together? */
static bool socket_pauses(struct listen_socket *s, unsigned n)
{
	struct alk_loop *loop = s->listener->loop;
	uint64_t worked, waited = alk_loop_waited(loop, &worked);

	return alk_coalesce_look(&s->coalesce, n, waited, worked) &&
	       alk_loop_pause(loop, ALK_COALESCE_PAUSE_NS / 1000);
}

static void socket_on_ready(void *user, int revents)
{
	struct listen_socket *s = user;
	struct alk_listener *listener = s->listener;
	bool gone = false, more = true;
	int i;

	(void)revents;
	assert(listener->magic == LISTENER_MAGIC);
	listener->gone = &gone;
	for (i = 0; i < s->batch && more; i++) {
		more = socket_accept(s);
		if (gone)
			return;
		more = more && !listener->paused;
	}
	if (socket_pauses(s, (unsigned)(more ? i : i - 1)))
		s->batch = BATCH_MAX;
	else if (!more)
		s->batch = i > 1 ? i - 1 : 1, s->full = 0;
	else if (s->batch > 1 || ++s->full >= TRY_MORE)
		s->batch = s->batch * 2 < BATCH_MAX ? s->batch * 2 : BATCH_MAX;
	listener->gone = NULL;
}

/* ---- listening ---- */

static void socket_set_keepalive(const struct alk_listener *listener, int fd)
{
	const int on = listener->keepalive > 0;

	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	if (on)
		setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &listener->keepalive,
			   sizeof(listener->keepalive));
}

/* What is set on a listening socket its connections inherit. */
static void socket_set_options(const struct alk_listener *listener, int fd, int family)
{
	const int one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	socket_set_keepalive(listener, fd);
}

/* A socket on one address is where all its connections came to; the kernel need not be asked for
 * each. */
static void socket_find_local(struct listen_socket *s)
{
	static const struct in6_addr any = IN6ADDR_ANY_INIT;
	struct sockaddr_storage sa = {0};
	const struct sockaddr_in *in = (void *)&sa;
	const struct sockaddr_in6 *in6 = (void *)&sa;
	socklen_t len = sizeof(sa);

	s->addr[0] = '\0';
	if (getsockname(s->fd, (struct sockaddr *)&sa, &len) < 0)
		return;
	if ((sa.ss_family == AF_INET && in->sin_addr.s_addr != htonl(INADDR_ANY)) ||
	    (sa.ss_family == AF_INET6 && memcmp(&in6->sin6_addr, &any, sizeof(any)) != 0))
		alk_addr_format((struct sockaddr *)&sa, len, s->addr, sizeof(s->addr), &s->port);
}

/* One more that listens; its fd is set. */
static int socket_watch(struct alk_listener *listener, struct listen_socket *s, const char *name)
{
	s->batch = 1;
	snprintf(s->transport, sizeof(s->transport), "%s", listener->transport);
	socket_find_local(s);
	s->io = alk_io_new(listener->loop, s->fd, "listener", socket_on_ready, s);
	if (s->io == NULL || alk_inherited_offer(s->fd, listener->transport, name) < 0) {
		alk_io_free(&s->io);
		alk_fd_close(&s->fd);
		return -ENOMEM;
	}
	listener->n++;
	return 0;
}

static int listener_add(struct alk_listener *listener, const struct sockaddr *sa, socklen_t len)
{
	struct listen_socket *s = &listener->sockets[listener->n];
	int rc;

	s->listener = listener;
	s->fd = alk_inherited_take(listener->transport, sa, len);
	if (s->fd >= 0) {
		socket_set_options(listener, s->fd, sa->sa_family);
		s->local = alk_addr_tune_local(s->fd, sa);
	} else {
		s->fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (s->fd < 0)
			return -errno;
		socket_set_options(listener, s->fd, sa->sa_family);
		/* Whoever comes to a loopback address is here. Later it is too late to be rid of
		 * all of it: a connection that began with pacing keeps it. */
		s->local = alk_addr_tune_local(s->fd, sa);
		if (bind(s->fd, sa, len) < 0 || listen(s->fd, listener->backlog) < 0) {
			rc = -errno;
			alk_fd_close(&s->fd);
			return rc;
		}
	}
	return socket_watch(listener, s, NULL);
}

/* "fd:NAME": all that were inherited with this name. */
static int listener_open_named(struct alk_listener *listener, const char *name, struct alk_err *err)
{
	int fd, rc = 0;

	while (rc == 0 && listener->n < SOCKETS_MAX && (fd = alk_inherited_take_name(name)) >= 0) {
		struct listen_socket *s = &listener->sockets[listener->n];

		s->listener = listener;
		s->fd = fd;
		/* What connections inherit; the family's own option comes too late and changes
		 * nothing. */
		socket_set_options(listener, fd, AF_INET);
		rc = socket_watch(listener, s, name);
	}
	if (rc == 0 && listener->n == 0)
		rc = -ENOENT;
	return rc == 0 ? 0
		       : alk_err_set(
				 err, rc,
				 rc == -ENOENT
					 ? "cannot listen on fd:%s: no socket of this name was handed over (LISTEN_FDNAMES)"
					 : "cannot listen on fd:%s: out of memory",
				 name);
}

static void listener_clear(struct alk_listener *listener)
{
	for (; listener->n > 0; listener->n--) {
		alk_io_free(&listener->sockets[listener->n - 1].io);
		alk_inherited_withdraw(listener->sockets[listener->n - 1].fd);
		alk_fd_close(&listener->sockets[listener->n - 1].fd);
	}
}

static uint16_t socket_port(int fd)
{
	struct sockaddr_storage sa = {0};
	socklen_t len = sizeof(sa);
	char host[64];
	uint16_t port = 0;

	if (getsockname(fd, (struct sockaddr *)&sa, &len) == 0)
		alk_addr_format((struct sockaddr *)&sa, len, host, sizeof(host), &port);
	return port;
}

/* With port 0 the kernel chooses for the first address, and the others take the same. */
static int listener_add_all(struct alk_listener *listener, const struct addrinfo *found,
			    uint16_t port)
{
	const struct addrinfo *ai;
	int rc, first = 0;

	for (ai = found; ai != NULL && listener->n < SOCKETS_MAX; ai = ai->ai_next) {
		uint16_t use = htons(
			listener->n > 0 && port == 0 ? socket_port(listener->sockets[0].fd) : port);

		if (ai->ai_family == AF_INET6)
			((struct sockaddr_in6 *)(void *)ai->ai_addr)->sin6_port = use;
		else
			((struct sockaddr_in *)(void *)ai->ai_addr)->sin_port = use;
		rc = listener_add(listener, ai->ai_addr, ai->ai_addrlen);
		if (rc == 0)
			continue;
		if (first == 0)
			first = rc;
		/* A family that this machine does not have is no reason to do without the other. */
		if (rc != -EAFNOSUPPORT && rc != -EADDRNOTAVAIL)
			return rc;
	}
	return listener->n > 0 ? 0 : first;
}

static int listener_bind(struct alk_listener *listener, const struct addrinfo *found, uint16_t port)
{
	int tries, rc = -EADDRINUSE;

	for (tries = 0; tries < (port == 0 ? SAME_PORT_TRIES : 1) && rc == -EADDRINUSE; tries++) {
		listener_clear(listener);
		rc = listener_add_all(listener, found, port);
	}
	return rc;
}

static int listener_find(const char *address, struct addrinfo **found, uint16_t *port,
			 struct alk_err *err)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
				 .ai_flags = AI_PASSIVE | AI_NUMERICHOST};
	char host[256];
	int rc;

	rc = alk_addr_split(address, host, sizeof(host), port, true, err);
	if (rc < 0)
		return alk_err_prefix(err, rc, "cannot listen");
	rc = getaddrinfo(host[0] != '\0' ? host : NULL, "0", &hints, found);
	if (rc == EAI_NONAME && host[0] != '\0') {
		hints.ai_flags = AI_PASSIVE;
		rc = getaddrinfo(host, "0", &hints, found);
	}
	if (rc != 0)
		return alk_err_set(err, -EINVAL, "cannot listen on %s: %s", address,
				   rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
	return 0;
}

int alk_tcp_check(const char *address, struct alk_err *err)
{
	char host[256];
	uint16_t port;
	int rc;

	if (strncmp(address, "fd:", 3) == 0)
		return 0;
	rc = alk_addr_split(address, host, sizeof(host), &port, true, err);
	return rc < 0 ? alk_err_prefix(err, rc, "cannot listen") : 0;
}

static int listener_open(struct alk_listener *listener, const char *address, struct alk_err *err)
{
	struct addrinfo *found = NULL;
	uint16_t port;
	int rc;

	if (strncmp(address, "fd:", 3) == 0)
		return listener_open_named(listener, address + 3, err);
	rc = listener_find(address, &found, &port, err);
	if (rc < 0)
		return rc;
	rc = listener_bind(listener, found, port);
	freeaddrinfo(found);
	if (rc == -EACCES && port != 0 && port < 1024)
		return alk_err_set(
			err, rc,
			"cannot listen on %s: %s (ports below 1024 need root or CAP_NET_BIND_SERVICE)",
			address, strerror(-rc));
	if (rc < 0)
		return alk_err_set(err, rc, "cannot listen on %s: %s", address, strerror(-rc));
	return 0;
}

static void listener_set(struct alk_listener *listener, const struct alk_options *options)
{
	int64_t keepalive = options != NULL ? alk_options_int(options, "keepalive")
					    : KEEPALIVE_MS_DEFAULT;

	listener->backlog = options != NULL ? (int)alk_options_int(options, "backlog")
					    : BACKLOG_DEFAULT;
	listener->keepalive = (int)((keepalive + 999) / 1000);
}

static struct alk_listener *listener_new(struct alk_loop *loop, const char *transport,
					 const struct alk_options *options,
					 const struct alk_acceptor *up)
{
	struct alk_listener *listener = calloc(1, sizeof(*listener));

	if (listener == NULL)
		return NULL;
	listener->magic = LISTENER_MAGIC;
	listener->loop = loop;
	listener->transport = transport;
	listener->up = *up;
	listener_set(listener, options);
	listener->shortage = alk_timer_new(loop, "listener shortage", listener_on_shortage_over,
					   listener);
	if (listener->shortage == NULL) {
		free(listener);
		return NULL;
	}
	return listener;
}

int alk_tcp_listen(struct alk_loop *loop, const char *transport, const char *address,
		   const struct alk_options *options, const struct alk_acceptor *up,
		   struct alk_listener **out, struct alk_err *err)
{
	struct alk_listener *listener = listener_new(loop, transport, options, up);
	int rc;

	*out = NULL;
	if (listener == NULL)
		return alk_err_set(err, -ENOMEM, "cannot listen on %s: out of memory", address);
	rc = listener_open(listener, address, err);
	if (rc < 0) {
		alk_tcp_unlisten(&listener);
		return rc;
	}
	listener_watch(listener);
	*out = listener;
	return 0;
}

void alk_tcp_unlisten(struct alk_listener **listener)
{
	struct alk_listener *l = *listener;

	if (l == NULL)
		return;
	assert(l->magic == LISTENER_MAGIC);
	if (l->gone != NULL)
		*l->gone = true;
	listener_clear(l);
	alk_timer_free(&l->shortage);
	l->magic = 0;
	free(l);
	*listener = NULL;
}

void alk_tcp_adopt(struct alk_listener *listener, const struct alk_options *options)
{
	assert(listener->magic == LISTENER_MAGIC);
	listener_set(listener, options);
	for (size_t i = 0; i < listener->n; i++) {
		socket_set_keepalive(listener, listener->sockets[i].fd);
		/* On a socket that listens this is its new backlog, nothing else. */
		listen(listener->sockets[i].fd, listener->backlog);
	}
}

void alk_tcp_pause(struct alk_listener *listener, bool paused)
{
	assert(listener->magic == LISTENER_MAGIC);
	listener->paused = paused;
	listener_watch(listener);
}

void alk_tcp_describe(const struct alk_listener *listener, char *text, size_t size)
{
	struct sockaddr_storage sa;
	size_t i, used = 0;
	socklen_t len;
	char host[64];
	uint16_t port;

	assert(listener->magic == LISTENER_MAGIC);
	text[0] = '\0';
	for (i = 0; i < listener->n && used < size; i++) {
		len = sizeof(sa);
		memset(&sa, 0, sizeof(sa));
		if (getsockname(listener->sockets[i].fd, (struct sockaddr *)&sa, &len) < 0)
			continue;
		alk_addr_format((struct sockaddr *)&sa, len, host, sizeof(host), &port);
		used += (size_t)snprintf(text + used, size - used,
					 sa.ss_family == AF_INET6 ? "%s[%s]:%u" : "%s%s:%u",
					 used > 0 ? ", " : "", host, (unsigned)port);
	}
}
