/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_NODE_BINDING_H
#define ALKNET_NODE_BINDING_H

/* The addon: alknet/embed.h as a handful of functions for lib/ (JavaScript), which is its only
 * user.
 *
 *   addon.c   the functions, their arguments
 *   home.c    the one alk_embed of the process, shared by all environments (main thread, worker_threads)
 *   env.c     one environment: what happened on the loop's thread, told in batches on the environment's
 *   visit.c   the environment's thread in the place of the loop's, for questions and short answers
 *   client.c  a session        stream.c  a channel        server.c  a server
 *   ahead.c   recv, send and poll as libssh gets them
 *
 * Two threads touch an object: the environment's ("here") and the loop's ("there"). From here to
 * there goes home_post(); from there to here goes an event (env_tell), and many events are one
 * call. While an environment's thread visits the loop it is "there". What both touch stands under a
 * lock and says so. An object is counted: one reference is JavaScript's, one is held while it lives
 * there, one each event has. */

#define NAPI_VERSION 8
#include <node_api.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <alknet/alknet.h>

/* What a stream gathers until JavaScript fetches it. */
#define IN_MAX (256 * 1024)

/* ---- home.c ---- */

/* Another user of the loop; the first starts it. Here. 0 or -errno with `err`. */
int home_enter(struct alk_err *err);
/* The last one ends it, or (`now`) everybody's: the process exits. Here. */
void home_leave(bool now);
/* Run `fn` there. -ESHUTDOWN when the loop has ended, -ENOMEM: then it does not run. */
int home_post(void (*fn)(void *user), void *user);
/* There. NULL: it is about to end, and nothing is made any more. */
struct alk_embed *home_embed(void);
/* Be "there" until home_unvisit(), which nothing of JavaScript may run before. Here; NULL: the loop
 * has ended, or is at work, for whose end `wait` waits. */
struct alk_embed *home_visit(bool wait);
void home_unvisit(struct alk_embed *embed);

/* ---- env.c ---- */

enum kind {
	EV_UP,	    /* client: a session is up; info */
	EV_LOST,    /* client: it ended, another one is tried; text */
	EV_CLOSED,  /* client, server: for good; number is the failure, text why */
	EV_OPENED,  /* stream */
	EV_REFUSED, /* stream; number is enum alk_open_failure, text */
	EV_DATA,    /* stream: bytes */
	EV_EOF,	    /* stream */
	EV_WROTE,   /* stream: a write was taken; number is 0 or -errno */
	EV_ENDED,   /* stream: our end of file was taken */
	EV_GONE,    /* stream: the last */
	EV_READY,   /* server; text is a JSON list of addresses */
	EV_CHANNEL, /* server: a stream came; info */
	EV_ANSWER,  /* server: number is the request, text its JSON */
	EV_FAILED,  /* server: number is the request, text why */
	EV_WATCHED, /* server: text is an event's JSON */
};

/* How something failed, with the numbers of enum alk_embed_failure, and: */
#define FAILED_CONFIG 16

struct info {
	char remote_addr[64], transport[16], peer_id[80], host_key[64];
	char host[256];
	char id[256], user[256], fingerprint[64];
	uint16_t remote_port, port;
	double session;
	char **scopes; /* ends with NULL; or NULL */
};
void info_free(struct info *info);

struct env;
struct stream;
struct visit;

struct event {
	enum kind kind;
	double id; /* of the object, JavaScript's */
	double number;
	char *text;	       /* or NULL; freed with it */
	struct info *info;     /* the same */
	struct stream *stream; /* a reference, or NULL */
	struct write *write;   /* that was taken, or NULL; freed here */
	struct event *next;
};

/* Give an event; takes `event` (malloc'd), which may be NULL (no memory: told as nothing).
 * There. */
void env_tell(struct env *env, struct event *event);
/* An event of an object. NULL when out of memory. */
struct event *event_new(enum kind kind, double id);
struct event *event_text(enum kind kind, double id, double number, const char *text);
struct env *env_ref(struct env *env);
void env_unref(struct env **env);
/* Give back what waits for `env` and tell nothing more. Here. */
void env_close(struct env *env, bool now);
/* A fresh environment; NULL with a pending exception. */
struct env *env_new(napi_env napi, napi_value dispatch);
void env_keep_alive(struct env *env, bool alive);
/* A few buffers of IN_MAX are kept for the next bulk, so that their pages need not be made anew.
 * Here and there; NULL: there is none. */
