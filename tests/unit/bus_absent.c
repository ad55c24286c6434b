/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The parts of the bus that a test does not link: they do nothing, and say yes. Each is weak: the
 * part itself comes before it where it is linked, and what a test says in its place. */
#include "../../src/plugins/services/bus/bus.h"
#include "../../src/plugins/services/bus/hub.h"

#define ABSENT __attribute__((weak))

/* In a worker */

ABSENT bool access_allows(const struct access *list, const struct alk_identity *identity,
			  const char *operation)
{
	(void)list, (void)identity, (void)operation;
	return true;
}

ABSENT bool bus_say(struct bus *bus, struct wire_out *out)
{
	(void)bus;
	wire_free(out);
	return true;
}

ABSENT bool bus_say_to(struct bus *bus, struct conn *by, uint64_t worker, struct wire_out *out)
{
	(void)by, (void)worker;
	return bus_say(bus, out);
}

ABSENT void call_fail(struct conn *c, const char *id, const char *code, const char *message)
{
	(void)c, (void)id, (void)code, (void)message;
}

ABSENT json_t *call_output(json_t *output)
{
	return output;
}

ABSENT void conn_ask(struct conn *c, const struct alk_channel_question *question, conn_then *then)
{
	(void)c, (void)question, (void)then;
}

ABSENT void conn_forget_share(struct conn *c)
{
	(void)c;
}

ABSENT void conn_go_on(struct conn *c)
{
	(void)c;
}

ABSENT bool conn_has_share(struct conn *c)
{
	(void)c;
	return true;
}

ABSENT bool conn_hear_out(struct conn *c, conn_then *then)
{
	(void)c, (void)then;
	return true;
}

ABSENT const char *conn_identity(const struct conn *c)
{
	(void)c;
	return "";
}

ABSENT void conn_put(struct conn *c, struct packet *packet, bool event)
{
	(void)c, (void)packet, (void)event;
}

ABSENT void conn_say(struct conn *c, const char *type, const char *id, json_t *payload)
{
	(void)c, (void)type, (void)id;
	json_decref(payload);
}

ABSENT bool conn_take_turn(struct conn *c, conn_then *then)
{
	(void)c, (void)then;
	return true;
}

ABSENT void elsewhere_free(struct elsewhere **who)
{
	*who = NULL;
}

ABSENT const struct alk_identity *elsewhere_identity(const struct elsewhere *who)
{
	(void)who;
	return NULL;
}

ABSENT bool elsewhere_may(const struct bus *bus, const struct elsewhere *who, const char *operation)
{
	(void)bus, (void)who, (void)operation;
	return true;
}

ABSENT struct elsewhere *elsewhere_new(const char *identity)
{
	(void)identity;
	return NULL;
}

ABSENT void event_forget(struct conn *c)
{
	(void)c;
}

ABSENT void event_publish(struct conn *c)
{
	(void)c;
}

ABSENT void event_subscribe(struct conn *c)
{
	(void)c;
}

ABSENT void event_unsubscribe(struct conn *c)
{
	(void)c;
}

ABSENT const struct operation *inner_find(const struct bus *bus, const char *name)
{
	(void)bus, (void)name;
	return NULL;
}

ABSENT bool inner_has_part(const struct bus *bus, const char *part)
{
	(void)bus, (void)part;
	return false;
}

ABSENT bool inner_serve(struct call *call, const struct operation *operation, const json_t *input)
{
	(void)call, (void)operation, (void)input;
	return false;
}

ABSENT bool operation_allows(const struct operation *operation, const struct alk_identity *identity)
{
	(void)operation, (void)identity;
	return true;
}

ABSENT bool packet_fits(const struct bus *bus, const struct packet *packet)
{
	(void)bus, (void)packet;
	return true;
}

ABSENT struct packet *packet_make(const char *type, const char *id, json_t *payload)
{
	(void)type, (void)id;
	json_decref(payload);
	return NULL;
}

ABSENT void packet_unref(struct packet **packet)
{
	*packet = NULL;
}

ABSENT void request_call(struct conn *c)
{
	(void)c;
}

ABSENT void request_describe(struct conn *c, const char *name)
{
	(void)c, (void)name;
}

ABSENT void spoke_add(struct bus *bus, struct wire_in *in)
{
	(void)bus, (void)in;
}

