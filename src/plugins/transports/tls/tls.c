/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The tls transport. README.md has its options. */
#include "tls.h"
#include "acme.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TLS_MAGIC 0x746c73u

struct tls *tls_of(void *state)
{
	struct tls *tls = state;

	assert(tls->magic == TLS_MAGIC);
	return tls;
}

/* ---- the halves: ticket keys and certificates go from the supervisor to the workers ---- */

enum {
	SAY_TICKETS = 't',
	SAY_ACME = 'a'
};

static void tls_say(struct tls *tls, uint64_t worker, uint8_t what, const uint8_t *bytes, size_t n)
{
	uint8_t *message = malloc(n + 1);
	int rc = -ENOMEM;

	if (message != NULL) {
		message[0] = what;
		memcpy(message + 1, bytes, n);
		rc = alk_half_send(tls->half, worker, message, n + 1);
		explicit_bzero(message, n + 1);
	}
	free(message);
	if (rc < 0 && rc != -EPIPE)
		alk_log(ALK_LOG_WARN, "keys were not sent to workers", ALK_INT("error", rc));
}

static void tickets_say(struct tls *tls, uint64_t worker)
{
	const uint8_t *bytes;
	size_t n = tls_tickets_bytes(tls->tickets, &bytes);

	tls_say(tls, worker, SAY_TICKETS, bytes, n);
}

static void on_acme(void *user, uint64_t worker, const uint8_t *bytes, size_t n)
{
	tls_say(tls_of(user), worker, SAY_ACME, bytes, n);
}

static void on_rotate(void *user)
{
	struct tls *tls = tls_of(user);

	tls_tickets_rotate(tls->tickets, alk_loop_now(tls->loop));
	tickets_say(tls, ALK_HALF_EVERY_WORKER);
	alk_timer_start(tls->rotate, TLS_TICKET_ROTATE * UINT64_C(1000));
}

static void tls_worker_up(void *state, uint64_t worker)
{
	struct tls *tls = tls_of(state);

	tickets_say(tls, worker);
	if (tls->acme != NULL)
		acme_worker_up(tls->acme, worker);
}

static void tls_message(void *state, uint64_t worker, const uint8_t *bytes, size_t n)
{
	struct tls *tls = tls_of(state);
	struct alk_err err = {"they are not understood"};
	int rc = -EINVAL;

	/* A worker has nothing to say. */
	if (worker != 0 || tls->role != ALK_ROLE_WORKER || n == 0)
		return;
	if (bytes[0] == SAY_TICKETS)
		rc = tls_tickets_set(tls->tickets, bytes + 1, n - 1);
	else if (bytes[0] == SAY_ACME && tls->proving != NULL)
		rc = acme_worker_message(tls->proving, bytes + 1, n - 1, &err);
	if (rc < 0)
		alk_log(ALK_LOG_WARN, "keys of the supervisor cannot be used",
			ALK_STR("error", err.text));
}

static void tls_command(void *state, const char *name, const char *params, struct alk_call *call)
{
	struct tls *tls = tls_of(state);

	if (tls->acme == NULL)
		alk_call_fail(&call, "ACME is not in use: acme_domain is not set");
	else if (strncmp(name, "acme.", 5) == 0)
		acme_command(tls->acme, name + 5, params, call);
	else
		alk_call_fail(&call, "the plugin tls has no command %s", name);
}

static char *tls_metrics(void *state)
{
	struct tls *tls = tls_of(state);

	return tls->acme != NULL ? acme_metrics(tls->acme) : NULL;
}

static const struct alk_half_ops tls_half = {
	.size = sizeof(tls_half),
	.message = tls_message,
	.worker_up = tls_worker_up,
	.command = tls_command,
	.metrics = tls_metrics,
};

/* ---- life ---- */

