/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "hub_nats.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define ALIVE_EVERY 2000 /* ms */
#define ALIVE_LOST 8000	 /* a server that was not heard of for so long is gone */
#define TOGETHER                                                                                   \
	6000 /* how long others may take to come back before what waits goes out without them */
#define PEERS_MAX 256
#define SYNC_AHEAD ((size_t)1 << 20) /* bytes of retained values that the program may owe */
#define SYNC_EVERY 10		     /* ms until the next */

/* ---- words ----------------------------------------------------------------------------------- */

static void begin(struct wire_out *out, enum nats_op op)
{
	wire_begin(out, (enum wire_op)op);
}

void nats_name(const struct nats *nats, char out[NATS_SUBJECT_MAX], const char *part)
{
	snprintf(out, NATS_SUBJECT_MAX, "%s.%s", nats->prefix, part);
}

/* The subject of a topic or pattern below `part`. */
bool nats_topic(const struct nats *nats, char out[NATS_SUBJECT_MAX], const char *part,
		const char *topic, bool pattern)
{
	nats_name(nats, out, part);
	return nats_subject_add(out, NATS_SUBJECT_MAX, topic, pattern);
}

static void publication_write(struct wire_out *out, const struct nats_publication *p)
{
	begin(out, NATS_PUB);
	wire_text(out, p->subject);
	wire_text(out, p->reply != NULL ? p->reply : "");
	wire_text(out, p->from != NULL ? p->from : "");
	wire_text(out, p->type != NULL ? p->type : "");
	wire_text(out, p->identity != NULL ? p->identity : "");
	wire_bytes(out, p->body != NULL ? p->body : "", p->n);
	wire_text(out, p->origin != NULL ? p->origin : "");
	wire_number(out, p->durable);
}

void nats_publish_now(struct nats *nats, const struct nats_publication *p)
{
	struct wire_out out;

	publication_write(&out, p);
	nats_link_say(nats->link, &out);
}

/* What is of no use later. */
void nats_publish(struct nats *nats, const struct nats_publication *p)
{
	if (nats->connected)
		nats_publish_now(nats, p);
}

/* "server/worker/connection": which server, and is it this one? */
bool nats_from(const struct nats *nats, const char *from, char server[NATS_SERVER_ID + 1],
	       uint64_t *worker, uint64_t *connection)
{
	size_t n = strcspn(from, "/");

	*worker = *connection = 0;
	server[0] = '\0';
	if (n != NATS_SERVER_ID)
		return false;
	memcpy(server, from, n);
	server[n] = '\0';
	if (sscanf(from + n, "/%" SCNu64 "/%" SCNu64, worker, connection) != 2)
		*worker = *connection = 0;
	return strcmp(server, nats->server) == 0;
}

/* ---- subscriptions --------------------------------------------------------------------------- */

/* A group is its name and, of a pattern with an id, that id: its members all look at the same
 * events. */
static bool queue_name(const struct hub_want *want, char out[NATS_SUBJECT_MAX])
{
	const char *colon = strchr(want->pattern, ':');

	out[0] = '\0';
	if (*want->group == '\0')
		return true;
	snprintf(out, NATS_SUBJECT_MAX, "g");
	return nats_subject_token(out, NATS_SUBJECT_MAX, want->group) &&
	       (colon == NULL || nats_subject_token(out, NATS_SUBJECT_MAX, colon + 1));
}

void hub_nats_want(struct hub *hub, struct hub_want *want)
{
	char subject[NATS_SUBJECT_MAX], queue[NATS_SUBJECT_MAX];
	struct nats_sub *sub;

	if (hub->nats == NULL || want->nats != 0)
		return;
	if (!nats_topic(hub->nats, subject, "e", want->pattern, true) || !queue_name(want, queue))
		return;
	sub = nats_sub_new(hub->nats, NATS_ROLE_WANT, NATS_KIND_EVENT, subject, queue);
	if (sub == NULL) {
		alk_log(ALK_LOG_ERROR, "a pattern is not on NATS",
			ALK_STR("reason", "out of memory"));
		return;
	}
	sub->want = want;
	want->nats = sub->id;
}

