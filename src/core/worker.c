/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <alknet/dial.h>
#include <alknet/log.h>
#include "base64.h"
#include "board.h"
#include "bus.h"
#include "ctl.h"
#include "json_text.h"
#include "log_private.h"
#include "loader_file.h"
#include "loop_private.h"
#include "privileges.h"
#include "program.h"
#include "proxy.h"
#include "sandbox.h"
#include "server.h"
#include "shared.h"
#include "worker.h"
#include "worker_eval.h"
#include "worker_local.h"
#include "worker_plugin.h"

#define WORKER_MAGIC 0x574b5252u
#define TICK_MAX_MS 5000
#define STOP_MS 2500 /* for the last words to peers */
#define TOLD_MS 20 /* until the supervisor is told to look at the board, if it does not by itself */

struct alk_worker {
	uint32_t magic;
	struct alk_loop *loop;
	bool in_process, started, draining, stopping, done_told;
	void (*done)(void *user, int status);
	void *user;
	int status;
	struct alk_ctl *ctl;
	struct alk_board *board;
	struct alk_conf *conf;
	struct alk_auth *auth;
	struct alk_shared *shared;
	struct alk_bus *bus;
	struct alk_policy *policy;
	struct alk_loader *loader;
	const struct alk_program *program; /* in this process: who is offered channels */
	struct alk_proxy_url proxy;	   /* of the option, in a process that is not ours alone */
	struct alk_route *route;
	struct alk_server_host *host;
	struct alk_worker_plugins plugins; /* the three above */
	struct alk_worker_locals locals;
	struct alk_worker_evals *evals; /* questions of policy.eval under way */
	struct alk_timer *tick, *end, *told;
	uint64_t starved; /* when the last link without a descriptor was logged */
	uint64_t tick_ms; /* a third of the keepalive time, at most TICK_MAX_MS */
	struct alk_task leave;
};

static struct alk_worker *worker_of(void *user)
{
	struct alk_worker *w = user;

	assert(w->magic == WORKER_MAGIC);
	return w;
}

/* ---- leaving --------------------------------------------------------------------------------- */

static void on_leave(void *user)
{
	struct alk_worker *w = worker_of(user);

	if (w->done_told)
		return;
	w->done_told = true;
	w->done(w->user, w->status);
}

static void worker_leave(struct alk_worker *w, int status)
{
	w->status = status;
	alk_task_queue(w->loop, &w->leave);
}

static bool worker_empty(const struct alk_worker *w)
{
	return (!w->host || !alk_server_next(w->host, NULL)) && !w->locals.first;
}

static void worker_stop(struct alk_worker *w)
{
	struct alk_server *v, *next;

	if (w->stopping)
		return;
	w->stopping = w->draining = true;
	for (v = w->host ? alk_server_next(w->host, NULL) : NULL; v; v = next) {
		next = alk_server_next(w->host, v);
		alk_server_finish(v, "the server stops");
	}
	alk_worker_local_finish(&w->locals);
	alk_timer_start(w->end, STOP_MS);
	if (worker_empty(w))
		worker_leave(w, 0);
}

/* The drain took too long: who is still there is told. Then that takes too long as well. */
static void on_end(void *user)
{
	struct alk_worker *w = worker_of(user);

	if (w->draining && !w->stopping)
		worker_stop(w);
	else
		worker_leave(w, w->status);
}

/* ---- what sessions tell ---------------------------------------------------------------------- */

/* The supervisor's books depend on it: without it this worker is no use. Takes `message`, NULL is
 * one that could not be made. */
static void worker_send(struct alk_worker *w, json_t *message)
{
	if (!message || alk_ctl_send(w->ctl, message, NULL) < 0)
		worker_leave(w, 1);
}

/* Who waits for it can do without it, sessions cannot do without their worker. Takes `message`. */
static int worker_mention(struct alk_worker *w, json_t *message)
{
	return alk_ctl_send(w->ctl, message, NULL);
}

/* On the board, which takes no memory: the supervisor reads it before it counts; nobody waits for
 * it, so it is not woken for each. False: there is no place. */
