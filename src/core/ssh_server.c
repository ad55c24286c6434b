/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <libssh/server.h>
#include <alknet/log.h>
#include "board.h"
#include "identity.h"
#include "knownhosts.h"
#include "server.h"
#include "ssh_session.h"

#define SERVER_MAGIC 0x53525652u
enum server_state {
	SERVER_ADMIT,
	SERVER_KEX,
	SERVER_AUTH,
	SERVER_OPEN,
};

struct alk_server_host {
	struct alk_loop *loop;
	const struct alk_options *values;
	struct alk_auth *auth;
	struct alk_policy *policy;
	struct alk_route *route;
	struct alk_loader *loader;
	const struct alk_server_ops *ops;
	void *user;
	ssh_bind bind;
	struct alk_server *first;
	bool watched;
};

struct alk_server {
	uint32_t magic;
	enum server_state state;
	struct alk_server_host *host;
	struct alk_server *next, **prev;
	uint64_t number, since;
	struct alk_link link;
	struct alk_ssh ssh;
	bool ssh_made;
	struct alk_timer *grace, *answer;
	struct alk_policy_asked *asked;
	void *admission;
	const struct alk_transport_ops *transport;
	void *transport_state;
	struct alk_route_session from;
	/* Authentication. One request at a time: the next is taken when this one is answered. */
	ssh_message request;
	char user[65], key_type[32], fingerprint[64], reason[128];
	char *key;
	bool proved, user_known;
	unsigned attempts;
	uint64_t before_auth,
		requests; /* packets when authentication began, and those we saw since */
};

static const struct alk_ssh_ops server_ssh_ops;

/* ---- the end ------------------------------------------------------------------------------------ */

static json_t *server_event(const struct alk_server *v, const char *event)
{
	return json_pack("{s:s, s:I, s:s}", "event", event, "session", (json_int_t)v->number,
			 "remote_addr", v->link.remote_addr);
}

static void server_tell(struct alk_server *v, json_t *event)
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

	alk_log(ALK_LOG_INFO, "connection closed", ALK_STR("remote_addr", v->link.remote_addr),
		ALK_NUM("duration", duration));
	if (v->state == SERVER_OPEN && alk_policy_has(v->host->policy, ALK_QUESTION_CLOSE)) {
		struct alk_answer answer;

		alk_policy_ask_now(v->host->policy, &ask, &answer);
		alk_grant_unref(&answer.grant);
	}
	if (v->host->watched) {
		json_t *event = server_event(v, "session.close");

		json_object_set_new(event, "reason", json_string(why));
		json_object_set_new(event, "duration", json_real(duration));
		server_tell(v, event);
	}
}

static void server_free(struct alk_server *v, const char *why)
{
	struct alk_server_host *host = v->host;
	uint64_t number = v->number;

	server_close_told(v, why);
	if (v->asked)
		alk_policy_cancel(&v->asked);
	if (v->admission)
		ALK_OP(v->transport, admit_cancel)(v->transport_state, &v->admission);
	if (v->request)
		ssh_message_free(v->request);
	alk_timer_free(&v->grace);
	alk_timer_free(&v->answer);
	if (v->ssh_made)
		alk_ssh_deinit(&v->ssh);
	else
		alk_link_close(&v->link);
	if (v->state == SERVER_OPEN)
		alk_count(ALK_M_SESSIONS_AUTHENTICATED, -1);
	alk_count(ALK_M_SESSIONS, -1);
	free(v->key);
	if (v->next)
		v->next->prev = v->prev;
	*v->prev = v->next;
	v->magic = 0;
	free(v);
	host->ops->ended(host->user, number);
}

static void on_dead(void *user, int rc, const char *why)
{
	struct alk_server *v = user;

	if (v->state != SERVER_OPEN && rc != -ETIMEDOUT)
		alk_count(ALK_M_HANDSHAKE_ERRORS, 1);
	if (rc < 0)
		alk_log(ALK_LOG_DEBUG, "session ended", ALK_STR("remote_addr", v->link.remote_addr),
			ALK_STR("reason", why));
	server_free(v, why);
}

