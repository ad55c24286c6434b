/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "hub.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

bool hub_say(struct hub *hub, uint64_t worker, struct wire_out *out)
{
	bool said = !out->bad && alk_half_send(hub->half, worker, out->bytes, out->n) == 0;

	wire_free(out);
	return said;
}

struct hub_worker *hub_worker_of(const struct hub *hub, uint64_t number)
{
	for (size_t i = 0; i < hub->n_workers; i++)
		if (hub->workers[i]->number == number)
			return hub->workers[i];
	return NULL;
}

bool hub_has_room(const struct hub *hub, uint64_t worker)
{
	const struct hub_worker *w = hub_worker_of(hub, worker);

	return w == NULL || w->owed <= HUB_OWED_CALLS;
}

bool hub_say_from(struct hub *hub, uint64_t from, uint64_t worker, const uint8_t *bytes, size_t n)
{
	struct hub_worker *to = hub_worker_of(hub, worker);
	struct wire_out out;
	size_t size;

	if (to == NULL)
		return false;
	wire_begin(&out, WIRE_FROM);
	wire_number(&out, from);
	wire_bytes(&out, bytes, n);
	size = out.n;
	if (!hub_say(hub, worker, &out))
		return false;
	to->owed += size;
	return true;
}

void hub_tell_peers(struct hub *hub)
{
	bool backend = hub->nats != NULL;
	bool peers = hub->n_workers > 1 || !TAILQ_EMPTY(&hub->tails) || backend;
	struct wire_out out;

	for (size_t i = 0; i < hub->n_workers; i++) {
		if (hub->workers[i]->peers == peers && hub->workers[i]->backend == backend)
			continue;
		hub->workers[i]->peers = peers;
		hub->workers[i]->backend = backend;
		wire_begin(&out, WIRE_PEERS);
		wire_number(&out, peers);
		wire_number(&out, backend);
		hub_say(hub, hub->workers[i]->number, &out);
	}
}

void hub_worker_up(struct hub *hub, uint64_t worker)
{
	struct hub_worker *w = hub->n_workers < HUB_WORKERS_MAX ? calloc(1, sizeof(*w)) : NULL;
	struct wire_out out;

	if (w == NULL) {
		alk_log(ALK_LOG_ERROR, "a worker is not on the bus",
			ALK_INT("worker", (int64_t)worker));
		return;
	}
	w->number = worker;
	STAILQ_INIT(&w->late);
	hub->workers[hub->n_workers++] = w;
	wire_begin(&out, WIRE_HELLO);
	wire_number(&out, worker);
	hub_say(hub, worker, &out);
	hub_tell_peers(hub);
	hub_spokes_tell(hub, worker);
}

/* Subscriptions */

static int want_order(const void *a, const void *b)
{
	const struct hub_want *one = a, *other = b;
	int order = strcmp(one->pattern, other->pattern);

	return order != 0 ? order : strcmp(one->group, other->group);
}

static struct hub_want *want_find(const struct hub *hub, const char *pattern, const char *group)
{
	struct hub_want key = {.pattern = (char *)pattern, .group = (char *)group};
	void *at = tfind(&key, &hub->by_name, want_order);

	return at != NULL ? *(struct hub_want **)at : NULL;
}

static struct hub_want *group_of(const struct hub *hub, uint64_t number)
{
	return number - 1 < hub->size_groups ? hub->groups[number - 1] : NULL;
}

/* While a worker has a member of it the number is this group's: messages come in order. */
static bool group_number(struct hub *hub, struct hub_want *want)
{
	size_t at = hub->free_group, size = hub->size_groups * 2 + 16;
	struct hub_want **grown;

	while (at < hub->size_groups && hub->groups[at] != NULL)
		at++;
	if (at >= BUS_GROUPS_MAX)
		return false;
	if (at == hub->size_groups) {
		grown = realloc(hub->groups, size * sizeof(struct hub_want *));
		if (grown == NULL)
			return false;
		memset(grown + at, 0, (size - at) * sizeof(struct hub_want *));
		hub->groups = grown;
		hub->size_groups = size;
	}
	hub->groups[at] = want;
	hub->n_groups++;
	hub->free_group = at + 1;
	want->number = at + 1;
	return true;
}

