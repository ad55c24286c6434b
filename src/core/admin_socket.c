/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "admin_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <alknet/log.h>
#include <alknet/loop.h>
#include "inherited.h"
#include "upgrade.h"

#define BACKLOG 1024
#define LOCK_TRIES 100
#define LOCK_PAUSE_MS 20

/* The name inside the open directory, whatever the directory is called by now. */
static void address_in(struct sockaddr_un *sa, int dir, const char *name)
{
	*sa = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(sa->sun_path, sizeof(sa->sun_path), "/proc/self/fd/%d/%.64s", dir, name);
}

static int split_path(const char *option, const char *path, char *dir, size_t size, char *name,
		      size_t name_size, struct alk_err *err)
{
	const char *slash = strrchr(path, '/'), *base = slash != NULL ? slash + 1 : path;

	if (strlen(path) > sizeof(((struct sockaddr_un *)0)->sun_path) - 1)
		return alk_err_set(err, -ENAMETOOLONG, "%s: %s is longer than 107 bytes", option,
				   path);
	if (base[0] == '\0' || strcmp(base, ".") == 0 || strcmp(base, "..") == 0)
		return alk_err_set(err, -EINVAL, "%s: %s is not the name of a socket", option,
				   path);
	if (strlen(base) > 64)
		return alk_err_set(err, -ENAMETOOLONG, "%s: the name %s is longer than 64 bytes",
				   option, base);
	snprintf(name, name_size, "%s", base);
	if (slash == NULL)
		snprintf(dir, size, ".");
	else if (slash == path)
		snprintf(dir, size, "/");
	else
		snprintf(dir, size, "%.*s", (int)(slash - path), path);
	return 0;
}

static int open_dir(const char *option, const char *dir, mode_t mode, struct alk_err *err)
{
	mode_t mask = umask(0777 & ~mode);
	struct stat st;
	int fd, made = mkdir(dir, mode) == 0 ? 0 : errno;

	umask(mask);
	errno = made;
	if (made != 0 && made != EEXIST)
		return alk_err_set(err, -errno, "%s: cannot make the directory %s: %s", option, dir,
				   strerror(errno));
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0) {
		int rc = alk_err_set(err, -errno, "%s: cannot open the directory %s: %s", option,
				     dir, strerror(errno));

		alk_fd_close(&fd);
		return rc;
	}
	if ((st.st_mode & S_IWOTH) != 0 && (st.st_mode & S_ISVTX) == 0) {
		alk_fd_close(&fd);
		return alk_err_set(err, -EPERM,
				   "%s: anybody may write in %s: choose another directory", option,
				   dir);
	}
	return fd;
}

