/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <alknet/log.h>
#include "loop_own.h"
#include "loop_private.h"

#define TASK_ROUNDS 1000
/* Lent watchers that are looked at in one call. */
#define LENT_AT_ONCE 16
#define NS_PER_MS 1000000ULL
/* A timer that libev rings no earlier than this before its time may run. */
#define TIMER_SLACK_NS (NS_PER_MS / 2)
/* Longer than any process lives; keeps the arithmetic in range. */
#define TIMER_MAX_MS (1000ULL * 60 * 60 * 24 * 365 * 100)

static uint64_t mono_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 * NS_PER_MS + (uint64_t)ts.tv_nsec;
}

/* ---- tasks ---- */

/* Who is told of a write after the turn's tasks (alk_loop_wrote() in one of them) may have more to
 * do: the loop must not sleep on it. */
static void loop_have_more(struct alk_loop *loop)
{
	if (loop->turned)
		ev_idle_start(loop->ev, &loop->idle);
}

void alk_task_queue(struct alk_loop *loop, struct alk_task *task)
{
	if (task->prev != NULL)
		return;
	loop_have_more(loop);
	task->next = NULL;
	task->prev = loop->tasks_end;
	*loop->tasks_end = task;
	loop->tasks_end = &task->next;
	loop->tasks_count++;
}

void alk_task_cancel(struct alk_loop *loop, struct alk_task *task)
{
	if (task->prev == NULL)
		return;
	*task->prev = task->next;
	if (task->next != NULL)
		task->next->prev = task->prev;
	else if (task->yielded)
		loop->yielded_end = task->prev;
	else
		loop->tasks_end = task->prev;
	task->next = NULL;
	task->prev = NULL;
	if (!task->yielded)
		loop->tasks_count--;
	task->yielded = false;
}

void alk_task_yield(struct alk_loop *loop, struct alk_task *task)
{
	if (task->prev != NULL)
		return;
	loop_have_more(loop);
	loop->touched = true;
	task->yielded = true;
	task->next = NULL;
	task->prev = loop->yielded_end;
	*loop->yielded_end = task;
	loop->yielded_end = &task->next;
}

/* A new iteration: what was put off comes first. */
static void loop_take_yielded(struct alk_loop *loop)
{
	struct alk_task *task;

	while ((task = loop->yielded) != NULL) {
		alk_task_cancel(loop, task);
		alk_task_queue(loop, task);
	}
}

void alk_loop_attend(struct alk_loop *loop, uint32_t us)
{
	alk_attend_ask(&loop->attend, (uint64_t)us * 1000, loop->woken);
}

void alk_loop_may_pause(struct alk_loop *loop, bool may)
{
	loop->may_pause = may && !loop->borrowed && loop->guest_stop == NULL;
}

bool alk_loop_pause(struct alk_loop *loop, uint32_t us)
{
	if (!loop->may_pause)
		return false;
	loop->pauses = true;
	ev_set_io_collect_interval(loop->ev, (double)us / 1e6);
	return true;
}

static void loop_end_pause(struct alk_loop *loop)
{
	loop->pauses = false;
	ev_set_io_collect_interval(loop->ev, 0.);
}

uint64_t alk_loop_waited(const struct alk_loop *loop, uint64_t *worked)
{
	*worked = loop->worked;
	return loop->waited;
}

static bool loop_stays_awake(struct alk_loop *loop)
{
	bool came = !loop->idled;

	loop->idled = false;
	return loop->attend.waits > 0 &&
	       alk_attend_stays(&loop->attend, came, loop->woken, mono_ns());
}

static void loop_free_dead(struct alk_loop *loop);

/* False when there is more to do, in another turn. */
static bool loop_run_tasks(struct alk_loop *loop)
{
	int rounds;
	size_t n;

	for (rounds = 0; rounds < TASK_ROUNDS && loop->tasks != NULL; rounds++) {
		for (n = loop->tasks_count; n > 0 && loop->tasks != NULL; n--) {
			struct alk_task *task = loop->tasks;

			alk_task_cancel(loop, task);
			task->fn(task->user);
		}
	}
	return loop->tasks == NULL && loop->yielded == NULL;
}

static void loop_end_turn(struct alk_loop *loop)
{
	if (loop->last != NULL)
		loop->last(loop->last_user);
	loop_free_dead(loop);
}

/* ---- watchers ---- */