static void group_forget(struct hub *hub, const struct hub_want *want)
{
	size_t at = want->number - 1;

	hub->groups[at] = NULL;
	hub->n_groups--;
	if (at < hub->free_group)
		hub->free_group = at;
}

/* Whoever asks first for a pattern pays for it, as long as anybody wants it. */

static size_t want_cost(const struct hub_want *want)
{
	size_t tokens = 1;

	for (const char *p = want->pattern; *p != '\0' && *p != ':'; p++)
		tokens += *p == '.';
	tokens += strchr(want->pattern, ':') != NULL;
	return HUB_WANT_BYTES + HUB_WANT_TOKEN_BYTES * tokens + strlen(want->pattern) +
	       strlen(want->group);
}

/* NULL, or why there is no room for it: a code, NUL, a message. */
static const char *want_pay(struct hub *hub, struct hub_want *want, const char *identity)
{
	struct hub_share *share = hub_share_of(hub, identity);
	bool group = *want->group != '\0';
	const char *wrong = NULL;

	if (share == NULL)
		return "OVERLOADED\0out of memory";
	want->bytes = want_cost(want);
	if (group && share->groups >= HUB_IDENTITY_GROUPS)
		wrong = "OVERLOADED\0this identity has too many groups";
	else if (share->bytes + want->bytes > HUB_IDENTITY_WANTS)
		wrong = "OVERLOADED\0this identity's patterns take too much memory";
	if (wrong != NULL) {
		hub_share_drop(share);
		return wrong;
	}
	want->share = share;
	share->wants++;
	share->groups += group;
	share->bytes += want->bytes;
	return NULL;
}

static void want_unpay(struct hub_want *want)
{
	struct hub_share *share = want->share;

	want->share = NULL;
	if (share == NULL)
		return;
	share->wants--;
	share->groups -= *want->group != '\0';
	share->bytes -= want->bytes;
	hub_share_drop(share);
}

static void want_free(struct hub *hub, struct hub_want *want)
{
	hub_nats_unwant(hub, want);
	if (want->link.node != NULL) {
		topics_remove(hub->topics, &want->link);
		TAILQ_REMOVE(&hub->wants, want, entry);
		tdelete(want, &hub->by_name, want_order);
	}
	if (want->number != 0)
		group_forget(hub, want);
	want_unpay(want);
	free(want->pattern);
	free(want->group);
	free(want->members);
	free(want);
}

static bool want_enter(struct hub *hub, struct hub_want *want)
{
	if (*want->group != '\0' && !group_number(hub, want))
		return false;
	if (tsearch(want, &hub->by_name, want_order) == NULL)
		return false;
	if (topics_add(hub->topics, want->pattern, &want->link) < 0) {
		tdelete(want, &hub->by_name, want_order);
		return false;
	}
	TAILQ_INSERT_TAIL(&hub->wants, want, entry);
	return true;
}

static const char *want_make(struct hub *hub, struct hub_want *want, const char *identity)
{
	const char *wrong = *identity != '\0' ? want_pay(hub, want, identity) : NULL;

	if (wrong != NULL)
		return wrong;
	if (want_enter(hub, want))
		return NULL;
	return *want->group != '\0' && hub->n_groups >= BUS_GROUPS_MAX
		       ? "OVERLOADED\0there are too many groups"
		       : "OVERLOADED\0out of memory";
}

