/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ssh_get_random of this program, ahead of libssh's, which calls it through its own symbol table.
 *
 * Each packet ends in 4 to 19 bytes of random padding, and libssh asks OpenSSL's generator for them anew: 6700
 * instructions and a getpid() a packet, a third of what a short connection cost in user space. Here they come
 * from the kernel's generator, some kilobytes at a time; a byte that was given out is wiped. What is asked for as
 * strong, or longer than padding, is read from the kernel for that call alone.
 *
 * Nothing in this program speaks SSH after a fork without an exec, and each thread has bytes of its own. */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>
#include <alknet/err.h>

#define POOL_SIZE 2048
#define POOL_PIECE 32 /* more than any padding of ours */

ALK_EXPORT int ssh_get_random(void *where, int len, int strong);

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

/* 1, or 0 when there is no randomness: the library gives the session up then. */
int ssh_get_random(void *where, int len, int strong)
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