void hub_nats_unwant(struct hub *hub, struct hub_want *want)
{
	if (hub->nats != NULL && want->nats != 0)
		nats_sub_end(hub->nats, want->nats);
	want->nats = 0;
}

/* ---- events ---------------------------------------------------------------------------------- */

static bool is_durable(const struct nats *nats, const char *topic)
{
	for (size_t i = 0; i < nats->n_durable; i++)
		if (topic_match(nats->durable[i], topic))
			return true;
	return false;
}

/* Who published it is told. */
static void tell_refused(struct nats *nats, const char *origin, const char *why)
{
	uint64_t worker, connection;
	struct wire_out out;
	int used = 0;

	if (sscanf(origin, "%" SCNu64 "/%" SCNu64 "/%n", &worker, &connection, &used) != 2 ||
	    used == 0)
		return;
	nats->refused++;
	if (worker == 0)
		return; /* the administrator, who hears of it from hub_nats_event() or not at all */
	wire_begin(&out, WIRE_REFUSED);
	wire_number(&out, connection);
	wire_text(&out, origin + used);
	wire_text(&out, why);
	hub_say(nats->hub, worker, &out);
}

bool hub_nats_event(struct hub *hub, uint64_t worker, uint64_t connection, const char *topic,
		    const uint8_t *frame, size_t n, uint64_t retain)
{
	struct nats *nats = hub->nats;
	char subject[NATS_SUBJECT_MAX], from[80], origin[TOPIC_MAX + 80];
	struct wire_out out;
	bool said;

	if (nats == NULL || !nats_topic(nats, subject, "e", topic, false))
		return nats == NULL;
	snprintf(from, sizeof(from), "%s/%" PRIu64 "/%" PRIu64, nats->server, worker, connection);
	snprintf(origin, sizeof(origin), "%" PRIu64 "/%" PRIu64 "/%s", worker, connection, topic);
	publication_write(&out, &(struct nats_publication){.subject = subject,
							   .from = from,
							   .body = frame + 4,
							   .n = n - 4,
							   .origin = origin,
							   .durable = is_durable(nats, topic)});
	/* Other servers get an event and its retained copy, or neither: the copy is no longer. */
	if (retain != WIRE_RETAIN_NO &&
	    nats_link_waiting(nats->link) + 2 * (out.n + sizeof(uint32_t)) > nats->limit) {
		wire_free(&out);
		tell_refused(nats, origin, "NATS is away or does not keep up");
		return false;
	}
	said = nats_link_publish(nats->link, &out, origin);
	if (!said || retain == WIRE_RETAIN_NO || !nats_topic(nats, subject, "r", topic, false))
		return said;
	publication_write(&out,
			  &(struct nats_publication){.subject = subject,
						     .from = from,
						     .type = retain == WIRE_RETAIN_KEEP ? "keep"
											: "forget",
						     .body = frame + 4,
						     .n = n - 4});
	nats_link_publish(nats->link, &out, "");
	return true;
}

static void on_want(void *user, struct topic_sub *sub)
{
	uint64_t *first = user;
	const struct hub_want *want = (const struct hub_want *)sub;

	if (*want->group == '\0' && want->nats != 0 && (*first == 0 || want->nats < *first))
		*first = want->nats;
}

/* Looked for once an event, not once for each pattern that it matches: they are as many as the
 * copies that come. */
static uint64_t first_want(struct nats *nats, const char *topic)
{
	struct nats_first *first = &nats->firsts[wire_hash(topic, strlen(topic)) % NATS_FIRSTS];
	uint64_t id = 0;

	if (first->topic != NULL && first->generation == nats->generation &&
	    strcmp(first->topic, topic) == 0)
		return first->id;
	topics_each(nats->hub->topics, topic, on_want, &id);
	free(first->topic);
	*first = (struct nats_first){strdup(topic), id, nats->generation};
	return id;
}