uint8_t *env_spare_take(struct env *env);
/* Takes `bytes`, malloc'd. */
void env_spare_give(struct env *env, uint8_t *bytes);
/* The numbers of objects that come from there. */
double env_number(struct env *env);

/* There, in a visit of the environment's own: what is told is left for visit.c to deliver. */
void env_visit(struct env *env, bool visits);
/* Here. */
bool env_has_events(struct env *env);
void env_deliver(struct env *env, napi_env napi, napi_value dispatch);
/* What visits for the environment, or NULL; here. Where connections may be lent to, or -1;
 * there. */
void env_set_visit(struct env *env, struct visit *visit, int epoll);
struct visit *env_visitor(const struct env *env);
int env_epoll(const struct env *env);

/* What an environment has there, for its end. There. */
struct belonging {
	void (*drop)(struct belonging *belonging);
	struct belonging *next, **prev;
};
void env_own(struct env *env, struct belonging *belonging);
void env_disown(struct belonging *belonging);

/* ---- visit.c ---- */

/* Once, for a fresh environment; ends with it. Where there is no libuv nothing happens. Here. */
void visit_begin(struct env *env, napi_env napi, napi_value dispatch);
/* Something short was written, to which an answer may come. Here. */
void visit_asked(struct visit *visit);

/* ---- stream.c ---- */

struct client;

/* Here. A stream that will be asked for. */
struct stream *stream_new(struct env *env, double id);
struct stream *stream_ref(struct stream *stream);
void stream_unref(struct stream **stream);
/* Here: the bytes that came, as a Buffer, or undefined: then EV_DATA will bring them. */
napi_value stream_read(napi_env napi, struct stream *stream);
/* Here, for an event: the same, without asking for more. NULL when there are none. */
napi_value stream_take(napi_env napi, struct stream *stream);
/* Here. Write a Buffer or a list of them. 0: the loop is gone, or a pending exception; 1: EV_WROTE
 * will tell; 2: there is room for it, and nobody will be told, which `strict` forbids. */
int stream_write(napi_env napi, struct stream *stream, napi_value chunks, bool strict);
bool stream_end(struct stream *stream);
bool stream_close(struct stream *stream);
/* There. Ask for a channel; false with `err`, then the stream knows nothing of it. */
bool stream_open(struct stream *stream, struct client *client, const char *host, uint16_t port,
		 struct alk_err *err);
/* There. It waits in the client's list for a session; NULL: no more. */
void stream_waits(struct stream *stream, struct client *client);
/* There. What a server was offered; it is accepted. Gives a stream with a reference for the event.
 * NULL when out of memory: not taken. */
struct stream *stream_take_channel(struct env *env, struct alk_channel *channel);
double stream_id(const struct stream *stream);
/* Here. */
void write_free(napi_env napi, struct write **write);

/* ---- client.c ---- */

/* `settings` is taken, also on failure (settings_free). Here; NULL: the loop is gone or out of
 * memory. */
struct client *client_new(struct env *env, double id, struct alk_setting *settings, bool again);
void client_unref(struct client **client);
/* Open `stream` once a session is up, or now. Here. False as above. */
bool client_open(struct client *client, struct stream *stream, const char *host, uint16_t port);
/* Disconnect (`now`: at once and without EV_CLOSED). Here. */
bool client_close(struct client *client, bool now);

/* There, for its streams. */
struct alk_embed_client *client_embed(const struct client *client);
/* One that waits for a session is closed: EV_REFUSED, EV_GONE. */
void client_forget(struct client *client, const struct stream *stream);
/* A short answer is expected: it shall come on the environment's thread. False: it comes on the
 * loop's. */
bool client_lend(struct client *client);
/* So much went or came that is no question and no short answer. */
void client_moved(struct client *client, size_t n);

/* ---- server.c ---- */

struct server;
struct server *server_new(struct env *env, double id, struct alk_setting *settings);
void server_unref(struct server **server);
/* Does anybody want channels? Here. */
void server_accept(struct server *server, bool accept);
/* Here; `params` and `settings` may be NULL; takes `settings`. */
bool server_request(struct server *server, double number, const char *method, const char *params,
		    struct alk_setting *settings);
bool server_close(struct server *server, bool now);

/* ---- addon.c ---- */
void settings_free(struct alk_setting **settings);

#endif
