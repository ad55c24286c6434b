/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "text.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define WORD_MAX 63

struct unit {
	const char *suffix;
	int64_t factor;
};

/* Largest first, for the way out. */
static const struct unit duration_units[] = {
	{"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {NULL, 0},
};
static const struct unit size_units[] = {
	{"G", 1LL << 30}, {"M", 1LL << 20}, {"K", 1LL << 10}, {"", 1}, {NULL, 0},
};

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;

	return m < c ? m : c;
}

unsigned alk_text_distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b);
	unsigned row[3][WORD_MAX + 1];

	if (la > WORD_MAX || lb > WORD_MAX)
		return UINT_MAX;
	for (size_t j = 0; j <= lb; j++)
		row[0][j] = (unsigned)j;
	for (size_t i = 1; i <= la; i++) {
		unsigned *now = row[i % 3], *before = row[(i + 2) % 3], *second = row[(i + 1) % 3];

		now[0] = (unsigned)i;
		for (size_t j = 1; j <= lb; j++) {
			unsigned cost = a[i - 1] == b[j - 1] ? 0 : 1;

			now[j] = min3(before[j] + 1, now[j - 1] + 1, before[j - 1] + cost);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    second[j - 2] + 1 < now[j])
				now[j] = second[j - 2] + 1;
		}
	}
	return row[la % 3][lb];
}

bool alk_text_near(unsigned distance, size_t len)
{
	return distance <= 1 + len / 4;
}

/* Digits with an optional fraction, times `factor`; `end` is what follows them. */
static int number_scale(const char *text, const char **end, int64_t *out, const struct unit *units,
			const char *bare)
{
	const char *s = text, *frac = NULL;
	int64_t whole = 0, factor = 0, part, scale = 1;

	for (; *s >= '0' && *s <= '9'; s++)
		if (__builtin_mul_overflow(whole, 10, &whole) ||
		    __builtin_add_overflow(whole, *s - '0', &whole))
			return -ERANGE;
	if (s == text)
		return -EINVAL;
	if (*s == '.') {
		frac = ++s;
		s += strspn(s, "0123456789");
		if (s == frac || s - frac > 9)
			return -EINVAL;
	}
	*end = s;
	for (const struct unit *u = units; u->suffix != NULL; u++)
		if (strcmp(u->suffix, *s == '\0' ? bare : s) == 0)
			factor = u->factor;
	if (factor == 0)
		return -EINVAL;
	if (__builtin_mul_overflow(whole, factor, &whole))
		return -ERANGE;
	part = 0;
	for (; frac != NULL && *frac >= '0' && *frac <= '9'; frac++) {
		part = part * 10 + (*frac - '0');
		scale *= 10;
	}
	/* At most 10^9 * 2^30: fits. */
	if (__builtin_add_overflow(whole, part * factor / scale, &whole))
		return -ERANGE;
	*out = whole;
	return 0;
}

int alk_text_int(const char *text, int64_t *n)
{
	static const struct unit none[] = {{"", 1}, {NULL, 0}};
	bool minus = text[0] == '-';
	const char *end;
	int rc;

	if (strchr(text, '.') != NULL)
		return -EINVAL;
	rc = number_scale(text + minus, &end, n, none, "");
	if (rc == 0 && minus)
		*n = -*n;
	return rc;
}

int alk_text_duration(const char *text, int64_t *ms)
{
	const char *end;

	return number_scale(text, &end, ms, duration_units, "s");
}

int alk_text_size(const char *text, int64_t *bytes)
{
	const char *end;

	return number_scale(text, &end, bytes, size_units, "");
}

static void unit_format(int64_t n, const struct unit *units, char *out, size_t size)
{
	const struct unit *u = units;

	while (u[1].suffix != NULL && (n == 0 || n % u->factor != 0))
		u++;
	snprintf(out, size, "%" PRId64 "%s", n / u->factor, u->suffix);
}

void alk_text_format_duration(int64_t ms, char *out, size_t size)
{
	if (ms == 0)
		snprintf(out, size, "0");
	else
		unit_format(ms, duration_units, out, size);
}

void alk_text_format_size(int64_t bytes, char *out, size_t size)
{
	unit_format(bytes, size_units, out, size);
}

size_t alk_text_escape(const char *text, size_t len, char *out, size_t size)
{
	static const char hex[] = "0123456789abcdef";
	size_t used = 0;

	if (size == 0)
		return 0;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];
		size_t need = c == '\\' ? 2 : c >= 0x20 && c < 0x7f ? 1 : 4;

		if (used + need >= size)
			break;
		if (need == 1) {
			out[used++] = (char)c;
		} else if (need == 2) {
			out[used++] = '\\';
			out[used++] = '\\';
		} else {
			out[used++] = '\\';
			out[used++] = 'x';
			out[used++] = hex[c >> 4];
			out[used++] = hex[c & 15];
		}
	}
	out[used] = '\0';
	return used;
}

/* Length of the well-formed sequence at `s` (Unicode 15, table 3-7), 0 when there is none. */
static size_t utf8_sequence(const unsigned char *s, size_t len)
{
	unsigned char lo = 0x80, hi = 0xbf;
	size_t n;

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	if (len < n)
		return 0;
	if (s[0] == 0xe0)
		lo = 0xa0;
	else if (s[0] == 0xed)
		hi = 0x9f;
	else if (s[0] == 0xf0)
		lo = 0x90;
	else if (s[0] == 0xf4)
		hi = 0x8f;
	if (s[1] < lo || s[1] > hi)
		return 0;
	for (size_t i = 2; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

bool alk_text_utf8(const char *text, size_t len)
{
	const unsigned char *s = (const unsigned char *)text;

	while (len > 0) {
		size_t n = utf8_sequence(s, len);

		if (n == 0)
			return false;
		s += n;
		len -= n;
	}
	return true;
}

bool alk_text_glob(const char *text, size_t len, const char *pattern, size_t pattern_len, bool fold)
{
	const char *end = text + len, *pattern_end = pattern + pattern_len;
	const char *star = NULL, *back = text;

	while (text < end) {
		if (pattern < pattern_end && *pattern == '*') {
			star = ++pattern;
			back = text;
		} else if (pattern < pattern_end &&
			   (*pattern == '?' || *pattern == *text ||
			    (fold &&
			     tolower((unsigned char)*pattern) == tolower((unsigned char)*text)))) {
			pattern++;
			text++;
		} else if (star) {
			pattern = star;
			text = ++back;
		} else {
			return false;
		}
	}
	while (pattern < pattern_end && *pattern == '*')
		pattern++;
	return pattern == pattern_end;
}

bool alk_text_list_has(const char *list, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = list; *p;) {
		size_t len = strcspn(p, ",");

		if (len == n && memcmp(p, name, n) == 0)
			return true;
		p += len + (p[len] == ',');
	}
	return false;
}