static bool worker_board(struct alk_worker *w, uint64_t what)
{
	if (!w->board || !alk_board_end(w->board, what))
		return false;
	if (!alk_timer_active(w->told))
		alk_timer_start(w->told, TOLD_MS);
	return true;
}

/* Without memory for the message a link counts as a start-up until its end. */
static void on_login(void *user, uint64_t link)
{
	struct alk_worker *w = worker_of(user);

	if (!w->done_told && !worker_board(w, link | ALK_BOARD_LOGIN))
		worker_mention(w, json_pack("{s:s, s:I}", "op", "login", "link", (json_int_t)link));
}

static void on_told(void *user)
{
	struct alk_worker *w = worker_of(user);

	if (alk_board_ended_waits(w->board) && !w->done_told &&
	    worker_mention(w, json_pack("{s:s}", "op", "ended")) == -ENOMEM)
		alk_timer_start(w->told, TOLD_MS);
}

static void worker_see_end(struct alk_worker *w)
{
	if (!w->draining || !worker_empty(w))
		return;
	if (!w->stopping)
		worker_send(w, json_pack("{s:s}", "op", "drained"));
	worker_leave(w, 0);
}

/* Behind what was said of the link before; where there is no memory for that, the other sessions
 * matter more than the order. */
static void on_ended(void *user, uint64_t link)
{
	struct alk_worker *w = worker_of(user);

	if (w->done_told)
		return;
	if (worker_mention(w, json_pack("{s:s, s:I}", "op", "end", "link", (json_int_t)link)) < 0 &&
	    !worker_board(w, link))
		worker_leave(w, 1);
	worker_see_end(w);
}

/* Nothing else was said of it that would have to come first. */
static void on_visited(void *user, uint64_t link)
{
	struct alk_worker *w = worker_of(user);

	if (w->done_told || !worker_board(w, link))
		on_ended(w, link);
	else
		worker_see_end(w);
}

static void on_misdeed(void *user, uint64_t link, enum alk_misdeed misdeed)
{
	struct alk_worker *w = worker_of(user);

	if (!w->done_told)
		worker_mention(w, json_pack("{s:s, s:I, s:s}", "op", "misdeed", "link",
					    (json_int_t)link, "what", alk_misdeed_str(misdeed)));
}

static void on_event(void *user, json_t *event)
{
	json_object_set_new(event, "op", json_string("event"));
	worker_mention(worker_of(user), event);
}

static void on_remote(void *user, json_t *message)
{
	struct alk_worker *w = worker_of(user);

	if (w->done_told)
		json_decref(message);
	else
		worker_send(w, message);
}

static const struct alk_server_ops server_ops = {
	.login = on_login,
	.misdeed = on_misdeed,
	.ended = on_ended,
	.visited = on_visited,
	.event = on_event,
	.remote = on_remote,
};

/* ---- start ----------------------------------------------------------------------------------- */

static void on_wake(void *user)
{
	const struct alk_worker *w = worker_of(user);

	atomic_store_explicit(&w->board->busy_since, alk_loop_now(w->loop), memory_order_relaxed);
}

static void on_sleep(void *user)
{
	const struct alk_worker *w = worker_of(user);

	atomic_store_explicit(&w->board->busy_since, 0, memory_order_relaxed);
}

static void on_tick(void *user)
{
	struct alk_worker *w = worker_of(user);

	alk_server_host_tick(w->host);
	alk_timer_start(w->tick, w->tick_ms);
}

static int worker_policy(struct alk_worker *w, const struct alk_options *values,
			 struct alk_err *err)
{
	size_t len = 0;
	const char *text = alk_conf_file(w->conf, "policy", 0, &len);

	w->policy = alk_policy_new_shared(w->loop,
					  text ? alk_options_str(values, "policy") : "built-in",
					  text, len, NULL, w->shared, err);
	if (!w->policy)
		return -EINVAL;
	w->bus = alk_bus_new(w->loop);
	if (!w->bus || alk_policy_set_bus(w->policy, w->bus, err) < 0)
		return w->bus ? -EINVAL : alk_err_set(err, -ENOMEM, "out of memory");
	if (alk_auth_key_count(w->auth) + alk_auth_authority_count(w->auth) == 0 &&
	    !alk_policy_has(w->policy, ALK_QUESTION_AUTH))
		return alk_err_set(
			err, -EINVAL,
			"nobody could log in: authorized_keys has no usable key, there is no cert_authority, and the policy has no on_auth%s%s",
			alk_auth_bad_line(w->auth)[0] ? ": " : "", alk_auth_bad_line(w->auth));
	return 0;
}