/* NATS gives an event once for each pattern here that it matches: the first of them hands it on. */
static void hear_event(struct nats *nats, const struct nats_sub *sub, const char *from,
		       const char *topic, const uint8_t *frame, size_t n)
{
	char server[NATS_SERVER_ID + 1];
	uint64_t worker, connection;
	bool ours = nats_from(nats, from, server, &worker, &connection);

	if (!topic_match(sub->want->pattern, topic))
		return;
	if (*sub->want->group != '\0') {
		hub_event_group(nats->hub, sub->want, topic, frame, n, ours ? worker : 0,
				ours ? connection : 0);
		return;
	}
	if (ours)
		return; /* they have it */
	if (first_want(nats, topic) == sub->id)
		hub_event_plain(nats->hub, topic, frame, n);
}

static void hear_retain(struct nats *nats, const char *from, const char *type, const char *topic,
			const uint8_t *frame, size_t n)
{
	char server[NATS_SERVER_ID + 1];
	uint64_t worker, connection;

	if (nats_from(nats, from, server, &worker, &connection) || server[0] == '\0')
		return;
	if (strcmp(type, "keep") == 0)
		hub_keep(nats->hub, topic, frame, n);
	else
		hub_forget(nats->hub, topic);
}

static void syncs_free(struct nats *nats)
{
	struct nats_sync *sync;

	while ((sync = TAILQ_FIRST(&nats->syncs)) != NULL) {
		TAILQ_REMOVE(&nats->syncs, sync, entry);
		free(sync);
	}
	nats->n_syncs = 0;
}

/* As much as the program reads. True: that was all. */
static bool sync_some(struct nats *nats, struct nats_sync *sync)
{
	const struct hub_kept *kept;

	TAILQ_FOREACH(kept, &nats->hub->kept, entry)
	{
		if (kept->number <= sync->after)
			continue;
		if (nats_link_said(nats->link) > SYNC_AHEAD)
			return false;
		nats_publish(nats, &(struct nats_publication){.subject = sync->reply,
							      .from = nats->server,
							      .body = kept->packet->bytes + 4,
							      .n = kept->packet->n - 4});
		sync->after = kept->number;
	}
	return true;
}

/* Many may ask at once, when NATS is back: one after the other. */
static void on_sync(void *user)
{
	struct nats *nats = user;
	struct nats_sync *sync;

	while ((sync = TAILQ_FIRST(&nats->syncs)) != NULL) {
		if (!sync_some(nats, sync)) {
			alk_timer_start(nats->sync, SYNC_EVERY);
			return;
		}
		TAILQ_REMOVE(&nats->syncs, sync, entry);
		nats->n_syncs--;
		free(sync);
	}
}

static void hear_sync(struct nats *nats, const char *from, const char *reply)
{
	char server[NATS_SERVER_ID + 1];
	uint64_t worker, connection;
	struct nats_sync *sync;

	if (nats_from(nats, from, server, &worker, &connection) || *reply == '\0' ||
	    nats->n_syncs == PEERS_MAX)
		return;
	sync = calloc(1, sizeof(*sync) + strlen(reply) + 1);
	if (sync == NULL)
		return;
	strcpy(sync->reply, reply);
	TAILQ_INSERT_TAIL(&nats->syncs, sync, entry);
	if (nats->n_syncs++ == 0)
		on_sync(nats);
}

/* ---- other servers --------------------------------------------------------------------------- */

/* What waited goes out when those are back who would get it: NATS keeps nothing for who is away. */
static void flow(struct nats *nats)
{
	const struct nats_peer *peer;

	if (!nats->connected || nats->flows)
		return;
	if (alk_loop_now(nats->hub->loop) - nats->back_at < TOGETHER)
		TAILQ_FOREACH(peer, &nats->peers, entry)
		{
			if (peer->seen < nats->back_at)
				return;
		}
	nats->flows = true;
	nats_link_connected(nats->link, true);
}

