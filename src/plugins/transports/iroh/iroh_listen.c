/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Server: connections come to the helper, which hands each up as a link. */
#include "iroh.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "iroh_packet.h"

#define LISTENER_MAGIC 0x69726c69u
#define BUCKETS 256

/* The helper's number of a link, and the core's. */
struct listener_link {
	struct listener_link *next;
	uint64_t theirs, number;
};

struct alk_listener {
	uint32_t magic;
	struct alk_acceptor up;
	struct iroh_endpoint *endpoint;
	bool paused, *freed; /* freed: while the core takes a link */
	bool online_told;
	char *address; /* as it was asked for */
	struct listener_link *links[BUCKETS];
};

/* ---- links ---- */

static struct listener_link **link_at(struct alk_listener *l, uint64_t theirs)
{
	struct listener_link **at = &l->links[theirs % BUCKETS];

	while (*at != NULL && (*at)->theirs != theirs)
		at = &(*at)->next;
	return at;
}

static void link_forget(struct listener_link **at)
{
	struct listener_link *gone = *at;

	if (gone == NULL)
		return;
	*at = gone->next;
	free(gone);
}

static void links_forget(struct alk_listener *l)
{
	for (unsigned i = 0; i < BUCKETS; i++)
		while (l->links[i] != NULL)
			link_forget(&l->links[i]);
}

static void link_remember(struct alk_listener *l, uint64_t theirs, uint64_t number)
{
	struct listener_link **at = link_at(l, theirs);

	/* Without memory its path is not known, and nothing else. */
	if (number == 0 || *at != NULL || (*at = calloc(1, sizeof(**at))) == NULL)
		return;
	(*at)->theirs = theirs;
	(*at)->number = number;
}

static void link_take(struct alk_listener *l, const struct iroh_packet *packet, int *fd)
{
	struct alk_link link = ALK_LINK_NONE;
	uint64_t number = 0;
	bool freed = false;

	/* Descriptors have run out, here or there: the helper sees its end closed. */
	if (*fd < 0)
		return;
	link.fd = *fd;
	*fd = -1;
	snprintf(link.transport, sizeof(link.transport), "iroh");
	iroh_id_z32(packet->peer, link.peer_id);
	iroh_id_z32(packet->peer, link.remote_addr);
	snprintf(link.local_addr, sizeof(link.local_addr), "%s", iroh_endpoint_id(l->endpoint));
	snprintf(link.alpn, sizeof(link.alpn), "alknet-ssh");
	/* cppcheck-suppress autoVariables */
	l->freed = &freed;
	if (l->up.take != NULL)
		number = l->up.take(l->up.user, &link);
	else
		l->up.accepted(l->up.user, &link);
	if (freed)
		return;
	l->freed = NULL;
	link_remember(l, packet->link, number);
}

static void path_take(struct alk_listener *l, const struct iroh_packet *packet)
{
	const struct listener_link *link = *link_at(l, packet->link);
	const struct alk_link_path path = {.size = sizeof(path),
					   .kind = packet->relayed ? "relay" : "direct",
					   .via = packet->text,
					   .rtt_us = packet->rtt_us};

	if (link != NULL && l->up.path != NULL)
		l->up.path(l->up.user, link->number, &path);
}

static void online_take(struct alk_listener *l, const struct iroh_packet *packet)
{
	if (packet->text[0] != '\0')
		alk_log(ALK_LOG_INFO, "iroh endpoint is reachable",
			ALK_STR("id", iroh_endpoint_id(l->endpoint)),
			ALK_STR("relay", packet->text));
	else
		alk_log(ALK_LOG_WARN,
			l->online_told ? "iroh endpoint is not reachable through a relay any more"
				       : "iroh endpoint is not reachable through a relay yet",
			ALK_STR("id", iroh_endpoint_id(l->endpoint)),
			ALK_STR("reason",
				packet->error[0] != '\0' ? packet->error : "no relay answers"));
	l->online_told = packet->text[0] != '\0';
}

static void on_heard(void *user, const struct iroh_packet *packet, int *fd)
{
	struct alk_listener *l = user;

	assert(l->magic == LISTENER_MAGIC);
	switch (packet->kind) {
	case IROH_PACKET_LINK:
		link_take(l, packet, fd);
		break;
	case IROH_PACKET_PATH:
		path_take(l, packet);
		break;
	case IROH_PACKET_GONE:
		link_forget(link_at(l, packet->link));
		break;
	case IROH_PACKET_ONLINE:
		online_take(l, packet);
		break;
	default:
		break;
	}
}

/* The links have ended with it: their sessions see that. */
static void on_ended(void *user, const char *why)
{
	struct alk_listener *l = user;

	(void)why;
	assert(l->magic == LISTENER_MAGIC);
	links_forget(l);
	l->online_told = false;
}

static void on_started(void *user)
{
	struct alk_listener *l = user;

	assert(l->magic == LISTENER_MAGIC);
	if (l->paused)
		iroh_endpoint_say(l->endpoint, json_pack("{s:b}", "pause", 1));
}

static const struct iroh_endpoint_ops endpoint_ops = {.heard = on_heard,
						      .started = on_started,
						      .ended = on_ended};

/* ---- operations ---- */

int iroh_listen(void *state, const char *address, const struct alk_acceptor *up,
		struct alk_listener **out, struct alk_err *err)
{
	struct iroh *iroh = iroh_of(state);
	json_t *settings = iroh_settings_make(iroh->options, address, err);
	struct alk_listener *l;
	int rc;

	if (settings == NULL)
		return -EINVAL;
	l = calloc(1, sizeof(*l));
	if (l == NULL) {
		json_decref(settings);
		return alk_err_set(err, -ENOMEM, "out of memory");
	}
	l->magic = LISTENER_MAGIC;
	l->up = *up;
	l->address = strdup(address);
	l->endpoint = iroh_endpoint_new(iroh->loop, settings, true, &endpoint_ops, l);
	rc = l->endpoint != NULL && l->address != NULL ? iroh_endpoint_start_now(l->endpoint, err)
						       : alk_err_set(err, -ENOMEM, "out of memory");
	if (rc < 0)
		iroh_unlisten(state, &l);
	else
		*out = l;
	return rc;
}

void iroh_unlisten(void *state, struct alk_listener **listener)
{
	struct alk_listener *l = *listener;

	(void)state;
	*listener = NULL;
	if (l == NULL)
		return;
	assert(l->magic == LISTENER_MAGIC);
	if (l->freed != NULL)
		*l->freed = true;
	iroh_endpoint_free(&l->endpoint);
	links_forget(l);
	free(l->address);
	l->magic = 0;
	free(l);
}

/* Where it cannot be said, the helper ends, and another one hears it from on_started. */
void iroh_pause(void *state, struct alk_listener *l, bool paused)
{
	(void)state;
	if (l->paused == paused)
		return;
	l->paused = paused;
	iroh_endpoint_say(l->endpoint, json_pack("{s:b}", "pause", paused));
}

void iroh_describe(void *state, const struct alk_listener *l, char *text, size_t size)
{
	(void)state;
	snprintf(text, size, "%s", iroh_endpoint_id(l->endpoint));
}

/* Other settings need another endpoint, which would cut the links of this one: the core says that a
 * restart does it. */
int iroh_adopt(void *state, struct alk_listener *l)
{
	struct iroh *iroh = iroh_of(state);
	const json_t *now = iroh_endpoint_settings(l->endpoint);
	json_t *wanted = iroh_settings_make(iroh->options, l->address, NULL);
	bool same = wanted != NULL && json_equal(now, wanted);

	json_decref(wanted);
	return same ? 0 : -EBUSY;
}
