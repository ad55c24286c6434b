/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "bus.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Groups */

static struct group *group_of(const struct bus *bus, uint64_t number)
{
	return number - 1 < bus->size_groups ? bus->groups[number - 1] : NULL;
}

static bool groups_room(struct bus *bus, uint64_t number)
{
	size_t size = bus->size_groups * 2 > number ? bus->size_groups * 2 : number;
	struct group **grown;

	if (number <= bus->size_groups)
		return number > 0;
	grown = number <= BUS_GROUPS_MAX ? realloc(bus->groups, size * sizeof(struct group *))
					 : NULL;
	if (grown == NULL)
		return false;
	memset(grown + bus->size_groups, 0, (size - bus->size_groups) * sizeof(struct group *));
	bus->groups = grown;
	bus->size_groups = size;
	return true;
}

static struct group *group_make(struct bus *bus, uint64_t number, const char *pattern)
{
	struct group *group = group_of(bus, number);

	if (group != NULL)
		return group;
	group = groups_room(bus, number) ? calloc(1, sizeof(*group)) : NULL;
	if (group == NULL)
		return NULL;
	group->is_group = true;
	group->number = number;
	if (topics_add(bus->topics, pattern, &group->link) < 0) {
		free(group);
		return NULL;
	}
	bus->groups[number - 1] = group;
	return group;
}

static int group_join(struct bus *bus, struct sub *sub, uint64_t number)
{
	struct group *group = group_make(bus, number, sub->pattern);

	if (group == NULL)
		return -ENOMEM;
	sub->group = group;
	sub->group_next = sub->group_last = sub;
	if (group->members != NULL) {
		sub->group_next = group->members;
		sub->group_last = group->members->group_last;
		sub->group_last->group_next = sub->group_next->group_last = sub;
	}
	group->members = sub;
	group->n++;
	return 0;
}

static void group_leave(struct bus *bus, struct sub *sub)
{
	struct group *group = sub->group;

	sub->group_last->group_next = sub->group_next;
	sub->group_next->group_last = sub->group_last;
	if (group->members == sub)
		group->members = sub->group_next;
	sub->group = NULL;
	if (--group->n > 0)
		return;
	topics_remove(bus->topics, &group->link);
	bus->groups[group->number - 1] = NULL;
	free(group);
}

/* Subscriptions */

#define NOBODY "?" /* all without an identity are one */

#define HELD_ALIKE 1024 /* buckets */
#define HELD_SUM 1024	/* bytes of an event that choose its bucket */
#define HELD_LOOKS 1024

/* Those that may be the same. */
static struct helds *held_alike(const struct sub *sub, const uint8_t *bytes, size_t n)
{
	return &sub->alike[wire_hash(bytes, n < HELD_SUM ? n : HELD_SUM) % HELD_ALIKE];
}

static bool held_look_alike(struct sub *sub)
{
	sub->alike = calloc(HELD_ALIKE, sizeof(*sub->alike));
	for (size_t i = 0; sub->alike != NULL && i < HELD_ALIKE; i++)
		TAILQ_INIT(&sub->alike[i]);
	return sub->alike != NULL;
}

static void held_free(struct sub *sub, struct held *h)
{
	if (sub->replayed == h)
		sub->replayed = TAILQ_PREV(h, helds, entry);
	TAILQ_REMOVE(&sub->held, h, entry);
	if (h->in_alike)
		TAILQ_REMOVE(held_alike(sub, h->packet->bytes, h->packet->n), h, alike);
	sub->held_bytes -= h->packet->n;
	packet_unref(&h->packet);
	free(h);
}

static void sub_miss(struct sub *sub)
{
	sub->missed++;
	bus_count(sub->conn->bus, BUS_COUNT_dropped, 1);
}

/* As in a channel's queue the oldest go where there are too many: what is replayed is older than
 * what came meanwhile. */
static bool held_room(struct sub *sub, size_t n, bool replay)
{
	size_t max = sub->conn->bus->queue_max;

	while (n <= max && sub->held_bytes + n > max && (!replay || sub->replayed != NULL)) {
		held_free(sub, TAILQ_FIRST(&sub->held));
		sub_miss(sub);
	}
	return sub->held_bytes + n <= max;
}

