/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A server and a client in one process, on a thread of the library's. The client opens a stream to
 * `alknet-hello`, which this program serves itself, and prints what comes.
 *
 *     cc loopback.c $(pkg-config --cflags --libs alknet) && ./a.out HOST_KEY IDENTITY
 * AUTHORIZED_KEYS */
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <alknet/embed.h>

static struct alk_embed *embed;
static char **args;
static sem_t over;

static bool serve(void *user, struct alk_channel *channel, const struct alk_destination *to)
{
	static const struct alk_channel_ops ops = {0};

	if (strcmp(to->host, "alknet-hello") != 0)
		return false;
	alk_channel_set_ops(channel, &ops, user);
	alk_channel_accept(channel);
	alk_channel_write(channel, "hello through the tunnel\n", 25);
	alk_channel_eof(channel);
	return true;
}

static size_t print(void *user, struct alk_channel *channel, const uint8_t *bytes, size_t n)
{
	(void)user, (void)channel;
	return fwrite(bytes, 1, n, stdout);
}

static void hang_up(void *user, struct alk_channel *channel)
{
	(void)user;
	alk_channel_close(channel);
}

static void end(void *user, struct alk_channel *channel)
{
	(void)user, (void)channel;
	sem_post(&over);
}

static void ask(void *user, struct alk_embed_client *client, bool first)
{
	static const struct alk_channel_ops ops = {.data = print, .eof = hang_up, .close = end};

	if (first && alk_embed_client_open(client, "alknet-hello", 1, &ops, user, NULL) == NULL)
		sem_post(&over);
}

static void fail(void *user, struct alk_embed_client *client, int rc, const struct alk_err *err)
{
	(void)user, (void)client, (void)rc;
	fprintf(stderr, "%s\n", err->text);
	sem_post(&over);
}

static void connect_to(void *user, struct alk_embed_server *server)
{
	static const struct alk_embed_client_ops ops = {sizeof(ops), .ready = ask, .closed = fail};
	const struct alk_setting settings[] = {{"server", alk_embed_server_address(server, 0)},
					       {"identity", args[2]},
					       {"known_hosts", "/dev/null"},
					       {"accept_new_host_key", "true"},
					       {0}};
	struct alk_err err;

	if (alk_embed_client_new(embed, NULL, settings, &ops, user, &err) == NULL)
		fail(user, NULL, -1, &err);
}

static void begin(void *user)
{
	static const struct alk_embed_server_ops ops = {sizeof(ops), .ready = connect_to,
							.open = serve};
	const struct alk_setting settings[] = {{"key", args[1]}, {"authorized_keys", args[3]}, {0}};
	const char *table = "return { listen = '127.0.0.1:0', log_level = 'warn' }";
	struct alk_err err;

	if (alk_embed_server_new(embed, table, settings, &ops, user, &err) == NULL)
		fail(user, NULL, -1, &err);
}

int main(int argc, char **argv)
{
	struct alk_err err = {"HOST_KEY IDENTITY AUTHORIZED_KEYS are missing"};

	args = argv;
	sem_init(&over, 0, 0);
	if (argc != 4 || (embed = alk_embed_new(NULL, &err)) == NULL) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	alk_embed_post(embed, begin, NULL);
	sem_wait(&over);
	alk_embed_free(&embed);
	return 0;
}
