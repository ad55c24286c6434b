/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The program `alknet connect`. */
#include "connect_private.h"
#include "connect_bus.h"
#include "connect_keep.h"
#include "watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "log_private.h"
#include "main.h"
#include "metrics_http.h"
#include "notify.h"
#include "proxy.h"
#include "proxy_auth.h"

#define SIGNALS 3

/* Processor seconds of one iteration of the loop, after which it hangs. */
#define WATCHDOG_S 5

struct connect {
	struct alk_front front;
	const struct alk_options *options;
	struct alk_keep *keep;
	struct alk_client_admin *admin;	  /* NULL without --admin-socket */
	struct alk_metrics_http *metrics; /* NULL without --metrics-listen */
	struct alk_stdio *stdio;	  /* NULL without --stdio */
	struct alk_bus_front *bus;	  /* NULL without --bus */
	struct alk_signal *signals[SIGNALS];
	bool hangup_ends; /* SIGHUP: the terminal or --stdio is gone; else it asks for a new session */
	bool stopping;
	int status;
};

/* End with `status` when the session has been closed. */
static void connect_stop(struct connect *connect, int status)
{
	if (connect->stopping)
		return;
	connect->stopping = true;
	connect->status = status;
	alk_notify("STOPPING=1\nSTATUS=stopping");
	alk_bus_front_free(&connect->bus);
	alk_conn_close_all(&connect->front);
	alk_accept_close_all(&connect->front);
	alk_keep_stop(connect->keep);
}

static void on_up(void *user, bool first)
{
	struct connect *connect = user;

	alk_notify("READY=1\nSTATUS=connected to %.200s", alk_client_server(connect->front.client));
	if (first && connect->stdio == NULL) {
		fprintf(stderr, "alknet: connected to %s\n",
			alk_client_server(connect->front.client));
		alk_accept_announce(&connect->front);
		if (connect->bus != NULL)
			fprintf(stderr, "alknet: event bus on unix:%s\n",
				alk_bus_front_path(connect->bus));
	}
	alk_conn_open_waiting(&connect->front);
	if (connect->bus != NULL)
		alk_bus_front_up(connect->bus);
	if (connect->stdio != NULL)
		alk_stdio_open(connect->stdio);
}

static bool on_waited_for(void *user)
{
	const struct connect *connect = user;

	return connect->front.waiting > 0 ||
	       (connect->bus != NULL && alk_bus_front_waits(connect->bus));
}

static void on_over(void *user, int rc, const struct alk_err *err)
{
	struct connect *connect = user;

	if (!connect->stopping && rc != 0) {
		connect->status = alk_main_fail(1, err);
		connect->stopping = true;
	}
	alk_loop_stop(connect->front.loop);
}

static void on_stdio_done(void *user, int rc, const struct alk_err *err)
{
	connect_stop(user, rc == 0 ? 0 : alk_main_fail(1, err));
}

static void on_wanted(void *user)
{
	struct connect *connect = user;

	alk_keep_wanted(connect->keep);
}

static int connect_bus(struct connect *connect, struct alk_err *err)
{
	const char *address = alk_options_str(connect->options, "bus");

	if (address == NULL || strcmp(address, "none") == 0)
		return 0;
	connect->bus = alk_bus_front_new(connect->front.loop, address, connect->front.patience_ms,
					 on_wanted, connect, err);
	return connect->bus != NULL ? 0 : -EINVAL;
}

static void on_shutdown(void *user)
{
	connect_stop(user, 0);
}

static void on_signal(void *user, int signo)
{
	struct connect *connect = user;

	if (signo == SIGHUP && !connect->hangup_ends) {
		alk_keep_again(connect->keep);
		return;
	}
	if (connect->stopping) {
		alk_bus_front_free(&connect->bus);
		alk_accept_close_all(&connect->front);
		alk_client_admin_free(&connect->admin);
		alk_stdio_free(&connect->stdio);
		_exit(connect->status);
	}
	connect_stop(connect, 0);
}

/* Without a terminal there is none to hang up. */
static bool has_terminal(void)
{
	int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (tty < 0)
		return false;
	close(tty);
	return true;
}