ABSENT json_t *spoke_describe(const struct bus *bus, const json_t *input,
			      const struct elsewhere *who)
{
	(void)bus, (void)input, (void)who;
	return NULL;
}

ABSENT json_t *spoke_described(const char *name, const json_t *output)
{
	(void)name, (void)output;
	return NULL;
}

ABSENT void spoke_forget(struct conn *c)
{
	(void)c;
}

ABSENT void spoke_registered(struct bus *bus, uint64_t number, const char *code,
			     const char *message)
{
	(void)bus, (void)number, (void)code, (void)message;
}

ABSENT void spoke_remove(struct bus *bus, const char *name)
{
	(void)bus, (void)name;
}

/* In the supervisor */

ABSENT void hub_admin_deinit(struct hub *hub)
{
	(void)hub;
}

ABSENT void hub_answered(struct hub *hub, uint64_t worker, const uint8_t *bytes, size_t n)
{
	(void)hub, (void)worker, (void)bytes, (void)n;
}

ABSENT bool hub_has_room(const struct hub *hub, uint64_t worker)
{
	(void)hub, (void)worker;
	return true;
}

ABSENT int hub_local_apply(struct hub *hub, const struct alk_options *options, struct alk_err *err)
{
	(void)hub, (void)options, (void)err;
	return 0;
}

ABSENT int hub_local_check(const struct hub *hub, const struct alk_options *options,
			   struct alk_err *err)
{
	(void)hub, (void)options, (void)err;
	return 0;
}

ABSENT void hub_local_deinit(struct hub *hub)
{
	(void)hub;
}

ABSENT void hub_nats_abort(struct hub *hub, uint64_t worker, struct wire_in *in)
{
	(void)hub, (void)worker, (void)in;
}

ABSENT void hub_nats_apply(struct hub *hub, const struct alk_options *options)
{
	(void)hub, (void)options;
}

ABSENT void hub_nats_call(struct hub *hub, uint64_t worker, struct wire_in *in)
{
	(void)hub, (void)worker, (void)in;
}

ABSENT int hub_nats_check(const struct alk_options *options, struct alk_err *err)
{
	(void)options, (void)err;
	return 0;
}

ABSENT void hub_nats_deinit(struct hub *hub)
{
	(void)hub;
}

ABSENT void hub_nats_describe(struct hub *hub, uint64_t worker, struct wire_in *in)
{
	(void)hub, (void)worker, (void)in;
}

ABSENT bool hub_nats_event(struct hub *hub, uint64_t worker, uint64_t connection, const char *topic,
			   const uint8_t *frame, size_t n, uint64_t retain)
{
	(void)hub, (void)worker, (void)connection, (void)topic, (void)frame, (void)n, (void)retain;
	return true;
}

ABSENT void hub_nats_has(struct hub *hub, const char *spoke, const struct hub_operations *has)
{
	(void)hub, (void)spoke, (void)has;
}

ABSENT void hub_nats_has_no_more(struct hub *hub, const char *spoke,
				 const struct hub_operations *has)
{
	(void)hub, (void)spoke, (void)has;
}

ABSENT const char *hub_nats_past(struct hub *hub, uint64_t worker, uint64_t tag,
				 const char *pattern, uint64_t since, const char *identity)
{
	(void)hub, (void)worker, (void)tag, (void)pattern, (void)since, (void)identity;
	return NULL;
}

ABSENT void hub_nats_past_stop(struct hub *hub, uint64_t worker, uint64_t tag)
{
	(void)hub, (void)worker, (void)tag;
}

ABSENT void hub_nats_unwant(struct hub *hub, struct hub_want *want)
{
	(void)hub, (void)want;
}

ABSENT void hub_nats_want(struct hub *hub, struct hub_want *want)
{
	(void)hub, (void)want;
}

ABSENT void hub_nats_worker_down(struct hub *hub, uint64_t worker)
{
	(void)hub, (void)worker;
}

ABSENT bool hub_say_from(struct hub *hub, uint64_t from, uint64_t worker, const uint8_t *bytes,
			 size_t n)
{
	(void)hub, (void)from, (void)worker, (void)bytes, (void)n;
	return true;
}

ABSENT void hub_tail(struct hub *hub, const char *topic, const uint8_t *frame, size_t n)
{
	(void)hub, (void)topic, (void)frame, (void)n;
}

ABSENT struct hub_worker *hub_worker_of(const struct hub *hub, uint64_t number)
{
	(void)hub, (void)number;
	return NULL;
}
