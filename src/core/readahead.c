/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/sockios.h>
#include "direct.h"
#include "readahead.h"

#define AHEAD_SIZE (256 * 1024)
/* The kernel fills a buffer with `rep movsb`. malloc puts a large one 16 bytes behind the start of
 * a page, and there AMD's Zen 3 does that at a third of its speed (see memcpy_syms.c): a received
 * GB cost 1.09 CPU s instead of 0.80. */
#define AHEAD_ALIGN 4096

/* libssh begins with a packet once its length is there, and forgets the one before. */
#define SIP 4

struct ahead {
	uint8_t *buf; /* NULL while empty */
	uint32_t pos, len;
	struct alk_direct *direct; /* whom the bytes come from and go to; NULL: the fd */
	bool readable;		   /* the kernel may have more */
	bool writable;		   /* the kernel took all of the last send */
	bool corked;		   /* sends wait */
	bool deaf;		   /* nothing is read any more */
	bool sips;		   /* libssh gets SIP bytes a call */
	bool ended;		   /* the next recv gives `end`: 0 or -errno */
	int end;
};

/* By fd number, so that a call on a stranger's fd costs one comparison. */
static struct ahead **aheads;
static int aheads_size, aheads_count;
static uint8_t *
	spare; /* one buffer is kept for good, so that neither a busy session nor the next login faults pages in anew */
static bool enabled;
/* Only the loop's thread, and who visits the loop, has fds here; another thread's calls must not
 * look at the table. */
static __thread bool mine;

void alk_readahead_enable(void)
{
	const char *off = getenv("ALKNET_READAHEAD");

	enabled = !off || strcmp(off, "0") != 0;
}

void alk_readahead_thread(bool is_loops)
{
	mine = is_loops;
}

static struct ahead *ahead_find(int fd)
{
	return mine && fd >= 0 && fd < aheads_size ? aheads[fd] : NULL;
}

