/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "hub.h"

#include <stdlib.h>
#include <string.h>

/* Where the topic is among the sorted ones, or has to go. */
static size_t kept_place(const struct hub *hub, const char *topic, bool *found)
{
	size_t low = 0, high = hub->n_kept;

	*found = false;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(hub->by_topic[middle]->topic, topic);

		if (order == 0) {
			*found = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void kept_remove(struct hub *hub, size_t at)
{
	struct hub_kept *kept = hub->by_topic[at];

	hub->n_kept--;
	memmove(hub->by_topic + at, hub->by_topic + at + 1,
		(hub->n_kept - at) * sizeof(*hub->by_topic));
	hub->kept_bytes -= kept->packet->n;
	TAILQ_REMOVE(&hub->kept, kept, entry);
	packet_unref(&kept->packet);
	free(kept->topic);
	free(kept);
}

void hub_forget(struct hub *hub, const char *topic)
{
	bool found;
	size_t at = kept_place(hub, topic, &found);

	if (found)
		kept_remove(hub, at);
}

bool hub_is_kept(const struct hub *hub, const char *topic)
{
	bool found;

	kept_place(hub, topic, &found);
	return found;
}

void hub_trim(struct hub *hub)
{
	while (hub->n_kept > 0 &&
	       (hub->n_kept > hub->kept_max || hub->kept_bytes > hub->kept_bytes_max))
		hub_forget(hub, TAILQ_FIRST(&hub->kept)->topic);
}

static bool kept_room(struct hub *hub)
{
	size_t size = hub->size_kept > 0 ? hub->size_kept * 2 : 16;
	struct hub_kept **grown;

	if (hub->n_kept < hub->size_kept)
		return true;
	grown = realloc(hub->by_topic, size * sizeof(struct hub_kept *));
	if (grown == NULL)
		return false;
	hub->by_topic = grown;
	hub->size_kept = size;
	return true;
}

void hub_keep(struct hub *hub, const char *topic, const uint8_t *frame, size_t n)
{
	struct hub_kept *kept = calloc(1, sizeof(*kept));
	bool found;
	size_t at;

	hub_forget(hub, topic);
	if (kept == NULL || !kept_room(hub))
		goto fail;
	kept->topic = strdup(topic);
	kept->packet = packet_new(frame, n);
	if (kept->topic == NULL || kept->packet == NULL)
		goto fail;
	at = kept_place(hub, topic, &found);
	memmove(hub->by_topic + at + 1, hub->by_topic + at,
		(hub->n_kept - at) * sizeof(*hub->by_topic));
	hub->by_topic[at] = kept;
	hub->n_kept++;
	hub->kept_bytes += n;
	kept->number = ++hub->last_kept;
	TAILQ_INSERT_TAIL(&hub->kept, kept, entry);
	hub_trim(hub);
	return;
fail:
	alk_log(ALK_LOG_WARN, "a retained value was lost", ALK_STR("reason", "out of memory"));
	if (kept != NULL) {
		packet_unref(&kept->packet);
		free(kept->topic);
	}
	free(kept);
}

void hub_retain(struct hub *hub, const char *topic, const uint8_t *frame, size_t n, uint64_t retain)
{
	if (retain == WIRE_RETAIN_KEEP)
		hub_keep(hub, topic, frame, n);
	else if (retain == WIRE_RETAIN_FORGET)
		hub_forget(hub, topic);
}

void hub_replay(struct hub *hub, struct hub_worker *to, uint64_t tag, const char *pattern)
{
	const struct hub_kept *kept;

	TAILQ_FOREACH(kept, &hub->kept, entry)
	{
		struct wire_out out;
		size_t size;

		if (!topic_match(pattern, kept->topic))
			continue;
		wire_begin(&out, WIRE_REPLAY);
		wire_number(&out, tag);
		wire_number(&out, false);
		wire_bytes(&out, kept->packet->bytes, kept->packet->n);
		size = out.n;
		if (hub_say(hub, to->number, &out))
			to->owed += size;
	}
}