/* Who ignored it before us (nohup) wants that. */
static bool hangup_ignored(void)
{
	struct sigaction action;

	return sigaction(SIGHUP, NULL, &action) != 0 || action.sa_handler == SIG_IGN;
}

static int connect_catch_signals(struct connect *connect, struct alk_err *err)
{
	static const int signals[SIGNALS] = {SIGINT, SIGTERM, SIGHUP};

	/* ssh hangs up its ProxyCommand when it is done. */
	connect->hangup_ends = has_terminal() || alk_options_has(connect->options, "stdio");
	for (size_t i = 0; i < SIGNALS; i++) {
		if (signals[i] == SIGHUP && hangup_ignored())
			continue;
		connect->signals[i] = alk_signal_new(connect->front.loop, signals[i], "signal",
						     on_signal, connect);
		if (connect->signals[i] == NULL)
			return alk_err_set(err, -ENOMEM, "out of memory");
	}
	return 0;
}

/* Before the session: a port that is in use is told before a passphrase is asked for. */
static int connect_listen(struct connect *connect, struct alk_err *err)
{
	const char *address = alk_options_str(connect->options, "socks5");
	const char *spec;
	int rc = 0;

	if (address != NULL && strcmp(address, "none") != 0)
		rc = alk_accept_proxy(&connect->front, address, err);
	for (size_t i = 0;
	     rc == 0 && (spec = alk_options_nth(connect->options, "forward", i)) != NULL; i++)
		rc = alk_accept_forward(&connect->front, spec, err);
	return rc;
}

static int connect_remote(struct connect *connect, struct alk_err *err)
{
	uint64_t patience = (uint64_t)alk_options_int(connect->options, "connect_timeout");
	const char *spec;
	int rc = 0;

	connect->front.remotes = alk_remote_forwards_new(connect->front.loop, patience);
	if (connect->front.remotes == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0;
	     rc == 0 && (spec = alk_options_nth(connect->options, "remote_forward", i)) != NULL;
	     i++) {
		rc = alk_remote_forwards_add(connect->front.remotes, spec, NULL, err);
		if (rc != 0)
			alk_err_prefix(err, rc, "--remote-forward");
	}
	if (rc == 0)
		alk_remote_forwards_attach(connect->front.remotes, connect->front.client);
	return rc;
}

/* Who may use the proxy port. */
static int connect_read_auth(struct connect *connect, const struct alk_conf *conf,
			     struct alk_err *err)
{
	const char *name = "socks5_auth_file";
	size_t len = 0;
	const char *text = alk_conf_file(conf, name, 0, &len);
	int rc;

	if (text == NULL) {
		name = "socks5_auth";
		text = alk_options_str(connect->options, name);
		len = text != NULL ? strlen(text) : 0;
	}
	if (text == NULL)
		return 0;
	rc = strlen(text) == len ? alk_proxy_auth_check(text, err)
				 : alk_err_set(err, -EINVAL, "there is a NUL in it");
	connect->front.auth = text;
	return rc == 0 ? 0 : alk_err_prefix(err, rc, "%s", name);
}

static void on_metrics(void *user, struct alk_metrics_text *out)
{
	const struct connect *connect = user;

	alk_front_metrics(&connect->front, connect->keep, out);
}

static const char *on_unready(void *user)
{
	const struct connect *connect = user;

	return alk_front_unready(&connect->front, connect->keep);
}

static const struct alk_metrics_http_ops metrics_ops = {.metrics = on_metrics,
							.unready = on_unready};

