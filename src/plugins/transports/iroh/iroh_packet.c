/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "iroh_packet.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* Cut, and with no control characters: it is shown to people. */
static void text_set(char text[256], const char *from)
{
	snprintf(text, 256, "%s", from != NULL ? from : "");
	for (char *c = text; *c != '\0'; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
}

static int number_set(uint64_t *to, json_int_t from)
{
	if (from < 0)
		return -EINVAL;
	*to = (uint64_t)from;
	return 0;
}

static int ready_parse(json_t *body, struct iroh_packet *p)
{
	const char *id;
	json_t *bound, *one;
	size_t i, used = 0;

	p->kind = IROH_PACKET_READY;
	if (json_unpack(body, "{s:s, s:o !}", "id", &id, "bound", &bound) < 0 ||
	    !json_is_array(bound) || iroh_id_unhex(id, p->peer) < 0)
		return -EINVAL;
	json_array_foreach(bound, i, one)
	{
		if (!json_is_string(one))
			return -EINVAL;
		used += (size_t)snprintf(p->text + used, sizeof(p->text) - used, "%s%s",
					 i > 0 ? ", " : "", json_string_value(one));
		if (used >= sizeof(p->text))
			return -EINVAL;
	}
	text_set(p->text, strdupa(p->text));
	return 0;
}

static int link_parse(json_t *body, struct iroh_packet *p)
{
	json_int_t link, dial;
	const char *peer;

	p->kind = IROH_PACKET_LINK;
	if (json_unpack(body, "{s:I, s:I, s:s !}", "link", &link, "dial", &dial, "peer", &peer) <
		    0 ||
	    number_set(&p->link, link) < 0 || number_set(&p->dial, dial) < 0)
		return -EINVAL;
	return iroh_id_unhex(peer, p->peer);
}

static int lost_parse(json_t *body, struct iroh_packet *p)
{
	json_int_t dial;
	const char *text;

	p->kind = IROH_PACKET_LOST;
	if (json_unpack(body, "{s:I, s:s !}", "dial", &dial, "error", &text) < 0)
		return -EINVAL;
	text_set(p->text, text);
	return number_set(&p->dial, dial);
}

static int path_parse(json_t *body, struct iroh_packet *p)
{
	json_int_t link, rtt;
	const char *via;
	int relayed;

	p->kind = IROH_PACKET_PATH;
	if (json_unpack(body, "{s:I, s:b, s:s, s:I !}", "link", &link, "relayed", &relayed, "via",
			&via, "rtt_us", &rtt) < 0 ||
	    number_set(&p->rtt_us, rtt) < 0)
		return -EINVAL;
	p->relayed = relayed != 0;
	text_set(p->text, via);
	return number_set(&p->link, link);
}

static int gone_parse(json_t *body, struct iroh_packet *p)
{
	json_int_t link;

	p->kind = IROH_PACKET_GONE;
	if (json_unpack(body, "{s:I !}", "link", &link) < 0)
		return -EINVAL;
	return number_set(&p->link, link);
}

static int online_parse(json_t *body, struct iroh_packet *p)
{
	const char *relay = NULL, *error = NULL;

	p->kind = IROH_PACKET_ONLINE;
	if (json_unpack(body, "{s?s, s?s !}", "relay", &relay, "error", &error) < 0)
		return -EINVAL;
	text_set(p->text, relay);
	text_set(p->error, error);
	return 0;
}

static int failed_parse(json_t *body, struct iroh_packet *p)
{
	p->kind = IROH_PACKET_FAILED;
	if (!json_is_string(body))
		return -EINVAL;
	text_set(p->text, json_string_value(body));
	return 0;
}

int iroh_packet_parse(const uint8_t *bytes, size_t n, struct iroh_packet *packet)
{
	static const struct {
		const char *name;
		int (*parse)(json_t *body, struct iroh_packet *packet);
	} kinds[] = {
		{"ready", ready_parse},	  {"failed", failed_parse}, {"link", link_parse},
		{"lost", lost_parse},	  {"path", path_parse},	    {"gone", gone_parse},
		{"online", online_parse},
	};
	json_t *said = json_loadb((const char *)bytes, n, JSON_REJECT_DUPLICATES, NULL);
	int rc = -EINVAL;

	memset(packet, 0, sizeof(*packet));
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]) && json_object_size(said) == 1;
	     i++) {
		json_t *body = json_object_get(said, kinds[i].name);

		if (body != NULL)
			rc = kinds[i].parse(body, packet);
	}
	json_decref(said);
	if (rc < 0)
		packet->kind = IROH_PACKET_NONE;
	return rc;
}