/* NULL with *wrong: a code, NUL, a message. */
static struct hub_want *want_new(struct hub *hub, const char *pattern, const char *group,
				 const char *identity, const char **wrong)
{
	struct hub_want *want;

	*wrong = "OVERLOADED\0out of memory";
	want = calloc(1, sizeof(*want));
	if (want == NULL)
		return NULL;
	want->pattern = strdup(pattern);
	want->group = strdup(group);
	if (want->pattern != NULL && want->group != NULL)
		*wrong = want_make(hub, want, identity);
	if (*wrong != NULL) {
		want_free(hub, want);
		return NULL;
	}
	hub_nats_want(hub, want);
	return want;
}

static int want_add(struct hub_want *want, uint64_t worker)
{
	struct hub_member *members;

	for (size_t i = 0; i < want->n; i++)
		if (want->members[i].worker == worker) {
			want->members[i].count++;
			return 0;
		}
	members = realloc(want->members, (want->n + 1) * sizeof(*members));
	if (members == NULL)
		return -ENOMEM;
	want->members = members;
	members[want->n++] = (struct hub_member){worker, 1};
	return 0;
}

/* Count one more. NULL with *wrong, as above. */
static struct hub_want *want_join(struct hub *hub, uint64_t worker, const char *pattern,
				  const char *group, const char *identity, const char **wrong)
{
	struct hub_want *want = want_find(hub, pattern, group);

	if (want == NULL)
		want = want_new(hub, pattern, group, identity, wrong);
	if (want == NULL || want_add(want, worker) == 0)
		return want;
	if (want->n == 0)
		want_free(hub, want);
	*wrong = "OVERLOADED\0out of memory";
	return NULL;
}

/* Take away one subscription, or all of the worker's. */
static void want_remove(struct hub *hub, struct hub_want *want, uint64_t worker, bool all)
{
	for (size_t i = 0; i < want->n; i++) {
		if (want->members[i].worker != worker)
			continue;
		if (all || --want->members[i].count == 0)
			want->members[i] = want->members[--want->n];
		break;
	}
	if (want->n == 0)
		want_free(hub, want);
}

static void worker_free(struct hub_worker *w)
{
	hub_operations_free(&w->has);
	wire_queue_clear(&w->late);
	free(w->offers);
	free(w);
}

static void say_subscribed(struct hub *hub, uint64_t worker, uint64_t tag, bool counts,
			   uint64_t group, const char *code, const char *message)
{
	struct wire_out out;

	wire_begin(&out, WIRE_SUBSCRIBED);
	wire_number(&out, tag);
	wire_number(&out, counts);
	wire_number(&out, group);
	wire_text(&out, code);
	wire_text(&out, message);
	hub_say(hub, worker, &out);
}

void hub_subscribed(struct hub *hub, uint64_t worker, uint64_t tag, uint64_t group,
		    const char *code, const char *message)
{
	say_subscribed(hub, worker, tag, true, group, code, message);
}

/* What is refused and counts is not undone here: the worker says UNSUBSCRIBE for it, as it has to
 * when the subscriber goes before the answer comes. */
static void hear_subscribe(struct hub *hub, struct hub_worker *from, struct wire_in *in)
{
	uint64_t tag = wire_get_number(in), replay = wire_get_number(in);
	uint64_t since = wire_get_number(in);
	const char *pattern = wire_get_text(in), *group = wire_get_text(in);
	const char *identity = wire_get_text(in);
	const char *wrong = NULL; /* a code, NUL, a message */
	struct hub_want *want;
	struct alk_err err;

	if (!wire_done(in) || topic_check_pattern(pattern, &err) < 0)
		return;
	want = want_join(hub, from->number, pattern, group, identity, &wrong);
	if (want != NULL && replay != WIRE_REPLAY_NO && from->owed > HUB_OWED_EVENTS) {
		wrong = "OVERLOADED\0too much is being replayed";
	} else if (want != NULL && replay == WIRE_REPLAY_LAST) {
		hub->work += hub->n_kept;
		hub_replay(hub, from, tag, pattern);
	} else if (want != NULL && replay == WIRE_REPLAY_PAST) {
		wrong = hub_nats_past(hub, from->number, tag, pattern, since, identity);
		if (wrong == NULL)
			return; /* the answer follows what is replayed */
	}
	say_subscribed(hub, from->number, tag, want != NULL, want != NULL ? want->number : 0,
		       wrong != NULL ? wrong : "", wrong != NULL ? wrong + strlen(wrong) + 1 : "");
}

