/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "words.h"

#include <string.h>

static const char words[2048][9] = {
#include "words.def"
};

size_t secret_words_entropy(unsigned n)
{
	return n >= 12 && n <= SECRET_WORDS_MAX && n % 3 == 0 ? n / 3 * 4 : 0;
}

bool secret_words_make(const uint8_t *entropy, size_t n, uint8_t checksum,
		       char phrase[SECRET_PHRASE_SIZE])
{
	unsigned count = (unsigned)n / 4 * 3, at = 0;

	if (n == 0 || secret_words_entropy(count) != n)
		return false;
	for (unsigned word = 0; word < count; word++) {
		unsigned index = 0;

		for (unsigned bit = word * 11; bit < (word + 1) * 11; bit++) {
			uint8_t byte = bit / 8 < n ? entropy[bit / 8] : checksum;

			index = index << 1 | (byte >> (7 - bit % 8) & 1u);
		}
		if (word > 0)
			phrase[at++] = ' ';
		strcpy(phrase + at, words[index]);
		at += (unsigned)strlen(words[index]);
	}
	return true;
}

int secret_words_find(const char *word, size_t len)
{
	int low = 0, high = (int)(sizeof(words) / sizeof(words[0]));

	if (len == 0 || len > 8 || memchr(word, '\0', len) != NULL)
		return -1;
	while (low < high) {
		int middle = (low + high) / 2, order = strncmp(word, words[middle], len);

		if (order == 0 && words[middle][len] == '\0')
			return middle;
		if (order > 0)
			low = middle + 1;
		else
			high = middle;
	}
	return -1;
}
