/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "remote_listener.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <alknet/dial.h>
#include "addr.h"
#include "board.h"
#include "text.h"

#define BOTH_TRIES 10 /* for a port that is free in both families */
#define ADDRESS_MAX 160
#define IDENTITY_MAX 1024 /* escaped */
#define HOST_SIZE 64

struct alk_remote_listener {
	struct alk_remote_table *table;
	struct alk_remote_listener *next, **prev;
	uint64_t session;
	const struct alk_remote_listener_ops *ops;
	void *user;
	struct alk_listener *sockets[2]; /* none while another worker has the port */
	uint16_t port;
	char host[HOST_SIZE];
	char identity[];
};

/* One of another worker's. */
struct remote_foreign {
	struct remote_foreign *next;
	uint64_t session;
	uint16_t port;
	bool wanted; /* told to go */
	char host[HOST_SIZE];
	char identity[];
};

struct alk_remote_table {
	struct alk_loop *loop;
	alk_remote_tell_fn *tell;
	void *user;
	struct alk_remote_listener *first;
	struct remote_foreign *foreign;
};

struct alk_remote_table *alk_remote_table_new(struct alk_loop *loop, alk_remote_tell_fn *tell,
					      void *user)
{
	struct alk_remote_table *table = calloc(1, sizeof(*table));

	if (table) {
		table->loop = loop;
		table->tell = tell;
		table->user = user;
	}
	return table;
}

void alk_remote_table_free(struct alk_remote_table **tablep)
{
	struct alk_remote_table *table = *tablep;

	*tablep = NULL;
	if (!table)
		return;
	while (table->foreign) {
		struct remote_foreign *f = table->foreign;

		table->foreign = f->next;
		free(f);
	}
	free(table);
}

/* ---- sockets --------------------------------------------------------------------------------- */

static void on_accepted(void *user, struct alk_link *link)
{
	struct alk_remote_listener *l = user;

	l->ops->accepted(l->user, link);
}

static int listener_socket(struct alk_remote_listener *l, unsigned n, const char *host,
			   uint16_t port)
{
	struct alk_acceptor up = {.accepted = on_accepted, .user = l};
	char address[ADDRESS_MAX];

	snprintf(address, sizeof(address), strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
	return alk_tcp_listen(l->table->loop, "remote", address, NULL, &up, &l->sockets[n], NULL);
}

static uint16_t socket_port(const struct alk_listener *socket)
{
	char text[ADDRESS_MAX], host[64], *end;
	uint16_t port = 0;

	alk_tcp_describe(socket, text, sizeof(text));
	end = strchr(text, ',');
	if (end)
		*end = '\0';
	return alk_addr_split(text, host, sizeof(host), &port, true, NULL) == 0 ? port : 0;
}

static void listener_shut(struct alk_remote_listener *l)
{
	alk_tcp_unlisten(&l->sockets[0]);
	alk_tcp_unlisten(&l->sockets[1]);
}

/* Both loopback addresses at one port, as far as the machine has them. */
static int listener_bind_both(struct alk_remote_listener *l, uint16_t port)
{
	int rc = listener_socket(l, 0, "127.0.0.1", port);

	if (rc < 0 && rc != -EAFNOSUPPORT && rc != -EADDRNOTAVAIL)
		return rc;
	if (l->sockets[0])
		port = socket_port(l->sockets[0]);
	rc = listener_socket(l, 1, "::1", port);
	if (rc < 0 && l->sockets[0] && (rc == -EAFNOSUPPORT || rc == -EADDRNOTAVAIL))
		rc = 0;
	if (rc < 0)
		listener_shut(l);
	return rc;
}

static int listener_bind(struct alk_remote_listener *l, uint16_t port)
{
	struct alk_sockaddr addr;
	int rc = -EADDRINUSE, tries;

	if (strcmp(l->host, "localhost") == 0) {
		for (tries = port ? 1 : BOTH_TRIES; tries > 0 && rc == -EADDRINUSE; tries--)
			rc = listener_bind_both(l, port);
	} else if (l->host[0] == '\0' || strcmp(l->host, "*") == 0) {
		rc = listener_socket(l, 0, "", port);
	} else if (alk_addr_parse(&addr, l->host, port) < 0) {
		return -EINVAL; /* a name would have to be resolved first */
	} else {
		rc = listener_socket(l, 0, l->host, port);
	}
	if (rc == 0)
		l->port = socket_port(l->sockets[l->sockets[0] ? 0 : 1]);
	return rc;
}

/* ---- whose port it is ------------------------------------------------------------------------ */

static bool host_is_any(const char *host)
{
	return host[0] == '\0' || strcmp(host, "*") == 0;
}

static bool addr_is_any(const struct alk_sockaddr *addr)
{
	return addr->sa.sa_family == AF_INET6 ? IN6_IS_ADDR_UNSPECIFIED(&addr->in6.sin6_addr)
					      : addr->in.sin_addr.s_addr == INADDR_ANY;
}

static bool addr_is_same(const struct alk_sockaddr *a, const struct alk_sockaddr *b)
{
	return a->sa.sa_family == AF_INET6
		       ? memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, sizeof(a->in6.sin6_addr)) == 0
		       : a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
}

