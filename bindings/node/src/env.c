/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "binding.h"

#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

/* So many writes of 64 KiB may wait for a channel. */
#define SPARES 16

struct env {
	atomic_uint refs;
	napi_env napi;
	napi_threadsafe_function call;
	_Atomic(uint8_t *) spare[SPARES]; /* of IN_MAX, or NULL */
	pthread_mutex_t
		calling; /* while the loop's thread uses `call`: what is called takes `lock` at once */
	pthread_mutex_t lock; /* of what follows, up to `closed` */
	struct event *first, **last;
	bool called; /* the call is on its way */
	bool closed;
	atomic_uint number;
	struct visit *visit; /* or NULL; here */
	atomic_int epoll;    /* its, or -1 */
	/* There. */
	bool visits;
	struct belonging *belongings;
	sem_t over;
};

struct env *env_ref(struct env *env)
{
	atomic_fetch_add(&env->refs, 1);
	return env;
}

void env_unref(struct env **envp)
{
	struct env *env = *envp;

	*envp = NULL;
	if (env == NULL || atomic_fetch_sub(&env->refs, 1) != 1)
		return;
	pthread_mutex_destroy(&env->calling);
	pthread_mutex_destroy(&env->lock);
	sem_destroy(&env->over);
	for (size_t i = 0; i < SPARES; i++)
		free(atomic_load(&env->spare[i]));
	free(env);
}

uint8_t *env_spare_take(struct env *env)
{
	uint8_t *bytes = NULL;

	for (size_t i = 0; i < SPARES && bytes == NULL; i++)
		if (atomic_load_explicit(&env->spare[i], memory_order_relaxed) != NULL)
			bytes = atomic_exchange(&env->spare[i], NULL);
	return bytes;
}

void env_spare_give(struct env *env, uint8_t *bytes)
{
	for (size_t i = 0; i < SPARES; i++) {
		uint8_t *none = NULL;

		if (atomic_compare_exchange_strong(&env->spare[i], &none, bytes))
			return;
	}
	free(bytes);
}

/* JavaScript numbers its own from 1. */
double env_number(struct env *env)
{
	return 4294967296.0 + atomic_fetch_add(&env->number, 1);
}

/* ---- events ---- */

void info_free(struct info *info)
{
	if (info == NULL)
		return;
	for (char **scope = info->scopes; scope != NULL && *scope != NULL; scope++)
		free(*scope);
	free(info->scopes);
	free(info);
}

struct event *event_new(enum kind kind, double id)
{
	struct event *event = calloc(1, sizeof(*event));

	if (event != NULL)
		*event = (struct event){.kind = kind, .id = id};
	return event;
}

struct event *event_text(enum kind kind, double id, double number, const char *text)
{
	struct event *event = event_new(kind, id);

	if (event == NULL)
		return NULL;
	event->number = number;
	event->text = text != NULL ? strdup(text) : NULL;
	return event;
}

static void event_free(napi_env napi, struct event *event)
{
	stream_unref(&event->stream);
	write_free(napi, &event->write);
	info_free(event->info);
	free(event->text);
	free(event);
}

static void env_call(struct env *env)
{
	pthread_mutex_lock(&env->calling);
	if (env->call != NULL)
		napi_call_threadsafe_function(env->call, NULL, napi_tsfn_nonblocking);
	pthread_mutex_unlock(&env->calling);
}

/* A loop that runs out of memory for an event of 100 bytes has no way to say so; what ends streams
 * and sessions is asked for again by their owners' close. */
void env_tell(struct env *env, struct event *event)
{
	bool call = false;

	if (event == NULL)
		return;
	pthread_mutex_lock(&env->lock);
	if (!env->closed) {
		*env->last = event;
		env->last = &event->next;
		event = NULL;
		call = !env->called && !env->visits;
		env->called = env->called || call;
	}
	pthread_mutex_unlock(&env->lock);
	if (call)
		env_call(env);
	if (event != NULL)
		event_free(NULL, event);
}

static napi_value text_value(napi_env napi, const char *text)
{
	napi_value value;

	if (napi_create_string_utf8(napi, text, NAPI_AUTO_LENGTH, &value) != napi_ok)
		napi_get_null(napi, &value);
	return value;
}