static int half_send(void *user, const char *name, uint64_t worker, const void *bytes, size_t n)
{
	struct alk_worker *w = worker_of(user);
	int rc = alk_ctl_send_bytes(w->ctl, name, bytes, n);

	(void)worker;
	if (rc == -ENOBUFS)
		worker_leave(w, 1);
	return rc;
}

/* The loop is a worker's own, or a program's with others on it. */
static int worker_proxy(struct alk_worker *w, const char *text, struct alk_err *err)
{
	int rc;

	if (!alk_loop_is_guest(w->loop))
		return alk_proxy_set(w->loop, text, err);
	rc = alk_proxy_url_parse(text ? text : "none", &w->proxy, err);
	if (rc == 0)
		alk_route_set_program(w->route, w->program, &w->proxy);
	return rc;
}

/* What a link or an open would load or read later, when the account may not. */
static int worker_load(struct alk_worker *w, struct alk_err *err)
{
	if (alk_loader_get_transports(w->loader, err) < 0 || alk_conf_passed(w->conf, err) < 0)
		return -EINVAL;
	if (!alk_resolver_of(w->loop, err))
		return -EIO;
	return worker_proxy(w, alk_options_str(alk_conf_values(w->conf), "proxy"), err);
}

/* The user's privileges, then system calls and files; for good. */
static int worker_give_up(const struct alk_worker *w, const struct alk_options *values,
			  struct alk_err *err)
{
	const char *user = alk_options_str(values, "user");
	const struct alk_sandbox sandbox = {.plugin_dir = alk_options_str(values, "plugin_dir")};
	int rc = 0;

	if (!w->in_process || user)
		rc = alk_privileges_drop(user, err);
	if (rc == 0 && !w->in_process && alk_options_bool(values, "sandbox"))
		rc = alk_sandbox_enter(&sandbox, err);
	return rc;
}

/* Everything that reads or binds happens before the privileges go. */
static int worker_start(struct alk_worker *w, const json_t *message, int board_fd,
			struct alk_err *err)
{
	const struct alk_options *values;
	const json_t *changed;
	int rc;

	if (!w->in_process) {
		w->board = board_fd >= 0 ? alk_board_map(board_fd, err) : NULL;
		if (!w->board)
			return alk_err_prefix(err, -EINVAL, "board");
		alk_board_use(w->board);
	}
	w->conf = alk_conf_decode(json_object_get(message, "conf"), err);
	if (!w->conf)
		return -EINVAL;
	values = alk_conf_values(w->conf);
	if (!w->in_process && (rc = alk_log_setup_options(values, err)) < 0)
		return rc;
	w->auth = alk_auth_new(w->conf, NULL, NULL, err);
	if (!w->auth || (rc = worker_policy(w, values, err)) < 0)
		return -EINVAL;
	w->loader = alk_loader_new(w->loop, ALK_ROLE_WORKER, alk_options_str(values, "plugin_dir"),
				   w->conf, err);
	changed = json_object_get(message, "plugins");
	if (w->loader && changed && (rc = alk_loader_change(w->loader, changed)) < 0)
		return alk_err_set(err, rc, "out of memory");
	if (w->loader) {
		alk_loader_set_send(w->loader, half_send, w);
		alk_loader_set_bus(w->loader, w->bus);
	}
	w->route = w->loader ? alk_route_new(w->policy, w->loader, values, err) : NULL;
	if (!w->route || worker_load(w, err) < 0)
		return -EINVAL;
	w->host = alk_server_host_new(w->loop, w->conf, w->auth, w->policy, w->route, w->loader,
				      &server_ops, w, err);
	if (!w->host)
		return -EINVAL;
	w->plugins = (struct alk_worker_plugins){.loader = w->loader,
						 .route = w->route,
						 .host = w->host,
						 .locals = &w->locals};
	w->locals = (struct alk_worker_locals){.loop = w->loop,
					       .policy = w->policy,
					       .route = w->route,
					       .ended = on_ended,
					       .user = w};
	rc = worker_give_up(w, values, err);
	if (rc < 0)
		return rc;
	if (!w->in_process) {
		alk_loader_try_first(false);
		alk_loop_set_hooks(w->loop, on_wake, on_sleep, w);
	}
	w->tick_ms = (uint64_t)alk_options_int(values, "keepalive") / 3;
	if (w->tick_ms == 0 || w->tick_ms > TICK_MAX_MS)
		w->tick_ms = TICK_MAX_MS;
	alk_timer_start(w->tick, w->tick_ms);
	w->started = true;
	return 0;
}

