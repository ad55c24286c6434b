/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "text.h"

#define SETTLE_MS 1000

static struct {
	int fd;
	struct sockaddr_un to;
	socklen_t to_len;
	uint64_t watchdog_ms; /* 0 = none */
	bool held;
	struct alk_timer *timer;
} notify = {.fd = -1};

/* A path, or @ and a name in the abstract space. */
static bool address_set(const char *text)
{
	size_t len = strlen(text);

	if ((text[0] != '/' && text[0] != '@') || len < 2 || len >= sizeof(notify.to.sun_path))
		return false;
	notify.to.sun_family = AF_UNIX;
	memcpy(notify.to.sun_path, text, len + 1);
	notify.to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
	if (text[0] == '@') {
		notify.to.sun_path[0] = '\0';
		notify.to_len--;
	}
	return true;
}

static void watchdog_set(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	int64_t n, whose;

	if (usec == NULL || alk_text_int(usec, &n) < 0 || n < 1000)
		return;
	if (pid != NULL && (alk_text_int(pid, &whose) < 0 || whose != getpid()))
		return;
	notify.watchdog_ms = (uint64_t)n / 1000;
}

void alk_notify_init(void)
{
	const char *to = getenv("NOTIFY_SOCKET");

	if (to != NULL && address_set(to)) {
		notify.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (notify.fd >= 0)
			watchdog_set();
	}
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

void alk_notify_environment(char *env[ALK_NOTIFY_VARIABLES + 1])
{
	static char to[sizeof("NOTIFY_SOCKET=") + sizeof(notify.to.sun_path)];
	static char usec[sizeof("WATCHDOG_USEC=") + 24];
	bool abstract = notify.to.sun_path[0] == '\0';
	size_t n = 0;

	if (notify.fd >= 0) {
		snprintf(to, sizeof(to), "NOTIFY_SOCKET=%s%.*s", abstract ? "@" : "",
			 (int)sizeof(notify.to.sun_path) - abstract, notify.to.sun_path + abstract);
		env[n++] = to;
	}
	if (notify.fd >= 0 && notify.watchdog_ms > 0) {
		snprintf(usec, sizeof(usec), "WATCHDOG_USEC=%llu",
			 (unsigned long long)notify.watchdog_ms * 1000);
		env[n++] = usec;
	}
	env[n] = NULL;
}

void alk_notify_end(void)
{
	alk_notify_unwatch();
	alk_fd_close(&notify.fd);
}

void alk_notify_hold(bool hold)
{
	notify.held = hold;
	if (!hold && notify.timer != NULL && notify.watchdog_ms / 2 > SETTLE_MS)
		alk_timer_start(notify.timer, SETTLE_MS);
}

bool alk_notify_wanted(void)
{
	return notify.fd >= 0;
}

void alk_notify(const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	int n;

	if (notify.fd < 0 || notify.held)
		return;
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n > 0 && (size_t)n < sizeof(text))
		sendto(notify.fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL,
		       (const struct sockaddr *)&notify.to, notify.to_len);
}

void alk_notify_reloading(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	alk_notify("RELOADING=1\nMONOTONIC_USEC=%llu",
		   (unsigned long long)now.tv_sec * 1000000 +
			   (unsigned long long)now.tv_nsec / 1000);
}

static void on_watchdog(void *user)
{
	(void)user;
	alk_notify("WATCHDOG=1");
	alk_timer_start(notify.timer, notify.watchdog_ms / 2);
}

int alk_notify_watch(struct alk_loop *loop)
{
	if (notify.watchdog_ms == 0)
		return 0;
	notify.timer = alk_timer_new(loop, "service watchdog", on_watchdog, NULL);
	if (notify.timer == NULL)
		return -ENOMEM;
	on_watchdog(NULL);
	return 0;
}

void alk_notify_unwatch(void)
{
	alk_timer_free(&notify.timer);
}