/* Of two listeners at one port: does one stand in the other's way? */
static bool hosts_meet(const char *a, const char *b)
{
	struct alk_sockaddr one, two;

	if (host_is_any(a) || host_is_any(b) || strcmp(a, b) == 0)
		return true;
	if (strcmp(a, "localhost") == 0)
		return hosts_meet("127.0.0.1", b) || hosts_meet("::1", b);
	if (strcmp(b, "localhost") == 0)
		return hosts_meet(b, a);
	if (alk_addr_parse(&one, a, 0) < 0 || alk_addr_parse(&two, b, 0) < 0 ||
	    one.sa.sa_family != two.sa.sa_family)
		return false;
	return addr_is_any(&one) || addr_is_any(&two) || addr_is_same(&one, &two);
}

void alk_remote_listener_describe(const struct alk_remote_listener *l, char *text, size_t size)
{
	char one[ADDRESS_MAX];
	size_t i, used = 0;

	text[0] = '\0';
	for (i = 0; i < 2; i++) {
		if (!l->sockets[i] || used >= size)
			continue;
		alk_tcp_describe(l->sockets[i], one, sizeof(one));
		used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "", one);
	}
}

static void listener_tell(struct alk_remote_listener *l, bool on)
{
	char address[2 * ADDRESS_MAX];

	alk_remote_listener_describe(l, address, sizeof(address));
	/* Who is told that the port is free takes it at once. */
	if (!on)
		listener_shut(l);
	alk_count(ALK_M_REMOTE_LISTENERS, on ? 1 : -1);
	l->table->tell(l->table->user,
		       json_pack("{s:s, s:I, s:i, s:s, s:s, s:s, s:b}", "op", "remote", "session",
				 (json_int_t)l->session, "port", (int)l->port, "host", l->host,
				 "address", address, "identity", l->identity, "on", on));
}

static void listener_free(struct alk_remote_listener *l)
{
	if (l->sockets[0] || l->sockets[1])
		listener_tell(l, false);
	*l->prev = l->next;
	if (l->next)
		l->next->prev = l->prev;
	free(l);
}

static void listener_lose(struct alk_remote_listener *l, int rc, const char *why)
{
	const struct alk_remote_listener_ops *ops = l->ops;
	void *user = l->user;

	listener_free(l);
	ops->lost(user, rc, why);
}

/* Listeners of the same identity's other sessions at this port make room, where they are in the
 * way. */
static bool table_take_over(struct alk_remote_table *table, const struct alk_remote_listener *by,
			    uint16_t port)
{
	struct alk_remote_listener *l, *next;
	bool any = false;

	for (l = table->first; l; l = next) {
		next = l->next;
		if (l == by || l->port != port || l->session == by->session ||
		    strcmp(l->identity, by->identity) != 0 || !hosts_meet(l->host, by->host))
			continue;
		/* The list may have changed while its session was told. */
		listener_lose(l, 0, "another session of the identity asked for the port");
		next = table->first;
		any = true;
	}
	return any;
}

/* Does another worker have the port for the same identity, there? Then it is told to let go. */
static bool table_want(struct alk_remote_table *table, const struct alk_remote_listener *by,
		       uint16_t port)
{
	struct remote_foreign *f;
	bool any = false;

	for (f = table->foreign; f; f = f->next) {
		if (f->port != port || strcmp(f->identity, by->identity) != 0 ||
		    !hosts_meet(f->host, by->host))
			continue;
		f->wanted = any = true;
		table->tell(table->user,
			    json_pack("{s:s, s:I, s:i, s:s, s:s}", "op", "remote_want", "session",
				      (json_int_t)by->session, "port", (int)port, "host", f->host,
				      "identity", by->identity));
	}
	return any;
}

static bool listener_waits(const struct alk_remote_listener *l)
{
	return !l->sockets[0] && !l->sockets[1];
}

/* Asked for already, and not answered by the other worker yet. */
static bool table_waits(const struct alk_remote_table *table, const struct alk_remote_ask *ask)
{
	const struct alk_remote_listener *l;

	for (l = table->first; l; l = l->next)
		if (l->session == ask->session && l->port == ask->port && listener_waits(l) &&
		    hosts_meet(l->host, ask->host))
			return true;
	return false;
}

/* ---- listening ------------------------------------------------------------------------------- */

