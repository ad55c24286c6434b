/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A service with a half in the supervisor, which counts for all workers: each channel is told the
 * next number and ended. The option `step` is how much it counts by; 13 is refused. */

#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <alknet/alknet.h>

#define WAITING_MAX 64

struct count {
	struct alk_half *half;
	int64_t step, total; /* the supervisor's */
	unsigned workers;
	struct alk_channel *waiting[WAITING_MAX]; /* a worker's, in the order that they asked */
	size_t n;
};

static const struct alk_option options[] = {
	{.name = "step",
	 .type = ALK_OPT_INT,
	 .fallback = "1",
	 .min = 1,
	 .max = 100,
	 .help = "count by"},
	{.type = ALK_OPT_END},
};

static int count_init(const struct alk_plugin_env *env, void **state, struct alk_err *err)
{
	struct count *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	c->half = env->half;
	c->step = alk_options_int(env->options, "step");
	*state = c;
	return 0;
}

static void count_deinit(void **state)
{
	free(*state);
	*state = NULL;
}

static int count_open(void *state, struct alk_channel *channel, const struct alk_destination *to,
		      void **user, struct alk_err *err)
{
	struct count *c = state;
	int rc = c->n < WAITING_MAX ? alk_half_send(c->half, 0, to->host, strlen(to->host))
				    : -EBUSY;

	if (rc < 0)
		return alk_err_set(err, rc, "cannot ask");
	*user = c;
	c->waiting[c->n++] = channel;
	return alk_channel_accept(channel);
}

static void count_close(void *user, struct alk_channel *channel)
{
	struct count *c = user;

	for (size_t i = 0; i < c->n; i++)
		if (c->waiting[i] == channel)
			c->waiting[i] = NULL; /* its answer is still to come */
}

static void count_message(void *state, uint64_t worker, const uint8_t *bytes, size_t n)
{
	struct count *c = state;
	struct alk_channel *channel;
	char text[32];

	if (worker != 0) {
		c->total += c->step;
		snprintf(text, sizeof(text), "%lld\n", (long long)c->total);
		alk_half_send(c->half, worker, text, strlen(text));
		return;
	}
	if (c->n == 0)
		return;
	channel = c->waiting[0];
	memmove(c->waiting, c->waiting + 1, --c->n * sizeof(c->waiting[0]));
	if (channel != NULL) {
		alk_channel_write(channel, bytes, n);
		alk_channel_eof(channel);
	}
}

static void count_up(void *state, uint64_t worker)
{
	(void)worker;
	((struct count *)state)->workers++;
}

static void count_down(void *state, uint64_t worker)
{
	(void)worker;
	((struct count *)state)->workers--;
}

static int count_configure(void *state, const struct alk_options *values, bool apply,
			   struct alk_err *err)
{
	int64_t step = alk_options_int(values, "step");

	if (step == 13)
		return alk_err_set(err, -EINVAL, "step 13 is not to be had");
	if (apply)
		((struct count *)state)->step = step;
	return 0;
}

static char *count_metrics(void *state)
{
	const struct count *c = state;
	char *text = NULL;

	return asprintf(&text, "alknet_count_total %lld\nalknet_count_workers %u\n",
			(long long)c->total, c->workers) < 0
		       ? NULL
		       : text;
}

static const struct alk_service_ops ops = {.size = sizeof(ops),
					   .open = count_open,
					   .close = count_close};

static const struct alk_half_ops half = {
	.size = sizeof(half),
	.message = count_message,
	.worker_up = count_up,
	.worker_down = count_down,
	.configure = count_configure,
	.metrics = count_metrics,
};

ALK_PLUGIN(.kind = ALK_PLUGIN_SERVICE, .name = "count", .version = "0.1", .options = options,
	   .init = count_init, .deinit = count_deinit, .ops.service = &ops, .half = &half);
