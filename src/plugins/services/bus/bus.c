/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "bus.h"
#include "hub.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The service of alknet-control: an event bus with topics and calls. docs/BUS.md. */

static const struct alk_option bus_options[] = {
	{.name = "max_frame",
	 .type = ALK_OPT_SIZE,
	 .fallback = "1M",
	 .min = 1024,
	 .max = 4 << 20,
	 .help = "Bytes of a frame."},
	{.name = "max_queue",
	 .type = ALK_OPT_SIZE,
	 .fallback = "4M",
	 .min = 4096,
	 .max = 1 << 30,
	 .help = "Bytes that wait for a subscriber; past it the oldest events are dropped."},
	{.name = "slow_consumer",
	 .type = ALK_OPT_ENUM,
	 .fallback = "drop",
	 .choices = "drop|close",
	 .help = "What happens to a subscriber past max_queue."},
	{.name = "max_subscriptions",
	 .type = ALK_OPT_INT,
	 .fallback = "1024",
	 .min = 1,
	 .max = 1000000,
	 .help = "Subscriptions of a channel."},
	{.name = "max_calls",
	 .type = ALK_OPT_INT,
	 .fallback = "256",
	 .min = 1,
	 .max = 65536,
	 .help = "Calls of a channel that are under way."},
	{.name = "max_rate",
	 .type = ALK_OPT_INT,
	 .fallback = "0",
	 .min = 0,
	 .max = 10000000,
	 .help = "Frames a second of a channel; more wait in it. 0: no limit."},
	{.name = "call_timeout",
	 .type = ALK_OPT_DURATION,
	 .fallback = "30",
	 .min = 1,
	 .max = 86400000,
	 .help = "How long a call without a deadline may take."},
	{.name = "frame_timeout",
	 .type = ALK_OPT_DURATION,
	 .fallback = "30",
	 .min = 1,
	 .max = 3600000,
	 .help = "How long a frame may stand still that has begun."},
	{.name = "max_retained",
	 .type = ALK_OPT_INT,
	 .fallback = "1024",
	 .min = 0,
	 .max = 65536,
	 .help = "Retained values, one a topic; the oldest is forgotten."},
	{.name = "max_retained_bytes",
	 .type = ALK_OPT_SIZE,
	 .fallback = "4M",
	 .min = 0,
	 .max = 16 << 20,
	 .help = "Bytes of all retained values."},
	{.name = "listen",
	 .type = ALK_OPT_STRING,
	 .arg = "unix:PATH",
	 .help = "A unix socket of this machine where the bus is without SSH; who connects is uid:NUMBER."},
	{.name = "listen_mode",
	 .type = ALK_OPT_STRING,
	 .fallback = "0600",
	 .arg = "MODE",
	 .help = "The socket's mode: 0600 is the server's own user, 0660 its group too, 0666 everybody."},
	{.name = "listen_group",
	 .type = ALK_OPT_STRING,
	 .arg = "GROUP",
	 .help = "The socket's group; without it the server's own."},
	{.name = "listen_scopes",
	 .type = ALK_OPT_STRING,
	 .flags = ALK_OPT_REPEAT,
	 .arg = "USER=SCOPE[,SCOPE]",
	 .help = "What scopes a local user has, by name or number; without a line none."},
	{.name = "access",
	 .type = ALK_OPT_STRING,
	 .flags = ALK_OPT_REPEAT,
	 .arg = "PATTERN=SCOPE[,SCOPE]",
	 .help = "Operations whose name matches, /*/fs/* or /admin/**, are for who has one of the scopes; @ is who has a "
		 "resource that matches the name. Every line that matches counts."},
	{.name = "backend",
	 .type = ALK_OPT_STRING,
	 .arg = "nats://HOST:PORT",
	 .help = "Be one bus with other servers, over NATS; several addresses with commas between them."},
	{.name = "backend_credentials",
	 .type = ALK_OPT_STRING,
	 .arg = "FILE",
	 .help = "Credentials for NATS (a .creds file)."},
	{.name = "backend_ca",
	 .type = ALK_OPT_STRING,
	 .arg = "FILE",
	 .help = "Certificates that NATS is trusted by, with tls://."},
	{.name = "backend_prefix",
	 .type = ALK_OPT_STRING,
	 .fallback = "alknet.bus",
	 .arg = "SUBJECT",
	 .help = "What all subjects begin with; the same on all servers of a bus."},
	{.name = "backend_buffer",
	 .type = ALK_OPT_SIZE,
	 .fallback = "8M",
	 .min = 4096,
	 .max = 1 << 30,
	 .help = "Bytes of events that wait while NATS is away; more are refused."},
	{.name = "durable",
	 .type = ALK_OPT_STRING,
	 .flags = ALK_OPT_REPEAT,
	 .arg = "PATTERN",
	 .help = "Topics that JetStream keeps, for subscribers with replay."},
	{.type = ALK_OPT_END},
};

