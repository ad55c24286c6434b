/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Remote forwards of a server's session: tcpip-forward, cancel-tcpip-forward, and a forwarded-tcpip
 * channel for each connection (RFC 4254 7).
 *
 * Global requests have no number: a client knows the answers by their order alone, and libssh
 * answers keepalives and what it does not know at once. So these are answered at once too, inside
 * of libssh's callback, and never later: the policy may not wait here, and remote_listener.h never
 * has to ask anybody first. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <alknet/log.h>
#include "board.h"
#include "pump.h"
#include "ssh_server.h"

/* Connections that the client has not answered yet. */
#define PENDING_MAX 128
/* libssh 0.10.6 loses the address of each request that a callback saw. An identity may make it lose
 * so much in an hour (an honest one would need thousands of requests); then its sessions end and it
 * has to wait. */
#define LOST_MAX (256u * 1024)
#define LOST_MS 3600000

struct server_remote {
	struct alk_server *v;
	struct server_remote *next;
	struct alk_remote_listener *listener;
	uint16_t port; /* as the client knows it */
	char host[];   /* as it wrote it */
};

/* A connection whose channel the client has not answered. */
struct remote_pending {
	struct alk_server *v;
	int fd;
};

/* ---- connections ----------------------------------------------------------------------------- */

static void on_opened(void *user, struct alk_channel *channel)
{
	struct remote_pending *p = user;
	int fd = p->fd;

	p->fd = -1;
	/* The pump takes the channel's operations, so `close` does not come here any more. */
	p->v->remote_pending--;
	free(p);
	if (alk_pump_start(channel, &fd, NULL, NULL, 0, NULL, NULL) < 0) {
		alk_channel_set_ops(channel, NULL, NULL);
		alk_channel_close(channel);
	}
}

static void on_close(void *user, struct alk_channel *channel)
{
	struct remote_pending *p = user;

	(void)channel;
	alk_fd_close(&p->fd);
	p->v->remote_pending--;
	free(p);
}

static const struct alk_channel_ops pending_ops = {.opened = on_opened, .close = on_close};

static void remote_open(struct server_remote *r, struct alk_link *link)
{
	struct alk_server *v = r->v;
	struct alk_destination to = {.port = r->port, .originator_port = link->remote_port};
	struct remote_pending *p = NULL;
	struct alk_channel *channel;

	alk_count(ALK_M_CHANNELS_TOTAL, 1);
	if (v->remote_pending < PENDING_MAX && !v->ssh.finishing)
		p = calloc(1, sizeof(*p));
	channel = p ? alk_ssh_channel_new(&v->ssh, &pending_ops, p) : NULL;
	if (!channel) {
		free(p);
		alk_count(ALK_M_CHANNELS_REFUSED, 1);
		return;
	}
	p->v = v;
	p->fd = link->fd;
	link->fd = -1;
	v->remote_pending++;
	memcpy(to.host, r->host, strlen(r->host) + 1);
	memcpy(to.originator, link->remote_addr, sizeof(to.originator));
	if (alk_ssh_channel_ask_back(channel, &to) < 0)
		alk_channel_close(channel);
}

static void on_accepted(void *user, struct alk_link *link)
{
	struct server_remote *r = user;

	alk_ssh_hold(&r->v->ssh);
	remote_open(r, link);
	alk_link_close(link);
}

/* ---- listeners ------------------------------------------------------------------------------- */

static void remote_unlink(struct server_remote *r)
{
	struct server_remote **at = &r->v->remotes;

	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	r->v->n_remotes--;
	free(r);
}

/* SSH has no word that takes a yes back but the end of the session: a client that wants the forward
 * comes again and asks anew. One that lost its port to the next session of its identity is left
 * alone: they would fight. */
