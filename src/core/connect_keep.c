/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "connect_keep.h"
#include "loop_private.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <alknet/log.h>
#include "backoff.h"
#include "suspend.h"

#define FIRST_MS 1000
#define MAX_MS 30000
#define STOOD_MS 10000	 /* a session that stood so long was a good one */
#define WANTED_MS 1000	 /* between two attempts while an application waits */
#define REFUSED_MS 60000 /* after a refusal */
#define MISSED_MS 45000	 /* without keepalives: as if they were at their default */

#define KEEP_MAGIC 0x7065656bu /* "keep" */

struct alk_keep {
	uint32_t magic;
	struct alk_loop *loop;
	const struct alk_keep_ops *ops;
	void *user;
	struct alk_client *client;
	struct alk_timer *wait;
	struct alk_suspend *suspend;
	struct alk_backoff backoff;
	enum alk_keep_state state;
	uint64_t since, tried,
		due; /* loop time: of the state, of the last attempt, of the next one */
	uint64_t missed_limit;
	uint64_t reconnects, failures, lost_at;
	bool once, was_up, refused;
	bool now; /* the session is being ended so that another one comes */
	struct alk_err reason;
};

static struct alk_keep *keep_of(void *user)
{
	struct alk_keep *keep = user;

	assert(keep->magic == KEEP_MAGIC);
	return keep;
}

const char *alk_keep_state_str(enum alk_keep_state state)
{
	switch (state) {
	case ALK_KEEP_WAITING:
		return "waiting";
	case ALK_KEEP_CONNECTING:
		return "connecting";
	case ALK_KEEP_UP:
		return "up";
	case ALK_KEEP_STOPPING:
		return "stopping";
	}
	return "?";
}

void alk_keep_say(const struct alk_loop *loop, const char *fmt, ...)
{
	struct pollfd poll_fd = {.fd = STDERR_FILENO, .events = POLLOUT};
	char line[768];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	if ((size_t)n > sizeof(line) - 2)
		n = sizeof(line) - 2;
	if (alk_loop_is_guest(loop)) {
		/* stderr is the program's. */
		alk_log(ALK_LOG_WARN, "session", ALK_STR("state", line + strlen("alknet: ")));
		return;
	}
	line[n++] = '\n';
	if (poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLOUT) != 0 &&
	    write(STDERR_FILENO, line, (size_t)n) < 0)
		alk_log(ALK_LOG_DEBUG, "stderr is gone", ALK_STR("error", strerror(errno)));
}

static void keep_set_state(struct alk_keep *keep, enum alk_keep_state state)
{
	keep->state = state;
	keep->since = alk_loop_now(keep->loop);
}

static void keep_wait(struct alk_keep *keep, uint64_t ms)
{
	keep_set_state(keep, ALK_KEEP_WAITING);
	keep->due = alk_loop_now(keep->loop) + ms;
	alk_timer_start(keep->wait, ms);
}

static uint64_t keep_delay(struct alk_keep *keep)
{
	uint64_t delay;

	if (keep->now)
		return 0;
	if (keep->refused)
		return alk_backoff_jitter(REFUSED_MS);
	delay = alk_backoff_next(&keep->backoff);
	return delay > WANTED_MS && keep->ops->waited_for != NULL &&
			       keep->ops->waited_for(keep->user)
		       ? alk_backoff_jitter(WANTED_MS)
		       : delay;
}

/* Say it when it is news. */
static void keep_say_lost(struct alk_keep *keep, bool was_up, const struct alk_err *why,
			  uint64_t delay)
{
	if (!was_up && strcmp(keep->reason.text, why->text) == 0)
		return;
	if (keep->refused)
		alk_keep_say(keep->loop, "alknet: NOT CONNECTED: %s; trying again every %u s",
			     why->text, REFUSED_MS / 1000);
	else if (was_up)
		alk_keep_say(keep->loop,
			     "alknet: the session ended: %s; connecting again in %.1f s", why->text,
			     (double)delay / 1000);
	else
		alk_keep_say(keep->loop, "alknet: not connected: %s; trying again", why->text);
}

