/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "policy_eval.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <alknet/dial.h>
#include "addr.h"
#include "cert.h"
#include "cert_digest.h"
#include "base64.h"
#include "wire.h"
#include "json_text.h"

#define LIST_MAX 256

struct alk_policy_eval {
	struct alk_policy *policy;
	json_t *params; /* the texts below are its */
	alk_policy_eval_fn *done;
	void *user;
	struct alk_policy_asked *asked;
	enum alk_question order[ALK_QUESTION_COUNT];
	unsigned count, at;
	bool allowed;
	json_t *answers;
	/* what is asked about */
	const char *name, *key_type, *fingerprint;
	char *key; /* base64 */
	char made_fingerprint[ALK_KEY_FINGERPRINT_SIZE];
	struct alk_ask_cert *cert;
	struct alk_link link;
	struct alk_destination to, listen;
	bool gateway_ports;
	struct alk_grant *grant;
};

static void eval_free(struct alk_policy_eval *eval)
{
	json_decref(eval->params);
	json_decref(eval->answers);
	alk_ask_cert_free(&eval->cert);
	alk_grant_unref(&eval->grant);
	free(eval->key);
	free(eval);
}

/* ---- reading the parameters ---- */

static const char *text_of(const json_t *params, const char *key)
{
	return json_string_value(json_object_get(params, key));
}

static bool is_one_of(const char *key, const char *const *list)
{
	for (; *list; list++)
		if (strcmp(key, *list) == 0)
			return true;
	return false;
}

static int params_check(const json_t *params, struct alk_err *err)
{
	static const char *const texts[] = {"user", "transport",       "sni", "from",
					    "key",  "key_fingerprint", "id",  "key_type",
					    "to",   "listen",	       NULL};
	static const char *const lists[] = {"scopes", "questions", NULL};
	static const char *const words[] = {"gateway_ports", NULL};
	const char *key;
	json_t *value;

	if (!json_is_object(params))
		return alk_err_set(err, -EINVAL, "the question is not an object");
	json_object_foreach((json_t *)params, key, value)
	{
		if (is_one_of(key, texts) && !json_is_string(value))
			return alk_err_set(err, -EINVAL, "%s: must be a text", key);
		if (is_one_of(key, lists) && !json_is_array(value))
			return alk_err_set(err, -EINVAL, "%s: must be a list", key);
		if (is_one_of(key, words) && !json_is_boolean(value))
			return alk_err_set(err, -EINVAL, "%s: must be true or false", key);
		if (!is_one_of(key, texts) && !is_one_of(key, lists) && !is_one_of(key, words))
			return alk_err_set(err, -EINVAL, "there is no such key in a question");
	}
	return 0;
}

static int link_read(struct alk_policy_eval *eval, struct alk_err *err)
{
	const char *from = text_of(eval->params, "from"), *sni = text_of(eval->params, "sni");
	const char *transport = text_of(eval->params, "transport");
	struct alk_sockaddr addr;
	char host[256];

	eval->link = ALK_LINK_NONE;
	snprintf(eval->link.transport, sizeof(eval->link.transport), "%s",
		 transport ? transport : "tcp");
	snprintf(eval->link.sni, sizeof(eval->link.sni), "%s", sni ? sni : "");
	if (!from)
		return 0;
	snprintf(host, sizeof(host), "%s", from);
	if (alk_addr_parse(&addr, host, 0) < 0 &&
	    (alk_addr_split(from, host, sizeof(host), &eval->link.remote_port, false, err) < 0 ||
	     alk_addr_parse(&addr, host, 0) < 0))
		return alk_err_set(err, -EINVAL, "from: must be an address, or one with a port");
	snprintf(eval->link.remote_addr, sizeof(eval->link.remote_addr), "%.63s", host);
	return 0;
}

static int destination_read(const json_t *params, const char *key, bool listen,
			    struct alk_destination *to, struct alk_err *err)
{
	const char *text = text_of(params, key);

