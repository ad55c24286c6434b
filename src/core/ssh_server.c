/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <alknet/log.h>
#include "board.h"
#include "log_private.h"
#include "readahead.h"
#include "ssh_server.h"
#include "json_text.h"

/* KEXINIT and the client's half of the exchange; a NEWKEYS that is not encrypted yet, with the
 * least padding. */
#define KEX_PACKETS 2
#define NEWKEYS_BYTES 16
/* What a client may send until its keys are exchanged: a few packets more than those, a wrong guess
 * or padding, and one of them as long as the library takes it. It answers each that it does not know,
 * whether the client reads that or not. */
#define KEX_PACKETS_MAX 64
#define KEX_BYTES_MAX (300u * 1024)

/* ---- the end --------------------------------------------------------------------------------- */

json_t *server_event(const struct alk_server *v, const char *event)
{
	return json_pack("{s:s, s:I, s:s}", "event", event, "session", (json_int_t)v->number,
			 "remote_addr", v->link.remote_addr);
}

void server_tell(struct alk_server *v, json_t *event)
{
	if (event && v->host->watched)
		v->host->ops->event(v->host->user, event);
	else
		json_decref(event);
}

static void server_close_told(struct alk_server *v, const char *why)
{
	double duration = (double)(alk_loop_now(v->host->loop) - v->since) / 1000;
	struct alk_ask ask = {
		.question = ALK_QUESTION_CLOSE,
		.session = v->number,
		.link = &v->link,
		.user = v->user,
		.grant = v->ssh.grant,
		.duration = duration,
		.reason = why,
	};

	alk_log_gather(ALK_LOG_INFO, "connection closed",
		       ALK_STR("remote_addr", v->link.remote_addr), ALK_NUM("duration", duration));
	if (v->state == SERVER_OPEN && alk_policy_has(v->host->policy, ALK_QUESTION_CLOSE)) {
		struct alk_answer answer;

		alk_policy_ask_now(v->host->policy, &ask, &answer);
		alk_grant_unref(&answer.grant);
	}
	if (v->host->watched) {
		json_t *event = server_event(v, "session.close");

		json_object_set_new(event, "reason", alk_json_text(why));
		json_object_set_new(event, "duration", json_real(duration));
		server_tell(v, event);
	}
}

/* What a session that ends before it was logged in did wrong. */
static enum alk_misdeed server_misdeed(const struct alk_server *v)
{
	/* Before SSH a peer may be a web browser that came to a port which looks like a web
	 * server. */
	if (v->state == SERVER_OPEN || !v->ssh_made || v->innocent)
		return ALK_MISDEED_NONE;
	if (v->misdeed != ALK_MISDEED_NONE)
		return v->misdeed;
	return v->attempts > 0 ? ALK_MISDEED_AUTHFAIL : ALK_MISDEED_NOAUTH;
}

void server_free(struct alk_server *v, const char *why)
{
	enum alk_misdeed misdeed = server_misdeed(v);
	struct alk_server_host *host = v->host;
	uint64_t number = v->number;
	bool visited = !v->ssh_made && host->ops->visited;

	server_close_told(v, why);
	if (v->asked)
		alk_policy_cancel(&v->asked);
	if (v->admission)
		ALK_OP(v->transport, admit_cancel)(v->transport_state, &v->admission);
	if (v->request)
		ssh_message_free(v->request);
	server_remote_end(v);
	alk_timer_free(&v->grace);
	alk_timer_free(&v->answer);
	if (v->ssh_made)
		alk_ssh_deinit(&v->ssh);
	else
		alk_link_close(&v->link);
	if (v->state == SERVER_OPEN)
		alk_count(ALK_M_SESSIONS_AUTHENTICATED, -1);
	alk_count(ALK_M_SESSIONS, -1);
	server_key_drop(v);
	if (v->next)
		v->next->prev = v->prev;
	*v->prev = v->next;
	v->magic = 0;
	free(v);
	if (misdeed != ALK_MISDEED_NONE && host->ops->misdeed)
		host->ops->misdeed(host->user, number, misdeed);
	if (visited)
		host->ops->visited(host->user, number);
	else
		host->ops->ended(host->user, number);
}

