/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A service for `alknet-echo`: what comes on port 7 goes back (RFC 862), what comes on port 9 is
 * thrown away (RFC 863). It has no state of its own for a channel. README.md says how to build and
 * to use it. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include <alknet/alknet.h>

#define ECHO_MAGIC 0x6563686fu
#define PORT_ECHO 7
#define PORT_DISCARD 9

/* One an instance, from init to deinit. */
struct echo {
	uint32_t magic;
	const char *scope; /* borrowed from the options; NULL: everybody */
};

/* What a channel's operations get: no more than which of the two it is. */
static char speaks, listens;

static int echo_open(void *state, struct alk_channel *channel, const struct alk_destination *to,
		     void **user, struct alk_err *err)
{
	const struct echo *echo = state;
	int rc;

	assert(echo->magic == ECHO_MAGIC);
	*user = to->port == PORT_ECHO ? &speaks : &listens;
	if (echo->scope != NULL &&
	    !alk_identity_has_scope(alk_channel_identity(channel), echo->scope)) {
		alk_channel_refuse(channel, ALK_OPEN_PROHIBITED, "your identity lacks the scope");
		return 0;
	}
	if (to->port != PORT_ECHO && to->port != PORT_DISCARD) {
		alk_channel_refuse(channel, ALK_OPEN_REFUSED, "echo is on port 7, discard on 9");
		return 0;
	}
	rc = alk_channel_accept(channel);
	return rc < 0 ? alk_err_set(err, rc, "the channel is gone") : 0;
}

/* What cannot go back now is not taken: the peer that sends without reading waits, and nothing is
 * kept here. */
static size_t echo_data(void *user, struct alk_channel *channel, const uint8_t *bytes, size_t n)
{
	ssize_t taken = user == &listens ? (ssize_t)n : alk_channel_write(channel, bytes, n);

	if (taken >= 0)
		return (size_t)taken;
	alk_channel_close(channel);
	return 0;
}

static void echo_drain(void *user, struct alk_channel *channel)
{
	(void)user;
	alk_channel_resume(channel);
}

static void echo_eof(void *user, struct alk_channel *channel)
{
	(void)user;
	alk_channel_eof(channel);
	alk_channel_close(channel);
}

static int echo_init(const struct alk_plugin_env *env, void **state, struct alk_err *err)
{
	struct echo *echo = calloc(1, sizeof(*echo));

	if (echo == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	echo->magic = ECHO_MAGIC;
	echo->scope = alk_options_str(env->options, "scope");
	*state = echo;
	return 0;
}

static void echo_deinit(void **state)
{
	struct echo *echo = *state;

	echo->magic = 0;
	free(echo);
	*state = NULL;
}

static const struct alk_option echo_options[] = {
	{.name = "scope",
	 .type = ALK_OPT_STRING,
	 .arg = "SCOPE",
	 .help = "who has not this scope is refused"},
	{.type = ALK_OPT_END},
};

static const struct alk_service_ops echo_ops = {
	.size = sizeof(echo_ops),
	.open = echo_open,
	.data = echo_data,
	.drain = echo_drain,
	.eof = echo_eof,
};

ALK_PLUGIN(.kind = ALK_PLUGIN_SERVICE, .name = "echo", .version = "0.1", .options = echo_options,
	   .init = echo_init, .deinit = echo_deinit, .ops.service = &echo_ops, );
