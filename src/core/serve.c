/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "main.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth.h"
#include "client.h"
#include "cmdline.h"
#include "inherited.h"
#include "json_wipe.h"
#include "loader_file.h"
#include "loader.h"
#include "log_private.h"
#include "notify.h"
#include "policy.h"
#include "server.h"
#include "supervisor.h"
#include "upgrade.h"
#include "watchdog.h"
#include "worker.h"

#define CONTROL_FD 3

int alk_main_fail(int status, const struct alk_err *err)
{
	fprintf(stderr, "alknet: %s\n", err->text);
	alk_upgrade_failed(err->text);
	return status;
}

/* --- how every process of ours begins --------------------------------------------------------- */

/* What every process of ours wants: SIGPIPE ignored, umask 077, no core files and no ptrace (keys
 * are in memory), freed buffers given back to the system, the limit of open files at its maximum.
 * Gives that limit. -errno when it could not be raised. */
static int main_process(unsigned long *limit)
{
	struct rlimit none = {0, 0}, files;
	int rc = 0;

	alk_json_wipe();
	alk_loader_try_first(true);
	signal(SIGPIPE, SIG_IGN);
	umask(077);
	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	/* Without this glibc raises both by itself, and buffers that were freed stay. */
	mallopt(M_MMAP_THRESHOLD, 128 * 1024);
	mallopt(M_TRIM_THRESHOLD, 128 * 1024);
	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return -errno;
	if (files.rlim_cur < files.rlim_max) {
		struct rlimit raised = {files.rlim_max, files.rlim_max};

		if (setrlimit(RLIMIT_NOFILE, &raised) < 0)
			rc = -errno;
		else
			files = raised;
	}
	*limit = (unsigned long)files.rlim_cur;
	return rc;
}

static int conf_fill(struct alk_conf *conf, int argc, char **argv, struct alk_cmdline *line,
		     struct alk_err *err)
{
	int rc = alk_cmdline_read(argc, argv, conf, line, err);

	if (rc < 0 || line->help)
		return rc;
	if (line->config != NULL)
		rc = alk_conf_load_file(conf, line->config, err);
	if (rc == 0)
		rc = alk_cmdline_environment(conf, err);
	if (rc == 0)
		rc = alk_conf_finish(conf, err);
	if (rc == 0)
		rc = alk_conf_read_files(conf, err);
	return rc;
}

/* NULL after --help (*status 0) and after an error that was told (*status 2). */
static struct alk_conf *conf_make(int argc, char **argv, enum alk_role role, int *status)
{
	struct alk_conf *conf = alk_conf_new(role);
	struct alk_err err = {.text = "out of memory"};
	struct alk_cmdline line;

	*status = 0;
	if (conf == NULL) {
		*status = alk_main_fail(1, &err);
		return NULL;
	}
	if (conf_fill(conf, argc, argv, &line, &err) < 0)
		*status = alk_main_fail(2, &err);
	else if (line.help)
		alk_cmdline_help(argv[0], stdout);
	else
		return conf;
	alk_conf_free(&conf);
	return NULL;
}

static void fd_limit_log(int raised, unsigned long limit)
{
	if (raised < 0)
		alk_log(ALK_LOG_WARN, "file descriptors could not be raised",
			ALK_INT("limit", (int64_t)limit), ALK_STR("error", strerror(-raised)));
	else
		alk_log(ALK_LOG_INFO, "file descriptors", ALK_INT("limit", (int64_t)limit));
}

struct alk_conf *alk_main_conf(int argc, char **argv, enum alk_role role, int *status)
{
	unsigned long limit = 0;
	int raised = main_process(&limit);
	struct alk_conf *conf;
	struct alk_err err;

	conf = conf_make(argc, argv, role, status);
	if (conf == NULL)
		return NULL;
	if (alk_log_setup_options(alk_conf_values(conf), &err) < 0) {
		*status = alk_main_fail(2, &err);
		alk_conf_free(&conf);
		return NULL;
	}
	/* The supervisor says it when it has started: until then one sentence is all that stands on
	 * stderr. */
	if (role == ALK_ROLE_CLIENT || raised < 0)
		fd_limit_log(raised, limit);
	return conf;
}

/* --- serve ------------------------------------------------------------------------------------ */