static void on_dead(void *user, int rc, const char *why)
{
	struct alk_server *v = server_of(user);

	if (v->state != SERVER_OPEN && rc != -ETIMEDOUT)
		alk_count(ALK_M_HANDSHAKE_ERRORS, 1);
	if (v->state != SERVER_OPEN && v->ssh.broken)
		v->misdeed = ALK_MISDEED_GARBAGE;
	if (rc < 0)
		alk_log(ALK_LOG_DEBUG, "session ended", ALK_STR("remote_addr", v->link.remote_addr),
			ALK_STR("reason", why));
	server_free(v, why);
}

static void on_grace(void *user)
{
	struct alk_server *v = server_of(user);

	alk_count(ALK_M_HANDSHAKE_TIMEOUTS, 1);
	v->misdeed = ALK_MISDEED_GRACE;
	alk_log(ALK_LOG_INFO, "handshake timeout", ALK_STR("remote_addr", v->link.remote_addr));
	if (v->ssh_made)
		alk_ssh_die(&v->ssh, -ETIMEDOUT, "not authenticated in time");
	else
		server_free(v, "not authenticated in time");
}

/* ---- the turn -------------------------------------------------------------------------------- */

/* Takes `m`. */
static void message(struct alk_server *v, ssh_message m)
{
	switch (ssh_message_type(m)) {
	case SSH_REQUEST_AUTH:
		if (v->state == SERVER_AUTH) {
			server_auth_request(v, m);
			return;
		}
		break;
	case SSH_REQUEST_SERVICE:
		/* Some ask anew before each attempt, as Paramiko does; it is none. */
		if (v->state == SERVER_AUTH && ssh_message_service_service(m) &&
		    strcmp(ssh_message_service_service(m), "ssh-userauth") == 0) {
			ssh_message_service_reply_success(m);
			ssh_message_free(m);
			return;
		}
		break;
	case SSH_REQUEST_CHANNEL_OPEN:
		if (v->state == SERVER_OPEN) {
			server_open_request(v, m);
			return;
		}
		break;
	default: /* session, exec, X11, agent: refused */
		break;
	}
	alk_ssh_enter(&v->ssh);
	ssh_message_reply_default(m);
	alk_ssh_leave(&v->ssh);
	ssh_message_free(m);
}

/* After our half of the exchange the client says NEWKEYS, to which there is no answer, and then
 * what it wants. It is enough to wake up for that. Only once: what comes may be another packet, and
 * the rest of it as short as it likes. */
static void kex_wait(struct alk_server *v, bool again)
{
	if (v->wakes_late)
		alk_ssh_wake_at(&v->ssh, 1);
	v->wakes_late = again && !v->woke_late && v->ssh.raw.in_packets == KEX_PACKETS;
	if (v->wakes_late) {
		alk_ssh_wake_at(&v->ssh, NEWKEYS_BYTES + 1);
		v->woke_late = true;
	}
}

/* All of it is done in the moment of the client's NEWKEYS. What came behind that in the same read is
 * handled before the step hears of it, and belongs to the login. */
static void on_progress(void *user, float done)
{
	struct alk_server *v = server_of(user);

	if (done < 1 || v->before_auth > 0)
		return;
	v->before_auth = v->ssh.raw.in_packets;
	v->bytes_before_auth = v->ssh.sock.in_bytes;
}

static int step_kex(struct alk_server *v)
{
	bool first = !v->ssh.event;
	int rc;

	alk_ssh_enter(&v->ssh);
	rc = ssh_handle_key_exchange(v->ssh.ssh);
	alk_ssh_leave(&v->ssh);
	if (rc == SSH_ERROR)
		return -EPROTO;
	if (alk_ssh_attach(&v->ssh) < 0)
		return -ENOMEM;
	/* Our banner went out before anything was read: the library closes the socket on a peer
	 * that begins with something else, and what was queued by then is lost. By now the client
	 * has said its part. */
	if (first)
		alk_readahead_ready(v->ssh.fd, ALK_IO_READ);
	kex_wait(v, rc == SSH_AGAIN);
	if (rc == SSH_OK) {
		v->state = SERVER_AUTH;
		v->ssh.lockstep = true;
		/* An EXT_INFO; the client has more to say before it needs it. */
		alk_ssh_may_wait(&v->ssh, v->ssh.raw.out_packets);
	}
	return 0;
}

