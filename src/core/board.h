/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_BOARD_H
#define ALK_BOARD_H

/* The board of one worker: a page of shared memory (memfd) that the worker writes and the
 * supervisor reads, so that neither needs a message for it: the watchdog's pulse, what the worker
 * has in hand, and every metric. Metrics are an X-macro (metrics.def): name, kind, help.
 *
 * The memory is sealed at its size, so that a worker cannot take it away from under the supervisor.
 * The supervisor believes nothing that is on it: texts are copied and cut, times are only compared
 * with what was seen before.
 *
 * Start here if you add a metric: a line in metrics.def, then alk_count(ALK_M_..., n); a histogram
 * is a line in metrics_histograms.def and alk_observe(ALK_H_..., us). "make docs" then. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <alknet/err.h>

enum alk_metric {
#define ALK_METRIC(id_, kind_, name_, help_) ALK_M_##id_,
#include "metrics.def"
#undef ALK_METRIC
	ALK_METRIC_COUNT
};

enum alk_metric_kind {
	ALK_COUNTER,
	ALK_GAUGE,
};

struct alk_metric_info {
	const char *name; /* Prometheus name */
	enum alk_metric_kind kind;
	const char *help;
};
extern const struct alk_metric_info alk_metric_info[ALK_METRIC_COUNT];

/* Histograms of durations: the upper ends of their buckets in milliseconds, the last one has
 * none. */
#define ALK_BUCKETS_MS(X)                                                                          \
	X(1)                                                                                       \
	X(5)                                                                                       \
	X(10)                                                                                      \
	X(25)                                                                                      \
	X(50)                                                                                      \
	X(100)                                                                                     \
	X(250)                                                                                     \
	X(500)                                                                                     \
	X(1000)                                                                                    \
	X(2500)                                                                                    \
	X(5000)                                                                                    \
	X(10000)                                                                                   \
	X(30000)
#define X(ms_) +1
#define ALK_BUCKETS (0 ALK_BUCKETS_MS(X) + 1)
enum {
	ALK_BUCKET_COUNT = ALK_BUCKETS
};
#undef X
#undef ALK_BUCKETS

enum alk_histogram {
#define ALK_HISTOGRAM(id_, name_, help_) ALK_H_##id_,
#include "metrics_histograms.def"
#undef ALK_HISTOGRAM
	ALK_HISTOGRAM_COUNT
};

struct alk_histogram_info {
	const char *name, *help;
};
extern const struct alk_histogram_info alk_histogram_info[ALK_HISTOGRAM_COUNT];

struct alk_board_histogram {
	_Atomic uint64_t bucket[ALK_BUCKET_COUNT], sum_us;
};

/* Links that have ended or are authenticated, from the worker to the supervisor: a flood of links
 * that come to nothing would wake it for each. It looks here before it takes the next link; a
 * worker that has waited for it for a while says so over the control socket. Each counter has one
 * writer, and counts for ever. */
#define ALK_BOARD_ENDED 256
#define ALK_BOARD_LOGIN                                                                            \
	(UINT64_C(1) << 63) /* with a link's number: it has not ended, but is authenticated */
struct alk_board_ended {
	_Atomic uint32_t written; /* the worker's */
	_Atomic uint32_t read;	  /* the supervisor's, who does not believe it itself */
	_Atomic uint64_t link[ALK_BOARD_ENDED];
};

struct alk_board {
	uint32_t magic, size;
	_Atomic uint64_t busy_since; /* loop time in ms when the loop woke, 0 while it waits */
	/* What the loop works on; written before, read by the supervisor only when the worker
	 * hangs. */
	_Atomic uint64_t in_hand_link;
	char in_hand_addr[64];
	char in_hand_identity[128];
	struct alk_board_ended ended;
	_Atomic uint64_t metric[ALK_METRIC_COUNT];
	struct alk_board_histogram histogram[ALK_HISTOGRAM_COUNT];
};

/* Make one: gives a mapped board and its memfd in *fd. */
struct alk_board *alk_board_new(int *fd, struct alk_err *err);
/* Map one that came over the control socket. Borrows fd. */
struct alk_board *alk_board_map(int fd, struct alk_err *err);
void alk_board_free(struct alk_board **board);

/* CLOCK_MONOTONIC in microseconds, the same in all processes, for durations. */
uint64_t alk_board_now_us(void);
/* Something took so long; in the process's own board. */
void alk_observe(enum alk_histogram histogram, uint64_t us);
/* What the loop works on from now; 0 and NULL = nothing. Copies. */
void alk_board_hand(uint64_t link, const char *addr, const char *identity);

/* What a worker that hangs has in hand. */
struct alk_board_hand {
	uint64_t link;
	char addr[64];
	char identity[128];
};
void alk_board_get_hand(const struct alk_board *board, struct alk_board_hand *hand);

/* Worker: this link has ended. False: there is no place for it. */
bool alk_board_end(struct alk_board *board, uint64_t link);
/* Worker: is there one that the supervisor has not looked at? */
bool alk_board_ended_waits(const struct alk_board *board);
/* Supervisor: the next one that ended, 0 = no more. `read` is its own count, of this board alone.
 * More than there can be: -EPROTO, once. */
int alk_board_ended_next(struct alk_board *board, uint32_t *read, uint64_t *link);

/* The process's own board; a private one until alk_board_use() was called. Never NULL. */
extern struct alk_board *alk_board_self;
void alk_board_use(struct alk_board *board);

/* `board` may be NULL. */
static inline uint64_t alk_board_get(const struct alk_board *board, enum alk_metric m)
{
	return board ? atomic_load_explicit(&board->metric[m], memory_order_relaxed) : 0;
}

static inline void alk_count(enum alk_metric m, int64_t n)
{
	/* One writer: a plain load and store, no lock prefix. */
	uint64_t v = atomic_load_explicit(&alk_board_self->metric[m], memory_order_relaxed);

	atomic_store_explicit(&alk_board_self->metric[m], v + (uint64_t)n, memory_order_relaxed);
}

#endif
