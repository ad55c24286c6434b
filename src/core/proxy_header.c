/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "proxy_header.h"

#include <errno.h>
#include <string.h>

enum {
	VERSION_2 = 0x20,
	COMMAND_LOCAL = 0,
	COMMAND_PROXY = 1,
	FAMILY_UNSPEC = 0x00,
	FAMILY_INET = 0x10,
	FAMILY_INET6 = 0x20,
	FAMILY_UNIX = 0x30,
	PROTOCOL_UNSPEC = 0,
	PROTOCOL_STREAM = 1,
	SIZE_INET = 4 + 4 + 2 + 2,
	SIZE_INET6 = 16 + 16 + 2 + 2,
	SIZE_UNIX = 108 + 108,
	TLV_HEAD = 3,
	TLV_CRC32C = 0x03,
};

static const uint8_t signature[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
				      0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

ssize_t alk_proxy_header_size(const uint8_t *bytes, size_t n, struct alk_err *err)
{
	size_t size;

	if (memcmp(bytes, signature, n < sizeof(signature) ? n : sizeof(signature)) != 0)
		return alk_err_set(
			err, -EPROTO,
			"the connection does not begin with a PROXY header of version 2");
	if (n > sizeof(signature) && (bytes[12] & 0xf0) != VERSION_2)
		return alk_err_set(err, -EPROTO, "the PROXY header is of another version");
	if (n < ALK_PROXY_HEADER_FIRST)
		return 0;
	size = ALK_PROXY_HEADER_FIRST + (size_t)get16(bytes + 14);
	if (size > ALK_PROXY_HEADER_MAX)
		return alk_err_set(err, -EPROTO, "the PROXY header is longer than %d bytes",
				   ALK_PROXY_HEADER_MAX);
	return (ssize_t)size;
}

/* RFC 3720 B.4: the polynomial of Castagnoli, reflected. The four bytes at `hole` count as zero. */
static uint32_t crc32c(const uint8_t *bytes, size_t n, size_t hole)
{
	uint32_t crc = 0xffffffffu;

	for (size_t i = 0; i < n; i++) {
		crc ^= i >= hole && i < hole + 4 ? 0 : bytes[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (0x82f63b78u & (0u - (crc & 1)));
	}
	return ~crc;
}

static int check_tlvs(const uint8_t *bytes, size_t at, size_t n, struct alk_err *err)
{
	while (at < n) {
		size_t len = n - at >= TLV_HEAD ? get16(bytes + at + 1) : n;
		uint32_t crc;

		if (len > n - at - TLV_HEAD || n - at < TLV_HEAD)
			return alk_err_set(err, -EPROTO,
					   "the PROXY header ends within one of its fields");
		if (bytes[at] == TLV_CRC32C) {
			if (len != 4)
				return alk_err_set(
					err, -EPROTO,
					"the PROXY header's checksum is not 4 bytes long");
			crc = (uint32_t)get16(bytes + at + 3) << 16 | get16(bytes + at + 5);
			if (crc != crc32c(bytes, n, at + TLV_HEAD))
				return alk_err_set(err, -EPROTO,
						   "the PROXY header's checksum is wrong");
		}
		at += TLV_HEAD + len;
	}
	return 0;
}

/* How many bytes the addresses of a family have; -EPROTO when there is no such family or
 * protocol. */
static int addrs_size(uint8_t kind)
{
	switch (kind) {
	case FAMILY_UNSPEC | PROTOCOL_UNSPEC:
		return 0;
	case FAMILY_INET | PROTOCOL_STREAM:
		return SIZE_INET;
	case FAMILY_INET6 | PROTOCOL_STREAM:
		return SIZE_INET6;
	case FAMILY_UNIX | PROTOCOL_STREAM:
		return SIZE_UNIX;
	default:
		return -EPROTO;
	}
}

static void addr_set(struct alk_sockaddr *addr, uint8_t kind, const uint8_t *ip,
		     const uint8_t *port)
{
	memset(addr, 0, sizeof(*addr));
	if (kind == (FAMILY_INET | PROTOCOL_STREAM)) {
		addr->len = sizeof(addr->in);
		addr->in.sin_family = AF_INET;
		memcpy(&addr->in.sin_addr, ip, 4);
		memcpy(&addr->in.sin_port, port, 2);
	} else {
		addr->len = sizeof(addr->in6);
		addr->in6.sin6_family = AF_INET6;
		memcpy(&addr->in6.sin6_addr, ip, 16);
		memcpy(&addr->in6.sin6_port, port, 2);
	}
}

int alk_proxy_header_parse(const uint8_t *bytes, size_t n, struct alk_proxy_header *out,
			   struct alk_err *err)
{
	uint8_t command = bytes[12] & 0x0f, kind = bytes[13];
	const uint8_t *at = bytes + ALK_PROXY_HEADER_FIRST;
	int size = addrs_size(kind);
	size_t ip = kind == (FAMILY_INET | PROTOCOL_STREAM) ? 4 : 16;

	*out = (struct alk_proxy_header){.has_addrs = false};
	if (command == COMMAND_LOCAL)
		return 0; /* what the rest says must be passed over (2.2) */
	if (command != COMMAND_PROXY)
		return alk_err_set(err, -EPROTO, "the PROXY header has an unknown command");
	if (size < 0)
		return alk_err_set(err, -EPROTO,
				   "the PROXY header has an unknown family or protocol");
	if (n - ALK_PROXY_HEADER_FIRST < (size_t)size)
		return alk_err_set(err, -EPROTO, "the PROXY header is too short for its addresses");
	if (kind != FAMILY_UNSPEC &&
	    check_tlvs(bytes, ALK_PROXY_HEADER_FIRST + (size_t)size, n, err) < 0)
		return -EPROTO;
	if (size != SIZE_INET && size != SIZE_INET6)
		return 0;
	addr_set(&out->remote, kind, at, at + ip * 2);
	addr_set(&out->local, kind, at + ip, at + ip * 2 + 2);
	out->has_addrs = true;
	return 0;
}

/* Both addresses of `ip` bytes, then both ports, all in network order. Gives the bytes written. */
static size_t addresses_put(uint8_t *out, const void *remote, const void *local, size_t ip,
			    uint16_t remote_port, uint16_t local_port)
{
	memcpy(out, remote, ip);
	memcpy(out + ip, local, ip);
	memcpy(out + ip * 2, &remote_port, 2);
	memcpy(out + ip * 2 + 2, &local_port, 2);
	return ip * 2 + 4;
}

size_t alk_proxy_header_make(uint8_t *out, const char *remote_addr, uint16_t remote_port,
			     const char *local_addr, uint16_t local_port)
{
	struct alk_sockaddr remote, local;
	size_t n = ALK_PROXY_HEADER_FIRST;
	bool known = alk_addr_parse(&remote, remote_addr, remote_port) == 0 &&
		     alk_addr_parse(&local, local_addr, local_port) == 0 &&
		     remote.sa.sa_family == local.sa.sa_family;

	memcpy(out, signature, sizeof(signature));
	out[12] = VERSION_2 | COMMAND_PROXY;
	out[13] = FAMILY_UNSPEC | PROTOCOL_UNSPEC;
	if (known && remote.sa.sa_family == AF_INET) {
		out[13] = FAMILY_INET | PROTOCOL_STREAM;
		n += addresses_put(out + n, &remote.in.sin_addr, &local.in.sin_addr,
				   sizeof(remote.in.sin_addr), remote.in.sin_port,
				   local.in.sin_port);
	} else if (known) {
		out[13] = FAMILY_INET6 | PROTOCOL_STREAM;
		n += addresses_put(out + n, &remote.in6.sin6_addr, &local.in6.sin6_addr,
				   sizeof(remote.in6.sin6_addr), remote.in6.sin6_port,
				   local.in6.sin6_port);
	}
	out[14] = 0;
	out[15] = (uint8_t)(n - ALK_PROXY_HEADER_FIRST);
	return n;
}
