/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A service that never comes back, for the test of the watchdog. Port 1 hangs when it is opened,
 * port 2 when data comes; port 3 crashes; other ports echo. */

#include <unistd.h>
#include <alknet/alknet.h>

static void hang(void)
{
	for (;;)
		pause();
}

static int hang_open(void *state, struct alk_channel *channel, const struct alk_destination *to,
		     void **user, struct alk_err *err)
{
	(void)state, (void)err;
	if (to->port == 1)
		hang();
	if (to->port == 3)
		__builtin_trap();
	*user = to->port == 2 ? channel : NULL;
	return alk_channel_accept(channel);
}

static size_t hang_data(void *user, struct alk_channel *channel, const uint8_t *bytes, size_t n)
{
	ssize_t written;

	if (user != NULL)
		hang();
	written = alk_channel_write(channel, bytes, n);
	return written < 0 ? n : (size_t)written;
}

static void hang_drain(void *user, struct alk_channel *channel)
{
	(void)user;
	alk_channel_resume(channel);
}

static void hang_eof(void *user, struct alk_channel *channel)
{
	(void)user;
	alk_channel_eof(channel);
}

static const struct alk_service_ops ops = {
	.size = sizeof(ops),
	.open = hang_open,
	.data = hang_data,
	.drain = hang_drain,
	.eof = hang_eof,
};

ALK_PLUGIN(.kind = ALK_PLUGIN_SERVICE, .name = "hang", .version = "0.1", .ops.service = &ops);
