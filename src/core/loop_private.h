/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_LOOP_PRIVATE_H
#define ALK_LOOP_PRIVATE_H

/* What the core, and no plugin, may ask of a loop: to keep a thing for as long as it lives, such as
 * the process's resolver. Start here if there must be one of something a loop. */

#include <signal.h>
#include <alknet/loop.h>

/* The thing that is kept under `key` (any address of the caller's own), NULL when there is none. */
void *alk_loop_kept(const struct alk_loop *loop, const void *key);
/* Keep `thing` until alk_loop_free(), which hands it to `free_thing` before it looks for leaks; the
 * one kept last goes first. Takes `thing` when it returns 0; -ENOMEM. */
int alk_loop_keep(struct alk_loop *loop, const void *key, void *thing,
		  void (*free_thing)(void *thing));

/* The watcher for another user, from now on. What it watches, and for what, stays, so that the
 * kernel has not to be told. */
void alk_io_hand_over(struct alk_io *io, const char *name, alk_io_fn *on_ready, void *user);

/* A loop over one of libev's that somebody else made, runs and frees. */
struct ev_loop;
struct alk_loop *alk_loop_wrap(struct ev_loop *ev, struct alk_err *err);
/* The loop is a guest in a program: alk_loop_stop() calls `stop` instead of ending it; NULL takes
 * that back. A guest takes no signals and asks nobody at a terminal. */
void alk_loop_set_guest(struct alk_loop *loop, alk_task_fn *stop, void *user);
bool alk_loop_is_guest(const struct alk_loop *loop);
/* `last` runs at the end of each turn, after all tasks and before the loop sleeps; NULL ends
 * that. */
void alk_loop_set_last(struct alk_loop *loop, alk_task_fn *last, void *user);
/* alk_loop_now() in microseconds, of the same clock as alk_board_now_us(): as old as this turn is,
 * for it asks no clock. */
uint64_t alk_loop_now_us(const struct alk_loop *loop);
/* Time went by outside of the loop's callbacks. */
void alk_loop_refresh(struct alk_loop *loop);
/* Whether the loop may be told to pause: nothing on it minds a moment. A program's loop never
 * does. */
void alk_loop_may_pause(struct alk_loop *loop, bool may);
/* Whatever gets ready, the loop looks no sooner than `us` after it last did, or a moment before a
 * timer is due. Once.
 * False: it may not. */
bool alk_loop_pause(struct alk_loop *loop, uint32_t us);
/* How long the loop waited before this turn, in ns, and worked in the one before; of a loop that
 * may pause. */
uint64_t alk_loop_waited(const struct alk_loop *loop, uint64_t *worked);

/* Add those that somebody waits for (alk_signal_new). */
void alk_signals_add(sigset_t *set);

/* Visits: a shared loop may be used by other threads than the one that runs it, one at a time,
 * while it sleeps: between alk_loop_enter() and alk_loop_leave() the caller is the loop's thread.
 * Before alk_loop_run(); not for a loop that was wrapped. */
void alk_loop_share(struct alk_loop *loop);
/* False: it is at work, or visited; `wait`: until it is not. Not inside a visit or a callback. */
bool alk_loop_enter(struct alk_loop *loop, bool wait);
/* Ends the turn as the loop does. True: the loop has to be woken (by some fd that it watches),
 * because it does not know what it waits for now. */
bool alk_loop_leave(struct alk_loop *loop);

/* While it is lent not the loop watches, but an epoll instance of a visitor's: when that is
 * readable, alk_loop_serve() in a visit calls what the loop would call, and says of how many
 * watchers. The loop has it back as soon as other events are asked for, and with alk_io_recall();
 * the instance must live until then. 0; -ENOTSUP when it watches for anything but reading, or is
 * the end of a pair, or the loop is not shared; -errno. */
int alk_io_lend(struct alk_io *io, int epoll);
void alk_io_recall(struct alk_io *io);
bool alk_io_lent(const struct alk_io *io);
unsigned alk_loop_serve(int epoll);

/* An answer is expected within `us`: attend.h says when the loop stays awake for it. */
void alk_loop_attend(struct alk_loop *loop, uint32_t us);

#endif
