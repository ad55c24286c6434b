/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "content.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *kind_name(mode_t mode)
{
	if (S_ISDIR(mode))
		return "a directory";
	if (S_ISFIFO(mode))
		return "a pipe";
	if (S_ISSOCK(mode))
		return "a socket";
	return "a device";
}

static int stat_check(const char *path, bool is_private, const struct stat *st, struct alk_err *err)
{
	if (!S_ISREG(st->st_mode))
		return alk_err_set(err, -EINVAL, "%s is %s, not a regular file", path,
				   kind_name(st->st_mode));
	if (st->st_mode & S_IWOTH)
		return alk_err_set(err, -EPERM, "%s may be written by everybody; run: chmod o-w %s",
				   path, path);
	if (!is_private)
		return 0;
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return alk_err_set(
			err, -EPERM,
			"%s belongs to uid %u; a private file must belong to root or to you: chown %u %s",
			path, (unsigned)st->st_uid, (unsigned)geteuid(), path);
	if (st->st_mode & 077)
		return alk_err_set(err, -EPERM,
				   "%s may be used by others (mode %04o); run: chmod 600 %s", path,
				   (unsigned)(st->st_mode & 07777), path);
	return 0;
}

/* Up to `size` bytes; one more than allowed is enough to know. */
static ssize_t read_all(int fd, char *buf, size_t size)
{
	size_t used = 0;

	while (used < size) {
		ssize_t n = read(fd, buf + used, size - used);

		if (n == 0)
			break;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		used += (size_t)n;
	}
	return (ssize_t)used;
}

static int content_take(int fd, const char *path, bool is_private, struct alk_content *out,
			struct alk_err *err)
{
	size_t limit = is_private ? ALK_CONTENT_PRIVATE_MAX : ALK_CONTENT_MAX;
	struct alk_content whole = {.bytes = malloc(limit + 1)};
	ssize_t n;
	int rc = 0;

	if (whole.bytes == NULL)
		return alk_err_set(err, -ENOMEM, "%s: out of memory", path);
	n = read_all(fd, whole.bytes, limit + 1);
	if (n < 0) {
		rc = alk_err_set(err, (int)n, "%s: cannot read it: %s", path, strerror((int)-n));
		goto out;
	}
	whole.len = (size_t)n;
	if (whole.len > limit) {
		rc = alk_err_set(err, -EFBIG, "%s is larger than %zu KiB", path, limit / 1024);
		goto out;
	}
	out->bytes = malloc(whole.len + 1);
	if (out->bytes == NULL) {
		rc = alk_err_set(err, -ENOMEM, "%s: out of memory", path);
		goto out;
	}
	memcpy(out->bytes, whole.bytes, whole.len);
	out->bytes[whole.len] = '\0';
	out->len = whole.len;
out:
	alk_content_deinit(&whole);
	return rc;
}

int alk_content_read(const char *path, bool is_private, struct alk_content *out,
		     struct alk_err *err)
{
	/* O_NONBLOCK: opening a pipe must not wait for its writer. */
	int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (is_private ? O_NOFOLLOW : 0);
	int fd = open(path, flags);
	struct stat st;
	int rc;

	out->bytes = NULL;
	out->len = 0;
	if (fd < 0) {
		rc = -errno;
		if (rc == -ELOOP && is_private)
			return alk_err_set(err, rc,
					   "%s is a symbolic link; name the private file itself",
					   path);
		return alk_err_set(err, rc, "%s: %s", path, strerror(-rc));
	}
	if (fstat(fd, &st) < 0)
		rc = alk_err_set(err, -errno, "%s: %s", path, strerror(errno));
	else
		rc = stat_check(path, is_private, &st, err);
	if (rc == 0)
		rc = content_take(fd, path, is_private, out, err);
	close(fd);
	return rc;
}

int alk_content_copy(struct alk_content *to, const struct alk_content *from, struct alk_err *err)
{
	to->bytes = malloc(from->len + 1);
	if (to->bytes == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	memcpy(to->bytes, from->bytes, from->len + 1);
	to->len = from->len;
	return 0;
}

void alk_content_deinit(struct alk_content *content)
{
	if (content->bytes != NULL)
		explicit_bzero(content->bytes, content->len);
	free(content->bytes);
	content->bytes = NULL;
	content->len = 0;
}
