/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Signals. libev waits for them at a descriptor that it gives up for good when the kernel is short
 * of memory for the watch, once: then nobody hears SIGTERM. Ours is watched again. */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "loop_own.h"
#include "loop_private.h"

static struct {
	struct alk_loop *loop; /* whose they are; NULL while nobody waits for one */
	struct alk_signal *first;
	ev_io wake;
	int fd; /* an eventfd */
	volatile sig_atomic_t came[NSIG], any;
} signals;

static void on_signal(int signo)
{
	static const uint64_t one = 1;
	int saved = errno;

	signals.came[signo] = 1;
	signals.any = 1;
	/* It cannot be full; and what sleeps is woken by the signal, too. */
	(void)!write(signals.fd, &one, sizeof(one));
	errno = saved;
}

static struct alk_signal *signal_due(void)
{
	struct alk_signal *sig = signals.first;

	while (sig != NULL && !sig->due)
		sig = sig->next;
	return sig;
}

void loop_take_signals(struct alk_loop *loop)
{
	struct alk_signal *sig;

	if (signals.loop != loop || !signals.any)
		return;
	signals.any = 0;
	for (int signo = 1; signo < NSIG; signo++) {
		if (!signals.came[signo])
			continue;
		signals.came[signo] = 0;
		for (sig = signals.first; sig != NULL; sig = sig->next)
			sig->due |= sig->signo == signo;
	}
	/* Whoever is told may free any of them. */
	while ((sig = signal_due()) != NULL) {
		assert(sig->w.magic == WATCHER_SIGNAL);
		sig->due = false;
		sig->on_signal(sig->user, sig->signo);
	}
}

static void on_wake(struct ev_loop *ev, ev_io *wake, int revents)
{
	uint64_t times;

	if (revents & EV_ERROR) {
		ev_io_set(wake, wake->fd, EV_READ);
		ev_io_start(ev, wake);
	}
	(void)!read(wake->fd, &times, sizeof(times));
	loop_take_signals(signals.loop);
}

static bool signals_begin(struct alk_loop *loop)
{
	assert(signals.loop == NULL || signals.loop == loop);
	if (signals.loop != NULL)
		return true;
	signals.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (signals.fd < 0)
		return false;
	signals.loop = loop;
	ev_io_init(&signals.wake, on_wake, signals.fd, EV_READ);
	ev_io_start(loop->ev, &signals.wake);
	loop->touched = true;
	return true;
}

static bool signal_is_watched(int signo)
{
	struct alk_signal *sig = signals.first;

	while (sig != NULL && sig->signo != signo)
		sig = sig->next;
	return sig != NULL;
}

void alk_signals_add(sigset_t *set)
{
	for (const struct alk_signal *sig = signals.first; sig != NULL; sig = sig->next)
		sigaddset(set, sig->signo);
}

/* Whoever started us may have had it blocked. */
static void signal_watch(int signo)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	sigset_t set;

	sigfillset(&action.sa_mask);
	sigaction(signo, &action, NULL);
	sigemptyset(&set);
	sigaddset(&set, signo);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

struct alk_signal *alk_signal_new(struct alk_loop *loop, int signo, const char *name,
				  alk_signal_fn *on_came, void *user)
{
	struct alk_signal *sig;

	assert(signo > 0 && signo < NSIG);
	sig = watcher_new(loop, sizeof(*sig), WATCHER_SIGNAL, name);
	if (sig == NULL)
		return NULL;
	sig->signo = signo;
	sig->on_signal = on_came;
	sig->user = user;
	if (!signals_begin(loop)) {
		watcher_bury(&sig->w);
		return NULL;
	}
	if (!signal_is_watched(signo))
		signal_watch(signo);
	sig->next = signals.first;
	sig->prev = &signals.first;
	if (sig->next != NULL)
		sig->next->prev = &sig->next;
	signals.first = sig;
	return sig;
}

void alk_signal_free(struct alk_signal **signal)
{
	struct alk_signal *sig = *signal;

	if (sig == NULL)
		return;
	*sig->prev = sig->next;
	if (sig->next != NULL)
		sig->next->prev = sig->prev;
	if (!signal_is_watched(sig->signo)) {
		sigaction(sig->signo, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
		signals.came[sig->signo] = 0;
	}
	watcher_bury(&sig->w);
	*signal = NULL;
	if (signals.first != NULL)
		return;
	ev_io_stop(signals.loop->ev, &signals.wake);
	close(signals.fd);
	signals.loop = NULL;
}