/* ---- messages of the supervisor -------------------------------------------------------------- */

static const char *text_of(const json_t *message, const char *key)
{
	const char *text = json_string_value(json_object_get(message, key));

	return text ? text : "";
}

static uint64_t number_of(const json_t *message, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(message, key));

	return n > 0 ? (uint64_t)n : 0;
}

static void on_link(void *user, struct alk_ctl *ctl, uint64_t number, struct alk_link *link)
{
	struct alk_worker *w = worker_of(user);
	struct alk_err err = {""};

	(void)ctl;
	alk_count(ALK_M_LINKS, 1);
	if (link->fd < 0) {
		/* The kernel keeps the descriptor when this process has no place for it. */
		if (alk_loop_now(w->loop) - w->starved >= 1000) {
			w->starved = alk_loop_now(w->loop);
			alk_log(ALK_LOG_WARN, "out of file descriptors: link refused",
				ALK_STR("remote_addr", link->remote_addr));
		}
		on_ended(w, number);
	} else if (w->draining || !w->host) {
		alk_link_close(link);
		on_ended(w, number);
	} else if (alk_server_start(w->host, number, link, &err) < 0) {
		alk_log(ALK_LOG_WARN, "session refused", ALK_STR("reason", err.text));
		on_ended(w, number);
	}
}

static void do_local(struct alk_worker *w, const json_t *message, int *fd)
{
	uint64_t number = number_of(message, "link");

	if (*fd < 0 || w->draining || !w->host ||
	    alk_worker_local_open(&w->locals, number, text_of(message, "service"),
				  (uid_t)number_of(message, "uid"), fd) < 0)
		on_ended(w, number);
}

static json_t *list_all(struct alk_worker *w, uint64_t only, bool channels)
{
	json_t *list = json_array();
	struct alk_server *v = NULL;

	while ((v = alk_server_next(w->host, v))) {
		json_t *one = alk_server_describe(v);

		if (only && number_of(one, "id") != only) {
			json_decref(one);
		} else if (channels) {
			json_t *of = alk_server_channels(v);

			json_array_extend(list, of);
			json_decref(of);
			json_decref(one);
		} else {
			json_array_append_new(list, one);
		}
	}
	return list;
}

static json_t *do_method(struct alk_worker *w, const char *method, const json_t *params,
			 struct alk_err *err)
{
	uint64_t id = number_of(params, "id");
	struct alk_server *v;

	if (strcmp(method, "session.list") == 0)
		return json_pack("{s:o}", "sessions", list_all(w, 0, false));
	if (strcmp(method, "channel.list") == 0)
		return json_pack("{s:o}", "channels",
				 list_all(w, number_of(params, "session"), true));
	if (strcmp(method, "plugin.list") == 0)
		return json_pack("{s:o}", "plugins", alk_worker_plugin_list(&w->plugins));
	if (strcmp(method, "plugin.change") == 0)
		return alk_worker_plugin_step(&w->plugins, params, err);
	if (strcmp(method, "channel.close") == 0) {
		v = alk_server_find(w->host, number_of(params, "session"));
		return json_pack("{s:i}", "closed", v && alk_server_close_channel(v, id) ? 1 : 0);
	}
	v = alk_server_find(w->host, id);
	if (strcmp(method, "session.kill") == 0) {
		if (v)
			alk_server_finish(v, "ended by the operator");
		return json_pack("{s:i}", "killed", v ? 1 : 0);
	}
	if (strcmp(method, "session.show") == 0 && v) {
		json_t *session = alk_server_describe(v);

		json_object_set_new(session, "channel_list", alk_server_channels(v));
		json_object_set_new(session, "remote_listeners", alk_server_remotes(v));
		return json_pack("{s:o}", "session", session);
	}
	return NULL;
}

