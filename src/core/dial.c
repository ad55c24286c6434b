/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "dial_private.h"
#include "proxy.h"
#include "resolver.h"

#define DIAL_MAGIC 0x616c646cu
#define TRIES_MAX 16
#define ATTEMPT_DELAY_MS 250   /* RFC 8305 8, Connection Attempt Delay */
#define RESOLUTION_DELAY_MS 50 /* RFC 8305 8, Resolution Delay */
#define UNIX_RETRY_MS 20       /* a unix socket with a full backlog does not say when it has room */

/* The two families, in the order in which they are tried. */
enum family {
	FAMILY_V6,
	FAMILY_V4,
	FAMILY_COUNT
};

/* How much a failure tells of the destination. */
enum rank {
	RANK_NONE,
	RANK_LOCAL, /* this machine has no way there, which is usual for one of the families */
	RANK_OTHER,
	RANK_TIMEOUT,
	RANK_UNREACHABLE,
	RANK_REFUSED,
};

struct attempt {
	struct alk_dial *dial;
	int fd;
	struct alk_io *io;
};

/* What one family has to offer. */
struct pool {
	struct alk_dial *dial;
	struct alk_resolver_query *query; /* not NULL: the answer is still to come */
	struct alk_sockaddr *addrs;
	size_t n, taken;
};

/* The destination, while its proxy is what is dialled. */
struct dial_via {
	struct alk_proxy_url url;
	struct alk_proxy *talk; /* once the proxy is connected */
	uint16_t port;
	char host[];
};

struct alk_dial {
	uint32_t magic;
	struct alk_loop *loop;
	alk_dial_fn *done;
	void *user;
	uint64_t timeout_ms;
	struct alk_task start;
	struct alk_timer *deadline;
	struct alk_timer *pace; /* the delay before the next attempt */

	struct dial_via *via; /* the proxy that is connected to instead; NULL = none */
	uint8_t first[ALK_DIAL_FIRST_MAX];
	size_t first_len; /* what the destination gets before anything else */

	struct sockaddr_un *path; /* a unix socket; then nothing below is used but rank and rc */
	uint16_t port;
	struct alk_sockaddr bind; /* len 0: any */
	struct pool pool[FAMILY_COUNT];
	enum family turn;
	size_t tried;
	struct attempt attempts[TRIES_MAX]; /* those that did not end at once */
	size_t started, live;

	enum rank rank;
	int rc; /* the failure of that rank */
	int name_rc;
	struct alk_err name_err;
	char name[];
};

/* ---- the end ---- */

static void attempt_close(struct attempt *attempt)
{
	alk_io_free(&attempt->io);
	alk_fd_close(&attempt->fd);
}

/* No attempt and no question is under way any more. */
static void dial_stop_trying(struct alk_dial *dial)
{
	size_t i;

	for (i = 0; i < dial->started; i++)
		attempt_close(&dial->attempts[i]);
	for (i = 0; i < FAMILY_COUNT; i++)
		alk_resolver_cancel(&dial->pool[i].query);
	alk_timer_stop(dial->pace);
}

static void via_free(struct dial_via *via)
{
	if (via == NULL)
		return;
	alk_proxy_cancel(&via->talk);
	explicit_bzero(&via->url, sizeof(via->url));
	free(via);
}

static void dial_free(struct alk_dial *dial)
{
	size_t i;

	if (dial->pace != NULL)
		dial_stop_trying(dial);
	for (i = 0; i < FAMILY_COUNT; i++)
		free(dial->pool[i].addrs);
	via_free(dial->via);
	alk_task_cancel(dial->loop, &dial->start);
	alk_timer_free(&dial->deadline);
	alk_timer_free(&dial->pace);
	free(dial->path);
	dial->magic = 0;
	free(dial);
}

/* The dial is gone when `done` runs. Takes fd. */
static void dial_finish(struct alk_dial *dial, int rc, int fd, const struct alk_err *err)
{
	alk_dial_fn *done = dial->done;
	void *user = dial->user;

	assert(dial->magic == DIAL_MAGIC);
	dial_free(dial);
	done(user, rc, fd, err);
}

