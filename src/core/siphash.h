/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_SIPHASH_H
#define ALK_SIPHASH_H

/* SipHash-2-4 (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012): who does not know the
 * key cannot make texts that fall on each other. */

#include <stddef.h>
#include <stdint.h>

uint64_t alk_siphash(const uint64_t key[2], const void *bytes, size_t len);

#endif
