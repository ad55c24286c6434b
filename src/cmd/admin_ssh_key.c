/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "admin_ssh_key.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <alknet/loop.h>
#include "keys.h"

#define LINE 70
#define BLOB_MAX 512
#define TEXT_MAX 1024

struct blob {
	uint8_t bytes[BLOB_MAX];
	size_t len;
};

static void put(struct blob *b, const void *bytes, size_t n)
{
	memcpy(b->bytes + b->len, bytes, n);
	b->len += n;
}

static void put_number(struct blob *b, uint32_t n)
{
	const uint8_t bytes[4] = {(uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8),
				  (uint8_t)n};

	put(b, bytes, 4);
}

static void put_string(struct blob *b, const void *bytes, size_t n)
{
	put_number(b, (uint32_t)n);
	put(b, bytes, n);
}

static void put_public(struct blob *b, const uint8_t public[32])
{
	put_string(b, "ssh-ed25519", 11);
	put_string(b, public, 32);
}

/* The part that a passphrase would encrypt, padded to 8. */
static void put_private(struct blob *b, const uint8_t seed[32], const uint8_t public[32],
			const char *comment, uint32_t check)
{
	uint8_t pair[64], pad = 0;

	memcpy(pair, seed, 32);
	memcpy(pair + 32, public, 32);
	put_number(b, check);
	put_number(b, check);
	put_public(b, public);
	put_string(b, pair, sizeof(pair));
	put_string(b, comment, strnlen(comment, 64));
	while (b->len % 8 != 0) {
		pad++;
		put(b, &pad, 1);
	}
	explicit_bzero(pair, sizeof(pair));
}

/* base64 in lines, between the marks. */
static ssize_t armor(const struct blob *b, char text[TEXT_MAX])
{
	char base64[BLOB_MAX * 2];
	ssize_t n = alk_base64_encode(b->bytes, b->len, base64, sizeof(base64));
	char *at = stpcpy(text, "-----BEGIN OPENSSH PRIVATE KEY-----\n");

	for (ssize_t i = 0; i < n; i += LINE) {
		size_t take = (size_t)(n - i < LINE ? n - i : LINE);

		memcpy(at, base64 + i, take);
		at += take;
		*at++ = '\n';
	}
	at = stpcpy(at, "-----END OPENSSH PRIVATE KEY-----\n");
	explicit_bzero(base64, sizeof(base64));
	return n < 0 ? n : at - text;
}

static int write_all(int fd, const char *text, size_t n)
{
	for (size_t at = 0; at < n;) {
		ssize_t wrote = write(fd, text + at, n - at);

		if (wrote < 0 && errno != EINTR)
			return -errno;
		at += wrote > 0 ? (size_t)wrote : 0;
	}
	return fsync(fd) == 0 ? 0 : -errno;
}

static int write_new(const char *path, const char *text, size_t n, struct alk_err *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600), rc;

	if (fd < 0)
		return alk_err_set(err, -errno, "%s: %s", path, strerror(errno));
	rc = fchmod(fd, 0600) == 0 ? write_all(fd, text, n) : -errno;
	if (rc < 0) {
		unlink(path);
		alk_err_set(err, rc, "%s: %s", path, strerror(-rc));
	}
	alk_fd_close(&fd);
	return rc;
}

int admin_ssh_key_write(const char *path, const uint8_t seed[32], const uint8_t public[32],
			const char *comment, struct alk_err *err)
{
	static const char magic[] = "openssh-key-v1";
	struct blob whole = {.len = 0}, part = {.len = 0};
	char text[TEXT_MAX];
	uint32_t check;
	ssize_t n;
	int rc;

	if (getrandom(&check, sizeof(check), 0) != sizeof(check))
		return alk_err_set(err, -EIO, "the system has no random numbers");
	put(&whole, magic, sizeof(magic));
	put_string(&whole, "none", 4);
	put_string(&whole, "none", 4);
	put_string(&whole, "", 0);
	put_number(&whole, 1);
	put_public(&part, public);
	put_string(&whole, part.bytes, part.len);
	part.len = 0;
	put_private(&part, seed, public, comment, check);
	put_string(&whole, part.bytes, part.len);
	n = armor(&whole, text);
	rc = n < 0 ? alk_err_set(err, (int)n, "base64 failed")
		   : write_new(path, text, (size_t)n, err);
	explicit_bzero(&whole, sizeof(whole));
	explicit_bzero(&part, sizeof(part));
	explicit_bzero(text, sizeof(text));
	return rc;
}