/* The destination is there: a fresh socket has room for what it gets first. */
static void dial_connected(struct alk_dial *dial, int fd)
{
	struct alk_err err = {""};
	ssize_t n = 0;
	int rc = 0;

	if (dial->first_len > 0)
		n = send(fd, dial->first, dial->first_len, MSG_NOSIGNAL);
	if (n != (ssize_t)dial->first_len) {
		rc = alk_err_set(&err, n < 0 ? -errno : -EPIPE,
				 "the PROXY header could not be sent");
		alk_fd_close(&fd);
	}
	dial_finish(dial, rc, fd, &err);
}

static void dial_on_proxy(void *user, int rc, int fd, const struct alk_err *err)
{
	struct alk_dial *dial = user;

	assert(dial->magic == DIAL_MAGIC);
	dial->via->talk = NULL;
	if (rc == 0)
		dial_connected(dial, fd);
	else
		dial_finish(dial, rc, -1, err);
}

/* Connected, with the destination or with its proxy. */
static void dial_succeed(struct alk_dial *dial, int fd)
{
	struct dial_via *via = dial->via;
	struct alk_err err = {""};

	if (via == NULL) {
		dial_connected(dial, fd);
		return;
	}
	dial_stop_trying(dial);
	via->talk = alk_proxy_start(dial->loop, &fd, &via->url, via->host, via->port, dial_on_proxy,
				    dial, &err);
	if (via->talk == NULL)
		dial_finish(dial, -EIO, -1, &err);
}

static void dial_fail(struct alk_dial *dial)
{
	struct alk_err err = dial->name_err;
	int rc = dial->name_rc;

	if (dial->rank != RANK_NONE) {
		rc = dial->rc;
		alk_err_set(&err, rc, "connect failed: %s", strerror(-rc));
	}
	if (dial->via != NULL)
		rc = alk_proxy_unreachable(dial->loop, rc, &err);
	dial_finish(dial, rc, -1, &err);
}

static void dial_on_deadline(void *user)
{
	struct alk_dial *dial = user;
	bool connecting = dial->tried > 0 || dial->path != NULL;
	struct alk_err err;

	if (dial->rank > RANK_TIMEOUT) {
		dial_fail(dial);
		return;
	}
	alk_err_set(&err, -ETIMEDOUT, "%s timed out after %g s",
		    connecting ? "connect" : "resolving the host name",
		    (double)dial->timeout_ms / 1000);
	if (dial->via != NULL && dial->via->talk != NULL) {
		alk_err_set(&err, -ETIMEDOUT, "the proxy did not answer in %g s",
			    (double)dial->timeout_ms / 1000);
		alk_proxy_silent(dial->loop, &err);
	} else if (dial->via != NULL) {
		alk_proxy_unreachable(dial->loop, -ETIMEDOUT, &err);
	}
	dial_finish(dial, -ETIMEDOUT, -1, &err);
}

static void dial_note(struct alk_dial *dial, int rc, bool local)
{
	enum rank rank = RANK_OTHER;

	if (rc == -ECONNREFUSED || rc == -ECONNRESET)
		rank = RANK_REFUSED;
	else if (local && (rc == -ENETUNREACH || rc == -EADDRNOTAVAIL || rc == -EAFNOSUPPORT))
		rank = RANK_LOCAL;
	else if (rc == -EHOSTUNREACH || rc == -ENETUNREACH)
		rank = RANK_UNREACHABLE;
	else if (rc == -ETIMEDOUT)
		rank = RANK_TIMEOUT;
	if (rank <= dial->rank)
		return;
	dial->rank = rank;
	dial->rc = rc;
}

/* ---- attempts ---- */

/* A connected or connecting socket in *fd: 0 or -EINPROGRESS. `local` tells whether a failure came
 * from this machine. */