static void on_grace(void *user)
{
	struct alk_server *v = user;

	alk_count(ALK_M_HANDSHAKE_TIMEOUTS, 1);
	alk_log(ALK_LOG_INFO, "handshake timeout", ALK_STR("remote_addr", v->link.remote_addr));
	if (v->ssh_made)
		alk_ssh_die(&v->ssh, -ETIMEDOUT, "not authenticated in time");
	else
		server_free(v, "not authenticated in time");
}

/* ---- authentication ----------------------------------------------------------------------------- */

static void auth_log(struct alk_server *v, const char *result)
{
	bool accepted = strcmp(result, "accept") == 0;

	alk_count(accepted ? ALK_M_AUTH_ACCEPTED : ALK_M_AUTH_REJECTED, 1);
	alk_log(ALK_LOG_INFO, "auth attempt", ALK_STR("remote_addr", v->link.remote_addr),
		ALK_STR("user", v->user),
		ALK_STR("key_fingerprint", v->fingerprint[0] ? v->fingerprint : NULL),
		ALK_STR("result", result));
	if (v->host->watched) {
		json_t *event = server_event(v, "auth");

		json_object_set_new(event, "user",
				    json_string(alk_auth_user_valid(v->user) ? v->user : ""));
		json_object_set_new(event, "result", json_string(result));
		server_tell(v, event);
	}
}

static void on_answer_time(void *user)
{
	struct alk_server *v = user;

	if (!v->request)
		return;
	alk_ssh_enter(&v->ssh);
	ssh_message_auth_set_methods(v->request, SSH_AUTH_METHOD_PUBLICKEY);
	ssh_message_reply_default(v->request);
	alk_ssh_leave(&v->ssh);
	ssh_message_free(v->request);
	v->request = NULL;
	if (v->attempts >= (unsigned)alk_options_int(v->host->values, "max_auth_attempts"))
		alk_ssh_finish(&v->ssh, "Too many authentication failures");
	alk_ssh_wrote(&v->ssh);
}

/* Refused keys and unknown users look and take the same. */
static void auth_refuse(struct alk_server *v)
{
	v->attempts++;
	auth_log(v, "reject");
	alk_timer_start(v->answer, alk_auth_delay(v->host->auth, v->user));
}

static void auth_accept(struct alk_server *v, struct alk_grant *grant)
{
	struct alk_board *board = alk_board_self;

	alk_ssh_set_grant(&v->ssh, grant);
	v->from = (struct alk_route_session){.id = v->number,
					     .link = &v->link,
					     .user = v->user,
					     .grant = v->ssh.grant};
	v->state = SERVER_OPEN;
	v->ssh.up = true;
	alk_timer_free(&v->grace);
	alk_timer_free(&v->answer);
	alk_ssh_enter(&v->ssh);
	ssh_message_auth_reply_success(v->request, 0);
	alk_ssh_leave(&v->ssh);
	ssh_message_free(v->request);
	v->request = NULL;
	free(v->key);
	v->key = NULL;
	alk_count(ALK_M_SESSIONS_AUTHENTICATED, 1);
	snprintf(board->in_hand_identity, sizeof(board->in_hand_identity), "%s",
		 grant->identity.id);
	auth_log(v, "accept");
	v->host->ops->authenticated(v->host->user, v->number);
	alk_ssh_wrote(&v->ssh);
}

static bool auth_penalised(struct alk_server *v)
{
	uint64_t now = alk_loop_now(v->host->loop);

	if (!alk_auth_penalised(v->host->auth, v->fingerprint, now) &&
	    !alk_auth_penalised(v->host->auth, v->link.remote_addr, now))
		return false;
	alk_count(ALK_M_PENALTIES, 1);
	return true;
}

/* The built-in decision: the key is one of authorized_keys. Its identity is the key, since the user's
 * name is free text. */