static void peer_seen(struct nats *nats, const char *id, uint64_t now)
{
	struct nats_peer *peer;

	if (strlen(id) != NATS_SERVER_ID || strcmp(id, nats->server) == 0)
		return;
	TAILQ_FOREACH(peer, &nats->peers, entry)
	{
		if (strcmp(peer->id, id) == 0)
			break;
	}
	if (peer == NULL && nats->n_peers < PEERS_MAX &&
	    (peer = calloc(1, sizeof(*peer))) != NULL) {
		snprintf(peer->id, sizeof(peer->id), "%s", id);
		TAILQ_INSERT_TAIL(&nats->peers, peer, entry);
		nats->n_peers++;
	}
	if (peer != NULL)
		peer->seen = now;
	flow(nats);
}

/* Who has not been heard of for long, though it could have been. */
static void peers_forget(struct nats *nats, uint64_t before)
{
	struct nats_peer *peer, *next;

	for (peer = TAILQ_FIRST(&nats->peers); peer != NULL; peer = next) {
		next = TAILQ_NEXT(peer, entry);
		if (peer->seen >= before)
			continue;
		TAILQ_REMOVE(&nats->peers, peer, entry);
		nats->n_peers--;
		free(peer);
	}
}

static void say_alive(struct nats *nats)
{
	char subject[NATS_SUBJECT_MAX];

	nats_name(nats, subject, "alive");
	nats_publish(nats, &(struct nats_publication){.subject = subject, .from = nats->server});
}

static void hear_alive(struct nats *nats, const char *from)
{
	uint64_t now = alk_loop_now(nats->hub->loop);
	struct nats_call *call;
	struct nats_serve *serve;

	TAILQ_FOREACH(call, &nats->calls, entry)
	{
		if (strcmp(call->server, from) == 0)
			call->seen = now;
	}
	TAILQ_FOREACH(serve, &nats->serves, entry)
	{
		if (strcmp(serve->server, from) == 0)
			serve->seen = now;
	}
	peer_seen(nats, from, now);
}

static void on_tick(void *user)
{
	struct nats *nats = user;
	uint64_t now = alk_loop_now(nats->hub->loop);
	struct nats_call *call, *next_call;
	struct nats_serve *serve, *next_serve;

	say_alive(nats);
	flow(nats);
	if (nats->flows && now > nats->back_at + ALIVE_LOST)
		peers_forget(nats, now - ALIVE_LOST);
	for (call = TAILQ_FIRST(&nats->calls); call != NULL; call = next_call) {
		next_call = TAILQ_NEXT(call, entry);
		if (call->server[0] != '\0' && now - call->seen > ALIVE_LOST)
			nats_call_fail(nats, call, "UNAVAILABLE",
				       "the operation's server has gone");
	}
	for (serve = TAILQ_FIRST(&nats->serves); serve != NULL; serve = next_serve) {
		next_serve = TAILQ_NEXT(serve, entry);
		if (serve->server[0] != '\0' && now - serve->seen > ALIVE_LOST)
			nats_serve_free(serve);
	}
	alk_timer_start(nats->tick, ALIVE_EVERY);
}

/* Nobody can be answered or heard any more: each call ends here. */
static void all_calls_end(struct nats *nats)
{
	while (!TAILQ_EMPTY(&nats->calls))
		nats_call_fail(nats, TAILQ_FIRST(&nats->calls), "UNAVAILABLE", "NATS went away");
	while (!TAILQ_EMPTY(&nats->serves))
		nats_serve_free(TAILQ_FIRST(&nats->serves));
}

/* ---- what the program says ------------------------------------------------------------------- */

