/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Who is this: one authentication request at a time, judged by the policy, by
 * authorized_keys and by the authorities. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <alknet/log.h>
#include "board.h"
#include "limit.h"
#include "ssh_server.h"

/* What a client may send between the key exchange and the login: a few certificates as long as a
 * packet, and a key shown and proved for each attempt. */
#define AUTH_BYTES_MAX (1u << 20)
#define AUTH_ATTEMPT_BYTES 4096u

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

static void auth_answer_no(struct alk_server *v)
{
	alk_timer_stop(v->answer);
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

void server_on_answer_time(void *user)
{
	struct alk_server *v = server_of(user);

	v->waited = true;
	if (v->request && v->refused)
		auth_answer_no(v);
}

/* Refused keys and unknown users look and take the same: the answer's time was set when the request
 * came, whatever has been looked up since. `why` is for the log; NULL when there is no more to say
 * than no. */
static void auth_refuse(struct alk_server *v, const char *why)
{
	v->attempts++;
	auth_log(v, "reject");
	if (why)
		alk_log(ALK_LOG_INFO, "auth refused", ALK_STR("remote_addr", v->link.remote_addr),
			ALK_STR("user", v->user),
			ALK_STR("key_fingerprint", v->fingerprint[0] ? v->fingerprint : NULL),
			ALK_STR("reason", why));
	v->refused = true;
	if (v->waited)
		auth_answer_no(v);
}

static void auth_accept(struct alk_server *v, struct alk_grant *grant)
{
	alk_ssh_set_grant(&v->ssh, grant);
	v->from = (struct alk_route_session){.id = v->number,
					     .link = &v->link,
					     .user = v->user,
					     .grant = v->ssh.grant};
	v->ssh.policy = v->host->policy;
	v->ssh.from = &v->from;
	v->state = SERVER_OPEN;
	alk_ssh_up(&v->ssh);
	server_remote_begin(v);
	alk_timer_free(&v->grace);
	alk_timer_free(&v->answer);
	alk_ssh_enter(&v->ssh);
	ssh_message_auth_reply_success(v->request, 0);
	alk_ssh_leave(&v->ssh);
	ssh_message_free(v->request);
	v->request = NULL;
	if (v->cert)
		alk_log(ALK_LOG_INFO, "certificate accepted",
			ALK_STR("remote_addr", v->link.remote_addr), ALK_STR("user", v->user),
			ALK_STR("key_id", v->cert->key_id),
			ALK_INT("serial", (int64_t)v->cert->serial),
			ALK_STR("ca_fingerprint", v->ca_fingerprint));
	if (!v->host->recheck)
		server_key_drop(v);
	alk_count(ALK_M_SESSIONS_AUTHENTICATED, 1);
	v->host->ops->login(v->host->user, v->number);
	alk_observe(ALK_H_HANDSHAKE, alk_board_now_us() - v->since_us);
	auth_log(v, "accept");
	alk_ssh_wrote(&v->ssh);
}

/* This key is worth a signature. */
static void auth_go_on(struct alk_server *v)
{
	alk_ssh_enter(&v->ssh);
	alk_timer_stop(v->answer);
	ssh_message_auth_reply_pk_ok_simple(v->request);
	alk_ssh_leave(&v->ssh);
	ssh_message_free(v->request);
	v->request = NULL;
	alk_ssh_wrote(&v->ssh);
}

static bool auth_penalised(struct alk_server *v, const char *id)
{
	uint64_t now = alk_loop_now(v->host->loop);
	char network[64];

	alk_limit_key(v->link.remote_addr, network, sizeof(network));
	if (!alk_auth_penalised(v->host->auth, v->fingerprint, now) &&
	    !alk_auth_penalised(v->host->auth, id, now) &&
	    !alk_auth_penalised(v->host->auth, network, now))
		return false;
	alk_count(ALK_M_PENALTIES, 1);
	return true;
}

static bool auth_check(struct alk_server *v, bool mapped, struct alk_auth_answer *answer)
{
	struct alk_auth_ask ask = {.key = v->blob,
				   .key_len = v->blob_len,
				   .cert = v->cert,
				   .user = v->user,
				   .remote_addr = v->link.remote_addr,
				   .now = time(NULL),
				   .mapped = mapped};

	return alk_auth_check(v->host->auth, &ask, answer);
}

/* The built-in decision: a line of authorized_keys or an authority speaks for the key. Its identity
 * is the certificate's principal, else the key, since the user's name is free text. */
static void auth_builtin(struct alk_server *v)
{
	struct alk_auth_answer answer;
	struct alk_grant *grant;
	const char *id;

	if (!auth_check(v, false, &answer)) {
		auth_refuse(v, answer.why[0] ? answer.why : NULL);
		return;
	}
	id = answer.principal ? answer.principal : v->fingerprint;
	if (auth_penalised(v, id)) {
		auth_refuse(v, "penalty_time");
		return;
	}
	if (!v->proved) {
		auth_go_on(v);
		return;
	}
	grant = server_key_grant(v, &answer, id, NULL, NULL);
	if (grant)
		auth_accept(v, grant);
	else
		auth_refuse(v, "out of memory");
	alk_grant_unref(&grant);
}

/* The script's identity holds; what was signed stays: it cannot give back what a certificate does
 * not permit. */
static void auth_allowed(struct alk_server *v, struct alk_grant *said)
{
	struct alk_auth_answer answer;
	struct alk_grant *grant;

	if (!auth_check(v, true, &answer)) {
		auth_refuse(v, answer.why);
		return;
	}
	if (auth_penalised(v, said->identity.id)) {
		auth_refuse(v, "penalty_time");
		return;
	}
	grant = v->cert ? server_key_grant(v, &answer, said->identity.id, said->identity.scopes,
					   (const char *const *)said->resources)
			: alk_grant_ref(said);
	if (grant)
		auth_accept(v, grant);
	else
		auth_refuse(v, "out of memory");
	alk_grant_unref(&grant);
}

static void on_auth_answer(void *user, const struct alk_answer *answer)
{
	struct alk_server *v = server_of(user);

	v->asked = NULL;
	if (!v->request)
		return;
	if (answer->verdict == ALK_VERDICT_PASS)
		auth_builtin(v);
	else if (answer->verdict == ALK_VERDICT_ALLOW && answer->grant)
		auth_allowed(v, answer->grant);
	else
		auth_refuse(v, answer->failed || !answer->reason[0] ? "denied by policy"
								    : answer->reason);
}

static void auth_decide(struct alk_server *v)
{
	struct alk_ask ask = {
		.question = ALK_QUESTION_AUTH,
		.session = v->number,
		.link = &v->link,
		.user = v->user,
		.key_type = v->cert ? v->cert->key_type : v->key_type,
		.key_fingerprint = v->fingerprint,
		.key = v->key,
	};
	struct alk_auth_answer answer;

	if (!alk_policy_has(v->host->policy, ALK_QUESTION_AUTH)) {
		auth_builtin(v);
		return;
	}
	/* A script is not asked about what was revoked, nor about what no authority has signed. */
	if (!auth_check(v, true, &answer)) {
		auth_refuse(v, answer.why);
		return;
	}
	if (!v->proved) {
		/* A script judges proved keys alone, so every other key is worth a signature. */
		auth_go_on(v);
		return;
	}
	if (v->cert)
		v->told = alk_ask_cert_new(v->cert);
	ask.cert = v->told;
	if (!v->cert == !v->told)
		v->asked = alk_policy_ask(v->host->policy, &ask, on_auth_answer, v);
	if (!v->asked)
		auth_refuse(v, "out of memory");
}

#pragma GCC diagnostic push
/* The accessors of queued messages are marked deprecated in favour of callbacks, which cannot wait
 * for an answer. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

static void auth_request_none(struct alk_server *v)
{
	/* How clients ask which methods there are: no attempt, but not for ever. */
	if (v->attempts == 0 && v->requests < 4)
		auth_answer_no(v);
	else
		auth_refuse(v, NULL);
}