static struct held *held_new(struct sub *sub, struct packet *packet, bool replay)
{
	struct held *h = held_room(sub, packet->n, replay) ? calloc(1, sizeof(*h)) : NULL;

	if (h == NULL) {
		sub_miss(sub);
		return NULL;
	}
	h->packet = packet_ref(packet);
	sub->held_bytes += packet->n;
	return h;
}

/* It is not marked as one that the channel has: behind the replay an event has to come that is
 * newer than what is replayed, also if another subscription has brought it before. */
static void sub_hold(struct sub *sub, struct packet *packet)
{
	struct held *h = held_new(sub, packet, false);

	if (h == NULL)
		return;
	TAILQ_INSERT_TAIL(&sub->held, h, entry);
	h->in_alike = sub->alike != NULL;
	if (h->in_alike)
		TAILQ_INSERT_TAIL(held_alike(sub, packet->bytes, packet->n), h, alike);
}

static void sub_release(struct sub *sub, bool deliver)
{
	if (deliver && sub->missed > 0 && sub->conn->bus->close_slow)
		conn_close_slow(sub->conn);
	else if (deliver && sub->missed > 0)
		conn_say(sub->conn, "__dropped", "",
			 json_pack("{s:I}", "count", (json_int_t)sub->missed));
	while (!TAILQ_EMPTY(&sub->held)) {
		if (deliver)
			conn_put(sub->conn, TAILQ_FIRST(&sub->held)->packet, true);
		held_free(sub, TAILQ_FIRST(&sub->held));
	}
	free(sub->alike);
	sub->alike = NULL;
}

/* Nothing comes to it any more. */
static void sub_part(struct sub *sub)
{
	struct bus *bus = sub->conn->bus;

	if (sub->group != NULL)
		group_leave(bus, sub);
	topics_remove(bus->topics, &sub->link);
	sub_release(sub, false);
	*sub->prev = sub->next;
	if (sub->next != NULL)
		sub->next->prev = sub->prev;
	sub->conn->n_subs--;
	sub->conn = NULL;
}

static void sub_free(struct sub **at)
{
	struct sub *sub = *at;

	*at = NULL;
	if (sub->conn != NULL)
		sub_part(sub);
	if (sub->tag != 0)
		LIST_REMOVE(sub, asked);
	free(sub->pattern);
	free(sub->group_name);
	free(sub->ref);
	free(sub);
}

/* Only what counts at the hub is taken back from it: by the time that another one is, the name may
 * be somebody else's. What it has not answered yet stays, by its tag alone, until it does. */
static void sub_end(struct bus *bus, struct sub **at)
{
	struct sub *sub = *at;
	struct wire_out out;

	if (sub->conn != NULL)
		sub_part(sub);
	if (sub->tag == 0 && sub->told) {
		wire_begin(&out, WIRE_UNSUBSCRIBE);
		wire_text(&out, sub->pattern);
		wire_text(&out, sub->group_name);
		bus_say(bus, &out);
	} else if (sub->tag != 0 && sub->past) {
		wire_begin(&out, WIRE_STOP);
		wire_number(&out, sub->tag);
		bus_say(bus, &out);
	}
	if (sub->tag == 0)
		sub_free(at);
	*at = NULL;
}

static struct sub *sub_find(const struct conn *c, const char *ref)
{
	struct sub *sub = c->subs;

	while (sub != NULL && strcmp(sub->ref, ref) != 0)
		sub = sub->next;
	return sub;
}

/* Those that the hub has not answered */

static struct sub *sub_of_tag(const struct bus *bus, uint64_t tag)
{
	struct sub *sub;

	LIST_FOREACH(sub, &bus->asked[tag % BUS_TAG_BUCKETS], asked)
	{
		if (sub->tag == tag)
			return sub;
	}
	return NULL;
}

static void sub_asked(struct sub *sub)
{
	struct bus *bus = sub->conn->bus;

	sub->tag = ++bus->last_tag;
	LIST_INSERT_HEAD(&bus->asked[sub->tag % BUS_TAG_BUCKETS], sub, asked);
}

static void sub_answered(struct sub *sub)
{
	LIST_REMOVE(sub, asked);
	sub->tag = 0;
}

static struct sub *sub_new(struct conn *c, const char *ref, const char *pattern, const char *group)
{
	struct sub *sub = calloc(1, sizeof(*sub));

