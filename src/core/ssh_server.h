/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_SSH_SERVER_H
#define ALK_SSH_SERVER_H

/* What the files of the server's session share: ssh_server.c (life and turn), ssh_auth.c (who is
 * this), ssh_auth_key.c (the key that is shown), ssh_open.c (channels asked for), ssh_remote.c
 * (remote forwards), ssh_host.c (what all sessions of a worker share). */

#include <assert.h>
#include <libssh/server.h>
#include "remote_listener.h"
#include "server.h"
#include "ssh_session.h"

enum server_state {
	SERVER_ADMIT,
	SERVER_KEX,
	SERVER_AUTH,
	SERVER_OPEN,
};

/* Bytes that libssh lost over an identity's requests. */
#define SERVER_LOST_MAX 32
struct server_lost {
	char who[128];
	uint64_t since;
	size_t bytes;
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
	uint64_t handshake_timeout; /* ms */
	struct alk_remote_table *remotes;
	struct server_lost lost[SERVER_LOST_MAX];
	struct alk_server *first;
	struct alk_timer *recheck; /* of certificates; NULL: never */
	bool watched;
};

#define SERVER_MAGIC 0x53525652u

struct alk_server {
	uint32_t magic;
	enum server_state state;
	struct alk_server_host *host;
	struct alk_server *next, **prev;
	uint64_t number, since, since_us;
	struct alk_link link;
	char path[16], path_via[128]; /* how the link's bytes go, "" while nothing is told */
	double rtt;
	struct alk_ssh ssh;
	bool ssh_made;
	bool wakes_late, woke_late; /* now, once: not woken by the client's NEWKEYS alone */
	struct alk_timer *grace, *answer;
	struct alk_policy_asked *asked;
	void *admission;
	const struct alk_transport_ops *transport;
	void *transport_state;
	struct alk_route_session from;
	/* Authentication. One request at a time: the next is taken when this one is answered. */
	ssh_message request;
	char user[65], key_type[64], fingerprint[64], ca_fingerprint[64];
	char *key;     /* the public key alone, base64 */
	uint8_t *blob; /* the same, wire form */
	size_t blob_len;
	struct alk_cert *cert;	   /* that it came with, or NULL */
	struct alk_ask_cert *told; /* the certificate, while a script is asked */
	char why[200];
	bool proved, user_known;
	bool refused, waited; /* the answer is no; the time to say so has come */
	unsigned attempts;
	enum alk_misdeed misdeed; /* found while it ended; NONE: what its state says */
	bool innocent;		  /* it is we who end it */
	uint64_t before_auth;	  /* packets up to the client's NEWKEYS; 0 = it has not come */
	uint64_t requests;	  /* of those since, what we saw */
	uint64_t bytes_before_auth;
	struct ssh_callbacks_struct callbacks;
	/* Remote forwards. */
	struct server_remote *remotes;
	unsigned n_remotes, remote_pending;
};

static inline struct alk_server *server_of(void *user)
{
	struct alk_server *v = user;

	assert(v->magic == SERVER_MAGIC);
	return v;
}

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
/* End a session that sends more than it may before the login, also what the library dropped without
 * a word or keeps for later. */
void server_auth_bound(struct alk_server *v);

/* ssh_auth_key.c. Take the request's key apart: key_type, fingerprint, key, blob and cert are set.
 * NULL, or why it is none that may log in. */
const char *server_key_read(struct alk_server *v, ssh_key key);
void server_key_drop(struct alk_server *v);
/* A grant with what the line of `answer` and the certificate take away. New reference; NULL when
 * out of memory. */
struct alk_grant *server_key_grant(struct alk_server *v, const struct alk_auth_answer *answer,
				   const char *id, const char *const *scopes,
				   const char *const *resources);
/* Of a session: why its key or certificate is no longer good, or NULL. */
const char *server_key_over(const struct alk_server *v, int64_t now);

/* ssh_remote.c */
/* Authenticated: take remote forwards from now on. */
void server_remote_begin(struct alk_server *v);
/* Close the session's listeners. */
void server_remote_end(struct alk_server *v);

/* ssh_open.c */
void server_open_request(struct alk_server *v, ssh_message m);

#endif
