/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Who is this: one authentication request at a time, judged by the policy and by authorized_keys. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <alknet/log.h>
#include "board.h"
#include "knownhosts.h"
#include "ssh_server.h"

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

void server_on_answer_time(void *user)
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
	alk_ssh_set_grant(&v->ssh, grant);
	v->from = (struct alk_route_session){.id = v->number,
					     .link = &v->link,
					     .user = v->user,
					     .grant = v->ssh.grant};
	v->state = SERVER_OPEN;
	alk_ssh_up(&v->ssh);
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
	auth_log(v, "accept");
	alk_ssh_wrote(&v->ssh);
}

/* This key is worth a signature. */
static void auth_go_on(struct alk_server *v)
{
	alk_ssh_enter(&v->ssh);
	ssh_message_auth_reply_pk_ok_simple(v->request);
	alk_ssh_leave(&v->ssh);
	ssh_message_free(v->request);
	v->request = NULL;
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
		auth_go_on(v);
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
		auth_go_on(v);
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
void server_auth_request(struct alk_server *v, ssh_message m)
{
	const char *user = ssh_message_auth_user(m);
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
	snprintf(v->user, sizeof(v->user), "%s", user);
	if (method == SSH_AUTH_METHOD_NONE) {
		/* How clients ask which methods there are: no attempt, but not for ever. */
		if (v->attempts == 0 && v->requests < 4) {
			server_on_answer_time(v);
			return;
		}
		auth_refuse(v);
		return;
	}
	state = method == SSH_AUTH_METHOD_PUBLICKEY ? (int)ssh_message_auth_publickey_state(m) : -1;
	if (method != SSH_AUTH_METHOD_PUBLICKEY || !auth_read_key(v, ssh_message_auth_pubkey(m)) ||
	    !alk_auth_user_valid(user) ||
	    (state != SSH_PUBLICKEY_STATE_NONE && state != SSH_PUBLICKEY_STATE_VALID)) {
		auth_refuse(v);
		return;
	}
	v->proved = state == SSH_PUBLICKEY_STATE_VALID;
	auth_decide(v);
}

#pragma GCC diagnostic pop

/* The library drops a request with a bad signature without a word to anybody: what came and was no
 * request that we saw counts as an attempt too. */
void server_auth_count_silent(struct alk_server *v)
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