/* End a session that sends more than a key exchange has. */
static void kex_bound(struct alk_server *v)
{
	bool over = v->before_auth > 0;
	uint64_t packets = over ? v->before_auth : v->ssh.raw.in_packets;
	uint64_t bytes = over ? v->bytes_before_auth : v->ssh.sock.in_bytes;

	if (packets <= KEX_PACKETS_MAX && bytes <= KEX_BYTES_MAX)
		return;
	v->misdeed = ALK_MISDEED_GARBAGE;
	alk_ssh_die(&v->ssh, -EPROTO, "too many %s before the keys were exchanged",
		    packets > KEX_PACKETS_MAX ? "packets" : "bytes");
}

static int on_step(void *user)
{
	struct alk_server *v = server_of(user);
	ssh_message m;
	int rc = 0;

	if (v->state == SERVER_KEX) {
		rc = step_kex(v);
		if (rc < 0)
			return rc;
		kex_bound(v);
	}
	while (v->state != SERVER_KEX && !v->request && !v->ssh.dying && !v->ssh.finishing) {
		alk_ssh_enter(&v->ssh);
		m = ssh_message_get(v->ssh.ssh);
		alk_ssh_leave(&v->ssh);
		if (!m)
			break;
		v->requests++;
		message(v, m);
	}
	if (v->state == SERVER_AUTH)
		server_auth_bound(v);
	return rc;
}

static const struct alk_ssh_ops server_ssh_ops = {.step = on_step, .dead = on_dead};

/* ---- the beginning --------------------------------------------------------------------------- */

static int server_begin(struct alk_server *v, struct alk_err *err)
{
	struct alk_server_host *host = v->host;
	uint64_t rekey = (uint64_t)alk_options_int(host->values, "rekey_bytes");
	uint32_t rekey_time = (uint32_t)(alk_options_int(host->values, "rekey_time") / 1000);
	int fd = v->link.fd, rc;

	rc = alk_ssh_init(&v->ssh, host->loop, &server_ssh_ops, v, err);
	if (rc < 0)
		return rc;
	v->ssh_made = true;
	v->ssh.serves = true;
	v->ssh.link = v->number;
	v->ssh.remote_addr = v->link.remote_addr;
	v->ssh.max_channels = (unsigned)alk_options_int(host->values, "max_channels");
	if (rekey)
		ssh_options_set(v->ssh.ssh, SSH_OPTIONS_REKEY_DATA, &rekey);
	if (rekey_time)
		ssh_options_set(v->ssh.ssh, SSH_OPTIONS_REKEY_TIME, &rekey_time);
	v->link.fd = -1; /* the library closes it from here on */
	if (ssh_bind_accept_fd(host->bind, v->ssh.ssh, fd) != SSH_OK) {
		if (ssh_get_fd(v->ssh.ssh) != fd)
			alk_fd_close(&fd);
		return alk_err_set(err, -ENOMEM, "cannot begin SSH: %s", ssh_get_error(host->bind));
	}
	ssh_set_auth_methods(v->ssh.ssh, SSH_AUTH_METHOD_PUBLICKEY);
	ssh_callbacks_init(&v->callbacks);
	v->callbacks.userdata = v;
	v->callbacks.connect_status_function = on_progress;
	if (ssh_set_callbacks(v->ssh.ssh, &v->callbacks) != SSH_OK)
		return alk_err_set(err, -EINVAL, "cannot begin SSH: callbacks");
	v->state = SERVER_KEX;
	rc = alk_ssh_start(&v->ssh, fd, err);
	if (rc < 0)
		return rc;
	alk_ssh_wrote(&v->ssh);
	return 0;
}

static void server_begin_or_free(struct alk_server *v)
{
	struct alk_err err = {""};

	if (server_begin(v, &err) < 0) {
		alk_log(ALK_LOG_WARN, "session refused",
			ALK_STR("remote_addr", v->link.remote_addr), ALK_STR("reason", err.text));
		server_free(v, err.text);
	}
}

