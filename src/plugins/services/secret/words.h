/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef SECRET_WORDS_H
#define SECRET_WORDS_H

/* BIP-39's English words and the bits in them. No cryptography: alknet-admin makes new phrases with
 * it too. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECRET_WORDS_MAX 24
#define SECRET_ENTROPY_MAX 32
#define SECRET_PHRASE_SIZE (SECRET_WORDS_MAX * 9) /* the longest word has 8 letters; NUL */

/* 16, 20, 24, 28 or 32 bytes for 12, 15, 18, 21 or 24 words; 0 for another number. */
size_t secret_words_entropy(unsigned words);
/* The phrase of `n` bytes; `checksum` is the first byte of their SHA-256. false: no such `n`. */
bool secret_words_make(const uint8_t *entropy, size_t n, uint8_t checksum,
		       char phrase[SECRET_PHRASE_SIZE]);
/* The index of a word, or -1. */
int secret_words_find(const char *word, size_t len);

#endif