static int connect_prepare(struct connect *connect, struct alk_conf *conf, struct alk_err *err)
{
	static const struct alk_keep_ops ops = {
		.up = on_up,
		.waited_for = on_waited_for,
		.over = on_over,
	};
	const char *stdio = alk_options_str(connect->options, "stdio");
	int rc = connect_read_auth(connect, conf, err);

	if (rc == 0)
		rc = connect_listen(connect, err);
	if (rc == 0)
		rc = connect_bus(connect, err);
	if (rc != 0)
		return rc;
	/* A stream on standard input and output cannot be taken up again. */
	connect->keep = alk_keep_new(connect->front.loop, conf, stdio != NULL, &ops, connect, err);
	if (connect->keep == NULL)
		return -EINVAL;
	connect->front.client = alk_keep_client(connect->keep);
	if (connect->bus != NULL)
		alk_bus_front_set_client(connect->bus, connect->front.client);
	connect->front.wanted = on_wanted;
	connect->front.user = connect;
	rc = connect_remote(connect, err);
	if (rc != 0)
		return rc;
	rc = alk_client_admin_open(&connect->admin, &connect->front, connect->keep,
				   connect->options, on_shutdown, connect, err);
	if (rc == 0)
		rc = alk_metrics_http_open(&connect->metrics, connect->front.loop,
					   alk_options_str(connect->options, "metrics_listen"),
					   &metrics_ops, connect, err);
	if (rc != 0)
		return rc;
	if (connect->metrics != NULL && stdio == NULL)
		fprintf(stderr, "alknet: metrics on %s\n",
			alk_metrics_http_address(connect->metrics));
	if (stdio != NULL) {
		connect->stdio = alk_stdio_new(&connect->front, stdio, on_stdio_done, connect, err);
		if (connect->stdio == NULL)
			return -EINVAL;
	}
	return connect_catch_signals(connect, err);
}

static int connect_run(struct connect *connect, struct alk_err *err)
{
	int rc = alk_keep_start(connect->keep, err);

	if (rc != 0)
		return rc;
	rc = alk_accept_start(&connect->front);
	if (rc == 0 && connect->bus != NULL)
		rc = alk_bus_front_start(connect->bus);
	if (rc != 0)
		return alk_err_set(err, rc, "out of memory");
	if (alk_notify_watch(connect->front.loop) < 0)
		return alk_err_set(err, -ENOMEM, "out of memory");
	alk_loop_run(connect->front.loop);
	alk_notify_unwatch();
	return 0;
}

static void connect_deinit(struct connect *connect)
{
	alk_bus_front_free(&connect->bus);
	alk_conn_close_all(&connect->front);
	alk_accept_close_all(&connect->front);
	for (size_t i = 0; i < SIGNALS; i++)
		alk_signal_free(&connect->signals[i]);
	alk_client_admin_free(&connect->admin);
	alk_metrics_http_free(&connect->metrics);
	alk_keep_free(&connect->keep);
	alk_remote_forwards_free(&connect->front.remotes);
	alk_stdio_free(&connect->stdio);
	alk_log_attach(NULL);
	alk_loop_free(&connect->front.loop);
	alk_log_close();
}

int alk_main_connect(int argc, char **argv)
{
	struct connect connect = {.front.patience_ms = ALK_FRONT_PATIENCE_MS};
	struct alk_err err = {""};
	struct alk_conf *conf;
	int rc;

	if (alk_stdio_fill() != 0)
		return 1;
	alk_notify_init();
	conf = alk_main_conf(argc, argv, ALK_ROLE_CLIENT, &connect.status);
	if (conf == NULL)
		return connect.status;
	connect.options = alk_conf_values(conf);
	connect.front.loop = alk_loop_new(&err);
	if (connect.front.loop == NULL) {
		connect.status = alk_main_fail(1, &err);
		goto out;
	}
	connect.front.started = alk_loop_now(connect.front.loop);
	alk_log_attach(connect.front.loop);
	rc = alk_proxy_set(connect.front.loop, alk_options_str(connect.options, "proxy"), &err);
	if (rc == 0)
		rc = connect_prepare(&connect, conf, &err);
	if (rc != 0) {
		connect.status = alk_main_fail(rc == -ENOMEM ? 1 : 2, &err);
		goto out;
	}
	if (alk_watchdog_start(connect.front.loop, WATCHDOG_S, &err) != 0 ||
	    connect_run(&connect, &err) != 0)
		connect.status = alk_main_fail(1, &err);
out:
	connect_deinit(&connect);
	alk_conf_free(&conf);
	return connect.status;
}