static void text_set(napi_env napi, napi_value object, const char *name, const char *text)
{
	napi_value value;

	if (text[0] != '\0')
		value = text_value(napi, text);
	else
		napi_get_null(napi, &value);
	napi_set_named_property(napi, object, name, value);
}

static void number_set(napi_env napi, napi_value object, const char *name, double number)
{
	napi_value value;

	napi_create_double(napi, number, &value);
	napi_set_named_property(napi, object, name, value);
}

static napi_value info_value(napi_env napi, const struct info *info)
{
	napi_value object, scopes;

	napi_create_object(napi, &object);
	text_set(napi, object, "remoteAddr", info->remote_addr);
	number_set(napi, object, "remotePort", info->remote_port);
	text_set(napi, object, "transportKind", info->transport);
	text_set(napi, object, "endpointId", info->peer_id);
	text_set(napi, object, "hostKeyFingerprint", info->host_key);
	text_set(napi, object, "host", info->host);
	number_set(napi, object, "port", info->port);
	text_set(napi, object, "id", info->id);
	text_set(napi, object, "user", info->user);
	text_set(napi, object, "keyFingerprint", info->fingerprint);
	number_set(napi, object, "session", info->session);
	napi_create_array(napi, &scopes);
	for (uint32_t i = 0; info->scopes != NULL && info->scopes[i] != NULL; i++)
		napi_set_element(napi, scopes, i, text_value(napi, info->scopes[i]));
	napi_set_named_property(napi, object, "scopes", scopes);
	return object;
}

static void on_stream_gone(napi_env napi, void *data, void *hint)
{
	struct stream *stream = data;

	(void)napi, (void)hint;
	stream_unref(&stream);
}

/* What stands in the fourth place of an event. */
static napi_value event_value(napi_env napi, struct event *event)
{
	napi_value value = NULL, handle;

	if (event->kind == EV_DATA)
		value = stream_take(napi, event->stream);
	else if (event->info != NULL)
		value = info_value(napi, event->info);
	else if (event->text != NULL)
		value = text_value(napi, event->text);
	if (event->kind == EV_CHANNEL &&
	    napi_create_external(napi, event->stream, on_stream_gone, NULL, &handle) == napi_ok) {
		event->stream = NULL; /* the handle has it */
		napi_set_named_property(napi, value, "handle", handle);
	}
	if (value == NULL)
		napi_get_null(napi, &value);
	return value;
}

/* Four places an event: its kind, whose it is, a number, a value. */
static napi_value events_value(napi_env napi, struct event *event)
{
	napi_value list, value;
	uint32_t i = 0;

	napi_create_array(napi, &list);
	for (struct event *next; event != NULL; event = next) {
		next = event->next;
		napi_create_uint32(napi, (uint32_t)event->kind, &value);
		napi_set_element(napi, list, i++, value);
		napi_create_double(napi, event->id, &value);
		napi_set_element(napi, list, i++, value);
		napi_create_double(napi, event->number, &value);
		napi_set_element(napi, list, i++, value);
		napi_set_element(napi, list, i++, event_value(napi, event));
		event_free(napi, event);
	}
	return list;
}

void env_visit(struct env *env, bool visits)
{
	env->visits = visits;
}

void env_set_visit(struct env *env, struct visit *visit, int epoll)
{
	env->visit = visit;
	atomic_store(&env->epoll, epoll);
}

struct visit *env_visitor(const struct env *env)
{
	return env->visit;
}

int env_epoll(const struct env *env)
{
	return atomic_load(&env->epoll);
}

bool env_has_events(struct env *env)
{
	bool has;

	pthread_mutex_lock(&env->lock);
	has = env->first != NULL;
	pthread_mutex_unlock(&env->lock);
	return has;
}

static struct event *events_take(struct env *env)
{
	struct event *event;

	pthread_mutex_lock(&env->lock);
	event = env->first;
	env->first = NULL;
	env->last = &env->first;
	pthread_mutex_unlock(&env->lock);
	return event;
}