struct serve_line {
	int argc;
	char **argv;
};

/* The same again, for a reload. */
static struct alk_conf *conf_reread(void *user, struct alk_err *err)
{
	const struct serve_line *line = user;
	struct alk_conf *conf = alk_conf_new(ALK_ROLE_SUPERVISOR);
	struct alk_cmdline words;

	if (conf == NULL)
		alk_err_set(err, -ENOMEM, "out of memory");
	else if (conf_fill(conf, line->argc, line->argv, &words, err) < 0)
		alk_conf_free(&conf);
	return conf;
}

int alk_main_serve(int argc, char **argv)
{
	struct serve_line line = {argc, argv};
	struct alk_supervisor *supervisor;
	struct alk_loop *loop = NULL;
	struct alk_err err;
	int status;
	struct alk_conf *conf;

	alk_notify_init();
	alk_inherited_init();
	if (alk_upgrade_init(argc, argv) < 0) {
		alk_err_set(&err, -ENOMEM, "out of memory");
		return alk_main_fail(1, &err);
	}
	conf = alk_main_conf(argc, argv, ALK_ROLE_SUPERVISOR, &status);
	if (conf == NULL) {
		alk_upgrade_deinit();
		return status;
	}
	loop = alk_loop_new(&err);
	if (loop == NULL) {
		alk_conf_free(&conf);
		alk_upgrade_deinit();
		return alk_main_fail(1, &err);
	}
	alk_log_attach(loop);
	/* With workers the supervisor watches them. */
	if (alk_options_int(alk_conf_values(conf), "workers") == 0 &&
	    alk_watchdog_start(loop,
			       (unsigned)(alk_options_int(alk_conf_values(conf),
							  "watchdog_timeout") +
					  999) /
				       1000,
			       &err) != 0)
		supervisor = NULL;
	else
		supervisor = alk_supervisor_new(loop, &conf, &err);
	if (supervisor != NULL) {
		alk_supervisor_set_reread(supervisor, conf_reread, &line);
		alk_inherited_close();
		if (alk_notify_watch(loop) < 0)
			alk_log(ALK_LOG_WARN, "no memory for the service manager's watchdog");
		alk_loop_run(loop);
		status = alk_supervisor_status(supervisor);
		alk_notify_unwatch();
		alk_supervisor_free(&supervisor);
	} else {
		status = alk_main_fail(2, &err);
	}
	alk_conf_free(&conf);
	alk_log_attach(NULL);
	alk_loop_free(&loop);
	alk_log_close();
	alk_upgrade_deinit();
	return status;
}

/* --- worker ----------------------------------------------------------------------------------- */

struct worker_end {
	struct alk_loop *loop;
	int status;
};

static void on_worker_done(void *user, int status)
{
	struct worker_end *end = user;

	end->status = status;
	alk_loop_stop(end->loop);
}

int alk_main_worker(void)
{
	struct worker_end end = {.status = 1};
	struct alk_worker *worker;
	unsigned long limit;
	struct alk_err err;
	struct stat st;
	int fd = CONTROL_FD;

	if (fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode)) {
		alk_err_set(&err, -EBADF, "worker: is started by \"alknet serve\", not by hand");
		return alk_main_fail(2, &err);
	}
	prctl(PR_SET_NAME, "alknet-worker", 0, 0, 0); /* it would be "exe" */
	/* The supervisor has raised the limit and said so; a worker inherits it. */
	main_process(&limit);
	end.loop = alk_loop_new(&err);
	if (end.loop == NULL)
		return alk_main_fail(1, &err);
	alk_log_attach(end.loop);
	worker = alk_worker_new(end.loop, &fd, false, on_worker_done, &end, &err);
	if (worker != NULL)
		alk_loop_run(end.loop);
	else
		alk_main_fail(1, &err);
	alk_worker_free(&worker);
	alk_log_attach(NULL);
	alk_loop_free(&end.loop);
	alk_log_close();
	return end.status;
}

/* --- check ------------------------------------------------------------------------------------ */

static void on_bad_key(void *user, const char *name, unsigned line, const char *why)
{
	(void)user;
	fprintf(stderr, "alknet: warning: %s:%u: %s\n", name, line, why);
}