static void auth_builtin(struct alk_server *v)
{
	uint8_t blob[ALK_KEY_BLOB_MAX];
	ssize_t len = alk_base64_decode(v->key, strlen(v->key), blob, sizeof(blob));
	bool known = len > 0 && alk_auth_key_known(v->host->auth, blob, (size_t)len);
	struct alk_grant *grant;

	if (!known || auth_penalised(v)) {
		auth_refuse(v);
		return;
	}
	if (!v->proved) {
		alk_ssh_enter(&v->ssh);
		ssh_message_auth_reply_pk_ok_simple(v->request);
		alk_ssh_leave(&v->ssh);
		ssh_message_free(v->request);
		v->request = NULL;
		alk_ssh_wrote(&v->ssh);
		return;
	}
	grant = alk_grant_new(v->fingerprint, v->user, v->fingerprint, NULL, NULL);
	if (grant)
		auth_accept(v, grant);
	else
		auth_refuse(v);
	alk_grant_unref(&grant);
}

static void on_auth_answer(void *user, const struct alk_answer *answer)
{
	struct alk_server *v = user;

	v->asked = NULL;
	if (!v->request)
		return;
	if (answer->verdict == ALK_VERDICT_PASS) {
		auth_builtin(v);
	} else if (answer->verdict == ALK_VERDICT_ALLOW && answer->grant &&
		   !alk_auth_penalised(v->host->auth, answer->grant->identity.id,
				       alk_loop_now(v->host->loop)) &&
		   !auth_penalised(v)) {
		auth_accept(v, answer->grant);
	} else {
		auth_refuse(v);
	}
}

static void auth_decide(struct alk_server *v)
{
	struct alk_ask ask = {
		.question = ALK_QUESTION_AUTH,
		.session = v->number,
		.link = &v->link,
		.user = v->user,
		.key_type = v->key_type,
		.key_fingerprint = v->fingerprint,
		.key = v->key,
	};

	if (!alk_policy_has(v->host->policy, ALK_QUESTION_AUTH)) {
		auth_builtin(v);
		return;
	}
	if (!v->proved) {
		/* A script judges proved keys alone, so every offered key is worth a signature. */
		alk_ssh_enter(&v->ssh);
		ssh_message_auth_reply_pk_ok_simple(v->request);
		alk_ssh_leave(&v->ssh);
		ssh_message_free(v->request);
		v->request = NULL;
		alk_ssh_wrote(&v->ssh);
		return;
	}
	v->asked = alk_policy_ask(v->host->policy, &ask, on_auth_answer, v);
	if (!v->asked)
		auth_refuse(v);
}

static bool auth_read_key(struct alk_server *v, ssh_key key)
{
	char *b64 = NULL;

	v->fingerprint[0] = '\0';
	free(v->key);
	v->key = NULL;
	if (!key || ssh_key_type(key) != SSH_KEYTYPE_ED25519)
		return false;
	if (alk_key_fingerprint(key, v->fingerprint, sizeof(v->fingerprint)) < 0 ||
	    ssh_pki_export_pubkey_base64(key, &b64) != SSH_OK)
		return false;
	v->key = strdup(b64);
	ssh_string_free_char(b64);
	snprintf(v->key_type, sizeof(v->key_type), "%s", ssh_key_type_to_char(ssh_key_type(key)));
	return v->key != NULL;
}

#pragma GCC diagnostic push
/* The accessors of queued messages are marked deprecated in favour of callbacks, which cannot wait for
 * an answer. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

/* Takes `m`. */
static int auth_request(struct alk_server *v, ssh_message m)
{
	const char *user = ssh_message_auth_user(m);
	int method = ssh_message_subtype(m), state;

	v->request = m;
	if (!user)
		user = "";
	if (v->user_known && strncmp(user, v->user, sizeof(v->user) - 1) != 0) {
		alk_ssh_finish(&v->ssh, "Change of username is not allowed");
		return 0;
	}
	v->user_known = true;
	v->fingerprint[0] = '\0';
	snprintf(v->user, sizeof(v->user), "%s", user);
	if (method == SSH_AUTH_METHOD_NONE) {
		/* How clients ask which methods there are: no attempt, but not for ever. */
		if (v->attempts == 0 && v->requests < 4) {
			on_answer_time(v);
			return 0;
		}
		auth_refuse(v);
		return 0;
	}
	state = method == SSH_AUTH_METHOD_PUBLICKEY ? (int)ssh_message_auth_publickey_state(m) : -1;
	if (method != SSH_AUTH_METHOD_PUBLICKEY || !auth_read_key(v, ssh_message_auth_pubkey(m)) ||
	    !alk_auth_user_valid(user) ||
	    (state != SSH_PUBLICKEY_STATE_NONE && state != SSH_PUBLICKEY_STATE_VALID)) {
		auth_refuse(v);
		return 0;
	}
	v->proved = state == SSH_PUBLICKEY_STATE_VALID;
	auth_decide(v);
	return 0;
}

