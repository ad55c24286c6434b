/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "passphrase.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static const int held_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

#define HELD_COUNT (sizeof(held_signals) / sizeof(*held_signals))

struct held {
	struct sigaction old[HELD_COUNT];
	sigset_t mask;
};

static volatile sig_atomic_t tty_signal;

static void on_tty_signal(int number)
{
	tty_signal = number;
}

/* Signals that would end the process wait until the terminal echoes again; they are let in only
 * inside ppoll(). */
static void signals_hold(struct held *held)
{
	struct sigaction action = {.sa_handler = on_tty_signal};
	sigset_t block;

	tty_signal = 0;
	sigemptyset(&action.sa_mask);
	sigemptyset(&block);
	for (size_t i = 0; i < HELD_COUNT; i++)
		sigaddset(&block, held_signals[i]);
	pthread_sigmask(SIG_BLOCK, &block, &held->mask);
	for (size_t i = 0; i < HELD_COUNT; i++) {
		sigaction(held_signals[i], NULL, &held->old[i]);
		if (held->old[i].sa_handler != SIG_IGN)
			sigaction(held_signals[i], &action, NULL);
	}
}

/* -EINTR when there was one, and it has been delivered by now. */
static int signals_release(const struct held *held, int rc)
{
	for (size_t i = 0; i < HELD_COUNT; i++)
		sigaction(held_signals[i], &held->old[i], NULL);
	pthread_sigmask(SIG_SETMASK, &held->mask, NULL);
	if (tty_signal == 0)
		return rc;
	raise(tty_signal);
	return -EINTR;
}

static int tty_write(int fd, const char *text)
{
	size_t len = strlen(text);

	while (len > 0) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

static int tty_read(int fd, char *buf, size_t size, const sigset_t *mask)
{
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	bool fits = true;
	size_t len = 0;
	char c = '\0';

	while (c != '\n') {
		if (ppoll(&ready, 1, NULL, mask) < 0) {
			if (errno == EINTR && tty_signal == 0)
				continue;
			return -errno;
		}
		ssize_t n = read(fd, &c, 1);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0 && len == 0)
			return -ECANCELED;
		if (n == 0)
			break;
		if (n < 0 || c == '\n')
			continue;
		fits = fits && len < size - 1;
		if (fits)
			buf[len++] = c;
	}
	buf[len] = '\0';
	return fits ? 0 : -E2BIG;
}

static int tty_ask(int fd, const char *prompt, bool echo, char *buf, size_t size,
		   const sigset_t *mask)
{
	struct termios before, during;
	int rc, end;

	if (tcgetattr(fd, &before) < 0)
		return -errno;
	during = before;
	during.c_lflag |= ICANON | ISIG;
	if (!echo) {
		during.c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK | ECHONL);
		/* A stopped program would leave the shell without echo. */
		during.c_cc[VSUSP] = _POSIX_VDISABLE;
	}
	if (tcsetattr(fd, TCSAFLUSH, &during) < 0)
		return -errno;
	rc = tty_write(fd, prompt);
	if (rc == 0)
		rc = tty_read(fd, buf, size, mask);
	end = tcsetattr(fd, TCSAFLUSH, &before) < 0 ? -errno : 0;
	/* The end of the answer was not shown, or there was none. */
	if (end == 0 && (!echo || rc < 0))
		end = tty_write(fd, "\n");
	return rc < 0 ? rc : end;
}

static int tty_question(const char *prompt, bool echo, char *buf, size_t size)
{
	int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	struct held held;
	int rc;

	if (fd < 0)
		return errno == ENXIO || errno == ENOENT ? -ENOTTY : -errno;
	signals_hold(&held);
	rc = tty_ask(fd, prompt, echo, buf, size, &held.mask);
	if (rc < 0)
		explicit_bzero(buf, size);
	close(fd);
	return signals_release(&held, rc);
}

int alk_passphrase_tty(void *user, const char *prompt, char *buf, size_t size)
{
	(void)user;
	return tty_question(prompt, false, buf, size);
}

int alk_passphrase_tty_shown(const char *prompt, char *buf, size_t size)
{
	return tty_question(prompt, true, buf, size);
}
