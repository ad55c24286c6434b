/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "direct.h"
#include "loader.h"

struct alk_direct {
	const struct alk_direct_ops *ops; /* NULL: withdrawn */
	void *state;
	int fd;
	uint64_t cookie;     /* the socket's: its number may be another's when it is looked for */
	bool drained;	     /* what went into the pair before was read */
	alk_io_fn *on_ready; /* NULL: not taken */
	void *user;
};

/* By fd number. */
static struct alk_direct **offers;
static int offers_size;

/* The kernel gives none twice. 0: it gives none to this. */
static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t n = sizeof(cookie);

	return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &n) == 0 ? cookie : 0;
}

static bool offers_reach(int fd)
{
	int size = fd + 64;
	struct alk_direct **grown;

	if (fd < offers_size)
		return true;
	grown = realloc(offers, (size_t)size * sizeof(*grown));
	if (grown == NULL)
		return false;
	memset(grown + offers_size, 0, (size_t)(size - offers_size) * sizeof(*grown));
	offers = grown;
	offers_size = size;
	return true;
}

static void direct_free(struct alk_direct *direct)
{
	if (offers[direct->fd] == direct)
		offers[direct->fd] = NULL;
	free(direct);
}

struct alk_direct *alk_direct_offer(int fd, const struct alk_direct_ops *ops, void *state)
{
	uint64_t cookie = cookie_of(fd);
	struct alk_direct *direct;

	if (ALK_OP(ops, recv) == NULL || ALK_OP(ops, send) == NULL || cookie == 0 ||
	    !offers_reach(fd))
		return NULL;
	direct = malloc(sizeof(*direct));
	if (direct == NULL)
		return NULL;
	*direct = (struct alk_direct){.ops = ops, .state = state, .fd = fd, .cookie = cookie};
	offers[fd] = direct; /* one that is there was for a socket which is closed */
	return direct;
}

void alk_direct_ready(struct alk_direct *direct, int events)
{
	if (direct->on_ready != NULL)
		direct->on_ready(direct->user, events);
}

void alk_direct_withdraw(struct alk_direct **at)
{
	struct alk_direct *direct = *at;

	*at = NULL;
	if (direct == NULL)
		return;
	direct->ops = NULL;
	if (direct->on_ready == NULL)
		direct_free(direct);
}

struct alk_direct *alk_direct_take(int fd, alk_io_fn *on_ready, void *user)
{
	struct alk_direct *direct = fd >= 0 && fd < offers_size ? offers[fd] : NULL;

	if (direct == NULL || direct->cookie != cookie_of(fd))
		return NULL;
	if (ALK_OP(direct->ops, begin) != NULL && !direct->ops->begin(direct->state)) {
		direct_free(direct);
		return NULL;
	}
	direct->on_ready = on_ready;
	direct->user = user;
	return direct;
}

bool alk_direct_drains(const struct alk_direct *direct)
{
	return !direct->drained;
}

ssize_t alk_direct_recv(struct alk_direct *direct, void *bytes, size_t n)
{
	ssize_t got;

	if (!direct->drained) {
		/* recv() would come here again. */
		got = syscall(SYS_recvfrom, direct->fd, bytes, n, MSG_DONTWAIT, NULL, NULL);
		if (got > 0)
			return got;
		direct->drained = true;
	}
	got = direct->ops != NULL ? direct->ops->recv(direct->state, bytes, n) : 0;
	if (got >= 0)
		return got;
	errno = (int)-got;
	return -1;
}

ssize_t alk_direct_send(struct alk_direct *direct, const void *bytes, size_t n)
{
	ssize_t sent = direct->ops != NULL ? direct->ops->send(direct->state, bytes, n) : -EPIPE;

	if (sent >= 0)
		return sent;
	errno = (int)-sent;
	return -1;
}

uint64_t alk_direct_unsent(const struct alk_direct *direct)
{
	return ALK_OP(direct->ops, unsent) != NULL ? direct->ops->unsent(direct->state) : 0;
}

void alk_direct_end(struct alk_direct **at)
{
	struct alk_direct *direct = *at;

	*at = NULL;
	if (direct == NULL)
		return;
	if (ALK_OP(direct->ops, end) != NULL)
		direct->ops->end(direct->state);
	direct_free(direct);
}
