/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A server and a client of it on one libev loop: prints what HOST:PORT says, fetched through the
 * tunnel.
 *
 *     cc fetch.c $(pkg-config --cflags --libs alknet) -lev
 *     ./a.out HOST_KEY IDENTITY AUTHORIZED_KEYS HOST PORT */
#include <alknet/alknet.h>
#include <ev.h>
#include <stdio.h>
#include <stdlib.h>

static struct alk_err err = {"the stream was cut"};
static int status = 1;

static size_t on_data(void *user, struct alk_channel *channel, const uint8_t *bytes, size_t n)
{
	return fwrite(bytes, 1, n, stdout);
}

static void on_eof(void *user, struct alk_channel *channel)
{
	status = fflush(stdout) == 0 ? 0 : 1;
	alk_channel_close(channel);
}

static void on_refused(void *user, struct alk_channel *channel, enum alk_open_failure why,
		       const char *text)
{
	alk_err_set(&err, -1, "%s", text);
}

static void on_close(void *user, struct alk_channel *channel)
{
	ev_break(EV_DEFAULT, EVBREAK_ALL);
}

static void on_up(void *user, struct alk_embed_client *client, bool first)
{
	static const struct alk_channel_ops ops = {.data = on_data,
						   .eof = on_eof,
						   .refused = on_refused,
						   .close = on_close};
	char **args = user;

	if (alk_embed_client_open(client, args[4], atoi(args[5]), &ops, NULL, &err) == NULL)
		ev_break(EV_DEFAULT, EVBREAK_ALL);
}

static void on_closed(void *user, struct alk_embed_client *client, int rc,
		      const struct alk_err *why)
{
	err = *why;
	ev_break(EV_DEFAULT, EVBREAK_ALL);
}

int main(int argc, char **argv)
{
	static const struct alk_embed_client_ops ops = {.size = sizeof(ops),
							.ready = on_up,
							.closed = on_closed};
	struct alk_setting serve[] = {{"listen", "127.0.0.1:0"},
				      {"key", argv[1]},
				      {"authorized_keys", argv[3]},
				      {0}};
	struct alk_setting connect[] = {{"server", NULL}, {"identity", argv[2]}, {0}};
	const char *table = "return { known_hosts = '/dev/null', accept_new_host_key = true }";
	struct alk_embed *embed = argc == 6 ? alk_embed_new(EV_DEFAULT, &err) : NULL;
	struct alk_embed_server *server = NULL;

	if (argc != 6)
		alk_err_set(&err, -1, "HOST_KEY IDENTITY AUTHORIZED_KEYS HOST PORT are missing");
	if (embed != NULL)
		server = alk_embed_server_new(embed, NULL, serve, NULL, NULL, &err);
	if (server != NULL)
		connect[0].value = alk_embed_server_address(server, 0);
	if (server != NULL && alk_embed_client_new(embed, table, connect, &ops, argv, &err) != NULL)
		ev_run(EV_DEFAULT, 0);
	alk_embed_free(&embed);
	if (status != 0)
		fprintf(stderr, "%s\n", err.text);
	return status;
}
