/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A build without ACME: the options are there, so that they can be answered. */
#include "acme.h"

#include <errno.h>

bool acme_wanted(const struct alk_options *options)
{
	return alk_options_has(options, "acme_domain");
}

int acme_check(const struct alk_options *options, struct alk_err *err)
{
	(void)options;
	return alk_err_set(
		err, -ENOTSUP,
		"acme_domain: this alknet was built without ACME (--without-acme, or libcurl was missing)");
}

int acme_start(struct acme **out, struct alk_loop *loop, const struct alk_options *options,
	       acme_say_fn *say, void *user, struct alk_err *err)
{
	(void)loop, (void)say, (void)user;
	*out = NULL;
	return acme_check(options, err);
}

void acme_stop(struct acme **acme)
{
	*acme = NULL;
}

void acme_worker_up(struct acme *acme, uint64_t worker)
{
	(void)acme, (void)worker;
}

void acme_command(struct acme *acme, const char *name, const char *params, struct alk_call *call)
{
	(void)acme, (void)name, (void)params;
	alk_call_fail(&call, "this alknet was built without ACME");
}

char *acme_metrics(struct acme *acme)
{
	(void)acme;
	return NULL;
}

struct acme_worker *acme_worker_new(SSL_CTX *ctx)
{
	(void)ctx;
	return NULL;
}

void acme_worker_free(struct acme_worker **worker)
{
	*worker = NULL;
}

int acme_worker_message(struct acme_worker *worker, const uint8_t *bytes, size_t n,
			struct alk_err *err)
{
	(void)worker, (void)bytes, (void)n;
	return alk_err_set(err, -ENOTSUP, "this alknet was built without ACME");
}

int acme_worker_http(const struct acme_worker *worker, const uint8_t *bytes, size_t n,
		     const char **text)
{
	(void)worker, (void)bytes, (void)n, (void)text;
	return -1;
}

bool acme_worker_proved(const SSL *ssl)
{
	(void)ssl;
	return false;
}