static void on_lost(void *user, int rc, const char *why)
{
	struct server_remote *r = user;
	struct alk_server *v = r->v;

	alk_log(ALK_LOG_INFO, "remote listener lost", ALK_STR("remote_addr", v->link.remote_addr),
		ALK_STR("reason", why));
	if (v->host->watched)
		server_tell(v, server_event(v, "remote.close"));
	remote_unlink(r);
	if (rc < 0)
		alk_ssh_finish(&v->ssh, "the port of a remote forward could not be taken over");
}

static const struct alk_remote_listener_ops listener_ops = {.accepted = on_accepted,
							    .lost = on_lost};

void server_remote_end(struct alk_server *v)
{
	while (v->remotes) {
		alk_remote_listener_close(&v->remotes->listener);
		remote_unlink(v->remotes);
	}
}

/* Is it to be, and where? `to` is what was asked for, and becomes what is listened on. */
static const char *remote_refusal(struct alk_server *v, struct alk_destination *to)
{
	bool wide = alk_options_bool(v->host->values, "gateway_ports");
	struct alk_ask ask = {.question = ALK_QUESTION_LISTEN,
			      .session = v->number,
			      .link = &v->link,
			      .user = v->user,
			      .grant = v->ssh.grant,
			      .to = to,
			      .gateway_ports = wide};
	struct alk_answer answer;

	if (v->n_remotes >= (unsigned)alk_options_int(v->host->values, "max_remote_forwards"))
		return "too many";
	if (!alk_grant_may_listen(v->ssh.grant, to->host, to->port))
		return "not permitted by the key";
	if (!wide && !alk_bind_is_loopback(to))
		strcpy(to->host, "localhost");
	alk_policy_ask_now(v->host->policy, &ask, &answer);
	alk_grant_unref(&answer.grant);
	if (answer.verdict != ALK_VERDICT_ALLOW || answer.path[0])
		return "denied by policy";
	if (answer.host[0])
		memcpy(to->host, answer.host, sizeof(to->host));
	if (answer.port)
		to->port = answer.port;
	return NULL;
}

static const char *remote_failure(int rc)
{
	switch (rc) {
	case -EADDRINUSE:
		return "the port is in use";
	case -EACCES:
		return "the port is privileged";
	case -EADDRNOTAVAIL:
		return "not an address of this machine";
	case -EINVAL:
		return "not an address";
	default:
		return strerror(-rc);
	}
}

/* NULL and *port, or why not. */
static const char *remote_listen(struct alk_server *v, const char *host, uint16_t *port)
{
	struct alk_destination to = {.port = *port};
	struct alk_remote_ask ask;
	struct server_remote *r;
	const char *why;
	int rc;

	if (strlen(host) >= sizeof(to.host))
		return "not an address";
	memcpy(to.host, host, strlen(host) + 1);
	why = remote_refusal(v, &to);
	if (why)
		return why;
	r = calloc(1, sizeof(*r) + strlen(host) + 1);
	if (!r)
		return "out of memory";
	r->v = v;
	memcpy(r->host, host, strlen(host) + 1);
	ask = (struct alk_remote_ask){.session = v->number,
				      .identity = v->ssh.grant->identity.id,
				      .host = to.host,
				      .port = to.port};
	rc = alk_remote_listen(v->host->remotes, &ask, &listener_ops, r, &r->listener);
	if (rc < 0) {
		free(r);
		return remote_failure(rc);
	}
	r->port = *port ? *port : alk_remote_listener_port(r->listener);
	r->next = v->remotes;
	v->remotes = r;
	v->n_remotes++;
	*port = r->port;
	return NULL;
}

static bool remote_cancel(struct alk_server *v, const char *host, uint16_t port)
{
	struct server_remote *r = v->remotes;

	while (r && (r->port != port || strcmp(r->host, host) != 0))
		r = r->next;
	if (!r)
		return false;
	alk_remote_listener_close(&r->listener);
	remote_unlink(r);
	return true;
}

/* ---- requests -------------------------------------------------------------------------------- */