	if (sub == NULL)
		return NULL;
	sub->conn = c;
	TAILQ_INIT(&sub->held);
	sub->next = c->subs;
	sub->prev = &c->subs;
	if (sub->next != NULL)
		sub->next->prev = &sub->next;
	c->subs = sub;
	c->n_subs++;
	sub->ref = strdup(ref);
	sub->pattern = strdup(pattern);
	sub->group_name = strdup(group);
	if (sub->ref == NULL || sub->pattern == NULL || sub->group_name == NULL)
		sub_free(&sub);
	return sub;
}

/* What a subscribe asks for. */
struct wish {
	const char *pattern, *group;
	uint64_t replay, since;
};

/* "last": what is retained. With a backend, "all" or a time in ms since 1970: what it keeps of
 * durable topics. */
static int replay_read(const struct conn *c, const json_t *replay, struct wish *wish,
		       struct alk_err *err)
{
	wish->replay = WIRE_REPLAY_NO;
	wish->since = 0;
	if (replay == NULL)
		return 0;
	wish->replay = WIRE_REPLAY_LAST;
	if (json_is_string(replay) && strcmp(json_string_value(replay), "last") == 0)
		return 0;
	wish->replay = WIRE_REPLAY_PAST;
	if (!c->bus->backend)
		return alk_err_set(err, -EINVAL, "payload.replay: this backend has \"last\"");
	if (json_is_string(replay) && strcmp(json_string_value(replay), "all") == 0)
		return 0;
	if (!json_is_integer(replay) || json_integer_value(replay) <= 0 ||
	    json_integer_value(replay) > INT64_MAX / 1000000) /* it becomes ns */
		return alk_err_set(err, -EINVAL,
				   "payload.replay: must be \"last\", \"all\" or ms since 1970");
	wish->since = (uint64_t)json_integer_value(replay);
	return 0;
}

static int wish_read(const struct conn *c, struct wish *wish, struct alk_err *err)
{
	const json_t *payload = c->frame.payload;
	const json_t *group = json_object_get(payload, "group");
	const json_t *replay = json_object_get(payload, "replay");

	wish->pattern = json_string_value(json_object_get(payload, "topic"));
	if (wish->pattern == NULL)
		return alk_err_set(err, -EINVAL, "payload.topic: must be text");
	if (group != NULL &&
	    (json_string_length(group) == 0 || json_string_length(group) > TOPIC_TYPE_MAX))
		return alk_err_set(err, -EINVAL, "payload.group: must be text of 1 to 255 bytes");
	wish->group = group != NULL ? json_string_value(group) : "";
	if (replay_read(c, replay, wish, err) < 0)
		return -EINVAL;
	if (replay != NULL && group != NULL)
		return alk_err_set(err, -EINVAL, "payload.replay: a group has no history");
	if (sub_find(c, c->frame.id) != NULL)
		return alk_err_set(err, -EINVAL,
				   "id: this channel has a subscription of that name");
	return topic_check_pattern(wish->pattern, err);
}

static void subscribe_now(struct conn *c, bool allowed, const char *reason)
{
	const char *ref = c->frame.id;
	struct wire_out out;
	struct alk_err err = {""};
	struct wish wish;
	struct sub *sub;

	if (!allowed) {
		conn_error(c, "error", ref, "FORBIDDEN",
			   *reason != '\0' ? reason : "denied by policy");
		return;
	}
	/* What it may wish for may have changed since it was read. */
	if (wish_read(c, &wish, &err) < 0) {
		conn_error(c, "error", ref, "INVALID_INPUT", err.text);
		return;
	}
	sub = sub_new(c, ref, wish.pattern, wish.group);
	if (sub == NULL) {
		conn_error(c, "error", ref, "OVERLOADED", "out of memory");
		return;
	}
	sub_asked(sub);
	sub->past = wish.replay == WIRE_REPLAY_PAST;
	if ((sub->past && !held_look_alike(sub)) ||
	    (wish.replay != WIRE_REPLAY_NO &&
	     topics_add(c->bus->topics, sub->pattern, &sub->link) < 0)) {
		sub_free(&sub);
		conn_error(c, "error", ref, "OVERLOADED", "out of memory");
		return;
	}
	wire_begin(&out, WIRE_SUBSCRIBE);
	wire_number(&out, sub->tag);
	wire_number(&out, wish.replay);
	wire_number(&out, wish.since);
	wire_text(&out, sub->pattern);
	wire_text(&out, sub->group_name);
	wire_text(&out, *conn_identity(c) != '\0' ? conn_identity(c) : NOBODY);
	c->waiting = true;
	if (bus_say(c->bus, &out))
		return;
	c->waiting = false;
	sub_free(&sub);
	conn_error(c, "error", ref, "UNAVAILABLE", "the hub does not answer");
}

