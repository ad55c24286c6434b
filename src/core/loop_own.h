/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_LOOP_OWN_H
#define ALK_LOOP_OWN_H

/* What a loop and its watchers are made of, for the files that are the loop: loop.c and
 * loop_signal.c. */

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include <ev.h>

#include <alknet/loop.h>
#include "attend.h"

enum watcher_magic {
	WATCHER_DEAD = 0x64656164,
	WATCHER_IO = 0x616c696f,
	WATCHER_TIMER = 0x616c746d,
	WATCHER_SIGNAL = 0x616c7367,
};

/* What the three kinds of watcher have in common; always their first member. */
struct watcher {
	uint32_t magic;
	struct alk_loop *loop;
	const char *name;
	struct watcher *next, **prev;
};

struct alk_io {
	struct watcher w;
	ev_io ev;
	int events; /* of enum alk_io_events */
	int lent;   /* the epoll instance that watches for reading meanwhile, or -1 */
	alk_io_fn *on_ready;
	void *user;
};

struct alk_timer {
	struct watcher w;
	ev_timer ev;
	uint64_t due;  /* when it has to run, monotonic ns */
	uint64_t rung; /* when libev will ring; never later than due */
	alk_timer_fn *on_timeout;
	void *user;
};

struct alk_signal {
	struct watcher w;
	int signo;
	bool due; /* it came, and this one has not been told */
	alk_signal_fn *on_signal;
	void *user;
	struct alk_signal *next, **prev;
};

struct kept {
	const void *key;
	void *thing;
	void (*free_thing)(void *thing);
	struct kept *next;
};

struct alk_loop {
	struct ev_loop *ev;
	ev_prepare prepare;
	ev_check check;
	ev_idle idle; /* active while tasks were left over: the loop must not sleep */
	uint64_t
		woken; /* monotonic ns of the last wake-up: libev's own idea of now, or just after it */
	bool running, borrowed;
	bool may_pause, pauses;
	uint64_t worked,
		waited; /* the turn before, and the wait after it, in ns, where pauses may be */
	alk_task_fn *guest_stop; /* of a guest in a program */
	void *guest_user;

	struct alk_task *tasks, **tasks_end;
	size_t tasks_count;
	struct alk_task *yielded, **yielded_end; /* of the next iteration */

	struct watcher *live, *dead;
	struct kept *kept;
	int *other; /* of each fd that is in a pair the other one, else -1 */
	int others;

	alk_task_fn *on_wake, *on_sleep;
	void *hooks_user;
	alk_task_fn *last;
	void *last_user;

	struct alk_attend attend;
	bool idled; /* nothing was ready in this iteration */

	bool shared;	      /* other threads visit */
	pthread_mutex_t turn; /* of a shared loop: held but while it sleeps */
	bool turned;	      /* this turn's tasks have run: whatever is queued now is the next's */
	bool touched;	      /* what it sleeps for is not all that it waits for any more */
};

#define CONTAINER(ptr_, type_, member_) ((type_ *)(void *)((char *)(ptr_)-offsetof(type_, member_)))

/* Of `size` bytes, which begin with a struct watcher; alive. NULL when there is no memory. */
void *watcher_new(struct alk_loop *loop, size_t size, enum watcher_magic magic, const char *name);
/* Not alive any more; the memory goes after the iteration. */
void watcher_bury(struct watcher *w);

/* Those of this loop that came and were not told yet. Of all that wakes the loop this alone needs
 * no descriptor: a signal ends its sleep. */
void loop_take_signals(struct alk_loop *loop);

#endif
