/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "embed_private.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <alknet/transport.h>
#include "connect_keep.h"
#include "log_private.h"

#define HAS(ops_, member_)                                                                         \
	((ops_) != NULL &&                                                                         \
	 (ops_)->size >=                                                                           \
		 offsetof(struct alk_embed_client_ops, member_) + sizeof((ops_)->member_) &&       \
	 (ops_)->member_ != NULL)

/* How often a connection that is lent is looked at, and at how many looks nobody visited meanwhile:
 * then nobody needs it. */
#define LOOK_MS 20
#define LOOKS_IDLE 5

struct alk_embed_client {
	struct alk_embed *embed;
	const struct alk_embed_client_ops *ops;
	void *user;
	struct alk_conf *conf;
	struct alk_keep *keep;
	struct alk_task over;
	struct {
		int epoll;
		struct alk_timer *look;
		uint64_t visits; /* at the last look */
		unsigned idle;	 /* looks since the last visit */
		bool waits;	 /* something was there at the last look */
	} lent;
	int rc;
	struct alk_err err;
	struct alk_embed_client *next, **prev;
};

static void on_up(void *user, bool first)
{
	struct alk_embed_client *client = user;

	if (HAS(client->ops, ready))
		client->ops->ready(client->user, client, first);
}

static void on_over_task(void *user)
{
	struct alk_embed_client *client = user;

	if (HAS(client->ops, closed))
		client->ops->closed(client->user, client, client->rc, &client->err);
}

/* May come from within alk_embed_client_stop(). */
static void on_over(void *user, int rc, const struct alk_err *err)
{
	struct alk_embed_client *client = user;

	client->rc = rc;
	if (err != NULL)
		client->err = *err;
	alk_task_queue(client->embed->loop, &client->over);
}

static bool on_again(void *user, bool was_up, const struct alk_err *err)
{
	struct alk_embed_client *client = user;

	return !HAS(client->ops, lost) || client->ops->lost(client->user, client, was_up, err);
}

static int client_init(struct alk_embed_client *client, const char *table,
		       const struct alk_setting *settings, struct alk_err *err)
{
	static const struct alk_keep_ops ops = {.up = on_up, .again = on_again, .over = on_over};

	client->conf = embed_conf(ALK_ROLE_CLIENT, table, settings, err);
	if (client->conf == NULL || alk_log_setup_options(alk_conf_values(client->conf), err) < 0)
		return -EINVAL;
	alk_loop_refresh(client->embed->loop);
	client->keep = alk_keep_new(client->embed->loop, client->conf, false, &ops, client, err);
	return client->keep != NULL ? alk_keep_start(client->keep, err) : -EINVAL;
}

struct alk_embed_client *alk_embed_client_new(struct alk_embed *embed, const char *table,
					      const struct alk_setting *settings,
					      const struct alk_embed_client_ops *ops, void *user,
					      struct alk_err *err)
{
	struct alk_embed_client *client = calloc(1, sizeof(*client));

	if (client == NULL) {
		alk_err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	client->embed = embed;
	client->ops = ops;
	client->user = user;
	client->over = (struct alk_task){.fn = on_over_task, .user = client};
	client->next = embed->clients;
	client->prev = &embed->clients;
	if (client->next != NULL)
		client->next->prev = &client->next;
	embed->clients = client;
	if (client_init(client, table, settings, err) < 0)
		alk_embed_client_free(&client);
	return client;
}

struct alk_channel *alk_embed_client_open(struct alk_embed_client *client, const char *host,
					  uint16_t port, const struct alk_channel_ops *ops,
					  void *user, struct alk_err *err)
{
	struct alk_destination to = {.port = port, .originator = "127.0.0.1"};
	bool is_path = port == 0 && host[0] == '/';
	size_t len = strlen(host);

	if (len == 0 || len >= (is_path ? sizeof(to.path) : sizeof(to.host))) {
		alk_err_set(err, -EINVAL,
			    "the destination's name has %zu bytes: 1 to %zu it may have", len,
			    (is_path ? sizeof(to.path) : sizeof(to.host)) - 1);
		return NULL;
	}
	memcpy(is_path ? to.path : to.host, host, len);
	return alk_client_open(alk_keep_client(client->keep), &to, ops, user, err);
}

enum alk_embed_failure alk_embed_client_failure(const struct alk_embed_client *client)
{
	static const enum alk_embed_failure as[] = {
		[ALK_CLIENT_FAILED_NOT] = ALK_EMBED_NOT,
		[ALK_CLIENT_FAILED_DIAL] = ALK_EMBED_CONNECT,
		[ALK_CLIENT_FAILED_HOSTKEY] = ALK_EMBED_HOSTKEY,
		[ALK_CLIENT_FAILED_AUTH] = ALK_EMBED_AUTH,
		[ALK_CLIENT_FAILED_TIMEOUT] = ALK_EMBED_TIMEOUT,
		[ALK_CLIENT_FAILED_ENDED] = ALK_EMBED_ENDED,
	};

	return as[alk_client_failure(alk_keep_client(client->keep))];
}

const struct alk_link *alk_embed_client_link(const struct alk_embed_client *client)
{
	return alk_client_link(alk_keep_client(client->keep));
}

const char *alk_embed_client_host_key(const struct alk_embed_client *client)
{
	return alk_client_host_key(alk_keep_client(client->keep));
}

void alk_embed_client_hurry(struct alk_embed_client *client)
{
	alk_keep_wanted(client->keep);
}

/* A program that does not come has the session stand still. */
static void on_look(void *user)
{
	struct alk_embed_client *client = user;
	struct alk_client *session = alk_keep_client(client->keep);
	struct pollfd came = {.fd = client->lent.epoll, .events = POLLIN};
	bool waited = client->lent.waits;

	if (!alk_client_lent(session))
		return;
	client->lent.waits = poll(&came, 1, 0) > 0;
	client->lent.idle = client->embed->visits == client->lent.visits ? client->lent.idle + 1
									 : 0;
	client->lent.visits = client->embed->visits;
	if ((waited && client->lent.waits) || client->lent.idle >= LOOKS_IDLE)
		alk_client_recall(session);
	else
		alk_timer_start(client->lent.look, LOOK_MS);
}

int alk_embed_client_lend(struct alk_embed_client *client, int epoll)
{
	struct alk_client *session = alk_keep_client(client->keep);
	bool was = alk_client_lent(session);
	int rc;

	if (client->lent.look == NULL)
		client->lent.look = alk_timer_new(client->embed->loop, "lent", on_look, client);
	if (client->lent.look == NULL)
		return -ENOMEM;
	rc = alk_client_lend(session, epoll);
	if (rc < 0 || was)
		return rc;
	client->lent.epoll = epoll;
	client->lent.idle = 0;
	client->lent.waits = false;
	if (!alk_timer_active(client->lent.look))
		alk_timer_start(client->lent.look, LOOK_MS);
	return 0;
}

void alk_embed_client_recall(struct alk_embed_client *client)
{
	alk_client_recall(alk_keep_client(client->keep));
}

void alk_embed_client_stop(struct alk_embed_client *client)
{
	alk_keep_stop(client->keep);
}

void alk_embed_client_free(struct alk_embed_client **clientp)
{
	struct alk_embed_client *client = *clientp;

	if (client == NULL)
		return;
	*clientp = NULL;
	alk_keep_free(&client->keep);
	alk_timer_free(&client->lent.look);
	alk_task_cancel(client->embed->loop, &client->over);
	alk_conf_free(&client->conf);
	*client->prev = client->next;
	if (client->next != NULL)
		client->next->prev = client->prev;
	free(client);
}
