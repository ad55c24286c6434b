/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Loaded before everything else, it fails one call: the n-th of a kind, once. It also knows what
 * was allocated while it was told to watch, and not given back since. ALKNET_TEST_FAULTS is a file
 * that holds struct faults, which the test writes while the program runs; ALKNET_TEST_FAULTS_ROLE
 * is the word of the command line that says which of the processes is meant (serve, worker,
 * connect). harness/faults.py has the same table. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

#define KINDS(X)                                                                                   \
	X(malloc)                                                                                  \
	X(accept4)                                                                                 \
	X(socket)                                                                                  \
	X(connect)                                                                                 \
	X(recv)                                                                                    \
	X(send)                                                                                    \
	X(sendmsg)                                                                                 \
	X(recvmsg)                                                                                 \
	X(recvfrom)                                                                                \
	X(sendto)                                                                                  \
	X(epoll_ctl)                                                                               \
	X(epoll_wait)                                                                              \
	X(fcntl)                                                                                   \
	X(setsockopt)                                                                              \
	X(getsockopt)                                                                              \
	X(getsockname)                                                                             \
	X(getpeername)                                                                             \
	X(socketpair)                                                                              \
	X(read)                                                                                    \
	X(write)                                                                                   \
	X(writev)                                                                                  \
	X(shutdown)                                                                                \
	X(poll)                                                                                    \
	X(timerfd_create)                                                                          \
	X(timerfd_settime)

enum kind {
#define X(name_) KIND_##name_,
	KINDS(X)
#undef X
	KIND_COUNT
};

#define BLOCKS 16384u /* a power of two */
#define BLOCK_FRAMES 8

struct block {
	uint64_t at; /* 0: never used; 1: given back */
	uint64_t size;
	uint64_t frame[BLOCK_FRAMES]; /* who asked, innermost first */
};

struct faults {
	uint32_t armed, kind;
	uint64_t at; /* which call of the kind */
	int32_t error;
	uint32_t fired;
	uint64_t count[32];
	char site[1024]; /* who called, innermost first */
	uint32_t watching;
	uint32_t overflown; /* there were more blocks than there is room for */
	uint32_t failing;   /* a call is on its way to fail: wait for `fired` */
	uint32_t unused;
	struct block block[BLOCKS];
};

static struct faults *faults;

#define FRAMES 16

__attribute__((constructor)) static void faults_open(int argc, char **argv)
{
	const char *path = getenv("ALKNET_TEST_FAULTS"), *role = getenv("ALKNET_TEST_FAULTS_ROLE");
	int fd = path != NULL && role != NULL && argc > 1 && strcmp(argv[1], role) == 0
			 ? open(path, O_RDWR | O_CLOEXEC)
			 : -1;
	void *at, *frame[FRAMES];

	if (fd < 0)
		return;
	at = mmap(NULL, sizeof(*faults), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	backtrace(frame, FRAMES); /* it loads what it needs at its first call */
	if (at != MAP_FAILED)
		faults = at;
}

static void site_write(struct faults *f)
{
	void *frame[FRAMES];
	size_t used = 0;
	int n = backtrace(frame, FRAMES);

	for (int i = 2; i < n && used < sizeof(f->site) - 1; i++) {
		Dl_info info = {0};
		const char *file = "?", *slash;

		if (dladdr(frame[i], &info) != 0 && info.dli_fname != NULL)
			file = (slash = strrchr(info.dli_fname, '/')) != NULL ? slash + 1
									      : info.dli_fname;
		used += (size_t)snprintf(f->site + used, sizeof(f->site) - used, "%s:%s+%#lx ",
					 file, info.dli_sname != NULL ? info.dli_sname : "",
					 (unsigned long)((char *)frame[i] -
							 (char *)info.dli_fbase));
	}
}

static __attribute__((noinline)) bool fails(enum kind kind)
{
	struct faults *f = faults;
	uint64_t n;

	if (f == NULL)
		return false;
	n = __atomic_add_fetch(&f->count[kind], 1, __ATOMIC_RELAXED);
	if (!__atomic_load_n(&f->armed, __ATOMIC_ACQUIRE) || f->kind != kind || n != f->at)
		return false;
	__atomic_store_n(&f->failing, 1, __ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&f->armed, __ATOMIC_SEQ_CST)) { /* it was taken back meanwhile */
		__atomic_store_n(&f->failing, 0, __ATOMIC_SEQ_CST);
		return false;
	}
	faults = NULL; /* what the next lines allocate is not counted */
	f->armed = 0;
	site_write(f);
	__atomic_store_n(&f->fired, 1, __ATOMIC_SEQ_CST);
	__atomic_store_n(&f->failing, 0, __ATOMIC_SEQ_CST);
	faults = f;
	errno = f->error;
	return true;
}

/* ---- what is alive; each thread of a program that has more than one may come ---- */

static unsigned block_lock;

