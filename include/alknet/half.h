/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_HALF_H
#define ALKNET_HALF_H

/* A plugin that works in several processes: a half in the supervisor, and one in each worker (ABI
 * 1.2).
 *
 * The supervisor holds what must be one for the whole server (a hub, a seed, an account) and what
 * must not be where peers are parsed; a worker serves the channels. The halves speak in messages of
 * bytes, which arrive whole and in order. With `workers = 0` both are in one process and nothing
 * else changes.
 *
 *   supervisor   init(ALK_ROLE_SUPERVISOR) ... worker_up ─ message* ─ worker_down ... deinit
 *   worker       init(ALK_ROLE_WORKER) ─ message* ─ deinit
 *
 * A service's half in the supervisor lives as long as the server: at a reload it is asked whether
 * the new options will do (`configure`), not made again. A transport's half is the instance that
 * listens, and is replaced with its generation (`adopt` of alknet/transport.h).
 *
 * Start here if you add a service that keeps something for all workers: set `.half` in the
 * record. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <alknet/err.h>
#include <alknet/options.h>

struct alk_half; /* a plugin's end of the line: alk_plugin_env.half */
struct alk_call; /* an admin command that waits for its answer */

/* Every member is optional. `state` is what init gave. */
struct alk_half_ops {
	uint32_t size;

	/* The other half said something. `worker` is who, in the supervisor: a number that is never
	 * used again; 0 in a worker. `bytes` are borrowed for the call and wiped after it. */
	void (*message)(void *state, uint64_t worker, const uint8_t *bytes, size_t n);

	/* The supervisor's half alone: */
	/* A worker can be spoken to; it is gone, with all of its sessions. */
	void (*worker_up)(void *state, uint64_t worker);
	void (*worker_down)(void *state, uint64_t worker);
	/* A reload brings these options. First with `apply` false: 0, or -errno with `err` and the
	 * whole reload fails. Then true: they hold from now on and are borrowed until the next.
	 * Missing: other options need a restart, which the reload says. */
	int (*configure)(void *state, const struct alk_options *options, bool apply,
			 struct alk_err *err);
	/* An admin command of this plugin: "bus.tail" is `tail` of the plugin bus. `params` is the
	 * JSON text of an object that was checked against the command's table. Answer now or later,
	 * exactly once. */
	void (*command)(void *state, const char *name, const char *params, struct alk_call *call);
	/* Lines in the Prometheus text format, HELP and TYPE with them; given to the caller, who
	 * frees them. Units are base units, names begin with alknet_, no label grows without bound.
	 * NULL: none. */
	char *(*metrics)(void *state);
};

#define ALK_HALF_EVERY_WORKER 0
#define ALK_HALF_MESSAGE_MAX ((size_t)8 << 20)

/* Say `n` bytes to the other half: in the supervisor to one worker or to every one, in a worker to
 * the supervisor (`worker` is not looked at). Copies. 0; -EPIPE when it is gone; -EMSGSIZE;
 * -ENOBUFS when it does not read: a worker is replaced then; -ENOMEM. What fails for one worker of
 * several is not told: worker_down follows. */
ALK_EXPORT int alk_half_send(struct alk_half *half, uint64_t worker, const void *bytes, size_t n);

/* In the supervisor: this is the server's SSH host key from now on (ABI 1.4), in the place of the
 * one that was given before and of an Ed25519 key among the files of `key`. Such a plugin has an
 * option `host_key`: where its section sets it `key` may be missing, and connections are refused
 * until one is given. `private_key` is the seed of RFC 8032; both are copied, `what` says for people
 * where it comes from. It is used by a generation of workers that is started for it, as by a
 * reload, and stays when the plugin forgets it; NULL, NULL takes it back in the same way. 0;
 * -ENOMEM; -EPIPE where there is no server. */
ALK_EXPORT int alk_half_host_key(struct alk_half *half, const char *what,
				 const uint8_t *private_key, const uint8_t *public_key);

/* In the supervisor: run one of the server's own admin commands (ABI 1.7), as the admin socket
 * does; `params` is the JSON text of an object. `done` runs once, perhaps before this returned
 * (then *call is NULL), with the result as JSON text or with NULL and why not; both are borrowed. A
 * command that streams is refused: -EOPNOTSUPP; -ENOMEM, -EPIPE as above. */
struct alk_half_call;
ALK_EXPORT int alk_half_call(struct alk_half *half, const char *method, const char *params,
			     void (*done)(void *user, const char *result, const char *error),
			     void *user, struct alk_half_call **call);
/* `done` does not run; clears *call, which may be NULL. */
ALK_EXPORT void alk_half_call_cancel(struct alk_half_call **call);

/* The answer of a command: one JSON value as text. Takes and clears the call. The client may have
 * gone: then nothing is sent. */
ALK_EXPORT void alk_call_result(struct alk_call **call, const char *json);
/* The same for what must not stay in memory: `json` goes out as it is, so it must be one JSON value
 * on one line. Borrows it; the caller wipes it. */
ALK_EXPORT void alk_call_result_private(struct alk_call **call, const char *json);
/* The answer is a failure, with this sentence. Takes and clears the call. */
ALK_EXPORT void alk_call_fail(struct alk_call **call, const char *fmt, ...) ALK_PRINTF(2, 3);
/* The answer is a stream: events follow until the client goes; then `closed` runs, from the loop,
 * and the call is gone. A client that does not read is dropped at 1 MiB. The plugin ends it with
 * alk_call_fail(), and `closed` does not run then: at the latest in `deinit`, as every call that it
 * has not answered. */
ALK_EXPORT void alk_call_stream(struct alk_call *call,
				void (*closed)(void *user, struct alk_call *call), void *user);
/* One event of a stream: one JSON value as text, borrowed. */
ALK_EXPORT void alk_call_event(struct alk_call *call, const char *json);

#endif