static void on_evaluated(void *user, json_t *reply)
{
	worker_mention(user, reply);
}

static void do_request(struct alk_worker *w, const json_t *message)
{
	const json_t *params = json_object_get(message, "params");
	json_int_t id = (json_int_t)number_of(message, "id");
	struct alk_err err = {"no such session"};
	json_t *result;
	int rc = 0;

	if (w->host && strcmp(text_of(message, "method"), "policy.eval") == 0) {
		alk_worker_eval(&w->evals, w->policy,
				alk_options_bool(alk_conf_values(w->conf), "gateway_ports"), id,
				params, on_evaluated, w);
		return;
	}
	result = w->host ? do_method(w, text_of(message, "method"), params, &err) : NULL;
	if (result)
		rc = worker_mention(w, json_pack("{s:s, s:I, s:o}", "op", "reply", "id", id,
						 "result", result));
	else
		worker_mention(w, alk_worker_refusal(id, err.text));
	if (rc == -EMSGSIZE)
		worker_mention(w, alk_worker_refusal(id, "there are too many for one answer"));
}

static void do_penalty(struct alk_worker *w, const json_t *message)
{
	uint64_t until = alk_loop_now(w->loop) + 1000 * number_of(message, "seconds");

	if (w->auth && *text_of(message, "identity"))
		alk_auth_penalise(w->auth, text_of(message, "identity"), until);
	if (w->auth && *text_of(message, "remote_addr"))
		alk_auth_penalise(w->auth, text_of(message, "remote_addr"), until);
}

static void do_shared(struct alk_worker *w, int *fd)
{
	struct alk_err err = {""};

	if (w->started || w->shared || *fd < 0)
		return;
	w->shared = alk_shared_map(fd, &err);
	if (!w->shared)
		alk_log(ALK_LOG_ERROR, "no shared memory", ALK_STR("error", err.text));
}

static void do_start(struct alk_worker *w, const json_t *message, int fd)
{
	struct alk_err err = {""};

	if (w->started)
		return;
	if (worker_start(w, message, fd, &err) == 0) {
		worker_send(w, json_pack("{s:s, s:i}", "op", "ready", "pid", (int)getpid()));
		return;
	}
	worker_send(w, json_pack("{s:s, s:o, s:i}", "op", "failed", "error",
				 alk_json_text(err.text), "status", 2));
	/* Leave when the supervisor has read it and closes. */
	alk_timer_start(w->end, STOP_MS);
	w->status = 1;
}

static void do_revoked(struct alk_worker *w, const json_t *message)
{
	const char *content = text_of(message, "content");
	struct alk_err err = {""};
	uint8_t *bytes = NULL;
	size_t len = 0;

	if (content[0] && !(bytes = alk_base64_bytes(content, &len)))
		alk_err_set(&err, -ENOMEM, "revoked_keys: out of memory");
	else
		alk_auth_set_revoked(w->auth, text_of(message, "name"), bytes, len, &err);
	if (err.text[0])
		alk_log(ALK_LOG_ERROR, "revoked keys not taken over", ALK_STR("reason", err.text));
	free(bytes);
}