static void hear_msg(struct nats *nats, struct wire_in *in)
{
	struct nats_sub *sub = nats_sub_find(nats, wire_get_number(in));
	const char *subject = wire_get_text(in), *reply = wire_get_text(in);
	const char *from = wire_get_text(in), *type = wire_get_text(in);
	const char *identity = wire_get_text(in), *status = wire_get_text(in);
	const char *topic = wire_get_text(in);
	size_t n;
	const uint8_t *body = wire_get_bytes(in, &n);

	if (!wire_done(in) || n == 0)
		return;
	if (sub == NULL) {
		nats_hear_late(nats, subject, reply);
		return;
	}
	/* JSON ends with a NUL, a frame has its length before it. */
	if (sub->kind == NATS_KIND_JSON ? body[n - 1] != '\0' : n <= 4)
		return;
	/* A program's, or a server's that may have longer ones. */
	if (sub->kind != NATS_KIND_JSON && n > nats->hub->frame_max + 4) {
		nats->lost++;
		return;
	}
	switch (sub->role) {
	case NATS_ROLE_WANT:
		hear_event(nats, sub, from, topic, body, n);
		break;
	case NATS_ROLE_RETAIN:
		hear_retain(nats, from, type, topic, body, n);
		break;
	case NATS_ROLE_SYNC:
		hear_sync(nats, from, reply);
		break;
	case NATS_ROLE_KEPT:
		if (!hub_is_kept(nats->hub, topic))
			hub_keep(nats->hub, topic, body, n);
		break;
	case NATS_ROLE_INBOX:
		nats_hear_answer(nats, subject, from, type, status, (const char *)body);
		break;
	case NATS_ROLE_OPERATION:
	case NATS_ROLE_DESCRIBE:
		nats_hear_call(nats, sub, reply, from, identity, status, (const char *)body);
		break;
	case NATS_ROLE_ABORT:
		nats_hear_abort(nats, from, type, (const char *)body);
		break;
	case NATS_ROLE_ALIVE:
		hear_alive(nats, from);
		break;
	}
}

static void connected_now(struct nats *nats)
{
	char subject[NATS_SUBJECT_MAX], reply[NATS_SUBJECT_MAX], kept[32];

	nats_name(nats, subject, "s");
	snprintf(kept, sizeof(kept), "k.%s", nats->server);
	nats_name(nats, reply, kept);
	nats_publish(nats, &(struct nats_publication){.subject = subject,
						      .reply = reply,
						      .from = nats->server});
}

static void hear_state(struct nats *nats, struct wire_in *in)
{
	bool connected = wire_get_number(in) != 0;
	uint64_t payload_max = wire_get_number(in);
	const char *text = wire_get_text(in);

	if (!wire_done(in))
		return;
	if (connected)
		nats->payload_max = payload_max;
	if (connected != nats->connected)
		alk_log(connected ? ALK_LOG_INFO : ALK_LOG_WARN,
			connected ? "bus backend connected" : "bus backend away",
			ALK_STR(connected ? "server" : "reason", text),
			ALK_INT("waiting_bytes", (int64_t)nats_link_waiting(nats->link)));
	else if (!connected)
		alk_log(ALK_LOG_WARN, "bus backend away", ALK_STR("reason", text));
	if (connected && nats->connected)
		return;
	nats->connected = connected;
	if (connected) {
		nats->reconnects++;
		nats->back_at = alk_loop_now(nats->hub->loop);
		nats_say_forgotten(nats);
		connected_now(nats);
		say_alive(nats);
		flow(nats);
		return;
	}
	nats->flows = false;
	syncs_free(nats);
	all_calls_end(nats);
	nats_link_connected(nats->link, false);
}

static void hear_lost(struct nats *nats, struct wire_in *in)
{
	uint64_t n = wire_get_number(in), now = alk_loop_now(nats->hub->loop);
	const char *text = wire_get_text(in);

	nats->lost += n;
	if (nats->lost_logged != 0 && now - nats->lost_logged < 1000)
		return;
	nats->lost_logged = now;
	alk_log(ALK_LOG_WARN, "bus backend", ALK_STR("reason", text),
		ALK_INT("lost", (int64_t)nats->lost));
}

