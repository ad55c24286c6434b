/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef DNS_PLAY_H
#define DNS_PLAY_H

/* A name server on the loop of a test: UDP and TCP on one port of 127.0.0.1. */

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "resolver.h"

struct dns_play {
	struct alk_loop *loop;
	int udp, tcp, conn;
	struct alk_io *udp_io, *tcp_io, *conn_io;
	int asked; /* how many queries came */
	/* A query for the IPv4 addresses of "late", until the other family was answered. */
	uint8_t held[512];
	size_t held_n;
	void (*on_asked)(void *user);
	void *user;
};

/* What a name stands for is in its first label. */
struct record {
	const char *name;
	int rcode;
	int v4, v6;	  /* how many addresses; -1 = no answer at all */
	const char *addr; /* the first IPv4 address; the others count up */
};

static const struct record records[] = {
	{"both", 0, 1, 1, "127.0.0.1"},
	{"four", 0, 1, 0, "127.0.0.1"},
	{"six", 0, 0, 1, NULL},
	{"slowsix", 0, 1, -1, "127.0.0.1"},
	{"slowfour", 0, -1, 1, NULL},
	{"nosix", 2, 0, 0, NULL},
	{"silent", 0, -1, -1, NULL},
	{"many", 0, 4000, 0, "127.1.1.1"},
	{"late", 0, 2, 1, "127.0.0.1"},
	{"two", 0, 2, 0, "127.0.0.1"},
	{"unanswered", 0, 1, -1, "127.0.0.1"},
};

static size_t dns_add_record(uint8_t *p, int type, const char *addr, int i)
{
	static const uint8_t head[] = {0xc0, 0x0c, 0, 0, 0, 1, 0, 0, 0, 60, 0, 0};
	struct in_addr in;

	memcpy(p, head, sizeof(head));
	p[3] = (uint8_t)type;
	if (type == 1) {
		p[11] = 4;
		inet_pton(AF_INET, addr, &in);
		in.s_addr = htonl(ntohl(in.s_addr) + (uint32_t)i);
		memcpy(p + 12, &in, 4);
		return 16;
	}
	p[11] = 16;
	memcpy(p + 12, &in6addr_loopback, 16);
	return 28;
}

/* The answer to the query in `m`, in its place; 0 = none. One that is too long for UDP says so. */
static size_t dns_answer(struct dns_play *dns, uint8_t *m, size_t n, bool tcp)
{
	const struct record *r = NULL;
	char label[64] = "";
	size_t end = 12, i;
	int type, count;

	assert_true(n >= 17 && n >= 13u + m[12]);
	dns->asked++;
	if (dns->on_asked != NULL)
		dns->on_asked(dns->user);
	memcpy(label, m + 13, m[12] < 63 ? m[12] : 63);
	while (end < n && m[end] != 0)
		end += m[end] + 1u;
	type = m[end + 2];
	end += 5;
	memset(m + 6, 0, 6);
	m[2] = 0x81;
	m[3] = 0x80;
	for (i = 0; i < sizeof(records) / sizeof(records[0]); i++)
		if (strcmp(records[i].name, label) == 0)
			r = &records[i];
	if (r == NULL) {
		m[3] |= 3; /* NXDOMAIN */
		return end;
	}
	m[3] |= (uint8_t)r->rcode;
	count = type == 1 ? r->v4 : r->v6;
	if (count < 0)
		return 0;
	if (count > 20 && !tcp) {
		m[2] |= 2; /* TC */
		return end;
	}
	m[6] = (uint8_t)(count >> 8);
	m[7] = (uint8_t)count;
	for (i = 0; i < (size_t)count; i++)
		end += dns_add_record(m + end, type, r->addr, (int)i);
	return end;
}

static void dns_say(struct dns_play *dns, uint8_t *m, size_t n, const struct sockaddr_in *to)
{
	size_t out = dns_answer(dns, m, n, false);

	if (out > 0)
		assert_int_equal(sendto(dns->udp, m, out, 0, (const struct sockaddr *)to,
					sizeof(*to)),
				 (ssize_t)out);
}

static void dns_on_query(void *user, int revents)
{
	struct dns_play *dns = user;
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	uint8_t m[4096];
	ssize_t n = recvfrom(dns->udp, m, sizeof(dns->held), 0, (struct sockaddr *)&from, &len);
	bool late = n > 17 && memcmp(m + 12, "\4late", 5) == 0;

	(void)revents;
	if (n < 0)
		return;
	if (late && dns->held_n == 0) {
		memcpy(dns->held, m, (size_t)n);
		dns->held_n = (size_t)n;
		return;
	}
	dns_say(dns, m, (size_t)n, &from);
	if (!late)
		return;
	memcpy(m, dns->held, dns->held_n);
	dns_say(dns, m, dns->held_n, &from);
	dns->held_n = 0;
}

static void dns_on_tcp_query(void *user, int revents)
{
	struct dns_play *dns = user;
	static uint8_t m[2 + 65535];
	ssize_t n = recv(dns->conn, m, 512, 0);
	size_t out;

	(void)revents;
	if (n <= 0) {
		alk_io_free(&dns->conn_io);
		alk_fd_close(&dns->conn);
		return;
	}
	assert_int_equal(n, 2 + m[0] * 256 + m[1]);
	out = dns_answer(dns, m + 2, (size_t)n - 2, true);
	m[0] = (uint8_t)(out >> 8);
	m[1] = (uint8_t)out;
	assert_int_equal(send(dns->conn, m, out + 2, 0), (ssize_t)out + 2);
}

static void dns_on_connection(void *user, int revents)
{
	struct dns_play *dns = user;
	const int size = 256 * 1024;

	(void)revents;
	dns->conn = accept4(dns->tcp, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(dns->conn >= 0);
	setsockopt(dns->conn, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	dns->conn_io = alk_io_new(dns->loop, dns->conn, "name server", dns_on_tcp_query, dns);
	alk_io_set(dns->conn_io, ALK_IO_READ);
}

/* Makes `resolver` ask this one alone. */
static void dns_start(struct dns_play *dns, struct alk_loop *loop, struct alk_resolver *resolver)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sin);
	char servers[64];

	dns->loop = loop;
	dns->conn = -1;
	dns->tcp = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(dns->tcp, (struct sockaddr *)&sin, sizeof(sin)), 0);
	assert_int_equal(listen(dns->tcp, 5), 0);
	assert_int_equal(getsockname(dns->tcp, (struct sockaddr *)&sin, &len), 0);
	dns->udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(dns->udp, (struct sockaddr *)&sin, sizeof(sin)), 0);
	dns->udp_io = alk_io_new(dns->loop, dns->udp, "name server", dns_on_query, dns);
	dns->tcp_io = alk_io_new(dns->loop, dns->tcp, "name server", dns_on_connection, dns);
	alk_io_set(dns->udp_io, ALK_IO_READ);
	alk_io_set(dns->tcp_io, ALK_IO_READ);
	snprintf(servers, sizeof(servers), "127.0.0.1:%d", ntohs(sin.sin_port));
	assert_int_equal(alk_resolver_set_servers(resolver, servers, NULL), 0);
}

static void dns_stop(struct dns_play *dns)
{
	alk_io_free(&dns->udp_io);
	alk_io_free(&dns->tcp_io);
	alk_io_free(&dns->conn_io);
	alk_fd_close(&dns->udp);
	alk_fd_close(&dns->tcp);
	alk_fd_close(&dns->conn);
}

#endif
