/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A service to copy: it sends back what it gets. README.md says how to build and to use it.
 *
 * The core calls the operations in the table at the end, all from one thread, none of them inside
 * of another. Nothing here may block. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <alknet/alknet.h>

/* What travels through `void *` begins with a magic word, checked on the way back. */
#define SKELETON_MAGIC 0x736b656cu
#define ECHO_MAGIC 0x6563686fu

/* One a process, from init to deinit. */
struct skeleton {
	uint32_t magic;
	const char *greeting; /* borrowed from the options, which live until deinit returned */
};

/* One a channel, from open to close. */
struct echo {
	uint32_t magic;
	const char *greeting; /* what of it has to be sent still */
};

/* ---- the plugin ---- */

static int skeleton_init(const struct alk_plugin_env *env, void **state, struct alk_err *err)
{
	struct skeleton *skeleton = calloc(1, sizeof(*skeleton));

	if (skeleton == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	skeleton->magic = SKELETON_MAGIC;
	skeleton->greeting = alk_options_str(env->options, "greeting");
	*state = skeleton;
	return 0;
}

static void skeleton_deinit(void **state)
{
	struct skeleton *skeleton = *state;

	skeleton->magic = 0;
	free(skeleton);
	*state = NULL;
}

/* ---- a channel ---- */

static struct echo *echo_of(void *user)
{
	struct echo *echo = user;

	assert(echo->magic == ECHO_MAGIC);
	return echo;
}

/* Send what is left of the greeting. True when nothing is. */
static bool echo_greet(struct echo *echo, struct alk_channel *channel)
{
	ssize_t n;

	while (echo->greeting[0] != '\0') {
		n = alk_channel_write(channel, echo->greeting, strlen(echo->greeting));
		if (n <= 0)
			return false; /* full: drain follows; or broken: close follows */
		echo->greeting += n;
	}
	return true;
}

/* A channel asks for us. A service that has to wait for something (a connection, a file) returns 0
 * here and answers later, with alk_channel_accept or alk_channel_refuse. */
static int skeleton_open(void *state, struct alk_channel *channel, const struct alk_destination *to,
			 void **user, struct alk_err *err)
{
	const struct skeleton *skeleton = state;
	struct echo *echo;
	int rc;

	(void)to; /* the policy sent it here; a service with more than one thing to offer looks at to->port */
	assert(skeleton->magic == SKELETON_MAGIC);
	echo = calloc(1, sizeof(*echo));
	if (echo == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	rc = alk_channel_accept(channel);
	if (rc < 0) {
		free(echo);
		return alk_err_set(err, rc, "the channel is gone");
	}
	echo->magic = ECHO_MAGIC;
	echo->greeting = skeleton->greeting != NULL ? skeleton->greeting : "";
	echo_greet(echo, channel);
	*user = echo; /* from now on `close` comes, once, and is the last */
	return 0;
}

/* Bytes came. What cannot be sent back now is not taken: it stays with the core, which lets its
 * peer wait. So a peer that sends without reading stops itself, and we keep nothing. */
static size_t skeleton_data(void *user, struct alk_channel *channel, const uint8_t *bytes, size_t n)
{
	struct echo *echo = echo_of(user);
	ssize_t taken;

	if (!echo_greet(echo, channel))
		return 0;
	taken = alk_channel_write(channel, bytes, n);
	if (taken < 0) {
		alk_channel_close(channel);
		return 0;
	}
	return (size_t)taken;
}

/* There is room again: send what is ours, then ask for what was not taken. */
static void skeleton_drain(void *user, struct alk_channel *channel)
{
	if (echo_greet(echo_of(user), channel))
		alk_channel_resume(channel);
}

/* The peer sends nothing more, and all it sent was taken, so all of it was sent back. */
static void skeleton_eof(void *user, struct alk_channel *channel)
{
	(void)user;
	alk_channel_eof(channel);
	alk_channel_close(channel);
}

static void skeleton_close(void *user, struct alk_channel *channel)
{
	struct echo *echo = echo_of(user);

	(void)channel;
	echo->magic = 0;
	free(echo);
}

/* ---- what the loader sees ---- */

static const struct alk_option skeleton_options[] = {
	{.name = "greeting",
	 .type = ALK_OPT_STRING,
	 .arg = "TEXT",
	 .help = "what each channel is told first"},
	{.type = ALK_OPT_END},
};

/* What is left out here the core does without. */
static const struct alk_service_ops skeleton_ops = {
	.size = sizeof(skeleton_ops),
	.open = skeleton_open,
	.data = skeleton_data,
	.drain = skeleton_drain,
	.eof = skeleton_eof,
	.close = skeleton_close,
};

ALK_PLUGIN(.kind = ALK_PLUGIN_SERVICE, .name = "skeleton", .version = "0.1",
	   .options = skeleton_options, .init = skeleton_init, .deinit = skeleton_deinit,
	   .ops.service = &skeleton_ops, );
