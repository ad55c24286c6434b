/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <ares.h>
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "loop_private.h"
#include "resolver.h"

#define RESOLVER_MAGIC 0x616c7273u
#define QUERY_MAGIC 0x616c7179u

/* The first try; the second waits twice as long, the third four times. */
#define TRY_MS 2500
#define TRIES 3

/* A peer may ask and give up again as fast as it likes, and what it asked stays until c-ares gives
 * up. */
#define PENDING_MAX 4096

struct resolver_socket {
	struct alk_resolver *resolver;
	int fd;
	struct alk_io *io;
	struct resolver_socket *next;
};

struct alk_resolver {
	uint32_t magic;
	struct alk_loop *loop;
	ares_channel channel;
	struct alk_timer *timer;
	uint64_t due; /* of the timer */
	struct resolver_socket *sockets;
	unsigned pending; /* queries that c-ares has, cancelled ones too */
};

struct alk_resolver_query {
	uint32_t magic;
	struct alk_resolver *resolver;
	alk_resolver_fn *done; /* NULL: cancelled, forget it when c-ares answers */
	void *user;
	struct alk_task task;
	int rc;
	struct alk_err err;
	size_t n;
	struct alk_sockaddr addrs[ALK_RESOLVER_ADDRESSES];
};

static const char resolver_key; /* of alk_loop_keep */

/* ---- c-ares on the loop ---- */

static void resolver_arm(struct alk_resolver *resolver, uint64_t ms)
{
	resolver->due = alk_loop_now(resolver->loop) + ms;
	alk_timer_start(resolver->timer, ms);
}