void *watcher_new(struct alk_loop *loop, size_t size, enum watcher_magic magic, const char *name)
{
	struct watcher *w = calloc(1, size);

	if (w == NULL)
		return NULL;
	w->magic = magic;
	w->loop = loop;
	w->name = name;
	w->next = loop->live;
	w->prev = &loop->live;
	if (w->next != NULL)
		w->next->prev = &w->next;
	loop->live = w;
	return w;
}

void watcher_bury(struct watcher *w)
{
	struct alk_loop *loop = w->loop;

	*w->prev = w->next;
	if (w->next != NULL)
		w->next->prev = w->prev;
	w->magic = WATCHER_DEAD;
	w->prev = NULL;
	w->next = loop->dead;
	loop->dead = w;
}

static void loop_free_dead(struct alk_loop *loop)
{
	struct watcher *w;

	while ((w = loop->dead) != NULL) {
		loop->dead = w->next;
		free(w);
	}
}

/* ---- fds ---- */

static void io_ready(struct ev_loop *ev, ev_io *watcher, int revents)
{
	struct alk_io *io = CONTAINER(watcher, struct alk_io, ev);
	int events = io->events;

	assert(io->w.magic == WATCHER_IO);
	if ((revents & EV_ERROR) && fcntl(watcher->fd, F_GETFD) >= 0) {
		/* The kernel was short of memory for its watch, and libev stopped it: ask again. */
		ev_io_set(watcher, watcher->fd, watcher->events);
		ev_io_start(ev, watcher);
		return;
	}
	if (revents & EV_ERROR)
		io->events =
			0; /* not an fd any more; libev stopped it, and who uses it now finds out */
	else
		events &= ((revents & EV_READ) ? ALK_IO_READ : 0) |
			  ((revents & EV_WRITE) ? ALK_IO_WRITE : 0);
	if (events != 0)
		io->on_ready(io->user, events);
}

struct alk_io *alk_io_new(struct alk_loop *loop, int fd, const char *name, alk_io_fn *on_ready,
			  void *user)
{
	struct alk_io *io = watcher_new(loop, sizeof(*io), WATCHER_IO, name);

	if (io == NULL)
		return NULL;
	ev_io_init(&io->ev, io_ready, fd, 0);
	io->lent = -1;
	io->on_ready = on_ready;
	io->user = user;
	return io;
}

void alk_io_hand_over(struct alk_io *io, const char *name, alk_io_fn *on_ready, void *user)
{
	assert(io->w.magic == WATCHER_IO);
	io->w.name = name;
	io->on_ready = on_ready;
	io->user = user;
}

void alk_io_set(struct alk_io *io, int events)
{
	struct ev_loop *ev;

	if (events == io->events)
		return;
	assert(io->w.magic == WATCHER_IO);
	alk_io_recall(io);
	io->w.loop->touched = true;
	/* Stop and start are list operations; the kernel hears of the sum of them once, before the
	 * loop sleeps, and of a pause not at all unless the fd gets ready meanwhile. */
	ev = io->w.loop->ev;
	ev_io_stop(ev, &io->ev);
	io->events = events;
	if (events == 0)
		return;
	ev_io_modify(&io->ev, ((events & ALK_IO_READ) ? EV_READ : 0) |
				      ((events & ALK_IO_WRITE) ? EV_WRITE : 0));
	ev_io_start(ev, &io->ev);
}

int alk_io_events(const struct alk_io *io)
{
	return io->events;
}

void alk_io_free(struct alk_io **io)
{
	if (*io == NULL)
		return;
	alk_io_set(*io, 0);
	watcher_bury(&(*io)->w);
	*io = NULL;
}

/* ---- lent ones ---- */

static int other_of(const struct alk_loop *loop, int fd);

int alk_io_lend(struct alk_io *io, int epoll)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = io};
	struct alk_loop *loop = io->w.loop;

	if (io->lent == epoll)
		return 0;
	if (!loop->shared || io->events != ALK_IO_READ || other_of(loop, io->ev.fd) >= 0)
		return -ENOTSUP;
	alk_io_recall(io);
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, io->ev.fd, &event) < 0)
		return -errno;
	/* Until the loop has heard of that a byte wakes it too, for nothing. */
	ev_io_stop(loop->ev, &io->ev);
	io->lent = epoll;
	return 0;
}

void alk_io_recall(struct alk_io *io)
{
	if (io->lent < 0)
		return;
	/* Where the fd is closed by now nothing is there to be deleted. */
	epoll_ctl(io->lent, EPOLL_CTL_DEL, io->ev.fd, NULL);
	io->lent = -1;
	ev_io_start(io->w.loop->ev, &io->ev);
	io->w.loop->touched = true;
}

