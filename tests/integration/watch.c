/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A service that offers a subscription on the bus. The input of /watch/count is how often it
 * answers before it completes: 1, 2 ...; 0 is one answer and no end, a negative number answers
 * until nobody waits any more. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <alknet/alknet.h>

#define ANSWERS_MAX 1000000

struct watch {
	struct alk_operation *operation;
	struct alk_operation_call *call; /* the one under way, or NULL */
};

static void watch_call(void *user, struct alk_operation_call *call,
		       const struct alk_operation_caller *caller, const char *input)
{
	struct watch *w = user;
	long n = strtol(input, NULL, 10);
	char text[256];

	(void)caller;
	if (w->call != NULL) {
		alk_operation_fail(&call, "OVERLOADED", "one at a time");
		return;
	}
	w->call = call;
	if (n == 0)
		alk_operation_answer(w->call, "0");
	/* An answer may end the call. */
	for (long i = 1; w->call != NULL && i <= (n < 0 ? ANSWERS_MAX : n); i++) {
		snprintf(text, sizeof(text), n < 0 ? "\"%0250ld\"" : "%ld", i);
		alk_operation_answer(w->call, text);
	}
	if (n != 0 && w->call != NULL)
		alk_operation_complete(&w->call);
}

static void watch_abort(void *user, struct alk_operation_call *call)
{
	struct watch *w = user;

	alk_log(ALK_LOG_INFO, "watch aborted", ALK_YES("known", call == w->call));
	w->call = NULL;
}

static int watch_init(const struct alk_plugin_env *env, void **state, struct alk_err *err)
{
	struct watch *w = calloc(1, sizeof(*w));
	struct alk_operation_spec spec = {
		.size = sizeof(spec),
		.name = "/watch/count",
		.type = "subscription",
		.input_schema = "{\"type\":\"integer\"}",
		.call = watch_call,
		.abort = watch_abort,
	};
	int rc;

	if (w == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	rc = env->bus != NULL ? alk_bus_offer(env->bus, &spec, w, &w->operation, err) : 0;
	if (rc < 0)
		free(w);
	else
		*state = w;
	return rc;
}

static void watch_deinit(void **state)
{
	struct watch *w = *state;

	alk_bus_withdraw(&w->operation);
	free(w);
	*state = NULL;
}

static int watch_open(void *state, struct alk_channel *channel, const struct alk_destination *to,
		      void **user, struct alk_err *err)
{
	(void)state, (void)channel, (void)to, (void)user;
	return alk_err_set(err, -EACCES, "there are no channels here");
}

static const struct alk_service_ops ops = {.size = sizeof(ops), .open = watch_open};

ALK_PLUGIN(.kind = ALK_PLUGIN_SERVICE, .name = "watch", .version = "1", .init = watch_init,
	   .deinit = watch_deinit, .ops.service = &ops);
