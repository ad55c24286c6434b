/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The supervisor's side: alknet-acme is started again when it ends; what it says is checked before
 * it is believed. */
#include "acme.h"
#include "acme_private.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "../../common/companion.h"
#include "acme_settings.h"

#define ACME_MAGIC 0x61636d65u
#define RESTART_FIRST 1000
#define RESTART_MAX 300000
#define CALLS_MAX 16

struct acme {
	uint32_t magic;
	struct acme *
		before; /* of an earlier generation: it has no helper as long as this one is there */
	struct alk_loop *loop;
	acme_say_fn *say;
	void *user;
	json_t *settings;
	char *pem; /* key and chain that are served */
	struct acme_pair pair;
	bool self_signed;
	json_t *challenges; /* SNI: PEM */
	json_t *status;	    /* the last that the helper said */

	struct companion program;
	struct alk_io *io;
	struct alk_timer *restart;
	uint64_t restart_ms;

	struct alk_call *call[CALLS_MAX]; /* renew, to be answered */
	unsigned calls;
};

/* The latest of the process. */
static struct acme *latest;

static json_t *names_of(const struct acme *a)
{
	return json_object_get(a->settings, "names");
}

/* ---- the workers ---- */

static void worker_say(struct acme *a, uint64_t worker, const char *name, const json_t *pem)
{
	json_t *message = json_pack("{s:s*, s:O}", "name", name, "pem", pem);
	char *text = message != NULL ? json_dumps(message, JSON_COMPACT) : NULL;

	if (text != NULL)
		a->say(a->user, worker, (const uint8_t *)text, strlen(text));
	else
		alk_log(ALK_LOG_ERROR, "a worker was not told its certificate: out of memory");
	acme_text_free(&text);
	json_decref(message);
}

static void certificate_say(struct acme *a, uint64_t worker)
{
	json_t *pem = json_string(a->pem);

	worker_say(a, worker, NULL, pem);
	json_decref(pem);
}

void acme_worker_up(struct acme *a, uint64_t worker)
{
	const char *name;
	json_t *pem;

	certificate_say(a, worker);
	json_object_foreach(a->challenges, name, pem)
	{
		worker_say(a, worker, name, pem);
	}
}

/* ---- what the helper says ---- */

/* What was on disk may be older than what could not be written there. */
static bool is_wanted(const struct acme *a, const struct acme_pair *pair, bool kept)
{
	return !kept || a->self_signed || !a->pair.for_names ||
	       pair->not_before >= a->pair.not_before;
}

static void certificate_take(struct acme *a, const char *pem, bool kept)
{
	struct alk_err err = {""};
	struct acme_pair pair;
	char *copy;

	if (pem != NULL && strcmp(pem, a->pem) == 0)
		return;
	copy = pem != NULL && strlen(pem) < ACME_PEM_MAX ? strdup(pem) : NULL;
	if (copy == NULL || acme_pair_read(copy, names_of(a), &pair, &err) < 0) {
		alk_log(ALK_LOG_ERROR, "a certificate by ACME was not taken",
			ALK_STR("error", err.text));
		acme_text_free(&copy);
		return;
	}
	if (!is_wanted(a, &pair, kept)) {
		acme_text_free(&copy);
		return;
	}
	acme_text_free(&a->pem);
	a->pem = copy;
	a->pair = pair;
	a->self_signed = false;
	certificate_say(a, ALK_HALF_EVERY_WORKER);
	alk_log(ALK_LOG_INFO, "new TLS certificate by ACME", ALK_INT("not_after", pair.not_after));
}