static void on_message(void *user, const uint8_t *bytes, size_t n)
{
	struct nats *nats = user;
	struct wire_in in;
	const char *origin;

	switch ((enum nats_op)wire_open(&in, bytes, n)) {
	case NATS_STATE:
		hear_state(nats, &in);
		break;
	case NATS_MSG:
		hear_msg(nats, &in);
		break;
	case NATS_FAILED:
		origin = wire_get_text(&in);
		tell_refused(nats, origin, wire_get_text(&in));
		break;
	case NATS_LOST:
		hear_lost(nats, &in);
		break;
	case NATS_THEN:
		nats_hear_then(nats, &in);
		break;
	case NATS_THEN_END:
		nats_hear_then_end(nats, &in);
		break;
	default:
		break;
	}
}

/* ---- life ------------------------------------------------------------------------------------ */

static void say_start(struct nats *nats)
{
	struct wire_out out;

	begin(&out, NATS_START);
	wire_text(&out, nats->urls);
	wire_text(&out, nats->credentials);
	wire_text(&out, nats->ca);
	nats_link_say(nats->link, &out);
}

/* The name of the stream comes from the prefix, so that servers of one bus share it. */
static void say_stream(struct nats *nats)
{
	char name[256], subject[NATS_SUBJECT_MAX];
	struct wire_out out;
	size_t n = 0;

	if (nats->n_durable == 0)
		return;
	for (const char *c = nats->prefix; *c != '\0' && n + 1 < sizeof(name); c++)
		name[n++] = *c == '.' ? '_' : *c;
	name[n] = '\0';
	begin(&out, NATS_STREAM);
	wire_text(&out, name);
	wire_number(&out, nats->n_durable);
	for (size_t i = 0; i < nats->n_durable; i++) {
		if (!nats_topic(nats, subject, "e", nats->durable[i], true))
			subject[0] = '\0';
		wire_text(&out, subject);
	}
	nats_link_say(nats->link, &out);
}

/* Nothing that was asked is answered any more. */
static void on_gone(void *user)
{
	struct nats *nats = user;

	nats->connected = nats->flows = false;
	syncs_free(nats);
	all_calls_end(nats);
	while (!TAILQ_EMPTY(&nats->pasts))
		nats_past_end(nats, TAILQ_FIRST(&nats->pasts), "UNAVAILABLE", "NATS went away");
}

static void on_fresh(void *user)
{
	struct nats *nats = user;

	say_start(nats);
	nats_subs_say(nats);
	say_stream(nats);
}

static void on_refused(void *user, const char *origin, const char *why)
{
	tell_refused(user, origin, why);
}

static const struct nats_link_ops link_ops = {
	.gone = on_gone,
	.fresh = on_fresh,
	.message = on_message,
	.refused = on_refused,
};

static void nats_free(struct nats **at)
{
	struct nats *nats = *at;
	struct hub_want *want;

	*at = NULL;
	if (nats == NULL)
		return;
	all_calls_end(nats);
	while (!TAILQ_EMPTY(&nats->pasts))
		nats_past_end(nats, TAILQ_FIRST(&nats->pasts), "UNAVAILABLE",
			      "NATS is not used any more");
	TAILQ_FOREACH(want, &nats->hub->wants, entry)
	{
		want->nats = 0;
	}
	peers_forget(nats, UINT64_MAX);
	syncs_free(nats);
	nats_link_free(&nats->link);
	alk_timer_free(&nats->tick);
	alk_timer_free(&nats->sync);
	nats_subs_free(nats);
	for (size_t i = 0; i < nats->n_durable; i++)
		free(nats->durable[i]);
	for (size_t i = 0; i < NATS_FIRSTS; i++)
		free(nats->firsts[i].topic);
	free(nats->urls);
	free(nats->credentials);
	free(nats->ca);
	free(nats->prefix);
	free(nats);
}

static char *copy(const struct alk_options *options, const char *name)
{
	const char *text = alk_options_str(options, name);

	return strdup(text != NULL ? text : "");
}

