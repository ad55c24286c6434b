/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "siphash.h"

struct sip {
	uint64_t a, b, c, d;
};

static uint64_t rotate(uint64_t x, unsigned n)
{
	return x << n | x >> (64 - n);
}

static void sip_rounds(struct sip *v, unsigned n)
{
	while (n-- > 0) {
		v->a += v->b;
		v->b = rotate(v->b, 13) ^ v->a;
		v->a = rotate(v->a, 32);
		v->c += v->d;
		v->d = rotate(v->d, 16) ^ v->c;
		v->a += v->d;
		v->d = rotate(v->d, 21) ^ v->a;
		v->c += v->b;
		v->b = rotate(v->b, 17) ^ v->c;
		v->c = rotate(v->c, 32);
	}
}

/* Up to 8 bytes, the first the lowest. */
static uint64_t word_of(const uint8_t *p, size_t n)
{
	uint64_t word = 0;

	while (n-- > 0)
		word = word << 8 | p[n];
	return word;
}

static void sip_take(struct sip *v, uint64_t word)
{
	v->d ^= word;
	sip_rounds(v, 2);
	v->a ^= word;
}

uint64_t alk_siphash(const uint64_t key[2], const void *bytes, size_t len)
{
	struct sip v = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
			key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u};
	const uint8_t *p = bytes;
	size_t left;

	for (left = len; left >= 8; left -= 8, p += 8)
		sip_take(&v, word_of(p, 8));
	sip_take(&v, (uint64_t)len << 56 | word_of(p, left));
	v.c ^= 0xff;
	sip_rounds(&v, 4);
	return v.a ^ v.b ^ v.c ^ v.d;
}
