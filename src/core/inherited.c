/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "inherited.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <alknet/dial.h>
#include <alknet/log.h>
#include <alknet/loop.h>
#include "siphash.h"
#include "text.h"

#define FIRST_FD 3
#define SOCKETS_MAX ALK_INHERITED_MAX
#define NAME_SIZE ALK_INHERITED_NAME_SIZE
#define KIND_SIZE 16
#define OWN "alknet-" /* begins the names that one program of ours makes for the next */

static struct {
	struct {
		int fd;
		char name[NAME_SIZE];
	} socket[SOCKETS_MAX];
	size_t n;
} inherited;

struct offer {
	int fd;
	char kind[KIND_SIZE], name[NAME_SIZE];
};

static struct {
	struct offer *offer;
	size_t n, size;
} offers;

/* A stream socket that listens, or nothing that we could use. */
static bool listens(int fd)
{
	int type = 0, accepts = 0;
	socklen_t len = sizeof(type);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM)
		return false;
	len = sizeof(accepts);
	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &len) == 0 && accepts;
}

static void socket_add(int fd, const char *name)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || !listens(fd) || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
		alk_fd_close(&fd);
		return;
	}
	inherited.socket[inherited.n].fd = fd;
	strncpy(inherited.socket[inherited.n].name, name != NULL ? name : "", NAME_SIZE - 1);
	inherited.n++;
}

void alk_inherited_init(void)
{
	const char *fds = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID"),
		   *names = getenv("LISTEN_FDNAMES");
	char *copy = names != NULL ? strdup(names) : NULL, *rest = copy;
	int64_t n = 0, whose = 0;

	if (fds != NULL && pid != NULL && alk_text_int(fds, &n) == 0 &&
	    alk_text_int(pid, &whose) == 0 && whose == getpid())
		for (int64_t i = 0; i < n && i < SOCKETS_MAX; i++)
			socket_add(FIRST_FD + (int)i, strsep(&rest, ":"));
	free(copy);
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDNAMES");
}

static int take(size_t i)
{
	int fd = inherited.socket[i].fd;

	/* Several of one name stay in their order. */
	memmove(&inherited.socket[i], &inherited.socket[i + 1],
		(--inherited.n - i) * sizeof(inherited.socket[0]));
	return fd;
}

static void kind_name(const char *kind, char name[NAME_SIZE])
{
	snprintf(name, NAME_SIZE, OWN "%s", kind);
}

/* A path is longer than a name may be, and has letters that a name may not have. */
static void path_name(const char *path, char name[NAME_SIZE])
{
	static const uint64_t key[2];

	snprintf(name, NAME_SIZE, OWN "unix-%016llx",
		 (unsigned long long)alk_siphash(key, path, strlen(path)));
}

static bool bound_to(size_t i, const char *kind, const struct sockaddr *sa, socklen_t sa_len)
{
	struct sockaddr_storage own = {0};
	socklen_t len = sizeof(own);
	char host[2][64], name[NAME_SIZE];
	uint16_t port[2];

	if (getsockname(inherited.socket[i].fd, (struct sockaddr *)&own, &len) < 0 ||
	    own.ss_family != sa->sa_family)
		return false;
	alk_addr_format(sa, sa_len, host[0], sizeof(host[0]), &port[0]);
	alk_addr_format((struct sockaddr *)&own, len, host[1], sizeof(host[1]), &port[1]);
	kind_name(kind, name);
	if (port[0] == 0 && strcmp(inherited.socket[i].name, name) != 0)
		return false;
	return (port[0] == 0 || port[0] == port[1]) && strcmp(host[0], host[1]) == 0;
}

int alk_inherited_take(const char *kind, const struct sockaddr *sa, socklen_t len)
{
	for (size_t i = 0; i < inherited.n; i++)
		if (bound_to(i, kind, sa, len))
			return take(i);
	return -1;
}

int alk_inherited_take_name(const char *name)
{
	for (size_t i = 0; i < inherited.n; i++)
		if (strcmp(inherited.socket[i].name, name) == 0)
			return take(i);
	return -1;
}

int alk_inherited_take_path(const char *path)
{
	char name[NAME_SIZE];

	path_name(path, name);
	return alk_inherited_take_name(name);
}

void alk_inherited_close(void)
{
	while (inherited.n > 0) {
		struct sockaddr_storage own = {0};
		socklen_t len = sizeof(own);
		char host[64] = "";
		uint16_t port = 0;

		if (getsockname(inherited.socket[0].fd, (struct sockaddr *)&own, &len) == 0)
			alk_addr_format((struct sockaddr *)&own, len, host, sizeof(host), &port);
		alk_log(ALK_LOG_WARN, "inherited socket is not listened on",
			ALK_STR("name", inherited.socket[0].name), ALK_STR("address", host),
			ALK_INT("port", port));
		close(take(0));
	}
}

int alk_inherited_offer(int fd, const char *kind, const char *name)
{
	struct offer *offer;

	if (offers.n == offers.size) {
		size_t size = offers.size > 0 ? 2 * offers.size : 16;

		offer = realloc(offers.offer, size * sizeof(*offer));
		if (offer == NULL)
			return -ENOMEM;
		offers.offer = offer;
		offers.size = size;
	}
	offer = &offers.offer[offers.n++];
	offer->fd = fd;
	snprintf(offer->kind, sizeof(offer->kind), "%s", kind);
	if (name != NULL)
		snprintf(offer->name, sizeof(offer->name), "%s", name);
	else
		kind_name(kind, offer->name);
	return 0;
}

int alk_inherited_offer_path(int fd, const char *path)
{
	char name[NAME_SIZE];

	path_name(path, name);
	return alk_inherited_offer(fd, "unix", name);
}

void alk_inherited_withdraw(int fd)
{
	for (size_t i = 0; i < offers.n; i++) {
		if (offers.offer[i].fd != fd)
			continue;
		memmove(&offers.offer[i], &offers.offer[i + 1],
			(--offers.n - i) * sizeof(offers.offer[0]));
		break;
	}
	if (offers.n > 0)
		return;
	free(offers.offer);
	offers.offer = NULL;
	offers.size = 0;
}

int alk_inherited_offered(size_t i, const char **kind, const char **name)
{
	if (i >= offers.n)
		return -1;
	*kind = offers.offer[i].kind;
	*name = offers.offer[i].name;
	return offers.offer[i].fd;
}