static void remote_log(struct alk_server *v, const char *why)
{
	alk_count(why ? ALK_M_REMOTE_REFUSED : ALK_M_REMOTE_ACCEPTED, 1);
	alk_log(ALK_LOG_INFO, "remote forward", ALK_STR("remote_addr", v->link.remote_addr),
		ALK_STR("result", why ? "reject" : "accept"), ALK_STR("reason", why));
	if (v->host->watched) {
		json_t *event = server_event(v, "remote.open");

		json_object_set_new(event, "result", json_string(why ? "reject" : "accept"));
		server_tell(v, event);
	}
}

static struct server_lost *lost_find(struct alk_server_host *host, const char *who)
{
	uint64_t now = alk_loop_now(host->loop);
	struct server_lost *at = host->lost;
	size_t i;

	for (i = 0; i < SERVER_LOST_MAX; i++) {
		if (strncmp(host->lost[i].who, who, sizeof(at->who) - 1) == 0) {
			at = &host->lost[i];
			break;
		}
		if (host->lost[i].bytes < at->bytes)
			at = &host->lost[i];
	}
	if (strncmp(at->who, who, sizeof(at->who) - 1) != 0 || now - at->since > LOST_MS) {
		memset(at, 0, sizeof(*at));
		strncpy(at->who, who, sizeof(at->who) - 1);
		at->since = now;
	}
	return at;
}

static void remote_count_lost(struct alk_server *v, const char *host)
{
	struct server_lost *lost = lost_find(v->host, v->ssh.grant->identity.id);
	uint64_t until = alk_loop_now(v->host->loop) +
			 (uint64_t)alk_options_int(v->host->values, "penalty_time");

	lost->bytes += strlen(host) + 1;
	if (lost->bytes <= LOST_MAX || v->ssh.dying)
		return;
	alk_count(ALK_M_SESSIONS_KILLED, 1);
	alk_auth_penalise(v->host->auth, lost->who, until);
	alk_auth_penalise(v->host->auth, v->fingerprint, until);
	alk_ssh_die(&v->ssh, -EPROTO, "too many remote forwards asked for");
}

static void on_forward(struct alk_server *v, ssh_message m, const char *host)
{
	uint16_t port = (uint16_t)ssh_message_global_request_port(m);
	const char *why = remote_listen(v, host, &port);

	remote_log(v, why);
	if (why)
		ssh_message_reply_default(m);
	else
		ssh_message_global_request_reply_success(m, port);
}

/* In dispatch: no libssh but the answer, which it only queues. */
static void on_global(ssh_session ssh, ssh_message m, void *user)
{
	struct alk_server *v = server_of(user);
	const char *host = ssh_message_global_request_address(m);
	int kind = ssh_message_subtype(m);

	(void)ssh;
	host = host ? host : "";
	if (v->ssh.dying || v->ssh.finishing) {
		ssh_message_reply_default(m);
	} else if (kind == SSH_GLOBAL_REQUEST_TCPIP_FORWARD) {
		on_forward(v, m, host);
	} else if (kind == SSH_GLOBAL_REQUEST_CANCEL_TCPIP_FORWARD &&
		   !remote_cancel(v, host, (uint16_t)ssh_message_global_request_port(m))) {
		ssh_message_reply_default(m);
	} else {
		ssh_message_global_request_reply_success(m, 0);
	}
	if (kind != SSH_GLOBAL_REQUEST_KEEPALIVE)
		remote_count_lost(v, host);
}

void server_remote_begin(struct alk_server *v)
{
	v->callbacks.global_request_function = on_global;
}

/* ---- for the admin commands ------------------------------------------------------------------ */

json_t *alk_server_remotes(const struct alk_server *v)
{
	json_t *list = json_array();
	const struct server_remote *r;
	char address[320];

	for (r = v->remotes; r; r = r->next) {
		alk_remote_listener_describe(r->listener, address, sizeof(address));
		json_array_append_new(list, json_pack("{s:s, s:i}", "address", address, "port",
						      (int)r->port));
	}
	return list;
}
