/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "admin_ssh_key.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <alknet/loop.h>
#include "ssh_key_text.h"

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
	char text[ALK_SSH_KEY_TEXT_MAX];
	ssize_t n = alk_ssh_key_text(seed, public, comment, text, err);
	int rc = n < 0 ? (int)n : write_new(path, text, (size_t)n, err);

	explicit_bzero(text, sizeof(text));
	return rc;
}
