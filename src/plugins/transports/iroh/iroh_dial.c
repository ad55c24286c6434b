/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Client: links that are asked for. The helper is started for the first and kept: it knows the way
 * by then. */
#include "iroh.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "iroh_packet.h"

#define DIALING_MAGIC 0x69726469u

struct iroh_dialing {
	uint32_t magic;
	struct iroh_dialing *next, **prev;
	uint64_t number;
	alk_link_fn *done;
	void *user;
};

static void dialing_free(struct iroh_dialing *d)
{
	if (d->next != NULL)
		d->next->prev = d->prev;
	*d->prev = d->next;
	d->magic = 0;
	free(d);
}

static void dialing_end(struct iroh_dialing *d, int rc, struct alk_link *link,
			const struct alk_err *err)
{
	alk_link_fn *done = d->done;
	void *user = d->user;

	dialing_free(d);
	done(user, rc, link, err);
}

static void dialing_fail(struct iroh_dialing *d, const char *why)
{
	struct alk_link none = ALK_LINK_NONE;
	struct alk_err err;

	alk_err_set(&err, -EHOSTUNREACH, "%s", why);
	dialing_end(d, -EHOSTUNREACH, &none, &err);
}

static struct iroh_dialing *dialing_find(struct iroh *iroh, uint64_t number)
{
	struct iroh_dialing *d = iroh->dialings;

	while (d != NULL && d->number != number)
		d = d->next;
	return d;
}

static void link_take(struct iroh *iroh, const struct iroh_packet *packet, int *fd)
{
	struct iroh_dialing *d = dialing_find(iroh, packet->dial);
	struct alk_link link = ALK_LINK_NONE;
	struct alk_err err = {""};

	/* It was cancelled: the descriptor is closed, and the helper sees that. */
	if (d == NULL)
		return;
	if (*fd < 0) {
		dialing_fail(d, "out of file descriptors");
		return;
	}
	link.fd = *fd;
	*fd = -1;
	snprintf(link.transport, sizeof(link.transport), "iroh");
	iroh_id_z32(packet->peer, link.peer_id);
	iroh_id_z32(packet->peer, link.remote_addr);
	snprintf(link.alpn, sizeof(link.alpn), "alknet-ssh");
	iroh->last_link = packet->link;
	iroh->path.known = false;
	dialing_end(d, 0, &link, &err);
}

static void path_take(struct iroh *iroh, const struct iroh_packet *packet)
{
	if (packet->link != iroh->last_link)
		return;
	if (!iroh->path.known || iroh->path.relayed != packet->relayed ||
	    strcmp(iroh->path.via, packet->text) != 0)
		alk_log(ALK_LOG_INFO, "path", ALK_STR("path", packet->relayed ? "relay" : "direct"),
			ALK_STR("via", packet->text), ALK_INT("rtt_us", (int64_t)packet->rtt_us));
	iroh->path.known = true;
	iroh->path.relayed = packet->relayed;
	iroh->path.rtt_us = packet->rtt_us;
	snprintf(iroh->path.via, sizeof(iroh->path.via), "%s", packet->text);
}

static void on_heard(void *user, const struct iroh_packet *packet, int *fd)
{
	struct iroh *iroh = iroh_of(user);
	struct iroh_dialing *d;

	switch (packet->kind) {
	case IROH_PACKET_LINK:
		link_take(iroh, packet, fd);
		break;
	case IROH_PACKET_LOST:
		d = dialing_find(iroh, packet->dial);
		if (d != NULL)
			dialing_fail(d, packet->text);
		break;
	case IROH_PACKET_PATH:
		path_take(iroh, packet);
		break;
	case IROH_PACKET_GONE:
		if (packet->link == iroh->last_link)
			iroh->path.known = false;
		break;
	default:
		break;
	}
}

/* The core dials again, which starts it again. */
static void on_ended(void *user, const char *why)
{
	struct iroh *iroh = iroh_of(user);

	iroh->path.known = false;
	iroh->last_link = 0;
	for (struct iroh_dialing *d = iroh->dialings, *next; d != NULL; d = next) {
		next = d->next;
		dialing_fail(d, why);
	}
}

static const struct iroh_endpoint_ops endpoint_ops = {.heard = on_heard, .ended = on_ended};

static int endpoint_ready(struct iroh *iroh, struct alk_err *err)
{
	json_t *settings;

	if (iroh->endpoint == NULL) {
		settings = iroh_settings_make(iroh->options, NULL, err);
		if (settings == NULL)
			return -EINVAL;
		iroh->endpoint = iroh_endpoint_new(iroh->loop, settings, false, &endpoint_ops,
						   iroh);
		if (iroh->endpoint == NULL)
			return alk_err_set(err, -ENOMEM, "out of memory");
	}
	return iroh_endpoint_start(iroh->endpoint, err);
}

static json_t *dial_packet(const struct iroh *iroh, uint64_t number, const char *peer)
{
	json_t *addresses = json_array();
	const char *text;

	for (size_t i = 0; (text = alk_options_nth(iroh->options, "peer_address", i)) != NULL; i++)
		json_array_append_new(addresses, json_string(text));
	return json_pack("{s:{s:I, s:s, s:o, s:I}}", "dial", "dial", (json_int_t)number, "peer",
			 peer, "addresses", addresses, "timeout_ms", (json_int_t)iroh->timeout_ms);
}

void *iroh_dial(void *state, const char *address, alk_link_fn *done, void *user,
		struct alk_err *err)
{
	struct iroh *iroh = iroh_of(state);
	uint8_t id[IROH_ID_BYTES];
	char peer[IROH_ID_HEX];
	struct iroh_dialing *d;

	if (iroh_id_parse(address, id) < 0) {
		alk_err_set(err, -EINVAL, "\"%.100s\" is no endpoint id", address);
		return NULL;
	}
	if (endpoint_ready(iroh, err) < 0)
		return NULL;
	d = calloc(1, sizeof(*d));
	if (d == NULL) {
		alk_err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	d->magic = DIALING_MAGIC;
	d->number = ++iroh->last_dial;
	d->done = done;
	d->user = user;
	d->next = iroh->dialings;
	d->prev = &iroh->dialings;
	if (d->next != NULL)
		d->next->prev = &d->next;
	iroh->dialings = d;
	iroh_id_hex(id, peer);
	if (iroh_endpoint_say(iroh->endpoint, dial_packet(iroh, d->number, peer)) < 0) {
		dialing_free(d);
		alk_err_set(err, -EPIPE, "alknet-iroh cannot be spoken to");
		return NULL;
	}
	return d;
}

void iroh_dial_cancel(void *state, void **dialing)
{
	struct iroh *iroh = iroh_of(state);
	struct iroh_dialing *d = *dialing;

	*dialing = NULL;
	if (d == NULL)
		return;
	assert(d->magic == DIALING_MAGIC);
	iroh_endpoint_say(iroh->endpoint, json_pack("{s:I}", "cancel", (json_int_t)d->number));
	dialing_free(d);
}

bool iroh_path(void *state, struct alk_link_path *path)
{
	const struct iroh *iroh = iroh_of(state);

	if (!iroh->path.known)
		return false;
	path->kind = iroh->path.relayed ? "relay" : "direct";
	path->via = iroh->path.via;
	path->rtt_us = iroh->path.rtt_us;
	return true;
}

void iroh_dial_end(struct iroh *iroh)
{
	while (iroh->dialings != NULL)
		dialing_free(iroh->dialings);
	iroh_endpoint_free(&iroh->endpoint);
}