static int host_keys_check(const struct alk_conf *conf, FILE *out, struct alk_err *err)
{
	size_t count;
	int rc = alk_server_check_keys(conf, &count, err);

	if (rc < 0)
		return alk_err_prefix(err, rc, "key");
	if (count == 0)
		fprintf(out, "ok: key: a plugin gives it\n");
	else
		fprintf(out, "ok: key: %zu host %s\n", count, count == 1 ? "key" : "keys");
	return 0;
}

static int keys_check(const struct alk_conf *conf, FILE *out, struct alk_err *err)
{
	const struct alk_options *values = alk_conf_values(conf);
	struct alk_auth *auth = alk_auth_new(conf, on_bad_key, NULL, err);
	size_t keys, authorities;
	int rc = 0;

	if (auth == NULL)
		return -EINVAL;
	keys = alk_auth_key_count(auth);
	authorities = alk_auth_authority_count(auth);
	if (keys > 0 || alk_options_has(values, "authorized_keys"))
		fprintf(out, "ok: authorized_keys: %zu %s\n", keys, keys == 1 ? "key" : "keys");
	if (authorities > 0)
		fprintf(out, "ok: cert_authority: %zu %s\n", authorities,
			authorities == 1 ? "key" : "keys");
	if (alk_auth_revoked(auth) != NULL)
		fprintf(out, "ok: revoked_keys: %zu\n", alk_krl_count(alk_auth_revoked(auth)));
	if (keys + authorities == 0 && !alk_options_has(values, "policy"))
		rc = alk_err_set(
			err, -EINVAL,
			"authorized_keys: %s holds no key that can be used, so nobody could log in%s%s",
			alk_options_str(values, "authorized_keys"),
			alk_auth_bad_line(auth)[0] ? ": " : "", alk_auth_bad_line(auth));
	alk_auth_free(&auth);
	return rc;
}

struct plugins_check {
	struct alk_conf *conf;
	FILE *out;
	int rc;
	struct alk_err *err;
};

static void on_plugin_good(void *user, struct alk_loaded *loaded)
{
	struct plugins_check *check = user;
	const struct alk_plugin *plugin = alk_loaded_plugin(loaded);

	if (check->rc == 0 && plugin->kind == ALK_PLUGIN_SERVICE)
		check->rc = alk_loaded_check(loaded, ALK_ROLE_SUPERVISOR, check->err);
	fprintf(check->out, "ok: plugin %s %s\n", plugin->name, plugin->version);
}

/* One that the configuration speaks of must fit; others would be left out by serve, too. */
static void on_plugin_bad(void *user, const char *name, const struct alk_err *why)
{
	struct plugins_check *check = user;

	if (!alk_conf_has_section(check->conf, name)) {
		fprintf(stderr, "alknet: warning: %s\n", why->text);
	} else if (check->rc == 0) {
		check->rc = -EINVAL;
		*check->err = *why;
	}
}

static int plugins_check(struct alk_conf *conf, bool connect, FILE *out, struct alk_err *err)
{
	struct plugins_check check = {.conf = conf, .out = out, .err = err};
	const struct alk_options *values = alk_conf_values(conf);
	struct alk_loader *loader = alk_loader_new(NULL, ALK_ROLE_CHECK,
						   alk_options_str(values, "plugin_dir"), conf,
						   err);
	const char *transport = alk_options_str(values, "transport");
	const struct alk_loaded *loaded;
	int rc = 0;

	if (loader == NULL)
		return -EINVAL;
	if (!connect) {
		rc = alk_loader_get_transports(loader, err);
	} else {
		loaded = alk_loader_get(loader, ALK_PLUGIN_TRANSPORT, transport, err);
		rc = loaded != NULL ? alk_loaded_check(loaded, ALK_ROLE_CLIENT, err) : -EINVAL;
	}
	if (rc == 0)
		rc = alk_conf_passed(conf, err);
	if (rc == 0 && !connect)
		rc = alk_loader_check_listen(loader, err);
	if (rc == 0 && !connect)
		rc = alk_loader_check_services(loader, err);
	if (rc == 0)
		rc = alk_loader_scan(loader, ALK_PLUGIN_TRANSPORT, on_plugin_good, on_plugin_bad,
				     &check);
	if (rc == 0 && !connect)
		rc = alk_loader_scan(loader, ALK_PLUGIN_SERVICE, on_plugin_good, on_plugin_bad,
				     &check);
	if (rc < 0 && err->text[0] == '\0')
		alk_err_set(err, rc, "plugin_dir: %s: %s", alk_options_str(values, "plugin_dir"),
			    strerror(-rc));
	alk_loader_free(&loader);
	return rc < 0 ? rc : check.rc;
}