static void tls_deinit(void **state)
{
	struct tls *tls = tls_of(*state);

	while (tls->admissions != NULL) {
		void *admission = tls->admissions;

		tls_admit_cancel(tls, &admission);
	}
	while (tls->sites != NULL) {
		struct tls_site *site = tls->sites;

		tls_site_free(&site);
	}
	while (tls->pumps != NULL) {
		struct tls_pump *pump = tls->pumps;

		tls_pump_free(&pump);
	}
	alk_timer_free(&tls->rotate);
	acme_stop(&tls->acme);
	acme_worker_free(&tls->proving);
	SSL_CTX_free(tls->ctx);
	BIO_meth_free(tls->bio);
	tls_tickets_unref(&tls->tickets);
	while (tls->spares > 0)
		free(tls->spare[--tls->spares]);
	explicit_bzero(tls->secret, sizeof(tls->secret));
	tls->magic = 0;
	free(tls);
	*state = NULL;
}

static int acme_http_check(const struct tls *tls, struct alk_err *err)
{
	if (!tls->stealth &&
	    strcmp(alk_options_str(tls->options, "acme_http"), ACME_HTTP_STEALTH) == 0)
		return alk_err_set(
			err, -EINVAL,
			"acme_http: stealth means nothing without --stealth (stealth = true)");
	return 0;
}

static int acme_init(struct tls *tls, struct alk_err *err)
{
	int rc;

	if (!acme_wanted(tls->options))
		return 0;
	rc = acme_http_check(tls, err);
	if (rc < 0)
		return rc;
	if (tls->role == ALK_ROLE_SUPERVISOR)
		return acme_start(&tls->acme, tls->loop, tls->options, on_acme, tls, err);
	tls->proving = acme_worker_new(tls->ctx);
	return tls->proving != NULL ? 0 : alk_err_set(err, -ENOMEM, "out of memory");
}

static int server_init(struct tls *tls, struct alk_err *err)
{
	int rc;

	tls->tickets = tls_tickets_ref();
	if (tls->tickets == NULL)
		return alk_err_set(err, -ENOMEM, "no memory or no randomness for ticket keys");
	if (tls->role == ALK_ROLE_SUPERVISOR) {
		tls->rotate = alk_timer_new(tls->loop, "tls tickets", on_rotate, tls);
		if (tls->rotate == NULL)
			return alk_err_set(err, -ENOMEM, "out of memory");
		tls_tickets_rotate(tls->tickets, alk_loop_now(tls->loop));
		alk_timer_start(tls->rotate, TLS_TICKET_ROTATE * UINT64_C(1000));
	}
	rc = tls_context_init_server(tls, err);
	return rc < 0 ? rc : acme_init(tls, err);
}