int alk_readahead_add(int fd)
{
	struct ahead *a;

	if (!enabled)
		return 0;
	if (fd >= aheads_size) {
		int size = fd + 64;
		struct ahead **grown = realloc(aheads, (size_t)size * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		memset(grown + aheads_size, 0, (size_t)(size - aheads_size) * sizeof(*grown));
		aheads = grown;
		aheads_size = size;
	}
	a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	a->writable = true;
	aheads[fd] = a;
	aheads_count++;
	mine = true;
	return 0;
}

static void ahead_give_back(struct ahead *a)
{
	if (spare)
		free(a->buf);
	else
		spare = a->buf;
	a->buf = NULL;
	a->pos = a->len = 0;
}

void alk_readahead_remove(int fd)
{
	struct ahead *a = ahead_find(fd);

	if (!a)
		return;
	if (a->buf)
		ahead_give_back(a);
	alk_direct_end(&a->direct);
	free(a);
	aheads[fd] = NULL;
	if (--aheads_count > 0)
		return;
	free(aheads);
	aheads = NULL;
	aheads_size = 0;
}

bool alk_readahead_direct(int fd, alk_io_fn *on_ready, void *user)
{
	struct ahead *a = ahead_find(fd);

	if (a)
		a->direct = alk_direct_take(fd, on_ready, user);
	return a && a->direct;
}

uint64_t alk_readahead_unsent(int fd)
{
	const struct ahead *a = ahead_find(fd);
	int left = 0;

	if (a && a->direct)
		return alk_direct_unsent(a->direct);
	return ioctl(fd, SIOCOUTQ, &left) == 0 && left > 0 ? (uint64_t)left : 0;
}

bool alk_readahead_active(int fd)
{
	return ahead_find(fd) != NULL;
}

void alk_readahead_cork(int fd, bool corked)
{
	struct ahead *a = ahead_find(fd);

	if (a)
		a->corked = corked;
}

void alk_readahead_sip(int fd, bool sips)
{
	struct ahead *a = ahead_find(fd);

	if (a)
		a->sips = sips;
}

void alk_readahead_deafen(int fd)
{
	struct ahead *a = ahead_find(fd);

	if (!a)
		return;
	if (a->buf)
		ahead_give_back(a);
	a->deaf = true;
	a->corked = false;
}

void alk_readahead_ready(int fd, int events)
{
	struct ahead *a = ahead_find(fd);

	if (!a)
		return;
	if (events & ALK_IO_READ)
		a->readable = true;
	if (events & ALK_IO_WRITE)
		a->writable = true;
}

bool alk_readahead_more(int fd)
{
	const struct ahead *a = ahead_find(fd);

	return a && (a->buf || a->readable || a->ended);
}

size_t alk_readahead_left(int fd)
{
	const struct ahead *a = ahead_find(fd);

	return a && a->buf ? a->len - a->pos : 0;
}

/* Fill the buffer if the kernel has something; afterwards there are bytes, or an end, or
 * nothing. */
static void ahead_fill(int fd, struct ahead *a)
{
	bool drains = a->direct && alk_direct_drains(a->direct);
	ssize_t n;

	if (!a->readable || a->buf || a->ended)
		return;
	a->buf = spare ? spare : aligned_alloc(AHEAD_ALIGN, AHEAD_SIZE);
	if (a->buf == spare)
		spare = NULL;
	if (!a->buf) {
		a->ended = true;
		a->end = -ENOMEM;
		return;
	}
	if (a->direct)
		n = alk_direct_recv(a->direct, a->buf, AHEAD_SIZE);
	else
		n = syscall(SYS_recvfrom, fd, a->buf, (size_t)AHEAD_SIZE, MSG_DONTWAIT, NULL, NULL);
	if (n > 0) {
		a->len = (uint32_t)n;
		/* A short read emptied the kernel's buffer; the loop will say when there is
		 * more. */
		a->readable = n == AHEAD_SIZE || drains;
		return;
	}
	ahead_give_back(a);
	a->readable = false;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	a->ended = true;
	a->end = n < 0 ? -errno : 0;
}

bool alk_readahead_recv(int fd, void *buf, size_t n, int flags, ssize_t *rc)
{
	struct ahead *a = ahead_find(fd);

	if (!a || flags)
		return false;
	if (!a->buf && !a->ended && !a->deaf) {
		a->readable = true;
		ahead_fill(fd, a);
	}
	if (a->buf) {
		size_t left = a->len - a->pos;

		if (a->sips && n > SIP)
			n = SIP;
		if (n > left)
			n = left;
		memcpy(buf, a->buf + a->pos, n);
		a->pos += (uint32_t)n;
		if (a->pos == a->len)
			ahead_give_back(a);
		*rc = (ssize_t)n;
		return true;
	}
	errno = a->ended ? -a->end : EAGAIN;
	*rc = a->ended && a->end == 0 ? 0 : -1;
	return true;
}

bool alk_readahead_send(int fd, const void *buf, size_t n, int flags, ssize_t *rc)
{
	struct ahead *a = ahead_find(fd);
	ssize_t sent;

	if (!a)
		return false;
	if (a->corked) {
		*rc = 0;
		return true;
	}
	if (a->direct)
		sent = alk_direct_send(a->direct, buf, n);
	else
		sent = syscall(SYS_sendto, fd, buf, n, flags | MSG_NOSIGNAL, NULL, (socklen_t)0);
	a->writable = sent == (ssize_t)n;
	if (sent < 0 && (errno == EAGAIN || errno == EINTR))
		sent = 0;
	*rc = sent;
	return true;
}

bool alk_readahead_poll(struct pollfd *fds, nfds_t n, int timeout, int *rc)
{
	struct ahead *a = n == 1 ? ahead_find(fds->fd) : NULL;
	int revents = 0;

	if (!a)
		return false;
	if ((fds->events & POLLIN) && !a->deaf) {
		ahead_fill(fds->fd, a);
		if (a->buf || a->ended)
			revents |= POLLIN;
	}
	if ((fds->events & POLLOUT) && a->writable && !a->corked)
		revents |= POLLOUT;
	if (!revents && timeout != 0) {
		/* Somebody wants to wait: the kernel knows, and tells us too. */
		a->readable = true;
		return false;
	}
	fds->revents = (short)revents;
	*rc = revents != 0;
	return true;
}
