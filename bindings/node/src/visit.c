/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Questions and short answers on the environment's own thread.
 *
 * To hand a few bytes to the loop's thread and an answer back is to wake two threads, which takes
 * longer than all that is done with them. So where one waits for the other, this thread visits the
 * loop (home_visit) to write, and connections are lent to an epoll instance that libuv watches, to
 * read. libuv is node's: its functions are looked for in the process, and where they are not
 * everything goes by the loop's thread.
 *
 * An answer that comes in less time than a processor needs to fall asleep and wake is waited for
 * awake: as long as answers are that quick, nothing else is to be done here, and no other thread
 * wants the processor. */
#include "binding.h"

#include <dlfcn.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

/* For so long an answer is waited for awake, if the one before took no longer than this with a
 * sleep. */
#define AWAKE_US 250
#define QUICK_US 500
/* Giving way may let who answers run on this processor; when it took longer another thread has it.
 * Then nobody is got in the way for a while, and for twice as long when the next time is no
 * better. */
#define CROWDED_US 700
#define SHY_MIN_US 5000
#define SHY_MAX_US 320000

/* Of uv.h, whose ABI is the same in all of libuv 1. */
#define UV_POLL_TYPE 8
#define UV_PREPARE_TYPE 9
#define UV_READABLE_EVENT 1
typedef void uv_poll_fn(void *handle, int status, int events);
typedef void uv_fn(void *handle);

static struct {
	size_t (*handle_size)(int type);
	void (*handle_set_data)(void *handle, void *data);
	void *(*handle_get_data)(const void *handle);
	int (*poll_init)(void *loop, void *handle, int fd);
	int (*poll_start)(void *handle, int events, uv_poll_fn *on_poll);
	int (*prepare_init)(void *loop, void *handle);
	int (*prepare_start)(void *handle, uv_fn *on_prepare);
	int (*prepare_stop)(void *handle);
	void (*unref)(void *handle);
	void (*close)(void *handle, uv_fn *on_close);
	int (*backend_fd)(const void *loop);
	int (*backend_timeout)(const void *loop);
} uv;
static pthread_once_t uv_once = PTHREAD_ONCE_INIT;
static bool uv_is_there;

struct visit {
	struct env *env;
	napi_env napi;
	int epoll;
	void *loop, *poll, *prepare;  /* a uv_loop_t, uv_poll_t, uv_prepare_t */
	unsigned handles;	      /* of those two, that libuv has */
	bool many;		      /* there is another processor for who answers */
	bool asked;		      /* and no answer yet; the prepare handle is active */
	bool quick;		      /* the last answer was */
	uint64_t asked_at, shy_until; /* monotonic us */
	uint64_t shy;		      /* for how long the next time */
	napi_async_context context;
	napi_ref dispatch, resource;
	napi_async_cleanup_hook_handle hook;
};

static bool uv_get(void *place, const char *name)
{
	void *symbol = dlsym(RTLD_DEFAULT, name);

	*(void **)place = symbol;
	return symbol != NULL;
}

static void uv_find(void)
{
	uv_is_there = uv_get(&uv.handle_size, "uv_handle_size") &&
		      uv_get(&uv.handle_set_data, "uv_handle_set_data") &&
		      uv_get(&uv.handle_get_data, "uv_handle_get_data") &&
		      uv_get(&uv.poll_init, "uv_poll_init") &&
		      uv_get(&uv.poll_start, "uv_poll_start") &&
		      uv_get(&uv.prepare_init, "uv_prepare_init") &&
		      uv_get(&uv.prepare_start, "uv_prepare_start") &&
		      uv_get(&uv.prepare_stop, "uv_prepare_stop") &&
		      uv_get(&uv.unref, "uv_unref") && uv_get(&uv.close, "uv_close") &&
		      uv_get(&uv.backend_fd, "uv_backend_fd") &&
		      uv_get(&uv.backend_timeout, "uv_backend_timeout");
}

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void visit_answered(struct visit *visit, bool quick)
{
	if (!visit->asked)
		return;
	visit->asked = false;
	visit->quick = quick;
	uv.prepare_stop(visit->prepare);
}

/* libuv is about to wait for whatever comes. */
static void on_prepare(void *handle)
{
	struct visit *visit = uv.handle_get_data(handle);
	struct pollfd any = {.fd = uv.backend_fd(visit->loop), .events = POLLIN};
	uint64_t now = now_us(), before;

	if (!visit->quick || now < visit->shy_until || uv.backend_timeout(visit->loop) == 0)
		return;
	while (poll(&any, 1, 0) == 0) {
		before = now_us();
		if (before - visit->asked_at > AWAKE_US) {
			visit->quick = false;
			return;
		}
		sched_yield();
		now = now_us();
		if (now - before > CROWDED_US) {
			visit->shy_until = now + visit->shy;
			visit->shy = visit->shy < SHY_MAX_US / 2 ? visit->shy * 2 : SHY_MAX_US;
			return;
		}
	}
	visit->shy = SHY_MIN_US;
}

void visit_asked(struct visit *visit)
{
	if (!visit->many)
		return;
	if (!visit->asked && uv.prepare_start(visit->prepare, on_prepare) != 0)
		return;
	visit->asked = true;
	visit->asked_at = now_us();
}