static void keep_lost(struct alk_keep *keep, int rc, const struct alk_err *why)
{
	bool was_up = keep->state == ALK_KEEP_UP;
	uint64_t now = alk_loop_now(keep->loop), delay;

	if (was_up && now - keep->since >= STOOD_MS)
		alk_backoff_reset(&keep->backoff);
	if (was_up)
		keep->lost_at = now;
	else
		keep->failures++;
	keep->refused = rc == -EACCES;
	delay = keep_delay(keep);
	keep->now = false;
	keep_say_lost(keep, was_up, why, delay);
	alk_log(ALK_LOG_INFO, was_up ? "session ended" : "session failed",
		ALK_STR("error", why->text), ALK_INT("next_ms", (int64_t)delay));
	keep->reason = *why;
	keep_wait(keep, delay);
}

static void on_down(void *user, int rc, const struct alk_err *err)
{
	struct alk_keep *keep = keep_of(user);
	struct alk_err why = {""};

	if (keep->state == ALK_KEEP_STOPPING) {
		keep->ops->over(keep->user, 0, NULL);
		return;
	}
	if (err != NULL)
		why = *err;
	if (why.text[0] == '\0')
		alk_err_set(&why, rc, "%s",
			    rc != 0 ? strerror(-rc) : "the server closed the session");
	if (keep->was_up && !keep->once &&
	    (keep->ops->again == NULL ||
	     keep->ops->again(keep->user, keep->state == ALK_KEEP_UP, &why))) {
		keep_lost(keep, rc, &why);
		return;
	}
	if (keep->was_up)
		alk_err_prefix(&why, rc, "the session ended");
	keep_set_state(keep, ALK_KEEP_STOPPING);
	keep->ops->over(keep->user, rc != 0 ? rc : -ECONNRESET, &why);
}

static void on_up(void *user)
{
	struct alk_keep *keep = keep_of(user);
	bool first = !keep->was_up;

	if (keep->state == ALK_KEEP_STOPPING)
		return;
	if (!first) {
		keep->reconnects++;
		alk_keep_say(keep->loop, "alknet: connected to %s again after %.1f s",
			     alk_client_server(keep->client),
			     (double)(alk_loop_now(keep->loop) - keep->lost_at) / 1000);
	}
	alk_log(ALK_LOG_INFO, "session up", ALK_STR("server", alk_client_server(keep->client)));
	keep_set_state(keep, ALK_KEEP_UP);
	keep->was_up = true;
	keep->refused = false;
	keep->ops->up(keep->user, first);
}

static int keep_try(struct alk_keep *keep, struct alk_err *err)
{
	keep_set_state(keep, ALK_KEEP_CONNECTING);
	keep->tried = alk_loop_now(keep->loop);
	return alk_client_start(keep->client, err);
}

static void on_wait_over(void *user)
{
	struct alk_keep *keep = keep_of(user);
	struct alk_err err = {""};
	int rc = keep_try(keep, &err);

	if (rc == 0)
		return;
	if (err.text[0] == '\0')
		alk_err_set(&err, rc, "%s", strerror(-rc));
	keep_lost(keep, rc, &err);
}

static void on_missed(void *user, uint64_t ms, uint64_t slept_ms)
{
	struct alk_keep *keep = keep_of(user);
	char why[64];

	if (!keep->was_up || keep->state == ALK_KEEP_STOPPING)
		return;
	if (ms < keep->missed_limit) {
		/* The rest the loop's clock has counted. */
		alk_client_missed(keep->client, slept_ms);
		return;
	}
	alk_backoff_reset(&keep->backoff);
	if (keep->state == ALK_KEEP_WAITING) {
		keep_wait(keep, 0);
		return;
	}
	keep->now = true;
	snprintf(why, sizeof(why), "this %s for %llu s",
		 slept_ms > ms / 2 ? "machine slept" : "process stood still",
		 (unsigned long long)(ms / 1000));
	alk_client_cut(keep->client, why);
}