static int packet_send(struct acme *a, json_t *packet)
{
	char *text = packet != NULL ? json_dumps(packet, JSON_COMPACT) : NULL;
	int rc = text != NULL ? 0 : -ENOMEM;

	if (rc == 0 && send(a->program.fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		rc = -errno;
	acme_text_free(&text);
	json_decref(packet);
	return rc;
}

static void program_say(struct acme *a, json_t *packet)
{
	int rc = packet_send(a, packet);

	if (rc < 0 && a->program.fd >= 0)
		alk_log(ALK_LOG_WARN, "alknet-acme does not listen",
			ALK_STR("error", strerror(-rc)));
}

static void challenge_take(struct acme *a, const json_t *event)
{
	const char *name = json_string_value(json_object_get(event, "name"));
	json_t *pem = json_object_get(event, "pem");

	if (name == NULL || pem == NULL)
		return;
	if (json_is_string(pem) && json_object_get(a->challenges, name) == NULL &&
	    json_object_size(a->challenges) >= ACME_NAMES_MAX)
		return;
	if (json_is_string(pem))
		json_object_set(a->challenges, name, pem);
	else
		json_object_del(a->challenges, name);
	worker_say(a, ALK_HALF_EVERY_WORKER, name, pem);
	if (json_is_string(pem))
		program_say(a, json_pack("{s:b}", "ready", 1));
}

/* Nobody proves anything now. */
static void challenges_end(struct acme *a)
{
	const char *name;
	json_t *pem, *none = json_null();

	json_object_foreach(a->challenges, name, pem)
	{
		worker_say(a, ALK_HALF_EVERY_WORKER, name, none);
	}
	json_object_clear(a->challenges);
}

static void calls_answer(struct acme *a, const char *error)
{
	while (a->calls > 0) {
		struct alk_call *call = a->call[--a->calls];

		if (error != NULL)
			alk_call_fail(&call, "%s", error);
		else
			alk_call_result(&call, "{\"renewed\":true}");
	}
}

/* Loud: what is served goes on, until it runs out. */
static void done_take(struct acme *a, const char *error)
{
	int64_t left = (a->pair.not_after - time(NULL)) / 86400;

	if (error != NULL)
		alk_log(a->self_signed || left < 14 ? ALK_LOG_ERROR : ALK_LOG_WARN,
			"no certificate by ACME", ALK_STR("error", error),
			ALK_STR("served", a->self_signed ? "self-signed" : "the one before"),
			ALK_INT("days_left", left),
			ALK_INT("next", json_integer_value(json_object_get(a->status, "next"))));
	else
		a->restart_ms = RESTART_FIRST;
	calls_answer(a, error);
}

static void event_take(struct acme *a, json_t *packet)
{
	const char *event = acme_text_of(packet, "event");

	if (strcmp(event, "certificate") == 0) {
		certificate_take(a, json_string_value(json_object_get(packet, "pem")),
				 json_is_true(json_object_get(packet, "kept")));
	} else if (strcmp(event, "challenge") == 0) {
		challenge_take(a, packet);
	} else if (strcmp(event, "notice") == 0) {
		alk_log(ALK_LOG_WARN, "ACME", ALK_STR("notice", acme_text_of(packet, "text")));
	} else if (strcmp(event, "done") == 0) {
		done_take(a, json_string_value(json_object_get(packet, "error")));
	} else if (strcmp(event, "status") == 0) {
		json_decref(a->status);
		a->status = json_incref(packet);
	}
}

/* ---- its life ---- */

static void program_end(struct acme *a)
{
	alk_io_free(&a->io);
	companion_end(&a->program);
}

static void program_lost(struct acme *a)
{
	program_end(a);
	challenges_end(a);
	calls_answer(a, "alknet-acme has ended; it is started again");
	alk_log(ALK_LOG_ERROR, "alknet-acme has ended",
		ALK_INT("again_in_ms", (int64_t)a->restart_ms));
	alk_timer_start(a->restart, a->restart_ms);
	a->restart_ms = a->restart_ms * 2 < RESTART_MAX ? a->restart_ms * 2 : RESTART_MAX;
}

static void on_program(void *user, int revents)
{
	struct acme *a = user;
	static char bytes[ACME_PACKET_MAX];
	json_t *packet;
	ssize_t n;

	(void)revents;
	assert(a->magic == ACME_MAGIC);
	n = recv(a->program.fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		program_lost(a);
		return;
	}
	packet = json_loadb(bytes, (size_t)n, JSON_REJECT_DUPLICATES, NULL);
	explicit_bzero(bytes, (size_t)n);
	event_take(a, packet);
	json_decref(packet);
}

/* A packet is written whole or not at all. */
static const struct companion_kind alknet_acme = {
	.name = "alknet-acme",
	.needs = "ACME needs",
	.type = SOCK_SEQPACKET,
	.buffer = 2 * ACME_PACKET_MAX,
};

static int program_start(struct acme *a, struct alk_err *err)
{
	int rc = companion_start(&a->program, &alknet_acme, err);

	if (rc < 0)
		return rc;
	a->io = alk_io_new(a->loop, a->program.fd, "alknet-acme", on_program, a);
	if (a->io == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	alk_io_set(a->io, ALK_IO_READ);
	rc = packet_send(a, json_pack("{s:O, s:O*}", "start", a->settings, "past", a->status));
	if (rc == 0 || rc == -EPIPE) /* that it has ended already is seen soon */
		return 0;
	return alk_err_set(err, rc, "alknet-acme cannot be told its settings: %s", strerror(-rc));
}

static void on_restart(void *user)
{
	struct acme *a = user;
	struct alk_err err = {""};

	assert(a->magic == ACME_MAGIC);
	if (program_start(a, &err) == 0)
		return;
	alk_log(ALK_LOG_ERROR, "ACME", ALK_STR("error", err.text));
	program_lost(a);
}

/* ---- start ---- */

/* What is on disk serves at once; what is no pair there is said, and got anew. */
static int certificate_load(struct acme *a, struct alk_err *err)
{
	const char *dir = acme_text_of(a->settings, "state_dir");
	struct alk_err why = {""};
	EVP_PKEY *key;
	int rc = acme_account_read(dir, ACME_ACCOUNT, &key, err);

	EVP_PKEY_free(key);
	if (rc < 0)
		return rc;
	rc = acme_state_read(dir, ACME_CERTIFICATE, &a->pem, &why);
	if (rc == 0)
		rc = acme_pair_read(a->pem, names_of(a), &a->pair, &why);
	if (rc == 0)
		return 0;
	if (rc != -ENOENT)
		alk_log(ALK_LOG_ERROR,
			"the certificate in acme_state_dir cannot be used; another one is got",
			ALK_STR("dir", dir), ALK_STR("error", why.text));
	acme_text_free(&a->pem);
	a->self_signed = true;
	a->pem = acme_self_signed(names_of(a), err);
	return a->pem != NULL ? acme_pair_read(a->pem, names_of(a), &a->pair, err) : -EIO;
}

static bool is_same_place(const struct acme *a, const struct acme *b)
{
	return strcmp(acme_text_of(a->settings, "state_dir"),
		      acme_text_of(b->settings, "state_dir")) == 0;
}

/* A reload that changes nothing of it waits on; one that does is a reason to try at once. */
static void past_take(struct acme *a)
{
	for (struct acme *old = latest; old != NULL && a->status == NULL; old = old->before)
		if (json_equal(a->settings, old->settings))
			a->status = json_incref(old->status);
}

/* A reload: one helper has the state directory, that of the new options. */
static void generation_begin(struct acme *a)
{
	for (struct acme *old = latest; old != NULL; old = old->before) {
		if (!is_same_place(a, old))
			continue;
		alk_timer_stop(old->restart);
		program_end(old);
		challenges_end(old);
		calls_answer(old, "the server was loaded anew");
	}
	a->before = latest;
	latest = a;
}

/* The reload was refused after all: the one before goes on. */
static void generation_end(struct acme *a)
{
	struct acme **at = &latest;
	bool was_latest = latest == a;

	while (*at != NULL && *at != a)
		at = &(*at)->before;
	if (*at == NULL)
		return;
	*at = a->before;
	if (was_latest && latest != NULL && is_same_place(a, latest))
		alk_timer_start(latest->restart, 0);
}

int acme_check(const struct alk_options *options, struct alk_err *err)
{
	json_t *settings;
	int rc = acme_settings_make(options, &settings, err);

	json_decref(settings);
	return rc;
}

int acme_start(struct acme **out, struct alk_loop *loop, const struct alk_options *options,
	       acme_say_fn *say, void *user, struct alk_err *err)
{
	struct acme *a = calloc(1, sizeof(*a));
	int rc;

	*out = NULL;
	if (a == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	*a = (struct acme){.magic = ACME_MAGIC,
			   .loop = loop,
			   .say = say,
			   .user = user,
			   .program.fd = -1};
	a->restart_ms = RESTART_FIRST;
	a->challenges = json_object();
	a->restart = alk_timer_new(loop, "acme restart", on_restart, a);
	rc = acme_settings_make(options, &a->settings, err);
	if (rc == 0 && (a->challenges == NULL || a->restart == NULL))
		rc = alk_err_set(err, -ENOMEM, "out of memory");
	if (rc == 0)
		rc = acme_state_check(acme_text_of(a->settings, "state_dir"), err);
	if (rc == 0)
		rc = certificate_load(a, err);
	if (rc == 0) {
		past_take(a);
		rc = program_start(a, err);
	}
	if (rc == 0) {
		generation_begin(a);
		certificate_say(a, ALK_HALF_EVERY_WORKER);
	}
	*out = a;
	if (rc < 0)
		acme_stop(out);
	return rc;
}

void acme_stop(struct acme **acme)
{
	struct acme *a = *acme;

	if (a == NULL)
		return;
	generation_end(a);
	program_end(a);
	calls_answer(a, "the server ends or is loaded anew");
	alk_timer_free(&a->restart);
	json_decref(a->challenges);
	json_decref(a->status);
	json_decref(a->settings);
	acme_text_free(&a->pem);
	a->magic = 0;
	free(a);
	*acme = NULL;
}

/* ---- admin ---- */

static void command_status(struct acme *a, struct alk_call *call)
{
	json_t *helper = json_copy(a->status), *answer;
	char *text;

	json_object_del(helper, "event");
	json_object_del(helper, "early");
	answer = json_pack("{s:O, s:O, s:O, s:b, s:I, s:b, s:o}", "names", names_of(a), "directory",
			   json_object_get(a->settings, "directory"), "challenge",
			   json_object_get(a->settings, "challenge"), "self_signed", a->self_signed,
			   "not_after", (json_int_t)a->pair.not_after, "running",
			   a->program.pid > 0, "helper", helper != NULL ? helper : json_null());
	text = answer != NULL ? json_dumps(answer, JSON_COMPACT) : NULL;
	json_decref(answer);
	if (text != NULL)
		alk_call_result(&call, text);
	else
		alk_call_fail(&call, "out of memory");
	free(text);
}

static void command_renew(struct acme *a, const char *params, struct alk_call *call)
{
	json_t *given = json_loads(params, 0, NULL);
	const char *key = acme_text_of(given, "key");
	bool new_key = strcmp(key, "new") == 0;

	if (key[0] != '\0' && !new_key && strcmp(key, "keep") != 0) {
		alk_call_fail(&call, "key: it is \"new\" or \"keep\"");
	} else if (a->program.pid <= 0) {
		alk_call_fail(&call, "alknet-acme does not run; it is started again soon");
	} else if (a->calls == CALLS_MAX) {
		alk_call_fail(&call, "%d of them are waiting already", CALLS_MAX);
	} else {
		a->call[a->calls++] = call;
		program_say(a, json_pack("{s:b}", "renew", new_key));
	}
	json_decref(given);
}

void acme_command(struct acme *a, const char *name, const char *params, struct alk_call *call)
{
	if (strcmp(name, "renew") == 0)
		command_renew(a, params, call);
	else
		command_status(a, call);
}

static int64_t status_number(const struct acme *a, const char *key)
{
	return json_integer_value(json_object_get(a->status, key));
}

char *acme_metrics(struct acme *a)
{
	char *text;

	if (asprintf(
		    &text,
		    "# HELP alknet_acme_certificate_expiry_seconds When the TLS certificate runs out, as Unix time.\n"
		    "# TYPE alknet_acme_certificate_expiry_seconds gauge\n"
		    "alknet_acme_certificate_expiry_seconds %lld\n"
		    "# HELP alknet_acme_failures Attempts that failed since the last that did not.\n"
		    "# TYPE alknet_acme_failures gauge\n"
		    "alknet_acme_failures %lld\n"
		    "# HELP alknet_acme_self_signed Is the certificate one that nobody vouches for?\n"
		    "# TYPE alknet_acme_self_signed gauge\n"
		    "alknet_acme_self_signed %d\n",
		    (long long)a->pair.not_after, (long long)status_number(a, "failures"),
		    a->self_signed) < 0)
		return NULL;
	return text;
}
