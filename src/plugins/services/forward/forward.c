/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The service of plain destinations: connect there, then let the core carry the bytes. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include <alknet/alknet.h>

#define FORWARD_MAGIC 0x66776473u
#define OPENING_MAGIC 0x66776f70u

struct forward {
	uint32_t magic;
	uint64_t timeout_ms;
};

/* One channel that waits for its target. */
struct opening {
	uint32_t magic;
	struct alk_channel *channel;
	struct alk_dial *dial; /* NULL once it ended */
};

static int forward_init(const struct alk_plugin_env *env, void **state, struct alk_err *err)
{
	struct forward *forward = calloc(1, sizeof(*forward));

	if (forward == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	forward->magic = FORWARD_MAGIC;
	forward->timeout_ms = alk_plugin_timeout(env);
	*state = forward;
	return 0;
}

static void forward_deinit(void **state)
{
	free(*state);
	*state = NULL;
}

static void opening_free(struct opening *opening)
{
	assert(opening->magic == OPENING_MAGIC);
	alk_dial_cancel(&opening->dial);
	opening->magic = 0;
	free(opening);
}

static void opening_on_dialed(void *user, int rc, int fd, const struct alk_err *err)
{
	struct opening *opening = user;

	assert(opening->magic == OPENING_MAGIC);
	opening->dial = NULL;
	if (rc < 0) {
		alk_channel_refuse(opening->channel, alk_open_failure_of(rc), err->text);
		return;
	}
	/* A channel that is attached does not come back here, one that could not be does: to
	 * close. */
	if (alk_channel_attach(opening->channel, &fd) < 0)
		alk_channel_close(opening->channel);
	else
		opening_free(opening);
}

static int forward_open(void *state, struct alk_channel *channel, const struct alk_destination *to,
			void **user, struct alk_err *err)
{
	const struct forward *forward = state;
	struct alk_loop *loop = alk_channel_loop(channel);
	struct opening *opening = calloc(1, sizeof(*opening));

	assert(forward->magic == FORWARD_MAGIC);
	if (opening == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	opening->magic = OPENING_MAGIC;
	opening->channel = channel;
	opening->dial = alk_dial_to(loop, to, forward->timeout_ms, opening_on_dialed, opening, err);
	if (opening->dial == NULL) {
		opening_free(opening);
		return alk_err_prefix(err, -ENOENT, "connect failed");
	}
	*user = opening;
	return 0;
}

static void forward_close(void *user, struct alk_channel *channel)
{
	(void)channel;
	opening_free(user);
}

static const struct alk_option forward_options[] = {
	{.name = "connect_timeout",
	 .type = ALK_OPT_DURATION,
	 .min = 100,
	 .max = 3600000,
	 .arg = "SECONDS",
	 .help = "how long a channel's target may take, its name's resolution included; without it the "
		 "program's connect_timeout"},
	{.type = ALK_OPT_END},
};

static const struct alk_service_ops forward_ops = {
	.size = sizeof(forward_ops),
	.open = forward_open,
	.close = forward_close,
};

ALK_PLUGIN(.kind = ALK_PLUGIN_SERVICE, .name = "forward", .version = "0.1",
	   .options = forward_options, .init = forward_init, .deinit = forward_deinit,
	   .ops.service = &forward_ops, );