void hub_replay_one(struct hub *hub, uint64_t worker, uint64_t tag, bool recent,
		    const uint8_t *frame, size_t n)
{
	struct hub_worker *to = hub_worker_of(hub, worker);
	struct wire_out out;
	size_t size;

	if (to == NULL)
		return;
	if (to->owed > HUB_OWED_EVENTS) {
		to->lost++;
		return;
	}
	wire_begin(&out, WIRE_REPLAY);
	wire_number(&out, tag);
	wire_number(&out, recent);
	wire_bytes(&out, frame, n);
	size = out.n;
	if (hub_say(hub, to->number, &out))
		to->owed += size;
}

static void hear_unsubscribe(struct hub *hub, const struct hub_worker *from, struct wire_in *in)
{
	const char *pattern = wire_get_text(in);
	struct hub_want *want = want_find(hub, pattern, wire_get_text(in));

	if (wire_done(in) && want != NULL)
		want_remove(hub, want, from->number, false);
}

/* Whoever was answered already has no use for a second answer. */
static void hear_stop(struct hub *hub, const struct hub_worker *from, struct wire_in *in)
{
	uint64_t tag = wire_get_number(in);

	if (!wire_done(in) || tag == 0)
		return;
	hub_nats_past_stop(hub, from->number, tag);
	hub_subscribed(hub, from->number, tag, 0, "", "");
}

/* Events */

struct routing {
	struct hub *hub;
	const struct hub_worker *from;
};

/* Those that need no other member. */
static void groups_served(struct hub *hub, const struct wire_in *served, uint64_t n)
{
	struct wire_in in = *served;

	for (uint64_t i = 0; i < n && !in.bad; i++) {
		struct hub_want *want = group_of(hub, wire_get_number(&in));

		hub->work++;
		if (want != NULL)
			want->served = hub->event;
	}
}

static void route_group(const struct routing *r, struct hub_want *want)
{
	for (size_t i = 0; i < want->n; i++) {
		const struct hub_member *member = &want->members[(want->next + i) % want->n];
		struct hub_worker *w = hub_worker_of(r->hub, member->worker);

		if (w == NULL || w == r->from)
			continue;
		want->next = (want->next + i + 1) % want->n;
		if (w->n_groups++ == 0)
			w->groups = (struct wire_out){.bytes = NULL};
		wire_number(&w->groups, want->number);
		return;
	}
}

static void on_want(void *user, struct topic_sub *sub)
{
	const struct routing *r = user;
	struct hub_want *want = (struct hub_want *)sub;

	if (*want->group != '\0') {
		/* With a backend one of all servers' members gets it, by way of there. */
		if (r->hub->nats == NULL && want->served != r->hub->event)
			route_group(r, want);
		return;
	}
	r->hub->work += want->n;
	for (size_t i = 0; i < want->n; i++) {
		struct hub_worker *w = hub_worker_of(r->hub, want->members[i].worker);

		if (w != NULL && w != r->from)
			w->plain = true;
	}
}

/* What a worker does not take is not kept for it. */
static void event_send(struct hub *hub, struct hub_worker *w, const char *topic,
		       const uint8_t *frame, size_t n)
{
	struct wire_out out;
	size_t size;

	if (w->owed > HUB_OWED_EVENTS) {
		w->lost++;
		return;
	}
	wire_begin(&out, WIRE_DELIVER);
	wire_text(&out, topic);
	wire_number(&out, w->except);
	wire_bytes(&out, frame, n);
	wire_number(&out, w->plain);
	wire_number(&out, w->n_groups);
	if (w->n_groups > 0)
		wire_append(&out, &w->groups);
	size = out.n;
	if (hub_say(hub, w->number, &out))
		w->owed += size;
	else
		w->lost++;
}