void env_deliver(struct env *env, napi_env napi, napi_value dispatch)
{
	struct event *event = events_take(env);
	napi_value list, self, result;

	if (napi == NULL || dispatch == NULL) {
		for (struct event *next; event != NULL; event = next) {
			next = event->next;
			event_free(napi, event);
		}
		return;
	}
	if (event == NULL)
		return;
	list = events_value(napi, event);
	napi_get_undefined(napi, &self);
	/* dispatch() catches what it calls. */
	napi_call_function(napi, self, dispatch, 1, &list, &result);
}

static void on_call(napi_env napi, napi_value dispatch, void *user, void *data)
{
	struct env *env = user;

	(void)data;
	pthread_mutex_lock(&env->lock);
	env->called = false;
	pthread_mutex_unlock(&env->lock);
	env_deliver(env, napi, dispatch);
}

/* ---- life ---- */

void env_own(struct env *env, struct belonging *belonging)
{
	belonging->next = env->belongings;
	belonging->prev = &env->belongings;
	if (belonging->next != NULL)
		belonging->next->prev = &belonging->next;
	env->belongings = belonging;
}

void env_disown(struct belonging *belonging)
{
	if (belonging->prev == NULL)
		return;
	*belonging->prev = belonging->next;
	if (belonging->next != NULL)
		belonging->next->prev = belonging->prev;
	belonging->prev = NULL;
}

static void drop_all(void *user)
{
	struct env *env = user;

	while (env->belongings != NULL) {
		struct belonging *belonging = env->belongings;

		env_disown(belonging);
		belonging->drop(belonging);
	}
	sem_post(&env->over);
}

void env_close(struct env *env, bool now)
{
	napi_threadsafe_function call = env->call;
	struct event *event;

	if (call == NULL)
		return;
	if (home_post(drop_all, env) == 0)
		while (sem_wait(&env->over) != 0)
			;
	pthread_mutex_lock(&env->lock);
	env->closed = true;
	pthread_mutex_unlock(&env->lock);
	event = events_take(env);
	for (struct event *next; event != NULL; event = next) {
		next = event->next;
		event_free(env->napi, event);
	}
	pthread_mutex_lock(&env->calling);
	env->call = NULL;
	pthread_mutex_unlock(&env->calling);
	napi_release_threadsafe_function(call, napi_tsfn_abort);
	home_leave(now);
}

static void on_call_gone(napi_env napi, void *data, void *hint)
{
	struct env *env = data;

	(void)napi, (void)hint;
	env_unref(&env);
}

static void on_env_gone(void *user)
{
	struct env *env = user;

	env_close(env, false);
	env_unref(&env);
}

void env_keep_alive(struct env *env, bool alive)
{
	if (env->call == NULL)
		return;
	if (alive)
		napi_ref_threadsafe_function(env->napi, env->call);
	else
		napi_unref_threadsafe_function(env->napi, env->call);
}

struct env *env_new(napi_env napi, napi_value dispatch)
{
	struct env *env = calloc(1, sizeof(*env));
	struct alk_err err = {"out of memory"};
	napi_value name;

	if (env == NULL || home_enter(&err) < 0) {
		free(env);
		napi_throw_error(napi, "ERR_ALKNET_CONFIG", err.text);
		return NULL;
	}
	env->refs = 1;
	env->napi = napi;
	env->last = &env->first;
	env->epoll = -1;
	pthread_mutex_init(&env->calling, NULL);
	pthread_mutex_init(&env->lock, NULL);
	sem_init(&env->over, 0, 0);
	napi_create_string_utf8(napi, "alknet", NAPI_AUTO_LENGTH, &name);
	/* The environment's reference is its cleanup hook's, the other one the function's. */
	if (napi_create_threadsafe_function(napi, dispatch, NULL, name, 0, 1, env_ref(env),
					    on_call_gone, env, on_call, &env->call) != napi_ok ||
	    napi_add_env_cleanup_hook(napi, on_env_gone, env) != napi_ok) {
		if (env->call != NULL)
			napi_release_threadsafe_function(env->call, napi_tsfn_abort);
		env->call = NULL;
		home_leave(false);
		env_unref(&env);
		napi_throw_error(napi, "ERR_ALKNET_CONFIG", "Node.js has no place for the addon");
		return NULL;
	}
	napi_unref_threadsafe_function(napi, env->call);
	visit_begin(env, napi, dispatch);
	return env;
}
