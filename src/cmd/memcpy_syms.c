/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* memcpy of this program, ahead of libc's, for long copies on x86-64.
 *
 * glibc before 2.40 copies what is longer than a few KiB with `rep movsb`, and AMD's Zen 3 and
 * later do that at a twentieth of their speed when the destination stands 1 to 15 bytes behind the
 * source modulo 4096 (sourceware.org bug 30994; measured here: 1.8 GB/s against 40). libssh copies
 * each packet three times between buffers whose distance does not change while a process lives, so
 * one unlucky layout cost a third of the client's time. In pieces below that length libc uses
 * vector registers. */
#include <features.h>
#include <stddef.h>
#include <alknet/err.h>

#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
/* The smallest length from which any glibc uses `rep movsb`. */
#define PIECE 2048u
/* Below it, and whole cache lines. */
#define STEP (PIECE - 64)

/* Under another name, so that the compiler does not make a memcpy of it again. */
extern void *libc_memmove(void *to, const void *from, size_t n) __asm__("memmove");

ALK_EXPORT void *memcpy(void *restrict to, const void *restrict from, size_t n);

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
	char *at = to;
	const char *next = from;

	if (n < PIECE)
		return libc_memmove(to, from, n);
	for (; n >= PIECE; n -= STEP, at += STEP, next += STEP)
		libc_memmove(at, next, STEP);
	libc_memmove(at, next, n);
	return to;
}
#endif