	if (!text)
		return 0;
	if (text[0] != '/') {
		if (alk_addr_split(text, to->host, sizeof(to->host), &to->port, listen, err) < 0)
			return alk_err_prefix(err, -EINVAL, "%s", key);
		if (!to->host[0] && !listen)
			return alk_err_set(err, -EINVAL, "%s: has no host", key);
		return 0;
	}
	if (strlen(text) >= sizeof(to->path))
		return alk_err_set(err, -EINVAL, "%s: the path is too long", key);
	snprintf(to->path, sizeof(to->path), "%s", text);
	return 0;
}

/* The key that a certificate is for, and what the certificate says. */
static int cert_read(struct alk_policy_eval *eval, uint8_t *blob, size_t *len, struct alk_err *err)
{
	struct alk_cert *cert = alk_cert_parse(blob, *len, err);
	int rc = 0;

	if (!cert)
		return alk_err_prefix(err, -EINVAL, "key");
	eval->key_type = cert->key_type;
	eval->cert = alk_ask_cert_new(cert);
	if (!eval->cert)
		rc = alk_err_set(err, -ENOMEM, "out of memory");
	memcpy(blob, cert->key, cert->key_len);
	*len = cert->key_len;
	alk_cert_free(&cert);
	return rc;
}

/* "TYPE BASE64 comment": the type is what the blob says that it is. */
static int blob_read(struct alk_policy_eval *eval, const char *base64, size_t n, uint8_t *blob,
		     struct alk_err *err)
{
	ssize_t got = alk_base64_decode(base64, n, blob, ALK_CERT_MAX);
	struct alk_wire wire = {blob, got > 0 ? (size_t)got : 0};
	const uint8_t *type;
	size_t len = wire.left, type_len;
	int rc = 0;

	if (!alk_wire_string(&wire, &type, &type_len) || type_len != strlen(eval->key_type) ||
	    memcmp(type, eval->key_type, type_len) != 0)
		return alk_err_set(err, -EINVAL,
				   "key: is not a line \"TYPE BASE64\" of a .pub file");
	if (alk_cert_key_type(eval->key_type))
		rc = cert_read(eval, blob, &len, err);
	if (rc < 0)
		return rc;
	eval->key = malloc(len * 4 / 3 + 8);
	if (!eval->key || alk_base64_encode(blob, len, eval->key, len * 4 / 3 + 8) < 0 ||
	    alk_key_blob_fingerprint(blob, len, eval->made_fingerprint) < 0)
		return alk_err_set(err, -ENOMEM, "out of memory");
	eval->fingerprint = eval->made_fingerprint;
	return 0;
}

static int key_read(struct alk_policy_eval *eval, struct alk_err *err)
{
	const char *line = text_of(eval->params, "key"), *base64;
	size_t n = line ? strcspn(line, " \t\r\n") : 0;
	char *type;
	uint8_t *blob;
	int rc;

	eval->key_type = text_of(eval->params, "key_type");
	eval->fingerprint = text_of(eval->params, "key_fingerprint");
	if (!line)
		return 0;
	if (eval->key_type || eval->fingerprint)
		return alk_err_set(err, -EINVAL, "key: goes with no key_type or key_fingerprint");
	type = strndup(line, n);
	blob = malloc(ALK_CERT_MAX);
	if (!type || !blob ||
	    json_object_set_new(eval->params, "key_type", json_string(type)) < 0) {
		free(type);
		free(blob);
		return alk_err_set(err, -ENOMEM, "out of memory");
	}
	free(type);
	eval->key_type = text_of(eval->params, "key_type");
	base64 = line + n + strspn(line + n, " \t");
	rc = blob_read(eval, base64, strcspn(base64, " \t\r\n"), blob, err);
	free(blob);
	return rc;
}

static int identity_read(struct alk_policy_eval *eval, struct alk_err *err)
{
	const char *scopes[LIST_MAX + 1] = {NULL}, *id = text_of(eval->params, "id");
	const json_t *list = json_object_get(eval->params, "scopes"), *scope;
	size_t i;

	if (json_array_size(list) > LIST_MAX)
		return alk_err_set(err, -EINVAL, "scopes: more than %d", LIST_MAX);
	json_array_foreach(list, i, scope)
	{
		scopes[i] = json_string_value(scope);
		if (!scopes[i])
			return alk_err_set(err, -EINVAL, "scopes: must be texts");
	}
	if (!id)
		id = eval->fingerprint;
	eval->grant = alk_grant_new(id, eval->name, eval->fingerprint, scopes, NULL);
	return eval->grant ? 0 : alk_err_set(err, -ENOMEM, "out of memory");
}