static struct alk_remote_listener *listener_new(struct alk_remote_table *table,
						const struct alk_remote_ask *ask)
{
	char identity[IDENTITY_MAX];
	size_t len = alk_text_escape(ask->identity, strlen(ask->identity), identity,
				     sizeof(identity));
	struct alk_remote_listener *l = calloc(1, sizeof(*l) + len + 1);

	if (!l)
		return NULL;
	memcpy(l->identity, identity, len);
	l->table = table;
	l->session = ask->session;
	snprintf(l->host, sizeof(l->host), "%s", ask->host);
	l->next = table->first;
	l->prev = &table->first;
	if (l->next)
		l->next->prev = &l->next;
	table->first = l;
	return l;
}

int alk_remote_listen(struct alk_remote_table *table, const struct alk_remote_ask *ask,
		      const struct alk_remote_listener_ops *ops, void *user,
		      struct alk_remote_listener **out)
{
	struct alk_remote_listener *l;
	int rc;

	*out = NULL;
	if (strlen(ask->host) >= sizeof(l->host))
		return -EINVAL;
	if (ask->port && table_waits(table, ask))
		return -EADDRINUSE;
	l = listener_new(table, ask);
	if (!l)
		return -ENOMEM;
	l->ops = ops;
	l->user = user;
	rc = listener_bind(l, ask->port);
	if (rc == -EADDRINUSE && ask->port && table_take_over(table, l, ask->port))
		rc = listener_bind(l, ask->port);
	if (rc == -EADDRINUSE && ask->port && table_want(table, l, ask->port)) {
		l->port = ask->port;
		*out = l;
		return 0;
	}
	if (rc < 0) {
		listener_free(l);
		return rc;
	}
	listener_tell(l, true);
	*out = l;
	return 0;
}

void alk_remote_listener_close(struct alk_remote_listener **listener)
{
	if (*listener)
		listener_free(*listener);
	*listener = NULL;
}

uint16_t alk_remote_listener_port(const struct alk_remote_listener *l)
{
	return l->port;
}

/* ---- what the supervisor says ---------------------------------------------------------------- */

static void foreign_add(struct alk_remote_table *table, const struct remote_foreign *of,
			const char *host, const char *identity)
{
	size_t len = strlen(identity);
	struct remote_foreign *f = calloc(1, sizeof(*f) + len + 1);

	if (!f)
		return; /* a take-over is refused then */
	memcpy(f->identity, identity, len);
	snprintf(f->host, sizeof(f->host), "%s", host);
	f->session = of->session;
	f->port = of->port;
	f->next = table->foreign;
	table->foreign = f;
}

/* Has another worker still to let go of what `l` waits for? */
static bool foreign_stays(const struct alk_remote_table *table, const struct alk_remote_listener *l)
{
	const struct remote_foreign *f;

	for (f = table->foreign; f; f = f->next)
		if (f->wanted && f->port == l->port && strcmp(f->identity, l->identity) == 0 &&
		    hosts_meet(f->host, l->host))
			return true;
	return false;
}

/* Another worker let go of the port somewhere: who waits for nobody else there listens now. */
static void table_go_on(struct alk_remote_table *table, uint16_t port)
{
	struct alk_remote_listener *l, *next;
	int rc;

	for (l = table->first; l; l = next) {
		next = l->next;
		if (l->port != port || !listener_waits(l) || foreign_stays(table, l))
			continue;
		rc = listener_bind(l, port);
		if (rc == 0) {
			listener_tell(l, true);
			continue;
		}
		listener_lose(l, rc, "the port could not be taken over");
		next = table->first; /* the list may have changed */
	}
}

static void foreign_remove(struct alk_remote_table *table, const struct remote_foreign *of,
			   const char *host)
{
	struct remote_foreign **at = &table->foreign, *f;

	while (*at && ((*at)->port != of->port || (*at)->session != of->session ||
		       strcmp((*at)->host, host) != 0))
		at = &(*at)->next;
	f = *at;
	if (!f)
		return;
	*at = f->next;
	free(f);
	table_go_on(table, of->port);
}

static void table_drop(struct alk_remote_table *table, const struct remote_foreign *of,
		       const char *host)
{
	struct alk_remote_listener *l = table->first;

	while (l &&
	       (l->session != of->session || l->port != of->port || strcmp(l->host, host) != 0))
		l = l->next;
	if (l)
		listener_lose(l, 0, "another session of the identity asked for the port");
}

void alk_remote_table_hear(struct alk_remote_table *table, const json_t *message)
{
	struct remote_foreign of = {
		.session = (uint64_t)json_integer_value(json_object_get(message, "session")),
		.port = (uint16_t)json_integer_value(json_object_get(message, "port")),
	};
	const char *op = json_string_value(json_object_get(message, "op"));
	const char *host = json_string_value(json_object_get(message, "host"));
	const char *identity = json_string_value(json_object_get(message, "identity"));

	if (!op || !host)
		return;
	if (strcmp(op, "remote_drop") == 0)
		table_drop(table, &of, host);
	else if (json_is_true(json_object_get(message, "on")))
		foreign_add(table, &of, host, identity ? identity : "");
	else
		foreign_remove(table, &of, host);
}