bool alk_io_lent(const struct alk_io *io)
{
	return io->lent >= 0;
}

unsigned alk_loop_serve(int epoll)
{
	struct epoll_event came[LENT_AT_ONCE];
	int n = epoll_wait(epoll, came, LENT_AT_ONCE, 0);
	unsigned served = 0;

	for (int i = 0; i < n; i++) {
		struct alk_io *io = came[i].data.ptr;

		/* One before it may have been its end: its memory stays until the end of the
		 * turn. */
		if (io->w.magic != WATCHER_IO || io->lent != epoll)
			continue;
		served++;
		io->on_ready(io->user, ALK_IO_READ);
	}
	return served;
}

/* ---- pairs ---- */

static int other_of(const struct alk_loop *loop, int fd)
{
	return fd >= 0 && fd < loop->others ? loop->other[fd] : -1;
}

int alk_loop_pair(struct alk_loop *loop, int a, int b)
{
	int n = (a > b ? a : b) + 1;

	if (n > loop->others) {
		int *grown = realloc(loop->other, (size_t)n * 2 * sizeof(*grown));

		if (grown == NULL)
			return -ENOMEM;
		for (loop->other = grown; loop->others < n * 2; loop->others++)
			grown[loop->others] = -1;
	}
	loop->other[a] = b;
	loop->other[b] = a;
	return 0;
}

void alk_loop_wrote(struct alk_loop *loop, int fd)
{
	int other = other_of(loop, fd);

	if (other < 0)
		return;
	loop->touched = true;
	ev_feed_fd_event(loop->ev, other, EV_READ);
}

void alk_loop_unpair(struct alk_loop *loop, int fd)
{
	int other = other_of(loop, fd);

	if (other < 0)
		return;
	loop->other[fd] = -1;
	/* It may have been closed without a word, and its number be in another pair. */
	if (loop->other[other] == fd)
		loop->other[other] = -1;
}

/* ---- timers ---- */

static void timer_arm(struct alk_timer *timer)
{
	struct alk_loop *loop = timer->w.loop;
	uint64_t after = timer->due > loop->woken ? timer->due - loop->woken : 0;

	loop->touched = true;
	/* libev counts from its own now, which is that of the last wake-up. */
	ev_timer_stop(loop->ev, &timer->ev);
	ev_timer_set(&timer->ev, (double)after / 1e9, 0.);
	ev_timer_start(loop->ev, &timer->ev);
	timer->rung = timer->due;
}

static void timer_rang(struct ev_loop *ev, ev_timer *watcher, int revents)
{
	struct alk_timer *timer = CONTAINER(watcher, struct alk_timer, ev);

	(void)ev;
	(void)revents;
	assert(timer->w.magic == WATCHER_TIMER);
	if (timer->w.loop->woken + TIMER_SLACK_NS < timer->due)
		timer_arm(timer); /* it was moved while it ran */
	else
		timer->on_timeout(timer->user);
}

struct alk_timer *alk_timer_new(struct alk_loop *loop, const char *name, alk_timer_fn *on_timeout,
				void *user)
{
	struct alk_timer *timer = watcher_new(loop, sizeof(*timer), WATCHER_TIMER, name);

	if (timer == NULL)
		return NULL;
	ev_timer_init(&timer->ev, timer_rang, 0., 0.);
	timer->on_timeout = on_timeout;
	timer->user = user;
	return timer;
}

void alk_timer_start(struct alk_timer *timer, uint64_t ms)
{
	assert(timer->w.magic == WATCHER_TIMER);
	if (ms > TIMER_MAX_MS)
		ms = TIMER_MAX_MS;
	timer->due = mono_ns() + ms * NS_PER_MS;
	/* Moving a running timer away, which a timer of inactivity does all the time, costs
	 * nothing: it rings at the old time and goes on waiting. */
	if (!ev_is_active(&timer->ev) || timer->due < timer->rung)
		timer_arm(timer);
}

void alk_timer_stop(struct alk_timer *timer)
{
	assert(timer->w.magic == WATCHER_TIMER);
	ev_timer_stop(timer->w.loop->ev, &timer->ev);
}

bool alk_timer_active(const struct alk_timer *timer)
{
	return ev_is_active(&timer->ev) || ev_is_pending(&timer->ev);
}

void alk_timer_free(struct alk_timer **timer)
{
	if (*timer == NULL)
		return;
	alk_timer_stop(*timer);
	watcher_bury(&(*timer)->w);
	*timer = NULL;
}

/* ---- the loop ---- */