static int attempt_connect(const struct alk_dial *dial, const struct alk_sockaddr *to, int *fd,
			   bool *local)
{
	const int one = 1;

	*local = true;
	*fd = socket(to->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (*fd < 0)
		return -errno;
	setsockopt(*fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	alk_addr_tune_local(*fd, &to->sa);
	if (dial->bind.len != 0) {
		/* The port is chosen at connect, so that there can be more than 64 Ki
		 * connections. */
		setsockopt(*fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
		if (bind(*fd, &dial->bind.sa, dial->bind.len) < 0)
			return -errno;
	}
	if (connect(*fd, &to->sa, to->len) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return -errno;
	/* A peer on this machine has answered by now; asking costs less than a turn of the loop. */
	*local = false;
	if (connect(*fd, &to->sa, to->len) == 0 || errno == EISCONN)
		return 0;
	return errno == EALREADY || errno == EINTR ? -EINPROGRESS : -errno;
}

static bool dial_has_more(const struct alk_dial *dial)
{
	size_t i;

	for (i = 0; i < FAMILY_COUNT; i++)
		if (dial->pool[i].query != NULL || dial->pool[i].taken < dial->pool[i].n)
			return dial->tried < TRIES_MAX;
	return false;
}

static const struct alk_sockaddr *dial_take(struct alk_dial *dial)
{
	struct pool *pool = &dial->pool[dial->turn];

	if (dial->tried == TRIES_MAX)
		return NULL;
	if (pool->taken == pool->n)
		pool = &dial->pool[dial->turn == FAMILY_V6 ? FAMILY_V4 : FAMILY_V6];
	if (pool->taken == pool->n)
		return NULL;
	dial->turn = pool == &dial->pool[FAMILY_V6] ? FAMILY_V4 : FAMILY_V6;
	dial->tried++;
	return &pool->addrs[pool->taken++];
}

static void attempt_on_ready(void *user, int revents);

/* Takes fd. */
static int attempt_watch(struct alk_dial *dial, int fd)
{
	struct attempt *attempt = &dial->attempts[dial->started];

	attempt->io = alk_io_new(dial->loop, fd, "dial", attempt_on_ready, attempt);
	if (attempt->io == NULL) {
		close(fd);
		return -ENOMEM;
	}
	attempt->dial = dial;
	attempt->fd = fd;
	alk_io_set(attempt->io, ALK_IO_WRITE);
	dial->started++;
	dial->live++;
	return 0;
}

/* Begin with the next address. The dial may be gone after it. */
static void dial_next(struct alk_dial *dial)
{
	const struct alk_sockaddr *to;
	bool local;
	int fd, rc;

	while ((to = dial_take(dial)) != NULL) {
		rc = attempt_connect(dial, to, &fd, &local);
		if (rc == 0) {
			dial_succeed(dial, fd);
			return;
		}
		if (rc == -EINPROGRESS) {
			rc = attempt_watch(dial, fd);
			if (rc == 0) {
				if (dial_has_more(dial))
					alk_timer_start(dial->pace, ATTEMPT_DELAY_MS);
				return;
			}
		} else {
			alk_fd_close(&fd);
		}
		dial_note(dial, rc, local);
	}
	if (dial->live == 0 && dial->pool[FAMILY_V6].query == NULL &&
	    dial->pool[FAMILY_V4].query == NULL)
		dial_fail(dial);
}

static void attempt_on_ready(void *user, int revents)
{
	struct attempt *attempt = user;
	struct alk_dial *dial = attempt->dial;
	int failure = 0, fd;
	socklen_t len = sizeof(failure);

	(void)revents;
	assert(dial->magic == DIAL_MAGIC);
	if (getsockopt(attempt->fd, SOL_SOCKET, SO_ERROR, &failure, &len) < 0)
		failure = errno;
	if (failure == 0) {
		fd = attempt->fd;
		attempt->fd = -1;
		dial_succeed(dial, fd);
		return;
	}
	attempt_close(attempt);
	dial->live--;
	dial_note(dial, -failure, false);
	alk_timer_stop(dial->pace);
	dial_next(dial);
}

/* ---- names ---- */

/* Why a family has no address. That there is no such name tells least: the other may only be
 * late. */
static void pool_fail(struct pool *pool, int rc, const struct alk_err *err)
{
	struct alk_dial *dial = pool->dial;

	if (dial->name_rc != 0 && dial->name_rc != -ENOENT)
		return;
	dial->name_rc = rc;
	dial->name_err = *err;
}

static int pool_fill(struct pool *pool, const struct alk_sockaddr *addrs, size_t n)
{
	size_t i;

	pool->addrs = calloc(n, sizeof(*addrs));
	if (pool->addrs == NULL)
		return -ENOMEM;
	pool->n = n;
	for (i = 0; i < n; i++) {
		pool->addrs[i] = addrs[i];
		if (addrs[i].sa.sa_family == AF_INET6)
			pool->addrs[i].in6.sin6_port = htons(pool->dial->port);
		else
			pool->addrs[i].in.sin_port = htons(pool->dial->port);
	}
	return 0;
}

static void pool_on_answer(void *user, int rc, const struct alk_sockaddr *addrs, size_t n,
			   const struct alk_err *err)
{
	static const struct alk_err no_memory = {"out of memory"};
	struct pool *pool = user;
	struct alk_dial *dial = pool->dial;

	assert(dial->magic == DIAL_MAGIC);
	pool->query = NULL;
	if (rc != 0)
		pool_fail(pool, rc, err);
	else if (pool_fill(pool, addrs, n) < 0)
		pool_fail(pool, -ENOMEM, &no_memory);
	if (dial->tried > 0) {
		if (!alk_timer_active(dial->pace))
			dial_next(dial);
		return;
	}
	alk_timer_stop(dial->pace);
	if (dial->pool[FAMILY_V6].query == NULL)
		dial_next(dial);
	else if (dial->pool[FAMILY_V4].n > 0)
		alk_timer_start(dial->pace, RESOLUTION_DELAY_MS);
}

static int dial_ask(struct alk_dial *dial, struct alk_err *err)
{
	static const int families[FAMILY_COUNT] = {[FAMILY_V6] = AF_INET6, [FAMILY_V4] = AF_INET};
	struct alk_resolver *resolver = alk_resolver_of(dial->loop, err);
	size_t i;

	if (resolver == NULL)
		return -EIO;
	for (i = 0; i < FAMILY_COUNT; i++) {
		struct pool *pool = &dial->pool[i];

		if (dial->bind.len != 0 && dial->bind.sa.sa_family != families[i])
			continue;
		pool->query = alk_resolver_ask(resolver, dial->name, families[i], pool_on_answer,
					       pool);
		if (pool->query == NULL)
			return alk_err_set(err, -ENOMEM, "out of memory");
	}
	return 0;
}

static void dial_on_start(void *user)
{
	struct alk_dial *dial = user;

	assert(dial->magic == DIAL_MAGIC);
	if (dial->name[0] == '\0') {
		dial_next(dial);
		return;
	}
	dial->name_rc = dial_ask(dial, &dial->name_err);
	if (dial->name_rc < 0)
		dial_fail(dial);
}

/* ---- unix sockets ---- */

static void dial_path(struct alk_dial *dial)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rc = 0;

	if (fd < 0 || connect(fd, (const struct sockaddr *)dial->path, sizeof(*dial->path)) < 0)
		rc = -errno;
	if (rc == 0) {
		dial_succeed(dial, fd);
		return;
	}
	alk_fd_close(&fd);
	if (rc == -EAGAIN) {
		alk_timer_start(dial->pace, UNIX_RETRY_MS);
		return;
	}
	dial_note(dial, rc, true);
	dial_fail(dial);
}

static void dial_on_path(void *user)
{
	dial_path(user);
}

/* ---- the calls ---- */

static void dial_on_pace(void *user)
{
	struct alk_dial *dial = user;

	assert(dial->magic == DIAL_MAGIC);
	if (dial->path != NULL)
		dial_path(dial);
	else
		dial_next(dial);
}

static struct alk_dial *dial_new(struct alk_loop *loop, const char *name, uint64_t timeout_ms,
				 alk_task_fn *start, alk_dial_fn *done, void *user,
				 struct alk_err *err)
{
	size_t len = strlen(name);
	struct alk_dial *dial = calloc(1, sizeof(*dial) + len + 1);
	size_t i;

	if (dial == NULL)
		goto no_memory;
	dial->magic = DIAL_MAGIC;
	dial->loop = loop;
	dial->timeout_ms = timeout_ms;
	dial->done = done;
	dial->user = user;
	dial->start = (struct alk_task){.fn = start, .user = dial};
	memcpy(dial->name, name, len);
	for (i = 0; i < FAMILY_COUNT; i++)
		dial->pool[i].dial = dial;
	dial->deadline = alk_timer_new(loop, "dial deadline", dial_on_deadline, dial);
	dial->pace = alk_timer_new(loop, "dial pace", dial_on_pace, dial);
	if (dial->deadline == NULL || dial->pace == NULL)
		goto no_memory;
	return dial;

no_memory:
	if (dial != NULL)
		dial_free(dial);
	alk_err_set(err, -ENOMEM, "out of memory");
	return NULL;
}

static void dial_begin(struct alk_dial *dial)
{
	alk_timer_start(dial->deadline, dial->timeout_ms);
	alk_task_queue(dial->loop, &dial->start);
}

/* An address as the answer to a question that is never asked. */
static int dial_add(struct alk_dial *dial, const char *numeric, struct alk_err *err)
{
	struct alk_sockaddr to;
	struct pool *pool;

	if (alk_addr_parse(&to, numeric, dial->port) < 0)
		return alk_err_set(err, -EINVAL, "not an address");
	pool = &dial->pool[to.sa.sa_family == AF_INET6 ? FAMILY_V6 : FAMILY_V4];
	if (dial->bind.len != 0 && dial->bind.sa.sa_family != to.sa.sa_family)
		return alk_err_set(err, -EADDRNOTAVAIL,
				   "the local address to connect from is of the other family");
	if (pool_fill(pool, &to, 1) < 0)
		return alk_err_set(err, -ENOMEM, "out of memory");
	return 0;
}

/* 0 when there is something to try or to ask for. */
static int dial_set_host(struct alk_dial *dial, const char *host, bool numeric, struct alk_err *err)
{
	int v6, v4;

	if (numeric)
		return dial_add(dial, host, err);
	if (!alk_addr_is_localhost(host))
		return 0;
	dial->name[0] = '\0';
	v6 = dial_add(dial, "::1", err);
	v4 = dial_add(dial, "127.0.0.1", err);
	return v6 < 0 ? v4 : 0;
}

/* From now on it is the proxy that is looked for. */
static int dial_set_via(struct alk_dial *dial, const struct alk_proxy_url *url, const char *host,
			uint16_t port, struct alk_err *err)
{
	dial->via = calloc(1, sizeof(*dial->via) + strlen(host) + 1);
	if (dial->via == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	dial->via->url = *url;
	dial->via->port = port;
	strcpy(dial->via->host, host);
	return 0;
}

struct alk_dial *alk_dial_start(struct alk_loop *loop, const char *host, uint16_t port,
				const struct alk_dial_how *how, uint64_t timeout_ms,
				alk_dial_fn *done, void *user, struct alk_err *err)
{
	struct alk_sockaddr to, from = {0};
	const char *name = how->proxy != NULL ? how->proxy->host : host;
	bool numeric = alk_addr_parse(&to, host, port) == 0;
	struct alk_dial *dial;
	int rc = 0;

	if (!numeric && alk_addr_check_name(host, err) < 0)
		return NULL;
	if (how->bind[0] != '\0' && alk_addr_parse(&from, how->bind, 0) < 0) {
		alk_err_set(err, -EINVAL, "the local address to connect from is not numeric");
		return NULL;
	}
	numeric = alk_addr_parse(&to, name, port) == 0;
	dial = dial_new(loop, numeric ? "" : name, timeout_ms, dial_on_start, done, user, err);
	if (dial == NULL)
		return NULL;
	dial->port = how->proxy != NULL ? how->proxy->port : port;
	dial->bind = from;
	memcpy(dial->first, how->first, how->first_len);
	dial->first_len = how->first_len;
	if (how->proxy != NULL)
		rc = dial_set_via(dial, how->proxy, host, port, err);
	if (rc < 0 || dial_set_host(dial, name, numeric, err) < 0) {
		dial_free(dial);
		return NULL;
	}
	dial_begin(dial);
	return dial;
}

struct alk_dial *alk_dial_unix(struct alk_loop *loop, const char *path, uint64_t timeout_ms,
			       alk_dial_fn *done, void *user, struct alk_err *err)
{
	size_t len = strlen(path);
	struct alk_dial *dial;

	if (len == 0 || len >= sizeof(dial->path->sun_path)) {
		alk_err_set(err, -EINVAL, "the path of a unix socket has 1 to %zu bytes",
			    sizeof(dial->path->sun_path) - 1);
		return NULL;
	}
	dial = dial_new(loop, "", timeout_ms, dial_on_path, done, user, err);
	if (dial == NULL)
		return NULL;
	dial->path = calloc(1, sizeof(*dial->path));
	if (dial->path == NULL) {
		dial_free(dial);
		alk_err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	dial->path->sun_family = AF_UNIX;
	memcpy(dial->path->sun_path, path, len);
	dial_begin(dial);
	return dial;
}

void alk_dial_cancel(struct alk_dial **dial)
{
	struct alk_dial *d = *dial;

	if (d == NULL)
		return;
	assert(d->magic == DIAL_MAGIC);
	*dial = NULL;
	dial_free(d);
}