/* ---- channels ----------------------------------------------------------------------------------- */

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
static void open_request(struct alk_server *v, ssh_message m)
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

/* Takes `m`. */
static int message(struct alk_server *v, ssh_message m)
{
	switch (ssh_message_type(m)) {
	case SSH_REQUEST_AUTH:
		if (v->state == SERVER_AUTH)
			return auth_request(v, m);
		break;
	case SSH_REQUEST_SERVICE:
		if (v->state == SERVER_AUTH && ssh_message_service_service(m) &&
		    strcmp(ssh_message_service_service(m), "ssh-userauth") == 0) {
			ssh_message_service_reply_success(m);
			ssh_message_free(m);
			return 0;
		}
		break;
	case SSH_REQUEST_CHANNEL_OPEN:
		if (v->state == SERVER_OPEN) {
			open_request(v, m);
			return 0;
		}
		break;
	default: /* session, exec, X11, agent, forwards: refused */
		break;
	}
	alk_ssh_enter(&v->ssh);
	ssh_message_reply_default(m);
	alk_ssh_leave(&v->ssh);
	ssh_message_free(m);
	return 0;
}

#pragma GCC diagnostic pop

/* ---- the turn ----------------------------------------------------------------------------------- */

static int step_kex(struct alk_server *v)
{
	int rc;

	alk_ssh_enter(&v->ssh);
	rc = ssh_handle_key_exchange(v->ssh.ssh);
	alk_ssh_leave(&v->ssh);
	if (rc == SSH_ERROR)
		return -EPROTO;
	if (alk_ssh_attach(&v->ssh) < 0)
		return -ENOMEM;
	if (rc == SSH_OK) {
		v->state = SERVER_AUTH;
		v->before_auth = v->ssh.raw.in_packets;
	}
	return 0;
}

/* The library drops a request with a bad signature without a word to anybody: what came and was no
 * request that we saw counts as an attempt too. */
static void auth_count_silent(struct alk_server *v)
{
	uint64_t came = v->ssh.raw.in_packets - v->before_auth;
	uint64_t silent = came > v->requests ? came - v->requests : 0;

	if (v->attempts + silent <=
		    (uint64_t)alk_options_int(v->host->values, "max_auth_attempts") ||
	    v->ssh.dying)
		return;
	v->fingerprint[0] = '\0';
	auth_log(v, "reject");
	alk_ssh_finish(&v->ssh, "Too many authentication failures");
}

static int on_step(void *user)
{
	struct alk_server *v = user;
	struct alk_board *board = alk_board_self;
	ssh_message m;
	int rc = 0;

	if (strcmp(board->in_hand_addr, v->link.remote_addr) != 0)
		memcpy(board->in_hand_addr, v->link.remote_addr, sizeof(board->in_hand_addr));
	if (v->state == SERVER_KEX && (rc = step_kex(v)) < 0)
		return rc;
	while (v->state != SERVER_KEX && !v->request && !v->ssh.dying && !v->ssh.finishing &&
	       rc == 0) {
		alk_ssh_enter(&v->ssh);
		m = ssh_message_get(v->ssh.ssh);
		alk_ssh_leave(&v->ssh);
		if (!m)
			break;
		v->requests++;
		rc = message(v, m);
	}
	if (v->state == SERVER_AUTH && !v->request)
		auth_count_silent(v);
	return rc;
}