static void resolver_on_timeout(void *user)
{
	struct alk_resolver *resolver = user;
	struct timeval tv;

	assert(resolver->magic == RESOLVER_MAGIC);
	ares_process_fd(resolver->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	if (ares_timeout(resolver->channel, NULL, &tv) != NULL)
		resolver_arm(resolver,
			     (uint64_t)tv.tv_sec * 1000 + (uint64_t)tv.tv_usec / 1000 + 1);
}

static void socket_on_ready(void *user, int revents)
{
	struct resolver_socket *s = user;

	/* `s` may be gone after the first of what this calls. */
	ares_process_fd(s->resolver->channel, (revents & ALK_IO_READ) ? s->fd : ARES_SOCKET_BAD,
			(revents & ALK_IO_WRITE) ? s->fd : ARES_SOCKET_BAD);
}

static struct resolver_socket *resolver_socket_new(struct alk_resolver *resolver, int fd)
{
	struct resolver_socket *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->io = alk_io_new(resolver->loop, fd, "resolver", socket_on_ready, s);
	if (s->io == NULL) {
		free(s);
		return NULL;
	}
	s->resolver = resolver;
	s->fd = fd;
	s->next = resolver->sockets;
	resolver->sockets = s;
	return s;
}

/* c-ares tells what it waits for on a socket of its own; neither: it is about to close it. */
static void resolver_on_socket(void *user, ares_socket_t fd, int readable, int writable)
{
	struct alk_resolver *resolver = user;
	struct resolver_socket **at = &resolver->sockets;
	struct resolver_socket *s;

	while (*at != NULL && (*at)->fd != fd)
		at = &(*at)->next;
	s = *at;
	if (!readable && !writable) {
		if (s == NULL)
			return;
		*at = s->next;
		alk_io_free(&s->io);
		free(s);
		return;
	}
	if (s == NULL)
		s = resolver_socket_new(resolver, fd);
	if (s != NULL) /* else out of memory: the query times out */
		alk_io_set(s->io, (readable ? ALK_IO_READ : 0) | (writable ? ALK_IO_WRITE : 0));
}

/* ---- the resolver ---- */

static int resolver_init(struct alk_resolver *resolver, struct alk_err *err)
{
	char lookups[] = "fb"; /* /etc/hosts, then the name servers */
	struct ares_options options = {
		.timeout = TRY_MS,
		.tries = TRIES,
		.lookups = lookups,
		.sock_state_cb = resolver_on_socket,
		.sock_state_cb_data = resolver,
	};
	int rc;

	rc = ares_library_init(ARES_LIB_INIT_ALL);
	if (rc != ARES_SUCCESS)
		return alk_err_set(err, -ENOMEM, "cannot start the resolver: %s",
				   ares_strerror(rc));
	rc = ares_init_options(&resolver->channel, &options,
			       ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS |
				       ARES_OPT_SOCK_STATE_CB);
	if (rc == ARES_SUCCESS)
		return 0;
	ares_library_cleanup();
	resolver->channel = NULL;
	return alk_err_set(err, rc == ARES_ENOMEM ? -ENOMEM : -EIO, "cannot start the resolver: %s",
			   ares_strerror(rc));
}

struct alk_resolver *alk_resolver_new(struct alk_loop *loop, struct alk_err *err)
{
	struct alk_resolver *resolver = calloc(1, sizeof(*resolver));

	if (resolver == NULL)
		goto no_memory;
	resolver->magic = RESOLVER_MAGIC;
	resolver->loop = loop;
	resolver->timer = alk_timer_new(loop, "resolver", resolver_on_timeout, resolver);
	if (resolver->timer == NULL)
		goto no_memory;
	if (resolver_init(resolver, err) < 0)
		alk_resolver_free(&resolver);
	return resolver;

no_memory:
	alk_resolver_free(&resolver);
	alk_err_set(err, -ENOMEM, "cannot start the resolver: out of memory");
	return NULL;
}

void alk_resolver_free(struct alk_resolver **resolver)
{
	struct alk_resolver *r = *resolver;

	if (r == NULL)
		return;
	if (r->channel != NULL) {
		ares_destroy(r->channel);
		ares_library_cleanup();
	}
	alk_timer_free(&r->timer);
	r->magic = 0;
	free(r);
	*resolver = NULL;
}

static void resolver_free_kept(void *thing)
{
	struct alk_resolver *resolver = thing;

	alk_resolver_free(&resolver);
}

struct alk_resolver *alk_resolver_of(struct alk_loop *loop, struct alk_err *err)
{
	struct alk_resolver *resolver = alk_loop_kept(loop, &resolver_key);

	if (resolver != NULL)
		return resolver;
	resolver = alk_resolver_new(loop, err);
	if (resolver == NULL)
		return NULL;
	if (alk_loop_keep(loop, &resolver_key, resolver, resolver_free_kept) < 0) {
		alk_resolver_free(&resolver);
		alk_err_set(err, -ENOMEM, "cannot start the resolver: out of memory");
	}
	return resolver;
}

int alk_resolver_set_servers(struct alk_resolver *resolver, const char *servers,
			     struct alk_err *err)
{
	int rc = ares_set_servers_ports_csv(resolver->channel, servers);

	if (rc != ARES_SUCCESS)
		return alk_err_set(err, -EINVAL, "cannot use the name servers \"%s\": %s", servers,
				   ares_strerror(rc));
	return 0;
}

/* ---- queries ---- */

static void query_free(struct alk_resolver_query *query)
{
	query->magic = 0;
	free(query);
}

static void query_tell(void *user)
{
	struct alk_resolver_query *query = user;

	assert(query->magic == QUERY_MAGIC);
	query->done(query->user, query->rc, query->addrs, query->n, &query->err);
	query_free(query);
}

static int query_rc(int status)
{
	switch (status) {
	case ARES_ENOTFOUND:
	case ARES_ENODATA:
	case ARES_ENONAME:
	case ARES_EBADNAME:
		return -ENOENT;
	case ARES_ETIMEOUT:
		return -ETIMEDOUT;
	case ARES_ENOMEM:
		return -ENOMEM;
	default:
		return -EREMOTEIO;
	}
}

static void query_fill(struct alk_resolver_query *query, int status,
		       const struct ares_addrinfo *found)
{
	const struct ares_addrinfo_node *node;

	for (node = found != NULL ? found->nodes : NULL; node != NULL; node = node->ai_next) {
		struct alk_sockaddr *addr = &query->addrs[query->n];

		if (query->n == ALK_RESOLVER_ADDRESSES)
			break;
		if (node->ai_addrlen > sizeof(addr->in6))
			continue;
		memcpy(&addr->sa, node->ai_addr, node->ai_addrlen);
		addr->len = node->ai_addrlen;
		query->n++;
	}
	if (query->n > 0)
		return;
	if (status == ARES_SUCCESS)
		status = ARES_ENODATA;
	query->rc = query_rc(status);
	if (query->rc == -ENOENT)
		alk_err_set(&query->err, 0, "no such host name");
	else
		alk_err_set(&query->err, 0, "the host name cannot be resolved: %s",
			    ares_strerror(status));
}

static void query_on_answer(void *user, int status, int timeouts, struct ares_addrinfo *found)
{
	struct alk_resolver_query *query = user;

	(void)timeouts;
	assert(query->magic == QUERY_MAGIC);
	query->resolver->pending--;
	if (query->done != NULL && status != ARES_EDESTRUCTION)
		query_fill(query, status, found);
	if (found != NULL)
		ares_freeaddrinfo(found);
	if (query->done == NULL || status == ARES_EDESTRUCTION)
		query_free(query);
	else
		/* c-ares may answer one query inside the call that asks another. */
		alk_task_queue(query->resolver->loop, &query->task);
}

struct alk_resolver_query *alk_resolver_ask(struct alk_resolver *resolver, const char *name,
					    int family, alk_resolver_fn *done, void *user)
{
	/* Not sorted: c-ares would make a socket for each of the thousands of addresses that an
	 * answer may have, and trying them in turn (RFC 8305) tells better what works. */
	const struct ares_addrinfo_hints hints = {.ai_family = family,
						  .ai_socktype = SOCK_STREAM,
						  .ai_flags = ARES_AI_NOSORT};
	struct alk_resolver_query *query = resolver->pending < PENDING_MAX
						   ? calloc(1, sizeof(*query))
						   : NULL;

	assert(resolver->magic == RESOLVER_MAGIC);
	if (query == NULL)
		return NULL;
	query->magic = QUERY_MAGIC;
	query->resolver = resolver;
	query->done = done;
	query->user = user;
	query->task = (struct alk_task){.fn = query_tell, .user = query};
	resolver->pending++;
	ares_getaddrinfo(resolver->channel, name, NULL, &hints, query_on_answer, query);
	/* What runs already may be for a later try of another query. */
	if (query->task.prev == NULL && (!alk_timer_active(resolver->timer) ||
					 resolver->due > alk_loop_now(resolver->loop) + TRY_MS))
		resolver_arm(resolver, TRY_MS);
	return query;
}

void alk_resolver_cancel(struct alk_resolver_query **query)
{
	struct alk_resolver_query *q = *query;

	if (q == NULL)
		return;
	*query = NULL;
	assert(q->magic == QUERY_MAGIC);
	q->done = NULL;
	if (q->task.prev == NULL)
		return; /* c-ares has it still */
	alk_task_cancel(q->resolver->loop, &q->task);
	query_free(q);
}
