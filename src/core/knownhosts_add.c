/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "knownhosts.h"
#include "base64.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHA1_SIZE 20

static uint32_t rotate(uint32_t x, unsigned n)
{
	return x << n | x >> (32 - n);
}

static void sha1_block(uint32_t h[5], const uint8_t *p)
{
	static const uint32_t add[] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
	uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
	uint32_t w[80];

	for (unsigned i = 0; i < 80; i++) {
		uint32_t f;

		if (i < 16)
			w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 |
			       (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
		else
			w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
		if (i < 20)
			f = (b & c) | (~b & d);
		else if (i < 40 || i >= 60)
			f = b ^ c ^ d;
		else
			f = (b & c) | (b & d) | (c & d);
		f += rotate(a, 5) + e + w[i] + add[i / 20];
		e = d;
		d = c;
		c = rotate(b, 30);
		b = a;
		a = f;
	}
	h[0] += a;
	h[1] += b;
	h[2] += c;
	h[3] += d;
	h[4] += e;
}

/* RFC 3174. libssh offers no HMAC, and hashed names are HMAC-SHA1 by their format; they hide names
 * from who finds the file, nothing else rests on them. */
static void sha1(const uint8_t *data, size_t len, uint8_t *out)
{
	uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
	uint8_t last[128] = {0};
	size_t rest = len % 64, tail = rest < 56 ? 64 : 128;

	for (size_t i = 0; i + 64 <= len; i += 64)
		sha1_block(h, data + i);
	memcpy(last, data + len - rest, rest);
	last[rest] = 0x80;
	for (unsigned i = 0; i < 8; i++)
		last[tail - 1 - i] = (uint8_t)((uint64_t)len * 8 >> 8 * i);
	for (size_t i = 0; i < tail; i += 64)
		sha1_block(h, last + i);
	for (unsigned i = 0; i < SHA1_SIZE; i++)
		out[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

/* RFC 2104 with a key of SHA1_SIZE bytes. */
static void hmac_sha1(const uint8_t *key, const char *text, size_t len, uint8_t *out)
{
	uint8_t inner[64 + ALK_KNOWNHOSTS_LOOKUP_SIZE], outer[64 + SHA1_SIZE];

	for (unsigned i = 0; i < 64; i++) {
		inner[i] = (i < SHA1_SIZE ? key[i] : 0) ^ 0x36;
		outer[i] = (i < SHA1_SIZE ? key[i] : 0) ^ 0x5c;
	}
	memcpy(inner + 64, text, len);
	sha1(inner, 64 + len, outer + 64);
	sha1(outer, sizeof(outer), out);
}

/* Turn "host" into "|1|salt|hash". */
static int lookup_hash(char *lookup)
{
	uint8_t salt[SHA1_SIZE], hash[SHA1_SIZE];
	char salt64[32], hash64[32];

	if (getentropy(salt, sizeof(salt)) < 0)
		return -errno;
	hmac_sha1(salt, lookup, strlen(lookup), hash);
	alk_base64_encode(salt, sizeof(salt), salt64, sizeof(salt64));
	alk_base64_encode(hash, sizeof(hash), hash64, sizeof(hash64));
	snprintf(lookup, ALK_KNOWNHOSTS_LOOKUP_SIZE, "|1|%s|%s", salt64, hash64);
	return 0;
}

static int dirs_make(const char *path)
{
	char *copy = strdup(path);
	int rc = copy ? 0 : -ENOMEM;

	for (char *p = copy; rc == 0 && (p = strchr(p + 1, '/'));) {
		*p = '\0';
		if (mkdir(copy, 0700) < 0 && errno != EEXIST)
			rc = -errno;
		*p = '/';
	}
	free(copy);
	return rc;
}

/* One write, so that two programs that append at once do not mix their lines. */
static int file_append(const char *path, const char *line)
{
	int flags = O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY;
	int fd = open(path, flags, 0600);
	char *text = NULL;
	char last = '\n';
	ssize_t n;
	int rc = 0;

	if (fd < 0 && errno == ENOENT) {
		rc = dirs_make(path);
		if (rc < 0)
			return rc;
		fd = open(path, flags, 0600);
	}
	if (fd < 0)
		return -errno;
	off_t size = lseek(fd, 0, SEEK_END);

	if (size > 0 && pread(fd, &last, 1, size - 1) < 0)
		rc = -errno;
	/* A last line without its end would swallow ours. */
	else if (asprintf(&text, "%s%s", last == '\n' ? "" : "\n", line) < 0)
		rc = -ENOMEM;
	if (rc == 0) {
		n = write(fd, text, strlen(text));
		if (n < 0)
			rc = -errno;
		else if ((size_t)n < strlen(text))
			rc = -ENOSPC;
		free(text);
	}
	if (close(fd) < 0 && rc == 0)
		rc = -errno;
	return rc;
}

int alk_knownhosts_add(const char *path, const char *host, uint16_t port, ssh_key key, bool hash,
		       struct alk_err *err)
{
	char lookup[ALK_KNOWNHOSTS_LOOKUP_SIZE];
	char *base64 = NULL, *line = NULL;
	int rc = alk_knownhosts_lookup(host, port, lookup, err);

	if (rc < 0)
		return rc;
	if (ssh_pki_export_pubkey_base64(key, &base64) != SSH_OK)
		return alk_err_set(err, -EINVAL, "the server's host key cannot be written");
	if (hash)
		rc = lookup_hash(lookup);
	if (rc == 0 && asprintf(&line, "%s %s %s\n", lookup,
				ssh_key_type_to_char(ssh_key_type(key)), base64) < 0)
		rc = -ENOMEM;
	if (rc == 0) {
		rc = file_append(path, line);
		free(line);
	}
	ssh_string_free_char(base64);
	if (rc < 0)
		return alk_err_set(err, rc, "cannot add the host key to known_hosts %s: %s", path,
				   strerror(-rc));
	return 0;
}
