/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <alknet/loop.h>
#include "loader_file.h"

#define SEGMENTS_MAX 64

static int file_check_owner(const char *path, const struct stat *st, struct alk_err *err)
{
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return alk_err_set(
			err, -EPERM,
			"%s belongs to user %u: only root's plugins and one's own are opened", path,
			(unsigned)st->st_uid);
	if (st->st_mode & (S_IWGRP | S_IWOTH))
		return alk_err_set(err, -EPERM,
				   "%s can be written by others (mode %03o): use chmod go-w", path,
				   (unsigned)st->st_mode & 0777);
	return 0;
}

int alk_loader_dir_check(const char *path, struct alk_err *err)
{
	struct stat st;

	if (path[0] != '/')
		return alk_err_set(err, -EINVAL,
				   "the plugin directory \"%s\" is not an absolute path", path);
	if (stat(path, &st) < 0)
		return alk_err_set(err, -errno, "the plugin directory %s: %s", path,
				   strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return alk_err_set(err, -ENOTDIR, "the plugin directory %s is not a directory",
				   path);
	return file_check_owner(path, &st, err);
}

static bool file_read(int fd, void *into, size_t n, uint64_t offset, uint64_t size)
{
	if (offset > size || n > size - offset)
		return false;
	return pread(fd, into, n, (off_t)offset) == (ssize_t)n;
}

static int file_check_segments(int fd, const char *path, const ElfW(Ehdr) * head, uint64_t size,
			       struct alk_err *err)
{
	ElfW(Phdr) segment;
	size_t i;

	if (head->e_phentsize != sizeof(segment) || head->e_phnum == 0 ||
	    head->e_phnum > SEGMENTS_MAX)
		return alk_err_set(err, -ENOEXEC, "%s is a damaged shared object", path);
	for (i = 0; i < head->e_phnum; i++) {
		if (!file_read(fd, &segment, sizeof(segment), head->e_phoff + i * sizeof(segment),
			       size))
			return alk_err_set(err, -ENOEXEC, "%s was cut short", path);
		if (segment.p_type == PT_NULL)
			continue;
		if (segment.p_offset > size || segment.p_filesz > size - segment.p_offset)
			return alk_err_set(err, -ENOEXEC, "%s was cut short", path);
	}
	return 0;
}

static int file_check_elf(int fd, const char *path, uint64_t size, struct alk_err *err)
{
	const unsigned char class = sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32;
	ElfW(Ehdr) head;

	if (size == 0)
		return alk_err_set(err, -ENOEXEC, "%s is empty", path);
	if (!file_read(fd, &head, sizeof(head), 0, size) ||
	    memcmp(head.e_ident, ELFMAG, SELFMAG) != 0)
		return alk_err_set(err, -ENOEXEC, "%s is not a shared object", path);
	if (head.e_ident[EI_CLASS] != class || head.e_type != ET_DYN)
		return alk_err_set(err, -ENOEXEC, "%s is not a shared object for this machine",
				   path);
	return file_check_segments(fd, path, &head, size, err);
}

static int file_check_parent(const char *path, struct alk_err *err)
{
	char copy[PATH_MAX];

	memcpy(copy, path, strlen(path) + 1);
	return alk_loader_dir_check(dirname(copy), err);
}

static int file_check_open(int fd, const char *path, struct alk_err *err)
{
	struct stat st;
	int rc;

	if (fstat(fd, &st) < 0)
		return alk_err_set(err, -errno, "%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return alk_err_set(err, -EINVAL, "%s is not a regular file", path);
	rc = file_check_owner(path, &st, err);
	if (rc == 0)
		rc = file_check_parent(path, err);
	if (rc == 0)
		rc = file_check_elf(fd, path, (uint64_t)st.st_size, err);
	return rc;
}

int alk_loader_file_check(const char *path, struct alk_err *err)
{
	char real[PATH_MAX];
	int fd, rc;

	if (path[0] != '/')
		return alk_err_set(err, -EINVAL, "\"%s\" is not an absolute path", path);
	if (realpath(path, real) == NULL)
		return alk_err_set(err, -errno, "%s: %s", path, strerror(errno));
	/* Not to wait for a FIFO's writer. */
	fd = open(real, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	if (fd < 0)
		return alk_err_set(err, -errno, "%s: %s", path, strerror(errno));
	rc = file_check_open(fd, real, err);
	alk_fd_close(&fd);
	return rc;
}
