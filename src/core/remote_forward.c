/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "remote_forward.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <alknet/dial.h>
#include "connect_keep.h"

#define FORWARDS_MAX 1000
#define TOLD_NOTHING (-1)
#define TOLD_REFUSED (-2)

struct remote_forward {
	struct alk_remote_forwards *list;
	struct remote_forward *next;
	unsigned id;
	char *spec;
	char bind[256]; /* as the protocol writes it: "" is every address */
	uint16_t port;	/* as asked for; 0 = any */
	uint16_t held;	/* that the server listens on, also of the last session */
	uint16_t asked; /* in the question under way */
	int told;	/* the port of the last line on stderr; TOLD_NOTHING, TOLD_REFUSED */
	bool removed;	/* waits for its answer alone, to be taken back */
	enum alk_remote_forward_state state;
	struct alk_ssh_listen *question;
	char host[256], path[108];
	uint16_t host_port;
};

/* A channel whose target is being dialled. */
struct remote_dial {
	struct alk_remote_forwards *list;
	struct remote_dial *next, **prev;
	struct alk_channel *channel;
	struct alk_dial *dial;
};

struct alk_remote_forwards {
	struct alk_loop *loop;
	uint64_t connect_ms;
	struct alk_client *client; /* while a session is up */
	struct remote_forward *first;
	struct remote_dial *dials;
	unsigned last_id, count;
};

const char *alk_remote_forward_state_str(enum alk_remote_forward_state state)
{
	static const char *const names[] = {
		[ALK_REMOTE_WANTED] = "wanted",
		[ALK_REMOTE_ASKING] = "asking",
		[ALK_REMOTE_HELD] = "held",
		[ALK_REMOTE_REFUSED] = "refused",
	};

	return state <= ALK_REMOTE_REFUSED ? names[state] : "?";
}

/* ---- asking ---------------------------------------------------------------------------------- */

static void forward_ask(struct remote_forward *f, uint16_t port);
static void forward_drop(struct remote_forward *f);

static void forward_tell(struct remote_forward *f)
{
	int news = f->state == ALK_REMOTE_REFUSED ? TOLD_REFUSED : f->held;
	char port[32] = "a port that it did not name";

	if (news == f->told)
		return;
	f->told = news;
	if (f->held)
		snprintf(port, sizeof(port), "port %u", f->held);
	if (news == TOLD_REFUSED)
		alk_keep_say(f->list->loop,
			     "alknet: --remote-forward %s: the server refused to listen", f->spec);
	else
		alk_keep_say(f->list->loop,
			     "alknet: the server listens on %s for --remote-forward %s", port,
			     f->spec);
}

static void on_listened(void *user, int rc, uint16_t port)
{
	struct remote_forward *f = user;

	f->question = NULL;
	if (f->removed) {
		if (rc == 0 && port)
			alk_client_unlisten(f->list->client, f->bind, port);
		forward_drop(f);
		return;
	}
	if (rc == -ENOTCONN) {
		f->state = ALK_REMOTE_WANTED;
		return;
	}
	/* The port of the session before was taken by somebody else meanwhile: any other, then. */
	if (rc < 0 && f->port == 0 && f->asked != 0) {
		forward_ask(f, 0);
		return;
	}
	f->state = rc < 0 ? ALK_REMOTE_REFUSED : ALK_REMOTE_HELD;
	f->held = rc < 0 ? 0 : port;
	forward_tell(f);
}

static void forward_ask(struct remote_forward *f, uint16_t port)
{
	f->asked = port;
	f->question = alk_client_listen(f->list->client, f->bind, port, on_listened, f);
	f->state = f->question ? ALK_REMOTE_ASKING : ALK_REMOTE_REFUSED;
	if (!f->question)
		forward_tell(f);
}

static void on_up(void *user, struct alk_client *client)
{
	struct alk_remote_forwards *list = user;
	struct remote_forward *f;

	list->client = client;
	for (f = list->first; f; f = f->next)
		forward_ask(f, f->port ? f->port : f->held);
}

static void on_down(void *user)
{
	struct alk_remote_forwards *list = user;
	struct remote_forward *f, *next;

	list->client = NULL;
	for (f = list->first; f; f = next) {
		next = f->next;
		alk_client_listen_cancel(&f->question);
		f->state = ALK_REMOTE_WANTED;
		if (f->removed)
			forward_drop(f);
	}
}

/* ---- the list -------------------------------------------------------------------------------- */

