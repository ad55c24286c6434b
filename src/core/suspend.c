/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "suspend.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS 5000
#define NS_PER_MS 1000000ULL
#define FAR_AWAY_S (10LL * 365 * 86400)

struct alk_suspend {
	struct alk_timer *look;
	int fd; /* becomes readable when the wall clock is set, or continued after a sleep; or -1 */
	struct alk_io *io;
	struct alk_suspend_clocks last;
	void (*missed)(void *user, uint64_t ms, uint64_t slept_ms);
	void *user;
};

uint64_t alk_suspend_judge(struct alk_suspend_clocks *last, uint64_t monotonic_ns, uint64_t boot_ns,
			   uint64_t every_ms, uint64_t *slept_ms)
{
	int64_t monotonic = (int64_t)(monotonic_ns - last->monotonic_ns);
	int64_t slept = (int64_t)(boot_ns - last->boot_ns) - monotonic;
	int64_t late = monotonic - (int64_t)(every_ms * NS_PER_MS);
	bool first = last->monotonic_ns == 0;

	*last = (struct alk_suspend_clocks){monotonic_ns, boot_ns};
	slept = first || slept < 0 ? 0 : slept;
	late = first || late < 0 ? 0 : late;
	*slept_ms = (uint64_t)slept / NS_PER_MS;
	return (uint64_t)(slept + late) / NS_PER_MS;
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000 * NS_PER_MS + (uint64_t)ts.tv_nsec;
}

static void suspend_look(struct alk_suspend *suspend)
{
	uint64_t slept_ms;
	uint64_t ms = alk_suspend_judge(&suspend->last, clock_ns(CLOCK_MONOTONIC),
					clock_ns(CLOCK_BOOTTIME), LOOK_MS, &slept_ms);

	alk_timer_start(suspend->look, LOOK_MS);
	if (ms >= ALK_SUSPEND_MIN_MS)
		suspend->missed(suspend->user, ms, slept_ms);
}

static void on_look(void *user)
{
	suspend_look(user);
}

/* The kernel cancels such a timer when the wall clock jumps, which a resume is one case of. */
static void arm(struct alk_suspend *suspend)
{
	struct itimerspec when = {.it_value = {.tv_sec = time(NULL) + FAR_AWAY_S}};

	(void)timerfd_settime(suspend->fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &when,
			      NULL);
}

static void on_clock_set(void *user, int revents)
{
	struct alk_suspend *suspend = user;
	uint64_t times;

	(void)revents;
	if (read(suspend->fd, &times, sizeof(times)) < 0 && errno == EAGAIN)
		return;
	arm(suspend);
	suspend_look(suspend);
}

struct alk_suspend *alk_suspend_new(struct alk_loop *loop,
				    void (*missed)(void *user, uint64_t ms, uint64_t slept_ms),
				    void *user, struct alk_err *err)
{
	struct alk_suspend *suspend = calloc(1, sizeof(*suspend));

	if (suspend == NULL)
		goto fail;
	suspend->missed = missed;
	suspend->user = user;
	suspend->look = alk_timer_new(loop, "suspend", on_look, suspend);
	/* Without it, on an odd kernel, the looks alone have to do. */
	suspend->fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
	if (suspend->fd >= 0)
		suspend->io = alk_io_new(loop, suspend->fd, "clock", on_clock_set, suspend);
	if (suspend->look == NULL || (suspend->fd >= 0 && suspend->io == NULL))
		goto fail;
	if (suspend->fd >= 0) {
		arm(suspend);
		alk_io_set(suspend->io, ALK_IO_READ);
	}
	suspend_look(suspend);
	return suspend;
fail:
	alk_suspend_free(&suspend);
	alk_err_set(err, -ENOMEM, "out of memory");
	return NULL;
}

void alk_suspend_free(struct alk_suspend **suspend)
{
	if (*suspend == NULL)
		return;
	alk_timer_free(&(*suspend)->look);
	alk_io_free(&(*suspend)->io);
	alk_fd_close(&(*suspend)->fd);
	free(*suspend);
	*suspend = NULL;
}