/* A member has no use for the answer, and several may be on their way. */
int event_subscribe_inner(struct conn *c, const char *pattern, const char *group)
{
	char ref[24];
	struct wire_out out;
	struct sub *sub;

	snprintf(ref, sizeof(ref), "%u", c->n_subs);
	sub = sub_new(c, ref, pattern, group);
	if (sub == NULL)
		return -ENOMEM;
	sub_asked(sub);
	wire_begin(&out, WIRE_SUBSCRIBE);
	wire_number(&out, sub->tag);
	wire_number(&out, WIRE_REPLAY_NO);
	wire_number(&out, 0);
	wire_text(&out, pattern);
	wire_text(&out, group);
	wire_text(&out, "");
	if (bus_say(c->bus, &out))
		return 0;
	sub_free(&sub);
	return -ENOTCONN;
}

void event_subscribe(struct conn *c)
{
	struct alk_err err = {""};
	struct wish wish;

	if (wish_read(c, &wish, &err) < 0)
		conn_error(c, "error", c->frame.id, "INVALID_INPUT", err.text);
	else if (c->n_subs >= c->bus->subscriptions_max)
		conn_error(c, "error", c->frame.id, "OVERLOADED",
			   "this channel has too many subscriptions");
	else
		conn_ask(c,
			 &(struct alk_channel_question){.kind = ALK_MAY_SUBSCRIBE,
							.name = wish.pattern},
			 subscribe_now);
}

/* An event that is both in the history and among what was held: once is enough. */
static void held_take(struct sub *sub, const uint8_t *bytes, size_t n)
{
	struct held *h;
	int looks = 0;

	TAILQ_FOREACH(h, held_alike(sub, bytes, n), alike)
	{
		if (h->packet->n == n && memcmp(h->packet->bytes, bytes, n) == 0)
			break;
		if (++looks == HELD_LOOKS)
			return; /* somebody has made them so */
	}
	if (h != NULL)
		held_free(sub, h);
}

void event_replay(struct bus *bus, uint64_t tag, bool recent, const uint8_t *bytes, size_t n)
{
	struct sub *sub = sub_of_tag(bus, tag);
	struct packet *packet;
	struct held *h;

	if (sub == NULL || sub->conn == NULL)
		return;
	packet = packet_new(bytes, n);
	if (packet == NULL) {
		sub_miss(sub);
		return;
	}
	if (recent && sub->alike != NULL)
		held_take(sub, bytes, n);
	/* Before what was held meanwhile, behind what was replayed before. */
	h = held_new(sub, packet, true);
	if (h != NULL && sub->replayed != NULL)
		TAILQ_INSERT_AFTER(&sub->held, sub->replayed, h, entry);
	else if (h != NULL)
		TAILQ_INSERT_HEAD(&sub->held, h, entry);
	sub->replayed = h != NULL ? h : sub->replayed;
	packet_unref(&packet);
}

void event_subscribed(struct bus *bus, uint64_t tag, bool counts, uint64_t group, const char *code,
		      const char *message)
{
	struct sub *sub = sub_of_tag(bus, tag);
	struct conn *c;
	int rc = 0;

	if (sub == NULL)
		return;
	sub_answered(sub);
	sub->told = counts;
	c = sub->conn;
	if (c == NULL) {
		sub_end(bus, &sub);
		return;
	}
	if (*code != '\0') {
		if (c->inner)
			alk_log(ALK_LOG_ERROR, "a subscription of this server's own was refused",
				ALK_STR("pattern", sub->pattern), ALK_STR("reason", message));
		else
			conn_error(c, "error", sub->ref, code, message);
		sub_end(bus, &sub);
		conn_go_on(c);
		return;
	}
	if (*sub->group_name != '\0')
		rc = group_join(bus, sub, group);
	else if (sub->link.node == NULL)
		rc = topics_add(bus->topics, sub->pattern, &sub->link);
	if (rc < 0) {
		if (!c->inner)
			conn_error(c, "error", sub->ref, "OVERLOADED", "out of memory");
		sub_end(bus, &sub);
	} else {
		if (!c->inner)
			conn_say(c, "__ok", sub->ref, json_object());
		sub_release(sub, true);
	}
	conn_go_on(c);
}