static const struct alk_ssh_ops server_ssh_ops = {.step = on_step, .dead = on_dead};

/* ---- the beginning ------------------------------------------------------------------------------ */

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
	v->ssh.link = v->number;
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
	v->state = SERVER_KEX;
	rc = alk_ssh_start(&v->ssh, fd, err);
	if (rc == 0)
		alk_ssh_wrote(&v->ssh);
	return rc;
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
	struct alk_server *v = user;

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
	struct alk_server *v = user;

	v->admission = NULL;
	if (rc < 0) {
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
		v->answer = alk_timer_new(host->loop, "auth answer", on_answer_time, v);
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
	v->link = *link;
	link->fd = -1;
	v->next = host->first;
	v->prev = &host->first;
	if (v->next)
		v->next->prev = &v->next;
	host->first = v;
	alk_count(ALK_M_SESSIONS, 1);
	alk_count(ALK_M_SESSIONS_TOTAL, 1);
	alk_log(ALK_LOG_INFO, "connection opened", ALK_STR("remote_addr", v->link.remote_addr),
		ALK_STR("transport", v->link.transport));
	if (host->watched)
		server_tell(v, server_event(v, "session.open"));
	alk_timer_start(v->grace, (uint64_t)alk_options_int(host->values, "handshake_timeout"));
	server_admit(v);
	return 0;
}

void alk_server_finish(struct alk_server *v, const char *why)
{
	if (v->ssh_made)
		alk_ssh_finish(&v->ssh, why);
	else
		server_free(v, why);
}

/* ---- the host ----------------------------------------------------------------------------------- */

static int host_set(ssh_bind bind, enum ssh_bind_options_e option, const char *value,
		    struct alk_err *err)
{
	if (ssh_bind_options_set(bind, option, value) < 0)
		return alk_err_set(err, -EINVAL, "libssh refuses %s: %s", value,
				   ssh_get_error(bind));
	return 0;
}

/* THREATS 5: only key exchanges that take a millisecond; AEAD ciphers first; nothing with SHA-1. */
static int host_algorithms(ssh_bind bind, struct alk_err *err)
{
	static const char kex[] =
		"curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256";
	static const char ciphers[] = "chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,"
				      "aes128-gcm@openssh.com";
	static const char macs[] = "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com";
	int rc = host_set(bind, SSH_BIND_OPTIONS_KEY_EXCHANGE, kex, err);

	if (rc == 0)
		rc = host_set(bind, SSH_BIND_OPTIONS_CIPHERS_C_S, ciphers, err);
	if (rc == 0)
		rc = host_set(bind, SSH_BIND_OPTIONS_CIPHERS_S_C, ciphers, err);
	if (rc == 0)
		rc = host_set(bind, SSH_BIND_OPTIONS_HMAC_C_S, macs, err);
	if (rc == 0)
		rc = host_set(bind, SSH_BIND_OPTIONS_HMAC_S_C, macs, err);
	if (rc == 0)
		rc = host_set(bind, SSH_BIND_OPTIONS_HOSTKEY_ALGORITHMS, "ssh-ed25519", err);
	if (rc == 0)
		rc = host_set(bind, SSH_BIND_OPTIONS_PUBKEY_ACCEPTED_KEY_TYPES, "ssh-ed25519", err);
	if (rc == 0)
		rc = host_set(bind, SSH_BIND_OPTIONS_BANNER, "alknet", err);
	return rc;
}

struct alk_server_host *alk_server_host_new(struct alk_loop *loop, const struct alk_conf *conf,
					    struct alk_auth *auth, struct alk_policy *policy,
					    struct alk_route *route, struct alk_loader *loader,
					    const struct alk_server_ops *ops, void *user,
					    struct alk_err *err)
{
	struct alk_server_host *host = calloc(1, sizeof(*host));
	size_t len = 0;
	const char *text = alk_conf_file(conf, "key", 0, &len);
	ssh_key key = NULL;
	bool no = false;

