/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "cidr.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdint.h>
#include <string.h>

bool alk_cidr_address(const char *text, struct in6_addr *addr, bool *v4)
{
	char plain[INET6_ADDRSTRLEN];
	size_t len = strcspn(text, "%");
	struct in_addr addr4;

	*v4 = inet_pton(AF_INET, text, &addr4) == 1;
	if (*v4) {
		memset(addr, 0, sizeof(*addr));
		addr->s6_addr[10] = addr->s6_addr[11] = 0xff;
		memcpy(&addr->s6_addr[12], &addr4, 4);
		return true;
	}
	if (len >= sizeof(plain))
		return false;
	memcpy(plain, text, len);
	plain[len] = '\0';
	return inet_pton(AF_INET6, plain, addr) == 1;
}

static bool has_host_bits(const struct alk_cidr *cidr)
{
	unsigned i;

	for (i = cidr->bits; i < 128; i++)
		if (cidr->net.s6_addr[i / 8] & (0x80u >> (i % 8)))
			return true;
	return false;
}

const char *alk_cidr_parse(struct alk_cidr *cidr, const char *text)
{
	char addr[INET6_ADDRSTRLEN + 1];
	size_t len = strcspn(text, "/");
	unsigned bits = 0, most;
	struct alk_cidr net;
	const char *p;

	if (len >= sizeof(addr))
		return "not an address";
	memcpy(addr, text, len);
	addr[len] = '\0';
	if (strchr(addr, '%') || !alk_cidr_address(addr, &net.net, &net.v4))
		return "not an address";
	most = net.v4 ? 32 : 128;
	if (text[len] == '\0')
		bits = most;
	else if (text[len + 1] == '\0' || strlen(text + len + 1) > 3)
		return "the length must be a number";
	else
		for (p = text + len + 1; *p; p++) {
			if (!isdigit((unsigned char)*p))
				return "the length must be a number";
			bits = bits * 10 + (unsigned)(*p - '0');
		}
	if (bits > most)
		return "the length is too great";
	net.bits = net.v4 ? bits + 96 : bits;
	if (has_host_bits(&net))
		return "bits are set behind the length";
	*cidr = net;
	return NULL;
}

bool alk_cidr_has(const struct alk_cidr *cidr, const struct in6_addr *addr)
{
	unsigned whole = cidr->bits / 8, rest = cidr->bits % 8;
	uint8_t mask = (uint8_t)(0xff00u >> rest);

	if (memcmp(cidr->net.s6_addr, addr->s6_addr, whole) != 0)
		return false;
	return rest == 0 || ((cidr->net.s6_addr[whole] ^ addr->s6_addr[whole]) & mask) == 0;
}
