/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_TEXT_H
#define ALK_TEXT_H

/* Text that people write and read: numbers with units, the nearest known word, and peers' text made
 * harmless. Used by the options, the configuration and the log. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How many letters must be added, left out, replaced or swapped with their neighbour to come from
 * `a` to `b`. Words longer than 63 bytes are as far as can be (UINT_MAX). */
unsigned alk_text_distance(const char *a, const char *b);
/* Is `distance` small enough to say "did you mean" for a word of this length? */
bool alk_text_near(unsigned distance, size_t len);

/* Decimal integers, all of the text: 0, -EINVAL, -ERANGE. */
int alk_text_int(const char *text, int64_t *n);
/* "30", "1.5", "500ms", "2m", "1h": seconds without a unit, given in milliseconds. */
int alk_text_duration(const char *text, int64_t *ms);
/* "4096", "64K", "1.5M", "2G": powers of 1024, given in bytes. */
int alk_text_size(const char *text, int64_t *bytes);
/* The same the other way round, in the largest unit that is exact. */
void alk_text_format_duration(int64_t ms, char *out, size_t size);
void alk_text_format_size(int64_t bytes, char *out, size_t size);

/* Copy `len` bytes so that only printable ASCII is left: a backslash is doubled, everything else
 * becomes \xNN. Stops in time: the copy is always whole and NUL-terminated. Returns its length. */
size_t alk_text_escape(const char *text, size_t len, char *out, size_t size);

/* Does the whole text match? `*` is any run of characters, `?` is one; `fold`: letters match in
 * either case. Time: the product of the lengths at worst. */
bool alk_text_glob(const char *text, size_t len, const char *pattern, size_t pattern_len,
		   bool fold);

/* Is `name` one of the words of a list with commas? */
bool alk_text_list_has(const char *list, const char *name);

bool alk_text_utf8(const char *text, size_t len);

#endif