static void blocks_lock(void)
{
	while (__atomic_exchange_n(&block_lock, 1, __ATOMIC_ACQUIRE))
		;
}

static void blocks_unlock(void)
{
	__atomic_store_n(&block_lock, 0, __ATOMIC_RELEASE);
}

/* The block's place, or NULL; in *room where it could go. */
static struct block *block_find(struct faults *f, uint64_t at, struct block **room)
{
	uint64_t from = at >> 4;

	*room = NULL;
	for (unsigned i = 0; i < BLOCKS; i++) {
		struct block *b = &f->block[(from + i) % BLOCKS];

		if (b->at == at)
			return b;
		if (*room == NULL && b->at <= 1)
			*room = b;
		if (b->at == 0)
			break;
	}
	return NULL;
}

static void block_put(struct faults *f, const struct block *block)
{
	struct block *room;

	blocks_lock();
	block_find(f, block->at, &room);
	if (room != NULL)
		*room = *block;
	else
		f->overflown = 1;
	blocks_unlock();
}

/* False: it is not one of those that were watched. */
static bool block_take(struct faults *f, const void *at, struct block *taken)
{
	struct block *room, *b;

	blocks_lock();
	b = block_find(f, (uintptr_t)at, &room);
	if (b != NULL) {
		*taken = *b;
		b->at = 1;
	}
	blocks_unlock();
	return b != NULL;
}

/* OpenSSL keeps the last sixteen errors of a thread. */
static bool is_error_of_openssl(void *const *frame, int n)
{
	for (int i = 0; i < n; i++) {
		Dl_info info = {0};

		if (frame[i] != NULL && dladdr(frame[i], &info) != 0 && info.dli_sname != NULL &&
		    strncmp(info.dli_sname, "ERR_", 4) == 0)
			return true;
	}
	return false;
}

static __attribute__((noinline)) void *block_made(void *at, size_t size)
{
	static _Thread_local bool inside;
	struct faults *f = faults;
	struct block block = {.at = (uintptr_t)at, .size = size};
	void *frame[BLOCK_FRAMES + 2] = {NULL};

	if (f == NULL || at == NULL || inside || !__atomic_load_n(&f->watching, __ATOMIC_ACQUIRE))
		return at;
	inside = true;
	backtrace(frame, BLOCK_FRAMES + 2);
	inside = false;
	if (is_error_of_openssl(frame + 2, 3))
		return at;
	for (int i = 0; i < BLOCK_FRAMES; i++)
		block.frame[i] = (uintptr_t)frame[i + 2];
	block_put(f, &block);
	return at;
}

/* One that grows is the one that it was. */
static void *block_moved(struct faults *f, void *old, size_t size, void *(*grow)(void *, size_t))
{
	struct block block;
	bool watched = f != NULL && old != NULL && block_take(f, old, &block);
	void *at = grow(old, size);

	if (old == NULL)
		return block_made(at, size);
	if (!watched || (at == NULL && size == 0))
		return at;
	if (at != NULL) {
		block.at = (uintptr_t)at;
		block.size = size;
	}
	block_put(f, &block);
	return at;
}

/* ---- allocation; what comes before dlsym() has answered is taken from here and never given back ---- */

static _Alignas(16) char early[65536];
static size_t early_used;

static void *early_take(size_t n)
{
	char *at = early + early_used;

	n = (n + 31) & ~(size_t)15;
	if (n > sizeof(early) - early_used)
		abort();
	*(size_t *)(void *)at = n - 16;
	early_used += n;
	return at + 16;
}

static bool is_early(const void *at)
{
	return (const char *)at >= early && (const char *)at < early + sizeof(early);
}

static struct {
	void *(*malloc)(size_t);
	void *(*calloc)(size_t, size_t);
	void *(*realloc)(void *, size_t);
	void (*free)(void *);
	bool asking, known;
} libc;

static bool libc_known(void)
{
	if (libc.known || libc.asking)
		return libc.known;
	libc.asking = true;
	*(void **)&libc.malloc = dlsym(RTLD_NEXT, "malloc");
	*(void **)&libc.calloc = dlsym(RTLD_NEXT, "calloc");
	*(void **)&libc.realloc = dlsym(RTLD_NEXT, "realloc");
	*(void **)&libc.free = dlsym(RTLD_NEXT, "free");
	libc.known = true;
	libc.asking = false;
	return true;
}

void *malloc(size_t n)
{
	if (!libc_known())
		return early_take(n);
	return fails(KIND_malloc) ? NULL : block_made(libc.malloc(n), n);
}

void *calloc(size_t n, size_t size)
{
	if (!libc_known())
		return early_take(n * size);
	return fails(KIND_malloc) ? NULL : block_made(libc.calloc(n, size), n * size);
}

void *realloc(void *old, size_t n)
{
	void *at;

	if (!libc_known() || is_early(old)) {
		size_t had = old != NULL ? *(size_t *)(void *)((char *)old - 16) : 0;

		at = libc.known ? libc.malloc(n) : early_take(n);
		return at != NULL && old != NULL ? memcpy(at, old, had < n ? had : n) : at;
	}
	return fails(KIND_malloc) ? NULL : block_moved(faults, old, n, libc.realloc);
}