	if (!host || !text) {
		alk_err_set(err, -EINVAL, "no host key: say --key PATH");
		goto fail;
	}
	host->loop = loop;
	host->values = alk_conf_values(conf);
	host->auth = auth;
	host->policy = policy;
	host->route = route;
	host->loader = loader;
	host->ops = ops;
	host->user = user;
	host->bind = ssh_bind_new();
	if (!host->bind) {
		alk_err_set(err, -ENOMEM, "out of memory");
		goto fail;
	}
	ssh_bind_options_set(host->bind, SSH_BIND_OPTIONS_PROCESS_CONFIG, &no);
	key = alk_identity_parse(alk_options_str(host->values, "key"), text, len, NULL, NULL, err);
	if (!key)
		goto fail;
	if (ssh_bind_options_set(host->bind, SSH_BIND_OPTIONS_IMPORT_KEY, key) < 0) {
		ssh_key_free(key);
		alk_err_set(err, -EINVAL, "libssh refuses the host key");
		goto fail;
	}
	if (host_algorithms(host->bind, err) < 0)
		goto fail;
	return host;
fail:
	alk_server_host_free(&host);
	return NULL;
}

void alk_server_host_free(struct alk_server_host **host)
{
	if (!*host)
		return;
	while ((*host)->first)
		server_free((*host)->first, "the server stops");
	if ((*host)->bind)
		ssh_bind_free((*host)->bind);
	free(*host);
	*host = NULL;
}

void alk_server_host_watch(struct alk_server_host *host, bool on)
{
	host->watched = on;
}

struct alk_server *alk_server_find(struct alk_server_host *host, uint64_t number)
{
	struct alk_server *v;

	for (v = host->first; v && v->number != number; v = v->next)
		;
	return v;
}

struct alk_server *alk_server_next(struct alk_server_host *host, struct alk_server *after)
{
	return after ? after->next : host->first;
}

void alk_server_host_tick(struct alk_server_host *host)
{
	uint64_t every = (uint64_t)alk_options_int(host->values, "keepalive");
	struct alk_server *v;

	for (v = host->first; v; v = v->next)
		if (v->state == SERVER_OPEN)
			alk_ssh_keepalive(&v->ssh, every, 3 * every);
}

json_t *alk_server_describe(const struct alk_server *v)
{
	static const char *const states[] = {"admit", "key exchange", "authentication", "open"};
	double age = (double)(alk_loop_now(v->host->loop) - v->since) / 1000;

	return json_pack("{s:I, s:s, s:s, s:s, s:i, s:s, s:s*, s:s*, s:i, s:f}", "id",
			 (json_int_t)v->number, "state", states[v->state], "transport",
			 v->link.transport, "remote_addr", v->link.remote_addr, "remote_port",
			 (int)v->link.remote_port, "user",
			 alk_auth_user_valid(v->user) ? v->user : "", "identity",
			 v->ssh.grant ? v->ssh.grant->identity.id : NULL, "key_fingerprint",
			 v->fingerprint[0] ? v->fingerprint : NULL, "channels",
			 (int)v->ssh.n_channels, "age", age);
}

json_t *alk_server_channels(const struct alk_server *v)
{
	json_t *list = json_array();
	struct alk_channel *c = NULL;
	struct alk_channel_info info;

	while (v->ssh_made && (c = alk_ssh_channel_next(&v->ssh, c))) {
		alk_channel_get_info(c, &info);
		json_array_append_new(list,
				      json_pack("{s:I, s:I, s:s, s:b, s:b, s:f}", "session",
						(json_int_t)v->number, "id", (json_int_t)info.id,
						"state", info.open ? "open" : "opening", "eof_in",
						info.eof_in, "eof_out", info.eof_out, "age",
						info.age));
	}
	return list;
}

bool alk_server_close_channel(struct alk_server *v, uint64_t id)
{
	struct alk_channel *c = NULL;

	while (v->ssh_made && (c = alk_ssh_channel_next(&v->ssh, c))) {
		if (alk_channel_id(c) == id) {
			alk_channel_close(c);
			return true;
		}
	}
	return false;
}