/* The way of channels. Small frames become one packet, not one each. */
static ssize_t channel_write(struct conn *c, const struct iovec *parts, int n)
{
	static uint8_t joined[BUS_OUTPUT];
	size_t bytes = 0;

	if (n == 1)
		return alk_channel_write(c->at, parts[0].iov_base, parts[0].iov_len);
	for (int i = 0; i < n; i++) {
		memcpy(joined + bytes, parts[i].iov_base, parts[i].iov_len);
		bytes += parts[i].iov_len;
	}
	return alk_channel_write(c->at, joined, bytes);
}

static void channel_resume(struct conn *c)
{
	alk_channel_resume(c->at);
}

static void channel_close(struct conn *c)
{
	alk_channel_close(c->at);
}

static const struct alk_identity *channel_identity(const struct conn *c)
{
	return alk_channel_identity(c->at);
}

static int channel_ask(struct conn *c, const struct alk_channel_question *question,
		       void (*done)(void *user, bool allowed, const char *reason), void *user,
		       struct alk_channel_ask **ask)
{
	return alk_channel_ask(c->at, question, done, user, ask);
}

static const struct conn_way channel_way = {
	.write = channel_write,
	.resume = channel_resume,
	.close = channel_close,
	.identity = channel_identity,
	.ask = channel_ask,
};

struct alk_channel *conn_channel(const struct conn *c)
{
	return c->way == &channel_way ? c->at : NULL;
}

static void on_tell(void *user)
{
	struct bus *bus = user;
	struct wire_out out;

	wire_begin(&out, WIRE_COUNTS);
	for (size_t i = 0; i < BUS_COUNTER_COUNT; i++)
		wire_number(&out, bus->count[i] - bus->told[i]);
	if (bus_say(bus, &out))
		for (size_t i = 0; i < BUS_COUNTER_COUNT; i++)
			bus->told[i] = bus->count[i];
}

static void worker_free(struct bus **bus)
{
	if (*bus == NULL)
		return;
	call_all_end(*bus); /* those of inner operations, too, while these are there */
	inner_stop(*bus);
	while ((*bus)->conns != NULL) {
		struct conn *c = (*bus)->conns;

		conn_free(&c);
	}
	event_end(*bus);
	alk_task_cancel((*bus)->loop, &(*bus)->turn);
	half_stop(*bus);
	spoke_all_end(*bus);
	spoke_own_end(*bus);
	access_free(&(*bus)->access);
	topics_free(&(*bus)->topics);
	free((*bus)->groups);
	alk_timer_free(&(*bus)->tell);
	local_scopes_free(&(*bus)->local_scopes);
	free((*bus)->input);
	free(*bus);
	*bus = NULL;
}

static struct bus *worker_new(const struct alk_plugin_env *env, struct alk_err *err)
{
	const struct alk_options *o = env->options;
	struct bus *bus = calloc(1, sizeof(*bus));

	if (bus == NULL)
		return NULL;
	bus->loop = env->loop;
	bus->half = env->half;
	conn_turns_init(bus);
	half_start(bus);
	bus->frame_max = (size_t)alk_options_int(o, "max_frame");
	bus->queue_max = (size_t)alk_options_int(o, "max_queue");
	bus->close_slow = alk_options_str(o, "slow_consumer")[0] == 'c';
	bus->subscriptions_max = (unsigned)alk_options_int(o, "max_subscriptions");
	bus->calls_max = (unsigned)alk_options_int(o, "max_calls");
	bus->rate = alk_options_int(o, "max_rate");
	bus->call_timeout = (uint64_t)alk_options_int(o, "call_timeout");
	bus->frame_timeout = (uint64_t)alk_options_int(o, "frame_timeout");
	bus->topics = topics_new();
	bus->tell = alk_timer_new(bus->loop, "bus counters", on_tell, bus);
	bus->input = malloc(BUS_INPUT);
	if (bus->topics == NULL || bus->tell == NULL || bus->input == NULL ||
	    !spoke_own_start(bus) || local_scopes_read(o, &bus->local_scopes, err) < 0 ||
	    access_read(o, &bus->access, err) < 0 || inner_start(bus, env->bus) < 0)
		worker_free(&bus);
	return bus;
}