/* Takes `m`. */
void server_auth_request(struct alk_server *v, ssh_message m)
{
	const char *user = ssh_message_auth_user(m), *why;
	int method = ssh_message_subtype(m), state;

	v->request = m;
	if (!user)
		user = "";
	if (v->user_known && strncmp(user, v->user, sizeof(v->user) - 1) != 0) {
		alk_ssh_finish(&v->ssh, "Change of username is not allowed");
		return;
	}
	v->user_known = true;
	v->fingerprint[0] = '\0';
	v->refused = v->waited = false;
	snprintf(v->user, sizeof(v->user), "%s", user);
	alk_timer_start(v->answer, alk_auth_delay(v->host->auth, v->user));
	if (method == SSH_AUTH_METHOD_NONE) {
		auth_request_none(v);
		return;
	}
	if (method != SSH_AUTH_METHOD_PUBLICKEY) {
		auth_refuse(v, NULL);
		return;
	}
	state = (int)ssh_message_auth_publickey_state(m);
	why = server_key_read(v, ssh_message_auth_pubkey(m));
	if (!why && !alk_auth_user_valid(user))
		why = "a user name that cannot be";
	if (why || (state != SSH_PUBLICKEY_STATE_NONE && state != SSH_PUBLICKEY_STATE_VALID)) {
		auth_refuse(v, why);
		return;
	}
	v->proved = state == SSH_PUBLICKEY_STATE_VALID;
	auth_decide(v);
}

#pragma GCC diagnostic pop

/* The library drops a request with a bad signature without a word to anybody, and keeps what comes
 * while one is being judged: what came and was no request that we saw counts as an attempt too. All
 * that it keeps is bounded by the bytes that came, whatever they were. */
void server_auth_bound(struct alk_server *v)
{
	uint64_t came = v->ssh.raw.in_packets - v->before_auth;
	uint64_t unseen = came > v->requests ? came - v->requests : 0;
	uint64_t most = (uint64_t)alk_options_int(v->host->values, "max_auth_attempts");
	bool much = v->ssh.sock.in_bytes - v->bytes_before_auth >
		    AUTH_BYTES_MAX + most * AUTH_ATTEMPT_BYTES;

	if (v->ssh.dying || (!much && v->attempts + unseen <= most))
		return;
	v->misdeed = ALK_MISDEED_AUTHFAIL;
	if (!v->request)
		v->fingerprint[0] = '\0';
	if (!v->ssh.finishing)
		auth_log(v, "reject");
	/* Who does not wait for answers is not waited for: the library would keep what comes. */
	if (much)
		alk_ssh_die(&v->ssh, -EPROTO, "too many bytes before the login");
	else if (v->request)
		alk_ssh_die(&v->ssh, -EPROTO, "Too many authentication failures");
	else
		alk_ssh_finish(&v->ssh, "Too many authentication failures");
}