/* Two servers that start at once take turns. The lock is held for a moment only. */
static int lock_dir(const char *option, int dir, const char *path, struct alk_err *err)
{
	const struct timespec pause = {.tv_nsec = LOCK_PAUSE_MS * 1000000L};

	for (int i = 0; i < LOCK_TRIES; i++) {
		if (flock(dir, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			break;
		nanosleep(&pause, NULL);
	}
	return alk_err_set(err, -EBUSY, "%s: the directory of %s is locked by another process",
			   option, path);
}

/* Does a server answer there? 1, 0 or -errno. */
static int probe(int dir, const char *name)
{
	struct sockaddr_un sa;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), rc;

	if (fd < 0)
		return -errno;
	address_in(&sa, dir, name);
	rc = connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 || errno == EAGAIN ? 1 : -errno;
	alk_fd_close(&fd);
	return rc == -ECONNREFUSED || rc == -ENOENT ? 0 : rc;
}

/* The socket that the program before us had there: 1; 0: there is none. */
static int inherit(struct alk_admin_socket *sock, const char *path, mode_t mode)
{
	struct stat st;

	sock->fd = alk_inherited_take_path(path);
	if (sock->fd < 0)
		return 0;
	if (fstatat(sock->dir, sock->name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
	    !S_ISSOCK(st.st_mode)) {
		alk_fd_close(&sock->fd); /* somebody removed it */
		return 0;
	}
	if (fchmodat(sock->dir, sock->name, mode, 0) != 0)
		alk_log(ALK_LOG_WARN, "socket keeps its mode", ALK_STR("path", path),
			ALK_STR("error", strerror(errno)));
	sock->dev = st.st_dev;
	sock->ino = st.st_ino;
	sock->inherited = true;
	return 1;
}

/* What is there may be replaced? */
static int check_place(const char *option, int dir, const char *name, const char *path,
		       struct alk_err *err)
{
	struct stat st;
	int rc;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? 0
				       : alk_err_set(err, -errno, "%s: %s: %s", option, path,
						     strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return alk_err_set(err, -EEXIST, "%s: %s is there already and is not a socket",
				   option, path);
	rc = probe(dir, name);
	if (rc > 0)
		return alk_err_set(err, -EADDRINUSE, "%s: another server answers on %s", option,
				   path);
	if (rc < 0)
		return alk_err_set(err, rc, "%s: %s is there already: %s", option, path,
				   strerror(-rc));
	return 0;
}

static int bind_at(struct alk_admin_socket *sock, const char *path, mode_t mode, gid_t gid,
		   struct alk_err *err)
{
	struct sockaddr_un sa;
	struct stat st;
	char temp[32];
	mode_t mask;
	int rc;

	/* One of our own may be opened in the same directory: the lock is held. */
	snprintf(temp, sizeof(temp), ".alknet-%ld", (long)getpid());
	sock->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (sock->fd < 0)
		return alk_err_set(err, -errno, "%s: %s: %s", sock->option, path, strerror(errno));
	unlinkat(sock->dir, temp, 0); /* of a process that had our number and died here */
	address_in(&sa, sock->dir, temp);
	mask = umask(0777 & ~mode);
	rc = bind(sock->fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 ? 0 : -errno;
	umask(mask);
	if (rc != 0)
		return alk_err_set(err, rc, "%s: cannot bind %s: %s", sock->option, path,
				   strerror(-rc));
	if ((gid != (gid_t)-1 &&
	     fchownat(sock->dir, temp, (uid_t)-1, gid, AT_SYMLINK_NOFOLLOW) != 0) ||
	    listen(sock->fd, BACKLOG) != 0 ||
	    fstatat(sock->dir, temp, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
	    renameat(sock->dir, temp, sock->dir, sock->name) != 0) {
		rc = alk_err_set(err, -errno, "%s: cannot bind %s: %s", sock->option, path,
				 strerror(errno));
		unlinkat(sock->dir, temp, 0);
		return rc;
	}
	sock->dev = st.st_dev;
	sock->ino = st.st_ino;
	return 0;
}

/* Of a directory that is missing the one above it counts. */
static bool dir_is_denied(const char *dir, bool above)
{
	char parent[PATH_MAX];
	char *slash;

	if (faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS) == 0)
		return false;
	snprintf(parent, sizeof(parent), "%s", dir);
	slash = strrchr(parent, '/');
	if (errno == ENOENT && above && slash != NULL && slash != parent) {
		*slash = '\0';
		return dir_is_denied(parent, false);
	}
	return errno == EACCES || errno == EPERM || errno == EROFS;
}

bool alk_admin_socket_is_denied(const char *path)
{
	char dir[PATH_MAX], name[108];

	return split_path("", path, dir, sizeof(dir), name, sizeof(name), NULL) == 0 &&
	       dir_is_denied(dir, true);
}

int alk_admin_socket_open(struct alk_admin_socket *sock, const char *path, struct alk_err *err)
{
	return alk_admin_socket_open_as(sock, "admin_socket", path, 0600, (gid_t)-1, err);
}

int alk_admin_socket_open_as(struct alk_admin_socket *sock, const char *option, const char *path,
			     mode_t mode, gid_t gid, struct alk_err *err)
{
	char dir[PATH_MAX];
	mode_t dir_mode = (mode & 077) != 0 ? 0755 : 0700;
	int rc;

	*sock = (struct alk_admin_socket){.option = option, .fd = -1, .dir = -1};
	rc = split_path(option, path, dir, sizeof(dir), sock->name, sizeof(sock->name), err);
	if (rc != 0)
		return rc;
	sock->dir = open_dir(option, dir, dir_mode, err);
	if (sock->dir < 0)
		return sock->dir;
	rc = lock_dir(option, sock->dir, path, err);
	if (rc == 0 && !inherit(sock, path, mode)) {
		rc = check_place(option, sock->dir, sock->name, path, err);
		if (rc == 0)
			rc = bind_at(sock, path, mode, gid, err);
	}
	if (rc == 0 && alk_inherited_offer_path(sock->fd, path) < 0)
		rc = alk_err_set(err, -ENOMEM, "%s: out of memory", option);
	flock(sock->dir, LOCK_UN);
	if (rc != 0) {
		alk_fd_close(&sock->fd);
		alk_fd_close(&sock->dir);
	}
	return rc;
}

/* Is what stands at the name still ours? */
static bool socket_is_ours(const struct alk_admin_socket *sock)
{
	struct stat st;

	return fstatat(sock->dir, sock->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       st.st_dev == sock->dev && st.st_ino == sock->ino;
}

void alk_admin_socket_share(const struct alk_admin_socket *sock, bool shared)
{
	if (socket_is_ours(sock) && fchmodat(sock->dir, sock->name, shared ? 0666 : 0600, 0) != 0)
		alk_log(ALK_LOG_WARN, "admin socket", ALK_STR("error", strerror(errno)));
}

void alk_admin_socket_leave(struct alk_admin_socket *sock)
{
	if (sock->fd < 0)
		return;
	alk_inherited_withdraw(sock->fd);
	alk_fd_close(&sock->fd);
	alk_fd_close(&sock->dir);
}

void alk_admin_socket_close(struct alk_admin_socket *sock)
{
	if (sock->fd >= 0 && !(sock->inherited && alk_upgrade_pending()) && socket_is_ours(sock))
		unlinkat(sock->dir, sock->name, 0);
	alk_admin_socket_leave(sock);
}