/* As a call of the loop's thread would do it, without one. */
static void visit_deliver(struct visit *visit)
{
	napi_handle_scope handles;
	napi_callback_scope scope;
	napi_value dispatch, resource;

	if (!env_has_events(visit->env) || napi_open_handle_scope(visit->napi, &handles) != napi_ok)
		return;
	if (napi_get_reference_value(visit->napi, visit->resource, &resource) == napi_ok &&
	    napi_get_reference_value(visit->napi, visit->dispatch, &dispatch) == napi_ok &&
	    napi_open_callback_scope(visit->napi, resource, visit->context, &scope) == napi_ok) {
		env_deliver(visit->env, visit->napi, dispatch);
		napi_close_callback_scope(visit->napi, scope);
	}
	napi_close_handle_scope(visit->napi, handles);
}

static void on_poll(void *handle, int status, int events)
{
	struct visit *visit = uv.handle_get_data(handle);
	struct alk_embed *embed;

	(void)status, (void)events;
	embed = home_visit(true);
	if (embed == NULL)
		return;
	env_visit(visit->env, true);
	alk_embed_serve(embed, visit->epoll);
	env_visit(visit->env, false);
	home_unvisit(embed);
	visit_answered(visit, now_us() - visit->asked_at <= QUICK_US);
	visit_deliver(visit);
}

static void on_closed(void *handle)
{
	struct visit *visit = uv.handle_get_data(handle);

	if (--visit->handles > 0)
		return;
	close(visit->epoll);
	env_unref(&visit->env);
	if (visit->hook != NULL)
		napi_remove_async_cleanup_hook(visit->hook);
	free(visit->poll);
	free(visit->prepare);
	free(visit);
}

static void on_cleanup(napi_async_cleanup_hook_handle hook, void *user)
{
	struct visit *visit = user;

	(void)hook;
	env_set_visit(visit->env, NULL, -1);
	napi_async_destroy(visit->napi, visit->context);
	napi_delete_reference(visit->napi, visit->dispatch);
	napi_delete_reference(visit->napi, visit->resource);
	uv.close(visit->poll, on_closed);
	if (visit->handles > 1)
		uv.close(visit->prepare, on_closed);
}

/* Nothing that libuv knows of it yet. */
static void visit_free(struct visit *visit)
{
	if (visit->context != NULL)
		napi_async_destroy(visit->napi, visit->context);
	if (visit->dispatch != NULL)
		napi_delete_reference(visit->napi, visit->dispatch);
	if (visit->resource != NULL)
		napi_delete_reference(visit->napi, visit->resource);
	if (visit->epoll >= 0)
		close(visit->epoll);
	free(visit->poll);
	free(visit->prepare);
	free(visit);
}

static bool visit_init(struct visit *visit, napi_value dispatch)
{
	napi_env napi = visit->napi;
	napi_value name, resource;

	visit->epoll = epoll_create1(EPOLL_CLOEXEC);
	visit->poll = calloc(1, uv.handle_size(UV_POLL_TYPE));
	visit->prepare = calloc(1, uv.handle_size(UV_PREPARE_TYPE));
	return visit->epoll >= 0 && visit->poll != NULL && visit->prepare != NULL &&
	       napi_create_string_utf8(napi, "alknet", NAPI_AUTO_LENGTH, &name) == napi_ok &&
	       napi_create_object(napi, &resource) == napi_ok &&
	       napi_create_reference(napi, resource, 1, &visit->resource) == napi_ok &&
	       napi_create_reference(napi, dispatch, 1, &visit->dispatch) == napi_ok &&
	       napi_async_init(napi, resource, name, &visit->context) == napi_ok;
}

void visit_begin(struct env *env, napi_env napi, napi_value dispatch)
{
	struct uv_loop_s *loop;
	struct visit *visit;

	pthread_once(&uv_once, uv_find);
	visit = uv_is_there ? calloc(1, sizeof(*visit)) : NULL;
	if (visit == NULL)
		return;
	visit->env = env;
	visit->napi = napi;
	visit->many = sysconf(_SC_NPROCESSORS_ONLN) > 1;
	if (!visit_init(visit, dispatch) || napi_get_uv_event_loop(napi, &loop) != napi_ok ||
	    uv.poll_init(loop, visit->poll, visit->epoll) != 0) {
		visit_free(visit);
		return;
	}
	/* From here on it ends as handles of libuv's do. */
	visit->loop = loop;
	visit->handles = 1;
	visit->shy = SHY_MIN_US;
	uv.handle_set_data(visit->poll, visit);
	uv.unref(visit->poll);
	env_ref(env);
	if (uv.prepare_init(loop, visit->prepare) == 0) {
		visit->handles = 2;
		uv.handle_set_data(visit->prepare, visit);
		uv.unref(visit->prepare);
	}
	if (visit->handles < 2 || uv.poll_start(visit->poll, UV_READABLE_EVENT, on_poll) != 0 ||
	    napi_add_async_cleanup_hook(napi, on_cleanup, visit, &visit->hook) != napi_ok) {
		visit->hook = NULL;
		on_cleanup(NULL, visit);
		return;
	}
	env_set_visit(env, visit, visit->epoll);
}