static int tls_init(const struct alk_plugin_env *env, void **state, struct alk_err *err)
{
	struct tls *tls = calloc(1, sizeof(*tls));
	int rc;

	if (tls == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	tls->magic = TLS_MAGIC;
	tls->role = env->role;
	tls->loop = env->loop;
	tls->half = env->half;
	tls->options = env->options;
	tls->timeout_ms = alk_plugin_timeout(env);
	rc = tls_stealth_init(tls, err);
	if (rc == 0)
		rc = tls->role == ALK_ROLE_CLIENT ? tls_context_init_client(tls, err)
						  : server_init(tls, err);
	*state = tls;
	if (rc < 0)
		tls_deinit(state);
	return rc;
}

static int tls_check(enum alk_role role, const struct alk_options *options, struct alk_err *err)
{
	struct tls *tls = calloc(1, sizeof(*tls));
	void *state = tls;
	int rc;

	if (tls == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	tls->magic = TLS_MAGIC;
	tls->role = role;
	tls->options = options;
	rc = tls_stealth_init(tls, err);
	if (rc == 0 && role == ALK_ROLE_CLIENT) {
		rc = tls_context_init_client(tls, err);
	} else if (rc == 0) {
		tls->tickets = tls_tickets_ref();
		rc = tls->tickets != NULL ? tls_context_init_server(tls, err)
					  : alk_err_set(err, -ENOMEM, "out of memory");
		if (rc == 0 && acme_wanted(options))
			rc = acme_http_check(tls, err);
		if (rc == 0 && acme_wanted(options))
			rc = acme_check(options, err);
	}
	tls_deinit(&state);
	return rc;
}

/* ---- listening ---- */

static int tls_listen(void *state, const char *address, const struct alk_acceptor *up,
		      struct alk_listener **out, struct alk_err *err)
{
	struct tls *tls = tls_of(state);

	return alk_tcp_listen(tls->loop, "tls", address, tls->options, up, out, err);
}

static void tls_unlisten(void *state, struct alk_listener **listener)
{
	(void)state;
	alk_tcp_unlisten(listener);
}

static void tls_pause(void *state, struct alk_listener *listener, bool paused)
{
	(void)state;
	alk_tcp_pause(listener, paused);
}

static int tls_adopt(void *state, struct alk_listener *listener)
{
	alk_tcp_adopt(listener, tls_of(state)->options);
	return 0;
}

static void tls_describe(void *state, const struct alk_listener *listener, char *text, size_t size)
{
	(void)state;
	alk_tcp_describe(listener, text, size);
}

static const struct alk_option tls_options[] = {
	ALK_TCP_OPTIONS,
	ACME_OPTIONS,
	{.name = "cert",
	 .type = ALK_OPT_FILE,
	 .arg = "FILE",
	 .help = "serve: the certificate in PEM, and behind it those of the authorities in between"},
	{.name = "key",
	 .type = ALK_OPT_FILE,
	 .flags = ALK_OPT_PRIVATE,
	 .arg = "FILE",
	 .help = "serve: the certificate's private key in PEM, in a file that nobody else may read"},
	{.name = "stealth",
	 .type = ALK_OPT_BOOL,
	 .fallback = "false",
	 .help = "serve: be a web server that answers 404 to everybody but clients"},
	{.name = "stealth_secret",
	 .type = ALK_OPT_STRING,
	 .flags = ALK_OPT_SECRET,
	 .arg = "BASE64",
	 .help = "32 bytes that make a client's first request known to the server alone; both have the same (alknet secret new)"},
	{.name = "stealth_upstream",
	 .type = ALK_OPT_STRING,
	 .arg = "HOST:PORT",
	 .help = "serve: the web server, or its unix socket, that answers to everybody but clients, instead of the one that is built in"},
	{.name = "server_name",
	 .type = ALK_OPT_STRING,
	 .arg = "NAME",
	 .help = "connect: the name that the server's certificate must have, and that is sent as SNI; without it the host of server"},
	{.name = "ca",
	 .type = ALK_OPT_FILE,
	 .arg = "FILE",
	 .help = "connect: certificates in PEM to trust, instead of the system's"},
	{.name = "insecure",
	 .type = ALK_OPT_BOOL,
	 .fallback = "false",
	 .help = "connect: take any certificate"},
	ALK_DIAL_OPTIONS,
	{.type = ALK_OPT_END},
};

static const struct alk_transport_ops tls_ops = {
	.size = sizeof(tls_ops),
	.listen = tls_listen,
	.unlisten = tls_unlisten,
	.pause = tls_pause,
	.describe = tls_describe,
	.check = alk_tcp_check,
	.admit = tls_admit,
	.admit_cancel = tls_admit_cancel,
	.dial = tls_dial,
	.dial_cancel = tls_dial_cancel,
	.adopt = tls_adopt,
};

ALK_PLUGIN(.kind = ALK_PLUGIN_TRANSPORT, .name = "tls", .version = "0.1", .options = tls_options,
	   .init = tls_init, .deinit = tls_deinit, .check = tls_check, .ops.transport = &tls_ops,
	   .half = &tls_half, );
