/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "channel.h"
#include "channel_ask.h"
#include "policy.h"
#include "route.h"

/* What a service asks the policy about a channel of its own. */

struct alk_channel_ask {
	struct alk_policy_asked *asked;
	struct alk_ask ask;
	void (*done)(void *user, bool allowed, const char *reason);
	void *user;
	char *name, *id;
};

static const enum alk_question questions[] = {
	[ALK_MAY_PUBLISH] = ALK_QUESTION_PUBLISH,
	[ALK_MAY_SUBSCRIBE] = ALK_QUESTION_SUBSCRIBE,
	[ALK_MAY_CALL] = ALK_QUESTION_CALL,
};

static void ask_free(struct alk_channel_ask *a)
{
	if (a->asked != NULL)
		alk_policy_cancel(&a->asked);
	free(a->name);
	free(a->id);
	free(a);
}

static void on_answer(void *user, const struct alk_answer *answer)
{
	struct alk_channel_ask *a = user;

	a->asked = NULL;
	/* What went wrong in a script is not for the peer. */
	a->done(a->user, answer->verdict == ALK_VERDICT_ALLOW,
		answer->failed ? "" : answer->reason);
	ask_free(a);
}

int alk_channel_ask(struct alk_channel *channel, const struct alk_channel_question *question,
		    void (*done)(void *user, bool allowed, const char *reason), void *user,
		    struct alk_channel_ask **ask)
{
	const struct alk_route_session *from;
	struct alk_policy *policy = alk_channel_policy(channel, &from);

	return alk_channel_ask_as(policy, from, question, done, user, ask);
}

int alk_channel_ask_as(struct alk_policy *policy, const struct alk_route_session *from,
		       const struct alk_channel_question *question,
		       void (*done)(void *user, bool allowed, const char *reason), void *user,
		       struct alk_channel_ask **ask)
{
	struct alk_channel_ask *a;

	*ask = NULL;
	if (policy == NULL || !alk_policy_has(policy, questions[question->kind]))
		return 1;
	a = calloc(1, sizeof(*a));
	if (a == NULL)
		return -ENOMEM;
	a->done = done;
	a->user = user;
	a->name = strdup(question->name);
	a->id = strdup(question->id != NULL ? question->id : "");
	a->ask = (struct alk_ask){
		.question = questions[question->kind],
		.session = from->id,
		.link = from->link,
		.user = from->user,
		.grant = from->grant,
		.name = a->name,
		.id = a->id,
		.size = question->size,
	};
	if (a->name != NULL && a->id != NULL)
		a->asked = alk_policy_ask(policy, &a->ask, on_answer, a);
	if (a->asked == NULL) {
		ask_free(a);
		return -ENOMEM;
	}
	*ask = a;
	return 0;
}

void alk_channel_ask_cancel(struct alk_channel_ask **ask)
{
	if (*ask != NULL)
		ask_free(*ask);
	*ask = NULL;
}