struct alk_remote_forwards *alk_remote_forwards_new(struct alk_loop *loop, uint64_t connect_ms)
{
	struct alk_remote_forwards *list = calloc(1, sizeof(*list));

	if (list) {
		list->loop = loop;
		list->connect_ms = connect_ms;
	}
	return list;
}

static int forward_read(struct remote_forward *f, const char *spec, struct alk_err *err)
{
	struct alk_forward parsed;
	int rc = alk_forward_parse_remote(spec, &parsed, err);

	if (rc < 0)
		return rc;
	memcpy(f->bind, parsed.bind, sizeof(f->bind));
	memcpy(f->host, parsed.host, sizeof(f->host));
	memcpy(f->path, parsed.path, sizeof(f->path));
	f->port = parsed.port;
	f->host_port = parsed.host_port;
	return 0;
}

static bool forward_is_twin(const struct remote_forward *a, const struct remote_forward *b)
{
	return !a->removed && a->port != 0 && a->port == b->port && strcmp(a->bind, b->bind) == 0;
}

int alk_remote_forwards_add(struct alk_remote_forwards *list, const char *spec, unsigned *id,
			    struct alk_err *err)
{
	struct remote_forward *f, **at;
	int rc;

	if (list->count == FORWARDS_MAX)
		return alk_err_set(err, -EINVAL, "there are %d remote forwards already",
				   FORWARDS_MAX);
	f = calloc(1, sizeof(*f));
	if (!f || !(f->spec = strdup(spec))) {
		free(f);
		return alk_err_set(err, -ENOMEM, "out of memory");
	}
	f->list = list;
	rc = forward_read(f, spec, err);
	for (at = &list->first; rc == 0 && *at; at = &(*at)->next)
		if (forward_is_twin(*at, f))
			rc = alk_err_set(err, -EINVAL, "port %u is forwarded already", f->port);
	if (rc < 0) {
		free(f->spec);
		free(f);
		return rc;
	}
	*at = f;
	f->id = ++list->last_id;
	f->told = TOLD_NOTHING;
	list->count++;
	if (id)
		*id = f->id;
	if (list->client)
		forward_ask(f, f->port);
	return 0;
}

static void forward_drop(struct remote_forward *f)
{
	struct remote_forward **at = &f->list->first;

	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	f->list->count--;
	alk_client_listen_cancel(&f->question);
	free(f->spec);
	free(f);
}

int alk_remote_forwards_remove(struct alk_remote_forwards *list, unsigned id)
{
	struct remote_forward *f = list->first;

	while (f && (f->id != id || f->removed))
		f = f->next;
	if (!f)
		return -ENOENT;
	if (f->question) {
		f->removed = true;
		return 0;
	}
	if (list->client && f->state == ALK_REMOTE_HELD && f->held)
		alk_client_unlisten(list->client, f->bind, f->held);
	forward_drop(f);
	return 0;
}

bool alk_remote_forwards_next(const struct alk_remote_forwards *list, unsigned after,
			      struct alk_remote_forward_info *info)
{
	const struct remote_forward *f = list->first;

	while (f && (f->id <= after || f->removed))
		f = f->next;
	if (!f)
		return false;
	*info = (struct alk_remote_forward_info){
		.id = f->id,
		.spec = f->spec,
		.state = f->state,
		.port = f->state == ALK_REMOTE_HELD ? f->held : 0,
	};
	return true;
}

/* ---- what comes ------------------------------------------------------------------------------ */

static void dial_free(struct remote_dial *d)
{
	if (d->dial)
		alk_dial_cancel(&d->dial);
	*d->prev = d->next;
	if (d->next)
		d->next->prev = d->prev;
	free(d);
}

static void on_given_up(void *user, struct alk_channel *channel)
{
	(void)channel;
	dial_free(user);
}

static const struct alk_channel_ops dial_ops = {.close = on_given_up};

static void dial_refuse(struct remote_dial *d, int rc)
{
	struct alk_channel *channel = d->channel;

	alk_channel_set_ops(channel, NULL, NULL);
	alk_channel_refuse(channel, alk_open_failure_of(rc), "the target does not answer");
	dial_free(d);
}

static void on_dialled(void *user, int rc, int fd, const struct alk_err *err)
{
	struct remote_dial *d = user;
	struct alk_channel *channel = d->channel;

	(void)err;
	d->dial = NULL;
	if (rc < 0) {
		dial_refuse(d, rc);
		return;
	}
	alk_channel_set_ops(channel, NULL, NULL);
	dial_free(d);
	if (alk_channel_attach(channel, &fd) < 0)
		alk_channel_close(channel);
}