static int bus_check(enum alk_role role, const struct alk_options *options, struct alk_err *err)
{
	struct access *list = NULL;
	int rc = hub_local_read(options, err);

	(void)role;
	if (rc == 0)
		rc = access_read(options, &list, err);
	access_free(&list);
	return rc;
}

/* Either half; which one stands first. */
struct plugin_state {
	struct bus *bus;
	struct hub *hub;
};

static void bus_deinit(void **state)
{
	struct plugin_state *s = *state;

	worker_free(&s->bus);
	hub_free(&s->hub);
	free(s);
	*state = NULL;
}

static int bus_init(const struct alk_plugin_env *env, void **state, struct alk_err *err)
{
	struct plugin_state *s = calloc(1, sizeof(*s));

	alk_err_set(err, -ENOMEM, "out of memory for the bus");
	if (s != NULL && env->role == ALK_ROLE_SUPERVISOR)
		s->hub = hub_new(env, err);
	else if (s != NULL)
		s->bus = worker_new(env, err);
	if (s == NULL || (s->hub == NULL && s->bus == NULL)) {
		free(s);
		return -EINVAL;
	}
	*state = s;
	return 0;
}

static int bus_open(void *state, struct alk_channel *channel, const struct alk_destination *to,
		    void **user, struct alk_err *err)
{
	struct plugin_state *s = state;
	struct conn *c = conn_new(s->bus, &channel_way, channel);
	int rc;

	(void)to;
	if (c == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	rc = alk_channel_accept(channel);
	if (rc < 0) {
		conn_free(&c);
		return alk_err_set(err, rc, "the session has ended");
	}
	*user = c;
	return 0;
}

static struct conn *conn_of(void *user)
{
	struct conn *c = user;

	return c != NULL && c->magic == BUS_CONN_MAGIC ? c : NULL;
}

static size_t bus_data(void *user, struct alk_channel *channel, const uint8_t *bytes, size_t n)
{
	struct conn *c = conn_of(user);

	(void)channel;
	return c != NULL ? conn_data(c, bytes, n) : n;
}

static void bus_drain(void *user, struct alk_channel *channel)
{
	struct conn *c = conn_of(user);

	(void)channel;
	if (c != NULL)
		conn_flush(c);
}

static void bus_eof(void *user, struct alk_channel *channel)
{
	struct conn *c = conn_of(user);

	(void)channel;
	if (c != NULL)
		conn_eof(c);
}

static void bus_close(void *user, struct alk_channel *channel)
{
	struct conn *c = conn_of(user);

	(void)channel;
	conn_free(&c);
}

static void bus_local(void *state, struct alk_local *local)
{
	struct plugin_state *s = state;

	local_open(s->bus, local);
}

static void bus_message(void *state, uint64_t worker, const uint8_t *bytes, size_t n)
{
	struct plugin_state *s = state;

	if (s->hub != NULL)
		hub_hear(s->hub, worker, bytes, n);
	else
		bus_hear(s->bus, bytes, n);
}

static void bus_worker_up(void *state, uint64_t worker)
{
	hub_worker_up(((struct plugin_state *)state)->hub, worker);
}

static void bus_worker_down(void *state, uint64_t worker)
{
	hub_worker_down(((struct plugin_state *)state)->hub, worker);
}

static int bus_configure(void *state, const struct alk_options *options, bool apply,
			 struct alk_err *err)
{
	return hub_configure(((struct plugin_state *)state)->hub, options, apply, err);
}

static void bus_command(void *state, const char *name, const char *params, struct alk_call *call)
{
	hub_command(((struct plugin_state *)state)->hub, name, params, call);
}

static char *bus_metrics(void *state)
{
	return hub_metrics(((struct plugin_state *)state)->hub);
}

static const struct alk_service_ops bus_ops = {
	.size = sizeof(bus_ops),
	.open = bus_open,
	.data = bus_data,
	.drain = bus_drain,
	.eof = bus_eof,
	.close = bus_close,
	.local = bus_local,
};

static const struct alk_half_ops bus_half = {
	.size = sizeof(bus_half),
	.message = bus_message,
	.worker_up = bus_worker_up,
	.worker_down = bus_worker_down,
	.configure = bus_configure,
	.command = bus_command,
	.metrics = bus_metrics,
};

ALK_PLUGIN(.kind = ALK_PLUGIN_SERVICE, .name = "bus", .version = "0.1", .options = bus_options,
	   .init = bus_init, .deinit = bus_deinit, .ops.service = &bus_ops, .half = &bus_half,
	   .check = bus_check);
