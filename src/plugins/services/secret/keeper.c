/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "secret.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include "crypt.h"
#include "parts.h"

#define IDENTITY_MAX 1024

/* A worker that has said the beginning of something. */
struct secret_peer {
	struct secret_peer *next;
	uint64_t worker;
	struct secret_parts parts;
};

static struct secret_peer **peer_find(struct secret_keeper *keeper, uint64_t worker)
{
	struct secret_peer **at = &keeper->peers;

	while (*at != NULL && (*at)->worker != worker)
		at = &(*at)->next;
	return at;
}

static void peer_free(struct secret_peer **at)
{
	struct secret_peer *peer = *at;

	*at = peer->next;
	secret_parts_clear(&peer->parts);
	free(peer);
}

static void on_expiry(void *user)
{
	struct secret_keeper *keeper = user;
	uint64_t ms = secret_store_expire(keeper->store, alk_loop_now(keeper->loop));

	if (ms > 0)
		alk_timer_start(keeper->expiry, ms);
}

/* No core file, no debugger: also in a program that embeds us and did not do it. */
static void process_protect(void)
{
	const struct rlimit none = {0};

	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

static void host_key_give(struct secret_keeper *keeper)
{
	const struct secret_request request = {.op = SECRET_DERIVE_ED25519,
					       .path = {(const uint8_t *)keeper->host_key,
							strlen(keeper->host_key)}};
	struct secret_buf out = {0};
	struct secret_answer a;
	char what[160];
	int rc = -ENOMEM;

	secret_keeper_run(keeper, &request, (struct secret_span){0}, "server", &out);
	snprintf(what, sizeof(what), "secret %s", keeper->host_key);
	if (!out.failed && secret_answer_decode(out.bytes, out.len, request.op, &a) == 0)
		rc = a.good ? alk_half_host_key(keeper->half, what, a.private_key.bytes,
						a.public_key.bytes)
			    : -EINVAL;
	if (rc < 0)
		alk_log(ALK_LOG_ERROR, "no host key from the seed",
			ALK_STR("path", keeper->host_key), ALK_STR("reason", strerror(-rc)));
	secret_buf_wipe(&out);
	secret_stack_wipe();
}

int secret_keeper_new(const struct alk_plugin_env *env, void **state, struct alk_err *err)
{
	struct secret_keeper *keeper = calloc(1, sizeof(*keeper));
	struct alk_err locked;

	if (keeper == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	process_protect();
	keeper->magic = SECRET_KEEPER_MAGIC;
	keeper->half = env->half;
	keeper->loop = env->loop;
	*state = keeper;
	keeper->store = secret_store_new(&locked, err);
	if (keeper->store == NULL) {
		secret_keeper_free(state);
		return -ENOMEM;
	}
	keeper->expiry = alk_timer_new(env->loop, "secret cache", on_expiry, keeper);
	if (keeper->expiry == NULL) {
		secret_keeper_free(state);
		return alk_err_set(err, -ENOMEM, "out of memory");
	}
	if (secret_keeper_configure(keeper, env->options, false, err) < 0 ||
	    secret_keeper_configure(keeper, env->options, true, err) < 0) {
		secret_keeper_free(state);
		return -EINVAL;
	}
	if (locked.text[0] != '\0')
		alk_log(ALK_LOG_WARN, "secret memory not locked", ALK_STR("reason", locked.text));
	return 0;
}

static bool same(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

int secret_keeper_check(const char *path, struct alk_err *err)
{
	struct secret_path parsed;
	int rc = secret_path_parse(path, strlen(path), &parsed, err);

	for (unsigned i = 0; rc == 0 && i < parsed.levels; i++)
		if (parsed.index[i] < SECRET_HARDENED)
			rc = alk_err_set(err, -EINVAL,
					 "level %u must be hardened (') for an Ed25519 key", i + 1);
	return rc < 0 ? alk_err_prefix(err, rc, "host_key") : 0;
}

int secret_keeper_configure(struct secret_keeper *keeper, const struct alk_options *options,
			    bool apply, struct alk_err *err)
{
	const char *path = alk_options_str(options, "host_key");
	char *copy = NULL;

	if (!apply)
		return path != NULL ? secret_keeper_check(path, err) : 0;
	secret_store_set_version(keeper->store, (uint32_t)alk_options_int(options, "key_version"));
	if (same(path, keeper->host_key))
		return 0;
	if (path != NULL && (copy = strdup(path)) == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	free(keeper->host_key);
	keeper->host_key = copy;
	if (path == NULL)
		alk_half_host_key(keeper->half, NULL, NULL, NULL);
	else if (secret_store_unlocked(keeper->store))
		host_key_give(keeper);
	return 0;
}

void secret_keeper_free(void **state)
{
	struct secret_keeper *keeper = *state;

	*state = NULL;
	while (keeper->peers != NULL)
		peer_free(&keeper->peers);
	alk_timer_free(&keeper->expiry);
	secret_store_free(&keeper->store);
	free(keeper->host_key);
	keeper->magic = 0;
	free(keeper);
}

void secret_keeper_run(struct secret_keeper *keeper, const struct secret_request *request,
		       struct secret_span passphrase, const char *identity, struct secret_buf *out)
{
	struct secret_audit audit = {0};

	secret_store_run(keeper->store, request, passphrase, alk_loop_now(keeper->loop), out,
			 &audit);
	if (strcmp(audit.result, "ok") == 0)
		keeper->done[request->op]++;
	else
		keeper->failed[request->op]++;
	alk_log(ALK_LOG_INFO, "secret operation", ALK_STR("operation", secret_op_name(request->op)),
		ALK_STR("identity", identity),
		ALK_STR("path", audit.path[0] != '\0' ? audit.path : NULL),
		ALK_STR("result", audit.result));
	on_expiry(keeper);
	if (request->op == SECRET_UNLOCK && strcmp(audit.result, "ok") == 0 &&
	    keeper->host_key != NULL)
		host_key_give(keeper);
}

/* A worker that was taken over says what it likes: all is read as if a peer had said it. */
static void peer_request(struct secret_keeper *keeper, struct secret_peer *peer)
{
	struct secret_parts *parts = &peer->parts;
	struct secret_reader r = {parts->buf.bytes, parts->buf.bytes + parts->buf.len, false};
	struct secret_span who = secret_read_text(&r);
	struct secret_buf out = {0};
	struct secret_request request;
	char identity[IDENTITY_MAX + 1];

	if (r.failed || who.len > IDENTITY_MAX || memchr(who.bytes, '\0', who.len) != NULL ||
	    secret_request_decode(r.at, (size_t)(r.end - r.at), SECRET_OPS, &request) < 0) {
		alk_log(ALK_LOG_WARN, "secret request refused",
			ALK_STR("reason", "the worker's message is not one"));
		secret_fault_encode(&out, SECRET_DERIVATION, "the request could not be read");
	} else {
		memcpy(identity, who.bytes, who.len);
		identity[who.len] = '\0';
		secret_keeper_run(keeper, &request, (struct secret_span){0}, identity, &out);
	}
	if (out.failed) {
		secret_buf_wipe(&out);
		secret_fault_encode(&out, SECRET_DERIVATION, "out of memory");
	}
	/* What fails here is a worker that is gone, or is replaced because it does not read. */
	secret_parts_send(keeper->half, peer->worker, parts->number, out.bytes, out.len);
	secret_buf_wipe(&out);
	secret_stack_wipe();
}

void secret_keeper_message(struct secret_keeper *keeper, uint64_t worker, const uint8_t *bytes,
			   size_t n)
{
	struct secret_peer **at = peer_find(keeper, worker);
	int rc;

	if (*at == NULL) {
		*at = calloc(1, sizeof(**at));
		if (*at == NULL)
			return;
		(*at)->worker = worker;
	}
	rc = secret_parts_take(&(*at)->parts, bytes, n);
	if (rc == 0)
		return;
	if (rc > 0)
		peer_request(keeper, *at);
	else
		alk_log(ALK_LOG_WARN, "secret request refused",
			ALK_STR("reason", "the worker's message is not one"));
	peer_free(at);
}

void secret_keeper_down(struct secret_keeper *keeper, uint64_t worker)
{
	struct secret_peer **at = peer_find(keeper, worker);

	if (*at != NULL)
		peer_free(at);
}

char *secret_keeper_metrics(const struct secret_keeper *keeper)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (out == NULL)
		return NULL;
	fprintf(out,
		"# HELP alknet_secret_unlocked Whether the secret service has its seed.\n"
		"# TYPE alknet_secret_unlocked gauge\nalknet_secret_unlocked %d\n"
		"# HELP alknet_secret_operations_total Operations of the secret service.\n"
		"# TYPE alknet_secret_operations_total counter\n",
		secret_store_unlocked(keeper->store));
	for (unsigned op = 0; op < SECRET_OPS; op++)
		fprintf(out,
			"alknet_secret_operations_total{operation=\"%s\",result=\"ok\"} %" PRIu64
			"\n"
			"alknet_secret_operations_total{operation=\"%s\",result=\"error\"} %" PRIu64
			"\n",
			secret_op_name(op), keeper->done[op], secret_op_name(op),
			keeper->failed[op]);
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}
