/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A session, and the streams that wait for it. */
#include "binding.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* So much more than questions and short answers, and the session is no conversation for so long. */
#define BULK_BYTES (64 * 1024)
#define BULK_MS 100
/* So many streams may wait for a session, as many as connections of `alknet connect`. */
#define WISHES_MAX 256

struct wish {
	struct client *client;
	struct stream *stream;
	char host[256];
	uint16_t port;
	struct wish *next;
};

struct client {
	struct belonging belonging;
	atomic_uint refs;
	struct env *env;
	double id;
	bool again; /* begin another session when one ended */
	/* There. */
	struct alk_setting *settings;
	struct alk_embed_client *embed;
	bool up, over;
	size_t moved;	     /* since the last question */
	uint64_t bulk_until; /* monotonic ms */
	struct wish *wishes, **wishes_end;
	unsigned waiting; /* wishes */
};

static struct client *client_ref(struct client *client)
{
	atomic_fetch_add(&client->refs, 1);
	return client;
}

void client_unref(struct client **clientp)
{
	struct client *client = *clientp;

	*clientp = NULL;
	if (client == NULL || atomic_fetch_sub(&client->refs, 1) != 1)
		return;
	env_unref(&client->env);
	settings_free(&client->settings);
	free(client);
}

/* ---- there ---- */

static void wish_free(struct wish *wish)
{
	stream_unref(&wish->stream);
	client_unref(&wish->client);
	free(wish);
}

static void wish_refuse(struct wish *wish, enum alk_open_failure why, const char *text)
{
	struct env *env = wish->client->env;
	double id = stream_id(wish->stream);

	env_tell(env, event_text(EV_REFUSED, id, why, text));
	env_tell(env, event_new(EV_GONE, id));
	wish_free(wish);
}

static void wish_add(struct client *client, struct wish *wish)
{
	*client->wishes_end = wish;
	client->wishes_end = &wish->next;
	client->waiting++;
	stream_waits(wish->stream, client);
}

/* Out of the list, where `at` leads to it. */
static struct wish *wish_take(struct client *client, struct wish **at)
{
	struct wish *wish = *at;

	*at = wish->next;
	if (client->wishes_end == &wish->next)
		client->wishes_end = at;
	client->waiting--;
	stream_waits(wish->stream, NULL);
	return wish;
}

static void wishes_refuse(struct client *client, const char *text)
{
	while (client->wishes != NULL)
		wish_refuse(wish_take(client, &client->wishes), ALK_OPEN_GONE, text);
}

void client_forget(struct client *client, const struct stream *stream)
{
	struct wish **at = &client->wishes;

	while (*at != NULL && (*at)->stream != stream)
		at = &(*at)->next;
	if (*at != NULL)
		wish_refuse(wish_take(client, at), ALK_OPEN_GONE, "the stream was closed");
}

static void wish_open(struct wish *wish)
{
	struct alk_err err = {""};

	if (stream_open(wish->stream, wish->client, wish->host, wish->port, &err))
		wish_free(wish);
	else
		wish_refuse(wish, ALK_OPEN_RESOURCE_SHORTAGE, err.text);
}

struct alk_embed_client *client_embed(const struct client *client)
{
	return client->embed;
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

bool client_lend(struct client *client)
{
	int epoll = env_epoll(client->env);

	client->moved = 0;
	return epoll >= 0 && now_ms() >= client->bulk_until &&
	       alk_embed_client_lend(client->embed, epoll) == 0;
}

void client_moved(struct client *client, size_t n)
{
	client->moved += n;
	if (client->moved < BULK_BYTES)
		return;
	client->moved = 0;
	client->bulk_until = now_ms() + BULK_MS;
	alk_embed_client_recall(client->embed);
}

static struct info *client_info(const struct client *client)
{
	const struct alk_link *link = alk_embed_client_link(client->embed);
	struct info *info = calloc(1, sizeof(*info));