void event_unsubscribe(struct conn *c)
{
	struct sub *sub = sub_find(c, c->frame.id);

	if (sub == NULL) {
		conn_error(c, "error", c->frame.id, "NOT_FOUND", "no subscription has this id");
		return;
	}
	sub_end(c->bus, &sub);
	conn_say(c, "__ok", c->frame.id, json_object());
	conn_settle(c);
}

void event_forget(struct conn *c)
{
	while (c->subs != NULL) {
		struct sub *sub = c->subs;

		sub_end(c->bus, &sub);
	}
}

void event_end(struct bus *bus)
{
	for (size_t i = 0; i < BUS_TAG_BUCKETS; i++)
		while (!LIST_EMPTY(&bus->asked[i])) {
			struct sub *sub = LIST_FIRST(&bus->asked[i]);

			sub_free(&sub);
		}
}

/* Delivery */

struct delivery {
	struct bus *bus;
	struct conn *from;
	struct packet *packet;
	struct wire_out *served; /* the groups that it served; NULL: nobody asks */
	uint64_t n;
	bool plain, groups, local;
};

static void deliver_to(const struct delivery *d, struct conn *c)
{
	if (c->event == d->bus->event)
		return;
	c->event = d->bus->event;
	conn_put(c, d->packet, true);
	d->bus->count[BUS_COUNT_delivered]++;
}

/* To the next member that is there and did not send it. */
static bool deliver_group(const struct delivery *d, struct group *group)
{
	struct sub *sub = group->members;

	for (unsigned i = 0; i < group->n; i++, sub = sub->group_next) {
		if (sub->conn == d->from || sub->conn->state != CONN_OPEN)
			continue;
		group->members = sub->group_next;
		deliver_to(d, sub->conn);
		return true;
	}
	return false;
}

static void on_wanted(void *user, struct topic_sub *at)
{
	struct delivery *d = user;
	struct sub *sub = (struct sub *)at;
	struct group *group = (struct group *)at;

	if (sub->is_group) {
		if (!d->groups || !deliver_group(d, group))
			return;
		if (d->served != NULL)
			wire_number(d->served, group->number);
		d->n++;
	} else if (d->plain && sub->conn != d->from) {
		if (sub->tag == 0)
			deliver_to(d, sub->conn);
		else if (d->local || sub->past)
			sub_hold(sub,
				 d->packet); /* an event of this worker's; the hub has it after the
						   * subscription */
	}
}

void event_deliver(struct bus *bus, const char *topic, uint64_t except, struct packet *packet,
		   bool plain, struct wire_in *groups, uint64_t n)
{
	struct delivery d = {.bus = bus,
			     .packet = packet,
			     .plain = plain,
			     .from = except != 0 ? conn_find(bus, except) : NULL};

	bus->event++;
	if (plain)
		bus->work += topics_each(bus->topics, topic, on_wanted, &d);
	for (uint64_t i = 0; i < n && !groups->bad; i++) {
		struct group *group = group_of(bus, wire_get_number(groups));

		bus->work++;
		if (group != NULL)
			deliver_group(&d, group);
	}
	bus_count(bus, BUS_COUNT_delivered, 0);
}

uint64_t event_retain(const json_t *payload)
{
	const json_t *retain = json_object_get(payload, "retain");

	if (json_is_true(retain))
		return WIRE_RETAIN_KEEP;
	if (json_is_string(retain) && strcmp(json_string_value(retain), "forget") == 0)
		return WIRE_RETAIN_FORGET;
	return WIRE_RETAIN_NO;
}

static void publish_tell_hub(struct conn *c, uint64_t retain, const char *topic,
			     const struct packet *packet, const struct wire_out *served, uint64_t n)
{
	struct wire_out out;

	wire_begin(&out, WIRE_EVENT);
	wire_number(&out, retain);
	wire_number(&out, c->number);
	wire_text(&out, topic);
	wire_bytes(&out, packet->bytes, packet->n);
	wire_number(&out, n);
	wire_append(&out, served);
	if (!bus_say_by(c->bus, c, &out))
		event_refused(c->bus, c->number, topic, "the hub does not answer");
}