static void events_send(struct hub *hub, const char *topic, const uint8_t *frame, size_t n)
{
	for (size_t i = 0; i < hub->n_workers; i++) {
		struct hub_worker *w = hub->workers[i];

		if (w->plain || w->n_groups > 0)
			event_send(hub, w, topic, frame, n);
		if (w->n_groups > 0)
			wire_free(&w->groups);
		w->plain = false;
		w->n_groups = 0;
		w->except = 0;
	}
}

void hub_event(struct hub *hub, const struct hub_worker *from, const char *topic,
	       const uint8_t *frame, size_t n, const struct wire_in *served, uint64_t n_served)
{
	struct routing r = {hub, from};

	hub->event++;
	if (served != NULL)
		groups_served(hub, served, n_served);
	hub_tail(hub, topic, frame, n);
	hub->work += topics_each(hub->topics, topic, on_want, &r);
	events_send(hub, topic, frame, n);
}

void hub_event_plain(struct hub *hub, const char *topic, const uint8_t *frame, size_t n)
{
	hub_event(hub, NULL, topic, frame, n, NULL, 0);
}

/* A worker other than the publisher's first: there nobody has to be left out. */
void hub_event_group(struct hub *hub, struct hub_want *want, const char *topic,
		     const uint8_t *frame, size_t n, uint64_t except_worker,
		     uint64_t except_connection)
{
	struct routing r = {hub, hub_worker_of(hub, except_worker)};
	bool only = want->n == 1 && r.from != NULL && want->members[0].worker == except_worker;

	if (only) {
		hub_worker_of(hub, except_worker)->except = except_connection;
		r.from = NULL;
	}
	route_group(&r, want);
	events_send(hub, topic, frame, n);
}

static void hub_pay(struct hub *hub, struct hub_worker *w, size_t n)
{
	struct wire_out out;

	w->from_it += n;
	if (w->from_it < BUS_HUB_WINDOW / 16)
		return;
	wire_begin(&out, WIRE_CREDIT);
	wire_number(&out, w->from_it);
	w->from_it = 0;
	hub_say(hub, w->number, &out);
}

static void hear_event(struct hub *hub, struct hub_worker *from, struct wire_in *in)
{
	uint64_t retain = wire_get_number(in), connection = wire_get_number(in);
	const char *topic = wire_get_text(in);
	size_t n;
	const uint8_t *frame = wire_get_bytes(in, &n);
	uint64_t served = wire_get_number(in);
	struct alk_err err;

	/* The topic's own rules are a pattern's, and it is compared with patterns alone. */
	if (in->bad || n <= 4 || topic_check_pattern(topic, &err) < 0)
		return;
	hub_retain(hub, topic, frame, n, retain);
	if (from->peers)
		hub_event(hub, from, topic, frame, n, in, served);
	hub_nats_event(hub, from->number, connection, topic, frame, n, retain);
}

static void hear_credit(struct hub *hub, struct hub_worker *from, struct wire_in *in)
{
	uint64_t n = wire_get_number(in);
	struct wire_out out;

	from->owed -= n < from->owed ? n : from->owed;
	if (from->lost == 0)
		return;
	wire_begin(&out, WIRE_LOST);
	wire_number(&out, from->lost);
	from->lost = 0;
	hub_say(hub, from->number, &out);
}

static void hear_offers(struct hub *hub, struct hub_worker *from, struct wire_in *in)
{
	char *offers = strdup(wire_get_text(in));
	struct hub_operations *has = offers != NULL ? hub_operations_read(offers) : NULL;

	if (!wire_done(in) || has == NULL) {
		hub_operations_free(&has);
		free(offers);
		return;
	}
	hub_nats_has(hub, "", has);
	hub_nats_has_no_more(hub, "", from->has);
	hub_operations_free(&from->has);
	free(from->offers);
	from->has = has;
	from->offers = offers;
}