static bool fixed_subs(struct nats *nats)
{
	static const struct {
		enum nats_role role;
		uint64_t kind;
		const char *part;
	} fixed[] = {
		{NATS_ROLE_RETAIN, NATS_KIND_FRAME, "r.>"},
		{NATS_ROLE_SYNC, NATS_KIND_JSON, "s"},
		{NATS_ROLE_KEPT, NATS_KIND_FRAME, "k.%s"},
		{NATS_ROLE_INBOX, NATS_KIND_JSON, "i.%s.*"},
		{NATS_ROLE_ABORT, NATS_KIND_JSON, "x"},
		{NATS_ROLE_ALIVE, NATS_KIND_JSON, "alive"},
	};
	char subject[NATS_SUBJECT_MAX], part[64];

	for (size_t i = 0; i < sizeof(fixed) / sizeof(*fixed); i++) {
		const char *mark = strstr(fixed[i].part, "%s");

		if (mark != NULL)
			snprintf(part, sizeof(part), "%.*s%s%s", (int)(mark - fixed[i].part),
				 fixed[i].part, nats->server, mark + 2);
		else
			snprintf(part, sizeof(part), "%s", fixed[i].part);
		nats_name(nats, subject, part);
		if (nats_sub_new(nats, fixed[i].role, fixed[i].kind, subject, "") == NULL)
			return false;
	}
	return true;
}

static struct nats *nats_new(struct hub *hub, const struct alk_options *options)
{
	struct nats *nats = calloc(1, sizeof(*nats));
	uint8_t random[NATS_SERVER_ID / 2];
	const char *pattern;

	if (nats == NULL)
		return NULL;
	nats->hub = hub;
	TAILQ_INIT(&nats->subs);
	TAILQ_INIT(&nats->calls);
	TAILQ_INIT(&nats->serves);
	TAILQ_INIT(&nats->pasts);
	TAILQ_INIT(&nats->peers);
	TAILQ_INIT(&nats->syncs);
	nats->urls = copy(options, "backend");
	nats->credentials = copy(options, "backend_credentials");
	nats->ca = copy(options, "backend_ca");
	nats->prefix = copy(options, "backend_prefix");
	nats->limit = (size_t)alk_options_int(options, "backend_buffer");
	for (size_t i = 0; (pattern = alk_options_nth(options, "durable", i)) != NULL; i++)
		if ((nats->durable[nats->n_durable] = strdup(pattern)) != NULL)
			nats->n_durable++;
	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
		nats_free(&nats);
		return NULL;
	}
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(nats->server + 2 * i, 3, "%02x", random[i]);
	nats->tick = alk_timer_new(hub->loop, "bus nats", on_tick, nats);
	nats->sync = alk_timer_new(hub->loop, "bus nats sync", on_sync, nats);
	nats->link = nats_link_new(hub->loop, nats->limit, &link_ops, nats);
	if (nats->urls == NULL || nats->credentials == NULL || nats->ca == NULL ||
	    nats->prefix == NULL || nats->tick == NULL || nats->sync == NULL ||
	    nats->link == NULL || !fixed_subs(nats)) {
		nats_free(&nats);
		return NULL;
	}
	alk_timer_start(nats->tick, ALIVE_EVERY);
	return nats;
}