static void publish_packet(struct conn *c, const char *topic, struct packet *packet,
			   uint64_t retain)
{
	struct bus *bus = c->bus;
	struct wire_out served = {.bytes = NULL};
	bool tell = bus->peers || retain != WIRE_RETAIN_NO;
	struct delivery d = {.bus = bus,
			     .from = c,
			     .packet = packet,
			     .served = tell ? &served : NULL,
			     .plain = true,
			     .local = true,
			     /* With a backend one of all servers' members gets it. */
			     .groups = !bus->backend};

	bus->event++;
	bus->work += topics_each(bus->topics, topic, on_wanted, &d);
	if (tell)
		publish_tell_hub(c, retain, topic, packet, &served, d.n);
	bus_count(bus, BUS_COUNT_published, 1);
	wire_free(&served);
}

int event_publish_inner(struct conn *c, const char *topic, json_t *payload, struct alk_err *err)
{
	const char *colon = strchr(topic, ':');
	char type[TOPIC_TYPE_MAX + 1];
	struct packet *packet;
	size_t n = colon != NULL ? (size_t)(colon - topic) : strlen(topic);

	if (n >= sizeof(type))
		return alk_err_set(err, -EINVAL, "a type has at most %d bytes", TOPIC_TYPE_MAX);
	memcpy(type, topic, n);
	type[n] = '\0';
	if (topic_check_event(type, colon != NULL ? colon + 1 : "", err) < 0)
		return -EINVAL;
	packet = packet_make(type, colon != NULL ? colon + 1 : "", json_incref(payload));
	if (packet == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	if (!packet_fits(c->bus, packet)) {
		packet_unref(&packet);
		return alk_err_set(err, -EINVAL, "the event is longer or deeper than a frame");
	}
	publish_packet(c, topic, packet, event_retain(payload));
	packet_unref(&packet);
	return 0;
}

static void publish_now(struct conn *c, bool allowed, const char *reason)
{
	struct packet *packet;
	char topic[TOPIC_MAX + 1];

	if (!allowed) {
		conn_error(c, "error", c->frame.id, "FORBIDDEN",
			   *reason != '\0' ? reason : "denied by policy");
		return;
	}
	packet = packet_of(&c->reader);
	if (packet == NULL) {
		conn_error(c, "error", c->frame.id, "OVERLOADED", "out of memory");
		return;
	}
	topic_name(topic, c->frame.type, c->frame.id);
	publish_packet(c, topic, packet, event_retain(c->frame.payload));
	packet_unref(&packet);
}

static void publish_again(struct conn *c, bool allowed, const char *reason)
{
	(void)allowed, (void)reason;
	event_publish(c);
}

void event_publish(struct conn *c)
{
	struct alk_err err = {""};

	if (c->bus->work >= BUS_WORK_MAX && !conn_take_turn(c, publish_again))
		return;
	if (topic_check_event(c->frame.type, c->frame.id, &err) < 0) {
		conn_error(c, "error", c->frame.id, "INVALID_INPUT", err.text);
		return;
	}
	conn_ask(c,
		 &(struct alk_channel_question){.kind = ALK_MAY_PUBLISH,
						.name = c->frame.type,
						.id = c->frame.id,
						.size = c->reader.have - sizeof(c->reader.head)},
		 publish_now);
}

/* Other servers and the groups did not get it. */
void event_refused(struct bus *bus, uint64_t connection, const char *topic, const char *why)
{
	struct conn *c = conn_find(bus, connection);
	const char *colon = strchr(topic, ':');

	if (c != NULL && !c->inner)
		conn_error(c, "error", colon != NULL ? colon + 1 : "", "UNAVAILABLE", why);
}

/* The hub had more for this worker than it took; whose it was is not known. */
void event_lost(struct bus *bus, uint64_t n)
{
	for (struct conn *c = bus->conns; c != NULL; c = c->next) {
		if (c->subs == NULL || c->state != CONN_OPEN)
			continue;
		c->dropped += n;
		conn_flush(c);
	}
	bus_count(bus, BUS_COUNT_dropped, n);
}