static void hear_sync(struct hub *hub, const struct hub_worker *from, struct wire_in *in)
{
	uint64_t tag = wire_get_number(in);
	struct wire_out out;

	if (!wire_done(in))
		return;
	wire_begin(&out, WIRE_SYNC);
	wire_number(&out, tag);
	hub_say(hub, from->number, &out);
}

static void hear_counts(struct hub *hub, struct wire_in *in)
{
	uint64_t n[BUS_COUNTER_COUNT];

	for (size_t i = 0; i < BUS_COUNTER_COUNT; i++)
		n[i] = wire_get_number(in);
	for (size_t i = 0; i < BUS_COUNTER_COUNT && wire_done(in); i++)
		hub->count[i] += n[i];
}

static void hear(struct hub *hub, struct hub_worker *from, const uint8_t *bytes, size_t n)
{
	struct wire_in in;

	hub->work++;
	switch (wire_open(&in, bytes, n)) {
	case WIRE_SUBSCRIBE:
		hear_subscribe(hub, from, &in);
		break;
	case WIRE_UNSUBSCRIBE:
		hear_unsubscribe(hub, from, &in);
		break;
	case WIRE_STOP:
		hear_stop(hub, from, &in);
		break;
	case WIRE_EVENT:
		hear_event(hub, from, &in);
		hub_pay(hub, from, n);
		break;
	case WIRE_CREDIT:
		hear_credit(hub, from, &in);
		break;
	case WIRE_REGISTER:
		hub_register(hub, from, &in);
		break;
	case WIRE_GONE:
		hub_gone(hub, from, wire_get_number(&in));
		break;
	case WIRE_TO:
		hub_carry(hub, from, &in);
		hub_pay(hub, from, n);
		break;
	case WIRE_OFFERS:
		hear_offers(hub, from, &in);
		break;
	case WIRE_SYNC:
		hear_sync(hub, from, &in);
		break;
	case WIRE_COUNTS:
		hear_counts(hub, &in);
		break;
	default:
		break;
	}
}

/* Events that many want take long here too, and all workers have one supervisor: what they say
 * behind them waits, in order, for the next turn of the loop. A worker is paid for what was heard,
 * so that publishers whose events wait stand still before long. */

#define LATE_TURN (BUS_WORK_MAX / 16) /* of one worker, before the next one's */

static void late_hear(struct hub *hub, struct hub_worker *from, size_t work)
{
	while (!STAILQ_EMPTY(&from->late) && hub->work < work) {
		const struct wire_waiting *first = STAILQ_FIRST(&from->late);

		hear(hub, from, first->bytes, first->n);
		wire_heard(&from->late);
	}
}

static void on_late(void *user)
{
	struct hub *hub = user;
	size_t idle = 0; /* workers in a row that nothing waits of */

	hub->work = 0;
	while (hub->work < BUS_WORK_MAX && idle < hub->n_workers) {
		struct hub_worker *from = hub->workers[hub->late_turn++ % hub->n_workers];

		idle = STAILQ_EMPTY(&from->late) ? idle + 1 : 0;
		late_hear(hub, from, hub->work + LATE_TURN);
	}
	if (idle < hub->n_workers)
		alk_task_yield(hub->loop, &hub->hear_late);
}

void hub_hear(struct hub *hub, uint64_t worker, const uint8_t *bytes, size_t n)
{
	struct hub_worker *from = hub_worker_of(hub, worker);
	bool waits;

	if (from == NULL)
		return;
	waits = !STAILQ_EMPTY(&from->late) || hub->work >= BUS_WORK_MAX;
	if (waits && wire_wait(&from->late, bytes, n)) {
		alk_task_yield(hub->loop, &hub->hear_late);
		return;
	}
	late_hear(hub, from, SIZE_MAX); /* if there is no memory for more */
	hear(hub, from, bytes, n);
}