	if (info == NULL)
		return NULL;
	memcpy(info->remote_addr, link->remote_addr, sizeof(link->remote_addr));
	memcpy(info->transport, link->transport, sizeof(link->transport));
	memcpy(info->peer_id, link->peer_id, sizeof(link->peer_id));
	strncpy(info->host_key, alk_embed_client_host_key(client->embed),
		sizeof(info->host_key) - 1);
	info->remote_port = link->remote_port;
	return info;
}

static void on_ready(void *user, struct alk_embed_client *embed, bool first)
{
	struct client *client = user;
	struct event *event = event_new(EV_UP, client->id);

	(void)embed;
	client->up = true;
	if (event != NULL) {
		event->number = first;
		event->info = client_info(client);
	}
	env_tell(client->env, event);
	while (client->wishes != NULL)
		wish_open(wish_take(client, &client->wishes));
}

static bool on_lost(void *user, struct alk_embed_client *embed, bool was_up,
		    const struct alk_err *err)
{
	struct client *client = user;

	(void)embed;
	client->up = false;
	if (!client->again)
		return false;
	env_tell(client->env, event_text(EV_LOST, client->id, was_up, err->text));
	return true;
}

/* Nothing of it is there any more; the reference of `there` goes. */
static void client_end(struct client *client)
{
	if (client->over)
		return;
	client->over = true;
	client->up = false;
	env_disown(&client->belonging);
	wishes_refuse(client, "the session is closed");
	alk_embed_client_free(&client->embed);
	settings_free(&client->settings);
	client_unref(&client);
}

static void on_end_posted(void *user)
{
	struct client *client = user;

	client_end(client);
	client_unref(&client);
}

static void on_closed(void *user, struct alk_embed_client *embed, int rc, const struct alk_err *err)
{
	struct client *client = user;

	client->up = false;
	env_tell(client->env, event_text(EV_CLOSED, client->id,
					 rc == 0 ? ALK_EMBED_NOT : alk_embed_client_failure(embed),
					 rc == 0 ? "" : err->text));
	/* Not in here. */
	if (home_post(on_end_posted, client_ref(client)) < 0)
		client_unref(&(struct client *){client});
}

static void on_drop(struct belonging *belonging)
{
	client_end((struct client *)belonging); /* the first member */
}

static void on_begin(void *user)
{
	static const struct alk_embed_client_ops ops = {.size = sizeof(ops),
							.ready = on_ready,
							.closed = on_closed,
							.lost = on_lost};
	struct client *client = user;
	struct alk_embed *embed = home_embed();
	struct alk_err err = {"the process exits"};

	if (client->over) { /* given up before it began */
		client_unref(&client);
		return;
	}
	env_own(client->env, &client->belonging);
	if (embed != NULL)
		client->embed = alk_embed_client_new(embed, NULL, client->settings, &ops, client,
						     &err);
	settings_free(&client->settings);
	if (client->embed == NULL) {
		env_tell(client->env, event_text(EV_CLOSED, client->id, FAILED_CONFIG, err.text));
		client_end(client);
	}
	client_unref(&client);
}

static void on_wish(void *user)
{
	struct wish *wish = user;
	struct client *client = wish->client;

	if (client->over) {
		wish_refuse(wish, ALK_OPEN_GONE, "the session is closed");
		return;
	}
	if (client->up) {
		wish_open(wish);
		return;
	}
	if (client->waiting >= WISHES_MAX) {
		wish_refuse(wish, ALK_OPEN_RESOURCE_SHORTAGE,
			    "too many streams wait for a session already");
		return;
	}
	wish_add(client, wish);
	if (client->embed != NULL)
		alk_embed_client_hurry(client->embed);
}

static void on_stop(void *user)
{
	struct client *client = user;

	if (client->embed != NULL)
		alk_embed_client_stop(client->embed);
	client_unref(&client);
}

/* ---- here ---- */

struct client *client_new(struct env *env, double id, struct alk_setting *settings, bool again)
{
	struct client *client = calloc(1, sizeof(*client));

	if (client == NULL) {
		settings_free(&settings);
		return NULL;
	}
	client->belonging.drop = on_drop;
	client->refs = 3; /* JavaScript's, the one there, the post's */
	client->env = env_ref(env);
	client->id = id;
	client->again = again;
	client->settings = settings;
	client->wishes_end = &client->wishes;
	if (home_post(on_begin, client) == 0)
		return client;
	client->refs = 1;
	client_unref(&client);
	return NULL;
}

bool client_open(struct client *client, struct stream *stream, const char *host, uint16_t port)
{
	struct wish *wish = calloc(1, sizeof(*wish));

	if (wish == NULL)
		return false;
	wish->client = client_ref(client);
	wish->stream = stream_ref(stream);
	strncpy(wish->host, host, sizeof(wish->host) - 1);
	wish->port = port;
	if (home_post(on_wish, wish) == 0)
		return true;
	wish_free(wish);
	return false;
}

bool client_close(struct client *client, bool now)
{
	if (home_post(now ? on_end_posted : on_stop, client_ref(client)) == 0)
		return true;
	client_unref(&(struct client *){client});
	return false;
}
