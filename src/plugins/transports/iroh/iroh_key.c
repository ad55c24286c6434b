/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The endpoint's secret key: 64 characters of hex in a file that nobody else may read. */
#include "iroh.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static int key_check(int fd, const char *path, struct alk_err *err)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return alk_err_set(err, -errno, "iroh_key: %s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return alk_err_set(err, -EINVAL, "iroh_key: %s is no regular file", path);
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return alk_err_set(err, -EPERM, "iroh_key: %s belongs to another user", path);
	if ((st.st_mode & 077) != 0)
		return alk_err_set(err, -EPERM, "iroh_key: %s can be read by others; chmod 600 %s",
				   path, path);
	return 0;
}

static int key_load(int fd, const char *path, char hex[IROH_ID_HEX], struct alk_err *err)
{
	uint8_t key[IROH_ID_BYTES];
	char text[IROH_ID_HEX + 2] = "";
	int rc = key_check(fd, path, err);
	ssize_t n = rc == 0 ? read(fd, text, sizeof(text) - 1) : 0;

	if (rc == 0 && n < 0)
		rc = alk_err_set(err, -errno, "iroh_key: %s: %s", path, strerror(errno));
	if (n > 0 && text[n - 1] == '\n')
		text[n - 1] = '\0';
	if (rc == 0 && iroh_id_unhex(text, key) < 0)
		rc = alk_err_set(err, -EINVAL, "iroh_key: %s is not 64 characters of hex", path);
	if (rc == 0)
		iroh_id_hex(key, hex);
	explicit_bzero(key, sizeof(key));
	explicit_bzero(text, sizeof(text));
	return rc;
}

/* The file's name lasts, too. Not every file system can, and the key is good without. */
static void dir_sync(const char *path)
{
	const char *slash = strrchr(path, '/');
	char dir[4096] = ".";
	int fd;

	if (slash != NULL)
		snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path + 1), path);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		fsync(fd);
	alk_fd_close(&fd);
}

/* Whole or not at all, and never over one that is there. What is left of one that was killed before
 * its end is in nobody's way. */
static int key_make(const char *path, struct alk_err *err)
{
	uint8_t key[IROH_ID_BYTES];
	char hex[IROH_ID_HEX], temp[4096];
	int fd, rc = 0;

	if ((size_t)snprintf(temp, sizeof(temp), "%s.new-XXXXXX", path) >= sizeof(temp))
		return alk_err_set(err, -ENAMETOOLONG, "iroh_key: the path is too long");
	if (getrandom(key, sizeof(key), 0) != sizeof(key))
		return alk_err_set(err, -errno, "iroh_key: no randomness: %s", strerror(errno));
	iroh_id_hex(key, hex);
	explicit_bzero(key, sizeof(key));
	fd = mkostemp(temp, O_CLOEXEC);
	if (fd < 0)
		rc = alk_err_set(err, -errno, "iroh_key: %s cannot be made: %s", path,
				 strerror(errno));
	else if (dprintf(fd, "%s\n", hex) != IROH_ID_HEX || fsync(fd) != 0 ||
		 (link(temp, path) != 0 && errno != EEXIST))
		rc = alk_err_set(err, -errno, "iroh_key: %s cannot be written: %s", path,
				 strerror(errno));
	if (fd >= 0)
		unlink(temp);
	if (rc == 0)
		dir_sync(path);
	explicit_bzero(hex, sizeof(hex));
	alk_fd_close(&fd);
	return rc;
}

int iroh_key_read(const char *path, char hex[IROH_ID_HEX], struct alk_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), rc;

	if (fd < 0 && errno == ENOENT) {
		rc = key_make(path, err);
		if (rc < 0)
			return rc;
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	}
	if (fd < 0)
		return alk_err_set(err, -errno, "iroh_key: %s: %s", path, strerror(errno));
	rc = key_load(fd, path, hex, err);
	alk_fd_close(&fd);
	return rc;
}