static void on_message(void *user, struct alk_ctl *ctl, json_t *message, int fd)
{
	struct alk_worker *w = worker_of(user);
	const char *op = text_of(message, "op");
	enum alk_log_level level;

	(void)ctl;
	if (strcmp(op, "start") == 0) {
		do_start(w, message, fd);
	} else if (strcmp(op, "shared") == 0) {
		do_shared(w, &fd);
	} else if (strcmp(op, "local") == 0) {
		do_local(w, message, &fd);
	} else if (strcmp(op, "request") == 0) {
		do_request(w, message);
	} else if (strcmp(op, "path") == 0 && w->host) {
		alk_server_set_path(alk_server_find(w->host, number_of(message, "link")),
				    text_of(message, "path"), text_of(message, "path_via"),
				    json_number_value(json_object_get(message, "rtt")));
	} else if (strcmp(op, "watch") == 0 && w->host) {
		alk_server_host_watch(w->host, json_is_true(json_object_get(message, "on")));
	} else if (strncmp(op, "remote", 6) == 0 && w->host) {
		alk_server_host_remote(w->host, message);
	} else if (strcmp(op, "penalty") == 0) {
		do_penalty(w, message);
	} else if (strcmp(op, "revoked") == 0 && w->auth) {
		do_revoked(w, message);
	} else if (strcmp(op, "loglevel") == 0) {
		if (alk_log_level_parse(text_of(message, "level"), &level) == 0)
			alk_log_set_level(level);
	} else if (strcmp(op, "drain") == 0) {
		w->draining = true;
		alk_timer_start(w->end, number_of(message, "timeout_ms"));
		if (worker_empty(w)) {
			worker_send(w, json_pack("{s:s}", "op", "drained"));
			worker_leave(w, 0);
		}
	} else if (strcmp(op, "stop") == 0) {
		worker_stop(w);
	}
	alk_fd_close(&fd);
}

static void on_closed(void *user, struct alk_ctl *ctl, int rc)
{
	(void)ctl, (void)rc;
	/* Without a supervisor there is no reason to stay. */
	worker_leave(worker_of(user), 1);
}

static void on_bytes(void *user, struct alk_ctl *ctl, const char *name, const uint8_t *bytes,
		     size_t n)
{
	struct alk_worker *w = worker_of(user);

	(void)ctl;
	if (w->loader)
		alk_loader_hear(w->loader, name, 0, bytes, n);
}

static const struct alk_ctl_ops ctl_ops = {.message = on_message,
					   .bytes = on_bytes,
					   .link = on_link,
					   .closed = on_closed};

struct alk_worker *alk_worker_new(struct alk_loop *loop, int *fd, bool in_process,
				  void (*done)(void *user, int status), void *user,
				  struct alk_err *err)
{
	struct alk_worker *w = calloc(1, sizeof(*w));

	if (!w) {
		alk_fd_close(fd);
		alk_err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	w->magic = WORKER_MAGIC;
	w->loop = loop;
	w->in_process = in_process;
	w->done = done;
	w->user = user;
	w->leave = (struct alk_task){.fn = on_leave, .user = w};
	w->tick = alk_timer_new(loop, "worker tick", on_tick, w);
	w->end = alk_timer_new(loop, "worker end", on_end, w);
	w->told = alk_timer_new(loop, "worker ended links", on_told, w);
	w->ctl = alk_ctl_new(loop, fd, &ctl_ops, w, err);
	if (!w->tick || !w->end || !w->told || !w->ctl)
		alk_worker_free(&w);
	return w;
}

void alk_worker_set_program(struct alk_worker *w, const struct alk_program *program)
{
	w->program = program;
}

void alk_worker_free(struct alk_worker **worker)
{
	struct alk_worker *w = *worker;

	if (!w)
		return;
	w->done_told = true; /* nothing is told any more */
	alk_task_cancel(w->loop, &w->leave);
	if (w->started && !w->in_process)
		alk_loop_set_hooks(w->loop, NULL, NULL, NULL);
	alk_worker_evals_free(&w->evals);
	alk_server_host_free(&w->host);
	alk_route_free(&w->route);
	alk_loader_free(&w->loader);
	alk_policy_free(&w->policy);
	alk_bus_free(&w->bus);
	alk_shared_free(&w->shared);
	alk_auth_free(&w->auth);
	alk_conf_free(&w->conf);
	alk_timer_free(&w->tick);
	alk_timer_free(&w->end);
	alk_timer_free(&w->told);
	alk_ctl_free(&w->ctl);
	if (w->board)
		alk_board_use(NULL);
	alk_board_free(&w->board);
	explicit_bzero(&w->proxy, sizeof(w->proxy));
	w->magic = 0;
	free(w);
	*worker = NULL;
}