static void order_add(struct alk_policy_eval *eval, enum alk_question question, bool yes)
{
	if (yes && eval->count < ALK_QUESTION_COUNT)
		eval->order[eval->count++] = question;
}

static bool question_fits(const struct alk_policy_eval *eval, enum alk_question question)
{
	if (question == ALK_QUESTION_OPEN)
		return json_object_get(eval->params, "to");
	if (question == ALK_QUESTION_LISTEN)
		return json_object_get(eval->params, "listen");
	return question != ALK_QUESTION_AUTH || eval->fingerprint;
}

static int questions_read(struct alk_policy_eval *eval, struct alk_err *err)
{
	const json_t *list = json_object_get(eval->params, "questions"), *name;
	enum alk_question question;
	size_t i;

	if (json_array_size(list) > ALK_QUESTION_COUNT)
		return alk_err_set(err, -EINVAL, "questions: more than there are");
	json_array_foreach(list, i, name)
	{
		question = json_is_string(name) ? alk_question_find(json_string_value(name))
						: ALK_QUESTION_COUNT;
		if (question > ALK_QUESTION_LISTEN)
			return alk_err_set(
				err, -EINVAL,
				"questions: on_link, on_auth, on_open and on_listen are known");
		if (!question_fits(eval, question))
			return alk_err_set(err, -EINVAL, "%s: needs %s", alk_question_str(question),
					   question == ALK_QUESTION_OPEN     ? "to"
					   : question == ALK_QUESTION_LISTEN ? "listen"
									     : "a key");
		order_add(eval, question, true);
	}
	if (list)
		return eval->count ? 0 : alk_err_set(err, -EINVAL, "questions: is empty");
	order_add(eval, ALK_QUESTION_LINK, true);
	order_add(eval, ALK_QUESTION_AUTH, eval->fingerprint && !text_of(eval->params, "id"));
	order_add(eval, ALK_QUESTION_OPEN, text_of(eval->params, "to"));
	order_add(eval, ALK_QUESTION_LISTEN, text_of(eval->params, "listen"));
	return 0;
}

static int listen_read(struct alk_policy_eval *eval, struct alk_err *err)
{
	int rc = destination_read(eval->params, "listen", true, &eval->listen, err);

	eval->gateway_ports = json_is_true(json_object_get(eval->params, "gateway_ports"));
	/* As the server does before it asks. */
	if (!eval->gateway_ports && !eval->listen.path[0] && !alk_bind_is_loopback(&eval->listen))
		strcpy(eval->listen.host, "localhost");
	return rc;
}

static int eval_read(struct alk_policy_eval *eval, struct alk_err *err)
{
	int rc = params_check(eval->params, err);

	if (rc < 0)
		return rc;
	eval->name = text_of(eval->params, "user") ? text_of(eval->params, "user") : "";
	if ((rc = link_read(eval, err)) < 0 || (rc = key_read(eval, err)) < 0 ||
	    (rc = identity_read(eval, err)) < 0 ||
	    (rc = destination_read(eval->params, "to", false, &eval->to, err)) < 0 ||
	    (rc = listen_read(eval, err)) < 0)
		return rc;
	return questions_read(eval, err);
}

/* ---- asking ---- */

static void set_text(json_t *object, const char *key, const char *text)
{
	if (text && *text)
		json_object_set_new(object, key, alk_json_text(text));
}

static json_t *strings_json(const char *const *list)
{
	json_t *array = json_array();

	for (; list && *list; list++)
		json_array_append_new(array, alk_json_text(*list));
	return array;
}

static json_t *identity_json(const struct alk_grant *grant)
{
	return json_pack("{s:o, s:o, s:o}", "id", alk_json_text(grant->identity.id), "scopes",
			 strings_json(grant->identity.scopes), "resources",
			 strings_json((const char *const *)grant->resources));
}

