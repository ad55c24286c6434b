/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "acme_private.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <alknet/loop.h>

#define FILE_MAX ((size_t)64 * 1024)
#define PATH_SIZE 4096

void acme_text_free(char **text)
{
	if (*text != NULL)
		OPENSSL_cleanse(*text, strlen(*text));
	free(*text);
	*text = NULL;
}

static int path_make(char path[PATH_SIZE], const char *dir, const char *name, struct alk_err *err)
{
	if ((size_t)snprintf(path, PATH_SIZE, "%s/%s", dir, name) < PATH_SIZE)
		return 0;
	return alk_err_set(err, -ENAMETOOLONG, "acme_state_dir: %s is too long", dir);
}

int acme_state_check(const char *dir, struct alk_err *err)
{
	struct stat st;
	int rc;

	if (mkdir(dir, 0700) != 0 && errno != EEXIST)
		return alk_err_set(err, -errno, "acme_state_dir: %s cannot be made: %s", dir,
				   strerror(errno));
	if (stat(dir, &st) != 0)
		return alk_err_set(err, -errno, "acme_state_dir: %s: %s", dir, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return alk_err_set(err, -ENOTDIR, "acme_state_dir: %s is not a directory", dir);
	if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return alk_err_set(err, -EPERM,
				   "acme_state_dir: %s can be written by others: chmod 700 %s", dir,
				   dir);
	rc = acme_state_write(dir, "writable", "", err);
	if (rc == 0)
		acme_state_remove(dir, "writable");
	return rc;
}

/* All there is has a private key in it. */
static int fd_check(int fd, const char *path, struct alk_err *err)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return alk_err_set(err, -errno, "acme_state_dir: %s: %s", path, strerror(errno));
	if ((st.st_mode & (S_IRWXG | S_IRWXO)) != 0)
		return alk_err_set(
			err, -EPERM,
			"acme_state_dir: %s holds a private key and others may use it: chmod 600 %s",
			path, path);
	return 0;
}

int acme_state_read(const char *dir, const char *name, char **text, struct alk_err *err)
{
	char path[PATH_SIZE];
	size_t n = 0;
	ssize_t got;
	int fd, rc = path_make(path, dir, name, err);

	*text = NULL;
	if (rc < 0)
		return rc;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0)
		return alk_err_set(err, -errno, "acme_state_dir: %s: %s", path, strerror(errno));
	rc = fd_check(fd, path, err);
	if (rc < 0) {
		alk_fd_close(&fd);
		return rc;
	}
	*text = malloc(FILE_MAX + 1);
	while (*text != NULL && n < FILE_MAX && (got = read(fd, *text + n, FILE_MAX - n)) > 0)
		n += (size_t)got;
	alk_fd_close(&fd);
	if (*text == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	(*text)[n] = '\0';
	if (n == 0 || n == FILE_MAX || strlen(*text) != n) {
		OPENSSL_cleanse(*text, n);
		free(*text);
		*text = NULL;
		return alk_err_set(err, -EINVAL, "acme_state_dir: %s is not a PEM file", path);
	}
	return 0;
}

static int fd_write(int fd, const char *text)
{
	size_t n = strlen(text);

	while (n > 0) {
		ssize_t put = write(fd, text, n);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return put < 0 ? -errno : -EIO;
		text += put;
		n -= (size_t)put;
	}
	return fsync(fd) == 0 ? 0 : -errno;
}

/* So that what names there are outlives a loss of power. */
static void dir_sync(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0)
		fsync(fd);
	alk_fd_close(&fd);
}

int acme_state_rename(const char *dir, const char *from, const char *to, struct alk_err *err)
{
	char old[PATH_SIZE], new[PATH_SIZE];
	int rc = path_make(old, dir, from, err);

	if (rc == 0)
		rc = path_make(new, dir, to, err);
	if (rc == 0 && rename(old, new) != 0)
		rc = alk_err_set(err, -errno, "acme_state_dir: %s cannot be replaced: %s", new,
				 strerror(errno));
	if (rc == 0)
		dir_sync(dir);
	return rc;
}

void acme_state_remove(const char *dir, const char *name)
{
	char path[PATH_SIZE];

	if (path_make(path, dir, name, NULL) == 0 && unlink(path) == 0)
		dir_sync(dir);
}

int acme_state_write(const char *dir, const char *name, const char *text, struct alk_err *err)
{
	char fresh[64], path[PATH_SIZE];
	int fd, rc;

	snprintf(fresh, sizeof(fresh), ".%s.new", name);
	rc = path_make(path, dir, fresh, err);
	if (rc < 0)
		return rc;
	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	rc = fd < 0 ? -errno : fd_write(fd, text);
	alk_fd_close(&fd);
	if (rc == 0)
		return acme_state_rename(dir, fresh, name, err);
	unlink(path);
	return alk_err_set(err, rc, "acme_state_dir: %s cannot be written in: %s", dir,
			   strerror(-rc));
}

static bool is_p256(EVP_PKEY *key)
{
	char group[64];
	size_t n;

	return EVP_PKEY_is_a(key, "EC") == 1 &&
	       EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof(group),
					      &n) == 1 &&
	       strcmp(group, "prime256v1") == 0;
}

int acme_account_read(const char *dir, const char *name, EVP_PKEY **key, struct alk_err *err)
{
	char *text;
	int rc = acme_state_read(dir, name, &text, err);

	*key = NULL;
	if (rc == -ENOENT)
		return 0;
	if (rc == 0)
		*key = acme_key_read(text);
	acme_text_free(&text);
	if (rc < 0 || (*key != NULL && is_p256(*key)))
		return rc;
	EVP_PKEY_free(*key);
	*key = NULL;
	return alk_err_set(
		err, -EINVAL,
		"acme_state_dir: %s/%s is not an ECDSA P-256 key in PEM: put a copy of it back, or move it away and the CA gives a new account",
		dir, name);
}