static void loop_before_sleep(struct ev_loop *ev, ev_prepare *watcher, int revents)
{
	struct alk_loop *loop = CONTAINER(watcher, struct alk_loop, prepare);

	(void)ev;
	(void)revents;
	if (!loop_run_tasks(loop) || loop_stays_awake(loop))
		ev_idle_start(loop->ev, &loop->idle);
	else if (ev_is_active(&loop->idle))
		ev_idle_stop(loop->ev, &loop->idle);
	loop_end_turn(loop);
	if (loop->on_sleep != NULL)
		loop->on_sleep(loop->hooks_user);
	if (loop->may_pause)
		loop->worked = mono_ns() - loop->woken;
	loop->turned = true;
}

static void loop_after_sleep(struct ev_loop *ev, ev_check *watcher, int revents)
{
	struct alk_loop *loop = CONTAINER(watcher, struct alk_loop, check);
	uint64_t slept = loop->woken + loop->worked;

	(void)ev;
	(void)revents;
	loop->turned = false;
	loop->woken = mono_ns();
	loop->waited = loop->woken - slept;
	if (loop->pauses)
		loop_end_pause(loop);
	loop_take_yielded(loop);
	if (loop->on_wake != NULL)
		loop->on_wake(loop->hooks_user);
	loop_take_signals(loop);
}

static void loop_idle(struct ev_loop *ev, ev_idle *watcher, int revents)
{
	struct alk_loop *loop = CONTAINER(watcher, struct alk_loop, idle);
	uint64_t before;

	(void)ev;
	(void)revents;
	loop->idled = true;
	if (loop->attend.waits == 0)
		return;
	before = mono_ns();
	sched_yield();
	alk_attend_gave_way(&loop->attend, before, mono_ns());
}

static struct alk_loop *loop_over(struct ev_loop *ev, struct alk_err *err)
{
	struct alk_loop *loop = calloc(1, sizeof(*loop));

	if (loop == NULL) {
		alk_err_set(err, -ENOMEM, "cannot make an event loop: out of memory");
		return NULL;
	}
	loop->ev = ev;
	loop->tasks_end = &loop->tasks;
	loop->yielded_end = &loop->yielded;
	loop->woken = mono_ns();
	ev_prepare_init(&loop->prepare, loop_before_sleep);
	ev_prepare_start(loop->ev, &loop->prepare);
	ev_check_init(&loop->check, loop_after_sleep);
	ev_set_priority(&loop->check, EV_MAXPRI);
	ev_check_start(loop->ev, &loop->check);
	ev_idle_init(&loop->idle, loop_idle);
	return loop;
}

struct alk_loop *alk_loop_wrap(struct ev_loop *ev, struct alk_err *err)
{
	struct alk_loop *loop = loop_over(ev, err);

	if (loop == NULL)
		return NULL;
	loop->borrowed = true;
	/* The two watchers of its own are no reason for the program's loop to go on. */
	ev_unref(ev);
	ev_unref(ev);
	return loop;
}

struct alk_loop *alk_loop_new(struct alk_err *err)
{
	struct ev_loop *ev = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOENV);
	struct alk_loop *loop;

	if (ev == NULL) {
		alk_err_set(err, -errno, "cannot make an event loop: %s", strerror(errno));
		return NULL;
	}
	loop = loop_over(ev, err);
	if (loop == NULL)
		ev_loop_destroy(ev);
	return loop;
}

void alk_loop_set_guest(struct alk_loop *loop, alk_task_fn *stop, void *user)
{
	loop->guest_stop = stop;
	loop->guest_user = user;
}

bool alk_loop_is_guest(const struct alk_loop *loop)
{
	return loop->guest_stop != NULL;
}

void alk_loop_refresh(struct alk_loop *loop)
{
	ev_now_update(loop->ev);
	loop->woken = mono_ns();
}

static void loop_free_kept(struct alk_loop *loop)
{
	struct kept *kept;

	while ((kept = loop->kept) != NULL) {
		loop->kept = kept->next;
		kept->free_thing(kept->thing);
		free(kept);
	}
}

static void loop_free_leaks(struct alk_loop *loop)
{
	while (loop->live != NULL) {
		struct watcher *w = loop->live;

		alk_log(ALK_LOG_WARN, "watcher leaked", ALK_STR("watcher", w->name));
		if (w->magic == WATCHER_IO)
			alk_io_free(&(struct alk_io *){(struct alk_io *)(void *)w});
		else if (w->magic == WATCHER_TIMER)
			alk_timer_free(&(struct alk_timer *){(struct alk_timer *)(void *)w});
		else
			alk_signal_free(&(struct alk_signal *){(struct alk_signal *)(void *)w});
	}
}