static bool prefix_valid(const char *prefix)
{
	return *prefix != '\0' && strlen(prefix) <= 128 &&
	       strspn(prefix,
		      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") ==
		       strlen(prefix) &&
	       *prefix != '.' && prefix[strlen(prefix) - 1] != '.' && strstr(prefix, "..") == NULL;
}

int hub_nats_check(const struct alk_options *options, struct alk_err *err)
{
	const char *urls = alk_options_str(options, "backend"), *pattern;
	size_t i;

	for (i = 0; (pattern = alk_options_nth(options, "durable", i)) != NULL; i++)
		if (topic_check_pattern(pattern, err) < 0 || strchr(pattern, ':') != NULL)
			return alk_err_prefix(err, -EINVAL, "durable: %s", pattern);
	if (i > NATS_DURABLE_MAX)
		return alk_err_set(err, -E2BIG, "durable: more than %d patterns", NATS_DURABLE_MAX);
	if (urls == NULL || *urls == '\0')
		return i == 0 ? 0
			      : alk_err_set(
					err, -EINVAL,
					"durable: needs a backend that keeps what was published");
	if (strncmp(urls, "nats://", 7) != 0 && strncmp(urls, "tls://", 6) != 0)
		return alk_err_set(err, -EINVAL,
				   "backend: must be nats://HOST:PORT or tls://HOST:PORT");
	if (!prefix_valid(alk_options_str(options, "backend_prefix")))
		return alk_err_set(
			err, -EINVAL,
			"backend_prefix: must be 1 to 128 letters, digits, _, - and dots");
	return nats_link_check(err);
}

static bool same(const struct nats *nats, const struct alk_options *options)
{
	const char *names[] = {"backend", "backend_credentials", "backend_ca", "backend_prefix"};
	const char *values[] = {nats->urls, nats->credentials, nats->ca, nats->prefix};
	size_t i;

	for (i = 0; i < 4; i++) {
		const char *now = alk_options_str(options, names[i]);

		if (strcmp(now != NULL ? now : "", values[i]) != 0)
			return false;
	}
	for (i = 0; i < nats->n_durable; i++) {
		const char *now = alk_options_nth(options, "durable", i);

		if (now == NULL || strcmp(now, nats->durable[i]) != 0)
			return false;
	}
	return alk_options_nth(options, "durable", i) == NULL &&
	       nats->limit == (size_t)alk_options_int(options, "backend_buffer");
}

/* What is here already goes to NATS. */
static void all_say(struct hub *hub)
{
	const struct hub_spoke *s;
	struct hub_want *want;

	TAILQ_FOREACH(want, &hub->wants, entry)
	{
		hub_nats_want(hub, want);
	}
	for (size_t i = 0; i < hub->n_workers; i++)
		hub_nats_has(hub, "", hub->workers[i]->has);
	TAILQ_FOREACH(s, &hub->spokes, entry)
	{
		hub_nats_has(hub, s->name, s->has);
	}
}

void hub_nats_apply(struct hub *hub, const struct alk_options *options)
{
	const char *urls = alk_options_str(options, "backend");
	bool wanted = urls != NULL && *urls != '\0';

	if (hub->nats != NULL && wanted && same(hub->nats, options))
		return;
	nats_free(&hub->nats);
	if (wanted) {
		hub->nats = nats_new(hub, options);
		if (hub->nats == NULL)
			alk_log(ALK_LOG_ERROR, "no bus backend",
				ALK_STR("reason", "out of memory"));
		all_say(hub);
	}
	hub_tell_peers(hub);
}

void hub_nats_deinit(struct hub *hub)
{
	nats_free(&hub->nats);
}

void hub_nats_metrics(const struct hub *hub, FILE *out)
{
	const struct nats *nats = hub->nats;

	if (nats == NULL)
		return;
	fprintf(out,
		"# HELP alknet_bus_backend_connected Whether NATS is there.\n"
		"# TYPE alknet_bus_backend_connected gauge\nalknet_bus_backend_connected %d\n"
		"# HELP alknet_bus_backend_waiting_bytes Bytes of events that wait for NATS.\n"
		"# TYPE alknet_bus_backend_waiting_bytes gauge\nalknet_bus_backend_waiting_bytes %zu\n"
		"# HELP alknet_bus_backend_connects_total Connections to NATS.\n"
		"# TYPE alknet_bus_backend_connects_total counter\n"
		"alknet_bus_backend_connects_total %" PRIu64 "\n"
		"# HELP alknet_bus_backend_refused_total Events that did not reach NATS; their publisher was told.\n"
		"# TYPE alknet_bus_backend_refused_total counter\n"
		"alknet_bus_backend_refused_total %" PRIu64 "\n"
		"# HELP alknet_bus_backend_lost_total Messages from NATS that were no envelope, or too many.\n"
		"# TYPE alknet_bus_backend_lost_total counter\n"
		"alknet_bus_backend_lost_total %" PRIu64 "\n",
		nats->connected, nats_link_waiting(nats->link), nats->reconnects, nats->refused,
		nats->lost);
}
