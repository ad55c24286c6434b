/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>
#include "policy_private.h"

/* Questions on the loop.
 *
 *              task              alknet.resolve, alknet.sleep
 *   QUEUED ──────────▶ (in Lua) ─────────────────────────────▶ WAITING
 *     ▲                    │                                      │ answer, timer
 *     └────────────────────┼──────────────────────────────────────┘
 *                          └──▶ DONE, `done` runs
 *
 * The script is entered from the task alone. What a question waits for has the generation of that
 * wait: an answer for another is dropped. Cancelling stops the task, the queries and the timer. */

#define ASKED_MAGIC 0x4b53414bu
#define WAITER_MAGIC 0x54494157u
#define NS_PER_MS 1000000ull

enum asked_state {
	ASKED_QUEUED,
	ASKED_WAITING,
	ASKED_DONE, /* `done` runs now */
};

struct alk_policy_asked {
	uint32_t magic;
	enum asked_state state;
	struct alk_policy *policy;
	struct alk_ask ask;
	struct alk_question_run question;
	alk_policy_done *done;
	void *user;
	struct alk_task task;
	struct asked_waiter *waiter;
	uint64_t generation; /* of the wait that may resume it */
	struct alk_policy_asked *next, **prev;
};

/* One wait. */
struct asked_waiter {
	uint32_t magic;
	uint64_t generation;
	struct alk_policy_asked *asked;
	struct alk_timer *timer;
	struct alk_resolver_query *query[2]; /* IPv4, IPv6 */
	bool found_error; /* `why` is of a family that failed, not of one without addresses */
};

static void waiter_free(struct alk_policy_asked *asked)
{
	struct asked_waiter *w = asked->waiter;

	if (!w)
		return;
	asked->waiter = NULL;
	asked->generation = 0;
	asked->policy->waiting--;
	alk_timer_free(&w->timer);
	alk_resolver_cancel(&w->query[0]);
	alk_resolver_cancel(&w->query[1]);
	w->magic = 0;
	free(w);
}

static void waiter_over(struct asked_waiter *w)
{
	struct alk_policy_asked *asked = w->asked;

	waiter_free(asked);
	asked->state = ASKED_QUEUED;
	alk_task_queue(asked->policy->loop, &asked->task);
}

static bool waiter_is_late(const struct asked_waiter *w)
{
	assert(w->magic == WAITER_MAGIC && w->asked->magic == ASKED_MAGIC);
	return w->asked->state != ASKED_WAITING || w->asked->generation != w->generation;
}

static void waiter_on_timeout(void *user)
{
	struct asked_waiter *w = user;
	struct alk_wait *wait = &w->asked->question.wait;

	if (waiter_is_late(w))
		return;
	if (wait->kind == ALK_WAIT_RESOLVE && wait->n == 0)
		snprintf(wait->why, sizeof(wait->why), "the name servers do not answer in time");
	waiter_over(w);
}

/* IPv4 stands first, whichever comes first. */
static void wait_add(struct alk_wait *wait, int family, const struct alk_sockaddr *addrs, size_t n)
{
	size_t i, at = family == 0 ? 0 : wait->n;
	size_t room = sizeof(wait->addr) / sizeof(wait->addr[0]) - wait->n;
	uint16_t port;

	n = n < room ? n : room;
	memmove(wait->addr[at + n], wait->addr[at], (wait->n - at) * sizeof(wait->addr[0]));
	for (i = 0; i < n; i++)
		alk_addr_format(&addrs[i].sa, addrs[i].len, wait->addr[at + i],
				sizeof(wait->addr[0]), &port);
	wait->n += n;
}

static void waiter_on_addresses(struct asked_waiter *w, int family, int rc,
				const struct alk_sockaddr *addrs, size_t n,
				const struct alk_err *err)
{
	struct alk_wait *wait = &w->asked->question.wait;

	if (waiter_is_late(w))
		return;
	w->query[family] = NULL;
	if (rc < 0 && !w->found_error) {
		snprintf(wait->why, sizeof(wait->why), "%.127s", err->text);
		w->found_error = rc != -ENOENT;
	}
	if (rc == 0)
		wait_add(wait, family, addrs, n);
	if (!w->query[0] && !w->query[1])
		waiter_over(w);
}

static void waiter_on_v4(void *user, int rc, const struct alk_sockaddr *addrs, size_t n,
			 const struct alk_err *err)
{
	waiter_on_addresses(user, 0, rc, addrs, n, err);
}

static void waiter_on_v6(void *user, int rc, const struct alk_sockaddr *addrs, size_t n,
			 const struct alk_err *err)
{
	waiter_on_addresses(user, 1, rc, addrs, n, err);
}

