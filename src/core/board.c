/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "board.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <alknet/loop.h>

#define BOARD_MAGIC 0x64726f62u /* "bord" */

static struct alk_board board_private = {.magic = BOARD_MAGIC, .size = sizeof(struct alk_board)};
struct alk_board *alk_board_self = &board_private;

static struct alk_board *board_mmap(int fd, struct alk_err *err)
{
	void *mem = mmap(NULL, sizeof(struct alk_board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (mem == MAP_FAILED) {
		alk_err_set(err, -errno, "board: cannot map shared memory: %s", strerror(errno));
		return NULL;
	}
	return mem;
}

struct alk_board *alk_board_new(int *fd, struct alk_err *err)
{
	struct alk_board *board = NULL;
	int mem;

	*fd = -1;
	mem = memfd_create("alknet-board", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (mem < 0) {
		alk_err_set(err, -errno, "board: cannot make shared memory: %s", strerror(errno));
		return NULL;
	}
	if (ftruncate(mem, sizeof(*board)) != 0 ||
	    fcntl(mem, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
		alk_err_set(err, -errno, "board: cannot size shared memory: %s", strerror(errno));
		goto fail;
	}
	board = board_mmap(mem, err);
	if (board == NULL)
		goto fail;
	board->magic = BOARD_MAGIC;
	board->size = sizeof(*board);
	*fd = mem;
	return board;
fail:
	alk_fd_close(&mem);
	return NULL;
}

struct alk_board *alk_board_map(int fd, struct alk_err *err)
{
	struct alk_board *board;
	struct stat st;

	if (fstat(fd, &st) != 0 || st.st_size < (off_t)sizeof(*board)) {
		alk_err_set(err, -EINVAL, "board: the shared memory is too small");
		return NULL;
	}
	board = board_mmap(fd, err);
	if (board == NULL)
		return NULL;
	if (board->magic != BOARD_MAGIC || board->size != sizeof(*board)) {
		alk_err_set(err, -EINVAL,
			    "board: the shared memory is not a board of this version");
		alk_board_free(&board);
	}
	return board;
}

void alk_board_free(struct alk_board **board)
{
	if (*board == NULL)
		return;
	if (*board == alk_board_self)
		alk_board_self = &board_private;
	munmap(*board, sizeof(**board));
	*board = NULL;
}

void alk_board_use(struct alk_board *board)
{
	alk_board_self = board != NULL ? board : &board_private;
}

uint64_t alk_board_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void alk_observe(enum alk_histogram histogram, uint64_t us)
{
	static const unsigned end_ms[] = {
#define X(ms_) (ms_),
		ALK_BUCKETS_MS(X)
#undef X
	};
	struct alk_board_histogram *h = &alk_board_self->histogram[histogram];
	size_t b = 0;

	while (b < sizeof(end_ms) / sizeof(end_ms[0]) && us > (uint64_t)end_ms[b] * 1000)
		b++;
	/* One writer, as for alk_count(). */
	atomic_store_explicit(&h->bucket[b],
			      atomic_load_explicit(&h->bucket[b], memory_order_relaxed) + 1,
			      memory_order_relaxed);
	atomic_store_explicit(&h->sum_us,
			      atomic_load_explicit(&h->sum_us, memory_order_relaxed) + us,
			      memory_order_relaxed);
}

static void text_copy(char *to, size_t size, const char *from)
{
	size_t n = from != NULL ? strnlen(from, size - 1) : 0;

	if (n > 0)
		memcpy(to, from, n);
	to[n] = '\0';
}

void alk_board_hand(uint64_t link, const char *addr, const char *identity)
{
	struct alk_board *board = alk_board_self;

	text_copy(board->in_hand_addr, sizeof(board->in_hand_addr), addr);
	text_copy(board->in_hand_identity, sizeof(board->in_hand_identity), identity);
	atomic_store_explicit(&board->in_hand_link, link, memory_order_release);
}

void alk_board_get_hand(const struct alk_board *board, struct alk_board_hand *hand)
{
	hand->link = atomic_load_explicit(&board->in_hand_link, memory_order_acquire);
	text_copy(hand->addr, sizeof(hand->addr), board->in_hand_addr);
	text_copy(hand->identity, sizeof(hand->identity), board->in_hand_identity);
}

bool alk_board_end(struct alk_board *board, uint64_t link)
{
	struct alk_board_ended *ended = &board->ended;
	uint32_t written = atomic_load_explicit(&ended->written, memory_order_relaxed);

	if (written - atomic_load_explicit(&ended->read, memory_order_acquire) >= ALK_BOARD_ENDED)
		return false;
	atomic_store_explicit(&ended->link[written % ALK_BOARD_ENDED], link, memory_order_relaxed);
	atomic_store_explicit(&ended->written, written + 1, memory_order_release);
	return true;
}

bool alk_board_ended_waits(const struct alk_board *board)
{
	return atomic_load_explicit(&board->ended.written, memory_order_relaxed) !=
	       atomic_load_explicit(&board->ended.read, memory_order_relaxed);
}

int alk_board_ended_next(struct alk_board *board, uint32_t *read, uint64_t *link)
{
	struct alk_board_ended *ended = &board->ended;
	uint32_t written = atomic_load_explicit(&ended->written, memory_order_acquire);
	int rc = written - *read > ALK_BOARD_ENDED ? -EPROTO : 0;

	*link = 0;
	if (rc < 0) {
		*read = written;
	} else if (written != *read) {
		*link = atomic_load_explicit(&ended->link[*read % ALK_BOARD_ENDED],
					     memory_order_relaxed);
		++*read;
	}
	atomic_store_explicit(&ended->read, *read, memory_order_release);
	return rc;
}
