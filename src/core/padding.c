/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>
#include "padding.h"

#define POOL_SIZE 2048
#define POOL_PIECE 32 /* more than any padding of ours */

static _Thread_local struct {
	uint8_t bytes[POOL_SIZE];
	size_t left; /* the first so many */
} pool;

static int kernel_random(void *where, size_t len)
{
	uint8_t *at = where;

	while (len > 0) {
		ssize_t n = getrandom(at, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return 0;
		at += n;
		len -= (size_t)n;
	}
	return 1;
}

int alk_padding_random(void *where, int len, int strong)
{
	size_t n = len > 0 ? (size_t)len : 0;

	if (strong || n > POOL_PIECE)
		return kernel_random(where, n);
	if (pool.left < n) {
		pool.left = 0;
		if (!kernel_random(pool.bytes, sizeof(pool.bytes)))
			return 0;
		pool.left = sizeof(pool.bytes);
	}
	pool.left -= n;
	memcpy(where, pool.bytes + pool.left, n);
	explicit_bzero(pool.bytes + pool.left, n);
	return 1;
}