void alk_keep_again(struct alk_keep *keep)
{
	alk_backoff_reset(&keep->backoff);
	switch (keep->state) {
	case ALK_KEEP_WAITING:
		keep_wait(keep, 0);
		break;
	case ALK_KEEP_UP:
		keep->now = true;
		alk_client_stop(keep->client);
		break;
	case ALK_KEEP_CONNECTING:
	case ALK_KEEP_STOPPING:
		break;
	}
}

void alk_keep_wanted(struct alk_keep *keep)
{
	uint64_t now = alk_loop_now(keep->loop), soon = keep->tried + WANTED_MS;

	if (keep->state != ALK_KEEP_WAITING || keep->refused || keep->due <= soon)
		return;
	keep->due = soon > now ? soon : now;
	alk_timer_start(keep->wait, keep->due - now);
}

int alk_keep_start(struct alk_keep *keep, struct alk_err *err)
{
	return keep_try(keep, err);
}

void alk_keep_stop(struct alk_keep *keep)
{
	if (keep->state == ALK_KEEP_STOPPING)
		return;
	alk_timer_stop(keep->wait);
	keep_set_state(keep, ALK_KEEP_STOPPING);
	if (alk_client_get_state(keep->client) == ALK_CLIENT_DOWN)
		keep->ops->over(keep->user, 0, NULL);
	else
		alk_client_stop(keep->client);
}

struct alk_client *alk_keep_client(struct alk_keep *keep)
{
	return keep->client;
}

void alk_keep_get_info(const struct alk_keep *keep, struct alk_keep_info *info)
{
	uint64_t now = alk_loop_now(keep->loop);

	*info = (struct alk_keep_info){
		.state = keep->state,
		.since = (double)(now - keep->since) / 1000,
		.reconnects = keep->reconnects,
		.failures = keep->failures,
		.reason = keep->reason.text,
	};
	if (keep->state == ALK_KEEP_WAITING && keep->due > now)
		info->next = (double)(keep->due - now) / 1000;
}

struct alk_keep *alk_keep_new(struct alk_loop *loop, struct alk_conf *conf, bool once,
			      const struct alk_keep_ops *ops, void *user, struct alk_err *err)
{
	static const struct alk_client_ops client_ops = {.up = on_up, .down = on_down};
	struct alk_keep *keep = calloc(1, sizeof(*keep));
	int64_t every = alk_options_int(alk_conf_values(conf), "keepalive");

	if (keep == NULL) {
		alk_err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	keep->magic = KEEP_MAGIC;
	keep->loop = loop;
	keep->once = once;
	keep->ops = ops;
	keep->user = user;
	keep->missed_limit = every > 0 ? 3 * (uint64_t)every : MISSED_MS;
	keep->backoff = (struct alk_backoff){.first_ms = FIRST_MS, .max_ms = MAX_MS};
	keep->wait = alk_timer_new(loop, "reconnect", on_wait_over, keep);
	if (keep->wait == NULL) {
		alk_err_set(err, -ENOMEM, "out of memory");
		goto fail;
	}
	keep->suspend = alk_suspend_new(loop, on_missed, keep, err);
	if (keep->suspend == NULL)
		goto fail;
	keep->client = alk_client_new(loop, conf, &client_ops, keep, err);
	if (keep->client == NULL)
		goto fail;
	return keep;
fail:
	alk_keep_free(&keep);
	return NULL;
}

void alk_keep_free(struct alk_keep **keep)
{
	if (*keep == NULL)
		return;
	alk_client_free(&(*keep)->client);
	alk_suspend_free(&(*keep)->suspend);
	alk_timer_free(&(*keep)->wait);
	(*keep)->magic = 0;
	free(*keep);
	*keep = NULL;
}
