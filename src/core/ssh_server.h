/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_SSH_SERVER_H
#define ALK_SSH_SERVER_H

/* What the files of the server's session share: ssh_server.c (life and turn), ssh_auth.c (who is this),
 * ssh_open.c (channels asked for), ssh_host.c (what all sessions of a worker share). */

#include <libssh/server.h>
#include "server.h"
#include "ssh_session.h"

enum server_state {
	SERVER_ADMIT,
	SERVER_KEX,
	SERVER_AUTH,
	SERVER_OPEN,
};

struct alk_server_host {
	struct alk_loop *loop;
	const struct alk_options *values;
	struct alk_auth *auth;
	struct alk_policy *policy;
	struct alk_route *route;
	struct alk_loader *loader;
	const struct alk_server_ops *ops;
	void *user;
	ssh_bind bind;
	struct alk_server *first;
	bool watched;
};

struct alk_server {
	uint32_t magic;
	enum server_state state;
	struct alk_server_host *host;
	struct alk_server *next, **prev;
	uint64_t number, since;
	struct alk_link link;
	struct alk_ssh ssh;
	bool ssh_made;
	struct alk_timer *grace, *answer;
	struct alk_policy_asked *asked;
	void *admission;
	const struct alk_transport_ops *transport;
	void *transport_state;
	struct alk_route_session from;
	/* Authentication. One request at a time: the next is taken when this one is answered. */
	ssh_message request;
	char user[65], key_type[32], fingerprint[64];
	char *key;
	bool proved, user_known;
	unsigned attempts;
	uint64_t before_auth,
		requests; /* packets when authentication began, and those we saw since */
};

/* ssh_server.c */
json_t *server_event(const struct alk_server *v, const char *event);
/* Takes `event`; drops it when nobody watches. */
void server_tell(struct alk_server *v, json_t *event);
/* Give up a session that has not begun, or whose SSH is over. */
void server_free(struct alk_server *v, const char *why);

/* ssh_auth.c. Each takes `m`. */
void server_auth_request(struct alk_server *v, ssh_message m);
/* The answer's time has come. */
void server_on_answer_time(void *user);
/* Count what the library dropped without a word. */
void server_auth_count_silent(struct alk_server *v);

/* ssh_open.c */
void server_open_request(struct alk_server *v, ssh_message m);

#endif