void hub_hear_init(struct hub *hub)
{
	hub->hear_late = (struct alk_task){.fn = on_late, .user = hub};
}

/* Life */

/* Its last words, but no more than others have to wait for; the rest is lost with it. */
static void worker_hear_out(struct hub *hub, uint64_t worker)
{
	struct hub_worker *w = hub_worker_of(hub, worker);

	hub->work = 0;
	if (w != NULL)
		late_hear(hub, w, BUS_WORK_MAX);
}

void hub_worker_down(struct hub *hub, uint64_t worker)
{
	struct hub_want *want, *next;
	struct wire_out out;

	worker_hear_out(hub, worker);
	for (size_t i = 0; i < hub->n_workers; i++) {
		if (hub->workers[i]->number != worker)
			continue;
		hub_nats_has_no_more(hub, "", hub->workers[i]->has);
		worker_free(hub->workers[i]);
		hub->workers[i] = hub->workers[--hub->n_workers];
		break;
	}
	for (want = TAILQ_FIRST(&hub->wants); want != NULL; want = next) {
		next = TAILQ_NEXT(want, entry);
		want_remove(hub, want, worker, true);
	}
	hub_spokes_down(hub, worker);
	hub_calls_down(hub, worker);
	hub_nats_worker_down(hub, worker);
	hub_nats_past_stop(hub, worker, 0);
	wire_begin(&out, WIRE_WORKER_GONE);
	wire_number(&out, worker);
	hub_say(hub, ALK_HALF_EVERY_WORKER, &out);
	hub_tell_peers(hub);
}

int hub_configure(struct hub *hub, const struct alk_options *options, bool apply,
		  struct alk_err *err)
{
	if (!apply)
		return hub_nats_check(options, err) < 0 ? -EINVAL
							: hub_local_check(hub, options, err);
	hub->call_timeout = (uint64_t)alk_options_int(options, "call_timeout");
	hub->frame_max = (size_t)alk_options_int(options, "max_frame");
	hub->kept_max = (size_t)alk_options_int(options, "max_retained");
	hub->kept_bytes_max = (size_t)alk_options_int(options, "max_retained_bytes");
	hub_trim(hub);
	hub_nats_apply(hub, options);
	return hub_local_apply(hub, options, err);
}

struct hub *hub_new(const struct alk_plugin_env *env, struct alk_err *err)
{
	struct hub *hub = calloc(1, sizeof(*hub));

	if (hub == NULL)
		return NULL;
	hub->loop = env->loop;
	hub->half = env->half;
	hub_hear_init(hub);
	TAILQ_INIT(&hub->wants);
	TAILQ_INIT(&hub->kept);
	TAILQ_INIT(&hub->spokes);
	TAILQ_INIT(&hub->tails);
	TAILQ_INIT(&hub->calls);
	hub->topics = topics_new();
	if (hub->topics == NULL || hub_nats_check(env->options, err) < 0 ||
	    hub_configure(hub, env->options, true, err) < 0)
		hub_free(&hub);
	return hub;
}

void hub_free(struct hub **hub)
{
	struct hub *h = *hub;

	*hub = NULL;
	if (h == NULL)
		return;
	hub_nats_deinit(h);
	alk_task_cancel(h->loop, &h->hear_late);
	while (!TAILQ_EMPTY(&h->wants))
		want_free(h, TAILQ_FIRST(&h->wants));
	h->kept_max = 0;
	hub_trim(h);
	free(h->by_topic);
	hub_spokes_deinit(h);
	hub_calls_deinit(h);
	hub_admin_deinit(h);
	while (h->n_workers > 0)
		worker_free(h->workers[--h->n_workers]);
	topics_free(&h->topics);
	free(h->groups);
	hub_local_deinit(h);
	free(h);
}