static const char *waiter_resolve(struct asked_waiter *w, struct alk_wait *wait)
{
	struct alk_resolver *resolver = alk_resolver_of(w->asked->policy->loop, NULL);

	wait->n = 0;
	wait->why[0] = '\0';
	if (!resolver)
		return "there is no resolver";
	w->query[0] = alk_resolver_ask(resolver, wait->host, AF_INET, waiter_on_v4, w);
	w->query[1] = alk_resolver_ask(resolver, wait->host, AF_INET6, waiter_on_v6, w);
	return w->query[0] && w->query[1] ? NULL : "not enough memory";
}

static bool session_waits_too_much(const struct alk_policy_asked *asked)
{
	const struct alk_policy_asked *other;
	unsigned n = 0;

	if (asked->ask.session == 0)
		return false;
	for (other = asked->policy->asked; other; other = other->next)
		if (other->waiter && other->ask.session == asked->ask.session)
			n++;
	return n >= ALK_POLICY_WAITING_SESSION;
}

/* How long the timer runs: as long as the wait or what is left of the question. */
static uint64_t wait_ms(const struct alk_policy_asked *asked)
{
	const struct alk_wait *wait = &asked->question.wait;
	uint64_t ms = wait->kind == ALK_WAIT_SLEEP ? wait->ms : ALK_POLICY_RESOLVE_MS;
	uint64_t now = alk_policy_clock(), end = asked->question.run.end;
	uint64_t left = end > now ? (end - now) / NS_PER_MS + 1 : 0;

	return ms < left ? ms : left;
}

/* NULL, or why it cannot wait. */
static const char *waiter_start(struct alk_policy_asked *asked)
{
	struct alk_policy *policy = asked->policy;
	struct alk_wait *wait = &asked->question.wait;
	struct asked_waiter *w;

	if (policy->waiting >= ALK_POLICY_WAITING_MAX || session_waits_too_much(asked))
		return "too many questions wait";
	w = calloc(1, sizeof(*w));
	if (!w)
		return "not enough memory";
	w->magic = WAITER_MAGIC;
	w->asked = asked;
	w->generation = ++policy->generation;
	asked->waiter = w;
	asked->generation = w->generation;
	policy->waiting++;
	w->timer = alk_timer_new(policy->loop, "policy", waiter_on_timeout, w);
	if (!w->timer)
		return "not enough memory";
	alk_timer_start(w->timer, wait_ms(asked));
	return wait->kind == ALK_WAIT_RESOLVE ? waiter_resolve(w, wait) : NULL;
}

static void asked_unlink(struct alk_policy_asked *asked)
{
	if (!asked->prev)
		return;
	*asked->prev = asked->next;
	if (asked->next)
		asked->next->prev = asked->prev;
	asked->prev = NULL;
}

static void asked_free(struct alk_policy_asked *asked)
{
	asked->magic = 0;
	free(asked);
}

static void asked_finish(struct alk_policy_asked *asked)
{
	asked_unlink(asked);
	asked->state = ASKED_DONE;
	asked->policy = NULL;
	if (asked->done)
		asked->done(asked->user, &asked->question.answer);
	alk_grant_unref(&asked->question.answer.grant);
	json_decref(asked->question.answer.output);
	asked_free(asked);
}

static void asked_run(void *user)
{
	struct alk_policy_asked *asked = user;
	struct alk_question_run *question = &asked->question;
	const char *why;

	assert(asked->magic == ASKED_MAGIC && asked->state == ASKED_QUEUED);
	if (question->begun && alk_policy_clock() >= question->run.end) {
		alk_question_fail(question, "took more time than it may");
	} else if (alk_question_step(question) == -EAGAIN) {
		asked->state = ASKED_WAITING;
		why = waiter_start(asked);
		if (!why)
			return;
		waiter_free(asked);
		alk_question_fail(question, why);
	}
	asked_finish(asked);
}

struct alk_policy_asked *alk_policy_ask(struct alk_policy *policy, const struct alk_ask *ask,
					alk_policy_done *done, void *user)
{
	struct alk_policy_asked *asked = calloc(1, sizeof(*asked));

	if (!asked)
		return NULL;
	asked->magic = ASKED_MAGIC;
	asked->policy = policy;
	asked->ask = *ask;
	asked->question.policy = policy;
	asked->question.ask = &asked->ask;
	asked->done = done;
	asked->user = user;
	asked->next = policy->asked;
	asked->prev = &policy->asked;
	if (asked->next)
		asked->next->prev = &asked->next;
	policy->asked = asked;
	asked->task.fn = asked_run;
	asked->task.user = asked;
	alk_task_queue(policy->loop, &asked->task);
	return asked;
}

/* From inside of its own `done` there is nothing to stop any more. */
void alk_policy_cancel(struct alk_policy_asked **asked)
{
	struct alk_policy_asked *a = *asked;

	*asked = NULL;
	if (!a)
		return;
	assert(a->magic == ASKED_MAGIC);
	if (a->state == ASKED_DONE)
		return;
	alk_task_cancel(a->policy->loop, &a->task);
	waiter_free(a);
	if (a->question.begun)
		alk_question_drop(&a->question);
	asked_unlink(a);
	asked_free(a);
}
