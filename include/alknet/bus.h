/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_BUS_H
#define ALKNET_BUS_H

/* What a plugin may do on the bus of its worker (since ABI 1.8): offer operations, publish,
 * subscribe. It is there whether the plugin `bus` is loaded or not, and survives its coming and
 * going; while it is not, nothing is called and nothing is carried. Each worker offers its own: a
 * call is served by the worker that it came to.
 *
 *   offer ─▶ call ─▶ answer*, then respond | complete | fail     each call ends in exactly one of them, or in `abort`
 *                └─▶ abort
 *
 * Start here if you add operations to a service: alk_bus_offer() in init, with env->bus.
 * What carries the bus, the plugin `bus`, uses the second half of this file. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <alknet/err.h>

struct alk_bus; /* a worker's; alk_plugin_env.bus, NULL in other processes */
struct alk_channel;
struct alk_identity;
struct alk_operation;	   /* offered */
struct alk_operation_call; /* under way */
struct alk_bus_member;	   /* who publishes and subscribes */

/* Who calls; borrowed for the call of `call`. */
struct alk_operation_caller {
	uint32_t size;
	struct alk_channel *channel;	     /* NULL: not a channel of this worker's */
	const struct alk_identity *identity; /* NULL: the administrator */
};

struct alk_operation_spec {
	uint32_t size;
	const char *
		name; /* "/secret/lock": 2 to 191 bytes, at least two parts, letters, digits, `.`, `_`, `-` */
	const char *type;			  /* "query" (NULL), "mutation" or "subscription" */
	const char *input_schema, *output_schema; /* JSON Schema as JSON, or NULL */
	const char *const *scopes;		  /* all are needed; ends with NULL; NULL = none */
	const char *const *scopes_any;		  /* one of them is needed; as above */
	/* Somebody calls: scopes, policy and schema have been looked at. `input` is JSON, borrowed.
	 * Never from inside of another function of this file. */
	void (*call)(void *user, struct alk_operation_call *call,
		     const struct alk_operation_caller *caller, const char *input);
	/* Optional. Nobody waits any more; the call is gone. */
	void (*abort)(void *user, struct alk_operation_call *call);
};

/* Copies `spec` and what it points to. -EINVAL with `err` for a name, type or schema that will not
 * do, -EEXIST for a name that is there; -ENOMEM. */
ALK_EXPORT int alk_bus_offer(struct alk_bus *bus, const struct alk_operation_spec *spec, void *user,
			     struct alk_operation **operation, struct alk_err *err);
/* Calls under way end in UNAVAILABLE; `abort` runs for each. In deinit at the latest. NULL is
 * nothing. */
ALK_EXPORT void alk_bus_withdraw(struct alk_operation **operation);

/* One answer of an operation of type subscription; `json` is borrowed, any JSON value. When the
 * caller does not keep up `abort` runs before this returns. */
ALK_EXPORT void alk_operation_answer(struct alk_operation_call *call, const char *json);
/* The end; each takes and clears the call. */
ALK_EXPORT void alk_operation_respond(struct alk_operation_call **call, const char *json);
ALK_EXPORT void alk_operation_complete(struct alk_operation_call **call);
/* `code` is one of NOT_FOUND, FORBIDDEN, INVALID_INPUT, INTERNAL, TIMEOUT, UNAVAILABLE, OVERLOADED,
 * or the operation's own: 1 to 64 bytes. */
ALK_EXPORT void alk_operation_fail(struct alk_operation_call **call, const char *code,
				   const char *message);

/* Who publishes and subscribes; it is not handed what it published. `event` gets whole envelopes,
 * {"type","id","payload"} as JSON, borrowed; it may not use this member from inside. NULL: out of
 * memory. */
typedef void alk_bus_event_fn(void *user, const char *envelope, size_t n);
ALK_EXPORT struct alk_bus_member *alk_bus_join(struct alk_bus *bus, alk_bus_event_fn *event,
					       void *user);
/* No event follows. Takes and clears; NULL is nothing. */
ALK_EXPORT void alk_bus_leave(struct alk_bus_member **member);
/* `group` "" = none. -EINVAL with `err` for a pattern that is none; -ENOMEM; -ENOTCONN: the bus
 * does not take it now. After an error nothing is subscribed to, also not later. */
ALK_EXPORT int alk_bus_subscribe(struct alk_bus_member *member, const char *pattern,
				 const char *group, struct alk_err *err);
/* `topic` is a type or type:id, `payload` JSON. 0; -EINVAL with `err`; -ENOTCONN: there is no bus;
 * -ENOBUFS: it does not keep up; -ENOMEM. */
ALK_EXPORT int alk_bus_publish(struct alk_bus_member *member, const char *topic,
			       const char *payload, struct alk_err *err);

/* For who carries the bus. One at a time. Everything that is there is told of in alk_bus_carry(),
 * and taken back (not told) with alk_bus_uncarry(), which ends all calls. */
struct alk_bus_carrier {
	uint32_t size;
	void (*offered)(void *user, struct alk_operation *operation);
	void (*withdrawn)(void *user, struct alk_operation *operation);
	/* `*cookie` is the carrier's for this member. -ENOMEM: it is not on the bus. */
	int (*joined)(void *user, struct alk_bus_member *member, void **cookie);
	void (*left)(void *user, void *cookie);
	int (*subscribe)(void *user, void *cookie, const char *pattern, const char *group);
	int (*publish)(void *user, void *cookie, const char *topic, const char *payload,
		       struct alk_err *err);
};
/* Borrows. -EBUSY: somebody else does. */
ALK_EXPORT int alk_bus_carry(struct alk_bus *bus, const struct alk_bus_carrier *carrier,
			     void *user);
/* Nobody carries it now: calls end in `abort`, members stay. Nothing when nobody does. */
ALK_EXPORT void alk_bus_uncarry(struct alk_bus *bus);
/* Hand the member an envelope of `n` bytes, borrowed. */
ALK_EXPORT void alk_bus_member_event(struct alk_bus_member *member, const char *envelope, size_t n);

/* What was offered; valid until `withdrawn`. */
ALK_EXPORT const struct alk_operation_spec *alk_operation_spec_of(
	const struct alk_operation *operation);
enum alk_operation_answer {
	ALK_OPERATION_ANSWER,
	ALK_OPERATION_RESPONDED,
	ALK_OPERATION_COMPLETED,
	ALK_OPERATION_FAILED, /* `code` is set, `text` the message */
};
/* `call` is gone after everything but ANSWER. */
typedef void alk_operation_answered_fn(void *user, enum alk_operation_answer kind, const char *code,
				       const char *text);
/* Call it: `caller` is borrowed until the end, `input` copied. `answered` never runs before this
 * returns. NULL: out of memory. */
ALK_EXPORT struct alk_operation_call *alk_operation_start(struct alk_operation *operation,
							  const struct alk_operation_caller *caller,
							  const char *input,
							  alk_operation_answered_fn *answered,
							  void *user);
/* Nobody waits any more: `answered` does not run. NULL is nothing. */
ALK_EXPORT void alk_operation_cancel(struct alk_operation_call **call);

#endif
