/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_IROH_H
#define ALKNET_IROH_H

/* The iroh transport: a link is a QUIC stream to an endpoint that is known by its id.
 *
 *   iroh.c           the plugin: options
 *   iroh_settings.c  options into what the helper is told
 *   iroh_key.c       the file of the key
 *   iroh_id.c        ids as text
 *   iroh_listen.c    server, in the supervisor: links that come
 *   iroh_dial.c      client: links that are asked for
 *   iroh_endpoint.c  the helper as those two see it: started, spoken to, started again
 *   iroh_packet.c    what the helper says
 *   iroh_shim.c      a proxy on loopback for the helper, which hands on to the program's own
 *   iroh_head.c      the head of a request to that proxy
 *   alknet_iroh.c    the helper, alknet-iroh: a process with nothing else in it, and the only one that loads
 *   crate/           the Rust library with iroh
 *
 *   client, supervisor ──JSON, descriptors──▶ alknet-iroh ══QUIC══▶ the peer's
 *        └── worker: SSH over the descriptor ──socketpair──┘
 *
 * Start here if you add an option: iroh.c has the table, iroh_settings.c the one place that reads
 * it, crate/src/packet.rs what the helper knows of it. */

#include <jansson.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <alknet/alknet.h>
#include "iroh_id.h"

struct iroh_dialing;
struct iroh_endpoint;

/* One instance of the plugin. */
struct iroh {
	uint32_t magic;
	enum alk_role role;
	struct alk_loop *loop;
	const struct alk_options *options;
	uint64_t timeout_ms;
	/* Client. */
	struct iroh_endpoint *endpoint;
	struct iroh_dialing *dialings;
	uint64_t last_dial, last_link;
	struct {
		bool known, relayed;
		char via[256];
		uint64_t rtt_us;
	} path; /* of last_link */
};

struct iroh *iroh_of(void *state);

/* ---- settings ---- */

/* Are the options what they should be? -EINVAL with `err` naming the one that is not. Also a bare
 * check. */
int iroh_settings_check(const struct alk_options *options, enum alk_role role, struct alk_err *err);
/* What the helper is told first, but for the proxy; `listen` is a server's address and NULL for a
 * client. Makes the file of the key if it is to be there and is not. NULL with `err`. */
json_t *iroh_settings_make(const struct alk_options *options, const char *listen,
			   struct alk_err *err);

/* The key in hex. Makes the file if it is not there. -errno with `err`. */
int iroh_key_read(const char *path, char hex[IROH_ID_HEX], struct alk_err *err);

/* ---- the helper ---- */

struct iroh_packet;
struct iroh_endpoint_ops {
	/* Every packet but READY and FAILED; *fd is a link's, and taken. */
	void (*heard)(void *user, const struct iroh_packet *packet, int *fd);
	/* It runs again, and knows nothing of before. Optional. */
	void (*started)(void *user);
	/* The helper has ended, and all links and dials with it. */
	void (*ended)(void *user, const char *why);
};

/* Takes `settings`. Nothing is started yet. `again`: start it again when it ends. NULL: out of
 * memory. */
struct iroh_endpoint *iroh_endpoint_new(struct alk_loop *loop, json_t *settings, bool again,
					const struct iroh_endpoint_ops *ops, void *user);
/* Nothing is called any more. */
void iroh_endpoint_free(struct iroh_endpoint **endpoint);
/* Start it, if it does not run. What is said to it meanwhile waits in the socket. */
int iroh_endpoint_start(struct iroh_endpoint *endpoint, struct alk_err *err);
/* Start it, and wait until it is there or cannot be: for a server's start, which shall fail with
 * the reason. Bounded. */
int iroh_endpoint_start_now(struct iroh_endpoint *endpoint, struct alk_err *err);
/* Takes `packet`. -errno: it does not run, or this cannot be said to it (it is ended then, from the
 * loop: `ended` will be called). */
int iroh_endpoint_say(struct iroh_endpoint *endpoint, json_t *packet);
/* Once it was ready. */
const char *iroh_endpoint_id(const struct iroh_endpoint *endpoint);
const json_t *iroh_endpoint_settings(const struct iroh_endpoint *endpoint);

/* ---- the proxy on loopback ---- */

struct iroh_shim;
/* Listen on a port of 127.0.0.1 that the system chooses. NULL with `err`. */
struct iroh_shim *iroh_shim_new(struct alk_loop *loop, struct alk_err *err);
void iroh_shim_free(struct iroh_shim **shim);
/* Its URL, with the word in it that it asks for. */
const char *iroh_shim_url(const struct iroh_shim *shim);
/* For who waits without the loop: what the connections through it wait for, and their turn. */
#define IROH_SHIM_FDS 128
size_t iroh_shim_fds(const struct iroh_shim *shim, struct pollfd at[IROH_SHIM_FDS]);
void iroh_shim_turn(struct iroh_shim *shim);

/* ---- operations of the transport ---- */

int iroh_listen(void *state, const char *address, const struct alk_acceptor *up,
		struct alk_listener **out, struct alk_err *err);
void iroh_unlisten(void *state, struct alk_listener **listener);
void iroh_pause(void *state, struct alk_listener *listener, bool paused);
void iroh_describe(void *state, const struct alk_listener *listener, char *text, size_t size);
int iroh_adopt(void *state, struct alk_listener *listener);

void *iroh_dial(void *state, const char *address, alk_link_fn *done, void *user,
		struct alk_err *err);
void iroh_dial_cancel(void *state, void **dialing);
bool iroh_path(void *state, struct alk_link_path *path);
void iroh_dial_end(struct iroh *iroh);

#endif