static bool bind_is_any(const char *bind)
{
	return bind[0] == '\0' || strcmp(bind, "*") == 0 || strcmp(bind, "0.0.0.0") == 0 ||
	       strcmp(bind, "::") == 0;
}

static bool bind_is_local(const char *bind)
{
	return strcmp(bind, "localhost") == 0 || strcmp(bind, "127.0.0.1") == 0 ||
	       strcmp(bind, "::1") == 0;
}

/* How well is `host` the address that was asked for as `bind`? A server should write it as it was
 * asked for (RFC 4254 7.2), but not each does. */
enum bind_fit {
	FIT_PORT_ALONE = 1,
	FIT_KIND,
	FIT_SAME
};

static enum bind_fit bind_fits(const char *bind, const char *host)
{
	if (strcasecmp(bind, host) == 0)
		return FIT_SAME;
	if ((bind_is_any(bind) && bind_is_any(host)) ||
	    (bind_is_local(bind) && bind_is_local(host)))
		return FIT_KIND;
	return FIT_PORT_ALONE;
}

/* The port decides, and among several forwards of it the address; if that fits none of them nobody
 * knows whose it is. One whose port the server did not say takes the first that is nobody else's. */
static struct remote_forward *forward_find(struct alk_remote_forwards *list,
					   const struct alk_destination *to)
{
	struct remote_forward *f, *best = NULL, *nameless = NULL;
	enum bind_fit fit, best_fit = 0;
	bool several = false;

	for (f = list->first; f; f = f->next) {
		if (f->removed)
			continue;
		if (f->state == ALK_REMOTE_HELD && !f->held)
			nameless = f;
		/* The answer to one that is asked for may stand behind the first connection. */
		if (!(f->state == ALK_REMOTE_HELD && f->held == to->port) &&
		    !(f->state == ALK_REMOTE_ASKING && f->asked == to->port))
			continue;
		fit = bind_fits(f->bind, to->host);
		several = several || best;
		if (fit > best_fit) {
			best = f;
			best_fit = fit;
		}
	}
	if (best)
		return several && best_fit == FIT_PORT_ALONE ? NULL : best;
	if (nameless) {
		nameless->held = to->port;
		forward_tell(nameless);
	}
	return nameless;
}

static void on_opened(void *user, struct alk_channel *channel, const struct alk_destination *to)
{
	struct alk_remote_forwards *list = user;
	struct remote_forward *f = to->port ? forward_find(list, to) : NULL;
	struct alk_destination target;
	struct alk_err err = {""};
	struct remote_dial *d;

	if (!f) {
		alk_channel_refuse(channel, ALK_OPEN_PROHIBITED, "nobody asked for this port");
		return;
	}
	d = calloc(1, sizeof(*d));
	if (!d) {
		alk_channel_refuse(channel, ALK_OPEN_RESOURCE_SHORTAGE, "out of memory");
		return;
	}
	d->list = list;
	d->channel = channel;
	d->next = list->dials;
	d->prev = &list->dials;
	if (d->next)
		d->next->prev = &d->next;
	list->dials = d;
	alk_channel_set_ops(channel, &dial_ops, d);
	/* The program's proxy is the way to the server, not to what is here. */
	target = (struct alk_destination){.port = f->host_port, .via = "none"};
	snprintf(target.host, sizeof(target.host), "%s", f->host);
	snprintf(target.path, sizeof(target.path), "%s", f->path);
	d->dial = alk_dial_to(list->loop, &target, list->connect_ms, on_dialled, d, &err);
	if (!d->dial)
		dial_refuse(d, -ENOMEM);
}

void alk_remote_forwards_attach(struct alk_remote_forwards *list, struct alk_client *client)
{
	static const struct alk_client_forward_ops ops = {
		.up = on_up,
		.down = on_down,
		.opened = on_opened,
	};

	alk_client_set_forwards(client, &ops, list);
}

void alk_remote_forwards_free(struct alk_remote_forwards **listp)
{
	struct alk_remote_forwards *list = *listp;

	*listp = NULL;
	if (!list)
		return;
	while (list->dials)
		dial_refuse(list->dials, -ECANCELED);
	while (list->first)
		forward_drop(list->first);
	free(list);
}
