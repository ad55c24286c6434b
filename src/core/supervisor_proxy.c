/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "supervisor_private.h"

#include <alknet/dial.h>
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "cidr.h"
#include "proxy_header.h"

/* A link that begins with a PROXY header. The header is read here, and not in a worker, because
 * every limit at the door counts the address that it says. What is parsed with the supervisor's
 * privileges is bytes of the operator's own balancers (proxy_from; anybody else's are not even
 * read), of a fixed form, into a buffer of fixed size. */

#define WAITING_MAX 1024

#define PROXIED_MAGIC 0x78727070u /* "pprx" */

struct supervisor_proxied {
	uint32_t magic;
	struct alk_supervisor *sup;
	struct supervisor_proxied *next, **prev;
	struct alk_link link;
	struct alk_io *io;
	struct alk_timer *timer;
	size_t n, size; /* bytes that came; of the whole header, 0 = not known yet */
	uint8_t bytes[ALK_PROXY_HEADER_MAX];
};

static struct supervisor_proxied *proxied_of(void *user)
{
	struct supervisor_proxied *p = user;

	assert(p->magic == PROXIED_MAGIC);
	return p;
}

static void proxied_free(struct supervisor_proxied *p)
{
	*p->prev = p->next;
	if (p->next != NULL)
		p->next->prev = p->prev;
	p->sup->nproxied--;
	alk_io_free(&p->io);
	alk_timer_free(&p->timer);
	alk_link_close(&p->link);
	p->magic = 0;
	free(p);
}

static void proxied_refuse(struct supervisor_proxied *p, const char *why)
{
	alk_log(ALK_LOG_DEBUG, "proxied connection refused",
		ALK_STR("remote_addr", p->link.remote_addr), ALK_STR("reason", why));
	supervisor_refuse(p->sup, ALK_REFUSAL_PROXY, p->link.remote_addr);
	proxied_free(p);
}

static void on_timeout(void *user)
{
	proxied_refuse(proxied_of(user), "the PROXY header did not come in time");
}

static void proxied_take(struct supervisor_proxied *p, const struct alk_proxy_header *header)
{
	struct alk_link link = p->link;
	struct alk_supervisor *sup = p->sup;

	p->link.fd = -1;
	if (header->has_addrs) {
		alk_addr_format(&header->remote.sa, header->remote.len, link.remote_addr,
				sizeof(link.remote_addr), &link.remote_port);
		alk_addr_format(&header->local.sa, header->local.len, link.local_addr,
				sizeof(link.local_addr), &link.local_port);
		alk_log(ALK_LOG_DEBUG, "proxied connection",
			ALK_STR("remote_addr", link.remote_addr),
			ALK_STR("proxy_addr", p->link.remote_addr));
	}
	proxied_free(p);
	supervisor_take_link(sup, &link);
}

static void proxied_read(struct supervisor_proxied *p)
{
	size_t want = p->size > 0 ? p->size : ALK_PROXY_HEADER_FIRST;
	ssize_t n = recv(p->link.fd, p->bytes + p->n, want - p->n, 0);
	struct alk_proxy_header header;
	struct alk_err err = {""};

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) { /* a balancer that looks whether we are there, maybe */
		proxied_free(p);
		return;
	}
	p->n += (size_t)n;
	if (p->size == 0) {
		n = alk_proxy_header_size(p->bytes, p->n, &err);
		if (n < 0) {
			proxied_refuse(p, err.text);
			return;
		}
		p->size = (size_t)n;
	}
	if (p->size == 0 || p->n < p->size)
		return;
	if (alk_proxy_header_parse(p->bytes, p->size, &header, &err) < 0)
		proxied_refuse(p, err.text);
	else
		proxied_take(p, &header);
}

static void on_ready(void *user, int revents)
{
	(void)revents;
	proxied_read(proxied_of(user));
}

/* Takes link->fd when it returns 0. */
static int proxied_new(struct supervisor_listener *listener, struct alk_link *link)
{
	struct alk_supervisor *sup = listener->sup;
	struct supervisor_proxied *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return -ENOMEM;
	p->magic = PROXIED_MAGIC;
	p->sup = sup;
	p->link = ALK_LINK_NONE;
	p->next = sup->proxied;
	p->prev = &sup->proxied;
	if (p->next != NULL)
		p->next->prev = &p->next;
	sup->proxied = p;
	sup->nproxied++;
	p->io = alk_io_new(sup->loop, link->fd, "proxied link", on_ready, p);
	p->timer = alk_timer_new(sup->loop, "proxied link", on_timeout, p);
	if (p->io == NULL || p->timer == NULL) {
		proxied_free(p);
		return -ENOMEM;
	}
	p->link = *link;
	link->fd = -1;
	alk_io_set(p->io, ALK_IO_READ);
	alk_timer_start(p->timer, (uint64_t)alk_options_int(sup->values, "handshake_timeout"));
	return 0;
}

static bool comes_from(const json_t *networks, const char *addr)
{
	size_t n = json_is_string(networks) ? 1 : json_array_size(networks);
	struct in6_addr in6;
	struct alk_cidr cidr;
	bool v4;

	if (!alk_cidr_address(addr, &in6, &v4))
		return false;
	for (size_t i = 0; i < n; i++) {
		const json_t *one = json_is_string(networks) ? networks
							     : json_array_get(networks, i);

		if (alk_cidr_parse(&cidr, json_string_value(one)) == NULL &&
		    alk_cidr_has(&cidr, &in6))
			return true;
	}
	return false;
}

bool supervisor_proxy_expects(struct supervisor_listener *listener, struct alk_link *link)
{
	struct alk_supervisor *sup = listener->sup;
	/* As the configuration says now: a reload keeps listeners. */
	const json_t *networks = alk_conf_proxy_from(sup->conf, listener->transport,
						     listener->want);

	if (networks == NULL)
		return false;
	if (!comes_from(networks, link->remote_addr))
		supervisor_refuse(sup, ALK_REFUSAL_PROXY, link->remote_addr);
	else if (sup->nproxied >= WAITING_MAX || proxied_new(listener, link) < 0)
		supervisor_refuse(sup, ALK_REFUSAL_STARTUPS, link->remote_addr);
	alk_link_close(link);
	return true;
}

void supervisor_proxy_deinit(struct alk_supervisor *sup)
{
	while (sup->proxied != NULL)
		proxied_free(sup->proxied);
}