static int policy_tests_run(const char *path, struct alk_err *err)
{
	int rc = alk_policy_test_file(path, stdout, err);

	if (rc == -ENOENT)
		return 0;
	if (rc > 0)
		return alk_err_set(err, -EINVAL, "policy: %d of the tests of %s failed", rc, path);
	if (rc < 0)
		return alk_err_prefix(err, rc, "policy");
	printf("ok: policy tests\n");
	return 0;
}

static int policy_check(const struct alk_conf *conf, FILE *out, struct alk_err *err)
{
	const struct alk_options *values = alk_conf_values(conf);
	const char *path = alk_options_str(values, "policy"), *text;
	struct alk_policy *policy;
	bool lets_in;
	size_t len;

	if (path == NULL)
		return 0;
	text = alk_conf_file(conf, "policy", 0, &len);
	policy = alk_policy_new(NULL, path, text, len, NULL, err);
	if (policy == NULL)
		return -EINVAL;
	lets_in = alk_policy_has(policy, ALK_QUESTION_AUTH) ||
		  alk_options_has(values, "authorized_keys") ||
		  alk_options_has(values, "cert_authority");
	alk_policy_free(&policy);
	if (!lets_in)
		return alk_err_set(
			err, -EINVAL,
			"policy: %s has no on_auth function, and there are no authorized_keys and no cert_authority: nobody could log in",
			path);
	fprintf(out, "ok: policy %s\n", path);
	return 0;
}

/* What was found good is printed when all of it is, so that one sentence says what is not. */
static int all_check(struct alk_conf *conf, bool connect, const char *shown)
{
	const char *policy = connect ? NULL : alk_options_str(alk_conf_values(conf), "policy");
	struct alk_err err = {""};
	char *good = NULL;
	size_t len;
	FILE *out = open_memstream(&good, &len);
	int rc = out != NULL ? 0 : alk_err_set(&err, -ENOMEM, "out of memory");

	if (rc == 0) {
		fprintf(out, "ok: configuration %s\n", shown);
		rc = connect ? alk_client_check_identity(conf, &err)
			     : host_keys_check(conf, out, &err);
		if (rc == 0 && !connect)
			rc = keys_check(conf, out, &err);
		if (rc == 0)
			rc = plugins_check(conf, connect, out, &err);
		if (rc == 0 && !connect)
			rc = policy_check(conf, out, &err);
		fclose(out);
	}
	if (rc == 0)
		fputs(good, stdout);
	if (rc == 0 && policy != NULL)
		rc = policy_tests_run(policy, &err);
	free(good);
	fflush(stdout);
	return rc < 0 ? alk_main_fail(2, &err) : 0;
}

static int defaults_dump(bool connect)
{
	char *text = alk_conf_dump_defaults(connect);
	struct alk_err err = {.text = "out of memory"};

	if (text == NULL)
		return alk_main_fail(1, &err);
	fputs(text, stdout);
	free(text);
	return 0;
}

int alk_main_check(int argc, char **argv)
{
	struct alk_cmdline line;
	struct alk_conf *conf;
	struct alk_err err;
	int status;

	if (alk_cmdline_read(argc, argv, NULL, &line, &err) < 0)
		return alk_main_fail(2, &err);
	if (line.help) {
		alk_cmdline_help("check", stdout);
		return 0;
	}
	if (line.dump_defaults)
		return defaults_dump(line.connect);
	if (argc == 1) {
		alk_err_set(&err, -EINVAL,
			    "check needs a file: give -c FILE, or --dump-defaults to see one");
		return alk_main_fail(2, &err);
	}
	conf = conf_make(argc, argv, line.connect ? ALK_ROLE_CLIENT : ALK_ROLE_SUPERVISOR, &status);
	if (conf == NULL)
		return status;
	status = all_check(conf, line.connect, line.config != NULL ? line.config : "of the flags");
	alk_conf_free(&conf);
	return status;
}
