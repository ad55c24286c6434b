/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_LOOP_H
#define ALKNET_LOOP_H

/* The event loop: named watchers over libev, one unit of time (milliseconds, monotonic).
 *
 * A process runs one loop on one thread; nothing here may be called from another thread, and
 * nothing that runs on it may block. All objects are on the heap and opaque. Every `_free` may be
 * called from any callback, its own included: the watcher is stopped at once and its memory is
 * given back after the iteration. A callback never runs after the `_free` or `_stop` of its
 * watcher.
 *
 * Start here if something has to happen later: alk_task for "after this callback", alk_timer for
 * "in n ms", alk_io for "when this fd can". */

#include <stdbool.h>
#include <stdint.h>
#include <alknet/err.h>

struct alk_loop;
struct alk_io;
struct alk_timer;
struct alk_signal;

enum alk_io_events {
	ALK_IO_READ = 1,
	ALK_IO_WRITE = 2,
};

/* `revents` is a mask of enum alk_io_events. */
typedef void alk_io_fn(void *user, int revents);
typedef void alk_timer_fn(void *user);
typedef void alk_signal_fn(void *user, int signo);
typedef void alk_task_fn(void *user);

/* Make a loop. Gives it to the caller. NULL with `err` set when the kernel refuses. */
ALK_EXPORT struct alk_loop *alk_loop_new(struct alk_err *err);
/* Takes the loop. Watchers still alive are logged by name (a leak) and freed. */
ALK_EXPORT void alk_loop_free(struct alk_loop **loop);
/* Run until alk_loop_stop(). Not reentrant. */
ALK_EXPORT void alk_loop_run(struct alk_loop *loop);
ALK_EXPORT void alk_loop_stop(struct alk_loop *loop);
/* Monotonic milliseconds, cached once an iteration. */
ALK_EXPORT uint64_t alk_loop_now(const struct alk_loop *loop);
/* `on_wake` runs each time the loop comes back from waiting, `on_sleep` just before it waits. One
 * pair a loop (the watchdog's); NULL removes it. */
ALK_EXPORT void alk_loop_set_hooks(struct alk_loop *loop, alk_task_fn *on_wake,
				   alk_task_fn *on_sleep, void *user);

/* The `_new` of watchers give NULL when out of memory. */

/* Watch `fd` (borrowed: closing it is the caller's, after alk_io_free or alk_io_set(io, 0)).
 * `name` is borrowed for life and is shown when the watcher leaks. Starts with no events. */
ALK_EXPORT struct alk_io *alk_io_new(struct alk_loop *loop, int fd, const char *name,
				     alk_io_fn *on_ready, void *user);
/* Watch for `events` from now on; 0 pauses. Cheap when nothing changes. */
ALK_EXPORT void alk_io_set(struct alk_io *io, int events);
ALK_EXPORT int alk_io_events(const struct alk_io *io);
/* `a` and `b` are the two ends of a pair of sockets in this process: what is written to one makes
 * the other readable, and its watcher need not hear so from the kernel. `alk_loop_wrote`: something
 * was written to fd; a watcher of the other end that watches for reading is called in this
 * iteration. An fd that is in no pair is none of its business. `alk_loop_unpair` parts fd and its
 * other end, before fd is closed. ABI 1.10. 0 or -ENOMEM. */
ALK_EXPORT int alk_loop_pair(struct alk_loop *loop, int a, int b);
ALK_EXPORT void alk_loop_wrote(struct alk_loop *loop, int fd);
ALK_EXPORT void alk_loop_unpair(struct alk_loop *loop, int fd);
ALK_EXPORT void alk_io_free(struct alk_io **io);

/* A one-shot timer; never early by more than 1 ms. Starting a running timer moves it, which costs
 * next to nothing when it moves away. `ms` 0 fires in a next iteration, up to 1 ms later:
 * alk_task_yield is sooner. */
ALK_EXPORT struct alk_timer *alk_timer_new(struct alk_loop *loop, const char *name,
					   alk_timer_fn *on_timeout, void *user);
ALK_EXPORT void alk_timer_start(struct alk_timer *timer, uint64_t ms);
ALK_EXPORT void alk_timer_stop(struct alk_timer *timer);
ALK_EXPORT bool alk_timer_active(const struct alk_timer *timer);
ALK_EXPORT void alk_timer_free(struct alk_timer **timer);

/* A signal of the process, delivered on the loop, and not blocked in this thread any more. One loop of
 * a process at a time may have them. */
ALK_EXPORT struct alk_signal *alk_signal_new(struct alk_loop *loop, int signo, const char *name,
					     alk_signal_fn *on_signal, void *user);
ALK_EXPORT void alk_signal_free(struct alk_signal **signal);

/* Something to do once, later in this iteration, outside of whatever callback runs now. The memory
 * is the caller's (usually embedded) and must stay until it ran or was cancelled. Queueing one that
 * is queued already does nothing. Tasks run in the order they were queued; a task queued by a task
 * runs in the same iteration, at most 1000 rounds. */
struct alk_task {
	alk_task_fn *fn;
	void *user;
	struct alk_task *next, **prev; /* the loop's; prev != NULL while queued */
	bool yielded;		       /* the loop's */
};
ALK_EXPORT void alk_task_queue(struct alk_loop *loop, struct alk_task *task);
/* The same in the next iteration, after the fds that are ready have had their turn; the loop does
 * not wait before it. For long work that is done in pieces. */
ALK_EXPORT void alk_task_yield(struct alk_loop *loop, struct alk_task *task);
ALK_EXPORT void alk_task_cancel(struct alk_loop *loop, struct alk_task *task);

/* Close *fd unless it is negative, and set it to -1. Keeps errno. */
ALK_EXPORT void alk_fd_close(int *fd);

#endif