void free(void *at)
{
	struct block block;

	if (at == NULL || is_early(at) || !libc_known())
		return;
	if (faults != NULL)
		block_take(faults, at, &block);
	libc.free(at);
}

/* ---- system calls, as the C library has them ---- */

#define CALL(type_, name_, params_, args_)                                                         \
	type_ name_ params_                                                                        \
	{                                                                                          \
		static type_(*next) params_;                                                       \
                                                                                                   \
		if (next == NULL)                                                                  \
			*(void **)&next = dlsym(RTLD_NEXT, #name_);                                \
		return fails(KIND_##name_) ? (type_)-1 : next args_;                               \
	}

CALL(int, accept4, (int fd, __SOCKADDR_ARG sa, socklen_t *restrict len, int flags),
     (fd, sa, len, flags))
CALL(int, socket, (int family, int type, int protocol), (family, type, protocol))
CALL(int, connect, (int fd, __CONST_SOCKADDR_ARG sa, socklen_t len), (fd, sa, len))
CALL(ssize_t, recv, (int fd, void *at, size_t n, int flags), (fd, at, n, flags))
CALL(ssize_t, send, (int fd, const void *at, size_t n, int flags), (fd, at, n, flags))
CALL(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
CALL(ssize_t, recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags))
CALL(ssize_t, recvfrom,
     (int fd, void *restrict at, size_t n, int flags, __SOCKADDR_ARG sa, socklen_t *restrict len),
     (fd, at, n, flags, sa, len))
CALL(ssize_t, sendto,
     (int fd, const void *at, size_t n, int flags, __CONST_SOCKADDR_ARG sa, socklen_t len),
     (fd, at, n, flags, sa, len))
CALL(int, epoll_ctl, (int epfd, int op, int fd, struct epoll_event *event), (epfd, op, fd, event))
CALL(int, epoll_wait, (int epfd, struct epoll_event *events, int max, int timeout),
     (epfd, events, max, timeout))
CALL(int, setsockopt, (int fd, int level, int name, const void *at, socklen_t len),
     (fd, level, name, at, len))
CALL(int, getsockopt, (int fd, int level, int name, void *restrict at, socklen_t *restrict len),
     (fd, level, name, at, len))
CALL(int, getsockname, (int fd, __SOCKADDR_ARG sa, socklen_t *restrict len), (fd, sa, len))
CALL(int, getpeername, (int fd, __SOCKADDR_ARG sa, socklen_t *restrict len), (fd, sa, len))
CALL(int, socketpair, (int family, int type, int protocol, int pair[2]),
     (family, type, protocol, pair))
CALL(ssize_t, read, (int fd, void *at, size_t n), (fd, at, n))
CALL(ssize_t, write, (int fd, const void *at, size_t n), (fd, at, n))
CALL(ssize_t, writev, (int fd, const struct iovec *iov, int n), (fd, iov, n))
CALL(int, shutdown, (int fd, int how), (fd, how))
CALL(int, poll, (struct pollfd * fds, nfds_t n, int timeout), (fds, n, timeout))
CALL(int, timerfd_create, (int clock, int flags), (clock, flags))
CALL(int, timerfd_settime,
     (int fd, int flags, const struct itimerspec *to, struct itimerspec *before),
     (fd, flags, to, before))

#define FCNTL(name_)                                                                               \
	int name_(int fd, int command, ...)                                                        \
	{                                                                                          \
		static int (*next)(int, int, ...);                                                 \
		va_list args;                                                                      \
		void *arg;                                                                         \
                                                                                                   \
		va_start(args, command);                                                           \
		arg = va_arg(args, void *);                                                        \
		va_end(args);                                                                      \
		if (next == NULL)                                                                  \
			*(void **)&next = dlsym(RTLD_NEXT, #name_);                                \
		return fails(KIND_fcntl) ? -1 : next(fd, command, arg);                            \
	}
FCNTL(fcntl)
FCNTL(fcntl64)

/* What stands in front of libssh (readahead.c) calls the kernel itself. */
static int kind_of(long number)
{
	switch (number) {
	case SYS_recvfrom:
		return KIND_recv;
	case SYS_sendto:
		return KIND_send;
	case SYS_ppoll:
		return KIND_poll;
	default:
		return -1;
	}
}

long syscall(long number, ...)
{
	static long (*next)(long, ...);
	int kind = kind_of(number);
	long arg[6];
	va_list args;

	va_start(args, number);
	for (int i = 0; i < 6; i++)
		arg[i] = va_arg(args, long);
	va_end(args);
	if (next == NULL)
		*(void **)&next = dlsym(RTLD_NEXT, "syscall");
	return kind >= 0 && fails((enum kind)kind)
		       ? -1
		       : next(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}
