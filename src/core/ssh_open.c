/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A channel that the peer asks for: checked, then handed to the routing. */
#include <stdio.h>
#include <string.h>
#include "board.h"
#include "ssh_server.h"

static void open_refuse_now(struct alk_server *v, ssh_message m, enum alk_open_failure why,
			    const char *text)
{
	alk_ssh_reason_keep(&v->ssh, v->ssh.asked - 1, why);
	alk_ssh_enter(&v->ssh);
	ssh_send_debug(v->ssh.ssh, text, 0);
	ssh_message_reply_default(m);
	alk_ssh_leave(&v->ssh);
	ssh_message_free(m);
	alk_count(ALK_M_CHANNELS_REFUSED, 1);
}

/* Takes `m`. */
void server_open_request(struct alk_server *v, ssh_message m)
{
	struct alk_destination to = {
		.port = (uint16_t)ssh_message_channel_request_open_destination_port(m)};
	const char *host, *originator;
	struct alk_channel *c;

	v->ssh.asked++;
	alk_count(ALK_M_CHANNELS_TOTAL, 1);
	if (ssh_message_subtype(m) != SSH_CHANNEL_DIRECT_TCPIP) {
		open_refuse_now(v, m, ALK_OPEN_UNKNOWN_TYPE,
				"open failed: only direct-tcpip channels are served here");
		return;
	}
	host = ssh_message_channel_request_open_destination(m);
	originator = ssh_message_channel_request_open_originator(m);
	if (!host || !*host || strlen(host) >= sizeof(to.host) ||
	    (host[0] == '/' && strlen(host) >= sizeof(to.path))) {
		open_refuse_now(v, m, ALK_OPEN_PROHIBITED, "open failed: bad destination");
		return;
	}
	/* A path where a host stands is a unix socket: how our client asks for one. */
	snprintf(host[0] == '/' ? to.path : to.host,
		 host[0] == '/' ? sizeof(to.path) : sizeof(to.host), "%s", host);
	snprintf(to.originator, sizeof(to.originator), "%s", originator ? originator : "");
	to.originator_port = (uint16_t)ssh_message_channel_request_open_originator_port(m);
	c = alk_ssh_channel_asked(&v->ssh, m);
	if (!c) {
		open_refuse_now(v, m, ALK_OPEN_RESOURCE_SHORTAGE, "open failed: too many channels");
		return;
	}
	if (strcmp(to.host, ALK_REASON_HOST) == 0) {
		alk_ssh_reason_answer(&v->ssh, c, to.port);
		return;
	}
	if (v->host->watched)
		server_tell(v, server_event(v, "channel.open"));
	alk_route_open(v->host->route, &v->from, c, &to);
}
