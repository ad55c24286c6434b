/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "hub_nats.h"

#include <stdlib.h>
#include <string.h>

/* What JetStream keeps of durable topics, for a subscriber that asks. */

/* NULL with *wrong: a code, NUL, a message. */
static struct nats_past *past_new(struct nats *nats, const char *pattern, const char *identity,
				  const char **wrong)
{
	struct hub_share *share = *identity != '\0' ? hub_share_of(nats->hub, identity) : NULL;
	struct nats_past *past = NULL;

	*wrong = "OVERLOADED\0out of memory";
	if (share != NULL && share->pasts >= NATS_PASTS_SHARE)
		*wrong = "OVERLOADED\0too much history is being read for this identity";
	else if (share != NULL || *identity == '\0')
		past = calloc(1, sizeof(*past));
	if (past == NULL || (past->pattern = strdup(pattern)) == NULL) {
		if (share != NULL)
			hub_share_drop(share);
		free(past);
		return NULL;
	}
	past->share = share;
	if (share != NULL)
		share->pasts++;
	past->tag = ++nats->last_past;
	TAILQ_INSERT_TAIL(&nats->pasts, past, entry);
	nats->n_pasts++;
	return past;
}

static void past_free(struct nats *nats, struct nats_past *past)
{
	if (past->share != NULL) {
		past->share->pasts--;
		hub_share_drop(past->share);
	}
	TAILQ_REMOVE(&nats->pasts, past, entry);
	nats->n_pasts--;
	free(past->pattern);
	free(past);
}

void nats_past_end(struct nats *nats, struct nats_past *past, const char *code, const char *message)
{
	if (past->worker != 0)
		hub_subscribed(nats->hub, past->worker, past->worker_tag, 0, code, message);
	past_free(nats, past);
}

const char *hub_nats_past(struct hub *hub, uint64_t worker, uint64_t tag, const char *pattern,
			  uint64_t since, const char *identity)
{
	struct nats *nats = hub->nats;
	struct nats_past *past;
	char subject[NATS_SUBJECT_MAX];
	const char *wrong;
	struct wire_out out;

	/* While events wait their history would be asked before they are in it. */
	if (nats == NULL || nats->n_durable == 0 || !nats->flows ||
	    !nats_topic(nats, subject, "e", pattern, true))
		return "UNAVAILABLE\0there is no history: no durable topics, or NATS is away";
	if (nats->n_pasts >= NATS_PASTS_MAX)
		return "OVERLOADED\0too much history is being read";
	past = past_new(nats, pattern, identity, &wrong);
	if (past == NULL)
		return wrong;
	past->worker = worker;
	past->worker_tag = tag;
	wire_begin(&out, (enum wire_op)NATS_PAST);
	wire_number(&out, past->tag);
	wire_text(&out, subject);
	wire_number(&out, since);
	nats_link_say(nats->link, &out);
	return NULL;
}

/* It counts until the program has ended it, so that there are never more threads. */
void hub_nats_past_stop(struct hub *hub, uint64_t worker, uint64_t tag)
{
	struct nats_past *past;
	struct wire_out out;

	if (hub->nats == NULL)
		return;
	TAILQ_FOREACH(past, &hub->nats->pasts, entry)
	{
		if (past->worker != worker || (tag != 0 && past->worker_tag != tag))
			continue;
		past->worker = 0;
		wire_begin(&out, (enum wire_op)NATS_UNPAST);
		wire_number(&out, past->tag);
		nats_link_say(hub->nats->link, &out);
	}
}

static struct nats_past *past_find(const struct nats *nats, uint64_t tag)
{
	struct nats_past *past;

	TAILQ_FOREACH(past, &nats->pasts, entry)
	{
		if (past->tag == tag)
			return past;
	}
	return NULL;
}

void nats_hear_then(struct nats *nats, struct wire_in *in)
{
	struct nats_past *past = past_find(nats, wire_get_number(in));
	bool recent = wire_get_number(in) != 0;
	const char *topic = wire_get_text(in);
	size_t n;
	const uint8_t *frame = wire_get_bytes(in, &n);

	if (wire_done(in) && past != NULL && past->worker != 0 && n <= nats->hub->frame_max + 4 &&
	    topic_match(past->pattern, topic))
		hub_replay_one(nats->hub, past->worker, past->worker_tag, recent, frame, n);
}

void nats_hear_then_end(struct nats *nats, struct wire_in *in)
{
	struct nats_past *past = past_find(nats, wire_get_number(in));
	const char *text = wire_get_text(in);

	if (wire_done(in) && past != NULL)
		nats_past_end(nats, past, *text != '\0' ? "UNAVAILABLE" : "", text);
}