static json_t *place_json(const struct alk_answer *answer, const struct alk_destination *asked)
{
	json_t *place = json_object();

	if (answer->path[0] || (asked->path[0] && !answer->host[0])) {
		set_text(place, "path", answer->path[0] ? answer->path : asked->path);
		return place;
	}
	set_text(place, "host", answer->host[0] ? answer->host : asked->host);
	json_object_set_new(place, "port", json_integer(answer->port ? answer->port : asked->port));
	set_text(place, "via", answer->via);
	set_text(place, "bind", answer->bind);
	if (answer->proxy_protocol)
		json_object_set_new(place, "proxy_protocol", json_true());
	return place;
}

static json_t *answer_json(const struct alk_policy_eval *eval, enum alk_question question,
			   const struct alk_answer *answer)
{
	json_t *one = json_pack("{s:s, s:s, s:b, s:I}", "question", alk_question_str(question),
				"word", alk_verdict_str(answer->verdict), "failed", answer->failed,
				"elapsed_us", (json_int_t)answer->elapsed_us);

	set_text(one, "where", answer->where);
	set_text(one, "reason", answer->reason);
	set_text(one, "service", answer->service);
	if (question != ALK_QUESTION_LINK &&
	    (question != ALK_QUESTION_AUTH || answer->verdict != ALK_VERDICT_DENY))
		json_object_set_new(one, "identity", identity_json(eval->grant));
	if (answer->verdict == ALK_VERDICT_FORWARD)
		json_object_set_new(one, "forward", place_json(answer, &eval->to));
	if (answer->verdict == ALK_VERDICT_ALLOW && question == ALK_QUESTION_LISTEN)
		json_object_set_new(one, "listen", place_json(answer, &eval->listen));
	return one;
}

static bool eval_next(struct alk_policy_eval *eval);

static void eval_finish(struct alk_policy_eval *eval)
{
	alk_policy_eval_fn *done = eval->done;
	void *user = eval->user;
	json_t *result = json_pack("{s:b, s:O}", "allowed", eval->allowed, "answers",
				   eval->answers);

	eval_free(eval);
	done(user, result);
}

static void on_answer(void *user, const struct alk_answer *answer)
{
	struct alk_policy_eval *eval = user;

	eval->asked = NULL;
	eval->allowed = answer->verdict != ALK_VERDICT_DENY;
	if (answer->grant) {
		alk_grant_unref(&eval->grant);
		eval->grant = alk_grant_ref(answer->grant);
	}
	json_array_append_new(eval->answers, answer_json(eval, eval->order[eval->at], answer));
	eval->at++;
	if (!eval->allowed || eval->at == eval->count) {
		eval_finish(eval);
	} else if (!eval_next(eval)) {
		eval->allowed = false;
		eval_finish(eval);
	}
}

static bool eval_next(struct alk_policy_eval *eval)
{
	enum alk_question question = eval->order[eval->at];
	const struct alk_ask ask = {
		.question = question,
		.link = &eval->link,
		.user = eval->name,
		.key_type = eval->key_type,
		.key_fingerprint = eval->fingerprint,
		.key = eval->key,
		.cert = eval->cert,
		.grant = eval->grant,
		.to = question == ALK_QUESTION_LISTEN ? &eval->listen : &eval->to,
		.gateway_ports = eval->gateway_ports,
	};

	eval->asked = alk_policy_ask(eval->policy, &ask, on_answer, eval);
	return eval->asked != NULL;
}

struct alk_policy_eval *alk_policy_eval_start(struct alk_policy *policy, const json_t *params,
					      alk_policy_eval_fn *done, void *user,
					      struct alk_err *err)
{
	struct alk_policy_eval *eval = calloc(1, sizeof(*eval));

	if (!eval) {
		alk_err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	eval->policy = policy;
	eval->done = done;
	eval->user = user;
	eval->params = json_deep_copy(params);
	eval->answers = json_array();
	if (!eval->params || !eval->answers)
		alk_err_set(err, -ENOMEM, "out of memory");
	else if (eval_read(eval, err) == 0) {
		if (eval_next(eval))
			return eval;
		alk_err_set(err, -ENOMEM, "out of memory");
	}
	eval_free(eval);
	return NULL;
}

void alk_policy_eval_cancel(struct alk_policy_eval **eval)
{
	struct alk_policy_eval *e = *eval;

	*eval = NULL;
	if (!e)
		return;
	alk_policy_cancel(&e->asked);
	eval_free(e);
}