static void on_link_answer(void *user, const struct alk_answer *answer)
{
	struct alk_server *v = server_of(user);

	v->asked = NULL;
	if (answer->verdict != ALK_VERDICT_ALLOW) {
		alk_log(ALK_LOG_INFO, "connection denied",
			ALK_STR("remote_addr", v->link.remote_addr),
			ALK_STR("reason", answer->reason));
		server_free(v, "denied by policy");
		return;
	}
	server_begin_or_free(v);
}

static void server_ask_link(struct alk_server *v)
{
	struct alk_ask ask = {.question = ALK_QUESTION_LINK, .link = &v->link};

	if (!alk_policy_has(v->host->policy, ALK_QUESTION_LINK)) {
		server_begin_or_free(v);
		return;
	}
	v->asked = alk_policy_ask(v->host->policy, &ask, on_link_answer, v);
	if (!v->asked)
		server_free(v, "out of memory");
}

static void on_admitted(void *user, int rc, struct alk_link *link, const struct alk_err *err)
{
	struct alk_server *v = server_of(user);

	v->admission = NULL;
	if (rc < 0) {
		alk_log(ALK_LOG_DEBUG, "link refused", ALK_STR("remote_addr", v->link.remote_addr),
			ALK_STR("transport", v->link.transport), ALK_STR("reason", err->text));
		server_free(v, err->text);
		return;
	}
	v->link = *link;
	server_ask_link(v);
}

/* What the transport has to do before SSH; nothing, for tcp. */
static void server_admit(struct alk_server *v)
{
	struct alk_err err = {""};
	struct alk_loaded *loaded = alk_loader_get(v->host->loader, ALK_PLUGIN_TRANSPORT,
						   v->link.transport, &err);
	struct alk_link link;

	if (!loaded) {
		alk_log(ALK_LOG_WARN, "session refused",
			ALK_STR("remote_addr", v->link.remote_addr), ALK_STR("reason", err.text));
		server_free(v, err.text);
		return;
	}
	v->transport = alk_loaded_plugin(loaded)->ops.transport;
	v->transport_state = alk_loaded_state(loaded);
	if (!ALK_OP(v->transport, admit)) {
		server_ask_link(v);
		return;
	}
	link = v->link;
	v->link.fd = -1;
	v->admission = ALK_OP(v->transport, admit)(v->transport_state, &link, on_admitted, v);
	if (!v->admission)
		server_free(v, "out of memory");
}

int alk_server_start(struct alk_server_host *host, uint64_t number, struct alk_link *link,
		     struct alk_err *err)
{
	struct alk_server *v = calloc(1, sizeof(*v));

	if (v) {
		v->grace = alk_timer_new(host->loop, "handshake", on_grace, v);
		v->answer = alk_timer_new(host->loop, "auth answer", server_on_answer_time, v);
	}
	if (!v || !v->grace || !v->answer) {
		if (v) {
			alk_timer_free(&v->grace);
			alk_timer_free(&v->answer);
		}
		free(v);
		alk_link_close(link);
		return alk_err_set(err, -ENOMEM, "out of memory for a session");
	}
	v->magic = SERVER_MAGIC;
	v->host = host;
	v->number = number;
	v->since = alk_loop_now(host->loop);
	v->since_us = alk_board_now_us();
	v->link = *link;
	link->fd = -1;
	v->next = host->first;
	v->prev = &host->first;
	if (v->next)
		v->next->prev = &v->next;
	host->first = v;
	alk_count(ALK_M_SESSIONS, 1);
	alk_count(ALK_M_SESSIONS_TOTAL, 1);
	alk_log_gather(ALK_LOG_INFO, "connection opened",
		       ALK_STR("remote_addr", v->link.remote_addr),
		       ALK_STR("transport", v->link.transport));
	if (host->watched)
		server_tell(v, server_event(v, "session.open"));
	alk_timer_start(v->grace, host->handshake_timeout);
	server_admit(v);
	return 0;
}

void alk_server_finish(struct alk_server *v, const char *why)
{
	v->innocent = true;
	server_remote_end(v);
	if (v->ssh_made)
		alk_ssh_finish(&v->ssh, why);
	else
		server_free(v, why);
}