void alk_loop_free(struct alk_loop **loop)
{
	struct alk_loop *l = *loop;

	if (l == NULL)
		return;
	assert(!l->running);
	loop_free_kept(l);
	loop_free_leaks(l);
	loop_take_yielded(l);
	while (l->tasks != NULL)
		alk_task_cancel(l, l->tasks);
	loop_free_dead(l);
	if (l->borrowed) {
		ev_ref(l->ev);
		ev_ref(l->ev);
	}
	ev_idle_stop(l->ev, &l->idle);
	ev_check_stop(l->ev, &l->check);
	ev_prepare_stop(l->ev, &l->prepare);
	if (!l->borrowed)
		ev_loop_destroy(l->ev);
	if (l->shared)
		pthread_mutex_destroy(&l->turn);
	free(l->other);
	free(l);
	*loop = NULL;
}

/* ---- visits ---- */

static void loop_release(struct ev_loop *ev) EV_NOEXCEPT
{
	struct alk_loop *loop = ev_userdata(ev);

	pthread_mutex_unlock(&loop->turn);
}

static void loop_acquire(struct ev_loop *ev) EV_NOEXCEPT
{
	struct alk_loop *loop = ev_userdata(ev);

	pthread_mutex_lock(&loop->turn);
}

void alk_loop_share(struct alk_loop *loop)
{
	assert(!loop->running && !loop->borrowed && !loop->shared);
	loop->shared = true;
	pthread_mutex_init(&loop->turn, NULL);
	ev_set_userdata(loop->ev, loop);
	ev_set_loop_release_cb(loop->ev, loop_release, loop_acquire);
}

bool alk_loop_enter(struct alk_loop *loop, bool wait)
{
	if (wait)
		pthread_mutex_lock(&loop->turn);
	else if (pthread_mutex_trylock(&loop->turn) != 0)
		return false;
	/* libev's own now may stay behind: a timer that it rings too early goes on waiting. */
	loop->woken = mono_ns();
	loop->touched = false;
	loop->turned = false; /* a visit ends with its tasks */
	return true;
}

bool alk_loop_leave(struct alk_loop *loop)
{
	bool wake = !loop_run_tasks(loop);

	loop_end_turn(loop);
	wake = wake || loop->touched;
	pthread_mutex_unlock(&loop->turn);
	return wake;
}

void alk_loop_run(struct alk_loop *loop)
{
	assert(!loop->running);
	if (loop->shared)
		pthread_mutex_lock(&loop->turn);
	loop->running = true;
	/* Time went by since the loop was made or last ran. */
	ev_now_update(loop->ev);
	loop->woken = mono_ns();
	ev_run(loop->ev, 0);
	loop->running = false;
	if (loop->shared)
		pthread_mutex_unlock(&loop->turn);
}

void alk_loop_stop(struct alk_loop *loop)
{
	if (loop->guest_stop != NULL)
		loop->guest_stop(loop->guest_user);
	else
		ev_break(loop->ev, EVBREAK_ONE);
}

uint64_t alk_loop_now(const struct alk_loop *loop)
{
	return loop->woken / NS_PER_MS;
}

uint64_t alk_loop_now_us(const struct alk_loop *loop)
{
	return loop->woken / (NS_PER_MS / 1000);
}

void alk_loop_set_last(struct alk_loop *loop, alk_task_fn *last, void *user)
{
	loop->last = last;
	loop->last_user = user;
}

void alk_loop_set_hooks(struct alk_loop *loop, alk_task_fn *on_wake, alk_task_fn *on_sleep,
			void *user)
{
	loop->on_wake = on_wake;
	loop->on_sleep = on_sleep;
	loop->hooks_user = user;
}

void *alk_loop_kept(const struct alk_loop *loop, const void *key)
{
	const struct kept *kept;

	for (kept = loop->kept; kept != NULL; kept = kept->next)
		if (kept->key == key)
			return kept->thing;
	return NULL;
}

int alk_loop_keep(struct alk_loop *loop, const void *key, void *thing,
		  void (*free_thing)(void *thing))
{
	struct kept *kept = calloc(1, sizeof(*kept));

	if (kept == NULL)
		return -ENOMEM;
	kept->key = key;
	kept->thing = thing;
	kept->free_thing = free_thing;
	kept->next = loop->kept;
	loop->kept = kept;
	return 0;
}

void alk_fd_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}
